//! [4] One received track: its streams by layer, what is lost of them, when a key frame is due.
//! Takes plain packets from [3] `transport/receive.rs`, keeps them in the history and lists them as
//! fresh. Next: [5] `router.rs` hands the fresh ones to the subscribers.
//! Never decides what a receiver gets.

use std::sync::Arc;

use ironcast_protocol::{
    Id,
    command::Produce,
    event::StreamScore,
    media::{MediaKind, RtpEncoding, RtpParameters, RtpType},
};

use crate::{
    Arrival, Discard, MS, Nanos, SECOND,
    dependencies::Dependencies,
    heard::{LEAD_IN, Voice},
    key::{ConsumerKey, RouterKey, TapKey, TransportKey},
    key_frame::{KeyFrameRequests, Wish},
    meter::Meter,
    numbers::{PacketIndex, SourceSeq},
    observer::Observed,
    recover::{
        history::{History, Meta},
        nack::NackGenerator,
        pool::Pool,
        statistics::ReceiverStatistics,
    },
    srtp::StreamIndex,
    watched::Watched,
    wire::{
        Codec, PayloadInfo, describe,
        extension::{ExtensionKind, ExtensionMap},
        h264, h265, red, rtp,
    },
};

/// After a silence of so long what a stream costs is measured anew, and nobody is sent up to it
/// before that. It is no reason to leave it: a browser sends a frame a second of a camera that is
/// muted (W3C webrtc-pc, section 5.2.1), and a shared screen rests for minutes.
const SILENT_AFTER: Nanos = SECOND;
/// A track of several streams that is silent as a whole for so long scores nothing. One of a single
/// stream that says nothing may just have nothing to say.
const DEAD_AFTER: Nanos = 5 * SECOND;
/// Nor is a layer that has nothing for so long while another goes on: encoders drop layers.
const LEFT_BEHIND_AFTER: Nanos = 250 * MS;
/// The same where the publisher said that it may be silent (`dtx`): mediasoup's patience.
const LEFT_BEHIND_AFTER_DTX: Nanos = 5 * SECOND;
/// A layer has flowed for so long before its rate is a measure of what it costs.
const SETTLED_AFTER: Nanos = 500 * MS;
/// Frames of a stream whose times are kept.
const FRAMES: usize = 4;
/// Temporal layers that are told apart.
pub const TEMPORAL_LAYERS: usize = 4;
/// Packets of a frame whose sizes differ by no more are made equal with padding, so that they
/// leave as one segmented send. Publishers' packets differ by one byte; see the bench.
pub const PADDING_MAX: u16 = 8;
/// Extended numbers begin one turn of the wheel up, so that a packet from before the first one
/// received has a number too.
const SEQ_BASE: u32 = 1 << 16;
/// A publisher sends a frame in one go; its last packet is missed after so long.
const TAIL_WAIT: Nanos = 15 * MS;
/// Who begins to receive a stream begins at its last key frame where that came no longer ago than
/// this, with all that came since: another one would cost everybody, and be ignored by an encoder
/// that has just made one.
const RESTART_WITHIN: Nanos = SECOND;
/// What is sent in one go for that: payload bytes and packets.
const RESTART_BYTES_MAX: usize = 96 << 10;
const RESTART_PACKETS_MAX: usize = 256;

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

/// A key frame that came, and what came since.
#[derive(Debug, Clone, Copy)]
struct LastKeyFrame {
    first: SourceSeq,
    timestamp: u32,
    arrival: Arrival,
    /// Payload bytes from its first packet on.
    bytes: usize,
}

/// A sender report, and when it came.
#[derive(Debug, Clone, Copy)]
pub struct SenderReport {
    /// NTP time of the publisher, 32.32.
    pub ntp: u64,
    /// The same moment in RTP time.
    pub rtp: u32,
    /// Here.
    pub arrival: Arrival,
}

/// Counts of a received stream.
#[derive(Debug, Clone, Copy, Default)]
pub struct StreamCounters {
    /// Media packets and bytes (headers included).
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// Packets that came as RTX.
    pub retransmitted: u64,
    /// Holes that a retransmission or the redundancy of RED filled.
    pub repaired: u64,
    /// Not forwarded for any reason.
    pub discarded: u64,
    /// NACK messages sent.
    pub nacks: u64,
    /// Packets named in them.
    pub nacked_packets: u64,
    /// PLI sent.
    pub plis: u64,
    /// FIR sent.
    pub firs: u64,
}

/// One received stream.
#[derive(Debug)]
pub struct Stream {
    /// Known from the parameters or learned from RID or MID.
    pub ssrc: Option<u32>,
    /// The same for retransmissions.
    pub rtx_ssrc: Option<u32>,
    /// RID.
    pub rid: Option<String>,
    /// SRTP index of media.
    pub index: StreamIndex,
    /// SRTP index of retransmissions.
    pub rtx_index: StreamIndex,
    /// Added to an index to get the number in the history, which goes on when the SSRC changes.
    seq_base: u32,
    /// It has had 2^32 numbers: nothing more is taken of it.
    pub is_used_up: bool,
    /// The publisher said goodbye to it, and has not come back.
    pub has_ended: bool,
    /// When its SSRC became another one.
    changed_at: Option<Arrival>,
    /// Recent packets.
    pub history: History,
    /// Layers of its frames, where the payload does not tell them.
    dependencies: Dependencies,
    /// What is missing.
    pub nack: Option<NackGenerator>,
    /// RFC 3550 figures.
    pub statistics: ReceiverStatistics,
    /// The newest sender report.
    pub sender_report: Option<SenderReport>,
    /// Bits per second up to each temporal layer (not cumulative).
    pub meters: [Meter; TEMPORAL_LAYERS],
    /// What it cost when its publisher was told that nobody watches it: known before it is measured
    /// again.
    pub rate_before_bps: Option<u64>,
    /// Highest temporal layer seen.
    pub temporal_max: u8,
    /// It has frames at which its upper temporal layers can be entered.
    pub shows_sync: bool,
    /// The publisher may be silent on purpose.
    dtx: bool,
    /// When the last media packet came.
    pub last_packet_at: Option<Arrival>,
    /// Packets come, and the other layers have not left it behind.
    flows: bool,
    /// Since when.
    flows_since: Arrival,
    /// When its last frames began, the newest first.
    frames: [Option<Arrival>; FRAMES],
    frame_timestamp: u32,
    /// Key frames asked for.
    pub key_frames: KeyFrameRequests,
    last_key_frame: Option<LastKeyFrame>,
    /// Counts.
    pub counters: StreamCounters,
    /// 0 to 10.
    pub score: u8,
    /// Share lost upstream in the last report interval, repairs not counted.
    pub loss_share: f64,
    /// Packets of this turn and the bytes of their payloads: how long a subscriber's run gets.
    pub fresh: FreshRun,
    score_base: (u32, i64, u64),
    newest: SourceSeq,
    /// Since when a frame has begun and its last packet (the marker) has not come.
    open_since: Option<Arrival>,
}

impl Stream {
    fn new(encoding: &RtpEncoding, nack: bool) -> Self {
        Self {
            ssrc: encoding.ssrc,
            rtx_ssrc: encoding.rtx_ssrc,
            rid: encoding.rid.clone(),
            index: StreamIndex::default(),
            rtx_index: StreamIndex::default(),
            seq_base: SEQ_BASE,
            is_used_up: false,
            has_ended: false,
            changed_at: None,
            history: History::default(),
            dependencies: Dependencies::default(),
            nack: nack.then(NackGenerator::default),
            statistics: ReceiverStatistics::default(),
            sender_report: None,
            meters: [Meter::default(); TEMPORAL_LAYERS],
            rate_before_bps: None,
            temporal_max: 0,
            shows_sync: false,
            dtx: encoding.dtx,
            last_packet_at: None,
            flows: false,
            flows_since: Arrival::default(),
            frames: [None; FRAMES],
            frame_timestamp: 0,
            key_frames: KeyFrameRequests::default(),
            last_key_frame: None,
            counters: StreamCounters::default(),
            score: 0,
            loss_share: 0.0,
            fresh: FreshRun::default(),
            score_base: (0, 0, 0),
            newest: SourceSeq::default(),
            open_since: None,
        }
    }

    /// SRTP index of media or of retransmissions.
    pub fn index_of(&mut self, rtx: bool) -> &mut StreamIndex {
        if rtx { &mut self.rtx_index } else { &mut self.index }
    }

    /// True when another SSRC may take the place of the one that it has.
    #[must_use]
    pub fn may_change(&self, arrival: Arrival, spacing: Nanos) -> bool {
        self.changed_at.is_none_or(|at| arrival.since(at) >= spacing)
    }

    /// True when nothing came for so long.
    #[must_use]
    pub fn is_silent(&self, span: Nanos, arrival: Arrival) -> bool {
        self.last_packet_at.is_some_and(|at| arrival.since(at) > span)
    }

    /// The number of a packet of its own SSRC.
    #[must_use]
    pub fn source_seq(&self, index: PacketIndex) -> SourceSeq {
        SourceSeq((index.0 as u32).wrapping_add(self.seq_base))
    }

    /// The number of a packet that came by RTX, which names it by 16 bits; none before the first one
    /// of its own SSRC.
    #[must_use]
    pub fn repeated_seq(&self, original: u16) -> Option<SourceSeq> {
        let newest = self.source_seq(self.index.newest()?);
        Some(SourceSeq(rtp::extend(original, newest.0)))
    }

    /// Its numbers go on at another place, the next one at `to` for what has the index 0.
    #[cfg(feature = "audit")]
    pub(crate) fn skip_numbers(&mut self, to: u32) {
        self.seq_base = to;
    }

    /// Another SSRC goes on in its place, at `index`. `old` is where the one before was: numbers in
    /// the history go on above it, so that nothing that was sent for a number is sent for another.
    pub fn begin_again(
        &mut self,
        old: &StreamIndex,
        index: PacketIndex,
        arrival: Arrival,
        pool: &mut Pool,
    ) {
        let newest = self.source_seq(old.newest().unwrap_or_default());
        // No cycle follows the last one: what is above the largest number is refused.
        let cycle = ((newest.0 >> 16) + 2).min(0xffff) << 16;
        self.seq_base = cycle.wrapping_sub(index.roc() << 16);
        (self.changed_at, self.has_ended) = (Some(arrival), false);
        self.history.clear(pool);
        self.dependencies = Dependencies::default();
        self.nack = self.nack.as_ref().map(|_| NackGenerator::default());
        self.statistics = ReceiverStatistics::default();
        self.score_base = (0, 0, self.counters.repaired);
        self.sender_report = None;
        self.open_since = None;
        self.last_key_frame = None;
        self.fresh = FreshRun::default();
    }

    /// Where a receiver can begin that was sent nothing since `sent`: the first packet of the last key
    /// frame. None where that is long ago, or something behind it is missing or too much.
    #[must_use]
    pub fn restart(&self, sent: Arrival, now: Nanos) -> Option<SourceSeq> {
        let last = self.last_key_frame?;
        let is_recent = last.arrival > sent && last.arrival.age(now) < RESTART_WITHIN;
        let fits = is_recent && last.bytes <= RESTART_BYTES_MAX;
        (fits && self.history.is_whole_from(last.first, RESTART_PACKETS_MAX)).then_some(last.first)
    }

    /// The same for a voice that becomes heard: no word of it is cut, and nothing sent twice.
    #[must_use]
    pub fn lead_in(&self, sent: Arrival, now: Nanos) -> Option<SourceSeq> {
        self.history.first_since(|at| at > sent && at.age(now) <= LEAD_IN)
    }

    /// A kept packet: of a key frame, or behind one.
    fn note_key_frame(&mut self, meta: &Meta) {
        let begins = meta.info.key_frame && meta.info.start_of_frame && meta.payload_len > 0;
        let is_next =
            |last: LastKeyFrame| meta.seq > last.first && meta.timestamp != last.timestamp;
        if begins && self.last_key_frame.is_none_or(is_next) {
            let (first, timestamp, arrival) = (meta.seq, meta.timestamp, meta.arrival);
            self.last_key_frame = Some(LastKeyFrame { first, timestamp, arrival, bytes: 0 });
        }
        if let Some(last) = self.last_key_frame.as_mut().filter(|last| meta.seq >= last.first) {
            last.bytes += usize::from(meta.payload_len);
        }
    }

    /// Nobody begins with what came until now.
    fn forget_key_frame(&mut self) {
        self.last_key_frame = None;
    }

    /// When the newest packet of a frame came that is not complete.
    #[must_use]
    pub fn open_since(&self) -> Option<Arrival> {
        self.open_since
    }

    /// When [`Self::take_lost_tail`] may have something.
    #[must_use]
    pub fn tail_deadline(&self) -> Option<Nanos> {
        self.open_since.map(|since| since + TAIL_WAIT)
    }

    /// The number of the packet that a frame still lacks at its end. A hole shows when something
    /// comes behind it; behind the last packet of a frame nothing comes before the next frame, and
    /// then a repeat is too late for the receivers' buffers. So it is asked for by its number.
    pub fn take_lost_tail(&mut self, now: Nanos) -> Option<u16> {
        self.tail_deadline().filter(|at| now >= *at)?;
        self.open_since = None;
        Some(self.newest.0.wrapping_add(1) as u16)
    }

    /// True when packets have come, and the other layers have not left it behind since.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.flows
    }

    /// True when nothing has come for so long.
    fn is_silent_for(&self, span: Nanos, now: Nanos) -> bool {
        self.last_packet_at.is_none_or(|at| now >= at + span)
    }

    /// True once it has flowed for long enough to know what it costs.
    #[must_use]
    pub fn is_settled(&self, now: Nanos) -> bool {
        !self.is_silent_for(SILENT_AFTER, now)
            && now >= self.flows_since + SETTLED_AFTER
            && self.frames[1].is_some_and(|at| at >= self.flows_since)
    }

    /// A frame begins: the stream flows, perhaps again. What was measured before a silence says
    /// nothing.
    fn note_frame(&mut self, timestamp: u32, arrival: Arrival) {
        if !self.flows || self.is_silent_for(SILENT_AFTER, arrival.moment()) {
            (self.flows, self.flows_since) = (true, arrival);
            self.meters = [Meter::default(); TEMPORAL_LAYERS];
        }
        self.frame_timestamp = timestamp;
        self.frames.rotate_right(1);
        self.frames[0] = Some(arrival);
    }

    /// True when another layer's last frames, the first of them at `since`, all came after this one's
    /// last, and this one has been quiet for longer than its own last frames took: neither a track
    /// that rests nor a layer of few frames is meant.
    fn is_left_behind(&self, since: Option<Arrival>, arrival: Arrival) -> bool {
        let [newest, .., oldest] = self.frames;
        let usual = newest.zip(oldest).map_or(0, |(newest, oldest)| newest.since(oldest));
        let least = if self.dtx { LEFT_BEHIND_AFTER_DTX } else { LEFT_BEHIND_AFTER };
        since > newest && newest.is_none_or(|newest| arrival.since(newest) > usual.max(least))
    }

    /// Bits per second of the layers up to `temporal`.
    #[must_use]
    pub fn rate_bps(&self, temporal: u8, now: Nanos) -> u64 {
        let layers = usize::from(temporal).min(TEMPORAL_LAYERS - 1) + 1;
        self.meters[..layers].iter().map(|meter| meter.rate_bps(now)).sum()
    }

    /// Once a second: losses since the last time, and the score they give (mediasoup's idea: the
    /// share that arrived, sharpened). True when the score changed.
    fn assess(&mut self, alone: bool, now: Nanos) -> bool {
        let (expected, lost) = (self.statistics.expected(), self.statistics.lost());
        let (expected_0, lost_0, repaired_0) = self.score_base;
        self.score_base = (expected, lost, self.counters.repaired);
        let expected = expected.wrapping_sub(expected_0);
        let lost = (lost - lost_0).max(0) as f64;
        let repaired = (self.counters.repaired - repaired_0) as f64;
        let before = self.score;
        let may_rest = alone || self.dtx;
        if !self.flows || !may_rest && self.is_silent_for(DEAD_AFTER, now) {
            self.loss_share = 0.0;
            self.score = 0;
        } else if expected > 0 {
            let missing = (lost - repaired).max(0.0);
            self.loss_share = (missing / f64::from(expected)).min(1.0);
            let arrived = 1.0 - (lost / f64::from(expected)).min(1.0);
            self.score = (10.0 * arrived.powi(4)).round().clamp(1.0, 10.0) as u8;
        } else {
            self.score = self.score.max(1);
        }
        self.score != before
    }
}

/// A packet of this turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fresh {
    /// Which stream.
    pub stream: u8,
    /// Its number there.
    pub seq: SourceSeq,
    /// It came as RTX.
    pub rtx: bool,
}

/// All packets of a stream in this turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FreshRun {
    /// How many.
    pub packets: usize,
    /// Of their payloads, padding included.
    pub bytes: usize,
    /// A key frame begins among them.
    pub key_frame: bool,
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
    /// Packets of this turn; emptied at its end.
    pub fresh: Vec<Fresh>,
    /// Wait after the first request for a key frame.
    pub key_frame_delay: Nanos,
    /// Which encodings anybody wants.
    pub watched: Watched,
    /// A stream began to flow or ceased to.
    streams_changed: bool,
    last_orientation: Option<u8>,
}

impl Producer {
    /// A producer from its parameters, which negotiation has checked; what is still wrong with them
    /// is said in words.
    ///
    /// # Errors
    /// A sentence for the caller.
    pub fn new(
        create: &Produce,
        router: RouterKey,
        transport: TransportKey,
    ) -> Result<Self, String> {
        let parameters = &create.rtp_parameters;
        let mut codecs = parameters.codecs.iter();
        let media = codecs.find(|codec| !red::is_red(&codec.mime_type));
        let media = media.ok_or("rtpParameters.codecs has no media codec")?;
        let codec = Codec::from_mime(&media.mime_type);
        let red = parameters.codecs.iter().find(|red| {
            let is_red = codec == Codec::Opus && red::is_red(&red.mime_type);
            is_red && red.clock_rate == media.clock_rate
        });
        if media.clock_rate == 0 {
            return Err("a codec with clock rate 0".into());
        }
        if parameters.encodings.is_empty() || parameters.encodings.len() > 8 {
            return Err("rtpParameters.encodings needs one to eight entries".into());
        }
        let ids = || parameters.header_extensions.iter().map(|extension| extension.id);
        let twice = ids().enumerate().find(|(at, id)| ids().take(*at).any(|other| other == *id));
        if let Some((_, id)) = twice.or_else(|| ids().enumerate().find(|(_, id)| *id == 0)) {
            return Err(format!("rtpParameters.headerExtensions: id {id} is 0 or comes twice"));
        }
        let has = |kind: &str, parameter: &str| {
            media.rtcp_feedback.iter().any(|f| f.kind == kind && f.parameter == parameter)
        };
        let rtx = parameters.codecs.iter().find(|codec| {
            let ours = codec.parameters.get("apt") == Some(&media.payload_type.to_string());
            codec.mime_type.to_ascii_lowercase().ends_with("/rtx") && ours
        });
        let nack = has("nack", "");
        let streams = parameters.encodings.iter().map(|e| Stream::new(e, nack)).collect();
        let (spatial_layers, temporal_layers) = layers(&parameters.encodings);
        let rtp_type = match (parameters.encodings.len(), spatial_layers) {
            (2.., _) => RtpType::Simulcast,
            (_, 2..) => RtpType::Svc,
            _ => RtpType::Simple,
        };
        let cname: Arc<str> = create.rtp_parameters.rtcp.cname.as_str().into();
        let speaker =
            if cname.is_empty() { create.transport.as_str().into() } else { Arc::clone(&cname) };
        Ok(Self {
            id: create.id.clone(),
            router,
            transport,
            at_transport: 0,
            kind: create.kind,
            codec,
            mime_type: media.mime_type.clone(),
            cname,
            clock_rate: media.clock_rate,
            has_parameter_sets: ["sprop-parameter-sets", "sprop-vps"]
                .iter()
                .any(|name| media.parameters.contains_key(*name)),
            payload_type: media.payload_type,
            rtx_payload_type: rtx.map(|codec| codec.payload_type),
            red_payload_type: red.map(|codec| codec.payload_type),
            extensions: extension_map(parameters),
            rtp_type,
            temporal_layers,
            pli: has("nack", "pli"),
            fir: has("ccm", "fir"),
            remb: has("goog-remb", ""),
            transport_cc: has("transport-cc", ""),
            mid: parameters.mid.clone(),
            paused: create.paused,
            is_left_out: false,
            voice: None,
            speaker,
            streams,
            subscribers: Vec::new(),
            observed: Vec::new(),
            fresh: Vec::new(),
            key_frame_delay: Nanos::from(create.key_frame_request_delay_ms) * MS,
            watched: Watched::all(parameters.encodings.len()),
            streams_changed: false,
            last_orientation: None,
        })
    }

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
        meta.info = if payload.is_empty() {
            PayloadInfo::default()
        } else {
            let value = meta.extensions.dependency_descriptor;
            let dependency = value.filter(|_| self.codec.has_dependencies());
            let dependency = dependency.and_then(|(at, len)| {
                let value = &buffer[usize::from(at)..usize::from(at) + usize::from(len)];
                stream.dependencies.read(value, meta.seq)
            });
            describe(self.codec, payload, dependency.as_ref()).unwrap_or_default()
        };
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
        if self.paused {
            pool.give(buffer);
            stream.counters.discarded += 1;
            return Err(Discard::ProducerPaused);
        }
        let key_frame = meta.info.key_frame;
        let (seq, payload_len) = (meta.seq, usize::from(meta.payload_len));
        let temporal = usize::from(meta.info.temporal_layer).min(TEMPORAL_LAYERS - 1);
        if let Err(reason) = stream.history.insert(meta, buffer, pool) {
            stream.counters.discarded += 1;
            return Err(reason);
        }
        stream.note_key_frame(&meta);
        // A layer's price is what a receiver of it would be sent: neither the padding and the repeats
        // that publishers probe with, nor what is here already.
        if payload_len > 0 {
            stream.meters[temporal].add(arrived.len, arrival.moment());
            stream.temporal_max = stream.temporal_max.max(temporal as u8);
        }
        self.fresh.push(Fresh { stream: arrived.stream, seq, rtx: arrived.rtx });
        stream.fresh.packets += 1;
        stream.fresh.bytes += payload_len;
        stream.fresh.key_frame |= key_frame;
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

    /// After the output is written: what was fresh is history.
    pub fn forget_fresh(&mut self) {
        for fresh in self.fresh.drain(..) {
            self.streams[usize::from(fresh.stream)].fresh = FreshRun::default();
        }
    }

    /// By the API. What comes while it is paused is not kept: nobody begins before the hole.
    pub fn pause(&mut self, paused: bool) {
        self.paused = paused;
        self.streams.iter_mut().for_each(Stream::forget_key_frame);
    }

    /// The camera's orientation, when it is another than before.
    pub fn note_orientation(&mut self, value: u8) -> bool {
        self.last_orientation.replace(value) != Some(value)
    }

    /// Before the fan-out: packets of one frame that are almost equal in size get the padding that
    /// makes them equal. Done once here, so that all subscribers' packets are runs.
    pub fn even_sizes(&mut self) {
        let mut start = 0;
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

    /// Streams with packets of this turn, one bit each.
    #[must_use]
    pub fn fresh_streams(&self) -> u8 {
        let fresh = self.streams.iter().zip(0..).filter(|(stream, _)| stream.fresh.packets > 0);
        fresh.fold(0, |streams, (_, index)| streams | 1 << index)
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

/// Spatial and temporal layers that the encodings announce; Chromium's VP8 simulcast has three
/// temporal layers only if asked for.
fn layers(encodings: &[RtpEncoding]) -> (u8, u8) {
    let parse = |mode: &str| -> Option<(u8, u8)> {
        let (spatial, rest) = mode.strip_prefix(['L', 'S'])?.split_once('T')?;
        let temporal: String = rest.chars().take_while(char::is_ascii_digit).collect();
        Some((spatial.parse().ok()?, temporal.parse().ok()?))
    };
    let modes = encodings.iter().filter_map(|e| e.scalability_mode.as_deref());
    modes.filter_map(parse).fold((1, 1), |a, b| (a.0.max(b.0), a.1.max(b.1)))
}

/// The extensions of a track by id.
#[must_use]
pub fn extension_map(parameters: &RtpParameters) -> ExtensionMap {
    let mut map = ExtensionMap::default();
    for extension in &parameters.header_extensions {
        if let Some(kind) = ExtensionKind::from_uri(&extension.uri) {
            map.insert(extension.id, kind);
        }
    }
    map
}
