//! A Redis and a PostgreSQL server of their own for a test, from the distribution's packages: in a
//! folder of their own, without ports. PostgreSQL is run by nobody in particular: it refuses root.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt as _, chown},
        net::UnixStream,
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use crate::eventually;

/// The user "nobody" of every distribution.
const NOBODY: u32 = 65_534;

/// What the nodes of a fleet share. The servers are killed when this is dropped.
pub struct Stores {
    folder: PathBuf,
    servers: Vec<Child>,
}

impl Drop for Stores {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Stores {
    /// Starts both, and waits until they take connections.
    pub async fn start() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("ironcast-stores-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).expect("a folder");
        let mut stores = Self { servers: Vec::new(), folder };
        stores.start_redis();
        stores.start_postgres();
        for socket in ["redis.sock", ".s.PGSQL.5432"] {
            let socket = stores.folder.join(socket);
            eventually("the stores take connections", || async {
                UnixStream::connect(&socket).is_ok()
            })
            .await;
        }
        stores
    }

    /// What makes a signaling service a node of a fleet of this name.
    pub fn settings(&self, fleet: &str) -> Vec<(&'static str, String)> {
        let (folder, key) = (self.folder.display(), self.folder.join("fleet.key"));
        fs::write(&key, "the same long secret at all of the nodes").expect("a file");
        vec![
            ("signaling.fleet", fleet.to_owned()),
            ("signaling.redis", format!("redis+unix://{folder}/redis.sock")),
            ("signaling.database", format!("postgres://ironcast@localhost/postgres?host={folder}")),
            ("signaling.fleet_key_file", key.display().to_string()),
        ]
    }

    fn start_redis(&mut self) {
        let server = quiet(&mut Command::new("redis-server"))
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
            .arg(self.folder.join("redis.sock"))
            .current_dir(&self.folder)
            .spawn();
        self.servers.push(server.expect("redis-server is installed"));
    }

    fn start_postgres(&mut self) {
        let is_root = fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0);
        if is_root {
            chown(&self.folder, Some(NOBODY), Some(NOBODY)).expect("root may");
        }
        let command = |name: &str| {
            let mut command = Command::new(program(name));
            quiet(&mut command).arg("-D").arg(self.folder.join("data")).current_dir(&self.folder);
            if is_root {
                command.uid(NOBODY).gid(NOBODY);
            }
            command
        };
        let made = command("initdb")
            .args(["-A", "trust", "-U", "ironcast", "--no-sync", "-E", "UTF8", "--locale", "C"])
            .status();
        assert!(made.expect("initdb is installed").success(), "initdb makes a database");
        let server = command("postgres")
            .arg("-k")
            .arg(&self.folder)
            .args(["-c", "listen_addresses=", "-c", "fsync=off"])
            .spawn();
        self.servers.push(server.expect("postgres is installed"));
    }
}

fn quiet(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}

/// Debian puts the server's programs beside the path, in a folder of their version.
fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<_> = versions.map(|version| version.path().join("bin").join(name)).collect();
    found.retain(|path| path.exists());
    found.sort();
    found.pop().unwrap_or_else(|| Path::new(name).to_owned())
}
