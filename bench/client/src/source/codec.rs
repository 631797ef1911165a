//! How frames become payloads: enough of each codec's header for an SFU to find key frames and
//! layers in it, then stamped bytes where the picture would be.

use super::{
    even_sizes,
    stream::{Frame, SendStream},
};

/// A payload and where its stamp begins.
type Part = (Vec<u8>, usize);

/// A video codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VideoCodec {
    /// RFC 7741, with 15-bit picture id, TL0PICIDX and TID.
    Vp8,
    /// RFC 6184, packetization mode 1: STAP-A of parameter sets, FU-A of slices.
    H264,
    /// RFC 9628, non-flexible, with 15-bit picture id.
    Vp9,
}

/// The VP8 payload descriptor (RFC 7741 section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vp8Descriptor {
    /// 15 bits.
    pub picture_id: u16,
    /// Counts base layer frames.
    pub tl0_picture_index: u8,
    /// Temporal layer.
    pub temporal: u8,
    /// First packet of the frame.
    pub start: bool,
    /// First packet of a key frame.
    pub key: bool,
    /// Width and height, in the first packet of a key frame.
    pub size: Option<(u16, u16)>,
}

impl Vp8Descriptor {
    /// Reads the full form that [`VideoCodec::Vp8`] sends; `None` for any other.
    #[must_use]
    pub fn read(payload: &[u8]) -> Option<Self> {
        let [first, flags, high, low, tl0, tid, body @ ..] = payload else { return None };
        if first & 0x80 == 0 || flags & 0xE0 != 0xE0 || high & 0x80 == 0 {
            return None;
        }
        let start = first & 0x10 != 0;
        let key = start && body.first().is_some_and(|tag| tag & 1 == 0);
        let size = match body {
            [_, _, _, 0x9D, 0x01, 0x2A, w0, w1, h0, h1, ..] if key => {
                Some((u16::from_le_bytes([*w0, *w1]), u16::from_le_bytes([*h0, *h1])))
            }
            _ => None,
        };
        Some(Self {
            picture_id: u16::from_be_bytes([high & 0x7F, *low]),
            tl0_picture_index: *tl0,
            temporal: tid >> 6,
            start,
            key,
            size,
        })
    }
}

/// The layer of the n-th frame: 0, or 0 1, or 0 2 1 2.
pub(super) fn temporal_layer(frame: u32, layers: u8, key: bool) -> u8 {
    match (key, layers) {
        (true, _) | (_, 0 | 1) => 0,
        (_, 2) => (frame % 2) as u8,
        _ => [0, 2, 1, 2][frame as usize % 4],
    }
}

impl VideoCodec {
    /// As in `mimeType`.
    #[must_use]
    pub fn mime_type(self) -> &'static str {
        match self {
            Self::Vp8 => "video/VP8",
            Self::H264 => "video/H264",
            Self::Vp9 => "video/VP9",
        }
    }

    /// The payloads of a frame of about `bytes` bytes.
    pub(super) fn packetize(
        self,
        stream: &mut SendStream,
        frame: &Frame,
        bytes: usize,
        max: usize,
    ) -> Vec<Part> {
        // Longest header of ours: descriptor and key frame header of VP8.
        let sizes = even_sizes(bytes, max, 16);
        let parts = sizes.len() as u8;
        let mut payloads = Vec::with_capacity(sizes.len() + 1);
        if self == Self::H264 && frame.key {
            payloads.push(h264_parameter_sets(stream, frame, parts + 1));
        }
        let shift = payloads.len() as u8;
        for (at, size) in sizes.iter().enumerate() {
            let at = at as u8;
            let mut payload = match self {
                Self::Vp8 => vp8_header(frame, at == 0),
                Self::Vp9 => vp9_header(frame, at == 0, at + 1 == parts),
                Self::H264 => h264_fragment_header(frame, at == 0, at + 1 == parts),
            };
            let stamp_at = payload.len();
            stream.stamp(&mut payload, frame, (at + shift, parts + shift), size - stamp_at);
            payloads.push((payload, stamp_at));
        }
        payloads
    }
}

fn vp8_header(frame: &Frame, first: bool) -> Vec<u8> {
    let discardable = if frame.temporal == 2 { 0x20 } else { 0 };
    let start = if first { 0x10 } else { 0 };
    let [high, low] = frame.picture_id.to_be_bytes();
    let mut out = vec![
        0x80 | discardable | start,
        0xE0,
        0x80 | high,
        low,
        frame.tl0_picture_index,
        frame.temporal << 6 | 0x20,
    ];
    if first {
        // Frame tag (RFC 6386 section 9.1): bit 0 is clear for key frames.
        out.extend_from_slice(&[u8::from(!frame.key) | 0x10, 0, 0]);
        if frame.key {
            out.extend_from_slice(&[0x9D, 0x01, 0x2A]);
            out.extend_from_slice(&frame.size.0.to_le_bytes());
            out.extend_from_slice(&frame.size.1.to_le_bytes());
        }
    }
    out
}

fn vp9_header(frame: &Frame, first: bool, last: bool) -> Vec<u8> {
    let [high, low] = frame.picture_id.to_be_bytes();
    let predicted = if frame.key { 0 } else { 0x40 };
    let begin = if first { 0x08 } else { 0 };
    let end = if last { 0x04 } else { 0 };
    vec![0x80 | predicted | begin | end, 0x80 | high, low]
}

fn h264_fragment_header(frame: &Frame, first: bool, last: bool) -> Vec<u8> {
    let kind = if frame.key { 5 } else { 1 };
    let start = if first { 0x80 } else { 0 };
    let end = if last && !first { 0x40 } else { 0 };
    if first && last {
        return vec![0x60 | kind];
    }
    vec![0x60 | 28, start | end | kind]
}

/// STAP-A of an SPS and a PPS; the stamp hides in a supplemental unit behind them.
fn h264_parameter_sets(stream: &mut SendStream, frame: &Frame, parts: u8) -> Part {
    let sps = [0x67, 0x42, 0xE0, 0x1F, 0xDA, 0x01, 0x40, 0x16];
    let pps = [0x68, 0xCE, 0x3C, 0x80];
    let mut out = vec![0x60 | 24];
    for unit in [&sps[..], &pps[..]] {
        out.extend_from_slice(&(unit.len() as u16).to_be_bytes());
        out.extend_from_slice(unit);
    }
    let stamped = crate::payload::STAMPED_BYTES_MIN;
    out.extend_from_slice(&(stamped as u16 + 1).to_be_bytes());
    out.push(6);
    let stamp_at = out.len();
    stream.stamp(&mut out, frame, (0, parts), stamped);
    (out, stamp_at)
}
