//! See [`ironcast_fuzz::rtp`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ironcast_fuzz::rtp(data));
