//! The dataplane and the control plane come and go: nothing is forgotten, nothing is invented.

use futures::StreamExt as _;
use ironcast_api::EventData;
use ironcast_client::EventsError;
use ironcast_controlplane::Server;
use ironcast_protocol::{
    CommandError, ErrorCode, Event, FrameKind, Reply,
    command::{ConsumerScore, CreateRouter},
    event::IceState,
    snapshot::Resource,
};
use serde_json::{Value, json};

use crate::{
    fake::Fake,
    stage::{self, Stage, eventually, id, produce},
    streams::next,
};

/// A room whose every field differs from its default.
async fn lived_in(stage: &Stage) {
    stage.call_of_two("room").await;
    stage.ok("POST", "/v1/routers", json!({ "id": "vp8", "lastN": 4, "loudestN": 3, "mediaCodecs": [
        { "kind": "video", "mimeType": "video/VP8", "clockRate": 90000, "preferredPayloadType": 99 },
    ] })).await;
    stage
        .ok("PATCH", "/v1/transports/room-bob-recv", json!({ "maxOutgoingBitrate": 5000000 }))
        .await;
    stage.ok("POST", "/v1/transports/room-alice-recv/restart-ice", Value::Null).await;
    let patch =
        json!({ "priority": 7, "preferredLayers": { "spatialLayer": 1, "temporalLayer": 0 } });
    stage.ok("PATCH", "/v1/consumers/room-bob-cam", patch).await;
    stage.ok("POST", "/v1/consumers/room-bob-mic/resume", Value::Null).await;
    stage.ok("POST", "/v1/producers/room-cam/pause", Value::Null).await;
    let observer = json!({ "id": "loud", "routerId": "room", "type": "audiolevel", "threshold": -50,
        "maxEntries": 3, "interval": 500, "appData": { "of": "room" } });
    stage.ok("POST", "/v1/observers", observer).await;
    stage.ok("POST", "/v1/observers/loud/producers/room-mic", Value::Null).await;
    stage.ok("POST", "/v1/observers/loud/pause", Value::Null).await;
    stage.fake.emit(Event::IceStateChange {
        transport: "room-alice-send".into(),
        state: IceState::Completed,
    });
    let score = ConsumerScore { score: 4, producer_score: 5, producer_scores: vec![5, 0, 0] };
    stage.fake.emit(Event::ConsumerScore { consumer: "room-bob-cam".into(), score });
    eventually("the score is known", || async {
        stage.client.consumer(&id("room-bob-cam")).await.unwrap().score.score == 4
    })
    .await;
}

#[tokio::test]
async fn a_new_control_plane_knows_everything_again() {
    let mut stage = Stage::new().await;
    lived_in(&stage).await;
    let before = stage.state().await;
    let seq = stage.client.snapshot(None).await.unwrap().seq;
    for _ in 0..2 {
        stage.replace_server().await;
        assert_eq!(stage.state().await, before);
    }
    let mut events = stage.client.events(Some(seq), None);
    assert!(matches!(events.next().await, Some(Err(EventsError::Lost))), "a new epoch");
    // Repeats are still recognised, and MIDs are not used again.
    let dtls = json!({ "dtlsParameters": stage::dtls("client") });
    stage.ok("POST", "/v1/transports/room-alice-send/connect", dtls).await;
    let (status, _) =
        stage.call("POST", "/v1/producers", produce("room-mic", "room-alice-send", "opus")).await;
    assert_eq!(status, 200);
    let body = json!({ "id": "again", "transportId": "room-bob-recv", "producerId": "room-mic" });
    let made = stage.ok("POST", "/v1/consumers", body).await;
    let mid: u32 = made["rtpParameters"]["mid"].as_str().unwrap().parse().unwrap();
    assert!(mid >= 1000, "{mid}");
    stage.ok("DELETE", "/v1/routers/room", Value::Null).await;
    assert_eq!(stage.state().await["routers"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_broken_connection_is_made_again_in_a_new_epoch() {
    let stage = Stage::new().await;
    lived_in(&stage).await;
    let before = stage.state().await;
    let seq = stage.client.snapshot(None).await.unwrap().seq;
    let mut events = stage.client.events(Some(seq), None);
    stage.fake.drop_connection();
    let item = tokio::time::timeout(stage::LIMIT, events.next()).await.unwrap().unwrap();
    assert!(matches!(item, Err(EventsError::Lost)), "{item:?}");
    stage.ready().await;
    assert_eq!(stage.state().await, before);
    assert!(stage.client.snapshot(None).await.unwrap().seq.epoch > seq.epoch);
}

#[tokio::test]
async fn a_dataplane_that_was_started_again_has_lost_its_rooms() {
    let stage = Stage::new().await;
    stage.call_of_two("a").await;
    stage.call_of_two("b").await;
    let seq = stage.client.snapshot(None).await.unwrap().seq;
    let mut events = stage.client.events(Some(seq), None);
    stage.fake.restart("boot-2");
    let mut died = Vec::new();
    let mut closed = Vec::new();
    let mut restarted = 0;
    while restarted < 2 {
        let event = next(&mut events).await;
        match event.data {
            EventData::WorkerDied(event) => died.extend(event.router_ids),
            EventData::RouterClosed(_) => closed.extend(event.router_id),
            EventData::WorkerRestarted(_) => restarted += 1,
            _ => {}
        }
    }
    died.sort();
    closed.sort();
    assert_eq!((died, closed), (vec![id("a"), id("b")], vec![id("a"), id("b")]));
    stage.ready().await;
    assert_eq!(stage.state().await["routers"], json!([]));
    // The rooms can be made again at once.
    stage.call_of_two("a").await;
}

#[tokio::test]
async fn without_a_dataplane_calls_are_refused_and_health_says_why() {
    let stage = Stage::new().await;
    stage.call_of_two("room").await;
    let before = stage.state().await;
    stage.fake.vanish();
    eventually("it is noticed", || async { stage.client.ready().await.is_err() }).await;
    for (method, path) in [
        ("GET", "/v1/routers"),
        ("POST", "/v1/routers"),
        ("DELETE", "/v1/routers/room"),
        ("GET", "/v1/snapshot"),
    ] {
        let (status, answer) = stage.call(method, path, Value::Null).await;
        assert_eq!((status, &answer["code"]), (503, &json!("dataplane_unavailable")), "{path}");
        assert!(answer["retryAfter"].is_u64());
    }
    let health = stage.client.health().await.unwrap();
    assert_eq!(health.dataplane.status, ironcast_api::DataplaneStatus::Disconnected);
    stage.fake.listen();
    stage.ready().await;
    assert_eq!(stage.state().await, before);
}

#[tokio::test]
async fn a_worker_that_dies_takes_its_rooms_with_it_and_no_others() {
    let stage = Stage::new().await;
    stage.ok("POST", "/v1/routers", json!({ "id": "on0", "workerId": "0" })).await;
    stage.ok("POST", "/v1/routers", json!({ "id": "on1", "workerId": "1" })).await;
    let seq = stage.client.snapshot(None).await.unwrap().seq;
    let mut events = stage.client.events(Some(seq), None);
    stage.fake.emit(Event::WorkerDied {
        worker: 0,
        routers: vec!["on0".into()],
        reason: "a test".into(),
    });
    let EventData::WorkerDied(died) = next(&mut events).await.data else { panic!("another event") };
    assert_eq!((died.worker_id, died.router_ids), (id("0"), vec![id("on0")]));
    let EventData::RouterClosed(closed) = next(&mut events).await.data else { panic!("another") };
    assert_eq!(closed.reason, ironcast_api::events::RouterClosedReason::WorkerDied);
    let left = stage.state().await;
    assert_eq!(
        (left["routers"].as_array().unwrap().len(), &left["routers"][0]["id"]),
        (1, &json!("on1"))
    );
    stage.fake.emit(Event::WorkerRestarted { worker: 0 });
    assert_eq!(next(&mut events).await.name(), "worker.restarted");
    stage.ok("POST", "/v1/routers", json!({ "id": "on0", "workerId": "0" })).await;
}

#[tokio::test]
async fn a_fenced_control_plane_stays_away() {
    let mut stage = Stage::with(|config| config.stand_by = None).await;
    stage.call_of_two("room").await;
    let before = stage.state().await;
    let error = CommandError::new(ErrorCode::Fenced, "a newer controller");
    let newer = {
        let mut config = stage.config.clone();
        config.listen = "127.0.0.1:0".parse().unwrap();
        config.ops = None;
        config.plain = None;
        // The fake hands the socket to the newer one and tells the older.
        stage.fake.send_frame(FrameKind::Response, 0, &Err::<Reply, _>(error));
        eventually("the older one noticed", || async { stage.client.ready().await.is_err() }).await;
        let server = Server::start(config.clone()).await.unwrap();
        let client = stage::client(&config, &server, None);
        eventually("the newer one is ready", || async { client.ready().await.is_ok() }).await;
        (server, client)
    };
    let snapshot = newer.1.snapshot(None).await.unwrap();
    assert_eq!(serde_json::to_value(&snapshot.routers).unwrap(), before["routers"]);
    assert!(stage.client.ready().await.is_err());
    // Its process ends by this.
    let mut older = stage.server.take().unwrap();
    tokio::time::timeout(stage::LIMIT, older.replaced()).await.expect("it is told");
}

#[tokio::test]
async fn odd_frames_and_other_versions_are_tolerated() {
    let stage = Stage::new().await;
    stage.call_of_two("room").await;
    let before = stage.state().await;
    // What a newer dataplane may say, and what nobody understands.
    #[derive(serde::Serialize)]
    enum Newer {
        #[allow(non_camel_case_types)]
        something_new { x: u8 },
    }
    let newer = ironcast_protocol::frame::encode_body(&Newer::something_new { x: 1 }).unwrap();
    stage.fake.emit_raw(newer);
    stage.fake.emit_raw(b"\xc1 no MessagePack".to_vec());
    stage.fake.emit(Event::TransportClosed {
        transport: "nobody".into(),
        reason: ironcast_protocol::event::TransportCloseReason::DtlsClosed,
    });
    stage.fake.send_frame(FrameKind::Response, 999_999, &Ok::<_, CommandError>(Reply::Done));
    stage.fake.send_frame(FrameKind::SnapshotPart, 1, &7);
    assert_eq!(stage.state().await, before);
    let seq = stage.client.snapshot(None).await.unwrap().seq;
    // Bytes that are no frame at all: the connection is made anew.
    stage.fake.send_bytes(vec![0xff; 64]);
    eventually("attached again", || async {
        matches!(stage.client.snapshot(None).await, Ok(now) if now.seq.epoch > seq.epoch)
    })
    .await;
    assert_eq!(stage.state().await, before);
}

#[tokio::test]
async fn a_snapshot_that_is_not_complete_is_not_served_and_asked_for_again() {
    let mut stage = Stage::new().await;
    lived_in(&stage).await;
    let before = stage.state().await;
    stage.fake.turn(|knobs| knobs.lost_consumers = 1);
    let asked = stage.fake.count("Snapshot");
    stage.fake.drop_connection();
    eventually("it asks more than once", || async { stage.fake.count("Snapshot") > asked + 2 })
        .await;
    let refused = stage.refused("POST", "/v1/routers", json!({ "id": "new" })).await;
    assert_eq!(refused.1, "dataplane_unavailable");
    stage.fake.turn(|knobs| knobs.lost_consumers = 0);
    stage.ready().await;
    assert_eq!(stage.state().await, before);
    stage.replace_server().await;
    assert_eq!(stage.state().await, before);
}

#[tokio::test]
async fn what_is_no_dataplane_is_not_attached_to() {
    let folder = stage::folder();
    let config = stage::config(&folder);
    let fake = Fake::start(&config.dataplane_socket);
    fake.turn(|knobs| knobs.version = 0);
    let server = Server::start(config.clone()).await.unwrap();
    let client = stage::client(&config, &server, None);
    assert_eq!(stage::code(&client.ready().await.unwrap_err()), "dataplane_unavailable");
    fake.turn(|knobs| {
        knobs.version = ironcast_protocol::frame::VERSION;
        knobs.magic = "somebody-else".into();
    });
    assert!(client.ready().await.is_err());
    fake.turn(|knobs| knobs.magic = ironcast_protocol::frame::MAGIC.into());
    eventually("attached", || async { client.ready().await.is_ok() }).await;
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn resources_of_another_controller_have_defaults() {
    let mut stage = Stage::new().await;
    stage.call_of_two("room").await;
    // As if another program had made them: without any of our notes.
    let foreign: Vec<Resource> = stage
        .fake
        .resources()
        .into_iter()
        .map(|mut resource| {
            match &mut resource {
                Resource::Router { create, .. } => create.note = b"??".to_vec(),
                Resource::WebRtcTransport { create, .. } => create.note.clear(),
                Resource::PlainTransport { create, .. } => create.note.clear(),
                Resource::Hop { create, .. } => create.note.clear(),
                Resource::Producer { create, .. } => create.note.clear(),
                Resource::Consumer { create, .. } => create.note.clear(),
                Resource::Observer { create, .. } => create.note.clear(),
            }
            resource
        })
        .collect();
    stage.fake.set_resources(foreign);
    stage.fake.add(Resource::Router {
        create: CreateRouter {
            id: "not a valid id".into(),
            worker: 0,
            selection: Default::default(),
            note: vec![],
        },
        worker: 0,
    });
    stage.replace_server().await;
    let state = stage.state().await;
    assert_eq!(state["routers"].as_array().unwrap().len(), 1);
    let transports = state["routers"][0]["transports"].as_array().unwrap();
    let seen = transports.iter().find(|one| one["id"] == "room-bob-recv").unwrap();
    assert_eq!(seen["consumers"].as_array().unwrap().len(), 2);
    let consumer = &seen["consumers"][0];
    assert!(consumer["rtpParameters"]["encodings"][0]["ssrc"].is_u64());
    let body = json!({ "transportId": "room-alice-recv", "producerId": "room-cam", "rtpCapabilities": stage::chromium("rtpCapabilities") });
    stage.ok("POST", "/v1/consumers", body).await;
    stage.ok("DELETE", "/v1/routers/room", Value::Null).await;
}
