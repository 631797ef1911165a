//! [6] One sent track: which layer, and how its packets are numbered. Is asked by [7]
//! `transport/send.rs` for each fresh packet and answers with how to write it, or not at all.
//! Never touches bytes: it decides and renumbers. Next: [7] writes, numbers and seals.

use std::sync::Arc;

use ironcast_protocol::{
    Id,
    command::{Consume, ConsumerScore},
    event::{LayersReason, SentStream},
    media::{Layers, MediaKind, RtpType},
};

use crate::{
    Arrival, MS, Nanos, SECOND,
    key::{ProducerKey, TransportKey},
    key_frame::{AGAIN, Wish},
    meter::Meter,
    numbers::SentSeq,
    producer::{Fresh, Producer, SenderReport, Stream, extension_map},
    recover::{
        history::{KEEP, Stored},
        red::LEVELS_MAX,
        resend::Resends,
    },
    template::Template,
    timeline::{Rewritten, SourcePacket, Timeline},
    wire::{Codec, PayloadInfo, red},
};

/// Losses with which the last packet of a frame is sent twice.
const TAIL_LOSS: std::ops::Range<f32> = 0.02..0.12;
/// Losses from which two earlier packets go with each where RED is taken: with one, two losses in a
/// row leave a hole.
const RED_TWICE_LOSS: f32 = 0.03;

/// What was sent for the first time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sent {
    /// RTP packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Payload bytes, for sender reports.
    pub payload_bytes: u64,
}

/// What the receiver asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked {
    /// Sent again.
    pub retransmitted: u64,
    /// NACK messages received.
    pub nacks: u64,
    /// Packets named in them.
    pub nacked_packets: u64,
    /// PLI received.
    pub plis: u64,
    /// FIR received.
    pub firs: u64,
}

/// What the receiver reports.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reported {
    /// Of 256, last interval.
    pub fraction_lost: u8,
    /// Cumulative, signed.
    pub packets_lost: i64,
    /// Extended sequence number that the last report reached.
    pub highest_sequence: Option<u32>,
    /// RTP clock units.
    pub jitter: u32,
    /// Round trip.
    pub rtt: Option<Nanos>,
}

/// One sent track. Its order is that of memory: what changes with each packet fills two cache
/// lines, what each packet's header is copied from begins the third.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Consumer {
    /// Where from.
    pub producer: ProducerKey,
    /// Where to.
    pub transport: TransportKey,
    /// By the API.
    pub paused: bool,
    /// What is sent of the producer's streams; none before the first key frame.
    pub current: Option<u8>,
    /// What is to be sent; none before the first choice, and while it [starves](Self::is_starved).
    pub target: Option<u8>,
    /// Highest temporal layer that is sent.
    pub temporal: u8,
    /// Highest temporal layer that is to be sent.
    pub temporal_target: u8,
    /// Begin anew: at the next key frame (video) or packet (audio).
    pub resync: bool,
    /// Streams of which packets may be sent now, one bit each: see [`Consumer::follow`].
    pub streams: u8,
    /// Already in its transport's list.
    pub queued: bool,
    /// While it is queued: the place of the first of its producer's fresh packets that it has not had.
    fresh_from: u16,
    /// In this turn it begins at a key frame that came before: see [`Stream::restart`].
    pub restarts: bool,
    /// Opus silence is not forwarded.
    pub ignore_dtx: bool,
    /// See [`Consumer::repeats_tails`].
    repeats_tails: bool,
    /// NACKs are answered byte for byte: what varied in each packet is remembered.
    pub repeats_bytes: bool,
    /// Numbers.
    pub timeline: Timeline,
    /// Rate.
    pub meter: Meter,
    /// Arrival of the packet that was sent last: for timestamps across a switch.
    pub last_arrival: Arrival,
    /// Counts.
    pub sent: Sent,

    /// Header.
    pub template: Template,

    // Used now and then.
    /// Audio or video.
    pub kind: MediaKind,
    /// How it is made.
    pub rtp_type: RtpType,
    /// The receiver may send NACK.
    pub nack: bool,
    /// 1 to 255.
    pub priority: u8,
    /// Why the target is what it is.
    pub reason: LayersReason,
    /// SSRC.
    pub ssrc: u32,
    /// SSRC and payload type of retransmissions.
    pub rtx: Option<(u32, u8)>,
    /// Next number of the RTX stream.
    pub rtx_seq: SentSeq,
    /// RTP clock, Hz.
    pub clock_rate: u32,
    /// The receiver's losses, averaged over its reports.
    loss: f32,
    /// Wanted.
    pub preferred: Option<Layers>,
    /// What the last layers event said.
    pub announced_layers: Option<Layers>,
    last_fir: Option<u8>,
    /// When a repair was wanted last, in half seconds, which wrap after nine hours.
    repair_wanted_at: u16,
    /// Streams whose numbers are used up, as was told, one bit each: media, repeats.
    said_used_up: u8,
    /// Nothing is sent, because its receiver's network has no room for it.
    pub is_starved: bool,
    /// Nothing is sent, because its source is not among those whom the room hears or sees; of a pipe,
    /// because nobody beyond it wants the stream.
    pub is_left_out: bool,
    /// The last layers event said that nothing is sent, for one of these two reasons.
    said_withheld: bool,
    /// What its producer has counted of its wish: see [`Watched::count_wish`].
    ///
    /// [`Watched::count_wish`]: crate::watched::Watched::count_wish
    pub(crate) counted: u8,
    /// Streams that were followed a moment ago, one bit each, and when the last was left (in
    /// milliseconds, which may wrap).
    left: u8,
    left_at_ms: u32,
    /// Where it stands in its producer's list, and in its transport's.
    pub(crate) at_producer: u32,
    pub(crate) at_transport: u32,
    /// Other counts.
    pub asked: Asked,
    /// The caller's id.
    pub id: Id,
    /// What was sent again, and what is needed to repeat a packet byte for byte.
    pub resends: Resends,
    /// CNAME of the sender reports; most share their producer's.
    pub cname: Arc<str>,
    /// What was said of its score last, by the answer to `Consume` or by an event.
    pub announced_score: ConsumerScore,
    /// What the receiver says.
    pub reported: Reported,
    /// When the next sender report is due.
    pub report_at: Nanos,
    /// Middle 32 bits of the last sender reports' NTP times, newest first.
    pub reports_sent: [u32; 2],
}

const LINE: usize = 64;
const _: () = assert!(std::mem::offset_of!(Consumer, template) == 2 * LINE);
const _: () = assert!(size_of::<Consumer>() == 7 * LINE, "grown: there are many of them");

impl Consumer {
    /// A consumer from its parameters; what is wrong with them is said in words. `part`: of a pipe, the
    /// encoding, and the producer's stream, that it is for.
    ///
    /// # Errors
    /// A sentence for the caller.
    pub fn new(
        create: &Consume,
        part: Option<u8>,
        producer_key: ProducerKey,
        producer: &Producer,
        transport: TransportKey,
        first_seq: SentSeq,
        now: Nanos,
    ) -> Result<Self, String> {
        let parameters = &create.rtp_parameters;
        let mut codecs = parameters.codecs.iter();
        let media = codecs.find(|codec| !red::is_red(&codec.mime_type));
        let media = media.ok_or("rtpParameters.codecs has no media codec")?;
        let index = usize::from(part.unwrap_or(0));
        let encoding = parameters.encodings.get(index).ok_or("an encoding is missing")?;
        let ssrc = encoding.ssrc.ok_or("an encoding's ssrc is missing")?;
        if media.clock_rate != producer.clock_rate {
            return Err("the codec's clock rate is not the producer's".into());
        }
        if !media.mime_type.eq_ignore_ascii_case(&producer.mime_type) {
            return Err("the codec is not the producer's".into());
        }
        let rtx_codec = parameters.codecs[1..]
            .iter()
            .find(|codec| codec.mime_type.to_ascii_lowercase().ends_with("/rtx"));
        let rtx = rtx_codec.zip(encoding.rtx_ssrc).map(|(codec, ssrc)| (ssrc, codec.payload_type));
        // Pipes have repeats; the next router adds what its receivers take.
        let takes_red = part.is_none() && producer.codec == Codec::Opus;
        let red = parameters.codecs.iter().find(|codec| {
            takes_red && red::is_red(&codec.mime_type) && codec.clock_rate == media.clock_rate
        });
        let nack = media.rtcp_feedback.iter().any(|f| f.kind == "nack" && f.parameter.is_empty());
        let layered =
            part.is_none() && (producer.streams.len() > 1 || producer.temporal_layers > 1);
        let cname = &parameters.rtcp.cname;
        let cname = if *producer.cname == **cname {
            Arc::clone(&producer.cname)
        } else {
            Arc::from(cname.as_str())
        };
        let top = Layers {
            spatial: (producer.streams.len() - 1) as u8,
            temporal: producer.temporal_layers.saturating_sub(1),
        };
        let preferred = layered.then(|| create.preferred_layers.map_or(top, |p| cap(p, top)));
        Ok(Self {
            producer: producer_key,
            transport,
            paused: create.paused,
            current: None,
            target: part.or_else(|| (producer.streams.len() == 1).then_some(0)),
            temporal: u8::MAX,
            temporal_target: u8::MAX,
            resync: true,
            streams: 0,
            queued: false,
            fresh_from: 0,
            restarts: false,
            is_starved: false,
            is_left_out: producer.is_left_out && part.is_none(),
            said_withheld: false,
            ignore_dtx: create.ignore_dtx && producer.codec == Codec::Opus,
            repeats_tails: false,
            repeats_bytes: nack && rtx.is_none(),
            said_used_up: 0,
            timeline: Timeline::new(first_seq),
            meter: Meter::default(),
            last_arrival: Arrival::default(),
            sent: Sent::default(),
            template: Template::new(
                media.payload_type,
                ssrc,
                parameters.mid.as_deref(),
                &extension_map(parameters),
            )
            .with_red(red.map(|codec| codec.payload_type)),
            asked: Asked::default(),
            id: create.id.clone(),
            kind: producer.kind,
            rtp_type: create.rtp_type,
            ssrc,
            rtx,
            rtx_seq: first_seq,
            nack,
            resends: Resends::default(),
            cname,
            clock_rate: media.clock_rate,
            priority: 1,
            preferred,
            announced_layers: None,
            reason: LayersReason::Preferred,
            announced_score: ConsumerScore::default(),
            reported: Reported::default(),
            report_at: now + SECOND / 4,
            reports_sent: [0; 2],
            loss: 0.0,
            at_producer: 0,
            at_transport: 0,
            counted: 0,
            left: 0,
            left_at_ms: 0,
            repair_wanted_at: half_seconds(now).wrapping_sub(half_seconds(AGAIN)),
            last_fir: None,
        })
    }

    /// True of a part of a pipe: it takes one stream with all of its layers, always the same one.
    #[must_use]
    pub fn is_pipe(&self) -> bool {
        self.rtp_type == RtpType::Pipe
    }

    /// How many of the lowest of its producer's `streams` it wants: a lower one is what is left when a
    /// path gets narrow.
    #[must_use]
    pub fn wants(&self, streams: u8) -> u8 {
        let top = if self.is_pipe() { self.target } else { self.preferred.map(|one| one.spatial) };
        let is_silent = self.paused || self.is_left_out;
        if is_silent { 0 } else { top.map_or(streams, |top| streams.min(top + 1)) }
    }

    /// What it sends with.
    pub fn ssrcs(&self) -> impl Iterator<Item = u32> {
        [Some(self.ssrc), self.rtx.map(|(ssrc, _)| ssrc)].into_iter().flatten()
    }

    /// Sends nothing until a key frame (video) or the next packet (audio).
    pub fn start_over(&mut self) {
        self.resync = true;
    }

    /// Sends nothing for lack of bandwidth, and begins anew at a key frame when there is room.
    pub fn starve(&mut self) {
        self.is_starved = true;
        self.target = None;
        self.left = 0;
        self.start_over();
    }

    /// Its source is left out of what the room hears or sees, or is not any more: then it begins anew.
    /// Returns [`Self::streams`].
    pub fn leave_out(&mut self, is_left_out: bool) -> u8 {
        self.is_left_out = is_left_out;
        self.left = 0;
        self.start_over();
        self.follow(0)
    }

    /// True while nothing is sent that its receiver would have.
    #[must_use]
    pub fn is_withheld(&self) -> bool {
        self.is_starved || self.is_left_out
    }

    /// True while its receiver gets what comes.
    #[must_use]
    pub fn is_sent(&self) -> bool {
        !self.paused && !self.is_withheld() && !self.timeline.is_used_up()
    }

    /// Which streams' packets it may send now: what it follows, what it is to follow, and for a while
    /// what it followed before, whose holes may still be filled. Kept in [`Self::streams`].
    pub fn follow(&mut self, now: Nanos) -> u8 {
        if Nanos::from(millis(now).wrapping_sub(self.left_at_ms)) * MS >= KEEP {
            self.left = 0;
        }
        let bit = |stream: Option<u8>| stream.map_or(0, |stream| 1 << stream);
        let streams = bit(self.current) | bit(self.target) | self.left;
        self.streams = if self.paused || self.is_withheld() { 0 } else { streams };
        self.streams
    }

    /// True while a key frame is missing to go on with what is to be sent.
    #[must_use]
    pub fn needs_key_frame(&self) -> bool {
        self.kind == MediaKind::Video
            && !self.paused
            && !self.is_left_out
            && !self.timeline.is_used_up()
            && self.target.is_some()
            && (self.resync || self.current != self.target)
    }

    /// Whether and how a fresh packet is sent. `sources`: the producer's streams.
    pub fn choose(&mut self, stream: u8, stored: &Stored, sources: &[Stream]) -> Option<Rewritten> {
        if self.timeline.is_used_up() {
            return None;
        }
        let meta = &stored.meta;
        let packet = SourcePacket {
            stream,
            seq: meta.seq,
            timestamp: meta.timestamp,
            picture_id: meta.info.picture_id,
            tl0_pic_idx: meta.info.tl0_pic_idx,
        };
        let switches = self.target == Some(stream) && (self.resync || self.current != self.target);
        if switches && self.can_start_at(&meta.info, meta.payload_len) {
            let timestamp = self.switch_timestamp(stored, stream, sources);
            if let Some(left) = self.current.filter(|left| *left != stream) {
                (self.left, self.left_at_ms) =
                    (self.left | 1 << left, millis(meta.arrival.moment()));
            }
            self.current = Some(stream);
            self.temporal = self.temporal_target;
            self.resync = false;
            self.last_arrival = meta.arrival;
            return Some(self.timeline.switch(packet, timestamp));
        }
        if self.resync {
            return None;
        }
        if self.current != Some(stream) {
            // The layer left behind may still fill its holes.
            return self.timeline.late(stream, meta.seq, meta.timestamp);
        }
        if !self.timeline.is_new(meta.seq) {
            return self.timeline.late(stream, meta.seq, meta.timestamp);
        }
        if meta.payload_len == 0 || self.skips(&meta.info) {
            self.timeline.drop_one(packet);
            return None;
        }
        self.last_arrival = meta.arrival;
        Some(self.timeline.advance(packet))
    }

    /// A stream can begin at a key frame's first packet; audio anywhere.
    fn can_start_at(&self, info: &PayloadInfo, payload_len: u16) -> bool {
        payload_len > 0
            && (self.kind == MediaKind::Audio || (info.key_frame && info.start_of_frame))
    }

    /// Temporal layers above what is wanted, and silence. Going up waits for a frame that refers to
    /// nothing that was left out.
    fn skips(&mut self, info: &PayloadInfo) -> bool {
        if self.ignore_dtx && info.silence {
            return true;
        }
        if info.start_of_frame {
            let layer = info.temporal_layer;
            if info.key_frame || self.temporal > self.temporal_target {
                self.temporal = self.temporal_target;
            } else if info.layer_sync
                && layer <= self.temporal_target
                && Some(layer) == self.temporal.checked_add(1)
            {
                // One by one: a sync frame vouches for its own layer, not for those below it.
                self.temporal = layer;
            }
        }
        let skips = info.temporal_layer > self.temporal;
        if info.opens_upper && !skips {
            self.temporal = self.temporal_target;
        }
        skips
    }

    /// True when frames are left out that are wanted, and the stream shows no frame at which they can
    /// be taken up again but a key frame.
    #[must_use]
    pub fn waits_for_temporal_layers(&self, producer: &Producer) -> bool {
        let stream = self.current.and_then(|at| producer.streams.get(usize::from(at)));
        self.temporal < self.temporal_target
            && stream.is_some_and(|s| s.temporal_max > self.temporal && !s.shows_sync)
    }

    /// The timestamp of the first packet after a switch: where both streams have told their capture
    /// clock, the same moment on the receiver's timeline; else by arrival.
    fn switch_timestamp(&self, stored: &Stored, stream: u8, sources: &[Stream]) -> u32 {
        let meta = &stored.meta;
        let Some(timestamp_add) = self.timeline.timestamp_add() else {
            return meta.timestamp;
        };
        let last = self.timeline.last_timestamp();
        if self.current == Some(stream) {
            return later(meta.timestamp.wrapping_add(timestamp_add), last);
        }
        let elapsed = meta.arrival.since(self.last_arrival);
        let by_arrival = last.wrapping_add(rtp_units(elapsed, self.clock_rate));
        let report = |index: Option<u8>| {
            sources.get(usize::from(index?)).and_then(|stream| stream.sender_report)
        };
        let by_capture = report(self.current).zip(report(Some(stream))).map(|(old, new)| {
            same_moment(meta.timestamp, &new, &old, self.clock_rate).wrapping_add(timestamp_add)
        });
        // A capture clock that is off by more than this is not believed.
        let far = self.clock_rate / 2;
        let believed =
            by_capture.filter(|t| (t.wrapping_sub(by_arrival) as i32).unsigned_abs() < far);
        later(believed.unwrap_or(by_arrival), last)
    }

    /// What a report says of the way to this receiver, and whether that is known to be full.
    pub fn note_loss(&mut self, share: f64, is_full: bool) {
        self.loss += (share as f32 - self.loss) / 4.0;
        self.repeats_tails = self.kind == MediaKind::Video
            && self.rtx.is_some()
            && !is_full
            && TAIL_LOSS.contains(&self.loss);
    }

    /// How many earlier packets go with each, where the receiver takes RED.
    #[must_use]
    pub fn red_levels(&self) -> u8 {
        if self.loss < RED_TWICE_LOSS { 1 } else { LEVELS_MAX }
    }

    /// True while the last packet of each frame is sent twice (by RTX): on a lossy way its loss shows
    /// only with the next frame, and a repeat would come too late to be decoded in time. Not where
    /// losses or estimates say that the way is full.
    #[must_use]
    pub fn repeats_tails(&self) -> bool {
        self.repeats_tails
    }

    /// True when a receiver's PLI or FIR is to be passed on: a FIR that is repeated has its number
    /// (RFC 5104 section 4.3.1.2). What comes too often waits at the source ([`KeyFrameRequests`]).
    ///
    /// [`KeyFrameRequests`]: crate::key_frame::KeyFrameRequests
    pub fn take_key_frame_wish(&mut self, fir: Option<u8>) -> bool {
        if fir.is_some() && fir == self.last_fir {
            return false;
        }
        self.last_fir = fir.or(self.last_fir);
        true
    }

    /// What its receiver is, who says that he cannot go on without a key frame.
    pub fn want_repair(&mut self, now: Nanos) -> Wish {
        // It asks for all who are beyond it, and their router has made few of their wishes.
        if self.is_pipe() {
            return Wish::Repair;
        }
        // Of two in one turn the later one may be of an earlier moment: it comes again, too.
        let (at, back) = (half_seconds(now), half_seconds(SECOND));
        let since = at.wrapping_sub(std::mem::replace(&mut self.repair_wanted_at, at));
        let is_again = since.wrapping_add(back) < half_seconds(AGAIN) + back;
        if is_again { Wish::RepairAgain } else { Wish::Repair }
    }

    /// What is sent now, as the API says it.
    #[must_use]
    pub fn current_layers(&self, producer: &Producer) -> Option<Layers> {
        self.preferred?;
        let spatial = self.current.filter(|_| !self.paused && !self.resync)?;
        let top = producer.temporal_layers.saturating_sub(1);
        Some(Layers { spatial, temporal: self.temporal.min(top) })
    }

    /// What the next layers event is to say, if anything has changed. A track without layers has an
    /// event only when it is withheld, and when it is sent again.
    pub fn take_layers_news(
        &mut self,
        producer: &Producer,
    ) -> Option<(Option<Layers>, LayersReason)> {
        if self.is_pipe() {
            return None;
        }
        let is_withheld = self.is_withheld();
        let is_sent = !is_withheld && !self.resync && self.current.is_some();
        let is_back = self.said_withheld && !is_withheld;
        let current = if self.preferred.is_some() {
            self.current_layers(producer)
        } else if is_back && is_sent {
            Some(Layers { spatial: 0, temporal: 0 })
        } else {
            self.announced_layers.filter(|_| !is_withheld)
        };
        if is_back && current.is_none()
            || current == self.announced_layers && is_withheld == self.said_withheld
        {
            return None;
        }
        (self.announced_layers, self.said_withheld) = (current, is_withheld);
        let reason = match current {
            Some(_) => self.reason,
            None if self.is_left_out => LayersReason::LastN,
            None if self.is_starved => LayersReason::Bandwidth,
            None if self.paused => LayersReason::Preferred,
            None => LayersReason::Available,
        };
        Some((current, reason))
    }

    /// Numbers that were used up since this was asked last: their stream ends without a word.
    pub fn take_used_up(&mut self) -> Option<SentStream> {
        let repeats = self.rtx.is_some() && self.rtx_seq > SentSeq::MAX;
        let now = [self.timeline.is_used_up(), repeats];
        let at = (0..2).find(|&at| now[at] && self.said_used_up & 1 << at == 0)?;
        self.said_used_up |= 1 << at;
        Some([SentStream::Media, SentStream::Repeats][at])
    }

    /// It is about to be in its transport's list: it has had what was told of before.
    pub(crate) fn queue(&mut self, producer: &Producer) {
        self.queued = true;
        self.fresh_from = producer.told();
    }

    /// What it has not had of the fresh packets, and how many before those were let go.
    pub(crate) fn unsent<'a>(&self, producer: &'a Producer) -> (&'a [Fresh], u16) {
        producer.fresh_from(self.fresh_from)
    }

    /// Quality, as the API says it.
    #[must_use]
    pub fn score(&self, producer: &Producer) -> ConsumerScore {
        let scores: Vec<u8> = producer.streams.iter().map(|stream| stream.score).collect();
        let source = self.current.map_or(0, usize::from);
        let arrived = 1.0 - f64::from(self.reported.fraction_lost) / 256.0;
        ConsumerScore {
            score: (10.0 * arrived.powi(4)).round().clamp(1.0, 10.0) as u8,
            producer_score: scores.get(source).copied().unwrap_or(0),
            producer_scores: scores,
        }
    }
}

/// Layers not above `top`.
#[must_use]
pub fn cap(layers: Layers, top: Layers) -> Layers {
    Layers { spatial: layers.spatial.min(top.spatial), temporal: layers.temporal.min(top.temporal) }
}

fn millis(at: Nanos) -> u32 {
    (at / MS) as u32
}

fn half_seconds(at: Nanos) -> u16 {
    (at / (SECOND / 2)) as u16
}

/// Nanoseconds in RTP units.
#[must_use]
pub fn rtp_units(span: Nanos, clock_rate: u32) -> u32 {
    (u128::from(span) * u128::from(clock_rate) / u128::from(SECOND)) as u32
}

/// `timestamp` of the stream of `from`, as the stream of `to` would have stamped the same moment.
fn same_moment(timestamp: u32, from: &SenderReport, to: &SenderReport, clock_rate: u32) -> u32 {
    let since_from = i64::from(timestamp.wrapping_sub(from.rtp) as i32);
    let between = from.ntp.wrapping_sub(to.ntp) as i64;
    let between = (i128::from(between) * i128::from(clock_rate)) >> 32;
    to.rtp.wrapping_add((i128::from(since_from) + between) as u32)
}

/// `timestamp`, or just after `last` if it were not later.
fn later(timestamp: u32, last: u32) -> u32 {
    if (timestamp.wrapping_sub(last) as i32) > 0 { timestamp } else { last.wrapping_add(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_moment_on_another_streams_clock() {
        let second = 1u64 << 32;
        let a = SenderReport { ntp: 1_000 * second, rtp: 5_000, arrival: Arrival::default() };
        let b = SenderReport {
            ntp: 1_002 * second + second / 2,
            rtp: 900_000,
            arrival: Arrival::default(),
        };
        // 0.1 s before b's report is 2.4 s after a's.
        assert_eq!(same_moment(900_000 - 9_000, &b, &a, 90_000), 5_000 + 216_000);
        assert_eq!(same_moment(5_000 + 216_000, &a, &b, 90_000), 900_000 - 9_000);
    }

    #[test]
    fn time_never_stands_still_or_goes_back() {
        assert_eq!(later(100, 100), 101);
        assert_eq!(later(u32::MAX, 5), 6);
        assert_eq!(later(5, u32::MAX), 5);
    }
}
