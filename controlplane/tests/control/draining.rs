//! Taking the host out of service: by a call, by a dataplane that was told to end, and back again.

use ironcast_api::{DrainRequest, EventData, HealthStatus, events::RouterClosedReason};
use ironcast_client::EventStream;
use serde_json::{Value, json};

use crate::{
    http::{self, Way},
    stage::{Stage, eventually},
    streams::next,
};

async fn from_now(stage: &Stage) -> EventStream {
    let seq = stage.client.snapshot(None).await.unwrap().seq;
    stage.client.events(Some(seq), None)
}

/// The next event of this name.
async fn until(events: &mut EventStream, name: &str) -> EventData {
    loop {
        let event = next(events).await;
        if event.name() == name {
            return event.data;
        }
    }
}

async fn ready_status(stage: &Stage) -> u16 {
    let ops = stage.server().ops.unwrap();
    http::send(Way::Plain, ops, &[], http::request("GET", "/ready", "")).await.status
}

#[tokio::test]
async fn a_draining_host_takes_no_new_rooms_and_leaves_the_others_alone() {
    let stage = Stage::new().await;
    stage.call_of_two("room").await;
    let mut events = from_now(&stage).await;
    let begun = stage.ok("POST", "/v1/admin/drain", Value::Null).await;
    assert_eq!((&begun["draining"], &begun["drained"]), (&json!(true), &json!(false)));
    assert_eq!((&begun["routers"], &begun["participants"]), (&json!(1), &json!(2)));
    let EventData::HostDraining(told) = until(&mut events, "host.draining").await else { panic!() };
    assert_eq!(told.deadline, None);

    let refused = stage.refused("POST", "/v1/routers", json!({ "id": "new" })).await;
    assert_eq!((refused.0, refused.1.as_str()), (503, "draining"));
    assert_eq!(ready_status(&stage).await, 503);
    assert_eq!(stage.client.health().await.unwrap().status, HealthStatus::Draining);
    // A repeated request for a room that is there is answered as ever.
    let again = json!({ "id": "room", "appData": { "n": 1 } });
    stage.ok("POST", "/v1/routers", again).await;
    let late = json!({ "id": "late", "routerId": "room", "type": "webrtc" });
    stage.ok("POST", "/v1/transports", late).await;

    stage.ok("DELETE", "/v1/routers/room", Value::Null).await;
    until(&mut events, "host.drained").await;
    assert!(stage.client.drain_status().await.unwrap().drained);
    assert!(!stage.client.undrain().await.unwrap().draining);
    until(&mut events, "host.undrained").await;
    assert_eq!(ready_status(&stage).await, 200);
    stage.ok("POST", "/v1/routers", json!({ "id": "new" })).await;
}

#[tokio::test]
async fn what_is_left_at_the_deadline_is_closed() {
    let stage = Stage::new().await;
    stage.call_of_two("one").await;
    stage.call_of_two("two").await;
    let mut events = from_now(&stage).await;
    stage.client.drain(&DrainRequest { deadline_s: Some(3_600) }).await.unwrap();
    let EventData::HostDraining(far) = until(&mut events, "host.draining").await else { panic!() };
    // Said again, it is sooner.
    stage.client.drain(&DrainRequest { deadline_s: Some(0) }).await.unwrap();
    let EventData::HostDraining(now) = until(&mut events, "host.draining").await else { panic!() };
    assert!(now.deadline.unwrap() < far.deadline.unwrap());
    for _ in 0..2 {
        let closed = until(&mut events, "router.closed").await;
        let EventData::RouterClosed(closed) = closed else { panic!() };
        assert_eq!(closed.reason, RouterClosedReason::Drained);
    }
    until(&mut events, "host.drained").await;
    assert!(stage.fake.resources().is_empty(), "closed in the dataplane too");
    let wrong = json!({ "deadlineS": 86_401 });
    let refused = stage.refused("POST", "/v1/admin/drain", wrong).await;
    assert_eq!((refused.0, refused.2.as_str()), (400, "/deadlineS"));
}

#[tokio::test]
async fn a_dataplane_that_was_told_to_end_takes_the_host_out_of_service() {
    let stage = Stage::new().await;
    stage.call_of_two("room").await;
    let mut events = from_now(&stage).await;
    let until_ms = 4_102_444_800_000;
    stage.fake.turn(|knobs| knobs.process.drains_until_ms = Some(until_ms));
    let EventData::HostDraining(told) = until(&mut events, "host.draining").await else { panic!() };
    assert_eq!(told.deadline, Some(until_ms));
    let refused = stage.refused("POST", "/v1/admin/undrain", Value::Null).await;
    assert_eq!((refused.0, refused.1.as_str()), (409, "wrong_state"));
    // It ended, and another one has come: that is what it was for.
    stage.fake.turn(|knobs| knobs.process.drains_until_ms = None);
    stage.fake.restart("boot-2");
    until(&mut events, "host.undrained").await;
    stage.ok("POST", "/v1/routers", json!({ "id": "new" })).await;
}

#[tokio::test]
async fn a_drain_outlives_the_control_plane() {
    let mut stage = Stage::new().await;
    stage.call_of_two("room").await;
    stage.client.drain(&DrainRequest::default()).await.unwrap();
    stage.server = None;
    let server = ironcast_controlplane::Server::start(stage.config.clone()).await.unwrap();
    stage.client = crate::stage::client(&stage.config, &server, None);
    stage.server = Some(server);
    eventually("it drains on", || async {
        stage.client.drain_status().await.is_ok_and(|status| status.draining && status.routers == 1)
    })
    .await;
    let refused = stage.refused("POST", "/v1/routers", json!({ "id": "new" })).await;
    assert_eq!(refused.1, "draining");
}
