//! Producers: media that a peer sends to the server.

use serde::{Deserialize, Serialize};

use crate::id::{AppData, Id};
use crate::resources::{PipedFrom, UnixMs};
use crate::rtp::{MediaKind, RtpParameters};

/// `POST /producers`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateProducer {
    /// Chosen by the caller, or made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// On this transport.
    pub transport_id: Id,
    /// Audio or video.
    pub kind: MediaKind,
    /// As mediasoup-client's `produce` event gives them.
    pub rtp_parameters: RtpParameters,
    /// Begin paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// Milliseconds to gather requests for a key frame before one is asked for (default 0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_frame_request_delay: Option<u32>,
    /// The routers that a piped track has come through, the first one first: another control plane says
    /// it. Refused where its own router is among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub piped_from: Option<Vec<PipedFrom>>,
    /// The caller's own: at most 8 KiB of JSON that the server never looks into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_data: Option<AppData>,
}

/// How a producer sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum ProducerType {
    /// One stream.
    Simple,
    /// Several streams of the same picture.
    Simulcast,
    /// One stream with spatial layers inside.
    Svc,
}

/// How well one stream of a producer arrives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ProducerScore {
    /// Index into `rtpParameters.encodings`.
    pub encoding_idx: u32,
    /// Its SSRC.
    pub ssrc: u32,
    /// Its RTP stream id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rid: Option<String>,
    /// 0 (nothing comes) to 10 (all is well).
    #[cfg_attr(feature = "openapi", salvo(schema(maximum = 10)))]
    pub score: u8,
}

/// A producer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ProducerInfo {
    /// Id.
    pub id: Id,
    /// Its router.
    pub router_id: Id,
    /// Its transport.
    pub transport_id: Id,
    /// Whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub participant_id: Option<Id>,
    /// Audio or video.
    pub kind: MediaKind,
    /// How it sends.
    #[serde(rename = "type")]
    pub producer_type: ProducerType,
    /// What it sends.
    pub rtp_parameters: RtpParameters,
    /// Nothing is forwarded while true.
    pub paused: bool,
    /// Of each stream that has arrived.
    #[serde(default)]
    pub score: Vec<ProducerScore>,
    /// Indexes into `rtpParameters.encodings` that nobody watches: those of `producer.layersunwatched`.
    #[serde(default)]
    pub layers_unwatched: Vec<u32>,
    /// When it was made.
    pub created_at: UnixMs,
    /// The caller's own: at most 8 KiB of JSON that the server never looks into.
    #[serde(default)]
    pub app_data: AppData,
}

/// `GET /producers`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ProducerList {
    /// In ascending order of ids.
    pub items: Vec<ProducerInfo>,
    /// `after` of the next page, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_after: Option<Id>,
}
