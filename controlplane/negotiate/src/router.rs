//! Capabilities of a router, from the codecs that it is made with.

use ironcast_api::{RtpCapabilities, RtpCodecCapability};

use crate::codecs::{is_opus, is_red, is_rtx, is_same_codec, red_parameters};
use crate::error::{Fault, NegotiateError, Unsupported};
use crate::h264::{PROFILE_LEVEL_ID, ProfileLevelId};
use crate::supported::supported_rtp_capabilities;
use crate::validate::{check_payload_type, validate_and_normalize_codec_capability};

/// Dynamic payload types in the order in which they are given away.
const DYNAMIC_PAYLOAD_TYPES: [std::ops::RangeInclusive<u8>; 2] = [100..=127, 96..=99];

/// What a router with these codecs can receive: our own capabilities, cut down to them, each with a
/// payload type (the preferred one, a static one, or a dynamic one), each video codec followed by
/// its RTX codec, and RED at the end. Pointers of errors are relative to the list: `/0/mimeType`.
pub fn generate_router_rtp_capabilities(
    media_codecs: &[RtpCodecCapability],
) -> Result<RtpCapabilities, NegotiateError> {
    let supported = supported_rtp_capabilities();
    let mut payload_types = PayloadTypes::without(media_codecs);
    let mut codecs: Vec<RtpCodecCapability> = Vec::new();
    for (index, media_codec) in media_codecs.iter().enumerate() {
        let at = format!("/{index}");
        let codec = router_codec(media_codec, &supported, &at)?;
        let payload_type = match codec.preferred_payload_type {
            Some(payload_type) => payload_type,
            None => payload_types.take(&at)?,
        };
        if codecs.iter().any(|other| other.preferred_payload_type == Some(payload_type)) {
            let pointer = format!("{at}/preferredPayloadType");
            let fault = Fault::DuplicatedPayloadType(payload_type);
            return Err(NegotiateError::invalid(pointer, fault));
        }
        let is_video = codec.kind == Some(ironcast_api::MediaKind::Video);
        let clock_rate = codec.clock_rate;
        codecs.push(RtpCodecCapability { preferred_payload_type: Some(payload_type), ..codec });
        if is_video {
            codecs.push(rtx_codec(payload_types.take(&at)?, payload_type, clock_rate));
        }
    }
    complete_red(&mut codecs, media_codecs)?;
    Ok(RtpCapabilities { codecs, header_extensions: supported.header_extensions })
}

/// RED is of the router's Opus, and stands behind all others: clients send by the first codec.
fn complete_red(
    codecs: &mut [RtpCodecCapability],
    media_codecs: &[RtpCodecCapability],
) -> Result<(), NegotiateError> {
    let Some(index) = media_codecs.iter().position(|codec| is_red(&codec.mime_type)) else {
        return Ok(());
    };
    let opus = codecs.iter().find(|codec| is_opus(*codec));
    let payload_type = opus.and_then(|opus| opus.preferred_payload_type).ok_or_else(|| {
        NegotiateError::invalid(format!("/{index}/mimeType"), Fault::RedWithoutOpus)
    })?;
    for codec in codecs.iter_mut().filter(|codec| is_red(&codec.mime_type)) {
        codec.parameters = red_parameters(payload_type);
    }
    codecs.sort_by_key(|codec| is_red(&codec.mime_type));
    Ok(())
}

/// One of our codecs with what the router's owner says about it.
fn router_codec(
    media_codec: &RtpCodecCapability,
    supported: &RtpCapabilities,
    at: &str,
) -> Result<RtpCodecCapability, NegotiateError> {
    let mut media_codec = media_codec.clone();
    validate_and_normalize_codec_capability(&mut media_codec, at)?;
    if let Some(payload_type) = media_codec.preferred_payload_type {
        check_payload_type(payload_type, &format!("{at}/preferredPayloadType"))?;
    }
    let supported_codec = supported
        .codecs
        .iter()
        .find(|codec| !is_rtx(&codec.mime_type) && is_same_codec(*codec, &media_codec))
        .ok_or_else(|| {
            let what = Unsupported::Codec(media_codec.mime_type.clone());
            NegotiateError::unsupported(format!("{at}/mimeType"), what)
        })?;
    let is_h264 = media_codec.mime_type.eq_ignore_ascii_case("video/h264");
    if is_h264 && ProfileLevelId::of(&media_codec.parameters).is_none() {
        let pointer = format!("{at}/parameters/{PROFILE_LEVEL_ID}");
        return Err(NegotiateError::invalid(pointer, Fault::ProfileLevelId));
    }
    let mut codec = supported_codec.clone();
    if media_codec.preferred_payload_type.is_some() {
        codec.preferred_payload_type = media_codec.preferred_payload_type;
    }
    codec.parameters.extend(media_codec.parameters);
    Ok(codec)
}

fn rtx_codec(payload_type: u8, media_payload_type: u8, clock_rate: u32) -> RtpCodecCapability {
    RtpCodecCapability {
        kind: Some(ironcast_api::MediaKind::Video),
        mime_type: "video/rtx".to_owned(),
        preferred_payload_type: Some(payload_type),
        clock_rate,
        channels: None,
        parameters: [("apt".to_owned(), u32::from(media_payload_type).into())].into(),
        rtcp_feedback: Vec::new(),
    }
}

/// Dynamic payload types that are left.
struct PayloadTypes(Vec<u8>);

impl PayloadTypes {
    /// All but those that codecs ask for, wherever in the list they stand.
    fn without(media_codecs: &[RtpCodecCapability]) -> Self {
        let is_free = |payload_type: &u8| {
            !media_codecs.iter().any(|codec| codec.preferred_payload_type == Some(*payload_type))
        };
        let mut free: Vec<u8> =
            DYNAMIC_PAYLOAD_TYPES.into_iter().flatten().filter(is_free).collect();
        free.reverse();
        Self(free)
    }

    fn take(&mut self, at: &str) -> Result<u8, NegotiateError> {
        self.0.pop().ok_or_else(|| NegotiateError::unsupported(at, Unsupported::PayloadTypes))
    }
}
