//! How values are spread, in 25 plain numbers: counts by powers of two, and a sum. Written by the one
//! thread that owns it, about once a turn or once a send, never once a packet; read by the figures.

pub use ironcast_protocol::stats::Distribution;

/// Counts; the last one has no upper bound.
pub const BUCKETS: usize = 24;

/// Values below `2^SHIFT` share the first count, and each further count is twice as wide.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Histogram<const SHIFT: u32> {
    counts: [u64; BUCKETS],
    sum: u64,
}

/// Times in nanoseconds: from 1 us to 4 s.
pub type Times = Histogram<10>;
/// Small numbers: 1, up to 3, up to 7, ...
pub type Numbers = Histogram<0>;

impl<const SHIFT: u32> Histogram<SHIFT> {
    /// One value.
    pub fn record(&mut self, value: u64) {
        self.counts[Self::place(value)] += 1;
        self.sum = self.sum.wrapping_add(value);
    }

    /// Several of about the same value.
    pub fn record_many(&mut self, value: u64, count: u64) {
        self.counts[Self::place(value)] += count;
        self.sum = self.sum.wrapping_add(value.saturating_mul(count));
    }

    /// Where a value is counted.
    #[must_use]
    pub const fn place(value: u64) -> usize {
        let bits = (u64::BITS - (value >> SHIFT).leading_zeros()) as usize;
        if bits < BUCKETS { bits } else { BUCKETS - 1 }
    }

    /// As it is told.
    #[must_use]
    pub fn distribution(&self) -> Distribution {
        Self::distribution_of(self.counts, self.sum)
    }

    /// The same from counts that are kept elsewhere.
    #[must_use]
    pub fn distribution_of(counts: [u64; BUCKETS], sum: u64) -> Distribution {
        let bounds = (0..BUCKETS as u32 - 1).map(|place| (1u64 << (SHIFT + place)) - 1);
        Distribution { bounds: bounds.collect(), counts: counts.to_vec(), sum }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_counted_under_the_first_bound_that_is_not_below_it() {
        let mut times = Times::default();
        for value in [0, 1_023, 1_024, 2_047, 2_048, u64::MAX / 2] {
            times.record(value);
        }
        let told = times.distribution();
        assert_eq!(told.bounds[..3], [1_023, 2_047, 4_095]);
        assert_eq!(told.counts[..3], [2, 2, 1]);
        assert_eq!((told.counts.len(), told.bounds.len()), (BUCKETS, BUCKETS - 1));
        assert_eq!(told.counts[BUCKETS - 1], 1, "what is above all bounds");
    }

    #[test]
    fn small_numbers_have_bounds_of_their_own() {
        let mut runs = Numbers::default();
        for value in [1, 2, 3, 4, 64] {
            runs.record(value);
        }
        runs.record_many(3, 10);
        let told = runs.distribution();
        assert_eq!(told.bounds[..4], [0, 1, 3, 7]);
        assert_eq!(told.counts[..4], [0, 1, 12, 1]);
        assert_eq!(told.sum, 1 + 2 + 3 + 4 + 64 + 30);
    }
}
