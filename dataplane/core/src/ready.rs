//! Which transports have something to send, and who is next. The output of a large room takes longer
//! than a packet of another room may wait: the caller interrupts it after some portions, and newer
//! packets are fanned out meanwhile.
//!
//! ```text
//! new      | for the newest packets: small rooms first, in a room who was there first |
//! waiting  | left of earlier output, the oldest first                                 |
//! ```
//! Every fourth one is taken from those that wait: neither waits for all of the other, however little of
//! it there is between two interruptions.

use std::collections::VecDeque;

use crate::key::TransportKey;

/// Of so many one is of those that wait.
const WAITING_EVERY: u8 = 4;

/// See the head of this file. A transport is in it once.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    new: Vec<TransportKey>,
    /// So many of them were taken.
    taken: usize,
    waiting: VecDeque<TransportKey>,
    /// New ones since the last one of those that wait.
    count: u8,
    /// Nothing was taken since something was added.
    is_open: bool,
}

impl Ready {
    /// One more. The first one after a portion was taken says that output was interrupted, or ended.
    #[inline]
    pub(crate) fn push(&mut self, key: TransportKey) {
        if !self.is_open {
            self.open();
        }
        self.new.push(key);
    }

    fn open(&mut self) {
        self.waiting.extend(self.new.drain(..).skip(self.taken));
        (self.taken, self.is_open) = (0, true);
    }

    /// What is added from now on is newer than what is there.
    pub(crate) fn close(&mut self) {
        self.is_open = false;
    }

    /// The next one of this portion. The first of those that are new comes before one that waits: where
    /// it takes the rest of a portion, the new ones would wait themselves.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<TransportKey> {
        if self.count >= WAITING_EVERY - 1
            && self.taken > 0
            && let Some(key) = self.waiting.pop_front()
        {
            self.count = 0;
            return Some(key);
        }
        match self.new.get(self.taken) {
            Some(key) => {
                self.taken += 1;
                self.count = self.count.saturating_add(1);
                Some(*key)
            }
            None => self.waiting.pop_front(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.taken == self.new.len() && self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{arena::Arena, key::OfTransport};

    fn portion(ready: &mut Ready, len: usize) -> Vec<usize> {
        ready.close();
        let taken = std::iter::from_fn(|| ready.pop()).take(len);
        taken.map(TransportKey::index).collect()
    }

    fn push(ready: &mut Ready, indices: std::ops::Range<usize>) {
        let mut transports = Arena::<(), OfTransport>::default();
        let keys: Vec<TransportKey> = (0..32).map(|_| transports.insert(())).collect();
        keys[indices].iter().for_each(|key| ready.push(*key));
    }

    #[test]
    fn what_is_new_comes_first_and_what_waits_comes_too() {
        let mut ready = Ready::default();
        push(&mut ready, 0..6);
        assert_eq!(portion(&mut ready, 2), [0, 1]);
        push(&mut ready, 10..20);
        let portions: Vec<_> = (0..5).map(|_| portion(&mut ready, 2)).collect();
        assert_eq!(portions, [[10, 2], [11, 12], [13, 3], [14, 15], [16, 4]]);
        // What is left of both waits, the older first.
        push(&mut ready, 20..21);
        assert_eq!(portion(&mut ready, 3), [20, 5, 17]);
        assert_eq!(portion(&mut ready, 9), [18, 19]);
        assert!(ready.is_empty());
    }
}
