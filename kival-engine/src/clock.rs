//! The wall clock, a clock that never goes back, and waiting, as traits, so that a test can turn them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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

/// Tells how much time passes, whatever the wall clock says, and lets it pass.
pub trait Timer: Send + Sync {
    /// Time since some moment that does not change.
    fn now(&self) -> Duration;
    /// Waits that long.
    fn wait(&self, time: Duration);
}

/// The machine's timer.
#[derive(Debug, Clone, Copy)]
pub struct SystemTimer(Instant);

impl Default for SystemTimer {
    fn default() -> Self {
        SystemTimer(Instant::now())
    }
}

impl Timer for SystemTimer {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn wait(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// A timer for tests: waiting takes no time, and moves it on. Clones share the time.
#[derive(Clone, Default)]
pub struct SteppedTimer(Arc<Mutex<Stepped>>);

#[derive(Default)]
struct Stepped {
    now: Duration,
    on_wait: Option<Box<dyn Fn() + Send>>,
}

impl SteppedTimer {
    /// What is called at each wait.
    pub fn on_wait(&self, call: impl Fn() + Send + 'static) {
        self.lock().on_wait = Some(Box::new(call));
    }

    fn lock(&self) -> MutexGuard<'_, Stepped> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Timer for SteppedTimer {
    fn now(&self) -> Duration {
        self.lock().now
    }

    fn wait(&self, time: Duration) {
        let mut stepped = self.lock();
        stepped.now += time;
        if let Some(call) = &stepped.on_wait {
            call();
        }
    }
}
