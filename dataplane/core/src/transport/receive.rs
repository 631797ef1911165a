//! [3] The way in of one peer: find the stream, unprotect straight into packet memory, undo RTX,
//! hand to [4] `producer.rs`; RTCP goes to `reports.rs`. Nothing is remembered of a packet before
//! its tag was verified.

use crate::{
    Discard, Nanos,
    key::TransportKey,
    producer::Arrived,
    recover::{
        history::{Forwarded, Meta},
        pool::LARGE_BYTES,
    },
    srtp::StreamIndex,
    transport::{
        Transport,
        demux::{Labels, StreamRef},
    },
    wire::{
        extension::{ExtensionKind, VideoOrientation, parse_identifier, parse_transport_sequence},
        rtp,
    },
    worker::Worker,
};

/// Extended numbers begin one turn of the wheel up, so that a packet from before the first one
/// received has a number too.
const SEQ_BASE: u32 = 1 << 16;

/// The extensions of a received packet, sorted by who needs them.
#[derive(Default)]
struct Extensions<'a> {
    mid: Option<&'a str>,
    rid: Option<&'a str>,
    repaired_rid: Option<&'a str>,
    transport_seq: Option<u16>,
    forwarded: Forwarded,
}

impl Worker {
    /// An SRTP packet of a peer.
    pub(crate) fn receive_rtp(
        &mut self,
        key: TransportKey,
        datagram: &[u8],
        arrival: Nanos,
    ) -> Result<(), Discard> {
        if datagram.len() > LARGE_BYTES {
            return Err(Discard::Oversized);
        }
        let header = rtp::Header::parse_protected(datagram)?;
        let transport = self.transports.get_mut(key).ok_or(Discard::UnknownSource)?;
        let open_key = transport.open_key.as_deref().ok_or(Discard::SrtpNoKeys)?;
        let extensions = sort_extensions(transport, &header, datagram);
        let known = transport.demux.by_ssrc(header.ssrc);
        let labels = Labels {
            mid: extensions.mid,
            rid: extensions.rid,
            repaired_rid: extensions.repaired_rid,
            payload_type: header.payload_type,
        };
        let found = known.or_else(|| transport.demux.by_labels(&labels));
        let found = found.ok_or(Discard::RtpUnknownStream)?;
        let producer = self.producers.get_mut(found.producer).ok_or(Discard::RtpUnknownStream)?;
        let stream = &mut producer.streams[usize::from(found.stream)];
        let own_ssrc = if found.rtx { stream.rtx_ssrc } else { stream.ssrc };
        if known.is_none() && own_ssrc.is_some() {
            return Err(Discard::RtpUnknownStream);
        }
        let index_state: &mut StreamIndex =
            if found.rtx { &mut stream.rtx_index } else { &mut stream.index };
        let index = match transport.retired_source(header.ssrc).filter(|_| known.is_none()) {
            Some(retired) => retired.estimate(header.sequence_number)?,
            None => index_state.estimate(header.sequence_number)?,
        };
        let mut buffer = self.pool.take(datagram.len()).ok_or(Discard::LimitReached)?;
        let opened = open_key.open_rtp_into(datagram, header.header_len(), index, &mut buffer);
        let plain_len = match opened {
            Ok(len) => len,
            Err(reason) => {
                self.pool.give(buffer);
                return Err(reason);
            }
        };
        if known.is_none() {
            let learned = transport.demux.learn(header.ssrc, found);
            if let Err(reason) = learned {
                self.pool.give(buffer);
                return Err(reason);
            }
            *index_state = transport.revive_source(header.ssrc);
            *(if found.rtx { &mut stream.rtx_ssrc } else { &mut stream.ssrc }) = Some(header.ssrc);
        }
        let index_state = if found.rtx { &mut stream.rtx_index } else { &mut stream.index };
        index_state.commit(index);
        let traffic = &mut transport.traffic;
        if found.rtx {
            traffic.rtx_received.add(datagram.len(), arrival);
        } else {
            traffic.rtp_received.add(datagram.len(), arrival);
        }
        if let Some(seq) = extensions.transport_seq {
            transport.feedback.receive(seq, arrival);
        }
        let forwarded = extensions.forwarded;
        self.receive_plain(
            found,
            header,
            &datagram.len(),
            plain_len,
            buffer,
            forwarded,
            index,
            arrival,
        )
    }

    /// An authenticated packet, in plain text in packet memory.
    #[expect(clippy::too_many_arguments, reason = "one call, all of it known only there")]
    fn receive_plain(
        &mut self,
        found: StreamRef,
        mut header: rtp::Header,
        wire_len: &usize,
        plain_len: usize,
        buffer: Box<[u8]>,
        forwarded: Forwarded,
        index: u64,
        arrival: Nanos,
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
        if expected != Some(header.payload_type) {
            self.pool.give(buffer);
            return Err(Discard::RtpUnknownPayloadType);
        }
        let mut payload = header.payload_range();
        let mut seq = (index as u32).wrapping_add(SEQ_BASE);
        if found.rtx {
            // RFC 4588 section 4: the original sequence number, then the original payload. RTX
            // without payload is probing for bandwidth.
            let stream = &producer.streams[usize::from(found.stream)];
            let Some(highest) = stream.index.newest() else {
                self.pool.give(buffer);
                return Err(Discard::RtxUseless);
            };
            if payload.len() <= 2 {
                self.pool.give(buffer);
                return Err(Discard::RtxUseless);
            }
            let original = u16::from_be_bytes([buffer[payload.start], buffer[payload.start + 1]]);
            seq = rtp::extend(original, (highest as u32).wrapping_add(SEQ_BASE));
            payload.start += 2;
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
        let arrived = Arrived { stream: found.stream, rtx: found.rtx, wire_len: *wire_len };
        let transport = producer.transport;
        let was_fresh = !producer.fresh.is_empty();
        let result = producer.receive(arrived, meta, buffer, &mut self.pool);
        let streams_changed = producer.take_streams_changed();
        if result.is_ok() && !was_fresh {
            self.fresh_producers.push(found.producer);
        }
        if streams_changed {
            self.touch_subscribers(found.producer, arrival);
        }
        let Some(producer) = self.producers.get_mut(found.producer) else {
            return result;
        };
        if let Some(value) = forwarded.video_orientation
            && producer.note_orientation(value)
            && let Some(orientation) = VideoOrientation::parse(&[value])
        {
            self.report_orientation(found.producer, orientation);
        }
        // Holes show at once: the publisher is asked in this very turn.
        self.touch(transport);
        result
    }
}

fn sort_extensions<'a>(
    transport: &Transport,
    header: &rtp::Header,
    datagram: &'a [u8],
) -> Extensions<'a> {
    let mut sorted = Extensions::default();
    for (id, at, value) in header.extensions(datagram).with_offsets() {
        let Some(kind) = transport.extensions.kind(id) else {
            continue;
        };
        let range = (at as u16, value.len() as u8);
        match kind {
            ExtensionKind::Mid => sorted.mid = parse_identifier(value),
            ExtensionKind::Rid => sorted.rid = parse_identifier(value),
            ExtensionKind::RepairedRid => sorted.repaired_rid = parse_identifier(value),
            ExtensionKind::TransportWideCc => {
                sorted.transport_seq = parse_transport_sequence(value)
            }
            ExtensionKind::AudioLevel => sorted.forwarded.audio_level = value.first().copied(),
            ExtensionKind::VideoOrientation => {
                sorted.forwarded.video_orientation = value.first().copied();
            }
            ExtensionKind::AbsCaptureTime => sorted.forwarded.abs_capture_time = Some(range),
            ExtensionKind::PlayoutDelay => sorted.forwarded.playout_delay = Some(range),
            ExtensionKind::DependencyDescriptor => {
                sorted.forwarded.dependency_descriptor = Some(range);
            }
            _ => {}
        }
    }
    sorted
}
