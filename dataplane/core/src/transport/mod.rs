//! One peer.

pub mod feedback;
