//! What a payload says about itself, for every codec in one small value, so that producers and
//! consumers need not know codecs. Called once per received packet. Never keeps state.

use super::{av1, dependency::Dependency, h264, h265, opus, vp8, vp9};

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
    /// RFC 7798.
    H265,
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
        const NAMES: [(&str, Codec); 8] = [
            ("audio/opus", Codec::Opus),
            ("video/vp8", Codec::Vp8),
            ("video/vp9", Codec::Vp9),
            ("video/h264", Codec::H264),
            ("video/h265", Codec::H265),
            ("video/av1", Codec::Av1),
            ("video/rtx", Codec::Rtx),
            ("audio/rtx", Codec::Rtx),
        ];
        NAMES
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(mime))
            .map_or(Self::Other, |&(_, codec)| codec)
    }

    /// True for codecs whose layers a dependency descriptor tells.
    #[must_use]
    pub fn has_dependencies(self) -> bool {
        matches!(self, Self::H264 | Self::Av1)
    }

    /// True for codecs whose key frames are recognised here: a receiver then begins at one. For
    /// all others every packet is a place to begin.
    #[must_use]
    pub fn has_key_frames(self) -> bool {
        matches!(self, Self::Vp8 | Self::Vp9 | Self::H264 | Self::H265 | Self::Av1)
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
    /// The dependency descriptor's frame number.
    pub frame_number: Option<u16>,
}

impl PayloadInfo {
    /// The same with what a dependency descriptor knows better: the payload of AV1 and H264 tells the
    /// layer, if at all, only where a unit of it begins.
    fn with(mut self, dependency: Option<&Dependency<'_>>) -> Self {
        let Some(Dependency { descriptor, layers }) = dependency else { return self };
        self.start_of_frame |= descriptor.start_of_frame;
        self.end_of_frame = descriptor.end_of_frame;
        self.frame_number = Some(descriptor.frame_number);
        if let Some(layers) = layers {
            self.temporal_layer = layers.temporal;
            self.layer_sync = self.key_frame || layers.temporal == 0 || layers.is_sync;
            self.opens_upper = layers.opens_all;
        }
        self
    }
}

/// Describes a payload (after decryption, without padding). `dependency` is what the packet's dependency
/// descriptor says, if it has one: of AV1 and H264. `None` when the payload is malformed:
/// such a packet is dropped, because nobody could decode it. An empty payload is `None` too.
#[must_use]
pub fn describe(
    codec: Codec,
    payload: &[u8],
    dependency: Option<&Dependency<'_>>,
) -> Option<PayloadInfo> {
    match codec {
        Codec::Opus => opus::describe(payload),
        Codec::Vp8 => vp8::Descriptor::parse(payload).map(|d| d.info()),
        Codec::Vp9 => vp9::Descriptor::parse(payload).map(|d| d.info()),
        Codec::H264 => h264::describe(payload).map(|info| info.with(dependency)),
        Codec::H265 => h265::describe(payload),
        Codec::Av1 => av1::describe(payload, dependency).map(|info| info.with(dependency)),
        Codec::Rtx | Codec::Other => (!payload.is_empty()).then(|| PayloadInfo {
            key_frame: true,
            start_of_frame: true,
            layer_sync: true,
            ..PayloadInfo::default()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::dependency::{Descriptor, Layers};

    fn told(value: &[u8], layers: Option<Layers>) -> Dependency<'_> {
        Dependency { descriptor: Descriptor::parse(value).unwrap(), layers }
    }

    #[test]
    fn a_descriptor_knows_where_frames_begin_and_end() {
        let av1 = [0x10, 0x30, 1];
        let info = describe(Codec::Av1, &av1, Some(&told(&[0xc5, 1, 2], None))).unwrap();
        assert!(info.start_of_frame && info.end_of_frame && !info.key_frame);
        assert_eq!(info.frame_number, Some(0x102));
        let begins = told(&[0x80, 0, 0, 0x80], None);
        assert!(describe(Codec::Av1, &av1, Some(&begins)).unwrap().key_frame);
        // H264 begins at its SPS, whatever is said.
        let idr = [0x65, 0x88];
        assert!(!describe(Codec::H264, &idr, Some(&begins)).unwrap().key_frame);
    }

    /// The middle of a frame tells no layer by itself.
    #[test]
    fn a_descriptor_knows_the_layer_of_every_packet() {
        let layers = Layers { temporal: 2, is_sync: false, opens_all: false };
        let dependency = told(&[5, 0, 0], Some(layers));
        for (codec, middle) in [(Codec::H264, &[0x7c, 0x01, 7][..]), (Codec::Av1, &[0x90, 7, 7])] {
            let alone = describe(codec, middle, None).unwrap();
            assert_eq!((alone.temporal_layer, alone.layer_sync), (0, true));
            let info = describe(codec, middle, Some(&dependency)).unwrap();
            assert_eq!((info.temporal_layer, info.layer_sync, info.opens_upper), (2, false, false));
            assert!(!info.start_of_frame);
        }
        let base = Layers { temporal: 0, is_sync: true, opens_all: true };
        let info = describe(Codec::H264, &[0x41, 0x9a], Some(&told(&[5, 0, 0], Some(base))));
        assert!(info.is_some_and(|info| info.opens_upper && info.layer_sync));
    }
}
