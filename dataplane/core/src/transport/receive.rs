//! [3] The way in of one peer: find the stream, unprotect straight into packet memory, undo RTX and RED,
//! hand to [4] `producer.rs`; RTCP goes to `reports.rs`. Nothing is remembered of a packet before
//! its tag was verified.

use ironcast_protocol::Event;

use crate::{
    Arrival, Discard, Nanos, SECOND,
    key::TransportKey,
    link::Opener,
    numbers::{PacketIndex, SourceSeq},
    producer::{Arrived, Producer},
    recover::{
        history::{Forwarded, Meta},
        pool::LARGE_BYTES,
    },
    srtp::StreamIndex,
    transport::demux::{Found, StreamRef},
    wire::{
        extension::{ExtensionKind, parse_identifier, parse_transport_sequence},
        rtp, u16_at,
    },
    worker::Worker,
};

/// Without protection, a number so far ahead of the last one is that of a sender that began again
/// (RFC 3550 appendix A.1).
const DROPOUT_MAX: u64 = 3_000;
/// Between two changes of a stream's SSRC: each one makes its receivers begin anew.
const CHANGES_SPACING: Nanos = SECOND / 2;

/// The extensions of a received packet, sorted by who needs them.
#[derive(Default)]
struct Extensions {
    transport_seq: Option<u16>,
    /// MID or RID are not those of the stream.
    is_elsewhere: bool,
    forwarded: Forwarded,
}

impl Worker {
    /// An SRTP packet of a peer.
    pub(crate) fn receive_rtp(
        &mut self,
        key: TransportKey,
        datagram: &[u8],
        arrival: Arrival,
    ) -> Result<(), Discard> {
        if datagram.len() > LARGE_BYTES {
            return Err(Discard::Oversized);
        }
        let header = rtp::Header::parse_protected(datagram)?;
        let transport = self.transports.get_mut(key).ok_or(Discard::UnknownSource)?;
        let opener = transport.link.protection.opener()?;
        let Some(found) = transport.demux.by_ssrc(header.ssrc) else {
            return self.receive_unbound(key, header, datagram, arrival);
        };
        let producer = self.producers.get_mut(found.producer).ok_or(Discard::RtpUnknownStream)?;
        let stream = &mut producer.streams[usize::from(found.stream)];
        let estimate = stream.index_of(found.rtx).estimate(header.sequence_number);
        if matches!(opener, Opener::Clear) && !found.rtx {
            let newest = stream.index_of(false).newest();
            let is_far = estimate.is_ok_and(|i| newest.is_some_and(|n| i.0 > n.0 + DROPOUT_MAX));
            let is_silent = stream.is_silent(transport.link.silent_after(), arrival);
            if (estimate.is_err() || is_far) && is_silent {
                let index = PacketIndex(header.sequence_number.into());
                self.begin_again(found, StreamIndex::default(), index, arrival);
                self.touch_subscribers(found.producer);
                return self.receive_rtp(key, datagram, arrival);
            }
        }
        let index = estimate?;
        let mut buffer = self.pool.take(datagram.len()).ok_or(Discard::LimitReached)?;
        let opened = opener.open_rtp_into(datagram, header.header_len(), index, &mut buffer);
        let plain_len = match opened {
            Ok(len) => len,
            Err(reason) => {
                self.pool.give(buffer);
                return Err(reason);
            }
        };
        self.receive_verified(key, found, header, datagram, plain_len, buffer, index, arrival)
    }

    /// A packet of a stream, verified: counted and acknowledged, whatever becomes of it.
    #[expect(clippy::too_many_arguments, reason = "one call, all of it known only there")]
    fn receive_verified(
        &mut self,
        key: TransportKey,
        mut found: StreamRef,
        header: rtp::Header,
        datagram: &[u8],
        plain_len: usize,
        buffer: Box<[u8]>,
        index: PacketIndex,
        arrival: Arrival,
    ) -> Result<(), Discard> {
        let producer = self.producers.get_mut(found.producer);
        let (Some(transport), Some(producer)) = (self.transports.get_mut(key), producer) else {
            self.pool.give(buffer);
            return Err(Discard::RtpUnknownStream);
        };
        let stream = &mut producer.streams[usize::from(found.stream)];
        stream.index_of(found.rtx).commit(index);
        stream.has_ended &= found.rtx;
        let mut extensions = sort_extensions(producer, found, &header, datagram);
        let traffic = &mut transport.traffic;
        if found.rtx {
            traffic.rtx_received.add(datagram.len(), arrival.moment());
        } else {
            traffic.rtp_received.add(datagram.len(), arrival.moment());
        }
        if let Some(seq) = extensions.transport_seq {
            transport.feedback.receive(seq, arrival);
        }
        if extensions.is_elsewhere {
            match self.follow_labels(key, found, &header, datagram, index, arrival) {
                Ok(stream) => found = stream,
                Err(reason) => {
                    self.pool.give(buffer);
                    return Err(reason);
                }
            }
            if let Some(producer) = self.producers.get(found.producer) {
                extensions = sort_extensions(producer, found, &header, datagram);
            }
        }
        if self.taps.look_at_transports() {
            let plain = (&buffer[..plain_len], header.header_len());
            self.tap_received(key, found, index, plain, arrival.moment());
        }
        let forwarded = extensions.forwarded;
        self.receive_plain(found, header, plain_len, buffer, forwarded, index, arrival)
    }

    /// A packet whose SSRC no stream has. Publishers send as soon as they may, and their `produce`
    /// comes a signaling round trip later: what is theirs is verified and acknowledged, so that they
    /// do not take it for lost; and a stream that its labels name takes its SSRC.
    fn receive_unbound(
        &mut self,
        key: TransportKey,
        header: rtp::Header,
        datagram: &[u8],
        arrival: Arrival,
    ) -> Result<(), Discard> {
        let transport = self.transports.get_mut(key).ok_or(Discard::UnknownSource)?;
        let opener = transport.link.protection.opener()?;
        let value = |id| header.extensions(datagram).find(|(of, _)| *of == id).map(|(_, v)| v);
        let found = transport.demux.by_labels(header.payload_type, value);
        let index = transport.sources.estimate(header.ssrc, header.sequence_number)?;
        let mut buffer = self.pool.take(datagram.len()).ok_or(Discard::LimitReached)?;
        let opened = opener.open_rtp_into(datagram, header.header_len(), index, &mut buffer);
        let bound = match opened {
            Ok(plain_len) => found
                .and_then(|found| self.bind(key, header.ssrc, found, index, arrival))
                .map(|stream| (stream, plain_len)),
            Err(reason) => {
                self.pool.give(buffer);
                return Err(reason);
            }
        };
        let (found, plain_len) = match bound {
            Ok(bound) => bound,
            Err(reason) => {
                self.pool.give(buffer);
                if let Some(transport) = self.transports.get_mut(key) {
                    transport.sources.commit(header.ssrc, index);
                    transport.acknowledge(&header, datagram, arrival);
                }
                self.touch(key);
                return Err(reason);
            }
        };
        self.receive_verified(key, found, header, datagram, plain_len, buffer, index, arrival)
    }

    /// A verified packet's SSRC becomes the stream's. In place of another one only where MID or RID
    /// say so (RFC 9143 section 9.2), or where that one has ended: an encoder that begins again
    /// takes a new SSRC. What a stream had once comes back only after that.
    fn bind(
        &mut self,
        key: TransportKey,
        ssrc: u32,
        found: Found,
        index: PacketIndex,
        arrival: Arrival,
    ) -> Result<StreamRef, Discard> {
        let Found { stream: found, is_named } = found;
        let transport = self.transports.get_mut(key).ok_or(Discard::UnknownSource)?;
        let producer = self.producers.get_mut(found.producer).ok_or(Discard::RtpUnknownStream)?;
        let stream = &mut producer.streams[usize::from(found.stream)];
        let before = if found.rtx { stream.rtx_ssrc } else { stream.ssrc };
        let is_former = transport.sources.is_former(ssrc);
        let has_ended = stream.has_ended
            || stream.is_silent(transport.link.silent_after(), arrival)
            || found.rtx && before.is_some_and(|ssrc| transport.demux.repairs_have_ended(ssrc));
        let may = match before {
            None => is_named || !is_former,
            Some(_) if has_ended => is_named || !is_former,
            Some(_) => {
                is_named && !is_former && (found.rtx || stream.may_change(arrival, CHANGES_SPACING))
            }
        };
        if !may {
            return Err(Discard::RtpUnknownStream);
        }
        if let Some(before) = before {
            transport.demux.unlearn(before);
        }
        transport.demux.learn(ssrc, found)?;
        let taken = transport.sources.take(ssrc);
        *(if found.rtx { &mut stream.rtx_ssrc } else { &mut stream.ssrc }) = Some(ssrc);
        let Some(before) = before else {
            *stream.index_of(found.rtx) = taken;
            return Ok(found);
        };
        transport.rtcp.remove(before);
        if found.rtx {
            // Nobody receives anything else because of it.
            let old = std::mem::replace(stream.index_of(true), taken);
            transport.sources.retire(before, old);
            return Ok(found);
        }
        // Retransmissions have an SSRC of each encoder's own, and come without labels, too.
        if let Some(ssrc) = stream.rtx_ssrc {
            transport.demux.end_repairs(ssrc);
        }
        let old = self.begin_again(found, taken, index, arrival);
        if let Some(transport) = self.transports.get_mut(key) {
            transport.sources.retire(before, old);
        }
        self.touch_subscribers(found.producer);
        Ok(found)
    }

    /// MID or RID of a verified packet are not those of the stream that has its SSRC. One that was learned
    /// goes where they say (RFC 9143 section 9.2), or is nobody's; one that parameters name stays. Each
    /// time receivers begin anew, so that it has a rate.
    #[cold]
    fn follow_labels(
        &mut self,
        key: TransportKey,
        found: StreamRef,
        header: &rtp::Header,
        datagram: &[u8],
        index: PacketIndex,
        arrival: Arrival,
    ) -> Result<StreamRef, Discard> {
        let transport = self.transports.get_mut(key).ok_or(Discard::UnknownSource)?;
        if transport.demux.learned(header.ssrc).is_none() {
            return Ok(found);
        }
        let value = |id| header.extensions(datagram).find(|(of, _)| *of == id).map(|(_, v)| v);
        let wanted = match transport.demux.by_labels(header.payload_type, value) {
            Ok(wanted) if wanted.stream == found => return Ok(found),
            // What teaches something has the right payload type.
            Err(Discard::RtpUnknownPayloadType) => return Err(Discard::RtpUnknownPayloadType),
            wanted => wanted,
        };
        let producer = self.producers.get_mut(found.producer).ok_or(Discard::RtpUnknownStream)?;
        let stream = &mut producer.streams[usize::from(found.stream)];
        // A late one says what was so before.
        let is_newest = stream.index_of(found.rtx).newest() == Some(index);
        if !is_newest || !transport.moves.take(arrival) {
            return Err(Discard::RtpUnknownStream);
        }
        let rtx = stream.rtx_ssrc.filter(|ssrc| {
            // It says itself whose it is, or has nothing that it could repair here.
            !found.rtx && transport.demux.learned(*ssrc).is_some()
        });
        for ssrc in [Some(header.ssrc), rtx].into_iter().flatten() {
            self.let_go(key, ssrc, arrival);
        }
        let bound = wanted.and_then(|wanted| self.bind(key, header.ssrc, wanted, index, arrival));
        if bound.is_err()
            && let Some(transport) = self.transports.get_mut(key)
        {
            transport.sources.keep_off(header.ssrc);
        }
        bound
    }

    /// The stream of a learned SSRC has none from now on.
    fn let_go(&mut self, key: TransportKey, ssrc: u32, arrival: Arrival) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        let Some(found) = transport.demux.by_ssrc(ssrc) else { return };
        transport.demux.unlearn(ssrc);
        self.vacate(key, ssrc, found, arrival);
    }

    /// The tables say nothing of an SSRC any more that a stream has: another one may take it at once, and
    /// go on with its numbers. What that stream is sent next is something new.
    pub(crate) fn vacate(
        &mut self,
        key: TransportKey,
        ssrc: u32,
        found: StreamRef,
        arrival: Arrival,
    ) {
        let Some(producer) = self.producers.get_mut(found.producer) else { return };
        let stream = &mut producer.streams[usize::from(found.stream)];
        let index = if found.rtx {
            stream.rtx_ssrc = None;
            std::mem::take(&mut stream.rtx_index)
        } else {
            stream.ssrc = None;
            // The index of who comes next is not known: a later one leaves a gap and no more.
            let index = self.begin_again(found, StreamIndex::default(), PacketIndex(0), arrival);
            self.touch_subscribers(found.producer);
            index
        };
        if let Some(transport) = self.transports.get_mut(key) {
            transport.sources.release(ssrc, index);
        }
    }

    /// What a stream sends from now on has nothing to do with what it sent before: other numbers,
    /// which go on from `taken` at `index`, and other timestamps. Returns where the old ones ended.
    fn begin_again(
        &mut self,
        found: StreamRef,
        taken: StreamIndex,
        index: PacketIndex,
        arrival: Arrival,
    ) -> StreamIndex {
        let Some(producer) = self.producers.get_mut(found.producer) else { return taken };
        let stream = &mut producer.streams[usize::from(found.stream)];
        let old = std::mem::replace(stream.index_of(false), taken);
        stream.begin_again(&old, index, arrival, &mut self.pool);
        for key in producer.subscribers.iter().filter_map(|one| one.consumer()) {
            if let Some(consumer) = self.consumers.get_mut(key)
                && consumer.current == Some(found.stream)
            {
                consumer.current = None;
                consumer.start_over();
            }
        }
        producer.take_back(found.stream);
        old
    }

    /// An authenticated packet, in plain text in packet memory.
    #[expect(clippy::too_many_arguments, reason = "one call, all of it known only there")]
    fn receive_plain(
        &mut self,
        found: StreamRef,
        mut header: rtp::Header,
        plain_len: usize,
        buffer: Box<[u8]>,
        forwarded: Forwarded,
        index: PacketIndex,
        arrival: Arrival,
    ) -> Result<(), Discard> {
        let Some(producer) = self.producers.get_mut(found.producer) else {
            self.pool.give(buffer);
            return Err(Discard::RtpUnknownStream);
        };
        let expected =
            if found.rtx { producer.rtx_payload_type } else { Some(producer.payload_type) };
        let resolved = header.resolve_padding(&buffer[..plain_len]);
        if let Err(reason) = resolved {
            self.pool.give(buffer);
            return Err(reason);
        }
        let is_red = expected != Some(header.payload_type);
        if is_red && (found.rtx || producer.red_payload_type != Some(header.payload_type)) {
            self.pool.give(buffer);
            return Err(Discard::RtpUnknownPayloadType);
        }
        let mut payload = header.payload_range();
        let stream = &producer.streams[usize::from(found.stream)];
        let mut seq = stream.source_seq(index);
        if found.rtx {
            // RFC 4588 section 4: the original sequence number, then the original payload. RTX
            // without payload is probing for bandwidth.
            let original = u16_at(&buffer[payload.clone()], 0).filter(|_| payload.len() > 2);
            let Some(original) = original.and_then(|original| stream.repeated_seq(original)) else {
                self.pool.give(buffer);
                return Err(Discard::RtxUseless);
            };
            seq = original;
            payload.start += 2;
        }
        if stream.is_used_up || seq > SourceSeq::MAX {
            self.pool.give(buffer);
            self.report_used_up(found);
            return Err(Discard::NumbersUsedUp);
        }
        let (was_fresh, was_new) = (!producer.fresh.is_empty(), !producer.new_packets().is_empty());
        if is_red {
            let named = (seq, header.timestamp, arrival);
            let unpacked =
                producer.unpack(found.stream, named, payload.clone(), &buffer, &mut self.pool);
            match unpacked {
                Ok(unpacked) => {
                    payload = unpacked.newest;
                    self.counters.recovered += unpacked.recovered;
                }
                Err(reason) => {
                    self.pool.give(buffer);
                    return Err(reason);
                }
            }
        }
        let meta = Meta {
            seq,
            timestamp: header.timestamp,
            arrival,
            payload_offset: payload.start as u16,
            payload_len: payload.len() as u16,
            padding: 0,
            marker: header.marker,
            info: crate::wire::PayloadInfo::default(),
            extensions: forwarded,
        };
        let header_len = header.header_len();
        let arrived = Arrived { stream: found.stream, rtx: found.rtx, len: plain_len, header_len };
        let result = producer.receive(arrived, meta, buffer, &mut self.pool);
        let streams_changed = producer.take_streams_changed();
        let (is_observed, is_ranked) = (!producer.observed.is_empty(), producer.voice.is_some());
        if !was_fresh && !producer.fresh.is_empty() {
            self.fresh_producers.push(found.producer);
        }
        if !was_new && !producer.new_packets().is_empty() {
            self.untold_producers.push(found.producer);
        }
        if streams_changed {
            self.touch_subscribers(found.producer);
        }
        if (is_observed || is_ranked) && !found.rtx && result.is_ok() {
            self.listen(found.producer, forwarded.audio_level, payload.len(), arrival);
        }
        let Some(producer) = self.producers.get_mut(found.producer) else {
            return result;
        };
        if let Some(value) = forwarded.video_orientation
            && producer.orientation.note(value, arrival)
        {
            self.report_orientation(found.producer);
        }
        // Holes show at once: the publisher is asked in this very turn.
        self.stir(found.producer);
        result
    }
}

impl Worker {
    /// A stream's numbers do not begin again: it ends, and is told of once.
    #[cold]
    fn report_used_up(&mut self, found: StreamRef) {
        let Some(producer) = self.producers.get_mut(found.producer) else { return };
        let stream = &mut producer.streams[usize::from(found.stream)];
        if !std::mem::replace(&mut stream.is_used_up, true) {
            let producer = producer.id.clone();
            self.events.push(Event::ProducerExhausted { producer, encoding_idx: found.stream });
        }
    }
}

fn sort_extensions(
    producer: &Producer,
    found: StreamRef,
    header: &rtp::Header,
    datagram: &[u8],
) -> Extensions {
    let mut sorted = Extensions::default();
    let is_other = |own: &Option<String>, value: &[u8]| {
        let differs = own.as_ref().is_some_and(|own| own.as_bytes() != value);
        differs && parse_identifier(value).is_some()
    };
    for (id, at, value) in header.extensions(datagram).with_offsets() {
        let Some(kind) = producer.extensions.kind(id) else {
            continue;
        };
        let range = (at as u16, value.len() as u8);
        match kind {
            ExtensionKind::Mid => sorted.is_elsewhere |= is_other(&producer.mid, value),
            ExtensionKind::Rid | ExtensionKind::RepairedRid => {
                let stream = &producer.streams[usize::from(found.stream)];
                sorted.is_elsewhere |= is_other(&stream.rid, value);
            }
            ExtensionKind::TransportWideCc => {
                sorted.transport_seq = parse_transport_sequence(value)
            }
            ExtensionKind::AudioLevel => sorted.forwarded.audio_level = value.first().copied(),
            ExtensionKind::VideoOrientation => {
                sorted.forwarded.video_orientation = value.first().copied();
            }
            // Values of another length are none, and no receiver would take them.
            ExtensionKind::AbsCaptureTime if matches!(value.len(), 8 | 16) => {
                sorted.forwarded.abs_capture_time = Some(range);
            }
            ExtensionKind::PlayoutDelay if value.len() == 3 => {
                sorted.forwarded.playout_delay = Some(range);
            }
            ExtensionKind::DependencyDescriptor => {
                sorted.forwarded.dependency_descriptor = Some(range);
            }
            _ => {}
        }
    }
    sorted
}
