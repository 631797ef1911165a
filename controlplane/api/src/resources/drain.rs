//! Taking a host out of service: no new rooms, those that are there until they end.

use serde::{Deserialize, Serialize};

use crate::resources::UnixMs;

/// Longest deadline of a drain: a day.
pub const DRAIN_DEADLINE_S_MAX: u64 = 86_400;

/// `POST /admin/drain`. Repeated, it sets the deadline anew.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DrainRequest {
    /// Rooms that are left after so many seconds are closed, at most a day.
    /// Without it they end by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", salvo(schema(maximum = 86400)))]
    pub deadline_s: Option<u64>,
}

/// `GET /admin/drain`, and what the calls that change it answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct DrainStatus {
    /// No new routers are taken.
    pub draining: bool,
    /// And none is left.
    pub drained: bool,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<UnixMs>,
    /// When what is left is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<UnixMs>,
    /// The dataplane was told to end and does so when the host is drained: this cannot be undone.
    #[serde(default)]
    pub ends_dataplane: bool,
    /// Routers that are left.
    pub routers: u32,
    /// Transports that are left.
    pub transports: u32,
    /// Participants that are left.
    pub participants: u32,
}
