//! What RED (RFC 2198) is good for here. On the way in, a packet that was lost comes back out of the
//! redundancy of a later one, with the number and the time that it had; the history keeps plain
//! Opus, whatever the publisher sends. On the way out, the packets before one go with it to who
//! takes RED: they are read from the history, which is all the memory that this needs.
//!
//! ```text
//! in    7 (6,5)   9 (8,7)      8 was lost: it is in 9        numbers (earlier ones in them)
//! kept  5 6 7 8 9              8 becomes fresh before 9
//! out   9 (8)  or  9 (8,7)     one earlier, or two where losses are reported
//! ```

use std::ops::Range;

use super::{
    history::{Forwarded, History, Meta, Stored},
    pool::Pool,
};
use crate::{
    Arrival, Discard,
    numbers::SourceSeq,
    producer::{Fresh, Producer},
    wire::{
        describe,
        red::{
            BLOCK_BYTES_MAX, Blocks, EARLIER_HEADER_BYTES, NEWEST_HEADER_BYTES, OFFSET_MAX,
            earlier_header, newest_header,
        },
        rtp::FIXED_HEADER_BYTES,
    },
};

/// Earlier packets that go with one.
pub const LEVELS_MAX: u8 = 2;
/// A payload is not made longer than this by what goes with it: well below a datagram's length, so
/// that it also fits where a tunnel takes some.
const PAYLOAD_BYTES_MAX: usize = 1_000;
/// Numbers below a packet's own among which a missing one is looked for.
const REACH: u32 = 32;

/// Which earlier packets went with one: bit 0 for the one just before it. What is remembered of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Earlier(pub(super) u8);

/// The earlier packets that go with one, looked up once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Redundancy<'a> {
    /// By how far back, less one.
    packets: [Option<&'a Stored>; LEVELS_MAX as usize],
    /// Bytes of all that stands before the payload because of them.
    len: usize,
}

impl<'a> Redundancy<'a> {
    /// Up to `levels` of those that are here and fit with `newest`.
    #[must_use]
    pub fn choose(history: &'a History, newest: &Stored, levels: u8) -> Self {
        let mut chosen = Self::default();
        let own = usize::from(newest.meta.payload_len) + 1;
        let mut room = PAYLOAD_BYTES_MAX.saturating_sub(own);
        for back in 1..=levels.min(LEVELS_MAX) {
            let Some(stored) = before(history, newest, back) else { continue };
            let offset = newest.meta.timestamp.wrapping_sub(stored.meta.timestamp);
            let len = usize::from(stored.meta.payload_len);
            let fits = (1..=OFFSET_MAX).contains(&offset)
                && (1..=BLOCK_BYTES_MAX).contains(&len)
                && EARLIER_HEADER_BYTES + len <= room;
            if !fits {
                break;
            }
            room -= EARLIER_HEADER_BYTES + len;
            chosen.add(back, stored);
        }
        chosen
    }

    /// Those that went with `newest` before. None when one of them is not here any more: a repeat has the
    /// same bytes, or is not sent.
    #[must_use]
    pub fn again(history: &'a History, newest: &Stored, earlier: Earlier) -> Option<Self> {
        let mut found = Self::default();
        for back in (1..=LEVELS_MAX).filter(|back| earlier.0 & 1 << (back - 1) != 0) {
            found.add(back, before(history, newest, back)?);
        }
        Some(found)
    }

    fn add(&mut self, back: u8, stored: &'a Stored) {
        self.packets[usize::from(back) - 1] = Some(stored);
        self.len = self.len.max(NEWEST_HEADER_BYTES)
            + EARLIER_HEADER_BYTES
            + usize::from(stored.meta.payload_len);
    }

    /// True for a packet that goes alone, and is no RED.
    #[must_use]
    #[inline]
    pub fn is_none(&self) -> bool {
        self.len == 0
    }

    /// What [`Self::write`] writes, in bytes: what it makes a payload longer by.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> usize {
        self.len
    }

    /// For a repeat.
    #[must_use]
    pub fn earlier(&self) -> Earlier {
        let bits = self.packets.iter().enumerate();
        Earlier(bits.fold(0, |bits, (at, one)| bits | u8::from(one.is_some()) << at))
    }

    /// What stands before the payload of `newest`: the headers, and the earlier payloads, the oldest first.
    /// All is Opus of that payload type. Fills `out`, which is [`Self::bytes`] long.
    #[inline(never)]
    pub fn write(&self, newest: &Stored, payload_type: u8, mut out: &mut [u8]) {
        let oldest_first = || self.packets.iter().rev().flatten();
        for stored in oldest_first() {
            let offset = newest.meta.timestamp.wrapping_sub(stored.meta.timestamp);
            put(&mut out, &earlier_header(payload_type, offset, stored.payload().len()));
        }
        put(&mut out, &[newest_header(payload_type)]);
        oldest_first().for_each(|stored| put(&mut out, stored.payload()));
    }
}

fn put(out: &mut &mut [u8], bytes: &[u8]) {
    if let Some(space) = out.split_off_mut(..bytes.len()) {
        space.copy_from_slice(bytes);
    }
}

fn before<'a>(history: &'a History, newest: &Stored, back: u8) -> Option<&'a Stored> {
    history.packet(SourceSeq(newest.meta.seq.0.checked_sub(back.into())?))
}

/// What was in a RED payload.
#[derive(Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// Where the packet's own payload lies in the buffer.
    pub newest: Range<usize>,
    /// Lost packets that came back.
    pub recovered: u64,
}

impl Producer {
    /// Takes a RED payload apart, which lies at `payload` in `buffer`: packets that are missing are
    /// kept and listed as fresh, before the packet itself.
    ///
    /// # Errors
    /// `RedMalformed`; `RtpUnknownPayloadType` where the newest block is not the stream's codec, as
    /// that of RED in RED.
    pub fn unpack(
        &mut self,
        stream: u8,
        (seq, timestamp, arrival): (SourceSeq, u32, Arrival),
        payload: Range<usize>,
        buffer: &[u8],
        pool: &mut Pool,
    ) -> Result<Unpacked, Discard> {
        let mut unpacked = Unpacked { newest: payload.clone(), recovered: 0 };
        let bytes = &buffer[payload.clone()];
        // Padding alone, to probe for bandwidth.
        if bytes.is_empty() {
            return Ok(unpacked);
        }
        let blocks = Blocks::parse(bytes)?;
        if blocks.newest.payload_type != self.payload_type {
            return Err(Discard::RtpUnknownPayloadType);
        }
        let newest = blocks.newest.range();
        unpacked.newest = payload.start + newest.start..payload.start + newest.end;
        if self.paused {
            return Ok(unpacked);
        }
        for block in blocks.earlier() {
            let history = &self.streams[usize::from(stream)].history;
            let at = timestamp.wrapping_sub(block.offset);
            let range = block.range();
            if block.payload_type != self.payload_type || range.is_empty() {
                continue;
            }
            let Some(missing) = missing_at(history, (seq, timestamp), at) else { continue };
            let Some(mut copy) = pool.take(range.len()) else { break };
            copy[..range.len()].copy_from_slice(&bytes[range.clone()]);
            let meta = Meta {
                seq: missing,
                timestamp: at,
                arrival,
                payload_offset: 0,
                payload_len: range.len() as u16,
                padding: 0,
                marker: false,
                info: describe(self.codec, &bytes[range], None).unwrap_or_default(),
                extensions: Forwarded::default(),
            };
            unpacked.recovered += u64::from(self.recover(stream, meta, copy, pool));
        }
        Ok(unpacked)
    }

    /// A packet that is here after all. True if it is of use.
    fn recover(&mut self, index: u8, meta: Meta, buffer: Box<[u8]>, pool: &mut Pool) -> bool {
        let stream = &mut self.streams[usize::from(index)];
        let (seq, len) = (meta.seq, usize::from(meta.payload_len));
        if stream.history.insert(meta, buffer, pool).is_err() {
            return false;
        }
        if let Some(nack) = &mut stream.nack {
            nack.receive(seq, false, false, meta.arrival);
        }
        stream.counters.repaired += 1;
        stream.meters[0].add(FIXED_HEADER_BYTES + len, meta.arrival.moment());
        stream.fresh.add(len);
        self.push_fresh(Fresh { stream: index, seq, rtx: false });
        true
    }
}

/// The number of the packet with that timestamp, if it is missing: RED names its blocks by time
/// alone. Between two packets that are here the only missing one is meant, or, of several, the one
/// at which packets of equal spacing would have that time; nothing is guessed.
fn missing_at(history: &History, newest: (SourceSeq, u32), timestamp: u32) -> Option<SourceSeq> {
    let (seq, _) = newest;
    let mut above = newest;
    for below in (seq.0.saturating_sub(REACH)..seq.0).rev() {
        let Some(stored) = history.packet(SourceSeq(below)) else { continue };
        let since = timestamp.wrapping_sub(stored.meta.timestamp) as i32;
        if since == 0 {
            return None;
        }
        if since > 0 {
            return between((stored.meta.seq, stored.meta.timestamp), above, timestamp);
        }
        above = (stored.meta.seq, stored.meta.timestamp);
    }
    None
}

/// See [`missing_at`].
fn between(below: (SourceSeq, u32), above: (SourceSeq, u32), timestamp: u32) -> Option<SourceSeq> {
    let steps = above.0.0 - below.0.0;
    let (span, since) = (above.1.wrapping_sub(below.1), timestamp.wrapping_sub(below.1));
    if since == 0 || since >= span || span > i32::MAX as u32 {
        return None;
    }
    match steps {
        0 | 1 => None,
        2 => Some(SourceSeq(below.0.0 + 1)),
        _ => {
            let spacing = span / steps;
            let is_even = spacing > 0 && span % steps == 0 && since % spacing == 0;
            is_even.then(|| SourceSeq(below.0.0 + since / spacing))
        }
    }
}

#[cfg(test)]
mod tests;
