//! Losses on both sides are repaired, and whatever happens no packet index is sealed twice with
//! different bytes (the world's witness panics when one is).

use ironcast_core::{
    MS, SECOND,
    wire::{Codec, rtcp::ReportBlock},
};
use ironcast_sim::{Network, World, world::Want};

#[test]
fn losses_on_both_sides_are_repaired_by_rtx() {
    for seed in 100..106 {
        let mut world = World::new(seed);
        let alice = world.join_over("alice", Network::lossy(0.03), Network::default());
        let bob = world.join_over("bob", Network::default(), Network::lossy(0.03));
        world.publish_video(alice, "camera", Codec::Vp8);
        let ssrc = world.consume(bob, "camera");
        world.run(10 * SECOND);
        world.peers[alice].track("camera").muted = true;
        for peer in &mut world.peers {
            (peer.up.network.loss, peer.down.network.loss) = (0.0, 0.0);
        }
        world.run(2 * SECOND);
        world.assert_no_faults();
        let inbox = world.peers[bob].inbox(ssrc);
        assert!(world.peers[alice].up.lost > 10 && world.peers[bob].down.lost > 10);
        assert!(inbox.retransmissions > 10, "seed {seed}");
        assert_eq!(inbox.holes(), [], "seed {seed}");
        assert!(inbox.got.len() > 850, "seed {seed}: {}", inbox.got.len());
    }
}

#[test]
fn without_rtx_a_repeat_is_the_same_packet() {
    for seed in 110..114 {
        let mut world = World::new(seed);
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        let carol = world.join_over("carol", Network::default(), Network::lossy(0.10));
        world.publish_audio(alice, "mic");
        let want = Want { rtx: false, ..Want::default() };
        let bobs = world.consume_as(bob, "mic", want.clone()).0;
        let carols = world.consume_as(carol, "mic", want).0;
        world.run(10 * SECOND);
        world.peers[alice].track("mic").muted = true;
        world.peers[carol].down.network.loss = 0.0;
        world.run(2 * SECOND);
        world.assert_no_faults();
        let repaired = world.peers[carol].inbox(carols);
        assert!(world.peers[carol].down.lost > 20, "seed {seed}");
        assert_eq!(repaired.holes(), [], "seed {seed}");
        let bodies = |peer: usize, ssrc| -> Vec<_> {
            world.peers[peer].inbox(ssrc).got.values().map(|got| got.body).collect()
        };
        let (all, seen) = (bodies(bob, bobs), bodies(carol, carols));
        let first = all.iter().position(|body| *body == seen[0]).unwrap();
        assert_eq!(all[first..], seen, "seed {seed}");
        // The witness has seen the repeats: same index, same bytes.
        assert!(world.counter("rtp_retransmitted") > 20);
    }
}

/// Where losses are some, each frame's last packet is sent twice. Figures know of those repeats, and they
/// leave room for what is asked for.
#[test]
fn the_last_packets_of_frames_that_are_sent_twice_are_in_the_figures() {
    let mut world = World::new(118);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.publish_video(alice, "camera", Codec::Vp8);
    let ssrc = world.consume(bob, "camera");
    // He reports 6 % of losses, and has none.
    world.peers[bob].reports = false;
    for _ in 0..30 {
        let block = ReportBlock { ssrc, fraction_lost: 15, ..ReportBlock::default() };
        let bytes = world.peers[bob].seal_rtcp(|w| w.receiver_report(1, &[block]));
        world.send(bob, bytes);
        world.run(SECOND);
    }
    world.peers[alice].track("camera").muted = true;
    world.run(SECOND);
    world.assert_no_faults();
    let got = world.peers[bob].inbox(ssrc).retransmissions;
    assert!(got > 700, "{got}");
    assert_eq!(world.counter("rtp_retransmitted"), got);
    let now = world.now;
    let stats = world.worker().consumer_stats("bob/camera", now).unwrap().outbound;
    assert_eq!(stats.packets_retransmitted, got);
    let bytes = world.worker().transport_stats("bob", now).unwrap();
    assert!((got * 1_020..got * 1_090).contains(&bytes.rtx_bytes_sent), "{bytes:?}");
    assert!(bytes.bytes_sent > bytes.rtp_bytes_sent + bytes.rtx_bytes_sent);
    assert_eq!(world.counter("rtp_repeats_refused"), 0);
}

#[test]
fn a_bad_network_both_ways_leaves_a_moving_picture() {
    for seed in 120..126 {
        let mut world = World::new(seed);
        let alice = world.join_over("alice", Network::bad(), Network::bad());
        let bob = world.join_over("bob", Network::bad(), Network::bad());
        world.publish_simulcast(alice, "camera", 3);
        world.publish_audio(alice, "mic");
        let video = world.consume(bob, "camera");
        let audio = world.consume_as(bob, "mic", Want { rtx: false, ..Want::default() }).0;
        world.run(20 * SECOND);
        world.assert_no_faults();
        let frames = world.peers[bob].inbox(video).frames().len();
        assert!(frames > 450, "seed {seed}: {frames} frames");
        let packets = world.peers[bob].inbox(audio).got.len();
        assert!(packets > 930, "seed {seed}: {packets} packets of audio");
    }
}

#[test]
fn losses_upstream_stay_open_and_are_not_the_receivers() {
    for seed in 130..133 {
        let mut world = World::new(seed);
        let alice = world.join("alice");
        let bob = world.join("bob");
        let track = world.publish_audio(alice, "mic");
        track.sources[0].rtx_ssrc = None;
        let ssrc =
            world.consume_as(bob, "mic", Want { nack: false, rtx: false, ..Want::default() }).0;
        world.run(SECOND);
        // The publisher answers no request, so that what is lost stays lost.
        world.peers[alice].down.network.loss = 1.0;
        world.peers[alice].up.network.loss = 0.2;
        world.run(6 * SECOND);
        let lost = world.peers[bob].inbox(ssrc).holes().len();
        assert!(lost > 20, "seed {seed}: {lost}");
        // Of those of the last moments not all are given up yet.
        let given_up = world.counter("rtp_given_up");
        assert!((lost as u64 / 2..=lost as u64 + 5).contains(&given_up), "{given_up} of {lost}");
        let frames: Vec<_> = world.peers[bob]
            .inbox(ssrc)
            .got
            .iter()
            .map(|(index, g)| (*index, g.body.frame))
            .collect();
        let first = frames[0];
        // Each packet has the place that it would have without losses.
        assert!(frames.iter().all(|(i, f)| i - first.0 == u64::from(f - first.1)), "seed {seed}");
        let now = world.now;
        let stats = world.worker().transport_stats("bob", now).unwrap();
        assert!(stats.available_outgoing_bitrate.is_none_or(|bps| bps >= 600_000), "{stats:?}");
    }
}

#[test]
fn late_packets_keep_their_place_and_doubles_are_dropped_and_counted() {
    for seed in 140..144 {
        let mut world = World::new(seed);
        let up =
            Network { reordered: 0.1, reordered_by: 5 * MS, duplicates: 0.1, ..Network::default() };
        let alice = world.join_over("alice", up, Network::default());
        let bob = world.join("bob");
        world.publish_video(alice, "camera", Codec::Vp8);
        let ssrc = world.consume(bob, "camera");
        world.run(6 * SECOND);
        world.peers[alice].track("camera").muted = true;
        world.run(SECOND);
        world.assert_no_faults();
        let inbox = world.peers[bob].inbox(ssrc);
        assert_eq!(inbox.holes(), [], "seed {seed}");
        let mut bodies = inbox.got.values().map(|got| (got.body.frame, got.body.packet));
        assert!(bodies.by_ref().collect::<Vec<_>>().is_sorted(), "seed {seed}");
        let mut sorted = inbox.order.clone();
        sorted.sort_unstable();
        assert_ne!(inbox.order, sorted, "seed {seed}: nothing was late");
        assert!(world.discarded(ironcast_core::Discard::SrtpReplayed) > 20, "seed {seed}");
    }
}
