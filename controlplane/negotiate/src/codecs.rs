//! When two codecs are the same codec. Capabilities and parameters have different shapes, so that
//! both are looked at through [`CodecRef`].

use ironcast_api::{CodecParameters, ParameterValue, RtpCodecCapability, RtpCodecParameters};

use crate::h264::answer_profile_level_id;

/// What matching looks at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CodecRef<'a> {
    pub(crate) mime_type: &'a str,
    pub(crate) clock_rate: u32,
    pub(crate) channels: Option<u8>,
    pub(crate) parameters: &'a CodecParameters,
}

impl<'a> From<&'a RtpCodecCapability> for CodecRef<'a> {
    fn from(codec: &'a RtpCodecCapability) -> Self {
        Self {
            mime_type: &codec.mime_type,
            clock_rate: codec.clock_rate,
            channels: codec.channels,
            parameters: &codec.parameters,
        }
    }
}

impl<'a> From<&'a RtpCodecParameters> for CodecRef<'a> {
    fn from(codec: &'a RtpCodecParameters) -> Self {
        Self {
            mime_type: &codec.mime_type,
            clock_rate: codec.clock_rate,
            channels: codec.channels,
            parameters: &codec.parameters,
        }
    }
}

impl CodecRef<'_> {
    pub(crate) fn is(&self, mime_type: &str) -> bool {
        self.mime_type.eq_ignore_ascii_case(mime_type)
    }

    /// Whether profile, tier and way of transmission agree (RFC 7798 section 7.2.2, with the values that
    /// stand for missing ones). Levels may differ: each side says what it decodes.
    fn is_same_h265(&self, other: Self) -> bool {
        let profile = |codec: Self| match codec.parameters.get("profile-id") {
            Some(value) => value.as_u64(),
            None => Some(1),
        };
        let mode = |codec: Self| match codec.parameters.get("tx-mode") {
            Some(ParameterValue::Text(mode)) => mode.to_ascii_uppercase(),
            _ => "SRST".to_owned(),
        };
        profile(*self) == profile(other)
            && self.number("tier-flag") == other.number("tier-flag")
            && mode(*self) == mode(other)
    }

    fn number(&self, name: &str) -> u64 {
        self.parameters.get(name).and_then(ParameterValue::as_u64).unwrap_or(0)
    }
}

/// Whether a MIME type is RTX (RFC 4588).
pub(crate) fn is_rtx(mime_type: &str) -> bool {
    mime_type.rsplit_once('/').is_some_and(|(_, name)| name.eq_ignore_ascii_case("rtx"))
}

/// Whether a MIME type is RED (RFC 2198) of audio. That of video is another codec, and not ours.
pub(crate) fn is_red(mime_type: &str) -> bool {
    mime_type.eq_ignore_ascii_case("audio/red")
}

/// Whether a codec is media itself, not what repairs it.
pub(crate) fn is_media(mime_type: &str) -> bool {
    !is_rtx(mime_type) && !is_red(mime_type)
}

/// What RED of a router protects.
pub(crate) fn is_opus<'a>(codec: impl Into<CodecRef<'a>>) -> bool {
    let codec = codec.into();
    codec.is("audio/opus") && codec.clock_rate == 48000 && codec.channels == Some(2)
}

/// The parameters of RED around that payload type: `a=fmtp:63 111/111`, which has no name. Clients
/// that write `name=value` write `=111/111`, and browsers read that as the same.
pub(crate) fn red_parameters(payload_type: u8) -> CodecParameters {
    let levels = format!("{payload_type}/{payload_type}");
    [(String::new(), levels.as_str().into())].into()
}

/// `apt` of an RTX codec.
pub(crate) fn apt(parameters: &CodecParameters) -> Option<u64> {
    match parameters.get("apt") {
        Some(ParameterValue::Number(number)) => number.as_u64(),
        _ => None,
    }
}

/// Whether names, clocks and channels agree, and what is a different codec under the same name
/// (multiopus with other streams): enough for a router's codec to be one of ours.
pub(crate) fn is_same_codec<'a>(a: impl Into<CodecRef<'a>>, b: impl Into<CodecRef<'a>>) -> bool {
    let (a, b) = (a.into(), b.into());
    let same = a.mime_type.eq_ignore_ascii_case(b.mime_type)
        && a.clock_rate == b.clock_rate
        && a.channels == b.channels;
    if same && a.is("audio/multiopus") {
        return ["num_streams", "coupled_streams"]
            .iter()
            .all(|name| a.number(name) == b.number(name));
    }
    same
}

/// What is left to say about two codecs that match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Match {
    /// H264: the level that both sides keep to, seen from the first.
    pub(crate) profile_level_id: Option<String>,
}

/// Whether what one side sends by codec `a` is decoded by the other with `b`: [`is_same_codec`],
/// and the same profile.
pub(crate) fn match_codecs<'a>(
    a: impl Into<CodecRef<'a>>,
    b: impl Into<CodecRef<'a>>,
) -> Option<Match> {
    let (a, b) = (a.into(), b.into());
    if !is_same_codec(a, b) {
        return None;
    }
    let mut profile_level_id = None;
    if a.is("video/h264") {
        // RFC 6184 section 8.1: a missing packetization-mode is 0.
        if a.number("packetization-mode") != b.number("packetization-mode") {
            return None;
        }
        profile_level_id = answer_profile_level_id(a.parameters, b.parameters).ok()?;
    } else if a.is("video/vp9") && a.number("profile-id") != b.number("profile-id") {
        // RFC 9628 section 6: a missing profile-id is 0.
        return None;
    } else if a.is("video/h265") && !a.is_same_h265(b) {
        return None;
    } else if a.is("video/av1") && a.number("profile") != b.number("profile") {
        // RTP payload format for AV1, section 7.2: a missing profile is 0.
        return None;
    }
    Some(Match { profile_level_id })
}
