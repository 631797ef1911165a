//! Peers that come by a connection (ICE-TCP) instead of by datagrams, or by both.

use std::net::SocketAddr;

use ironcast_core::{Discard, MS, Nanos, SECOND, wire::Codec};
use ironcast_protocol::{
    Event,
    command::{CandidateKinds, TransportProtocol},
    event::IceState,
};
use ironcast_sim::World;

const TCP: TransportProtocol = TransportProtocol::Tcp;

fn world(seed: u64, udp: bool, tcp: bool) -> World {
    let mut world = World::new(seed);
    world.candidates = CandidateKinds { udp, tcp, tcp_first: false };
    world
}

fn join(world: &mut World, name: &str, protocol: TransportProtocol) -> usize {
    let peer = world.join(name);
    world.peers[peer].protocol = protocol;
    peer
}

/// The states of a transport since a moment.
fn states(world: &World, name: &str, since: Nanos) -> Vec<IceState> {
    let events = world.events.iter().filter(|(at, _)| *at >= since);
    let states = events.filter_map(|(_, event)| match event {
        Event::IceStateChange { transport, state } if transport == name => Some(*state),
        _ => None,
    });
    states.collect()
}

/// By what a transport's media goes, newest last.
fn selected(world: &World, name: &str) -> Vec<(TransportProtocol, SocketAddr)> {
    let tuples = world.events.iter().filter_map(|(_, event)| match event {
        Event::IceSelectedTupleChange { transport, tuple } if transport == name => {
            Some((tuple.protocol, tuple.remote))
        }
        _ => None,
    });
    tuples.collect()
}

#[test]
fn a_call_by_connections_arrives_complete_and_in_order() {
    for seed in 900..903 {
        let mut world = world(seed, false, true);
        let (alice, bob) = (join(&mut world, "alice", TCP), join(&mut world, "bob", TCP));
        world.publish_video(alice, "camera", Codec::Vp8);
        world.publish_audio(alice, "mic");
        let both = [world.consume(bob, "camera"), world.consume(bob, "mic")];
        world.run(5 * SECOND);
        world.assert_no_faults();
        for (ssrc, least) in both.into_iter().zip([400, 200]) {
            let inbox = world.peers[bob].inbox(ssrc);
            assert!(inbox.got.len() > least, "seed {seed}: {}", inbox.got.len());
            assert_eq!(inbox.holes(), [], "seed {seed}");
            let in_order: Vec<_> = inbox.got.keys().copied().collect();
            assert_eq!(inbox.order, in_order, "seed {seed}");
        }
        for (name, peer) in [("alice", alice), ("bob", bob)] {
            let remote = world.peers[peer].remote;
            assert_eq!(selected(&world, name), [(TCP, remote)], "seed {seed}");
            assert_eq!(world.peers[peer].answers[0].result, Ok(remote), "seed {seed}");
        }
    }
}

#[test]
fn a_check_by_what_there_is_no_candidate_of_is_refused() {
    for (udp, tcp) in [(true, false), (false, true)] {
        let mut world = world(910, udp, tcp);
        let by = if udp { TCP } else { TransportProtocol::Udp };
        let bob = join(&mut world, "bob", by);
        world.run(SECOND);
        assert!(world.discarded(Discard::StunWrongProtocol) > 0);
        assert_eq!((world.peers[bob].answers.len(), world.open_paths(0)), (0, 0));
    }
}

#[test]
fn what_is_not_a_check_is_not_taken_from_a_connection_that_nobody_knows() {
    let mut world = world(915, false, true);
    let bob = join(&mut world, "bob", TCP);
    world.peers[bob].check_every = None;
    world.peers[bob].check_at = Nanos::MAX;
    let wrong = {
        let right = world.peers[bob].check.clone();
        world.peers[bob].check.password = "x".repeat(24);
        let wrong = world.peers[bob].write_check();
        world.peers[bob].check = right;
        wrong
    };
    for (bytes, reason) in [
        (vec![128; 60], Discard::UnknownSource),
        (vec![22; 60], Discard::UnknownSource),
        (vec![77; 60], Discard::UnknownProtocol),
        (Vec::new(), Discard::UnknownProtocol),
        (wrong, Discard::StunUnauthenticated),
    ] {
        let before = world.discarded(reason);
        world.send(bob, bytes);
        world.run(100 * MS);
        assert_eq!(world.discarded(reason), before + 1, "{reason}");
    }
    assert_eq!(world.open_paths(0), 0);
    // The wrong check is told so, by the connection that it came by.
    assert_eq!(world.peers[bob].refused.get("stun"), Some(&1));
    // The same connection, with a check.
    let check = world.peers[bob].write_check();
    world.send(bob, check);
    world.run(100 * MS);
    assert_eq!((world.peers[bob].answers.len(), world.open_paths(0)), (1, 1));
}

#[test]
fn of_both_the_nominated_one_is_used_and_the_other_one_when_it_ends() {
    for seed in 920..923 {
        let mut world = world(seed, true, true);
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        world.publish_video(alice, "camera", Codec::Vp8);
        let ssrc = world.consume(bob, "camera");
        world.run(3 * SECOND);
        // The same addresses by a connection: another path, which the peer then nominates.
        let remote = world.peers[bob].remote;
        world.peers[bob].protocol = TCP;
        world.peers[bob].check_at = world.now;
        let before = world.peers[bob].inbox(ssrc).got.len();
        world.run(3 * SECOND);
        let (udp, tcp) = ((TransportProtocol::Udp, remote), (TCP, remote));
        assert_eq!(selected(&world, "bob"), [udp, tcp], "seed {seed}");
        assert!(world.peers[bob].inbox(ssrc).got.len() > before + 200, "seed {seed}");
        assert_eq!(world.open_paths(0), 3);
        // It ends: the other path is still there, and nothing else changes.
        let began = world.now;
        world.end_connection(bob);
        world.peers[bob].protocol = TransportProtocol::Udp;
        world.peers[bob].check_at = world.now;
        world.run(3 * SECOND);
        assert_eq!(selected(&world, "bob"), [udp, tcp, udp], "seed {seed}");
        assert_eq!(states(&world, "bob", began), []);
        world.assert_no_faults();
        assert_eq!(world.peers[bob].inbox(ssrc).holes(), [], "seed {seed}");
    }
}

#[test]
fn who_ends_his_last_connection_is_disconnected_at_once_and_may_come_back() {
    for seed in 930..933 {
        let mut world = world(seed, false, true);
        let (alice, bob) = (join(&mut world, "alice", TCP), join(&mut world, "bob", TCP));
        world.publish_video(alice, "camera", Codec::Vp8);
        let ssrc = world.consume(bob, "camera");
        world.run(3 * SECOND);
        let began = world.now;
        world.end_connection(bob);
        world.peers[bob].check_at = world.now + 2 * SECOND;
        world.run(SECOND);
        assert_eq!(states(&world, "bob", began), [IceState::Disconnected], "seed {seed}");
        assert_eq!(world.open_paths(0), 1);
        // From another port, as a new connection is.
        world.peers[bob].remote.set_port(50_999);
        let before = world.peers[bob].inbox(ssrc).got.len();
        world.run(4 * SECOND);
        let again = [IceState::Disconnected, IceState::Completed];
        assert_eq!(states(&world, "bob", began), again, "seed {seed}");
        assert!(world.peers[bob].inbox(ssrc).got.len() > before + 200, "seed {seed}");
        assert_eq!(selected(&world, "bob").last().unwrap().1.port(), 50_999);
        world.assert_no_faults();
    }
}

/// Many that send and go would hold all the memory that a worker has for packets.
#[test]
fn what_a_publisher_sent_who_is_disconnected_leaves_after_its_time() {
    let mut world = world(934, false, true);
    let alice = join(&mut world, "alice", TCP);
    world.publish_video(alice, "camera", Codec::Vp8);
    world.run(3 * SECOND);
    let held = |world: &mut World| world.worker().worker_stats().counters["history_packets"];
    assert!(held(&mut world) > 50);
    world.peers[alice].check_at = Nanos::MAX;
    world.end_connection(alice);
    world.run(4 * SECOND);
    assert_eq!(held(&mut world), 0);
}
