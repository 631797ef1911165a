//! What one receiver's network carries, and how it is spent on its video. Owns a simple, correct
//! rule: start at the initial estimate and double it until something objects; fall at once to what
//! the receiver says (REMB) or its losses imply; come back slowly, and more slowly each time that
//! coming back failed. The send-side estimator will take its place behind the same three calls.
//!
//! A REMB is not taken literally. A browser's estimate starts low and creeps up while all is well,
//! so a small value that rises says nothing; one that falls, or stays below what is being sent,
//! says that the path is full.

use ironcast_protocol::media::Layers;

use crate::{MS, Nanos, SECOND};

/// Losses below this share are repaired, not avoided.
const LOSS_TOLERATED: f64 = 0.10;
/// Packets that losses are judged by: older ones fade. A browser reports several times a second,
/// and one lost of the three packets of such a report is no trend.
const LOSS_WINDOW: f64 = 200.0;
const RAISE_EVERY: Nanos = 500 * MS;
const HOLD_MIN: Nanos = 2 * SECOND;
const HOLD_MAX: Nanos = 32 * SECOND;
/// An objection so soon after a raise is an answer to it.
const TRIAL: Nanos = 4 * SECOND;
/// A REMB that has not risen for so long, and is below what is sent, is believed.
const REMB_PATIENCE: Nanos = 2_500 * MS;

/// The estimate of one receiving transport.
#[derive(Debug)]
pub struct Budget {
    /// What may be sent now; `None` once nothing objected up to all that is wanted.
    limit_bps: Option<u64>,
    remb_bps: Option<u64>,
    remb_peak_bps: u64,
    remb_rose_at: Nanos,
    /// Of `expected` packets.
    lost: f64,
    expected: f64,
    raise_at: Nanos,
    /// When it was last raised, until that raise has been objected to.
    raised_at: Option<Nanos>,
    fell: bool,
    hold: Nanos,
    /// Set by the API; 0: none.
    pub max_bps: u32,
    /// Set by the API; 0: none.
    pub min_bps: u32,
}

impl Budget {
    /// Starts at `initial_bps` (0: no limit).
    #[must_use]
    pub fn new(initial_bps: u32, now: Nanos) -> Self {
        Self {
            limit_bps: (initial_bps > 0).then_some(u64::from(initial_bps)),
            remb_bps: None,
            remb_peak_bps: 0,
            remb_rose_at: now,
            lost: 0.0,
            expected: 0.0,
            raise_at: now + RAISE_EVERY,
            raised_at: None,
            fell: false,
            hold: HOLD_MIN,
            max_bps: 0,
            min_bps: 0,
        }
    }

    /// Bits per second that may be spent now.
    #[must_use]
    pub fn available_bps(&self) -> u64 {
        let available = self.limit_bps.unwrap_or(u64::MAX).max(u64::from(self.min_bps));
        if self.max_bps > 0 { available.min(u64::from(self.max_bps)) } else { available }
    }

    /// For statistics: the limit, or what the receiver last said.
    #[must_use]
    pub fn estimate_bps(&self) -> Option<u64> {
        self.limit_bps.or(self.remb_bps)
    }

    /// The receiver's estimate. True when the budget fell.
    pub fn receive_remb(&mut self, remb_bps: u64, sent_bps: u64, now: Nanos) -> bool {
        let previous = self.remb_bps.replace(remb_bps);
        if previous.is_none() || remb_bps > self.remb_peak_bps + self.remb_peak_bps / 100 {
            (self.remb_peak_bps, self.remb_rose_at) = (remb_bps, now);
        }
        let fell = previous.is_some_and(|before| remb_bps < before - before / 32);
        if fell {
            self.remb_peak_bps = remb_bps;
        }
        // A browser that takes a hiccup for a queue goes down to 0.85 of what arrives and creeps up
        // again; a path that is full does not let it.
        let stuck = now > self.remb_rose_at + REMB_PATIENCE && remb_bps < sent_bps * 7 / 8;
        if stuck || fell && remb_bps < sent_bps * 7 / 10 {
            return self.fall(remb_bps, now);
        }
        false
    }

    /// A receiver report: so many packets lost of those expected since the last one, losses upstream
    /// already subtracted. True when the budget fell.
    pub fn receive_loss(&mut self, lost: f64, expected: f64, sent_bps: u64, now: Nanos) -> bool {
        self.lost += lost;
        self.expected += expected;
        // Two standard deviations above what is tolerated: chance alone does not reach it.
        let tolerated = LOSS_TOLERATED * self.expected;
        if self.lost <= tolerated + 2.0 * tolerated.sqrt() {
            if self.expected > LOSS_WINDOW {
                (self.lost, self.expected) = (self.lost / 2.0, self.expected / 2.0);
            }
            return false;
        }
        let to_bps = sent_bps as f64 * (1.0 - self.lost / self.expected.max(1.0) / 2.0);
        (self.lost, self.expected) = (0.0, 0.0);
        self.fall(to_bps as u64, now)
    }

    /// Raises the limit when its time has come. `wanted_bps`: what all consumers would take.
    pub fn raise(&mut self, wanted_bps: u64, now: Nanos) {
        let Some(limit) = self.limit_bps else { return };
        if now < self.raise_at {
            return;
        }
        self.raised_at = Some(now);
        let next = if self.fell { limit + limit / 4 } else { limit * 2 };
        self.limit_bps = (next < wanted_bps.max(1) * 2).then_some(next);
        self.raise_at = now + RAISE_EVERY;
        if self.limit_bps.is_none() && self.fell {
            self.fell = false;
        }
    }

    fn fall(&mut self, to_bps: u64, now: Nanos) -> bool {
        // What failed soon after it was tried is tried again only after twice the time. One try
        // counts once: what was under way goes on to be objected to for a while.
        match self.raised_at.take() {
            Some(at) if now < at + TRIAL => self.hold = (self.hold * 2).min(HOLD_MAX),
            Some(at) if now > at + HOLD_MAX => self.hold = HOLD_MIN,
            _ => {}
        }
        let fell = self.limit_bps.is_none_or(|limit| to_bps < limit);
        if fell {
            self.limit_bps = Some(to_bps.max(30_000));
        }
        self.fell = true;
        self.raise_at = now + self.hold;
        fell
    }
}

/// A video consumer, as far as the division is concerned.
#[derive(Debug, Clone)]
pub struct Demand {
    /// Weight, 1 to 255.
    pub priority: u8,
    /// What could be sent, in rising quality, and its cost.
    pub options: Vec<(Layers, u64)>,
}

/// Divides `available_bps` over the consumers: first the lowest option for each, in order of
/// priority, then one step up at a time, more often for higher priorities (as mediasoup does).
/// Returns the index of the option of each; the lowest is given even where it does not fit, since
/// no picture at all is worse.
#[must_use]
pub fn divide(available_bps: u64, demands: &[Demand]) -> Vec<Option<usize>> {
    let mut order: Vec<usize> = (0..demands.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(demands[i].priority));
    let mut chosen: Vec<Option<usize>> = vec![None; demands.len()];
    let mut left = available_bps;
    for &i in &order {
        if let Some((_, cost)) = demands[i].options.first() {
            chosen[i] = Some(0);
            left = left.saturating_sub(*cost);
        }
    }
    loop {
        let mut moved = false;
        for &i in &order {
            for _ in 0..demands[i].priority.max(1) {
                let Some(at) = chosen[i] else { break };
                let Some((_, next)) = demands[i].options.get(at + 1) else {
                    break;
                };
                let extra = next.saturating_sub(demands[i].options[at].1);
                if extra > left {
                    break;
                }
                left -= extra;
                chosen[i] = Some(at + 1);
                moved = true;
            }
        }
        if !moved {
            return chosen;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MBIT: u64 = 1_000_000;

    #[test]
    fn it_starts_at_the_initial_estimate_and_soon_has_no_limit() {
        let mut budget = Budget::new(600_000, 0);
        assert_eq!(budget.available_bps(), 600_000);
        for i in 1..=4 {
            budget.raise(2 * MBIT, i * RAISE_EVERY);
        }
        assert_eq!(budget.available_bps(), u64::MAX);
    }

    #[test]
    fn a_low_remb_that_rises_is_no_objection_and_one_that_stays_low_is() {
        let mut budget = Budget::new(0, 0);
        let mut remb = 150_000;
        for i in 1..40 {
            remb += remb / 50;
            assert!(!budget.receive_remb(remb, MBIT, i * 200 * MS));
        }
        let now = 40 * 200 * MS;
        let fell = (0..20).any(|i| budget.receive_remb(remb, MBIT, now + i * 200 * MS));
        assert!(fell);
        assert_eq!(budget.available_bps(), remb);
    }

    #[test]
    fn a_remb_that_falls_below_what_is_sent_counts_at_once() {
        let mut budget = Budget::new(0, 0);
        assert!(!budget.receive_remb(2 * MBIT, MBIT, SECOND));
        assert!(budget.receive_remb(400_000, MBIT, 2 * SECOND));
        assert_eq!(budget.available_bps(), 400_000);
        // It comes back: not before the hold time, then step by step.
        budget.raise(MBIT, 2 * SECOND + HOLD_MIN - MS);
        assert_eq!(budget.available_bps(), 400_000);
        for i in 0..20 {
            budget.raise(MBIT, 2 * SECOND + HOLD_MIN + i * RAISE_EVERY);
        }
        assert_eq!(budget.available_bps(), u64::MAX);
    }

    #[test]
    fn losses_count_when_they_last() {
        let mut budget = Budget::new(0, 0);
        assert!(!budget.receive_loss(2.0, 40.0, MBIT, SECOND));
        assert!(!budget.receive_loss(1.0, 2.0, MBIT, SECOND), "few packets say little");
        // 5 % with its bursts: nothing to avoid.
        for i in 0..200 {
            let lost = [0.0, 2.0, 0.0, 1.0, 0.0, 3.0][i % 6];
            assert!(!budget.receive_loss(lost, 20.0, MBIT, SECOND));
        }
        let falls = (1..=6).find(|_| budget.receive_loss(12.0, 40.0, MBIT, 3 * SECOND));
        assert!(falls.is_some_and(|reports| reports >= 2), "{falls:?}");
        assert!((800_000..950_000).contains(&budget.available_bps()));
    }

    #[test]
    fn one_failed_raise_doubles_the_hold_once() {
        let mut budget = Budget::new(0, 0);
        budget.receive_remb(2 * MBIT, MBIT, SECOND);
        for i in 0..10 {
            budget.receive_remb(400_000 - 20_000 * i, MBIT, 2 * SECOND + i * 100 * MS);
        }
        assert_eq!(budget.hold, HOLD_MIN);
        let raised = 10 * SECOND;
        budget.raise(MBIT, raised);
        for i in 0..10 {
            budget.receive_remb(200_000 - 10_000 * i, MBIT, raised + SECOND + i * 100 * MS);
        }
        assert_eq!(budget.hold, 2 * HOLD_MIN);
    }

    fn demand(priority: u8, costs: &[u64]) -> Demand {
        let layers = |spatial| Layers { spatial, temporal: 0 };
        let options = costs.iter().enumerate().map(|(i, &c)| (layers(i as u8), c)).collect();
        Demand { priority, options }
    }

    #[test]
    fn everyone_has_a_picture_before_anyone_has_a_better_one() {
        let demands = [demand(1, &[100, 300, 900]), demand(1, &[100, 300, 900])];
        assert_eq!(divide(200, &demands), [Some(0), Some(0)]);
        assert_eq!(divide(400, &demands), [Some(1), Some(0)]);
        assert_eq!(divide(10, &demands), [Some(0), Some(0)]);
        assert_eq!(divide(u64::MAX, &demands), [Some(2), Some(2)]);
    }

    #[test]
    fn priority_goes_first() {
        let demands = [demand(1, &[100, 300, 900]), demand(9, &[100, 300, 900])];
        assert_eq!(divide(1_000, &demands), [Some(0), Some(2)]);
    }
}
