//! io_uring, sockets and memory: the only crate with `unsafe` code. Knows nothing of RTP.
//!
//! One [`run`] is one worker thread. It owns a ring, its receive buffers, its sockets and the
//! slabs that datagrams leave from, and calls an [`Engine`] with what arrives:
//!
//! ```text
//!   rx.rs [1]        engine                     tx.rs [8]
//!   completions -->  receive, message, turn --> Batch -> one send per destination
//!       ^                                           |
//!       '---- worker_loop.rs: sleep until the next completion or deadline <---'
//! ```
//! The files by what they own: `ring` the ring and its set-up, `buffers` the receive buffers,
//! `files` what requests name sockets by, `sockets` listeners and paths, `claim` who owns which ports,
//! `streams` connections (ICE-TCP), `hops` what one worker sends to another,
//! `steering` the program of single-port mode, `mailbox` messages
//! from other threads, `clock` time, `affinity` processors, `probe` what the kernel can do,
//! `without` what it may lack, `xdp` frames past the network stack (an option), `mapping` memory
//! shared with the kernel, `allocator` a counting allocator for tests and benches, `ipsec_mb` (a
//! feature) a sealer that works on many packets side by side.

pub mod affinity;
pub mod allocator;
mod buffers;
pub mod claim;
pub mod clock;
mod files;
mod hops;
mod io;
#[cfg(feature = "ipsec-mb")]
pub mod ipsec_mb;
pub mod mailbox;
mod mapping;
pub mod probe;
mod ring;
mod rx;
mod sendmmsg;
pub mod sockets;
mod statistics;
pub mod steering;
mod streams;
mod tx;
mod without;
mod worker_loop;
mod xdp;

pub use hops::Exchange;
pub use io::{Io, paths_max};
pub use sockets::is_shortage;
pub use statistics::Statistics;
pub use streams::{AcceptedStream, StreamLimits};
pub use without::{UnknownName, Without};
pub use worker_loop::{DriverConfig, DriverError, Engine, Home, Inbound, Transmit, run};
