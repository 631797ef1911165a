//! Packets of one transport as they are before they are sealed and after they were opened. Asked for
//! again and again: the first question begins, each takes what has come since, and when none comes
//! for [`IDLE_S`] it has ended.

use serde::{Deserialize, Serialize};

use crate::{Id, command::Tuple};

/// Without a question for so many seconds nothing is captured any more.
pub const IDLE_S: u64 = 5;
/// Between two questions so many bytes are kept, [`PACKET_BYTES`] a packet included; an answer fits
/// into a frame.
pub const BYTES_MAX: usize = 1 << 20;
/// What a packet takes beside its own bytes.
pub const PACKET_BYTES: usize = 64;
/// Transports of a worker that are captured at once.
pub const CAPTURES_MAX: usize = 8;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakeCapture {
    /// The transport.
    pub id: Id,
    /// Also what RTP carries, not the headers alone. RTCP always comes whole.
    #[serde(default)]
    pub payload: bool,
    /// It ends with this question.
    #[serde(default)]
    pub is_last: bool,
}

/// What has come since the question before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Captured {
    /// Where the packets go and come from, now.
    pub tuple: Option<Tuple>,
    /// In the order of their handling.
    pub packets: Vec<Packet>,
    /// Packets for which there was no room.
    pub dropped: u64,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packet {
    /// When it came or left, nanoseconds since 1970.
    pub at_unix_ns: u64,
    /// We sent it.
    pub is_sent: bool,
    /// How long the whole of it is, without a tag.
    pub len: u32,
    /// Its beginning, or all of it.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}
