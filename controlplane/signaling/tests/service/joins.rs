//! What a page asks for at once, when it joins, is one call at the media server.

use ironcast_signaling::settings::Settings;
use serde_json::{Value, json};

use crate::client::Client;
use crate::fake_media::FakeMedia;
use crate::stage::{Stage, capabilities, quick, video_at};

/// Calls that make something, as the media server saw them since `from`.
fn made_since(stage: &Stage, from: usize) -> Vec<String> {
    let calls = stage.media.inside().calls[from..].to_vec();
    calls.into_iter().filter(|call| call.starts_with("make ")).collect()
}

/// Someone whose messages wait until `go`: all of them are there when the first is done.
struct Held {
    client: Client,
    closed: tokio::sync::OwnedRwLockWriteGuard<()>,
    from: usize,
}

/// Room for so many messages, and then one that tells that these have been read.
async fn held(stage: &Stage, name: &str) -> Held {
    let (mut client, _) = stage.join(name).await;
    let transport = client.must("createProducerTransport", json!({})).await["id"].clone();
    let closed = stage.media.gate.clone().write_owned().await;
    client.emit("restartIce", json!({ "transportId": transport })).await;
    let call = format!("restart ice of {}", transport.as_str().unwrap());
    stage.media.until("it waits", |inside| inside.calls.contains(&call)).await;
    let from = stage.media.inside().calls.len();
    Held { client, closed, from }
}

/// Sends as many messages as fit, and lets them go when all are there.
async fn go(held: Held, messages: &[(&str, Value)]) -> Client {
    let Held { mut client, closed, .. } = held;
    for (event, payload) in messages {
        client.emit(event, payload.clone()).await;
    }
    // Does not fit any more: is refused as soon as it is read.
    client.emit("heartbeat", json!({})).await;
    client.event_where("error", |error| error["code"] == "rate_limited").await;
    drop(closed);
    client
}

async fn stage_for(messages: usize) -> Stage {
    let settings = Settings { requests_per_socket_max: messages, ..quick() };
    Stage::with(settings, FakeMedia::new()).await
}

#[tokio::test]
async fn a_join_is_one_call() {
    let stage = stage_for(5).await;
    let (mut ada, _, camera) = stage.join_sending("ada").await;
    let screen = ada.must("produce", video_at("1")).await["id"].clone();
    let bob = held(&stage, "bob").await;
    let from = bob.from;
    let capabilities = json!({ "rtpCapabilities": capabilities() });
    let mut bob = go(
        bob,
        &[
            ("createProducerTransport", json!({})),
            ("createConsumerTransport", capabilities),
            ("consume", json!({ "producerId": camera })),
            ("consume", json!({ "producerId": screen })),
            ("consume", json!({ "producerId": "nobody" })),
        ],
    )
    .await;
    let (first, second) =
        (bob.event("transport-created").await, bob.event("transport-created").await);
    assert_ne!(first["id"], second["id"]);
    for producer in [json!(camera), screen] {
        let consumed = bob.event("consumed").await;
        assert_eq!(
            (&consumed["producerId"], &consumed["participantId"]),
            (&producer, &json!("ada"))
        );
        bob.must("resumeConsumer", json!({ "consumerId": consumed["id"] })).await;
    }
    assert_eq!(bob.event("error").await["code"], "not_found");
    assert_eq!(made_since(&stage, from), ["make 2 transports and 2 consumers at once"]);
    // What the transport was made for is not said again with each consumer.
    let calls = stage.media.inside().calls.clone();
    assert!(!calls.iter().any(|call| call.ends_with("for others")), "{calls:?}");
}

#[tokio::test]
async fn a_crowd_is_told_that_cameras_are_many() {
    let settings = Settings { audio_only_above: 2, ..quick() };
    let stage = Stage::with(settings, FakeMedia::new()).await;
    let (mut ada, _) = stage.join("ada").await;
    let (mut bob, _) = stage.join("bob").await;
    let told =
        |names: Vec<String>| names.iter().filter(|name| *name == "recommend-audio-only").count();
    assert_eq!(told(bob.names_seen().await), 0);
    // Everybody, once.
    let (mut eve, _) = stage.join("eve").await;
    for one in [&mut ada, &mut bob, &mut eve] {
        assert_eq!(one.event("recommend-audio-only").await, json!({ "participants": 3 }));
    }
    // Then whoever comes.
    let (mut dan, _) = stage.join("dan").await;
    assert_eq!(dan.event("recommend-audio-only").await, json!({ "participants": 4 }));
    assert_eq!(told(ada.names_seen().await), 0);
}

#[tokio::test]
async fn who_receives_other_than_his_transport_says_so_with_each_consumer() {
    let stage = Stage::new().await;
    let (_ada, _, camera) = stage.join_sending("ada").await;
    let (mut bob, _) = stage.join("bob").await;
    bob.must("createConsumerTransport", json!({ "rtpCapabilities": capabilities() })).await;
    let other = json!({ "codecs": [{ "kind": "audio", "mimeType": "audio/opus", "clockRate": 48000 }],
        "headerExtensions": [] });
    bob.must("consume", json!({ "producerId": camera, "rtpCapabilities": other })).await;
    let same = json!({ "producerId": camera, "rtpCapabilities": capabilities() });
    bob.must("consume", same).await;
    let calls = stage.media.inside().calls.clone();
    let told = calls.iter().filter(|call| call.starts_with("consume "));
    let told: Vec<_> = told.map(|call| call.ends_with("for others")).collect();
    assert_eq!(told, [true, false]);
}

#[tokio::test]
async fn what_is_made_together_fails_and_is_tried_again_together() {
    let stage = stage_for(3).await;
    let (_ada, _, camera) = stage.join_sending("ada").await;
    let bob = held(&stage, "bob").await;
    let from = bob.from;
    // The first of the three is too many, once: all three are asked for again, and are there once.
    stage.media.be_busy(1);
    let mut bob = go(
        bob,
        &[
            ("createConsumerTransport", json!({ "rtpCapabilities": capabilities() })),
            ("consume", json!({ "producerId": camera })),
            ("consume", json!({ "producerId": camera })),
        ],
    )
    .await;
    bob.event("transport-created").await;
    bob.event("consumed").await;
    bob.event("consumed").await;
    assert_eq!(made_since(&stage, from), ["make 1 transports and 2 consumers at once"; 2]);
    assert_eq!(stage.media.inside().consumers.len(), 2);

    // Where the transport cannot be made its consumers fail as it does, and nothing is left.
    let eve = held(&stage, "eve").await;
    stage.media.be_busy(u64::MAX);
    let mut eve = go(
        eve,
        &[
            ("createConsumerTransport", json!({ "rtpCapabilities": capabilities() })),
            ("consume", json!({ "producerId": camera })),
            ("consume", json!({ "producerId": camera })),
        ],
    )
    .await;
    for _ in 0..3 {
        assert_eq!(eve.event("error").await["code"], "rate_limited");
    }
    stage.media.be_busy(0);
    stage.media.until("nothing is left", |inside| inside.consumers.len() == 2).await;
}

#[tokio::test]
async fn consumers_that_are_asked_for_together_are_one_call() {
    let stage = stage_for(4).await;
    let (_ada, _, producer) = stage.join_sending("ada").await;
    let mut bob = held(&stage, "bob").await;
    let from = bob.from;
    let consume = ("consume", json!({ "producerId": producer }));
    let capabilities = json!({ "rtpCapabilities": capabilities() });
    bob.client.emit("createConsumerTransport", capabilities).await;
    // One more than this service allows is asked for, and refused here.
    let mut bob = go(bob, &vec![consume; 3]).await;
    for _ in 0..3 {
        bob.event("consumed").await;
    }
    assert_eq!(bob.refused("consume", json!({ "producerId": producer })).await, "no_capacity");
    assert_eq!(made_since(&stage, from), ["make 1 transports and 3 consumers at once"]);
    // A new transport takes the place of the old one, and of what was on it.
    bob.must("createConsumerTransport", json!({})).await;
    bob.must("consume", json!({ "producerId": producer })).await;
    stage.media.until("the old ones are gone", |inside| inside.consumers.len() == 1).await;
}
