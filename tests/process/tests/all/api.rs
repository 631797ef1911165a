//! The control API against the real pair: right and wrong input over its plain door.

use ironcast_load::{
    Control, VideoOptions,
    call::{ConsumeOptions, dtls_parameters},
    handshake::{DtlsRole, Fingerprint},
};
use ironcast_process_tests::Pair;
use serde_json::{Value, json};

use crate::common::{good_network, sees};

fn fingerprint() -> Fingerprint {
    Fingerprint { algorithm: "sha-256".to_owned(), value: vec!["AB"; 32].join(":") }
}

async fn transport(pair: &Pair, room: &str) -> String {
    let body = json!({ "routerId": room, "type": "webrtc" });
    let answer = pair.call("POST", "/v1/transports", body).await;
    answer["id"].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn repeats_are_safe_and_other_bodies_are_not() {
    let pair = Pair::start().await;
    let body = json!({ "id": "room", "appData": { "a": 1 } });
    let (status, first) =
        pair.control.request("POST", "/v1/routers", Some(body.clone())).await.expect("reached");
    assert_eq!(status, 201);
    let (status, again) =
        pair.control.request("POST", "/v1/routers", Some(body)).await.expect("reached");
    assert_eq!((status, &again), (200, &first));
    let other = json!({ "id": "room", "appData": { "a": 2 } });
    let refused = pair.refused("POST", "/v1/routers", other).await;
    assert_eq!(refused, (409, "already_exists".to_owned()));

    let id = transport(&pair, "room").await;
    let connect = format!("/v1/transports/{id}/connect");
    let body = json!({ "dtlsParameters": dtls_parameters(DtlsRole::Client, &fingerprint()) });
    let answer = pair.call("POST", &connect, body.clone()).await;
    assert_eq!(answer["dtlsLocalRole"], "server");
    assert_eq!(pair.call("POST", &connect, body).await, answer);
    let other = json!({ "dtlsParameters": dtls_parameters(DtlsRole::Server, &fingerprint()) });
    assert_eq!(pair.refused("POST", &connect, other).await, (409, "wrong_state".to_owned()));

    for _ in 0..2 {
        let gone = pair.control.request("DELETE", "/v1/routers/room", None).await;
        assert_eq!(gone.expect("reached").0, 204);
    }
    let refused = pair.refused("POST", "/v1/routers", json!({ "id": "room" })).await;
    assert_eq!(refused, (409, "wrong_state".to_owned()), "an id of just now");
}

#[tokio::test]
async fn wrong_input_is_a_problem_with_its_place() {
    let pair = Pair::start().await;
    pair.create_room("room").await;
    let json_type = [("content-type", "application/json")];
    let cases: [(&str, &str, u16, &str); 12] = [
        ("/v1/routers", "{ not json", 400, "invalid_request"),
        ("/v1/routers", "[]", 400, "invalid_request"),
        ("/v1/routers", r#"{"id":"with space"}"#, 400, "invalid_request"),
        ("/v1/routers", r#"{"colour":"green"}"#, 400, "invalid_request"),
        ("/v1/routers", r#"{"workerId":"no-such"}"#, 404, "not_found"),
        ("/v1/transports", r#"{"routerId":"room"}"#, 400, "invalid_request"),
        ("/v1/transports", r#"{"routerId":"nobody","type":"webrtc"}"#, 404, "not_found"),
        (
            "/v1/transports",
            r#"{"routerId":"room","type":"webrtc","enableSctp":true}"#,
            422,
            "unsupported",
        ),
        ("/v1/transports/nobody/connect", r#"{"dtlsParameters":{"fingerprints":[]}}"#, 0, ""),
        ("/v1/producers", r#"{"transportId":"nobody","kind":"video","rtpParameters":{}}"#, 0, ""),
        ("/v1/pipes", r#"{"producerId":"x","routerId":"y"}"#, 404, "not_found"),
        ("/v1/consumers/nobody/pause", "", 404, "not_found"),
    ];
    for (path, body, status, code) in cases {
        let answer = pair.control.send("POST", path, &json_type, body.as_bytes()).await;
        let answer = answer.expect("reached");
        let problem = answer.json();
        assert!((400..500).contains(&answer.status), "{path} {body}: {} {problem}", answer.status);
        let media_type = answer.header("content-type").unwrap_or_default();
        assert!(media_type.starts_with("application/problem+json"), "{path}: {media_type}");
        assert_eq!(problem["status"], answer.status);
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
        if status != 0 {
            assert_eq!(
                (answer.status, problem["code"].as_str()),
                (status, Some(code)),
                "{path} {body}"
            );
        }
    }
    let answer = pair.control.send("GET", "/v1/no-such-thing", &[], &[]).await.expect("reached");
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn oversized_bodies_are_refused() {
    let pair = Pair::builder().set("limits.body_bytes_max", 20_000).start().await;
    let big = json!({ "id": "room", "appData": { "x": "y".repeat(40_000) } }).to_string();
    let json_type = [("content-type", "application/json")];
    let answer = pair.control.send("POST", "/v1/routers", &json_type, big.as_bytes()).await;
    assert_eq!(answer.expect("reached").status, 413);
    let big = json!({ "id": "room", "appData": { "x": "y".repeat(9_000) } });
    let (status, _) = pair.refused("POST", "/v1/routers", big).await;
    assert!(status == 400 || status == 413, "appData has a limit of 8 KiB: {status}");
    pair.create_room("room").await;
}

#[tokio::test]
async fn the_wrong_order_is_refused() {
    let pair = Pair::start().await;
    pair.create_room("room").await;
    pair.create_room("other").await;
    let alice = pair.join_with("room", "alice", &good_network()).await;
    let video = alice.publish_video(VideoOptions::default()).await.expect("a camera");
    let capabilities = alice.device.rtp_capabilities();

    // A producer of another room.
    let elsewhere = transport(&pair, "other").await;
    let body = json!({
        "transportId": elsewhere, "producerId": video.id, "rtpCapabilities": capabilities,
    });
    let (status, code) = pair.refused("POST", "/v1/consumers", body).await;
    assert!((400..500).contains(&status), "{status} {code}");

    // A receiver without the codec.
    let none = json!({ "codecs": [], "headerExtensions": [] });
    let body = json!({
        "transportId": alice.receive.id, "producerId": video.id, "rtpCapabilities": none,
    });
    let refused = pair.refused("POST", "/v1/consumers", body).await;
    assert_eq!(refused, (422, "unsupported".to_owned()));
    let can = "/v1/routers/room/can-consume";
    let body = json!({ "producerId": video.id, "rtpCapabilities": none });
    assert_eq!(pair.call("POST", can, body).await, json!({ "canConsume": false }));
    let body = json!({ "producerId": video.id, "rtpCapabilities": capabilities });
    assert_eq!(pair.call("POST", can, body).await, json!({ "canConsume": true }));

    // A codec that the router does not have, and a payload type twice.
    let body = json!({
        "transportId": alice.send.id,
        "kind": "audio",
        "rtpParameters": {
            "codecs": [{ "mimeType": "audio/none", "payloadType": 120, "clockRate": 8000 }],
            "encodings": [{ "ssrc": 77 }],
        },
    });
    let (status, _) = pair.refused("POST", "/v1/producers", body).await;
    assert!(status == 422 || status == 400, "{status}");

    // Everything of before still works.
    let bob = pair.join_with("room", "bob", &good_network()).await;
    let seen = bob.consume(&video.id, &ConsumeOptions::default()).await.expect("seen");
    sees(&bob, &seen, "frames", |stats| stats.decodable_frames >= 5).await;
}

#[tokio::test]
async fn a_batch_runs_in_order_and_stops_on_request() {
    let pair = Pair::start().await;
    let call = |method: &str, path: &str, body: Value| json!({ "method": method, "path": path, "body": body });
    let calls = json!([
        call("POST", "/v1/routers", json!({ "id": "room" })),
        call("POST", "/v1/transports", json!({ "id": "t", "routerId": "room", "type": "webrtc" })),
        call("POST", "/v1/transports", json!({ "id": "u", "routerId": "no", "type": "webrtc" })),
        call("POST", "/v1/transports", json!({ "id": "v", "routerId": "room", "type": "webrtc" })),
    ]);
    let body = json!({ "calls": calls, "stopOnError": true });
    let answer = pair.call("POST", "/v1/batch", body).await;
    let list = pair.call("GET", "/v1/transports", Value::Null).await;
    let items = list["items"].as_array().or(list.as_array()).expect("a list");
    let ids: Vec<&str> = items.iter().filter_map(|one| one["id"].as_str()).collect();
    assert_eq!(ids, ["t"], "{answer}");
    let many: Vec<Value> = (0..301).map(|_| call("GET", "/v1/health", Value::Null)).collect();
    let (status, _) = pair.refused("POST", "/v1/batch", json!({ "calls": many })).await;
    assert!((400..500).contains(&status), "{status}");
}

#[tokio::test]
async fn events_resume_where_they_broke() {
    let pair = Pair::start().await;
    let mut events = pair.control.events(None).await.expect("events");
    let limit = ironcast_process_tests::LIMIT;
    let mut next = async |wanted: &str| {
        tokio::time::timeout(limit, async {
            loop {
                let event = events.next().await.expect("the stream goes on");
                if event.event == wanted {
                    return event;
                }
            }
        })
        .await
        .unwrap_or_else(|_| panic!("no {wanted}"))
    };
    pair.create_room("one").await;
    let first = next("router.created").await;
    assert_eq!(first.data["routerId"], "one");
    pair.create_room("two").await;
    let second = next("router.created").await;
    drop(events);
    pair.create_room("three").await;

    let mut resumed = pair.control.events(Some(&first.id)).await.expect("resumes");
    let mut rooms = Vec::new();
    while rooms.len() < 2 {
        let event = tokio::time::timeout(limit, resumed.next()).await.expect("in time");
        let event = event.expect("the stream goes on");
        if event.event == "router.created" {
            rooms.push(event.data["routerId"].clone());
            if rooms.len() == 1 {
                assert_eq!(event.id, second.id);
            }
        }
    }
    assert_eq!(rooms, ["two", "three"]);
    let answer = pair.control.send("GET", "/v1/events?after=other-1", &[], &[]).await;
    let answer = answer.expect("reached");
    assert_eq!((answer.status, answer.json()["code"].as_str()), (410, Some("events_lost")));
    let answer = pair.control.send("GET", "/v1/routers", &[], &[]).await.expect("reached");
    let seq = answer.header("ironcast-seq").expect("every answer carries it");
    assert!(seq.contains('-'), "{seq}");
}

#[tokio::test]
async fn health_readiness_and_the_description() {
    let pair = Pair::start().await;
    let health = pair.call("GET", "/v1/health", Value::Null).await;
    assert_eq!(
        (&health["status"], &health["dataplane"]["status"]),
        (&"ok".into(), &"connected".into())
    );
    let description = pair.call("GET", "/openapi.json", Value::Null).await;
    let paths = description["paths"].as_object().expect("paths");
    for path in ["/routers", "/transports", "/producers", "/consumers", "/batch"] {
        assert!(paths.keys().any(|one| one.ends_with(path)), "{path} is not described");
    }
    let metrics = pair.metrics().await;
    assert!(metrics.lines().count() > 10, "{metrics}");
    // What the core, the driver and the process count shows by itself, once it was asked for.
    let names = ["discarded_rtp_unknown_stream", "datagrams_in", "hub_panics", "log_lines_dropped"];
    let missing = |text: &str| names.iter().any(|name| !text.contains(&format!("\"{name}\"}}")));
    let mut text = metrics;
    for _ in 0..100 {
        if !missing(&text) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        text = pair.metrics().await;
    }
    assert!(!missing(&text), "{text}");
}
