use ironcast_protocol::{
    command::Produce,
    media::{RtcpFeedback, RtpCodec, RtpEncoding, RtpParameters},
};

use super::*;
use crate::{Arrival, MS, SECOND, recover::history::Forwarded};

/// A track of one stream.
pub(crate) fn of_codecs(kind: MediaKind, codecs: Vec<RtpCodec>) -> Producer {
    let create = Produce {
        id: "track".into(),
        transport: "alice".into(),
        kind,
        rtp_parameters: RtpParameters {
            codecs,
            encodings: vec![RtpEncoding { ssrc: Some(7), ..RtpEncoding::default() }],
            ..RtpParameters::default()
        },
        rtp_mapping: Default::default(),
        paused: false,
        key_frame_request_delay_ms: 0,
        note: Vec::new(),
    };
    Producer::new(&create, RouterKey::from(1), TransportKey::from(1)).unwrap()
}

fn producer(mime_type: &str) -> Producer {
    let nack = RtcpFeedback { kind: "nack".into(), parameter: String::new() };
    let audio = mime_type.starts_with("audio");
    let codec = RtpCodec {
        mime_type: mime_type.into(),
        payload_type: 96,
        clock_rate: 90_000,
        rtcp_feedback: vec![nack],
        ..RtpCodec::default()
    };
    of_codecs(if audio { MediaKind::Audio } else { MediaKind::Video }, vec![codec])
}

fn receive(
    producer: &mut Producer,
    pool: &mut Pool,
    (seq, rtx): (u32, bool),
    payload: &[u8],
) -> Result<(), Discard> {
    let mut buffer = pool.take(payload.len().max(1)).unwrap();
    buffer[..payload.len()].copy_from_slice(payload);
    let meta = Meta {
        seq: SourceSeq(seq),
        timestamp: seq * 900,
        arrival: Arrival::at(SECOND + u64::from(seq - 70_000) * 10 * MS),
        payload_offset: 0,
        payload_len: payload.len() as u16,
        padding: 0,
        marker: true,
        info: PayloadInfo::default(),
        extensions: Forwarded::default(),
    };
    let arrived = Arrived { stream: 0, rtx, len: payload.len(), header_len: 12 };
    producer.receive(arrived, meta, buffer, pool)
}

/// Cut inside its descriptor, a payload is dropped and counted; it came, and is not asked for again.
/// Padding alone is no payload.
#[test]
fn a_payload_without_a_whole_descriptor_is_dropped_and_not_asked_for() {
    let cut: [(&str, &[&[u8]]); 8] = [
        ("video/VP8", &[&[0x90], &[0x90, 0x80], &[0x90, 0x80, 0xff], &[0x90, 0x80, 0xff, 1]]),
        ("video/VP9", &[&[0x80], &[0xa0, 0x80, 1], &[0xa0, 1, 0], &[0xa2, 1, 0, 0, 0x28, 1]]),
        ("video/H264", &[&[0x7c], &[0x78], &[0x78, 0], &[0x78, 0, 9, 0x67]]),
        ("video/H265", &[&[0x62], &[0x62, 1], &[0x60, 1, 0], &[0x64, 1, 0]]),
        ("video/AV1", &[&[0x10], &[0x00, 5, 1], &[0x20, 0x80]]),
        // Any byte is a whole one.
        ("audio/opus", &[]),
        ("audio/PCMU", &[]),
        ("video/unknown", &[]),
    ];
    let whole: [&[u8]; 8] = [
        &[0x90, 0x80, 1, 1],
        &[0x80, 1, 1],
        &[0x7c, 0x85, 0x88],
        &[0x62, 1, 0x93, 0x80],
        &[0x10, 0x30, 1],
        &[0x78],
        &[0xff],
        &[0x00],
    ];
    for ((mime_type, cut), whole) in cut.into_iter().zip(whole) {
        let (mut producer, mut pool) = (producer(mime_type), Pool::new(100));
        let mut put = |seq: u32, rtx, payload: &[u8]| {
            receive(&mut producer, &mut pool, (70_000 + seq, rtx), payload)
        };
        assert_eq!(put(0, false, whole), Ok(()), "{mime_type}");
        let mut seq = 1;
        for payload in cut {
            let reason = Err(Discard::PayloadMalformed);
            assert_eq!(put(seq, false, payload), reason, "{mime_type} {payload:x?}");
            // Lost, and here by RTX.
            assert_eq!(put(seq + 2, false, whole), Ok(()), "{mime_type}");
            assert_eq!(put(seq + 1, true, payload), reason, "{mime_type} {payload:x?}");
            seq += 3;
        }
        assert_eq!(put(seq, false, &[]), Ok(()), "{mime_type}");
        let stream = &producer.streams[0];
        let dropped = 2 * cut.len();
        assert_eq!(stream.counters.discarded, dropped as u64, "{mime_type}");
        assert_eq!(stream.statistics.lost(), cut.len() as i64, "{mime_type}: those of RTX");
        assert_eq!(stream.nack.as_ref().unwrap().missing(), 0, "{mime_type}");
        assert_eq!(stream.history.len(), 2 + cut.len(), "{mime_type}");
        assert_eq!((pool.lent(), producer.fresh.len()), (2 + cut.len(), 2 + cut.len()));
    }
}

/// Repeats of what is here, as browsers probe, are no loss of theirs; what came twice by itself is.
#[test]
fn what_is_here_counts_as_discarded_only_where_it_came_by_itself() {
    let (mut producer, mut pool) = (producer("video/VP8"), Pool::new(100));
    let payload = [0x90, 0x80, 1, 1];
    assert_eq!(receive(&mut producer, &mut pool, (70_000, false), &payload), Ok(()));
    let useless = Err(Discard::RtxUseless);
    assert_eq!(receive(&mut producer, &mut pool, (70_000, true), &payload), useless);
    assert_eq!(producer.streams[0].counters.discarded, 0);
    let again = receive(&mut producer, &mut pool, (70_000, false), &payload);
    assert_eq!((again, pool.lent()), (Err(Discard::Duplicate), 1));
    assert_eq!(producer.streams[0].counters.discarded, 1);
}
