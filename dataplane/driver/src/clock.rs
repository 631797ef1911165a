//! Time as the worker sees it: monotonic nanoseconds, and their distance to the wall clock, which
//! the kernel stamps datagrams with. Read once or twice a turn, never per packet.

use ironcast_core::{Arrival, Nanos, SECOND};

/// Older stamps are not believed: the wall clock has been set meanwhile.
const STAMP_AGE_MAX: Nanos = 10 * SECOND;

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    now: Nanos,
    /// Wall clock minus monotonic clock.
    wall_offset_ns: i64,
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock {
    /// Reads both clocks.
    #[must_use]
    pub fn new() -> Self {
        let mut clock = Self { now: 0, wall_offset_ns: 0 };
        clock.synchronise();
        clock
    }

    /// The monotonic clock, read now.
    #[must_use]
    pub fn monotonic() -> Nanos {
        read(libc::CLOCK_MONOTONIC)
    }

    /// Reads the monotonic clock and keeps it.
    pub fn tick(&mut self) -> Nanos {
        self.now = Self::monotonic();
        self.now
    }

    /// Reads both clocks and keeps them: once a turn, since the wall clock may be set or slewed.
    pub fn synchronise(&mut self) -> Nanos {
        let wall = read(libc::CLOCK_REALTIME);
        self.now = Self::monotonic();
        self.wall_offset_ns = wall.wrapping_sub(self.now) as i64;
        self.now
    }

    /// The moment of the last reading.
    #[must_use]
    pub fn now(&self) -> Nanos {
        self.now
    }

    /// Nanoseconds since 1970 at the last reading.
    #[must_use]
    pub fn wall_clock_ns(&self) -> u64 {
        self.now.wrapping_add(self.wall_offset_ns as u64)
    }

    /// A kernel stamp (wall clock) as monotonic time. Never later than now; a stamp that makes no
    /// sense (the wall clock was set) becomes now.
    #[must_use]
    pub fn arrival(&self, stamp_ns: u64) -> Arrival {
        let arrival = stamp_ns.wrapping_sub(self.wall_offset_ns as u64);
        let age = self.now.wrapping_sub(arrival);
        Arrival::at(if age <= STAMP_AGE_MAX { arrival } else { self.now })
    }
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec for the call to write; these clocks always exist.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec as u64 * SECOND + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_become_monotonic_and_nonsense_becomes_now() {
        let clock = Clock { now: 100 * SECOND, wall_offset_ns: 1_000_000 * SECOND as i64 };
        let wall = clock.wall_clock_ns();
        assert_eq!(wall, 1_000_100 * SECOND);
        assert_eq!(clock.arrival(wall - 500), Arrival::at(clock.now - 500));
        assert_eq!(clock.arrival(wall + 500), Arrival::at(clock.now), "the future");
        assert_eq!(clock.arrival(wall - 20 * SECOND), Arrival::at(clock.now), "a set clock");
        assert_eq!(clock.arrival(0), Arrival::at(clock.now));
    }

    #[test]
    fn a_negative_offset_works() {
        let clock = Clock { now: 100 * SECOND, wall_offset_ns: -(60 * SECOND as i64) };
        assert_eq!(clock.wall_clock_ns(), 40 * SECOND);
        assert_eq!(clock.arrival(39 * SECOND), Arrival::at(99 * SECOND));
    }
}
