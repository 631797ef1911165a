//! What one receiver's network carries. Owns a simple, correct rule: start at the initial estimate
//! and double it until something objects; fall at once to what the receiver says (REMB) or its
//! losses imply; come back slowly, and more slowly each time that coming back failed. The send-side
//! estimator will take its place behind the same calls. How it is spent is in `divide.rs`.
//!
//! Two numbers come of it. What is available decides how good each video is. What everything has to
//! fit into, the lowest layers too, is smaller knowledge: only an objection that says how much
//! arrives, or a limit of the API's, makes a video be paused. An estimate at the start does not, and
//! losses alone do not: a radio loses a third of whatever is sent.
//!
//! A REMB is not taken literally. A browser's estimate starts low and creeps up while all is well,
//! so a small value that rises says nothing; one that falls, or stays below what is being sent,
//! says that the path is full.

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
/// Of so many losses nothing can be made, whatever their cause.
const HOPELESS: f64 = 0.5;
/// Less is not believed.
const LIMIT_MIN_BPS: u64 = 30_000;
/// Nor is more: nobody sends it, and sums of it would not fit.
const LIMIT_MAX_BPS: u64 = 1 << 40;
/// The same where more was tried a moment ago.
const TRIAL_PATIENCE: Nanos = 1_500 * MS;
/// A burst has passed by then.
const DOUBT: Nanos = 300 * MS;
/// An objection comes within this after more was sent: the next step waits for it.
const OBJECTION: Nanos = 2 * SECOND;
/// Who begins to receive a stream gets at once what his network is thought to carry within this time,
const BEGIN_NS: Nanos = 250 * MS;
/// at least a key frame and some frames more,
const BEGIN_BYTES_MIN: u64 = 96 << 10;
/// and at most a second of a good camera.
const BEGIN_BYTES_MAX: u64 = 384 << 10;

/// The estimate of one receiving transport.
#[derive(Debug)]
pub struct Budget {
    /// What may be sent now; `None` once nothing objected up to all that is wanted.
    limit_bps: Option<u64>,
    /// What the receiver said that arrives, when more was sent; rises as the limit does.
    arrives_bps: Option<u64>,
    /// When that may rise.
    arrives_raise_at: Nanos,
    /// What the last division was to cost, and since when it is about that.
    spent_bps: u64,
    spent_since: Nanos,
    /// What was spent without an objection before more was tried.
    good_bps: u64,
    /// Until then an objection is about what was tried.
    trial_until: Nanos,
    /// It was objected to.
    is_trial_over: bool,
    /// A first objection to it, which a key frame's burst makes, too.
    doubt: Option<(Nanos, u64)>,
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
            arrives_bps: None,
            arrives_raise_at: 0,
            spent_bps: 0,
            spent_since: now,
            good_bps: 0,
            trial_until: 0,
            is_trial_over: false,
            doubt: None,
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

    /// Payload bytes that may be sent in one go where a receiver begins with what came before.
    #[must_use]
    pub fn begins_with_bytes(&self) -> usize {
        let carried = self.available_bps() / (8 * SECOND / BEGIN_NS);
        carried.clamp(BEGIN_BYTES_MIN, BEGIN_BYTES_MAX) as usize
    }

    /// Bits per second that everything has to fit into, see the file's head.
    #[must_use]
    pub fn fits_bps(&self) -> Option<u64> {
        let arrives = self.arrives_bps.map(|bps| bps.max(u64::from(self.min_bps)));
        let max = (self.max_bps > 0).then_some(u64::from(self.max_bps));
        arrives.into_iter().chain(max).min()
    }

    /// True while the receiver's way is known to be full: nothing is sent twice for luck then.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.arrives_bps.is_some()
    }

    /// A division will cost so much. Where that is more than before, it is a trial of what was
    /// raised.
    pub fn spend(&mut self, bps: u64, now: Nanos) {
        let before = std::mem::replace(&mut self.spent_bps, bps);
        if bps > before + before / 16 {
            if now >= self.spent_since + OBJECTION {
                self.good_bps = before;
            }
            self.spent_since = now;
            if self.fell || self.is_full() {
                self.raised_at = Some(now);
                (self.trial_until, self.doubt) = (now + TRIAL, None);
                self.is_trial_over = false;
                self.raise_at = self.raise_at.max(now + OBJECTION);
                self.arrives_raise_at = self.arrives_raise_at.max(now + OBJECTION);
            }
        } else if bps < before - before / 16 {
            self.spent_since = now;
        }
    }

    /// For statistics: the limit, or what the receiver last said.
    #[must_use]
    pub fn estimate_bps(&self) -> Option<u64> {
        self.limit_bps.or(self.remb_bps)
    }

    /// The receiver's estimate. True when the budget fell.
    pub fn receive_remb(&mut self, remb_bps: u64, sent_bps: u64, now: Nanos) -> bool {
        let remb_bps = remb_bps.min(LIMIT_MAX_BPS);
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
        let is_trial = now < self.trial_until;
        let patience = if is_trial { TRIAL_PATIENCE } else { REMB_PATIENCE };
        // What is measured lies a second behind what was decided.
        let sent_bps = match self.spent_bps {
            0 => sent_bps,
            spent if is_trial => sent_bps.max(spent),
            spent => sent_bps.min(spent + spent / 4),
        };
        let is_low = remb_bps < sent_bps * 7 / 8;
        let stuck = is_low && now > self.remb_rose_at + patience;
        let objects = if is_trial {
            self.objects_to_trial(remb_bps, fell && is_low, now)
        } else {
            fell && remb_bps < sent_bps * 7 / 10
        };
        if stuck || objects {
            let arrives = self.object(remb_bps, now);
            return self.fall(remb_bps, now) | arrives;
        }
        false
    }

    /// What is tried begins with a key frame, whose burst alone can make the estimate fall once. It
    /// is no objection when the estimate rises right after.
    fn objects_to_trial(&mut self, remb_bps: u64, falls: bool, now: Nanos) -> bool {
        match self.doubt {
            None => {
                self.doubt = falls.then_some((now, remb_bps));
                false
            }
            Some((_, doubt_bps)) if remb_bps > doubt_bps + doubt_bps / 100 => {
                self.doubt = None;
                false
            }
            Some((at, _)) => now >= at + DOUBT,
        }
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
        let share = self.lost / self.expected.max(1.0);
        (self.lost, self.expected) = (0.0, 0.0);
        let arrived = (sent_bps as f64 * (1.0 - share)) as u64;
        let is_hopeless = share > HOPELESS && self.object(arrived, now);
        self.fall((sent_bps as f64 * (1.0 - share / 2.0)) as u64, now) | is_hopeless
    }

    /// So much arrives, and more was sent. True when that is news.
    fn object(&mut self, arrives_bps: u64, now: Nanos) -> bool {
        self.arrives_raise_at = now + self.hold;
        let arrives_bps = arrives_bps.max(LIMIT_MIN_BPS).max(self.known_good_bps(now));
        let is_less = self.arrives_bps.is_none_or(|before| arrives_bps < before);
        if is_less {
            self.arrives_bps = Some(arrives_bps);
        }
        is_less
    }

    /// Raises the limits when their time has come. `wanted_bps`: what everything would take.
    pub fn raise(&mut self, wanted_bps: u64, now: Nanos) {
        let enough = wanted_bps.max(1) * 2;
        if let Some(arrives) = self.arrives_bps
            && now >= self.arrives_raise_at
        {
            let next = arrives + arrives / 4;
            self.arrives_bps = (next < enough).then_some(next);
            self.arrives_raise_at = now + RAISE_EVERY;
        }
        let Some(limit) = self.limit_bps else { return };
        if now < self.raise_at {
            return;
        }
        self.raised_at = Some(now);
        let next = if self.fell { limit + limit / 4 } else { limit * 2 };
        self.limit_bps = (next < enough).then_some(next);
        self.raise_at = now + RAISE_EVERY;
        if self.limit_bps.is_none() && self.fell {
            self.fell = false;
        }
    }

    /// What an objection to a trial leaves: the estimate of that moment is made of what arrived
    /// before the trial, so that it says nothing of more.
    fn known_good_bps(&self, now: Nanos) -> u64 {
        // Key frames make it waver.
        if now < self.trial_until { self.good_bps + self.good_bps / 8 } else { 0 }
    }

    fn fall(&mut self, to_bps: u64, now: Nanos) -> bool {
        let to_bps = to_bps.max(self.known_good_bps(now));
        // What was under way goes on to be objected to for a while, and no longer.
        self.trial_until = if now >= self.trial_until {
            self.good_bps = 0;
            0
        } else if std::mem::replace(&mut self.is_trial_over, true) {
            self.trial_until
        } else {
            now + TRIAL
        };
        // Patience begins anew with what is sent from now on.
        self.remb_rose_at = now;
        // What failed soon after it was tried is tried again only after twice the time. One try
        // counts once: what was under way goes on to be objected to for a while.
        match self.raised_at.take() {
            Some(at) if now < at + TRIAL => self.hold = (self.hold * 2).min(HOLD_MAX),
            Some(at) if now > at + HOLD_MAX => self.hold = HOLD_MIN,
            _ => {}
        }
        let fell = self.limit_bps.is_none_or(|limit| to_bps < limit);
        if fell {
            self.limit_bps = Some(to_bps.max(LIMIT_MIN_BPS));
        }
        self.fell = true;
        self.raise_at = now + self.hold;
        fell
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
    fn who_begins_gets_at_once_what_his_network_is_known_to_carry_soon() {
        let bytes = |initial_bps| Budget::new(initial_bps, 0).begins_with_bytes();
        let [unknown, known, fast, unlimited] = [600_000, 8_000_000, 100_000_000, 0].map(bytes);
        assert_eq!([unknown, known, fast, unlimited], [96 << 10, 250_000, 384 << 10, 384 << 10]);
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
    fn a_remb_without_measure_is_no_objection_and_breaks_nothing() {
        let mut budget = Budget::new(0, 0);
        for (remb, at) in [(u64::MAX, 1), (u64::MAX - 1, 2), (MBIT, 3), (u64::MAX, 4)] {
            budget.receive_remb(remb, MBIT, at * SECOND);
        }
        assert_eq!(budget.available_bps(), u64::MAX);
        assert!(budget.receive_remb(300_000, MBIT, 5 * SECOND));
        assert_eq!(budget.available_bps(), 300_000);
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

    #[test]
    fn only_who_knows_how_much_arrives_may_pause() {
        let mut budget = Budget::new(600_000, 0);
        assert_eq!(budget.fits_bps(), None, "a guess");
        for i in 0..20 {
            budget.receive_loss(15.0, 50.0, MBIT, SECOND + i * 100 * MS);
        }
        assert!(budget.available_bps() < 900_000);
        assert_eq!(budget.fits_bps(), None, "a radio that loses a third");
        assert!(budget.receive_loss(150.0, 200.0, 400_000, 4 * SECOND));
        assert_eq!(budget.fits_bps(), Some(100_000), "of four packets one arrives");
        budget.receive_remb(300_000, 400_000, 5 * SECOND);
        budget.receive_remb(80_000, 400_000, 5 * SECOND);
        assert_eq!(budget.fits_bps(), Some(80_000));
        budget.max_bps = 70_000;
        assert_eq!(budget.fits_bps(), Some(70_000));
        budget.max_bps = 0;
        for i in 0..40 {
            budget.raise(MBIT, 8 * SECOND + i * RAISE_EVERY);
        }
        assert_eq!(budget.fits_bps(), None);
    }

    #[test]
    fn more_is_not_tried_before_the_last_try_could_be_objected_to() {
        let mut budget = Budget::new(0, 0);
        budget.receive_remb(2 * MBIT, MBIT, SECOND);
        budget.receive_remb(100_000, MBIT, SECOND);
        budget.spend(90_000, SECOND);
        budget.raise(MBIT, 4 * SECOND);
        assert_eq!(budget.fits_bps(), Some(125_000));
        budget.spend(120_000, 4 * SECOND);
        budget.raise(MBIT, 4 * SECOND + RAISE_EVERY);
        assert_eq!(budget.fits_bps(), Some(125_000));
        budget.raise(MBIT, 4 * SECOND + OBJECTION);
        assert_eq!(budget.fits_bps(), Some(156_250));
    }
}
