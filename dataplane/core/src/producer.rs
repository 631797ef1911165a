//! [4] One received track: its streams by layer, what is lost of them, when a key frame is due.
//! Takes plain packets from [3] `transport/receive.rs`, keeps them in the history and lists them as
//! fresh. Next: [5] `router.rs` hands the fresh ones to the subscribers.
//! Never decides what a receiver gets.
//!
//! `stream.rs` is one of its streams, `parameters.rs` makes it.

mod parameters;
mod stream;

use std::sync::Arc;

use ironcast_protocol::{
    Id,
    event::StreamScore,
    media::{MediaKind, RtpType},
};

use self::stream::{FRAMES, SILENT_AFTER};
use crate::{
    Discard, Nanos,
    heard::Voice,
    key::{ConsumerKey, RouterKey, TapKey, TransportKey},
    key_frame::Wish,
    numbers::SourceSeq,
    observer::Observed,
    orientation::Orientation,
    recover::{history::Meta, pool::Pool},
    watched::Watched,
    wire::{Codec, PayloadInfo, describe, extension::ExtensionMap, h264, h265},
};

pub use parameters::{extension_map, rtp_type};
pub use stream::{FreshRun, SenderReport, Stream, StreamCounters, TEMPORAL_LAYERS};

/// Packets of a frame whose sizes differ by no more are made equal with padding, so that they
/// leave as one segmented send. Publishers' packets differ by one byte; see the bench.
pub const PADDING_MAX: u16 = 8;

/// Fresh packets of a track: more than come within the time after which they are not sent any more
/// ([`OUTPUT_OLD`](crate::OUTPUT_OLD)).
pub(crate) const FRESH_MAX: usize = 16_384;
/// Room for so many stays.
const FRESH_KEPT: usize = 1_024;

/// What takes a producer's packets. Lies in its producer's list, so that a turn's fan-out visits those alone
/// that have something to get: one line of memory says it of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subscriber {
    /// A sent track of this worker; a part of a pipe, also to another worker, is one.
    Consumer {
        /// Which.
        key: ConsumerKey,
        /// Where it leaves.
        transport: TransportKey,
        /// Streams of which it may send packets now, one bit each: [`Consumer::streams`].
        ///
        /// [`Consumer::streams`]: crate::consumer::Consumer::streams
        streams: u8,
    },
    /// A reader inside the process: it takes everything, and wants nothing.
    Tap(TapKey),
}

const _: () = assert!(size_of::<Subscriber>() == 20, "grown: each turn reads all of them");

impl Subscriber {
    /// The consumer, if it is one.
    #[must_use]
    pub fn consumer(self) -> Option<ConsumerKey> {
        match self {
            Self::Consumer { key, .. } => Some(key),
            Self::Tap(_) => None,
        }
    }

    /// Streams that somebody is to get.
    fn wanted(self) -> u8 {
        match self {
            Self::Consumer { streams, .. } => streams,
            Self::Tap(_) => 0,
        }
    }
}

/// A packet that some of its receivers have not had yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fresh {
    /// Which stream.
    pub stream: u8,
    /// Its number there.
    pub seq: SourceSeq,
    /// It came as RTX.
    pub rtx: bool,
}

/// What a packet said about its stream, as [3] found it.
#[derive(Debug, Clone, Copy)]
pub struct Arrived {
    /// Which stream.
    pub stream: u8,
    /// It came as a retransmission.
    pub rtx: bool,
    /// Bytes of the packet, without what protects it.
    pub len: usize,
    /// Bytes of its header.
    pub header_len: usize,
}

/// One received track.
#[derive(Debug)]
pub struct Producer {
    /// The caller's id.
    pub id: Id,
    /// Its room.
    pub router: RouterKey,
    /// Where it arrives, and where it stands in its list.
    pub transport: TransportKey,
    pub(crate) at_transport: u32,
    /// It is among those of its transport that something came for.
    pub(crate) is_stirred: bool,
    /// Audio or video.
    pub kind: MediaKind,
    /// What is inside.
    pub codec: Codec,
    /// `video/VP8`, ...
    pub mime_type: String,
    /// CNAME of its sender.
    pub cname: Arc<str>,
    /// RTP clock, Hz.
    pub clock_rate: u32,
    /// Receivers have the parameter sets of H264 or H265 from the parameters.
    has_parameter_sets: bool,
    /// Payload type of media.
    pub payload_type: u8,
    /// Payload type of retransmissions.
    pub rtx_payload_type: Option<u8>,
    /// Payload type of RED (RFC 2198), which may come in place of media.
    pub red_payload_type: Option<u8>,
    /// Extensions by id.
    pub extensions: ExtensionMap,
    /// Simple, simulcast or SVC.
    pub rtp_type: RtpType,
    /// Temporal layers by the parameters.
    pub temporal_layers: u8,
    /// The peer understands `nack pli`.
    pub pli: bool,
    /// The peer understands `ccm fir`.
    pub fir: bool,
    /// The peer understands `goog-remb`.
    pub remb: bool,
    /// The peer wants transport-wide feedback.
    pub transport_cc: bool,
    /// MID.
    pub mid: Option<String>,
    /// By the API: nothing is forwarded.
    pub paused: bool,
    /// Nothing is forwarded but by pipes: its room hears or sees others ([`crate::heard`]).
    pub is_left_out: bool,
    /// How loud it is, where that decides whether it is heard.
    pub voice: Option<Voice>,
    /// Whose it is, for who is seen because he speaks: its CNAME, which all tracks of one peer share (RFC
    /// 3550 section 6.5.1), also beyond pipes; without one, its transport.
    pub speaker: Arc<str>,
    /// Lowest layer first.
    pub streams: Vec<Stream>,
    /// Who gets it.
    pub subscribers: Vec<Subscriber>,
    /// What observers heard of it; empty for most.
    pub observed: Vec<Observed>,
    /// Packets that came since all output was written; emptied when it is. At most [`FRESH_MAX`].
    pub fresh: Vec<Fresh>,
    /// The place of the first of them, counted since the beginning (it wraps).
    fresh_base: u16,
    /// The place behind the last one that was fanned out.
    told: u16,
    /// Wait after the first request for a key frame.
    pub key_frame_delay: Nanos,
    /// Which encodings anybody wants.
    pub watched: Watched,
    /// A stream began to flow or ceased to.
    streams_changed: bool,
    pub(crate) orientation: Orientation,
}

impl Producer {
    /// SSRCs of media and retransmissions that are known.
    pub fn ssrcs(&self) -> impl Iterator<Item = u32> {
        self.streams.iter().flat_map(|stream| [stream.ssrc, stream.rtx_ssrc]).flatten()
    }

    /// A plain packet: kept, counted, and listed as fresh. `meta` is complete but for the payload's
    /// own information.
    ///
    /// # Errors
    /// Why it is not forwarded; its buffer is back in the pool.
    pub fn receive(
        &mut self,
        arrived: Arrived,
        mut meta: Meta,
        buffer: Box<[u8]>,
        pool: &mut Pool,
    ) -> Result<(), Discard> {
        let arrival = meta.arrival;
        if !arrived.rtx && meta.payload_len > 0 {
            self.note_flow(usize::from(arrived.stream), &meta);
        }
        let stream = &mut self.streams[usize::from(arrived.stream)];
        if !arrived.rtx {
            stream.last_packet_at = Some(arrival);
            stream.counters.packets += 1;
            stream.counters.bytes += arrived.len as u64;
            stream.statistics.receive(meta.seq.0 as u16, meta.timestamp, arrival, self.clock_rate);
        } else {
            stream.counters.retransmitted += 1;
        }
        if meta.seq > stream.newest && meta.payload_len > 0 {
            stream.newest = meta.seq;
            stream.open_since = (self.kind == MediaKind::Video && !meta.marker).then_some(arrival);
        }
        let start = usize::from(meta.payload_offset);
        let payload = &buffer[start..start + usize::from(meta.payload_len)];
        let described = if payload.is_empty() {
            Some(PayloadInfo::default())
        } else {
            let value = meta.extensions.dependency_descriptor;
            let dependency = value.filter(|_| self.codec.has_dependencies());
            let dependency = dependency.and_then(|(at, len)| {
                let value = &buffer[usize::from(at)..usize::from(at) + usize::from(len)];
                stream.dependencies.read(value, meta.seq)
            });
            describe(self.codec, payload, dependency.as_ref())
        };
        meta.info = described.unwrap_or_default();
        if self.has_parameter_sets {
            meta.info.key_frame |= match self.codec {
                Codec::H264 => h264::begins_idr(payload),
                Codec::H265 => h265::begins_irap(payload),
                _ => false,
            };
        }
        let info = &meta.info;
        stream.shows_sync |=
            info.opens_upper || info.layer_sync && info.temporal_layer > 0 && !info.key_frame;
        if let Some(nack) = &mut stream.nack {
            let filled = nack.receive(meta.seq, meta.info.key_frame, arrived.rtx, arrival);
            if arrived.rtx && filled {
                stream.counters.repaired += 1;
            }
        }
        if meta.info.key_frame {
            stream.key_frames.receive_key_frame();
        }
        // It came, and is not asked for; its receivers see a hole, and no frame that looks whole.
        if described.is_none() {
            pool.give(buffer);
            stream.counters.discarded += 1;
            return Err(Discard::PayloadMalformed);
        }
        if self.paused {
            pool.give(buffer);
            stream.counters.discarded += 1;
            return Err(Discard::ProducerPaused);
        }
        let key_frame = meta.info.key_frame;
        let (seq, payload_len) = (meta.seq, usize::from(meta.payload_len));
        let temporal = usize::from(meta.info.temporal_layer).min(TEMPORAL_LAYERS - 1);
        if let Err(reason) = stream.history.insert(meta, buffer, pool) {
            // Publishers probe for bandwidth with repeats of what is here.
            if arrived.rtx {
                return Err(Discard::RtxUseless);
            }
            stream.counters.discarded += 1;
            return Err(reason);
        }
        stream.note_key_frame(&meta);
        // A layer's price is what a receiver of it would be sent: neither the padding and the repeats
        // that publishers probe with, nor what is here already, nor what RTX and RED put around it.
        if payload_len > 0 {
            stream.meters[temporal].add(arrived.header_len + payload_len, arrival.moment());
            stream.temporal_max = stream.temporal_max.max(temporal as u8);
        }
        stream.fresh.add(payload_len);
        stream.fresh.key_frame |= key_frame;
        self.push_fresh(Fresh { stream: arrived.stream, seq, rtx: arrived.rtx });
        Ok(())
    }

    /// Which streams flow, now that one has a packet.
    fn note_flow(&mut self, index: usize, meta: &Meta) {
        let arrival = meta.arrival;
        let stream = &mut self.streams[index];
        let flowed = stream.is_active();
        let known = flowed && !stream.is_silent_for(SILENT_AFTER, arrival.moment());
        if known && (meta.seq <= stream.newest || meta.timestamp == stream.frame_timestamp) {
            return;
        }
        stream.note_frame(meta.timestamp, arrival);
        self.streams_changed |= !flowed;
        let since = stream.frames[FRAMES - 1];
        for stream in &mut self.streams {
            if stream.flows && stream.is_left_behind(since, arrival) {
                stream.flows = false;
                self.streams_changed = true;
            }
        }
    }

    /// True when a stream began to flow or ceased to since this was asked last.
    pub fn take_streams_changed(&mut self) -> bool {
        std::mem::take(&mut self.streams_changed)
    }

    /// One more. Where output never ends, the older half of too many is let go: it is too old to be sent.
    pub(crate) fn push_fresh(&mut self, fresh: Fresh) {
        if self.fresh.len() >= FRESH_MAX {
            self.fresh.drain(..FRESH_MAX / 2);
            self.fresh_base = self.fresh_base.wrapping_add((FRESH_MAX / 2) as u16);
            if self.fresh_index(self.told).is_none() {
                self.told = self.fresh_base;
            }
        }
        self.fresh.push(fresh);
    }

    /// The index of a place among the fresh packets; none where it was let go.
    fn fresh_index(&self, place: u16) -> Option<usize> {
        let index = usize::from(place.wrapping_sub(self.fresh_base));
        (index <= FRESH_MAX).then_some(index)
    }

    /// The place behind the last of the fresh packets that was fanned out.
    #[must_use]
    pub fn told(&self) -> u16 {
        self.told
    }

    /// The fresh packets from a place on, and how many before the first of them were let go (modulo
    /// 65,536).
    #[must_use]
    pub fn fresh_from(&self, place: u16) -> (&[Fresh], u16) {
        match self.fresh_index(place) {
            Some(from) => (self.fresh.get(from..).unwrap_or_default(), 0),
            None => (&self.fresh, self.fresh_base.wrapping_sub(place)),
        }
    }

    /// Those that were not fanned out yet.
    #[must_use]
    pub fn new_packets(&self) -> &[Fresh] {
        self.fresh_from(self.told).0
    }

    /// Whoever gets its packets knows of all that are here.
    pub fn all_are_told(&mut self) {
        self.told = self.fresh_base.wrapping_add(self.fresh.len() as u16);
        for stream in &mut self.streams {
            stream.fresh.is_new = false;
            stream.fresh.key_frame = false;
        }
    }

    /// A stream begins again: what is fresh of it is not sent any more.
    pub(crate) fn take_back(&mut self, stream: u8) {
        for fresh in self.fresh.iter_mut().filter(|fresh| fresh.stream == stream) {
            fresh.seq = SourceSeq::NONE;
        }
    }

    /// After the output is written: what was fresh is history.
    pub fn forget_fresh(&mut self) {
        self.all_are_told();
        self.fresh_base = self.told;
        for fresh in self.fresh.drain(..) {
            self.streams[usize::from(fresh.stream)].fresh = FreshRun::default();
        }
        self.fresh.shrink_to(FRESH_KEPT);
    }

    /// By the API. What comes while it is paused is not kept: nobody begins before the hole.
    pub fn pause(&mut self, paused: bool) {
        self.paused = paused;
        self.streams.iter_mut().for_each(Stream::forget_key_frame);
    }

    /// Before the fan-out: packets of one frame that are almost equal in size get the padding that
    /// makes them equal. Done once here, so that all subscribers' packets are runs.
    pub fn even_sizes(&mut self) {
        let mut start = self.fresh.len() - self.new_packets().len();
        while start < self.fresh.len() {
            let (len, longest) = self.frame_from(start);
            if len > 1 {
                for fresh in &self.fresh[start..start + len] {
                    let stream = &mut self.streams[usize::from(fresh.stream)];
                    let history = &mut stream.history;
                    let payload = history.packet(fresh.seq).map_or(0, |p| p.meta.payload_len);
                    let padding = longest - payload;
                    if payload > 0 && padding > 0 && padding <= PADDING_MAX {
                        history.set_padding(fresh.seq, padding as u8);
                        stream.fresh.bytes += usize::from(padding);
                    }
                }
            }
            start += len;
        }
    }

    /// How many fresh packets from `start` on are of one frame, and their longest payload.
    fn frame_from(&self, start: usize) -> (usize, u16) {
        let packet = |fresh: &Fresh| {
            self.streams[usize::from(fresh.stream)].history.packet(fresh.seq).map(|p| &p.meta)
        };
        let first = self.fresh[start];
        let Some(timestamp) = packet(&first).map(|meta| meta.timestamp) else {
            return (1, 0);
        };
        let mut longest = 0;
        let frame = self.fresh[start..].iter().take_while(|fresh| {
            let meta = packet(fresh).filter(|m| m.timestamp == timestamp);
            let same = fresh.stream == first.stream && meta.is_some();
            longest = longest.max(meta.filter(|_| same).map_or(0, |m| m.payload_len));
            same
        });
        (frame.count().max(1), longest)
    }

    /// When its transport's service has something to do for it.
    #[must_use]
    pub fn deadline(&self) -> Nanos {
        let mut at = self.watched.deadline().unwrap_or(Nanos::MAX);
        for stream in self.streams.iter().filter(|stream| stream.ssrc.is_some()) {
            let nack = stream.nack.as_ref().filter(|_| !self.paused);
            let nack = nack.and_then(|nack| nack.deadline());
            let others = [stream.key_frames.deadline(), nack, stream.tail_deadline()];
            at = others.into_iter().flatten().fold(at, Nanos::min);
        }
        at
    }

    /// Asks for a key frame of a stream; sent by [`KeyFrameRequests`]' rules.
    pub fn request_key_frame(&mut self, stream: u8, wish: Wish, now: Nanos) {
        if self.kind == MediaKind::Video
            && (self.pli || self.fir)
            && let Some(stream) = self.streams.get_mut(usize::from(stream))
        {
            stream.key_frames.request(wish, self.key_frame_delay, now);
        }
    }

    /// True when a key frame of that stream is worth asking for: it flows, or there is no other.
    #[must_use]
    pub fn has_to_begin(&self, stream: Option<u8>) -> bool {
        let stream = stream.and_then(|at| self.streams.get(usize::from(at)));
        self.streams.len() == 1 || stream.is_some_and(Stream::is_active)
    }

    /// Streams with packets that were not fanned out yet, one bit each.
    #[must_use]
    pub fn new_streams(&self) -> u8 {
        let new = self.streams.iter().zip(0..).filter(|(stream, _)| stream.fresh.is_new);
        new.fold(0, |streams, (_, index)| streams | 1 << index)
    }

    /// Its consumers, parts of pipes included.
    pub fn consumers(&self) -> impl Iterator<Item = ConsumerKey> {
        self.subscribers.iter().filter_map(|one| one.consumer())
    }

    /// True while somebody is to get that stream.
    #[must_use]
    pub fn is_watched(&self, stream: usize) -> bool {
        !self.paused && self.subscribers.iter().any(|one| one.wanted() & 1 << stream != 0)
    }

    /// Once a second: scores, and old packets of idle streams. True when a score changed.
    pub fn assess(&mut self, now: Nanos, pool: &mut Pool) -> bool {
        let mut changed = false;
        let alone = self.streams.len() == 1;
        let watched = self.watched.count();
        for (index, stream) in self.streams.iter_mut().enumerate() {
            if index < watched && stream.is_settled(now) {
                stream.rate_before_bps = None;
            }
            stream.history.expire(now, pool);
            stream.history.trim();
            changed |= stream.assess(alone, now);
        }
        changed
    }

    /// Scores of all streams that have been seen.
    #[must_use]
    pub fn scores(&self) -> Vec<StreamScore> {
        let seen = self.streams.iter().enumerate().filter_map(|(index, stream)| {
            Some(StreamScore {
                encoding_idx: index as u8,
                ssrc: stream.ssrc?,
                rid: stream.rid.clone(),
                score: stream.score,
            })
        });
        seen.collect()
    }

    /// The best score of its streams.
    #[must_use]
    pub fn score(&self) -> u8 {
        self.streams.iter().map(|stream| stream.score).max().unwrap_or(0)
    }
}

#[cfg(test)]
pub(crate) mod tests;
