//! NACK.
