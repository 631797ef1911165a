//! What FFmpeg is given while nobody sends: silence, and a dark picture. Made once with FFmpeg
//! (`-f lavfi -i color=c=0x101318:s=320x180 -frames:v 1`, libvpx and libx264), 500 bytes in all. So
//! every input of FFmpeg always has something, and it never waits for one person's camera.

use super::rtp::Codec;

/// 20 ms of silence (RFC 6716: a CELT frame without energy).
const SILENCE: &[u8] = &[0xf8, 0xff, 0xfe];

/// A VP8 key frame behind its payload descriptor.
const DARK_VP8: &[u8] = include_bytes!("filler/dark.vp8");

/// Parameter sets and key frame of H.264, one NAL unit a file.
const DARK_H264: [&[u8]; 3] = [
    include_bytes!("filler/dark.sps"),
    include_bytes!("filler/dark.pps"),
    include_bytes!("filler/dark.idr"),
];

/// The payloads of one frame's packets.
pub fn packets(codec: Codec) -> &'static [&'static [u8]] {
    match codec {
        Codec::Opus => &[SILENCE],
        Codec::Vp8 => &[DARK_VP8],
        Codec::H264 => &DARK_H264,
    }
}

/// Time from one frame to the next, microseconds.
pub fn every_us(codec: Codec) -> i64 {
    if codec.is_video() { 100_000 } else { 20_000 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broadcast::rtp::begins_key_frame;

    #[test]
    fn a_decoder_can_begin_with_them() {
        for codec in [Codec::Opus, Codec::Vp8, Codec::H264] {
            assert!(begins_key_frame(codec, packets(codec)[0]), "{codec:?}");
        }
    }
}
