//! Consumers: media that the server sends to a peer, each from one producer.

use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};

use crate::id::{AppData, Id};
use crate::resources::UnixMs;
use crate::rtp::{MediaKind, RtpCapabilities, RtpParameters};

/// `POST /consumers`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateConsumer {
    /// Chosen by the caller, or made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// On this transport.
    pub transport_id: Id,
    /// From this producer, of the same router.
    pub producer_id: Id,
    /// What the receiver can do; those of the transport if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtp_capabilities: Option<RtpCapabilities>,
    /// Begin paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// Layers to begin with, with simulcast and SVC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_layers: Option<ConsumerLayers>,
    /// MID of the stream, or made: unique on the transport, at most 16 bytes.
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
    /// Retransmissions (default: for video, not for audio).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_rtx: Option<bool>,
    /// Do not forward packets of discontinuous transmission.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignore_dtx: Option<bool>,
    /// All streams as they come, each under an SSRC of its own. On a pipe transport it is always so, and
    /// there are no capabilities and no MID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipe: Option<bool>,
    /// The caller's own: at most 8 KiB of JSON that the server never looks into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_data: Option<AppData>,
}

/// How a consumer receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum ConsumerType {
    /// The one stream.
    Simple,
    /// One of several streams.
    Simulcast,
    /// One stream, cut down to some of its layers.
    Svc,
    /// All streams.
    Pipe,
}

/// Spatial and temporal layer, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConsumerLayers {
    /// Which simulcast stream or spatial layer.
    pub spatial_layer: u8,
    /// Highest temporal layer; all of them if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temporal_layer: Option<u8>,
}

/// How well a consumer receives.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ConsumerScore {
    /// Of the stream to the receiver, 0 to 10.
    #[cfg_attr(feature = "openapi", salvo(schema(maximum = 10)))]
    pub score: u8,
    /// Of the producer's stream that is forwarded now.
    #[cfg_attr(feature = "openapi", salvo(schema(maximum = 10)))]
    pub producer_score: u8,
    /// Of each stream of the producer.
    #[serde(default)]
    pub producer_scores: Vec<u8>,
}

/// A consumer. `id`, `producerId`, `kind` and `rtpParameters` go to mediasoup-client's `consume`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ConsumerInfo {
    /// Id.
    pub id: Id,
    /// Its router.
    pub router_id: Id,
    /// Its transport.
    pub transport_id: Id,
    /// Whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub participant_id: Option<Id>,
    /// Where it comes from.
    pub producer_id: Id,
    /// Audio or video.
    pub kind: MediaKind,
    /// How it receives.
    #[serde(rename = "type")]
    pub consumer_type: ConsumerType,
    /// What it receives.
    pub rtp_parameters: RtpParameters,
    /// Nothing is sent while true.
    pub paused: bool,
    /// Whether its producer is paused.
    pub producer_paused: bool,
    /// 1 (default) to 255: who gets better layers first.
    #[cfg_attr(feature = "openapi", salvo(schema(minimum = 1, maximum = 255)))]
    pub priority: u8,
    /// How well.
    pub score: ConsumerScore,
    /// As asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_layers: Option<ConsumerLayers>,
    /// As sent now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_layers: Option<ConsumerLayers>,
    /// When it was made.
    pub created_at: UnixMs,
    /// The caller's own: at most 8 KiB of JSON that the server never looks into.
    #[serde(default)]
    pub app_data: AppData,
}

/// `GET /consumers`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ConsumerList {
    /// In ascending order of ids.
    pub items: Vec<ConsumerInfo>,
    /// `after` of the next page, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_after: Option<Id>,
}

/// `PATCH /consumers/{id}`: a missing field stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PatchConsumer {
    /// Layers that the receiver wants at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_layers: Option<ConsumerLayers>,
    /// 1 to 255; 1 is the default.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "priority")]
    #[cfg_attr(feature = "openapi", salvo(schema(minimum = 1, maximum = 255)))]
    pub priority: Option<u8>,
}

fn priority<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u8>, D::Error> {
    match Option::<u8>::deserialize(deserializer)? {
        Some(0) => Err(de::Error::custom("priority is 1 to 255")),
        priority => Ok(priority),
    }
}
