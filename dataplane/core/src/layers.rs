//! Which layer each of a peer's video consumers is to get: what it prefers, what its source sends,
//! what the peer's budget carries. Looked at a few times a second for a transport, and soon when
//! something changes; never on the way of a packet.
//!
//! One camera of a room of hundreds changes, and each of hundreds of transports has hundreds of consumers to
//! look at: those wait in a row, and a turn takes from it what it has time for.

use std::collections::VecDeque;

use ironcast_protocol::{
    Event,
    event::LayersReason,
    media::{Layers, MediaKind},
};

use crate::{
    MS, Nanos, SECOND,
    consumer::Consumer,
    divide::{Demand, Options, divide},
    key::{ConsumerKey, ProducerKey, TransportKey},
    key_frame::Wish,
    producer::{Producer, Stream, Subscriber, TEMPORAL_LAYERS},
    router::Restart,
    transport::Transport,
    worker::Worker,
};

/// Time between two looks at one transport.
const LAYERS_EVERY: Nanos = 250 * MS;
/// The same where all have their best and nothing limits them: what changes that is told at once.
const LAYERS_EVERY_AT_BEST: Nanos = SECOND;
/// What audio takes is remembered for a while, since speech begins at any time: this much of it is
/// forgotten with each look.
const AUDIO_FORGOTTEN: u64 = 64;

/// Consumers that are looked at in one turn: some 200 us.
const CONSUMERS_AT_ONCE: usize = 2_048;
/// A transport without any counts as so many.
const LOOK: usize = 4;
/// Payload bytes of one turn with which receivers begin at key frames that came before.
const RESTARTED_BYTES_MAX: usize = 512 << 10;

/// For [`Transport::layers_at`]: as soon as there is time.
pub(crate) const AT_ONCE: Nanos = 0;

/// Transports that are to be looked at, and what this turn has time for.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    waiting: VecDeque<TransportKey>,
    /// Those that are looked at again in the next turn.
    next: Vec<TransportKey>,
    consumers_left: usize,
    bytes_left: usize,
}

impl Looks {
    /// A turn begins.
    pub(crate) fn begin(&mut self) {
        self.waiting.extend(self.next.drain(..));
        (self.consumers_left, self.bytes_left) = (CONSUMERS_AT_ONCE, RESTARTED_BYTES_MAX);
    }

    /// True when none waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.next.is_empty()
    }

    /// The next one, if there is time.
    fn take(&mut self) -> Option<TransportKey> {
        if self.consumers_left > 0 { self.waiting.pop_front() } else { None }
    }

    /// True when a receiver may begin with so many bytes in this turn.
    pub(crate) fn take_bytes(&mut self, bytes: usize) -> bool {
        let may = self.bytes_left > 0;
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        may
    }

    pub(crate) fn push(&mut self, key: TransportKey, transport: &mut Transport) {
        if !std::mem::replace(&mut transport.awaits_look, true) {
            self.waiting.push_back(key);
        }
    }
}

/// What a consumer is to get.
#[derive(Debug, Clone, Copy)]
enum Aim {
    /// These layers; `fits`: nothing better is there, or wanted.
    Layers { layers: Layers, fits: bool },
    /// Nothing, for lack of bandwidth.
    Nothing,
    /// What it was to get before: it is paused, or there is nothing to choose from.
    Same,
}

impl Worker {
    /// A transport's layers are to be looked at.
    pub(crate) fn await_look(&mut self, key: TransportKey) {
        if let Some(transport) = self.transports.get_mut(key) {
            self.looks.push(key, transport);
        }
    }

    /// Looks at those that wait, while there is time.
    pub(crate) fn look(&mut self, now: Nanos) {
        while let Some(key) = self.looks.take() {
            if let Some(transport) = self.transports.get_mut(key) {
                transport.awaits_look = false;
                self.select_layers(key, now);
            }
        }
    }

    /// Sets the targets of all video consumers of a transport, and asks for the key frames that
    /// they need.
    fn select_layers(&mut self, key: TransportKey, now: Nanos) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        self.counters.looks += 1;
        let cost = LOOK + transport.consumers.len();
        self.looks.consumers_left = self.looks.consumers_left.saturating_sub(cost);
        let mut demands = std::mem::take(&mut self.demands);
        demands.clear();
        let mut fixed_bps = 0;
        let (mut has_video, mut sender_reports_at) = (false, Nanos::MAX);
        for &consumer_key in &transport.consumers {
            let Some(consumer) = self.consumers.get(consumer_key) else { continue };
            let Some(producer) = self.producers.get(consumer.producer) else { continue };
            if !consumer.paused && !producer.paused {
                has_video |= consumer.kind == MediaKind::Video;
                sender_reports_at = sender_reports_at.min(consumer.report_at);
            }
            let is_silent = consumer.paused || producer.paused || consumer.is_left_out;
            // What a pipe carries is not for us to choose.
            if consumer.is_pipe() && !is_silent {
                let stream = consumer.target.and_then(|at| producer.streams.get(usize::from(at)));
                fixed_bps += stream.map_or(0, |stream| stream.rate_bps(u8::MAX, now));
            }
            if consumer.kind == MediaKind::Video {
                demands.push(Demand {
                    consumer: consumer_key,
                    priority: consumer.priority,
                    is_shown: !consumer.is_starved,
                    options: if is_silent || consumer.is_pipe() {
                        Options::default()
                    } else {
                        options(consumer, producer, now)
                    },
                    chosen: None,
                });
            } else if !is_silent && !consumer.is_pipe() {
                let rates = producer.streams.iter().map(|stream| stream.rate_bps(u8::MAX, now));
                fixed_bps += rates.sum::<u64>();
            }
        }
        let (is_at_best, desired_bps) = share(transport, &mut demands, fixed_bps, now);
        // Before the peer can receive, a key frame would be wasted: it is asked for again then.
        let ready = transport.is_ready();
        let every = if is_at_best { LAYERS_EVERY_AT_BEST } else { LAYERS_EVERY };
        transport.layers_at = if has_video { now + every } else { Nanos::MAX };
        transport.sender_reports_at = sender_reports_at;
        let at = transport.layers_at.min(sender_reports_at);
        if ready {
            self.schedule(key, at.max(now + MS));
        }
        for demand in &demands {
            let best = demand.options.len().saturating_sub(1);
            let aim = match demand.chosen {
                Some(at) => Aim::Layers { layers: demand.options[at].0, fits: at == best },
                None if demand.options.is_empty() => Aim::Same,
                None => Aim::Nothing,
            };
            if self.set_target(demand.consumer, aim, now) && ready {
                self.ask_key_frame(demand.consumer, now);
            }
        }
        self.demands = demands;
        if !self.traces.is_empty() {
            self.trace_estimate(key, desired_bps, now);
        }
    }

    /// Sets what a consumer is to get, and reports what it gets. True when it needs a key frame.
    fn set_target(&mut self, key: ConsumerKey, aim: Aim, now: Nanos) -> bool {
        let Some(consumer) = self.consumers.get_mut(key) else { return false };
        let Some(producer) = self.producers.get(consumer.producer) else { return false };
        match aim {
            Aim::Same => {}
            Aim::Nothing => {
                consumer.starve();
                consumer.reason = LayersReason::Bandwidth;
            }
            Aim::Layers { layers, fits } => {
                consumer.is_starved = false;
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
        }
        if let Some((layers, reason)) = consumer.take_layers_news(producer) {
            let consumer = consumer.id.clone();
            self.events.push(Event::ConsumerLayersChange { consumer, layers, reason });
        }
        self.follow(key, now);
        let producers = &self.producers;
        self.consumers.get(key).is_some_and(|consumer| {
            let producer = producers.get(consumer.producer);
            // A layer that rests has nobody waiting for it at the other end of a pipe.
            if consumer.is_pipe() && producer.is_some_and(|p| !p.has_to_begin(consumer.target)) {
                return false;
            }
            consumer.needs_key_frame()
                || producer.is_some_and(|p| consumer.waits_for_temporal_layers(p))
        })
    }

    fn ask_key_frame(&mut self, key: ConsumerKey, now: Nanos) {
        let restart = self.restart(key, now);
        let Some(consumer) = self.consumers.get_mut(key) else { return };
        match restart {
            Restart::Now => return,
            Restart::Later => {
                if let Some(transport) = self.transports.get_mut(consumer.transport)
                    && !std::mem::replace(&mut transport.awaits_look, true)
                {
                    self.looks.next.push(consumer.transport);
                }
                return;
            }
            Restart::Never => {}
        }
        let Some(producer) = self.producers.get_mut(consumer.producer) else { return };
        if let Some(stream) = consumer.target {
            // It is here, and about to be handed to whoever waits for it.
            if producer.streams.get(usize::from(stream)).is_some_and(|s| s.fresh.key_frame) {
                return;
            }
            let wish = if consumer.resync { Wish::Begin } else { consumer.want_repair(now) };
            producer.request_key_frame(stream, wish, now);
            let key = consumer.producer;
            self.stir(key);
        }
    }

    /// A stream has started, stopped or been paused: everyone who gets it is looked at again.
    pub(crate) fn touch_subscribers(&mut self, key: ProducerKey) {
        let Some(producer) = self.producers.get(key) else {
            return;
        };
        for subscriber in &producer.subscribers {
            let Subscriber::Consumer { transport: key, .. } = *subscriber else { continue };
            if let Some(transport) = self.transports.get_mut(key) {
                self.looks.push(key, transport);
            }
        }
    }
}

/// Divides what the peer can receive: audio first, the videos share the rest. True when all have
/// their best, and nothing limits them; and what all would take.
fn share(
    transport: &mut Transport,
    demands: &mut [Demand],
    audio_bps: u64,
    now: Nanos,
) -> (bool, u64) {
    let before = transport.audio_bps;
    let audio_bps = audio_bps.max(before - before.div_ceil(AUDIO_FORGOTTEN));
    transport.audio_bps = audio_bps;
    let best = |demand: &Demand| demand.options.last().map_or(0, |(_, cost)| *cost);
    let wanted = demands.iter().map(best).sum::<u64>();
    let budget = &mut transport.budget;
    budget.raise(wanted + audio_bps, now);
    let available = budget.available_bps();
    let fits = budget.fits_bps().map(|bps| bps.saturating_sub(audio_bps));
    let spent = divide(available.saturating_sub(audio_bps), fits, demands);
    budget.spend(spent + audio_bps, now);
    let is_best = |d: &Demand| d.chosen.is_none_or(|at| at + 1 == d.options.len());
    let is_at_best = available == u64::MAX && fits.is_none() && demands.iter().all(is_best);
    (is_at_best, wanted + audio_bps)
}

/// What could be sent, in rising quality: the lowest layer by its temporal layers, then whole
/// layers up to the preferred one. Only streams that are being received count; and above what is
/// sent now only those whose rate is known, since who is sent up too soon comes down again.
fn options(consumer: &Consumer, producer: &Producer, now: Nanos) -> Options {
    let top = (producer.streams.len() - 1) as u8;
    let preferred = consumer.preferred.unwrap_or(Layers { spatial: top, temporal: u8::MAX });
    let current = consumer.current.unwrap_or(0);
    let mut options = Options::default();
    for (spatial, stream) in (0..=top).zip(&producer.streams) {
        // One that was off because nobody watched it is known from before.
        let before = stream.rate_before_bps.filter(|_| !stream.is_settled(now));
        let is_known = spatial <= current || before.is_some() || stream.is_settled(now);
        let wanted = spatial <= preferred.spatial && is_known;
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
            let before = before.filter(|_| temporal == highest).unwrap_or(0);
            let cost = stream.rate_bps(temporal, now).max(before);
            options.push(Layers { spatial, temporal }, cost);
        }
    }
    options
}

/// The highest temporal layer of a stream: publishers send more than they announce.
fn highest_temporal(producer: &Producer, stream: &Stream) -> u8 {
    let announced = producer.temporal_layers.saturating_sub(1);
    stream.temporal_max.max(announced).min(TEMPORAL_LAYERS as u8 - 1)
}
