//! Bodies and answers of every call of the control API. A request's own envelope refuses unknown
//! fields; answers may grow new ones, so that clients ignore what they do not know.
//!
//! Times are milliseconds of the Unix epoch.

mod audit;
mod consumers;
mod drain;
mod host;
mod observers;
mod pipes;
mod producers;
mod routers;
mod top;
mod traces;
mod transports;
mod webhooks;

pub use audit::*;
pub use consumers::*;
pub use drain::*;
pub use host::*;
pub use observers::*;
pub use pipes::*;
pub use producers::*;
pub use routers::*;
pub use top::*;
pub use traces::*;
pub use transports::*;
pub use webhooks::*;

use serde::{Deserialize, Serialize};

use crate::id::Id;

/// Milliseconds of the Unix epoch.
pub type UnixMs = u64;

/// Most items of one page of a list.
pub const LIST_LIMIT_MAX: u32 = 1000;

/// Items of one page of a list when the caller does not say.
pub const LIST_LIMIT_DEFAULT: u32 = 100;

/// Which page of a list: in ascending order of ids, beginning behind `after`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListQuery {
    /// The last id of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Id>,
    /// How many, at most [`LIST_LIMIT_MAX`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Only what belongs to this router.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router_id: Option<Id>,
}
