//! Problem documents (RFC 9457): the one shape of every error of the control API. The server
//! answers them as `application/problem+json`, clients read `code`, which is stable.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What went wrong, in a form that programs compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// 400: the request cannot be read; `pointer` names the field.
    InvalidRequest,
    /// 401: no credentials, or none that we know.
    Unauthenticated,
    /// 403: the credentials do not allow this.
    Forbidden,
    /// 404: no such resource.
    NotFound,
    /// 405: the path has other methods; the header `Allow` names them.
    MethodNotAllowed,
    /// 409: the id is taken by something else.
    AlreadyExists,
    /// 409: not now, such as a second `connect` with another body.
    WrongState,
    /// 410: events that old, or of another epoch, are gone; take a snapshot.
    EventsLost,
    /// 413: the body is larger than the configured limit.
    TooLarge,
    /// 415: a body is `application/json`.
    UnsupportedMediaType,
    /// 422: well-formed, but codecs, capabilities, modes or calls that this version does not have.
    Unsupported,
    /// 429: too many requests, or too much to do at this moment; `retryAfter` says when.
    RateLimited,
    /// 500: a fault of the server.
    Internal,
    /// 503: every worker is full; `retryAfter` says when.
    NoCapacity,
    /// 503: this host takes no new routers.
    Draining,
    /// 503: the dataplane does not run.
    DataplaneUnavailable,
    /// 504: the dataplane did not answer in time.
    Timeout,
}

impl ErrorCode {
    /// Every code.
    pub const ALL: [Self; 17] = [
        Self::InvalidRequest,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::AlreadyExists,
        Self::WrongState,
        Self::EventsLost,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::Unsupported,
        Self::RateLimited,
        Self::Internal,
        Self::NoCapacity,
        Self::Draining,
        Self::DataplaneUnavailable,
        Self::Timeout,
    ];

    /// The HTTP status that goes with it.
    pub fn status(self) -> u16 {
        match self {
            Self::InvalidRequest => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::AlreadyExists | Self::WrongState => 409,
            Self::EventsLost => 410,
            Self::TooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::Unsupported => 422,
            Self::RateLimited => 429,
            Self::Internal => 500,
            Self::NoCapacity | Self::Draining | Self::DataplaneUnavailable => 503,
            Self::Timeout => 504,
        }
    }

    /// As in JSON: `invalid_request`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::AlreadyExists => "already_exists",
            Self::WrongState => "wrong_state",
            Self::EventsLost => "events_lost",
            Self::TooLarge => "too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::Unsupported => "unsupported",
            Self::RateLimited => "rate_limited",
            Self::Internal => "internal",
            Self::NoCapacity => "no_capacity",
            Self::Draining => "draining",
            Self::DataplaneUnavailable => "dataplane_unavailable",
            Self::Timeout => "timeout",
        }
    }

    /// A short sentence for people, the same for every problem of this code.
    pub fn title(self) -> &'static str {
        match self {
            Self::InvalidRequest => "The request is not valid",
            Self::Unauthenticated => "Credentials are needed",
            Self::Forbidden => "These credentials do not allow this",
            Self::NotFound => "There is no such resource",
            Self::MethodNotAllowed => "There is no such method here",
            Self::AlreadyExists => "The id is taken by something else",
            Self::WrongState => "This is not possible in the current state",
            Self::EventsLost => "These events are gone",
            Self::TooLarge => "The body is too large",
            Self::UnsupportedMediaType => "A body is application/json here",
            Self::Unsupported => "This is not supported",
            Self::RateLimited => "Too many requests",
            Self::Internal => "A fault of the server",
            Self::NoCapacity => "Every worker is full",
            Self::Draining => "This host is draining",
            Self::DataplaneUnavailable => "The dataplane does not run",
            Self::Timeout => "The dataplane did not answer in time",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Media type of a [`Problem`].
pub const PROBLEM_MEDIA_TYPE: &str = "application/problem+json";

/// An error as the API answers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
#[error("{code}: {detail}")]
pub struct Problem {
    /// `urn:ironcast:problem:` and the code.
    #[serde(rename = "type")]
    #[cfg_attr(feature = "openapi", salvo(schema(pattern = "^urn:ironcast:problem:[a-z_]+$")))]
    pub kind: String,
    /// The same for every problem of one code.
    pub title: String,
    /// HTTP status.
    #[cfg_attr(feature = "openapi", salvo(schema(minimum = 400, maximum = 599)))]
    pub status: u16,
    /// Stable.
    pub code: ErrorCode,
    /// What happened here, and what would be right.
    pub detail: String,
    /// JSON pointer (RFC 6901) to the field, with `invalid_request` and `unsupported`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// Seconds, the same as the header `Retry-After`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u32>,
}

impl Problem {
    /// A problem of a code; `detail` says what happened and what would be right.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:ironcast:problem:{}", code.as_str()),
            title: code.title().to_owned(),
            status: code.status(),
            code,
            detail: detail.into(),
            pointer: None,
            retry_after: None,
        }
    }

    /// `invalid_request` about the field at a JSON pointer.
    pub fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidRequest, detail).with_pointer(pointer)
    }

    /// `not_found` for a resource: `Problem::not_found("router", "room-7")`.
    pub fn not_found(what: &str, id: &str) -> Self {
        Self::new(ErrorCode::NotFound, format!("there is no {what} {id:?}"))
    }

    /// Names the field.
    #[must_use]
    pub fn with_pointer(mut self, pointer: impl Into<String>) -> Self {
        self.pointer = Some(pointer.into());
        self
    }

    /// Names the field of a value that was found wrong, if none is named yet.
    #[must_use]
    pub fn about(self, pointer: &str) -> Self {
        let is_about_a_value =
            matches!(self.code, ErrorCode::InvalidRequest | ErrorCode::Unsupported);
        if is_about_a_value && self.pointer.is_none() { self.with_pointer(pointer) } else { self }
    }

    /// Says when to try again.
    #[must_use]
    pub fn with_retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }
}
