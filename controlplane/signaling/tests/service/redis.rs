//! A Redis server of its own for a test, from the distribution's package: in memory, on a socket in
//! a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ironcast_signaling::store::redis::Redis;

pub(crate) struct RedisServer {
    server: Child,
    folder: PathBuf,
}

impl RedisServer {
    pub(crate) async fn start() -> Self {
        let folder = std::env::temp_dir().join(format!("ironcast-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).unwrap();
        let redis = Self { server: spawn(&folder), folder };
        redis.wait().await;
        redis
    }

    async fn wait(&self) {
        let end = Instant::now() + Duration::from_secs(20);
        while std::os::unix::net::UnixStream::connect(self.folder.join("redis.sock")).is_err() {
            assert!(Instant::now() < end, "Redis does not start");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Without a word, and with all that it knew.
    pub(crate) fn stop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = std::fs::remove_file(self.folder.join("redis.sock"));
    }

    pub(crate) async fn start_again(&mut self) {
        self.server = spawn(&self.folder);
        self.wait().await;
    }

    pub(crate) async fn connect(&self) -> Redis {
        Redis::connect(&format!("redis+unix://{}/redis.sock", self.folder.display())).await.unwrap()
    }

    /// What the server's own client says, line by line.
    pub(crate) fn ask(&self, words: &[&str]) -> Vec<String> {
        let mut client = Command::new("redis-cli");
        let out =
            client.arg("-s").arg(self.folder.join("redis.sock")).args(words).output().unwrap();
        String::from_utf8(out.stdout).unwrap().lines().map(str::to_owned).collect()
    }
}

fn spawn(folder: &Path) -> Child {
    Command::new("redis-server")
        .args(["--port", "0", "--save", "", "--appendonly", "no"])
        .arg("--unixsocket")
        .arg(folder.join("redis.sock"))
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is installed")
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.stop();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
