//! See [`ironcast_fuzz::rtcp`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ironcast_fuzz::rtcp(data));
