//! Which port a new transport's candidates name. Owns the slice of one worker: the least used open
//! port up to eight transports, then another is opened, then all fill up to the cap (a listener's
//! look-up walks the connected sockets of its port: see `deploy`'s notes and the README's limits).

use std::collections::BTreeMap;

/// Transports on a port before another one is opened (the cap, where that is less).
const COMFORTABLE: u32 = 8;
/// Ports of a slice that somebody else has, before we stop looking for a free one.
const OCCUPIED_MAX: u32 = 64;

/// See the file's head.
#[derive(Debug)]
pub struct Ports {
    next: Option<u16>,
    last: u16,
    cap: u32,
    open: BTreeMap<u16, u32>,
    occupied: u32,
}

impl Ports {
    /// A slice of ports, each for at most `cap` transports.
    #[must_use]
    pub fn slice(first: u16, last: u16, cap: u32) -> Self {
        Self { next: Some(first), last, cap, open: BTreeMap::new(), occupied: 0 }
    }

    /// One port that is open already.
    #[must_use]
    pub fn single(port: u16, cap: u32) -> Self {
        let open = BTreeMap::from([(port, 0)]);
        Self { next: None, last: port, cap, open, occupied: 0 }
    }

    /// A port for one more transport; `open` is called to open one. `None`: all are full.
    pub fn take(&mut self, mut open: impl FnMut(u16) -> bool) -> Option<u16> {
        let least = |ports: &BTreeMap<u16, u32>| {
            ports.iter().min_by_key(|(_, used)| **used).map(|(port, used)| (*port, *used))
        };
        let mut best = least(&self.open);
        while best.is_none_or(|(_, used)| used >= COMFORTABLE.min(self.cap))
            && self.occupied < OCCUPIED_MAX
        {
            let Some(port) = self.next else { break };
            self.next = (port < self.last).then(|| port + 1);
            if open(port) {
                self.open.insert(port, 0);
                best = Some((port, 0));
                break;
            }
            self.occupied += 1;
        }
        let (port, _) = best.filter(|(_, used)| *used < self.cap)?;
        *self.open.get_mut(&port)? += 1;
        Some(port)
    }

    /// A transport on that port is gone.
    pub fn give(&mut self, port: u16) {
        if let Some(used) = self.open.get_mut(&port) {
            *used = used.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_comfortable_first_and_full_last() {
        let mut ports = Ports::slice(100, 101, 10);
        let taken: Vec<_> = (0..21).map(|_| ports.take(|_| true)).collect();
        assert!(taken[..8].iter().all(|port| *port == Some(100)));
        assert!(taken[8..16].iter().all(|port| *port == Some(101)));
        assert!(taken[16..20].iter().all(Option::is_some));
        assert_eq!(taken[20], None);
        ports.give(101);
        assert_eq!(ports.take(|_| true), Some(101));
    }

    #[test]
    fn a_cap_below_what_is_comfortable_opens_the_next_port() {
        for cap in 1..=9 {
            let mut ports = Ports::slice(100, 109, cap);
            let taken: Vec<_> = std::iter::from_fn(|| ports.take(|port| port != 104)).collect();
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
        assert_eq!(ports.take(|port| port > 102), Some(103));
    }
}
