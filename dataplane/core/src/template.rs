//! The constant part of a consumer's RTP headers: built once, copied for each packet, then patched.
//!
//! ```text
//! 0    2     4           8      12          16
//! | V..PT | seq | timestamp | ssrc | BEDE len | mid | abs-send-time | extensions of this packet |
//! '------------------------- template -------------------------------'
//! ```
//! One-byte extension form (RFC 8285 section 4.2) wherever ids and values fit. A dependency descriptor
//! that brings its templates does not: its packet has the two-byte form (section 4.3), with all that
//! goes beside it; and so has every packet where an id is above 14.

use crate::{
    recover::history::Stored,
    wire::extension::{ExtensionKind, ExtensionMap, ONE_BYTE_ID_MAX},
};

/// Room that a header can take: the template, and the extensions of a packet.
pub const HEADER_BYTES_MAX: usize = 96;
const TEMPLATE_BYTES: usize = 40;
const FIXED: usize = 12;
/// Longest value that the one-byte form can say.
const ONE_BYTE_FORM_MAX: usize = 16;

/// What a header may carry.
const SENT: [ExtensionKind; 7] = [
    ExtensionKind::Mid,
    ExtensionKind::AbsSendTime,
    ExtensionKind::AudioLevel,
    ExtensionKind::VideoOrientation,
    ExtensionKind::AbsCaptureTime,
    ExtensionKind::PlayoutDelay,
    ExtensionKind::DependencyDescriptor,
];

/// See the file's head.
#[derive(Debug, Clone)]
pub struct Template {
    bytes: [u8; TEMPLATE_BYTES],
    len: u8,
    /// Where abs-send-time's three bytes are; 0: not negotiated.
    abs_send_time_at: u8,
    /// An id is above [`ONE_BYTE_ID_MAX`]: the template, and every packet, has the two-byte form.
    is_long: bool,
    /// So it is, or a dependency descriptor may make it so.
    may_be_long: bool,
    audio_level: u8,
    video_orientation: u8,
    abs_capture_time: u8,
    playout_delay: u8,
    dependency_descriptor: u8,
    /// Payload type of RED; 0: the receiver does not take it.
    red: u8,
}

/// What changes from packet to packet.
#[derive(Debug, Clone, Copy)]
pub struct HeaderFields {
    /// Media or RTX payload type and SSRC, where they are not the template's.
    pub rtx: Option<(u8, u32)>,
    /// Last packet of a frame, first of a talk spurt.
    pub marker: bool,
    /// Sequence number.
    pub seq: u16,
    /// RTP timestamp.
    pub timestamp: u32,
    /// 24 bits, 6.18 seconds.
    pub abs_send_time: u32,
    /// The packet ends with RTP padding.
    pub padding: bool,
}

impl Template {
    /// For a consumer's parameters.
    #[must_use]
    pub fn new(payload_type: u8, ssrc: u32, mid: Option<&str>, map: &ExtensionMap) -> Self {
        let id = |kind| map.id(kind).unwrap_or(0);
        let is_long = SENT.iter().any(|kind| id(*kind) > ONE_BYTE_ID_MAX);
        let mut bytes = [0; TEMPLATE_BYTES];
        bytes[0] = 0x80;
        bytes[1] = payload_type & 0x7f;
        bytes[8..12].copy_from_slice(&ssrc.to_be_bytes());
        let mut len = FIXED + 4;
        let mut push = |id: u8, value: &[u8]| {
            if is_long {
                bytes[len..len + 2].copy_from_slice(&[id, value.len() as u8]);
                len += 2;
            } else {
                bytes[len] = id << 4 | (value.len() - 1) as u8;
                len += 1;
            }
            let at = len;
            len += value.len();
            bytes[at..len].copy_from_slice(value);
            at as u8
        };
        let mid = mid.map(str::as_bytes).filter(|mid| (1..=16).contains(&mid.len()));
        if let (Some(mid), id @ 1..) = (mid, id(ExtensionKind::Mid)) {
            push(id, mid);
        }
        let mut abs_send_time_at = 0;
        if let id @ 1.. = id(ExtensionKind::AbsSendTime) {
            abs_send_time_at = push(id, &[0; 3]);
        }
        Self {
            bytes,
            len: len as u8,
            abs_send_time_at,
            is_long,
            may_be_long: is_long || id(ExtensionKind::DependencyDescriptor) > 0,
            audio_level: id(ExtensionKind::AudioLevel),
            video_orientation: id(ExtensionKind::VideoOrientation),
            abs_capture_time: id(ExtensionKind::AbsCaptureTime),
            playout_delay: id(ExtensionKind::PlayoutDelay),
            dependency_descriptor: id(ExtensionKind::DependencyDescriptor),
            red: 0,
        }
    }

    /// The same for who takes RED of that payload type.
    #[must_use]
    pub fn with_red(mut self, payload_type: Option<u8>) -> Self {
        self.red = payload_type.unwrap_or(0);
        self
    }

    /// Payload type of RED; 0: the receiver does not take it.
    #[must_use]
    #[inline]
    pub fn red(&self) -> u8 {
        self.red
    }

    /// Payload type of media.
    #[must_use]
    pub fn payload_type(&self) -> u8 {
        self.bytes[1]
    }

    /// Bytes of a header without extensions of its own.
    #[must_use]
    pub fn bare_len(&self) -> usize {
        usize::from(self.len)
    }

    /// Bytes that a header can take: [`HEADER_BYTES_MAX`], and more where a long value is passed on.
    #[must_use]
    #[inline]
    pub fn room(&self, stored: &Stored) -> usize {
        HEADER_BYTES_MAX + self.dependency_len(stored)
    }

    /// Bytes of the dependency descriptor that is passed on; hardly anybody gets one.
    #[inline]
    fn dependency_len(&self, stored: &Stored) -> usize {
        if self.dependency_descriptor == 0 {
            return 0;
        }
        let value = stored.meta.extensions.dependency_descriptor;
        value.map_or(0, |(_, len)| usize::from(len))
    }

    /// Writes the header of a packet made from `stored`; `out` holds [`Self::room`]. Returns its
    /// length. The same input gives the same bytes.
    #[inline]
    pub fn write(&self, out: &mut [u8], stored: &Stored, fields: &HeaderFields) -> usize {
        let is_long = || self.is_long || self.dependency_len(stored) > ONE_BYTE_FORM_MAX;
        if self.may_be_long && is_long() {
            self.write_as::<true>(out, stored, fields)
        } else {
            self.write_as::<false>(out, stored, fields)
        }
    }

    /// Its elements, which have the one-byte form, in the two-byte one: where they end, and where
    /// abs-send-time is.
    #[cold]
    fn lengthen(&self, out: &mut [u8]) -> (usize, u8) {
        let (mut from, mut at, mut send_time_at) = (FIXED + 4, FIXED + 4, 0);
        while from < usize::from(self.len) {
            let (id, len) = (self.bytes[from] >> 4, usize::from(self.bytes[from] & 0x0f) + 1);
            from += 1;
            out[at..at + 2].copy_from_slice(&[id, len as u8]);
            at += 2;
            if from == usize::from(self.abs_send_time_at) {
                send_time_at = at as u8;
            }
            out[at..at + len].copy_from_slice(&self.bytes[from..from + len]);
            (from, at) = (from + len, at + len);
        }
        (at, send_time_at)
    }

    /// In the one-byte form, or the two-byte one.
    #[inline]
    fn write_as<const IS_LONG: bool>(
        &self,
        out: &mut [u8],
        stored: &Stored,
        fields: &HeaderFields,
    ) -> usize {
        let (mut at, mut send_time_at) = (usize::from(self.len), self.abs_send_time_at);
        out[..TEMPLATE_BYTES].copy_from_slice(&self.bytes);
        if IS_LONG && !self.is_long {
            (at, send_time_at) = self.lengthen(out);
        }
        if send_time_at > 0 {
            let start = usize::from(send_time_at);
            out[start..start + 3].copy_from_slice(&fields.abs_send_time.to_be_bytes()[1..]);
        }
        let forwarded = &stored.meta.extensions;
        let mut push = |id: u8, value: &[u8]| {
            if id > 0 && IS_LONG {
                out[at..at + 2].copy_from_slice(&[id, value.len() as u8]);
                out[at + 2..at + 2 + value.len()].copy_from_slice(value);
                at += 2 + value.len();
            } else if id > 0 && (1..=ONE_BYTE_FORM_MAX).contains(&value.len()) {
                out[at] = id << 4 | (value.len() - 1) as u8;
                out[at + 1..=at + value.len()].copy_from_slice(value);
                at += 1 + value.len();
            }
        };
        if let Some(level) = forwarded.audio_level {
            push(self.audio_level, &[level]);
        }
        if let Some(orientation) = forwarded.video_orientation {
            push(self.video_orientation, &[orientation]);
        }
        if let Some(range) = forwarded.abs_capture_time {
            push(self.abs_capture_time, stored.extension(range));
        }
        if let Some(range) = forwarded.playout_delay {
            push(self.playout_delay, stored.extension(range));
        }
        if let Some(range) = forwarded.dependency_descriptor
            && self.dependency_descriptor > 0
        {
            push(self.dependency_descriptor, stored.extension(range));
        }
        let end = if at == FIXED + 4 {
            FIXED
        } else {
            while at % 4 != 0 {
                out[at] = 0;
                at += 1;
            }
            out[0] |= 0x10;
            let form = if IS_LONG { [0x10, 0x00] } else { [0xbe, 0xde] };
            out[FIXED..FIXED + 2].copy_from_slice(&form);
            let words = ((at - FIXED - 4) / 4) as u16;
            out[FIXED + 2..FIXED + 4].copy_from_slice(&words.to_be_bytes());
            at
        };
        if fields.padding {
            out[0] |= 0x20;
        }
        if let Some((payload_type, ssrc)) = fields.rtx {
            out[1] = payload_type & 0x7f;
            out[8..12].copy_from_slice(&ssrc.to_be_bytes());
        }
        out[1] |= u8::from(fields.marker) << 7;
        out[2..4].copy_from_slice(&fields.seq.to_be_bytes());
        out[4..8].copy_from_slice(&fields.timestamp.to_be_bytes());
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Arrival,
        numbers::SourceSeq,
        recover::{
            history::{Forwarded, History, Meta},
            pool::Pool,
        },
        wire::{PayloadInfo, rtp::Header},
    };

    /// All extensions at once, with a dependency descriptor of each length, and with ids that only the
    /// two-byte form has: `first` is the smallest.
    #[test]
    fn a_long_value_or_id_has_the_two_byte_form() {
        for (mid, first) in [(None, 1), (Some("m7"), 1), (Some("sixteen letters!"), 8), (None, 9)] {
            for len in [0, 3u8, 16, 17, 255] {
                written_and_read(mid, first, len);
            }
        }
        let mut map = ExtensionMap::default();
        map.insert(15, ExtensionKind::AudioLevel);
        assert!(Template::new(96, 7, None, &map).is_long);
        map.insert(15, ExtensionKind::Rid);
        assert!(!Template::new(96, 7, None, &map).is_long, "it is not sent");
    }

    fn written_and_read(mid: Option<&str>, first: u8, dependency_len: u8) {
        let mut map = ExtensionMap::default();
        for (id, kind) in (first..).zip(SENT) {
            map.insert(id, kind);
        }
        let template = Template::new(96, 7, mid, &map);
        let (mut pool, mut history) = (Pool::new(10), History::default());
        let mut buffer = pool.take(400).unwrap();
        let value: Vec<u8> = (0..=255).collect();
        buffer[20..276].copy_from_slice(&value);
        let dependency_descriptor = (dependency_len > 0).then_some((20, dependency_len));
        let meta = Meta {
            seq: SourceSeq(70_000),
            timestamp: 1,
            arrival: Arrival::at(1),
            payload_offset: 300,
            payload_len: 100,
            padding: 0,
            marker: true,
            info: PayloadInfo::default(),
            extensions: Forwarded {
                audio_level: Some(0x85),
                video_orientation: Some(2),
                abs_capture_time: Some((40, 16)),
                playout_delay: Some((60, 3)),
                dependency_descriptor,
            },
        };
        history.insert(meta, buffer, &mut pool).unwrap();
        let stored = history.packet(SourceSeq(70_000)).unwrap();
        let abs_send_time = 0x01_0203;
        let (seq, timestamp) = (5, 6);
        let fields =
            HeaderFields { rtx: None, marker: true, seq, timestamp, abs_send_time, padding: false };
        let mut out = vec![0xaa; template.room(stored)];
        let end = template.write(&mut out, stored, &fields);
        out.truncate(end);
        out.extend([0; 10]);
        let is_long = first > 8 || dependency_len > 16;
        let profile = if is_long { 0x1000 } else { 0xbede };
        assert_eq!(u16::from_be_bytes([out[12], out[13]]), profile, "{mid:?} {dependency_len}");
        let header = Header::parse_protected(&out).unwrap();
        assert_eq!(header.header_len(), end);
        let found: Vec<_> = header.extensions(&out).collect();
        let values = [
            mid.map(str::as_bytes),
            Some(&[1, 2, 3][..]),
            Some(&[0x85][..]),
            Some(&[2][..]),
            Some(&value[20..36]),
            Some(&value[40..43]),
            dependency_descriptor.map(|_| &value[..usize::from(dependency_len)]),
        ];
        let expected: Vec<_> =
            (first..).zip(values).filter_map(|(id, value)| Some((id, value?))).collect();
        assert_eq!(found, expected, "{mid:?} {first} {dependency_len}");
    }
}
