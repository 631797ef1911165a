//! Observers: they tell who of a router's audio producers speaks.

use serde::{Deserialize, Serialize};

use crate::id::{AppData, Id};
use crate::resources::UnixMs;

/// What an observer tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum ObserverType {
    /// The loudest producers and their volumes, and silence.
    AudioLevel,
    /// The dominant speaker, when it changes.
    ActiveSpeaker,
}

/// `POST /observers`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateObserver {
    /// Chosen by the caller, or made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// In this router.
    pub router_id: Id,
    /// What it tells.
    #[serde(rename = "type")]
    pub observer_type: ObserverType,
    /// `audiolevel`: average volume from which on a producer counts, dBov (default -80).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", salvo(schema(minimum = -127, maximum = 0)))]
    pub threshold: Option<i8>,
    /// Milliseconds between two events (default 1000, `activespeaker` 300). Less than 250
    /// (`activespeaker` 100) and more than 5000 are taken for these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<u32>,
    /// `audiolevel`: how many of the loudest are told (default 1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", salvo(schema(minimum = 1)))]
    pub max_entries: Option<u16>,
    /// The caller's own: at most 8 KiB of JSON that the server never looks into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_data: Option<AppData>,
}

/// An observer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ObserverInfo {
    /// Id.
    pub id: Id,
    /// Its router.
    pub router_id: Id,
    /// What it tells.
    #[serde(rename = "type")]
    pub observer_type: ObserverType,
    /// `audiolevel`: average volume from which on a producer counts, dBov.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<i8>,
    /// Milliseconds between two events.
    pub interval: u32,
    /// `audiolevel`: how many of the loudest are told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_entries: Option<u16>,
    /// It tells nothing while true.
    pub paused: bool,
    /// The producers that it listens to, in ascending order.
    #[serde(default)]
    pub producer_ids: Vec<Id>,
    /// When it was made.
    pub created_at: UnixMs,
    /// The caller's own: at most 8 KiB of JSON that the server never looks into.
    #[serde(default)]
    pub app_data: AppData,
}

/// `GET /observers`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ObserverList {
    /// In ascending order of ids.
    pub items: Vec<ObserverInfo>,
    /// `after` of the next page, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_after: Option<Id>,
}
