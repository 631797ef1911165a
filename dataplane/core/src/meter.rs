//! Bits per second over the last second, in 16 bytes: what the allocator and the statistics need.

use crate::{Nanos, SECOND};

const WINDOW: Nanos = SECOND;

/// Counts bytes and knows the rate of the last whole window.
#[derive(Debug, Clone, Copy, Default)]
pub struct Meter {
    began: Nanos,
    bytes: u32,
    /// At most: it stays there.
    rate_bps: u32,
}

impl Meter {
    /// So many bytes at that time.
    pub fn add(&mut self, bytes: usize, now: Nanos) {
        if now >= self.began + WINDOW {
            self.roll(now);
        }
        self.bytes = self.bytes.saturating_add(bytes as u32);
    }

    /// Bits per second; 0 once nothing came for two seconds. In the first second what has come so
    /// far counts, so that a new stream is never taken for an idle one.
    #[must_use]
    pub fn rate_bps(&self, now: Nanos) -> u64 {
        let age = now.saturating_sub(self.began);
        if age >= 2 * WINDOW {
            0
        } else if age >= WINDOW {
            self.rate_over(age.max(1))
        } else if self.rate_bps == 0 {
            self.rate_over(age.max(WINDOW / 4))
        } else {
            self.rate_bps.into()
        }
    }

    fn roll(&mut self, now: Nanos) {
        let age = now - self.began;
        let is_stale = self.began == 0 || age >= 2 * WINDOW;
        let rate = if is_stale { 0 } else { self.rate_over(age) };
        self.rate_bps = rate.try_into().unwrap_or(u32::MAX);
        (self.began, self.bytes) = (now, 0);
    }

    fn rate_over(&self, span: Nanos) -> u64 {
        u64::from(self.bytes) * 8 * SECOND / span
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
