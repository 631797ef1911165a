//! A track as its parameters describe it: which codec, which encodings, what its peer understands.
//! Called when it is made, never for a packet.

use std::sync::Arc;

use ironcast_protocol::{
    command::Produce,
    media::{RtpEncoding, RtpParameters, RtpType},
};

use super::{Producer, Stream};
use crate::{
    MS, Nanos,
    key::{RouterKey, TransportKey},
    orientation::Orientation,
    watched::{ENCODINGS_MAX, Watched},
    wire::{
        Codec,
        extension::{ExtensionKind, ExtensionMap},
        red,
    },
};

impl Producer {
    /// A producer from its parameters, which negotiation has checked; what is still wrong with them
    /// is said in words.
    ///
    /// # Errors
    /// A sentence for the caller.
    pub fn new(
        create: &Produce,
        router: RouterKey,
        transport: TransportKey,
    ) -> Result<Self, String> {
        let parameters = &create.rtp_parameters;
        let mut codecs = parameters.codecs.iter();
        let media = codecs.find(|codec| !red::is_red(&codec.mime_type));
        let media = media.ok_or("rtpParameters.codecs has no media codec")?;
        let codec = Codec::from_mime(&media.mime_type);
        let red = parameters.codecs.iter().find(|red| {
            let is_red = codec == Codec::Opus && red::is_red(&red.mime_type);
            is_red && red.clock_rate == media.clock_rate
        });
        if media.clock_rate == 0 {
            return Err("a codec with clock rate 0".into());
        }
        if parameters.encodings.is_empty() || parameters.encodings.len() > ENCODINGS_MAX {
            return Err("rtpParameters.encodings needs one to eight entries".into());
        }
        let ids = || parameters.header_extensions.iter().map(|extension| extension.id);
        let twice = ids().enumerate().find(|(at, id)| ids().take(*at).any(|other| other == *id));
        if let Some((_, id)) = twice.or_else(|| ids().enumerate().find(|(_, id)| *id == 0)) {
            return Err(format!("rtpParameters.headerExtensions: id {id} is 0 or comes twice"));
        }
        let uris = || parameters.header_extensions.iter().map(|extension| &extension.uri);
        if let Some((_, uri)) =
            uris().enumerate().find(|(at, uri)| uris().take(*at).any(|u| u == *uri))
        {
            return Err(format!("rtpParameters.headerExtensions: {uri:?} has two ids"));
        }
        let has = |kind: &str, parameter: &str| {
            media.rtcp_feedback.iter().any(|f| f.kind == kind && f.parameter == parameter)
        };
        let rtx = parameters.codecs.iter().find(|codec| {
            let ours = codec.parameters.get("apt") == Some(&media.payload_type.to_string());
            codec.mime_type.to_ascii_lowercase().ends_with("/rtx") && ours
        });
        let nack = has("nack", "");
        let streams = parameters.encodings.iter().map(|e| Stream::new(e, nack)).collect();
        let (_, temporal_layers) = layers(&parameters.encodings);
        let rtp_type = rtp_type(&parameters.encodings);
        let cname: Arc<str> = create.rtp_parameters.rtcp.cname.as_str().into();
        let speaker =
            if cname.is_empty() { create.transport.as_str().into() } else { Arc::clone(&cname) };
        Ok(Self {
            id: create.id.clone(),
            router,
            transport,
            at_transport: 0,
            kind: create.kind,
            codec,
            mime_type: media.mime_type.clone(),
            cname,
            clock_rate: media.clock_rate,
            has_parameter_sets: ["sprop-parameter-sets", "sprop-vps"]
                .iter()
                .any(|name| media.parameters.contains_key(*name)),
            payload_type: media.payload_type,
            rtx_payload_type: rtx.map(|codec| codec.payload_type),
            red_payload_type: red.map(|codec| codec.payload_type),
            extensions: extension_map(parameters),
            rtp_type,
            temporal_layers,
            pli: has("nack", "pli"),
            fir: has("ccm", "fir"),
            remb: has("goog-remb", ""),
            transport_cc: has("transport-cc", ""),
            mid: parameters.mid.clone(),
            paused: create.paused,
            is_left_out: false,
            voice: None,
            speaker,
            streams,
            subscribers: Vec::new(),
            observed: Vec::new(),
            fresh: Vec::new(),
            fresh_base: 0,
            told: 0,
            is_stirred: false,
            key_frame_delay: Nanos::from(create.key_frame_request_delay_ms) * MS,
            watched: Watched::all(parameters.encodings.len()),
            streams_changed: false,
            orientation: Orientation::default(),
        })
    }
}

/// How a track of these encodings can be consumed.
#[must_use]
pub fn rtp_type(encodings: &[RtpEncoding]) -> RtpType {
    match (encodings.len(), layers(encodings).0) {
        (2.., _) => RtpType::Simulcast,
        (_, 2..) => RtpType::Svc,
        _ => RtpType::Simple,
    }
}

/// Spatial and temporal layers that the encodings announce; Chromium's VP8 simulcast has three
/// temporal layers only if asked for.
fn layers(encodings: &[RtpEncoding]) -> (u8, u8) {
    let parse = |mode: &str| -> Option<(u8, u8)> {
        let (spatial, rest) = mode.strip_prefix(['L', 'S'])?.split_once('T')?;
        let temporal: String = rest.chars().take_while(char::is_ascii_digit).collect();
        Some((spatial.parse().ok()?, temporal.parse().ok()?))
    };
    let modes = encodings.iter().filter_map(|e| e.scalability_mode.as_deref());
    modes.filter_map(parse).fold((1, 1), |a, b| (a.0.max(b.0), a.1.max(b.1)))
}

/// The extensions of a track by id.
#[must_use]
pub fn extension_map(parameters: &RtpParameters) -> ExtensionMap {
    let mut map = ExtensionMap::default();
    for extension in &parameters.header_extensions {
        if let Some(kind) = ExtensionKind::from_uri(&extension.uri) {
            map.insert(extension.id, kind);
        }
    }
    map
}
