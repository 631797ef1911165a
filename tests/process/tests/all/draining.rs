//! A host is taken out of service: the dataplane waits for its calls, the control plane takes no new
//! ones, the operator's command shows it.

use ironcast_load::{VideoOptions, call::ConsumeOptions, http::PlainHttp};
use ironcast_process_tests::{LIMIT, Pair, eventually};
use serde_json::{Value, json};

use crate::common::{good_network, sees};

async fn readiness(pair: &Pair) -> (u16, String) {
    let ops = PlainHttp::new(pair.ops);
    let answer = ops.send("GET", "/ready", &[], &[]).await.expect("the ops door answers");
    (answer.status, answer.json()["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn told_to_end_the_dataplane_waits_for_its_call() {
    let mut pair = Pair::builder().set("dataplane.drain_s", 300).start().await;
    pair.create_room("room").await;
    let alice = pair.join_with("room", "alice", &good_network()).await;
    let bob = pair.join_with("room", "bob", &good_network()).await;
    let video = alice.publish_video(VideoOptions::default()).await.expect("a camera");
    let seen = bob.consume(&video.id, &ConsumeOptions::default()).await.expect("seen");
    sees(&bob, &seen, "frames", |stats| stats.decodable_frames >= 5).await;
    let mut events = pair.control.events(None).await.expect("events");

    pair.signal_dataplane("TERM");
    let told = async {
        loop {
            let event = events.next().await.expect("the stream goes on");
            if event.event == "host.draining" {
                return event.data;
            }
        }
    };
    let told = tokio::time::timeout(LIMIT, told).await.expect("told in time");
    assert!(told["deadline"].is_u64(), "{told}");
    assert_eq!(readiness(&pair).await, (503, "draining".to_owned()));
    let refused = pair.refused("POST", "/v1/routers", json!({ "id": "new" })).await;
    assert_eq!(refused, (503, "draining".to_owned()));
    let frames = bob.stats(&seen).decodable_frames;
    sees(&bob, &seen, "more frames", |stats| stats.decodable_frames > frames + 10).await;
    assert!(pair.dataplane_runs());

    // The control plane may be replaced meanwhile: the next one hears of it again.
    pair.kill_control();
    pair.start_control_draining().await;

    alice.leave().await.expect("alice leaves");
    bob.leave().await.expect("bob leaves");
    pair.call("DELETE", "/v1/routers/room", Value::Null).await;
    assert!(pair.dataplane_exit().await.success());
}

#[tokio::test]
async fn a_second_signal_ends_the_waiting() {
    let mut pair = Pair::builder().set("dataplane.drain_s", 300).start().await;
    pair.create_room("room").await;
    let alice = pair.join_with("room", "alice", &good_network()).await;
    pair.signal_dataplane("TERM");
    eventually("it waits", || async { pair.log("dataplane").contains("waits for its rooms") })
        .await;
    assert!(pair.dataplane_runs());
    pair.signal_dataplane("TERM");
    assert!(pair.dataplane_exit().await.success());
    drop(alice);
}

#[tokio::test]
async fn the_command_drains_to_the_deadline_and_takes_it_back() {
    let pair = Pair::start().await;
    pair.create_room("room").await;
    // A room without any transport would be closed after a while.
    let transport = json!({ "id": "t", "routerId": "room", "type": "webrtc" });
    pair.call("POST", "/v1/transports", transport).await;
    let (code, said, _) = pair.ironcast(&["drain", "--no-wait"]).await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("1 room with 0 participants left, no deadline"), "{said}");
    assert_eq!(readiness(&pair).await.0, 503);
    let (code, said, _) = pair.ironcast(&["drain", "--cancel"]).await;
    assert_eq!((code, said.trim()), (0, "Takes new rooms; 1 room now."));
    assert_eq!(readiness(&pair).await.0, 200);
    // It waits until the host is drained, and shows it.
    let (code, said, shown) = pair.ironcast(&["drain", "--deadline", "1s"]).await;
    assert_eq!((code, said.trim()), (0, "Drained: no room is left."), "{shown}");
    assert!(shown.contains("Draining: 1 room"), "{shown}");
    let routers = pair.call("GET", "/v1/routers", Value::Null).await;
    assert_eq!(routers["items"], json!([]));
}
