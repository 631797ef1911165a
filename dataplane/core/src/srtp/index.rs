//! Packet indices: how 16 bits of sequence number become 48 (RFC 3711 section 3.3.1), on both
//! sides, and which indices have been received already (section 3.3.2). Plain numbers, no key; the
//! receiving side changes nothing before a packet's tag was verified.

use crate::Discard;

/// Packets remembered behind the newest one: several frames of video that arrive in disorder.
const WINDOW: u64 = 1024;
const WORDS: usize = (WINDOW / 64) as usize;
/// Largest packet index; at the end the key is used up.
const INDEX_MAX: u64 = (1 << 48) - 1;

/// Which of the newest indices came already: for one received SSRC, of RTP or of RTCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayWindow {
    newest: Option<u64>,
    /// Bit `i` of the ring belongs to the index that is `i` modulo [`WINDOW`].
    seen: [u64; WORDS],
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self { newest: None, seen: [0; WORDS] }
    }
}

impl ReplayWindow {
    /// The newest index that was committed.
    #[must_use]
    pub fn newest(&self) -> Option<u64> {
        self.newest
    }

    /// Refuses what came already, and what is too old to know.
    pub fn check(&self, index: u64) -> Result<(), Discard> {
        match self.newest {
            Some(newest) if index <= newest => {
                let (word, bit) = place(index);
                if newest - index >= WINDOW || self.seen[word] & bit != 0 {
                    return Err(Discard::SrtpReplayed);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Remembers an index whose packet was verified. One that is too old changes nothing.
    pub fn commit(&mut self, index: u64) {
        match self.newest {
            Some(newest) if index <= newest => {
                if newest - index >= WINDOW {
                    return;
                }
            }
            Some(newest) => {
                self.forget(newest, index);
                self.newest = Some(index);
            }
            None => self.newest = Some(index),
        }
        let (word, bit) = place(index);
        self.seen[word] |= bit;
    }

    /// Frees the places of `newest + 1 ..= index`.
    fn forget(&mut self, newest: u64, index: u64) {
        if index - newest >= WINDOW {
            self.seen = [0; WORDS];
            return;
        }
        for index in newest + 1..=index {
            let (word, bit) = place(index);
            self.seen[word] &= !bit;
        }
    }
}

fn place(index: u64) -> (usize, u64) {
    ((index % WINDOW / 64) as usize, 1 << (index % 64))
}

/// The index of one received SSRC. For an SSRC that is new, take a fresh one and keep it only
/// after the packet's tag was right: whoever can send us a datagram must not fill a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamIndex {
    window: ReplayWindow,
}

impl StreamIndex {
    /// The most likely index of a packet with that sequence number (RFC 3711 section 3.3.1 and
    /// appendix A), unless it came already or is too old. Changes nothing.
    pub fn estimate(&self, seq: u16) -> Result<u64, Discard> {
        let Some(newest) = self.window.newest() else {
            return Ok(u64::from(seq));
        };
        // The distance to the newest one, taken to be within half of the number space.
        let distance = i64::from(seq.wrapping_sub(newest as u16) as i16);
        let index = newest.checked_add_signed(distance).ok_or(Discard::SrtpReplayed)?;
        if index > INDEX_MAX {
            return Err(Discard::SrtpReplayed);
        }
        self.window.check(index)?;
        Ok(index)
    }

    /// Remembers an index that [`Self::estimate`] gave and whose tag was right.
    pub fn commit(&mut self, index: u64) {
        self.window.commit(index);
    }

    /// The newest index that was committed.
    #[must_use]
    pub fn newest(&self) -> Option<u64> {
        self.window.newest()
    }
}

/// The index of one sent SSRC, from the extended sequence number of its timeline. The first number
/// must be below 2^16, and better below 2^15, so that a receiver that misses the first packets
/// still begins with rollover counter 0. An extended number of 32 bits wraps after 2^32 packets,
/// an index must not: that is all this type is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SendIndex {
    newest: u64,
}

impl SendIndex {
    /// The index of the packet with this number: a new one, or one that was sent before (a repeat
    /// must have the same bytes). `None` when the key is used up, or for a number that is older
    /// than the first.
    pub fn index(&mut self, extended_seq: u32) -> Option<u64> {
        let distance = i64::from(extended_seq.wrapping_sub(self.newest as u32) as i32);
        let index = self.newest.checked_add_signed(distance).filter(|&i| i <= INDEX_MAX)?;
        self.newest = self.newest.max(index);
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn doubles_and_old_ones_are_refused_before_and_after_a_rollover() {
        let mut stream = StreamIndex::default();
        for index in 65_000..66_000 {
            assert_eq!(stream.estimate(index as u16), Ok(index));
            stream.commit(index);
            assert_eq!(stream.estimate(index as u16), Err(Discard::SrtpReplayed));
        }
        assert_eq!(stream.estimate(64_999), Ok(64_999));
        assert_eq!(stream.estimate((65_999 - WINDOW) as u16), Err(Discard::SrtpReplayed));
    }

    #[test]
    fn a_number_before_the_first_rollover_counter_is_refused() {
        let mut stream = StreamIndex::default();
        stream.commit(3);
        assert_eq!(stream.estimate(65_535), Err(Discard::SrtpReplayed));
        stream = StreamIndex::default();
        stream.commit(INDEX_MAX);
        assert_eq!(stream.estimate(0), Err(Discard::SrtpReplayed));
    }

    #[test]
    fn a_sent_index_goes_on_where_32_bits_end() {
        let mut sent = SendIndex::default();
        assert_eq!(sent.index(7), Some(7));
        let mut expected = 7u64;
        for _ in 0..10 {
            expected += 1 << 30;
            assert_eq!(sent.index(expected as u32), Some(expected));
        }
        assert_eq!(sent.index((expected - 5) as u32), Some(expected - 5));
        assert_eq!(SendIndex::default().index(u32::MAX), None);
        let mut last = SendIndex { newest: INDEX_MAX };
        assert_eq!((last.index(u32::MAX), last.index(0)), (Some(INDEX_MAX), None));
    }

    proptest! {
        /// Whatever is lost, late or doubled: the estimate is the true index, every packet within
        /// the window is taken, and none is taken twice.
        #[test]
        fn estimates_are_true(
            first in 0u64..0x8000,
            steps in prop::collection::vec((0u64..3_000, 0u64..1_500), 1..400),
        ) {
            let mut stream = StreamIndex::default();
            let mut taken = BTreeSet::new();
            let mut newest = first;
            stream.commit(first);
            taken.insert(first);
            for (ahead, behind) in steps {
                newest += ahead;
                for index in [newest, newest.saturating_sub(behind)] {
                    let expected = !taken.contains(&index)
                        && stream.newest().unwrap().saturating_sub(index) < WINDOW;
                    match stream.estimate(index as u16) {
                        Ok(estimate) => {
                            prop_assert!(expected);
                            prop_assert_eq!(estimate, index);
                            stream.commit(index);
                            taken.insert(index);
                        }
                        Err(_) => prop_assert!(!expected, "index {} refused", index),
                    }
                }
            }
        }

        /// The window agrees with a set.
        #[test]
        fn the_window_is_a_set(indices in prop::collection::vec(0u64..5_000, 1..300)) {
            let mut window = ReplayWindow::default();
            let mut seen = BTreeSet::new();
            for index in indices {
                let newest = seen.last().copied().unwrap_or(0u64);
                let fresh = !seen.contains(&index) && newest.saturating_sub(index) < WINDOW;
                prop_assert_eq!(window.check(index).is_ok(), fresh);
                window.commit(index);
                seen.insert(index);
            }
        }
    }
}
