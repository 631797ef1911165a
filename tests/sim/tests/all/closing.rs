//! What is closed leaves nothing behind, and takes with it what depends on it.

use ironcast_core::{MS, SECOND, wire::Codec, worker::Limits};
use ironcast_protocol::ErrorCode;
use ironcast_sim::{
    World,
    world::{ROOM, Want},
};

fn counts(world: &mut World) -> (u32, u32, u32, u32, u64) {
    let stats = world.worker().worker_stats();
    let lent = stats.counters["history_packets"];
    (stats.routers, stats.transports, stats.producers, stats.consumers, lent)
}

/// Two peers, both ways, media running.
fn call(seed: u64) -> (World, [usize; 2], [u32; 2]) {
    let mut world = World::new(seed);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.publish_simulcast(alice, "a", 2);
    world.publish_video(bob, "b", Codec::H264);
    let streams = [world.consume(bob, "a"), world.consume(alice, "b")];
    world.run(2 * SECOND);
    (world, [alice, bob], streams)
}

#[test]
fn closing_a_producer_closes_its_consumers_everywhere() {
    let (mut world, [_, bob], [ssrc, _]) = call(700);
    world.worker().apply_close_producer("a").unwrap();
    assert!(world.worker().consumer_state("bob/a").is_none());
    let (_, _, producers, consumers, _) = counts(&mut world);
    assert_eq!((producers, consumers), (1, 1));
    world.run(100 * MS);
    let before = world.peers[bob].inbox(ssrc).got.len();
    world.run(SECOND);
    assert_eq!(world.peers[bob].inbox(ssrc).got.len(), before);
    assert!(world.discarded(ironcast_core::Discard::RtpUnknownStream) > 0);
}

#[test]
fn closing_transports_and_rooms_leaves_nothing() {
    for by_room in [true, false] {
        let (mut world, _, _) = call(701);
        if by_room {
            world.worker().apply_close_router(ROOM).unwrap();
        } else {
            for id in ["alice", "bob"] {
                world.worker().apply_close_transport(id).unwrap();
            }
            world.worker().apply_close_router(ROOM).unwrap();
        }
        assert_eq!(counts(&mut world), (0, 0, 0, 0, 0));
        // Datagrams under way find nobody.
        world.run(2 * SECOND);
        assert_eq!(world.open_paths(0), 0);
        assert_eq!(counts(&mut world), (0, 0, 0, 0, 0));
        assert!(world.discarded(ironcast_core::Discard::UnknownSource) > 0);
    }
}

#[test]
fn a_consumer_that_comes_back_with_its_ssrc_uses_no_index_again() {
    for seed in 710..714 {
        for rtx in [true, false] {
            let mut world = World::new(seed);
            let (alice, bob) = (world.join("alice"), world.join("bob"));
            world.publish_simulcast(alice, "a", 2);
            world.peers[bob].down.network.loss = 0.05;
            let want = Want { ssrc: Some(4_000), rtx, ..Want::default() };
            for _ in 0..4 {
                world.consume_as(bob, "a", want.clone());
                world.run(2 * SECOND);
                let got = world.peers[bob].inbox(4_000).got.len();
                assert!(got > 50, "seed {seed}: {got}");
                world.worker().apply_close_consumer("bob/a").unwrap();
                world.run(100 * MS);
            }
            world.assert_no_faults();
        }
    }
}

/// The same SSRC on a new producer goes on where the old one's numbers ended, and what was sent for
/// the old one is not taken for new.
#[test]
fn a_producer_that_comes_back_with_its_ssrc_goes_on() {
    let mut world = World::new(720);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    let track = world.publish_video(alice, "a", Codec::Vp8);
    track.sources[0].index = 65_400;
    world.run(3 * SECOND);
    let old = world.peers[alice].tracks[0].sources[0].sent.values().nth(20).unwrap().1.clone();
    world.worker().apply_close_producer("a").unwrap();
    world.run(100 * MS);
    let create = world.produce(alice, &world.peers[alice].tracks[0]);
    world.worker().apply_produce(&create).unwrap();
    let replayed = world.discarded(ironcast_core::Discard::SrtpReplayed);
    world.send(alice, old);
    let ssrc = world.consume(bob, "a");
    world.run(3 * SECOND);
    assert_eq!(world.discarded(ironcast_core::Discard::SrtpReplayed), replayed + 1);
    assert!(world.peers[bob].inbox(ssrc).frames().len() > 60);
    world.assert_no_faults();
}

#[test]
fn an_unused_room_has_no_deadline_and_no_memory() {
    let (mut world, _, _) = call(730);
    world.worker().apply_close_router(ROOM).unwrap();
    for peer in &mut world.peers {
        peer.tracks.clear();
        (peer.reports, peer.check_every) = (false, None);
    }
    world.run(60 * SECOND);
    assert!(world.counter("history_spare_buffers") <= 128);
}

/// Many consumers of one camera on one transport.
fn consume_often(world: &mut World, peer: usize, times: u32) {
    for number in 0..times {
        let want = Want { ssrc: Some(10_000 + 2 * number), ..Want::default() };
        let (mut create, _) = world.consume_command(peer, "camera", &want);
        create.id = format!("consumer-{number}");
        let now = world.now;
        world.worker().apply_consume(&create, 7, now).unwrap();
    }
}

/// Everybody else's packets wait for one portion, not for a room.
#[test]
fn a_large_room_is_closed_in_portions_while_media_of_others_flows() {
    use ironcast_core::closing::PORTION;
    let mut world = World::new(740);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.publish_video(alice, "camera", Codec::Vp8);
    consume_often(&mut world, bob, 1_500);
    let mut left = counts(&mut world).3;
    assert_eq!(left, 1_500);
    world.worker().begin_close_router(ROOM).unwrap();
    let mut portions = 0;
    while world.worker().is_closing() {
        // More work is announced, and done without being asked for.
        assert_eq!(world.worker().deadline(), Some(0));
        let now = world.now;
        world.worker().expire(now);
        let after = counts(&mut world).3;
        assert!(left - after <= PORTION as u32, "{left} to {after} in one turn");
        (left, portions) = (after, portions + 1);
    }
    assert!(portions >= 10, "{portions}");
    assert_eq!(counts(&mut world), (0, 0, 0, 0, 0));
}

#[test]
fn a_peer_that_is_gone_is_closed_in_portions_and_told_of_once_at_the_end() {
    use ironcast_protocol::Event;
    let mut world = World::new(741);
    world.disconnected_timeout_s = 20;
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.publish_video(alice, "camera", Codec::Vp8);
    consume_often(&mut world, bob, 600);
    world.run(SECOND);
    world.worker().events().clear();
    world.peers[bob].check_every = None;
    world.run(60 * SECOND);
    assert_eq!(counts(&mut world).3, 0);
    let closed = world.events.iter().filter(|(_, event)| {
        matches!(event, Event::TransportClosed { transport, .. } if transport == "bob")
    });
    assert_eq!(closed.count(), 1);
}

/// As many as there are in a week, each of which sends: more than are remembered one by one.
#[test]
fn a_transport_never_runs_out_of_consumers() {
    let limits = Limits { sent_ssrcs_max: 1_024, ..Limits::default() };
    let mut world = World::with_limits(742, 1, &limits);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.publish_audio(alice, "mic");
    world.run(SECOND);
    for number in 0..3_000 {
        let want = Want { ssrc: Some(10_000 + 2 * number), ..Want::default() };
        let (ssrc, _) = world.consume_as(bob, "mic", want);
        world.run(60 * MS);
        assert!(!world.peers[bob].inbox(ssrc).got.is_empty(), "{number}");
        world.worker().apply_close_consumer("bob/mic").unwrap();
        world.peers[bob].inboxes.clear();
    }
    let remembered = world.worker().remembered("bob").unwrap().retired;
    assert!(remembered <= 130, "{remembered}");
    // None of them begins again.
    let want = Want { ssrc: Some(10_000), ..Want::default() };
    let (create, _) = world.consume_command(bob, "mic", &want);
    let now = world.now;
    let refused = world.worker().apply_consume(&create, 7, now);
    assert_eq!(refused.unwrap_err().code, ErrorCode::Invalid);
    let ssrc = world.consume(bob, "mic");
    world.run(3 * SECOND);
    assert!(world.peers[bob].inbox(ssrc).got.len() > 100);
    world.assert_no_faults();
}
