//! [7] The way out: everything that leaves for one peer is numbered, stamped and sealed here, at the
//! moment of sending. One transport is drained after the other, so that its keys and state stay in
//! cache, and its packets lie back to back in the batch. Next: [8] `driver/tx.rs` sends them.

use ironcast_protocol::media::MediaKind;

use crate::{
    Discard, Nanos, OUTPUT_OLD,
    batch::Batch,
    consumer::Consumer,
    key::TransportKey,
    link::way::Way,
    numbers::{SentSeq, SourceSeq},
    producer::{Fresh, Producer, Stream},
    recover::{history::Stored, red::Redundancy, resend::SentParts},
    srtp::SealJob,
    template::HeaderFields,
    timeline::Rewritten,
    transport::Transport,
    wire::{Codec, extension::abs_send_time, vp8},
    worker::Worker,
};

/// Room for a tag and a packet's own extensions, for the guess of how long a run gets.
const RUN_SLACK_BYTES: usize = 24;

/// A repeat counts at least like so many bytes, also one that is refused or leads to nothing: to look for
/// it takes as long as to write some.
const REPEAT_BYTES_MIN: usize = 64;
/// The same for a consumer that is looked at, and for each packet that it does not get: a portion ends,
/// however little is written.
const CONSUMER_BYTES: usize = 128;
const PACKET_BYTES: usize = 16;

/// Where the packets of one transport go in a turn, and what they share.
struct Out<'a> {
    batch: &'a mut Batch,
    jobs: &'a mut Vec<SealJob>,
    /// See [`Worker::clear_jobs`]; there where a tap looks.
    clear: Option<&'a mut Vec<SealJob>>,
    way: Way,
    tag_len: usize,
    transport: u32,
    abs_send_time: u32,
    /// Packets that were skipped because they have waited for too long.
    late: u64,
    /// The last packet of the newest frame that was written, where it is to be sent twice: an earlier
    /// frame has one behind it, which shows what is missing.
    tail: Option<SentSeq>,
}

impl Worker {
    /// Writes what one transport has to send in this turn: repeats first, they are late already.
    pub(crate) fn drain_transport(&mut self, key: TransportKey, batch: &mut Batch, now: Nanos) {
        let Some(transport) = self.transports.get_mut(key) else {
            return;
        };
        transport.queued = false;
        let way = self.ways.of(key.index());
        debug_assert_eq!(way, transport.link.way(), "the table of ways is current");
        let is_tapped = self.taps.look_at_transports();
        let (jobs, clear) = (&mut self.seal_jobs, is_tapped.then_some(&mut self.clear_jobs));
        let mut out = way.map(|way| Out {
            batch,
            jobs,
            clear,
            way,
            tag_len: way.tag_len(),
            transport: key.index() as u32,
            abs_send_time: u32::from_be_bytes({
                let [a, b, c] = abs_send_time(now);
                [0, a, b, c]
            }),
            late: 0,
            tail: None,
        });
        let mut repeats = std::mem::take(&mut transport.resends);
        if !repeats.is_empty() {
            transport.fill_allowance(now);
        }
        for (key, seq) in repeats.drain(..) {
            let Some(consumer) = self.consumers.get_mut(key) else {
                continue;
            };
            let Some(producer) = self.producers.get(consumer.producer) else {
                continue;
            };
            let Some(out) = &mut out else { continue };
            // What is not sent any more has no room for its repeats either.
            if consumer.is_starved || !transport.allowance.is_left() {
                self.counters.repeats_refused += 1;
                out.batch.work(REPEAT_BYTES_MIN);
                continue;
            }
            self.counters.retransmitted += repeat(out, transport, consumer, producer, seq, now);
        }
        transport.resends = repeats;
        let mut pending = std::mem::take(&mut transport.pending);
        for key in pending.drain(..) {
            let Some(consumer) = self.consumers.get_mut(key) else {
                continue;
            };
            consumer.queued = false;
            let Some(producer) = self.producers.get(consumer.producer) else {
                continue;
            };
            let Some(out) = &mut out else { continue };
            let (packets, bytes) = forward(out, consumer, producer, now);
            out.batch.work(CONSUMER_BYTES);
            self.counters.forwarded += packets;
            transport.traffic.rtp_sent.add(bytes, now);
            transport.traffic.sent.add(bytes, now);
            if let Some(seq) = out.tail.take() {
                transport.fill_allowance(now);
                if transport.allowance.is_half_left() {
                    let sent = repeat(out, transport, consumer, producer, seq, now);
                    self.counters.retransmitted += sent;
                }
            }
        }
        let late = out.map_or(0, |out| out.late);
        transport.pending = pending;
        if late > 0 {
            self.late_at = now;
            self.discards.add(Discard::OutputLate, late);
        }
    }
}

/// One packet once more, counted. Returns how many that are: 0 when nothing is sent.
fn repeat(
    out: &mut Out<'_>,
    transport: &mut Transport,
    consumer: &mut Consumer,
    producer: &Producer,
    seq: SentSeq,
    now: Nanos,
) -> u64 {
    out.batch.class = out.way.class_of(consumer.kind);
    let len = resend(out, consumer, producer, seq, now);
    transport.allowance.spend(len.max(REPEAT_BYTES_MIN));
    out.batch.work(REPEAT_BYTES_MIN);
    transport.traffic.rtx_sent.add(len, now);
    transport.traffic.sent.add(len, now);
    u64::from(len > 0)
}

/// What a consumer has not had of its producer's fresh packets: choose, renumber, write.
#[inline]
fn forward(
    out: &mut Out<'_>,
    consumer: &mut Consumer,
    producer: &Producer,
    now: Nanos,
) -> (u64, usize) {
    let (mut packets, mut bytes) = (0, 0);
    out.batch.class = out.way.class_of(consumer.kind);
    let (mut unsent, missed) = consumer.unsent(producer);
    if missed > 0 || unsent.first().is_some_and(|first| is_late(first, producer, now)) {
        unsent = skip_late(out, consumer, producer, (unsent, missed), now);
    }
    let is_all = unsent.len() == producer.fresh.len();
    let follows = consumer.current.or(consumer.target).filter(|_| is_all);
    if let Some(stream) = follows.and_then(|index| producer.streams.get(usize::from(index))) {
        let fresh = stream.fresh;
        let around = consumer.template.bare_len() + RUN_SLACK_BYTES;
        out.batch.begin_run(fresh.bytes + fresh.packets * around);
    }
    // A receiver begins with what came before, and then has the rest of this turn too.
    let mut restarted = None;
    if std::mem::take(&mut consumer.restarts)
        && let Some(index) = consumer.target.filter(|index| consumer.streams & 1 << index != 0)
        && let Some(stream) = producer.streams.get(usize::from(index))
        && let Some(first) = restart(consumer, stream, now)
    {
        restarted = Some(index);
        for stored in stream.history.from(first) {
            let len = forward_one(out, consumer, producer, index, stored);
            packets += u64::from(len > 0);
            bytes += len;
        }
    }
    for fresh in unsent {
        if consumer.streams & 1 << fresh.stream == 0 || restarted == Some(fresh.stream) {
            continue;
        }
        let history = &producer.streams[usize::from(fresh.stream)].history;
        let Some(stored) = history.packet(fresh.seq) else {
            continue;
        };
        let len = forward_one(out, consumer, producer, fresh.stream, stored);
        packets += u64::from(len > 0);
        bytes += len;
    }
    // What is looked at takes time, too.
    out.batch.work(PACKET_BYTES * unsent.len().saturating_sub(packets as usize));
    // Figures of a stream are of its packets, not of what protects them.
    let plain = bytes - packets as usize * out.tag_len;
    consumer.sent.packets += packets;
    consumer.sent.bytes += plain as u64;
    consumer.meter.add(plain, now);
    (packets, bytes)
}

/// Whether a fresh packet has waited for output for too long, or is not here any more for that reason.
#[inline]
fn is_late(fresh: &Fresh, producer: &Producer, now: Nanos) -> bool {
    let stored = producer.streams[usize::from(fresh.stream)].history.packet(fresh.seq);
    stored.is_none_or(|stored| stored.meta.arrival.age(now) > OUTPUT_OLD)
}

/// The packets that are not late. A video goes on at a key frame when one was skipped.
#[cold]
#[inline(never)]
fn skip_late<'a>(
    out: &mut Out<'_>,
    consumer: &mut Consumer,
    producer: &Producer,
    (unsent, missed): (&'a [Fresh], u16),
    now: Nanos,
) -> &'a [Fresh] {
    let late = unsent.iter().take_while(|fresh| is_late(fresh, producer, now)).count();
    let (skipped, rest) = unsent.split_at(late);
    let wanted = skipped.iter().filter(|fresh| {
        // A stream that began again has taken its packets back.
        consumer.streams & 1 << fresh.stream != 0 && fresh.seq != SourceSeq::NONE
    });
    let skipped = u64::from(missed) + wanted.count() as u64;
    if skipped > 0 && consumer.kind == MediaKind::Video {
        consumer.start_over();
    }
    out.late += skipped;
    out.batch.work(PACKET_BYTES * late);
    rest
}

/// Where a receiver begins with what came before, if anywhere.
#[cold]
#[inline(never)]
fn restart(consumer: &Consumer, stream: &Stream, now: Nanos) -> Option<SourceSeq> {
    match consumer.kind {
        MediaKind::Audio => stream.lead_in(consumer.last_arrival, now),
        MediaKind::Video => stream.restart(consumer.last_arrival, now).map(|(first, _)| first),
    }
}

/// One packet, if it is chosen. Returns the datagram's length, 0 when nothing is sent.
#[inline]
fn forward_one(
    out: &mut Out<'_>,
    consumer: &mut Consumer,
    producer: &Producer,
    stream: u8,
    stored: &Stored,
) -> usize {
    let Some(rewritten) = consumer.choose(stream, stored, &producer.streams) else {
        return 0;
    };
    let redundancy = if consumer.template.red() == 0 {
        Redundancy::default()
    } else {
        let history = &producer.streams[usize::from(stream)].history;
        Redundancy::choose(history, stored, consumer.red_levels())
    };
    let (abs_send_time, padding) = (out.abs_send_time, stored.meta.padding);
    let parts = SentParts { abs_send_time, padding, earlier: redundancy.earlier() };
    let len = write_media(out, consumer, producer.codec, stored, rewritten, parts, &redundancy);
    if len == 0 {
        return 0;
    }
    if consumer.repeats_bytes {
        consumer.resends.note_sent(rewritten.seq, parts);
    }
    consumer.sent.payload_bytes += u64::from(stored.meta.payload_len) + redundancy.bytes() as u64;
    if stored.meta.marker && consumer.repeats_tails() {
        out.tail = out.tail.max(Some(rewritten.seq));
    }
    len
}

/// One packet, once more: as RTX (RFC 4588) where negotiated, else byte for byte.
fn resend(
    out: &mut Out<'_>,
    consumer: &mut Consumer,
    producer: &Producer,
    seq: SentSeq,
    now: Nanos,
) -> usize {
    let Some((stream, source)) = consumer.timeline.source(seq) else {
        return 0;
    };
    let history = producer.streams.get(usize::from(stream)).map(|stream| &stream.history);
    let Some(stored) = history.and_then(|history| history.packet(source)) else {
        return 0;
    };
    let timestamp = stored.meta.timestamp;
    let Some(rewritten) = consumer.timeline.repeated(seq, timestamp) else {
        return 0;
    };
    if consumer.rtx.is_some() && consumer.rtx_seq > SentSeq::MAX {
        return 0;
    }
    let Some((ssrc, payload_type)) = consumer.rtx else {
        // Without RTX: only when everything that went into the packet is still known.
        let Some(parts) = consumer.resends.parts(rewritten.seq) else {
            return 0;
        };
        let redundancy = history.and_then(|of| Redundancy::again(of, stored, parts.earlier));
        let Some(redundancy) = redundancy else {
            return 0;
        };
        if !consumer.resends.take(rewritten.seq, consumer.reported.rtt, now) {
            return 0;
        }
        consumer.asked.retransmitted += 1;
        let codec = producer.codec;
        return write_media(out, consumer, codec, stored, rewritten, parts, &redundancy);
    };
    if !consumer.resends.take(rewritten.seq, consumer.reported.rtt, now) {
        return 0;
    }
    let fields = HeaderFields {
        rtx: Some((payload_type, ssrc)),
        marker: stored.meta.marker,
        seq: consumer.rtx_seq.wire(),
        timestamp: rewritten.timestamp,
        abs_send_time: out.abs_send_time,
        padding: false,
    };
    let (before, index) = (Before::Original(rewritten.seq), consumer.rtx_seq);
    let len = write_packet(
        out,
        consumer,
        producer.codec,
        stored,
        rewritten,
        &fields,
        Body { before, padding: 0, index },
    );
    if len > 0 {
        consumer.rtx_seq = consumer.rtx_seq.next();
        consumer.asked.retransmitted += 1;
    }
    len
}

/// A packet for the first time, or the same bytes again: as RED where earlier ones go with it.
fn write_media(
    out: &mut Out<'_>,
    consumer: &Consumer,
    codec: Codec,
    stored: &Stored,
    rewritten: Rewritten,
    parts: SentParts,
    redundancy: &Redundancy<'_>,
) -> usize {
    let template = &consumer.template;
    let (named, before) = if redundancy.is_none() {
        (None, Before::Nothing)
    } else {
        let red = (template.red(), consumer.ssrc);
        (Some(red), Before::Earlier(redundancy, template.payload_type()))
    };
    let fields = HeaderFields {
        rtx: named,
        marker: stored.meta.marker,
        seq: rewritten.seq.wire(),
        timestamp: rewritten.timestamp,
        abs_send_time: parts.abs_send_time,
        padding: parts.padding > 0,
    };
    let body = Body { before, padding: usize::from(parts.padding), index: rewritten.seq };
    write_packet(out, consumer, codec, stored, rewritten, &fields, body)
}

/// What stands before the payload.
enum Before<'a> {
    Nothing,
    /// Of a repeat: the number that it had (RFC 4588 section 4).
    Original(SentSeq),
    /// Earlier payloads of that type (RFC 2198).
    Earlier(&'a Redundancy<'a>, u8),
}

impl Before<'_> {
    #[inline]
    fn len(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Original(_) => 2,
            Self::Earlier(redundancy, _) => redundancy.bytes(),
        }
    }

    #[inline]
    fn write(&self, newest: &Stored, out: &mut [u8]) {
        match self {
            Self::Nothing => {}
            Self::Original(seq) => out.copy_from_slice(&seq.wire().to_be_bytes()),
            Self::Earlier(redundancy, payload_type) => {
                redundancy.write(newest, *payload_type, out);
            }
        }
    }
}

/// What surrounds the payload.
struct Body<'a> {
    before: Before<'a>,
    padding: usize,
    index: SentSeq,
}

/// Header, payload, padding, room for the tag; the sealing itself, if any, is a job of this turn. Returns
/// the datagram's length, 0 when there was no room.
fn write_packet(
    out: &mut Out<'_>,
    consumer: &Consumer,
    codec: Codec,
    stored: &Stored,
    rewritten: Rewritten,
    fields: &HeaderFields,
    body: Body<'_>,
) -> usize {
    let payload = stored.payload();
    let before_len = body.before.len();
    let body_len = before_len + payload.len() + body.padding;
    let room = consumer.template.room(stored);
    let Some(buffer) = out.batch.reserve(room + body_len + out.tag_len) else {
        return 0;
    };
    let header_len = consumer.template.write(buffer, stored, fields);
    let start = header_len + before_len;
    body.before.write(stored, &mut buffer[header_len..start]);
    let end = start + payload.len();
    buffer[start..end].copy_from_slice(payload);
    if codec == Codec::Vp8 && (rewritten.picture_add, rewritten.tl0_add) != (0, 0) {
        vp8::rewrite(&mut buffer[start..end], rewritten.picture_add, rewritten.tl0_add);
    }
    if body.padding > 0 {
        buffer[end..end + body.padding].fill(0);
        buffer[end + body.padding - 1] = body.padding as u8;
    }
    let len = header_len + body_len + out.tag_len;
    let (slab, offset) = out.batch.commit(out.way.path, len);
    let job = SealJob {
        transport: out.transport,
        slab,
        offset,
        header_len: header_len as u16,
        payload_len: body_len as u16,
        index: body.index.into(),
    };
    if out.way.suite.is_some() {
        out.jobs.push(job);
    } else if let Some(clear) = &mut out.clear {
        clear.push(job);
    }
    len
}
