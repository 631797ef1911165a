//! Counts one RTP stream by its sequence numbers alone: gaps, doubles, late packets. Cheap enough
//! for every stream of a load client; never looks at a payload.

/// How far back a double is recognised.
const WINDOW: u64 = 2_048;
const WORDS: usize = (WINDOW / 64) as usize;

/// What a packet was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// The next one, or after a gap of `.0` packets.
    New(u64),
    /// It closes a gap.
    Late,
    /// It was here before.
    Duplicate,
    /// Too old to tell.
    Ancient,
}

/// The state of one stream.
#[derive(Debug, Clone)]
pub struct SequenceTracker {
    first: u64,
    highest: u64,
    seen: [u64; WORDS],
    /// All packets, doubles too.
    pub packets: u64,
    /// Seen more than once.
    pub duplicates: u64,
    /// Not in order.
    pub reordered: u64,
    /// Too old to tell whether they were seen before; they fill no gap.
    pub ancient: u64,
    /// Of those that were to be opened: their tag was wrong.
    pub unopened: u64,
}

impl SequenceTracker {
    /// From the first packet on.
    #[must_use]
    pub fn new(sequence: u16) -> (u64, Self) {
        // One cycle up, so that earlier packets still have a number.
        let index = (1 << 16) + u64::from(sequence);
        let mut tracker = Self {
            first: index,
            highest: index,
            seen: [0; WORDS],
            packets: 1,
            duplicates: 0,
            reordered: 0,
            ancient: 0,
            unopened: 0,
        };
        tracker.mark(index);
        (index, tracker)
    }

    /// The full number nearest to the highest so far (RFC 3550 appendix A.1).
    #[must_use]
    pub fn unwrap(&self, sequence: u16) -> u64 {
        unwrap_near(self.highest, sequence)
    }

    /// Counts a packet; gives its full number.
    pub fn receive(&mut self, sequence: u16) -> (u64, Arrival) {
        let index = self.unwrap(sequence);
        self.packets += 1;
        if index > self.highest {
            let gap = index - self.highest - 1;
            let first_new = self.highest + 1;
            for cleared in first_new.max(index.saturating_sub(WINDOW - 1))..=index {
                self.clear(cleared);
            }
            self.highest = index;
            self.mark(index);
            return (index, Arrival::New(gap));
        }
        if index + WINDOW <= self.highest {
            self.ancient += 1;
            return (index, Arrival::Ancient);
        }
        if self.is_marked(index) {
            self.duplicates += 1;
            return (index, Arrival::Duplicate);
        }
        self.mark(index);
        self.reordered += 1;
        self.first = self.first.min(index);
        (index, Arrival::Late)
    }

    /// The highest full number so far; its low 32 bits go into reports.
    #[must_use]
    pub fn highest(&self) -> u64 {
        self.highest
    }

    /// How many there should have been.
    #[must_use]
    pub fn expected(&self) -> u64 {
        self.highest - self.first + 1
    }

    /// How many came at least once.
    #[must_use]
    pub fn distinct(&self) -> u64 {
        self.packets - self.duplicates - self.ancient
    }

    /// How many never came.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.expected().saturating_sub(self.distinct())
    }

    /// What is missing of the last `back` numbers (at most the window), from `from` on.
    #[must_use]
    pub fn missing(&self, from: u64, back: u64) -> Vec<u64> {
        let oldest = self.highest.saturating_sub(back.min(WINDOW - 1)).max(self.first).max(from);
        (oldest..self.highest).filter(|index| !self.is_marked(*index)).collect()
    }

    fn mark(&mut self, index: u64) {
        self.seen[(index / 64) as usize % WORDS] |= 1 << (index % 64);
    }

    fn clear(&mut self, index: u64) {
        self.seen[(index / 64) as usize % WORDS] &= !(1 << (index % 64));
    }

    fn is_marked(&self, index: u64) -> bool {
        self.seen[(index / 64) as usize % WORDS] & (1 << (index % 64)) != 0
    }
}

/// The full number nearest to `reference` with these low 16 bits.
#[must_use]
pub fn unwrap_near(reference: u64, sequence: u16) -> u64 {
    let delta = sequence.wrapping_sub(reference as u16) as i16;
    reference.wrapping_add_signed(i64::from(delta))
}

/// The full timestamp nearest to `reference` with these low 32 bits.
#[must_use]
pub fn unwrap_timestamp_near(reference: u64, timestamp: u32) -> u64 {
    let delta = timestamp.wrapping_sub(reference as u32) as i32;
    reference.wrapping_add_signed(i64::from(delta))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_close_and_doubles_count() {
        let (_, mut tracker) = SequenceTracker::new(65_534);
        assert_eq!(tracker.receive(65_535).1, Arrival::New(0));
        assert_eq!(tracker.receive(2).1, Arrival::New(2));
        assert_eq!(tracker.lost(), 2);
        let low: Vec<u16> = tracker.missing(0, 100).iter().map(|index| *index as u16).collect();
        assert_eq!(low, [0, 1]);
        assert_eq!(tracker.receive(0).1, Arrival::Late);
        assert_eq!(tracker.receive(0).1, Arrival::Duplicate);
        assert_eq!((tracker.lost(), tracker.duplicates, tracker.reordered), (1, 1, 1));
        assert_eq!(tracker.receive(65_533).1, Arrival::Late, "before the first");
        assert_eq!((tracker.expected(), tracker.lost()), (6, 1));
    }

    #[test]
    fn a_long_gap_clears_the_window() {
        let (_, mut tracker) = SequenceTracker::new(0);
        for sequence in 1..5_000u16 {
            tracker.receive(sequence);
        }
        tracker.receive(15_000);
        assert_eq!(tracker.receive(14_999).1, Arrival::Late);
        assert_eq!(tracker.receive(4_999).1, Arrival::Ancient);
        assert_eq!(tracker.lost(), 9_999);
    }
}
