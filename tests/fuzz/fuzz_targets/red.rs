//! See [`ironcast_fuzz::red`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ironcast_fuzz::red(data));
