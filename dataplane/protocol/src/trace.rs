//! Traces of one resource, in mediasoup's terms: each packet, key frame or request of it as an event,
//! for whoever looks for a fault. Bounded: [`EVENTS_PER_S_MAX`] of a worker.

use serde::{Deserialize, Serialize};

use crate::{Id, snapshot::ResourceKind};

/// Events of a worker in a second; what is above is left out and counted.
pub const EVENTS_PER_S_MAX: u32 = 500;
/// Resources of a worker that are traced at once.
pub const TRACED_MAX: usize = 64;

/// What is traced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TraceKind {
    /// Each RTP packet.
    Rtp,
    /// The first packet of each key frame.
    KeyFrame,
    /// Requests to send packets again.
    Nack,
    /// Requests for a key frame.
    Pli,
    /// The same by FIR.
    Fir,
    /// A publisher's sender reports.
    Sr,
    /// Padding that probes for bandwidth. None is sent by this version.
    Probation,
    /// Estimates of what the peer can receive.
    Bwe,
}

/// From now on these are traced of a resource, in place of those before; none ends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetTrace {
    /// Transport, producer or consumer.
    pub kind: ResourceKind,
    /// Its id.
    pub id: Id,
    /// What.
    pub types: Vec<TraceKind>,
}

/// One event of a trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Traced {
    /// Of what.
    pub kind: ResourceKind,
    /// Its id.
    pub id: Id,
    /// Milliseconds since 1970.
    pub at_unix_ms: u64,
    /// We sent it.
    pub is_sent: bool,
    /// What.
    pub what: Trace,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trace {
    /// A packet.
    Rtp(TracedPacket),
    /// The first packet of a key frame.
    KeyFrame(TracedPacket),
    /// Packets are asked for again.
    Nack {
        /// Of which stream.
        ssrc: u32,
        /// How many.
        packets: u32,
    },
    /// A key frame is asked for.
    Pli {
        /// Of which stream.
        ssrc: u32,
    },
    /// The same.
    Fir {
        /// Of which stream.
        ssrc: u32,
    },
    /// RFC 3550 section 6.4.1.
    Sr(TracedReport),
    /// What the peer can receive is estimated anew.
    Bwe {
        /// Bits per second; none: no limit is known.
        available_bps: Option<u64>,
        /// What all that it is to get would take.
        desired_bps: u64,
        /// Limits of the API, 0: none.
        min_bps: u32,
        /// The same.
        max_bps: u32,
    },
    /// One that this build does not know.
    #[serde(other)]
    Unknown,
}

/// A packet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TracedPacket {
    /// RTP header.
    pub payload_type: u8,
    /// RTP header.
    pub sequence_number: u16,
    /// RTP header.
    pub timestamp: u32,
    /// RTP header.
    pub marker: bool,
    /// RTP header.
    pub ssrc: u32,
    /// Its payload is of a key frame.
    pub is_key_frame: bool,
    /// It came as RTX.
    pub is_rtx: bool,
    /// Bytes, without a tag.
    pub size: u32,
    /// Bytes.
    pub payload_size: u32,
    /// By the stream's place in a simulcast.
    pub spatial_layer: u8,
    /// By the payload.
    pub temporal_layer: u8,
}

/// What a sender report says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TracedReport {
    /// Which stream.
    pub ssrc: u32,
    /// NTP time, 32.32.
    pub ntp: u64,
    /// The same moment in RTP time.
    pub rtp_timestamp: u32,
    /// So far.
    pub packets: u32,
    /// Payload bytes so far.
    pub bytes: u32,
}
