//! RED (RFC 2198) as browsers send it around Opus: payloads that were sent before, and the newest
//! one behind them, so that a lost packet is in the next. Finds the blocks of a payload and writes
//! their headers. Never copies a payload.
//!
//! ```text
//! |1|type 7|offset 14|length 10| ... |0|type 7|  earlier  | ... |  newest  |
//! '---------- earlier ---------'     ' newest '  length         what is left
//! ```

use std::ops::Range;

use super::array_at;
use crate::Discard;

/// Blocks of a payload, the newest included: browsers send two or three.
pub const BLOCKS_MAX: usize = 10;
/// How far behind the newest an earlier block can lie: 14 bits of RTP time.
pub const OFFSET_MAX: u32 = (1 << 14) - 1;
/// Longest earlier block: 10 bits.
pub const BLOCK_BYTES_MAX: usize = (1 << 10) - 1;
/// Bytes of an earlier block's header.
pub const EARLIER_HEADER_BYTES: usize = 4;
/// The same of the newest.
pub const NEWEST_HEADER_BYTES: usize = 1;

const MORE: u8 = 0x80;

/// One block of a payload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Block {
    /// Payload type of what is inside.
    pub payload_type: u8,
    /// So much RTP time before the newest one.
    pub offset: u32,
    start: u16,
    len: u16,
}

impl Block {
    /// Where it lies in the payload.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        usize::from(self.start)..usize::from(self.start) + usize::from(self.len)
    }
}

/// What is in one payload.
#[derive(Debug, Clone, Copy)]
pub struct Blocks {
    earlier: [Block; BLOCKS_MAX - 1],
    count: usize,
    /// The packet's own.
    pub newest: Block,
}

impl Blocks {
    /// Finds the blocks.
    ///
    /// # Errors
    /// `RedMalformed`: cut short, lengths beyond the payload, or more than [`BLOCKS_MAX`].
    pub fn parse(payload: &[u8]) -> Result<Self, Discard> {
        Self::found_in(payload).ok_or(Discard::RedMalformed)
    }

    fn found_in(payload: &[u8]) -> Option<Self> {
        let end = u16::try_from(payload.len()).ok()?;
        let mut blocks = Self { earlier: Default::default(), count: 0, newest: Block::default() };
        let mut at = 0;
        while payload.get(at)? & MORE != 0 {
            let [kind, a, b, c] = array_at(payload, at)?;
            at += EARLIER_HEADER_BYTES;
            *blocks.earlier.get_mut(blocks.count)? = Block {
                payload_type: kind & !MORE,
                offset: u32::from(u16::from_be_bytes([a, b]) >> 2),
                start: 0,
                len: u16::from_be_bytes([b & 0x03, c]),
            };
            blocks.count += 1;
        }
        let payload_type = *payload.get(at)?;
        let mut start = at as u16 + 1;
        for block in &mut blocks.earlier[..blocks.count] {
            block.start = start;
            start = start.checked_add(block.len)?;
        }
        let len = end.checked_sub(start)?;
        blocks.newest = Block { payload_type, offset: 0, start, len };
        Some(blocks)
    }

    /// Those before the newest, in their order: the oldest first, as everybody writes them.
    #[must_use]
    pub fn earlier(&self) -> &[Block] {
        &self.earlier[..self.count]
    }
}

/// The header of an earlier block; `offset` and `len` fit ([`OFFSET_MAX`], [`BLOCK_BYTES_MAX`]).
#[must_use]
pub fn earlier_header(payload_type: u8, offset: u32, len: usize) -> [u8; EARLIER_HEADER_BYTES] {
    debug_assert!(offset <= OFFSET_MAX && len <= BLOCK_BYTES_MAX);
    let word = u32::from(payload_type | MORE) << 24 | (offset & OFFSET_MAX) << 10;
    (word | len as u32 & 0x3ff).to_be_bytes()
}

/// The header of the newest block.
#[must_use]
pub fn newest_header(payload_type: u8) -> u8 {
    payload_type & !MORE
}

/// True for `audio/red`.
#[must_use]
pub fn is_red(mime_type: &str) -> bool {
    mime_type.eq_ignore_ascii_case("audio/red")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(earlier: &[(u8, u32, &[u8])], newest: (u8, &[u8])) -> Vec<u8> {
        let mut out = Vec::new();
        for (payload_type, offset, bytes) in earlier {
            out.extend(earlier_header(*payload_type, *offset, bytes.len()));
        }
        out.push(newest_header(newest.0));
        earlier.iter().for_each(|(_, _, bytes)| out.extend(*bytes));
        out.extend(newest.1);
        out
    }

    #[test]
    fn what_is_written_is_found() {
        let long = [7; BLOCK_BYTES_MAX];
        for earlier in [
            &[][..],
            &[(111, 960, &b"one"[..])],
            &[(111, 1_920, b"older"), (111, 960, b"old")],
            &[(0, OFFSET_MAX, &long), (127, 0, b"")],
        ] {
            for newest in [&b""[..], b"newest"] {
                let payload = written(earlier, (111, newest));
                let blocks = Blocks::parse(&payload).unwrap();
                assert_eq!((blocks.newest.payload_type, blocks.newest.offset), (111, 0));
                assert_eq!(&payload[blocks.newest.range()], newest);
                let found: Vec<_> = blocks
                    .earlier()
                    .iter()
                    .map(|b| (b.payload_type, b.offset, &payload[b.range()]))
                    .collect();
                assert_eq!(found, earlier);
            }
        }
    }

    /// As Chromium writes it: 0xef is 111 with a block behind it.
    #[test]
    fn the_bits_are_those_of_the_rfc() {
        assert_eq!(earlier_header(111, 960, 80), [0xef, 0x0f, 0x00, 80]);
        assert_eq!(earlier_header(63, OFFSET_MAX, BLOCK_BYTES_MAX), [0xbf, 0xff, 0xff, 0xff]);
    }

    #[test]
    fn lengths_beyond_the_payload_and_headers_without_end_are_malformed() {
        let whole = written(&[(111, 960, b"earlier")], (111, b"newest"));
        let shortest = whole.len() - b"newest".len();
        for len in 0..whole.len() {
            assert_eq!(Blocks::parse(&whole[..len]).is_ok(), len >= shortest, "{len}");
        }
        let blocks = |count: usize| {
            let earlier = vec![(111, 960, &b""[..]); count];
            Blocks::parse(&written(&earlier, (111, b"x"))).is_ok()
        };
        assert!(blocks(BLOCKS_MAX - 1) && !blocks(BLOCKS_MAX) && !blocks(300));
        assert!(Blocks::parse(&[0xff; 1_500]).is_err());
    }
}
