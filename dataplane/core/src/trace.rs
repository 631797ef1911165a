//! Traces of single transports, producers and consumers, in mediasoup's terms: packets, key frames and
//! requests as events. Off but for the few resources that somebody asks for, and bounded in a second.
//! Packets are read from taps ([`crate::tap`]) at the end of a turn, requests and reports from RTCP as it
//! passes.

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
    key::{TapKey, TransportKey},
    tap::{self, Keep, Subject, Track},
    wire::{rtcp, rtcp::Packet, rtp::Header},
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
/// Heads of a resource's packets in one turn: more than are told in a second.
const KEEP: Keep = Keep { payload: false, bytes_max: 128 << 10 };

#[derive(Debug, Clone, Copy)]
struct Kinds {
    bits: u16,
    told_bps: Option<u64>,
    /// Where packets are told of.
    tap: Option<TapKey>,
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
        let all: &[TraceKind] = match set.kind {
            ResourceKind::Transport => &OF_TRANSPORT,
            ResourceKind::Producer => &OF_PRODUCER,
            ResourceKind::Consumer => &OF_CONSUMER,
            ResourceKind::Router | ResourceKind::Observer => {
                let message = format!("a {} has no traces", set.kind.as_str());
                return Err(CommandError::new(ErrorCode::Invalid, message));
            }
        };
        let subjects = self.subjects(set.kind, &set.id);
        if subjects.is_empty() {
            let message = format!("there is no {} {:?}", set.kind.as_str(), set.id);
            return Err(CommandError::new(ErrorCode::NotFound, message));
        }
        if let Some(kind) = set.types.iter().find(|kind| !all.contains(kind)) {
            let message = format!("a {} has no traces of {kind:?}", set.kind.as_str());
            return Err(CommandError::new(ErrorCode::Invalid, message));
        }
        self.forget_traces(&subjects);
        if set.types.is_empty() {
            return Ok(Reply::Done);
        }
        if self.traces.of.len() + subjects.len() > TRACED_MAX {
            let message = format!("{TRACED_MAX} resources of this worker are traced already");
            return Err(CommandError::new(ErrorCode::NoCapacity, message));
        }
        let bits = set.types.iter().fold(0, |bits, kind| bits | 1 << *kind as u16);
        for &subject in &subjects {
            let mut kinds = Kinds { bits, told_bps: None, tap: None };
            if kinds.has(TraceKind::Rtp) || kinds.has(TraceKind::KeyFrame) {
                let opened = self.open_tap(subject, KEEP);
                kinds.tap = opened.as_ref().ok().copied();
                if let Err(error) = opened {
                    self.forget_traces(&subjects);
                    return Err(error);
                }
            }
            self.traces.of.insert(subject, kinds);
        }
        Ok(Reply::Done)
    }

    /// Once a second: what is gone is traced no more, and others may be told.
    pub(crate) fn tick_traces(&mut self) {
        self.traces.told = 0;
        if !self.traces.is_empty() {
            self.forget_traces(&[]);
        }
    }

    /// These are traced no more, and those that are gone.
    fn forget_traces(&mut self, some: &[Subject]) {
        let is_over = |subject: &Subject| some.contains(subject) || !self.is_there(*subject);
        let over: Vec<_> = self.traces.of.keys().copied().filter(is_over).collect();
        for subject in over {
            let kinds = self.traces.of.remove(&subject);
            if let Some(tap) = kinds.and_then(|kinds| kinds.tap) {
                self.close_tap(tap);
            }
        }
    }

    /// After a portion of the output: what the taps have taken.
    #[cold]
    #[inline(never)]
    pub(crate) fn trace_tapped(&mut self) {
        let taps: Vec<_> = self
            .traces
            .of
            .iter()
            .filter_map(|(subject, kinds)| Some((*subject, *kinds, kinds.tap?)))
            .collect();
        let mut found = Vec::new();
        for (subject, kinds, tap) in taps {
            let read = self.read_tap(tap, |packet| {
                found.extend(traced(packet).map(|traced| (packet.about, traced)));
            });
            self.traces.dropped += read.map_or(0, |read| read.dropped);
            for (about, packet) in found.drain(..) {
                self.trace_packet(subject, kinds, &about, packet);
            }
        }
    }

    fn trace_packet(
        &mut self,
        subject: Subject,
        kinds: Kinds,
        about: &tap::About,
        mut packet: TracedPacket,
    ) {
        packet.spatial_layer = match about.track {
            Some(Track::Producer(_, stream)) => stream,
            Some(Track::Consumer(key)) => {
                self.consumers.get(key).and_then(|consumer| consumer.current).unwrap_or_default()
            }
            None => 0,
        };
        let begins = about.begins_key_frame && !(about.is_sent && about.is_rtx);
        if kinds.has(TraceKind::KeyFrame) && begins {
            let what = Trace::KeyFrame(packet.clone());
            self.tell_trace(subject, about.is_sent, what, about.at_unix_ns);
        }
        if kinds.has(TraceKind::Rtp) {
            self.tell_trace(subject, about.is_sent, Trace::Rtp(packet), about.at_unix_ns);
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
        let at_unix_ns = now + self.unix_offset_ns;
        for packet in rtcp::packets(compound).map_while(Result::ok) {
            match packet {
                Packet::Nack(nack) => {
                    let packets = nack.sequences().count() as u32;
                    let what = |ssrc| Trace::Nack { ssrc, packets };
                    self.trace_request(
                        key,
                        nack.media_ssrc,
                        TraceKind::Nack,
                        is_sent,
                        what,
                        at_unix_ns,
                    );
                }
                Packet::PictureLoss { media_ssrc, .. } => {
                    let what = |ssrc| Trace::Pli { ssrc };
                    self.trace_request(key, media_ssrc, TraceKind::Pli, is_sent, what, at_unix_ns);
                }
                Packet::FullIntraRequest(fir) => {
                    for (ssrc, _) in fir.entries() {
                        let what = |ssrc| Trace::Fir { ssrc };
                        self.trace_request(key, ssrc, TraceKind::Fir, is_sent, what, at_unix_ns);
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
                        self.tell_trace(subject, false, Trace::Sr(report), at_unix_ns);
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
        at_unix_ns: u64,
    ) {
        let subject = self.stream_of(key, ssrc, is_sent);
        if let Some(subject) = subject.filter(|subject| self.traces.has(*subject, kind)) {
            self.tell_trace(subject, is_sent, what(ssrc), at_unix_ns);
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
        self.tell_trace(subject, true, what, now + self.unix_offset_ns);
    }

    fn tell_trace(&mut self, subject: Subject, is_sent: bool, what: Trace, at_unix_ns: u64) {
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
        let at_unix_ms = at_unix_ns / MS;
        self.events.push(Event::Trace(Traced { kind, id, at_unix_ms, is_sent, what }));
    }
}

/// A tapped packet, but for its spatial layer.
fn traced(packet: tap::Packet<'_>) -> Option<TracedPacket> {
    let (about, header) = (packet.about, Header::parse_protected(packet.head).ok()?);
    Some(TracedPacket {
        payload_type: header.payload_type,
        sequence_number: header.sequence_number,
        timestamp: header.timestamp,
        marker: header.marker,
        ssrc: header.ssrc,
        is_key_frame: about.is_key_frame,
        is_rtx: about.is_rtx,
        size: about.len,
        payload_size: about.len.saturating_sub(packet.head.len() as u32),
        temporal_layer: about.temporal_layer,
        ..TracedPacket::default()
    })
}
