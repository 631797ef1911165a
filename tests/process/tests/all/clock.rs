//! The wall clock is stepped by an hour under a running call: what has to happen in time happens as if it
//! had not been. It is only told to people.

use ironcast_load::{VideoOptions, call::ConsumeOptions, http::PlainHttp};
use ironcast_process_tests::{Pair, SteppedClock, eventually};
use serde_json::{Value, json};

use crate::common::{OneToOne, assert_clean};

const HOUR_S: i64 = 3_600;

async fn created_s(pair: &Pair, id: &str) -> i64 {
    let room = pair.call("POST", "/v1/routers", json!({ "id": id })).await;
    room["createdAt"].as_i64().expect("a time") / 1_000
}

#[tokio::test]
async fn a_step_of_an_hour_moves_no_deadline() {
    let clock = SteppedClock::new("step");
    let environment = clock.environment();
    let builder =
        environment.iter().fold(Pair::builder(), |builder, (name, value)| builder.env(name, value));
    let (video, consume) = (VideoOptions::default(), ConsumeOptions::default());
    let call = OneToOne::start_on(builder.start().await, video, &consume).await;
    call.bob_sees("a picture", |stats| stats.decodable_frames >= 15).await;
    let pair = &call.pair;
    let ops = PlainHttp::new(pair.ops);
    let mut events = pair.control.events(None).await.expect("events");
    let begun_s = created_s(pair, "begin").await;
    let begun = pair.call("GET", "/v1/snapshot?limit=1", Value::Null).await["seq"].clone();
    pair.call("DELETE", "/v1/routers/begin", Value::Null).await;
    for (number, hours) in [1, -1, 0].into_iter().enumerate() {
        clock.set_off(hours * HOUR_S);
        let room = format!("room-{number}");
        let now_s = created_s(pair, &room).await;
        assert!((now_s - begun_s - hours * HOUR_S).abs() < 600, "the step is seen: {now_s}");
        // A second passes, in which everything that is due by time is looked at.
        let frames = call.bob.stats(&call.seen).decodable_frames;
        call.bob_sees("more", |stats| stats.decodable_frames > frames + 45).await;
        let ready = ops.send("GET", "/ready", &[], &[]).await.expect("an answer");
        assert_eq!(ready.status, 200, "{}", ready.text());
        // The stream that was open goes on, what it told is kept, an id that was deleted is not free.
        while events.next().await.expect("the stream goes on").data["routerId"] != room.as_str() {}
        let mut resumed = pair.control.events(begun.as_str()).await.expect("it is kept");
        let first = resumed.next().await.expect("what was told before");
        assert_eq!(first.data["routerId"], "begin");
        let again = pair.refused("POST", "/v1/routers", json!({ "id": "begin" })).await;
        assert_eq!(again, (409, "wrong_state".to_owned()));
    }
    // A drain ends when its time is over: not sooner, and not later.
    let drain = json!({ "deadlineS": 1_800 });
    pair.call("POST", "/v1/admin/drain", drain).await;
    clock.set_off(HOUR_S);
    let frames = call.bob.stats(&call.seen).decodable_frames;
    call.bob_sees("more", |stats| stats.decodable_frames > frames + 45).await;
    assert_clean(&call.bob.stats(&call.seen));
    pair.call("GET", "/v1/routers/room", Value::Null).await;
    pair.call("POST", "/v1/admin/undrain", Value::Null).await;
    pair.call("POST", "/v1/admin/drain", json!({ "deadlineS": 1 })).await;
    clock.set_off(-HOUR_S);
    eventually("all rooms are closed", || async {
        pair.call("GET", "/v1/admin/drain", Value::Null).await["drained"] == true
    })
    .await;
    assert_eq!(pair.metric("\"workers_stuck\"").await, 0.0);
    assert_eq!(pair.metric("ironcast_control_panics_total").await, 0.0);
}
