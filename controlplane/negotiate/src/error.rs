//! Why a negotiation failed: either the input is wrong (`invalid_request`) or it is right and we do
//! not have it (`unsupported`). Both name the field by a JSON pointer (RFC 6901), relative to what
//! was handed in; [`NegotiateError::into_problem`] sets it in front of the request's own field.

use ironcast_api::{ErrorCode, MediaKind, Problem};

use crate::validate::RTP_PARAMETERS_BYTES_MAX;

/// Why a negotiation failed, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NegotiateError {
    /// The input is wrong.
    #[error("{fault} (at {pointer:?})")]
    Invalid {
        /// JSON pointer to the field.
        pointer: String,
        /// What is wrong with it.
        fault: Fault,
    },
    /// The input is right, but not for us.
    #[error("{what} (at {pointer:?})")]
    Unsupported {
        /// JSON pointer to the field.
        pointer: String,
        /// What we do not have.
        what: Unsupported,
    },
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Neither `audio/...` nor `video/...`.
    #[error("mimeType begins with audio/ or video/ and is at most 64 characters")]
    MimeType,
    /// `kind` and `mimeType` contradict each other.
    #[error("the codec is not of kind {0}")]
    Kind(MediaKind),
    /// A clock of 0.
    #[error("clockRate is at least 1")]
    ClockRate,
    /// Audio without channels.
    #[error("channels is at least 1")]
    Channels,
    /// Above 127.
    #[error("a payload type is 0 to 127")]
    PayloadType,
    /// 64 to 95 on a port that RTP and RTCP share (RFC 5761 section 4).
    #[error("payload types 64 to 95 look like RTCP and cannot be used")]
    PayloadTypeOfRtcp,
    /// Two codecs with one payload type.
    #[error("payload type {0} is used twice")]
    DuplicatedPayloadType(u8),
    /// No codecs, or RTX and RED only.
    #[error("at least one media codec is needed")]
    NoMediaCodec,
    /// RED of a router that has nothing for it.
    #[error("audio/red needs audio/opus with 48000 Hz and 2 channels beside it")]
    RedWithoutOpus,
    /// RTX without `apt`.
    #[error("an RTX codec needs the parameter apt, the payload type of its media codec")]
    MissingApt,
    /// `apt` of RTX points nowhere, or to another RTX codec.
    #[error("apt {0} is not the payload type of a media codec")]
    Apt(u64),
    /// A profile-level-id that RFC 6184 does not know.
    #[error("profile-level-id is six hexadecimal digits of a known profile and level (RFC 6184)")]
    ProfileLevelId,
    /// Feedback without `type`.
    #[error("rtcpFeedback needs a type")]
    FeedbackType,
    /// Extension without `uri`.
    #[error("a header extension needs a uri of at most 255 characters")]
    ExtensionUri,
    /// Id 0 is padding (RFC 8285 section 4.2).
    #[error("a header extension's id is 1 to 255")]
    ExtensionId,
    /// Two extensions with one id.
    #[error("header extension id {0} is used twice")]
    DuplicatedExtensionId(u8),
    /// One extension with two ids.
    #[error("header extension {0:?} has two ids")]
    DuplicatedExtensionUri(String),
    /// A MID that does not fit a one-byte header extension.
    #[error("mid is 1 to 16 letters, digits or signs of !#$%&'*+-.^_`{{|}}~")]
    Mid,
    /// A RID that does not fit a one-byte header extension (RFC 8852 section 3.3).
    #[error("rid is 1 to 16 letters or digits, _ or -")]
    Rid,
    /// Two encodings with one RID.
    #[error("rid {0:?} is used twice")]
    DuplicatedRid(String),
    /// Two streams with one SSRC.
    #[error("ssrc {0} is used twice")]
    DuplicatedSsrc(u32),
    /// Nothing says which packets belong to the encoding.
    #[error("an encoding needs an ssrc or a rid; a single one may have mid instead")]
    UnidentifiedEncoding,
    /// `codecPayloadType` points nowhere, or to RTX.
    #[error("codecPayloadType {0} is not the payload type of a media codec")]
    CodecPayloadType(u8),
    /// A text longer than its place on the wire.
    #[error("at most {0} characters are possible here")]
    TooLong(usize),
    /// More than a consumer can carry.
    #[error("RTP parameters take at most {RTP_PARAMETERS_BYTES_MAX} bytes of JSON, these take {0}")]
    TooLarge(usize),
    /// A list longer than anybody needs.
    #[error("at most {0} entries are possible here")]
    TooMany(usize),
}

/// What we do not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// Not a codec of ours (routers), or not one of the router's (producers).
    #[error("codec {0} is not supported here")]
    Codec(String),
    /// More codecs than payload types.
    #[error("there are no dynamic payload types left")]
    PayloadTypes,
    /// The router's codec has no RTX.
    #[error("the router has no RTX for this codec")]
    Rtx,
    /// Nothing in common.
    #[error("the receiver has no codec that the producer sends")]
    NoCompatibleCodec,
    /// Header extensions in SRTP (RFC 6904).
    #[error("encrypted header extensions are not supported")]
    EncryptedExtension,
    /// Several streams of this codec.
    #[error("simulcast of {0} is not supported in this version, only of VP8 and H264")]
    Simulcast(String),
    /// Simulcast whose streams have different codecs.
    #[error("all encodings need the same codec in this version")]
    MixedCodecs,
    /// Layers inside one stream.
    #[error("scalabilityMode {mode} of {codec} is not supported in this version")]
    ScalabilityMode {
        /// As asked for.
        mode: String,
        /// Its codec.
        codec: String,
    },
}

impl NegotiateError {
    pub(crate) fn invalid(pointer: impl Into<String>, fault: Fault) -> Self {
        Self::Invalid { pointer: pointer.into(), fault }
    }

    pub(crate) fn unsupported(pointer: impl Into<String>, what: Unsupported) -> Self {
        Self::Unsupported { pointer: pointer.into(), what }
    }

    /// JSON pointer to the field.
    pub fn pointer(&self) -> &str {
        match self {
            Self::Invalid { pointer, .. } | Self::Unsupported { pointer, .. } => pointer,
        }
    }

    /// As the API answers it. `prefix` is the pointer to what was handed in within the request,
    /// such as `/rtpParameters`.
    pub fn into_problem(self, prefix: &str) -> Problem {
        let (code, pointer, detail) = match self {
            Self::Invalid { pointer, fault } => {
                let code = match fault {
                    Fault::TooLarge(_) => ErrorCode::TooLarge,
                    _ => ErrorCode::InvalidRequest,
                };
                (code, pointer, fault.to_string())
            }
            Self::Unsupported { pointer, what } => {
                (ErrorCode::Unsupported, pointer, what.to_string())
            }
        };
        Problem::new(code, detail).with_pointer(format!("{prefix}{pointer}"))
    }
}
