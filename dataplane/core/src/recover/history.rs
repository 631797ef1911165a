//! The recent packets of one received stream, in plain text, addressed by extended sequence
//! number. Owns one copy of what came in; all consumers forward and retransmit from it. Never
//! holds a number twice: what came first stays, so that a packet index is never sealed again with
//! other bytes.
//!
//! ```text
//! seq & mask ->  | 4097 | 4098 |  -   | 4100 | ... | 4096 |      capacity: a power of two
//!                           hole: lost, or not here yet
//! ```

use super::pool::Pool;
use crate::{Arrival, Discard, Nanos, numbers::SourceSeq, wire::PayloadInfo};

/// How long a packet can be asked for again.
pub const KEEP: Nanos = 1_200 * crate::MS;
/// Largest number of packets kept for one stream.
pub const CAPACITY_MAX: usize = 2_048;
const CAPACITY_MIN: usize = 32;
/// So many times the room that is used is given back: bitrates waver, and growing costs.
const SPARSE: usize = 8;

/// Header extensions of a received packet that are sent on with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// RFC 6464: voice flag and level.
    pub audio_level: Option<u8>,
    /// 3GPP TS 26.114: camera, flip, rotation.
    pub video_orientation: Option<u8>,
    /// Where the dependency descriptor lies in the packet: offset and length.
    pub dependency_descriptor: Option<(u16, u8)>,
    /// Where abs-capture-time lies in the packet: offset and length.
    pub abs_capture_time: Option<(u16, u8)>,
    /// Where the playout delay lies in the packet: offset and length.
    pub playout_delay: Option<(u16, u8)>,
}

/// What is known of a received packet.
#[derive(Debug, Clone, Copy)]
pub struct Meta {
    /// Its number.
    pub seq: SourceSeq,
    /// RTP timestamp.
    pub timestamp: u32,
    /// Kernel's arrival time.
    pub arrival: Arrival,
    /// First byte of the payload.
    pub payload_offset: u16,
    /// Bytes of the payload, without padding.
    pub payload_len: u16,
    /// Bytes of RTP padding that make it as long as its neighbours of the same frame (0: none).
    pub padding: u8,
    /// RTP marker.
    pub marker: bool,
    /// What the payload says about itself.
    pub info: PayloadInfo,
    /// Extensions sent on.
    pub extensions: Forwarded,
}

/// A packet in the history.
#[derive(Debug)]
pub struct Stored {
    /// What is known of it.
    pub meta: Meta,
    buffer: Box<[u8]>,
}

impl Stored {
    /// The payload, without padding.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        let start = usize::from(self.meta.payload_offset);
        &self.buffer[start..start + usize::from(self.meta.payload_len)]
    }

    /// The bytes of an extension.
    #[must_use]
    pub fn extension(&self, (offset, len): (u16, u8)) -> &[u8] {
        &self.buffer[usize::from(offset)..usize::from(offset) + usize::from(len)]
    }
}

/// Recent packets of one stream.
#[derive(Debug, Default)]
pub struct History {
    slots: Vec<Option<Stored>>,
    oldest: u32,
    newest: u32,
    /// Numbers below it have been here and are gone, or are given up: what comes with one of them
    /// now may have been forwarded before, and is refused.
    floor: u32,
    len: usize,
}

impl History {
    fn slot(&self, seq: u32) -> usize {
        seq as usize & (self.slots.len() - 1)
    }

    /// The packet with that number.
    #[must_use]
    pub fn packet(&self, seq: SourceSeq) -> Option<&Stored> {
        self.at(seq.0)
    }

    fn at(&self, seq: u32) -> Option<&Stored> {
        if self.slots.is_empty() {
            return None;
        }
        self.slots[self.slot(seq)].as_ref().filter(|stored| stored.meta.seq.0 == seq)
    }

    /// The packets from a number on, in their order.
    pub fn from(&self, first: SourceSeq) -> impl Iterator<Item = &Stored> {
        (first.0..=self.newest).filter_map(|seq| self.at(seq))
    }

    /// The number of the first one of those at the end that arrived when `is_recent` says.
    pub fn first_since(&self, is_recent: impl Fn(Arrival) -> bool) -> Option<SourceSeq> {
        let kept = (self.oldest..=self.newest).rev().filter_map(|seq| self.at(seq));
        kept.take_while(|stored| is_recent(stored.meta.arrival)).last().map(|one| one.meta.seq)
    }

    /// True when they are all here, and no more than `most`.
    #[must_use]
    pub fn is_whole_from(&self, first: SourceSeq, most: usize) -> bool {
        let span = (self.newest as usize + 1).saturating_sub(first.0 as usize);
        (1..=most).contains(&span) && self.from(first).count() == span
    }

    /// Packets now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True without any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Sets the padding that evens a packet with its neighbours.
    pub fn set_padding(&mut self, seq: SourceSeq, padding: u8) {
        if self.slots.is_empty() {
            return;
        }
        let slot = self.slot(seq.0);
        if let Some(stored) = self.slots[slot].as_mut().filter(|stored| stored.meta.seq == seq) {
            stored.meta.padding = padding;
        }
    }

    /// Keeps a packet. On refusal the buffer goes back to the pool.
    ///
    /// # Errors
    /// `Duplicate`: that number is here. `OutOfWindow`: too old to be of use.
    pub fn insert(
        &mut self,
        meta: Meta,
        buffer: Box<[u8]>,
        pool: &mut Pool,
    ) -> Result<(), Discard> {
        if self.packet(meta.seq).is_some() {
            pool.give(buffer);
            return Err(Discard::Duplicate);
        }
        let seq = meta.seq.0;
        if seq < self.floor {
            pool.give(buffer);
            return Err(Discard::OutOfWindow);
        }
        self.expire(meta.arrival.moment(), pool);
        if self.len == 0 {
            (self.oldest, self.newest) = (seq, seq.max(self.newest));
        }
        if self.newest.saturating_sub(seq) as usize >= CAPACITY_MAX {
            pool.give(buffer);
            return Err(Discard::OutOfWindow);
        }
        self.oldest = self.oldest.min(seq);
        self.newest = self.newest.max(seq);
        self.keep_from((self.newest + 1).saturating_sub(CAPACITY_MAX as u32), pool);
        let span = (self.newest - self.oldest) as usize + 1;
        if span > self.slots.len() {
            self.resize(span);
        }
        let slot = self.slot(seq);
        self.slots[slot] = Some(Stored { meta, buffer });
        self.len += 1;
        Ok(())
    }

    /// Gives back the room for numbers that are not here any more: two packets far apart take as much
    /// as all between them, and a stream that rests takes none.
    pub fn trim(&mut self) {
        let span = if self.len == 0 { 0 } else { (self.newest - self.oldest) as usize + 1 };
        if self.len == 0 {
            self.slots = Vec::new();
        } else if self.slots.len() >= SPARSE * span.next_power_of_two().max(CAPACITY_MIN) {
            self.resize(span);
        }
    }

    /// Drops what is older than [`KEEP`].
    pub fn expire(&mut self, now: Nanos, pool: &mut Pool) {
        while self.len > 0 {
            if self.at(self.oldest).is_some_and(|stored| stored.meta.arrival + KEEP > now) {
                return;
            }
            self.drop_oldest(pool);
        }
    }

    /// Drops what is below a number. Takes no longer where the numbers have jumped.
    fn keep_from(&mut self, first: u32, pool: &mut Pool) {
        if self.len > 0 && (first.saturating_sub(self.oldest)) as usize > CAPACITY_MAX {
            for stored in self.slots.iter_mut().filter_map(Option::take) {
                pool.give(stored.buffer);
            }
            self.len = 0;
            (self.oldest, self.floor) = (self.newest, first);
        }
        while self.oldest < first {
            self.drop_oldest(pool);
        }
    }

    /// Passes over the oldest number, whether it is here or not.
    fn drop_oldest(&mut self, pool: &mut Pool) {
        if self.at(self.oldest).is_some() {
            let slot = self.slot(self.oldest);
            if let Some(stored) = self.slots[slot].take() {
                pool.give(stored.buffer);
                self.len -= 1;
            }
        }
        self.oldest += 1;
        self.floor = self.oldest;
    }

    /// Gives all memory back.
    pub fn clear(&mut self, pool: &mut Pool) {
        for stored in self.slots.drain(..).flatten() {
            pool.give(stored.buffer);
        }
        self.slots = Vec::new();
        self.len = 0;
    }

    fn resize(&mut self, span: usize) {
        let capacity = span.next_power_of_two().max(CAPACITY_MIN);
        let mut slots = Vec::new();
        slots.resize_with(capacity, || None);
        for stored in std::mem::take(&mut self.slots).into_iter().flatten() {
            let slot = stored.meta.seq.0 as usize & (capacity - 1);
            slots[slot] = Some(stored);
        }
        self.slots = slots;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::MS;

    fn meta(seq: u32, arrival: Nanos) -> Meta {
        Meta {
            seq: SourceSeq(seq),
            timestamp: 0,
            arrival: Arrival::at(arrival),
            payload_offset: 12,
            payload_len: 4,
            padding: 0,
            marker: false,
            info: PayloadInfo::default(),
            extensions: Forwarded::default(),
        }
    }

    fn put(history: &mut History, pool: &mut Pool, seq: u32, at: Nanos) -> Result<(), Discard> {
        let mut buffer = pool.take(16).unwrap();
        buffer[12..16].copy_from_slice(&seq.to_be_bytes());
        history.insert(meta(seq, at), buffer, pool)
    }

    #[test]
    fn what_came_first_stays() {
        let (mut history, mut pool) = (History::default(), Pool::new(10));
        put(&mut history, &mut pool, 7, 0).unwrap();
        assert_eq!(put(&mut history, &mut pool, 7, 1), Err(Discard::Duplicate));
        assert_eq!(history.packet(SourceSeq(7)).unwrap().meta.arrival, Arrival::at(0));
        assert_eq!((history.len(), pool.lent()), (1, 1));
    }

    /// Each number in between was visited: 32,000 for one small packet.
    #[test]
    fn a_jump_of_the_numbers_takes_no_room_for_what_is_between() {
        let (mut history, mut pool) = (History::default(), Pool::new(10));
        let far = 32_767;
        for (at, seq) in [0, far, 2 * far].into_iter().enumerate() {
            put(&mut history, &mut pool, seq, at as Nanos).unwrap();
            assert_eq!((history.len(), pool.lent(), history.slots.len()), (1, 1, CAPACITY_MIN));
        }
        let first = 2 * far + 1 - CAPACITY_MAX as u32;
        assert_eq!(put(&mut history, &mut pool, first - 1, 3), Err(Discard::OutOfWindow));
        put(&mut history, &mut pool, first, 3).unwrap();
        put(&mut history, &mut pool, 2 * far - 1, 3).unwrap();
        assert_eq!((history.len(), pool.lent()), (3, 3));
    }

    #[test]
    fn packets_leave_after_their_time() {
        let (mut history, mut pool) = (History::default(), Pool::new(5_000));
        for seq in 100..400 {
            put(&mut history, &mut pool, seq, Nanos::from(seq) * 10 * MS).unwrap();
        }
        let kept = (KEEP / (10 * MS)) as usize;
        assert!((kept..=kept + 1).contains(&history.len()), "{}", history.len());
        history.expire(10_000_000 * MS, &mut pool);
        assert_eq!((history.len(), pool.lent()), (0, 0));
        put(&mut history, &mut pool, 400, 10_000_000 * MS).unwrap();
        assert!(history.packet(SourceSeq(400)).is_some());
        // What may have been forwarded before is never taken for new.
        let old = put(&mut history, &mut pool, 399, 10_000_000 * MS);
        assert_eq!(old, Err(Discard::OutOfWindow));
    }

    #[test]
    fn room_comes_back() {
        let (mut history, mut pool) = (History::default(), Pool::new(5_000));
        put(&mut history, &mut pool, 100, 0).unwrap();
        put(&mut history, &mut pool, 100 + CAPACITY_MAX as u32 - 1, MS).unwrap();
        history.trim();
        assert_eq!(history.slots.len(), CAPACITY_MAX, "both are asked for");
        for seq in 0..200 {
            let seq = 100 + CAPACITY_MAX as u32 + seq;
            put(&mut history, &mut pool, seq, Nanos::from(seq) * 10 * MS).unwrap();
        }
        history.trim();
        assert_eq!(history.slots.len(), 128);
        assert_eq!(history.len(), pool.lent());
        assert!(history.packet(SourceSeq(100 + CAPACITY_MAX as u32 + 199)).is_some());
        history.expire(10_000_000 * MS, &mut pool);
        history.trim();
        assert_eq!((history.slots.capacity(), pool.lent()), (0, 0));
        // Nothing that was here is taken for new.
        let old = put(&mut history, &mut pool, 2_200, 10_000_000 * MS);
        assert_eq!(old, Err(Discard::OutOfWindow));
        put(&mut history, &mut pool, 3_000, 10_000_000 * MS).unwrap();
    }

    proptest! {
        #[test]
        fn memory_is_never_lost_and_never_confused(
            steps in prop::collection::vec((0u32..6_000, 0u64..40), 1..400)
        ) {
            let (mut history, mut pool) = (History::default(), Pool::new(10_000));
            let mut now = 0;
            for (seq, wait) in steps {
                now += wait * MS;
                if wait % 8 == 0 {
                    history.trim();
                }
                let _ = put(&mut history, &mut pool, seq, now);
                if let Some(stored) = history.packet(SourceSeq(seq)) {
                    prop_assert_eq!(stored.payload(), seq.to_be_bytes());
                }
                prop_assert_eq!(history.len(), pool.lent());
            }
            history.clear(&mut pool);
            prop_assert_eq!(pool.lent(), 0);
        }
    }
}
