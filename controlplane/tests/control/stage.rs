//! A server with its fake dataplane, clients for it, and waiting for conditions.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use ironcast_api::{Id, Problem};
use ironcast_client::{Client, ClientError, Token, Trust};
use ironcast_config::Door;
use ironcast_controlplane::{Server, ServerConfig};
use serde_json::{Value, json};

use crate::{
    fake::Fake,
    http::{self, Answer, Way},
};

/// Longest wait for anything.
pub const LIMIT: Duration = Duration::from_secs(20);

pub struct Stage {
    pub folder: PathBuf,
    pub fake: Fake,
    pub server: Option<Server>,
    pub client: Client,
    pub config: ServerConfig,
    /// What the client shows.
    pub token: Option<String>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A folder that no other test has.
pub fn folder() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("ironcast-control-{}-{number}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// Settings with free ports.
pub fn config(folder: &PathBuf) -> ServerConfig {
    let mut config = ServerConfig::in_folder(folder);
    let any = "127.0.0.1:0".parse().expect("an address");
    config.listen = any;
    config.plain = Some(Door::Tcp(any));
    config.ops = Some(any);
    config
}

impl Stage {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// With other settings.
    pub async fn with(change: impl FnOnce(&mut ServerConfig)) -> Self {
        Self::at(folder(), None, change).await
    }

    /// With a token file; the client shows one of them.
    pub async fn with_tokens(tokens: &str, token: &str) -> Self {
        Self::with_tokens_and(tokens, token, |_| {}).await
    }

    /// The same with other settings.
    pub async fn with_tokens_and(
        tokens: &str,
        token: &str,
        change: impl FnOnce(&mut ServerConfig),
    ) -> Self {
        let folder = folder();
        let file = folder.join("tokens");
        std::fs::write(&file, tokens).expect("a file");
        let change = |config: &mut ServerConfig| {
            config.proofs.token_file = Some(file);
            change(config);
        };
        Self::at(folder, Some(token), change).await
    }

    async fn at(
        folder: PathBuf,
        token: Option<&str>,
        change: impl FnOnce(&mut ServerConfig),
    ) -> Self {
        let mut config = config(&folder);
        change(&mut config);
        let token = token.map(str::to_owned);
        let fake = Fake::start(&config.dataplane_socket);
        let server = Server::start(config.clone()).await.expect("a server");
        let client = client(&config, &server, token.as_deref());
        let stage = Self { folder, fake, server: Some(server), client, config, token };
        stage.ready().await;
        stage
    }

    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("a server")
    }

    /// Waits until the server is attached.
    pub async fn ready(&self) {
        eventually("ready", || async { self.client.ready().await.is_ok() }).await;
    }

    /// Kills the server and starts another on the same dataplane.
    pub async fn replace_server(&mut self) {
        self.server = None;
        let server = Server::start(self.config.clone()).await.expect("a server");
        self.client = client(&self.config, &server, self.token.as_deref());
        self.server = Some(server);
        self.ready().await;
    }

    /// Another client, who shows this token.
    pub fn client_of(&self, token: &str) -> Client {
        client(&self.config, self.server(), Some(token))
    }

    pub fn trust(&self) -> Vec<u8> {
        std::fs::read(&self.config.tls_cert).expect("a certificate")
    }

    pub async fn send(&self, way: Way, method: &str, path: &str, body: &str) -> Answer {
        let address = match way {
            Way::Plain => self.server().plain.expect("a plain door"),
            _ => self.server().address,
        };
        let request = http::request(method, path, body.to_owned());
        http::send(way, address, &self.trust(), request).await
    }

    /// A call over HTTP/3 by its JSON: status and answer.
    pub async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        call(&self.client, method, path, body).await
    }

    /// The same, which has to succeed.
    pub async fn ok(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.call(method, path, body).await;
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    /// The same, which has to fail: status, code, pointer.
    pub async fn refused(&self, method: &str, path: &str, body: Value) -> (u16, String, String) {
        let (status, answer) = self.call(method, path, body).await;
        let problem: Problem = serde_json::from_value(answer.clone())
            .unwrap_or_else(|_| panic!("{method} {path}: {status} {answer} is no problem"));
        assert_eq!(problem.status, status);
        assert!(!problem.detail.is_empty());
        (status, problem.code.to_string(), problem.pointer.unwrap_or_default())
    }

    /// The whole state without what changes by itself.
    pub async fn state(&self) -> Value {
        let mut snapshot = self.ok("GET", "/v1/snapshot", Value::Null).await;
        let map = snapshot.as_object_mut().expect("an object");
        map.remove("seq");
        map.remove("workers");
        snapshot
    }

    /// A room with two people: alice sends audio and video, bob gets both.
    pub async fn call_of_two(&self, room: &str) {
        self.ok("POST", "/v1/routers", json!({ "id": room, "appData": { "n": 1 } })).await;
        for (person, way) in
            [("alice", "send"), ("alice", "recv"), ("bob", "send"), ("bob", "recv")]
        {
            let body = json!({
                "id": format!("{room}-{person}-{way}"), "routerId": room, "type": "webrtc",
                "participantId": person, "rtpCapabilities": chromium("rtpCapabilities"),
            });
            self.ok("POST", "/v1/transports", body).await;
        }
        let dtls = json!({ "dtlsParameters": dtls("client") });
        self.ok("POST", &format!("/v1/transports/{room}-alice-send/connect"), dtls).await;
        for (name, producer) in [("mic", "opus"), ("cam", "vp8-simulcast")] {
            let body = produce(&format!("{room}-{name}"), &format!("{room}-alice-send"), producer);
            self.ok("POST", "/v1/producers", body).await;
            let body = json!({
                "id": format!("{room}-bob-{name}"), "transportId": format!("{room}-bob-recv"),
                "producerId": format!("{room}-{name}"), "paused": true,
            });
            self.ok("POST", "/v1/consumers", body).await;
        }
    }
}

/// A call over HTTP/3 by its JSON: status and answer.
pub async fn call(client: &Client, method: &str, path: &str, body: Value) -> (u16, Value) {
    let body = if body.is_null() { None } else { Some(body.to_string().into()) };
    let method = method.parse().expect("a method");
    let answer = client.request(method, path, body).await.expect("an answer");
    (answer.status, serde_json::from_slice(&answer.body).unwrap_or(Value::Null))
}

pub fn client(config: &ServerConfig, server: &Server, token: Option<&str>) -> Client {
    let mut builder = Client::builder(format!("https://{}", server.address))
        .trust(Trust::File(config.tls_cert.clone()))
        .timeout(LIMIT);
    if let Some(token) = token {
        builder = builder.token(Token::Text(token.to_owned()));
    }
    builder.build().expect("a client")
}

/// What mediasoup-client in Chromium hands over, as recorded there.
pub fn chromium(what: &str) -> Value {
    fixture()[what].clone()
}

fn fixture() -> Value {
    let text = include_str!("../../negotiate/src/tests/chromium.json");
    serde_json::from_str(text).expect("the fixture")
}

/// `POST /producers` of one of the fixture's tracks.
pub fn produce(id: &str, transport: &str, name: &str) -> Value {
    let fixture = fixture();
    let producers = fixture["producers"].as_array().expect("producers");
    let producer = producers.iter().find(|one| one["name"] == name).expect("the track");
    json!({
        "id": id, "transportId": transport, "kind": producer["kind"],
        "rtpParameters": producer["rtpParameters"], "appData": { "track": name },
    })
}

pub fn dtls(role: &str) -> Value {
    let value = ["0F"; 32].join(":");
    json!({ "role": role, "fingerprints": [{ "algorithm": "sha-256", "value": value }] })
}

pub fn id(text: &str) -> Id {
    Id::new(text).expect("an id")
}

pub fn code(error: &ClientError) -> String {
    error.code().map(|code| code.to_string()).unwrap_or_else(|| error.to_string())
}

/// Asks again and again, without a fixed pause that a slow machine would miss.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let asking = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, asking).await.unwrap_or_else(|_| panic!("never: {what}"));
}
