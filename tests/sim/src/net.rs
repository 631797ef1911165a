//! One direction of a network between a peer and the server: decides when a datagram arrives, how
//! often, and whether at all. Holds no datagram: the world's queue does.

use ironcast_core::{MS, Nanos, SECOND};

use crate::rng::Rng;

/// What a direction does to datagrams.
#[derive(Debug, Clone, Copy)]
pub struct Network {
    /// One way.
    pub delay: Nanos,
    /// Up to so much more, without changing the order.
    pub jitter: Nanos,
    /// Share lost, each datagram by itself.
    pub loss: f64,
    /// Probabilities to enter and to leave a state in which everything is lost (Gilbert).
    pub bursts: Option<(f64, f64)>,
    /// Share that arrives twice.
    pub duplicates: f64,
    /// Share that is held back by `reordered_by`, so that later ones overtake it.
    pub reordered: f64,
    /// For how long.
    pub reordered_by: Nanos,
    /// What it carries, with the headers of IP and UDP; 0: everything.
    pub rate_bps: u64,
    /// What would wait longer for its turn is lost.
    pub queue: Nanos,
}

/// IPv4 and UDP.
const HEADERS: usize = 28;

impl Default for Network {
    /// A good one: 20 ms, nothing lost.
    fn default() -> Self {
        Self {
            delay: 20 * MS,
            jitter: 0,
            loss: 0.0,
            bursts: None,
            duplicates: 0.0,
            reordered: 0.0,
            reordered_by: 8 * MS,
            rate_bps: 0,
            queue: 400 * MS,
        }
    }
}

impl Network {
    /// A good one with that share lost.
    #[must_use]
    pub fn lossy(loss: f64) -> Self {
        Self { loss, ..Self::default() }
    }

    /// Everything at once.
    #[must_use]
    pub fn bad() -> Self {
        Self {
            delay: 25 * MS,
            jitter: 10 * MS,
            loss: 0.03,
            bursts: Some((0.002, 0.3)),
            duplicates: 0.02,
            reordered: 0.03,
            ..Self::default()
        }
    }
}

/// A direction with its state.
#[derive(Debug)]
pub struct Link {
    /// May be changed at any time.
    pub network: Network,
    rng: Rng,
    in_burst: bool,
    last_arrival: Nanos,
    /// When what waits has left.
    free_at: Nanos,
    /// Datagrams that were lost.
    pub lost: u64,
}

impl Link {
    /// A link with its own source of chance.
    #[must_use]
    pub fn new(network: Network, rng: Rng) -> Self {
        Self { network, rng, in_burst: false, last_arrival: 0, free_at: 0, lost: 0 }
    }

    /// How long a datagram that leaves now waits for its turn.
    #[must_use]
    pub fn backlog(&self, now: Nanos) -> Nanos {
        self.free_at.saturating_sub(now)
    }

    /// When a datagram of `len` bytes that leaves now arrives: never, once, or twice.
    pub fn send(&mut self, len: usize, now: Nanos) -> Vec<Nanos> {
        let n = self.network;
        let mut now = now;
        let bits = (len + HEADERS) as u64 * 8;
        if let Some(takes) = (bits * SECOND).checked_div(n.rate_bps) {
            if self.backlog(now) > n.queue {
                self.lost += 1;
                return Vec::new();
            }
            self.free_at = now.max(self.free_at) + takes;
            now = self.free_at;
        }
        if let Some((enter, leave)) = n.bursts {
            let turns = if self.in_burst { leave } else { enter };
            self.in_burst ^= self.rng.chance(turns);
        }
        if self.rng.chance(n.loss) || n.bursts.is_some() && self.in_burst {
            self.lost += 1;
            return Vec::new();
        }
        let mut at = now + n.delay + self.rng.below(n.jitter + 1);
        if self.rng.chance(n.reordered) {
            at += n.reordered_by;
        } else {
            at = at.max(self.last_arrival);
            self.last_arrival = at;
        }
        if self.rng.chance(n.duplicates) { vec![at, at + MS] } else { vec![at] }
    }
}
