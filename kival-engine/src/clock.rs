//! The clocks as a trait, so that a test can turn them: the wall time, and one that never goes back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Milliseconds since the Unix epoch.
    fn now_ms(&self) -> u64;
    /// Milliseconds since some moment of this process; the machine's clock may be set, this goes on.
    fn steady_ms(&self) -> u64;
}

/// What the steady clock of the machine counts from.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The machine's clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }

    fn steady_ms(&self) -> u64 {
        START.elapsed().as_millis() as u64
    }
}

/// A clock that stands still until it is set; clones share the time.
#[derive(Debug, Default, Clone)]
pub struct ManualClock(Arc<Times>);

#[derive(Debug, Default)]
struct Times {
    wall: AtomicU64,
    steady: AtomicU64,
}

impl ManualClock {
    /// A clock that shows `now_ms`.
    pub fn new(now_ms: u64) -> Self {
        ManualClock(Arc::new(Times { wall: now_ms.into(), steady: AtomicU64::default() }))
    }

    /// Turns the clock to `now_ms`, forwards or backwards. Forwards the steady time goes with it.
    pub fn set(&self, now_ms: u64) {
        let before = self.0.wall.swap(now_ms, Ordering::SeqCst);
        self.0.steady.fetch_add(now_ms.saturating_sub(before), Ordering::SeqCst);
    }

    /// Lets time pass, in milliseconds, on the steady clock alone: the wall clock was set back as much.
    pub fn pass(&self, ms: u64) {
        self.0.steady.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        self.0.wall.load(Ordering::SeqCst)
    }

    fn steady_ms(&self) -> u64 {
        self.0.steady.load(Ordering::SeqCst)
    }
}
