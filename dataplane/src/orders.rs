//! What a worker has told the handshake threads, and what it has yet to tell them: they may be too
//! busy to take it now. Called by the engine; nothing is lost here, and what waits is bounded by the
//! transports there are. Never waits itself.

use std::collections::BTreeMap;

use ironcast_core::{Nanos, SECOND};
use ironcast_handshake::{Fingerprint, Handshakes, Role};

/// Until the handshake threads are asked again.
const PAUSE: Nanos = SECOND / 100;

/// What the API has said about a transport's peer.
struct Peer {
    role: Role,
    fingerprints: Vec<Fingerprint>,
    /// Its place among those that wait to begin.
    place: Option<u64>,
}

/// See the file's head.
#[derive(Default)]
pub struct Orders {
    /// Of transports whose handshake has not begun.
    peers: BTreeMap<u64, Peer>,
    /// Transports whose handshakes are to begin, in the order in which they were asked for.
    begin: BTreeMap<u64, u64>,
    next_place: u64,
    /// Those of earlier places are counted, if they had to wait.
    counted: u64,
    /// Transports that are to be forgotten.
    gone: Vec<u64>,
    /// Handshakes that could not begin at once.
    pub delayed: u64,
}

impl Orders {
    /// The API has connected a transport; our role, and who the peer is.
    pub fn connect(&mut self, transport: u64, role: Role, fingerprints: Vec<Fingerprint>) {
        self.peers.insert(transport, Peer { role, fingerprints, place: None });
    }

    /// A connected transport's handshake is to begin.
    pub fn begin(&mut self, transport: u64) {
        if let Some(peer) = self.peers.get_mut(&transport)
            && peer.place.is_none()
        {
            peer.place = Some(self.next_place);
            self.begin.insert(self.next_place, transport);
            self.next_place += 1;
        }
    }

    /// A transport is gone.
    pub fn forget(&mut self, transport: u64) {
        let peer = self.peers.remove(&transport);
        if let Some(place) = peer.and_then(|peer| peer.place) {
            self.begin.remove(&place);
        }
        self.gone.push(transport);
    }

    /// Tells the handshake threads what they take now. First who is gone: that makes room.
    pub fn pass(&mut self, handshakes: &Handshakes) {
        let refused = self.gone.iter().position(|&gone| handshakes.remove(gone).is_err());
        self.gone.drain(..refused.unwrap_or(self.gone.len()));
        while let Some((&place, &transport)) = self.begin.first_key_value() {
            if let Some(Peer { role, fingerprints, .. }) = self.peers.get(&transport)
                && handshakes.begin(transport, *role, fingerprints.clone()).is_err()
            {
                break;
            }
            self.begin.remove(&place);
            self.peers.remove(&transport);
        }
        self.delayed += self.begin.range(self.counted..).count() as u64;
        self.counted = self.next_place;
    }

    /// When [`Self::pass`] is to be called again.
    pub fn deadline(&self, now: Nanos) -> Option<Nanos> {
        (!self.begin.is_empty() || !self.gone.is_empty()).then_some(now + PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::mpsc, time::Duration};

    use ironcast_handshake::{Certificate, Output, Pool, PoolConfig};

    use super::*;

    /// A pool of one worker; handshakes as a client say which transport's they are.
    fn pool(config: PoolConfig) -> (Pool, Handshakes, mpsc::Receiver<u64>, Vec<Fingerprint>) {
        let certificate = Certificate::generate().unwrap();
        let fingerprints = certificate.fingerprints();
        let pool = Pool::start(config, certificate, || {}).unwrap();
        let (sender, receiver) = mpsc::channel();
        let handshakes = pool.join(move |transport, output| {
            if matches!(output, Output::Datagram(_)) {
                let _ = sender.send(transport);
            }
        });
        (pool, handshakes, receiver, fingerprints)
    }

    fn begun(receiver: &mpsc::Receiver<u64>) -> u64 {
        receiver.recv_timeout(Duration::from_secs(20)).unwrap()
    }

    #[test]
    fn what_is_refused_is_asked_again_in_its_order() {
        let config = PoolConfig { handshakes_max: 1, ..PoolConfig::default() };
        let (_pool, handshakes, receiver, fingerprints) = pool(config);
        let mut orders = Orders::default();
        for transport in [7, 5, 3, 1] {
            orders.connect(transport, Role::Client, fingerprints.clone());
        }
        assert_eq!(orders.deadline(0), None);
        for transport in [7, 5, 3, 3] {
            orders.begin(transport);
        }
        orders.pass(&handshakes);
        assert_eq!((begun(&receiver), orders.delayed), (7, 2));
        assert_eq!(orders.deadline(9), Some(9 + PAUSE));
        // One that goes while it waits is not begun; who is gone makes room.
        orders.forget(5);
        orders.forget(7);
        while orders.deadline(0).is_some() {
            orders.pass(&handshakes);
        }
        assert_eq!((begun(&receiver), orders.delayed), (3, 2));
        // Only what was asked for.
        orders.forget(1);
        assert!(orders.peers.is_empty());
    }

    #[test]
    fn a_full_queue_loses_nothing() {
        // Without room in it, the thread takes an order only when it waits for one.
        let config = PoolConfig { datagrams_max: 0, commands_max: 0, ..PoolConfig::default() };
        let (_pool, handshakes, receiver, fingerprints) = pool(config);
        let mut orders = Orders::default();
        for transport in 0..50 {
            orders.connect(transport, Role::Client, fingerprints.clone());
            orders.begin(transport);
        }
        while orders.deadline(0).is_some() {
            orders.pass(&handshakes);
        }
        // One that gets no answer repeats itself.
        let mut all = BTreeSet::new();
        while all.len() < 50 {
            all.insert(begun(&receiver));
        }
        (0..50).for_each(|transport| orders.forget(transport));
        while orders.deadline(0).is_some() {
            orders.pass(&handshakes);
        }
    }
}
