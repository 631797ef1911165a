//! Rust client of the control API over QUIC
