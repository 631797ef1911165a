use ironcast_protocol::media::{MediaKind, RtpCodec};
use proptest::prelude::*;

use super::*;
use crate::{MS, producer::tests::of_codecs, wire::PayloadInfo};

const OPUS: u8 = 111;
const FRAME: u32 = 960;

fn codec(mime_type: &str, payload_type: u8) -> RtpCodec {
    let mime_type = mime_type.into();
    RtpCodec { mime_type, payload_type, clock_rate: 48_000, ..RtpCodec::default() }
}

fn producer() -> Producer {
    let codecs = vec![codec("audio/red", 63), codec("audio/opus", OPUS)];
    of_codecs(MediaKind::Audio, codecs)
}

fn meta(seq: u32, timestamp: u32, payload_len: u16) -> Meta {
    Meta {
        seq: SourceSeq(seq),
        timestamp,
        arrival: Arrival::at(u64::from(seq) * 20 * MS),
        payload_offset: 0,
        payload_len,
        padding: 0,
        marker: false,
        info: PayloadInfo::default(),
        extensions: Forwarded::default(),
    }
}

fn keep(history: &mut History, pool: &mut Pool, seq: u32, timestamp: u32, payload: &[u8]) {
    let mut buffer = pool.take(payload.len()).unwrap();
    buffer[..payload.len()].copy_from_slice(payload);
    history.insert(meta(seq, timestamp, payload.len() as u16), buffer, pool).unwrap();
}

/// The payload of a packet by itself, for tests.
fn payload(seq: u32) -> Vec<u8> {
    [&b"opus"[..], &seq.to_be_bytes()].concat()
}

/// RED with the packets before, each so many back, the oldest first.
fn red(seq: u32, back: &[u32]) -> Vec<u8> {
    let mut out = Vec::new();
    for &back in back {
        out.extend(earlier_header(OPUS, back * FRAME, payload(seq - back).len()));
    }
    out.push(newest_header(OPUS));
    back.iter().for_each(|back| out.extend(payload(seq - back)));
    out.extend(payload(seq));
    out
}

/// As [3] does it: takes the payload apart, then keeps the newest. Numbers in the order of `fresh`.
fn receive(producer: &mut Producer, pool: &mut Pool, seq: u32, bytes: &[u8]) -> Vec<u32> {
    let mut buffer = pool.take(bytes.len().max(1)).unwrap();
    buffer[..bytes.len()].copy_from_slice(bytes);
    let named = (SourceSeq(seq), seq.wrapping_mul(FRAME), Arrival::at(u64::from(seq) * 20 * MS));
    match producer.unpack(0, named, 0..bytes.len(), &buffer, pool) {
        Ok(unpacked) => {
            let mut meta = meta(seq, named.1, unpacked.newest.len() as u16);
            meta.payload_offset = unpacked.newest.start as u16;
            let arrived =
                crate::producer::Arrived { stream: 0, rtx: false, len: bytes.len(), header_len: 0 };
            let _ = producer.receive(arrived, meta, buffer, pool);
        }
        Err(_) => pool.give(buffer),
    }
    let fresh = producer.fresh.iter().map(|fresh| fresh.seq.0).collect();
    producer.forget_fresh();
    fresh
}

#[test]
fn what_was_lost_comes_back_in_its_place() {
    let (mut producer, mut pool) = (producer(), Pool::new(100));
    assert_eq!(receive(&mut producer, &mut pool, 70_000, &red(70_000, &[1])), [70_000]);
    assert_eq!(receive(&mut producer, &mut pool, 70_001, &red(70_001, &[1])), [70_001]);
    // 70002 is lost, and then two in a row.
    assert_eq!(receive(&mut producer, &mut pool, 70_003, &red(70_003, &[1])), [70_002, 70_003]);
    let fresh = receive(&mut producer, &mut pool, 70_006, &red(70_006, &[2, 1]));
    assert_eq!(fresh, [70_004, 70_005, 70_006]);
    for seq in 70_000..=70_006 {
        let stored = producer.streams[0].history.packet(SourceSeq(seq)).unwrap();
        assert_eq!(stored.payload(), payload(seq), "{seq}");
        assert_eq!(stored.meta.timestamp, seq * FRAME);
    }
    assert_eq!(producer.streams[0].counters.repaired, 3);
    // It was only late: there is nothing new in it.
    assert_eq!(receive(&mut producer, &mut pool, 70_002, &red(70_002, &[1])), [0; 0]);
}

#[test]
fn of_several_lost_ones_only_what_is_certain_comes_back() {
    let (mut producer, mut pool) = (producer(), Pool::new(100));
    receive(&mut producer, &mut pool, 70_000, &red(70_000, &[]));
    // Three are lost, one is there: by its time it is the last of them.
    assert_eq!(receive(&mut producer, &mut pool, 70_004, &red(70_004, &[1])), [70_003, 70_004]);
    let stored = producer.streams[0].history.packet(SourceSeq(70_003)).unwrap();
    assert_eq!(stored.payload(), payload(70_003));
    // The silence between them was no multiple of anything.
    let history = &producer.streams[0].history;
    let newest = (SourceSeq(70_008), 70_004 * FRAME + 5_001);
    assert_eq!(missing_at(history, newest, 70_004 * FRAME + FRAME), None);
    let newest = (SourceSeq(70_006), 70_004 * FRAME + 5_001);
    let found = missing_at(history, newest, 70_004 * FRAME + FRAME);
    assert_eq!(found, Some(SourceSeq(70_005)));
    // Times that lie nowhere between.
    for timestamp in [70_004 * FRAME, newest.1, newest.1 + 1, 69_000 * FRAME] {
        assert_eq!(missing_at(history, newest, timestamp), None, "{timestamp}");
    }
}

#[test]
fn blocks_of_another_codec_and_red_in_red_are_refused() {
    let (mut producer, mut pool) = (producer(), Pool::new(100));
    receive(&mut producer, &mut pool, 70_000, &red(70_000, &[]));
    let mut dtmf = earlier_header(101, FRAME, 3).to_vec();
    dtmf.extend([&[newest_header(OPUS)], &b"123"[..], &payload(70_002)].concat());
    assert_eq!(receive(&mut producer, &mut pool, 70_002, &dtmf), [70_002]);
    for (bytes, reason) in [
        ([&[newest_header(63)][..], &red(70_003, &[1])].concat(), Discard::RtpUnknownPayloadType),
        (vec![0xef, 0, 0], Discard::RedMalformed),
        (earlier_header(OPUS, FRAME, 900).to_vec(), Discard::RedMalformed),
        (vec![0xff; 300], Discard::RedMalformed),
    ] {
        let named = (SourceSeq(70_003), 0, Arrival::default());
        let unpacked = producer.unpack(0, named, 0..bytes.len(), &bytes, &mut pool);
        assert_eq!(unpacked, Err(reason));
    }
    let before = pool.lent();
    producer.paused = true;
    receive(&mut producer, &mut pool, 70_004, &red(70_004, &[1]));
    assert_eq!(pool.lent(), before, "nothing is kept of who is paused");
}

#[test]
fn what_goes_out_is_what_was_kept() {
    let (mut history, mut pool) = (History::default(), Pool::new(100));
    for seq in 70_000..70_010 {
        if seq != 70_006 {
            keep(&mut history, &mut pool, seq, seq * FRAME, &payload(seq));
        }
    }
    for (seq, levels, back) in [
        (70_009, 0, &[][..]),
        (70_009, 1, &[1]),
        (70_009, 2, &[2, 1]),
        (70_009, 9, &[2, 1]),
        (70_007, 1, &[]),
        (70_007, 2, &[2]),
        (70_000, 2, &[]),
    ] {
        let newest = history.packet(SourceSeq(seq)).unwrap();
        let redundancy = Redundancy::choose(&history, newest, levels);
        assert_eq!(redundancy.is_none(), back.is_empty(), "{seq} {levels}");
        let again = Redundancy::again(&history, newest, redundancy.earlier()).unwrap();
        for redundancy in [redundancy, again] {
            if back.is_empty() {
                assert_eq!((redundancy.bytes(), redundancy.earlier()), (0, Earlier(0)));
                continue;
            }
            let mut out = vec![0xee; redundancy.bytes()];
            redundancy.write(newest, OPUS, &mut out);
            let whole = [&out[..], newest.payload()].concat();
            assert_eq!(whole, red(seq, back), "{seq} {levels}");
        }
    }
    // A repeat is the same bytes or none.
    let newest = history.packet(SourceSeq(70_007)).unwrap();
    assert!(Redundancy::again(&history, newest, Earlier(0b01)).is_none());
}

#[test]
fn what_is_long_or_long_ago_does_not_go_with_it() {
    let (mut history, mut pool) = (History::default(), Pool::new(100));
    keep(&mut history, &mut pool, 70_000, 0, &[1; 400]);
    keep(&mut history, &mut pool, 70_001, FRAME, &[2; 300]);
    keep(&mut history, &mut pool, 70_002, 2 * FRAME, &[3; 500]);
    keep(&mut history, &mut pool, 70_003, 2 * FRAME + OFFSET_MAX + 1, &[4; 10]);
    keep(&mut history, &mut pool, 70_004, 2 * FRAME + OFFSET_MAX + 1, &[5; 10]);
    keep(&mut history, &mut pool, 70_005, 2 * FRAME + OFFSET_MAX + 2, &[6; 1_100]);
    let chosen = |seq| {
        let newest = history.packet(SourceSeq(seq)).unwrap();
        Redundancy::choose(&history, newest, 2).earlier().0
    };
    assert_eq!(chosen(70_001), 0b01);
    assert_eq!(chosen(70_002), 0b01, "both were more than a payload may have");
    assert_eq!(chosen(70_003), 0, "14 bits do not reach so far");
    assert_eq!(chosen(70_004), 0, "the same moment");
    assert_eq!(chosen(70_005), 0, "it is long enough alone");
}

proptest! {
    /// Whatever a peer sends, nothing is confused and no memory lost.
    #[test]
    fn any_payload_is_taken_apart_or_refused(
        steps in prop::collection::vec((0u32..3, prop::collection::vec(any::<u8>(), 0..60), 0usize..4), 1..60)
    ) {
        let (mut producer, mut pool) = (producer(), Pool::new(1_000));
        let mut seq = 70_000;
        for (skip, mut bytes, shape) in steps {
            seq += 1 + skip;
            if shape > 0 {
                let back: Vec<u32> = (1..=shape as u32).rev().collect();
                bytes = red(seq, &back);
            }
            receive(&mut producer, &mut pool, seq, &bytes);
            let history = &producer.streams[0].history;
            prop_assert_eq!(history.len(), pool.lent());
            if shape > 0 {
                prop_assert_eq!(history.packet(SourceSeq(seq)).unwrap().payload(), payload(seq));
            }
        }
    }
}
