//! RED around Opus: what is lost of a voice comes back out of what follows, upstream and downstream,
//! whoever of the two speaks it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use ironcast_core::{
    Discard, MS, SECOND,
    wire::{
        Codec, Protocol, classify,
        rtcp::CompoundWriter,
        rtp::{self, Header},
    },
    worker::Limits,
};
use ironcast_protocol::{
    command::{Consume, Produce},
    media::{MediaKind, RtpEncoding, RtpParameters, RtpType},
};
use ironcast_sim::{
    Network, World,
    media::{self, Body, Descriptor},
    parameters::{self, Feedback},
    track::{Source, Track},
    world::{Want, plain::NETWORK},
};

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

/// Payload types of a plain peer, and what it sends with.
const OPUS: u8 = 111;
const RED: u8 = 63;
const SSRC: u32 = 9_001;

fn plain_world(seed: u64) -> World {
    let plain_allow = vec![NETWORK.parse().unwrap()];
    World::with_limits(seed, 1, &Limits { plain_allow, ..Limits::default() })
}

fn plain_parameters(nack: bool) -> RtpParameters {
    let feedback = Feedback { nack, pli: false, fir: false, remb: false, transport_cc: false };
    let encodings = vec![RtpEncoding { ssrc: Some(SSRC), ..RtpEncoding::default() }];
    let opus = parameters::parameters(Codec::Opus, None, OPUS, None, feedback, &[], encodings);
    parameters::with_red(opus, Some(RED))
}

/// Somebody on a plain transport with a microphone. Returns his address.
fn join_phone(world: &mut World) -> SocketAddr {
    let remote = world.join_plain("phone");
    let produce = Produce {
        id: "mic".into(),
        transport: "phone".into(),
        kind: MediaKind::Audio,
        rtp_parameters: plain_parameters(false),
        rtp_mapping: Default::default(),
        paused: false,
        key_frame_request_delay_ms: 0,
        note: Vec::new(),
    };
    world.worker().apply_produce(&produce).unwrap();
    remote
}

/// A voice on a plain transport, as RED with two earlier payloads.
struct Speaker {
    remote: SocketAddr,
    seq: u16,
    timestamp: u32,
    frame: u32,
    spoken: Vec<(u32, Vec<u8>)>,
}

impl Speaker {
    /// Says the next frame, unless that is lost.
    fn speak(&mut self, world: &mut World, is_lost: bool) {
        let body =
            Body { source: SSRC, frame: self.frame, packet: 0, packets: 1, captured: world.now };
        let newest = media::write(Codec::Opus, Descriptor::default(), body, 100);
        let payload = media::red(OPUS, self.timestamp, &self.spoken, &newest);
        let mut packet = [0; 1_000];
        let fields = rtp::Fields {
            payload_type: RED,
            sequence_number: self.seq,
            timestamp: self.timestamp,
            ssrc: SSRC,
            ..rtp::Fields::default()
        };
        let start = rtp::write_header(&mut packet, &fields, false).unwrap();
        packet[start..start + payload.len()].copy_from_slice(&payload);
        self.spoken.push((self.timestamp, newest));
        self.spoken.drain(..self.spoken.len().saturating_sub(2));
        if !is_lost {
            world.send_plain(self.remote, &packet[..start + payload.len()]);
        }
        (self.seq, self.timestamp) = (self.seq.wrapping_add(1), self.timestamp.wrapping_add(960));
        self.frame += 1;
        world.run(20 * MS);
    }
}

/// Somebody on a plain transport sends RED: who takes Opus and who takes RED hear all of it, also
/// after it began again with other numbers.
#[test]
fn what_a_plain_transport_sends_as_red_is_heard_by_all() {
    for seed in 2_350..2_353 {
        let mut world = plain_world(seed);
        let (bob, carol) = (world.join("bob"), world.join("carol"));
        let remote = join_phone(&mut world);
        // What receivers are told of it; nobody of these speaks.
        let mut track = Track::new("mic", Codec::Opus, None, world.now);
        track.sources.push(Source::new(SSRC, None, 0));
        track.muted = true;
        world.peers[bob].tracks.push(track);
        let plain = world.consume_as(bob, "mic", want(false)).0;
        let red = world.consume_as(carol, "mic", want(true)).0;
        world.run(SECOND);
        let (seq, timestamp) = (65_500, u32::MAX - 40_000);
        let mut phone = Speaker { remote, seq, timestamp, frame: 0, spoken: Vec::new() };
        for number in 0..495 {
            // One, and two in a row: as many as it repeats.
            phone.speak(&mut world, matches!(number % 13, 5 | 6 | 10));
        }
        assert_eq!(world.counter("rtp_recovered"), 3 * 38, "seed {seed}");
        // It rings off and calls again: other numbers, and what was said before is in no packet.
        world.run(3 * SECOND);
        (phone.seq, phone.timestamp, phone.spoken) = (7, 5_000_000, Vec::new());
        for number in 0..200 {
            phone.speak(&mut world, number % 11 == 4);
        }
        world.run(SECOND);
        world.assert_no_faults();
        for (peer, ssrc) in [(bob, plain), (carol, red)] {
            let inbox = world.peers[peer].inbox(ssrc);
            let frames: BTreeSet<u32> = inbox.got.values().map(|got| got.body.frame).collect();
            assert_eq!(frames.len(), inbox.got.len(), "seed {seed}: once");
            assert_eq!(frames.len(), 695, "seed {seed}: all");
            assert_eq!(inbox.redundant.is_empty(), peer == bob);
            assert_eq!(inbox.holes(), [], "seed {seed}");
        }
        assert_eq!(world.discarded(Discard::RedMalformed), 0);
    }
}

/// What it sends is broken: nothing of it is kept, and what is right is heard.
#[test]
fn red_of_a_plain_transport_that_is_none_is_counted() {
    let mut world = plain_world(2_355);
    let remote = join_phone(&mut world);
    let packet = |seq: u16, payload: &[u8]| {
        let mut header = [0; 12];
        let fields = rtp::Fields {
            payload_type: RED,
            sequence_number: seq,
            ssrc: SSRC,
            ..rtp::Fields::default()
        };
        rtp::write_header(&mut header, &fields, false).unwrap();
        [&header[..], payload].concat()
    };
    for (seq, payload, reason) in [
        (10, &[0xef, 0, 0][..], Discard::RedMalformed),
        (11, &[0xef; 40], Discard::RedMalformed),
        (12, &[0xef, 0, 7, 200, OPUS, 1, 2], Discard::RedMalformed),
        (13, &[RED, OPUS, 1, 2], Discard::RtpUnknownPayloadType),
    ] {
        let before = world.discarded(reason);
        world.send_plain(remote, &packet(seq, payload));
        world.run(MS);
        assert_eq!(world.discarded(reason), before + 1, "{payload:?}");
    }
    let now = world.now;
    world.send_plain(remote, &packet(14, &[OPUS, 1, 2, 3]));
    world.run(MS);
    let stats = world.worker().producer_stats("mic", now).unwrap();
    assert_eq!(stats[0].stream.packet_count, 1);
    assert_eq!(world.counter("history_packets"), 1);
}

/// What a voice costs is what it costs who takes Opus, however it is published.
#[test]
fn redundancy_does_not_count_as_what_a_voice_costs() {
    let rates = [0, 2].map(|levels| {
        let mut world = World::new(2_358);
        let alice = world.join("alice");
        world.publish_voice(alice, "mic", levels);
        world.run(5 * SECOND);
        let now = world.now;
        world.worker().producer_stats("mic", now).unwrap()[0].stream.bitrate
    });
    assert!(rates[0] > 50_000, "{rates:?}");
    assert!(rates[0].abs_diff(rates[1]) < rates[0] / 50, "{rates:?}");
}

/// A plain transport takes RED: each packet has the one before it, and a repeat is the same bytes.
#[test]
fn a_plain_transport_takes_red() {
    for (seed, levels) in [(2_360, 0), (2_361, 2)] {
        let mut world = plain_world(seed);
        let alice = world.join("alice");
        world.publish_voice(alice, "mic", levels);
        let remote = world.join_plain("recorder");
        let consume = Consume {
            id: "recorder/mic".into(),
            transport: "recorder".into(),
            producer: "mic".into(),
            rtp_parameters: plain_parameters(true),
            rtp_type: RtpType::Simple,
            paused: false,
            preferred_layers: None,
            ignore_dtx: false,
            note: Vec::new(),
        };
        let now = world.now;
        world.worker().apply_consume(&consume, 65_530 & 0x7fff, now).unwrap();
        world.run(10 * SECOND);
        let mut sent = BTreeMap::new();
        for (_, bytes) in world.take_plain(remote) {
            if classify(&bytes) != Protocol::Rtp {
                continue;
            }
            let header = Header::parse(&bytes).unwrap();
            assert_eq!(header.ssrc, SSRC);
            sent.insert(header.sequence_number, (header, bytes));
        }
        assert!(sent.len() > 450, "seed {seed}: {}", sent.len());
        let (mut whole, mut of_two) = (BTreeSet::new(), BTreeSet::new());
        for (nth, (header, bytes)) in sent.values().enumerate() {
            if nth == 0 {
                assert_eq!(header.payload_type, OPUS, "there is nothing before the first");
                continue;
            }
            assert_eq!(header.payload_type, RED);
            let (earlier, newest) = media::read_red(OPUS, header.payload(bytes)).unwrap();
            let body = |bytes: &[u8]| media::read(Codec::Opus, bytes).unwrap().0;
            let newest = body(newest).frame;
            let earlier: Vec<_> =
                earlier.iter().map(|(ago, one)| (*ago, body(one).frame)).collect();
            assert_eq!(earlier, [(960, newest - 1)], "seed {seed}");
            whole.insert(newest);
            // Of two packets one is lost.
            if nth % 2 == 0 {
                of_two.extend([newest, newest - 1]);
            }
        }
        assert!(whole.difference(&of_two).count() <= 1, "seed {seed}");
        // Asked for again.
        let (&wanted, (_, before)) = sent.iter().next_back().unwrap();
        let mut nack = [0; 100];
        let mut writer = CompoundWriter::new(&mut nack);
        writer.nack(1, SSRC, &[wanted]).unwrap();
        let len = writer.len();
        world.send_plain(remote, &nack[..len]);
        world.run(10 * MS);
        let again = world.take_plain(remote);
        assert!(again.iter().any(|(_, bytes)| bytes == before), "seed {seed}: the same bytes");
        world.assert_no_faults();
    }
}
