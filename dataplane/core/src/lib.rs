//! The SFU as a pure state machine: bytes and time in, bytes out
