//! Plain peers against one worker: who they are taken for, when they may move, what they are sent.

use ironcast_protocol::{
    ErrorCode,
    command::{Consume, CreateRouter, Produce},
    media::{MediaKind, RtcpFeedback, RtpCodec, RtpEncoding, RtpParameters, RtpType},
    plain::{ConnectPlainTransport, CreatePlainTransport},
};

use super::*;
use crate::{
    MS,
    batch::{Batch, SLAB_BYTES, Slab},
    numbers::PacketIndex,
    producer,
    srtp::{MasterKey, OpenKey, SealKey, SoftwareSealer, Suite},
    wire::rtcp,
    worker::{Ingress, Limits},
};

const SSRC: u32 = 4_711;
const SENT_SSRC: u32 = 815;
const RTP: u16 = 5_004;
const OUT: u16 = 6_004;

fn at(host: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host], port))
}

fn ours(port: u16) -> SocketAddr {
    at(1, port)
}

fn master(suite: Suite, byte: u8) -> MasterKey {
    MasterKey::new(suite, &vec![byte; suite.key_len()], &vec![byte; suite.salt_len()]).unwrap()
}

/// A worker, and what the driver would do for it.
struct Stage {
    worker: Worker,
    batch: Batch,
    now: Nanos,
    paths: Vec<Option<(SocketAddr, SocketAddr)>>,
    no_sockets: bool,
}

impl Stage {
    fn new() -> Self {
        let free = (0..8).map(|_| Slab { bytes: vec![0; SLAB_BYTES].into_boxed_slice() }).collect();
        let plain_allow = vec!["10.0.0.0/24".parse().unwrap()];
        let limits = Limits { plain_allow, ..Limits::default() };
        let mut worker = Worker::new(0, limits);
        let create = CreateRouter {
            id: "room".into(),
            worker: 0,
            selection: Default::default(),
            note: Vec::new(),
        };
        worker.apply_create_router(&create).unwrap();
        let batch = Batch::new(free);
        Self { worker, batch, now: 100 * SECOND, paths: Vec::new(), no_sockets: false }
    }

    fn plain(&mut self, id: &str, port: u16, comedia: bool, key: Option<&MasterKey>) {
        let create = CreatePlainTransport {
            id: id.into(),
            router: "room".into(),
            listen: None,
            port: None,
            rtcp_mux: true,
            comedia,
            srtp_suite: None,
            pipe: false,
            note: Vec::new(),
        };
        let sockets = Sockets { rtp: ours(port), rtcp: None };
        self.worker.apply_create_plain_transport(&create, sockets, key, self.now).unwrap();
    }

    fn connect(
        &mut self,
        id: &str,
        remote: Option<SocketAddr>,
        theirs: Option<&MasterKey>,
    ) -> Result<(), ErrorCode> {
        let connect = ConnectPlainTransport {
            id: id.into(),
            remote,
            rtcp_remote: None,
            srtp: None,
            note: Vec::new(),
        };
        let connected = self.worker.apply_connect_plain_transport(&connect, theirs, None, self.now);
        self.act();
        connected.map_err(|error| error.code)
    }

    fn produce(&mut self, transport: &str, encoding: RtpEncoding, mid: Option<&str>) {
        let produce = Produce {
            id: "mic".into(),
            transport: transport.into(),
            kind: MediaKind::Audio,
            rtp_parameters: parameters(100, encoding, mid),
            rtp_mapping: Default::default(),
            paused: false,
            key_frame_request_delay_ms: 0,
            note: Vec::new(),
        };
        self.worker.apply_produce(&produce).unwrap();
    }

    fn consume(&mut self, transport: &str) {
        let encoding = RtpEncoding { ssrc: Some(SENT_SSRC), ..RtpEncoding::default() };
        let consume = Consume {
            id: "ear".into(),
            transport: transport.into(),
            producer: "mic".into(),
            rtp_parameters: parameters(111, encoding, None),
            rtp_type: RtpType::Simple,
            paused: false,
            preferred_layers: None,
            ignore_dtx: false,
            note: Vec::new(),
        };
        self.worker.apply_consume(&consume, 7, self.now).unwrap();
    }

    /// By the connected socket of that pair, or at the bound one.
    fn receive(&mut self, remote: SocketAddr, port: u16, bytes: &[u8]) {
        let local = ours(port);
        let slot = self.paths.iter().position(|path| *path == Some((local, remote)));
        let source = match slot {
            Some(slot) => Ingress::Path(PathId { slot: slot as u32, generation: 0 }),
            None => Ingress::Listener { local, remote },
        };
        self.worker.receive(source, bytes, Arrival::at(self.now));
    }

    fn act(&mut self) {
        while !self.worker.actions().is_empty() {
            for action in std::mem::take(self.worker.actions()) {
                match action {
                    Action::OpenPath { transport, local, remote } => {
                        let slot = self.paths.len() as u32;
                        let path = (!self.no_sockets).then_some(PathId { slot, generation: 0 });
                        self.paths.extend(path.map(|_| Some((local, remote))));
                        self.worker.path_opened(transport, local, remote, path, self.now);
                    }
                    Action::ClosePath(path) => {
                        assert!(self.paths[path.slot as usize].take().is_some(), "{path:?}");
                    }
                    _ => {}
                }
            }
        }
    }

    /// What leaves in a turn, and where to.
    fn turn(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        self.act();
        self.worker.expire(self.now);
        self.act();
        let mut sent = Vec::new();
        while {
            let has_more = self.worker.drain(&mut self.batch, &mut SoftwareSealer, self.now);
            for send in &self.batch.sends {
                let slab = &self.batch.filled[send.slab as usize].bytes;
                let bytes = &slab[send.offset as usize..(send.offset + send.len) as usize];
                let remote = self.paths[send.path.slot as usize].unwrap().1;
                let datagrams = bytes.chunks(usize::from(send.segment));
                sent.extend(datagrams.map(|one| (remote, one.to_vec())));
            }
            self.batch.free.append(&mut self.batch.filled);
            self.batch.clear();
            has_more
        } {}
        self.act();
        sent
    }

    /// Payloads that the receiver got in a turn, and their sequence numbers.
    fn heard(&mut self) -> Vec<(u16, Vec<u8>)> {
        let sent = self.turn();
        let rtp = sent.iter().filter(|(to, one)| *to == at(9, 9_000) && one[1] & 0x7f == 111);
        rtp.map(|(_, one)| (u16::from_be_bytes([one[2], one[3]]), one[12..].to_vec())).collect()
    }

    fn remote(&self, id: &str) -> Option<SocketAddr> {
        self.worker.transport_state(id).unwrap().tuple.map(|tuple| tuple.remote)
    }

    fn discarded(&self, reason: Discard) -> u64 {
        self.worker.discards.of(reason)
    }
}

fn parameters(payload_type: u8, encoding: RtpEncoding, mid: Option<&str>) -> RtpParameters {
    let nack = RtcpFeedback { kind: "nack".into(), parameter: String::new() };
    RtpParameters {
        mid: mid.map(str::to_owned),
        codecs: vec![RtpCodec {
            mime_type: "audio/opus".into(),
            payload_type,
            clock_rate: 48_000,
            channels: Some(2),
            rtcp_feedback: vec![nack],
            ..RtpCodec::default()
        }],
        encodings: vec![encoding],
        ..RtpParameters::default()
    }
}

fn by_ssrc() -> RtpEncoding {
    RtpEncoding { ssrc: Some(SSRC), ..RtpEncoding::default() }
}

fn packet(ssrc: u32, seq: u16) -> Vec<u8> {
    let mut bytes = vec![0x80, 100];
    bytes.extend(seq.to_be_bytes());
    bytes.extend((u32::from(seq) * 960).to_be_bytes());
    bytes.extend(ssrc.to_be_bytes());
    bytes.extend([0xfc, seq as u8, 3, 4]);
    bytes
}

fn sealed(key: &SealKey, seq: u16) -> Vec<u8> {
    let mut bytes = packet(SSRC, seq);
    let payload_len = bytes.len() - 12;
    bytes.resize(bytes.len() + 16, 0);
    let len = key.seal_rtp(&mut bytes, 12, payload_len, PacketIndex(seq.into()));
    bytes.truncate(len);
    bytes
}

/// A publisher that is known by what it sends, and a receiver that is told of.
fn in_the_clear() -> Stage {
    let mut stage = Stage::new();
    stage.plain("from", RTP, true, None);
    stage.plain("to", OUT, false, None);
    stage.connect("to", Some(at(9, 9_000)), None).unwrap();
    stage.produce("from", by_ssrc(), None);
    stage.consume("to");
    stage
}

#[test]
fn packets_go_through_as_they_are() {
    let mut stage = in_the_clear();
    for seq in 0..50u16 {
        stage.receive(at(2, 2_000), RTP, &packet(SSRC, 65_520u16.wrapping_add(seq)));
        let heard = stage.heard();
        assert_eq!(heard.len(), 1, "{seq}");
        assert_eq!(heard[0].0, 7 + seq);
        assert_eq!(heard[0].1, packet(0, 65_520u16.wrapping_add(seq))[12..]);
        stage.now += 20 * MS;
    }
    assert_eq!(stage.remote("from"), Some(at(2, 2_000)));
    // What the receiver misses, it gets again.
    let mut nack = [0; 100];
    let mut writer = rtcp::CompoundWriter::new(&mut nack);
    writer.nack(1, SENT_SSRC, &[30, 31]).unwrap();
    let len = writer.len();
    stage.receive(at(9, 9_000), OUT, &nack[..len]);
    let again: Vec<_> = stage.heard().into_iter().map(|(seq, _)| seq).collect();
    assert_eq!(again, [30, 31]);
    // The publisher is told how its packets arrive.
    stage.now += 2 * SECOND;
    let reports = stage.turn();
    assert!(reports.iter().any(|(to, one)| *to == at(2, 2_000) && one[1] == 201), "{reports:?}");
}

#[test]
fn in_the_clear_the_first_one_wins_until_it_is_silent() {
    let mut stage = in_the_clear();
    stage.receive(at(2, 2_000), RTP, &packet(SSRC, 1));
    stage.turn();
    // At any rate: counted, and nothing else.
    for number in 0..50_000u32 {
        stage.receive(at(3, 3_000 + (number % 1_000) as u16), RTP, &packet(SSRC, 2));
    }
    assert_eq!(stage.discarded(Discard::PlainWrongSource), 50_000);
    assert_eq!(stage.paths.iter().flatten().count(), 2);
    stage.receive(at(2, 2_000), RTP, &packet(SSRC, 2));
    assert_eq!(stage.heard().len(), 1);
    stage.now += SILENCE + MS;
    // Not from anywhere, and not with anything.
    stage.receive(SocketAddr::from(([192, 0, 2, 1], 2_002)), RTP, &packet(SSRC, 3));
    stage.receive(at(2, 2_002), RTP, b"\x80nothing");
    stage.receive(at(2, 2_002), RTP, &[22; 60]);
    assert_eq!(stage.discarded(Discard::PlainNotAllowed), 1);
    assert_eq!(stage.remote("from"), Some(at(2, 2_000)));
    stage.receive(at(2, 2_002), RTP, &packet(SSRC, 3));
    assert_eq!(stage.heard().len(), 1);
    assert_eq!(stage.remote("from"), Some(at(2, 2_002)));
    assert_eq!(stage.paths.iter().flatten().count(), 2, "the old socket is closed");
    stage.receive(at(2, 2_000), RTP, &packet(SSRC, 4));
    assert_eq!(stage.discarded(Discard::PlainWrongSource), 50_001);
    let told =
        stage.worker.events().iter().filter(|one| matches!(one, Event::PlainTupleChange { .. }));
    assert_eq!(told.count(), 2);
}

#[test]
fn a_sender_that_begins_again_is_followed() {
    let mut stage = in_the_clear();
    for seq in 40_000..40_010 {
        stage.receive(at(2, 2_000), RTP, &packet(SSRC, seq));
        assert_eq!(stage.heard().len(), 1);
        stage.now += 20 * MS;
    }
    // With its old SSRC and lower numbers, from another port.
    stage.now += SILENCE + MS;
    for seq in 100..110 {
        stage.receive(at(2, 2_100), RTP, &packet(SSRC, seq));
        assert_eq!(stage.heard().len(), 1, "{seq}");
        stage.now += 20 * MS;
    }
    // What comes again while it sends is no beginning.
    stage.receive(at(2, 2_100), RTP, &packet(SSRC, 100));
    assert_eq!(stage.heard().len(), 0);
    // What a receiver gets is one stream.
    stage.now += SILENCE;
    stage.receive(at(2, 2_100), RTP, &packet(SSRC, 30_000));
    let next = stage.heard();
    assert_eq!(next.len(), 1);
    assert!((20..40).contains(&(next[0].0 - 7)), "{next:?}");
}

#[test]
fn another_ssrc_is_followed_where_the_parameters_leave_it_open() {
    let mut stage = Stage::new();
    stage.plain("from", RTP, true, None);
    stage.plain("to", OUT, false, None);
    stage.connect("to", Some(at(9, 9_000)), None).unwrap();
    stage.produce("from", RtpEncoding::default(), Some("0"));
    stage.consume("to");
    for (ssrc, first) in [(1, 500u16), (2, 9_000), (3, 10)] {
        for seq in first..first + 5 {
            stage.receive(at(2, 2_000), RTP, &packet(ssrc, seq));
            assert_eq!(stage.heard().len(), 1, "{ssrc} {seq}");
            stage.now += 20 * MS;
        }
        // A second one beside it is not taken for it.
        stage.receive(at(2, 2_000), RTP, &packet(77, 1));
        assert_eq!(stage.heard().len(), 0);
        stage.now += SILENCE;
    }
}

#[test]
fn sealed_packets_say_where_the_peer_is() {
    for suite in Suite::ALL {
        let mut stage = Stage::new();
        let (own, theirs) = (master(suite, 1), master(suite, 2));
        stage.plain("from", RTP, true, Some(&own));
        stage.plain("to", OUT, false, Some(&own));
        stage.produce("from", by_ssrc(), None);
        stage.consume("to");
        let seal = SealKey::new(&theirs);
        stage.receive(at(2, 2_000), RTP, &sealed(&seal, 1));
        assert_eq!(stage.discarded(Discard::SrtpNoKeys), 1);
        assert_eq!(stage.connect("from", None, None), Err(ErrorCode::Invalid));
        stage.connect("from", None, Some(&theirs)).unwrap();
        stage.connect("to", Some(at(9, 9_000)), Some(&theirs)).unwrap();
        let open = OpenKey::new(&own);
        for (seq, port) in [(1u16, 2_000), (2, 2_000), (3, 2_001), (4, 2_001), (5, 2_000)] {
            // Neither a stranger nor what came before moves it.
            stage.receive(at(3, 3_000), RTP, &packet(SSRC, seq));
            stage.receive(at(3, 3_000), RTP, &sealed(&SealKey::new(&own), seq));
            if seq > 1 {
                stage.receive(at(3, 3_000), RTP, &sealed(&seal, seq - 1));
            }
            stage.receive(at(2, port), RTP, &sealed(&seal, seq));
            let sent = stage.turn();
            assert_eq!(stage.remote("from"), Some(at(2, port)), "{suite:?} {seq}");
            let rtp = |(to, one): &(SocketAddr, Vec<u8>)| *to == at(9, 9_000) && one[1] == 111;
            let mut got = sent.into_iter().find(rtp).unwrap().1;
            let len = open.open_rtp(&mut got, 12, PacketIndex(u64::from(6 + seq))).unwrap();
            assert_eq!(got[12..len], packet(0, seq)[12..]);
            stage.now += 600 * MS;
        }
        assert_eq!(stage.discarded(Discard::PlainWrongSource), 0);
        assert!(stage.discarded(Discard::SrtpUnauthenticated) >= 10);
        // RTCP is sealed as well.
        stage.now += 2 * SECOND;
        let reports = stage.turn();
        let mut report = reports.into_iter().find(|(to, _)| to.ip() == at(2, 0).ip()).unwrap().1;
        assert!(open.open_rtcp(&mut report).is_ok());
    }
}

#[test]
fn a_peer_moves_seldom() {
    let mut stage = Stage::new();
    let (own, theirs) = (master(Suite::AeadAes128Gcm, 1), master(Suite::AeadAes128Gcm, 2));
    stage.plain("from", RTP, true, Some(&own));
    stage.produce("from", by_ssrc(), None);
    stage.connect("from", None, Some(&theirs)).unwrap();
    let seal = SealKey::new(&theirs);
    for seq in 0..1_000u16 {
        stage.receive(at(2, 10_000 + seq), RTP, &sealed(&seal, seq));
        stage.turn();
    }
    assert_eq!((stage.paths.len(), stage.paths.iter().flatten().count()), (4, 1));
    let stats = stage.worker.producer_stats("mic", stage.now).unwrap();
    assert_eq!(stats[0].stream.packet_count, 1_000, "all the same they are its own");
}

#[test]
fn connect_is_checked() {
    let mut stage = in_the_clear();
    let somewhere = Some(at(2, 2_000));
    assert_eq!(stage.connect("to", somewhere, None), Err(ErrorCode::WrongState));
    assert_eq!(stage.connect("from", somewhere, None), Err(ErrorCode::Invalid));
    assert_eq!(stage.connect("nobody", somewhere, None), Err(ErrorCode::NotFound));
    stage.plain("other", 7_000, false, None);
    for (remote, code) in [
        (None, ErrorCode::Invalid),
        (Some(SocketAddr::from(([192, 0, 2, 1], 9))), ErrorCode::Forbidden),
        (Some(SocketAddr::from(([0u16; 8], 9))), ErrorCode::Forbidden),
        (Some(at(2, 0)), ErrorCode::Invalid),
        (Some(ours(7_000)), ErrorCode::Invalid),
    ] {
        assert_eq!(stage.connect("other", remote, None), Err(code), "{remote:?}");
    }
    let key = master(Suite::AesCm128HmacSha1_80, 3);
    assert_eq!(stage.connect("other", somewhere, Some(&key)), Err(ErrorCode::Invalid));
    stage.connect("other", somewhere, None).unwrap();
    // An IPv4 address in the clothes of IPv6 is what it is.
    assert!(stage.worker.is_allowed("::ffff:10.0.0.7".parse().unwrap()));
    assert!(!stage.worker.is_allowed("::ffff:192.0.2.1".parse().unwrap()));
}

#[test]
fn a_socket_that_cannot_be_had_is_asked_for_again_and_all_are_closed_at_the_end() {
    let mut stage = Stage::new();
    stage.no_sockets = true;
    stage.plain("to", OUT, false, None);
    stage.connect("to", Some(at(9, 9_000)), None).unwrap();
    assert_eq!(stage.discarded(Discard::SocketRefused), 1);
    stage.now += 3 * SECOND;
    stage.turn();
    assert_eq!(stage.discarded(Discard::SocketRefused), 2);
    stage.no_sockets = false;
    stage.now += 3 * SECOND;
    stage.turn();
    assert_eq!(stage.paths.iter().flatten().count(), 1);
    // Nobody listens there yet: the socket is kept.
    let now = stage.now;
    stage.worker.path_failed(PathId { slot: 0, generation: 0 }, now);
    stage.act();
    assert_eq!(stage.paths.iter().flatten().count(), 1);
    stage.worker.apply_close_transport("to").unwrap();
    stage.turn();
    assert_eq!(stage.paths.iter().flatten().count(), 0);
    stage.receive(at(9, 9_000), OUT, &packet(SSRC, 1));
    assert_eq!(stage.discarded(Discard::UnknownSource), 1);
}

/// Output that never ends: what has come is fanned out all the same, what there is no room for is counted.
#[test]
fn a_track_goes_on_however_much_waits_for_output() {
    let mut stage = in_the_clear();
    let mut seq = 0u16;
    let mut come = |stage: &mut Stage, count: u64| {
        for _ in 0..count {
            stage.receive(at(2, 2_000), RTP, &packet(SSRC, seq));
            stage.act();
            seq = seq.wrapping_add(1);
        }
        assert!(!stage.worker.untold_producers.is_empty(), "{count} that nobody hears of");
        stage.worker.fan_out();
    };
    (0..700).for_each(|_| come(&mut stage, 100));
    come(&mut stage, 1);
    let waiting = stage.worker.producers.iter().map(|(_, one)| one.fresh.len()).max();
    assert!(waiting <= Some(producer::FRESH_MAX), "{waiting:?}");
    let heard = stage.heard().len() as u64;
    let late = stage.discarded(Discard::OutputLate);
    assert_eq!((heard + late) % (1 << 16), 70_001 % (1 << 16), "{heard} heard");
    assert!(heard > 1_000, "{heard} heard");
    // It is over: the room for them is given back.
    come(&mut stage, 1);
    assert_eq!(stage.heard().len(), 1);
    assert_eq!(stage.discarded(Discard::OutputLate), late);
    let room = stage.worker.producers.iter().map(|(_, one)| one.fresh.capacity()).max();
    assert!(room <= Some(producer::FRESH_MAX / 8), "{room:?}");
}

#[test]
fn what_has_waited_for_too_long_is_skipped_and_counted() {
    let mut stage = in_the_clear();
    for seq in 0..30 {
        stage.receive(at(2, 2_000), RTP, &packet(SSRC, seq));
        stage.act();
        stage.now += 20 * MS;
    }
    // The last one came 20 ms ago.
    let heard: Vec<_> = stage.heard().into_iter().map(|(_, payload)| payload[1]).collect();
    assert_eq!(heard, Vec::from_iter(5..30));
    assert_eq!(stage.discarded(Discard::OutputLate), 5);
}

/// What is looked at takes time also where nothing of it is written.
#[test]
fn a_portion_ends_where_little_is_written() {
    let mut stage = in_the_clear();
    let free = std::mem::take(&mut stage.batch.free);
    stage.batch = Batch::new(free).with_portions_of(3_000);
    stage.worker.apply_close_consumer("ear").unwrap();
    for number in 0..40u16 {
        let id = format!("to-{number}");
        stage.plain(&id, OUT + 2 + 2 * number, false, None);
        stage.connect(&id, Some(at(9, 9_000 + number)), None).unwrap();
        let encoding = RtpEncoding { ssrc: Some(SENT_SSRC), ..RtpEncoding::default() };
        let consume = Consume {
            id: id.as_str().into(),
            transport: id.as_str().into(),
            producer: "mic".into(),
            rtp_parameters: parameters(111, encoding, None),
            rtp_type: RtpType::Simple,
            paused: false,
            preferred_layers: None,
            ignore_dtx: true,
            note: Vec::new(),
        };
        stage.worker.apply_consume(&consume, 7, stage.now).unwrap();
    }
    // Silence of which nobody is sent anything.
    for seq in 0..50 {
        stage.receive(at(2, 2_000), RTP, &packet(SSRC, seq)[..13]);
    }
    stage.act();
    stage.worker.expire(stage.now);
    let mut portions = 1;
    while stage.worker.drain(&mut stage.batch, &mut SoftwareSealer, stage.now) {
        stage.batch.clear();
        portions += 1;
    }
    assert!(portions >= 5, "40 consumers of 50 packets each in {portions}");
}
