//! What the control plane and the dataplane say to each other over a unix socket.
//!
//! - [`attic`]: values that are kept for long, in little memory.
//! - [`frame`]: length-prefixed frames, the hello with magic and version; no I/O.
//! - [`capture`]: packets of one transport, in the clear, for whoever looks for a fault.
//! - [`command`]: what the control plane asks, and the answers.
//! - [`event`]: what the dataplane reports by itself.
//! - [`hop`]: transports between two workers.
//! - [`observer`]: who speaks in a room.
//! - [`plain`]: transports of bare RTP and SRTP.
//! - [`media`]: RTP parameters as the dataplane needs them (final, after all negotiation).
//! - [`snapshot`]: the whole state, for a control plane that (re-)attaches.
//! - [`stats`]: the figures of workers, transports, producers and consumers.
//!
//! The two processes are upgraded apart. So everything is MessagePack with named fields, unknown
//! fields are ignored, missing ones have defaults, and a body that cannot be understood is
//! answered with [`command::ErrorCode::UnknownCommand`] instead of ending the connection.
#![forbid(unsafe_code)]

pub mod attic;
pub mod capture;
pub mod command;
pub mod event;
pub mod frame;
pub mod hop;
pub mod media;
pub mod observer;
pub mod plain;
pub mod snapshot;
pub mod stats;
pub mod trace;

pub use command::{Command, CommandError, ErrorCode, Reply};
pub use event::Event;
pub use frame::{Frame, FrameKind};

/// An id chosen by the caller: 1 to 96 characters of `A-Z a-z 0-9 . _ : - ~`. What callers of the API
/// choose is shorter and has no `~`: ids with one are of what the control plane makes for itself.
pub type Id = String;

/// Number of a worker: its index in the configured cores, from 0.
pub type WorkerId = u16;
