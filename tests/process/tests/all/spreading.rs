//! A room on two workers: whoever sends is on one, whoever watches on the other. Nothing of it shows in
//! what arrives, and what a worker takes along when it ends is its own alone.

use std::collections::BTreeSet;

use ironcast_load::{
    AudioOptions, Participant, VideoOptions,
    call::{ConsumeOptions, JoinOptions, Published, Subscribed},
    http::PlainHttp,
    random::Random,
};
use ironcast_process_tests::{LIMIT, Pair, PairBuilder, eventually};
use serde_json::{Value, json};

use crate::common::{assert_clean, good_network, sees};

const SEED: u64 = 4_711;

/// On that worker.
fn on(worker: u32) -> JoinOptions {
    let mut options = good_network();
    let transport = options.transport.as_mut().expect("fields of the transport");
    transport["workerId"] = json!(worker.to_string());
    options
}

/// Two workers, and a room whose home is the first.
async fn room(builder: PairBuilder) -> Pair {
    let pair = builder.set("dataplane.workers", 2).start().await;
    pair.call("POST", "/v1/routers", json!({ "id": "room", "workerId": "0" })).await;
    pair
}

async fn consume(who: &Participant<PlainHttp>, what: &Published) -> Subscribed {
    who.consume(&what.id, &ConsumeOptions::default()).await.expect("it is consumed")
}

async fn plays(who: &Participant<PlainHttp>, video: &Subscribed, audio: &Subscribed) {
    let (frames, sounds) = (who.stats(video).decodable_frames, who.stats(audio).verified);
    sees(who, video, "frames", |stats| stats.decodable_frames > frames + 15).await;
    sees(who, audio, "sound", |stats| stats.verified > sounds + 25).await;
    assert_clean(&who.stats(video));
    assert_clean(&who.stats(audio));
}

#[tokio::test]
async fn a_call_over_two_workers_is_as_on_one() {
    let pair = room(Pair::builder()).await;
    let alice = pair.join_with("room", "alice", &on(0)).await;
    let bob = pair.join_with("room", "bob", &on(1)).await;
    let camera = VideoOptions { temporal_layers: 3, ..VideoOptions::default() };
    let first = camera.stream;
    let video = alice.publish_video(camera.clone()).await.expect("a camera");
    let audio = alice.publish_audio(AudioOptions::default()).await.expect("a microphone");
    let (seen, heard) = (consume(&bob, &video).await, consume(&bob, &audio).await);
    plays(&bob, &seen, &heard).await;
    // The other way at the same time.
    let back = VideoOptions { stream: first + 10, ..camera };
    let back = bob.publish_video(back).await.expect("a camera");
    let shown = consume(&alice, &back).await;
    sees(&alice, &shown, "frames", |stats| stats.decodable_frames >= 15).await;

    // The viewer's worker chooses his layers.
    let path = format!("/v1/consumers/{}", seen.id);
    for (spatial, temporal) in [(0, 2), (2, 2), (1, 0), (2, 1)] {
        let layers = json!({ "spatialLayer": spatial, "temporalLayer": temporal });
        pair.call("PATCH", &path, json!({ "preferredLayers": layers })).await;
        sees(&bob, &seen, &format!("layer {spatial}.{temporal}"), |stats| {
            stats.stream == Some(first + spatial) && stats.temporal == temporal as u8
        })
        .await;
    }
    assert!(bob.stats(&seen).switches.iter().all(|switch| switch.at_key_frame));

    // Paused at either end, and on.
    for end in [path, format!("/v1/producers/{}", video.id)] {
        pair.call("POST", &format!("{end}/pause"), Value::Null).await;
        let sent = || alice.send.session.source_reports(video.source)[2].frames;
        let settled = sent() + 10;
        assert!(alice.send.session.wait_until(LIMIT, || sent() > settled).await);
        let before = bob.stats(&seen);
        assert!(alice.send.session.wait_until(LIMIT, || sent() > settled + 15).await);
        assert_eq!(bob.stats(&seen).packets, before.packets, "sent while paused");
        pair.call("POST", &format!("{end}/resume"), Value::Null).await;
        sees(&bob, &seen, "frames again", |stats| {
            stats.decodable_frames > before.decodable_frames + 20
        })
        .await;
    }
    assert_clean(&bob.stats(&seen));
    assert_clean(&bob.stats(&heard));
    assert_clean(&alice.stats(&shown));
    assert_eq!(pair.metric("\"hop_dropped\"").await + pair.metric("\"hop_stale\"").await, 0.0);
}

#[tokio::test]
async fn each_packet_goes_over_once_and_no_viewer_misses_one() {
    let pair = room(Pair::builder()).await;
    let alice = pair.join_with("room", "alice", &on(0)).await;
    // One stream, so that what goes over can be counted.
    let options = VideoOptions::single(1_000_000);
    let video = alice.publish_video(options).await.expect("a camera");
    let audio = alice.publish_audio(AudioOptions::default()).await.expect("a microphone");
    let mut viewers = Vec::new();
    for number in 0..6 {
        let viewer = pair.join_with("room", &format!("viewer-{number}"), &on(number % 2)).await;
        let tracks = (consume(&viewer, &video).await, consume(&viewer, &audio).await);
        viewers.push((viewer, tracks));
    }
    for (viewer, (seen, heard)) in &viewers {
        plays(viewer, seen, heard).await;
    }
    // One leaves: nobody else notices.
    let (gone, _) = viewers.pop().expect("a viewer");
    gone.leave().await.expect("it leaves");
    for (viewer, (seen, heard)) in &viewers {
        plays(viewer, seen, heard).await;
    }
    let (over, out) = (
        pair.metric("\"hop_datagrams_out\"").await,
        pair.metric("\"datagrams_out\"").await - pair.metric("\"hop_datagrams_out\"").await,
    );
    // To two viewers there, and to three here: what goes over is a fifth of what leaves, beside reports.
    assert!(over > 0.0 && over < out / 3.0, "{over} of {out}");
    assert_eq!(pair.metric("\"hop_dropped\"").await, 0.0);
}

#[tokio::test]
async fn a_lossy_uplink_is_repaired_for_both() {
    let pair = room(Pair::builder()).await;
    let alice = pair.join_with("room", "alice", &on(0)).await;
    let video = alice.publish_video(VideoOptions::default()).await.expect("a camera");
    let mut viewers = Vec::new();
    for worker in [0, 1] {
        let viewer = pair.join_with("room", &format!("viewer-{worker}"), &on(worker)).await;
        let seen = consume(&viewer, &video).await;
        sees(&viewer, &seen, "frames", |stats| stats.decodable_frames >= 15).await;
        viewers.push((viewer, seen));
    }
    let (mut random, mut lost) = (Random::new(SEED), BTreeSet::new());
    alice.send.session.set_send_filter(Some(Box::new(move |header| {
        random.below(20) != 0 || !lost.insert((header.ssrc, header.sequence_number))
    })));
    for (viewer, seen) in &viewers {
        let frames = viewer.stats(seen).decodable_frames;
        sees(viewer, seen, "frames", |stats| stats.decodable_frames > frames + 60).await;
        let stats = viewer.stats(seen);
        assert_eq!(stats.corrupt + stats.foreign, 0, "{stats:?}");
        assert_eq!(stats.broken_frames, 0, "{stats:?}");
    }
}

#[tokio::test]
async fn a_worker_that_panics_takes_its_own_viewers_alone() {
    let pair = room(Pair::builder().env("IRONCAST_TEST_HOOKS", "1")).await;
    let alice = pair.join_with("room", "alice", &on(0)).await;
    let video = alice.publish_video(VideoOptions::default()).await.expect("a camera");
    let audio = alice.publish_audio(AudioOptions::default()).await.expect("a microphone");
    let bob = pair.join_with("room", "bob", &on(0)).await;
    let (seen, heard) = (consume(&bob, &video).await, consume(&bob, &audio).await);
    let carol = pair.join_with("room", "carol", &on(1)).await;
    let (there, sound) = (consume(&carol, &video).await, consume(&carol, &audio).await);
    plays(&bob, &seen, &heard).await;
    plays(&carol, &there, &sound).await;
    let mut events = pair.control.events(None).await.expect("events");
    pair.refused("POST", "/v1/routers", json!({ "id": "__panic", "workerId": "1" })).await;
    let (mut closed, mut reasons) = (BTreeSet::new(), BTreeSet::new());
    loop {
        let event = tokio::time::timeout(LIMIT, events.next()).await.expect("in time");
        let event = event.expect("an event");
        match event.event.as_str() {
            "transport.closed" => {
                closed.extend(event.data["transportId"].as_str().map(str::to_owned));
                reasons.extend(event.data["reason"].as_str().map(str::to_owned));
            }
            "router.closed" => panic!("the room was closed: {}", event.data),
            "worker.restarted" => break,
            _ => {}
        }
    }
    let own = [&carol.send.id, &carol.receive.id].map(|id| id.clone());
    assert_eq!(closed, BTreeSet::from(own));
    assert_eq!(reasons, BTreeSet::from(["worker_died".to_owned()]));
    plays(&bob, &seen, &heard).await;
    drop(carol);
    // It runs again, and the room comes back to it.
    let dave = pair.join_with("room", "dave", &on(1)).await;
    let (there, sound) = (consume(&dave, &video).await, consume(&dave, &audio).await);
    plays(&dave, &there, &sound).await;
    plays(&bob, &seen, &heard).await;
    let room = pair.call("GET", "/v1/routers/room", Value::Null).await;
    assert_eq!(room["workers"], json!(["0", "1"]));
}

#[tokio::test]
async fn it_outlives_the_control_plane_and_leaves_nothing_behind() {
    let mut pair = room(Pair::builder()).await;
    let alice = pair.join_with("room", "alice", &on(0)).await;
    let video = alice.publish_video(VideoOptions::default()).await.expect("a camera");
    let audio = alice.publish_audio(AudioOptions::default()).await.expect("a microphone");
    let bob = pair.join_with("room", "bob", &on(1)).await;
    let (seen, heard) = (consume(&bob, &video).await, consume(&bob, &audio).await);
    plays(&bob, &seen, &heard).await;
    pair.kill_control();
    plays(&bob, &seen, &heard).await;
    pair.start_control().await;
    let room = pair.call("GET", "/v1/routers/room", Value::Null).await;
    assert_eq!(room["workers"], json!(["0", "1"]));
    assert_eq!(room["consumers"].as_array().map(Vec::len), Some(2));
    let carol = pair.join_with("room", "carol", &on(1)).await;
    let (there, sound) = (consume(&carol, &video).await, consume(&carol, &audio).await);
    plays(&carol, &there, &sound).await;
    plays(&bob, &seen, &heard).await;
    pair.call("DELETE", "/v1/routers/room", Value::Null).await;
    eventually("nothing is left on either worker", || async {
        let workers = pair.call("GET", "/v1/workers", Value::Null).await;
        let workers = workers.as_array().cloned().unwrap_or_default();
        let none = |name: &str| workers.iter().all(|worker| worker[name] == 0);
        workers.len() == 2
            && ["routers", "transports", "producers", "consumers"].iter().all(|n| none(n))
    })
    .await;
}
