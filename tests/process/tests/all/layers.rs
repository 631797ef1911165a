//! Which simulcast layer a viewer gets, and that a change leaves no trace in the numbers.

use ironcast_load::{VideoOptions, call::ConsumeOptions};
use serde_json::{Value, json};

use crate::common::{OneToOne, assert_clean};

fn camera() -> VideoOptions {
    VideoOptions { temporal_layers: 3, ..VideoOptions::default() }
}

#[tokio::test]
async fn preferred_layers_are_followed_without_a_jump() {
    let call = OneToOne::start(camera(), &ConsumeOptions::default()).await;
    let path = format!("/v1/consumers/{}", call.seen.id);
    for (spatial, temporal) in [(0, 2), (2, 2), (1, 0), (2, 1), (0, 0), (2, 2)] {
        let layers = json!({ "spatialLayer": spatial, "temporalLayer": temporal });
        call.pair.call("PATCH", &path, json!({ "preferredLayers": layers })).await;
        let wanted = call.first_stream + spatial;
        call.bob_sees(&format!("layer {spatial}.{temporal}"), |stats| {
            stats.stream == Some(wanted) && stats.temporal == temporal as u8
        })
        .await;
    }
    let stats = call.bob_sees("all switches", |stats| stats.switches.len() >= 5).await;
    assert_clean(&stats);
    assert!(stats.switches.iter().all(|switch| switch.at_key_frame), "{:?}", stats.switches);
}

#[tokio::test]
async fn a_consumer_can_begin_with_a_low_layer() {
    let consume = ConsumeOptions {
        body: Some(json!({ "preferredLayers": { "spatialLayer": 0, "temporalLayer": 0 } })),
        ..ConsumeOptions::default()
    };
    let call = OneToOne::start(camera(), &consume).await;
    let stats = call.bob_sees("frames", |stats| stats.decodable_frames >= 15).await;
    assert_clean(&stats);
    assert_eq!((stats.stream, stats.temporal), (Some(call.first_stream), 0));
    assert!(stats.switches.is_empty(), "{:?}", stats.switches);
}

#[tokio::test]
async fn a_weak_network_gets_a_lower_layer_and_it_comes_back() {
    let call = OneToOne::start(camera(), &ConsumeOptions::default()).await;
    let viewer = &call.bob.receive.session;
    let top = call.first_stream + 2;
    viewer.set_remb(Some(20_000_000));
    call.bob_sees("the top layer", |stats| stats.stream == Some(top)).await;
    viewer.set_remb(Some(180_000));
    call.bob_sees("the lowest layer", |stats| stats.stream == Some(call.first_stream)).await;
    viewer.set_remb(Some(20_000_000));
    let stats = call.bob_sees("the top layer again", |stats| stats.stream == Some(top)).await;
    assert_clean(&stats);
}

#[tokio::test]
async fn a_layer_that_stops_is_replaced_and_comes_back() {
    let call = OneToOne::start(camera(), &ConsumeOptions::default()).await;
    let top = call.first_stream + 2;
    call.bob_sees("the top layer", |stats| stats.stream == Some(top)).await;
    call.alice.send.session.set_layer_active(call.video.source, 2, false);
    call.bob_sees("a lower layer", |stats| stats.stream == Some(top - 1)).await;
    call.alice.send.session.set_layer_active(call.video.source, 2, true);
    let stats = call.bob_sees("the top layer again", |stats| stats.stream == Some(top)).await;
    assert_clean(&stats);
}

#[tokio::test]
async fn pause_and_resume_at_both_ends() {
    let call = OneToOne::start(camera(), &ConsumeOptions::default()).await;
    let ends =
        [format!("/v1/consumers/{}", call.seen.id), format!("/v1/producers/{}", call.video.id)];
    for end in ends {
        call.bob_sees("frames", |stats| stats.decodable_frames >= 15).await;
        call.pair.call("POST", &format!("{end}/pause"), Value::Null).await;
        let shown = call.pair.call("GET", &end, Value::Null).await;
        assert_eq!(shown["paused"], true);
        // What was under way arrives; then nothing any more while the source goes on.
        let sent = || call.alice.send.session.source_reports(call.video.source)[2].frames;
        let settled = sent() + 10;
        let publisher = &call.alice.send.session;
        assert!(publisher.wait_until(ironcast_process_tests::LIMIT, || sent() > settled).await);
        let before = call.bob.stats(&call.seen);
        assert!(
            publisher.wait_until(ironcast_process_tests::LIMIT, || sent() > settled + 15).await
        );
        assert_eq!(call.bob.stats(&call.seen).packets, before.packets, "sent while paused");
        call.pair.call("POST", &format!("{end}/resume"), Value::Null).await;
        let stats = call
            .bob_sees("frames again", |stats| {
                stats.decodable_frames > before.decodable_frames + 20
                    && stats.key_frames > before.key_frames
            })
            .await;
        assert_clean(&stats);
    }
}
