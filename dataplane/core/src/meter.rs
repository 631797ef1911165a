//! Bits per second over the last second, in 16 bytes: what the allocator and the statistics need.

use crate::{Nanos, SECOND};

const WINDOW: Nanos = SECOND;

/// Counts bytes and knows the rate of the last whole window.
#[derive(Debug, Clone, Copy, Default)]
pub struct Meter {
    began: Nanos,
    bytes: u64,
    rate_bps: u64,
}

impl Meter {
    /// So many bytes at that time.
    pub fn add(&mut self, bytes: usize, now: Nanos) {
        if now >= self.began + WINDOW {
            self.roll(now);
        }
        self.bytes += bytes as u64;
    }

    /// Bits per second; 0 once nothing came for two seconds. In the first second what has come so
    /// far counts, so that a new stream is never taken for an idle one.
    #[must_use]
    pub fn rate_bps(&self, now: Nanos) -> u64 {
        let age = now.saturating_sub(self.began);
        if age >= 2 * WINDOW {
            0
        } else if age >= WINDOW {
            self.bytes * 8 * SECOND / age.max(1)
        } else if self.rate_bps == 0 {
            self.bytes * 8 * SECOND / age.max(WINDOW / 4)
        } else {
            self.rate_bps
        }
    }

    fn roll(&mut self, now: Nanos) {
        let age = now - self.began;
        self.rate_bps =
            if self.began == 0 || age >= 2 * WINDOW { 0 } else { self.bytes * 8 * SECOND / age };
        (self.began, self.bytes) = (now, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MS;

    #[test]
    fn a_steady_stream_has_its_rate_and_a_stopped_one_none() {
        let mut meter = Meter::default();
        for i in 0..300 {
            meter.add(1_250, SECOND + i * 10 * MS);
        }
        let now = SECOND + 3_000 * MS;
        let rate = meter.rate_bps(now);
        assert!((950_000..=1_050_000).contains(&rate), "{rate}");
        assert_eq!(meter.rate_bps(now + 3 * SECOND), 0);
    }
}
