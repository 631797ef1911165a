//! See [`ironcast_fuzz::stun`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ironcast_fuzz::stun(data));
