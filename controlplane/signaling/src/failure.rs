//! What goes wrong, as a browser is told: `{code, message}`. Made by every handler; the gateway
//! puts it into the acknowledgement or the `error` event. It never carries internals.

use serde_json::{Value, json};

use crate::media::MediaError;
use crate::store::StoreError;

/// A refused event. Codes are the control API's, and a few of our own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Failure {
    /// Stable and documented.
    pub code: String,
    /// For people.
    pub message: String,
    /// What to do, where that is not plain.
    pub help: Option<&'static str>,
}

/// What to do while the media server is away.
const TRY_AGAIN: &str = "nothing is asked of the media server until it is back, which is seen within a second: try \
     again in a moment; the room and who is in it stay";

impl Failure {
    /// Any code.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), help: None }
    }

    /// The payload is not what the event takes.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new("invalid_request", message)
    }

    /// Something with this id is not there.
    pub fn not_found(what: &str, id: &str) -> Self {
        Self::new("not_found", format!("there is no {what} {id} here"))
    }

    /// It is there, and it is another participant's.
    pub fn not_yours(what: &str, id: &str) -> Self {
        Self::new("not_yours", format!("{what} {id} belongs to someone else"))
    }

    /// The event needs a room, and this socket is in none.
    pub fn not_in_room() -> Self {
        Self::new("not_in_room", "join a room first")
    }

    /// A limit of this service is reached.
    pub fn no_capacity(message: impl Into<String>) -> Self {
        Self::new("no_capacity", message)
    }

    /// The media server is away.
    pub fn media_unavailable() -> Self {
        let failure = Self::new("media_unavailable", "Media Server Unavailable");
        Self { help: Some(TRY_AGAIN), ..failure }
    }

    fn told(&self) -> Value {
        let mut told = json!({ "code": self.code, "message": self.message });
        if let Some(help) = self.help {
            told["help"] = json!(help);
        }
        told
    }

    /// The shape inside an acknowledgement.
    pub fn to_ack(&self) -> Value {
        json!({ "error": self.told() })
    }

    /// The payload of the `error` event; `event`: what was asked for, if anything was.
    pub fn to_event(&self, event: Option<&str>) -> Value {
        let mut told = self.told();
        told["event"] = json!(event);
        told
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(reason) => {
                tracing::warn!(reason, "the store does not answer");
                Self::new("store_unavailable", "this could not be kept; try again")
            }
            StoreError::Taken => Self::new("already_exists", error.to_string()),
        }
    }
}

impl From<MediaError> for Failure {
    fn from(error: MediaError) -> Self {
        match error {
            MediaError::Unavailable(_) => Self::media_unavailable(),
            MediaError::Busy { .. } => {
                Self::new("rate_limited", "the media server has too much to do; try again")
            }
            MediaError::Refused { code, message } => Self { code, message, help: None },
        }
    }
}
