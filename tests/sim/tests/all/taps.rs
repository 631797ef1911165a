//! Taps: each packet once, in order and with what is known of it; a bound, and a count of what is beyond
//! it; nobody waits for who reads.

use std::collections::{BTreeMap, BTreeSet};

use ironcast_core::{
    MS, SECOND,
    key::TapKey,
    tap::{About, Keep, Kind, RECORD_BYTES, Subject, TAPS_MAX, Track},
    wire::{Codec, rtp::Header},
};
use ironcast_protocol::{ErrorCode, media::MediaKind, snapshot::ResourceKind};
use ironcast_sim::{Network, World, media, media::Body, world::UNIX_OFFSET, world::Want};

/// More than comes in a test.
const ALL: Keep = Keep { payload: true, bytes_max: 16 << 20 };

/// A tapped packet.
#[derive(Debug, Clone)]
struct Taken {
    about: About,
    head: Vec<u8>,
    payload: Vec<u8>,
}

impl Taken {
    fn stream(&self) -> u8 {
        match self.about.track {
            Some(Track::Producer(_, stream)) => stream,
            other => panic!("{other:?}"),
        }
    }

    fn body(&self, codec: Codec) -> Body {
        media::read(codec, &self.payload).expect("a payload of a publisher").0
    }
}

fn subject(world: &mut World, worker: usize, kind: ResourceKind, id: &str) -> Subject {
    world.worker_at(worker).subjects(kind, id)[0]
}

fn open(world: &mut World, worker: usize, kind: ResourceKind, id: &str, keep: Keep) -> TapKey {
    let of = subject(world, worker, kind, id);
    world.worker_at(worker).open_tap(of, keep).expect("a tap")
}

/// What it has taken, how many packets it dropped, and whether its subject is gone.
fn read(world: &mut World, worker: usize, tap: TapKey) -> (Vec<Taken>, u64, bool) {
    let mut taken = Vec::new();
    let read = world.worker_at(worker).read_tap(tap, |packet| {
        let (head, payload) = (packet.head.to_vec(), packet.payload.to_vec());
        taken.push(Taken { about: packet.about, head, payload });
    });
    let read = read.expect("an open tap");
    (taken, read.dropped, read.has_ended)
}

/// Numbers by stream, in their order.
fn numbers(taken: &[Taken]) -> BTreeMap<u8, Vec<u64>> {
    let mut numbers = BTreeMap::<u8, Vec<u64>>::new();
    for one in taken {
        numbers.entry(one.stream()).or_default().push(one.about.number);
    }
    numbers
}

#[test]
fn a_producers_tap_has_each_packet_once_and_in_order_whatever_receivers_there_are() {
    // Nobody; one who wants little; several, one of them paused: turns then end in the middle of their
    // output.
    for (seed, receivers) in [(1600, 0), (1601, 1), (1602, 12)] {
        let mut world = World::new(seed);
        let alice = world.join("alice");
        world.publish_simulcast(alice, "camera", 3);
        for number in 0..receivers {
            let peer = world.join(&format!("peer-{number}"));
            world.consume_as(peer, "camera", Want { paused: number == 1, ..Want::default() });
        }
        world.run(SECOND);
        let tap = open(&mut world, 0, ResourceKind::Producer, "camera", ALL);
        let since = world.now;
        world.run(2 * SECOND);
        let (taken, dropped, has_ended) = read(&mut world, 0, tap);
        assert_eq!((dropped, has_ended), (0, false));
        let numbers = numbers(&taken);
        assert_eq!(numbers.keys().copied().collect::<Vec<_>>(), [0, 1, 2], "seed {seed}");
        for (stream, numbers) in &numbers {
            // Thirty frames a second, of one, two and five packets.
            let least = [50, 100, 250][usize::from(*stream)];
            assert!(numbers.len() > least, "seed {seed}: {stream} {}", numbers.len());
            assert!(numbers.windows(2).all(|two| two[1] == two[0] + 1), "seed {seed}: {numbers:?}");
        }
        let sources: Vec<u32> =
            world.peers[alice].track("camera").sources.iter().map(|one| one.ssrc).collect();
        for one in &taken {
            let (header, body) = (Header::parse(&one.head).unwrap(), one.body(Codec::Vp8));
            let source = sources[usize::from(one.stream())];
            assert_eq!((header.ssrc, body.source), (source, source));
            assert_eq!(header.payload_type, 96);
            assert_eq!(u64::from(header.sequence_number), one.about.number & 0xffff);
            assert_eq!(one.about.len as usize, one.head.len() + one.payload.len());
            assert_eq!(one.about.kind, Kind::Media(MediaKind::Video));
            assert!(!one.about.is_sent && !one.about.is_rtx);
            let at = one.about.at_unix_ns - UNIX_OFFSET;
            assert!((since..=world.now).contains(&at) && at >= body.captured, "{at}");
        }
        // It ends.
        world.worker().close_tap(tap);
        world.run(100 * MS);
        assert_eq!(world.worker().read_tap(tap, |_| panic!("closed")), None);
        world.assert_no_faults();
    }
}

/// Answers to checks alone may fill the first portion of a turn's output: media leaves with the next one,
/// and is handed out once.
#[test]
fn a_turn_whose_answers_fill_a_portion_gives_a_tap_each_packet_once() {
    let mut world = World::new(1603);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.publish_video(alice, "camera", Codec::Vp8);
    let ssrc = world.consume(bob, "camera");
    world.run(SECOND);
    let tap = open(&mut world, 0, ResourceKind::Producer, "camera", ALL);
    // What comes within so long is of one turn.
    world.hold = 200 * MS;
    for _ in 0..10 {
        for _ in 0..100 {
            let check = world.peers[bob].write_check();
            world.send(bob, check);
        }
        world.run(200 * MS);
    }
    let (taken, dropped, _) = read(&mut world, 0, tap);
    assert_eq!(dropped, 0);
    let numbers = &numbers(&taken)[&0];
    assert!(numbers.len() > 100, "{}", numbers.len());
    assert!(numbers.windows(2).all(|two| two[1] == two[0] + 1), "{numbers:?}");
    assert!(world.peers[bob].inbox(ssrc).frames().len() > 60);
    world.assert_no_faults();
}

#[test]
fn what_is_repeated_or_recovered_is_there_once() {
    let mut world = World::new(1610);
    let alice = world.join_over("alice", Network::lossy(0.05), Network::default());
    world.publish_simulcast(alice, "camera", 2);
    world.publish_voice(alice, "mic", 2);
    let bob = world.join("bob");
    world.consume(bob, "camera");
    world.consume(bob, "mic");
    let taps = ["camera", "mic"].map(|id| open(&mut world, 0, ResourceKind::Producer, id, ALL));
    world.run(5 * SECOND);
    for (tap, codec) in taps.into_iter().zip([Codec::Vp8, Codec::Opus]) {
        let (taken, dropped, _) = read(&mut world, 0, tap);
        assert_eq!(dropped, 0);
        let bodies: Vec<(u8, Body)> =
            taken.iter().map(|one| (one.stream(), one.body(codec))).collect();
        let distinct: BTreeSet<_> = bodies.iter().collect();
        assert_eq!(distinct.len(), bodies.len(), "{codec:?}");
        for (stream, mut numbers) in numbers(&taken) {
            let came_late = numbers.windows(2).filter(|two| two[1] < two[0]).count();
            assert!(codec == Codec::Opus || came_late > 0, "{stream}: something was repeated");
            numbers.sort_unstable();
            let holes = numbers.windows(2).filter(|two| two[1] != two[0] + 1).count();
            assert!(holes * 50 <= numbers.len(), "{stream}: {holes} of {}", numbers.len());
        }
        let repeated = taken.iter().filter(|one| one.about.is_rtx).count();
        assert_eq!(repeated > 10, codec == Codec::Vp8, "{repeated}");
    }
    assert!(world.counter("rtp_recovered") > 5);
    world.assert_no_faults();
}

/// What bob has of a room where a tap of so many bytes is open that nobody reads; and what it took and
/// dropped.
fn unread(bytes_max: Option<usize>) -> (Vec<(u64, u64, Body)>, usize, u64) {
    let mut world = World::new(1620);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.publish_simulcast(alice, "camera", 3);
    let ssrc = world.consume(bob, "camera");
    world.run(SECOND);
    let keep = |bytes_max| Keep { payload: true, bytes_max };
    let taps = bytes_max.map(|bytes| {
        [(ResourceKind::Producer, "camera"), (ResourceKind::Transport, "bob")]
            .map(|(kind, id)| open(&mut world, 0, kind, id, keep(bytes)))
    });
    world.run(2 * SECOND);
    let got = &world.peers[bob].inbox(ssrc).got;
    let got = got.iter().map(|(&index, got)| (index, got.at, got.body)).collect();
    let (mut taken, mut dropped) = (0, 0);
    for tap in taps.into_iter().flatten() {
        let (packets, more, _) = read(&mut world, 0, tap);
        let bytes = packets.iter().map(|one| one.head.len() + one.payload.len() + RECORD_BYTES);
        assert!(bytes.sum::<usize>() <= bytes_max.unwrap());
        // What it has are the first ones: no hole is before the last.
        if let Some(Track::Producer(..)) = packets[0].about.track {
            for numbers in numbers(&packets).values() {
                assert!(numbers.windows(2).all(|two| two[1] == two[0] + 1), "{numbers:?}");
            }
        }
        taken += packets.len();
        dropped += more;
        // And goes on once it was read.
        world.run(100 * MS);
        let (packets, ..) = read(&mut world, 0, tap);
        assert!(!packets.is_empty());
    }
    world.assert_no_faults();
    (got, taken, dropped)
}

#[test]
fn nobody_waits_for_who_does_not_read_and_what_has_no_room_is_counted() {
    let (without, ..) = unread(None);
    let (with_all, all, none) = unread(Some(16 << 20));
    let (with_few, few, dropped) = unread(Some(20_000));
    assert!(without.len() > 100);
    assert!(without == with_all && without == with_few, "receivers know nothing of taps");
    assert_eq!(none, 0);
    assert!((20..80).contains(&few), "{few}");
    assert_eq!(few as u64 + dropped, all as u64);
}

#[test]
fn what_was_taken_outlives_the_track_and_others_may_be_tapped() {
    let mut world = World::new(1630);
    let alice = world.join("alice");
    world.publish_audio(alice, "mic");
    let mut ids = Vec::new();
    for name in ["bob", "carol", "dave"] {
        let peer = world.join(name);
        ids.push(world.consume(peer, "mic"));
    }
    // Taps between consumers: each that leaves moves another one.
    let first = open(&mut world, 0, ResourceKind::Producer, "mic", ALL);
    let erin = world.join("erin");
    let erins = world.consume(erin, "mic");
    let second = open(&mut world, 0, ResourceKind::Producer, "mic", ALL);
    world.run(SECOND);
    world.worker().apply_close_consumer("bob/mic").unwrap();
    world.run(SECOND);
    let now = world.now;
    world.worker().apply_pause_consumer("erin/mic", true, now).unwrap();
    world.run(SECOND / 10);
    let heard = world.peers[erin].inbox(erins).got.len();
    world.worker().close_tap(first);
    world.run(SECOND);
    assert_eq!(world.peers[erin].inbox(erins).got.len(), heard, "she is paused");
    let of = subject(&mut world, 0, ResourceKind::Producer, "mic");
    world.worker().apply_close_producer("mic").unwrap();
    world.run(SECOND);
    let (taken, dropped, has_ended) = read(&mut world, 0, second);
    assert_eq!((dropped, has_ended), (0, true));
    let numbers = &numbers(&taken)[&0];
    assert!(numbers.len() > 140 && numbers.windows(2).all(|two| two[1] == two[0] + 1));
    let (taken, _, has_ended) = read(&mut world, 0, second);
    assert!(taken.is_empty() && has_ended);
    world.worker().close_tap(second);
    let gone = world.worker().open_tap(of, ALL).map_err(|error| error.code);
    assert_eq!(gone, Err(ErrorCode::NotFound));
    // So many and no more; a closed one leaves room.
    let taps: Vec<TapKey> =
        (0..TAPS_MAX).map(|_| open(&mut world, 0, ResourceKind::Transport, "alice", ALL)).collect();
    let of = subject(&mut world, 0, ResourceKind::Transport, "alice");
    let full = world.worker().open_tap(of, ALL).map_err(|error| error.code);
    assert_eq!(full, Err(ErrorCode::NoCapacity));
    world.worker().close_tap(taps[7]);
    assert!(world.worker().open_tap(of, ALL).is_ok());
}

#[test]
fn a_consumers_tap_has_what_leaves_for_it_and_a_transports_both_ways() {
    let mut world = World::new(1640);
    let alice = world.join("alice");
    let bob = world.join_over("bob", Network::default(), Network::lossy(0.03));
    world.publish_video(alice, "camera", Codec::Vp8);
    world.publish_audio(alice, "mic");
    world.publish_audio(bob, "bob-mic");
    let ssrc = world.consume(bob, "camera");
    let voice = world.consume(bob, "mic");
    world.run(2 * SECOND);
    let consumer = open(&mut world, 0, ResourceKind::Consumer, "bob/camera", ALL);
    let transport = open(&mut world, 0, ResourceKind::Transport, "bob", ALL);
    world.run(3 * SECOND);
    let (sent, ..) = read(&mut world, 0, consumer);
    let (passed, ..) = read(&mut world, 0, transport);
    let ssrc_of = |one: &Taken| u32::from_be_bytes(one.head[8..12].try_into().unwrap());
    let media: Vec<_> = sent.iter().filter(|one| !one.about.is_rtx).collect();
    assert!(media.windows(2).all(|two| two[1].about.number == two[0].about.number + 1));
    assert!(media.len() > 200 && media.iter().all(|one| ssrc_of(one) == ssrc));
    let repeats = sent.len() - media.len();
    assert!(repeats > 3, "{repeats}");
    // The transport's tap has them, too, in the same order among others.
    let of_camera = passed.iter().filter(|one| one.about.track == sent[0].about.track);
    let same: Vec<_> = of_camera.map(|one| (one.about, &one.head, &one.payload)).collect();
    assert_eq!(
        same,
        sent.iter().map(|one| (one.about, &one.head, &one.payload)).collect::<Vec<_>>()
    );
    assert!(passed.iter().any(|one| one.about.is_sent && ssrc_of(one) == voice));
    let came = passed.iter().filter(|one| matches!(one.about.track, Some(Track::Producer(..))));
    let came: Vec<_> = came.collect();
    assert!(came.len() > 140 && came.iter().all(|one| !one.about.is_sent));
    for one in &came {
        // As he made it, with its extensions.
        let whole = [&one.head[..], &one.payload].concat();
        let header = Header::parse(&whole).unwrap();
        assert_eq!((header.header_len(), whole.len()), (one.head.len(), one.about.len as usize));
        assert!(header.extension_range().len() > 4);
        one.body(Codec::Opus);
    }
    let rtcp = |is_sent| {
        let all = passed.iter().filter(|one| one.about.kind == Kind::Rtcp);
        all.filter(|one| one.about.is_sent == is_sent && one.payload.is_empty()).count()
    };
    assert!(rtcp(true) > 3 && rtcp(false) > 3);
    world.assert_no_faults();
}

#[test]
fn a_track_is_tapped_on_every_worker_that_it_reaches() {
    for (seed, loss) in [(1650, 0.0), (1651, 0.02)] {
        let ring = Network { delay: 0, ..Network::lossy(loss) };
        let mut world = World::two_workers(seed, ring);
        let alice = world.join("alice");
        world.publish_simulcast(alice, "camera", 2);
        world.pipe("camera");
        let taps = [0, 1].map(|at| open(&mut world, at, ResourceKind::Producer, "camera", ALL));
        let carol = world.join_worker(1, "carol", Network::default(), Network::default());
        world.consume(carol, "camera");
        world.run(4 * SECOND);
        let [here, there] = [0, 1].map(|at| {
            let (taken, dropped, _) = read(&mut world, at, taps[at]);
            assert_eq!(dropped, 0);
            let bodies: Vec<_> =
                taken.iter().map(|one| (one.stream(), one.body(Codec::Vp8))).collect();
            let distinct: BTreeSet<_> = bodies.iter().copied().collect();
            assert_eq!(distinct.len(), bodies.len(), "seed {seed}: worker {at} has some twice");
            (bodies, distinct)
        });
        assert!(here.0.len() > 300, "seed {seed}");
        // Streams of a pipe begin at a key frame, and the last packets may be on their way.
        let missing = here.1.difference(&there.1).count();
        assert!(there.1.is_subset(&here.1) && missing < 20, "seed {seed}: {missing}");
        let order = |bodies: &[(u8, Body)]| -> Vec<(u8, Body)> {
            bodies.iter().filter(|one| there.1.contains(one)).copied().collect()
        };
        assert_eq!(order(&here.0) == there.0, loss == 0.0, "seed {seed}");
        world.assert_no_faults();
    }
}
