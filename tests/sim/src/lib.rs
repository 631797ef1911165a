//! A simulated network with a seed around the pure core: what tests of behaviour are written with.
//! Time is moved by hand, chance comes from one seed, and nothing touches a socket, so that a test
//! of a minute's call takes a fraction of a second and fails the same way each time.
//!
//! ```text
//! Peer (a browser, roughly) --- Link up ---> World: queue by time ---> Worker (the core)
//!      checks, SRTP, NACK  <--- Link down --        one clock     <--- its batch, cut into datagrams
//! ```
//! [`World`] owns everything and is what tests talk to. [`peer::Peer`] sends and receives like a
//! browser. [`net::Link`] delays, loses, doubles and reorders. [`track`] makes media whose every
//! payload can be recognised, and [`inbox`] keeps all that a receiver got.
#![forbid(unsafe_code)]

pub mod estimate;
pub mod inbox;
pub mod media;
pub mod net;
pub mod parameters;
pub mod peer;
pub mod rng;
pub mod track;
pub mod world;

pub use net::Network;
pub use world::World;
