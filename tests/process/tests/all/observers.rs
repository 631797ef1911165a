//! Who speaks, through both processes: told by the levels that a publisher writes into its packets, and
//! known again by the next control plane.

use ironcast_load::{AudioOptions, http::EventStream};
use ironcast_process_tests::{LIMIT, Pair};
use serde_json::{Value, json};

use crate::common::good_network;

async fn data_of(events: &mut EventStream, name: &str) -> Value {
    let reading = async {
        loop {
            let event = events.next().await.expect("the stream goes on");
            if event.event == name {
                return event.data;
            }
        }
    };
    tokio::time::timeout(LIMIT, reading).await.unwrap_or_else(|_| panic!("never: {name}"))
}

#[tokio::test]
async fn who_speaks_is_told_before_and_after_the_control_plane_died() {
    let mut pair = Pair::start().await;
    pair.create_room("room").await;
    let body = json!({ "id": "o", "routerId": "room", "type": "audiolevel", "threshold": -60,
        "interval": 300, "appData": { "of": "room" } });
    pair.call("POST", "/v1/observers", body).await;
    let alice = pair.join_with("room", "alice", &good_network()).await;
    let quiet = AudioOptions { level: 30, ..AudioOptions::default() };
    let audio = alice.publish_audio(quiet).await.expect("a microphone");
    let path = format!("/v1/observers/o/producers/{}", audio.id);
    let before = pair.call("POST", &path, Value::Null).await;
    assert_eq!(before["producerIds"], json!([audio.id]));
    let expected = json!([{ "producerId": audio.id, "participantId": "alice", "volume": -30 }]);
    for _ in 0..2 {
        let mut events = pair.control.events(None).await.expect("events");
        let told = data_of(&mut events, "observer.volumes").await;
        assert_eq!((&told["observerId"], &told["volumes"]), (&json!("o"), &expected));
        pair.kill_control();
        pair.start_control().await;
        assert_eq!(pair.call("GET", "/v1/observers/o", Value::Null).await, before);
    }
    let mut events = pair.control.events(None).await.expect("events");
    data_of(&mut events, "observer.volumes").await;
    pair.call("POST", &format!("/v1/producers/{}/pause", audio.id), Value::Null).await;
    data_of(&mut events, "observer.silence").await;
    alice.leave().await.expect("alice leaves");
    let after = pair.call("GET", "/v1/observers/o", Value::Null).await;
    assert_eq!(after["producerIds"], json!([]));
}
