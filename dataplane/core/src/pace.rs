//! How often something may happen: so many times at once, then once in such a time. What one peer can
//! have us do by a datagram of a few bytes is limited by it.

use crate::{Arrival, Nanos};

/// See the file's head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    most: Nanos,
    every: Nanos,
    /// What is left of `most`, in time, and when that was.
    left: Nanos,
    at: Arrival,
}

impl Pace {
    pub(crate) fn new(at_once: u64, every: Nanos) -> Self {
        let most = at_once * every;
        Self { most, every, left: most, at: Arrival::default() }
    }

    /// True when it may happen now; that is once less.
    pub(crate) fn take(&mut self, arrival: Arrival) -> bool {
        let left = self.left.saturating_add(arrival.since(self.at)).min(self.most);
        let may = left >= self.every;
        self.left = if may { left - self.every } else { left };
        self.at = self.at.max(arrival);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MS, SECOND};

    #[test]
    fn some_at_once_and_then_one_after_the_other() {
        let mut pace = Pace::new(4, SECOND / 2);
        let start = 50 * SECOND;
        assert_eq!((0..100).filter(|_| pace.take(Arrival::at(start))).count(), 4);
        let later = (0..10_000).map(|n| Arrival::at(start + n * MS));
        assert_eq!(later.filter(|at| pace.take(*at)).count(), 19);
        // However long nothing happened, and where an arrival goes back.
        let rested = start + 100 * SECOND;
        assert_eq!((0..100).filter(|n| pace.take(Arrival::at(rested - n))).count(), 4);
    }
}
