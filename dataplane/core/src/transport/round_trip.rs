//! The round trip to a publisher, who only sends: we say our time (RFC 3611 section 4.4), it answers
//! with that time and how long ago it came (section 4.5). Browsers answer whether it was negotiated or
//! not. Owns the times that were said; what was not said is not believed.

use crate::{Nanos, wire::rtcp};

/// An answer comes with the publisher's next report: of audio alone every five seconds.
const SAID: usize = 8;

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct RoundTrip {
    /// Middle 32 bits of NTP times, the newest first.
    said: [u32; SAID],
    rtt: Option<Nanos>,
}

impl RoundTrip {
    /// This time is said now.
    pub(crate) fn say(&mut self, ntp: u64) {
        self.said.rotate_right(1);
        self.said[0] = rtcp::ntp_middle(ntp);
    }

    /// An answer, at that NTP time.
    pub(crate) fn receive(&mut self, last_reference_time: u32, delay: u32, ntp: u64) {
        if last_reference_time == 0 || !self.said.contains(&last_reference_time) {
            return;
        }
        if let Some(rtt) = rtcp::round_trip(rtcp::ntp_middle(ntp), last_reference_time, delay) {
            self.rtt = Some(self.rtt.map_or(rtt, |before| before - before / 4 + rtt / 4));
        }
    }

    /// As far as known.
    pub(crate) fn rtt(&self) -> Option<Nanos> {
        self.rtt
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MS, SECOND};

    #[test]
    fn only_what_was_said_is_answered() {
        let mut trip = RoundTrip::default();
        let at = |now: Nanos| rtcp::ntp_from_unix(1_790_000_000 * SECOND + now);
        let middle = |now| rtcp::ntp_middle(at(now));
        for second in 0..3 {
            trip.say(at(second * SECOND));
        }
        let delay = rtcp::short_from_nanos(SECOND);
        trip.receive(middle(SECOND + 1_000 * MS / 3), delay, at(3 * SECOND));
        trip.receive(0, 0, at(3 * SECOND));
        assert_eq!(trip.rtt(), None);
        trip.receive(middle(SECOND), delay, at(2 * SECOND + 80 * MS));
        assert!(trip.rtt().unwrap().abs_diff(80 * MS) < MS);
        // From the future, or of another day.
        trip.receive(middle(2 * SECOND), delay, at(2 * SECOND));
        trip.receive(middle(2 * SECOND), 0, at(90 * SECOND));
        assert!(trip.rtt().unwrap().abs_diff(80 * MS) < MS);
        for _ in 0..30 {
            trip.receive(middle(2 * SECOND), 0, at(2 * SECOND + 200 * MS));
        }
        assert!(trip.rtt().unwrap().abs_diff(200 * MS) < MS);
    }
}
