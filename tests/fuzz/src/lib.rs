//! What the fuzz targets do with their input: everything that the dataplane does with bytes of a
//! peer before and after it knows who that is. The binaries in `fuzz_targets/` only pass their
//! input on; `tests/fuzz/run` builds and runs them; the tests here run the committed corpus without
//! any instrumentation.
//!
//! A target fails by a panic: of the code under test (overflow checks are on), or of an assertion
//! about what a parser promised.
#![forbid(unsafe_code)]

use ironcast_core::{
    Arrival,
    dependencies::Dependencies,
    framing::{FrameTooLong, PREFIX_BYTES, Reassembly},
    key::{RouterKey, TransportKey},
    numbers::{PacketIndex, RtcpIndex, SourceSeq},
    producer::{Arrived, Producer},
    recover::{
        history::Meta,
        pool::Pool,
        red::{LEVELS_MAX, Redundancy},
    },
    srtp::{MasterKey, OpenKey, SealKey, Suite},
    transport::feedback::TransportFeedback,
    wire::{
        self, Codec, classify, describe,
        extension::{
            AbsCaptureTime, AudioLevel, VideoOrientation, parse_abs_send_time, parse_identifier,
            parse_playout_delay, parse_transport_sequence,
        },
        red::{Blocks, earlier_header, newest_header},
        rtcp::{self, CompoundWriter, ExtendedBlock, Packet},
        rtp::{Fields, Header, HeaderWriter},
        stun, vp8,
    },
};
use ironcast_protocol::{
    Command, CommandError, Event, Reply,
    command::Produce,
    frame::{FrameKind, Hello, Welcome, decode_body, encode_body, take_frame},
    media::{MediaKind, RtpCodec, RtpEncoding, RtpParameters},
};

pub mod corpus;

/// The password of the messages in the corpus.
pub const PASSWORD: &[u8] = b"a password of the corpus";

/// The codecs in the order of the payload target's first byte.
pub const CODECS: [Codec; 7] =
    [Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1, Codec::Opus, Codec::Other, Codec::H265];

/// STUN: parsing, verification, and the answers that a message gets.
pub fn stun(data: &[u8]) {
    let _ = classify(data);
    let Ok(message) = stun::Message::parse(data) else { return };
    assert!(stun::is_stun(data));
    let _ = (message.fragments(), message.verify_fingerprint());
    let genuine = message.verify_integrity(PASSWORD);
    assert!(!genuine || message.has_integrity());
    let mut buffer = [0; stun::MESSAGE_BYTES_MAX];
    let id = &message.transaction_id;
    let unknown = message.unknown.as_slice();
    let len = stun::write_error(&mut buffer, id, 420, unknown, Some(PASSWORD))
        .expect("an error response fits");
    let answer = stun::Message::parse(&buffer[..len]).expect("our own answer is well-formed");
    assert!(answer.verify_integrity(PASSWORD) && answer.verify_fingerprint());
    if let Some(address) = message.mapped_address {
        let len = stun::write_success(&mut buffer, id, address, None, PASSWORD)
            .expect("a success response fits");
        let answer = stun::Message::parse(&buffer[..len]).expect("our own answer is well-formed");
        let seen = answer.mapped_address.map(|a| (a.ip().to_canonical(), a.port()));
        assert_eq!(seen, Some((address.ip().to_canonical(), address.port())));
    }
}

/// RTP: header, padding, extensions and their values; what was read is written and read again.
pub fn rtp(data: &[u8]) {
    if let Ok(mut header) = Header::parse_protected(data) {
        assert!(header.payload_range().end == data.len());
        let shorter = &data[..data.len() - data.len().min(10)];
        let _ = header.resolve_padding(shorter);
    }
    let Ok(header) = Header::parse(data) else { return };
    let payload = header.payload_range();
    assert!(payload.start <= payload.end && payload.end <= data.len());
    for (_, at, value) in header.extensions(data).with_offsets() {
        assert_eq!(&data[at..at + value.len()], value);
        extension_values(value);
    }
    let fields = Fields {
        marker: header.marker,
        padding: header.has_padding,
        payload_type: header.payload_type,
        sequence_number: header.sequence_number,
        timestamp: header.timestamp,
        ssrc: header.ssrc,
    };
    let mut buffer = [0; 2_048];
    let mut writer = HeaderWriter::begin(&mut buffer, &fields).expect("there is room");
    let mut written = Vec::new();
    for (id, value) in header.extensions(data) {
        if writer.push(id, value).is_err() {
            break;
        }
        written.push((id, value));
    }
    let Ok(len) = writer.finish() else { return };
    let again = Header::parse_protected(&buffer[..len]).expect("our own header is well-formed");
    assert_eq!((again.sequence_number, again.ssrc), (header.sequence_number, header.ssrc));
    assert!(again.extensions(&buffer[..len]).eq(written));
}

fn extension_values(value: &[u8]) {
    let _ = (parse_abs_send_time(value), parse_transport_sequence(value));
    let _ = (parse_playout_delay(value), parse_identifier(value));
    let _ = (AudioLevel::parse(value), VideoOrientation::parse(value));
    let _ = AbsCaptureTime::parse(value).map(AbsCaptureTime::to_bytes);
}

/// RTCP: every packet of a compound with everything inside; NACKs are written and read again.
/// The same bytes as arrivals make transport-wide feedback, which must be readable.
pub fn rtcp(data: &[u8]) {
    for packet in rtcp::packets(data).flatten() {
        rtcp_packet(packet);
    }
    let mut feedback = TransportFeedback::default();
    for record in data.chunks_exact(4) {
        let [a, b, c, d] = [record[0], record[1], record[2], record[3]];
        let arrival = u64::from(u16::from_be_bytes([c, d])) * 1_000_000;
        feedback.receive(u16::from_be_bytes([a, b]), Arrival::at(arrival));
    }
    while feedback.is_pending() {
        let mut buffer = [0; 300];
        let mut compound = CompoundWriter::new(&mut buffer);
        feedback.write(&mut compound, 1, 2).expect("a message fits into 300 bytes");
        let len = compound.len();
        let Some(Ok(Packet::TransportFeedback { feedback: read, .. })) =
            rtcp::packets(&buffer[..len]).next()
        else {
            panic!("our own feedback is not readable");
        };
        assert_eq!(read.packets().count(), usize::from(read.status_count));
    }
}

fn rtcp_packet(packet: Packet<'_>) {
    match packet {
        Packet::SenderReport(report) => {
            assert_eq!(report.reports.iter().count(), report.reports.len());
        }
        Packet::ReceiverReport(report) => {
            for block in report.reports.iter() {
                let _ = rtcp::round_trip(report.ssrc, block.last_sender_report, block.delay);
            }
        }
        Packet::SourceDescription(description) => drop(description.cnames().count()),
        Packet::Goodbye(goodbye) => drop(goodbye.ssrcs().count()),
        Packet::Nack(nack) => nack_again(&nack.sequences().take(1_000).collect::<Vec<_>>()),
        Packet::TransportFeedback { feedback, .. } => {
            assert_eq!(feedback.packets().count(), usize::from(feedback.status_count));
        }
        Packet::PauseResume(pauses) => drop(pauses.requests().count()),
        Packet::FullIntraRequest(request) => drop(request.entries().count()),
        Packet::MaximumBitrate(remb) => drop(remb.ssrcs().count()),
        Packet::ExtendedReport(report) => {
            for block in report.blocks() {
                if let ExtendedBlock::Dlrr(dlrr) = block {
                    let _ = dlrr.reports().count();
                }
            }
        }
        Packet::PictureLoss { .. } | Packet::Other { .. } => {}
    }
}

fn nack_again(sequences: &[u16]) {
    let mut buffer = [0; 8_192];
    let mut compound = CompoundWriter::new(&mut buffer);
    compound.nack(1, 2, sequences).expect("1,000 numbers fit");
    let len = compound.len();
    if len == 0 {
        return;
    }
    let Some(Ok(Packet::Nack(nack))) = rtcp::packets(&buffer[..len]).next() else {
        panic!("our own NACK is not readable");
    };
    let read: Vec<_> = nack.sequences().collect();
    assert!(sequences.iter().all(|seq| read.contains(seq)));
}

/// Payloads of all codecs: `| codec | length of the dependency descriptor | descriptor | payload |`.
/// VP8 numbers are rewritten there and back.
pub fn payload(data: &[u8]) {
    let &[codec, len, ref rest @ ..] = data else { return };
    let codec = CODECS[usize::from(codec) % CODECS.len()];
    let (descriptor, payload) = rest.split_at(usize::from(len).min(rest.len()));
    let mut kept = Dependencies::default();
    let dependency = kept.read(descriptor, SourceSeq(2));
    let info = describe(codec, payload, dependency.as_ref());
    assert!(info.is_none() || !payload.is_empty());
    // Later packets of the stream name the templates that it brought: here by each byte of the payload.
    for (seq, id) in (3..).zip(payload) {
        let value = [*id, 0, 0];
        let later = kept.read(&value, SourceSeq(seq)).expect("three bytes are a descriptor");
        assert!(later.layers.is_none_or(|layers| layers.temporal <= 7));
    }
    if codec == Codec::Vp8 {
        let mut copy = payload.to_vec();
        vp8::rewrite(&mut copy, 77, 5);
        let rewritten = describe(codec, &copy, None);
        assert_eq!(rewritten.is_some(), info.is_some());
        let has = |info: Option<wire::PayloadInfo>| {
            info.map(|i| (i.key_frame, i.picture_id.is_some(), i.tl0_pic_idx.is_some()))
        };
        assert_eq!(has(rewritten), has(info));
        vp8::rewrite(&mut copy, 77u16.wrapping_neg(), 5u8.wrapping_neg());
        assert_eq!(copy, payload);
    }
}

/// RED, as a publisher sends it: packets, each `| numbers lost before it | length | payload |`. What is
/// found in one lies in it, and is written again as it was; the stream keeps what it promises.
pub fn red(data: &[u8]) {
    let (mut producer, mut pool) = (voice(), Pool::new(1_000));
    let (mut rest, mut seq) = (data, 70_000);
    while let [lost, len, behind @ ..] = rest {
        let (payload, behind) = behind.split_at(usize::from(*len).min(behind.len()));
        rest = behind;
        seq += 1 + u32::from(*lost);
        if let Ok(blocks) = Blocks::parse(payload) {
            red_again(payload, &blocks);
        }
        let arrival = Arrival::at(u64::from(seq) * 1_000_000);
        let Some(mut buffer) = pool.take(payload.len()) else { break };
        buffer[..payload.len()].copy_from_slice(payload);
        let named = (SourceSeq(seq), seq.wrapping_mul(960), arrival);
        let Ok(unpacked) = producer.unpack(0, named, 0..payload.len(), &buffer, &mut pool) else {
            pool.give(buffer);
            continue;
        };
        let meta = Meta {
            seq: named.0,
            timestamp: named.1,
            arrival,
            payload_offset: unpacked.newest.start as u16,
            payload_len: unpacked.newest.len() as u16,
            padding: 0,
            marker: false,
            info: wire::PayloadInfo::default(),
            extensions: Default::default(),
        };
        let newest = payload[unpacked.newest].to_vec();
        let arrived = Arrived { stream: 0, rtx: false, len: payload.len(), header_len: 0 };
        producer.receive(arrived, meta, buffer, &mut pool).expect("a number that is new");
        let history = &producer.streams[0].history;
        assert_eq!(history.len(), pool.lent());
        let stored = history.packet(SourceSeq(seq)).expect("just kept");
        assert_eq!(stored.payload(), newest);
        let redundancy = Redundancy::choose(history, stored, LEVELS_MAX);
        if !redundancy.is_none() {
            let mut before = vec![0; redundancy.bytes()];
            redundancy.write(stored, 111, &mut before);
            let whole = [&before[..], stored.payload()].concat();
            let blocks = Blocks::parse(&whole).expect("our own RED is well-formed");
            assert_eq!(&whole[blocks.newest.range()], newest);
        }
        producer.forget_fresh();
    }
}

/// A producer of RED around Opus.
fn voice() -> Producer {
    let codec = |mime_type: &str, payload_type| RtpCodec {
        mime_type: mime_type.into(),
        payload_type,
        clock_rate: 48_000,
        ..RtpCodec::default()
    };
    let create = Produce {
        id: "voice".into(),
        transport: "peer".into(),
        kind: MediaKind::Audio,
        rtp_parameters: RtpParameters {
            codecs: vec![codec("audio/red", 63), codec("audio/opus", 111)],
            encodings: vec![RtpEncoding { ssrc: Some(7), ..RtpEncoding::default() }],
            ..RtpParameters::default()
        },
        rtp_mapping: Default::default(),
        paused: false,
        key_frame_request_delay_ms: 0,
        note: Vec::new(),
    };
    Producer::new(&create, RouterKey::from(1), TransportKey::from(1)).expect("a voice")
}

fn red_again(payload: &[u8], blocks: &Blocks) {
    let mut again = Vec::new();
    for block in blocks.earlier() {
        let len = block.range().len();
        again.extend(earlier_header(block.payload_type, block.offset, len));
    }
    again.push(newest_header(blocks.newest.payload_type));
    for block in blocks.earlier().iter().chain([&blocks.newest]) {
        assert_eq!(block.range().start, again.len());
        again.extend(&payload[block.range()]);
    }
    assert_eq!(again, payload);
}

/// SRTP and SRTCP: `| suite | flip | packet |`. Arbitrary bytes are opened as they are (and must
/// be refused); then they are sealed as a payload, and opened whole (must come back) and with one
/// byte changed (must be refused).
pub fn srtp(data: &[u8]) {
    let &[suite, flip, ref packet @ ..] = data else { return };
    let suite = Suite::ALL[usize::from(suite) % Suite::ALL.len()];
    let key = vec![7; suite.key_len()];
    let salt = vec![9; suite.salt_len()];
    let master = MasterKey::new(suite, &key, &salt).expect("lengths are the suite's");
    let (seal, open) = (SealKey::new(&master), OpenKey::new(&master));
    if let Ok(header) = Header::parse_protected(packet) {
        let mut copy = packet.to_vec();
        let mut out = vec![0; packet.len()];
        let index = PacketIndex(header.sequence_number.into());
        let in_place = open.open_rtp(&mut copy, header.header_len(), index);
        let apart = open.open_rtp_into(packet, header.header_len(), index, &mut out);
        assert_eq!(in_place, apart);
        sealed_rtp(&seal, &open, packet, &header, flip);
    }
    let mut copy = packet.to_vec();
    let _ = (open.claimed_rtcp_index(packet), open.open_rtcp(&mut copy));
    sealed_rtcp(&seal, &open, packet, flip);
}

fn sealed_rtp(seal: &SealKey, open: &OpenKey, packet: &[u8], header: &Header, flip: u8) {
    let (head, index) = (header.header_len(), PacketIndex(header.sequence_number.into()));
    let mut sealed = packet.to_vec();
    sealed.resize(packet.len() + 64, 0);
    let len = seal.seal_rtp(&mut sealed, head, packet.len() - head, index);
    assert!(len > packet.len());
    sealed.truncate(len);
    let mut broken = sealed.clone();
    let at = usize::from(flip) % len;
    broken[at] ^= 1 << (flip % 8);
    assert_eq!(open.open_rtp(&mut sealed, head, index), Ok(packet.len()));
    assert_eq!(&sealed[..packet.len()], packet);
    if Header::parse_protected(&broken).is_ok_and(|h| h.header_len() == head) {
        assert!(open.open_rtp(&mut broken, head, index).is_err());
    }
}

fn sealed_rtcp(seal: &SealKey, open: &OpenKey, packet: &[u8], flip: u8) {
    let mut sealed = packet.to_vec();
    sealed.resize(packet.len() + 64, 0);
    let len = seal.seal_rtcp(&mut sealed, packet.len(), RtcpIndex(5));
    if len == 0 {
        assert!(packet.len() < 8);
        return;
    }
    sealed.truncate(len);
    let mut broken = sealed.clone();
    let at = usize::from(flip) % len;
    broken[at] ^= 1 << (flip % 8);
    assert_eq!(open.open_rtcp(&mut sealed), Ok((packet.len(), RtcpIndex(5))));
    assert_eq!(&sealed[..packet.len()], packet);
    assert!(open.open_rtcp(&mut broken).is_err());
}

/// Frames on the control socket, and bodies of every kind. What is understood as a command or an
/// event can be written, and read again.
pub fn frames(data: &[u8]) {
    let mut buffer = data.to_vec();
    while let Ok(Some(frame)) = take_frame(&mut buffer) {
        match frame.kind {
            FrameKind::Hello => drop(decode_body::<Hello>(&frame.body)),
            FrameKind::Welcome => drop(decode_body::<Welcome>(&frame.body)),
            FrameKind::Response => {
                drop(decode_body::<Result<Reply, CommandError>>(&frame.body));
            }
            _ => bodies(&frame.body),
        }
    }
    bodies(data);
}

/// The longest frame of the stream target.
pub const STREAM_FRAME_BYTES_MAX: usize = 600;

/// A peer's connection (RFC 4571). The first byte is how long the pieces are that the rest comes in: what
/// comes out is what comes out of the whole.
pub fn stream(data: &[u8]) {
    let Some((&piece, data)) = data.split_first() else { return };
    let (mut reassembly, mut out, mut ended) = (Reassembly::default(), Vec::new(), Ok(()));
    for piece in data.chunks(usize::from(piece).max(1)) {
        let mut piece = piece.to_vec();
        ended = reassembly.feed(&mut piece, STREAM_FRAME_BYTES_MAX, |frame| {
            let _ = (classify(frame), stun::Message::parse(frame).is_ok(), Header::parse(frame));
            out.push(frame.to_vec());
        });
        assert!(reassembly.kept() < PREFIX_BYTES + STREAM_FRAME_BYTES_MAX);
        if ended.is_err() {
            break;
        }
    }
    let mut rest = data;
    let mut frames = out.iter();
    while let Some((prefix, behind)) = rest.split_first_chunk::<PREFIX_BYTES>() {
        let len = usize::from(u16::from_be_bytes(*prefix));
        if len > STREAM_FRAME_BYTES_MAX {
            assert_eq!(ended, Err(FrameTooLong));
            break;
        }
        let Some((frame, behind)) = behind.split_at_checked(len) else { break };
        assert_eq!(frames.next().map(Vec::as_slice), Some(frame));
        rest = behind;
    }
    assert_eq!(frames.next(), None);
    assert!(ended.is_err() || reassembly.kept() == rest.len());
}

fn bodies(body: &[u8]) {
    if let Ok(command) = decode_body::<Command>(body) {
        let again = encode_body(&command).expect("a command can be written");
        let _ = decode_body::<Command>(&again).expect("our own command is readable");
    }
    if let Ok(event) = decode_body::<Event>(body) {
        let again = encode_body(&event).expect("an event can be written");
        let _ = decode_body::<Event>(&again).expect("our own event is readable");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Target = fn(&[u8]);

    #[test]
    fn the_committed_corpus_and_everything_shorter_passes() {
        let targets: [(&str, Target); 8] = [
            ("stun", stun),
            ("red", red),
            ("rtp", rtp),
            ("rtcp", rtcp),
            ("payload", payload),
            ("srtp", srtp),
            ("frames", frames),
            ("stream", stream),
        ];
        let made = corpus::all();
        for (name, target) in targets {
            let folder = corpus::directory().join(name);
            let files = std::fs::read_dir(folder).expect("a folder for each target");
            let committed = files.map(|file| {
                std::fs::read(file.expect("an entry").path()).expect("a readable file")
            });
            let made = made.iter().filter(|i| i.target == name).map(|i| i.bytes.clone());
            let inputs: Vec<_> = committed.chain(made).collect();
            assert!(inputs.len() >= 20, "{name}");
            for input in inputs {
                for len in 0..=input.len() {
                    target(&input[..len]);
                }
            }
        }
    }
}
