//! What callers may have and do at most: counts of resources, and rates. 0 means no limit.
//! Read by the routes when something is to be made, and by `doors` for every request.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use ironcast_api::{ErrorCode, Problem};

use crate::{
    auth::Caller,
    quotas::{Quota, Quotas},
};

/// Callers whose rate is remembered.
const CALLERS_MAX: usize = 10_000;

/// The limits, as configured.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest body of a call.
    pub body_bytes_max: usize,
    /// Calls of one caller in a second, those in batches included.
    pub requests_per_s: u32,
    /// Calls of one address in a second that do not show who calls.
    pub unauthenticated_per_s: u32,
    /// Connections of one door at once.
    pub connections_max: usize,
    /// Connections of one address to one door.
    pub connections_per_address_max: usize,
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
    /// Observers of one room.
    pub observers_per_router_max: u32,
    /// Received tracks that one observer listens to.
    pub producers_per_observer_max: u32,
    /// Received tracks of one worker.
    pub producers_per_worker_max: u32,
    /// Sent tracks of one worker.
    pub consumers_per_worker_max: u32,
    /// Rooms of one principal.
    pub routers_per_principal_max: u32,
    /// Transports of one principal, in all of its rooms.
    pub transports_per_principal_max: u32,
    /// Participants of one principal, in all of its rooms.
    pub participants_per_principal_max: u32,
    /// Media of one principal, both ways.
    pub bits_per_principal_per_s_max: u64,
    /// Event streams of one principal at once.
    pub streams_per_principal_max: u32,
    /// What single principals may have in place of that.
    pub quotas: Quotas,
    /// Audit entries that are kept.
    pub audit_entries_max: usize,
    /// Above this busy share (0 to 1) a worker takes no new rooms.
    pub worker_busy_max: f64,
    /// Above this load (0 to 1) it is second choice where rooms go by a key.
    pub worker_busy_soft: f64,
    /// Above so many packets a second a worker gets no new transports while another is below it.
    pub worker_packets_soft: u32,
    /// Near this forwarding delay (p99) it takes no new rooms.
    pub worker_delay_max_us: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 1 << 20,
            requests_per_s: 50_000,
            unauthenticated_per_s: 100,
            connections_max: 10_000,
            connections_per_address_max: 1_000,
            creations_per_router_per_s: 2_000,
            batch_calls_max: ironcast_api::BATCH_CALLS_MAX,
            routers_max: 10_000,
            routers_per_worker_max: 0,
            transports_per_router_max: 2_000,
            producers_per_transport_max: 64,
            consumers_per_transport_max: 2_000,
            observers_per_router_max: 8,
            producers_per_observer_max: 2_000,
            producers_per_worker_max: 0,
            consumers_per_worker_max: 0,
            routers_per_principal_max: 0,
            transports_per_principal_max: 0,
            participants_per_principal_max: 0,
            bits_per_principal_per_s_max: 0,
            streams_per_principal_max: 128,
            quotas: Quotas::default(),
            audit_entries_max: 10_000,
            worker_busy_max: 0.9,
            worker_busy_soft: 0.7,
            worker_packets_soft: 0,
            worker_delay_max_us: 50_000,
        }
    }
}

impl Limits {
    /// What a principal may have.
    #[must_use]
    pub fn quota_of(&self, principal: &str) -> Quota {
        let usual = Quota {
            routers: self.routers_per_principal_max,
            transports: self.transports_per_principal_max,
            participants: self.participants_per_principal_max,
            streams: self.streams_per_principal_max,
            bits_per_s: self.bits_per_principal_per_s_max,
            requests_per_s: self.requests_per_s,
        };
        self.quotas.of(principal).map_or(usual, |row| row.over(usual))
    }

    /// Calls of a caller in a second.
    #[must_use]
    pub fn requests_per_s_of(&self, caller: &Caller) -> u32 {
        match caller {
            Caller::Name(name) => self.quota_of(name).requests_per_s,
            Caller::Address(_) => self.requests_per_s,
        }
    }

    /// Whether it matters what transports carry.
    #[must_use]
    pub fn limit_bits(&self) -> bool {
        self.bits_per_principal_per_s_max > 0 || self.quotas.limit_bits()
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
        self.take_many(1, per_s, now).is_ok()
    }

    /// Takes so many at once, or says in how many seconds that is possible. More than there can
    /// ever be is lent by a full one.
    pub fn take_many(&mut self, count: u32, per_s: u32, now: Instant) -> Result<(), u32> {
        if per_s == 0 {
            return Ok(());
        }
        self.refill(per_s, now);
        let missing = f64::from(count.min(per_s)) - self.tokens;
        if missing > 0.0 {
            return Err((missing / f64::from(per_s)).ceil() as u32);
        }
        self.tokens -= f64::from(count);
        Ok(())
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

/// Requests of each caller in the last second, and its rate, which may be another than others'.
#[derive(Debug, Default)]
pub struct Callers(Mutex<HashMap<Caller, (Bucket, u32)>>);

impl Callers {
    /// Whether a caller may call once more now; it is not counted.
    pub fn has_some(&self, caller: &Caller, per_s: u32, now: Instant) -> bool {
        let mut callers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = callers.get_mut(caller);
        per_s == 0
            || bucket.is_none_or(|(bucket, _)| {
                bucket.refill(per_s, now);
                bucket.tokens >= 1.0
            })
    }

    /// Counts so many requests of a caller.
    pub fn check(
        &self,
        caller: &Caller,
        count: u32,
        per_s: u32,
        now: Instant,
    ) -> Result<(), Problem> {
        if per_s == 0 {
            return Ok(());
        }
        let limited = || rate_limited("requests of one caller", per_s);
        let mut callers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if callers.len() >= CALLERS_MAX && !callers.contains_key(caller) {
            // A full bucket says nothing about its caller.
            callers.retain(|_, (bucket, its_per_s)| {
                bucket.refill(*its_per_s, now);
                bucket.tokens < f64::from(*its_per_s)
            });
            if callers.len() >= CALLERS_MAX {
                return Err(limited());
            }
        }
        let (bucket, its_per_s) =
            callers.entry(caller.clone()).or_insert_with(|| (Bucket::new(per_s, now), per_s));
        *its_per_s = per_s;
        bucket.take_many(count, per_s, now).map_err(|seconds| limited().with_retry_after(seconds))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{IpAddr, Ipv4Addr},
        time::Duration,
    };

    use super::*;

    fn from(address: impl Into<IpAddr>) -> Caller {
        Caller::Address(Some(address.into()))
    }

    #[test]
    fn a_caller_has_its_own_rate() {
        let callers = Callers::default();
        let now = Instant::now();
        let [one, other] = [1, 2].map(|last| from(Ipv4Addr::new(10, 0, 0, last)));
        for _ in 0..3 {
            callers.check(&one, 1, 3, now).unwrap();
        }
        assert_eq!(callers.check(&one, 1, 3, now).unwrap_err().code, ErrorCode::RateLimited);
        callers.check(&other, 1, 3, now).unwrap();
        callers.check(&Caller::Name("token:x".into()), 1, 3, now).unwrap();
        callers.check(&one, 1, 3, now + Duration::from_millis(400)).unwrap();
        assert!(callers.check(&one, 1, 3, now + Duration::from_millis(400)).is_err());
    }

    #[test]
    fn a_batch_counts_as_what_is_in_it() {
        let callers = Callers::default();
        let now = Instant::now();
        let caller = Caller::Name("token:y".into());
        callers.check(&caller, 90, 100, now).unwrap();
        let refused = callers.check(&caller, 60, 100, now).unwrap_err();
        assert_eq!(refused.retry_after, Some(1));
        callers.check(&caller, 10, 100, now).unwrap();
        // One that is larger than a second's worth is done, and paid for afterwards.
        let later = now + Duration::from_secs(1);
        callers.check(&caller, 300, 100, later).unwrap();
        let refused = callers.check(&caller, 1, 100, later + Duration::from_secs(1)).unwrap_err();
        assert_eq!(refused.retry_after, Some(2));
        callers.check(&caller, 1, 100, later + Duration::from_secs(3)).unwrap();
    }

    #[test]
    fn more_callers_than_fit_are_refused_until_others_are_quiet() {
        let callers = Callers::default();
        let now = Instant::now();
        for number in 0..CALLERS_MAX as u32 {
            callers.check(&from(Ipv4Addr::from(number)), 1, 1, now).unwrap();
        }
        let new = from(Ipv4Addr::new(10, 0, 0, 1));
        assert!(callers.check(&new, 1, 1, now).is_err());
        callers.check(&new, 1, 1, now + Duration::from_secs(2)).unwrap();
    }

    #[test]
    fn where_callers_are_many_nobody_is_lent_anothers_rate() {
        let callers = Callers::default();
        let now = Instant::now();
        for number in 0..CALLERS_MAX as u32 {
            callers.check(&from(Ipv4Addr::from(number)), 1, 1, now).unwrap();
        }
        let soon = now + Duration::from_millis(10);
        let quick = from(Ipv4Addr::new(10, 0, 0, 1));
        assert!(callers.check(&quick, 1, 1_000_000, soon).is_err(), "there is no room");
        assert!(
            callers.check(&from(Ipv4Addr::from(7)), 1, 1, soon).is_err(),
            "a second is not over"
        );
        // Who has been quiet for a second makes room, whatever the rate of who comes.
        let later = now + Duration::from_secs(1);
        callers.check(&quick, 1, 1_000_000, later).unwrap();
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
