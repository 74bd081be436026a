//! Waiting for something that another process does. The only place in the tests that sleeps.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long anything may take before the test gives up on it. It guards against a hang and is no
/// assertion about speed, hence far above what even a loaded machine needs.
pub const PATIENCE: Duration = Duration::from_secs(120);

const PAUSE: Duration = Duration::from_millis(3);

/// Asks `probe` again and again until it has an answer.
///
/// # Panics
/// With `what` when [`PATIENCE`] has run out.
pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain until {what}");
        sleep(PAUSE);
    }
}
