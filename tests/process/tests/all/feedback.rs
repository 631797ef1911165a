//! RTCP: key frame requests, reports in both directions, transport-wide feedback.

use ironcast_load::{AudioOptions, VideoOptions, call::ConsumeOptions, random::Random};
use ironcast_process_tests::LIMIT;

use crate::common::{OneToOne, sees};

#[tokio::test]
async fn a_key_frame_request_reaches_the_publisher_and_a_flood_does_not() {
    let call = OneToOne::start(VideoOptions::single(800_000), &ConsumeOptions::default()).await;
    call.bob_sees("frames", |stats| stats.decodable_frames >= 30).await;
    let (publisher, viewer) = (&call.alice.send.session, &call.bob.receive.session);
    let asked = || publisher.source_reports(call.video.source)[0].key_frame_requests;
    for by_fir in [false, true] {
        let (keys, before) = (viewer.receive_stats(call.seen.ssrc).key_frames, asked());
        for _ in 0..50 {
            let sent = match by_fir {
                true => viewer.send_fir(call.seen.ssrc).await,
                false => viewer.send_pli(call.seen.ssrc).await,
            };
            sent.expect("connected");
        }
        call.bob_sees("a key frame", |stats| stats.key_frames > keys).await;
        let frames = viewer.receive_stats(call.seen.ssrc).frames;
        call.bob_sees("half a second more", |stats| stats.frames > frames + 15).await;
        let requests = asked() - before;
        assert!((1..=4).contains(&requests), "{requests} of 50 requests passed");
        // Let the throttle's second pass, so that the other kind starts afresh.
        let frames = viewer.receive_stats(call.seen.ssrc).frames;
        call.bob_sees("two seconds more", |stats| stats.frames > frames + 60).await;
    }
}

#[tokio::test]
async fn sender_reports_stay_true_through_the_server() {
    let call = OneToOne::start(VideoOptions::default(), &ConsumeOptions::default()).await;
    let audio = call.alice.publish_audio(AudioOptions::default()).await.expect("a microphone");
    let heard = call.bob.consume(&audio.id, &ConsumeOptions::default()).await.expect("heard");
    for track in [&call.seen, &heard] {
        let stats =
            sees(&call.bob, track, "sender reports", |stats| stats.sender_reports >= 4).await;
        assert!(stats.report_error_ms_max < 60.0, "{} ms", stats.report_error_ms_max);
    }
}

#[tokio::test]
async fn the_publisher_hears_of_its_loss_and_round_trip() {
    let call = OneToOne::start(VideoOptions::single(1_500_000), &ConsumeOptions::default()).await;
    let publisher = &call.alice.send.session;
    let report = || publisher.source_reports(call.video.source)[0].clone();
    let heard = publisher.wait_until(LIMIT, || report().round_trip_ms.is_some()).await;
    assert!(heard, "no receiver report with a round trip: {:?}", report());
    assert_eq!(report().packets_lost, 0);
    assert!(report().round_trip_ms.is_some_and(|ms| ms < 1_000.0), "{:?}", report());
    let mut random = Random::new(1_393);
    publisher.set_send_filter(Some(Box::new(move |_| random.below(5) != 0)));
    let heard = publisher.wait_until(LIMIT, || report().fraction_lost > 10).await;
    assert!(heard, "no loss is reported: {:?}", report());
}

#[tokio::test]
async fn transport_wide_feedback_speaks_of_every_packet() {
    let call = OneToOne::start(VideoOptions::default(), &ConsumeOptions::default()).await;
    let publisher = &call.alice.send.session;
    let mut lost = 0u32;
    call.bob_sees("frames", |stats| stats.decodable_frames >= 30).await;
    publisher.set_send_filter(Some(Box::new(move |_| {
        lost += 1;
        !lost.is_multiple_of(40)
    })));
    let enough = publisher
        .wait_until(LIMIT, || {
            let feedback = publisher.stats().feedback;
            feedback.messages >= 20 && feedback.received >= 500 && feedback.lost >= 5
        })
        .await;
    let feedback = publisher.stats().feedback;
    assert!(enough, "{feedback:?}");
    assert_eq!((feedback.silent, feedback.invented), (0, 0), "{feedback:?}");
    assert!(feedback.received + feedback.lost + 200 >= feedback.sent, "{feedback:?}");
}
