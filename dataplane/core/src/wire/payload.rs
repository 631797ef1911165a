//! What a payload says about itself, for every codec in one small value, so that producers and
//! consumers need not know codecs. Called once per received packet. Never keeps state.

use super::{av1, h264, opus, vp8, vp9};

/// A codec that is understood here. Others are forwarded as [`Codec::Other`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// RFC 7587.
    Opus,
    /// RFC 7741.
    Vp8,
    /// RFC 9628.
    Vp9,
    /// RFC 6184.
    H264,
    /// AOM's "RTP Payload Format For AV1".
    Av1,
    /// Retransmissions (RFC 4588).
    Rtx,
    /// Forwarded, but not looked into.
    Other,
}

impl Codec {
    /// `video/VP8`, `audio/opus`, ... compared without case (RFC 4855 section 3).
    #[must_use]
    pub fn from_mime(mime: &str) -> Self {
        const NAMES: [(&str, Codec); 7] = [
            ("audio/opus", Codec::Opus),
            ("video/vp8", Codec::Vp8),
            ("video/vp9", Codec::Vp9),
            ("video/h264", Codec::H264),
            ("video/av1", Codec::Av1),
            ("video/rtx", Codec::Rtx),
            ("audio/rtx", Codec::Rtx),
        ];
        NAMES
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(mime))
            .map_or(Self::Other, |&(_, codec)| codec)
    }

    /// True for codecs whose key frames are recognised here: a receiver then begins at one. For
    /// all others every packet is a place to begin.
    #[must_use]
    pub fn has_key_frames(self) -> bool {
        matches!(self, Self::Vp8 | Self::Vp9 | Self::H264 | Self::Av1)
    }
}

/// What is known of one packet from its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PayloadInfo {
    /// This packet begins a key frame: a receiver that saw nothing before can begin here.
    pub key_frame: bool,
    /// First packet of a frame (of a layer's frame where layers have frames of their own).
    pub start_of_frame: bool,
    /// Last packet of a frame, where the payload says so (VP9, AV1); else the RTP marker does.
    pub end_of_frame: bool,
    /// Temporal layer; 0 where there are none.
    pub temporal_layer: u8,
    /// Spatial layer; 0 where there are none.
    pub spatial_layer: u8,
    /// From this frame on its temporal layer can be decoded by who had only lower ones before.
    pub layer_sync: bool,
    /// From the next frame on, temporal layers above this one can be decoded by who had only it and
    /// lower ones (VP9's U).
    pub opens_upper: bool,
    /// No other frame refers to it.
    pub discardable: bool,
    /// Silence, or an empty frame: nothing to hear (Opus).
    pub silence: bool,
    /// VP8 and VP9 picture id.
    pub picture_id: Option<u16>,
    /// The picture id has 15 bits on the wire, not 7.
    pub picture_id_15bit: bool,
    /// VP8 and VP9 TL0PICIDX.
    pub tl0_pic_idx: Option<u8>,
    /// AV1 dependency descriptor's frame number.
    pub frame_number: Option<u16>,
}

/// Describes a payload (after decryption, without padding). `descriptor` is the value of the
/// dependency descriptor extension, if the packet has one. `None` when the payload is malformed:
/// such a packet is dropped, because nobody could decode it. An empty payload is `None` too.
#[must_use]
pub fn describe(codec: Codec, payload: &[u8], descriptor: Option<&[u8]>) -> Option<PayloadInfo> {
    match codec {
        Codec::Opus => opus::describe(payload),
        Codec::Vp8 => vp8::Descriptor::parse(payload).map(|d| d.info()),
        Codec::Vp9 => vp9::Descriptor::parse(payload).map(|d| d.info()),
        Codec::H264 => h264::describe(payload),
        Codec::Av1 => av1::describe(payload, descriptor),
        Codec::Rtx | Codec::Other => (!payload.is_empty()).then(|| PayloadInfo {
            key_frame: true,
            start_of_frame: true,
            layer_sync: true,
            ..PayloadInfo::default()
        }),
    }
}
