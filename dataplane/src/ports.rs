//! Which port a new transport's candidates name. Owns the slice of one worker: the least used open
//! port up to eight transports, then another is opened, then all fill up to the cap (a listener's
//! look-up walks the connected sockets of its port: see `deploy`'s notes and the README's limits).

use std::collections::{BTreeMap, BTreeSet};

/// Transports on a port before another one is opened (the cap, where that is less).
const COMFORTABLE: u32 = 8;
/// Ports of a slice that somebody else has, before we stop looking for a free one.
const OCCUPIED_MAX: u32 = 64;

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
    /// The system does not give one now.
    NotNow,
}

/// See the file's head.
#[derive(Debug)]
pub struct Ports {
    next: Option<u16>,
    last: u16,
    cap: u32,
    open: BTreeMap<u16, u32>,
    /// The same, the least used first.
    by_use: BTreeSet<(u32, u16)>,
    occupied: u32,
}

impl Ports {
    /// A slice of ports, each for at most `cap` transports.
    #[must_use]
    pub fn slice(first: u16, last: u16, cap: u32) -> Self {
        Self {
            next: Some(first),
            last,
            cap,
            open: BTreeMap::new(),
            by_use: BTreeSet::new(),
            occupied: 0,
        }
    }

    /// One port that is open already.
    #[must_use]
    pub fn single(port: u16, cap: u32) -> Self {
        let (open, by_use) = (BTreeMap::from([(port, 0)]), BTreeSet::from([(0, port)]));
        Self { next: None, last: port, cap, open, by_use, occupied: 0 }
    }

    /// A port for one more transport; `open` is called to open one.
    pub fn take(&mut self, mut open: impl FnMut(u16) -> Opening) -> Result<u16, NoPort> {
        let mut best = self.by_use.first().copied();
        let mut reason = NoPort::Full;
        while best.is_none_or(|(used, _)| used >= COMFORTABLE.min(self.cap))
            && self.occupied < OCCUPIED_MAX
        {
            let Some(port) = self.next else { break };
            let opening = open(port);
            if opening == Opening::NotNow {
                reason = NoPort::NotNow;
                break;
            }
            self.next = (port < self.last).then(|| port + 1);
            if opening == Opening::Open {
                self.open.insert(port, 0);
                self.by_use.insert((0, port));
                best = Some((0, port));
                break;
            }
            self.occupied += 1;
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
        ports.take(|_| Opening::Open).ok()
    }

    #[test]
    fn a_port_that_cannot_be_opened_now_is_asked_for_again() {
        let mut ports = Ports::slice(100, 101, 1);
        for _ in 0..1_000 {
            assert_eq!(ports.take(|_| Opening::NotNow), Err(NoPort::NotNow));
        }
        assert_eq!((take(&mut ports), take(&mut ports)), (Some(100), Some(101)));
        assert_eq!(ports.take(|_| Opening::NotNow), Err(NoPort::Full));
        // What is open is used as long as it has room.
        ports.give(101);
        assert_eq!(ports.take(|_| Opening::NotNow), Ok(101));
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
                std::iter::from_fn(|| ports.take(|port| open_unless(port == 104)).ok()).collect();
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
        assert_eq!(ports.take(|port| open_unless(port <= 102)), Ok(103));
    }
}
