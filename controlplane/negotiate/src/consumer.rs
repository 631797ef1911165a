//! What a consumer gets of a producer: the consumable parameters, cut down to what the receiver can
//! do, as one stream (or, between routers, as all of them).

use ironcast_api::{
    ConsumerLayers, ConsumerType, MediaKind, ProducerType, RtcpFeedback, RtpCapabilities,
    RtpCodecParameters, RtpEncodingParameters, RtpHeaderExtensionParameters, RtpParameters,
    RtxEncoding,
};

use crate::codecs::{apt, is_media, is_opus, is_red, is_rtx, match_codecs};
use crate::error::{Fault, NegotiateError, Unsupported};
use crate::scalability::parse_scalability_mode;
use crate::supported::{supported_rtp_capabilities, uri};
use crate::validate::{ValidRtpCapabilities, is_token};

/// What the caller chooses for a consumer, unique on its transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerIdentity {
    /// Media identification, at most 16 bytes.
    pub mid: Option<String>,
    /// SSRC of the stream. Not 1234: mediasoup-client keeps that for a probing stream of its own.
    pub ssrc: u32,
    /// SSRC of its RTX stream, used if there is RTX.
    pub rtx_ssrc: u32,
}

/// SSRCs of a consumer that gets all streams: those of the first, the others follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PipeIdentity {
    /// SSRC of the first stream.
    pub ssrc: u32,
    /// SSRC of its RTX stream, used if there is RTX.
    pub rtx_ssrc: u32,
}

/// What [`get_consumer_rtp_parameters`] works on.
#[derive(Debug, Clone, Copy)]
pub struct ConsumerOptions<'a> {
    /// What the producer sends, in the router's terms.
    pub consumable_rtp_parameters: &'a RtpParameters,
    /// What the receiver can do.
    pub remote_rtp_capabilities: &'a ValidRtpCapabilities,
    /// All streams as they come instead of one.
    pub pipe: bool,
    /// Whether lost packets are asked for and sent again: [`default_enable_rtx`] unless the caller
    /// says otherwise.
    pub enable_rtx: bool,
}

/// Retransmissions are for video: lost audio is concealed before it could arrive.
pub fn default_enable_rtx(kind: MediaKind) -> bool {
    kind == MediaKind::Video
}

/// Whether a receiver with these capabilities can decode what the producer sends. Pointers of
/// errors are relative to `caps`.
pub fn can_consume(
    consumable: &RtpParameters,
    caps: &RtpCapabilities,
) -> Result<bool, NegotiateError> {
    let caps = ValidRtpCapabilities::new(caps.clone())?;
    let first = consumable.codecs.iter().find(|codec| is_decodable(codec, caps.get()));
    Ok(first.is_some_and(|codec| is_media(&codec.mime_type)))
}

fn is_decodable(codec: &RtpCodecParameters, caps: &RtpCapabilities) -> bool {
    caps.codecs.iter().any(|cap| match_codecs(cap, codec).is_some())
}

/// What a consumer receives. Fails with `unsupported` where [`can_consume`] is false. Pointers of
/// errors are relative to the capabilities, except `/mid`, which is the caller's.
pub fn get_consumer_rtp_parameters(
    options: &ConsumerOptions<'_>,
    identity: &ConsumerIdentity,
) -> Result<RtpParameters, NegotiateError> {
    if identity.mid.as_deref().is_some_and(|mid| !is_token(mid)) {
        return Err(NegotiateError::invalid("/mid", Fault::Mid));
    }
    let consumable = options.consumable_rtp_parameters;
    let caps = options.remote_rtp_capabilities.get();
    let mut codecs = consumer_codecs(consumable, caps, options.enable_rtx);
    if codecs.is_empty() {
        return Err(NegotiateError::unsupported("/codecs", Unsupported::NoCompatibleCodec));
    }
    let header_extensions: Vec<_> = consumable
        .header_extensions
        .iter()
        .filter(|ext| {
            let is_same = |cap: &ironcast_api::RtpHeaderExtension| {
                cap.preferred_id == ext.id && cap.uri == ext.uri
            };
            caps.header_extensions.iter().any(is_same)
        })
        .cloned()
        .collect();
    reduce_bandwidth_feedback(&mut codecs, &header_extensions);
    let has_rtx = codecs.iter().any(|codec| is_rtx(&codec.mime_type));
    let encodings = if options.pipe {
        let first = PipeIdentity { ssrc: identity.ssrc, rtx_ssrc: identity.rtx_ssrc };
        all_encodings(consumable, first, has_rtx)
    } else {
        vec![single_encoding(consumable, identity, has_rtx)]
    };
    Ok(RtpParameters {
        mid: identity.mid.clone(),
        codecs,
        header_extensions,
        encodings,
        rtcp: consumable.rtcp.clone(),
        msid: consumable.msid.clone(),
    })
}

/// The codecs that the receiver has, with the feedback that both sides know. A codec keeps its RTX
/// codec only if the receiver has RTX for that very codec, and RED comes only with Opus.
fn consumer_codecs(
    consumable: &RtpParameters,
    caps: &RtpCapabilities,
    enable_rtx: bool,
) -> Vec<RtpCodecParameters> {
    let mut codecs: Vec<RtpCodecParameters> = Vec::new();
    let mut repaired: Vec<u64> = Vec::new();
    for codec in &consumable.codecs {
        if is_rtx(&codec.mime_type) {
            if apt(&codec.parameters).is_some_and(|apt| repaired.contains(&apt)) {
                codecs.push(RtpCodecParameters { rtcp_feedback: Vec::new(), ..codec.clone() });
            }
            continue;
        }
        let cap = caps.codecs.iter().find(|cap| match_codecs(*cap, codec).is_some());
        let Some(cap) = cap else { continue };
        if is_red(&codec.mime_type) && !codecs.iter().any(is_opus) {
            continue;
        }
        if enable_rtx && has_rtx(caps, cap.preferred_payload_type) {
            repaired.push(codec.payload_type.into());
        }
        let is_shared = |feedback: &&RtcpFeedback| {
            let is_nack = feedback.kind == "nack" && feedback.parameter.is_empty();
            codec.rtcp_feedback.contains(feedback) && (enable_rtx || !is_nack)
        };
        codecs.push(RtpCodecParameters {
            rtcp_feedback: cap.rtcp_feedback.iter().filter(is_shared).cloned().collect(),
            ..codec.clone()
        });
    }
    codecs
}

/// Whether capabilities have RTX for a payload type, or for none in particular.
fn has_rtx(caps: &RtpCapabilities, payload_type: Option<u8>) -> bool {
    caps.codecs.iter().filter(|cap| is_rtx(&cap.mime_type)).any(|rtx| {
        match (apt(&rtx.parameters), payload_type) {
            (Some(apt), Some(payload_type)) => apt == u64::from(payload_type),
            _ => true,
        }
    })
}

/// One kind of bandwidth feedback: transport-wide if its extension is there, else REMB if the
/// extension that it is made from is there, else none.
fn reduce_bandwidth_feedback(
    codecs: &mut [RtpCodecParameters],
    extensions: &[RtpHeaderExtensionParameters],
) {
    let has = |uri: &str| extensions.iter().any(|extension| extension.uri == uri);
    let unwanted: &[&str] = if has(uri::TRANSPORT_WIDE_CC) {
        &["goog-remb"]
    } else if has(uri::ABS_SEND_TIME) {
        &["transport-cc"]
    } else {
        &["goog-remb", "transport-cc"]
    };
    for codec in codecs {
        codec.rtcp_feedback.retain(|feedback| !unwanted.contains(&feedback.kind.as_str()));
    }
}

/// One stream that stands for all of the producer's: it has as many spatial layers as there are
/// streams, and the highest of their bit rates.
fn single_encoding(
    consumable: &RtpParameters,
    identity: &ConsumerIdentity,
    has_rtx: bool,
) -> RtpEncodingParameters {
    // Clients use the same temporal layers in all streams.
    let mode = consumable
        .encodings
        .iter()
        .filter_map(|encoding| encoding.scalability_mode.as_deref())
        .find(|mode| !mode.is_empty());
    let streams = consumable.encodings.len();
    let scalability_mode = if streams > 1 {
        let temporal_layers = parse_scalability_mode(mode.unwrap_or("")).temporal_layers;
        Some(format!("L{streams}T{temporal_layers}"))
    } else {
        mode.map(ToOwned::to_owned)
    };
    RtpEncodingParameters {
        ssrc: Some(identity.ssrc),
        rtx: has_rtx.then_some(RtxEncoding { ssrc: identity.rtx_ssrc }),
        scalability_mode,
        max_bitrate: consumable
            .encodings
            .iter()
            .filter_map(|encoding| encoding.max_bitrate)
            .max()
            .filter(|bitrate| *bitrate > 0),
        ..RtpEncodingParameters::default()
    }
}

fn all_encodings(
    consumable: &RtpParameters,
    first: PipeIdentity,
    has_rtx: bool,
) -> Vec<RtpEncodingParameters> {
    (0..)
        .zip(&consumable.encodings)
        .map(|(index, encoding)| RtpEncodingParameters {
            ssrc: Some(first.ssrc.wrapping_add(index)),
            rtx: has_rtx.then_some(RtxEncoding { ssrc: first.rtx_ssrc.wrapping_add(index) }),
            ..encoding.clone()
        })
        .collect()
}

/// What a consumer between routers receives: all codecs and streams, no bandwidth estimation, the
/// extensions that the next router needs to see.
pub fn get_pipe_consumer_rtp_parameters(
    consumable: &RtpParameters,
    enable_rtx: bool,
    first: PipeIdentity,
) -> RtpParameters {
    let is_kept = |feedback: &RtcpFeedback| {
        matches!(
            (feedback.kind.as_str(), feedback.parameter.as_str()),
            ("nack", "pli") | ("ccm", "fir")
        ) || (enable_rtx && feedback.kind == "nack" && feedback.parameter.is_empty())
    };
    let codecs: Vec<_> = consumable
        .codecs
        .iter()
        .filter(|codec| enable_rtx || !is_rtx(&codec.mime_type))
        // What was lost is asked for between routers; each adds what its own receivers take.
        .filter(|codec| !is_red(&codec.mime_type))
        .cloned()
        .map(|mut codec| {
            codec.rtcp_feedback.retain(is_kept);
            codec
        })
        .collect();
    let hop_by_hop = [uri::MID, uri::ABS_SEND_TIME, uri::TRANSPORT_WIDE_CC];
    let mut header_extensions: Vec<_> = consumable
        .header_extensions
        .iter()
        .filter(|extension| !hop_by_hop.contains(&extension.uri.as_str()))
        .cloned()
        .collect();
    header_extensions.extend(dependency_descriptor(&codecs));
    header_extensions.sort_by_key(|extension| extension.id);
    RtpParameters {
        mid: None,
        encodings: all_encodings(consumable, first, enable_rtx),
        codecs,
        header_extensions,
        rtcp: consumable.rtcp.clone(),
        msid: consumable.msid.clone(),
    }
}

/// Browsers do not get the dependency descriptor, the next router does.
fn dependency_descriptor(codecs: &[RtpCodecParameters]) -> Option<RtpHeaderExtensionParameters> {
    let is_video = codecs.iter().any(|codec| codec.channels.is_none());
    let cap = supported_rtp_capabilities()
        .header_extensions
        .into_iter()
        .find(|extension| extension.uri == uri::DEPENDENCY_DESCRIPTOR)?;
    is_video.then(|| RtpHeaderExtensionParameters {
        uri: cap.uri,
        id: cap.preferred_id,
        encrypt: false,
        parameters: Default::default(),
    })
}

/// How a consumer of such a producer receives.
pub fn derive_consumer_type(producer_type: ProducerType, pipe: bool) -> ConsumerType {
    match producer_type {
        _ if pipe => ConsumerType::Pipe,
        ProducerType::Simple => ConsumerType::Simple,
        ProducerType::Simulcast => ConsumerType::Simulcast,
        ProducerType::Svc => ConsumerType::Svc,
    }
}

/// The layers that a consumer really prefers: what is asked for, within what the producer has, and
/// the highest of what is not asked for. `None` for consumers without layers.
pub fn normalize_preferred_layers(
    consumer_type: ConsumerType,
    params: &RtpParameters,
    asked: Option<ConsumerLayers>,
) -> Option<ConsumerLayers> {
    if !matches!(consumer_type, ConsumerType::Simulcast | ConsumerType::Svc) {
        return None;
    }
    let mode = params.encodings.first().and_then(|encoding| encoding.scalability_mode.as_deref());
    let mode = parse_scalability_mode(mode.unwrap_or(""));
    let spatial_max = mode.spatial_layers.saturating_sub(1);
    let temporal_max = mode.temporal_layers.saturating_sub(1);
    let spatial_layer = asked.map_or(spatial_max, |layers| layers.spatial_layer.min(spatial_max));
    let temporal_layer = asked
        .and_then(|layers| layers.temporal_layer)
        .map_or(temporal_max, |layer| layer.min(temporal_max));
    Some(ConsumerLayers { spatial_layer, temporal_layer: Some(temporal_layer) })
}
