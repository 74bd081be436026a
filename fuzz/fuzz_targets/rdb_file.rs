//! See `kival_fuzz::rdb_file`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kival_fuzz::rdb_file(data));
