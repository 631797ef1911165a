//! [5] One room: who sends, who receives, and the fan-out between them. A subscriber is a consumer
//! of this core; a room that outgrows its core will have subscribers on others (the seam is
//! [`crate::producer::Subscriber`]). Next: [6] `consumer.rs` chooses, when [7] drains its transport.

use ironcast_protocol::Id;

use crate::{
    Nanos,
    consumer::Consumer,
    key::{ConsumerKey, TransportKey},
    producer::Subscriber,
    worker::Worker,
};

/// One room.
#[derive(Debug)]
pub struct Router {
    /// The caller's id.
    pub id: Id,
    /// Its peers.
    pub transports: Vec<TransportKey>,
}

impl Worker {
    /// First phase of a turn's output: every producer with fresh packets names its subscribers'
    /// transports. Nothing is written yet: [7] then drains transport by transport.
    pub(crate) fn fan_out(&mut self) {
        for &key in &self.fresh_producers {
            let Some(producer) = self.producers.get_mut(key) else {
                continue;
            };
            producer.even_sizes();
            let fresh = producer.fresh_streams();
            for subscriber in &producer.subscribers {
                if subscriber.streams & fresh == 0 {
                    continue;
                }
                let Some(consumer) = self.consumers.get_mut(subscriber.consumer) else {
                    continue;
                };
                if consumer.queued {
                    continue;
                }
                let Some(transport) = self.transports.get_mut(subscriber.transport) else {
                    continue;
                };
                if !transport.is_ready() {
                    continue;
                }
                consumer.queued = true;
                transport.pending.push(subscriber.consumer);
                if !transport.queued {
                    transport.queued = true;
                    self.ready_transports.push(subscriber.transport);
                }
            }
        }
    }

    /// A consumer that waits for a key frame begins at one that is here, in this turn. False when
    /// there is none.
    pub(crate) fn restart(&mut self, key: ConsumerKey, now: Nanos) -> bool {
        let Some(consumer) = self.consumers.get_mut(key) else { return false };
        let Some(producer) = self.producers.get(consumer.producer) else { return false };
        let Some(transport) = self.transports.get_mut(consumer.transport) else { return false };
        let target = consumer.target.filter(|_| consumer.resync && !producer.paused);
        let stream = target.and_then(|index| producer.streams.get(usize::from(index)));
        if stream.and_then(|stream| stream.restart(consumer.last_arrival, now)).is_none() {
            return false;
        }
        consumer.restarts = true;
        if !consumer.queued {
            consumer.queued = true;
            transport.pending.push(key);
        }
        if !transport.queued {
            transport.queued = true;
            self.ready_transports.push(consumer.transport);
        }
        true
    }

    /// A consumer's producer and transport know it from now on.
    pub(crate) fn subscribe(&mut self, key: ConsumerKey, now: Nanos) {
        let Some(consumer) = self.consumers.get_mut(key) else { return };
        let Some(producer) = self.producers.get_mut(consumer.producer) else { return };
        let Some(transport) = self.transports.get_mut(consumer.transport) else { return };
        consumer.at_producer = producer.subscribers.len() as u32;
        consumer.at_transport = transport.consumers.len() as u32;
        let (transport_key, streams) = (consumer.transport, consumer.follow(now));
        producer.subscribers.push(Subscriber { consumer: key, transport: transport_key, streams });
        transport.consumers.push(key);
    }

    /// The reverse, at a cost that does not grow with the room: the last one takes its place.
    pub(crate) fn unsubscribe(&mut self, key: ConsumerKey, consumer: &Consumer) {
        let at = consumer.at_producer as usize;
        if let Some(producer) = self.producers.get_mut(consumer.producer)
            && producer.subscribers.get(at).is_some_and(|known| known.consumer == key)
        {
            producer.subscribers.swap_remove(at);
            let moved = producer.subscribers.get(at).map(|moved| moved.consumer);
            if let Some(moved) = moved.and_then(|moved| self.consumers.get_mut(moved)) {
                moved.at_producer = at as u32;
            }
        }
        let at = consumer.at_transport as usize;
        if let Some(transport) = self.transports.get_mut(consumer.transport)
            && transport.consumers.get(at) == Some(&key)
        {
            transport.consumers.swap_remove(at);
            let moved = transport.consumers.get(at).copied();
            if let Some(moved) = moved.and_then(|moved| self.consumers.get_mut(moved)) {
                moved.at_transport = at as u32;
            }
        }
    }

    /// What a consumer is to get, or whether it is paused, has changed: from now on it is visited
    /// for the packets of these streams.
    pub(crate) fn follow(&mut self, key: ConsumerKey, now: Nanos) {
        let Some(consumer) = self.consumers.get_mut(key) else { return };
        let (streams, at) = (consumer.follow(now), consumer.at_producer as usize);
        if let Some(producer) = self.producers.get_mut(consumer.producer)
            && let Some(subscriber) = producer.subscribers.get_mut(at)
            && subscriber.consumer == key
        {
            subscriber.streams = streams;
        }
    }

    /// After the output is written: what was fresh is history.
    pub(crate) fn forget_fresh(&mut self) {
        for key in self.fresh_producers.drain(..) {
            if let Some(producer) = self.producers.get_mut(key) {
                producer.forget_fresh();
            }
        }
    }
}
