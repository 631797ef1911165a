use ironcast_protocol::{
    command::Produce,
    media::{RtcpFeedback, RtpCodec, RtpEncoding, RtpParameters},
};

use super::*;
use crate::{Arrival, MS, SECOND, recover::history::Forwarded};

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
    let create = Produce {
        id: "track".into(),
        transport: "alice".into(),
        kind: if audio { MediaKind::Audio } else { MediaKind::Video },
        rtp_parameters: RtpParameters {
            codecs: vec![codec],
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
