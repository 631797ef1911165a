//! Who has done what, for admins.

use serde::{Deserialize, Serialize};

use crate::id::Id;
use crate::resources::UnixMs;

/// One thing that somebody did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    /// Counts from 1 since the start of the control plane.
    pub number: u64,
    /// When.
    pub time: UnixMs,
    /// Who: `token:`, `cert:` or `jwt:` and a name; `local` where nobody is asked, `signal` for who
    /// sent the process one.
    pub principal: String,
    /// From where; missing for a unix socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// `create`, `close`, `capture` and `capture_payload` (with what packets carry), or what was
    /// asked of `/admin`: `reload`, `drain`, `undrain`.
    pub action: String,
    /// `router`, `transport`, `producer`, `consumer`, `observer`, `participant`, `pipe` (its id is
    /// that of the consumer here), `webhook`, or `host`.
    pub kind: String,
    /// Of what was created, closed or captured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// The router that it was in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router_id: Option<Id>,
}

/// `GET /audit`: the last entries, the newest last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AuditList {
    /// Entries.
    pub items: Vec<AuditEntry>,
}

/// `POST /admin/reload`: what is different now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Reloaded {
    /// Settings whose values are others now, and files whose contents are, by the setting that names
    /// them.
    pub changed: Vec<ChangedSetting>,
    /// Settings that were changed in the file but count after a restart only.
    pub needs_restart: Vec<ChangedSetting>,
}

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ChangedSetting {
    /// `section.key`.
    pub setting: String,
    /// What it was, as the configuration file writes it; missing for the contents of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}
