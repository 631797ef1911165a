//! The host as a whole: health, workers, the snapshot, a batch of calls.

use serde::{Deserialize, Serialize};

use crate::events::EventSeq;
use crate::id::Id;
use crate::resources::{ConsumerInfo, ObserverInfo, ProducerInfo, RouterInfo, TransportInfo};

/// `GET /health` and `GET /ready`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// Of the control plane.
    pub status: HealthStatus,
    /// Version of the control plane.
    pub version: String,
    /// Seconds since the control plane started.
    pub uptime_s: u64,
    /// The dataplane.
    pub dataplane: DataplaneHealth,
}

/// State of the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// Takes everything.
    Ok,
    /// Takes no new routers.
    Draining,
    /// Has no dataplane.
    DataplaneUnavailable,
}

/// State of the dataplane, seen from the control plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct DataplaneHealth {
    /// Attached to it?
    pub status: DataplaneStatus,
    /// Its version, once it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// Whether we are attached to the dataplane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum DataplaneStatus {
    /// Attached.
    Connected,
    /// Not.
    Disconnected,
}

/// One worker: `GET /workers` (an array of these) and `GET /workers/{id}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct WorkerInfo {
    /// Id.
    pub id: Id,
    /// The processor that its thread is pinned to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub core: Option<u32>,
    /// Running or restarting.
    pub status: WorkerStatus,
    /// Its slice of the UDP port range, both ends included.
    pub ports: PortRange,
    /// How many routers.
    pub routers: u32,
    /// How many transports.
    pub transports: u32,
    /// How many producers.
    pub producers: u32,
    /// How many consumers.
    pub consumers: u32,
    /// Share of the time that its thread works, 0 to 1.
    #[cfg_attr(feature = "openapi", salvo(schema(minimum = 0)))]
    pub cpu_busy: f64,
    /// Datagrams sent per second.
    pub packets_out_per_second: f64,
    /// Bits per second sent.
    pub bitrate_out_bps: u64,
    /// What placement goes by, 0 (idle) to 1 (full).
    #[cfg_attr(feature = "openapi", salvo(schema(minimum = 0)))]
    pub load: f64,
    /// From a packet's arrival to its departure.
    pub forwarding_delay_us: ForwardingDelay,
}

/// Running or restarting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum WorkerStatus {
    /// Takes routers.
    Running,
    /// Died and is starting again.
    Restarting,
}

/// Ports, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct PortRange {
    /// First.
    pub min: u16,
    /// Last.
    pub max: u16,
}

/// Microseconds within the server, as quantiles.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ForwardingDelay {
    /// Median.
    pub p50: f64,
    /// 99 of 100 packets are faster.
    pub p99: f64,
}

/// `GET /snapshot`: everything there is, as of the event `seq`. What changes while it is read may be
/// in it already; its event comes behind `seq` too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// The last event that is included.
    pub seq: EventSeq,
    /// Workers.
    pub workers: Vec<WorkerInfo>,
    /// Routers, in ascending order of their ids.
    pub routers: Vec<RouterSnapshot>,
    /// With `limit`: the `after` of the next page, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_after: Option<Id>,
}

/// A router and what hangs below it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RouterSnapshot {
    /// The router.
    #[serde(flatten)]
    pub router: RouterInfo,
    /// Its transports.
    pub transports: Vec<TransportSnapshot>,
    /// Its observers.
    #[serde(default)]
    pub observers: Vec<ObserverInfo>,
}

/// A transport and what hangs below it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct TransportSnapshot {
    /// The transport.
    #[serde(flatten)]
    pub transport: TransportInfo,
    /// Its producers.
    pub producers: Vec<ProducerInfo>,
    /// Its consumers.
    pub consumers: Vec<ConsumerInfo>,
}

/// Most calls of one batch.
pub const BATCH_CALLS_MAX: usize = 300;

/// `POST /batch`: calls that are executed in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Batch {
    /// At most as many as `limits.batch_calls_max` of the server says, commonly 300.
    #[cfg_attr(feature = "openapi", salvo(schema(max_items = 300)))]
    pub calls: Vec<BatchCall>,
    /// Do not execute what follows a call that failed.
    #[serde(default)]
    pub stop_on_error: bool,
}

/// One call of a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BatchCall {
    /// `GET`, `POST`, `PATCH` or `DELETE`.
    pub method: String,
    /// With or without `/v1`, with the query if there is one.
    pub path: String,
    /// JSON; missing for calls without a body.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub body: serde_json::Value,
}

/// Answer of a batch. With `stopOnError` it is shorter than the batch if a call failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct BatchAnswers {
    /// In the order of the calls.
    pub answers: Vec<BatchAnswer>,
}

/// Answer of one call of a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct BatchAnswer {
    /// HTTP status.
    #[cfg_attr(feature = "openapi", salvo(schema(minimum = 200, maximum = 599)))]
    pub status: u16,
    /// What the call alone would have answered; a problem document if it failed.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub body: serde_json::Value,
}

/// `POST /participants/{id}/leave`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct LeaveAnswer {
    /// The transports that were closed; none if the participant had none.
    pub transport_ids: Vec<Id>,
}
