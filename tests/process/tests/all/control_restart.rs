//! The control plane dies; media does not notice, and the next one knows everything.

use ironcast_load::{AudioOptions, VideoOptions, call::ConsumeOptions};
use serde_json::{Value, json};

use crate::common::{OneToOne, assert_clean, good_network, sees};

#[tokio::test]
async fn media_outlives_the_control_plane() {
    let mut call = OneToOne::start(VideoOptions::default(), &ConsumeOptions::default()).await;
    let audio = call.alice.publish_audio(AudioOptions::default()).await.expect("a microphone");
    let heard = call.bob.consume(&audio.id, &ConsumeOptions::default()).await.expect("heard");
    let top = call.first_stream + 2;
    call.bob_sees("the top layer", |stats| stats.stream == Some(top)).await;
    sees(&call.bob, &heard, "sound", |stats| stats.verified > 10).await;
    let before = call.pair.call("GET", "/v1/snapshot", Value::Null).await;

    for _ in 0..2 {
        call.pair.kill_control();
        let frames = call.bob.stats(&call.seen).decodable_frames;
        call.bob_sees("a second without control plane", |stats| {
            stats.decodable_frames > frames + 30
        })
        .await;
        call.pair.start_control().await;
    }
    assert_clean(&call.bob.stats(&call.seen));
    assert_clean(&call.bob.stats(&heard));

    let after = call.pair.call("GET", "/v1/snapshot", Value::Null).await;
    assert_eq!(ids(&before), ids(&after), "everything is known again");
    let epoch = |snapshot: &Value| {
        let seq = snapshot["seq"].as_str().expect("a number").to_owned();
        seq.rsplit_once('-').expect("an epoch").0.to_owned()
    };
    assert_ne!(epoch(&before), epoch(&after), "numbers cannot be continued");

    // And everything can be controlled as before.
    let path = format!("/v1/consumers/{}", call.seen.id);
    let low = json!({ "preferredLayers": { "spatialLayer": 0, "temporalLayer": 0 } });
    call.pair.call("PATCH", &path, low).await;
    call.bob_sees("the lowest layer", |stats| stats.stream == Some(call.first_stream)).await;
    let carol = call.pair.join_with("room", "carol", &good_network()).await;
    let seen = carol.consume(&call.video.id, &ConsumeOptions::default()).await.expect("seen");
    sees(&carol, &seen, "frames", |stats| stats.decodable_frames >= 15).await;
    carol.leave().await.expect("carol leaves");
    call.bob.leave().await.expect("bob leaves");
    call.alice.leave().await.expect("alice leaves");
    let empty = call.pair.call("GET", "/v1/snapshot", Value::Null).await;
    assert_eq!(empty["routers"][0]["transports"], json!([]));
}

/// All ids of a snapshot, in order.
fn ids(snapshot: &Value) -> Vec<String> {
    let mut out = Vec::new();
    collect(&snapshot["routers"], &mut out);
    out.sort();
    out
}

fn collect(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::Array(all) => all.iter().for_each(|one| collect(one, out)),
        Value::Object(fields) => {
            if let Some(id) = fields.get("id").and_then(Value::as_str) {
                out.push(id.to_owned());
            }
            for name in ["transports", "producers", "consumers"] {
                if let Some(children) = fields.get(name) {
                    collect(children, out);
                }
            }
        }
        _ => {}
    }
}
