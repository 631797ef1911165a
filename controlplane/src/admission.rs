//! Who may hold a connection: so many in all and from one address, and only for a moment without
//! having shown that he may call. Those that have shown nothing have half of a door's places: when
//! these are taken, the oldest of them goes for a new one, so that strangers who wait keep nobody out.
//! Asked by the doors' listeners for each connection; told by `doors` when somebody's credentials
//! were good.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use salvo::{
    async_trait,
    conn::ConnCtrl,
    fuse::{ArcConnObserver, ConnObserver, FuseAction, FuseConfig, FuseInfo, FusePolicy},
};
use tokio::{sync::watch, time::timeout};

/// What counts as one address: whoever has an IPv6 address has its /64.
#[must_use]
pub fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

/// See the head of this file. One for each door: a peer's address and port are its own there.
pub struct Admission {
    /// Connections of this door at once.
    pub connections_max: usize,
    per_address_max: usize,
    /// Nothing good was shown by then: the connection ends.
    proof_time: Duration,
    open: Mutex<Open>,
    /// Connections that were not taken because their address had enough.
    pub refused: AtomicU64,
    /// Connections that ended without having shown anything.
    pub unproven: AtomicU64,
    /// Connections that the system did not give.
    pub accepts_failed: AtomicU64,
}

#[derive(Default)]
struct Open {
    by_address: HashMap<IpAddr, usize>,
    proofs: HashMap<u64, watch::Sender<Proof>>,
    /// One port of a peer can have several connections of QUIC.
    by_peer: HashMap<SocketAddr, Vec<u64>>,
    /// Those that have shown nothing, the oldest first.
    unproven: BTreeSet<u64>,
    next: u64,
}

/// What a connection has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    /// Nothing yet.
    Missing,
    /// Something good.
    Shown,
    /// Nothing, and its place was needed.
    GoesNow,
}

/// A connection's place. Free again when it is dropped.
pub struct Slot {
    admission: Arc<Admission>,
    peer: SocketAddr,
    number: u64,
    proof: watch::Receiver<Proof>,
}

impl Admission {
    /// Nobody is connected yet; 0 is no limit for one address.
    #[must_use]
    pub fn new(connections_max: usize, per_address_max: usize, proof_time: Duration) -> Arc<Self> {
        Arc::new(Self {
            connections_max,
            per_address_max,
            proof_time,
            open: Mutex::default(),
            refused: AtomicU64::new(0),
            unproven: AtomicU64::new(0),
            accepts_failed: AtomicU64::new(0),
        })
    }

    fn open(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether another connection of an address is taken.
    #[must_use]
    pub fn has_room(&self, address: IpAddr) -> bool {
        let open = self.open();
        let count = open.by_address.get(&site(address)).copied().unwrap_or_default();
        let has_room = self.per_address_max == 0 || count < self.per_address_max;
        if !has_room {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        has_room
    }

    /// How many connections there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.open().proofs.len()
    }

    /// Takes a connection in.
    #[must_use]
    pub fn enter(self: &Arc<Self>, peer: SocketAddr) -> Slot {
        let (sender, proof) = watch::channel(Proof::Missing);
        let mut open = self.open();
        *open.by_address.entry(site(peer.ip())).or_default() += 1;
        if open.unproven.len() >= (self.connections_max / 2).max(1)
            && let Some(oldest) = open.unproven.pop_first()
            && let Some(goes) = open.proofs.get(&oldest)
        {
            goes.send_replace(Proof::GoesNow);
        }
        let number = open.next;
        open.next += 1;
        open.unproven.insert(number);
        open.by_peer.entry(peer).or_default().push(number);
        open.proofs.insert(number, sender);
        drop(open);
        Slot { admission: Arc::clone(self), peer, number, proof }
    }

    /// Somebody may call: his connection stays.
    pub fn prove(&self, peer: SocketAddr) {
        let open = &mut *self.open();
        for number in open.by_peer.get(&peer).into_iter().flatten() {
            let Some(proof) = open.proofs.get(number) else { continue };
            let is_new = proof.send_if_modified(|proof| {
                *proof == Proof::Missing && {
                    *proof = Proof::Shown;
                    true
                }
            });
            if is_new {
                open.unproven.remove(number);
            }
        }
    }
}

impl Slot {
    /// Waits until the connection has shown something good; false if it has not in time.
    pub fn proof(&self) -> impl Future<Output = bool> + Send + use<> {
        let (mut proof, admission) = (self.proof.clone(), Arc::clone(&self.admission));
        async move {
            let shown = proof.wait_for(|proof| *proof != Proof::Missing);
            match timeout(admission.proof_time, shown).await {
                Ok(Ok(proof)) => *proof == Proof::Shown,
                // It has gone by itself.
                Ok(Err(_)) => true,
                Err(_) => false,
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let open = &mut *self.admission.open();
        let address = site(self.peer.ip());
        if let Some(count) = open.by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                open.by_address.remove(&address);
            }
        }
        open.unproven.remove(&self.number);
        open.proofs.remove(&self.number);
        if let Some(numbers) = open.by_peer.get_mut(&self.peer) {
            numbers.retain(|number| *number != self.number);
            if numbers.is_empty() {
                open.by_peer.remove(&self.peer);
            }
        }
        // Whoever has ended it: we, the handshake's time, or the peer.
        if *self.proof.borrow() != Proof::Shown {
            self.admission.unproven.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Lives as long as its connection.
struct Held(#[allow(dead_code, reason = "dropping it frees the place")] Slot);

impl ConnObserver for Held {}

/// For the listeners of TCP; a unix socket has no addresses and lets in whom its permissions do.
pub struct Policy(pub Arc<Admission>);

#[async_trait]
impl FusePolicy for Policy {
    async fn decide(&self, info: &FuseInfo) -> FuseAction {
        match info.remote_addr.clone().into_std() {
            Some(peer) if !self.0.has_room(peer.ip()) => FuseAction::Reject,
            _ => FuseAction::Accept(times()),
        }
    }

    fn observe(&self, info: &FuseInfo, control: &ConnCtrl) -> Option<ArcConnObserver> {
        let slot = self.0.enter(info.remote_addr.clone().into_std()?);
        let (proof, control) = (slot.proof(), control.clone());
        tokio::spawn(async move {
            if !proof.await {
                control.abort();
            }
        });
        Some(Arc::new(Held(slot)))
    }
}

/// Times of every connection.
#[must_use]
pub fn times() -> FuseConfig {
    // No limit for idle connections: a stream of events may be silent for 15 s at a time.
    FuseConfig::default()
        .with_write_stall_timeout(Duration::from_secs(30))
        .with_request_body_timeout(Duration::from_secs(30))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(port: u16) -> SocketAddr {
        ([10, 0, 0, 1], port).into()
    }

    #[test]
    fn an_address_has_so_many_places_and_gets_them_back() {
        let admission = Admission::new(10, 2, Duration::from_secs(10));
        let slots = [admission.enter(peer(1)), admission.enter(peer(2))];
        assert!(!admission.has_room(peer(3).ip()));
        assert!(admission.has_room([10, 0, 0, 2].into()));
        // The same address in the form of the other family.
        assert!(!admission.has_room("::ffff:10.0.0.1".parse().unwrap()));
        drop(slots);
        assert!(admission.has_room(peer(3).ip()));
        assert!(admission.open().by_address.is_empty() && admission.count() == 0);
        assert_eq!(admission.refused.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn whoever_has_an_ipv6_address_has_its_network() {
        let admission = Admission::new(10, 2, Duration::from_secs(10));
        let at = |text: &str| SocketAddr::new(text.parse().unwrap(), 7);
        let slots =
            ["2001:db8:0:1::1", "2001:db8:0:1:ffff::2"].map(|text| admission.enter(at(text)));
        assert!(!admission.has_room(at("2001:db8:0:1:1:2:3:4").ip()));
        assert!(admission.has_room(at("2001:db8:0:2::1").ip()));
        drop(slots);
        assert!(admission.open().by_address.is_empty());
    }

    #[tokio::test]
    async fn strangers_have_half_of_the_places_and_the_oldest_goes_first() {
        let admission = Admission::new(6, 0, Duration::from_secs(60));
        let slots: Vec<Slot> = (1..=3).map(|port| admission.enter(peer(port))).collect();
        admission.prove(peer(2));
        let fourth = admission.enter(peer(4));
        // Three have shown nothing: the next one takes the place of the first.
        let fifth = admission.enter(peer(5));
        assert!(!slots[0].proof().await);
        admission.prove(peer(1));
        assert!(!slots[0].proof().await, "too late");
        admission.prove(peer(5));
        assert!(fifth.proof().await && slots[1].proof().await);
        admission.prove(peer(3));
        admission.prove(peer(4));
        assert!(slots[2].proof().await && fourth.proof().await);
        drop((slots, fourth, fifth));
        assert!(admission.open().unproven.is_empty() && admission.open().proofs.is_empty());
        assert!(admission.open().by_peer.is_empty());
    }

    #[tokio::test]
    async fn who_shows_nothing_is_told_to_go() {
        let admission = Admission::new(10, 0, Duration::from_millis(20));
        let (silent, good) = (admission.enter(peer(1)), admission.enter(peer(2)));
        admission.prove(peer(2));
        assert!(good.proof().await);
        assert!(!silent.proof().await);
        drop((silent, good));
        assert_eq!(admission.unproven.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn who_ends_before_he_is_told_to_has_shown_nothing_either() {
        // As where the handshake's own time is over, or the peer goes away.
        let admission = Admission::new(10, 0, Duration::from_secs(60));
        let (silent, good) = (admission.enter(peer(1)), admission.enter(peer(2)));
        admission.prove(peer(2));
        let proof = silent.proof();
        drop((silent, good));
        assert!(proof.await, "nobody has to end it");
        assert_eq!(admission.unproven.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn connections_of_one_port_are_each_looked_at() {
        let admission = Admission::new(10, 0, Duration::from_millis(20));
        let slots = [admission.enter(peer(1)), admission.enter(peer(1))];
        assert_eq!(admission.count(), 2);
        assert!(!slots[0].proof().await && !slots[1].proof().await, "neither has shown anything");
        let third = admission.enter(peer(1));
        drop(slots);
        assert_eq!(admission.count(), 1);
        admission.prove(peer(1));
        assert!(third.proof().await);
    }
}
