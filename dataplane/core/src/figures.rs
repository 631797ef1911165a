//! The state and the figures of resources, as the dataplane protocol says them. Reads only.

use std::collections::BTreeMap;

use ironcast_protocol::{
    CommandError, ErrorCode,
    observer::ObserverState,
    snapshot::{ConsumerState, ProducerState, ResourceKind, TransportState},
    stats::{ConsumerStats, ProducerStats, StreamStats, TransportStats, WorkerStats},
};

#[cfg(feature = "audit")]
use crate::numbers::SentSeq;
use crate::{
    MS, Nanos,
    consumer::Consumer,
    link::{Kind, webrtc::ice::Credentials},
    producer::{Producer, Stream, TEMPORAL_LAYERS},
    worker::Worker,
};

type Outcome<T> = Result<T, CommandError>;

fn not_found(what: &str, id: &str) -> CommandError {
    CommandError::new(ErrorCode::NotFound, format!("there is no {what} {id:?}"))
}

/// What changes on a resource, for snapshots.
#[derive(Debug, Clone, PartialEq)]
pub enum ResourceState {
    /// Nothing changes on a room: it is there.
    Router,
    /// A peer by ICE, with its credentials now (a restart changes them).
    WebRtcTransport(TransportState, Credentials),
    /// A peer by its address.
    PlainTransport(TransportState),
    /// Nothing changes on the way to another worker.
    Hop,
    /// A received track.
    Producer(ProducerState),
    /// A sent track.
    Consumer(ConsumerState),
    /// Who listens to a room.
    Observer(ObserverState),
}

/// How much is remembered of what a peer sends: none of it may grow with the length of a call.
#[cfg(feature = "audit")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remembered {
    /// SSRCs without a stream.
    pub sources: usize,
    /// Values that may be transport-wide numbers.
    pub early_numbers: usize,
    /// SSRCs whose RTCP is remembered.
    pub rtcp_senders: usize,
    /// SSRCs of ended sent tracks, and runs of them.
    pub retired: usize,
    /// Packets of its sent tracks that may be sent again.
    pub resends: usize,
}

impl Worker {
    /// What is remembered of a peer.
    #[cfg(feature = "audit")]
    #[must_use]
    pub fn remembered(&self, transport: &str) -> Option<Remembered> {
        let transport = self.transports.get(*self.transport_ids.get(transport)?)?;
        let (sources, early_numbers) = transport.remembered();
        let (_, rtcp_senders) = transport.rtcp.len();
        let consumers = transport.consumers.iter().filter_map(|key| self.consumers.get(*key));
        let resends = consumers.map(|consumer| consumer.resends.len()).sum();
        let retired = transport.retired.len();
        Some(Remembered { sources, early_numbers, rtcp_senders, retired, resends })
    }

    /// Numbers of a track, received or sent, go on from here as if so many had come or left before.
    #[cfg(feature = "audit")]
    pub fn skip_numbers(&mut self, id: &str, to: u32) {
        let producer = self.producer_ids.get(id).and_then(|key| self.producers.get_mut(*key));
        for stream in producer.into_iter().flat_map(|producer| &mut producer.streams) {
            stream.skip_numbers(to);
        }
        let consumer = self.consumer_ids.get(id).and_then(|key| self.consumers.get_mut(*key));
        if let Some(consumer) = consumer {
            consumer.timeline = crate::timeline::Timeline::new(SentSeq(to));
            consumer.rtx_seq = SentSeq(to);
            consumer.start_over();
        }
    }

    /// The room of a transport.
    #[must_use]
    pub fn router_of(&self, transport: &str) -> Option<&str> {
        let transport = self.transports.get(*self.transport_ids.get(transport)?)?;
        self.routers.get(transport.router).map(|router| router.id.as_str())
    }

    /// State of a transport.
    #[must_use]
    pub fn transport_state(&self, id: &str) -> Option<TransportState> {
        self.transport_ids.get(id).and_then(|key| Some(self.transports.get(*key)?.state()))
    }

    /// State of a producer.
    #[must_use]
    pub fn producer_state(&self, id: &str) -> Option<ProducerState> {
        let producer = self.producers.get(*self.producer_ids.get(id)?)?;
        Some(ProducerState {
            rtp_type: producer.rtp_type,
            paused: producer.paused,
            scores: producer.scores(),
            unwatched: producer.unwatched(),
        })
    }

    /// State of a consumer.
    #[must_use]
    pub fn consumer_state(&self, id: &str) -> Option<ConsumerState> {
        let key = *self.consumer_ids.get(id)?;
        let consumer = self.consumers.get(key)?;
        let producer = self.producers.get(consumer.producer)?;
        Some(ConsumerState {
            paused: consumer.paused,
            producer_paused: producer.paused,
            priority: consumer.priority,
            score: self.whole_score(key).unwrap_or_default(),
            preferred_layers: consumer.preferred,
            current_layers: consumer.current_layers(producer),
        })
    }

    /// State of one resource, if it is there.
    #[must_use]
    pub fn resource_state(&self, kind: ResourceKind, id: &str) -> Option<ResourceState> {
        Some(match kind {
            ResourceKind::Router => {
                self.router_ids.get(id)?;
                ResourceState::Router
            }
            ResourceKind::Transport => {
                let transport = self.transports.get(*self.transport_ids.get(id)?)?;
                let state = transport.state();
                match &transport.link.kind {
                    Kind::WebRtc(webrtc) => {
                        ResourceState::WebRtcTransport(state, webrtc.ice.credentials().clone())
                    }
                    Kind::Plain(_) => ResourceState::PlainTransport(state),
                    Kind::Hop(_) => ResourceState::Hop,
                }
            }
            ResourceKind::Producer => ResourceState::Producer(self.producer_state(id)?),
            ResourceKind::Consumer => ResourceState::Consumer(self.consumer_state(id)?),
            ResourceKind::Observer => ResourceState::Observer(self.observer_state(id)?),
        })
    }

    /// Figures of a transport.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn transport_stats(&self, id: &str, now: Nanos) -> Outcome<TransportStats> {
        let transport = self.transports.get(self.transport_key(id)?);
        let transport = transport.ok_or_else(|| not_found("transport", id))?;
        let (t, state) = (&transport.traffic, transport.state());
        // Kept with the reports: who has very many tracks is asked as fast as others.
        let loss_received = transport.loss_received.filter(|_| !transport.producers.is_empty());
        let sends = !transport.consumers.is_empty();
        let loss_sent = sends.then_some(f64::from(transport.loss_sent) / 256.0);
        Ok(TransportStats {
            timestamp_ms: (now + self.unix_offset_ns) / MS,
            ice_state: state.ice_state,
            tuple: state.tuple,
            rtcp_tuple: state.rtcp_tuple,
            dtls_state: state.dtls_state,
            dtls_local_role: state.dtls_local_role,
            bytes_received: t.received.bytes,
            recv_bitrate: t.received.meter.rate_bps(now),
            bytes_sent: t.sent.bytes,
            send_bitrate: t.sent.meter.rate_bps(now),
            rtp_bytes_received: t.rtp_received.bytes,
            rtp_recv_bitrate: t.rtp_received.meter.rate_bps(now),
            rtp_bytes_sent: t.rtp_sent.bytes,
            rtp_send_bitrate: t.rtp_sent.meter.rate_bps(now),
            rtx_bytes_received: t.rtx_received.bytes,
            rtx_recv_bitrate: t.rtx_received.meter.rate_bps(now),
            rtx_bytes_sent: t.rtx_sent.bytes,
            rtx_send_bitrate: t.rtx_sent.meter.rate_bps(now),
            available_outgoing_bitrate: transport.budget.estimate_bps(),
            available_incoming_bitrate: transport.remb_sent_bps,
            max_incoming_bitrate: transport.max_incoming_bps,
            max_outgoing_bitrate: transport.budget.max_bps,
            min_outgoing_bitrate: transport.budget.min_bps,
            rtp_packet_loss_received: loss_received,
            rtp_packet_loss_sent: loss_sent,
        })
    }

    /// Figures of a producer's streams that have been seen.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn producer_stats(&self, id: &str, now: Nanos) -> Outcome<Vec<ProducerStats>> {
        let key = self.producer_ids.get(id).ok_or_else(|| not_found("producer", id))?;
        let producer = self.producers.get(*key).ok_or_else(|| not_found("producer", id))?;
        let seen = producer.streams.iter().filter(|stream| stream.ssrc.is_some());
        Ok(seen
            .map(|stream| ProducerStats {
                stream: self.inbound(producer, stream, now),
                bitrate_by_layer: bitrate_by_layer(producer, stream, now),
            })
            .collect())
    }

    /// Figures of a consumer, and of the stream that it is made from now.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn consumer_stats(&self, id: &str, now: Nanos) -> Outcome<ConsumerStats> {
        let keys = self.parts(id).ok_or_else(|| not_found("consumer", id))?;
        let mut parts = keys.iter().filter_map(|key| self.consumers.get(*key));
        let consumer = parts.next().ok_or_else(|| not_found("consumer", id))?;
        let producer = self.producers.get(consumer.producer);
        let source = producer.zip(consumer.current).and_then(|(producer, at)| {
            Some(self.inbound(producer, producer.streams.get(usize::from(at))?, now))
        });
        let outbound = |consumer: &Consumer| {
            let score = producer.map_or(0, |producer| consumer.score(producer).score);
            self.outbound(consumer, producer, score, now)
        };
        Ok(ConsumerStats {
            outbound: outbound(consumer),
            layers_reason: consumer.preferred.is_some().then_some(consumer.reason),
            // A pipe has as many sources as streams: they are their producer's figures.
            inbound: source.filter(|_| !consumer.is_pipe()),
            others: parts.map(outbound).collect(),
        })
    }

    fn inbound(&self, producer: &Producer, stream: &Stream, now: Nanos) -> StreamStats {
        let counters = &stream.counters;
        StreamStats {
            timestamp_ms: (now + self.unix_offset_ns) / MS,
            ssrc: stream.ssrc.unwrap_or_default(),
            rtx_ssrc: stream.rtx_ssrc,
            rid: stream.rid.clone(),
            kind: producer.kind,
            mime_type: producer.mime_type.clone(),
            packets_lost: stream.statistics.lost(),
            fraction_lost: (stream.loss_share * 256.0).min(255.0) as u8,
            jitter: stream.statistics.jitter(),
            packets_discarded: counters.discarded,
            packets_retransmitted: counters.retransmitted,
            packets_repaired: counters.repaired,
            nack_count: counters.nacks,
            nack_packet_count: counters.nacked_packets,
            pli_count: counters.plis,
            fir_count: counters.firs,
            round_trip_time: self
                .transports
                .get(producer.transport)
                .and_then(|transport| transport.publisher_rtt.rtt())
                .map(|rtt| rtt as f64 / MS as f64),
            score: stream.score,
            packet_count: counters.packets,
            byte_count: counters.bytes,
            bitrate: stream.rate_bps(u8::MAX, now),
        }
    }

    fn outbound(
        &self,
        consumer: &Consumer,
        producer: Option<&Producer>,
        score: u8,
        now: Nanos,
    ) -> StreamStats {
        let (sent, asked) = (&consumer.sent, &consumer.asked);
        StreamStats {
            timestamp_ms: (now + self.unix_offset_ns) / MS,
            ssrc: consumer.ssrc,
            rtx_ssrc: consumer.rtx.map(|(ssrc, _)| ssrc),
            rid: None,
            kind: consumer.kind,
            mime_type: producer.map(|one| one.mime_type.clone()).unwrap_or_default(),
            packets_lost: consumer.reported.packets_lost,
            fraction_lost: consumer.reported.fraction_lost,
            jitter: consumer.reported.jitter,
            packets_discarded: 0,
            packets_retransmitted: asked.retransmitted,
            packets_repaired: 0,
            nack_count: asked.nacks,
            nack_packet_count: asked.nacked_packets,
            pli_count: asked.plis,
            fir_count: asked.firs,
            round_trip_time: consumer.reported.rtt.map(|rtt| rtt as f64 / MS as f64),
            score,
            packet_count: sent.packets,
            byte_count: sent.bytes,
            bitrate: consumer.meter.rate_bps(now),
        }
    }

    /// Counts of resources and of everything that was dropped; the caller adds what only the
    /// driver knows.
    #[must_use]
    pub fn worker_stats(&self) -> WorkerStats {
        let mut counters: BTreeMap<String, u64> = self
            .discards
            .iter()
            .map(|(label, count)| (format!("discarded_{label}"), count))
            .collect();
        let own = [
            ("rtp_received", self.counters.rtp_received),
            ("rtcp_received", self.counters.rtcp_received),
            ("stun_received", self.counters.stun_received),
            ("rtp_forwarded", self.counters.forwarded),
            ("rtp_retransmitted", self.counters.retransmitted),
            ("rtp_repeats_refused", self.counters.repeats_refused),
            ("rtp_given_up", self.counters.given_up),
            ("feedback_ignored", self.counters.feedback_ignored),
            ("rtp_recovered", self.counters.recovered),
            ("dtls_in_stun", self.counters.dtls_in_stun),
            ("stun_handed_over", self.counters.handed_over),
            ("layer_looks", self.counters.looks),
            ("layer_looks_deferred", self.counters.looks_deferred),
            ("control_dropped", self.control.dropped),
            ("taps_dropped", self.taps.dropped),
            ("traces_dropped", self.traces.dropped),
            ("history_packets", self.pool.lent() as u64),
            ("history_spare_buffers", self.pool.spare() as u64),
        ];
        counters.extend(own.map(|(name, count)| (name.to_owned(), count)));
        let gauges = [
            ("history_packets", self.pool.lent() as u64),
            ("history_packets_max", self.limits.packets_max as u64),
            ("history_spare_buffers", self.pool.spare() as u64),
            ("observers", self.observers.len() as u64),
            ("taps", self.taps.len() as u64),
        ];
        WorkerStats {
            id: self.number,
            running: true,
            routers: self.routers.len() as u32,
            transports: self.transports.len() as u32,
            producers: self.producers.len() as u32,
            consumers: self.consumers.len() as u32,
            counters,
            gauges: gauges.map(|(name, value)| (name.to_owned(), value)).into(),
            ..WorkerStats::default()
        }
    }
}

/// Bits per second up to each temporal layer, as mediasoup shows it: each stream of a simulcast is a
/// spatial layer 0 of its own, a track without layers shows none, and a layer that rests shows 0.
fn bitrate_by_layer(producer: &Producer, stream: &Stream, now: Nanos) -> BTreeMap<String, u64> {
    let announced = producer.temporal_layers.saturating_sub(1);
    let top = stream.temporal_max.max(announced).min(TEMPORAL_LAYERS as u8 - 1);
    if top == 0 {
        return BTreeMap::new();
    }
    (0..=top).map(|temporal| (format!("0.{temporal}"), stream.rate_bps(temporal, now))).collect()
}
