//! The keydir alone from 10^5 keys up: bytes a key, and nanoseconds an insert and a look-up take. One JSON line
//! for each number of keys, for `measure` beside this file to collect.
//!
//! `cargo bench --bench keydir -- 50000000` goes that far; without a number, as in tests, it is tiny.

use kival_engine::keydir::{Entry, Keydir, Place};
use std::hint::black_box;
use std::time::Instant;

/// Random look-ups that are timed at each number of keys.
const LOOKUPS: u64 = 1_000_000;
/// Where the numbers of keys begin, and where they end when no end is given.
const FIRST: u64 = 100_000;

fn main() {
    let most = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(FIRST);
    let mut keydir = Keydir::new(1);
    let mut random = fastrand::Rng::with_seed(2);
    let (mut keys, mut there) = (FIRST, 0);
    while keys <= most {
        let began = Instant::now();
        for n in there..keys {
            keydir.insert(&key(n), entry(n));
        }
        let insert = began.elapsed().as_nanos() as f64 / (keys - there) as f64;
        there = keys;
        let began = Instant::now();
        for _ in 0..LOOKUPS {
            assert!(black_box(keydir.get(&key(random.u64(..keys)))).is_some());
        }
        let lookup = began.elapsed().as_nanos() as f64 / LOOKUPS as f64;
        let bytes = keydir.memory() as f64 / keys as f64;
        println!(
            "{{\"keys\": {keys}, \"bytes\": {bytes:.2}, \"insert_ns\": {insert:.1}, \"lookup_ns\": {lookup:.1}}}"
        );
        keys = next(keys);
    }
}

/// 1, 2, 5, 10, 20, 50 and so on.
fn next(keys: u64) -> u64 {
    if keys.to_string().starts_with('2') { keys / 2 * 5 } else { keys * 2 }
}

/// 16 bytes: the number behind "key:".
fn key(mut n: u64) -> [u8; 16] {
    let mut key = *b"key:000000000000";
    for digit in key[4..].iter_mut().rev() {
        *digit += (n % 10) as u8;
        n /= 10;
    }
    key
}

fn entry(n: u64) -> Entry {
    let place = Place::new(0, n * 160);
    Entry { place, sequence: n + 1, value_size: 100, data_type: 0, access: 0, expiry: 0, change: None }
}
