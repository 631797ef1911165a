//! The SFU as a pure state machine: bytes and time in, bytes out.
//!
//! No clock, socket, thread, async or unsafe code. What comes in is a datagram with its arrival
//! time, a command, or the time itself; what goes out is a [`batch::Batch`], a deadline, actions
//! for the driver and events for the control plane. State is plain data.
//!
//! Time is monotonic nanoseconds: [`Nanos`] of the turn, [`Arrival`] of what came in. Wall time, for
//! sender reports, is an input.
#![forbid(unsafe_code)]

pub mod arena;
pub mod batch;
pub mod budget;
mod capture;
pub mod closing;
mod commands;
pub mod consumer;
mod control;
pub mod dependencies;
pub mod discard;
pub mod divide;
pub mod figures;
pub mod framing;
pub mod heard;
pub mod histogram;
pub mod hottest;
pub mod key;
mod key_frame;
mod layers;
pub mod link;
pub mod meter;
pub mod numbers;
mod observer;
mod orientation;
mod pace;
mod pipe;
pub mod producer;
mod ready;
pub mod recover;
pub mod router;
mod service;
pub mod srtp;
pub mod tap;
pub mod template;
mod time;
pub mod timeline;
mod trace;
pub mod transport;
pub mod watched;
pub mod wire;
pub mod worker;

pub use discard::Discard;
pub(crate) use time::next_of;
pub use time::{Arrival, MS, Nanos, OUTPUT_LATE, OUTPUT_OLD, SECOND};
