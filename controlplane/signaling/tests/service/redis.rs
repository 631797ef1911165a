//! A Redis server of its own for a test, from the distribution's package: in memory, on a socket in
//! a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ironcast_signaling::store::redis::Redis;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};

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

    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}/redis.sock", self.folder.display())
    }

    pub(crate) async fn connect(&self) -> Redis {
        Redis::connect(&self.url()).await.unwrap()
    }

    /// Another way to it, on which every word takes so long each way. For as long as the test
    /// runs.
    pub(crate) fn slow_url(&self, delay: Duration) -> String {
        let path = self.folder.join(format!("slow-{}.sock", uuid::Uuid::new_v4()));
        let listener = UnixListener::bind(&path).unwrap();
        let server = self.folder.join("redis.sock");
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = UnixStream::connect(&server).await else { continue };
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(late(from_client, to_server, delay));
                tokio::spawn(late(from_server, to_client, delay));
            }
        });
        format!("redis+unix://{}", path.display())
    }

    /// Keys that look like this.
    pub(crate) fn keys(&self, pattern: &str) -> Vec<String> {
        // Of none its client says an empty line.
        self.ask(&["KEYS", pattern]).into_iter().filter(|key| !key.is_empty()).collect()
    }

    /// What the server's own client says, line by line.
    pub(crate) fn ask(&self, words: &[&str]) -> Vec<String> {
        let mut client = Command::new("redis-cli");
        let out =
            client.arg("-s").arg(self.folder.join("redis.sock")).args(words).output().unwrap();
        String::from_utf8(out.stdout).unwrap().lines().map(str::to_owned).collect()
    }
}

/// What comes in goes out as much later, in order, however much there is.
async fn late(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration) {
    let (waiting, mut due) = tokio::sync::mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    tokio::spawn(async move {
        while let Some((at, bytes)) = due.recv().await {
            tokio::time::sleep_until(at.into()).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(size @ 1..) = from.read(&mut buffer).await {
        if waiting.send((Instant::now() + delay, buffer[..size].to_vec())).is_err() {
            return;
        }
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
