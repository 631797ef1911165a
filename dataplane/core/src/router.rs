//! [5] One room: who sends, who receives, and the fan-out between them. A subscriber is a consumer of
//! this core, of a room that outgrows its core a pipe into `link/hop.rs`, or a tap (`tap.rs`), which takes its
//! packets here. Next: [6] `consumer.rs` chooses, when [7] drains its transport.

use ironcast_protocol::Id;

use crate::{
    Nanos, SECOND,
    consumer::Consumer,
    heard::Heard,
    key::{ConsumerKey, Key, ObserverKey, ProducerKey, TapKey, TransportKey},
    producer::{Producer, Subscriber},
    transport::Transport,
    worker::Worker,
};

/// A producer with more subscribers than this is fanned out after the others: rooms take turns
/// (`ready.rs`), but a router may have calls of some beside one of many.
const LARGE: usize = 64;

/// One room.
#[derive(Debug)]
pub struct Router {
    /// The caller's id.
    pub id: Id,
    /// Its peers. Each knows its place: [`Transport::at_router`].
    pub transports: Vec<TransportKey>,
    /// Who listens to its audio.
    pub observers: Vec<ObserverKey>,
    /// Who is heard and seen, where that is limited.
    pub heard: Option<Box<Heard>>,
}

/// Whether somebody begins at a key frame that is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Restart {
    /// In this turn.
    Now,
    /// Others do in this turn, as many as there is room for.
    Later,
    /// There is none.
    Never,
}

impl Worker {
    /// First phase of a turn's output: every producer with new packets names its subscribers'
    /// transports. Nothing is written yet: [7] then drains transport by transport. Who sends to few
    /// comes first.
    pub(crate) fn fan_out(&mut self) {
        let mut untold = std::mem::take(&mut self.untold_producers);
        let mut has_large = false;
        for &key in &untold {
            let subscribers = self.producers.get(key).map_or(0, |one| one.subscribers.len());
            if subscribers > LARGE {
                has_large = true;
            } else {
                self.fan_out_of(key);
            }
        }
        if has_large {
            for &key in &untold {
                self.fan_out_of(key);
            }
        }
        untold.clear();
        self.untold_producers = untold;
    }

    /// Of one producer; nothing where all its packets were told of before.
    fn fan_out_of(&mut self, key: ProducerKey) {
        let Some(producer) = self.producers.get_mut(key) else { return };
        let new = producer.new_streams();
        if new == 0 {
            producer.all_are_told();
            return;
        }
        producer.even_sizes();
        for &subscriber in &producer.subscribers {
            let (key, transport_key) = match subscriber {
                Subscriber::Consumer { streams, .. } if streams & new == 0 => continue,
                Subscriber::Consumer { key, transport, .. } => (key, transport),
                Subscriber::Tap(key) => {
                    self.taps.take_new(key, producer, self.unix_offset_ns);
                    continue;
                }
            };
            let Some(consumer) = self.consumers.get_mut(key) else {
                continue;
            };
            if consumer.queued {
                continue;
            }
            if self.ways.of(transport_key.index()).is_none() {
                continue;
            }
            let Some(transport) = self.transports.get_mut(transport_key) else {
                continue;
            };
            consumer.queue(producer);
            transport.pending.push(key);
            if !transport.queued {
                transport.queued = true;
                self.ready.push(transport.router, transport_key);
            }
        }
        producer.all_are_told();
    }

    /// A consumer that waits for a key frame begins at one that is here, if there is one.
    pub(crate) fn restart(&mut self, key: ConsumerKey, now: Nanos) -> Restart {
        let Some(consumer) = self.consumers.get_mut(key) else { return Restart::Never };
        let Some(producer) = self.producers.get(consumer.producer) else { return Restart::Never };
        let transport = self.transports.get_mut(consumer.transport);
        let Some(transport) = transport else { return Restart::Never };
        let target = consumer.target.filter(|_| consumer.resync && !producer.paused);
        let stream = target.and_then(|index| producer.streams.get(usize::from(index)));
        let Some((_, bytes)) = stream.and_then(|one| one.restart(consumer.last_arrival, now))
        else {
            return Restart::Never;
        };
        if !consumer.restarts {
            // Where more comes than leaves, what is older would only take the time of what is new.
            if now < self.late_at + SECOND || bytes > transport.budget.begins_with_bytes() {
                return Restart::Never;
            }
            if !self.looks.take_bytes(bytes) {
                return Restart::Later;
            }
        }
        consumer.restarts = true;
        if !consumer.queued {
            consumer.queue(producer);
            transport.pending.push(key);
        }
        if !transport.queued {
            transport.queued = true;
            self.ready.push(transport.router, consumer.transport);
        }
        Restart::Now
    }

    /// A room knows its new peer.
    pub(crate) fn enter(&mut self, key: TransportKey) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        let Some(router) = self.routers.get_mut(transport.router) else { return };
        transport.at_router = router.transports.len() as u32;
        router.transports.push(key);
    }

    /// The reverse, at a cost that does not grow with the room: the last one takes its place.
    pub(crate) fn leave(&mut self, key: TransportKey, transport: &Transport) {
        let Some(router) = self.routers.get_mut(transport.router) else { return };
        if let Some(moved) = take(&mut router.transports, key, transport.at_router)
            && let Some(moved) = self.transports.get_mut(moved)
        {
            moved.at_router = transport.at_router;
        }
    }

    /// A transport's track is gone, the same way.
    pub(crate) fn unpublish(&mut self, key: ProducerKey, producer: &Producer) {
        let Some(transport) = self.transports.get_mut(producer.transport) else { return };
        if let Some(moved) = take(&mut transport.producers, key, producer.at_transport)
            && let Some(moved) = self.producers.get_mut(moved)
        {
            moved.at_transport = producer.at_transport;
        }
    }

    /// A consumer's producer and transport know it from now on.
    pub(crate) fn subscribe(&mut self, key: ConsumerKey, now: Nanos) {
        let Some(consumer) = self.consumers.get_mut(key) else { return };
        let Some(producer) = self.producers.get_mut(consumer.producer) else { return };
        let Some(transport) = self.transports.get_mut(consumer.transport) else { return };
        consumer.at_producer = producer.subscribers.len() as u32;
        consumer.at_transport = transport.consumers.len() as u32;
        let (transport_key, streams) = (consumer.transport, consumer.follow(now));
        let subscriber = Subscriber::Consumer { key, transport: transport_key, streams };
        producer.subscribers.push(subscriber);
        transport.consumers.push(key);
        transport.sender_reports_at = transport.sender_reports_at.min(consumer.report_at);
        producer.watched.count_wish(consumer, producer.streams.len());
        let (producer, wanted) = (consumer.producer, consumer.counted);
        self.wants_more(producer, wanted);
    }

    /// The reverse, at a cost that does not grow with the room: the last one takes its place.
    pub(crate) fn unsubscribe(&mut self, key: ConsumerKey, consumer: &Consumer) {
        if let Some(producer) = self.producers.get_mut(consumer.producer) {
            producer.watched.forget_wish(consumer);
        }
        self.wants_changed(consumer.producer);
        let at = consumer.at_producer as usize;
        let producer = self.producers.get(consumer.producer);
        let known = producer.and_then(|producer| producer.subscribers.get(at));
        if known.and_then(|known| known.consumer()) == Some(key) {
            self.drop_subscriber(consumer.producer, at);
        }
        if let Some(transport) = self.transports.get_mut(consumer.transport)
            && let Some(moved) = take(&mut transport.consumers, key, consumer.at_transport)
            && let Some(moved) = self.consumers.get_mut(moved)
        {
            moved.at_transport = consumer.at_transport;
        }
    }

    /// A tap is no subscriber any more. There are few.
    pub(crate) fn unsubscribe_tap(&mut self, producer: ProducerKey, tap: TapKey) {
        let known = self.producers.get(producer).map(|producer| &producer.subscribers);
        let at = known.and_then(|all| all.iter().position(|one| *one == Subscriber::Tap(tap)));
        if let Some(at) = at {
            self.drop_subscriber(producer, at);
        }
    }

    /// The last one takes its place.
    fn drop_subscriber(&mut self, producer: ProducerKey, at: usize) {
        let Some(producer) = self.producers.get_mut(producer) else { return };
        producer.subscribers.swap_remove(at);
        let moved = producer.subscribers.get(at).and_then(|moved| moved.consumer());
        if let Some(moved) = moved.and_then(|moved| self.consumers.get_mut(moved)) {
            moved.at_producer = at as u32;
        }
    }

    /// What a consumer is to get, or whether it is paused, has changed: from now on it is visited
    /// for the packets of these streams.
    pub(crate) fn follow(&mut self, key: ConsumerKey, now: Nanos) {
        let Some(consumer) = self.consumers.get_mut(key) else { return };
        let (follows, at) = (consumer.follow(now), consumer.at_producer as usize);
        if let Some(producer) = self.producers.get_mut(consumer.producer)
            && let Some(Subscriber::Consumer { key: of, streams, .. }) =
                producer.subscribers.get_mut(at)
            && *of == key
        {
            *streams = follows;
        }
    }

    /// After all output is written: what was fresh is history.
    pub(crate) fn forget_fresh(&mut self) {
        for key in self.fresh_producers.drain(..) {
            if let Some(producer) = self.producers.get_mut(key) {
                producer.forget_fresh();
            }
        }
    }
}

/// Takes a key out of its place in a list. Returns the one that has the place now.
fn take<K>(list: &mut Vec<Key<K>>, key: Key<K>, at: u32) -> Option<Key<K>> {
    let at = at as usize;
    if list.get(at) != Some(&key) {
        return None;
    }
    list.swap_remove(at);
    list.get(at).copied()
}

#[cfg(test)]
mod tests {
    use ironcast_protocol::command::{CreateRouter, CreateWebRtcTransport};

    use super::*;
    use crate::{link::webrtc::ice::Credentials, worker::Limits};

    const PEERS: usize = 500;

    fn room() -> Worker {
        let mut worker = Worker::new(0, Limits::default());
        let create = CreateRouter {
            id: "room".into(),
            worker: 0,
            selection: Default::default(),
            note: Vec::new(),
        };
        worker.apply_create_router(&create).unwrap();
        for number in 0..PEERS {
            let create = CreateWebRtcTransport {
                id: number.to_string(),
                router: "room".into(),
                consent_timeout_s: 0,
                disconnected_timeout_s: 0,
                initial_available_outgoing_bitrate_bps: 0,
                candidates: Default::default(),
                note: Vec::new(),
            };
            let credentials =
                Credentials { username_fragment: format!("00{number}"), password: String::new() };
            worker.apply_create_transport(&create, credentials, 0).unwrap();
        }
        worker
    }

    fn peers(worker: &Worker) -> Vec<TransportKey> {
        worker.routers.get(worker.router_ids["room"]).unwrap().transports.clone()
    }

    /// Whoever leaves, one other is moved and nobody is looked for.
    #[test]
    fn a_peer_that_leaves_moves_one_other() {
        let mut worker = room();
        for number in (0..PEERS).step_by(3) {
            let before = peers(&worker);
            worker.apply_close_transport(&number.to_string()).unwrap();
            let after = peers(&worker);
            assert_eq!(after.len() + 1, before.len());
            let moved = after.iter().zip(&before).filter(|(after, before)| after != before);
            assert!(moved.count() <= 1);
            for (at, key) in after.iter().enumerate() {
                assert_eq!(worker.transports.get(*key).map(|t| t.at_router), Some(at as u32));
            }
        }
        worker.apply_close_router("room").unwrap();
        assert!(worker.transports.is_empty());
    }
}
