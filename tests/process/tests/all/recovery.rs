//! Lost packets come again, in both directions, with and without retransmission streams.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use ironcast_load::{Bytes, PeerOptions, VideoOptions, call::ConsumeOptions, random::Random};
use ironcast_process_tests::Pair;

use crate::common::{OneToOne, brief, good_network, sees};

const SEED: u64 = 3_166_062;

/// Loses one of ten packets, each at most once.
fn one_of_ten(
    mut random: Random,
    ssrc: Option<u32>,
) -> Box<dyn FnMut(&ironcast_load::rtp::header::Header) -> bool + Send> {
    let mut lost = BTreeSet::new();
    Box::new(move |header| {
        ssrc.is_some_and(|ssrc| header.ssrc != ssrc)
            || random.below(10) != 0
            || !lost.insert((header.ssrc, header.sequence_number))
    })
}

#[tokio::test]
async fn what_is_lost_to_a_viewer_comes_again() {
    for without_rtx in [false, true] {
        let consume = ConsumeOptions { without_rtx, ..ConsumeOptions::default() };
        let call = OneToOne::start(VideoOptions::single(1_500_000), &consume).await;
        assert_eq!(call.seen.answer["rtpParameters"]["encodings"][0]["rtx"].is_null(), without_rtx);
        let filter = one_of_ten(Random::new(SEED), Some(call.seen.ssrc));
        call.bob.receive.session.peer().set_filter(Some(filter));
        let stats = call
            .bob_sees("recovered packets", |stats| {
                stats.recovered >= 20 && stats.decodable_frames >= 90
            })
            .await;
        assert_eq!((stats.corrupt, stats.broken_frames), (0, 0), "{}", brief(&stats));
        assert!(stats.anomalies.is_empty(), "{}", brief(&stats));
        assert_eq!(stats.rtx_packets > 0, !without_rtx, "{}", brief(&stats));
        assert!(stats.lost < 20, "the last ones may still be on their way: {}", brief(&stats));
    }
}

/// So few packets that even an emulated machine keeps up with them (`tests/kernels`).
#[tokio::test]
async fn a_slow_picture_is_repaired_on_a_slow_machine() {
    let camera = VideoOptions { frame_rate: 5.0, ..VideoOptions::single(120_000) };
    let call = OneToOne::start(camera, &ConsumeOptions::default()).await;
    let filter = one_of_ten(Random::new(SEED), Some(call.seen.ssrc));
    call.bob.receive.session.peer().set_filter(Some(filter));
    let stats = call
        .bob_sees("recovered packets", |stats| {
            stats.recovered >= 4 && stats.decodable_frames >= 20 && stats.lost == 0
        })
        .await;
    assert_eq!((stats.corrupt, stats.foreign), (0, 0), "{}", brief(&stats));
    assert!(stats.anomalies.is_empty() && stats.rtx_packets >= 4, "{}", brief(&stats));
}

/// A packet index is sealed once: what comes again without a retransmission stream is the same
/// datagram, bit by bit.
#[tokio::test]
async fn without_rtx_the_repeat_is_the_same_datagram() {
    let pair = Pair::start().await;
    pair.create_room("room").await;
    let mut options = good_network();
    let alice = pair.join_with("room", "alice", &options).await;
    options.peer = PeerOptions { keep_sealed: true, ..options.peer };
    let bob = pair.join_with("room", "bob", &options).await;
    let camera = VideoOptions::single(1_500_000);
    let video = alice.publish_video(camera).await.expect("a camera");
    let consume = ConsumeOptions { without_rtx: true, ..ConsumeOptions::default() };
    let seen = bob.consume(&video.id, &consume).await.expect("seen");

    // All packets are let through; some are asked for again although they arrived.
    let sealed: Arc<Mutex<BTreeMap<u16, Bytes>>> = Arc::default();
    let repeats: Arc<Mutex<u32>> = Arc::default();
    let (first, again) = (Arc::clone(&sealed), Arc::clone(&repeats));
    let ssrc = seen.ssrc;
    bob.receive.session.set_tap(Some(Box::new(move |arrival| {
        if arrival.packet.header.ssrc != ssrc {
            return;
        }
        let bytes = arrival.sealed.clone().expect("kept");
        let mut first = first.lock().expect("no panic while locked");
        match first.get(&arrival.packet.header.sequence_number) {
            Some(before) => {
                assert_eq!(*before, bytes, "the index was sealed twice");
                *again.lock().expect("no panic while locked") += 1;
            }
            None => {
                first.insert(arrival.packet.header.sequence_number, bytes);
            }
        }
    })));
    sees(&bob, &seen, "packets", |stats| stats.decodable_frames >= 30).await;
    for _ in 0..5 {
        let wanted: Vec<u16> = {
            let sealed = sealed.lock().expect("no panic while locked");
            sealed.keys().rev().take(8).copied().collect()
        };
        bob.receive.session.send_nack(ssrc, &wanted).await.expect("connected");
        let before = sees(&bob, &seen, "more", |_| true).await.packets;
        sees(&bob, &seen, "more", |stats| stats.packets > before + 20).await;
    }
    assert!(*repeats.lock().expect("no panic while locked") >= 5, "hardly anything came again");
}

#[tokio::test]
async fn what_is_lost_on_the_way_to_the_server_is_asked_for() {
    for with_rtx in [true, false] {
        let mut camera = VideoOptions::single(1_500_000);
        if !with_rtx {
            camera = camera.without_rtx();
        }
        let call = OneToOne::start(camera, &ConsumeOptions::default()).await;
        call.bob_sees("frames", |stats| stats.decodable_frames >= 5).await;
        call.alice.send.session.set_send_filter(Some(one_of_ten(Random::new(SEED), None)));
        let stats = call.bob_sees("120 frames", |stats| stats.decodable_frames >= 120).await;
        let sent = &call.alice.send.session.source_reports(call.video.source)[0];
        assert!(sent.repeats >= 10, "{sent:?}");
        assert_eq!(stats.corrupt, 0, "{}", brief(&stats));
        assert!(stats.anomalies.is_empty(), "{}", brief(&stats));
    }
}

#[tokio::test]
async fn simulcast_recovers_on_all_layers() {
    let call = OneToOne::start(VideoOptions::default(), &ConsumeOptions::default()).await;
    call.bob_sees("frames", |stats| stats.decodable_frames >= 5).await;
    call.alice.send.session.set_send_filter(Some(one_of_ten(Random::new(SEED), None)));
    let session = &call.alice.send.session;
    let all_repeat = session
        .wait_until(ironcast_process_tests::LIMIT, || {
            session.source_reports(call.video.source).iter().all(|layer| layer.repeats >= 3)
        })
        .await;
    assert!(all_repeat, "{:?}", session.source_reports(call.video.source));
}
