//! Which stream takes an SSRC, and when it lets go of it (RFC 9143 section 9.2, RFC 8852).

use ironcast_core::{
    Discard, MS, SECOND,
    wire::{Codec, extension::ExtensionKind},
};
use ironcast_sim::{World, track::Plain};

/// The next packet of a track's stream, changed.
fn packet(world: &mut World, peer: usize, id: &str, change: impl FnOnce(&mut Plain)) -> Vec<u8> {
    let now = world.now;
    let track = world.peers[peer].track(id);
    track.next_at = now;
    let mut plain = track.capture(now, |_| 0).remove(0);
    change(&mut plain);
    world.peers[peer].seal_plain(&plain, now).bytes
}

/// Packets that a producer's streams have taken.
fn taken(world: &mut World, id: &str) -> Vec<u64> {
    let now = world.now;
    let stats = world.worker().producer_stats(id, now).unwrap();
    stats.iter().map(|one| one.stream.packet_count).collect()
}

#[test]
fn a_packet_of_another_payload_type_binds_nothing() {
    let mut world = World::new(950);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    let track = world.simulcast("camera", 2);
    world.publish(alice, track).muted = true;
    world.run(SECOND);
    let wrong: [fn(&mut Plain); 4] = [
        |p| p.payload_type = 33,
        |p| (p.repaired, p.payload_type) = (true, 96),
        |p| (p.rid, p.payload_type) = (Some("nobody".into()), 97),
        |p| (p.rid, p.mid) = (None, None),
    ];
    for (nth, change) in (0u32..).zip(wrong) {
        world.peers[alice].track("camera").muted = false;
        let bytes = packet(&mut world, alice, "camera", |plain| {
            change(plain);
            plain.ssrc = 3_000 + nth;
        });
        world.peers[alice].track("camera").muted = true;
        world.send(alice, bytes);
        world.run(100 * MS);
    }
    assert_eq!(taken(&mut world, "camera"), [] as [u64; 0]);
    assert_eq!(world.discarded(Discard::RtpUnknownPayloadType), 2);
    assert_eq!(world.discarded(Discard::RtpUnknownStream), 2);
    // The real ones are taken.
    world.peers[alice].track("camera").muted = false;
    let ssrc = world.consume(bob, "camera");
    world.run(2 * SECOND);
    assert!(taken(&mut world, "camera").iter().all(|count| *count > 50));
    assert!(world.peers[bob].inbox(ssrc).frames().len() > 40);
    world.assert_no_faults();
}

/// An encoder that begins again takes a new SSRC, with numbers and timestamps of its own. The receiver
/// sees one stream all the same, and no number is sealed twice.
#[test]
fn a_new_ssrc_under_the_same_labels_goes_on_in_its_place() {
    for (seed, labels, codec) in
        [(960, true, Codec::Vp8), (961, false, Codec::Vp8), (962, false, Codec::Opus)]
    {
        let mut world = World::new(seed);
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        world.peers[alice].up.network.reordered = 0.03;
        if labels {
            world.publish_simulcast(alice, "a", 1);
        } else if codec == Codec::Opus {
            world.publish_audio(alice, "a");
        } else {
            world.publish_video(alice, "a", codec);
        }
        let ssrc = world.consume(bob, "a");
        world.run(3 * SECOND);
        for _ in 0..3 {
            let (new, rtx) = (world.ssrc(), world.ssrc());
            let source = &mut world.peers[alice].track("a").sources[0];
            let before = source.ssrc;
            (source.ssrc, source.index) = (new, u64::from(new) * 7 % 60_000);
            source.timestamp_offset = new.wrapping_mul(0x9e37_79b9);
            source.rtx_ssrc = source.rtx_ssrc.map(|_| rtx);
            source.key_wanted = true;
            source.sent.clear();
            world.run(3 * SECOND);
            let now = world.now;
            let stats = world.worker().producer_stats("a", now).unwrap();
            assert_eq!(stats[0].stream.ssrc, new, "seed {seed}: still {before}");
        }
        let last = world.now - SECOND;
        world.assert_no_faults();
        let inbox = world.peers[bob].inbox(ssrc);
        assert!(inbox.got.values().filter(|got| got.at > last).count() > 25, "seed {seed}");
        assert!(inbox.frames().len() > 12 * 26, "seed {seed}: {}", inbox.frames().len());
    }
}

/// Two encoders that claim one label in turn cost their receivers a beginning each half second and
/// no more.
#[test]
fn two_ssrcs_that_claim_one_label_do_not_swing() {
    let mut world = World::new(965);
    let alice = world.join("alice");
    world.publish_video(alice, "a", Codec::Vp8).muted = true;
    world.run(SECOND);
    world.peers[alice].track("a").muted = false;
    for i in 0..1_000u32 {
        let bytes = packet(&mut world, alice, "a", |plain| plain.ssrc = 10_000 + i);
        world.send(alice, bytes);
        world.run(MS);
    }
    world.peers[alice].track("a").muted = true;
    world.run(SECOND);
    // The first one named by the parameters, then one at once and one half a second later.
    let count = taken(&mut world, "a")[0];
    assert!((2..40).contains(&count), "{count}");
    assert!(world.discarded(Discard::RtpUnknownStream) > 900);
}

/// Without labels only the payload type says whose a packet is. What was another producer's is
/// nobody's then.
#[test]
fn packets_of_a_closed_producer_are_nobodys() {
    let mut world = World::new(970);
    let alice = world.join("alice");
    world.publish_video(alice, "old", Codec::Vp8);
    world.run(SECOND);
    world.worker().apply_close_producer("old").unwrap();
    // Its camera goes on for a while, without a MID: receivers know its SSRC by now.
    world.peers[alice].track("old").mid = None;
    let mut next = world.simulcast("next", 1);
    (next.mid, next.muted) = (Some("n".into()), true);
    world.publish(alice, next);
    world.run(SECOND);
    assert_eq!(taken(&mut world, "next"), [] as [u64; 0]);
    let unknown = world.discarded(Discard::RtpUnknownStream);
    assert!(unknown > 80, "{unknown}");
    world.peers[alice].track("old").muted = true;
    world.peers[alice].track("next").muted = false;
    world.run(SECOND);
    assert!(taken(&mut world, "next")[0] > 20);
}

/// The same of its repairs, which an encoder sends under a new SSRC, too: whether they come after its
/// first packets or before them, and where the goodbye names the media alone.
#[test]
fn after_a_goodbye_or_a_long_silence_another_ssrc_needs_no_label() {
    for (goodbye, repairs_first) in
        [(Some(2), false), (Some(1), false), (None, false), (Some(2), true), (None, true)]
    {
        let mut world = World::new(975);
        let alice = world.join("alice");
        world.publish_video(alice, "a", Codec::Vp8);
        world.run(SECOND);
        let of = &world.peers[alice].track("a").sources[0];
        let (before, rtx_before) = (of.ssrc, of.rtx_ssrc.unwrap());
        // The repairs' old SSRC has been used.
        let bytes = packet(&mut world, alice, "a", |plain| {
            (plain.ssrc, plain.payload_type, plain.mid) = (rtx_before, 97, None);
            plain.payload.splice(..0, (plain.index as u16).to_be_bytes());
        });
        world.send(alice, bytes);
        let change = |plain: &mut Plain| (plain.ssrc, plain.mid) = (77, None);
        // As long as the stream runs it is not taken.
        let bytes = packet(&mut world, alice, "a", change);
        world.peers[alice].track("a").muted = true;
        world.send(alice, bytes);
        world.run(SECOND);
        let now = world.now;
        assert_eq!(world.worker().producer_stats("a", now).unwrap()[0].stream.ssrc, before);
        if let Some(count) = goodbye {
            let words = [0x80cb_0000_u32 | count << 24 | count, before, rtx_before];
            let words = &words[..1 + count as usize];
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
            let bytes = world.peers[alice].seal_rtcp_bytes(&bytes);
            world.send(alice, bytes);
            world.run(100 * MS);
        } else {
            world.run(11 * SECOND);
        }
        world.peers[alice].track("a").muted = false;
        world.peers[alice].track("a").mid = None;
        if repairs_first {
            // A browser probes by repairs without a payload.
            let bytes = packet(&mut world, alice, "a", |plain| {
                (plain.ssrc, plain.payload_type, plain.index) = (78, 97, 99);
                plain.payload.clear();
            });
            world.send(alice, bytes);
        }
        let source = &mut world.peers[alice].track("a").sources[0];
        (source.ssrc, source.rtx_ssrc, source.key_wanted) = (77, Some(78), true);
        let unknown = world.discarded(Discard::RtpUnknownStream);
        let repaired = |world: &mut World| {
            let now = world.now;
            world.worker().producer_stats("a", now).unwrap()[0].stream.packets_repaired
        };
        let repaired_before = repaired(&mut world);
        for _ in 0..5 {
            world.run(100 * MS);
            let next = world.peers[alice].track("a").sources[0].index as u16 + 1;
            world.peers[alice].lose.push((77, next));
        }
        world.run(500 * MS);
        let now = world.now;
        let stats = world.worker().producer_stats("a", now).unwrap();
        let case = format!("goodbye: {goodbye:?}, repairs first: {repairs_first}");
        assert_eq!((stats[0].stream.ssrc, stats[0].stream.rtx_ssrc), (77, Some(78)), "{case}");
        assert_eq!(world.discarded(Discard::RtpUnknownStream), unknown, "{case}");
        assert_eq!(repaired(&mut world), repaired_before + 5, "{case}");
    }
}

/// The next packet of a track, with that SSRC and MID, arrives.
fn send_labelled(world: &mut World, peer: usize, id: &str, ssrc: u32, mid: Option<&str>) {
    let mid = mid.map(str::to_owned);
    world.peers[peer].track(id).muted = false;
    let bytes = packet(world, peer, id, |plain| (plain.ssrc, plain.mid) = (ssrc, mid));
    world.peers[peer].track(id).muted = true;
    world.send(peer, bytes);
    world.run(50 * MS);
}

/// Two tracks of one payload type without SSRCs in their parameters, on MID 0 and 1.
fn two_by_mid(world: &mut World, peer: usize) {
    for (id, mid) in [("zero", "0"), ("one", "1")] {
        let mut track = world.simulcast(id, 1);
        (track.mid, track.muted, track.sources[0].rid) = (Some(mid.into()), true, None);
        world.publish(peer, track);
    }
}

fn counts(world: &mut World) -> (u64, u64) {
    let sum = |counts: Vec<u64>| counts.iter().sum();
    (sum(taken(world, "zero")), sum(taken(world, "one")))
}

/// A sender that uses its SSRC on another track says so by the MID: what follows is that track's, with
/// and without the label. What its receivers got stays as it was.
#[test]
fn an_ssrc_goes_where_a_new_mid_says() {
    let mut world = World::new(985);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    two_by_mid(&mut world, alice);
    world.run(SECOND);
    let ssrcs = ["zero", "one"].map(|id| world.consume(bob, id));
    // Each of these is one packet, of a frame that is never complete.
    for (mid, expected) in [
        (Some("0"), (1, 0)),
        (None, (2, 0)),
        // Figures are of a track that has an SSRC.
        (Some("1"), (0, 1)),
        (None, (0, 2)),
        // Back, and on again.
        (Some("0"), (3, 0)),
        (Some("1"), (0, 3)),
        (None, (0, 4)),
    ] {
        world.peers[alice].track("zero").sources[0].key_wanted = true;
        send_labelled(&mut world, alice, "zero", 77, mid);
        assert_eq!(counts(&mut world), expected, "{mid:?}");
    }
    let now = world.now;
    let bound = |world: &mut World, id| {
        let stats = world.worker().producer_stats(id, now).unwrap();
        stats.first().map(|stats| stats.stream.ssrc)
    };
    assert_eq!(bound(&mut world, "one"), Some(77));
    world.assert_no_faults();
    assert!(ssrcs.iter().all(|ssrc| !world.peers[bob].inbox(*ssrc).got.is_empty()));
    // The one that it left takes another, and what comes of it is new for its receivers.
    send_labelled(&mut world, alice, "zero", 79, Some("0"));
    assert_eq!(counts(&mut world), (4, 4));
    world.assert_no_faults();
    // Late, with the label of before: nobody's.
    world.peers[alice].track("zero").muted = false;
    let late = packet(&mut world, alice, "zero", |plain| {
        (plain.ssrc, plain.mid, plain.index) = (77, Some("0".into()), plain.index - 4);
    });
    world.peers[alice].track("zero").muted = true;
    world.send(alice, late);
    world.run(100 * MS);
    assert_eq!(counts(&mut world), (4, 4));
    assert_eq!(world.discarded(Discard::RtpUnknownStream), 1);
    // A MID that no track has yet.
    send_labelled(&mut world, alice, "zero", 77, Some("2"));
    send_labelled(&mut world, alice, "zero", 77, None);
    assert_eq!(counts(&mut world), (4, 0));
    let mut third = world.simulcast("third", 1);
    (third.mid, third.muted, third.sources[0].rid) = (Some("2".into()), true, None);
    world.publish(alice, third);
    send_labelled(&mut world, alice, "zero", 77, Some("2"));
    assert_eq!(taken(&mut world, "third"), [1]);
}

/// The same of RIDs; and an SSRC that the parameters name stays where they say.
#[test]
fn an_ssrc_goes_where_a_new_rid_says_unless_it_is_named() {
    let mut world = World::new(986);
    let alice = world.join("alice");
    let track = world.simulcast("camera", 2);
    world.publish(alice, track).muted = true;
    world.run(SECOND);
    for (rid, count) in [("r0", 1), ("r1", 1), ("r1", 2), ("r0", 2)] {
        let track = world.peers[alice].track("camera");
        (track.muted, track.sources[1].enabled) = (false, false);
        let bytes = packet(&mut world, alice, "camera", |plain| {
            (plain.ssrc, plain.rid) = (77, Some(rid.into()));
        });
        world.peers[alice].track("camera").muted = true;
        world.send(alice, bytes);
        world.run(600 * MS);
        let now = world.now;
        let stats = world.worker().producer_stats("camera", now).unwrap();
        let [one] = &stats[..] else { panic!("{stats:?}") };
        let is = (one.stream.rid.as_deref(), one.stream.ssrc, one.stream.packet_count);
        assert_eq!(is, (Some(rid), 77, count));
    }
    two_by_mid(&mut world, alice);
    world.publish_video(alice, "named", Codec::Vp8).muted = true;
    let ssrc = world.peers[alice].track("named").sources[0].ssrc;
    for mid in ["v", "0", "1"] {
        send_labelled(&mut world, alice, "named", ssrc, Some(mid));
    }
    assert_eq!((taken(&mut world, "named"), counts(&mut world)), (vec![3], (0, 0)));
}

/// Who changes the label with each packet is followed a few times and then twice a second. Nobody else
/// is the worse for it, and his receivers are not made to begin anew with each packet.
#[test]
fn labels_that_swing_are_followed_now_and_then() {
    let mut world = World::new(987);
    let (alice, carol) = (world.join("alice"), world.join("carol"));
    two_by_mid(&mut world, alice);
    world.publish_video(carol, "camera", Codec::Vp8);
    let viewers: Vec<usize> = (0..10).map(|n| world.join(&format!("viewer-{n}"))).collect();
    for &viewer in &viewers {
        for id in ["zero", "one", "camera"] {
            world.consume(viewer, id);
        }
    }
    world.run(3 * SECOND);
    let before = world.counter("layer_looks");
    for number in 0..1_000u32 {
        let mid = ["0", "1"][number as usize % 2];
        world.peers[alice].track("zero").muted = false;
        let bytes = packet(&mut world, alice, "zero", |plain| {
            (plain.ssrc, plain.mid) = (77, Some(mid.into()));
        });
        world.peers[alice].track("zero").muted = true;
        world.send(alice, bytes);
        world.run(2 * MS);
    }
    world.run(SECOND);
    let refused = world.discarded(Discard::RtpUnknownStream);
    assert!((400..600).contains(&refused), "{refused}");
    let looks = world.counter("layer_looks") - before;
    assert!(looks < 1_000, "{looks}");
    world.assert_no_faults();
    for &viewer in &viewers {
        let camera = world.peers[viewer].inboxes.values().last().unwrap();
        assert_eq!(camera.holes(), []);
        assert!(camera.frames().len() > 140);
    }
}

/// Two producers that number their header extensions differently, and one with ids that only the
/// two-byte form has (RFC 8285 section 4.3): each is read by its own.
#[test]
fn header_extensions_are_read_by_each_producers_own_ids() {
    use ExtensionKind::{
        AbsCaptureTime, AbsSendTime, Mid, RepairedRid, Rid, TransportWideCc, VideoOrientation,
    };
    let mut world = World::new(980);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.publish_audio(alice, "mic");
    let mut turned = world.simulcast("turned", 2);
    turned.extensions = vec![
        (1, Mid),
        (4, Rid),
        (3, RepairedRid),
        (10, AbsSendTime),
        (2, TransportWideCc),
        (11, VideoOrientation),
        (8, AbsCaptureTime),
    ];
    let mut large = world.simulcast("large", 2);
    large.mid = Some("l".into());
    large.extensions = vec![
        (15, Mid),
        (200, Rid),
        (255, RepairedRid),
        (16, AbsSendTime),
        (100, TransportWideCc),
        (17, VideoOrientation),
        (18, AbsCaptureTime),
    ];
    for mut track in [turned, large] {
        track.orientation = Some(1);
        world.publish(alice, track);
    }
    let ssrcs = ["mic", "turned", "large"].map(|id| world.consume(bob, id));
    world.run(3 * SECOND);
    world.assert_no_faults();
    for id in ["turned", "large"] {
        assert!(taken(&mut world, id).iter().all(|count| *count > 80), "{id}");
    }
    for ssrc in &ssrcs[1..] {
        let got = &world.peers[bob].inbox(*ssrc).got;
        assert!(got.len() > 100 && got.values().all(|got| got.orientation == Some(1)));
    }
    assert!(world.peers[bob].inbox(ssrcs[0]).got.len() > 120);
    // All of them count for one feedback.
    let peer = &world.peers[alice];
    let told = peer.feedback.values().flatten().count();
    assert!(told + 80 > peer.arrived.len(), "{told} of {}", peer.arrived.len());
    // One id for two extensions cannot be read, and of two ids for one that are not both meant.
    for one_more in [(4, VideoOrientation), (12, Mid)] {
        let mut wrong = world.simulcast("wrong", 1);
        wrong.mid = Some("w".into());
        wrong.extensions.retain(|(_, kind)| *kind != VideoOrientation);
        wrong.extensions.push(one_more);
        let create = world.produce(alice, &wrong);
        assert!(world.worker().apply_produce(&create).is_err());
    }
}

/// Repairs under a new SSRC with each packet: nothing changes for who receives the track.
#[test]
fn an_ssrc_of_repairs_that_changes_costs_the_receivers_nothing() {
    let mut world = World::new(975);
    let alice = world.join("alice");
    world.publish_simulcast(alice, "camera", 2);
    for number in 0..20 {
        let peer = world.join(&format!("viewer-{number}"));
        world.consume(peer, "camera");
    }
    world.run(3 * SECOND);
    let before = world.counter("layer_looks");
    for number in 0..500u32 {
        let bytes = packet(&mut world, alice, "camera", |plain| {
            (plain.ssrc, plain.payload_type, plain.repaired) = (100_000 + number, 97, true);
        });
        world.send(alice, bytes);
        world.run(MS);
    }
    // What is usual in half a second, and not one for each packet and viewer.
    let looks = world.counter("layer_looks") - before;
    assert!(looks <= 20 * 10, "{looks}");
    world.assert_no_faults();
}
