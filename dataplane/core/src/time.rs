//! Time: a turn's, and that of what comes in. Two types, so that the compiler keeps them apart.

use std::ops::Add;

/// Monotonic nanoseconds: a moment of the turn, a deadline, or a span. The zero point is the driver's.
pub type Nanos = u64;

/// One millisecond.
pub const MS: Nanos = 1_000_000;
/// One second.
pub const SECOND: Nanos = 1_000_000_000;

/// Where output waits for so long, more comes than leaves: it leaves the oldest first then, and for longer
/// in one go. The driver counts from the first output that it has interrupted, `ready.rs` from the first
/// that waits in a room.
pub const OUTPUT_LATE: Nanos = 20 * MS;
/// A packet that waits for output for longer than this is not sent: nobody would wait so long to play it.
/// Longer than a worker stands still where its core is taken away for a moment.
pub const OUTPUT_OLD: Nanos = 500 * MS;

/// The next of the moments that are `every` apart, one of them `due`. What is done now and then keeps
/// its place: things that one long turn did together would else stay together for ever.
#[must_use]
pub(crate) fn next_of(due: Nanos, every: Nanos, now: Nanos) -> Nanos {
    due + (now.saturating_sub(due) / every + 1) * every
}

/// When a datagram came: the kernel's stamp, on the clock of the turn's time and never after it. One
/// that is handled later may have come earlier, so that arrivals, other than the turn's time, go back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Arrival(Nanos);

impl Arrival {
    /// From the kernel's stamp; what has none came now.
    #[must_use]
    pub const fn at(moment: Nanos) -> Self {
        Self(moment)
    }

    /// As a moment of the turn's clock: for what is measured, and limited, by both.
    #[must_use]
    pub const fn moment(self) -> Nanos {
        self.0
    }

    /// Time since another arrival; 0 where that one came later.
    #[must_use]
    pub const fn since(self, other: Self) -> Nanos {
        self.0.saturating_sub(other.0)
    }

    /// Time until now.
    #[must_use]
    pub const fn age(self, now: Nanos) -> Nanos {
        now.saturating_sub(self.0)
    }
}

/// A deadline is the turn's.
impl Add<Nanos> for Arrival {
    type Output = Nanos;

    fn add(self, span: Nanos) -> Nanos {
        self.0 + span
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_now_and_then_keeps_its_place() {
        for (now, next) in [(0, 107), (7, 107), (106, 107), (107, 207), (950, 1_007)] {
            assert_eq!(next_of(7, 100, now), next, "{now}");
        }
    }

    #[test]
    fn an_arrival_before_another_is_no_time_after_it() {
        let (first, second) = (Arrival::at(SECOND), Arrival::at(SECOND + MS));
        assert_eq!((second.since(first), first.since(second)), (MS, 0));
        assert_eq!((first.age(2 * SECOND), first.age(0), first + MS), (SECOND, 0, SECOND + MS));
    }
}
