//! Bytes that nobody should send, between valid traffic: counted by reason, and the rest unharmed.

use std::net::SocketAddr;

use ironcast_core::{
    Discard, MS, SECOND,
    wire::{
        Codec,
        rtcp::{CompoundWriter, ReportBlock, SenderInfo},
    },
    worker::Limits,
};
use ironcast_protocol::{
    ErrorCode,
    command::{SetPreferredLayers, SetPriority},
    media::Layers,
};
use ironcast_sim::{
    Network, World,
    rng::Rng,
    track::{Source, Track},
    world::{ROOM, Want},
};
use proptest::prelude::*;

/// One of many ways to be wrong.
fn junk(rng: &mut Rng, valid: &[Vec<u8>]) -> Vec<u8> {
    let len = rng.below(1_500) as usize;
    let mut bytes = if rng.chance(0.5) || valid.is_empty() {
        rng.bytes(len)
    } else {
        valid[rng.below(valid.len() as u64) as usize].clone()
    };
    if let Some(first) = bytes.first_mut()
        && rng.chance(0.3)
    {
        *first = [0x80, 0x90, 0xb0, 0x01, 0x16, 0xff][rng.below(6) as usize];
    }
    for _ in 0..rng.below(6) {
        if !bytes.is_empty() {
            let at = rng.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << rng.below(8);
        }
    }
    if rng.chance(0.3) {
        bytes.truncate(rng.below(bytes.len() as u64 + 1) as usize);
    }
    bytes
}

#[test]
fn junk_between_valid_packets_harms_nothing() {
    for seed in 800..804 {
        let mut world = World::new(seed);
        let mut rng = Rng::new(seed);
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        world.publish_video(alice, "camera", Codec::Vp8);
        let ssrc = world.consume(bob, "camera");
        world.run(2 * SECOND);
        let mut sent = 0u64;
        let before: u64 = Discard::ALL.iter().map(|&reason| world.discarded(reason)).sum();
        for _ in 0..300 {
            let mut valid: Vec<Vec<u8>> = vec![world.peers[alice].write_check()];
            let kept = &world.peers[alice].track("camera").sources[0].sent;
            valid.extend(kept.values().rev().take(5).map(|(_, sealed)| sealed.clone()));
            for _ in 0..10 {
                let bytes = junk(&mut rng, &valid);
                if rng.chance(0.5) {
                    world.send(alice, bytes);
                } else {
                    let port = 1 + rng.below(60_000) as u16;
                    world.send_from(0, SocketAddr::from(([10, 66, 6, 6], port)), &bytes);
                }
                sent += 1;
            }
            world.run(10 * MS);
        }
        world.run(SECOND);
        world.assert_no_faults();
        let after: u64 = Discard::ALL.iter().map(|&reason| world.discarded(reason)).sum();
        // A copy of a valid check or packet may have been taken; nearly all is counted.
        assert!(after - before > sent * 3 / 4, "seed {seed}: {} of {sent}", after - before);
        let inbox = world.peers[bob].inbox(ssrc);
        assert_eq!(inbox.holes(), [], "seed {seed}");
        assert!(inbox.frames().len() > 150, "seed {seed}");
        assert!(world.counter("history_packets") < 3_000, "seed {seed}");
    }
}

#[test]
fn repeats_of_valid_packets_are_dropped_and_counted() {
    let mut world = World::new(810);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.publish_video(alice, "camera", Codec::Vp8);
    let ssrc = world.consume(bob, "camera");
    world.run(2 * SECOND);
    let kept = &world.peers[alice].track("camera").sources[0].sent;
    // The first packet came together with the first check, before its way was open.
    let old: Vec<_> = kept.values().skip(1).map(|(_, sealed)| sealed.clone()).collect();
    let before = world.discarded(Discard::SrtpReplayed);
    let plis = world.peers[bob].seal_rtcp(|w| w.picture_loss(1, ssrc));
    for bytes in &old {
        world.send(alice, bytes.clone());
    }
    for _ in 0..5 {
        world.send(bob, plis.clone());
    }
    world.run(SECOND);
    assert_eq!(world.discarded(Discard::SrtpReplayed) - before, old.len() as u64 + 4);
    world.assert_no_faults();
    assert_eq!(world.peers[bob].inbox(ssrc).holes(), []);
}

#[test]
fn an_ssrc_is_learned_only_from_a_packet_that_verified() {
    let mut world = World::new(820);
    let (alice, mallory) = (world.join("alice"), world.join("mallory"));
    world.run(200 * MS);
    let track = world.simulcast("camera", 2);
    world.publish(alice, track).muted = true;
    // Another's keys on the right path: the labels are right, the tag is not.
    for i in 0..500u32 {
        let mut track = world.simulcast("x", 1);
        track.sources[0].ssrc = 900_000 + i;
        let plain = track.capture(world.now, |_| 0).remove(0);
        let now = world.now;
        let bytes = world.peers[mallory].seal_plain(&plain, now).bytes;
        world.send(alice, bytes);
    }
    world.run(SECOND);
    assert_eq!(world.discarded(Discard::SrtpUnauthenticated), 500);
    world.peers[alice].track("camera").muted = false;
    world.run(SECOND);
    let now = world.now;
    let stats = world.worker().producer_stats("camera", now).unwrap();
    assert_eq!(stats.len(), 2);
    assert!(stats.iter().all(|s| s.stream.packet_count > 20));
}

#[test]
fn unknown_streams_types_and_sizes_are_counted() {
    let mut world = World::new(830);
    let alice = world.join("alice");
    world.publish_video(alice, "camera", Codec::Vp8);
    world.run(SECOND);
    let now = world.now;
    let last = world.peers[alice].track("camera").sources[0].sent.values().next_back();
    let plain = last.unwrap().0.clone();
    let mut other = plain.clone();
    (other.ssrc, other.mid) = (1, Some("nobody".into()));
    let mut labelled = plain.clone();
    (labelled.ssrc, labelled.rid) = (2, Some("nobody".into()));
    let mut kind = plain.clone();
    (kind.payload_type, kind.index) = (33, plain.index + 100);
    let mut long = plain.clone();
    (long.index, long.payload) = (plain.index + 101, vec![1; 1_600]);
    for (plain, reason) in [
        (other, Discard::RtpUnknownStream),
        (labelled, Discard::RtpUnknownStream),
        (kind, Discard::RtpUnknownPayloadType),
        (long, Discard::Oversized),
    ] {
        let before = world.discarded(reason);
        let bytes = world.peers[alice].seal_plain(&plain, now).bytes;
        world.send(alice, bytes);
        world.run(30 * MS);
        assert_eq!(world.discarded(reason), before + 1, "{reason}");
    }
}

#[test]
fn a_full_packet_memory_drops_and_recovers() {
    let limits = Limits { packets_max: 40, ..Limits::default() };
    let mut world = World::with_limits(840, 1, &limits);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.publish_video(alice, "camera", Codec::Vp8);
    let ssrc = world.consume(bob, "camera");
    world.run(3 * SECOND);
    assert!(world.discarded(Discard::LimitReached) > 0);
    assert!(world.counter("history_packets") <= 40);
    world.assert_no_faults();
    assert!(!world.peers[bob].inbox(ssrc).got.is_empty());
}

/// A transport has 256 SSRCs and no more: what is beyond is counted, nobody else notices, and when
/// some are free again it gets through.
#[test]
fn more_streams_than_a_transport_may_have_are_dropped() {
    let mut world = World::new(850);
    let (alice, carol, bob) = (world.join("alice"), world.join("carol"), world.join("bob"));
    world.publish_video(carol, "other", Codec::Vp8);
    for track in 0..33 {
        let mut track = world.simulcast(&format!("t{track}"), 8);
        (track.mid, track.interval) = (Some(track.id.clone()), SECOND / 5);
        for source in &mut track.sources {
            (source.packets_per_frame, source.payload_len) = (1, 100);
        }
        world.publish(alice, track);
    }
    let ssrcs = ["other", "t0", "t31", "t32"].map(|id| world.consume(bob, id));
    world.run(3 * SECOND);
    world.assert_no_faults();
    let frames = |world: &World, ssrc| world.peers[bob].inbox(ssrc).frames().len();
    assert!(world.discarded(Discard::LimitReached) > 80);
    assert!(frames(&world, ssrcs[0]) > 80);
    assert!(frames(&world, ssrcs[1]) > 10 && frames(&world, ssrcs[2]) > 10);
    assert_eq!(frames(&world, ssrcs[3]), 0);
    for ssrc in ssrcs {
        assert_eq!(world.peers[bob].inbox(ssrc).holes(), []);
    }
    // Named in the parameters they are refused at once.
    let mut named = Track::new("named", Codec::Vp8, Some("named"), world.now);
    named.sources.push(Source::new(world.ssrc(), None, 0));
    let create = world.produce(alice, &named);
    assert!(world.worker().apply_produce(&create).is_err());
    world.worker().apply_close_producer("t0").unwrap();
    world.run(3 * SECOND);
    assert!(frames(&world, ssrcs[3]) > 10);
}

/// What is done to the bytes of a compound before it is sealed.
#[derive(Debug, Clone)]
enum Change {
    Flip(usize, u8),
    Word(usize, u32),
    Cut(usize),
    Append(Vec<u8>),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (0usize..80, 0u8..8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        2 => (0usize..20, any::<u32>()).prop_map(|(at, word)| Change::Word(at, word)),
        1 => (8usize..100).prop_map(Change::Cut),
        1 => prop::collection::vec(any::<u8>(), 1..60).prop_map(Change::Append),
    ]
}

/// A compound of each kind that a browser sends, about one stream, with its bytes changed.
fn changed_rtcp(kind: u8, ssrc: u32, changes: &[Change]) -> Vec<u8> {
    let mut bytes = vec![0; 400];
    let mut writer = CompoundWriter::new(&mut bytes);
    let info =
        SenderInfo { ssrc, ntp: 1 << 40, rtp_timestamp: 7, packet_count: 9, octet_count: 900 };
    let block = ReportBlock { ssrc, fraction_lost: 9, ..ReportBlock::default() };
    let written = match kind {
        0 => writer.sender_report(&info, &[block]),
        1 => writer.receiver_report(5, &[block, block]),
        2 => writer.nack(5, ssrc, &[1, 2, 3, 700]),
        3 => writer.picture_loss(5, ssrc),
        4 => writer.full_intra(5, &[(ssrc, 3)]),
        5 => writer.maximum_bitrate(5, 300_000, &[ssrc]),
        _ => writer.goodbye(&[ssrc]),
    };
    written.expect("room for a compound");
    let len = writer.len();
    bytes.truncate(len);
    for change in changes {
        match change {
            Change::Flip(at, bit) => {
                let at = at % bytes.len();
                bytes[at] ^= 1 << bit;
            }
            Change::Word(at, word) => {
                let at = at * 4 % bytes.len() / 4 * 4;
                bytes[at..at + 4].copy_from_slice(&word.to_be_bytes());
            }
            Change::Cut(len) => bytes.truncate(*len / 4 * 4),
            Change::Append(more) => bytes.extend(more),
        }
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whoever has keys can write any RTCP: it may spoil his own call, never the server or others.
    #[test]
    fn rtcp_of_any_bytes_harms_only_its_sender(
        seed in any::<u64>(),
        packets in prop::collection::vec(
            (0u8..7, 0usize..4, any::<bool>(), prop::collection::vec(change(), 0..4)),
            1..80,
        ),
    ) {
        let mut world = World::new(seed);
        let [alice, bob, carol, dave] = ["alice", "bob", "carol", "dave"].map(|n| world.join(n));
        world.publish_simulcast(alice, "camera", 3);
        world.publish_video(carol, "other", Codec::Vp8);
        let (bobs, daves) = (world.consume(bob, "camera"), world.consume(dave, "other"));
        world.run(SECOND);
        let others = &world.peers[carol].track("other").sources[0];
        let (others_ssrc, asked) = (others.ssrc, others.asked.len());
        let alices = world.peers[alice].track("camera").sources[0].ssrc;
        for (kind, about, by_publisher, changes) in &packets {
            let ssrc = [alices, bobs, others_ssrc, daves][*about];
            let sender = if *by_publisher { alice } else { bob };
            let bytes = changed_rtcp(*kind, ssrc, changes);
            let bytes = world.peers[sender].seal_rtcp_bytes(&bytes);
            world.send(sender, bytes);
            world.run(10 * MS);
        }
        world.run(SECOND);
        let inbox = world.peers[dave].inbox(daves);
        prop_assert_eq!(inbox.holes(), []);
        prop_assert!(inbox.frames().len() > 55, "{}", inbox.frames().len());
        prop_assert_eq!(world.peers[carol].track("other").sources[0].asked.len(), asked);
        for peer in [carol, dave] {
            prop_assert!(world.peers[peer].faults.is_empty());
        }
        // The senders' own transports are still there, and can be closed.
        for id in ["alice", "bob"] {
            prop_assert!(world.worker().apply_close_transport(id).is_ok());
        }
    }
}

/// A step of a session: what the control plane, a publisher or a receiver may do.
#[derive(Debug, Clone)]
enum Step {
    Run(u64),
    Pause { producer: bool, audio: bool, paused: bool },
    Prefer(u8, u8),
    Priority(u8),
    CloseConsumer(bool),
    CloseProducer,
    CloseTransport,
    Restart,
    Move(u16),
    Enable(u8, bool),
    Loss(u8),
    KeyFrame,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (20u64..700).prop_map(Step::Run),
        2 => any::<(bool, bool, bool)>()
            .prop_map(|(producer, audio, paused)| Step::Pause { producer, audio, paused }),
        3 => (0u8..4, 0u8..4).prop_map(|(s, t)| Step::Prefer(s, t)),
        1 => (0u8..3).prop_map(Step::Priority),
        2 => any::<bool>().prop_map(Step::CloseConsumer),
        1 => Just(Step::CloseProducer),
        1 => Just(Step::CloseTransport),
        1 => Just(Step::Restart),
        1 => (1u16..9_000).prop_map(Step::Move),
        2 => (0u8..3, any::<bool>()).prop_map(|(layer, on)| Step::Enable(layer, on)),
        2 => (0u8..30).prop_map(Step::Loss),
        1 => Just(Step::KeyFrame),
    ]
}

/// A call that is made, changed and torn down; what is gone is made again.
struct Session {
    world: World,
    alice: usize,
    bob: usize,
    rtx: bool,
}

impl Session {
    fn new(seed: u64, rtx: bool) -> Self {
        let mut world = World::new(seed);
        let alice = world.join_over("alice", Network::bad(), Network::bad());
        let bob = world.join_over("bob", Network::bad(), Network::bad());
        world.publish_simulcast(alice, "camera", 3);
        world.publish_audio(alice, "mic");
        let mut session = Self { world, alice, bob, rtx };
        session.consume();
        session
    }

    /// What is not there any more comes back, with the same SSRCs where the transport is the same.
    fn consume(&mut self) {
        for (id, ssrc) in [("camera", 4_000), ("mic", 4_010)] {
            let there = self.world.worker().consumer_state(&format!("bob/{id}")).is_some();
            if !there && self.world.worker().producer_state(id).is_some() {
                let want = Want { ssrc: Some(ssrc), rtx: self.rtx, ..Want::default() };
                self.world.consume_as(self.bob, id, want);
            }
        }
    }

    fn rejoin(&mut self) {
        // An address of its own: the old peer's datagrams may still be under way.
        self.world.peers[self.bob].check_every = None;
        self.world.peers[self.bob].reports = false;
        self.bob = self.world.join_over("bob", Network::bad(), Network::bad());
        self.consume();
    }

    fn step(&mut self, step: &Step) {
        let now = self.world.now;
        let worker = self.world.worker();
        match *step {
            Step::Run(ms) => self.world.run(ms * MS),
            Step::Pause { producer, audio, paused } => {
                let id = if audio { "mic" } else { "camera" };
                let _ = if producer {
                    worker.apply_pause_producer(id, paused)
                } else {
                    worker.apply_pause_consumer(&format!("bob/{id}"), paused, now)
                };
            }
            Step::Prefer(spatial, temporal) => {
                let layers = Layers { spatial, temporal };
                let set = SetPreferredLayers { id: "bob/camera".into(), layers };
                let _ = worker.apply_preferred_layers(&set, now);
            }
            Step::Priority(priority) => {
                let set = SetPriority { id: "bob/camera".into(), priority };
                let _ = worker.apply_priority(&set, now);
            }
            Step::CloseConsumer(audio) => {
                let id = if audio { "bob/mic" } else { "bob/camera" };
                let _ = worker.apply_close_consumer(id);
                self.consume();
            }
            Step::CloseProducer => {
                let _ = worker.apply_close_producer("camera");
                let track = self.world.peers[self.alice].track("camera");
                // A browser takes new streams for a new track.
                for source in &mut track.sources {
                    source.ssrc += 1_000;
                    source.rtx_ssrc = source.rtx_ssrc.map(|ssrc| ssrc + 1_000);
                }
                let track = self.world.peers[self.alice].tracks.iter().find(|t| t.id == "camera");
                let create = self.world.produce(self.alice, track.unwrap());
                let _ = self.world.worker().apply_produce(&create);
                self.consume();
            }
            Step::CloseTransport => {
                let _ = worker.apply_close_transport("bob");
                self.world.run(MS);
                self.rejoin();
            }
            Step::Restart => {
                let credentials = self.world.credentials(0);
                if self.world.worker().apply_restart_ice("bob", credentials.clone()).is_ok() {
                    let check = &mut self.world.peers[self.bob].check;
                    check.username = format!("{}:peer", credentials.username_fragment);
                    check.password = credentials.password;
                }
            }
            Step::Move(port) => {
                self.world.peers[self.bob].remote.set_port(port);
                self.world.peers[self.bob].check_at = now;
            }
            Step::Enable(layer, on) => {
                let track = self.world.peers[self.alice].track("camera");
                track.sources[usize::from(layer)].enabled = on;
            }
            Step::Loss(percent) => {
                self.world.peers[self.bob].down.network.loss = f64::from(percent) / 100.0;
            }
            Step::KeyFrame => {
                let _ = worker.apply_request_key_frame("bob/camera", now);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is done in whatever order over a bad network: the world's witness sees no index
    /// sealed twice, receivers see no packet under two numbers' names, and at the end nothing stays.
    #[test]
    fn no_index_is_used_twice_and_nothing_is_left_behind(
        seed in any::<u64>(),
        rtx in any::<bool>(),
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut session = Session::new(seed, rtx);
        session.world.run(SECOND);
        for step in &steps {
            session.step(step);
        }
        session.world.run(500 * MS);
        session.world.assert_no_faults();
        let world = &mut session.world;
        world.worker().apply_close_router(ROOM).unwrap();
        world.run(200 * MS);
        let stats = world.worker().worker_stats();
        prop_assert_eq!((stats.routers, stats.transports, stats.producers), (0, 0, 0));
        prop_assert_eq!((stats.consumers, stats.counters["history_packets"]), (0, 0));
        prop_assert_eq!(world.open_paths(0), 0);
    }
}

/// A viewer that asks for everything again without end has no more repeated than a share of what he
/// is sent, and one that loses a lot is repaired all the same.
#[test]
fn repeats_follow_what_a_receiver_is_sent() {
    let mut world = World::new(870);
    let alice = world.join("alice");
    let bob = world.join("bob");
    let carol = world.join_over("carol", Network::default(), Network::lossy(0.2));
    let track = world.publish_video(alice, "camera", Codec::Vp8);
    track.sources[0].packets_per_frame = 10;
    let (bobs, carols) = (world.consume(bob, "camera"), world.consume(carol, "camera"));
    world.run(3 * SECOND);
    let bytes = |world: &mut World, name| {
        let now = world.now;
        let stats = world.worker().transport_stats(name, now).unwrap();
        (stats.rtp_bytes_sent, stats.rtx_bytes_sent)
    };
    let (media, repeats) = bytes(&mut world, "bob");
    for _ in 0..500 {
        let newest = *world.peers[bob].inbox(bobs).got.keys().next_back().unwrap() as u16;
        for first in [300u16, 150] {
            let asked: Vec<u16> = (0..150).map(|n| newest.wrapping_sub(first - n)).collect();
            let nack = world.peers[bob].seal_rtcp(|w| w.nack(1, bobs, &asked));
            world.send(bob, nack);
        }
        world.run(10 * MS);
    }
    let after = bytes(&mut world, "bob");
    let (media, repeats) = (after.0 - media, after.1 - repeats);
    assert!(repeats > media / 3, "{repeats} of {media}");
    assert!(repeats < media * 6 / 10 + 200_000, "{repeats} of {media}");
    assert!(world.counter("rtp_repeats_refused") > 1_000);
    world.peers[alice].track("camera").muted = true;
    world.peers[carol].down.network.loss = 0.0;
    world.run(SECOND);
    assert_eq!(world.peers[carol].inbox(carols).holes(), []);
    world.assert_no_faults();
}

/// Repeats of what was repeated a moment ago, or is long gone, lead to nothing, and are looked for all the
/// same: they have the same allowance.
#[test]
fn requests_for_repeats_that_lead_to_nothing_are_limited() {
    let mut world = World::new(873);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.publish_audio(alice, "mic");
    let ssrc = world.consume(bob, "mic");
    world.run(3 * SECOND);
    for _ in 0..200 {
        let newest = *world.peers[bob].inbox(ssrc).got.keys().next_back().unwrap() as u16;
        let asked: Vec<u16> = (0..250).map(|n| newest.wrapping_sub(5_000 + n)).collect();
        let nack = world.peers[bob].seal_rtcp(|w| w.nack(1, ssrc, &asked));
        world.send(bob, nack);
        world.run(5 * MS);
    }
    let refused = world.counter("rtp_repeats_refused");
    assert!(refused > 200 * 250 * 9 / 10, "{refused}");
    world.assert_no_faults();
}

/// What finds no memory for the way out is dropped, and each of it is counted.
#[test]
fn output_without_memory_is_counted() {
    let mut world = World::new(871);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.publish_video(alice, "camera", Codec::Vp8);
    let ssrc = world.consume(bob, "camera");
    world.run(2 * SECOND);
    let forwarded = world.counter("rtp_forwarded");
    world.lend_slabs(0);
    world.peers[alice].reports = false;
    world.run(SECOND);
    assert!(world.discarded(Discard::OutputExhausted) >= 90);
    assert_eq!(world.counter("rtp_forwarded"), forwarded);
    world.lend_slabs(8);
    world.run(2 * SECOND);
    assert!(world.counter("rtp_forwarded") > forwarded + 150);
    assert!(world.peers[bob].inbox(ssrc).frames().len() > 100);
    world.assert_no_faults();
}

/// A worker that has no socket left says so, apart from what peers do.
#[test]
fn sockets_that_are_refused_are_counted() {
    let mut world = World::new(872);
    world.no_sockets = true;
    world.join("alice");
    world.run(SECOND);
    assert!(world.discarded(Discard::SocketRefused) > 0);
}

/// The limits of a worker are those that it was given.
#[test]
fn repeats_answers_and_ssrcs_have_the_limits_of_the_configuration() {
    let limits = Limits {
        repeats_waiting_max: 20,
        sent_ssrcs_max: 4,
        answers_bytes_max: 2_000,
        ..Limits::default()
    };
    let mut world = World::with_limits(873, 1, &limits);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.publish_video(alice, "camera", Codec::Vp8);
    let ssrc = world.consume(bob, "camera");
    world.run(2 * SECOND);
    let newest = *world.peers[bob].inbox(ssrc).got.keys().next_back().unwrap() as u16;
    let asked: Vec<u16> = (0..50).map(|n| newest.wrapping_sub(n)).rev().collect();
    let nack = world.peers[bob].seal_rtcp(|w| w.nack(1, ssrc, &asked));
    world.send(bob, nack);
    world.run(SECOND);
    assert_eq!(world.counter("rtp_retransmitted"), 20);
    assert_eq!(world.discarded(Discard::LimitReached), 1);
    // Answers to many checks of one turn.
    world.hold = SECOND;
    for _ in 0..200 {
        let check = world.peers[bob].write_check();
        world.send(bob, check);
    }
    world.run(2 * SECOND);
    assert!(world.counter("control_dropped") > 100);
    world.hold = 0;
    // Each consumer uses up one, and another one where it was sent repeats.
    for _ in 0..4 {
        world.worker().apply_close_consumer("bob/camera").unwrap();
        world.run(SECOND);
        let (create, _) = world.consume_command(bob, "camera", &Want::default());
        let now = world.now;
        if let Err(refused) = world.worker().apply_consume(&create, 1, now) {
            assert_eq!(refused.code, ErrorCode::NoCapacity);
            return;
        }
        world.run(SECOND);
    }
    panic!("more SSRCs than the transport may use up");
}

/// Each packet says another orientation. The control plane hears of some, and of the last one.
#[test]
fn a_camera_that_turns_with_each_packet_is_told_of_now_and_then() {
    use ironcast_protocol::Event;
    let mut world = World::new(895);
    let alice = world.join("alice");
    world.publish_video(alice, "camera", Codec::Vp8);
    world.run(SECOND);
    let told = |world: &World| -> Vec<u16> {
        let turns = world.events.iter().filter_map(|(_, event)| match event {
            Event::VideoOrientationChange { rotation, .. } => Some(*rotation),
            _ => None,
        });
        turns.collect()
    };
    for number in 0..4_000u32 {
        world.peers[alice].track("camera").orientation = Some((number % 4) as u8);
        world.run(MS);
    }
    let count = told(&world).len();
    assert!((8..=24).contains(&count), "{count}");
    // One that is said once, right after another, is told all the same.
    world.peers[alice].track("camera").orientation = Some(1);
    world.run(300 * MS);
    world.peers[alice].track("camera").orientation = Some(2);
    world.run(SECOND / 30 + 5 * MS);
    world.peers[alice].track("camera").orientation = None;
    world.run(1_200 * MS);
    assert_eq!(told(&world).last(), Some(&180));
}
