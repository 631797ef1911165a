//! RED around Opus: what is lost of a voice comes back out of what follows, upstream and downstream,
//! whoever of the two speaks it.

use ironcast_core::{SECOND, wire::Codec};
use ironcast_sim::{Network, World, world::Want};

/// Receivers that ask for nothing.
fn want(red: bool) -> Want {
    Want { nack: false, rtx: false, red, ..Want::default() }
}

/// A voice for a minute over lossy ways: what one with RED and one without miss of it. `levels`: how
/// many earlier payloads its publisher sends with each.
fn unheard(seed: u64, levels: usize, up: f64, down: f64) -> (f64, f64) {
    let mut world = World::new(seed);
    let alice = world.join_over("alice", Network::lossy(up), Network::default());
    let bob = world.join_over("bob", Network::default(), Network::lossy(down));
    let carol = world.join_over("carol", Network::default(), Network::lossy(down));
    world.publish_voice(alice, "mic", levels);
    let red = world.consume_as(bob, "mic", want(true)).0;
    let plain = world.consume_as(carol, "mic", want(false)).0;
    world.run(60 * SECOND);
    world.assert_no_faults();
    for (peer, ssrc) in [(bob, red), (carol, plain)] {
        let inbox = world.peers[peer].inbox(ssrc);
        assert!(inbox.got.len() > 2_400, "seed {seed}: {}", inbox.got.len());
        assert_eq!(inbox.redundant.is_empty(), peer == carol, "seed {seed}");
    }
    let of = |peer: usize, ssrc| world.peers[peer].inbox(ssrc).share_unheard();
    (of(bob, red), of(carol, plain))
}

#[test]
fn with_five_of_a_hundred_lost_each_way_hardly_a_frame_is_missing() {
    for seed in 2_300..2_306 {
        for levels in [1, 2] {
            let (red, plain) = unheard(seed, levels, 0.05, 0.05);
            assert!(red < 0.01, "seed {seed}, {levels}: {red}");
            // The way up is repaired for who takes plain Opus, too; the way down is not.
            assert!((0.035..0.07).contains(&plain), "seed {seed}, {levels}: {plain}");
        }
        let (red, plain) = unheard(seed, 0, 0.05, 0.05);
        assert!((0.035..0.07).contains(&red), "seed {seed}: only the way down is repaired: {red}");
        assert!((0.075..0.12).contains(&plain), "seed {seed}: nothing is: {plain}");
    }
}

#[test]
fn each_way_is_repaired_alone() {
    for seed in 2_310..2_314 {
        let (red, plain) = unheard(seed, 1, 0.05, 0.0);
        assert!(red < 0.01 && plain < 0.01, "seed {seed}: stripped {plain}, passed {red}");
        let (red, plain) = unheard(seed, 0, 0.0, 0.05);
        assert!(red < 0.005 && plain > 0.035, "seed {seed}: added {red}, plain {plain}");
    }
}

/// Without loss nothing is taken for lost, numbers have no holes, and who takes plain Opus gets what
/// was said, in order and once.
#[test]
fn what_is_stripped_is_the_same_opus() {
    for seed in 2_320..2_323 {
        let mut world = World::new(seed);
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        world.publish_voice(alice, "mic", 2);
        let plain = world.consume_as(bob, "mic", want(false)).0;
        world.run(10 * SECOND);
        world.assert_no_faults();
        let inbox = world.peers[bob].inbox(plain);
        assert_eq!((inbox.holes(), inbox.redundant.len()), (vec![], 0), "seed {seed}");
        assert_eq!(inbox.order, inbox.got.keys().copied().collect::<Vec<_>>());
        let frames: Vec<_> = inbox.got.values().map(|got| got.body.frame).collect();
        assert_eq!(frames, (frames[0]..frames[0] + frames.len() as u32).collect::<Vec<_>>());
        assert!(inbox.got.values().all(|got| got.audio_level.is_some()));
        assert_eq!(world.counter("rtp_recovered"), 0);
    }
}

/// Packets that overtake each other, come twice, and are lost in bursts: what comes back is what was
/// lost, under the number that it had.
#[test]
fn on_a_bad_network_nothing_is_confused() {
    for seed in 2_330..2_336 {
        let mut world = World::new(seed);
        let alice = world.join_over("alice", Network::bad(), Network::bad());
        let bob = world.join_over("bob", Network::bad(), Network::bad());
        world.publish_voice(alice, "mic", 2);
        let red = world.consume_as(bob, "mic", want(true)).0;
        // Asks, and has no RTX: repeats are the same bytes.
        let carol = world.join_over("carol", Network::bad(), Network::bad());
        let asking = Want { nack: true, ..want(true) };
        let repeated = world.consume_as(carol, "mic", asking).0;
        world.run(30 * SECOND);
        world.assert_no_faults();
        assert!(world.counter("rtp_recovered") > 0, "seed {seed}");
        for (peer, ssrc) in [(bob, red), (carol, repeated)] {
            let inbox = world.peers[peer].inbox(ssrc);
            let of = |frame: u32| inbox.got.values().find(|got| got.body.frame == frame);
            for (frame, timestamp) in &inbox.redundant {
                assert!(of(*frame).is_none_or(|got| got.timestamp == *timestamp), "seed {seed}");
            }
            // One number is one frame, the next frame the next number.
            let mut by_index = inbox.got.iter().map(|(index, got)| (*index, got.body.frame));
            let (first, frame) = by_index.next().unwrap();
            assert!(by_index.all(|(index, of)| u64::from(of - frame) == index - first));
        }
        let inbox = world.peers[carol].inbox(repeated);
        assert!(inbox.share_unheard() < 0.01, "seed {seed}: {}", inbox.share_unheard());
    }
}

/// RED is around Opus alone, whatever a receiver's parameters say.
#[test]
fn video_is_as_it_was() {
    let mut world = World::new(2_340);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.publish_voice(alice, "mic", 1);
    world.publish_video(alice, "camera", Codec::Vp8);
    let camera = world.consume_as(bob, "camera", Want { red: true, ..Want::default() }).0;
    world.run(3 * SECOND);
    world.assert_no_faults();
    let inbox = world.peers[bob].inbox(camera);
    assert!(inbox.holes().is_empty() && inbox.redundant.is_empty() && inbox.got.len() > 200);
}
