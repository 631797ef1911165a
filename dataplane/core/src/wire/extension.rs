//! RTP header extensions: their URIs, their ids in one session, and the layout of their values.
//! Called when parameters are applied (URIs) and once per packet (ids, values). Never keeps a
//! packet.

use super::{array_at, u64_at};
use crate::{Nanos, SECOND};

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident => $uri:literal,)*) => {
        /// A header extension that is understood here.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum ExtensionKind {
            $($(#[$doc])* $name,)*
        }

        impl ExtensionKind {
            /// All of them, in the order of their discriminants.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The URI of `a=extmap`.
            #[must_use]
            pub const fn uri(self) -> &'static str {
                match self { $(Self::$name => $uri,)* }
            }

            /// The kind of that URI, if it is known here.
            #[must_use]
            pub fn from_uri(uri: &str) -> Option<Self> {
                match uri { $($uri => Some(Self::$name),)* _ => None }
            }
        }
    };
}

kinds! {
    /// RFC 9143: media identification.
    Mid => "urn:ietf:params:rtp-hdrext:sdes:mid",
    /// RFC 8852: RTP stream id.
    Rid => "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
    /// RFC 8852: id of the stream that a retransmission repairs.
    RepairedRid => "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
    /// Absolute send time, 24 bits of 6.18 fixed point.
    AbsSendTime => "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
    /// Transport-wide sequence number, 16 bits.
    TransportWideCc =>
        "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
    /// RFC 6464: level of the sender's audio.
    AudioLevel => "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
    /// 3GPP TS 26.114: coordination of video orientation.
    VideoOrientation => "urn:3gpp:video-orientation",
    /// RFC 5450: transmission time offset.
    TimestampOffset => "urn:ietf:params:rtp-hdrext:toffset",
    /// Absolute capture time.
    AbsCaptureTime => "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time",
    /// Minimum and maximum playout delay.
    PlayoutDelay => "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
    /// AV1's dependency descriptor, used by other codecs too.
    DependencyDescriptor =>
        "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension",
    /// Bitrate and resolution of each layer.
    VideoLayersAllocation =>
        "http://www.webrtc.org/experiments/rtp-hdrext/video-layers-allocation00",
    /// Kind of video: screen or camera.
    VideoContentType => "http://www.webrtc.org/experiments/rtp-hdrext/video-content-type",
    /// Timestamps of a frame's way through the sender.
    VideoTiming => "http://www.webrtc.org/experiments/rtp-hdrext/video-timing",
    /// Frame marking (RFC 9626's draft).
    FrameMarking => "urn:ietf:params:rtp-hdrext:framemarking",
    /// RFC 6465: levels of mixed audio.
    MixerAudioLevel => "urn:ietf:params:rtp-hdrext:csrc-audio-level",
}

const KINDS: usize = ExtensionKind::ALL.len();
/// Largest id of the one-byte form, which nearly all packets have: found by one look-up. A block in
/// two-byte form may hold all ids from 1 to 255 (RFC 8285 section 4.3).
pub const ONE_BYTE_ID_MAX: u8 = 14;

/// Which id stands for which extension in one session, both ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExtensionMap {
    /// Of the ids up to [`ONE_BYTE_ID_MAX`].
    kinds: [Option<ExtensionKind>; ONE_BYTE_ID_MAX as usize + 1],
    ids: [u8; KINDS],
}

impl ExtensionMap {
    /// Maps an id; what either side stood for before is forgotten. False for 0, which is no id:
    /// nothing is changed then.
    pub fn insert(&mut self, id: u8, kind: ExtensionKind) -> bool {
        if id == 0 {
            return false;
        }
        if let Some(before) = self.kind(id) {
            self.ids[before as usize] = 0;
        }
        if let Some(entry) = self.kinds.get_mut(usize::from(self.ids[kind as usize])) {
            *entry = None;
        }
        if let Some(entry) = self.kinds.get_mut(usize::from(id)) {
            *entry = Some(kind);
        }
        self.ids[kind as usize] = id;
        true
    }

    /// What an id stands for.
    #[must_use]
    pub fn kind(&self, id: u8) -> Option<ExtensionKind> {
        if id <= ONE_BYTE_ID_MAX {
            return self.kinds[usize::from(id)];
        }
        let at = self.ids.iter().position(|own| *own == id);
        at.map(|at| ExtensionKind::ALL[at])
    }

    /// The id of an extension.
    #[must_use]
    pub fn id(&self, kind: ExtensionKind) -> Option<u8> {
        let id = self.ids[kind as usize];
        (id != 0).then_some(id)
    }

    /// All that are mapped, by id.
    pub fn iter(&self) -> impl Iterator<Item = (u8, ExtensionKind)> {
        (1..=u8::MAX).filter_map(|id| self.kind(id).map(|kind| (id, kind)))
    }
}

impl<'a> FromIterator<(u8, &'a str)> for ExtensionMap {
    /// From ids and URIs; unknown URIs and ids out of range are passed over.
    fn from_iter<I: IntoIterator<Item = (u8, &'a str)>>(pairs: I) -> Self {
        let mut map = Self::default();
        for (id, uri) in pairs {
            if let Some(kind) = ExtensionKind::from_uri(uri) {
                map.insert(id, kind);
            }
        }
        map
    }
}

/// Absolute send time: seconds modulo 64 in 6.18 fixed point.
#[must_use]
pub fn abs_send_time(now: Nanos) -> [u8; 3] {
    let fixed = ((now % (64 * SECOND)) << 18) / SECOND;
    let [.., a, b, c] = fixed.to_be_bytes();
    [a, b, c]
}

/// The reverse: nanoseconds modulo 64 s, exact to 4 us.
#[must_use]
pub fn parse_abs_send_time(value: &[u8]) -> Option<Nanos> {
    let [a, b, c] = value.try_into().ok()?;
    Some((u64::from(u32::from_be_bytes([0, a, b, c])) * SECOND) >> 18)
}

/// Transport-wide sequence number (the first two bytes; later versions append a request).
#[must_use]
pub fn parse_transport_sequence(value: &[u8]) -> Option<u16> {
    array_at(value, 0).map(u16::from_be_bytes)
}

/// RFC 6464 section 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioLevel {
    /// The encoder thinks that it is voice.
    pub voice: bool,
    /// Level in -dBov: 0 is the loudest, 127 is silence.
    pub level: u8,
}

impl AudioLevel {
    /// Reads the value (one byte, or two in two-byte form, RFC 6464 section 3).
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let &first = value.first()?;
        Some(Self { voice: first & 0x80 != 0, level: first & 0x7f })
    }

    /// The value.
    #[must_use]
    pub fn to_byte(self) -> u8 {
        u8::from(self.voice) << 7 | self.level & 0x7f
    }
}

/// 3GPP TS 26.114 section 7.4.5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VideoOrientation {
    /// Back-facing camera.
    pub back_camera: bool,
    /// Mirrored.
    pub flip: bool,
    /// Clockwise degrees to turn for display: 0, 90, 180, 270.
    pub rotation: u16,
}

impl VideoOrientation {
    /// Reads the value.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let &byte = value.first()?;
        Some(Self {
            back_camera: byte & 0x08 != 0,
            flip: byte & 0x04 != 0,
            rotation: u16::from(byte & 0x03) * 90,
        })
    }

    /// The value.
    #[must_use]
    pub fn to_byte(self) -> u8 {
        u8::from(self.back_camera) << 3
            | u8::from(self.flip) << 2
            | (self.rotation / 90) as u8 & 0x03
    }
}

/// Absolute capture time: when a frame was captured, in the capturing system's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbsCaptureTime {
    /// NTP time in 32.32 fixed point.
    pub ntp: u64,
    /// The sender's estimate of capturing clock minus its own, 32.32 fixed point.
    pub clock_offset: Option<i64>,
}

impl AbsCaptureTime {
    /// Reads the value: 8 or 16 bytes.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        Some(Self { ntp: u64_at(value, 0)?, clock_offset: u64_at(value, 8).map(u64::cast_signed) })
    }

    /// Writes the value; the first 8 or all 16 bytes count.
    #[must_use]
    pub fn to_bytes(self) -> ([u8; 16], usize) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.ntp.to_be_bytes());
        let Some(offset) = self.clock_offset else {
            return (bytes, 8);
        };
        bytes[8..].copy_from_slice(&offset.to_be_bytes());
        (bytes, 16)
    }
}

/// Playout delay that the sender asks for: minimum and maximum in units of 10 ms, 12 bits each.
#[must_use]
pub fn parse_playout_delay(value: &[u8]) -> Option<(u16, u16)> {
    let [a, b, c] = value.try_into().ok()?;
    Some((u16::from(a) << 4 | u16::from(b) >> 4, u16::from(b & 0x0f) << 8 | u16::from(c)))
}

/// MID, RID and repaired RID: 1 to 16 bytes of visible ASCII (RFC 8852 section 3.1 allows less:
/// letters, digits, and for MID any token).
#[must_use]
pub fn parse_identifier(value: &[u8]) -> Option<&str> {
    if value.is_empty() || value.len() > 16 || !value.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    std::str::from_utf8(value).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::MS;

    #[test]
    fn uris_lead_back_to_their_kinds() {
        for (index, &kind) in ExtensionKind::ALL.iter().enumerate() {
            assert_eq!(ExtensionKind::from_uri(kind.uri()), Some(kind));
            assert_eq!(kind as usize, index);
        }
        assert_eq!(ExtensionKind::from_uri("urn:nothing"), None);
    }

    #[test]
    fn a_map_is_one_to_one() {
        use ExtensionKind::{AbsSendTime, Mid, Rid};
        let mut map: ExtensionMap =
            [(1, Mid.uri()), (2, "urn:nothing"), (4, Rid.uri()), (15, AbsSendTime.uri())]
                .into_iter()
                .collect();
        assert_eq!(map.iter().collect::<Vec<_>>(), [(1, Mid), (4, Rid), (15, AbsSendTime)]);
        assert!(map.insert(1, Rid));
        assert_eq!((map.id(Mid), map.id(Rid), map.kind(4)), (None, Some(1), None));
        assert!(!map.insert(0, Mid));
        assert_eq!((map.kind(0), map.kind(200)), (None, None));
        // Ids of the two-byte form.
        assert!(map.insert(200, Mid) && map.insert(255, AbsSendTime));
        assert_eq!((map.kind(200), map.id(Mid), map.kind(15)), (Some(Mid), Some(200), None));
        assert!(map.insert(200, Rid));
        assert_eq!((map.kind(200), map.id(Mid), map.kind(1)), (Some(Rid), None, None));
    }

    #[test]
    fn values_as_they_are_on_the_wire() {
        assert_eq!(abs_send_time(SECOND), [0x04, 0, 0]);
        assert_eq!(abs_send_time(64 * SECOND + 500 * MS), [0x02, 0, 0]);
        assert_eq!(parse_abs_send_time(&[0x04, 0, 0]), Some(SECOND));
        let level = AudioLevel { voice: true, level: 30 };
        assert_eq!(AudioLevel::parse(&[level.to_byte()]), Some(level));
        assert_eq!(level.to_byte(), 0x9e);
        let turned = VideoOrientation { back_camera: true, flip: false, rotation: 270 };
        assert_eq!(turned.to_byte(), 0b1011);
        assert_eq!(VideoOrientation::parse(&[0b1011]), Some(turned));
        assert_eq!(parse_playout_delay(&[0x00, 0xa0, 0x14]), Some((10, 20)));
        assert_eq!(parse_identifier(b"hi_1"), Some("hi_1"));
        for wrong in [&b""[..], b"a b", b"12345678901234567", b"\xff"] {
            assert_eq!(parse_identifier(wrong), None);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_values_never_panic(value in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = (parse_abs_send_time(&value), parse_transport_sequence(&value));
            let _ = (AudioLevel::parse(&value), VideoOrientation::parse(&value));
            let _ = (parse_playout_delay(&value), parse_identifier(&value));
            if let Some(time) = AbsCaptureTime::parse(&value) {
                let (bytes, len) = time.to_bytes();
                prop_assert_eq!(&bytes[..len], &value[..len]);
            }
        }

        #[test]
        fn send_times_come_back(now in 0..64 * SECOND) {
            let back = parse_abs_send_time(&abs_send_time(now)).unwrap();
            prop_assert!(now - back <= 4_000);
        }
    }
}
