//! What the payloads carry, so that a receiver can check delay, order and integrity end to end:
//!
//! ```text
//! codec header | "icLd" | stream u32 | number u32 | frame u32 | sent ns u64 | flags..| fill | crc32
//! ```
//! The codec header is what an SFU reads (and may rewrite); behind it nothing may change. Written
//! by [`crate::source`], read by [`crate::receiver`].

use crate::random::Random;

const MAGIC: [u8; 4] = *b"icLd";
const SENT_AT: usize = 16;
const STAMP_BYTES: usize = 28;
const CRC_BYTES: usize = 4;
/// The smallest stamped payload, codec header not counted.
pub const STAMPED_BYTES_MIN: usize = STAMP_BYTES + CRC_BYTES;
/// The longest codec header of ours, in which the stamp is searched.
const CODEC_HEADER_BYTES_MAX: usize = 64;

/// Who sent a packet, which one, and when.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The sent stream: one per layer.
    pub stream: u32,
    /// Counts the stream's packets from 0.
    pub number: u32,
    /// Counts the stream's frames from 0.
    pub frame: u32,
    /// [`crate::clock::now_ns`] of the sender.
    pub sent_ns: u64,
    /// Part of a key frame.
    pub key: bool,
    /// Temporal layer.
    pub temporal: u8,
    /// Index within the frame.
    pub part: u8,
    /// Packets of the frame.
    pub parts: u8,
}

/// Why a payload is not one of ours, or not as it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// No stamp in it.
    #[error("no stamp")]
    Foreign,
    /// The checksum is wrong.
    #[error("wrong checksum")]
    Corrupt,
}

/// Appends a stamp, filled up to `length` bytes; [`finish`] completes it when it is sent.
pub fn write(out: &mut Vec<u8>, stamp: &Stamp, length: usize) {
    let start = out.len();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&stamp.stream.to_be_bytes());
    out.extend_from_slice(&stamp.number.to_be_bytes());
    out.extend_from_slice(&stamp.frame.to_be_bytes());
    out.extend_from_slice(&stamp.sent_ns.to_be_bytes());
    out.extend_from_slice(&[u8::from(stamp.key), stamp.temporal, stamp.part, stamp.parts]);
    let mut fill = Random::new(u64::from(stamp.stream) << 32 | u64::from(stamp.number));
    let end = start + length.max(STAMPED_BYTES_MIN);
    while out.len() < end {
        out.extend_from_slice(&fill.next_u64().to_be_bytes());
    }
    out.truncate(end);
}

/// Sets the time of sending and the checksum of what [`write()`] wrote.
pub fn finish(stamped: &mut [u8], sent_ns: u64) {
    stamped[SENT_AT..SENT_AT + 8].copy_from_slice(&sent_ns.to_be_bytes());
    let (covered, crc) = stamped.split_at_mut(stamped.len() - CRC_BYTES);
    crc.copy_from_slice(&crc32fast::hash(covered).to_be_bytes());
}

/// Finds the stamp behind the codec header and checks it.
pub fn read(payload: &[u8]) -> Result<Stamp, PayloadError> {
    let searched = &payload[..payload.len().min(CODEC_HEADER_BYTES_MAX + MAGIC.len())];
    let at = searched
        .windows(MAGIC.len())
        .position(|window| window == MAGIC)
        .ok_or(PayloadError::Foreign)?;
    let stamped = &payload[at..];
    if stamped.len() < STAMPED_BYTES_MIN {
        return Err(PayloadError::Corrupt);
    }
    let (covered, crc) = stamped.split_at(stamped.len() - CRC_BYTES);
    if crc32fast::hash(covered).to_be_bytes() != crc {
        return Err(PayloadError::Corrupt);
    }
    let word = |at: usize| {
        u32::from_be_bytes([stamped[at], stamped[at + 1], stamped[at + 2], stamped[at + 3]])
    };
    Ok(Stamp {
        stream: word(4),
        number: word(8),
        frame: word(12),
        sent_ns: u64::from(word(SENT_AT)) << 32 | u64::from(word(SENT_AT + 4)),
        key: stamped[24] != 0,
        temporal: stamped[25],
        part: stamped[26],
        parts: stamped[27],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_survives_and_a_flipped_bit_does_not() {
        let stamp = Stamp { stream: 7, number: 9, frame: 3, part: 1, parts: 2, ..Stamp::default() };
        let mut payload = vec![0x90, 0x80];
        write(&mut payload, &stamp, 500);
        finish(&mut payload[2..], 1_234);
        assert_eq!(payload.len(), 502);
        assert_eq!(read(&payload), Ok(Stamp { sent_ns: 1_234, ..stamp }));
        for at in 6..payload.len() {
            let mut damaged = payload.clone();
            damaged[at] ^= 1;
            assert_eq!(read(&damaged), Err(PayloadError::Corrupt), "byte {at}");
        }
        assert_eq!(read(&payload[..20]), Err(PayloadError::Corrupt));
        assert_eq!(read(b"something else"), Err(PayloadError::Foreign));
    }
}
