//! SRTP and SRTCP (RFC 3711, RFC 6188, RFC 7714): sealing and opening of packets in place. Called
//! by the transports for every packet; owns session keys and, per stream, the packet index with
//! its replay window. Allocates nothing per packet, keeps no stream by itself, and never decides
//! which packet gets which index: that is the caller's numbering.
//!
//! ```text
//! receive: StreamIndex::estimate -> OpenKey::open_rtp -> StreamIndex::commit
//!          refuses doubles          verifies the tag     only after it was right
//! send:    SentSeq -> SealJob ... Sealer::seal, once a turn
//! ```
//! RTP and RTCP have separate session keys; both directions have separate master keys. There is
//! no MKI and no key derivation rate, as in DTLS-SRTP (RFC 5764 section 4.1.2).

mod cipher;
mod index;
mod key;
mod sealer;
mod session;
mod suite;

#[cfg(any(test, feature = "audit"))]
mod audit;
#[cfg(test)]
mod tests;

#[cfg(any(test, feature = "audit"))]
pub use audit::{SealedOnce, SealedTwice};
pub use index::{ReplayWindow, StreamIndex};
pub use key::{KeyLengthError, MasterKey};
pub use sealer::{KeySource, SealJob, Sealer, SoftwareSealer};
#[cfg(feature = "session-keys")]
pub use session::SessionKeys;
pub use session::{OpenKey, SealKey};
pub use suite::Suite;

/// Room that a sealed RTP packet needs behind its payload, whatever the suite.
pub const RTP_TAG_BYTES_MAX: usize = 16;
/// Room that a sealed compound RTCP packet needs behind its last byte, whatever the suite: the
/// word with the E bit and the index, and the tag.
pub const RTCP_TRAILER_BYTES_MAX: usize = 4 + 16;
