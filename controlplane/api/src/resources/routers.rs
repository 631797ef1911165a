//! Routers: one for each room, on one worker or several.

use serde::{Deserialize, Serialize};

use crate::id::{AppData, Id};
use crate::resources::UnixMs;
use crate::rtp::{RtpCapabilities, RtpCodecCapability};

/// `POST /routers`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateRouter {
    /// Chosen by the caller, or made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// Codecs in the order of preference; the default set if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_codecs: Option<Vec<RtpCodecCapability>>,
    /// On this worker, and no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_id: Option<Id>,
    /// How a worker is chosen when none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// With `hash`: rooms with the same key go to the same worker; the router's id if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement_key: Option<Id>,
    /// Whose videos are forwarded: those of so many who spoke last, 1 to 1,000; all if missing. Tracks
    /// with the same CNAME are of one. What is left out is told as `consumer.layerschange` with the
    /// reason `last_n`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", salvo(schema(minimum = 1, maximum = 1_000)))]
    pub last_n: Option<u16>,
    /// How many voices are forwarded, the loudest, 1 to 1,000; all if missing. By the audio level in
    /// the packets (RFC 6464); a producer that does not send it is always heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", salvo(schema(minimum = 1, maximum = 1_000)))]
    pub loudest_n: Option<u16>,
    /// The caller's own: at most 8 KiB of JSON that the server never looks into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_data: Option<AppData>,
}

/// How a worker is chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// The worker with the lowest load, by what it measures and by what it was just given.
    #[default]
    LeastLoaded,
    /// The same worker for the same key, or its second choice while the first has much to do.
    Hash,
}

/// A router, as `POST /routers` and lists show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RouterInfo {
    /// Id.
    pub id: Id,
    /// The worker that it lives on, its home.
    pub worker_id: Id,
    /// All that it is on, its home first: transports are placed on others when that has much to do.
    #[serde(default)]
    pub workers: Vec<Id>,
    /// For `device.load({ routerRtpCapabilities })` of mediasoup-client.
    pub rtp_capabilities: RtpCapabilities,
    /// As given, or the default set.
    pub media_codecs: Vec<RtpCodecCapability>,
    /// As given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_n: Option<u16>,
    /// As given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loudest_n: Option<u16>,
    /// The name of who made it, and who alone sees it beside admins; none where nobody is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// When it was made.
    pub created_at: UnixMs,
    /// The caller's own: at most 8 KiB of JSON that the server never looks into.
    #[serde(default)]
    pub app_data: AppData,
}

/// `GET /routers/{id}`: the router and the ids below it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RouterDetails {
    /// The router.
    #[serde(flatten)]
    pub router: RouterInfo,
    /// Ids of its transports.
    pub transports: Vec<Id>,
    /// Ids of its producers.
    pub producers: Vec<Id>,
    /// Ids of its consumers.
    pub consumers: Vec<Id>,
    /// Ids of its observers.
    #[serde(default)]
    pub observers: Vec<Id>,
}

/// A router in a list, with how much hangs below it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RouterListItem {
    /// The router.
    #[serde(flatten)]
    pub router: RouterInfo,
    /// What hangs below it.
    #[serde(default)]
    pub counts: RouterCounts,
}

/// How much hangs below a router.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RouterCounts {
    /// Different ones of its transports.
    pub participants: u32,
    /// Transports.
    pub transports: u32,
    /// Producers.
    pub producers: u32,
    /// Consumers.
    pub consumers: u32,
}

/// `GET /routers`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RouterList {
    /// In ascending order of ids.
    pub items: Vec<RouterListItem>,
    /// `after` of the next page, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_after: Option<Id>,
}

/// `POST /routers/{id}/can-consume`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CanConsume {
    /// Who sends.
    pub producer_id: Id,
    /// What the receiver can do.
    pub rtp_capabilities: RtpCapabilities,
}

/// Answer of [`CanConsume`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct CanConsumeAnswer {
    /// Whether `POST /consumers` would succeed as far as codecs go.
    pub can_consume: bool,
}
