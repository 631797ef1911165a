//! Which port a new transport's candidates name. Owns the slice of one worker: the least used open
//! port up to eight transports, then another is opened, then all fill up to the cap (a listener's
//! look-up walks the connected sockets of its port: see `deploy`'s notes and the README's limits).
//! A port that somebody else has is passed over and tried again when the others have been.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Transports on a port before another one is opened (the cap, where that is less).
const COMFORTABLE: u32 = 8;
/// Ports that are tried for one transport while no open one has room: each takes the kernel some
/// microseconds. The next transport goes on behind them.
const TRIED_MAX: usize = 64;
/// The same while one has room, so that one more would only be comfortable.
const TRIED_FOR_COMFORT_MAX: usize = 4;

/// What became of a port that was to be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// It is open.
    Open,
    /// It is somebody else's.
    Taken,
    /// Not now, for want of descriptors or memory: that says nothing of the port.
    NotNow,
}

/// Why there is no port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPort {
    /// All carry as many transports as they may.
    Full,
    /// Those that are open do, and those that were tried are somebody else's.
    Taken,
    /// The system does not give one now.
    NotNow,
}

/// See the file's head.
#[derive(Debug)]
pub struct Ports {
    cap: u32,
    /// Those that are not open, the next one to be tried first.
    closed: VecDeque<u16>,
    open: BTreeMap<u16, u32>,
    /// The same, the least used first.
    by_use: BTreeSet<(u32, u16)>,
}

impl Ports {
    /// A slice of ports, each for at most `cap` transports.
    #[must_use]
    pub fn slice(first: u16, last: u16, cap: u32) -> Self {
        let (open, by_use) = (BTreeMap::new(), BTreeSet::new());
        Self { cap, closed: (first..=last).collect(), open, by_use }
    }

    /// One port that is open already.
    #[must_use]
    pub fn single(port: u16, cap: u32) -> Self {
        let (open, by_use) = (BTreeMap::from([(port, 0)]), BTreeSet::from([(0, port)]));
        Self { cap, closed: VecDeque::new(), open, by_use }
    }

    /// A port for one more transport, none of `but`; `open` is called to open one.
    pub fn take(
        &mut self,
        but: &[u16],
        mut open: impl FnMut(u16) -> Opening,
    ) -> Result<u16, NoPort> {
        let mut best = self.by_use.iter().find(|(_, port)| !but.contains(port)).copied();
        let has_room = best.is_some_and(|(used, _)| used < self.cap);
        let is_comfortable = best.is_some_and(|(used, _)| used < COMFORTABLE.min(self.cap));
        let tried_max = match (is_comfortable, has_room) {
            (true, _) => 0,
            (false, true) => TRIED_FOR_COMFORT_MAX,
            (false, false) => TRIED_MAX,
        };
        let mut reason = NoPort::Full;
        for _ in 0..tried_max.min(self.closed.len()) {
            let Some(port) = self.closed.pop_front() else { break };
            match open(port) {
                Opening::Open => {
                    best = Some((0, port));
                    break;
                }
                Opening::Taken => {
                    self.closed.push_back(port);
                    reason = NoPort::Taken;
                }
                Opening::NotNow => {
                    self.closed.push_front(port);
                    reason = NoPort::NotNow;
                    break;
                }
            }
        }
        let (used, port) = best.filter(|(used, _)| *used < self.cap).ok_or(reason)?;
        self.set(port, used + 1);
        Ok(port)
    }

    /// A transport on that port is gone.
    pub fn give(&mut self, port: u16) {
        if let Some(used) = self.open.get(&port) {
            self.set(port, used.saturating_sub(1));
        }
    }

    fn set(&mut self, port: u16, used: u32) {
        let before = self.open.insert(port, used);
        self.by_use.remove(&(before.unwrap_or(0), port));
        self.by_use.insert((used, port));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open_unless(is_taken: bool) -> Opening {
        if is_taken { Opening::Taken } else { Opening::Open }
    }

    fn take(ports: &mut Ports) -> Option<u16> {
        ports.take(&[], |_| Opening::Open).ok()
    }

    #[test]
    fn a_port_that_cannot_be_opened_now_is_asked_for_again() {
        let mut ports = Ports::slice(100, 101, 1);
        for _ in 0..1_000 {
            assert_eq!(ports.take(&[], |_| Opening::NotNow), Err(NoPort::NotNow));
        }
        assert_eq!((take(&mut ports), take(&mut ports)), (Some(100), Some(101)));
        assert_eq!(ports.take(&[], |_| Opening::NotNow), Err(NoPort::Full));
        // What is open is used as long as it has room.
        ports.give(101);
        assert_eq!(ports.take(&[], |_| Opening::NotNow), Ok(101));
    }

    #[test]
    fn ports_are_comfortable_first_and_full_last() {
        let mut ports = Ports::slice(100, 101, 10);
        let taken: Vec<_> = (0..21).map(|_| take(&mut ports)).collect();
        assert!(taken[..8].iter().all(|port| *port == Some(100)));
        assert!(taken[8..16].iter().all(|port| *port == Some(101)));
        assert!(taken[16..20].iter().all(Option::is_some));
        assert_eq!(taken[20], None);
        ports.give(101);
        assert_eq!(take(&mut ports), Some(101));
    }

    /// Found without a look at all ports: the order is kept where it changes.
    #[test]
    fn the_least_used_port_is_known() {
        let mut ports = Ports::slice(1_000, 1_999, 1_000);
        let mut held = Vec::new();
        for step in 0..20_000usize {
            if step % 3 == 2 {
                ports.give(held.swap_remove(step * 7 % held.len()));
            } else {
                held.extend(take(&mut ports));
            }
            let by_use: BTreeSet<_> =
                ports.open.iter().map(|(port, used)| (*used, *port)).collect();
            if step % 100 == 0 {
                assert_eq!(ports.by_use, by_use, "step {step}");
            }
        }
        assert!(ports.open.len() > 500, "{}", ports.open.len());
    }

    #[test]
    fn a_cap_below_what_is_comfortable_opens_the_next_port() {
        for cap in 1..=9 {
            let mut ports = Ports::slice(100, 109, cap);
            let taken: Vec<_> =
                std::iter::from_fn(|| ports.take(&[], |port| open_unless(port == 104)).ok())
                    .collect();
            assert_eq!(taken.len(), 9 * cap as usize, "cap {cap}");
            for port in (100..=109).filter(|port| *port != 104) {
                let here = taken.iter().filter(|taken| **taken == port).count();
                assert_eq!(here, cap as usize, "port {port}, cap {cap}");
            }
        }
    }

    #[test]
    fn a_port_that_somebody_else_has_is_passed_over() {
        let mut ports = Ports::slice(100, 110, 10);
        assert_eq!(ports.take(&[], |port| open_unless(port <= 102)), Ok(103));
    }

    #[test]
    fn however_many_ports_others_have_the_free_ones_are_found() {
        for taken in [64, 200] {
            let mut ports = Ports::slice(100, 400, 1);
            let first_free = 100 + taken;
            let mut tried = Vec::new();
            let found = (0..10).find_map(|_| {
                tried.push(0);
                let open = |port| {
                    *tried.last_mut().unwrap() += 1;
                    open_unless(port < first_free)
                };
                ports.take(&[], open).ok()
            });
            assert_eq!(found, Some(first_free));
            assert!(tried.iter().all(|tried| *tried <= TRIED_MAX), "{tried:?}");
            assert_eq!(tried.iter().sum::<usize>(), usize::from(taken) + 1, "none twice");
        }
    }

    #[test]
    fn a_port_that_others_release_is_found() {
        let mut ports = Ports::slice(100, 400, 1);
        for _ in 0..1_000 {
            assert_eq!(ports.take(&[], |_| Opening::Taken), Err(NoPort::Taken));
        }
        let found = (0..10).find_map(|_| ports.take(&[], |port| open_unless(port != 250)).ok());
        assert_eq!(found, Some(250));
        // All 301, once each.
        let rest: BTreeSet<_> = (0..300).map(|_| take(&mut ports)).collect();
        assert_eq!((rest.len(), take(&mut ports)), (300, None));
        assert_eq!(ports.take(&[], |_| Opening::Taken), Err(NoPort::Full));
    }

    #[test]
    fn for_comfort_alone_few_are_tried() {
        let mut ports = Ports::slice(100, 400, 20);
        (0..8).for_each(|_| assert_eq!(take(&mut ports), Some(100)));
        let mut tried = 0;
        let taken = ports.take(&[], |_| {
            tried += 1;
            Opening::Taken
        });
        assert_eq!((taken, tried), (Ok(100), TRIED_FOR_COMFORT_MAX));
    }

    #[test]
    fn what_is_not_wanted_is_passed_over_without_a_use() {
        let mut ports = Ports::slice(100, 101, 10);
        assert_eq!(take(&mut ports), Some(100));
        assert_eq!(ports.take(&[100], |_| Opening::Open), Ok(101));
        assert_eq!(ports.take(&[100, 101], |_| Opening::Open), Err(NoPort::Full));
        assert_eq!(ports.by_use, [(1, 100), (1, 101)].into());
    }
}
