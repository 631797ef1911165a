//! Receivers of webhooks, for admins.

use serde::{Deserialize, Serialize};

use crate::id::Id;

/// Longest `url` of a receiver.
pub const WEBHOOK_URL_BYTES_MAX: usize = 2_048;

/// `POST /webhooks`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateWebhook {
    /// Chosen by the server if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// Where deliveries go to: `https`, and a public address unless the server allows more
    /// (`events.webhook_allow`).
    #[cfg_attr(feature = "openapi", salvo(schema(max_length = 2048)))]
    pub url: String,
    /// Names of events; one may end in `*`. Missing: all but scores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", salvo(schema(max_items = 100)))]
    pub events: Option<Vec<String>>,
    /// Only events of the routers of this principal, such as `token:billing`. Missing: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "openapi",
        salvo(schema(max_length = 134, pattern = "^(token|cert|jwt):.+$"))
    )]
    pub principal: Option<String>,
    /// Certificates that are trusted instead of the system's, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

/// A receiver, and how it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct WebhookInfo {
    /// Id.
    pub id: Id,
    /// Scheme, host and port of its `url`: the rest may be a secret.
    pub origin: String,
    /// Names of the events that it is sent.
    pub events: Vec<String>,
    /// Whose routers they are of; missing: everybody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// It stands in the file of `control.webhooks`, and cannot be deleted here.
    pub is_configured: bool,
    /// Events that wait for it.
    pub waiting: u64,
    /// Events that it has taken.
    pub delivered: u64,
    /// Events that were dropped because too many waited.
    pub dropped: u64,
    /// Attempts that failed.
    pub failures: u64,
}

/// Answer of `POST /webhooks`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct CreatedWebhook {
    /// The receiver.
    #[serde(flatten)]
    pub webhook: WebhookInfo,
    /// What deliveries are signed with, `whsec_` and base64. Told here and never again: an answer to
    /// a repeated request has none, so who has missed it deletes the receiver and makes another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// `GET /webhooks`: all of them, by id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct WebhookList {
    /// Receivers.
    pub items: Vec<WebhookInfo>,
}
