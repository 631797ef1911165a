//! The reference signaling service as a process beside the two others, and participants who join by
//! it: their calls of the control API become its events.

use std::{
    collections::VecDeque,
    fs::{self, File},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use futures::{SinkExt as _, StreamExt as _};
use ironcast_load::{Control, ControlError, Participant, call::JoinOptions};
use serde_json::{Value, json};
use tokio::{net::TcpStream, sync::Mutex};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::Message};

use crate::{LIMIT, eventually, pair::binary_dir, ports};

/// A signaling service. It is killed when this is dropped; its state goes with it.
pub struct Signaling {
    address: SocketAddr,
    state: PathBuf,
    settings: Vec<(String, String)>,
    environment: Vec<(String, String)>,
    child: Option<Child>,
}

impl Drop for Signaling {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.state.join("log")).unwrap_or_default();
            eprintln!("--- ironcast-signaling at {} ---\n{log}", self.address);
        }
        let _ = fs::remove_dir_all(&self.state);
    }
}

impl Signaling {
    /// With a state folder of its own, as on another machine.
    pub(crate) async fn start(
        state: PathBuf,
        api: SocketAddr,
        ca: &str,
        more: &[(&str, String)],
        environment: &[(String, String)],
    ) -> Self {
        fs::create_dir_all(&state).expect("a folder for the state");
        let address = ports::loopback();
        let settings = [
            ("control.state_dir", state.display().to_string()),
            ("signaling.listen", address.to_string()),
            ("signaling.control_url", format!("https://{api}")),
            ("signaling.control_ca", ca.to_owned()),
        ];
        let settings = settings.iter().chain(more);
        let settings = settings.map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        let mut service =
            Self { address, state, settings, environment: environment.to_vec(), child: None };
        service.start_again().await;
        service
    }

    /// Starts it, with what the last run left, and waits until it is ready.
    pub async fn start_again(&mut self) {
        let log = File::options().create(true).append(true).open(self.state.join("log"));
        let log = log.expect("a log can be written");
        let mut command = Command::new(binary_dir().join("ironcast-signaling"));
        for (key, value) in &self.settings {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        command.envs(self.environment.iter().cloned());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        self.child = Some(child.expect("ironcast-signaling is built"));
        let http = ironcast_load::http::PlainHttp::new(self.address);
        eventually("signaling is ready", || async {
            matches!(http.request("GET", "/ready", None).await, Ok((200, _)))
        })
        .await;
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    pub async fn terminate(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        let told = Command::new("sh").arg("-c").arg(format!("kill -TERM {}", child.id())).status();
        assert!(told.expect("a shell").success());
        let status = tokio::task::spawn_blocking(move || child.wait());
        let status = tokio::time::timeout(LIMIT, status).await.expect("it ends");
        status.expect("no panic").expect("its status")
    }

    /// Kills it without a word (SIGKILL).
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Joins a room.
    pub async fn join(&self, room: &str, name: &str, options: &JoinOptions) -> Joined {
        let member = Arc::new(Member::join(self.address, room, name).await);
        Joined::with(member, room, name, options).await
    }

    /// What it answers to a read.
    pub async fn text(&self, path: &str) -> String {
        let http = ironcast_load::http::PlainHttp::new(self.address);
        http.send("GET", path, &[], &[]).await.expect("it answers").text()
    }

    /// The same as JSON.
    pub async fn read(&self, path: &str) -> Value {
        serde_json::from_str(&self.text(path).await).expect("JSON")
    }
}

impl Joined {
    async fn with(member: Arc<Member>, room: &str, name: &str, options: &JoinOptions) -> Self {
        match Participant::join(&member, room, name, options).await {
            Ok(participant) => Self { member, participant },
            Err(error) => panic!("{name} cannot join: {error}"),
        }
    }

    /// Waits until he is told that his media is lost, and joins again by the same socket, as a page
    /// does that is not loaded again.
    pub async fn again(self, room: &str, name: &str, options: &JoinOptions) -> Self {
        self.member.told("error", |error| error["rejoin"] == true).await;
        self.member.join_again(name).await;
        Self::with(self.member, room, name, options).await
    }
}

/// One who joined by signaling.
pub struct Joined {
    /// His socket.
    pub member: Arc<Member>,
    /// His media.
    pub participant: Participant<Member>,
}

/// A socket in a room.
pub struct Member {
    /// Of the service that he is at.
    address: std::sync::Mutex<SocketAddr>,
    room: String,
    joined: std::sync::Mutex<Value>,
    socket: Mutex<Socket>,
}

/// Socket.IO over a WebSocket, as much as is needed here.
struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    last: u64,
    /// Events that came meanwhile, the newest last.
    events: VecDeque<(String, Value)>,
}

/// Events that are kept.
const EVENTS_MAX: usize = 256;

impl Socket {
    async fn connect(address: SocketAddr) -> Self {
        let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
        let (stream, _) = tokio_tungstenite::connect_async(url).await.expect("signaling listens");
        let mut socket = Self { stream, last: 0, events: VecDeque::new() };
        socket.say("40").await;
        while !socket.hear().await.starts_with("40") {}
        socket
    }

    async fn say(&mut self, text: &str) {
        self.stream.send(Message::text(text.to_owned())).await.expect("the socket is open");
    }

    async fn hear(&mut self) -> String {
        loop {
            let heard = tokio::time::timeout(LIMIT, self.stream.next()).await;
            let heard = heard.expect("it says something").expect("it is open");
            match heard.expect("it is open") {
                Message::Text(text) if text.as_str() == "2" => self.say("3").await,
                Message::Text(text) => return text.to_string(),
                _ => {}
            }
        }
    }

    /// Sends an event, gives its acknowledgement.
    async fn ask(&mut self, event: &str, payload: &Value) -> Value {
        self.last += 1;
        let text = format!("42{}{}", self.last, json!([event, payload]));
        self.say(&text).await;
        let answer = format!("43{}[", self.last);
        // Its pings go on whatever happens to the event.
        let hearing = async {
            loop {
                let heard = self.hear().await;
                if let Some(payload) = heard.strip_prefix(&answer) {
                    let payload = payload.strip_suffix(']').expect("a list of one");
                    return serde_json::from_str(payload).expect("JSON");
                }
                self.keep(&heard);
            }
        };
        let heard = tokio::time::timeout(LIMIT, hearing).await;
        heard.unwrap_or_else(|_| panic!("{event} is not acknowledged"))
    }

    fn keep(&mut self, heard: &str) {
        let event = heard.strip_prefix("42").and_then(|text| serde_json::from_str(text).ok());
        self.events.extend(event);
        while self.events.len() > EVENTS_MAX {
            self.events.pop_front();
        }
    }

    /// The next event of this name that is as wanted.
    async fn event(&mut self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + LIMIT;
        loop {
            let fits = |(seen, payload): &(String, Value)| seen == name && wanted(payload);
            if let Some(index) = self.events.iter().position(fits) {
                return self.events.remove(index).expect("it is there").1;
            }
            assert!(Instant::now() < end, "{name} is not told");
            let heard = self.hear().await;
            self.keep(&heard);
        }
    }
}

impl Member {
    /// By the service at this address.
    pub async fn join(address: SocketAddr, room: &str, name: &str) -> Self {
        let mut socket = Socket::connect(address).await;
        let joined = socket.ask("joinRoom", &json!({ "roomId": room, "name": name })).await;
        assert!(joined.get("error").is_none(), "{name}: {joined}");
        let (joined, socket) = (std::sync::Mutex::new(joined), Mutex::new(socket));
        Self { address: std::sync::Mutex::new(address), room: room.to_owned(), joined, socket }
    }

    /// Who he is in his room.
    pub fn id(&self) -> Value {
        self.joined()["participantId"].clone()
    }

    /// How often he was told of something until now, since he last asked.
    pub async fn count(&self, event: &str, wanted: impl Fn(&Value) -> bool) -> usize {
        let mut socket = self.socket.lock().await;
        // What was sent before the answer has come with it.
        socket.ask("heartbeat", &json!({})).await;
        let told = std::mem::take(&mut socket.events).into_iter();
        told.filter(|(name, payload)| name == event && wanted(payload)).count()
    }

    fn joined(&self) -> Value {
        self.joined.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The next event of this name that is as wanted.
    pub async fn told(&self, event: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.socket.lock().await.event(event, wanted).await
    }

    /// Asks for something; gives the acknowledgement.
    pub async fn ask(&self, event: &str, payload: Value) -> Value {
        self.socket.lock().await.ask(event, &payload).await
    }

    /// Leaves and joins by the same socket, until he is let in.
    async fn join_again(&self, name: &str) {
        self.ask("leaveRoom", json!({})).await;
        let end = Instant::now() + LIMIT;
        let joined = loop {
            let joined = self.ask("joinRoom", json!({ "roomId": self.room, "name": name })).await;
            if joined.get("error").is_none() {
                break joined;
            }
            assert!(Instant::now() < end, "{name}: {joined}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        *self.joined.lock().unwrap_or_else(PoisonError::into_inner) = joined;
    }

    /// Comes back by a new socket with the token of the first one. Gives the answer.
    pub async fn come_back(&self) -> Value {
        let address = *self.address.lock().unwrap_or_else(PoisonError::into_inner);
        let mut socket = Socket::connect(address).await;
        let token = self.joined()["resumeToken"].clone();
        let joined =
            socket.ask("joinRoom", &json!({ "roomId": self.room, "resumeToken": token })).await;
        *self.socket.lock().await = socket;
        joined
    }

    /// The same at another node of the fleet.
    pub async fn come_back_at(&self, service: &Signaling) -> Value {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = service.address;
        self.come_back().await
    }

    /// The event that a call of the control API is here.
    fn event(method: &str, path: &str, body: &Value) -> (&'static str, Value) {
        let steps: Vec<&str> = path.trim_start_matches("/v1/").split('/').collect();
        match (method, &steps[..]) {
            ("POST", ["transports"]) if body["appData"]["direction"] == "send" => {
                ("createProducerTransport", json!({}))
            }
            ("POST", ["transports"]) => ("createConsumerTransport", json!({})),
            ("POST", ["transports", id, "connect"]) => (
                "connect-transport",
                json!({ "transportId": id, "dtlsParameters": body["dtlsParameters"] }),
            ),
            ("POST", ["producers"]) => ("produce", body.clone()),
            ("POST", ["consumers"]) => ("consume", body.clone()),
            ("POST", ["consumers", id, "pause"]) => ("pauseConsumer", json!({ "consumerId": id })),
            ("POST", ["consumers", id, "resume"]) => {
                ("resumeConsumer", json!({ "consumerId": id }))
            }
            ("POST", ["participants", ..]) => ("leaveRoom", json!({})),
            _ => panic!("{method} {path} has no event"),
        }
    }
}

impl Control for Member {
    async fn request(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Result<(u16, Value), ControlError> {
        if method == "GET" {
            // The only thing that is read is the room's router, and it came with the join.
            return Ok((200, self.joined()));
        }
        let (event, payload) = Self::event(method, path, &body.unwrap_or_default());
        let mut answer = self.socket.lock().await.ask(event, &payload).await;
        if let Some(error) = answer.get("error") {
            return Ok((400, error.clone()));
        }
        if event == "produce" {
            // Browsers are not told it.
            answer["type"] = json!("");
        }
        Ok((200, answer))
    }
}
