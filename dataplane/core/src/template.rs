//! The constant part of a consumer's RTP headers: built once, copied for each packet, then patched.
//!
//! ```text
//! 0    2     4           8      12          16
//! | V..PT | seq | timestamp | ssrc | BEDE len | mid | abs-send-time | extensions of this packet |
//! '------------------------- template -------------------------------'
//! ```
//! One-byte extension form (RFC 8285 section 4.2): all values that we send fit, but for a dependency
//! descriptor that brings its templates. That goes to other hosts only, where nothing else is in the
//! template, and has the two-byte form (section 4.3).

use crate::{
    recover::history::Stored,
    wire::extension::{ExtensionKind, ExtensionMap},
};

/// Room that a header can take: the template, and the extensions of a packet.
pub const HEADER_BYTES_MAX: usize = 96;
const TEMPLATE_BYTES: usize = 48;
const FIXED: usize = 12;
/// Longest value that the one-byte form can say.
const ONE_BYTE_FORM_MAX: usize = 16;

/// See the file's head.
#[derive(Debug, Clone)]
pub struct Template {
    bytes: [u8; TEMPLATE_BYTES],
    len: u8,
    /// Where abs-send-time's three bytes are; 0: not negotiated.
    abs_send_time_at: u8,
    audio_level: u8,
    video_orientation: u8,
    abs_capture_time: u8,
    playout_delay: u8,
    dependency_descriptor: u8,
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
        let id = |kind| map.id(kind).filter(|id| (1..=14).contains(id)).unwrap_or(0);
        let mut bytes = [0; TEMPLATE_BYTES];
        bytes[0] = 0x80;
        bytes[1] = payload_type & 0x7f;
        bytes[8..12].copy_from_slice(&ssrc.to_be_bytes());
        let mut len = FIXED + 4;
        let mid = mid.map(str::as_bytes).filter(|mid| (1..=16).contains(&mid.len()));
        if let (Some(mid), id @ 1..) = (mid, id(ExtensionKind::Mid)) {
            bytes[len] = id << 4 | (mid.len() - 1) as u8;
            bytes[len + 1..=len + mid.len()].copy_from_slice(mid);
            len += 1 + mid.len();
        }
        let mut abs_send_time_at = 0;
        if let id @ 1.. = id(ExtensionKind::AbsSendTime) {
            bytes[len] = id << 4 | 2;
            abs_send_time_at = (len + 1) as u8;
            len += 4;
        }
        Self {
            bytes,
            len: len as u8,
            abs_send_time_at,
            audio_level: id(ExtensionKind::AudioLevel),
            video_orientation: id(ExtensionKind::VideoOrientation),
            abs_capture_time: id(ExtensionKind::AbsCaptureTime),
            playout_delay: id(ExtensionKind::PlayoutDelay),
            dependency_descriptor: id(ExtensionKind::DependencyDescriptor),
        }
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
        if self.dependency_len(stored) > ONE_BYTE_FORM_MAX && self.bare_len() == FIXED + 4 {
            self.write_as::<true>(out, stored, fields)
        } else {
            self.write_as::<false>(out, stored, fields)
        }
    }

    /// In the one-byte form, or the two-byte one.
    #[inline]
    fn write_as<const IS_LONG: bool>(
        &self,
        out: &mut [u8],
        stored: &Stored,
        fields: &HeaderFields,
    ) -> usize {
        let mut at = usize::from(self.len);
        out[..TEMPLATE_BYTES].copy_from_slice(&self.bytes);
        if self.abs_send_time_at > 0 {
            let start = usize::from(self.abs_send_time_at);
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

    /// What goes to another host, with a dependency descriptor of each length.
    #[test]
    fn a_long_value_has_the_two_byte_form() {
        let mut map = ExtensionMap::default();
        map.insert(8, ExtensionKind::DependencyDescriptor);
        map.insert(11, ExtensionKind::VideoOrientation);
        let template = Template::new(96, 7, None, &map);
        for (len, profile) in [(3u8, 0xbede), (16, 0xbede), (17, 0x1000), (255, 0x1000)] {
            let (mut pool, mut history) = (Pool::new(10), History::default());
            let mut buffer = pool.take(400).unwrap();
            let value: Vec<u8> = (0..len).collect();
            buffer[20..20 + value.len()].copy_from_slice(&value);
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
                    video_orientation: Some(2),
                    dependency_descriptor: Some((20, len)),
                    ..Forwarded::default()
                },
            };
            history.insert(meta, buffer, &mut pool).unwrap();
            let stored = history.packet(SourceSeq(70_000)).unwrap();
            let fields = HeaderFields {
                rtx: None,
                marker: true,
                seq: 5,
                timestamp: 6,
                abs_send_time: 0,
                padding: false,
            };
            let mut out = vec![0; template.room(stored)];
            let end = template.write(&mut out, stored, &fields);
            out.truncate(end);
            out.extend([0; 10]);
            assert_eq!(u16::from_be_bytes([out[12], out[13]]), profile, "{len}");
            let header = Header::parse_protected(&out).unwrap();
            assert_eq!(header.header_len(), end);
            let found: Vec<_> = header.extensions(&out).collect();
            assert_eq!(found, [(11, &[2][..]), (8, &value[..])], "{len}");
        }
    }
}
