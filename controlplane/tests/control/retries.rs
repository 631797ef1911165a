//! Calls that come again: answered like the first time, and never carried out twice.

use ironcast_api::{CreateRouter, CreateTransport};
use serde_json::{Value, json};

use crate::stage::{Stage, chromium, dtls, eventually, id, produce};

#[tokio::test]
async fn the_same_create_is_the_same_answer_and_another_is_refused() {
    let stage = Stage::new().await;
    stage.call_of_two("room").await;
    let caps = chromium("rtpCapabilities");
    let cases = [
        ("/v1/routers", json!({ "id": "x", "appData": { "a": 1, "b": 2 } }), "CreateRouter"),
        (
            "/v1/transports",
            json!({ "id": "x", "routerId": "room", "type": "webrtc" }),
            "CreateWebRtcTransport",
        ),
        ("/v1/producers", produce("x", "room-bob-send", "opus"), "Produce"),
        (
            "/v1/consumers",
            json!({ "id": "x", "transportId": "room-alice-recv", "producerId": "room-cam", "rtpCapabilities": caps }),
            "Consume",
        ),
    ];
    for (path, body, command) in cases {
        let before = stage.fake.count(command);
        let (status, first) = stage.call("POST", path, body.clone()).await;
        assert_eq!(status, 201, "{first}");
        let (status, again) = stage.call("POST", path, body.clone()).await;
        assert_eq!((status, &again), (200, &first), "{path}");
        let mut other = body.clone();
        other["appData"] = json!({ "a": 2 });
        let refused = stage.refused("POST", path, other).await;
        assert_eq!(refused, (409, "already_exists".into(), "/id".into()), "{path}");
        assert_eq!(stage.fake.count(command), before + 1, "{path}");
        for _ in 0..2 {
            assert_eq!(stage.call("DELETE", &format!("{path}/x"), Value::Null).await.0, 204);
        }
        let refused = stage.refused("POST", path, body).await;
        assert_eq!((refused.0, refused.1.as_str()), (409, "wrong_state"), "{path}");
    }
    // The order of an object's fields does not count.
    let one = stage.client.request(
        "POST".parse().unwrap(),
        "/v1/routers",
        Some(r#"{"id":"y","appData":{"a":1,"b":2}}"#.into()),
    );
    assert_eq!(one.await.unwrap().status, 201);
    let same = stage.client.request(
        "POST".parse().unwrap(),
        "/v1/routers",
        Some(r#" {"appData": {"b":2,"a":1}, "id":"y"}"#.into()),
    );
    assert_eq!(same.await.unwrap().status, 200);
}

#[tokio::test]
async fn connect_is_safe_to_repeat() {
    let stage = Stage::new().await;
    stage.call_of_two("room").await;
    let path = "/v1/transports/room-bob-recv/connect";
    let body = json!({ "dtlsParameters": dtls("server") });
    for _ in 0..3 {
        assert_eq!(
            stage.ok("POST", path, body.clone()).await,
            json!({ "dtlsLocalRole": "client" })
        );
    }
    let other = json!({ "dtlsParameters": dtls("client") });
    assert_eq!(stage.refused("POST", path, other).await.1, "wrong_state");
    let connects = stage.fake.commands();
    let connects = connects.iter().filter(|command| {
        matches!(command, ironcast_protocol::Command::ConnectTransport(c) if c.id == "room-bob-recv")
    });
    assert_eq!(connects.count(), 1);
}

#[tokio::test]
async fn two_callers_at_once_make_one_thing() {
    let stage = Stage::new().await;
    let create = CreateRouter { id: Some(id("room")), ..CreateRouter::default() };
    let calls = (0..40).map(|_| stage.client.create_router(&create));
    for made in futures::future::join_all(calls).await {
        assert_eq!(made.unwrap().id, "room");
    }
    assert_eq!(stage.fake.count("CreateRouter"), 1);
    let transport = CreateTransport { id: Some(id("t")), ..CreateTransport::webrtc(id("room")) };
    let calls = (0..40).map(|number| {
        let mut create = transport.clone();
        create.participant_id = Some(id(if number % 2 == 0 { "alice" } else { "bob" }));
        let client = stage.client.clone();
        async move { client.create_transport(&create).await.is_ok() }
    });
    let made = futures::future::join_all(calls).await;
    assert_eq!(made.iter().filter(|is_made| **is_made).count(), 20, "those of the first one");
    assert_eq!(stage.fake.count("CreateWebRtcTransport"), 1);
}

#[tokio::test]
async fn creating_and_deleting_at_once_ends_as_the_dataplane_says() {
    let stage = Stage::new().await;
    for round in 0..5 {
        let room = format!("room{round}");
        stage.ok("POST", "/v1/routers", json!({ "id": room })).await;
        let creates = (0..20).map(|number| {
            let body =
                json!({ "id": format!("{room}-{number}"), "routerId": room, "type": "webrtc" });
            stage.call("POST", "/v1/transports", body)
        });
        let path = format!("/v1/routers/{room}");
        let delete = stage.call("DELETE", &path, Value::Null);
        let (answers, deleted) =
            futures::future::join(futures::future::join_all(creates), delete).await;
        assert_eq!(deleted.0, 204);
        assert!(answers.iter().all(|(status, _)| [201, 404].contains(status)), "{answers:?}");
        assert_eq!(stage.state().await["routers"], json!([]));
        assert!(stage.fake.resources().is_empty());
    }
}

#[tokio::test]
async fn a_late_answer_is_a_timeout_and_the_truth_wins_later() {
    let stage = Stage::with(|config| {
        config.dataplane_timeout = std::time::Duration::from_millis(150);
    })
    .await;
    stage.ok("POST", "/v1/routers", json!({ "id": "room" })).await;
    stage.fake.turn(|knobs| knobs.mute.insert("CreateWebRtcTransport"));
    let body = json!({ "id": "t", "routerId": "room", "type": "webrtc" });
    let refused = stage.refused("POST", "/v1/transports", body.clone()).await;
    assert_eq!((refused.0, refused.1.as_str()), (504, "timeout"));
    // Others are not held up by it.
    stage.ok("POST", "/v1/routers", json!({ "id": "else" })).await;
    // The repeat waits for the first one, and makes no second.
    assert_eq!(stage.refused("POST", "/v1/transports", body.clone()).await.1, "timeout");
    assert_eq!(stage.fake.count("CreateWebRtcTransport"), 1);
    // An answer that never comes ends the connection; the snapshot then says what was done.
    stage.fake.turn(|knobs| knobs.mute.clear());
    eventually("the transport is known", || async {
        stage.call("GET", "/v1/transports/t", Value::Null).await.0 == 200
    })
    .await;
    assert_eq!(stage.call("POST", "/v1/transports", body).await.0, 200);
}
