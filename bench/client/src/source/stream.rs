//! One sent RTP stream: numbers, history for repeats, counts for reports. Owned by a
//! [`super::Source`], one per layer.

use std::collections::VecDeque;

use bytes::Bytes;
use rtcp::{
    reception_report::ReceptionReport,
    sender_report::SenderReport,
    source_description::{
        SdesType, SourceDescription, SourceDescriptionChunk, SourceDescriptionItem,
    },
};
use rtp::{
    header::{Extension, Header},
    packet::Packet,
};

use super::{LayerOptions, header};
use crate::{
    clock,
    payload::{self, Stamp},
    peer::RtcpPacket,
    random::Random,
    rtx,
};

/// Packets that can be repeated.
const HISTORY_PACKETS: usize = 1_024;

/// A packet that lacks only what the moment of sending gives.
#[derive(Debug)]
pub struct Outgoing {
    /// Layer.
    pub stream: usize,
    /// Times in the extensions are zero.
    pub header: Header,
    /// Time and checksum are missing.
    pub payload: Vec<u8>,
    /// Where [`payload::finish`] goes on.
    pub stamp_at: usize,
}

/// A packet to send again.
#[derive(Debug)]
pub enum Repeat {
    /// On the RTX stream; to be sealed.
    Rtx(Packet),
    /// The same datagram again.
    Sealed(Bytes),
}

/// What a stream sent and heard.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StreamReport {
    /// In the stamps.
    pub stream: u32,
    /// On the wire.
    pub ssrc: u32,
    /// RTP stream id.
    pub rid: Option<String>,
    /// Without repeats.
    pub packets: u64,
    /// Payload only, without repeats.
    pub bytes: u64,
    /// Frames.
    pub frames: u32,
    /// Of them key frames.
    pub key_frames: u64,
    /// Packets sent again.
    pub repeats: u64,
    /// Asked for again, but gone from the history.
    pub repeats_missed: u64,
    /// PLI and FIR.
    pub key_frame_requests: u64,
    /// Reception reports.
    pub reports: u64,
    /// Last one: share lost of 256.
    pub fraction_lost: u8,
    /// Last one.
    pub packets_lost: u32,
    /// From the last one that names a sender report.
    pub round_trip_ms: Option<f64>,
}

/// What all packets of a frame share.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    pub(super) number: u32,
    pub(super) key: bool,
    pub(super) temporal: u8,
    pub(super) picture_id: u16,
    pub(super) tl0_picture_index: u8,
    pub(super) size: (u16, u16),
}

pub(super) struct SendStream {
    pub(super) ssrc: u32,
    pub(super) rid: Option<String>,
    pub(super) bitrate_bps: u64,
    pub(super) active: bool,
    pub(super) key_frame_wanted: bool,
    pub(super) key_frame_requests: u64,
    pub(super) last_key_ns: u64,
    stream: u32,
    size: (u16, u16),
    payload_type: u8,
    rtx: Option<(u32, u8)>,
    rtx_sequence: u16,
    next_sequence: u16,
    timestamp_offset: u32,
    picture_id: u16,
    tl0_picture_index: u8,
    numbers: u32,
    report: StreamReport,
    history: VecDeque<(Packet, Bytes)>,
}

impl SendStream {
    pub(super) fn new(
        stream: u32,
        layer: &LayerOptions,
        payload_type: u8,
        rtx_payload_type: Option<u8>,
        random: &mut Random,
    ) -> Self {
        Self {
            ssrc: layer.ssrc,
            rid: layer.rid.clone(),
            bitrate_bps: layer.bitrate_bps,
            active: true,
            key_frame_wanted: true,
            key_frame_requests: 0,
            last_key_ns: 0,
            stream,
            size: layer.size,
            payload_type,
            rtx: layer.rtx_ssrc.zip(rtx_payload_type),
            rtx_sequence: random.next_u32() as u16,
            next_sequence: layer.first_sequence.unwrap_or_else(|| random.next_u32() as u16),
            timestamp_offset: layer.first_timestamp.unwrap_or_else(|| random.next_u32()),
            picture_id: random.next_u32() as u16 & 0x7FFF,
            tl0_picture_index: random.next_u32() as u8,
            numbers: 0,
            report: StreamReport {
                stream,
                ssrc: layer.ssrc,
                rid: layer.rid.clone(),
                ..StreamReport::default()
            },
            history: VecDeque::with_capacity(HISTORY_PACKETS),
        }
    }

    pub(super) fn is_new(&self) -> bool {
        self.report.frames == 0
    }

    pub(super) fn is_acknowledged(&self) -> bool {
        self.report.reports > 0
    }

    pub(super) fn frames_sent(&self) -> u32 {
        self.report.frames
    }

    pub(super) fn report(&self) -> StreamReport {
        StreamReport { key_frame_requests: self.key_frame_requests, ..self.report.clone() }
    }

    pub(super) fn next_frame(&mut self, key: bool, temporal: u8) -> Frame {
        let number = self.report.frames;
        self.report.frames += 1;
        self.report.key_frames += u64::from(key);
        self.picture_id = (self.picture_id + 1) & 0x7FFF;
        if temporal == 0 {
            self.tl0_picture_index = self.tl0_picture_index.wrapping_add(1);
        }
        Frame {
            number,
            key,
            temporal,
            picture_id: self.picture_id,
            tl0_picture_index: self.tl0_picture_index,
            size: self.size,
        }
    }

    /// Appends the stamp of the next packet.
    pub(super) fn stamp(
        &mut self,
        out: &mut Vec<u8>,
        frame: &Frame,
        (part, parts): (u8, u8),
        length: usize,
    ) {
        let stamp = Stamp {
            stream: self.stream,
            number: self.numbers,
            frame: frame.number,
            sent_ns: 0,
            key: frame.key,
            temporal: frame.temporal,
            part,
            parts,
        };
        self.numbers += 1;
        payload::write(out, &stamp, length);
    }

    pub(super) fn next_header(
        &mut self,
        media_time: u32,
        marker: bool,
        extensions: Vec<Extension>,
    ) -> Header {
        let sequence = self.next_sequence;
        self.next_sequence = sequence.wrapping_add(1);
        let timestamp = media_time.wrapping_add(self.timestamp_offset);
        header(self.payload_type, sequence, timestamp, self.ssrc, marker, extensions)
    }

    pub(super) fn sent(&mut self, packet: Packet, sealed: Bytes) {
        self.report.packets += 1;
        self.report.bytes += packet.payload.len() as u64;
        if self.history.len() == HISTORY_PACKETS {
            self.history.pop_front();
        }
        self.history.push_back((packet, sealed));
    }

    pub(super) fn repeat(&mut self, sequence: u16, extensions: &[Extension]) -> Option<Repeat> {
        let found =
            self.history.iter().rev().find(|(one, _)| one.header.sequence_number == sequence);
        let Some((packet, sealed)) = found else {
            self.report.repeats_missed += 1;
            return None;
        };
        self.report.repeats += 1;
        let Some((ssrc, payload_type)) = self.rtx else {
            return Some(Repeat::Sealed(sealed.clone()));
        };
        let number = self.rtx_sequence;
        self.rtx_sequence = number.wrapping_add(1);
        let original = &packet.header;
        Some(Repeat::Rtx(Packet {
            header: header(
                payload_type,
                number,
                original.timestamp,
                ssrc,
                original.marker,
                extensions.to_vec(),
            ),
            payload: rtx::wrap(packet),
        }))
    }

    pub(super) fn receive_report(&mut self, block: &ReceptionReport, ntp: u64) {
        if block.ssrc != self.ssrc {
            return;
        }
        self.report.reports += 1;
        self.report.fraction_lost = block.fraction_lost;
        self.report.packets_lost = block.total_lost;
        if block.last_sender_report != 0 {
            // Units of 1/65,536 s (RFC 3550 section 6.4.1).
            let units = clock::ntp_middle(ntp)
                .wrapping_sub(block.last_sender_report)
                .wrapping_sub(block.delay) as i32;
            self.report.round_trip_ms = Some(f64::from(units.max(0)) / 65.536);
        }
    }

    pub(super) fn sender_report(&self, media_time: u32, ntp: u64, cname: &str) -> [RtcpPacket; 2] {
        let report = SenderReport {
            ssrc: self.ssrc,
            ntp_time: ntp,
            rtp_time: media_time.wrapping_add(self.timestamp_offset),
            packet_count: self.report.packets as u32,
            octet_count: self.report.bytes as u32,
            ..SenderReport::default()
        };
        [Box::new(report), Box::new(description(self.ssrc, cname))]
    }
}

/// The canonical name of a stream (RFC 3550 section 6.5.1).
pub(crate) fn description(ssrc: u32, cname: &str) -> SourceDescription {
    SourceDescription {
        chunks: vec![SourceDescriptionChunk {
            source: ssrc,
            items: vec![SourceDescriptionItem {
                sdes_type: SdesType::SdesCname,
                text: Bytes::copy_from_slice(cname.as_bytes()),
            }],
        }],
    }
}
