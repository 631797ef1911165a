//! Traces of a resource: packets, key frames and requests of it as events, in mediasoup's terms.

use serde::{Deserialize, Serialize};

use crate::id::Id;
use crate::resources::UnixMs;

/// Most types of one request: there are no more.
pub const TRACE_TYPES_MAX: usize = 8;

/// `PUT /transports|producers|consumers/{id}/trace`, and its answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TraceTypes {
    /// What is traced from now on, in place of what was before; none ends it.
    #[cfg_attr(feature = "openapi", salvo(schema(max_items = 8)))]
    pub types: Vec<TraceType>,
}

/// What can be traced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum TraceType {
    /// Each RTP packet of a producer or consumer.
    Rtp,
    /// The first packet of each key frame of a producer or consumer.
    KeyFrame,
    /// Requests to send packets again, of a producer or consumer.
    Nack,
    /// Requests for a key frame, of a producer or consumer.
    Pli,
    /// The same by FIR.
    Fir,
    /// A producer's sender reports.
    Sr,
    /// Padding that a transport is probed with. This version sends none.
    Probation,
    /// What is estimated that a transport's client can receive, when it changes.
    Bwe,
}

/// `trace`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct TraceEvent {
    /// Of a transport.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport_id: Option<Id>,
    /// Of a producer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub producer_id: Option<Id>,
    /// Of a consumer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer_id: Option<Id>,
    /// What happened.
    pub trace: Trace,
}

/// What happened, in mediasoup's shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Trace {
    /// Which kind.
    #[serde(rename = "type")]
    pub kind: TraceType,
    /// When.
    pub timestamp: UnixMs,
    /// From the client or to it.
    pub direction: TraceDirection,
    /// The rest, by kind.
    pub info: TraceInfo,
}

/// From the client or to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum TraceDirection {
    /// It came.
    In,
    /// It was sent.
    Out,
}

/// What is known, by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct TraceInfo {
    /// All but `bwe`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssrc: Option<u32>,
    /// `rtp`, `keyframe`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_type: Option<u8>,
    /// `rtp`, `keyframe`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence_number: Option<u16>,
    /// `rtp`, `keyframe`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<u32>,
    /// `rtp`, `keyframe`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub marker: Option<bool>,
    /// `rtp`, `keyframe`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_key_frame: Option<bool>,
    /// `rtp`, `keyframe`: it came, or was sent, as RTX.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_rtx: Option<bool>,
    /// `rtp`, `keyframe`: bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u32>,
    /// `rtp`, `keyframe`: bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_size: Option<u32>,
    /// `rtp`, `keyframe`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spatial_layer: Option<u8>,
    /// `rtp`, `keyframe`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temporal_layer: Option<u8>,
    /// `nack`: how many packets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packets: Option<u32>,
    /// `sr`: NTP time, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ntp_sec: Option<u32>,
    /// `sr`: NTP time, of 2^32 parts of a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ntp_frac: Option<u32>,
    /// `sr`: the same moment in RTP time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtp_ts: Option<u32>,
    /// `sr`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packet_count: Option<u32>,
    /// `sr`: payload bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub octet_count: Option<u32>,
    /// `bwe`: bits per second; none where no limit is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available_bitrate: Option<u64>,
    /// `bwe`: what all that the client is to get would take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desired_bitrate: Option<u64>,
    /// `bwe`: the API's limit, 0 for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_bitrate: Option<u32>,
    /// `bwe`: the API's limit, 0 for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bitrate: Option<u32>,
}
