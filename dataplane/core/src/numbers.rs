//! The numbers of packets, a type for each space, so that the compiler keeps them apart. Extended
//! numbers have the rollover counter in their upper half (RFC 3711 section 3.3.1).
//!
//! ```text
//! received, SRTP index --+ base of its stream--> SourceSeq --segment of the consumer--> SentSeq
//!                                                (history)       (timeline)       (SRTP index, wire)
//! ```

/// A packet of a received stream, as its history names it. Goes on when the stream's SSRC changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceSeq(pub u32);

/// A packet of a stream that is sent, RTX or not: the index that it is sealed with. No index is used
/// for two packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SentSeq(pub u32);

impl SentSeq {
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
