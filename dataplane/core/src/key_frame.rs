//! When a publisher is asked for a key frame. Owns the throttle per source: many receivers that
//! need one at the same time make one request; it is repeated until a key frame comes.

use crate::{MS, Nanos, SECOND};

/// Time between two requests. libwebrtc's encoder drops one that comes within 300 ms of the last
/// that it took, so that a sooner one would be lost, and a later one keeps somebody waiting.
const SPACING: Nanos = 320 * MS;
/// Each key frame that was asked for so soon after the one before makes the next repair wait longer:
/// a receiver that loses many packets must not have a publisher send key frames only.
const BUSY: Nanos = 2 * SECOND;
/// So long at most, where who asks has just asked before.
const SPACING_MAX: Nanos = 2 * SECOND;
/// So long at most, where he has not: others who ask without end must not keep him waiting.
const SPACING_FIRST_MAX: Nanos = 2 * SPACING;
/// Who asked so short a time ago asks again.
pub const AGAIN: Nanos = 4 * SECOND;
/// The same for those who begin: where a room fills up for long, everybody there would get key frames only.
const SPACING_BEGIN_MAX: Nanos = SECOND;
/// Requests close to one another that are passed on at the usual distance: a room fills up.
const BURST: u8 = 8;
/// Requests that stay unanswered.
const REPEATS_MAX: u8 = 20;

/// Why a key frame is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Somebody begins to receive the stream. They share one: the next who begins within a second of a
    /// key frame begins at that one ([`Stream::restart`](crate::producer::Stream::restart)).
    Begin,
    /// Somebody says that he cannot go on without.
    Repair,
    /// The same, of one who has said so within [`AGAIN`].
    RepairAgain,
}

/// Requests for key frames of one received stream.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeyFrameRequests {
    due: Option<Nanos>,
    sent: u8,
    last_sent: Option<Nanos>,
    /// The one that is due was not wanted for a [`Wish::Begin`].
    repairs: bool,
    /// First requests for repairs of the last time, each soon after the one before.
    burst: u8,
    /// The same of those who begin.
    begins: u8,
}

impl KeyFrameRequests {
    /// Somebody needs one; `delay` collects further wishes (`keyFrameRequestDelay`).
    pub fn request(&mut self, wish: Wish, delay: Nanos, now: Nanos) {
        if self.due.is_some() && (self.sent > 0 || wish == Wish::RepairAgain) {
            return;
        }
        let spacing = match wish {
            Wish::Begin => spacing(self.begins).min(SPACING_BEGIN_MAX),
            Wish::Repair => spacing(self.burst).min(SPACING_FIRST_MAX),
            Wish::RepairAgain => spacing(self.burst),
        };
        let at = self.last_sent.map_or(0, |at| at + spacing).max(now + delay);
        (self.sent, self.repairs) = (0, wish != Wish::Begin);
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Nobody needs one any more.
    pub fn withdraw(&mut self) {
        self.due = None;
    }

    /// One came.
    pub fn receive_key_frame(&mut self) {
        // One that was on its way when the request had not yet been sent does not answer it: the
        // one who asked may have joined in its middle.
        if self.sent > 0 {
            self.due = None;
        }
    }

    /// When [`Self::take_due`] has something.
    #[must_use]
    pub fn deadline(&self) -> Option<Nanos> {
        self.due
    }

    /// True when a request is to be sent now.
    pub fn take_due(&mut self, now: Nanos) -> bool {
        if self.due.is_none_or(|due| now < due) {
            return false;
        }
        if self.sent == 0 {
            let burst = if self.repairs { &mut self.burst } else { &mut self.begins };
            let soon = self.last_sent.is_some_and(|at| now < at + BUSY + spacing(*burst));
            *burst = if soon { burst.saturating_add(1) } else { 0 };
        }
        self.sent += 1;
        self.last_sent = Some(now);
        self.due = (self.sent < REPEATS_MAX).then_some(now + SPACING);
        true
    }
}

/// Time between two requests, the last one of so many close to one another.
fn spacing(burst: u8) -> Nanos {
    let over = burst.saturating_sub(BURST);
    (SPACING << over.min(3)).min(SPACING_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_wishes_are_one_request_and_it_is_repeated_until_answered() {
        let mut requests = KeyFrameRequests::default();
        for i in 0..50 {
            requests.request(Wish::Begin, 0, SECOND + i);
        }
        assert!(requests.take_due(SECOND));
        assert!(!requests.take_due(SECOND + 10 * MS));
        assert!(requests.take_due(SECOND + SPACING));
        requests.receive_key_frame();
        assert_eq!(requests.deadline(), None);
    }

    #[test]
    fn a_wish_right_after_a_request_waits_until_an_encoder_takes_it() {
        let mut requests = KeyFrameRequests::default();
        requests.request(Wish::Repair, 0, SECOND);
        assert!(requests.take_due(SECOND));
        requests.receive_key_frame();
        requests.request(Wish::Repair, 0, SECOND + 200 * MS);
        assert!(!requests.take_due(SECOND + 300 * MS));
        assert!(requests.take_due(SECOND + SPACING));
    }

    /// For 20 s.
    fn asked_without_end() -> KeyFrameRequests {
        let mut requests = KeyFrameRequests::default();
        for now in (0..20_000).map(|i| i * MS) {
            requests.request(Wish::RepairAgain, 0, now);
            if requests.take_due(now) {
                requests.receive_key_frame();
            }
        }
        requests
    }

    #[test]
    fn one_receiver_that_asks_without_end_has_key_frames_further_and_further_apart() {
        let mut requests = KeyFrameRequests::default();
        let mut sent = Vec::new();
        for now in (0..30_000).map(|i| i * MS) {
            requests.request(Wish::RepairAgain, 0, now);
            if requests.take_due(now) {
                sent.push(now);
                requests.receive_key_frame();
            }
        }
        let last = sent.windows(2).last().map(|pair| pair[1] - pair[0]);
        assert_eq!(last, Some(SPACING_MAX), "{} in 30 s", sent.len());
        // After a rest the first one goes out at once, and so does the second.
        requests.withdraw();
        for wait in [0, SPACING] {
            let now = 60 * SECOND + wait;
            requests.request(Wish::Repair, 0, now);
            assert!(requests.take_due(now));
            requests.receive_key_frame();
        }
    }

    #[test]
    fn who_asks_for_the_first_time_does_not_wait_for_another_who_asks_without_end() {
        let mut requests = asked_without_end();
        let now = 20 * SECOND;
        requests.request(Wish::RepairAgain, 0, now);
        assert!(requests.deadline().unwrap() > now + SPACING_FIRST_MAX);
        requests.request(Wish::Repair, 0, now);
        assert!(requests.deadline().unwrap() <= now + SPACING_FIRST_MAX);
    }

    #[test]
    fn who_begins_does_not_wait_for_another_who_asks_without_end() {
        let mut requests = asked_without_end();
        let now = 20 * SECOND;
        requests.request(Wish::RepairAgain, 0, now);
        let before = requests.deadline().unwrap();
        requests.request(Wish::Begin, 0, now);
        assert!(requests.deadline().unwrap() <= before.min(now + SPACING));
    }

    /// Somebody begins all the time: at the usual distance for a while, and then once a second.
    #[test]
    fn a_room_that_fills_up_for_long_does_not_get_key_frames_only() {
        let mut requests = KeyFrameRequests::default();
        let mut sent = Vec::new();
        for now in (0..20_000).map(|i| i * MS) {
            requests.request(Wish::Begin, 0, now);
            if requests.take_due(now) {
                sent.push(now);
                requests.receive_key_frame();
            }
        }
        let apart: Vec<_> = sent.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(apart[..usize::from(BURST)].iter().all(|&apart| apart == SPACING), "{apart:?}");
        assert_eq!(apart.last(), Some(&SPACING_BEGIN_MAX));
        // After a rest a room fills up as at first.
        let now = 30 * SECOND;
        requests.withdraw();
        for at in [now, now + SPACING] {
            requests.request(Wish::Begin, 0, at);
            assert!(requests.take_due(at));
            requests.receive_key_frame();
        }
    }

    #[test]
    fn nobody_is_asked_for_ever() {
        let mut requests = KeyFrameRequests::default();
        requests.request(Wish::Begin, 0, 0);
        let sent = (0..100).filter(|i| requests.take_due(i * SPACING)).count();
        assert_eq!(sent, usize::from(REPEATS_MAX));
    }
}
