//! The public types of the control API (`/v1`): what a request may hold, what an answer holds, and
//! what an event says. The server, its clients and signaling share them, and the OpenAPI document
//! is generated from them (cargo feature `openapi`).
//!
//! This crate owns shapes and their local checks (ids, sizes, unknown fields). It never looks at
//! the state of a server, and it negotiates nothing: that is `ironcast-negotiate`.
//!
//! Shapes that WebRTC clients bring along (`rtpCapabilities`, `rtpParameters`, `dtlsParameters`)
//! are mediasoup's and ignore unknown fields; our own envelopes refuse them.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod body;
pub mod events;
pub mod id;
pub mod problem;
pub mod resources;
pub mod rtp;
pub mod stats;
pub mod transport;

pub use body::parse_body;
pub use events::{Event, EventData, EventSeq};
pub use id::{APP_DATA_BYTES_MAX, AppData, Id};
pub use problem::{ErrorCode, Problem};
pub use resources::*;
pub use rtp::*;
pub use stats::*;
pub use transport::*;

#[cfg(test)]
mod tests;
