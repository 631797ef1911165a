//! When a publisher is asked for a key frame. Owns the throttle per source: many receivers that
//! need one at the same time make one request; it is repeated until a key frame comes.

use crate::{MS, Nanos};

/// Time between two requests that stay unanswered.
const REPEAT: Nanos = 600 * MS;
/// Time from a key frame to the next request: a burst of joins makes a burst of key frames else.
const SPACING: Nanos = 250 * MS;
/// Requests that stay unanswered.
const REPEATS_MAX: u8 = 20;

/// Requests for key frames of one received stream.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeyFrameRequests {
    due: Option<Nanos>,
    sent: u8,
    last_sent: Option<Nanos>,
    last_key_frame: Option<Nanos>,
}

impl KeyFrameRequests {
    /// Somebody needs one; `delay` collects further wishes (`keyFrameRequestDelay`).
    pub fn request(&mut self, delay: Nanos, now: Nanos) {
        if self.due.is_some() {
            return;
        }
        self.sent = 0;
        let earliest = self.last_key_frame.map_or(0, |at| at + SPACING);
        self.due = Some(earliest.max(now + delay));
    }

    /// One came.
    pub fn receive_key_frame(&mut self, now: Nanos) {
        self.last_key_frame = Some(now);
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
        self.sent += 1;
        self.last_sent = Some(now);
        self.due = (self.sent < REPEATS_MAX).then_some(now + REPEAT);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SECOND;

    #[test]
    fn many_wishes_are_one_request_and_it_is_repeated_until_answered() {
        let mut requests = KeyFrameRequests::default();
        for i in 0..50 {
            requests.request(0, SECOND + i);
        }
        assert!(requests.take_due(SECOND));
        assert!(!requests.take_due(SECOND + 10 * MS));
        assert!(requests.take_due(SECOND + REPEAT));
        requests.receive_key_frame(SECOND + REPEAT + MS);
        assert_eq!(requests.deadline(), None);
    }

    #[test]
    fn a_wish_right_after_a_key_frame_waits() {
        let mut requests = KeyFrameRequests::default();
        requests.receive_key_frame(SECOND);
        requests.request(0, SECOND + MS);
        assert!(!requests.take_due(SECOND + 2 * MS));
        assert!(requests.take_due(SECOND + SPACING));
    }

    #[test]
    fn nobody_is_asked_for_ever() {
        let mut requests = KeyFrameRequests::default();
        requests.request(0, 0);
        let sent = (0..100).filter(|i| requests.take_due(i * REPEAT)).count();
        assert_eq!(sent, usize::from(REPEATS_MAX));
    }
}
