//! How often somebody may do something. A bucket holds what may be done at once and fills again
//! by the second. One for each socket (the gateway), and three for each address: for sockets that it
//! opens, for joins, and for rooms that are made. Times are given, so that tests need not wait.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::settings::Settings;

/// What may be done at once, in seconds of the rate.
const BURST_S: f64 = 10.0;

/// With so many addresses they are looked through for full buckets; next when there are twice as
/// many as were left.
const ADDRESSES_KEPT: usize = 1_024;

/// Tokens that come back by the second.
#[derive(Debug, Clone)]
pub struct Bucket {
    per_s: f64,
    most: f64,
    left: f64,
    at: Instant,
}

impl Bucket {
    /// A full one.
    pub fn new(per_s: f64, most: f64, now: Instant) -> Self {
        Self { per_s, most, left: most, at: now }
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * self.per_s).min(self.most);
        self.at = now;
    }

    /// Takes a token if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        self.refill(now);
        let is_there = self.left >= 1.0;
        if is_there {
            self.left -= 1.0;
        }
        is_there
    }

    /// Takes a token that may only come later; gives how long that is.
    pub fn take_in_advance(&mut self, now: Instant) -> Duration {
        self.refill(now);
        self.left -= 1.0;
        if self.left >= 0.0 {
            return Duration::ZERO;
        }
        Duration::try_from_secs_f64(-self.left / self.per_s).unwrap_or(Duration::ZERO)
    }

    fn is_full(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.left >= self.most
    }
}

/// Whose turn it is among one participant's requests over HTTP, and how much he may ask.
pub type Turn = Arc<tokio::sync::Mutex<Option<Bucket>>>;

#[derive(Debug)]
struct Buckets {
    sockets: Bucket,
    joins: Bucket,
    rooms: Bucket,
}

/// What each address has done lately.
#[derive(Debug)]
pub struct Addresses {
    sockets_per_s: f64,
    joins_per_s: f64,
    rooms_per_s: f64,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    buckets: HashMap<IpAddr, Buckets>,
    look_through_at: usize,
}

impl Known {
    /// Who has done nothing for a while needs no memory.
    fn look_through(&mut self, now: Instant) {
        self.buckets.retain(|_, each| {
            let mut buckets = [&mut each.sockets, &mut each.joins, &mut each.rooms];
            !buckets.iter_mut().all(|bucket| bucket.is_full(now))
        });
        self.look_through_at = (self.buckets.len() * 2).max(ADDRESSES_KEPT);
    }
}

impl Addresses {
    /// Nobody has done anything yet. A rate of 0 is no limit.
    pub fn new(settings: &Settings) -> Self {
        Self {
            sockets_per_s: settings.sockets_per_address_per_s.into(),
            joins_per_s: settings.joins_per_address_per_s.into(),
            rooms_per_s: settings.rooms_per_address_per_s.into(),
            known: Mutex::new(Known { buckets: HashMap::new(), look_through_at: ADDRESSES_KEPT }),
        }
    }

    /// Somebody there opens a socket.
    pub fn open(&self, address: IpAddr, now: Instant) -> Result<(), Failure> {
        let message = "too many new sockets of this address; try again";
        self.take(address, now, self.sockets_per_s, message, |buckets| &mut buckets.sockets)
    }

    /// Somebody there joins a room.
    pub fn join(&self, address: IpAddr, now: Instant) -> Result<(), Failure> {
        let message = "too many joins from this address; try again";
        self.take(address, now, self.joins_per_s, message, |buckets| &mut buckets.joins)
    }

    /// Somebody there makes a room.
    pub fn make_room(&self, address: IpAddr, now: Instant) -> Result<(), Failure> {
        let message = "too many new rooms from this address; try again";
        self.take(address, now, self.rooms_per_s, message, |buckets| &mut buckets.rooms)
    }

    fn take(
        &self,
        address: IpAddr,
        now: Instant,
        per_s: f64,
        message: &str,
        which: impl Fn(&mut Buckets) -> &mut Bucket,
    ) -> Result<(), Failure> {
        if per_s == 0.0 {
            return Ok(());
        }
        let address = group(address);
        let mut known = self.known.lock().expect("nobody panics with it");
        if known.buckets.len() >= known.look_through_at {
            known.look_through(now);
        }
        let full = |per_s: f64| Bucket::new(per_s, per_s * BURST_S, now);
        let buckets = known.buckets.entry(address).or_insert_with(|| Buckets {
            sockets: full(self.sockets_per_s),
            joins: full(self.joins_per_s),
            rooms: full(self.rooms_per_s),
        });
        if which(buckets).take(now) { Ok(()) } else { Err(Failure::new("rate_limited", message)) }
    }
}

/// Whose an address is: one IPv6 host has a whole /64.
pub fn group(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::{Duration, Instant};

    use super::{ADDRESSES_KEPT, Addresses, Bucket, group};
    use crate::settings::Settings;

    #[test]
    fn a_bucket_gives_a_burst_and_then_its_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(50.0, 200.0, start);
        assert_eq!((0..300).filter(|_| bucket.take(start)).count(), 200);
        let later = start + Duration::from_secs(1);
        assert_eq!((0..300).filter(|_| bucket.take(later)).count(), 50);
        let much_later = later + Duration::from_secs(3600);
        assert_eq!((0..300).filter(|_| bucket.take(much_later)).count(), 200);
    }

    #[test]
    fn what_is_taken_in_advance_comes_at_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(50.0, 2.0, start);
        let waits: Vec<_> = (0..4).map(|_| bucket.take_in_advance(start).as_millis()).collect();
        assert_eq!(waits, [0, 0, 20, 40]);
        assert_eq!(bucket.take_in_advance(start + Duration::from_secs(1)), Duration::ZERO);
    }

    #[test]
    fn addresses_are_counted_apart_and_forgotten() {
        let settings = Settings { joins_per_address_per_s: 1, ..Settings::default() };
        let addresses = Addresses::new(&settings);
        let start = Instant::now();
        let of = |number: u32| IpAddr::V4(number.into());
        let joined = (0..20).filter(|_| addresses.join(of(1), start).is_ok()).count();
        assert_eq!(joined, 10);
        assert_eq!(addresses.join(of(1), start).unwrap_err().code, "rate_limited");
        assert!(addresses.join(of(2), start).is_ok());
        let later = start + Duration::from_secs(60);
        for number in 0..3 * ADDRESSES_KEPT {
            let at = later + Duration::from_secs(number as u64);
            assert!(addresses.join(of(number as u32), at).is_ok());
        }
        assert!(addresses.known.lock().unwrap().buckets.len() <= ADDRESSES_KEPT);
    }

    #[test]
    fn a_rate_of_nothing_is_no_limit() {
        let settings = Settings { joins_per_address_per_s: 0, ..Settings::default() };
        let addresses = Addresses::new(&settings);
        let now = Instant::now();
        assert!((0..10_000).all(|_| addresses.join([127, 0, 0, 1].into(), now).is_ok()));
    }

    #[test]
    fn one_ipv6_host_is_one_address() {
        let of = |text: &str| group(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
