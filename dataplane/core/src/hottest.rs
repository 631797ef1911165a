//! What moves the most: for an operator who looks for the room that fills a core. Asked for by a
//! person, about once a second, at a cost of a few nanoseconds for each transport.

use std::{cmp::Reverse, collections::BinaryHeap};

use ironcast_protocol::stats::{Hottest, RouterRates, TransportRates};

use crate::{Nanos, worker::Worker};

impl Worker {
    /// The `count` routers and transports with the most traffic, both ways, the busiest first.
    /// Those without any are left out.
    #[must_use]
    pub fn hottest(&self, count: usize, now: Nanos) -> Hottest {
        let mut transports = Largest::new(count);
        let mut routers = Largest::new(count);
        for (router_key, router) in self.routers.iter() {
            let (mut all_received, mut all_sent) = (0, 0);
            for key in &router.transports {
                let Some(transport) = self.transports.get(*key) else { continue };
                let received = transport.traffic.received.meter.rate_bps(now);
                let sent = transport.traffic.sent.meter.rate_bps(now);
                all_received += received;
                all_sent += sent;
                transports.offer(received + sent, *key);
            }
            routers.offer(all_received + all_sent, (router_key, all_received, all_sent));
        }
        let routers = routers.into_vec().into_iter().filter_map(|(key, received, sent)| {
            let id = self.routers.get(key)?.id.clone();
            Some(RouterRates { id, recv_bitrate: received, send_bitrate: sent })
        });
        let transports = transports.into_vec().into_iter().filter_map(|key| {
            let transport = self.transports.get(key)?;
            let router = self.routers.get(transport.router)?.id.clone();
            let stats = self.transport_stats(&transport.id, now).ok()?;
            Some(TransportRates { id: transport.id.clone(), router, stats })
        });
        Hottest { routers: routers.collect(), transports: transports.collect() }
    }
}

/// The largest of many, without keeping the others.
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
    use super::*;

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
