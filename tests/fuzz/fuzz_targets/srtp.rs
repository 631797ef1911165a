//! See [`ironcast_fuzz::srtp`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ironcast_fuzz::srtp(data));
