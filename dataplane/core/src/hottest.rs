//! What moves the most: for an operator who looks for the room that fills a core. Asked for by a
//! person, about once a second, at a cost of some tens of nanoseconds for each transport; a worker of very
//! many is looked at in portions.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use ironcast_protocol::stats::{Hottest, RouterRates, TransportRates};

use crate::{
    Nanos,
    key::{RouterKey, TransportKey},
    worker::Worker,
};

/// Transports that are looked at in one turn: some 100 us.
const TRANSPORTS_AT_ONCE: usize = 1_024;

/// How far a look at all transports is.
#[derive(Debug)]
pub struct Search {
    count: usize,
    /// Place of the next transport in its table.
    next: usize,
    transports: Largest<TransportKey>,
    /// Received and sent, of all transports of a room that were looked at.
    routers: BTreeMap<RouterKey, (u64, u64)>,
}

impl Search {
    /// For the `count` busiest rooms and transports.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self { count, next: 0, transports: Largest::new(count), routers: BTreeMap::new() }
    }
}

impl Worker {
    /// Looks at some transports. True when more are left.
    pub fn search_hottest(&self, search: &mut Search, now: Nanos) -> bool {
        let mut left = TRANSPORTS_AT_ONCE;
        for (key, transport) in self.transports.iter_from(search.next).take(TRANSPORTS_AT_ONCE) {
            let received = transport.traffic.received.meter.rate_bps(now);
            let sent = transport.traffic.sent.meter.rate_bps(now);
            search.transports.offer(received + sent, key);
            if received + sent > 0 {
                let all = search.routers.entry(transport.router).or_default();
                *all = (all.0 + received, all.1 + sent);
            }
            search.next = key.index() + 1;
            left -= 1;
        }
        left == 0
    }

    /// The routers and transports with the most traffic, both ways, the busiest first. Those without
    /// any are left out.
    #[must_use]
    pub fn hottest(&self, search: Search, now: Nanos) -> Hottest {
        let mut routers = Largest::new(search.count);
        for (key, (received, sent)) in search.routers {
            routers.offer(received + sent, (key, received, sent));
        }
        let routers = routers.into_vec().into_iter().filter_map(|(key, received, sent)| {
            let id = self.routers.get(key)?.id.clone();
            Some(RouterRates { id, recv_bitrate: received, send_bitrate: sent })
        });
        let transports = search.transports.into_vec().into_iter().filter_map(|key| {
            let transport = self.transports.get(key)?;
            let router = self.routers.get(transport.router)?.id.clone();
            let stats = self.transport_stats(&transport.id, now).ok()?;
            Some(TransportRates { id: transport.id.clone(), router, stats })
        });
        Hottest { routers: routers.collect(), transports: transports.collect() }
    }
}

/// The largest of many, without keeping the others.
#[derive(Debug)]
struct Largest<T> {
    count: usize,
    heap: BinaryHeap<Reverse<(u64, usize)>>,
    /// What was kept at some time; few more than are kept now.
    kept: Vec<Option<T>>,
}

impl<T> Largest<T> {
    fn new(count: usize) -> Self {
        Self { count, heap: BinaryHeap::with_capacity(count + 1), kept: Vec::new() }
    }

    fn offer(&mut self, size: u64, value: T) {
        if size == 0 || self.count == 0 {
            return;
        }
        let mut place = self.kept.len();
        if self.heap.len() >= self.count {
            match self.heap.peek() {
                Some(Reverse((least, at))) if *least < size => place = *at,
                _ => return,
            }
            self.heap.pop();
        } else {
            self.kept.push(None);
        }
        self.kept[place] = Some(value);
        self.heap.push(Reverse((size, place)));
    }

    /// The largest first.
    fn into_vec(mut self) -> Vec<T> {
        let order = std::mem::take(&mut self.heap).into_sorted_vec();
        order.into_iter().filter_map(|Reverse((_, place))| self.kept[place].take()).collect()
    }
}

#[cfg(test)]
mod tests {
    use ironcast_protocol::command::{CreateRouter, CreateWebRtcTransport};

    use super::*;
    use crate::{SECOND, link::webrtc::ice::Credentials, worker::Limits};

    const ROOMS: usize = 30;
    const PEERS: usize = 100;

    /// Peer `room-number` sends the more the greater its number is.
    fn worker() -> Worker {
        let mut worker = Worker::new(0, Limits::default());
        for room in 0..ROOMS {
            let create = CreateRouter {
                id: room.to_string(),
                worker: 0,
                selection: Default::default(),
                note: Vec::new(),
            };
            worker.apply_create_router(&create).unwrap();
        }
        for (room, number) in (0..PEERS).flat_map(|peer| (0..ROOMS).map(move |room| (room, peer))) {
            let create = CreateWebRtcTransport {
                id: format!("{room}-{number}"),
                router: room.to_string(),
                consent_timeout_s: 0,
                disconnected_timeout_s: 0,
                initial_available_outgoing_bitrate_bps: 0,
                candidates: Default::default(),
                note: Vec::new(),
            };
            let username_fragment = format!("00{room}-{number}");
            let credentials = Credentials { username_fragment, password: String::new() };
            let token = worker.apply_create_transport(&create, credentials, 0).unwrap();
            let transport = worker.transports.get_mut(token.into()).unwrap();
            transport.traffic.received.add(number * ROOMS + room, SECOND);
        }
        worker
    }

    /// A worker of very many is looked at in portions, while peers leave.
    #[test]
    fn the_busiest_are_found_in_portions() {
        let mut worker = worker();
        let mut search = Search::new(3);
        let mut portions = 1;
        while worker.search_hottest(&mut search, SECOND) {
            portions += 1;
            worker.apply_close_transport(&format!("{portions}-99")).unwrap();
        }
        assert_eq!(portions, 3);
        let hottest = worker.hottest(search, SECOND);
        let transports: Vec<_> = hottest.transports.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(transports, ["29-99", "28-99", "27-99"]);
        assert_eq!(hottest.transports[0].router, "29");
        let routers: Vec<_> = hottest.routers.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(routers, ["29", "28", "27"]);
        let rates = worker.transports.iter().map(|(_, transport)| {
            let router = worker.routers.get(transport.router).unwrap();
            let rate = transport.traffic.received.meter.rate_bps(SECOND);
            if router.id == "29" { rate } else { 0 }
        });
        assert_eq!(hottest.routers[0].recv_bitrate, rates.sum::<u64>());
    }

    #[test]
    fn the_largest_are_kept_in_order() {
        let mut largest = Largest::new(3);
        for size in [5, 0, 9, 1, 7, 3, 8] {
            largest.offer(size, size);
        }
        assert_eq!(largest.into_vec(), [9, 8, 7]);
        let mut none = Largest::new(0);
        none.offer(1, 1);
        assert!(none.into_vec().is_empty());
    }
}
