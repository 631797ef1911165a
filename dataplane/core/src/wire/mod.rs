//! Wire formats: what peers send and what we send, as views over bytes and writers into bytes.
//!
//! Owns the layout of STUN, RTP, RTCP and of the codecs' payload descriptors. Called by transports,
//! producers and consumers. Never keeps state between packets, never allocates, and never trusts a
//! length: every parser takes arbitrary bytes and answers with a value or a [`Discard`].
//!
//! [`Discard`]: crate::Discard

pub mod av1;
pub mod dependency;
pub mod extension;
pub mod h264;
pub mod h265;
pub mod opus;
pub mod payload;
pub mod red;
pub mod rtcp;
pub mod rtp;
pub mod stun;
pub mod twcc;
pub mod vp8;
pub mod vp9;
pub mod writer;

pub use payload::{Codec, PayloadInfo, describe};
pub use writer::Full;

/// What a datagram is, told by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// STUN (RFC 8489).
    Stun,
    /// A DTLS record (RFC 9147).
    Dtls,
    /// RTP or SRTP.
    Rtp,
    /// RTCP or SRTCP.
    Rtcp,
    /// Nothing that is spoken here (ZRTP, TURN channels, junk).
    Unknown,
}

/// Tells the protocols of one socket apart: RFC 7983 section 7 by the first byte, and RFC 5761
/// section 4 by the second one (RTCP packet types 192 to 223 are RTP payload types 64 to 95 with
/// the marker set, which nobody may use here).
#[must_use]
pub fn classify(datagram: &[u8]) -> Protocol {
    match datagram {
        [0..=3, ..] if stun::is_stun(datagram) => Protocol::Stun,
        [20..=63, ..] => Protocol::Dtls,
        [128..=191, 192..=223, ..] => Protocol::Rtcp,
        [128..=191, _, ..] => Protocol::Rtp,
        _ => Protocol::Unknown,
    }
}

/// `N` bytes at `offset`, if they are there.
pub(crate) fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

/// A big-endian number at `offset`.
pub(crate) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    array_at(bytes, offset).map(u16::from_be_bytes)
}

/// A big-endian number of 24 bits at `offset`.
pub(crate) fn u24_at(bytes: &[u8], offset: usize) -> Option<u32> {
    array_at(bytes, offset).map(|[a, b, c]| u32::from_be_bytes([0, a, b, c]))
}

/// A big-endian number at `offset`.
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    array_at(bytes, offset).map(u32::from_be_bytes)
}

/// A big-endian number at `offset`.
pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    array_at(bytes, offset).map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ranges_of_rfc_7983() {
        let stun = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(classify(&stun), Protocol::Stun);
        assert_eq!(classify(&stun[..19]), Protocol::Unknown);
        for (bytes, expected) in [
            ([20, 254], Protocol::Dtls),
            ([63, 0], Protocol::Dtls),
            ([64, 0], Protocol::Unknown),
            ([0x80, 96], Protocol::Rtp),
            ([0x80, 0x80 | 111], Protocol::Rtp),
            ([0x80, 191], Protocol::Rtp),
            ([0x80, 200], Protocol::Rtcp),
            ([0xbf, 223], Protocol::Rtcp),
            ([0x80, 224], Protocol::Rtp),
            ([192, 0], Protocol::Unknown),
            ([16, 0], Protocol::Unknown),
        ] {
            assert_eq!(classify(&bytes), expected, "{bytes:?}");
        }
        assert_eq!(classify(&[]), Protocol::Unknown);
        assert_eq!(classify(&[0x80]), Protocol::Unknown);
    }
}
