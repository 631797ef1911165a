//! Media from one participant to another, payloads verified end to end.

use ironcast_load::{
    AudioOptions, DtlsRole, PeerOptions, SrtpProfile, VideoOptions,
    call::{ConsumeOptions, JoinOptions},
    source::VideoCodec,
};
use ironcast_process_tests::Pair;
use serde_json::Value;

use crate::common::{OneToOne, assert_clean, good_network, sees};

#[tokio::test]
async fn simulcast_and_sound_arrive_as_they_were_sent() {
    let pair = Pair::start().await;
    pair.create_room("room").await;
    let alice = pair.join_with("room", "alice", &good_network()).await;
    let bob = pair.join_with("room", "bob", &good_network()).await;
    let video = VideoOptions::default();
    let top = video.stream + 2;
    let video = alice.publish_video(video).await.expect("a camera");
    assert_eq!(video.kind, "simulcast");
    let audio = alice.publish_audio(AudioOptions::default()).await.expect("a microphone");
    assert_eq!(audio.kind, "simple");

    let seen = bob.consume(&video.id, &ConsumeOptions::default()).await.expect("the camera");
    let heard = bob.consume(&audio.id, &ConsumeOptions::default()).await.expect("the microphone");
    let stats = sees(&bob, &seen, "60 frames of the top layer", |stats| {
        stats.stream == Some(top) && stats.decodable_frames >= 60
    })
    .await;
    assert_clean(&stats);
    assert_eq!(stats.size, Some((960, 540)));
    let stats = sees(&bob, &heard, "100 packets of sound", |stats| stats.verified >= 100).await;
    assert_clean(&stats);
}

#[tokio::test]
async fn every_cipher_and_both_roles() {
    let pair = Pair::start().await;
    pair.create_room("room").await;
    for profile in SrtpProfile::ALL {
        for role in [DtlsRole::Client, DtlsRole::Server] {
            let options = JoinOptions {
                peer: PeerOptions { profiles: vec![profile], role, ..PeerOptions::default() },
                ..good_network()
            };
            let alice = pair.join_with("room", "alice", &options).await;
            let bob = pair.join_with("room", "bob", &options).await;
            assert_eq!((alice.send.profile, bob.receive.profile), (profile, profile));
            let camera = VideoOptions::single(800_000);
            let video = alice.publish_video(camera).await.expect("a camera");
            let seen = bob.consume(&video.id, &ConsumeOptions::default()).await.expect("seen");
            let stats = sees(&bob, &seen, "frames", |stats| stats.decodable_frames >= 15).await;
            assert_clean(&stats);
            let stats = sees(&bob, &seen, "a sender report", |stats| stats.sender_reports > 0);
            stats.await;
            alice.leave().await.expect("alice leaves");
            bob.leave().await.expect("bob leaves");
        }
    }
}

#[tokio::test]
async fn gcm_is_chosen_whenever_it_is_offered() {
    let pair = Pair::start().await;
    pair.create_room("room").await;
    let options = JoinOptions {
        peer: PeerOptions {
            profiles: vec![SrtpProfile::AesCm128, SrtpProfile::Gcm128, SrtpProfile::Gcm256],
            ..PeerOptions::default()
        },
        ..JoinOptions::default()
    };
    let alice = pair.join_with("room", "alice", &options).await;
    assert_ne!(alice.send.profile, SrtpProfile::AesCm128);
}

#[tokio::test]
async fn every_codec_as_a_single_stream() {
    for codec in [VideoCodec::Vp8, VideoCodec::H264, VideoCodec::Vp9] {
        let camera = VideoOptions { codec, ..VideoOptions::single(1_000_000) };
        let call = OneToOne::start(camera, &ConsumeOptions::default()).await;
        let stats =
            call.bob_sees("30 frames", |stats| stats.frames >= 30 && stats.key_frames > 0).await;
        assert_clean(&stats);
        assert_eq!(call.seen.answer["rtpParameters"]["codecs"][0]["mimeType"], codec.mime_type());
    }
}

#[tokio::test]
async fn a_call_over_ipv6() {
    let pair = Pair::builder().set("rtc.listen", "127.0.0.1,::1").start().await;
    pair.create_room("room").await;
    let six = JoinOptions { ipv6: true, ..good_network() };
    let alice = pair.join_with("room", "alice", &six).await;
    let bob = pair.join_with("room", "bob", &six).await;
    let carol = pair.join_with("room", "carol", &good_network()).await;
    let camera = VideoOptions::single(800_000);
    let video = alice.publish_video(camera).await.expect("a camera");
    for viewer in [&bob, &carol] {
        let seen = viewer.consume(&video.id, &ConsumeOptions::default()).await.expect("seen");
        let stats = sees(viewer, &seen, "frames", |stats| stats.decodable_frames >= 30).await;
        assert_clean(&stats);
    }
}

#[tokio::test]
async fn sequence_numbers_and_timestamps_roll_over() {
    let mut camera = VideoOptions::single(2_000_000);
    camera.layers[0].first_sequence = Some(65_450);
    camera.layers[0].first_timestamp = Some(u32::MAX - 45_000);
    let call = OneToOne::start(camera, &ConsumeOptions::default()).await;
    let stats = call.bob_sees("the rollover", |stats| stats.decodable_frames >= 90).await;
    assert_clean(&stats);
    let sent = &call.alice.send.session.source_reports(call.video.source)[0];
    assert!(sent.packets > 100, "{sent:?}");
}

#[tokio::test]
async fn ten_viewers_see_the_same() {
    let pair = Pair::start().await;
    pair.create_room("room").await;
    let alice = pair.join_with("room", "alice", &good_network()).await;
    let video = alice.publish_video(VideoOptions::single(500_000)).await.expect("a camera");
    let mut viewers = Vec::new();
    for number in 0..10 {
        let viewer = pair.join_with("room", &format!("viewer-{number}"), &good_network()).await;
        let seen = viewer.consume(&video.id, &ConsumeOptions::default()).await.expect("seen");
        viewers.push((viewer, seen));
    }
    for (viewer, seen) in &viewers {
        let stats = sees(viewer, seen, "frames", |stats| stats.decodable_frames >= 30).await;
        assert_clean(&stats);
    }
}

#[tokio::test]
async fn what_the_api_says_of_a_running_call() {
    let call = OneToOne::start(VideoOptions::default(), &ConsumeOptions::default()).await;
    call.bob_sees("frames", |stats| stats.decodable_frames >= 30).await;
    let pair = &call.pair;
    let transport = format!("/v1/transports/{}", call.alice.send.id);
    let shown = pair.call("GET", &transport, Value::Null).await;
    assert_eq!(
        (&shown["iceState"], &shown["dtlsState"]),
        (&"completed".into(), &"connected".into())
    );
    let stats = pair.call("GET", &format!("{transport}/stats"), Value::Null).await;
    assert!(stats[0]["rtpBytesReceived"].as_u64().is_some_and(|bytes| bytes > 10_000), "{stats}");
    let path = format!("/v1/producers/{}/stats", call.video.id);
    let stats = pair.call("GET", &path, Value::Null).await;
    let streams = stats.as_array().expect("one record a stream");
    assert_eq!(streams.len(), 3, "{stats}");
    assert!(streams.iter().all(|one| one["packetCount"].as_u64().is_some_and(|count| count > 10)));
    let path = format!("/v1/consumers/{}/stats", call.seen.id);
    let stats = pair.call("GET", &path, Value::Null).await;
    assert_eq!(stats[0]["type"], "outbound-rtp");
    assert_eq!(stats[0]["ssrc"], call.seen.ssrc);
    assert!(stats[0]["packetCount"].as_u64().is_some_and(|count| count > 10), "{stats}");
}

#[tokio::test]
async fn a_call_needs_nothing_that_an_older_kernel_lacks() {
    // Frames of several packets: turns are held for the rest of each.
    let without = "min_wait,registered_ring,segmentation";
    let pair = Pair::builder().env("IRONCAST_TEST_WITHOUT", without).start().await;
    let call =
        OneToOne::start_on(pair, VideoOptions::single(2_000_000), &ConsumeOptions::default()).await;
    let stats = call.bob_sees("60 frames", |stats| stats.decodable_frames >= 60).await;
    assert_clean(&stats);
    assert!(call.pair.metric("\"holds\"").await > 0.0, "{}", call.pair.metrics().await);
    assert_eq!(call.pair.metric("\"segmented_sends\"").await, 0.0);
    assert!(!call.pair.log("controlplane").contains("died"));
}
