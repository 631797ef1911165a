//! Which transports have something to send, and who is next. The output of a large room takes longer
//! than a packet of another room may wait: the caller interrupts it after some portions, and newer
//! packets are fanned out meanwhile.
//!
//! ```text
//! new      | for the newest packets: small rooms first, in a room who was there first |
//! waiting  | left of earlier output, the oldest first                                 |
//! ```
//! Every fourth portion is taken from those that wait: neither waits for all of the other, and who gets
//! what is new without an interruption goes on to.

use std::collections::VecDeque;

use crate::key::TransportKey;

/// Of so many portions one is of those that wait.
const WAITING_EVERY: u8 = 4;

/// See the head of this file. A transport is in it once.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    new: Vec<TransportKey>,
    /// So many of them were taken.
    taken: usize,
    waiting: VecDeque<TransportKey>,
    /// Portions since the last one of those that wait, over however many turns.
    portions: u8,
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

    /// The next one of this portion.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<TransportKey> {
        if self.portions == WAITING_EVERY - 1
            && let Some(key) = self.waiting.pop_front()
        {
            return Some(key);
        }
        match self.new.get(self.taken) {
            Some(key) => {
                self.taken += 1;
                Some(*key)
            }
            None => self.waiting.pop_front(),
        }
    }

    /// A portion is full.
    pub(crate) fn end_portion(&mut self) {
        self.portions = (self.portions + 1) % WAITING_EVERY;
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
        let taken = taken.map(TransportKey::index).collect();
        ready.end_portion();
        taken
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
        assert_eq!(portions, [[10, 11], [12, 13], [2, 3], [14, 15], [16, 17]]);
        // What is left of both waits, the older first.
        push(&mut ready, 20..21);
        assert_eq!(portion(&mut ready, 3), [20, 4, 5]);
        assert_eq!(portion(&mut ready, 9), [18, 19]);
        assert!(ready.is_empty());
    }
}
