//! See `kival_fuzz::hint`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kival_fuzz::hint(data));
