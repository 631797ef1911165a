//! How many repeats one receiver gets: a bucket of bytes that fills with a share of what is sent to
//! him. Who loses much is repeated much, but never so much that the repeats themselves fill his way,
//! or that asking for them makes a worker send many times what was asked with.

use crate::{Nanos, SECOND};

/// Of what is sent, where nothing says that the way is full.
const SHARE: u64 = 2;
/// The same where it is known to be full.
const SHARE_WHEN_FULL: u64 = 8;
/// Of a receiver that is sent little: enough for what its microphones lose.
const RATE_MIN_BPS: u64 = 32_000;
/// What can be repeated at once: what fills in a second; but all of a key frame and what came behind
/// it, where its first packet was late, or, where the way is full, some packets.
const BURST_MIN_BYTES: u128 = 64_000;
const BURST_MIN_BYTES_WHEN_FULL: u128 = 6_000;

/// See the file's head.
#[derive(Debug, Clone, Copy, Default)]
pub struct Allowance {
    /// May be a packet below nothing.
    bytes: i64,
    at: Nanos,
    burst_bytes: i64,
}

impl Allowance {
    /// Before repeats: fills for the time that has passed. `sent_bps`: what is sent without them.
    pub fn fill(&mut self, sent_bps: u64, is_full: bool, now: Nanos) {
        let (share, burst_min) = if is_full {
            (SHARE_WHEN_FULL, BURST_MIN_BYTES_WHEN_FULL)
        } else {
            (SHARE, BURST_MIN_BYTES)
        };
        let rate = (sent_bps / share).max(RATE_MIN_BPS);
        let bytes =
            |bps: u64, span: Nanos| u128::from(bps) * u128::from(span) / 8 / u128::from(SECOND);
        let burst = bytes(rate, SECOND).max(burst_min);
        self.burst_bytes = i64::try_from(burst).unwrap_or(i64::MAX);
        let grown =
            if self.at == 0 { burst } else { bytes(rate, now.saturating_sub(self.at)).min(burst) };
        self.at = now;
        let grown = i64::try_from(grown).unwrap_or(i64::MAX);
        self.bytes = self.bytes.saturating_add(grown).min(self.burst_bytes);
    }

    /// True while something may be repeated.
    #[must_use]
    pub fn is_left(&self) -> bool {
        self.bytes > 0
    }

    /// True while half of what can be repeated at once is left: what nobody has asked for yet takes no more,
    /// so that requests find some.
    #[must_use]
    pub fn is_half_left(&self) -> bool {
        self.bytes > self.burst_bytes / 2
    }

    /// So much was repeated.
    pub fn spend(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MS;

    /// Bytes that are repeated in a minute for somebody who always asks.
    fn repeated(sent_bps: u64, is_full: bool) -> u64 {
        let (mut allowance, mut bytes) = (Allowance::default(), 0);
        for now in (1..60_000).map(|n| n * MS) {
            allowance.fill(sent_bps, is_full, now);
            while allowance.is_left() {
                allowance.spend(1_200);
                bytes += 1_200;
            }
        }
        bytes
    }

    #[test]
    fn repeats_are_a_share_of_what_is_sent() {
        let minute = |bps: u64| bps * 60 / 8;
        let near = |bytes: u64, bps: u64| {
            let (low, high) = (minute(bps) * 98 / 100, minute(bps) * 105 / 100);
            assert!((low..high).contains(&bytes), "{bytes} {low} {high}");
        };
        near(repeated(2_000_000, false), 1_000_000);
        near(repeated(2_000_000, true), 250_000);
        near(repeated(40_000, true), RATE_MIN_BPS);
    }

    #[test]
    fn what_nobody_asked_for_leaves_half_of_it() {
        let (mut allowance, mut bytes) = (Allowance::default(), 0);
        for now in (1..60_000).map(|n| n * MS) {
            allowance.fill(400_000, false, now);
            while allowance.is_half_left() {
                allowance.spend(1_200);
                bytes += 1_200;
            }
        }
        // What filled in a minute, and the first half.
        let filled = 200_000 * 60 / 8 + 32_000;
        assert!((filled..filled * 101 / 100).contains(&bytes), "{bytes}");
        // Requests find the other one.
        let mut asked = 0;
        while allowance.is_left() {
            allowance.spend(1_000);
            asked += 1_000;
        }
        assert!(asked >= 31_000, "{asked}");
    }

    #[test]
    fn an_outage_of_half_a_second_is_repeated_at_once() {
        let mut allowance = Allowance::default();
        allowance.fill(2_000_000, false, SECOND);
        let mut bytes = 0;
        while allowance.is_left() {
            allowance.spend(1_000);
            bytes += 1_000;
        }
        assert_eq!(bytes, 125_000);
        // However long nothing was asked for.
        allowance.fill(2_000_000, false, 100 * SECOND);
        allowance.spend(125_000);
        assert!(!allowance.is_left());
    }
}
