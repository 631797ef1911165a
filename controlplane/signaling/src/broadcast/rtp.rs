//! As much of RTP (RFC 3550) as a broadcast needs: what a packet is, where a key frame begins, how a
//! packet is written anew for FFmpeg. Pure functions; what is malformed is nothing.

/// Payload types of RTCP packets, as the second byte of a datagram has them (RFC 5761 section 4).
const RTCP: std::ops::RangeInclusive<u8> = 192..=223;

/// RTCP packet type of a sender report.
const SENDER_REPORT: u8 = 200;

/// Bytes of a header without its options.
pub const HEADER: usize = 12;

/// Seconds between the epochs of NTP and Unix.
const NTP_UNIX_S: i64 = 2_208_988_800;

/// What is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Codec {
    /// Sound.
    Opus,
    /// Pictures.
    Vp8,
    /// Pictures, packetization mode 1.
    H264,
}

impl Codec {
    /// Of a MIME type, if a broadcast can take it.
    pub fn of_mime(mime: &str) -> Option<Self> {
        [(Self::Opus, "audio/opus"), (Self::Vp8, "video/VP8"), (Self::H264, "video/H264")]
            .into_iter()
            .find(|(_, name)| name.eq_ignore_ascii_case(mime))
            .map(|(codec, _)| codec)
    }

    /// Ticks of its RTP clock in a second.
    pub fn clock_rate(self) -> u32 {
        match self {
            Self::Opus => 48_000,
            Self::Vp8 | Self::H264 => 90_000,
        }
    }

    /// Whether pictures are carried.
    pub fn is_video(self) -> bool {
        self != Self::Opus
    }
}

/// A media packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rtp<'a> {
    /// The last packet of a frame.
    pub marker: bool,
    /// Number.
    pub sequence: u16,
    /// On its own clock.
    pub timestamp: u32,
    /// Whose stream.
    pub ssrc: u32,
    /// Without header, extensions and padding.
    pub payload: &'a [u8],
}

/// Whether a datagram is RTCP.
pub fn is_rtcp(bytes: &[u8]) -> bool {
    bytes.get(1).is_some_and(|kind| RTCP.contains(kind))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

impl<'a> Rtp<'a> {
    /// Reads a packet (RFC 3550 section 5.1).
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let first = *bytes.first()?;
        if first >> 6 != 2 {
            return None;
        }
        let mut begin = HEADER + 4 * usize::from(first & 0x0f);
        if first & 0x10 != 0 {
            begin += 4 + 4 * usize::from(u16_at(bytes, begin + 2)?);
        }
        let padding = if first & 0x20 != 0 { usize::from(*bytes.last()?) } else { 0 };
        let end = bytes.len().checked_sub(padding)?;
        Some(Self {
            marker: bytes.get(1)? & 0x80 != 0,
            sequence: u16_at(bytes, 2)?,
            timestamp: u32_at(bytes, 4)?,
            ssrc: u32_at(bytes, 8)?,
            payload: bytes.get(begin..end)?,
        })
    }

    /// Writes it with the plain header that FFmpeg is told of.
    pub fn write(&self, payload_type: u8) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + self.payload.len());
        bytes.push(0x80);
        bytes.push(payload_type | if self.marker { 0x80 } else { 0 });
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.timestamp.to_be_bytes());
        bytes.extend(self.ssrc.to_be_bytes());
        bytes.extend(self.payload);
        bytes
    }
}

/// What a sender report says: the RTP time of a moment of the sender's wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Whose stream.
    pub ssrc: u32,
    /// Microseconds since 1970, by the sender.
    pub unix_us: i64,
    /// The same moment on the stream's clock.
    pub timestamp: u32,
}

/// The sender reports of a compound packet (RFC 3550 section 6.4.1).
pub fn sender_reports(bytes: &[u8]) -> Vec<Report> {
    let mut reports = Vec::new();
    let mut rest = bytes;
    while let (Some(kind), Some(words)) = (rest.get(1), u16_at(rest, 2)) {
        if *kind == SENDER_REPORT {
            reports.extend(sender_report(rest));
        }
        rest = rest.get(4 + 4 * usize::from(words)..).unwrap_or_default();
    }
    reports
}

fn sender_report(bytes: &[u8]) -> Option<Report> {
    let (seconds, fraction) = (u32_at(bytes, 8)?, u32_at(bytes, 12)?);
    let unix_s = i64::from(seconds) - NTP_UNIX_S;
    let us = (u64::from(fraction) * 1_000_000) >> 32;
    let unix_us = unix_s * 1_000_000 + i64::try_from(us).ok()?;
    Some(Report { ssrc: u32_at(bytes, 4)?, unix_us, timestamp: u32_at(bytes, 16)? })
}

/// A sender report by which FFmpeg learns that `timestamp` is the moment `unix_us`.
pub fn write_report(ssrc: u32, unix_us: i64, timestamp: u32) -> Vec<u8> {
    let seconds = u32::try_from(unix_us / 1_000_000 + NTP_UNIX_S).unwrap_or_default();
    let fraction = ((unix_us % 1_000_000) << 32) / 1_000_000;
    let mut bytes = vec![0x80, SENDER_REPORT, 0, 6];
    bytes.extend(ssrc.to_be_bytes());
    bytes.extend(seconds.to_be_bytes());
    bytes.extend(u32::try_from(fraction).unwrap_or_default().to_be_bytes());
    bytes.extend(timestamp.to_be_bytes());
    bytes.extend([0; 8]);
    bytes
}

/// Whether a decoder may begin with this packet.
pub fn begins_key_frame(codec: Codec, payload: &[u8]) -> bool {
    match codec {
        Codec::Opus => true,
        Codec::Vp8 => vp8_key_frame(payload).unwrap_or(false),
        Codec::H264 => h264_parameters(payload).unwrap_or(false),
    }
}

/// RFC 7741 sections 4.2 and 4.3: the descriptor, then the first byte of a frame.
fn vp8_key_frame(payload: &[u8]) -> Option<bool> {
    let first = *payload.first()?;
    if first & 0x10 == 0 || first & 0x07 != 0 {
        return Some(false);
    }
    let mut at = 1;
    if first & 0x80 != 0 {
        let options = *payload.get(1)?;
        at = 2;
        if options & 0x80 != 0 {
            at += if payload.get(at)? & 0x80 != 0 { 2 } else { 1 };
        }
        at += usize::from(options & 0x40 != 0) + usize::from(options & 0x30 != 0);
    }
    Some(payload.get(at)? & 0x01 == 0)
}

/// RFC 6184: a sequence parameter set, alone or first in an aggregate. Browsers send one before
/// each key frame; without it nothing can be decoded.
fn h264_parameters(payload: &[u8]) -> Option<bool> {
    const SEQUENCE_PARAMETERS: u8 = 7;
    const AGGREGATE: u8 = 24;
    let kind = payload.first()? & 0x1f;
    let kind = if kind == AGGREGATE { payload.get(3)? & 0x1f } else { kind };
    Some(kind == SEQUENCE_PARAMETERS)
}

/// How long the sound in an Opus packet is (RFC 6716 section 3.1), microseconds.
pub fn opus_us(payload: &[u8]) -> Option<i64> {
    let first = *payload.first()?;
    let frame_us = match first >> 3 {
        config @ 0..=11 => [10_000, 20_000, 40_000, 60_000][usize::from(config & 3)],
        config @ 12..=15 => [10_000, 20_000][usize::from(config & 1)],
        config => [2_500, 5_000, 10_000, 20_000][usize::from(config & 3)],
    };
    let frames = match first & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => i64::from(payload.get(1)? & 0x3f),
    };
    Some(frame_us * frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_read_without_its_extensions_and_padding() {
        let mut bytes = vec![0xb1, 0xe0, 0, 7, 0, 0, 0, 9, 0, 0, 0, 5];
        bytes.extend([1, 2, 3, 4]); // one contributing source
        bytes.extend([0xbe, 0xde, 0, 1, 9, 9, 9, 9]); // one word of extensions
        bytes.extend([42, 43, 0, 2]); // two bytes of payload, two of padding
        let read = Rtp::parse(&bytes).unwrap();
        let wanted = Rtp { marker: true, sequence: 7, timestamp: 9, ssrc: 5, payload: &[42, 43] };
        assert_eq!(read, wanted);
        assert_eq!(Rtp::parse(&read.write(96)), Some(wanted), "and written without them");
    }

    #[test]
    fn cut_packets_are_nothing() {
        let whole = Rtp { marker: false, sequence: 1, timestamp: 2, ssrc: 3, payload: &[4; 20] };
        let bytes = whole.write(96);
        assert!((0..HEADER).all(|len| Rtp::parse(&bytes[..len]).is_none()));
        for len in 0..64 {
            for first in [0x80, 0x9f, 0xbf, 0xff] {
                // Nothing of that panics.
                let bytes = vec![first; len];
                let _ = (Rtp::parse(&bytes), sender_reports(&bytes), opus_us(&bytes));
                for codec in [Codec::Opus, Codec::Vp8, Codec::H264] {
                    begins_key_frame(codec, &bytes);
                }
            }
        }
    }

    #[test]
    fn reports_are_read_as_they_are_written() {
        let unix_us = 1_700_000_000_250_000;
        let mut compound = vec![0x80, 201, 0, 1, 0, 0, 0, 1];
        compound.extend(write_report(8, unix_us, 77));
        let reports = sender_reports(&compound);
        assert_eq!(reports.len(), 1);
        let Report { ssrc, timestamp, unix_us: read } = reports[0];
        assert_eq!((ssrc, timestamp), (8, 77));
        assert!((read - unix_us).abs() <= 1, "{read}");
        assert!(is_rtcp(&compound) && !is_rtcp(&[0x80, 0xe0]));
    }

    #[test]
    fn key_frames_are_known() {
        let vp8 = |payload: &[u8]| begins_key_frame(Codec::Vp8, payload);
        assert!(vp8(&[0x10, 0x00]));
        assert!(!vp8(&[0x10, 0x01]), "a delta frame");
        assert!(!vp8(&[0x00, 0x00]), "not the first packet of its frame");
        assert!(vp8(&[0x90, 0xe0, 0x81, 0x22, 0x01, 0x20, 0x00]), "with all of the descriptor");
        assert!(!vp8(&[0x90, 0xe0, 0x81, 0x22, 0x01, 0x20, 0x01]));
        let h264 = |payload: &[u8]| begins_key_frame(Codec::H264, payload);
        assert!(h264(&[0x67, 0x42]));
        assert!(h264(&[0x78, 0, 26, 0x67, 0x42]), "in an aggregate");
        assert!(!h264(&[0x7c, 0x85]), "a piece of a picture");
    }

    #[test]
    fn opus_says_how_long_it_is() {
        assert_eq!(opus_us(&[0xf8, 0xff, 0xfe]), Some(20_000));
        assert_eq!(opus_us(&[0x78]), Some(20_000), "hybrid");
        assert_eq!(opus_us(&[0x18]), Some(60_000), "SILK");
        assert_eq!(opus_us(&[0xfb, 0x03]), Some(60_000), "three frames");
        assert_eq!(opus_us(&[]), None);
    }
}
