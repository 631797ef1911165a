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
        Self {
            newest: None,
            seen: [0; WORDS],
        }
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
        let index = newest
            .checked_add_signed(distance)
            .ok_or(Discard::SrtpReplayed)?;
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
        let index = self
            .newest
            .checked_add_signed(distance)
            .filter(|&i| i <= INDEX_MAX)?;
        self.newest = self.newest.max(index);
        Some(index)
    }
}
