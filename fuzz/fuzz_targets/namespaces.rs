//! See `kival_fuzz::namespaces`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kival_fuzz::namespaces(data));
