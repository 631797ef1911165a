//! What a producer sends, in the router's terms: payload types and SSRCs mapped to the router's, so
//! that consumers can be made of it without looking at the producer again.

use ironcast_api::{
    MediaKind, ProducerType, RtcpParameters, RtpCapabilities, RtpCodecCapability,
    RtpCodecParameters, RtpEncodingParameters, RtpHeaderExtensionDirection,
    RtpHeaderExtensionParameters, RtpParameters,
};

use crate::codecs::{apt, is_media, is_opus, is_red, is_rtx, match_codecs, red_parameters};
use crate::error::{Fault, NegotiateError, Unsupported};
use crate::h264::PROFILE_LEVEL_ID;
use crate::scalability::parse_scalability_mode;
use crate::supported::uri;
use crate::validate::validate_and_normalize_rtp_parameters;

/// How a producer's values map to the router's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RtpMapping {
    /// Payload types.
    pub codecs: Vec<CodecMapping>,
    /// Streams, in the order of the producer's encodings.
    pub encodings: Vec<EncodingMapping>,
}

/// A producer's payload type and the router's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodecMapping {
    /// The producer's.
    pub payload_type: u8,
    /// The router's.
    pub mapped_payload_type: u8,
}

/// A producer's stream and the router's SSRC for it.
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// All that is to know about a new producer.
#[derive(Debug, Clone, PartialEq)]
pub struct NegotiatedProducer {
    /// What it sends, in normal form, with an encoding and a CNAME.
    pub rtp_parameters: RtpParameters,
    /// To the router's values.
    pub rtp_mapping: RtpMapping,
    /// What its consumers are made from.
    pub consumable_rtp_parameters: RtpParameters,
    /// How it sends.
    pub producer_type: ProducerType,
}

/// Everything for a new producer in one call: checks its parameters, brings them into normal form
/// and negotiates them.
///
/// `mapped_ssrc` is the router's SSRC of the first encoding, the others follow it: the caller
/// chooses it so that they are unique on the router. `cname` stands in where the client gave none:
/// producers of one transport share one. Pointers of errors are relative to `params`.
pub fn negotiate_producer(
    kind: MediaKind,
    mut params: RtpParameters,
    caps: &RtpCapabilities,
    mapped_ssrc: u32,
    cname: &str,
) -> Result<NegotiatedProducer, NegotiateError> {
    if params.encodings.is_empty() {
        if params.mid.is_none() {
            return Err(NegotiateError::invalid("/encodings", Fault::UnidentifiedEncoding));
        }
        params.encodings.push(RtpEncodingParameters::default());
    }
    validate_and_normalize_rtp_parameters(kind, &mut params)?;
    if params.rtcp.cname.as_deref().is_none_or(str::is_empty) {
        params.rtcp.cname = Some(cname.to_owned());
    }
    let producer_type = derive_producer_type(&params)?;
    let rtp_mapping = get_producer_rtp_parameters_mapping(&mut params, caps, mapped_ssrc)?;
    let consumable_rtp_parameters =
        get_consumable_rtp_parameters(kind, &params, caps, &rtp_mapping);
    Ok(NegotiatedProducer {
        rtp_parameters: params,
        rtp_mapping,
        consumable_rtp_parameters,
        producer_type,
    })
}

/// How a producer sends, by its encodings and the layers in them; `unsupported` for what this
/// version cannot take apart: simulcast of codecs other than VP8 and H264, and spatial or temporal
/// layers of others within one stream. The parameters have been validated.
pub fn derive_producer_type(params: &RtpParameters) -> Result<ProducerType, NegotiateError> {
    let mut codec_of_all: Option<u8> = None;
    for (index, encoding) in params.encodings.iter().enumerate() {
        let codec = codec_of(params, encoding)
            .ok_or_else(|| NegotiateError::invalid("/codecs", Fault::NoMediaCodec))?;
        if *codec_of_all.get_or_insert(codec.payload_type) != codec.payload_type {
            let pointer = format!("/encodings/{index}/codecPayloadType");
            return Err(NegotiateError::unsupported(pointer, Unsupported::MixedCodecs));
        }
        let unsupported_mode = || {
            let what = Unsupported::ScalabilityMode {
                mode: encoding.scalability_mode.clone().unwrap_or_default(),
                codec: codec.mime_type.clone(),
            };
            let pointer = format!("/encodings/{index}/scalabilityMode");
            Err(NegotiateError::unsupported(pointer, what))
        };
        let mode = parse_scalability_mode(encoding.scalability_mode.as_deref().unwrap_or(""));
        if !has_simulcast(codec) {
            if params.encodings.len() > 1 {
                let what = Unsupported::Simulcast(codec.mime_type.clone());
                return Err(NegotiateError::unsupported("/encodings", what));
            }
            if mode.spatial_layers > 1 || mode.temporal_layers > 1 {
                return unsupported_mode();
            }
        } else if mode.spatial_layers > 1 {
            return unsupported_mode();
        }
    }
    // One stream with temporal layers is simulcast of one: consumers choose a layer of it.
    let has_temporal_layers = params.encodings.iter().any(|encoding| {
        let mode = encoding.scalability_mode.as_deref().unwrap_or("");
        parse_scalability_mode(mode).temporal_layers > 1
    });
    if params.encodings.len() > 1 || has_temporal_layers {
        Ok(ProducerType::Simulcast)
    } else {
        Ok(ProducerType::Simple)
    }
}

fn has_simulcast(codec: &RtpCodecParameters) -> bool {
    ["video/vp8", "video/h264"].iter().any(|name| codec.mime_type.eq_ignore_ascii_case(name))
}

/// The media codec of an encoding: the one it names, else the first.
fn codec_of<'a>(
    params: &'a RtpParameters,
    encoding: &RtpEncodingParameters,
) -> Option<&'a RtpCodecParameters> {
    params.codecs.iter().filter(|codec| is_media(&codec.mime_type)).find(|codec| {
        encoding.codec_payload_type.is_none_or(|payload_type| payload_type == codec.payload_type)
    })
}

/// Maps payload types and SSRCs of a producer to the router's. `params` has been validated; its
/// H264 codecs get the level that both sides keep to.
pub fn get_producer_rtp_parameters_mapping(
    params: &mut RtpParameters,
    caps: &RtpCapabilities,
    mapped_ssrc: u32,
) -> Result<RtpMapping, NegotiateError> {
    let mut codecs: Vec<CodecMapping> = Vec::new();
    for (index, codec) in params.codecs.iter_mut().enumerate() {
        if is_rtx(&codec.mime_type) {
            continue;
        }
        let mapped_payload_type = map_media_codec(codec, caps).ok_or_else(|| {
            let what = Unsupported::Codec(codec.mime_type.clone());
            NegotiateError::unsupported(format!("/codecs/{index}"), what)
        })?;
        codecs.push(CodecMapping { payload_type: codec.payload_type, mapped_payload_type });
    }
    for (index, codec) in params.codecs.iter().enumerate() {
        if !is_rtx(&codec.mime_type) {
            continue;
        }
        let pointer = || format!("/codecs/{index}/parameters/apt");
        let apt = apt(&codec.parameters)
            .ok_or_else(|| NegotiateError::invalid(pointer(), Fault::MissingApt))?;
        let media = codecs
            .iter()
            .find(|mapping| u64::from(mapping.payload_type) == apt)
            .ok_or_else(|| NegotiateError::invalid(pointer(), Fault::Apt(apt)))?;
        let mapped_payload_type = rtx_of(caps, media.mapped_payload_type)
            .and_then(|rtx| rtx.preferred_payload_type)
            .ok_or_else(|| {
                NegotiateError::unsupported(format!("/codecs/{index}"), Unsupported::Rtx)
            })?;
        codecs.push(CodecMapping { payload_type: codec.payload_type, mapped_payload_type });
    }
    let encodings = (0..)
        .zip(&params.encodings)
        .map(|(index, encoding)| EncodingMapping {
            ssrc: encoding.ssrc,
            rid: encoding.rid.clone(),
            scalability_mode: encoding.scalability_mode.clone(),
            mapped_ssrc: mapped_ssrc.wrapping_add(index),
        })
        .collect();
    Ok(RtpMapping { codecs, encodings })
}

/// Finds the router's codec for a producer's.
fn map_media_codec(codec: &mut RtpCodecParameters, caps: &RtpCapabilities) -> Option<u8> {
    let (cap, matched) = caps
        .codecs
        .iter()
        .filter(|cap| !is_rtx(&cap.mime_type))
        .find_map(|cap| match_codecs(&*codec, cap).map(|matched| (cap, matched)))?;
    if codec.mime_type.eq_ignore_ascii_case("video/h264") {
        match matched.profile_level_id {
            Some(id) => codec.parameters.insert(PROFILE_LEVEL_ID.to_owned(), id.as_str().into()),
            None => codec.parameters.remove(PROFILE_LEVEL_ID),
        };
    }
    cap.preferred_payload_type
}

/// The RTX codec of a router's media codec.
fn rtx_of(caps: &RtpCapabilities, payload_type: u8) -> Option<&RtpCodecCapability> {
    caps.codecs.iter().find(|codec| {
        is_rtx(&codec.mime_type) && apt(&codec.parameters) == Some(payload_type.into())
    })
}

/// What consumers are made from: the router's payload types, feedback and extensions, the
/// producer's codec parameters, and its streams under their mapped SSRCs.
pub fn get_consumable_rtp_parameters(
    kind: MediaKind,
    params: &RtpParameters,
    caps: &RtpCapabilities,
    mapping: &RtpMapping,
) -> RtpParameters {
    let encodings = params
        .encodings
        .iter()
        .zip(&mapping.encodings)
        .map(|(encoding, mapped)| RtpEncodingParameters {
            ssrc: Some(mapped.mapped_ssrc),
            rid: None,
            rtx: None,
            codec_payload_type: None,
            ..encoding.clone()
        })
        .collect();
    RtpParameters {
        mid: None,
        codecs: consumable_codecs(params, caps, mapping),
        header_extensions: consumable_extensions(kind, params, caps),
        encodings,
        rtcp: RtcpParameters { cname: params.rtcp.cname.clone(), reduced_size: true },
        msid: params.msid.clone(),
    }
}

fn consumable_codecs(
    params: &RtpParameters,
    caps: &RtpCapabilities,
    mapping: &RtpMapping,
) -> Vec<RtpCodecParameters> {
    let mut codecs: Vec<RtpCodecParameters> = Vec::new();
    for codec in params.codecs.iter().filter(|codec| is_media(&codec.mime_type)) {
        let mapped = mapping.codecs.iter().find(|entry| entry.payload_type == codec.payload_type);
        let Some(payload_type) = mapped.map(|entry| entry.mapped_payload_type) else {
            continue;
        };
        let cap = caps.codecs.iter().find(|cap| cap.preferred_payload_type == Some(payload_type));
        // A producer may list one codec twice under different payload types.
        let is_there = codecs.iter().any(|other| other.payload_type == payload_type);
        let (Some(cap), false) = (cap, is_there) else {
            continue;
        };
        codecs.push(RtpCodecParameters {
            mime_type: cap.mime_type.clone(),
            payload_type,
            clock_rate: cap.clock_rate,
            channels: cap.channels,
            parameters: codec.parameters.clone(),
            rtcp_feedback: cap.rtcp_feedback.clone(),
        });
        if let Some(rtx) = rtx_of(caps, payload_type)
            && let Some(rtx_payload_type) = rtx.preferred_payload_type
        {
            codecs.push(RtpCodecParameters {
                mime_type: rtx.mime_type.clone(),
                payload_type: rtx_payload_type,
                clock_rate: rtx.clock_rate,
                channels: None,
                parameters: rtx.parameters.clone(),
                rtcp_feedback: rtx.rtcp_feedback.clone(),
            });
        }
    }
    codecs.extend(red_of(&codecs, caps));
    codecs
}

/// RED where the router has it, whether the producer sends it or not: the server adds it for who
/// takes it, and takes it off for who does not.
fn red_of(codecs: &[RtpCodecParameters], caps: &RtpCapabilities) -> Option<RtpCodecParameters> {
    let opus = codecs.iter().find(|codec| is_opus(*codec))?;
    let red = caps.codecs.iter().find(|cap| is_red(&cap.mime_type))?;
    Some(RtpCodecParameters {
        mime_type: red.mime_type.clone(),
        payload_type: red.preferred_payload_type?,
        clock_rate: red.clock_rate,
        channels: red.channels,
        parameters: red_parameters(opus.payload_type),
        rtcp_feedback: red.rtcp_feedback.clone(),
    })
}

/// The extensions that we send.
fn consumable_extensions(
    kind: MediaKind,
    params: &RtpParameters,
    caps: &RtpCapabilities,
) -> Vec<RtpHeaderExtensionParameters> {
    use RtpHeaderExtensionDirection::{Sendonly, Sendrecv};
    // Capture times are passed on as they come: without the producer's there are none.
    let has_capture_time =
        params.header_extensions.iter().any(|extension| extension.uri == uri::ABS_CAPTURE_TIME);
    caps.header_extensions
        .iter()
        .filter(|cap| cap.kind == kind && matches!(cap.direction, Sendrecv | Sendonly))
        .filter(|cap| cap.uri != uri::ABS_CAPTURE_TIME || has_capture_time)
        .map(|cap| RtpHeaderExtensionParameters {
            uri: cap.uri.clone(),
            id: cap.preferred_id,
            encrypt: cap.preferred_encrypt,
            parameters: Default::default(),
        })
        .collect()
}
