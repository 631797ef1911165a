//! The numbers of packets, a type for each space, so that the compiler keeps them apart. Extended
//! numbers have the rollover counter in their upper half (RFC 3711 section 3.3.1).
//!
//! ```text
//! received: PacketIndex --+ base of its stream--> SourceSeq --segment of the consumer--> SentSeq
//!           (its SRTP)                            (history)       (timeline)      (wire, PacketIndex)
//! ```
//! RTCP has a number of its own, [`RtcpIndex`], which is in the packet as it is.

/// What an SRTP packet is sealed with beside its key and SSRC: rollover counter and sequence number, 48
/// bits. Never twice with other bytes (RFC 3711 section 9.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct PacketIndex(pub u64);

impl PacketIndex {
    /// The largest: at it the key is used up.
    pub const MAX: Self = Self((1 << 48) - 1);

    /// The rollover counter.
    #[must_use]
    pub fn roc(self) -> u32 {
        (self.0 >> 16) as u32
    }
}

/// Where a stream that we send begins, and 2^32 packets of it: none of them wraps.
impl From<SentSeq> for PacketIndex {
    fn from(seq: SentSeq) -> Self {
        Self(seq.0.into())
    }
}

/// What an SRTCP packet is sealed with: 31 bits, counted for all SSRCs of a sender together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct RtcpIndex(pub u32);

impl RtcpIndex {
    /// The largest: at it the key is used up.
    pub const MAX: Self = Self((1 << 31) - 1);

    /// The one after it; above [`Self::MAX`] nothing is sealed.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// A packet of a received stream, as its history names it. Goes on when the stream's SSRC changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct SourceSeq(pub u32);

impl SourceSeq {
    /// Numbers above it are not kept: they do not begin again, and another SSRC begins two cycles on.
    pub const MAX: Self = Self(u32::MAX - 0x2_0000);
    /// No packet has it.
    pub const NONE: Self = Self(u32::MAX);
}

/// A packet of a stream that is sent, RTX or not: the index that it is sealed with. No index is used
/// for two packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct SentSeq(pub u32);

impl SentSeq {
    /// Numbers above it are not begun: the gap that one loss upstream leaves always fits.
    pub const MAX: Self = Self(u32::MAX - 0x1_0000);

    /// As the header carries it.
    #[must_use]
    pub fn wire(self) -> u16 {
        self.0 as u16
    }

    /// The one after it.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}
