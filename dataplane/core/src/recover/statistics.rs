//! What a receiver report says of one received stream: highest number, losses, jitter (RFC 3550
//! section 6.4.1, appendices A.1, A.3, A.8). Called for every packet as it was sent first (a
//! retransmission on its own SSRC is not counted), and once per report. Owns numbers only.

use crate::{Arrival, SECOND, wire::rtcp::ReportBlock};

/// Cumulative losses have 24 bits and a sign.
const LOST_MAX: i64 = 0x7f_ffff;
const LOST_MIN: i64 = -0x80_0000;
/// A transit time that changes by more is a step of somebody's clock, not jitter.
const TRANSIT_STEP_SECONDS_MAX: u32 = 5;

/// Reception of one stream.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReceiverStatistics {
    started: bool,
    base: u32,
    /// Extended: cycles in the upper half.
    highest: u32,
    received: u32,
    late: u64,
    duplicates: u64,
    /// Bit n: number `highest - n` is here.
    recent: u64,
    expected_before: u32,
    received_before: u32,
    transit: u32,
    timestamp: u32,
    /// Jitter times 16, as in appendix A.8.
    jitter: u32,
}

impl ReceiverStatistics {
    /// A packet, with its arrival and the stream's clock in Hz.
    pub fn receive(&mut self, seq: u16, timestamp: u32, arrival: Arrival, clock_rate: u32) {
        self.received = self.received.wrapping_add(1);
        // Nanoseconds in units of the RTP clock; only differences count, so that it may wrap.
        let rate = u64::from(clock_rate);
        let arrival = arrival.moment();
        let clock = (arrival / SECOND).wrapping_mul(rate) + arrival % SECOND * rate / SECOND;
        let transit = (clock as u32).wrapping_sub(timestamp);
        if !self.started {
            self.started = true;
            (self.base, self.highest, self.recent) = (u32::from(seq), u32::from(seq), 1);
            (self.transit, self.timestamp) = (transit, timestamp);
            return;
        }
        let ahead = seq.wrapping_sub(self.highest as u16);
        if !(1..0x8000).contains(&ahead) {
            self.receive_old(u32::from(ahead.wrapping_neg()));
            return;
        }
        self.highest = self.highest.wrapping_add(u32::from(ahead));
        self.recent = self.recent.checked_shl(u32::from(ahead)).unwrap_or(0) | 1;
        // The packets of one frame share a timestamp and are paced: their distances say nothing
        // about the network.
        if timestamp != self.timestamp {
            self.update_jitter(transit, clock_rate);
            (self.transit, self.timestamp) = (transit, timestamp);
        }
    }

    fn receive_old(&mut self, behind: u32) {
        let bit = 1u64.checked_shl(behind).unwrap_or(0);
        if self.recent & bit != 0 {
            self.duplicates += 1;
        } else {
            self.late += 1;
            self.recent |= bit;
        }
    }

    /// Appendix A.8: a running mean over 16 differences of transit times.
    fn update_jitter(&mut self, transit: u32, clock_rate: u32) {
        let step = transit.wrapping_sub(self.transit).cast_signed().unsigned_abs();
        if step <= clock_rate.saturating_mul(TRANSIT_STEP_SECONDS_MAX) {
            let decay = self.jitter.saturating_add(8) >> 4;
            self.jitter = self.jitter.saturating_sub(decay).saturating_add(step);
        }
    }

    /// Packets that should have come, duplicates not counted.
    #[must_use]
    pub fn expected(&self) -> u32 {
        if !self.started {
            return 0;
        }
        self.highest.wrapping_sub(self.base).wrapping_add(1)
    }

    /// Packets that came, duplicates included (appendix A.3).
    #[must_use]
    pub fn received(&self) -> u32 {
        self.received
    }

    /// Packets that did not come; negative when duplicates did.
    #[must_use]
    pub fn lost(&self) -> i64 {
        i64::from(self.expected()) - i64::from(self.received)
    }

    /// The highest number, with cycles in its upper half.
    #[must_use]
    pub fn highest(&self) -> u32 {
        self.highest
    }

    /// In the stream's clock.
    #[must_use]
    pub fn jitter(&self) -> u32 {
        self.jitter >> 4
    }

    /// Packets that came after a later one.
    #[must_use]
    pub fn late(&self) -> u64 {
        self.late
    }

    /// Packets that came twice (among the last 64).
    #[must_use]
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// A report block; its fraction is about the time since the last one. `last_sender_report` and
    /// `delay` come from the stream's sender report (0 and 0 without one).
    pub fn report(&mut self, ssrc: u32, last_sender_report: u32, delay: u32) -> ReportBlock {
        let expected = self.expected().wrapping_sub(self.expected_before);
        let received = self.received.wrapping_sub(self.received_before);
        (self.expected_before, self.received_before) = (self.expected(), self.received);
        let lost = i64::from(expected) - i64::from(received);
        let fraction = if expected == 0 || lost <= 0 {
            0
        } else {
            ((lost << 8) / i64::from(expected)).min(255)
        };
        ReportBlock {
            ssrc,
            fraction_lost: fraction as u8,
            cumulative_lost: self.lost().clamp(LOST_MIN, LOST_MAX) as i32,
            highest_sequence: self.highest,
            jitter: self.jitter(),
            last_sender_report,
            delay,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{MS, Nanos};

    #[test]
    fn losses_since_the_last_report_and_in_all() {
        let mut statistics = ReceiverStatistics::default();
        assert_eq!(statistics.report(1, 0, 0), ReportBlock { ssrc: 1, ..Default::default() });
        for seq in (65_530..=65_535).chain(0..6) {
            if seq % 4 != 0 {
                statistics.receive(seq, 0, Arrival::at(0), 90_000);
            }
        }
        // 65,532, 0 and 4 did not come.
        let report = statistics.report(9, 7, 8);
        assert_eq!((report.cumulative_lost, report.fraction_lost), (3, (3 * 256 / 12) as u8));
        assert_eq!((report.highest_sequence, report.ssrc), (0x1_0005, 9));
        assert_eq!((report.last_sender_report, report.delay), (7, 8));
        statistics.receive(4, 0, Arrival::at(0), 90_000);
        statistics.receive(6, 0, Arrival::at(0), 90_000);
        let report = statistics.report(9, 7, 8);
        assert_eq!((report.cumulative_lost, report.fraction_lost), (2, 0));
        assert_eq!((statistics.late(), statistics.duplicates()), (1, 0));
        for _ in 0..3 {
            statistics.receive(6, 0, Arrival::at(0), 90_000);
        }
        assert_eq!((statistics.lost(), statistics.duplicates()), (-1, 3));
        assert_eq!(statistics.report(9, 0, 0).cumulative_lost, -1);
    }

    #[test]
    fn jitter_follows_the_arrivals() {
        let mut steady = ReceiverStatistics::default();
        let mut shaken = ReceiverStatistics::default();
        for n in 0..500u32 {
            let arrival = SECOND + Nanos::from(n) * 20 * MS;
            steady.receive(n as u16, n * 960, Arrival::at(arrival), 48_000);
            let late = Nanos::from(n % 2) * 5 * MS;
            shaken.receive(n as u16, n * 960, Arrival::at(arrival + late), 48_000);
        }
        assert_eq!(steady.jitter(), 0);
        // Each transit differs by 5 ms from the one before: 240 units of the clock.
        assert!((225..=240).contains(&shaken.jitter()), "{}", shaken.jitter());
    }

    #[test]
    fn a_step_of_the_clock_is_not_jitter() {
        let mut statistics = ReceiverStatistics::default();
        statistics.receive(1, 0, Arrival::at(0), 90_000);
        statistics.receive(2, 3_000_000_000, Arrival::at(33 * MS), 90_000);
        assert_eq!(statistics.jitter(), 0);
    }

    proptest! {
        #[test]
        fn arbitrary_input_never_panics(
            packets in prop::collection::vec((any::<u16>(), any::<u32>(), any::<u64>()), 0..100),
            clock_rate in any::<u32>(),
        ) {
            let mut statistics = ReceiverStatistics::default();
            for (seq, timestamp, arrival) in packets {
                statistics.receive(seq, timestamp, Arrival::at(arrival), clock_rate);
            }
            let report = statistics.report(0, 0, 0);
            prop_assert!((LOST_MIN..=LOST_MAX).contains(&i64::from(report.cumulative_lost)));
        }
    }
}
