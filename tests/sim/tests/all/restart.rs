//! Who begins to receive soon after a key frame begins at it: with all that came since, at once, and
//! without another one. Where that cannot be, a key frame is asked for.

use ironcast_core::{MS, Nanos, SECOND, wire::Codec};
use ironcast_sim::World;

struct Scene {
    world: World,
    alice: usize,
    eve: usize,
}

/// Bob has just been sent a key frame of Alice's camera; Eve is there and receives nothing yet.
fn after_a_key_frame(seed: u64, codec: Codec) -> Scene {
    let mut world = World::new(seed);
    let (alice, bob, eve) = (world.join("alice"), world.join("bob"), world.join("eve"));
    world.publish_video(alice, "camera", codec);
    world.run(3 * SECOND);
    let ssrc = world.consume(bob, "camera");
    let bob_sees = |world: &World| world.peers[bob].inboxes[&ssrc].first_picture_at().is_some();
    assert!(world.run_until(SECOND, bob_sees), "seed {seed}");
    Scene { world, alice, eve }
}

impl Scene {
    fn asked(&mut self) -> usize {
        self.world.peers[self.alice].track("camera").sources[0].asked.len()
    }

    /// Eve begins to receive. Gives the time to her first picture, and how often Alice was asked.
    fn eve_begins(&mut self) -> (Nanos, usize) {
        let (before, began) = (self.asked(), self.world.now);
        let ssrc = self.world.consume(self.eve, "camera");
        self.world.run(SECOND);
        self.world.assert_no_faults();
        let inbox = self.world.peers[self.eve].inbox(ssrc);
        let first = inbox.got.values().next().unwrap();
        assert!(first.descriptor.key_frame && first.body.packet == 0);
        assert_eq!(inbox.holes(), []);
        let took = inbox.first_picture_at().unwrap() - began;
        (took, self.asked() - before)
    }
}

#[test]
fn who_comes_soon_after_a_key_frame_needs_no_other() {
    for codec in [Codec::Vp8, Codec::Vp9, Codec::H264, Codec::H265] {
        for (seed, wait) in [(600, 0), (601, 50), (602, 300), (603, 700)] {
            let mut scene = after_a_key_frame(seed, codec);
            scene.world.run(wait * MS);
            let (took, asked) = scene.eve_begins();
            assert_eq!(asked, 0, "{codec:?}, {wait} ms");
            // The way to the receiver alone.
            assert!(took < 30 * MS, "{codec:?}, {wait} ms: {} ms", took / MS);
        }
    }
}

#[test]
fn the_numbers_go_on_where_the_repeated_part_ends() {
    let mut scene = after_a_key_frame(610, Codec::Vp8);
    scene.world.run(400 * MS);
    let ssrc = scene.world.consume(scene.eve, "camera");
    scene.world.run(3 * SECOND);
    scene.world.assert_no_faults();
    let inbox = scene.world.peers[scene.eve].inbox(ssrc);
    assert_eq!((inbox.repeats, inbox.retransmissions), (0, 0));
    let frames: Vec<u32> = inbox.got.values().map(|got| got.body.frame).collect();
    assert!(frames.windows(2).all(|pair| pair[1] == pair[0] || pair[1] == pair[0] + 1));
    // 3 s of 30 frames/s, and the 400 ms before.
    assert!(frames.last().unwrap() - frames[0] > 95);
}

#[test]
fn an_old_key_frame_is_not_used() {
    let mut scene = after_a_key_frame(620, Codec::Vp8);
    scene.world.run(1_100 * MS);
    assert_eq!(scene.eve_begins().1, 1);
}

#[test]
fn nor_one_with_a_hole_behind_it() {
    let mut scene = after_a_key_frame(630, Codec::Vp8);
    let source = &scene.world.peers[scene.alice].track("camera").sources[0];
    scene.world.peers[scene.alice].lose = vec![(source.ssrc, source.index as u16 + 1)];
    // Nor does it come when it is asked for.
    scene.world.peers[scene.alice].down.network.loss = 1.0;
    scene.world.run(200 * MS);
    scene.world.peers[scene.alice].down.network.loss = 0.0;
    let before = scene.asked();
    let ssrc = scene.world.consume(scene.eve, "camera");
    scene.world.run(SECOND);
    assert!(scene.asked() > before);
    let inbox = scene.world.peers[scene.eve].inbox(ssrc);
    assert!(inbox.got.values().next().unwrap().descriptor.key_frame);
    assert_eq!(inbox.holes(), []);
}

#[test]
fn nor_one_that_is_too_much_to_send_at_once() {
    let mut scene = after_a_key_frame(640, Codec::Vp8);
    // 8 Mb/s: 200 kB in 200 ms.
    scene.world.peers[scene.alice].track("camera").sources[0].packets_per_frame = 34;
    scene.world.run(200 * MS);
    assert_eq!(scene.eve_begins().1, 1);
}

#[test]
fn nor_one_from_before_a_pause() {
    for kind in ["producer", "consumer"] {
        let mut scene = after_a_key_frame(650, Codec::Vp8);
        if kind == "consumer" {
            scene.eve_begins();
            scene.world.run(500 * MS);
        }
        let before = scene.asked();
        for paused in [true, false] {
            let now = scene.world.now;
            let worker = scene.world.worker();
            if kind == "producer" {
                worker.apply_pause_producer("camera", paused).unwrap();
            } else {
                worker.apply_pause_consumer("eve/camera", paused, now).unwrap();
            }
            scene.world.run(100 * MS);
        }
        if kind == "producer" {
            // Bob was the first to ask.
            scene.world.consume(scene.eve, "camera");
        }
        scene.world.run(SECOND);
        assert!(scene.asked() > before, "{kind}");
        scene.world.assert_no_faults();
    }
}

/// A key frame and what came since, for very many who begin in one moment: some in each turn, and nobody
/// asks for another one.
#[test]
fn many_begin_one_after_the_other() {
    const VIEWERS: usize = 30;
    let mut world = World::new(660);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.publish_video(alice, "camera", Codec::Vp8);
    let viewers: Vec<usize> = (0..VIEWERS).map(|n| world.join(&format!("viewer-{n}"))).collect();
    world.run(3 * SECOND);
    let ssrc = world.consume(bob, "camera");
    let bob_sees = |world: &World| world.peers[bob].inboxes[&ssrc].first_picture_at().is_some();
    assert!(world.run_until(SECOND, bob_sees));
    // 30 frames of three packets.
    world.run(SECOND / 2);
    let asked = world.peers[alice].track("camera").sources[0].asked.len();
    let began = world.now;
    let ssrcs: Vec<_> = viewers.iter().map(|v| (*v, world.consume(*v, "camera"))).collect();
    world.run(SECOND);
    world.assert_no_faults();
    assert_eq!(world.peers[alice].track("camera").sources[0].asked.len(), asked);
    let mut firsts: Vec<Nanos> = Vec::new();
    for (viewer, ssrc) in ssrcs {
        let inbox = world.peers[viewer].inbox(ssrc);
        assert_eq!(inbox.holes(), []);
        firsts.push(inbox.first_picture_at().unwrap() - began);
    }
    firsts.sort_unstable();
    let soonest = firsts.iter().filter(|first| **first == firsts[0]).count();
    assert!(soonest < VIEWERS / 2, "{soonest} in the first turn");
    assert!(firsts.last().unwrap() - firsts[0] < 20 * MS, "{firsts:?}");
}
