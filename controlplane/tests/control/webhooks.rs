//! Webhooks against a real receiver: order, signatures, repetitions, what is missing, restarts.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, Mac as _};
use ironcast_controlplane::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    certificates::Ca,
    stage::{self, Stage, eventually},
};

pub const SECRET: &str = "a secret that only the two know";

/// One request that came.
#[derive(Debug, Clone)]
pub struct Delivery {
    id: String,
    timestamp: u64,
    signature: String,
    body: String,
    /// What it was answered.
    status: u16,
}

impl Delivery {
    /// By the words of the documentation: base64 of HMAC-SHA256 over `ID.TIMESTAMP.BODY`.
    pub fn is_signed(&self) -> bool {
        self.is_signed_with(SECRET.as_bytes())
    }

    fn is_signed_with(&self, secret: &[u8]) -> bool {
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret).unwrap();
        mac.update(format!("{}.{}.{}", self.id, self.timestamp, self.body).as_bytes());
        self.signature == format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
    }

    fn events(&self) -> Vec<Value> {
        let body: Value = serde_json::from_str(&self.body).expect("JSON");
        body["events"].as_array().expect("events").clone()
    }
}

#[derive(Default)]
struct Got {
    deliveries: Vec<Delivery>,
    /// What the next ones are answered; then 204.
    statuses: Vec<u16>,
}

/// A receiver. It is down from the moment that it is dropped.
pub struct Receiver {
    pub address: SocketAddr,
    got: Arc<Mutex<Got>>,
    task: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    pub async fn start() -> Self {
        Self::start_with("127.0.0.1:0".parse().unwrap(), None, &[]).await
    }

    async fn start_with(address: SocketAddr, tls: Option<TlsAcceptor>, statuses: &[u16]) -> Self {
        // Linux keeps a port for a while after its connections, but not for who listens again.
        let listener = TcpListener::bind(address).await.expect("its port");
        let address = listener.local_addr().unwrap();
        let got = Arc::new(Mutex::new(Got { statuses: statuses.to_vec(), ..Got::default() }));
        let shared = Arc::clone(&got);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let (shared, tls) = (Arc::clone(&shared), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => serve(stream, &shared).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => serve(stream, &shared).await,
                            Err(_) => None,
                        },
                    }
                });
            }
        });
        Self { address, got, task }
    }

    pub fn deliveries(&self) -> Vec<Delivery> {
        self.got.lock().unwrap().deliveries.clone()
    }

    /// Events of the deliveries that were taken, each once: a receiver knows them by their ids.
    fn events(&self) -> Vec<Value> {
        let mut events: Vec<Value> = Vec::new();
        for delivery in self.deliveries().iter().filter(|one| one.status < 300) {
            for event in delivery.events() {
                if !events.iter().any(|known| known["id"] == event["id"]) {
                    events.push(event);
                }
            }
        }
        events
    }

    fn types(&self) -> Vec<String> {
        self.events().iter().map(|one| one["type"].as_str().unwrap().to_owned()).collect()
    }

    pub async fn has(&self, count: usize) {
        let has = || async { self.events().len() >= count };
        eventually(&format!("{count} events"), has).await;
    }
}

/// Requests of one connection.
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, got: &Mutex<Got>) -> Option<()> {
    let mut text = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = text.windows(4).position(|part| part == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut text).await.ok()? == 0 {
                return None;
            }
        };
        let head = String::from_utf8(text[..end].to_vec()).ok()?;
        assert!(head.starts_with("POST /hook?x=1 HTTP/1.1\r\n"), "{head}");
        let header = |name: &str| {
            let line =
                head.lines().find_map(|line| line.split_once(": ").filter(|one| one.0 == name));
            line.unwrap_or_else(|| panic!("no {name} in {head}")).1.to_owned()
        };
        assert_eq!(header("content-type"), "application/json");
        let length: usize = header("content-length").parse().unwrap();
        while text.len() < end + length {
            if stream.read_buf(&mut text).await.ok()? == 0 {
                return None;
            }
        }
        let body = String::from_utf8(text[end..end + length].to_vec()).unwrap();
        text.drain(..end + length);
        let status = {
            let mut got = got.lock().unwrap();
            let status = if got.statuses.is_empty() { 204 } else { got.statuses.remove(0) };
            got.deliveries.push(Delivery {
                id: header("webhook-id"),
                timestamp: header("webhook-timestamp").parse().unwrap(),
                signature: header("webhook-signature"),
                body,
                status,
            });
            status
        };
        let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}

/// A server whose file names these receivers, with rows of their own.
fn with_hooks(config: &mut ServerConfig, rows: &[(SocketAddr, &str)]) {
    let folder = config.state_dir.clone();
    std::fs::write(folder.join("secret"), SECRET).unwrap();
    let rows = rows.iter().enumerate().map(|(number, (address, more))| {
        let scheme = if more.contains("ca =") { "https" } else { "http" };
        format!(
            "[[webhook]]\nname = \"hook-{number}\"\nurl = \"{scheme}://{address}/hook?x=1\"\n\
             secret_file = \"secret\"\n{more}\n"
        )
    });
    std::fs::write(folder.join("webhooks.toml"), rows.collect::<String>()).unwrap();
    config.webhooks.file = Some(folder.join("webhooks.toml"));
    config.webhooks.pause_max = Duration::from_millis(200);
}

async fn stage_for(receiver: SocketAddr, more: &str) -> Stage {
    Stage::with(|config| with_hooks(config, &[(receiver, more)])).await
}

async fn make_rooms(stage: &Stage, rooms: std::ops::Range<usize>) {
    for room in rooms {
        stage.ok("POST", "/v1/routers", json!({ "id": format!("room-{room}") })).await;
    }
}

/// The routers that events are about, in order.
fn routers(events: &[Value], kind: &str) -> Vec<String> {
    let of = events.iter().filter(|one| one["type"] == kind);
    of.map(|one| one["data"]["routerId"].as_str().unwrap().to_owned()).collect()
}

fn names(rooms: std::ops::Range<usize>) -> Vec<String> {
    rooms.map(|room| format!("room-{room}")).collect()
}

#[tokio::test]
async fn events_come_in_order_and_signed() {
    let receiver = Receiver::start().await;
    let stage = stage_for(receiver.address, "").await;
    stage.call_of_two("room").await;
    stage.ok("POST", "/v1/producers/room-mic/pause", Value::Null).await;
    stage.ok("DELETE", "/v1/routers/room", Value::Null).await;
    let has_end = || async { receiver.types().last().is_some_and(|last| last == "router.closed") };
    eventually("the end is told", has_end).await;
    let types = receiver.types();
    assert_eq!(types[0], "router.created", "{types:?}");
    for name in
        ["producer.created", "consumer.created", "producer.paused", "consumer.producerpause"]
    {
        assert!(types.iter().any(|one| one == name), "{name} in {types:?}");
    }
    let number = |event: &Value| {
        let id = event["id"].as_str().unwrap();
        assert_eq!(event["data"]["seq"], id);
        id.split_once('-').unwrap().1.parse::<u64>().unwrap()
    };
    let numbers: Vec<u64> = receiver.events().iter().map(number).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    for delivery in receiver.deliveries() {
        assert!(delivery.is_signed(), "{delivery:?}");
        assert!(delivery.timestamp.abs_diff(now.as_secs()) < 300, "{delivery:?}");
    }
}

#[tokio::test]
async fn what_was_refused_comes_again_the_same() {
    let address = "127.0.0.1:0".parse().unwrap();
    let receiver = Receiver::start_with(address, None, &[500, 302, 404]).await;
    let stage = stage_for(receiver.address, "events = [\"router.*\"]").await;
    make_rooms(&stage, 0..3).await;
    receiver.has(3).await;
    assert_eq!(routers(&receiver.events(), "router.created"), names(0..3));
    let deliveries = receiver.deliveries();
    let statuses: Vec<u16> = deliveries.iter().take(4).map(|one| one.status).collect();
    assert_eq!(statuses, [500, 302, 404, 204]);
    // One delivery has one id, and each of its attempts is signed anew.
    assert!(deliveries[..4].iter().all(|one| one.id == deliveries[0].id && one.is_signed()));
    assert!(deliveries[..4].iter().all(|one| one.body == deliveries[0].body));
    assert!(deliveries[4..].iter().all(|one| one.id != deliveries[0].id));
}

#[tokio::test]
async fn who_was_down_gets_what_he_missed_and_is_told_what_is_gone() {
    let receiver = Receiver::start().await;
    let address = receiver.address;
    let stage = Stage::with(|config| {
        with_hooks(config, &[(address, "events = [\"router.created\"]")]);
        config.webhooks.waiting_max = 16;
        config.webhooks.batch_max = 4;
    })
    .await;
    make_rooms(&stage, 0..2).await;
    receiver.has(2).await;
    drop(receiver);
    // Four are being sent when the others come; of those 15 wait, with a notice of what is gone.
    make_rooms(&stage, 2..40).await;
    let figure = async |name: &str| {
        let text = stage.send(crate::http::Way::Plain, "GET", "/metrics", "").await.body;
        let text = String::from_utf8(text.to_vec()).unwrap();
        let start = format!("ironcast_control_webhook_{name}{{webhook=\"hook-0\"}} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&start).map(str::to_owned));
        value.unwrap_or_else(|| panic!("no {start} in {text}")).parse::<usize>().unwrap()
    };
    eventually("the last one waits", || async {
        figure("events_waiting").await + figure("events_dropped_total").await >= 38
    })
    .await;
    let receiver = Receiver::start_with(address, None, &[]).await;
    eventually("the newest comes", || async {
        routers(&receiver.events(), "router.created").last().is_some_and(|last| last == "room-39")
    })
    .await;
    let events = receiver.events();
    let lost = events.iter().position(|one| one["type"] == "events_lost").expect("a notice");
    let created = routers(&events, "router.created");
    let (before, behind) = created.split_at(lost);
    // Where the notice stands, and nowhere else, something is missing.
    assert_eq!(before, names(2..2 + lost));
    assert_eq!(behind, names(40 - behind.len()..40));
    let count = events[lost]["data"]["count"].as_u64().unwrap() as usize;
    assert_eq!(before.len() + count + behind.len(), 38, "{events:?}");
    assert_eq!(events[lost]["data"]["reason"], "queue_full");
    assert_eq!((figure("events_dropped_total").await, behind.len()), (count, 15));
    assert!(figure("failures_total").await > 0);
    eventually("nothing waits", || async { figure("events_waiting").await == 0 }).await;
}

#[tokio::test]
async fn a_dead_receiver_costs_others_nothing() {
    let receiver = Receiver::start().await;
    let dead = Receiver::start().await;
    let dead_address = dead.address;
    drop(dead);
    let stage = Stage::with(|config| {
        with_hooks(config, &[(dead_address, ""), (receiver.address, "")]);
    })
    .await;
    make_rooms(&stage, 0..50).await;
    receiver.has(50).await;
    assert_eq!(routers(&receiver.events(), "router.created"), names(0..50));
}

#[tokio::test]
async fn the_next_process_goes_on_where_the_last_one_was() {
    let receiver = Receiver::start().await;
    let address = receiver.address;
    let mut stage = stage_for(address, "events = [\"router.*\"]").await;
    make_rooms(&stage, 0..1).await;
    receiver.has(1).await;
    let delivered = receiver.events()[0]["id"].clone();
    drop(receiver);
    make_rooms(&stage, 1..4).await;
    stage.server.take().expect("a server").stop().await;
    stage.replace_server().await;
    make_rooms(&stage, 4..5).await;
    let receiver = Receiver::start_with(address, None, &[]).await;
    receiver.has(5).await;
    let types = receiver.types();
    let (created, lost) = ("router.created", "events_lost");
    assert_eq!(types, [created, created, created, lost, created]);
    let events = receiver.events();
    assert_eq!(routers(&events, created), names(1..5));
    assert_eq!(events[3]["data"]["reason"], "new_epoch");
    let epoch = |id: &Value| id.as_str().unwrap().split_once('-').unwrap().0.to_owned();
    assert_eq!(epoch(&events[0]["id"]), epoch(&delivered));
    assert!(epoch(&events[4]["id"]) > epoch(&delivered), "{events:?}");

    // A process that was killed has kept no more than its place: what waited is gone, and said to be.
    let file = stage.folder.join("webhooks/hook-0.json");
    eventually("the place is kept", || async {
        std::fs::read_to_string(&file).is_ok_and(|kept| kept.contains("\"waiting\":[]"))
    })
    .await;
    drop(receiver);
    make_rooms(&stage, 5..6).await;
    stage.replace_server().await;
    make_rooms(&stage, 6..7).await;
    let receiver = Receiver::start_with(address, None, &[]).await;
    receiver.has(2).await;
    assert_eq!(receiver.types(), [lost, created]);
    assert_eq!(routers(&receiver.events(), created), names(6..7));
}

#[tokio::test]
async fn a_receiver_of_a_principal_gets_its_routers_events() {
    let (all, his) = (Receiver::start().await, Receiver::start().await);
    let rows = [(all.address, ""), (his.address, "principal = \"token:his\"")];
    let tokens = "his control his-secret\nhers control her-secret\n";
    let stage =
        Stage::with_tokens_and(tokens, "his-secret", |config| with_hooks(config, &rows)).await;
    let hers = stage.client_of("her-secret");
    for (client, room) in [(&stage.client, "a"), (&hers, "b"), (&stage.client, "c")] {
        let (status, answer) =
            stage::call(client, "POST", "/v1/routers", json!({ "id": room })).await;
        assert_eq!(status, 201, "{answer}");
    }
    all.has(3).await;
    his.has(2).await;
    assert_eq!(routers(&all.events(), "router.created"), ["a", "b", "c"]);
    assert_eq!(routers(&his.events(), "router.created"), ["a", "c"]);
}

/// TLS of a receiver on loopback, by address and by name.
fn acceptor(ca: &Ca) -> TlsAcceptor {
    let identity = ca.issue_with("receiver", &[], |params| {
        params.subject_alt_names = vec![
            rcgen::SanType::IpAddress("127.0.0.1".parse().unwrap()),
            rcgen::SanType::DnsName("localhost".try_into().unwrap()),
        ];
    });
    let chain = vec![CertificateDer::from_pem_slice(identity.cert.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn tls_receiver(ca: &Ca) -> Receiver {
    Receiver::start_with("127.0.0.1:0".parse().unwrap(), Some(acceptor(ca)), &[]).await
}

/// The request for a receiver on loopback.
fn wanted(id: &str, receiver: &Receiver, ca: &Ca) -> Value {
    json!({
        "id": id, "url": format!("https://{}/hook?x=1", receiver.address), "ca": ca.pem,
        "events": ["router.*"],
    })
}

#[tokio::test]
async fn over_tls_the_receiver_has_to_be_who_it_is() {
    let ca = Ca::new();
    let (right, wrong) = (tls_receiver(&ca).await, tls_receiver(&Ca::new()).await);
    let stage = Stage::with(|config| {
        std::fs::write(config.state_dir.join("ca.pem"), &ca.pem).unwrap();
        let more = "ca = \"ca.pem\"";
        with_hooks(config, &[(right.address, more), (wrong.address, more)]);
    })
    .await;
    make_rooms(&stage, 0..2).await;
    right.has(2).await;
    assert!(wrong.deliveries().is_empty());
}

/// Where the rows of callers are kept.
fn kept(stage: &Stage) -> std::path::PathBuf {
    stage.folder.join("webhooks.json")
}

#[tokio::test]
async fn a_receiver_that_a_caller_made_outlives_the_process_until_it_is_deleted() {
    let ca = Ca::new();
    let receiver = tls_receiver(&ca).await;
    let mut stage = Stage::with(|config| {
        config.webhooks.allow = vec!["127.0.0.0/8".parse().unwrap()];
        config.webhooks.pause_max = Duration::from_millis(200);
    })
    .await;
    make_rooms(&stage, 0..1).await;
    let request = wanted("mine", &receiver, &ca);
    let (status, made) = stage.call("POST", "/v1/webhooks", request.clone()).await;
    assert_eq!((status, &made["isConfigured"]), (201, &json!(false)), "{made}");
    assert_eq!(made["origin"], format!("https://{}", receiver.address));
    assert_eq!(made["events"], json!(["router.closed", "router.created"]));
    let secret = made["secret"].as_str().expect("a secret").to_owned();
    let key = BASE64_STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    assert_eq!(key.len(), 32);
    // What happens from then on.
    make_rooms(&stage, 1..3).await;
    receiver.has(2).await;
    assert_eq!(routers(&receiver.events(), "router.created"), names(1..3));
    assert!(receiver.deliveries().iter().all(|one| one.is_signed_with(&key)));

    // The secret was told once, and is the owner's of the file alone.
    let (status, again) = stage.call("POST", "/v1/webhooks", request.clone()).await;
    assert_eq!((status, &again["secret"]), (200, &Value::Null), "{again}");
    let seen = stage.ok("GET", "/v1/webhooks/mine", Value::Null).await;
    assert_eq!((&seen["delivered"], &seen["secret"]), (&json!(2), &Value::Null), "{seen}");
    let list = stage.ok("GET", "/v1/webhooks", Value::Null).await;
    assert_eq!(list, json!({ "items": [seen] }));
    let mode = std::os::unix::fs::PermissionsExt::mode;
    assert_eq!(mode(&std::fs::metadata(kept(&stage)).unwrap().permissions()) & 0o777, 0o600);
    let other = json!({ "id": "mine", "url": "https://192.0.2.1/", "ca": ca.pem });
    assert_eq!(stage.refused("POST", "/v1/webhooks", other).await.1, "invalid_request");
    let mut other = request.clone();
    other["events"] = json!(["*"]);
    assert_eq!(stage.refused("POST", "/v1/webhooks", other).await.1, "already_exists");

    // Stopped in order, and killed.
    stage.server.take().expect("a server").stop().await;
    stage.replace_server().await;
    make_rooms(&stage, 3..4).await;
    stage.replace_server().await;
    make_rooms(&stage, 4..5).await;
    eventually("the newest comes", || async {
        routers(&receiver.events(), "router.created").last().is_some_and(|last| last == "room-4")
    })
    .await;
    assert!(receiver.deliveries().iter().all(|one| one.is_signed_with(&key)));

    for _ in 0..2 {
        let (status, _) = stage.call("DELETE", "/v1/webhooks/mine", Value::Null).await;
        assert_eq!(status, 204);
    }
    assert_eq!(stage.refused("GET", "/v1/webhooks/mine", Value::Null).await.1, "not_found");
    assert!(!std::fs::read_to_string(kept(&stage)).unwrap().contains(&secret));
    // Nobody is sent this; who is made anew begins with what comes next, under another secret.
    make_rooms(&stage, 5..6).await;
    let (status, made) = stage.call("POST", "/v1/webhooks", request).await;
    assert_eq!(status, 201);
    assert_ne!(made["secret"], secret);
    make_rooms(&stage, 6..7).await;
    eventually("the newest comes", || async {
        routers(&receiver.events(), "router.created").last().is_some_and(|last| last == "room-6")
    })
    .await;
    assert!(!routers(&receiver.events(), "router.created").contains(&"room-5".to_owned()));
    let audit = stage.ok("GET", "/v1/audit", Value::Null).await;
    let items = audit["items"].as_array().unwrap().iter();
    let of_webhooks: Vec<_> =
        items.filter(|one| one["kind"] == "webhook").map(|one| one["action"].clone()).collect();
    assert_eq!(of_webhooks, ["close", "create"], "since the last start");
}

#[tokio::test]
async fn what_waited_for_one_that_is_gone_is_sent_to_nobody() {
    let ca = Ca::new();
    let address = Receiver::start().await.address;
    let mut stage = Stage::with(|config| {
        with_hooks(config, &[(address, "")]);
        config.webhooks.allow = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    make_rooms(&stage, 0..1).await;
    stage.server.take().expect("a server").stop().await;
    assert!(stage.folder.join("webhooks/hook-0.json").exists());
    // Taken out of the file while nobody reads it; then somebody else has the name.
    stage.config.webhooks.file = None;
    stage.replace_server().await;
    let other = tls_receiver(&ca).await;
    stage.ok("POST", "/v1/webhooks", wanted("hook-0", &other, &ca)).await;
    make_rooms(&stage, 1..2).await;
    other.has(1).await;
    assert_eq!(other.types(), ["router.created"]);
    assert_eq!(routers(&other.events(), "router.created"), names(1..2));
}

#[tokio::test]
async fn callers_choose_no_address_that_only_this_host_reaches() {
    let ca = Ca::new();
    let receiver = tls_receiver(&ca).await;
    let configured = Receiver::start().await;
    let stage = Stage::with(|config| {
        with_hooks(config, &[(configured.address, "")]);
        config.webhooks.count_max = 2;
    })
    .await;
    let port = receiver.address.port();
    for (field, value, pointer) in [
        ("url", json!("http://127.0.0.1/x"), "/url"),
        ("url", json!("http://example.org/x"), "/url"),
        ("url", json!(format!("https://127.0.0.1:{port}/x")), "/url"),
        ("url", json!(format!("https://[::ffff:127.0.0.1]:{port}/x")), "/url"),
        ("url", json!("https://169.254.169.254/latest"), "/url"),
        ("url", json!("https://10.0.0.1/x"), "/url"),
        ("url", json!("https://a:b@example.org/x"), "/url"),
        ("url", json!(format!("https://example.org/{}", "x".repeat(2_048))), "/url"),
        ("ca", json!("no certificate"), "/ca"),
        ("events", json!(["router.born"]), "/events"),
        ("principal", json!("billing"), "/principal"),
        ("principal", json!(format!("token:{}", "x".repeat(129))), "/principal"),
        ("colour", json!("green"), "/colour"),
    ] {
        let mut request = json!({ "url": "https://example.org/x", "ca": ca.pem });
        request[field] = value;
        let (status, code, at) = stage.refused("POST", "/v1/webhooks", request.clone()).await;
        assert_eq!((status, &*code, &*at), (400, "invalid_request", pointer), "{request}");
    }
    assert!(!kept(&stage).exists());

    // A name is looked up when it is connected to: this one is no public address.
    let mut request = wanted("named", &receiver, &ca);
    request["url"] = json!(format!("https://localhost:{port}/hook?x=1"));
    stage.ok("POST", "/v1/webhooks", request.clone()).await;
    make_rooms(&stage, 0..1).await;
    eventually("it is tried in vain", || async {
        stage.ok("GET", "/v1/webhooks/named", Value::Null).await["failures"] != json!(0)
    })
    .await;
    configured.has(1).await;
    assert!(receiver.deliveries().is_empty());

    // No more than may be, and those of the file stay.
    request["id"] = json!("third");
    assert_eq!(stage.refused("POST", "/v1/webhooks", request.clone()).await.1, "no_capacity");
    let (post, body) = ("POST".parse().unwrap(), Some(request.to_string().into()));
    let answer = stage.client.request(post, "/v1/webhooks", body).await.unwrap();
    assert_eq!(answer.retry_after, Some(5));
    request["id"] = json!("hook-0");
    assert_eq!(stage.refused("POST", "/v1/webhooks", request).await.1, "already_exists");
    let list = stage.ok("GET", "/v1/webhooks", Value::Null).await;
    let items: Vec<_> = list["items"].as_array().unwrap().iter().collect();
    assert_eq!(items.len(), 2, "{list}");
    assert_eq!((&items[0]["id"], &items[0]["isConfigured"]), (&json!("hook-0"), &json!(true)));
    let refused = stage.refused("DELETE", "/v1/webhooks/hook-0", Value::Null).await;
    assert_eq!((refused.0, &*refused.1), (409, "wrong_state"));
}

#[tokio::test]
async fn webhooks_are_for_admins() {
    let tokens = "one control one-secret\nall admin all-secret\n";
    let stage = Stage::with_tokens(tokens, "one-secret").await;
    let request = json!({ "id": "x", "url": "https://example.org/" });
    for (method, path) in [
        ("POST", "/v1/webhooks"),
        ("GET", "/v1/webhooks"),
        ("GET", "/v1/webhooks/x"),
        ("DELETE", "/v1/webhooks/x"),
    ] {
        let body = if method == "POST" { request.clone() } else { Value::Null };
        assert_eq!(stage.refused(method, path, body).await.0, 403, "{method} {path}");
    }
    let admin = stage.client_of("all-secret");
    assert_eq!(stage::call(&admin, "GET", "/v1/webhooks", Value::Null).await.0, 200);
    // Their names are, too.
    let request = json!({ "id": "x", "url": "https://localhost:9/", "ca": Ca::new().pem });
    assert_eq!(stage::call(&admin, "POST", "/v1/webhooks", request).await.0, 201);
    let metrics = async |client: &ironcast_client::Client| {
        let get = "GET".parse().unwrap();
        let answer = client.request(get, "/v1/metrics", None).await.unwrap();
        String::from_utf8(answer.body.to_vec()).unwrap()
    };
    assert!(metrics(&admin).await.contains("webhook=\"x\""));
    assert!(!metrics(&stage.client).await.contains("webhook=\"x\""));
}
