//! When a publisher's packets arrived, and the transport-wide feedback that tells it so
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01). Called for every received packet that has
//! a transport-wide number, and whenever its deadline has come. Owns a ring of arrival times; never
//! estimates anything.
//!
//! ```text
//! number & mask ->  | 812 |  -  | 814 | 815 |  -  | 817 |
//!                     ^ base: reported up to here       ^ next: one above the newest
//! ```

use crate::{
    Arrival, MS, Nanos,
    pace::Pace,
    wire::{
        Full,
        rtcp::CompoundWriter,
        rtp,
        twcc::{Head, REFERENCE_TICKS, TICK_US},
    },
};

/// Longest time that an arrival waits for its report.
pub const INTERVAL: Nanos = 100 * MS;
/// Arrivals kept: 100 ms of 100 Mb/s in full packets.
const CAPACITY: usize = 1_024;
/// And while more wait for their report: all that one turn can bring.
const CAPACITY_MAX: usize = 8_192;
/// With so many numbers unreported the report goes out at once.
const CROWDED: u32 = CAPACITY as u32 / 2;
/// A packet that comes so much later than a reported one is reported again with all since then.
const LATE_MAX: u32 = 128;

/// Numbers that a packet may skip as often as it likes. Each that is skipped is written down as lost.
const SKIPPED: u32 = 256;
/// A longer way, as after an outage, so many times at once, and then once in such a time.
const OUTAGES: u64 = 16;
const OUTAGE_EVERY: Nanos = 100 * MS;

const TICK: Nanos = TICK_US as Nanos * 1_000;

/// Arrivals of one publisher's packets.
#[derive(Debug, Default)]
pub struct TransportFeedback {
    /// Arrival in ticks, plus one; 0: did not arrive. Empty before the first packet.
    ring: Vec<u64>,
    /// First number that the next report is about. Extended, one cycle above zero.
    base: u32,
    next: u32,
    /// The oldest arrival that was not reported yet.
    since: Option<Arrival>,
    feedback_count: u8,
    outages: Option<Pace>,
    ignored: u64,
}

impl TransportFeedback {
    /// A packet with that transport-wide number arrived. Of two arrivals the first one counts. One whose
    /// number is far ahead, as those before it were, is not reported: only who makes numbers up sends it.
    pub fn receive(&mut self, seq: u16, arrival: Arrival) {
        if self.ring.is_empty() {
            self.ring.resize(CAPACITY, 0);
            self.base = 0x1_0000 | u32::from(seq);
            self.next = self.base;
        }
        let seq = rtp::extend(seq, self.next.wrapping_sub(1));
        let ahead = seq.wrapping_sub(self.next).cast_signed();
        if ahead >= 0 {
            if ahead.cast_unsigned() > SKIPPED && !self.may_skip(arrival) {
                self.ignored += 1;
                return;
            }
            self.advance(seq, ahead.cast_unsigned());
        } else if self.arrival(seq).is_some() || !self.reopen(seq) {
            return;
        }
        let slot = self.slot(seq);
        self.ring[slot] = arrival.moment() / TICK + 1;
        self.since.get_or_insert(arrival);
    }

    /// True for what may be a number of this publisher's: one that is still reported, or is soon to come.
    #[must_use]
    pub fn is_near(&self, seq: u16) -> bool {
        if self.ring.is_empty() {
            return true;
        }
        let seq = rtp::extend(seq, self.next.wrapping_sub(1));
        let ahead = seq.wrapping_sub(self.next).cast_signed();
        (-(self.ring.len() as i32)..=SKIPPED as i32).contains(&ahead)
    }

    /// When the newest number came.
    #[must_use]
    pub fn newest_at(&self) -> Option<Nanos> {
        let ticks = self.arrival(self.next.wrapping_sub(1))?;
        Some(Nanos::try_from(ticks).unwrap_or_default() * TICK)
    }

    /// Numbers that are not reported because they jump, since this was asked last.
    pub fn take_ignored(&mut self) -> u64 {
        std::mem::take(&mut self.ignored)
    }

    fn may_skip(&mut self, arrival: Arrival) -> bool {
        let pace = || Pace::new(OUTAGES, OUTAGE_EVERY);
        self.outages.get_or_insert_with(pace).take(arrival)
    }

    /// Makes `seq` the newest number; `skipped` ones before it have not arrived.
    fn advance(&mut self, seq: u32, skipped: u32) {
        let span = seq.wrapping_sub(self.base) as usize + 1;
        if span > self.ring.len() && self.since.is_some() {
            self.resize(span.next_power_of_two().min(CAPACITY_MAX));
        }
        for back in 1..=skipped.min(self.ring.len() as u32 - 1) {
            let slot = self.slot(seq.wrapping_sub(back));
            self.ring[slot] = 0;
        }
        self.next = seq.wrapping_add(1);
        if self.next.wrapping_sub(self.base) as usize > self.ring.len() {
            self.base = self.next.wrapping_sub(self.ring.len() as u32);
        }
    }

    /// Another number of arrivals is kept: the newest of those that are known.
    fn resize(&mut self, capacity: usize) {
        let kept = self.ring.len().min(capacity) as u32;
        let mut ring = vec![0; capacity];
        for back in 1..=kept {
            let seq = self.next.wrapping_sub(back);
            ring[seq as usize & (capacity - 1)] = self.ring[self.slot(seq)];
        }
        self.ring = ring;
    }

    fn slot(&self, seq: u32) -> usize {
        seq as usize & (self.ring.len() - 1)
    }

    /// Lets the next report begin at a late packet; false when it is too late.
    fn reopen(&mut self, seq: u32) -> bool {
        let before_base = self.base.wrapping_sub(seq).cast_signed();
        if before_base > LATE_MAX as i32 || self.next.wrapping_sub(seq) as usize > self.ring.len() {
            return false;
        }
        if before_base > 0 {
            self.base = seq;
        }
        true
    }

    fn arrival(&self, seq: u32) -> Option<i64> {
        let behind = self.next.wrapping_sub(seq) as usize;
        if !(1..=self.ring.len()).contains(&behind) {
            return None;
        }
        self.ring[self.slot(seq)].checked_sub(1).map(|ticks| ticks as i64)
    }

    /// True when there is something to report.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.base != self.next
    }

    /// When the next report is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Nanos> {
        let since = self.since?.moment();
        let crowded = self.next.wrapping_sub(self.base) >= CROWDED;
        Some(if crowded { since } else { since.saturating_add(INTERVAL) })
    }

    /// Appends one feedback message with as many packets as fit. Call it again while
    /// [`Self::is_pending`].
    ///
    /// # Errors
    /// [`Full`]: nothing was written; a buffer of 64 bytes always makes progress.
    pub fn write(
        &mut self,
        compound: &mut CompoundWriter<'_>,
        sender_ssrc: u32,
        media_ssrc: u32,
    ) -> Result<(), Full> {
        let numbers = self.next.wrapping_sub(self.base);
        let arrivals = || (0..numbers).map(|n| self.arrival(self.base.wrapping_add(n)));
        let Some(first) = arrivals().flatten().next() else {
            (self.base, self.since) = (self.next, None);
            return Ok(());
        };
        let reference = first / REFERENCE_TICKS;
        let mut statuses = [None; CAPACITY];
        let (mut len, mut before) = (0, reference * REFERENCE_TICKS);
        for (status, arrival) in statuses.iter_mut().zip(arrivals()) {
            if let Some(ticks) = arrival {
                // What is 8 s apart from its neighbour needs a reference time of its own.
                let Ok(delta) = i16::try_from(ticks - before) else {
                    break;
                };
                (*status, before) = (Some(delta), ticks);
            }
            len += 1;
        }
        let head = Head {
            base_sequence: self.base as u16,
            reference_time: reference as i32,
            feedback_count: self.feedback_count,
        };
        let written =
            compound.transport_feedback(sender_ssrc, media_ssrc, head, &statuses[..len])?;
        self.feedback_count = self.feedback_count.wrapping_add(1);
        self.base = self.base.wrapping_add(written as u32);
        if !self.is_pending() {
            self.since = None;
            if self.ring.len() > CAPACITY {
                self.resize(CAPACITY);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
