//! See `kival_fuzz::payload`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kival_fuzz::payload(data));
