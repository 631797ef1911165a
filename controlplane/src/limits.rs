//! What callers may have and do at most: counts of resources, and rates. 0 means no limit.
//! Read by the routes when something is to be made, and by `doors` for every request.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use ironcast_api::{ErrorCode, Problem};

/// Clients whose rate is remembered.
const CLIENTS_MAX: usize = 10_000;

/// The limits, as configured.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest body of a call.
    pub body_bytes_max: usize,
    /// Calls of one client (address) in a second.
    pub requests_per_s: u32,
    /// Resources made in one router in a second.
    pub creations_per_router_per_s: u32,
    /// Calls in one batch.
    pub batch_calls_max: usize,
    /// Rooms on this host.
    pub routers_max: u32,
    /// Rooms on one worker.
    pub routers_per_worker_max: u32,
    /// Transports in one room.
    pub transports_per_router_max: u32,
    /// Received tracks of one transport.
    pub producers_per_transport_max: u32,
    /// Sent tracks of one transport.
    pub consumers_per_transport_max: u32,
    /// Received tracks of one worker.
    pub producers_per_worker_max: u32,
    /// Sent tracks of one worker.
    pub consumers_per_worker_max: u32,
    /// Above this busy share (0 to 1) a worker takes no new rooms.
    pub worker_busy_max: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 1 << 20,
            requests_per_s: 2_000,
            creations_per_router_per_s: 2_000,
            batch_calls_max: ironcast_api::BATCH_CALLS_MAX,
            routers_max: 10_000,
            routers_per_worker_max: 0,
            transports_per_router_max: 2_000,
            producers_per_transport_max: 64,
            consumers_per_transport_max: 2_000,
            producers_per_worker_max: 0,
            consumers_per_worker_max: 0,
            worker_busy_max: 0.9,
        }
    }
}

/// `no_capacity` if there are as many as may be already.
pub fn check_count(count: usize, max: u32, what: &str) -> Result<(), Problem> {
    if max == 0 || count < max as usize {
        return Ok(());
    }
    let detail = format!("there are {count} {what} already, at most {max} are allowed");
    Err(Problem::new(ErrorCode::NoCapacity, detail).with_retry_after(5))
}

/// Allows so many in a second, and as many at once.
#[derive(Debug, Clone)]
pub struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// A full one.
    #[must_use]
    pub fn new(per_s: u32, now: Instant) -> Self {
        Self { tokens: per_s.into(), at: now }
    }

    /// Takes one, if there is one.
    pub fn take(&mut self, per_s: u32, now: Instant) -> bool {
        if per_s == 0 {
            return true;
        }
        self.refill(per_s, now);
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }

    fn refill(&mut self, per_s: u32, now: Instant) {
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + seconds * f64::from(per_s)).min(per_s.into());
        self.at = now;
    }
}

/// `rate_limited`, as the contract says it.
#[must_use]
pub fn rate_limited(what: &str, per_s: u32) -> Problem {
    let detail = format!("more than {per_s} {what} in a second");
    Problem::new(ErrorCode::RateLimited, detail).with_retry_after(1)
}

/// Requests of each client in the last second.
#[derive(Debug, Default)]
pub struct Clients(Mutex<HashMap<Option<IpAddr>, Bucket>>);

impl Clients {
    /// Counts a request of a client; `None` is whoever comes over a unix socket.
    pub fn check(&self, client: Option<IpAddr>, per_s: u32, now: Instant) -> Result<(), Problem> {
        if per_s == 0 {
            return Ok(());
        }
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() >= CLIENTS_MAX && !clients.contains_key(&client) {
            // A full bucket says nothing about its client.
            clients.retain(|_, bucket| {
                bucket.refill(per_s, now);
                bucket.tokens < f64::from(per_s)
            });
            if clients.len() >= CLIENTS_MAX {
                return Err(rate_limited("requests of one client", per_s));
            }
        }
        let bucket = clients.entry(client).or_insert_with(|| Bucket::new(per_s, now));
        if bucket.take(per_s, now) {
            Ok(())
        } else {
            Err(rate_limited("requests of one client", per_s))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use super::*;

    #[test]
    fn a_client_has_its_own_rate() {
        let clients = Clients::default();
        let now = Instant::now();
        let [one, other] = [1, 2].map(|last| Some(IpAddr::from(Ipv4Addr::new(10, 0, 0, last))));
        for _ in 0..3 {
            clients.check(one, 3, now).unwrap();
        }
        assert_eq!(clients.check(one, 3, now).unwrap_err().code, ErrorCode::RateLimited);
        clients.check(other, 3, now).unwrap();
        clients.check(one, 3, now + Duration::from_millis(400)).unwrap();
        assert!(clients.check(one, 3, now + Duration::from_millis(400)).is_err());
    }

    #[test]
    fn more_clients_than_fit_are_refused_until_others_are_quiet() {
        let clients = Clients::default();
        let now = Instant::now();
        for number in 0..CLIENTS_MAX as u32 {
            clients.check(Some(Ipv4Addr::from(number).into()), 1, now).unwrap();
        }
        let new = Some(IpAddr::from(Ipv4Addr::new(10, 0, 0, 1)));
        assert!(clients.check(new, 1, now).is_err());
        clients.check(new, 1, now + Duration::from_secs(2)).unwrap();
    }

    #[test]
    fn zero_is_no_limit() {
        assert!(check_count(1_000_000, 0, "routers").is_ok());
        let problem = check_count(2, 2, "routers").unwrap_err();
        assert_eq!((problem.code, problem.retry_after), (ErrorCode::NoCapacity, Some(5)));
        let now = Instant::now();
        assert!((0..10).all(|_| Bucket::new(0, now).take(0, now)));
    }
}
