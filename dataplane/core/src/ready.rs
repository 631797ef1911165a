//! Which transports have something to send, and who is next. The output of a large room takes longer
//! than a packet of another room may wait: the caller interrupts it after some portions, and newer
//! packets are fanned out meanwhile.
//!
//! ```text
//! new      | for the newest packets: small rooms first, in a room who was there first |
//! waiting  | left of earlier output, the oldest first                                 |
//! ```
//! Portions are taken from the two in turns: neither waits for all of the other.

use std::collections::VecDeque;

use crate::key::TransportKey;

/// See the head of this file. A transport is in it once.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    new: VecDeque<TransportKey>,
    waiting: VecDeque<TransportKey>,
    /// The next portion is taken from those that wait.
    waiting_is_next: bool,
    /// Nothing was taken since something was added.
    is_open: bool,
}

impl Ready {
    /// One more. The first one after a portion was taken says that output was interrupted, or ended.
    pub(crate) fn push(&mut self, key: TransportKey) {
        if !std::mem::replace(&mut self.is_open, true) {
            self.waiting.append(&mut self.new);
            self.waiting_is_next = false;
        }
        self.new.push_back(key);
    }

    /// What is added from now on is newer than what is there.
    pub(crate) fn close(&mut self) {
        self.is_open = false;
    }

    /// The next one of this portion.
    pub(crate) fn pop(&mut self) -> Option<TransportKey> {
        let (mut first, mut second) = (&mut self.new, &mut self.waiting);
        if self.waiting_is_next {
            std::mem::swap(&mut first, &mut second);
        }
        first.pop_front().or_else(|| second.pop_front())
    }

    /// A portion is full.
    pub(crate) fn end_portion(&mut self) {
        self.waiting_is_next = !self.waiting_is_next;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.new.is_empty() && self.waiting.is_empty()
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
    fn what_is_new_and_what_waits_are_served_in_turns() {
        let mut ready = Ready::default();
        push(&mut ready, 0..6);
        assert_eq!(portion(&mut ready, 2), [0, 1]);
        push(&mut ready, 10..16);
        assert_eq!(portion(&mut ready, 2), [10, 11]);
        assert_eq!(portion(&mut ready, 2), [2, 3]);
        assert_eq!(portion(&mut ready, 2), [12, 13]);
        // What is left of both waits, the older first.
        push(&mut ready, 20..21);
        assert_eq!(portion(&mut ready, 3), [20, 4, 5]);
        assert_eq!(portion(&mut ready, 9), [14, 15]);
        assert!(ready.is_empty());
    }
}
