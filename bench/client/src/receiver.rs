//! What a viewer does with one received stream: puts packets in order, checks each payload and the
//! continuity of all numbers, asks for what is missing, and reports. Called by [`crate::session`];
//! sends nothing by itself and reads no clock but through its arguments.

mod order;
mod stats;

use std::collections::BTreeMap;

use rtcp::{
    reception_report::ReceptionReport,
    sender_report::SenderReport,
    transport_feedbacks::transport_layer_nack::{
        TransportLayerNack, nack_pairs_from_sequence_numbers,
    },
};
use rtp::packet::Packet;

use crate::{
    clock,
    peer::{RtcpPacket, RtpArrival},
    rtx,
    sequence::{Arrival, SequenceTracker},
};
pub use order::Continuity;
use order::Order;
pub use stats::{ReceiveStats, Switch};

/// A packet that is only late is not asked for at once.
const NACK_DELAY_NS: u64 = 10_000_000;
/// Between two requests for the same packet.
const NACK_INTERVAL_NS: u64 = 60_000_000;
const NACK_TRIES_MAX: u8 = 10;
const MISSING_MAX: usize = 1_000;

/// What is received.
#[derive(Debug, Clone)]
pub struct ReceiveOptions {
    /// Of the stream.
    pub ssrc: u32,
    /// Of its retransmissions.
    pub rtx_ssrc: Option<u32>,
    /// On the wire.
    pub payload_type: u8,
    /// RTP clock.
    pub clock_hz: u32,
    /// Asks for lost packets.
    pub nack: bool,
    /// Its descriptors are those of VP8 and must be continuous.
    pub vp8: bool,
}

#[derive(Debug)]
struct Missing {
    since_ns: u64,
    asked_ns: Option<u64>,
    tries: u8,
}

#[derive(Debug, Clone, Copy)]
struct LastReport {
    ntp: u64,
    rtp_time: u32,
    at_ns: u64,
}

/// The state of one received stream.
pub struct ReceiveStream {
    options: ReceiveOptions,
    tracker: Option<SequenceTracker>,
    missing: BTreeMap<u64, Missing>,
    order: Order,
    stats: ReceiveStats,
    last_report: Option<LastReport>,
    transit: Option<i64>,
    jitter: f64,
    reported: (u64, u64),
}

impl ReceiveStream {
    /// Nothing has arrived yet.
    #[must_use]
    pub fn new(options: ReceiveOptions) -> Self {
        let order = Order::new(options.vp8);
        Self {
            options,
            tracker: None,
            missing: BTreeMap::new(),
            order,
            stats: ReceiveStats::default(),
            last_report: None,
            transit: None,
            jitter: 0.0,
            reported: (0, 0),
        }
    }

    /// What it is.
    #[must_use]
    pub fn options(&self) -> &ReceiveOptions {
        &self.options
    }

    /// Figures up to now.
    #[must_use]
    pub fn stats(&self) -> ReceiveStats {
        let mut stats = self.stats.clone();
        if let Some(tracker) = &self.tracker {
            stats.packets = tracker.packets;
            stats.duplicates = tracker.duplicates;
            stats.reordered = tracker.reordered;
            stats.lost = tracker.lost();
            stats.highest_sequence = tracker.highest();
        }
        stats.jitter = self.jitter as u32;
        self.order.add_to(&mut stats);
        stats
    }

    /// A packet of the stream itself.
    pub fn receive(&mut self, arrival: &RtpArrival) {
        self.stats.bytes += arrival.raw.len() as u64;
        self.receive_packet(&arrival.packet, arrival.at_ns, false);
    }

    /// A packet of its retransmission stream.
    pub fn receive_rtx(&mut self, arrival: &RtpArrival) {
        self.stats.rtx_packets += 1;
        let original = rtx::unwrap(&arrival.packet, self.options.ssrc, self.options.payload_type);
        match original {
            Some(original) => self.receive_packet(&original, arrival.at_ns, true),
            None => self.stats.rtx_padding += 1,
        }
    }

    fn receive_packet(&mut self, packet: &Packet, at_ns: u64, by_rtx: bool) {
        let sequence = packet.header.sequence_number;
        let (index, what) = match &mut self.tracker {
            Some(tracker) => tracker.receive(sequence),
            None => {
                let (index, tracker) = SequenceTracker::new(sequence);
                self.tracker = Some(tracker);
                (index, Arrival::New(0))
            }
        };
        match what {
            Arrival::New(gap) => self.note_gap(index, gap, at_ns),
            Arrival::Late => {
                if self.missing.remove(&index).is_some_and(|one| one.asked_ns.is_some()) || by_rtx {
                    self.stats.recovered += 1;
                }
            }
            Arrival::Duplicate | Arrival::Ancient => return,
        }
        if !by_rtx {
            self.note_jitter(packet.header.timestamp, at_ns);
        }
        self.order.receive(index, packet, at_ns);
    }

    fn note_gap(&mut self, index: u64, gap: u64, at_ns: u64) {
        for lost in index - gap..index {
            self.missing.insert(lost, Missing { since_ns: at_ns, asked_ns: None, tries: 0 });
        }
        while self.missing.len() > MISSING_MAX {
            self.missing.pop_first();
        }
    }

    /// RFC 3550 appendix A.8.
    fn note_jitter(&mut self, timestamp: u32, at_ns: u64) {
        let arrival =
            (u128::from(at_ns) * u128::from(self.options.clock_hz) / 1_000_000_000) as u32;
        let transit = i64::from(arrival.wrapping_sub(timestamp) as i32);
        if let Some(before) = self.transit.replace(transit) {
            let change = (transit - before).unsigned_abs() as f64;
            self.jitter += (change - self.jitter) / 16.0;
        }
    }

    /// A sender report about this stream.
    pub fn receive_sender_report(&mut self, report: &SenderReport, at_ns: u64) {
        self.stats.sender_reports += 1;
        self.last_report =
            Some(LastReport { ntp: report.ntp_time, rtp_time: report.rtp_time, at_ns });
        // Where the report puts the last frame on the wall clock, against where its stamp does:
        // both clocks are of this machine.
        let Some((timestamp, sent_ns)) = self.order.last_frame_time() else { return };
        let units = timestamp.wrapping_sub(report.rtp_time) as i32;
        let by_report = clock::ntp_seconds(report.ntp_time)
            + f64::from(units) / f64::from(self.options.clock_hz);
        let by_stamp = clock::ntp_seconds(clock::ntp_now())
            - (clock::now_ns().saturating_sub(sent_ns)) as f64 / 1e9;
        let error_ms = (by_report - by_stamp).abs() * 1e3;
        self.stats.report_error_ms = Some(error_ms);
        self.stats.report_error_ms_max = self.stats.report_error_ms_max.max(error_ms);
    }

    /// What is to be asked for now.
    pub fn nack(&mut self, local_ssrc: u32, now_ns: u64) -> Option<RtcpPacket> {
        if !self.options.nack {
            return None;
        }
        self.missing.retain(|_, one| one.tries < NACK_TRIES_MAX);
        let mut wanted = Vec::new();
        for (index, one) in &mut self.missing {
            let due = match one.asked_ns {
                None => now_ns.saturating_sub(one.since_ns) >= NACK_DELAY_NS,
                Some(asked_ns) => now_ns.saturating_sub(asked_ns) >= NACK_INTERVAL_NS,
            };
            if due {
                one.asked_ns = Some(now_ns);
                one.tries += 1;
                wanted.push(*index as u16);
            }
        }
        if wanted.is_empty() {
            return None;
        }
        self.stats.nacks += 1;
        self.stats.nacked_packets += wanted.len() as u64;
        Some(Box::new(TransportLayerNack {
            sender_ssrc: local_ssrc,
            media_ssrc: self.options.ssrc,
            nacks: nack_pairs_from_sequence_numbers(&wanted),
        }))
    }

    /// Goes on without what has been missing for too long.
    pub fn expire(&mut self, now_ns: u64) {
        self.order.expire(now_ns);
    }

    /// The report block of RFC 3550 section 6.4.1; none before the first packet.
    pub fn report(&mut self, now_ns: u64) -> Option<ReceptionReport> {
        let tracker = self.tracker.as_ref()?;
        let (expected, distinct) = (tracker.expected(), tracker.distinct());
        let interval_expected = expected - self.reported.0;
        let interval_lost = interval_expected.saturating_sub(distinct - self.reported.1);
        self.reported = (expected, distinct);
        let fraction = (interval_lost * 256).checked_div(interval_expected).unwrap_or(0);
        let (last_sender_report, delay) = self.last_report.map_or((0, 0), |last| {
            let units = u128::from(now_ns.saturating_sub(last.at_ns)) * 65_536 / 1_000_000_000;
            (clock::ntp_middle(last.ntp), units as u32)
        });
        Some(ReceptionReport {
            ssrc: self.options.ssrc,
            fraction_lost: fraction.min(255) as u8,
            total_lost: tracker.lost().min(0x7F_FFFF) as u32,
            last_sequence_number: tracker.highest() as u32,
            jitter: self.jitter as u32,
            last_sender_report,
            delay,
        })
    }

    /// NTP and RTP time of the last sender report.
    #[must_use]
    pub fn last_sender_report(&self) -> Option<(u64, u32)> {
        self.last_report.map(|last| (last.ntp, last.rtp_time))
    }
}

#[cfg(test)]
mod tests;
