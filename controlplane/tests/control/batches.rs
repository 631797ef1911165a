//! `POST /batch`.

use std::{ops::Range, time::Duration};

use serde_json::{Value, json};

use crate::stage::{Stage, chromium, eventually, produce};

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
        call("GET", "/v1/snapshot", Value::Null),
        call("DELETE", "/v1/routers/c", Value::Null),
    ]);
    let answer =
        stage.ok("POST", "/v1/batch", json!({ "calls": calls, "stopOnError": true })).await;
    assert_eq!(statuses(&answer), [201, 400]);
    assert_eq!(answer["answers"][1]["body"]["pointer"], "/colour");
    let answer = stage.ok("POST", "/v1/batch", json!({ "calls": calls })).await;
    assert_eq!(statuses(&answer), [200, 400, 201, 404, 405, 422, 422, 422, 204]);
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

#[tokio::test]
async fn limits_hold_however_much_is_asked_for_at_once() {
    let stage = Stage::with(|config| {
        config.limits.transports_per_router_max = 5;
        config.limits.producers_per_transport_max = 3;
        config.limits.consumers_per_transport_max = 7;
        config.limits.consumers_per_worker_max = 8;
    })
    .await;
    stage.ok("POST", "/v1/routers", json!({ "id": "room" })).await;
    let made = async |calls: Vec<Value>| {
        let answer = stage.ok("POST", "/v1/batch", json!({ "calls": calls })).await;
        let statuses = statuses(&answer);
        assert!(statuses.iter().all(|status| [201, 503].contains(status)), "{answer}");
        statuses.iter().filter(|status| **status == 201).count()
    };
    let transports = (0..20).map(|number| {
        let id = format!("t{number}");
        call("POST", "/transports", json!({ "id": id, "routerId": "room", "type": "webrtc" }))
    });
    assert_eq!(made(transports.collect()).await, 5);
    let producers = (0..20).map(|number| {
        let mut body = produce(&format!("p{number}"), "t0", "opus");
        body["rtpParameters"]["mid"] = json!(format!("m{number}"));
        body["rtpParameters"]["encodings"][0]["ssrc"] = json!(1_000 + number);
        call("POST", "/producers", body)
    });
    assert_eq!(made(producers.collect()).await, 3);
    let consumers = |transport: &'static str| {
        let caps = chromium("rtpCapabilities");
        (0..20).map(move |number| {
            let id = format!("{transport}-{number}");
            let body = json!({ "id": id, "transportId": transport, "producerId": "p0",
                "rtpCapabilities": caps });
            call("POST", "/consumers", body)
        })
    };
    assert_eq!(made(consumers("t1").collect()).await, 7);
    // One more on this worker, wherever it is.
    assert_eq!(made(consumers("t2").chain(consumers("t3")).collect()).await, 1);
    // What was refused holds no place.
    stage.ok("DELETE", "/v1/transports/t1", Value::Null).await;
    assert_eq!(made(consumers("t3").collect()).await, 7);
}

#[tokio::test]
async fn a_worker_has_no_more_rooms_than_it_may_whatever_its_figures_say() {
    let stage = Stage::with(|config| {
        config.limits.routers_per_worker_max = 2;
        config.dataplane_timeout = Duration::from_secs(2);
    })
    .await;
    let made = async |numbers: Range<u32>| {
        let calls = numbers
            .map(|number| call("POST", "/v1/routers", json!({ "id": format!("r{number}") })));
        let calls: Vec<_> = calls.collect();
        let answer = stage.ok("POST", "/v1/batch", json!({ "calls": calls })).await;
        statuses(&answer).into_iter().filter(|status| *status == 201).count()
    };
    // The fake's figures say that there are none.
    let figures = async || {
        let asked = stage.fake.count("Workers");
        eventually("figures came", || async { stage.fake.count("Workers") > asked + 1 }).await;
    };
    assert_eq!(made(0..20).await, 4);
    figures().await;
    assert_eq!(made(20..40).await, 0);
    let one = &stage.ok("GET", "/v1/routers", Value::Null).await["items"][0];
    let worker = one["workerId"].clone();
    let path = format!("/v1/routers/{}", one["id"].as_str().unwrap());
    stage.ok("DELETE", &path, Value::Null).await;
    // One that was not answered counts as long as nobody knows what became of it.
    stage.fake.turn(|knobs| knobs.mute.insert("CreateRouter"));
    let body = json!({ "id": "unanswered", "workerId": worker });
    assert_eq!(stage.refused("POST", "/v1/routers", body).await.1, "timeout");
    figures().await;
    assert_eq!(made(40..60).await, 0);
    // It was made: the snapshot says so.
    stage.fake.turn(|knobs| knobs.mute.clear());
    stage.fake.drop_connection();
    eventually("it is known", || async {
        stage.call("GET", "/v1/routers/unanswered", Value::Null).await.0 == 200
    })
    .await;
    figures().await;
    assert_eq!(made(60..80).await, 0);
}

#[tokio::test]
async fn a_mid_is_given_once() {
    let stage = Stage::new().await;
    stage.call_of_two("room").await;
    let consumer = |id: &str, mid: &str| json!({ "id": id, "transportId": "room-bob-recv", "producerId": "room-mic", "mid": mid });
    let calls: Vec<_> = (0..5)
        .map(|number| call("POST", "/consumers", consumer(&format!("c{number}"), "7")))
        .collect();
    let answer = stage.ok("POST", "/v1/batch", json!({ "calls": calls })).await;
    assert_eq!(statuses(&answer), [201, 409, 409, 409, 409]);
    stage.ok("DELETE", "/v1/consumers/c0", Value::Null).await;
    for number in 0..10 {
        let mut body = consumer(&format!("auto-{number}"), "");
        body.as_object_mut().unwrap().remove("mid");
        let made = stage.ok("POST", "/v1/consumers", body).await;
        assert_ne!(made["rtpParameters"]["mid"], "7");
    }
}

#[tokio::test]
async fn a_batch_counts_as_the_calls_in_it() {
    let stage = Stage::with(|config| config.limits.requests_per_s = 100).await;
    let calls: Vec<_> = (0..40).map(|_| call("GET", "/v1/health", Value::Null)).collect();
    let body = json!({ "calls": calls });
    let mut answers = vec![stage.call("POST", "/v1/batch", body.clone()).await.0];
    while answers.len() < 500 && answers.last() != Some(&429) {
        answers.push(stage.call("POST", "/v1/batch", body.clone()).await.0);
    }
    assert_eq!((answers[0], answers.last()), (200, Some(&429)), "{answers:?}");
    // The client waits as long as it is told.
    let batch = serde_json::from_value(body).unwrap();
    let done = stage.client.batch(&batch).await.unwrap();
    assert_eq!(done.answers.len(), 40);
}
