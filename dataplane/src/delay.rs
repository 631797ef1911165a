//! How long datagrams stay here: from the kernel's arrival stamp to the end of the turn. Logarithmic
//! buckets with eight steps an octave (9 % wide); one add per datagram, no allocation.

use ironcast_core::{
    Nanos,
    histogram::{Distribution, Times},
};

const STEPS: usize = 8;
const BUCKETS: usize = 40 * STEPS;

/// Counts of the current and of the last whole second.
#[derive(Debug)]
pub struct DelayHistogram {
    current: Box<[u32; BUCKETS]>,
    last: Box<[u32; BUCKETS]>,
    all: Times,
}

impl Default for DelayHistogram {
    fn default() -> Self {
        Self {
            current: Box::new([0; BUCKETS]),
            last: Box::new([0; BUCKETS]),
            all: Times::default(),
        }
    }
}

impl DelayHistogram {
    /// One datagram.
    pub fn record(&mut self, delay: Nanos) {
        self.current[bucket(delay)] += 1;
    }

    /// A second is over.
    pub fn roll(&mut self) {
        std::mem::swap(&mut self.current, &mut self.last);
        self.current.fill(0);
        for (place, count) in self.last.iter().enumerate().filter(|(_, count)| **count > 0) {
            // The middle of the bucket, which is narrow.
            let middle = ((place as f64 + 0.5) / STEPS as f64).exp2();
            self.all.record_many(middle as u64, u64::from(*count));
        }
    }

    /// Since the start, up to the last whole second, in nanoseconds.
    #[must_use]
    pub fn distribution(&self) -> Distribution {
        self.all.distribution()
    }

    /// Of the last whole second: microseconds that this share of the datagrams did not exceed.
    #[must_use]
    pub fn quantile_us(&self, share: f64) -> u32 {
        let all: u64 = self.last.iter().map(|count| u64::from(*count)).sum();
        if all == 0 {
            return 0;
        }
        let wanted = (all as f64 * share).ceil() as u64;
        let mut sum = 0;
        let at = self.last.iter().position(|count| {
            sum += u64::from(*count);
            sum >= wanted
        });
        let upper = at.map_or(0.0, |at| ((at + 1) as f64 / STEPS as f64).exp2());
        (upper / 1_000.0).round() as u32
    }
}

fn bucket(delay: Nanos) -> usize {
    let delay = delay.max(1);
    let octave = delay.ilog2() as usize;
    let step = (delay << 3 >> octave) as usize & (STEPS - 1);
    (octave * STEPS + step).min(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_within_a_bucket() {
        let mut histogram = DelayHistogram::default();
        for i in 1..=1_000u64 {
            histogram.record(i * 1_000);
        }
        histogram.roll();
        for (share, expected) in [(0.5, 500.0), (0.99, 990.0)] {
            let got = f64::from(histogram.quantile_us(share));
            assert!((0.95..1.15).contains(&(got / expected)), "{share}: {got}");
        }
        let told = histogram.distribution();
        assert_eq!(told.counts.iter().sum::<u64>(), 1_000);
        let mean = told.sum as f64 / 1_000.0 / 500_000.0;
        assert!((0.95..1.05).contains(&mean), "{mean}");
        assert_eq!(DelayHistogram::default().quantile_us(0.5), 0);
    }
}
