//! Pipes: a producer of one router in another one as well, on this host or another.

use serde::{Deserialize, Serialize};

use crate::id::Id;

/// Routers that a track can have come through, one after the other.
pub const PIPED_FROM_MAX: usize = 16;

/// `POST /pipes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreatePipe {
    /// What is piped: a producer of this host.
    pub producer_id: Id,
    /// Into this router: of the other host, with `remote`.
    pub router_id: Id,
    /// The other host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<PipeRemote>,
    /// The producer there has the id of the one here: true insists on it, false makes another. Without
    /// it, another is made where that one is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_id: Option<bool>,
}

/// Another host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PipeRemote {
    /// Its control API: one of `pipes.remotes`.
    pub url: String,
}

/// Answer of `POST /pipes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Piped {
    /// Here: what carries it away.
    pub consumer_id: Id,
    /// There: what it is consumed from.
    pub producer_id: Id,
}

/// A router that a track has come through.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct PipedFrom {
    /// Its host, by a name that it has for as long as its rooms.
    pub host: String,
    /// The router there.
    pub router_id: Id,
}
