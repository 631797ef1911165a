//! Errors of the client: either the server said no (a problem document with a stable code), or it
//! could not be asked.

use ironcast_api::{ErrorCode, Problem};

/// Why a call gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The settings are wrong: the address, the certificates or the token.
    #[error("the client's settings are wrong: {0}")]
    Settings(String),
    /// No connection, or it broke twice.
    #[error("the control plane cannot be reached: {0}")]
    Unreachable(String),
    /// No answer in time. The call may have been carried out: it is safe to repeat.
    #[error("the control plane did not answer within {0} ms")]
    Timeout(u128),
    /// The server said no.
    #[error(transparent)]
    Problem(Box<Problem>),
    /// The server's answer is not what the API promises.
    #[error("the control plane's answer cannot be understood: {0}")]
    Answer(String),
}

impl ClientError {
    /// The server's stable code, if it said no.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Problem(problem) => Some(problem.code),
            _ => None,
        }
    }

    /// Whether the same call may succeed later without anything being changed.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Timeout(_) => true,
            Self::Problem(problem) => matches!(
                problem.code,
                ErrorCode::RateLimited
                    | ErrorCode::NoCapacity
                    | ErrorCode::DataplaneUnavailable
                    | ErrorCode::Internal
                    | ErrorCode::Timeout
            ),
            Self::Settings(_) | Self::Answer(_) => false,
        }
    }
}

/// Why an event stream ended.
#[derive(Debug, thiserror::Error)]
pub enum EventsError {
    /// The events between ours and now are gone: take a snapshot, go on from its `seq`.
    #[error("events were lost: take a snapshot")]
    Lost,
    /// The server refuses the stream (credentials, a router id that is none, ...).
    #[error(transparent)]
    Refused(#[from] ClientError),
}
