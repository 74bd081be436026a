//! How fast a merge may be: a bucket of bytes that fills with time.

use crate::clock::Timer;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Time that unused bytes are kept for.
const BURST: Duration = Duration::from_millis(100);
/// The longest wait after which a stop, or another rate, is seen.
const SLICE: Duration = Duration::from_millis(20);

/// Holds a merge to its rate.
pub(super) struct Pace {
    timer: Arc<dyn Timer>,
    /// Bytes a second, 0 for no limit; the engine task may change it meanwhile.
    rate: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    /// When all that was spent is paid for.
    paid: Duration,
}

impl Pace {
    pub(super) fn new(timer: Arc<dyn Timer>, rate: Arc<AtomicU64>, stop: Arc<AtomicBool>) -> Pace {
        Pace { paid: timer.now(), timer, rate, stop }
    }

    /// Counts bytes read or written, and waits as long as they are ahead of the rate.
    ///
    /// # Errors
    /// The store is being closed.
    pub(super) fn spend(&mut self, bytes: u64) -> io::Result<()> {
        let Some(rate) = self.rate() else { return Ok(()) };
        let now = self.timer.now();
        self.paid = self.paid.max(now.saturating_sub(BURST)) + Duration::from_secs_f64(bytes as f64 / rate);
        loop {
            let ahead = self.paid.saturating_sub(self.timer.now());
            if ahead.is_zero() {
                return Ok(());
            }
            if self.stop.load(Ordering::Relaxed) {
                return Err(io::Error::other("the store is being closed"));
            }
            if self.rate() != Some(rate) {
                // The new rate counts from now on.
                self.paid = self.timer.now();
                return Ok(());
            }
            self.timer.wait(ahead.min(SLICE));
        }
    }

    fn rate(&self) -> Option<f64> {
        let rate = self.rate.load(Ordering::Relaxed);
        (rate > 0).then_some(rate as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SteppedTimer;

    fn pace(rate: u64) -> (Pace, SteppedTimer) {
        let timer = SteppedTimer::default();
        let shared = Arc::new(timer.clone());
        (Pace::new(shared, Arc::new(AtomicU64::new(rate)), Arc::default()), timer)
    }

    #[test]
    fn bytes_take_their_time() {
        let (mut pace, timer) = pace(1000);
        for _ in 0..10 {
            pace.spend(500).expect("not stopped");
        }
        assert_eq!(timer.now(), Duration::from_secs(5));
        timer.wait(Duration::from_secs(100));
        pace.spend(1000).expect("not stopped");
        assert_eq!(timer.now(), Duration::from_millis(105_900), "idle time is not saved up");
    }

    #[test]
    fn a_limit_that_is_lifted_lets_a_waiting_merge_go() {
        let (mut pace, timer) = pace(1);
        let rate = pace.rate.clone();
        timer.on_wait(move || rate.store(0, Ordering::Relaxed));
        pace.spend(1 << 40).expect("not stopped");
        assert_eq!(timer.now(), SLICE);
    }

    #[test]
    fn a_stop_ends_a_long_wait() {
        let (mut pace, timer) = pace(1);
        let stop = pace.stop.clone();
        timer.on_wait(move || stop.store(true, Ordering::Relaxed));
        assert!(pace.spend(1 << 40).is_err());
        assert_eq!(timer.now(), SLICE);
    }
}
