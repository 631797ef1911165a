//! Which layer each of a peer's video consumers is to get: what it prefers, what its source sends,
//! what the peer's budget carries. Runs a few times a second for a transport, and at once when
//! something changes; never on the way of a packet.

use ironcast_protocol::{
    Event,
    event::LayersReason,
    media::{Layers, MediaKind},
};

use crate::{
    MS, Nanos,
    budget::{Demand, divide},
    consumer::Consumer,
    key::{ConsumerKey, ProducerKey, TransportKey},
    producer::{Producer, Stream},
    worker::Worker,
};

/// Time between two looks at one transport.
pub(crate) const LAYERS_EVERY: Nanos = 250 * MS;

impl Worker {
    /// Sets the targets of all video consumers of a transport, and asks for the key frames that
    /// they need.
    pub(crate) fn select_layers(&mut self, key: TransportKey, now: Nanos) {
        let Some(transport) = self.transports.get_mut(key) else {
            return;
        };
        let mut keys = Vec::with_capacity(transport.consumers.len());
        let mut demands = Vec::with_capacity(transport.consumers.len());
        let mut silent = Vec::new();
        for &consumer_key in &transport.consumers {
            let Some(consumer) = self.consumers.get(consumer_key) else {
                continue;
            };
            let Some(producer) = self.producers.get(consumer.producer) else {
                continue;
            };
            if consumer.kind != MediaKind::Video {
                continue;
            }
            if consumer.paused || producer.paused {
                silent.push(consumer_key);
            } else {
                keys.push(consumer_key);
                let options = options(consumer, producer, now);
                demands.push(Demand { priority: consumer.priority, options });
            }
        }
        let best = |demand: &Demand| demand.options.last().map_or(0, |(_, cost)| *cost);
        let wanted: u64 = demands.iter().map(best).sum();
        transport.budget.raise(wanted, now);
        let chosen = divide(transport.budget.available_bps(), &demands);
        // Before the peer can receive, a key frame would be wasted: it is asked for again then.
        let ready = transport.is_ready();
        for consumer_key in silent {
            self.set_target(consumer_key, None, true, now);
        }
        for ((consumer_key, demand), chosen) in keys.into_iter().zip(&demands).zip(chosen) {
            let layers = chosen.map(|at| demand.options[at].0);
            let fits = chosen.is_none_or(|at| at + 1 == demand.options.len());
            if self.set_target(consumer_key, layers, fits, now) && ready {
                self.ask_key_frame(consumer_key, now);
            }
        }
    }

    /// Sets what a consumer is to get, and reports what it gets. True when it needs a key frame.
    fn set_target(
        &mut self,
        key: ConsumerKey,
        layers: Option<Layers>,
        fits: bool,
        now: Nanos,
    ) -> bool {
        let Some(consumer) = self.consumers.get_mut(key) else { return false };
        let Some(producer) = self.producers.get(consumer.producer) else { return false };
        if let Some(layers) = layers {
            consumer.target = Some(layers.spatial);
            let stream = producer.streams.get(usize::from(layers.spatial));
            let top = stream.map_or(0, |stream| highest_temporal(producer, stream));
            consumer.temporal_target =
                if layers.temporal >= top { u8::MAX } else { layers.temporal };
            let preferred = consumer.preferred.is_none_or(|p| p.spatial == layers.spatial);
            consumer.reason = match (fits, preferred) {
                (false, _) => LayersReason::Bandwidth,
                (true, false) => LayersReason::Available,
                (true, true) => LayersReason::Preferred,
            };
        }
        let current = consumer.current_layers(producer);
        if current != consumer.announced_layers {
            consumer.announced_layers = current;
            let (consumer, reason) = (consumer.id.clone(), consumer.reason);
            self.events.push(Event::ConsumerLayersChange { consumer, layers: current, reason });
        }
        self.follow(key, now);
        self.consumers.get(key).is_some_and(Consumer::needs_key_frame)
    }

    fn ask_key_frame(&mut self, key: ConsumerKey, now: Nanos) {
        let Some(consumer) = self.consumers.get(key) else { return };
        let Some(producer) = self.producers.get_mut(consumer.producer) else { return };
        if let Some(stream) = consumer.target {
            // It is here, and about to be handed to whoever waits for it.
            if producer.streams.get(usize::from(stream)).is_some_and(|s| s.fresh.key_frame) {
                return;
            }
            producer.request_key_frame(stream, now);
            let transport = producer.transport;
            self.touch(transport);
        }
    }

    /// A stream has started, stopped or been paused: everyone who gets it looks again, in this turn.
    pub(crate) fn touch_subscribers(&mut self, key: ProducerKey, now: Nanos) {
        let Some(producer) = self.producers.get(key) else {
            return;
        };
        for subscriber in &producer.subscribers {
            if let Some(transport) = self.transports.get_mut(subscriber.transport) {
                transport.layers_at = transport.layers_at.min(now);
                if !transport.touched {
                    transport.touched = true;
                    self.touched.push(subscriber.transport);
                }
            }
        }
    }
}

/// What could be sent, in rising quality: the lowest layer by its temporal layers, then whole
/// layers up to the preferred one. Only streams that are being received count; and above what is
/// sent now only those whose rate is known, since who is sent up too soon comes down again.
fn options(consumer: &Consumer, producer: &Producer, now: Nanos) -> Vec<(Layers, u64)> {
    let top = (producer.streams.len() - 1) as u8;
    let preferred = consumer.preferred.unwrap_or(Layers { spatial: top, temporal: u8::MAX });
    let current = consumer.current.unwrap_or(0);
    let mut options = Vec::new();
    for (spatial, stream) in (0..=top).zip(&producer.streams) {
        let wanted = spatial <= preferred.spatial && (spatial <= current || stream.is_settled(now));
        if !stream.is_active() || !wanted && !options.is_empty() {
            continue;
        }
        let mut highest = highest_temporal(producer, stream);
        // A wish can only be about layers that were announced: the highest of them means all.
        let announced = producer.temporal_layers.saturating_sub(1);
        if spatial == preferred.spatial && preferred.temporal < announced {
            highest = highest.min(preferred.temporal);
        }
        let lowest = if options.is_empty() { 0 } else { highest };
        for temporal in lowest..=highest {
            let cost = stream.rate_bps(temporal, now);
            options.push((Layers { spatial, temporal }, cost));
        }
    }
    options
}

/// The highest temporal layer of a stream: publishers send more than they announce.
fn highest_temporal(producer: &Producer, stream: &Stream) -> u8 {
    stream.temporal_max.max(producer.temporal_layers.saturating_sub(1))
}
