//! A PostgreSQL server of its own for a test, from the distribution's package: in a folder of its
//! own, without a port, run by nobody in particular (it refuses to be run by root).

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The user "nobody" of every distribution.
const NOBODY: u32 = 65_534;

pub(crate) struct Postgres {
    server: Child,
    folder: PathBuf,
}

impl Postgres {
    pub(crate) fn start() -> Self {
        let folder = std::env::temp_dir().join(format!("ironcast-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).unwrap();
        let is_root = rustix::process::geteuid().is_root();
        if is_root {
            chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let command = |name: &str| {
            let mut command = Command::new(program(name));
            command.arg("-D").arg(folder.join("data")).current_dir(&folder);
            command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null());
            if is_root {
                command.uid(NOBODY).gid(NOBODY);
            }
            command
        };
        let made = command("initdb")
            .args(["-A", "trust", "-U", "ironcast", "--no-sync", "-E", "UTF8", "--locale", "C"])
            .status();
        assert!(made.unwrap().success(), "initdb makes a database");
        let server = command("postgres")
            .arg("-k")
            .arg(&folder)
            .args(["-c", "listen_addresses=", "-c", "fsync=off"])
            .spawn()
            .unwrap();
        let postgres = Self { server, folder };
        postgres.wait();
        postgres
    }

    /// Until it takes connections.
    fn wait(&self) {
        let socket = self.folder.join(".s.PGSQL.5432");
        let end = Instant::now() + Duration::from_secs(30);
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            assert!(Instant::now() < end, "PostgreSQL takes no connections");
            std::thread::yield_now();
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://ironcast@localhost/postgres?host={}", self.folder.display())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Debian puts the server's programs beside the path, in a folder of their version.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<_> = versions.map(|version| version.path().join("bin").join(name)).collect();
    found.retain(|path| path.exists());
    found.sort();
    found.pop().unwrap_or_else(|| Path::new(name).to_owned())
}
