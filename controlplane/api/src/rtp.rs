//! RTP capabilities and parameters in the shape of ORTC as mediasoup 3.27 and mediasoup-client 3.24
//! use it. The control plane reads and answers them; `ironcast-negotiate` computes with them.
//! Unknown fields are ignored on purpose: browsers and clients add their own.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// Audio or video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum MediaKind {
    /// Audio.
    Audio,
    /// Video.
    Video,
}

impl MediaKind {
    /// `audio` or `video`, as in the first half of a MIME type.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Video => "video",
        }
    }
}

impl fmt::Display for MediaKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a router or a device can receive.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RtpCapabilities {
    /// Media codecs, each followed by its RTX codec if it has one.
    #[serde(default, deserialize_with = "null_as_default")]
    #[cfg_attr(feature = "openapi", salvo(schema(max_items = 256)))]
    pub codecs: Vec<RtpCodecCapability>,
    /// RTP header extensions.
    #[serde(default, deserialize_with = "null_as_default")]
    #[cfg_attr(feature = "openapi", salvo(schema(max_items = 512)))]
    pub header_extensions: Vec<RtpHeaderExtension>,
}

/// One codec that a router or device can receive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RtpCodecCapability {
    /// Audio or video. May be missing: the MIME type says it too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<MediaKind>,
    /// `audio/opus`, `video/VP8`, `video/rtx`, ... (compared without case).
    #[cfg_attr(
        feature = "openapi",
        salvo(schema(
            max_length = 64,
            pattern = "^([Aa][Uu][Dd][Ii][Oo]|[Vv][Ii][Dd][Ee][Oo])/.+$"
        ))
    )]
    pub mime_type: String,
    /// Payload type (RFC 3551) that the owner prefers. Optional in the codecs of a new router,
    /// which then choose one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", salvo(schema(maximum = 127)))]
    pub preferred_payload_type: Option<u8>,
    /// RTP clock, Hz.
    #[cfg_attr(feature = "openapi", salvo(schema(minimum = 1)))]
    pub clock_rate: u32,
    /// Audio channels; 1 if missing. Never set for video.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<u8>,
    /// Format parameters, such as `packetization-mode` or `apt`.
    #[serde(default, deserialize_with = "null_as_default")]
    pub parameters: CodecParameters,
    /// RTCP feedback.
    #[serde(default, deserialize_with = "null_as_default")]
    #[cfg_attr(feature = "openapi", salvo(schema(max_items = 32)))]
    pub rtcp_feedback: Vec<RtcpFeedback>,
}

/// Format parameters of a codec: names as in SDP's `a=fmtp`, values numbers or texts.
pub type CodecParameters = BTreeMap<String, ParameterValue>;

/// One value of [`CodecParameters`].
#[derive(Debug, Clone, PartialEq)]
pub enum ParameterValue {
    /// A number, whole in nearly every case.
    Number(serde_json::Number),
    /// A text. `null` in JSON is read as the empty text, as mediasoup does.
    Text(String),
}

impl ParameterValue {
    /// The value as a whole number, also when a client wrote it as text (`"1"`).
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Number(number) => number.as_u64(),
            Self::Text(text) => text.trim().parse().ok(),
        }
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Number(_) => None,
            Self::Text(text) => Some(text),
        }
    }
}

impl fmt::Display for ParameterValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl From<u32> for ParameterValue {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<&str> for ParameterValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl Serialize for ParameterValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => number.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for ParameterValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ValueVisitor;

        impl Visitor<'_> for ValueVisitor {
            type Value = ParameterValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or a string")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
                Ok(ParameterValue::Number(value.into()))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
                Ok(ParameterValue::Number(value.into()))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Self::Value, E> {
                serde_json::Number::from_f64(value)
                    .map(ParameterValue::Number)
                    .ok_or_else(|| E::custom("a finite number is needed"))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
                Ok(ParameterValue::Text(value.to_owned()))
            }

            fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
                Ok(ParameterValue::Text(String::new()))
            }
        }

        deserializer.deserialize_any(ValueVisitor)
    }
}

#[cfg(feature = "openapi")]
impl salvo_oapi::ToSchema for ParameterValue {
    fn to_schema(
        _components: &mut salvo_oapi::Components,
    ) -> salvo_oapi::RefOr<salvo_oapi::schema::Schema> {
        use salvo_oapi::{BasicType, Object, schema::OneOf};
        salvo_oapi::schema::Schema::OneOf(
            OneOf::new()
                .item(Object::new().schema_type(BasicType::Number))
                .item(Object::new().schema_type(BasicType::String)),
        )
        .into()
    }
}

/// One RTCP feedback mechanism (RFC 4585).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RtcpFeedback {
    /// `nack`, `ccm`, `goog-remb`, `transport-cc`.
    #[serde(rename = "type")]
    #[cfg_attr(feature = "openapi", salvo(schema(min_length = 1, max_length = 255)))]
    pub kind: String,
    /// `pli`, `fir`, or empty.
    #[serde(default, deserialize_with = "null_as_default")]
    #[cfg_attr(feature = "openapi", salvo(schema(max_length = 255)))]
    pub parameter: String,
}

impl RtcpFeedback {
    /// A mechanism by its type and parameter (empty for none).
    pub fn new(kind: &str, parameter: &str) -> Self {
        Self { kind: kind.to_owned(), parameter: parameter.to_owned() }
    }
}

/// Which way a header extension is supported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum RtpHeaderExtensionDirection {
    /// Both ways.
    #[default]
    Sendrecv,
    /// Only in what its owner sends.
    Sendonly,
    /// Only in what its owner receives.
    Recvonly,
    /// Not at all.
    Inactive,
}

/// One header extension (RFC 8285) that a router or device supports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RtpHeaderExtension {
    /// Audio or video.
    pub kind: MediaKind,
    /// Its URI.
    #[cfg_attr(feature = "openapi", salvo(schema(min_length = 1, max_length = 255)))]
    pub uri: String,
    /// The id that the owner prefers.
    #[cfg_attr(feature = "openapi", salvo(schema(minimum = 1)))]
    pub preferred_id: u8,
    /// Whether the owner prefers it encrypted (RFC 6904).
    #[serde(default, deserialize_with = "null_as_default")]
    pub preferred_encrypt: bool,
    /// Which way.
    #[serde(default, deserialize_with = "null_as_default")]
    pub direction: RtpHeaderExtensionDirection,
}

/// What is really sent: by a producer to a router, or by a router to a consumer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RtpParameters {
    /// Media identification (RFC 9143).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "openapi",
        salvo(schema(
            min_length = 1,
            max_length = 16,
            pattern = "^[A-Za-z0-9!#$%&'*+.^_`{|}~-]+$"
        ))
    )]
    pub mid: Option<String>,
    /// The media codec first, then its RTX codec if there is one.
    #[cfg_attr(feature = "openapi", salvo(schema(min_items = 1, max_items = 256)))]
    pub codecs: Vec<RtpCodecParameters>,
    /// Header extensions in use.
    #[serde(default, deserialize_with = "null_as_default")]
    #[cfg_attr(feature = "openapi", salvo(schema(max_items = 512)))]
    pub header_extensions: Vec<RtpHeaderExtensionParameters>,
    /// One per simulcast stream, lowest first; one for everything else.
    #[serde(default, deserialize_with = "null_as_default")]
    #[cfg_attr(feature = "openapi", salvo(schema(max_items = 8)))]
    pub encodings: Vec<RtpEncodingParameters>,
    /// RTCP.
    #[serde(default, deserialize_with = "null_as_default")]
    pub rtcp: RtcpParameters,
    /// `a=msid` of the stream (RFC 8830): who receives it groups tracks by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", salvo(schema(max_length = 255)))]
    pub msid: Option<String>,
}

/// One codec in use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RtpCodecParameters {
    /// `audio/opus`, `video/VP8`, `video/rtx`, ... (compared without case).
    #[cfg_attr(
        feature = "openapi",
        salvo(schema(
            max_length = 64,
            pattern = "^([Aa][Uu][Dd][Ii][Oo]|[Vv][Ii][Dd][Ee][Oo])/.+$"
        ))
    )]
    pub mime_type: String,
    /// Payload type on the wire, 0 to 127.
    #[cfg_attr(feature = "openapi", salvo(schema(maximum = 127)))]
    pub payload_type: u8,
    /// RTP clock, Hz.
    #[cfg_attr(feature = "openapi", salvo(schema(minimum = 1)))]
    pub clock_rate: u32,
    /// Audio channels; 1 if missing. Never set for video.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<u8>,
    /// Format parameters, such as `packetization-mode` or `apt`.
    #[serde(default, deserialize_with = "null_as_default")]
    pub parameters: CodecParameters,
    /// RTCP feedback.
    #[serde(default, deserialize_with = "null_as_default")]
    #[cfg_attr(feature = "openapi", salvo(schema(max_items = 32)))]
    pub rtcp_feedback: Vec<RtcpFeedback>,
}

/// One header extension in use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RtpHeaderExtensionParameters {
    /// Its URI.
    #[cfg_attr(feature = "openapi", salvo(schema(min_length = 1, max_length = 255)))]
    pub uri: String,
    /// Its id on the wire, 1 to 14 in the one-byte form.
    #[cfg_attr(feature = "openapi", salvo(schema(minimum = 1)))]
    pub id: u8,
    /// Encrypted (RFC 6904)?
    #[serde(default, deserialize_with = "null_as_default")]
    pub encrypt: bool,
    /// Its own parameters.
    #[serde(default, deserialize_with = "null_as_default")]
    pub parameters: CodecParameters,
}

/// One stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RtpEncodingParameters {
    /// SSRC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssrc: Option<u32>,
    /// RTP stream id (RFC 8852).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "openapi",
        salvo(schema(min_length = 1, max_length = 16, pattern = "^[A-Za-z0-9_-]+$"))
    )]
    pub rid: Option<String>,
    /// Which codec, if not the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codec_payload_type: Option<u8>,
    /// Its RTX stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtx: Option<RtxEncoding>,
    /// Discontinuous transmission: silence is not a fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtx: Option<bool>,
    /// `L1T3`, `S3T3`, `L3T3_KEY`, ... (W3C webrtc-svc).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", salvo(schema(max_length = 255)))]
    pub scalability_mode: Option<String>,
    /// Upper bound, bits per second.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "whole_number")]
    pub max_bitrate: Option<u32>,
}

/// The RTX stream of an encoding (RFC 4588).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RtxEncoding {
    /// Its SSRC.
    pub ssrc: u32,
}

/// RTCP of a producer or consumer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RtcpParameters {
    /// Canonical name (RFC 3550 section 6.5.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", salvo(schema(max_length = 255)))]
    pub cname: Option<String>,
    /// Reduced-size RTCP (RFC 5506).
    #[serde(default = "yes")]
    pub reduced_size: bool,
}

impl Default for RtcpParameters {
    fn default() -> Self {
        Self { cname: None, reduced_size: true }
    }
}

fn yes() -> bool {
    true
}

/// `null` is what some JSON writers make of an unset field.
pub(crate) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// JavaScript knows one kind of number: `1500000.0` and `333333.3` are bit rates there.
fn whole_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    match Option::<f64>::deserialize(deserializer)? {
        None => Ok(None),
        // A float that is too large for the integer type becomes its maximum.
        Some(value) if value >= 0.0 => Ok(Some(value.round() as u32)),
        Some(_) => Err(de::Error::custom("a bit rate cannot be negative")),
    }
}
