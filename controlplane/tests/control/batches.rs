//! `POST /batch`.

use serde_json::{Value, json};

use crate::stage::{Stage, chromium, produce};

fn call(method: &str, path: &str, body: Value) -> Value {
    json!({ "method": method, "path": path, "body": body })
}

fn statuses(answer: &Value) -> Vec<u64> {
    let answers = answer["answers"].as_array().expect("answers");
    answers.iter().map(|one| one["status"].as_u64().expect("a status")).collect()
}

#[tokio::test]
async fn the_join_of_a_room_is_one_round_trip() {
    let stage = Stage::new().await;
    let caps = chromium("rtpCapabilities");
    let mut calls = vec![call("POST", "/v1/routers", json!({ "id": "room" }))];
    for person in 0..20 {
        let body = json!({
            "id": format!("t{person}"), "routerId": "room", "type": "webrtc",
            "rtpCapabilities": caps,
        });
        calls.push(call("POST", "/transports", body));
    }
    for person in 0..20 {
        let body = produce(&format!("p{person}"), &format!("t{person}"), "opus");
        calls.push(call("POST", "/v1/producers", body));
    }
    for person in 1..20 {
        for other in [0, person - 1] {
            let id = format!("c{person}-{other}-{}", calls.len());
            let body = json!({ "id": id, "transportId": format!("t{person}"), "producerId": format!("p{other}") });
            calls.push(call("POST", "/v1/consumers", body));
        }
    }
    calls.push(call("GET", "/v1/routers/room", Value::Null));
    let count = calls.len();
    let answer = stage.ok("POST", "/v1/batch", json!({ "calls": calls })).await;
    let statuses = statuses(&answer);
    assert_eq!(statuses.len(), count);
    assert!(statuses[..count - 1].iter().all(|status| *status == 201), "{answer}");
    let last = &answer["answers"][count - 1]["body"];
    assert_eq!(last["consumers"].as_array().unwrap().len(), 38);
    // MIDs of one transport are all different.
    let list = stage.ok("GET", "/v1/consumers?limit=1000", Value::Null).await;
    let mids: std::collections::BTreeSet<_> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| format!("{} {}", one["transportId"], one["rtpParameters"]["mid"]))
        .collect();
    assert_eq!(mids.len(), 38);
}

#[tokio::test]
async fn a_failed_call_stops_the_batch_only_on_request() {
    let stage = Stage::new().await;
    let calls = json!([
        call("POST", "/v1/routers", json!({ "id": "a" })),
        call("POST", "/v1/routers", json!({ "id": "b", "colour": 1 })),
        call("POST", "/v1/routers", json!({ "id": "c" })),
        call("GET", "/v1/nothing", Value::Null),
        call("PUT", "/v1/routers", Value::Null),
        call("GET", "/v1/events", Value::Null),
        call("POST", "/v1/batch", json!({ "calls": [] })),
        call("DELETE", "/v1/routers/c", Value::Null),
    ]);
    let answer =
        stage.ok("POST", "/v1/batch", json!({ "calls": calls, "stopOnError": true })).await;
    assert_eq!(statuses(&answer), [201, 400]);
    assert_eq!(answer["answers"][1]["body"]["pointer"], "/colour");
    let answer = stage.ok("POST", "/v1/batch", json!({ "calls": calls })).await;
    assert_eq!(statuses(&answer), [200, 400, 201, 404, 405, 422, 422, 204]);
}

#[tokio::test]
async fn a_batch_has_a_limit_and_a_form() {
    let stage = Stage::new().await;
    let many: Vec<_> = (0..301).map(|_| call("GET", "/v1/health", Value::Null)).collect();
    let refused = stage.refused("POST", "/v1/batch", json!({ "calls": many })).await;
    assert_eq!(refused, (400, "invalid_request".into(), "/calls".into()));
    for (body, pointer) in [
        (json!({}), ""),
        (json!({ "calls": [{ "method": "GET" }] }), "/calls/0"),
        (json!({ "calls": [], "colour": 1 }), "/colour"),
        (json!({ "calls": [{ "method": "GET", "path": "/", "x": 1 }] }), "/calls/0/x"),
    ] {
        let refused = stage.refused("POST", "/v1/batch", body).await;
        assert_eq!((refused.0, refused.2.as_str()), (400, pointer));
    }
}
