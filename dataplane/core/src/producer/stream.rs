//! [4] One stream of a received track: an encoding of simulcast, or all that there is. Owns its history, what
//! is missing of it, whether it flows and what it costs, and where a receiver can begin. Called by
//! [4] `producer.rs` for what comes, and by whoever sends it on. Knows no subscribers.

use ironcast_protocol::media::RtpEncoding;

use crate::{
    Arrival, MS, Nanos, SECOND,
    consumer::rtp_units,
    dependencies::Dependencies,
    heard::LEAD_IN,
    key_frame::KeyFrameRequests,
    meter::Meter,
    numbers::{PacketIndex, SourceSeq},
    recover::{
        history::{History, Meta},
        nack::NackGenerator,
        pool::Pool,
        statistics::ReceiverStatistics,
    },
    srtp::StreamIndex,
    wire::rtp,
};

/// After a silence of so long what a stream costs is measured anew, and nobody is sent up to it
/// before that. It is no reason to leave it: a browser sends a frame a second of a camera that is
/// muted (W3C webrtc-pc, section 5.2.1), and a shared screen rests for minutes.
pub(super) const SILENT_AFTER: Nanos = SECOND;
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
pub(super) const FRAMES: usize = 4;
/// A sender report's RTP time lies no further than this from where its stream's last frame, and the time
/// since, put it: senders run ahead of their packets, or behind, by what they buffer.
const RTP_TIME_FAR_SECONDS: u32 = 10;
/// Temporal layers that are told apart.
pub const TEMPORAL_LAYERS: usize = 4;
/// Extended numbers begin one turn of the wheel up, so that a packet from before the first one
/// received has a number too.
const SEQ_BASE: u32 = 1 << 16;
/// A publisher sends a frame in one go; its last packet is missed after so long.
const TAIL_WAIT: Nanos = 15 * MS;
/// Who begins to receive a stream begins at its last key frame where that came no longer ago than
/// this, with all that came since: another one would cost everybody, and be ignored by an encoder
/// that has just made one.
const RESTART_WITHIN: Nanos = SECOND;
/// Packets that are sent in one go for that. How many bytes depends on the receiver.
const RESTART_PACKETS_MAX: usize = 384;

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

/// All fresh packets of a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FreshRun {
    /// How many.
    pub packets: usize,
    /// Of their payloads, padding included.
    pub bytes: usize,
    /// Some were not fanned out yet.
    pub is_new: bool,
    /// A key frame begins among those.
    pub key_frame: bool,
}

impl FreshRun {
    /// One more, with so much payload.
    pub fn add(&mut self, payload_len: usize) {
        self.packets += 1;
        self.bytes += payload_len;
        self.is_new = true;
    }
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
    pub(super) dependencies: Dependencies,
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
    pub(super) flows: bool,
    /// Since when.
    flows_since: Arrival,
    /// When its last frames began, the newest first.
    pub(super) frames: [Option<Arrival>; FRAMES],
    pub(super) frame_timestamp: u32,
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
    pub(super) newest: SourceSeq,
    /// Since when a frame has begun and its last packet (the marker) has not come.
    pub(super) open_since: Option<Arrival>,
}

impl Stream {
    pub(super) fn new(encoding: &RtpEncoding, nack: bool) -> Self {
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

    /// True when its packets may have that RTP time at that moment: it is not another stream's, and not
    /// nonsense. Before the first frame nothing is known.
    #[must_use]
    pub fn may_have(&self, rtp: u32, at: Arrival, clock_rate: u32) -> bool {
        let Some(frame) = self.frames[0] else { return true };
        let (since, until) = (at.since(frame), frame.since(at));
        let expected = self
            .frame_timestamp
            .wrapping_add(rtp_units(since, clock_rate))
            .wrapping_sub(rtp_units(until, clock_rate));
        let far = rtp.wrapping_sub(expected).cast_signed().unsigned_abs();
        far <= clock_rate.saturating_mul(RTP_TIME_FAR_SECONDS)
    }

    /// The newest sender report, unless its stream's time has jumped since, as it may behind a pause.
    #[must_use]
    pub fn believed_report(&self, clock_rate: u32) -> Option<SenderReport> {
        self.sender_report.filter(|report| self.may_have(report.rtp, report.arrival, clock_rate))
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
    /// frame, and the payload bytes from there on. None where that is long ago, or something behind it is
    /// missing or too much.
    #[must_use]
    pub fn restart(&self, sent: Arrival, now: Nanos) -> Option<(SourceSeq, usize)> {
        let last = self.last_key_frame?;
        let is_recent = last.arrival > sent && last.arrival.age(now) < RESTART_WITHIN;
        let is_whole = is_recent && self.history.is_whole_from(last.first, RESTART_PACKETS_MAX);
        is_whole.then_some((last.first, last.bytes))
    }

    /// The same for a voice that becomes heard: no word of it is cut, and nothing sent twice.
    #[must_use]
    pub fn lead_in(&self, sent: Arrival, now: Nanos) -> Option<SourceSeq> {
        self.history.first_since(|at| at > sent && at.age(now) <= LEAD_IN)
    }

    /// A kept packet: of a key frame, or behind one.
    pub(super) fn note_key_frame(&mut self, meta: &Meta) {
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
    pub(super) fn forget_key_frame(&mut self) {
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
    pub(super) fn is_silent_for(&self, span: Nanos, now: Nanos) -> bool {
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
    pub(super) fn note_frame(&mut self, timestamp: u32, arrival: Arrival) {
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
    pub(super) fn is_left_behind(&self, since: Option<Arrival>, arrival: Arrival) -> bool {
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
    pub(super) fn assess(&mut self, alone: bool, now: Nanos) -> bool {
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
