//! Media that is under way before its `produce`: acknowledged like anything else, and gone on with.

use ironcast_core::{
    Discard, MS, Nanos, SECOND,
    wire::{Codec, extension::ExtensionKind},
};
use ironcast_sim::{
    World, parameters,
    track::{Source, Track},
};

/// Time between the last arrival and its report, and way back.
const REPORTED_WITHIN: Nanos = 200 * MS;

/// Transport-wide numbers that arrived and of which the publisher was told that they are lost, or
/// nothing. `since`: those that arrived later than that.
fn unacknowledged(world: &World, peer: usize, since: Nanos) -> Vec<u16> {
    let peer = &world.peers[peer];
    let reported = world.now - REPORTED_WITHIN;
    let due = peer.arrived.iter().filter(|(_, at)| (since..reported).contains(*at));
    let told = |seq: &u16| peer.feedback.get(seq).copied().flatten().is_some();
    due.map(|(seq, _)| *seq).filter(|seq| !told(seq)).collect()
}

/// A camera beside a microphone: the number's extension is known.
#[test]
fn a_second_track_is_acknowledged_before_its_produce() {
    for (seed, delay) in [(900, 0), (901, 50), (902, 150), (903, 300), (904, 800)] {
        let mut world = World::new(seed);
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        world.publish_audio(alice, "mic");
        world.run(SECOND);
        let since = world.now - 500 * MS;
        let track = world.simulcast("camera", 3);
        world.publish_late(alice, track, delay * MS);
        let ssrc = world.consume(bob, "camera");
        world.run(2 * SECOND);
        assert_eq!(unacknowledged(&world, alice, since), [], "{delay} ms");
        assert!(world.peers[alice].arrived.len() > 500);
        world.assert_no_faults();
        assert!(world.peers[bob].inbox(ssrc).frames().len() > 40, "{delay} ms");
        // Nothing is left of what came before the producer.
        assert_eq!(world.discarded(Discard::RtpUnknownStream) > 0, delay > 20, "{delay} ms");
    }
}

/// The very first track: which extension carries the number is said only by its `produce`.
#[test]
fn a_first_track_is_acknowledged_when_its_produce_comes() {
    for (seed, delay) in [(910, 50), (911, 150), (912, 300), (913, 800)] {
        for by_label in [false, true] {
            let mut world = World::new(seed);
            let alice = world.join("alice");
            world.run(100 * MS);
            let mut track = world.simulcast("camera", if by_label { 3 } else { 1 });
            // Labels of two bytes are no numbers.
            (track.labels, track.mid) = (by_label, Some("10".into()));
            world.publish_late(alice, track, delay * MS);
            assert_eq!(world.peers[alice].feedback.len(), 0);
            world.run(SECOND);
            assert_eq!(unacknowledged(&world, alice, 0), [], "{delay} ms");
            let told = world.peers[alice].feedback.values();
            assert!(told.flatten().count() as u64 > (delay + 600) / 34, "{delay} ms");
            world.assert_no_faults();
        }
    }
}

/// Tracks that number their header extensions differently: what comes of the second one before its
/// `produce` is acknowledged when that comes, and what is no number there, although it is one in the
/// first, is never taken for one.
#[test]
fn a_second_track_with_another_id_for_the_number_is_acknowledged_at_its_produce() {
    use ExtensionKind::{AbsCaptureTime, AbsSendTime, Mid, RepairedRid, Rid, TransportWideCc};
    let audio = parameters::PUBLISHER_EXTENSIONS.iter().find(|(_, kind)| *kind == TransportWideCc);
    let (of_audio, _) = *audio.unwrap();
    let extensions = |number: u8, rid: u8| {
        let others = (1..14u8).filter(|id| ![number, rid].contains(id));
        let others = others.zip([Mid, RepairedRid, AbsSendTime, AbsCaptureTime]);
        others.chain([(number, TransportWideCc), (rid, Rid)]).collect::<Vec<_>>()
    };
    for (seed, delay) in [(914, 50), (915, 150), (916, 300)] {
        let mut world = World::new(seed);
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        world.publish_audio(alice, "mic");
        world.run(SECOND);
        let since = world.now - 500 * MS;
        // RIDs of two characters where the microphone has its numbers.
        let mut track = world.simulcast("camera", 3);
        track.extensions = extensions(13, of_audio);
        world.publish_late(alice, track, delay * MS);
        world.run(500 * MS);
        // The same payload type again, under a third id.
        let mut track = world.simulcast("screen", 1);
        (track.mid, track.extensions) = (Some("t".into()), extensions(12, 13));
        world.publish_late(alice, track, delay * MS);
        let ssrcs = ["camera", "screen"].map(|id| world.consume(bob, id));
        world.run(2 * SECOND);
        assert_eq!(unacknowledged(&world, alice, since), [], "{delay} ms");
        let peer = &world.peers[alice];
        let known = |seq: &u16| peer.arrived.contains_key(seq);
        let told = peer.feedback.iter().filter(|(_, at)| at.is_some());
        assert!(told.map(|(seq, _)| seq).all(known), "{delay} ms");
        world.assert_no_faults();
        assert!(ssrcs.iter().all(|ssrc| world.peers[bob].inbox(*ssrc).frames().len() > 40));
    }
}

/// A number of the wheel's turn before the `produce`: the packet index goes on, and nothing that came
/// before is taken for new.
#[test]
fn the_rollover_counter_and_the_replay_window_go_over_to_the_stream() {
    for by_label in [false, true] {
        let mut world = World::new(920);
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        world.publish_audio(alice, "mic");
        world.run(SECOND);
        let mut track = world.simulcast("camera", 1);
        track.labels = by_label;
        track.sources[0].index = 65_520;
        world.publish_late(alice, track, SECOND);
        let sent = &world.peers[alice].track("camera").sources[0].sent;
        let old: Vec<_> = sent.values().take(20).map(|(_, sealed)| sealed.clone()).collect();
        assert!(sent.keys().next_back().unwrap() > &65_540);
        let ssrc = world.consume(bob, "camera");
        world.run(100 * MS);
        let replayed = world.discarded(Discard::SrtpReplayed);
        for bytes in old {
            world.send(alice, bytes);
        }
        world.run(2 * SECOND);
        assert_eq!(world.discarded(Discard::SrtpReplayed), replayed + 20);
        assert_eq!(world.discarded(Discard::SrtpUnauthenticated), 0);
        assert!(world.peers[bob].inbox(ssrc).frames().len() > 45);
        world.assert_no_faults();
    }
}

/// Strangers' packets are not remembered, and a peer's own are up to a limit.
#[test]
fn very_many_sources_without_a_producer_push_nobody_out() {
    let mut world = World::new(930);
    let (alice, mallory) = (world.join("alice"), world.join("mallory"));
    world.publish_audio(alice, "mic");
    world.run(SECOND);
    for i in 0..2_000u32 {
        let mut track = Track::new("x", Codec::Opus, Some("x"), world.now);
        track.sources.push(Source::new(500_000 + i, None, 7));
        let plain = track.capture(world.now, |_| 0).remove(0);
        let now = world.now;
        let of = if i % 2 == 0 { alice } else { mallory };
        let bytes = world.peers[of].seal_plain(&plain, now).bytes;
        world.send(alice, bytes);
        if i % 100 == 0 {
            world.run(10 * MS);
        }
    }
    world.run(SECOND);
    assert_eq!(world.discarded(Discard::SrtpUnauthenticated), 1_000);
    assert_eq!(world.discarded(Discard::RtpUnknownStream), 1_000);
    assert_eq!(world.worker().remembered("alice").unwrap().sources, 256);
    let since = world.now - SECOND;
    assert_eq!(unacknowledged(&world, alice, since), []);
}
