//! Random numbers that can be had again: every randomized test prints its seed and takes `KIVAL_SEED`.

use std::str::FromStr;

/// A generator for the test `test`, and its seed: that of `KIVAL_SEED`, or a fresh one. The seed is
/// printed in the form in which it can be given again.
///
/// # Panics
/// If `KIVAL_SEED` is not a number.
pub fn generator(test: &str) -> (fastrand::Rng, u64) {
    let seed = number("KIVAL_SEED", fastrand::u64(..));
    println!("{test}: repeat with KIVAL_SEED={seed}");
    (fastrand::Rng::with_seed(seed), seed)
}

/// The number in the environment variable `name`, or `default` where it is not set.
///
/// # Panics
/// If it is set to something else than a number.
pub fn number<N: FromStr>(name: &str, default: N) -> N {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number that fits")),
        Err(_) => default,
    }
}
