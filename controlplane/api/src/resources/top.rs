//! What moves the most: for the operator's view of a running host.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    id::Id,
    resources::{DrainStatus, RouterCounts, WorkerInfo},
    stats::TransportStats,
};

/// Most routers and transports of `GET /top`.
pub const TOP_COUNT_MAX: u32 = 100;

/// `GET /top`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Top {
    /// Seconds since the control plane started.
    pub uptime_s: u64,
    /// Version of the control plane.
    pub version: String,
    /// What there is, and whether the host takes more.
    pub host: DrainStatus,
    /// Producers on this host.
    pub producers: u32,
    /// Consumers on this host.
    pub consumers: u32,
    /// All of them.
    pub workers: Vec<TopWorker>,
    /// The busiest first.
    pub routers: Vec<TopRouter>,
    /// The busiest first.
    pub transports: Vec<TopTransport>,
}

/// A worker and what it dropped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct TopWorker {
    /// The worker.
    #[serde(flatten)]
    pub worker: WorkerInfo,
    /// Datagrams that it dropped since it started, by reason; those that are 0 are left out.
    pub drops: BTreeMap<String, u64>,
    /// Datagrams that it received since it started.
    pub datagrams_in: u64,
    /// Datagrams that it sent since it started.
    pub datagrams_out: u64,
}

/// A router and its traffic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct TopRouter {
    /// Which.
    pub id: Id,
    /// Where.
    pub worker_id: Id,
    /// What hangs below it.
    pub counts: RouterCounts,
    /// Bits per second received on all of its workers, with what they send each other.
    pub recv_bitrate: u64,
    /// Bits per second sent, likewise.
    pub send_bitrate: u64,
}

/// A transport and its figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct TopTransport {
    /// Its router.
    pub router_id: Id,
    /// Whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub participant_id: Option<Id>,
    /// Its figures, its id among them.
    #[serde(flatten)]
    pub stats: TransportStats,
}
