//! Several principals on one host: what each may do, and that another's resources are not there for
//! him, whatever he asks and whoever has restarted.

use bytes::Buf as _;
use futures::StreamExt as _;
use ironcast_api::EventData;
use ironcast_client::Client;
use ironcast_protocol::{Command, Event as Reported};
use serde_json::{Value, json};

use crate::{
    http::{self, Way},
    stage::{self, Stage, call, produce},
    streams::next,
};

const TOKENS: &str = "alice control alice-secret\nbob control bob-secret\n\
                      watch read watch-secret\nops admin ops-secret\n";

async fn status(client: &Client, method: &str, path: &str, body: Value) -> (u16, String) {
    let (status, answer) = call(client, method, path, body).await;
    (status, answer["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn scopes_say_what_a_caller_may_do() {
    let stage = Stage::with_tokens(TOKENS, "alice-secret").await;
    let (watch, ops) = (stage.client_of("watch-secret"), stage.client_of("ops-secret"));
    stage.ok("POST", "/v1/routers", json!({ "id": "room" })).await;
    let forbidden = (403, "forbidden".to_owned());
    for path in ["/v1/routers", "/v1/snapshot", "/v1/workers", "/v1/openapi.json", "/v1/health"] {
        assert_eq!(status(&watch, "GET", path, Value::Null).await.0, 200, "{path}");
    }
    for (method, path) in [
        ("POST", "/v1/routers"),
        ("DELETE", "/v1/routers/room"),
        ("POST", "/v1/transports"),
        ("POST", "/v1/producers/x/pause"),
        ("PATCH", "/v1/consumers/x"),
        ("POST", "/v1/participants/x/leave?routerId=room"),
    ] {
        assert_eq!(status(&watch, method, path, json!({})).await, forbidden, "{method} {path}");
    }
    for client in [&watch, &stage.client] {
        assert_eq!(status(client, "POST", "/v1/admin/drain", json!({})).await, forbidden);
    }
    assert_eq!(status(&ops, "POST", "/v1/admin/drain", json!({})).await.0, 200);
    // How far it is may be asked by who reads.
    assert_eq!(status(&watch, "GET", "/v1/admin/drain", Value::Null).await.0, 200);
    assert_eq!(status(&ops, "POST", "/v1/admin/undrain", json!({})).await.0, 200);
    // Each call of a batch is looked at by itself.
    let batch = json!({ "calls": [
        { "method": "GET", "path": "/v1/routers" },
        { "method": "POST", "path": "/v1/routers", "body": {} },
    ] });
    let (_, answers) = call(&watch, "POST", "/v1/batch", batch).await;
    let statuses: Vec<_> = answers["answers"].as_array().unwrap().iter().collect();
    assert_eq!(
        (statuses[0]["status"].as_u64(), statuses[1]["status"].as_u64()),
        (Some(200), Some(403))
    );
    // The same over every version of HTTP.
    for way in [Way::Plain, Way::Http1, Way::Http2] {
        let address = match way {
            Way::Plain => stage.server().plain.unwrap(),
            _ => stage.server().address,
        };
        for (token, expected) in [("watch-secret", 403), ("alice-secret", 201), ("guess", 401)] {
            let mut request = http::request("POST", "/v1/routers", "{}");
            let value = format!("Bearer {token}").parse().unwrap();
            request.headers_mut().insert("authorization", value);
            let answer = http::send(way, address, &stage.trust(), request).await;
            assert_eq!(answer.status, expected, "{way:?} {token}");
        }
    }
    let text = call(&ops, "GET", "/v1/openapi.json", Value::Null).await.1;
    assert_eq!(text["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
    assert_eq!(text["components"]["securitySchemes"]["certificate"]["type"], "mutualTLS");
    let of = |path: &str, method: &str| text["paths"][path][method]["security"].clone();
    let both = |scope: &str| json!([{ "bearer": [scope] }, { "certificate": [scope] }]);
    assert_eq!(of("/v1/routers", "get"), both("read"));
    assert_eq!(of("/v1/routers", "post"), both("control"));
}

/// Every call that names something: with `{}` in place of the id.
const CALLS: &[(&str, &str, &str)] = &[
    ("GET", "/v1/routers/{}", "room"),
    ("DELETE", "/v1/routers/{}", "room"),
    ("POST", "/v1/routers/{}/can-consume", "room"),
    ("GET", "/v1/snapshot?routerId={}", "room"),
    ("GET", "/v1/transports?routerId={}", "room"),
    ("POST", "/v1/participants/alice/leave?routerId={}", "room"),
    ("GET", "/v1/transports/{}", "room-alice-send"),
    ("PATCH", "/v1/transports/{}", "room-alice-send"),
    ("DELETE", "/v1/transports/{}", "room-alice-send"),
    ("POST", "/v1/transports/{}/connect", "room-alice-recv"),
    ("POST", "/v1/transports/{}/restart-ice", "room-alice-send"),
    ("GET", "/v1/transports/{}/stats", "room-alice-send"),
    ("GET", "/v1/transports/{}/dump", "room-alice-send"),
    ("GET", "/v1/transports/{}/capture?seconds=1", "room-alice-send"),
    ("GET", "/v1/producers/{}", "room-mic"),
    ("DELETE", "/v1/producers/{}", "room-mic"),
    ("POST", "/v1/producers/{}/pause", "room-mic"),
    ("POST", "/v1/producers/{}/resume", "room-mic"),
    ("GET", "/v1/producers/{}/stats", "room-mic"),
    ("GET", "/v1/producers/{}/dump", "room-mic"),
    ("GET", "/v1/consumers/{}", "room-bob-mic"),
    ("PATCH", "/v1/consumers/{}", "room-bob-mic"),
    ("DELETE", "/v1/consumers/{}", "room-bob-mic"),
    ("POST", "/v1/consumers/{}/pause", "room-bob-mic"),
    ("POST", "/v1/consumers/{}/resume", "room-bob-mic"),
    ("POST", "/v1/consumers/{}/request-key-frame", "room-bob-mic"),
    ("GET", "/v1/consumers/{}/stats", "room-bob-mic"),
    ("GET", "/v1/consumers/{}/dump", "room-bob-mic"),
    ("GET", "/v1/transports/{}/sdp", "room-alice-send"),
    ("PUT", "/v1/transports/{}/trace", "room-alice-send"),
    ("PUT", "/v1/producers/{}/trace", "room-mic"),
    ("PUT", "/v1/consumers/{}/trace", "room-bob-mic"),
    ("GET", "/v1/observers?routerId={}", "room"),
    ("GET", "/v1/observers/{}", "room-ear"),
    ("DELETE", "/v1/observers/{}", "room-ear"),
    ("POST", "/v1/observers/{}/pause", "room-ear"),
    ("POST", "/v1/observers/{}/resume", "room-ear"),
    ("GET", "/v1/observers/{}/dump", "room-ear"),
    ("POST", "/v1/observers/{}/producers/room-mic", "room-ear"),
    ("DELETE", "/v1/observers/{}/producers/room-mic", "room-ear"),
];

fn body_of(method: &str, path: &str) -> Value {
    match (method, path) {
        ("GET" | "DELETE", _) => Value::Null,
        (_, path) if path.ends_with("/connect") => {
            json!({ "dtlsParameters": stage::dtls("client") })
        }
        (_, path) if path.ends_with("/can-consume") => {
            json!({ "producerId": "room-mic", "rtpCapabilities": {} })
        }
        ("PATCH", path) if path.contains("transports") => {
            json!({ "maxOutgoingBitrate": 1_000_000 })
        }
        ("PATCH", _) => json!({ "priority": 9 }),
        ("PUT", _) => json!({ "types": [] }),
        _ => Value::Null,
    }
}

/// What the dataplane was asked for by callers: for its figures it is asked each second.
fn orders(stage: &Stage) -> usize {
    let is_order = |one: &Command| !matches!(one, Command::Workers | Command::Process);
    stage.fake.commands().iter().filter(|one| is_order(one)).count()
}

/// Another's id is answered exactly as one that nobody has, and nothing happens.
async fn is_hidden(stage: &Stage, stranger: &Client) {
    let before = stage.state().await;
    let commands = orders(stage);
    let mut calls = Vec::new();
    for (method, path, id) in CALLS {
        let body = body_of(method, path);
        let ask = async |id: &str| {
            let (status, answer) =
                call(stranger, method, &path.replace("{}", id), body.clone()).await;
            (status, answer.to_string().replace(id, "{}"))
        };
        let (theirs, nobodys) = (ask(id).await, ask("nobody").await);
        assert_eq!(theirs, nobodys, "{method} {path}");
        let is_there =
            path.contains("leave") || path.contains("?routerId") && !path.contains("snap");
        let expected = match *method {
            "DELETE" => 204,
            _ if is_there => 200,
            _ => 404,
        };
        assert_eq!(theirs.0, expected, "{method} {path}");
        calls.push(json!({ "method": method, "path": path.replace("{}", id), "body": body }));
    }
    let (_, answers) = call(stranger, "POST", "/v1/batch", json!({ "calls": calls })).await;
    for answer in answers["answers"].as_array().unwrap() {
        let text = answer["body"].to_string();
        assert!(matches!(answer["status"].as_u64(), Some(200 | 204 | 404 | 422)), "{answer}");
        assert!(!text.contains("rtpParameters") && !text.contains("iceParameters"), "{answer}");
    }
    // Nothing can be hung below it, and ids are the host's.
    let transport = json!({ "id": "t", "routerId": "room", "type": "webrtc" });
    assert_eq!(status(stranger, "POST", "/v1/transports", transport).await.0, 404);
    let producer = produce("p", "room-bob-send", "opus");
    assert_eq!(status(stranger, "POST", "/v1/producers", producer).await.0, 404);
    let consumer = json!({ "transportId": "room-bob-recv", "producerId": "room-mic" });
    assert_eq!(status(stranger, "POST", "/v1/consumers", consumer).await.0, 404);
    let observer = json!({ "id": "o", "routerId": "room", "type": "audiolevel" });
    assert_eq!(status(stranger, "POST", "/v1/observers", observer).await.0, 404);
    let again = json!({ "id": "room", "appData": { "n": 1 } });
    let taken = (409, "already_exists".to_owned());
    assert_eq!(status(stranger, "POST", "/v1/routers", again).await, taken);
    for list in ["routers", "transports", "producers", "consumers", "observers", "snapshot"] {
        let (_, answer) = call(stranger, "GET", &format!("/v1/{list}"), Value::Null).await;
        let items = answer.get("items").or_else(|| answer.get("routers")).unwrap();
        assert_eq!(items, &json!([]), "{list}");
    }
    assert_eq!(orders(stage), commands, "the dataplane was asked for nothing");
    assert_eq!(stage.state().await, before);
}

#[tokio::test]
async fn anothers_resources_are_not_there() {
    let mut stage = Stage::with_tokens(TOKENS, "alice-secret").await;
    stage.call_of_two("room").await;
    let ear = json!({ "id": "room-ear", "routerId": "room", "type": "audiolevel" });
    stage.ok("POST", "/v1/observers", ear).await;
    stage.ok("POST", "/v1/observers/room-ear/producers/room-mic", Value::Null).await;
    let room = stage.ok("GET", "/v1/routers/room", Value::Null).await;
    assert_eq!(room["owner"], "token:alice");
    for _ in 0..2 {
        is_hidden(&stage, &stage.client_of("bob-secret")).await;
        let ops = stage.client_of("ops-secret");
        let (_, all) = call(&ops, "GET", "/v1/snapshot", Value::Null).await;
        assert_eq!(all["routers"][0]["owner"], "token:alice");
        assert_eq!(call(&ops, "GET", "/v1/consumers/room-bob-mic/stats", Value::Null).await.0, 200);
        assert_eq!(stage.ok("GET", "/v1/routers/room", Value::Null).await, room);
        // Whose it is stands in the dataplane.
        stage.replace_server().await;
    }
    // A repeat is still one for its owner, and what an admin deletes is gone.
    let repeat = json!({ "id": "room", "appData": { "n": 1 } });
    assert_eq!(stage.call("POST", "/v1/routers", repeat).await.0, 200);
    let ops = stage.client_of("ops-secret");
    assert_eq!(call(&ops, "DELETE", "/v1/routers/room", Value::Null).await.0, 204);
    assert_eq!(stage.call("GET", "/v1/routers/room", Value::Null).await.0, 404);
}

#[tokio::test]
async fn a_snapshot_that_is_being_read_goes_into_no_other_room() {
    let stage = Stage::with_tokens(TOKENS, "alice-secret").await;
    let bob = stage.client_of("bob-secret");
    let make = async |client: &Client, kind: &str, body: Value| {
        let (status, answer) = call(client, "POST", &format!("/v1/{kind}"), body).await;
        assert_eq!(status, 201, "{answer}");
    };
    // More than is written ahead of a reader who takes little.
    let text = "x".repeat(7_000);
    let transport = |room: &str, number: u32| {
        let id = format!("t-{number:02}");
        json!({ "id": id, "routerId": room, "type": "webrtc", "appData": { "text": text } })
    };
    let observer = |room: &str| json!({ "id": "ear", "routerId": room, "type": "activespeaker" });
    make(&stage.client, "routers", json!({ "id": "of-alice" })).await;
    for number in 0..60 {
        make(&stage.client, "transports", transport("of-alice", number)).await;
    }
    make(&stage.client, "observers", observer("of-alice")).await;
    let connection = http::quic(stage.server().address, &stage.trust(), 4_096).await;
    let mut requests = http::http3(connection).await;
    let (status, mut snapshot) =
        http::get_with(&mut requests, "/v1/snapshot", "alice-secret").await;
    assert_eq!(status, 200);
    // Meanwhile the room ends, and its ids are somebody else's.
    stage.ok("DELETE", "/v1/routers/of-alice", Value::Null).await;
    make(&bob, "routers", json!({ "id": "of-bob" })).await;
    make(&bob, "transports", transport("of-bob", 59)).await;
    make(&bob, "observers", observer("of-bob")).await;
    let mut body = Vec::new();
    while let Some(mut piece) = snapshot.recv_data().await.expect("the rest") {
        body.extend_from_slice(&piece.copy_to_bytes(piece.remaining()));
    }
    let seen: Value = serde_json::from_slice(&body).expect("it is whole");
    let transports = seen["routers"][0]["transports"].as_array().unwrap();
    assert!((1..60).contains(&transports.len()), "{}", transports.len());
    assert!(!String::from_utf8(body).unwrap().contains("of-bob"));
}

#[tokio::test]
async fn lists_are_paged_over_ones_own() {
    let stage = Stage::with_tokens(TOKENS, "alice-secret").await;
    let bob = stage.client_of("bob-secret");
    for number in 0..6 {
        let client = if number % 2 == 0 { &stage.client } else { &bob };
        let room = format!("room-{number}");
        assert_eq!(call(client, "POST", "/v1/routers", json!({ "id": room })).await.0, 201);
        for name in ["a", "b"] {
            let body =
                json!({ "id": format!("{name}-{number}"), "routerId": room, "type": "webrtc" });
            assert_eq!(call(client, "POST", "/v1/transports", body).await.0, 201);
        }
    }
    let ops = stage.client_of("ops-secret");
    for (client, list, ids) in [
        (&bob, "routers", vec!["room-1", "room-3", "room-5"]),
        (&bob, "transports", vec!["a-1", "a-3", "a-5", "b-1", "b-3", "b-5"]),
        (&bob, "transports?routerId=room-3", vec!["a-3", "b-3"]),
        (&bob, "transports?routerId=room-2", vec![]),
        (&ops, "routers", vec!["room-0", "room-1", "room-2", "room-3", "room-4", "room-5"]),
        (&ops, "transports?routerId=room-2", vec!["a-2", "b-2"]),
    ] {
        let mut found = Vec::new();
        let mut after = String::new();
        loop {
            let joint = if list.contains('?') { '&' } else { '?' };
            let path = format!("/v1/{list}{joint}limit=2&after={after}");
            let (_, page) = call(client, "GET", &path, Value::Null).await;
            let items = page["items"].as_array().unwrap();
            assert!(items.len() <= 2);
            found.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
            match page["nextAfter"].as_str() {
                Some(next) => after = next.to_owned(),
                None => break,
            }
        }
        assert_eq!(found, ids, "{list}");
    }
    // The snapshot, by the client page by page.
    let own = bob.snapshot(None).await.unwrap();
    let ids: Vec<_> = own.routers.iter().map(|one| one.router.id.as_str()).collect();
    assert_eq!(ids, ["room-1", "room-3", "room-5"]);
}

#[tokio::test]
async fn events_are_told_to_whom_they_concern() {
    let stage = Stage::with_tokens(TOKENS, "alice-secret").await;
    let (bob, ops) = (stage.client_of("bob-secret"), stage.client_of("ops-secret"));
    let start = stage.client.snapshot(None).await.unwrap().seq;
    let mut of_alice = stage.client.events(Some(start), None);
    let mut of_bob = bob.events(Some(start), None);
    let mut of_ops = ops.events(Some(start), None);
    stage.call_of_two("room").await;
    stage.ok("DELETE", "/v1/transports/room-alice-send", Value::Null).await;
    stage.ok("DELETE", "/v1/routers/room", Value::Null).await;
    for id in ["of-alice", "next-of-alice"] {
        stage.ok("POST", "/v1/routers", json!({ "id": id, "workerId": "0" })).await;
    }
    let body = json!({ "id": "of-bob", "workerId": "0" });
    assert_eq!(call(&bob, "POST", "/v1/routers", body).await.0, 201);
    // Nothing of all this came to bob before his own.
    let first = next(&mut of_bob).await;
    assert_eq!((first.name(), first.router_id.unwrap().as_str()), ("router.created", "of-bob"));
    for stream in [&mut of_alice, &mut of_ops] {
        let mut names = Vec::new();
        while names.last() != Some(&"router.closed") {
            names.push(next(stream).await.name());
        }
        let told = names.iter().filter(|name| **name == "transport.closed");
        assert_eq!((names[0], told.count()), ("router.created", 1));
    }
    // A worker takes the rooms of several: each is told of his own.
    let routers: Vec<String> = ["of-alice", "next-of-alice", "of-bob"].map(str::to_owned).into();
    stage.fake.emit(Reported::WorkerDied { worker: 0, routers, reason: "test".into() });
    for (stream, expected, closed) in [
        (&mut of_alice, vec!["of-alice", "next-of-alice"], 2),
        (&mut of_bob, vec!["of-bob"], 1),
        (&mut of_ops, vec!["of-alice", "next-of-alice", "of-bob"], 3),
    ] {
        let died = loop {
            if let EventData::WorkerDied(died) = next(stream).await.data {
                break died;
            }
        };
        let ids: Vec<_> = died.router_ids.iter().map(|id| id.as_str()).collect();
        assert_eq!(ids, expected);
        for _ in 0..closed {
            assert_eq!(next(stream).await.name(), "router.closed");
        }
    }
}

#[tokio::test]
async fn a_stream_ends_when_its_caller_may_not_call_any_more() {
    let stage = Stage::with_tokens(TOKENS, "alice-secret").await;
    let bob = stage.client_of("bob-secret");
    let start = stage.client.snapshot(None).await.unwrap().seq;
    let mut of_alice = stage.client.events(Some(start), None);
    let mut of_bob = bob.events(Some(start), None);
    let body = json!({ "id": "of-bob" });
    assert_eq!(call(&bob, "POST", "/v1/routers", body).await.0, 201);
    assert_eq!(next(&mut of_bob).await.name(), "router.created");
    let file = stage.config.proofs.token_file.clone().unwrap();
    std::fs::write(file, "alice control alice-secret\n").unwrap();
    let refused = tokio::time::timeout(stage::LIMIT, of_bob.next()).await.expect("it ends");
    let error = refused.expect("an error").expect_err("bob is nobody now");
    assert!(error.to_string().contains("unauthenticated"), "{error}");
    // The other one goes on.
    stage.ok("POST", "/v1/routers", json!({ "id": "of-alice" })).await;
    assert_eq!(next(&mut of_alice).await.router_id.unwrap().as_str(), "of-alice");
}
