//! Which packets of one received stream are missing, and when to ask the publisher for them
//! (RFC 4585 section 6.2.1). Called for every received packet and whenever its deadline has come.
//! Owns a bounded list of numbers; never holds packets, and never asks for ever: it gives up on a
//! packet after [`TRIES_MAX`] requests or [`AGE_MAX`], and on all of them, for a key frame, when
//! more are missing than the list may hold.
//!
//! ```text
//! received   10 11 .. .. 14 15        17 arrives: 16 joins      12 arrives: it leaves
//! missing          12 13              12 13 16                  13 16
//! ```

use std::collections::VecDeque;

use crate::{Arrival, MS, Nanos, SECOND, numbers::SourceSeq};

/// Numbers that may be missing at one time.
pub const MISSING_MAX: usize = 1_000;
/// How often one packet is asked for.
pub const TRIES_MAX: u8 = 10;
/// How long one packet is asked for.
pub const AGE_MAX: Nanos = SECOND;
/// Shortest time between two requests for one packet: an answer takes a round trip.
pub const RETRY_MIN: Nanos = 40 * MS;

#[derive(Debug, Clone, Copy)]
struct Missing {
    seq: SourceSeq,
    since: Arrival,
    next_at: Nanos,
    tries: u8,
}

/// Missing packets of one stream. Numbers are extended and must not wrap.
#[derive(Debug, Default)]
pub struct NackGenerator {
    /// Ascending.
    missing: VecDeque<Missing>,
    highest: Option<SourceSeq>,
    key_frame: Option<SourceSeq>,
    reorder_delay: Nanos,
    wants_key_frame: bool,
    /// Packets not asked for any more; see [`Self::take_given_up`].
    given_up: u64,
    /// Not later than the earliest `next_at`; too early is harmless.
    next_at: Option<Nanos>,
}

impl NackGenerator {
    /// Waits that long before the first request, in case the packet was only overtaken. The
    /// default asks at once: a needless retransmission costs less than a late one.
    #[must_use]
    pub fn new(reorder_delay: Nanos) -> Self {
        Self { reorder_delay, ..Self::default() }
    }

    /// A packet is here, as it was sent or by a retransmission. True when it was missing.
    pub fn receive(
        &mut self,
        seq: SourceSeq,
        key_frame: bool,
        recovered: bool,
        arrival: Arrival,
    ) -> bool {
        if key_frame && self.key_frame.is_none_or(|before| seq > before) {
            self.key_frame = Some(seq);
        }
        let Some(highest) = self.highest else {
            // A retransmission tells nothing about where the stream is now.
            if !recovered {
                self.highest = Some(seq);
            }
            return false;
        };
        if seq <= highest {
            return self.remove(seq);
        }
        // A publisher probes with repeats of packets that are still on their way.
        if recovered {
            return false;
        }
        self.highest = Some(seq);
        self.insert(highest.0 + 1, seq.0, arrival);
        false
    }

    fn remove(&mut self, seq: SourceSeq) -> bool {
        let Ok(index) = self.missing.binary_search_by_key(&seq, |m| m.seq) else {
            return false;
        };
        self.missing.remove(index);
        if self.missing.is_empty() {
            self.next_at = None;
        }
        true
    }

    /// All from `first` up to before `end` are missing.
    fn insert(&mut self, first: u32, end: u32, arrival: Arrival) {
        let gap = (end - first) as usize;
        if gap == 0 {
            return;
        }
        if self.missing.len() + gap > MISSING_MAX {
            self.forget_before_key_frame();
        }
        let first = match self.key_frame {
            // The packet that ends the gap begins a key frame: nobody needs what was before it.
            Some(key_frame) if key_frame.0 == end && gap > MISSING_MAX => end,
            _ => first,
        };
        if self.missing.len() + (end - first) as usize > MISSING_MAX {
            self.given_up += (self.missing.len() + gap) as u64;
            self.missing.clear();
            self.next_at = None;
            self.wants_key_frame = true;
            return;
        }
        let next_at = arrival + self.reorder_delay;
        let missing = |seq| Missing { seq: SourceSeq(seq), since: arrival, next_at, tries: 0 };
        self.missing.extend((first..end).map(missing));
        if first < end {
            self.next_at = Some(self.next_at.map_or(next_at, |before| before.min(next_at)));
        }
    }

    /// Stops asking for what is older than the newest key frame. Happens by itself when the list
    /// is full; before that, older packets still make the picture smooth up to the key frame.
    pub fn forget_before_key_frame(&mut self) {
        let Some(key_frame) = self.key_frame else {
            return;
        };
        let old = self.missing.partition_point(|m| m.seq < key_frame);
        self.missing.drain(..old);
        if self.missing.is_empty() {
            self.next_at = None;
        }
    }

    /// Appends the numbers that are to be asked for now, ascending, and counts the request.
    /// `rtt` is the round trip to the publisher, 0 if unknown.
    pub fn due(&mut self, now: Nanos, rtt: Nanos, sequences: &mut Vec<u16>) {
        if self.next_at.is_none_or(|at| now < at) {
            return;
        }
        let before = self.missing.len();
        self.missing
            .retain(|m| m.next_at > now || m.tries < TRIES_MAX && m.since.age(now) < AGE_MAX);
        self.given_up += (before - self.missing.len()) as u64;
        for missing in self.missing.iter_mut().filter(|m| m.next_at <= now) {
            missing.tries += 1;
            missing.next_at = now + rtt.max(RETRY_MIN);
            sequences.push(missing.seq.0 as u16);
        }
        self.next_at = self.missing.iter().map(|m| m.next_at).min();
    }

    /// When [`Self::due`] may have something; `None` when nothing is missing.
    #[must_use]
    pub fn deadline(&self) -> Option<Nanos> {
        self.next_at
    }

    /// True once after so much was lost that only a key frame helps.
    pub fn take_key_frame_request(&mut self) -> bool {
        std::mem::take(&mut self.wants_key_frame)
    }

    /// Packets missing now.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.missing.len()
    }

    /// True while that packet is being asked for.
    #[must_use]
    pub fn is_missing(&self, seq: SourceSeq) -> bool {
        self.missing.binary_search_by_key(&seq, |m| m.seq).is_ok()
    }

    /// Packets that are not asked for any more, since this was asked last.
    pub fn take_given_up(&mut self) -> u64 {
        std::mem::take(&mut self.given_up)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn due(nack: &mut NackGenerator, now: Nanos, rtt: Nanos) -> Vec<u16> {
        let mut list = Vec::new();
        nack.due(now, rtt, &mut list);
        list
    }

    #[test]
    fn a_gap_is_asked_for_at_once_and_again_after_a_round_trip() {
        let mut nack = NackGenerator::default();
        for seq in [70_000, 70_001, 70_004] {
            assert!(!nack.receive(SourceSeq(seq), false, false, Arrival::at(0)));
        }
        assert_eq!(nack.deadline(), Some(0));
        assert_eq!(due(&mut nack, 0, 0), [4_466, 4_467]);
        assert_eq!(nack.deadline(), Some(RETRY_MIN));
        assert!(due(&mut nack, RETRY_MIN - 1, 0).is_empty());
        assert!(nack.receive(SourceSeq(70_002), false, true, Arrival::at(20 * MS)));
        assert!(!nack.receive(SourceSeq(70_002), false, true, Arrival::at(20 * MS)));
        assert_eq!(due(&mut nack, RETRY_MIN, 90 * MS), [4_467]);
        assert_eq!(nack.deadline(), Some(RETRY_MIN + 90 * MS));
        assert!(nack.receive(SourceSeq(70_003), false, false, Arrival::at(50 * MS)));
        assert_eq!((nack.deadline(), nack.missing()), (None, 0));
    }

    /// Browsers probe with repeats at the start of a layer, and these overtake what they repeat.
    #[test]
    fn a_repeat_that_overtakes_its_packet_makes_no_request() {
        let mut nack = NackGenerator::default();
        nack.receive(SourceSeq(1), false, false, Arrival::at(0));
        nack.receive(SourceSeq(4), false, true, Arrival::at(0));
        assert_eq!((nack.missing(), nack.deadline()), (0, None));
        nack.receive(SourceSeq(2), false, false, Arrival::at(0));
        assert_eq!(nack.missing(), 0);
    }

    #[test]
    fn a_reordered_packet_is_not_asked_for_within_the_delay() {
        let mut nack = NackGenerator::new(10 * MS);
        nack.receive(SourceSeq(1), false, false, Arrival::at(0));
        nack.receive(SourceSeq(3), false, false, Arrival::at(0));
        assert!(due(&mut nack, 9 * MS, 0).is_empty());
        assert!(nack.receive(SourceSeq(2), false, false, Arrival::at(9 * MS)));
        assert!(due(&mut nack, 10 * MS, 0).is_empty());
    }

    #[test]
    fn it_gives_up_after_some_tries_and_after_some_time() {
        for (rtt, tries) in [(0, usize::from(TRIES_MAX)), (300 * MS, 4)] {
            let mut nack = NackGenerator::default();
            nack.receive(SourceSeq(1), false, false, Arrival::at(0));
            nack.receive(SourceSeq(3), false, false, Arrival::at(0));
            let mut asked = 0;
            while let Some(at) = nack.deadline() {
                asked += due(&mut nack, at, rtt).len();
            }
            assert_eq!((asked, nack.take_given_up(), nack.missing()), (tries, 1, 0));
            assert!(!nack.take_key_frame_request());
        }
    }

    #[test]
    fn a_full_list_asks_for_a_key_frame_instead() {
        let mut nack = NackGenerator::default();
        nack.receive(SourceSeq(1), true, false, Arrival::at(0));
        nack.receive(SourceSeq(2 + MISSING_MAX as u32), false, false, Arrival::at(0));
        assert_eq!((nack.missing(), nack.take_key_frame_request()), (MISSING_MAX, false));
        nack.receive(SourceSeq(4 + MISSING_MAX as u32), false, false, Arrival::at(0));
        assert_eq!((nack.missing(), nack.deadline()), (0, None));
        assert!(nack.take_key_frame_request() && !nack.take_key_frame_request());
    }

    #[test]
    fn what_precedes_a_key_frame_makes_room() {
        let mut nack = NackGenerator::default();
        nack.receive(SourceSeq(1), false, false, Arrival::at(0));
        nack.receive(SourceSeq(900), false, false, Arrival::at(0));
        nack.receive(SourceSeq(1_000), true, false, Arrival::at(0));
        nack.receive(SourceSeq(1_201), false, false, Arrival::at(0));
        assert_eq!((nack.missing(), nack.take_key_frame_request()), (200, false));
        assert!(nack.is_missing(SourceSeq(1_001)) && !nack.is_missing(SourceSeq(999)));
        nack.receive(SourceSeq(50_000), true, false, Arrival::at(0));
        assert_eq!((nack.missing(), nack.take_key_frame_request()), (0, false));
    }

    proptest! {
        /// Whatever comes in whatever order: missing is exactly what did not come since the first
        /// packet, as long as nothing was given up.
        #[test]
        fn the_list_is_what_did_not_come(
            steps in prop::collection::vec((0u32..900, any::<bool>()), 1..200)
        ) {
            let mut nack = NackGenerator::default();
            let mut here = BTreeSet::new();
            let first = steps[0].0 + 10;
            for (seq, recovered) in steps {
                let seq = seq + 10;
                let known = here.first().is_some();
                let was_missing =
                    known && seq > first && !here.contains(&seq) && here.last() > Some(&seq);
                let recovered = recovered && known;
                prop_assert_eq!(nack.receive(SourceSeq(seq), false, recovered, Arrival::at(0)), was_missing);
                // A repeat of what is still on its way says nothing about where the stream is.
                if !recovered || here.last() >= Some(&seq) {
                    here.insert(seq);
                }
                let highest = *here.last().unwrap();
                let missing = (first..highest).filter(|seq| !here.contains(seq));
                prop_assert_eq!(nack.missing(), missing.clone().count());
                let list = due(&mut nack, 0, 0);
                prop_assert!(list.is_sorted());
                prop_assert!(missing.clone().all(|seq| nack.is_missing(SourceSeq(seq))));
            }
        }

        #[test]
        fn it_always_ends(seqs in prop::collection::vec(0u32..3_000, 1..50)) {
            let mut nack = NackGenerator::default();
            for (now, seq) in seqs.into_iter().enumerate() {
                nack.receive(SourceSeq(seq), false, false, Arrival::at(now as Nanos));
                prop_assert!(nack.missing() <= MISSING_MAX);
            }
            let mut turns = 0;
            while let Some(at) = nack.deadline() {
                due(&mut nack, at, 0);
                turns += 1;
                prop_assert!(turns < 1_000);
            }
            prop_assert_eq!(nack.missing(), 0);
        }
    }
}
