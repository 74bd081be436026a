//! How fast counters rise, measured as Redis measures it: ten times a second, on average over the last
//! sixteen times.

use std::time::{Duration, Instant};

/// How often a rate is measured.
const EVERY: Duration = Duration::from_millis(100);
/// Measurements that the average is taken over.
const SAMPLES: usize = 16;

/// The rates of three counters: commands, bytes in, bytes out.
#[derive(Debug)]
pub struct Rates {
    samples: [[u64; 3]; SAMPLES],
    next: usize,
    last: [u64; 3],
    last_at: Instant,
}

impl Rates {
    /// Rates of counters that are zero now.
    pub fn new(now: Instant) -> Rates {
        Rates { samples: [[0; 3]; SAMPLES], next: 0, last: [0; 3], last_at: now }
    }

    /// Measures, if it is time.
    pub fn measure(&mut self, now: Instant, counters: [u64; 3]) {
        let passed = now.saturating_duration_since(self.last_at);
        if passed < EVERY {
            return;
        }
        let millis = passed.as_millis() as u64;
        // Counters that were reset meanwhile count as at rest.
        let rate = |index: usize| counters[index].saturating_sub(self.last[index]) * 1000 / millis;
        self.samples[self.next] = [rate(0), rate(1), rate(2)];
        self.next = (self.next + 1) % SAMPLES;
        (self.last, self.last_at) = (counters, now);
    }

    /// Each counter's rise a second.
    pub fn a_second(&self) -> [u64; 3] {
        [0, 1, 2].map(|index| self.samples.iter().map(|sample| sample[index]).sum::<u64>() / SAMPLES as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_rise_becomes_its_rate_and_goes_when_it_ends() {
        let start = Instant::now();
        let mut rates = Rates::new(start);
        let at = |beat: u64| start + EVERY * beat as u32;
        for beat in 1..=16 {
            rates.measure(at(beat), [beat * 10, beat * 1000, 0]);
            // Too early: not looked at.
            rates.measure(at(beat) + EVERY / 2, [u64::MAX; 3]);
        }
        assert_eq!(rates.a_second(), [100, 10_000, 0]);
        for beat in 17..=24 {
            rates.measure(at(beat), [0; 3]);
        }
        assert_eq!(rates.a_second(), [50, 5_000, 0]);
    }
}
