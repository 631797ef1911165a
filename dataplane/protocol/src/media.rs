//! RTP parameters as the dataplane needs them: final, after all negotiation. Field names follow
//! ORTC and mediasoup; the types are the dataplane protocol's own, not the control API's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Audio or video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaKind {
    /// Audio.
    Audio,
    /// Video.
    Video,
}

/// What a producer or consumer sends or receives.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RtpParameters {
    /// Media identification (RFC 9143), at most 16 bytes.
    pub mid: Option<String>,
    /// The media codec first, then its RTX codec if there is one.
    pub codecs: Vec<RtpCodec>,
    /// Extensions in use, with their ids (1 to 14 in one-byte form).
    pub header_extensions: Vec<RtpHeaderExtension>,
    /// One per simulcast layer, lowest first; one for everything else.
    pub encodings: Vec<RtpEncoding>,
    /// RTCP.
    pub rtcp: RtcpParameters,
    /// Stream and track of the sender (RFC 8830): kept for whoever asks, no packet carries it.
    pub msid: Option<String>,
}

/// One codec.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RtpCodec {
    /// `video/VP8`, `audio/opus`, `video/rtx`, ... (compared without case).
    pub mime_type: String,
    /// Payload type on the wire, 0 to 127.
    pub payload_type: u8,
    /// RTP clock, Hz.
    pub clock_rate: u32,
    /// Audio channels.
    pub channels: Option<u8>,
    /// `apt` of RTX, `profile-level-id`, `usedtx`, ...: numbers and texts both as text.
    pub parameters: BTreeMap<String, String>,
    /// Feedback: (`nack`, ``), (`nack`, `pli`), (`ccm`, `fir`), (`goog-remb`, ``),
    /// (`transport-cc`, ``).
    pub rtcp_feedback: Vec<RtcpFeedback>,
}

/// One feedback mechanism.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RtcpFeedback {
    /// `nack`, `ccm`, `goog-remb`, `transport-cc`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `pli`, `fir`, or empty.
    pub parameter: String,
}

/// One header extension (RFC 8285).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RtpHeaderExtension {
    /// URI.
    pub uri: String,
    /// Id on the wire.
    pub id: u8,
}

/// One stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RtpEncoding {
    /// Fixed for consumers; may be missing for a producer that is found by RID or MID.
    pub ssrc: Option<u32>,
    /// RTP stream id (RFC 8852).
    pub rid: Option<String>,
    /// SSRC of the RTX stream.
    pub rtx_ssrc: Option<u32>,
    /// Which codec, if not the first.
    pub codec_payload_type: Option<u8>,
    /// Discontinuous transmission is expected: silence is not a fault.
    pub dtx: bool,
    /// `L1T3`, `S3T3`, ...
    pub scalability_mode: Option<String>,
    /// Upper bound, bits per second.
    pub max_bitrate: Option<u32>,
}

/// RTCP of a producer or consumer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RtcpParameters {
    /// Canonical name.
    pub cname: String,
    /// Reduced-size RTCP (RFC 5506).
    pub reduced_size: bool,
}

/// How a producer's values map to the router's (mediasoup's `RtpMapping`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RtpMapping {
    /// Payload types.
    pub codecs: Vec<CodecMapping>,
    /// Streams.
    pub encodings: Vec<EncodingMapping>,
}

/// A producer's payload type and the router's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CodecMapping {
    /// The producer's.
    pub payload_type: u8,
    /// The router's.
    pub mapped_payload_type: u8,
}

/// A producer's stream and the router's SSRC for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EncodingMapping {
    /// The producer's SSRC, if known.
    pub ssrc: Option<u32>,
    /// The producer's RID, if any.
    pub rid: Option<String>,
    /// Layers.
    pub scalability_mode: Option<String>,
    /// The router's.
    pub mapped_ssrc: u32,
}

/// `simple`, `simulcast`, `svc` (or `pipe`, consumers only).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RtpType {
    /// One stream, one layer.
    Simple,
    /// Several streams, one is chosen.
    Simulcast,
    /// One stream with spatial layers inside.
    Svc,
    /// All streams, as they came.
    Pipe,
}

/// Spatial and temporal layer, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layers {
    /// Which simulcast stream or spatial layer.
    pub spatial: u8,
    /// Highest temporal layer.
    #[serde(default)]
    pub temporal: u8,
}
