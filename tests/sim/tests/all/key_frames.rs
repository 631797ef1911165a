//! Who asks for key frames, and how often a publisher hears of it.

use ironcast_core::{MS, SECOND, wire::Codec};
use ironcast_sim::{Network, World};

#[test]
fn many_joiners_make_few_requests_and_all_have_a_picture_soon() {
    for seed in 300..303 {
        let mut world = World::new(seed);
        let alice = world.join("alice");
        world.publish_video(alice, "camera", Codec::Vp8);
        let peers: Vec<_> = (0..20).map(|i| world.join(&format!("bob{i}"))).collect();
        world.run(2 * SECOND);
        let asked_at = world.now;
        let streams: Vec<_> =
            peers.iter().map(|&bob| (bob, world.consume(bob, "camera"))).collect();
        world.run(2 * SECOND);
        for (bob, ssrc) in streams {
            let at = world.peers[bob].inbox(ssrc).first_picture_at().unwrap();
            // To the publisher, its next frame, back, and to the receiver.
            assert!(at - asked_at < 120 * MS, "seed {seed}: {}", (at - asked_at) / MS);
        }
        let asked = &world.peers[alice].track("camera").sources[0].asked;
        let asked = asked.iter().filter(|(at, _)| *at > asked_at).count();
        assert_eq!(asked, 1, "seed {seed}");
    }
}

#[test]
fn a_request_or_key_frame_that_is_lost_is_asked_for_again() {
    for seed in 310..314 {
        let mut world = World::new(seed);
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        world.publish_video(alice, "camera", Codec::Vp8);
        world.run(2 * SECOND);
        world.peers[alice].down.network.loss = 1.0;
        let ssrc = world.consume(bob, "camera");
        world.run(400 * MS);
        assert_eq!(world.peers[bob].inbox(ssrc).first_picture_at(), None, "seed {seed}");
        world.peers[alice].down.network.loss = 0.0;
        world.run(SECOND);
        assert!(world.peers[bob].inbox(ssrc).first_picture_at().is_some(), "seed {seed}");
    }
}

#[test]
fn wishes_of_one_receiver_are_throttled() {
    for (seed, fir) in [(320, false), (321, true)] {
        let mut world = World::new(seed);
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        world.publish_video(alice, "camera", Codec::Vp8);
        let ssrc = world.consume(bob, "camera");
        world.run(3 * SECOND);
        let before = world.peers[alice].track("camera").sources[0].asked.len();
        for i in 0..100u8 {
            let bytes = world.peers[bob].seal_rtcp(|w| {
                if fir { w.full_intra(5, &[(ssrc, i)]) } else { w.picture_loss(5, ssrc) }
            });
            world.send(bob, bytes);
            world.run(20 * MS);
        }
        let asked = world.peers[alice].track("camera").sources[0].asked.len() - before;
        assert!((4..=8).contains(&asked), "seed {seed}: {asked}");
        let now = world.now;
        let stats = world.worker().consumer_stats("bob/camera", now).unwrap();
        let counted = if fir { stats.outbound.fir_count } else { stats.outbound.pli_count };
        assert_eq!(counted, 100, "seed {seed}");
    }
}

#[test]
fn one_wish_under_heavy_loss_still_gives_a_picture() {
    for seed in 330..336 {
        let mut world = World::new(seed);
        let alice = world.join_over("alice", Network::lossy(0.1), Network::lossy(0.1));
        let bob = world.join_over("bob", Network::lossy(0.1), Network::lossy(0.1));
        world.publish_video(alice, "camera", Codec::H264);
        world.run(2 * SECOND);
        let joined = world.now;
        let ssrc = world.consume(bob, "camera");
        world.run(3 * SECOND);
        world.assert_no_faults();
        let at = world.peers[bob].inbox(ssrc).first_picture_at().unwrap_or(u64::MAX);
        assert!(at < joined + 2 * SECOND, "seed {seed}: {}", at.saturating_sub(joined) / MS);
    }
}
