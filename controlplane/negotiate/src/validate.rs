//! Checks of what comes from outside, and its normal form: audio has channels, video has none,
//! every codec capability says its kind. The types have been read already (`ironcast-api`); here
//! are the rules between fields, and limits on everything that can be long.

use std::collections::BTreeSet;

use ironcast_api::{
    CodecParameters, MediaKind, RtcpFeedback, RtpCapabilities, RtpCodecCapability,
    RtpCodecParameters, RtpEncodingParameters, RtpHeaderExtensionParameters, RtpParameters,
};

use crate::codecs::{apt, is_media, is_rtx};
use crate::error::{Fault, NegotiateError, Unsupported};
use crate::h264::{PROFILE_LEVEL_ID, ProfileLevelId};

/// Chromium lists about 60 codecs.
const CODECS_MAX: usize = 256;
/// Ids end at 255, and audio and video may each list them.
const EXTENSIONS_MAX: usize = 512;
/// Simulcast has three, some applications four.
const ENCODINGS_MAX: usize = 8;
/// `a=fmtp` parameters of a codec.
const PARAMETERS_MAX: usize = 64;
/// Feedback mechanisms of a codec.
const FEEDBACK_MAX: usize = 32;
/// Name or value of a parameter; `sprop-parameter-sets` is the long one.
const PARAMETER_CHARACTERS_MAX: usize = 1024;
/// MIME type.
const MIME_TYPE_CHARACTERS_MAX: usize = 64;
/// SDES items (CNAME) have a length of one byte (RFC 3550 section 6.5), and URIs need no more.
const TEXT_CHARACTERS_MAX: usize = 255;
/// Elements of one-byte header extensions hold 16 bytes (RFC 8285 section 4.2).
const EXTENSION_BYTES_MAX: usize = 16;

/// Largest RTP parameters, in bytes of compact JSON: each consumer carries what its producer says,
/// and each receives a copy. Browsers take 1 to 4 KiB.
pub const RTP_PARAMETERS_BYTES_MAX: usize = 16 << 10;

/// Capabilities that were checked and are in normal form: what they are good for is asked for each
/// consumer, whether they are right only once.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidRtpCapabilities(RtpCapabilities);

impl ValidRtpCapabilities {
    /// Checks them. Pointers of errors are relative to `caps`.
    pub fn new(mut caps: RtpCapabilities) -> Result<Self, NegotiateError> {
        validate_and_normalize_rtp_capabilities(&mut caps)?;
        Ok(Self(caps))
    }

    /// As they are now.
    pub fn get(&self) -> &RtpCapabilities {
        &self.0
    }
}

/// Checks capabilities of a router or device and brings them into normal form.
pub fn validate_and_normalize_rtp_capabilities(
    caps: &mut RtpCapabilities,
) -> Result<(), NegotiateError> {
    check_count(caps.codecs.len(), CODECS_MAX, "/codecs")?;
    check_count(caps.header_extensions.len(), EXTENSIONS_MAX, "/headerExtensions")?;
    for (index, codec) in caps.codecs.iter_mut().enumerate() {
        validate_and_normalize_codec_capability(codec, &format!("/codecs/{index}"))?;
    }
    for (index, extension) in caps.header_extensions.iter().enumerate() {
        let at = format!("/headerExtensions/{index}");
        check_extension(&extension.uri, extension.preferred_id, &at, "preferredId")?;
    }
    Ok(())
}

/// Checks one codec of capabilities; also used for the codecs that a router is made with.
pub(crate) fn validate_and_normalize_codec_capability(
    codec: &mut RtpCodecCapability,
    at: &str,
) -> Result<(), NegotiateError> {
    let kind = kind_of(&codec.mime_type)
        .ok_or_else(|| NegotiateError::invalid(format!("{at}/mimeType"), Fault::MimeType))?;
    if codec.kind.is_some_and(|given| given != kind) {
        return Err(NegotiateError::invalid(format!("{at}/kind"), Fault::Kind(kind)));
    }
    codec.kind = Some(kind);
    if codec.preferred_payload_type.is_some_and(|payload_type| payload_type > 127) {
        let pointer = format!("{at}/preferredPayloadType");
        return Err(NegotiateError::invalid(pointer, Fault::PayloadType));
    }
    check_clock_rate(codec.clock_rate, at)?;
    normalize_channels(&mut codec.channels, kind, at)?;
    check_entries(&codec.parameters, at)?;
    check_apt(&codec.parameters, at)?;
    check_feedback(&codec.rtcp_feedback, at)
}

/// Checks parameters of a producer or consumer of one kind and brings them into normal form.
pub fn validate_and_normalize_rtp_parameters(
    kind: MediaKind,
    params: &mut RtpParameters,
) -> Result<(), NegotiateError> {
    check_count(params.codecs.len(), CODECS_MAX, "/codecs")?;
    check_count(params.header_extensions.len(), EXTENSIONS_MAX, "/headerExtensions")?;
    check_count(params.encodings.len(), ENCODINGS_MAX, "/encodings")?;
    if params.mid.as_deref().is_some_and(|mid| !is_token(mid)) {
        return Err(NegotiateError::invalid("/mid", Fault::Mid));
    }
    for (index, codec) in params.codecs.iter_mut().enumerate() {
        validate_and_normalize_codec(kind, codec, &format!("/codecs/{index}"))?;
    }
    check_payload_types(&params.codecs)?;
    check_extensions(&params.header_extensions)?;
    check_encodings(params)?;
    check_text(params.rtcp.cname.as_deref(), "/rtcp/cname")?;
    check_text(params.msid.as_deref(), "/msid")?;
    // Each part may be as long as it needs to be, but not all of them at once.
    let bytes = serde_json::to_vec(params).map_or(usize::MAX, |json| json.len());
    if bytes > RTP_PARAMETERS_BYTES_MAX {
        return Err(NegotiateError::invalid("", Fault::TooLarge(bytes)));
    }
    Ok(())
}

fn validate_and_normalize_codec(
    kind: MediaKind,
    codec: &mut RtpCodecParameters,
    at: &str,
) -> Result<(), NegotiateError> {
    let pointer = || format!("{at}/mimeType");
    let codec_kind = kind_of(&codec.mime_type)
        .ok_or_else(|| NegotiateError::invalid(pointer(), Fault::MimeType))?;
    if codec_kind != kind {
        return Err(NegotiateError::invalid(pointer(), Fault::Kind(kind)));
    }
    check_payload_type(codec.payload_type, &format!("{at}/payloadType"))?;
    check_clock_rate(codec.clock_rate, at)?;
    normalize_channels(&mut codec.channels, kind, at)?;
    check_parameters(&codec.parameters, &codec.mime_type, at)?;
    check_feedback(&codec.rtcp_feedback, at)
}

/// A payload type that can stand beside RTCP on one port.
pub(crate) fn check_payload_type(payload_type: u8, at: &str) -> Result<(), NegotiateError> {
    match payload_type {
        64..=95 => Err(NegotiateError::invalid(at, Fault::PayloadTypeOfRtcp)),
        0..=127 => Ok(()),
        _ => Err(NegotiateError::invalid(at, Fault::PayloadType)),
    }
}

/// Payload types are unique, and every RTX codec belongs to a media codec.
fn check_payload_types(codecs: &[RtpCodecParameters]) -> Result<(), NegotiateError> {
    let mut seen = BTreeSet::new();
    for (index, codec) in codecs.iter().enumerate() {
        if !seen.insert(codec.payload_type) {
            let pointer = format!("/codecs/{index}/payloadType");
            let fault = Fault::DuplicatedPayloadType(codec.payload_type);
            return Err(NegotiateError::invalid(pointer, fault));
        }
        if !is_rtx(&codec.mime_type) {
            continue;
        }
        let pointer = || format!("/codecs/{index}/parameters/apt");
        let apt = apt(&codec.parameters)
            .ok_or_else(|| NegotiateError::invalid(pointer(), Fault::MissingApt))?;
        if !is_media_payload_type(codecs, apt) {
            return Err(NegotiateError::invalid(pointer(), Fault::Apt(apt)));
        }
    }
    if !codecs.iter().any(|codec| is_media(&codec.mime_type)) {
        return Err(NegotiateError::invalid("/codecs", Fault::NoMediaCodec));
    }
    Ok(())
}

fn is_media_payload_type(codecs: &[RtpCodecParameters], payload_type: u64) -> bool {
    codecs
        .iter()
        .any(|codec| u64::from(codec.payload_type) == payload_type && is_media(&codec.mime_type))
}

fn check_extensions(extensions: &[RtpHeaderExtensionParameters]) -> Result<(), NegotiateError> {
    let (mut seen, mut uris) = (BTreeSet::new(), BTreeSet::new());
    for (index, extension) in extensions.iter().enumerate() {
        let at = format!("/headerExtensions/{index}");
        check_extension(&extension.uri, extension.id, &at, "id")?;
        check_entries(&extension.parameters, &at)?;
        if extension.encrypt {
            let pointer = format!("{at}/encrypt");
            return Err(NegotiateError::unsupported(pointer, Unsupported::EncryptedExtension));
        }
        if !seen.insert(extension.id) {
            let fault = Fault::DuplicatedExtensionId(extension.id);
            return Err(NegotiateError::invalid(format!("{at}/id"), fault));
        }
        if !uris.insert(&extension.uri) {
            let fault = Fault::DuplicatedExtensionUri(extension.uri.clone());
            return Err(NegotiateError::invalid(format!("{at}/uri"), fault));
        }
    }
    Ok(())
}

fn check_extension(uri: &str, id: u8, at: &str, id_field: &str) -> Result<(), NegotiateError> {
    if uri.is_empty() || uri.len() > TEXT_CHARACTERS_MAX {
        return Err(NegotiateError::invalid(format!("{at}/uri"), Fault::ExtensionUri));
    }
    if id == 0 {
        return Err(NegotiateError::invalid(format!("{at}/{id_field}"), Fault::ExtensionId));
    }
    Ok(())
}

/// Streams can be told apart, and name codecs that are there.
fn check_encodings(params: &RtpParameters) -> Result<(), NegotiateError> {
    let mut ssrcs = BTreeSet::new();
    let mut rids = BTreeSet::new();
    for (index, encoding) in params.encodings.iter().enumerate() {
        let at = format!("/encodings/{index}");
        for (ssrc, field) in
            [(encoding.ssrc, "ssrc"), (encoding.rtx.map(|rtx| rtx.ssrc), "rtx/ssrc")]
        {
            if let Some(ssrc) = ssrc
                && !ssrcs.insert(ssrc)
            {
                let fault = Fault::DuplicatedSsrc(ssrc);
                return Err(NegotiateError::invalid(format!("{at}/{field}"), fault));
            }
        }
        if let Some(rid) = &encoding.rid {
            if !is_rid(rid) {
                return Err(NegotiateError::invalid(format!("{at}/rid"), Fault::Rid));
            }
            if !rids.insert(rid) {
                let fault = Fault::DuplicatedRid(rid.clone());
                return Err(NegotiateError::invalid(format!("{at}/rid"), fault));
            }
        }
        check_encoding(params, encoding, &at)?;
    }
    Ok(())
}

fn check_encoding(
    params: &RtpParameters,
    encoding: &RtpEncodingParameters,
    at: &str,
) -> Result<(), NegotiateError> {
    let found_by_mid = params.mid.is_some() && params.encodings.len() == 1;
    if encoding.ssrc.is_none() && encoding.rid.is_none() && !found_by_mid {
        return Err(NegotiateError::invalid(at, Fault::UnidentifiedEncoding));
    }
    if let Some(payload_type) = encoding.codec_payload_type
        && !is_media_payload_type(&params.codecs, payload_type.into())
    {
        let fault = Fault::CodecPayloadType(payload_type);
        return Err(NegotiateError::invalid(format!("{at}/codecPayloadType"), fault));
    }
    check_text(encoding.scalability_mode.as_deref(), &format!("{at}/scalabilityMode"))
}

/// The kind that a MIME type says.
fn kind_of(mime_type: &str) -> Option<MediaKind> {
    let (kind, name) = mime_type.split_once('/')?;
    if name.is_empty() || mime_type.len() > MIME_TYPE_CHARACTERS_MAX {
        None
    } else if kind.eq_ignore_ascii_case("audio") {
        Some(MediaKind::Audio)
    } else if kind.eq_ignore_ascii_case("video") {
        Some(MediaKind::Video)
    } else {
        None
    }
}

fn check_clock_rate(clock_rate: u32, at: &str) -> Result<(), NegotiateError> {
    if clock_rate == 0 {
        return Err(NegotiateError::invalid(format!("{at}/clockRate"), Fault::ClockRate));
    }
    Ok(())
}

fn normalize_channels(
    channels: &mut Option<u8>,
    kind: MediaKind,
    at: &str,
) -> Result<(), NegotiateError> {
    match (kind, *channels) {
        (MediaKind::Audio, None) => *channels = Some(1),
        (MediaKind::Audio, Some(0)) => {
            return Err(NegotiateError::invalid(format!("{at}/channels"), Fault::Channels));
        }
        (MediaKind::Audio, Some(_)) => {}
        (MediaKind::Video, _) => *channels = None,
    }
    Ok(())
}

fn check_parameters(
    parameters: &CodecParameters,
    mime_type: &str,
    at: &str,
) -> Result<(), NegotiateError> {
    check_entries(parameters, at)?;
    check_apt(parameters, at)?;
    if mime_type.eq_ignore_ascii_case("video/h264") && ProfileLevelId::of(parameters).is_none() {
        // Chromium and others list profiles that nobody else knows: they never match, that is all.
        // An id that is none at all is a mistake of the caller.
        let text = parameters.get(PROFILE_LEVEL_ID).map(ToString::to_string).unwrap_or_default();
        if text.len() != 6 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            let pointer = format!("{at}/parameters/{PROFILE_LEVEL_ID}");
            return Err(NegotiateError::invalid(pointer, Fault::ProfileLevelId));
        }
    }
    Ok(())
}

fn check_apt(parameters: &CodecParameters, at: &str) -> Result<(), NegotiateError> {
    if parameters.contains_key("apt") && apt(parameters).is_none() {
        return Err(NegotiateError::invalid(format!("{at}/parameters/apt"), Fault::MissingApt));
    }
    Ok(())
}

fn check_entries(parameters: &CodecParameters, at: &str) -> Result<(), NegotiateError> {
    check_count(parameters.len(), PARAMETERS_MAX, &format!("{at}/parameters"))?;
    let too_long = parameters.iter().any(|(name, value)| {
        name.len() > PARAMETER_CHARACTERS_MAX
            || value.as_str().is_some_and(|text| text.len() > PARAMETER_CHARACTERS_MAX)
    });
    if too_long {
        let fault = Fault::TooLong(PARAMETER_CHARACTERS_MAX);
        return Err(NegotiateError::invalid(format!("{at}/parameters"), fault));
    }
    Ok(())
}

fn check_feedback(feedback: &[RtcpFeedback], at: &str) -> Result<(), NegotiateError> {
    check_count(feedback.len(), FEEDBACK_MAX, &format!("{at}/rtcpFeedback"))?;
    for (index, feedback) in feedback.iter().enumerate() {
        let at = format!("{at}/rtcpFeedback/{index}");
        if feedback.kind.is_empty() {
            return Err(NegotiateError::invalid(format!("{at}/type"), Fault::FeedbackType));
        }
        check_text(Some(&feedback.kind), &format!("{at}/type"))?;
        check_text(Some(&feedback.parameter), &format!("{at}/parameter"))?;
    }
    Ok(())
}

fn check_text(text: Option<&str>, at: &str) -> Result<(), NegotiateError> {
    if text.is_some_and(|text| text.len() > TEXT_CHARACTERS_MAX) {
        return Err(NegotiateError::invalid(at, Fault::TooLong(TEXT_CHARACTERS_MAX)));
    }
    Ok(())
}

fn check_count(count: usize, count_max: usize, at: &str) -> Result<(), NegotiateError> {
    if count > count_max {
        return Err(NegotiateError::invalid(at, Fault::TooMany(count_max)));
    }
    Ok(())
}

/// `token` of SDP (RFC 8866 section 9), which MIDs are.
pub(crate) fn is_token(text: &str) -> bool {
    (1..=EXTENSION_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`{|}~".contains(&b))
}

/// RFC 8852 section 3.3 allows letters and digits; Chromium also takes `_` and `-`.
fn is_rid(text: &str) -> bool {
    (1..=EXTENSION_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}
