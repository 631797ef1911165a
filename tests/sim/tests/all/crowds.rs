//! What concerns very many at once is done in portions: a turn has an end, and media leaves between two.

use std::collections::BTreeMap;

use ironcast_core::{Discard, MS, Nanos, SECOND, wire::Codec};
use ironcast_protocol::{
    Event,
    event::{IceState, TransportCloseReason},
};
use ironcast_sim::{
    World,
    world::{PORTIONS_TIME, ROOM},
};

/// Turns without anything else, until there is nothing to do at once: how much each did of what a counter
/// counts.
fn turns(world: &mut World, counter: &str) -> Vec<u64> {
    let mut done = Vec::new();
    while world.worker().deadline() == Some(0) {
        let before = world.counter(counter);
        let now = world.now;
        world.worker().expire(now);
        world.worker().actions().clear();
        done.push(world.counter(counter) - before);
        assert!(done.len() < 10_000, "it never ends");
    }
    done
}

/// Everybody sees everybody; one camera is paused, and all others' layers are to be looked at.
#[test]
fn a_large_room_is_looked_at_in_portions() {
    const PEERS: usize = 80;
    let mut world = World::new(980);
    for number in 0..PEERS {
        let peer = world.join(&number.to_string());
        world.publish_video(peer, &format!("camera-{number}"), Codec::Vp8);
    }
    for peer in 0..PEERS {
        for other in (0..PEERS).filter(|other| *other != peer) {
            world.consume(peer, &format!("camera-{other}"));
        }
    }
    let joined = turns(&mut world, "layer_looks");
    assert_eq!(joined.iter().sum::<u64>(), PEERS as u64, "one look for all that a peer consumes");
    for paused in [true, false] {
        world.worker().apply_pause_producer("camera-7", paused).unwrap();
        let looks = turns(&mut world, "layer_looks");
        assert_eq!(looks.iter().sum::<u64>(), PEERS as u64 - 1);
        // Each is a look at 79 consumers.
        assert!(looks.iter().all(|looks| *looks < 30), "{looks:?}");
    }
    assert!(world.counter("layer_looks_deferred") > 4);
}

/// Peers that are disconnected, and closed, by the moment of the event.
fn gone(world: &World) -> [BTreeMap<Nanos, usize>; 2] {
    let mut gone = [BTreeMap::new(), BTreeMap::new()];
    for (at, event) in &world.events {
        let place = match event {
            Event::IceStateChange { state: IceState::Disconnected, .. } => 0,
            Event::TransportClosed { reason: TransportCloseReason::ConsentLost, .. } => 1,
            _ => continue,
        };
        *gone[place].entry(*at).or_default() += 1;
    }
    gone
}

/// A network that breaks down takes all of its peers along in one moment.
#[test]
fn peers_that_vanish_together_go_a_few_at_a_time() {
    const PEERS: usize = 120;
    let mut world = World::new(981);
    world.disconnected_timeout_s = 10;
    for number in 0..PEERS {
        let peer = world.join(&number.to_string());
        world.peers[peer].reports = false;
    }
    world.run(3 * SECOND);
    assert_eq!(world.open_paths(0), PEERS);
    for peer in &mut world.peers {
        peer.check_at = world.now;
    }
    world.run(SECOND);
    for peer in &mut world.peers {
        peer.check_every = None;
    }
    let others = world.join("others");
    world.run(60 * SECOND);
    let [disconnected, closed] = gone(&world);
    for (what, gone) in [("disconnected", &disconnected), ("closed", &closed)] {
        assert_eq!(gone.values().sum::<usize>(), PEERS, "{what}");
        assert!(gone.values().all(|count| *count <= 16), "{what}: {gone:?}");
        // Soon all the same.
        let (first, last) = (gone.keys().next().unwrap(), gone.keys().last().unwrap());
        assert!(last - first < 100 * MS, "{what}: {gone:?}");
    }
    assert_eq!(world.open_paths(0), 1);
    assert!(world.worker().transport_state("others").is_some(), "{others}");
}

/// The longest way of a packet through the server and both networks, of those captured since a time.
fn longest_since(world: &World, since: Nanos, peer: usize, ssrc: u32) -> Nanos {
    let packets = world.peers[peer].inbox(ssrc).got.values();
    let packets = packets.filter(|got| got.body.captured >= since);
    packets.map(|got| got.at - got.body.captured).max().unwrap()
}

fn longest(world: &World, peer: usize, ssrc: u32) -> Nanos {
    longest_since(world, 0, peer, ssrc)
}

/// More comes than can leave, for long: what leaves is not old, and what does not is counted. When there is
/// time again, everybody has everything again.
#[test]
fn where_more_comes_than_leaves_for_long_what_is_old_is_skipped() {
    const CROWD: usize = 40;
    let mut world = World::new(989);
    let alice = world.join("alice");
    let camera = world.publish_video(alice, "camera", Codec::Vp8);
    camera.sources[0].packets_per_frame = 4;
    world.publish_audio(alice, "mic");
    let join = |world: &mut World, number: usize| {
        let peer = world.join(&number.to_string());
        (peer, [world.consume(peer, "camera"), world.consume(peer, "mic")])
    };
    let crowd: Vec<_> = (0..CROWD).map(|number| join(&mut world, number)).collect();
    world.run(3 * SECOND);
    assert_eq!(world.discarded(Discard::OutputLate), 0);
    // 40 receivers of 130 KB/s each take 1.5 s a second.
    world.byte_time = 300;
    world.interrupt_output_after(1);
    world.run(8 * SECOND);
    assert!(
        world.discarded(Discard::OutputLate) > 1_000,
        "{}",
        world.discarded(Discard::OutputLate)
    );
    for &(peer, ssrcs) in &crowd {
        for ssrc in ssrcs {
            let inbox = world.peers[peer].inbox(ssrc);
            let late = inbox.got.values().filter(|got| got.at - got.body.captured > 700 * MS);
            // Repeats of what is missing come later, and newcomers begin with what is older.
            let (late, all) = (late.count(), inbox.got.len());
            assert!(late * 10 <= all, "{late} of {all}");
        }
    }
    world.interrupt_output_after(usize::MAX);
    world.byte_time = 0;
    world.run(3 * SECOND);
    let since = world.now - SECOND;
    let skipped = world.discarded(Discard::OutputLate);
    world.run(2 * SECOND);
    assert_eq!(world.discarded(Discard::OutputLate), skipped);
    for &(peer, ssrcs) in &crowd {
        for ssrc in ssrcs {
            assert!(longest_since(&world, since, peer, ssrc) < 300 * MS);
        }
    }
    world.assert_no_faults();
}

/// The output of a frame for many takes long, and is interrupted for what comes meanwhile. Everybody gets
/// everything, in order; who is of a small call, or was there first, does not wait for the others.
#[test]
fn output_that_is_interrupted_reaches_everybody_and_holds_up_nobody_else() {
    const CROWD: usize = 90;
    for (seed, portions, room) in [(986, 1, "call"), (987, 3, "call"), (988, 8, ROOM)] {
        let mut world = World::new(seed);
        let alice = world.join("alice");
        if room != ROOM {
            world.room = room;
            world.open_room(0);
        }
        let (dora, emil) = (world.join("dora"), world.join("emil"));
        world.room = ROOM;
        world.publish_simulcast(alice, "camera", 3);
        world.publish_audio(alice, "mic");
        world.publish_video(dora, "call", Codec::Vp8);
        let call = world.consume(emil, "call");
        world.run(3 * SECOND);
        let alone = longest(&world, emil, call);
        world.interrupt_output_after(portions);
        let crowd: Vec<_> = (0..CROWD)
            .map(|number| {
                let peer = world.join(&number.to_string());
                (peer, [world.consume(peer, "camera"), world.consume(peer, "mic")])
            })
            .collect();
        world.run(4 * SECOND);
        world.assert_no_faults();
        assert!(
            longest(&world, emil, call) <= alone + 2 * PORTIONS_TIME,
            "seed {seed}: {} {alone}",
            longest(&world, emil, call)
        );
        let ways = crowd.iter().map(|&(peer, [camera, mic])| {
            for ssrc in [camera, mic] {
                let inbox = world.peers[peer].inbox(ssrc);
                assert!(inbox.got.len() > 150, "seed {seed}: {} packets", inbox.got.len());
                assert_eq!(inbox.holes(), [], "seed {seed}");
                let in_order: Vec<_> = inbox.got.keys().copied().collect();
                assert_eq!(inbox.order, in_order, "seed {seed}");
            }
            // Who came in begins with what is a little older.
            longest_since(&world, world.now - SECOND, peer, camera)
        });
        let ways: Vec<_> = ways.collect();
        let (first, last) = (ways[0], ways[CROWD - 1]);
        if portions > 1 {
            assert!(first < last, "seed {seed}: {first} and {last}");
        } else {
            // More comes than leaves: everybody waits, and nobody for the others.
            let (shortest, longest) = (ways.iter().min().unwrap(), ways.iter().max().unwrap());
            assert!(*longest < shortest + 20 * MS, "seed {seed}: {shortest} and {longest}");
        }
        assert_eq!(world.counter("rtp_retransmitted"), 0, "seed {seed}");
    }
}
