//! See [`ironcast_fuzz::stream`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ironcast_fuzz::stream(data));
