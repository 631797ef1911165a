//! The credentials that browsers are told of, shown to a real TURN server: coturn, of the
//! distribution, with its own client.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use ironcast_signaling::ice::{IceServers, Turn};
use ironcast_signaling::settings::Settings;
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::fake_media::FakeMedia;
use crate::stage::{Stage, quick};

const SECRET: &str = "north by northwest";

struct Coturn {
    port: u16,
    folder: PathBuf,
    server: Child,
}

impl Coturn {
    /// One that listens. A port that was free a moment ago may be another test's by now: then with another.
    async fn start() -> Self {
        for _ in 0..4 {
            let mut one = Self::spawn();
            if one.listens().await {
                return one;
            }
        }
        panic!("coturn does not start");
    }

    fn spawn() -> Self {
        let folder = std::env::temp_dir().join(format!("ironcast-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).unwrap();
        // For both: somebody else's TCP would be taken for coturn's.
        let port = loop {
            let free = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let port = free.local_addr().unwrap().port();
            if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
                break port;
            }
        };
        let server = Command::new("turnserver")
            .args(["-n", "--use-auth-secret", "--realm=ironcast", "--no-tls", "--no-dtls"])
            .args(["--no-cli", "--allow-loopback-peers", "-L", "127.0.0.1", "-E", "127.0.0.1"])
            .arg(format!("--static-auth-secret={SECRET}"))
            .args(["-p", &port.to_string(), "--log-file", "stdout"])
            .arg(format!("--pidfile={}", folder.join("pid").display()))
            .arg(format!("--db={}", folder.join("db").display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("coturn is installed");
        Self { port, folder, server }
    }

    /// Whether two get relayed addresses with these, and reach each other.
    async fn serves(&self, user: &str, password: &str) -> bool {
        let client = Command::new("turnutils_uclient")
            .args(["-y", "-n", "1", "-m", "1", "-c", "-u", user, "-w", password])
            .args(["-p", &self.port.to_string(), "127.0.0.1"])
            .kill_on_drop(true)
            .output();
        let out = tokio::time::timeout(Duration::from_secs(30), client).await.unwrap().unwrap();
        out.status.success()
            && String::from_utf8_lossy(&out.stdout).contains("Total lost packets 0")
    }

    async fn listens(&mut self) -> bool {
        let end = tokio::time::Instant::now() + Duration::from_secs(20);
        // It takes TCP on the same port.
        while tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            if self.has_ended() || tokio::time::Instant::now() > end {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        !self.has_ended()
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.server.try_wait(), Ok(None))
    }
}

impl Drop for Coturn {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[tokio::test]
async fn a_turn_server_takes_what_browsers_are_told() {
    let coturn = Coturn::start().await;
    let turn = Turn {
        urls: vec![format!("turn:127.0.0.1:{}", coturn.port)],
        secret: SECRET.to_owned(),
        time: Duration::from_secs(3600),
    };
    let ice_servers = IceServers { stun: Vec::new(), turn: Some(turn) };
    let stage = Stage::with(Settings { ice_servers, ..quick() }, FakeMedia::new()).await;
    let ((_ada, adas), (_bob, bobs)) = (stage.join("ada").await, stage.join("bob").await);
    let (adas, bobs) = (&adas["iceServers"][0], &bobs["iceServers"][0]);
    let (user, password) = (text(&adas["username"]), text(&adas["credential"]));
    assert!(coturn.serves(user, password).await);
    // Each has his own, and nobody makes one up.
    assert_ne!(adas["username"], bobs["username"]);
    assert!(!coturn.serves(text(&bobs["username"]), password).await);
    let (time, name) = user.split_once(':').unwrap();
    let later = format!("{}:{name}", time.parse::<u64>().unwrap() + 3600);
    assert!(!coturn.serves(&later, password).await);
}
