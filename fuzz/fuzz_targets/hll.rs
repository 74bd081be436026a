//! See `kival_fuzz::hll`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kival_fuzz::hll(data));
