//! Hops: transports between two workers of the process, by memory. The control plane makes one on each,
//! and tells each where the other is.

use serde::{Deserialize, Serialize};

use crate::{Id, WorkerId};

/// One end of a hop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateHop {
    /// The caller's id.
    pub id: Id,
    /// The room, whose worker it is on.
    pub router: Id,
    /// Kept and returned as it is.
    #[serde(default, with = "serde_bytes")]
    pub note: Vec<u8>,
}

/// Where an end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HopEnd {
    /// Whose it is.
    pub worker: WorkerId,
    /// Its place there.
    pub slot: u32,
    /// How often that place was used before.
    pub generation: u32,
}

/// The other end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectHop {
    /// The transport.
    pub id: Id,
    /// Where the other one is.
    pub far: HopEnd,
    /// Kept and returned as it is.
    #[serde(default, with = "serde_bytes")]
    pub note: Vec<u8>,
}
