//! See `kival_fuzz::segment`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kival_fuzz::segment(data));
