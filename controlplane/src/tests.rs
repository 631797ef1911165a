//! A panic is one caller's problem, and a full queue is one of a moment. Here and not beside the other
//! tests of the server, because no call of a caller brings these about: they have to be put in.

#[path = "../tests/control/fake.rs"]
#[allow(dead_code, reason = "written for the other tests")]
mod fake;
#[path = "../tests/control/http.rs"]
#[allow(dead_code, reason = "written for the other tests")]
mod http;

use std::{path::PathBuf, time::Duration};

use http_body_util::BodyExt as _;
use ironcast_api::{ErrorCode, Id};
use ironcast_protocol::{Command, command::Dump};

use self::{
    fake::Fake,
    http::{Answer, Way},
};
use crate::{
    Server, ServerConfig,
    call::Call,
    engine::{Engine, Step},
    spread,
};

/// Called by the doors for each call of a test: the worst place is under the lock.
pub(crate) fn panic_if_wanted(engine: &Engine, call: &Call) {
    if call.path == "/panic" {
        let _state = engine.lock();
        panic!("the test wants it");
    }
}

/// A server with a dataplane, in a folder of its own.
async fn start(name: &str) -> (Server, Fake, PathBuf) {
    let folder = std::env::temp_dir().join(format!("ironcast-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut config = ServerConfig::in_folder(&folder);
    let any = "127.0.0.1:0".parse().unwrap();
    config.listen = any;
    config.plain = Some(ironcast_config::Door::Tcp(any));
    config.ops = None;
    let fake = Fake::start(&config.dataplane_socket);
    let server = Server::start(config).await.unwrap();
    attached(&server).await;
    (server, fake, folder)
}

async fn send(server: &Server, method: &str, path: &str, body: &'static str) -> Answer {
    let plain = server.plain.expect("a plain door");
    http::send(Way::Plain, plain, &[], http::request(method, path, body)).await
}

async fn attached(server: &Server) {
    let attached = async {
        while server.engine.lock().link.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), attached).await.expect("attached");
}

fn is_internal(answer: &Answer) {
    assert_eq!((answer.status, answer.header("content-type")), (500, "application/problem+json"));
    let problem = answer.json();
    assert_eq!(problem["type"], "urn:ironcast:problem:internal");
    assert_eq!(problem["status"], 500);
}

#[tokio::test]
async fn a_panic_is_answered_and_everything_else_goes_on() {
    let (server, fake, folder) = start("panics").await;
    let request = http::request("GET", "/v1/events", "");
    let stream = http::open(Way::Plain, server.plain.unwrap(), &[], request).await.unwrap();

    // In a handler.
    is_internal(&send(&server, "GET", "/v1/panic", "").await);
    // While an answer of the dataplane is applied.
    let dump = || Command::Dump(Dump { id: "nobody".into(), kind: None });
    let asked = server.engine.run(|_| Ok(Step::<()>::ask(dump(), |_, _| panic!("it is wanted"))));
    assert_eq!(asked.await.unwrap_err().status, 500);
    assert_eq!(send(&server, "POST", "/v1/routers", "{\"id\":\"room\"}").await.status, 201);
    let first = "event: router.created";
    let mut body = stream.into_body();
    let mut text = String::new();
    while !text.contains(first) {
        let frame = tokio::time::timeout(Duration::from_secs(20), body.frame()).await.unwrap();
        text.push_str(std::str::from_utf8(frame.unwrap().unwrap().data_ref().unwrap()).unwrap());
    }
    let metrics = send(&server, "GET", "/v1/metrics", "").await;
    let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
    assert!(metrics.contains("ironcast_control_panics_total 2\n"), "{metrics}");
    server.stop().await;
    drop(fake);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn too_many_commands_at_once_are_a_passing_problem() {
    let (server, fake, folder) = start("full").await;
    let consumer = r#"{"id": "c", "transportId": "to", "producerId": "mic", "mid": "7",
        "rtpCapabilities": {"codecs": [{"kind": "audio", "mimeType": "audio/opus",
        "preferredPayloadType": 100, "clockRate": 48000, "channels": 2}], "headerExtensions": []}}"#;
    for (path, body) in [
        ("/v1/routers", r#"{"id": "room"}"#),
        ("/v1/transports", r#"{"id": "from", "routerId": "room", "type": "webrtc"}"#),
        ("/v1/transports", r#"{"id": "to", "routerId": "room", "type": "webrtc"}"#),
        (
            "/v1/producers",
            r#"{"id": "mic", "transportId": "from", "kind": "audio", "rtpParameters": {"mid": "0",
            "codecs": [{"mimeType": "audio/opus", "payloadType": 111, "clockRate": 48000,
            "channels": 2}], "encodings": [{"ssrc": 1111}]}}"#,
        ),
    ] {
        let made = send(&server, "POST", path, body).await;
        assert_eq!(made.status, 201, "{:?}", made.json());
    }
    let link = server.engine.lock().link.clone().unwrap();
    let free = link.fill();
    for (method, path, body) in [
        ("POST", "/v1/consumers", consumer),
        ("POST", "/v1/routers", r#"{"id": "other"}"#),
        ("POST", "/v1/producers/mic/pause", ""),
        ("DELETE", "/v1/transports/to", ""),
    ] {
        let refused = send(&server, method, path, body).await;
        let found = (refused.status, refused.json()["code"].clone());
        assert_eq!(found, (429, "rate_limited".into()), "{method} {path}");
        assert_eq!(refused.header("retry-after"), "1");
    }
    // The workers' figures are asked for each second: also that goes on afterwards.
    let waited = async {
        while link.refused() < 5 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waited).await.expect("a question is refused");
    let metrics = send(&server, "GET", "/v1/metrics", "").await;
    let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
    assert!(metrics.contains("ironcast_control_commands_refused_total "), "{metrics}");
    // What was to be closed on other workers is not forgotten, and nothing is made meanwhile that would
    // be closed for it.
    let room = Id::new("room").unwrap();
    let closed = fake.count("CloseTransport");
    server.engine.lock().registry.close_hop(&room, 0, 1);
    let refused = spread::branch(&server.engine, &room, 1).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::RateLimited);
    // Each look at the state tries it again, and refuses nobody anything.
    let calls_refused = link.refused();
    (0..10).for_each(|_| drop(server.engine.lock()));
    assert_eq!(link.refused(), calls_refused);
    free();
    assert!(server.engine.lock().finish_errands());
    let waited = async {
        while fake.count("CloseTransport") < closed + 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waited).await.expect("both ends are closed");
    // Nothing was taken for what was not done, its mid neither.
    for (path, body) in [("/v1/consumers", consumer), ("/v1/routers", r#"{"id": "other"}"#)] {
        let made = send(&server, "POST", path, body).await;
        assert_eq!(made.status, 201, "{:?}", made.json());
    }
    let asked = fake.count("Workers");
    let waited = async {
        while fake.count("Workers") == asked {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waited).await.expect("figures again");
    server.stop().await;
    drop(fake);
    std::fs::remove_dir_all(&folder).unwrap();
}
