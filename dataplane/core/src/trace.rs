//! Traces of single transports, producers and consumers, in mediasoup's terms: packets, key frames and
//! requests as events. Off but for the few resources that somebody asks for, and bounded in a second.
//! Reads what passes by in the clear, where [`crate::capture`] does: what is traced does not know it.

use std::collections::BTreeMap;

use ironcast_protocol::{
    CommandError, ErrorCode, Event, Id, Reply,
    snapshot::ResourceKind,
    trace::{
        EVENTS_PER_S_MAX, SetTrace, TRACED_MAX, Trace, TraceKind, Traced, TracedPacket,
        TracedReport,
    },
};

use crate::{
    MS, Nanos,
    batch::Batch,
    capture::plain_of,
    key::{ConsumerKey, ProducerKey, TransportKey},
    numbers::SourceSeq,
    transport::demux::StreamRef,
    wire::{describe, rtcp, rtcp::Packet, rtp::Header, u32_at},
    worker::Worker,
};

/// What can be traced, and which of it is, one bit a kind.
const OF_TRANSPORT: [TraceKind; 2] = [TraceKind::Probation, TraceKind::Bwe];
const OF_CONSUMER: [TraceKind; 5] =
    [TraceKind::Rtp, TraceKind::KeyFrame, TraceKind::Nack, TraceKind::Pli, TraceKind::Fir];
const OF_PRODUCER: [TraceKind; 6] = [
    TraceKind::Rtp,
    TraceKind::KeyFrame,
    TraceKind::Nack,
    TraceKind::Pli,
    TraceKind::Fir,
    TraceKind::Sr,
];
/// An estimate is told when it has changed by this part of it.
const ESTIMATE_CHANGE: u64 = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Transport(TransportKey),
    Producer(ProducerKey),
    Consumer(ConsumerKey),
}

#[derive(Debug, Clone, Copy)]
struct Kinds {
    bits: u16,
    told_bps: Option<u64>,
}

impl Kinds {
    fn has(self, kind: TraceKind) -> bool {
        self.bits & 1 << kind as u16 != 0
    }
}

/// What is traced now.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    of: BTreeMap<Subject, Kinds>,
    /// Events of this second.
    told: u32,
    /// Left out because there were too many.
    pub(crate) dropped: u64,
}

impl Traces {
    /// Whether there is none: looked at for each packet, before anything else.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    fn has(&self, subject: Subject, kind: TraceKind) -> bool {
        self.of.get(&subject).is_some_and(|kinds| kinds.has(kind))
    }

    fn may_tell(&mut self) -> bool {
        self.told += 1;
        let may = self.told <= EVENTS_PER_S_MAX;
        self.dropped += u64::from(!may);
        may
    }
}

impl Worker {
    /// What is traced of a resource from now on.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` where a resource of that kind has no such traces; `NoCapacity`.
    pub fn apply_set_trace(&mut self, set: &SetTrace) -> Result<Reply, CommandError> {
        let id = set.id.as_str();
        let (all, subjects): (&[TraceKind], Option<Vec<Subject>>) = match set.kind {
            ResourceKind::Transport => {
                let key = self.transport_ids.get(id).copied();
                (&OF_TRANSPORT, key.map(|key| vec![Subject::Transport(key)]))
            }
            ResourceKind::Producer => {
                let key = self.producer_ids.get(id).copied();
                (&OF_PRODUCER, key.map(|key| vec![Subject::Producer(key)]))
            }
            ResourceKind::Consumer => {
                let keys = self.parts(id);
                (&OF_CONSUMER, keys.map(|all| all.into_iter().map(Subject::Consumer).collect()))
            }
            ResourceKind::Router | ResourceKind::Observer => {
                let message = format!("a {} has no traces", set.kind.as_str());
                return Err(CommandError::new(ErrorCode::Invalid, message));
            }
        };
        let subjects = subjects.ok_or_else(|| {
            let message = format!("there is no {} {id:?}", set.kind.as_str());
            CommandError::new(ErrorCode::NotFound, message)
        })?;
        if let Some(kind) = set.types.iter().find(|kind| !all.contains(kind)) {
            let message = format!("a {} has no traces of {kind:?}", set.kind.as_str());
            return Err(CommandError::new(ErrorCode::Invalid, message));
        }
        self.forget_traces();
        for subject in &subjects {
            self.traces.of.remove(subject);
        }
        if set.types.is_empty() {
            return Ok(Reply::Done);
        }
        if self.traces.of.len() + subjects.len() > TRACED_MAX {
            let message = format!("{TRACED_MAX} resources of this worker are traced already");
            return Err(CommandError::new(ErrorCode::NoCapacity, message));
        }
        let bits = set.types.iter().fold(0, |bits, kind| bits | 1 << *kind as u16);
        let kinds = Kinds { bits, told_bps: None };
        self.traces.of.extend(subjects.into_iter().map(|subject| (subject, kinds)));
        Ok(Reply::Done)
    }

    /// Once a second: what is gone is traced no more, and others may be told.
    pub(crate) fn tick_traces(&mut self) {
        self.traces.told = 0;
        if !self.traces.is_empty() {
            self.forget_traces();
        }
    }

    fn forget_traces(&mut self) {
        let (transports, producers, consumers) =
            (&self.transports, &self.producers, &self.consumers);
        self.traces.of.retain(|subject, _| match subject {
            Subject::Transport(key) => transports.get(*key).is_some(),
            Subject::Producer(key) => producers.get(*key).is_some(),
            Subject::Consumer(key) => consumers.get(*key).is_some(),
        });
    }

    /// A media packet that came, and is kept now under its number.
    #[inline(never)]
    pub(crate) fn trace_received(
        &mut self,
        found: StreamRef,
        header: &Header,
        size: usize,
        seq: SourceSeq,
        now: Nanos,
    ) {
        let subject = Subject::Producer(found.producer);
        let Some(kinds) = self.traces.of.get(&subject).copied() else { return };
        let Some(producer) = self.producers.get(found.producer) else { return };
        let stream = &producer.streams[usize::from(found.stream)];
        let Some(stored) = stream.history.packet(seq) else { return };
        let info = stored.meta.info;
        let packet = TracedPacket {
            is_key_frame: info.key_frame,
            is_rtx: found.rtx,
            spatial_layer: found.stream,
            temporal_layer: info.temporal_layer,
            payload_size: stored.meta.payload_len.into(),
            ..packet(header, size)
        };
        let begins = info.key_frame && info.start_of_frame;
        self.trace_packet(subject, kinds, packet, begins, false, now);
    }

    /// RTP that we send: what is about to be sealed, or leaves as it is.
    pub(crate) fn trace_jobs(&mut self, batch: &Batch, now: Nanos) {
        let sent = self.traces.of.iter().filter_map(|(subject, kinds)| {
            let &Subject::Consumer(key) = subject else { return None };
            let consumer = self.consumers.get(key)?;
            let producer = self.producers.get(consumer.producer)?;
            let rtx = consumer.rtx.map(|(ssrc, _)| ssrc);
            let place = consumer.transport.index() as u32;
            Some((place, consumer.ssrc, rtx, key, *kinds, producer.codec, consumer.current))
        });
        let sent: Vec<_> = sent.collect();
        if sent.is_empty() {
            return;
        }
        let mut found = Vec::new();
        for job in self.seal_jobs.iter().chain(&self.clear_jobs) {
            if !sent.iter().any(|one| one.0 == job.transport) {
                continue;
            }
            let Some((head, rest)) = plain_of(batch, job) else { continue };
            let Some(ssrc) = u32_at(head, 8) else { continue };
            let Some(&(_, _, rtx, key, kinds, codec, current)) = sent
                .iter()
                .find(|one| one.0 == job.transport && (one.1 == ssrc || one.2 == Some(ssrc)))
            else {
                continue;
            };
            let Ok(header) = Header::parse_protected(head) else { continue };
            let is_rtx = rtx == Some(ssrc);
            let payload = rest.get(if is_rtx { 2 } else { 0 }..).unwrap_or_default();
            let info = describe(codec, payload, None).unwrap_or_default();
            let packet = TracedPacket {
                is_key_frame: info.key_frame,
                is_rtx,
                spatial_layer: current.unwrap_or(0),
                temporal_layer: info.temporal_layer,
                payload_size: rest.len() as u32,
                ..packet(&header, head.len() + rest.len())
            };
            found.push((key, kinds, packet, info.key_frame && info.start_of_frame && !is_rtx));
        }
        for (key, kinds, packet, begins) in found {
            self.trace_packet(Subject::Consumer(key), kinds, packet, begins, true, now);
        }
    }

    fn trace_packet(
        &mut self,
        subject: Subject,
        kinds: Kinds,
        packet: TracedPacket,
        begins_key_frame: bool,
        is_sent: bool,
        now: Nanos,
    ) {
        if kinds.has(TraceKind::KeyFrame) && begins_key_frame {
            self.tell_trace(subject, is_sent, Trace::KeyFrame(packet.clone()), now);
        }
        if kinds.has(TraceKind::Rtp) {
            self.tell_trace(subject, is_sent, Trace::Rtp(packet), now);
        }
    }

    /// A compound of RTCP, in the clear.
    pub(crate) fn trace_rtcp(
        &mut self,
        key: TransportKey,
        compound: &[u8],
        is_sent: bool,
        now: Nanos,
    ) {
        if self.traces.is_empty() {
            return;
        }
        for packet in rtcp::packets(compound).map_while(Result::ok) {
            match packet {
                Packet::Nack(nack) => {
                    let packets = nack.sequences().count() as u32;
                    let what = |ssrc| Trace::Nack { ssrc, packets };
                    self.trace_request(key, nack.media_ssrc, TraceKind::Nack, is_sent, what, now);
                }
                Packet::PictureLoss { media_ssrc, .. } => {
                    let what = |ssrc| Trace::Pli { ssrc };
                    self.trace_request(key, media_ssrc, TraceKind::Pli, is_sent, what, now);
                }
                Packet::FullIntraRequest(fir) => {
                    for (ssrc, _) in fir.entries() {
                        let what = |ssrc| Trace::Fir { ssrc };
                        self.trace_request(key, ssrc, TraceKind::Fir, is_sent, what, now);
                    }
                }
                Packet::SenderReport(report) if !is_sent => {
                    let info = &report.info;
                    let report = TracedReport {
                        ssrc: info.ssrc,
                        ntp: info.ntp,
                        rtp_timestamp: info.rtp_timestamp,
                        packets: info.packet_count,
                        bytes: info.octet_count,
                    };
                    let subject = self.stream_of(key, info.ssrc, true);
                    if let Some(subject) =
                        subject.filter(|one| self.traces.has(*one, TraceKind::Sr))
                    {
                        self.tell_trace(subject, false, Trace::Sr(report), now);
                    }
                }
                _ => {}
            }
        }
    }

    /// What a peer asks is about a consumer, what we ask about a producer.
    fn trace_request(
        &mut self,
        key: TransportKey,
        ssrc: u32,
        kind: TraceKind,
        is_sent: bool,
        what: impl Fn(u32) -> Trace,
        now: Nanos,
    ) {
        let subject = self.stream_of(key, ssrc, is_sent);
        if let Some(subject) = subject.filter(|subject| self.traces.has(*subject, kind)) {
            self.tell_trace(subject, is_sent, what(ssrc), now);
        }
    }

    fn stream_of(&self, key: TransportKey, ssrc: u32, is_received: bool) -> Option<Subject> {
        let transport = self.transports.get(key)?;
        if is_received {
            return Some(Subject::Producer(transport.demux.by_ssrc(ssrc)?.producer));
        }
        transport.consumer_ssrcs.get(&ssrc).copied().map(Subject::Consumer)
    }

    /// What a peer can receive was looked at.
    pub(crate) fn trace_estimate(&mut self, key: TransportKey, desired_bps: u64, now: Nanos) {
        let subject = Subject::Transport(key);
        let Some(kinds) = self.traces.of.get_mut(&subject) else { return };
        let Some(transport) = self.transports.get(key) else { return };
        let available = transport.budget.available_bps();
        let change = kinds.told_bps.map_or(u64::MAX, |told| told.abs_diff(available));
        if !kinds.has(TraceKind::Bwe) || change <= available / ESTIMATE_CHANGE {
            return;
        }
        kinds.told_bps = Some(available);
        let what = Trace::Bwe {
            available_bps: (available != u64::MAX).then_some(available),
            desired_bps,
            min_bps: transport.budget.min_bps,
            max_bps: transport.budget.max_bps,
        };
        self.tell_trace(subject, true, what, now);
    }

    fn tell_trace(&mut self, subject: Subject, is_sent: bool, what: Trace, now: Nanos) {
        let named = match subject {
            Subject::Transport(key) => {
                self.transports.get(key).map(|one| (ResourceKind::Transport, one.id.clone()))
            }
            Subject::Producer(key) => {
                self.producers.get(key).map(|one| (ResourceKind::Producer, one.id.clone()))
            }
            Subject::Consumer(key) => {
                self.consumers.get(key).map(|one| (ResourceKind::Consumer, one.id.clone()))
            }
        };
        let named: Option<(ResourceKind, Id)> = named.filter(|_| self.traces.may_tell());
        let Some((kind, id)) = named else { return };
        let at_unix_ms = (now + self.unix_offset_ns) / MS;
        self.events.push(Event::Trace(Traced { kind, id, at_unix_ms, is_sent, what }));
    }
}

/// What the header says.
fn packet(header: &Header, size: usize) -> TracedPacket {
    TracedPacket {
        payload_type: header.payload_type,
        sequence_number: header.sequence_number,
        timestamp: header.timestamp,
        marker: header.marker,
        ssrc: header.ssrc,
        size: size as u32,
        ..TracedPacket::default()
    }
}
