//! Indices of received packets: how 16 bits of sequence number become 48 (RFC 3711 section 3.3.1),
//! and which came already (section 3.3.2). No key; nothing changes before a packet's tag was verified.

use crate::{Discard, numbers::PacketIndex};

/// Packets remembered behind the newest one: several frames of video that arrive in disorder.
const WINDOW: u64 = 1024;
const WORDS: usize = (WINDOW / 64) as usize;

/// Which of the newest indices of one received SSRC came already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayWindow {
    newest: Option<PacketIndex>,
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
    pub fn newest(&self) -> Option<PacketIndex> {
        self.newest
    }

    /// Refuses what came already, and what is too old to know.
    pub fn check(&self, index: PacketIndex) -> Result<(), Discard> {
        match self.newest {
            Some(newest) if index <= newest => {
                let (word, bit) = place(index);
                if newest.0 - index.0 >= WINDOW || self.seen[word] & bit != 0 {
                    return Err(Discard::SrtpReplayed);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Remembers an index whose packet was verified. One that is too old changes nothing.
    pub fn commit(&mut self, index: PacketIndex) {
        match self.newest {
            Some(newest) if index <= newest => {
                if newest.0 - index.0 >= WINDOW {
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
    fn forget(&mut self, newest: PacketIndex, index: PacketIndex) {
        if index.0 - newest.0 >= WINDOW {
            self.seen = [0; WORDS];
            return;
        }
        for index in newest.0 + 1..=index.0 {
            let (word, bit) = place(PacketIndex(index));
            self.seen[word] &= !bit;
        }
    }
}

fn place(index: PacketIndex) -> (usize, u64) {
    ((index.0 % WINDOW / 64) as usize, 1 << (index.0 % 64))
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
    pub fn estimate(&self, seq: u16) -> Result<PacketIndex, Discard> {
        let Some(newest) = self.window.newest() else {
            return Ok(PacketIndex(seq.into()));
        };
        // The distance to the newest one, taken to be within half of the number space.
        let distance = i64::from(seq.wrapping_sub(newest.0 as u16) as i16);
        let index = newest.0.checked_add_signed(distance).map(PacketIndex);
        let index = index.ok_or(Discard::SrtpReplayed)?;
        if index > PacketIndex::MAX {
            return Err(Discard::SrtpReplayed);
        }
        self.window.check(index)?;
        Ok(index)
    }

    /// Remembers an index that [`Self::estimate`] gave and whose tag was right.
    pub fn commit(&mut self, index: PacketIndex) {
        self.window.commit(index);
    }

    /// The newest index that was committed.
    #[must_use]
    pub fn newest(&self) -> Option<PacketIndex> {
        self.window.newest()
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
            assert_eq!(stream.estimate(index as u16), Ok(PacketIndex(index)));
            stream.commit(PacketIndex(index));
            assert_eq!(stream.estimate(index as u16), Err(Discard::SrtpReplayed));
        }
        assert_eq!(stream.estimate(64_999), Ok(PacketIndex(64_999)));
        assert_eq!(stream.estimate((65_999 - WINDOW) as u16), Err(Discard::SrtpReplayed));
    }

    #[test]
    fn a_number_before_the_first_rollover_counter_is_refused() {
        let mut stream = StreamIndex::default();
        stream.commit(PacketIndex(3));
        assert_eq!(stream.estimate(65_535), Err(Discard::SrtpReplayed));
        stream = StreamIndex::default();
        stream.commit(PacketIndex::MAX);
        assert_eq!(stream.estimate(0), Err(Discard::SrtpReplayed));
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
            stream.commit(PacketIndex(first));
            taken.insert(first);
            for (ahead, behind) in steps {
                newest += ahead;
                for index in [newest, newest.saturating_sub(behind)] {
                    let expected = !taken.contains(&index)
                        && stream.newest().unwrap().0.saturating_sub(index) < WINDOW;
                    match stream.estimate(index as u16) {
                        Ok(estimate) => {
                            prop_assert!(expected);
                            prop_assert_eq!(estimate, PacketIndex(index));
                            stream.commit(estimate);
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
                prop_assert_eq!(window.check(PacketIndex(index)).is_ok(), fresh);
                window.commit(PacketIndex(index));
                seen.insert(index);
            }
        }
    }
}
