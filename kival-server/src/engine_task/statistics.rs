//! What commands have cost: calls, time and failures of each. INFO and LATENCY HISTOGRAM show it; when the clock
//! is read is decided in `meter.rs`.

use crate::command::{self, Row};
use hdrhistogram::Histogram;
use std::time::Duration;

/// Shortest and longest time that a histogram tells from others, in nanoseconds, and its significant digits:
/// those of Redis.
const SHORTEST: u64 = 1;
const LONGEST: u64 = 1_000_000_000;
const DIGITS: u8 = 2;

/// What one command has cost.
#[derive(Debug, Clone, Default)]
pub struct CommandStatistics {
    /// How often it ran.
    pub calls: u64,
    /// Nanoseconds of all its runs.
    pub nanos: u64,
    /// How often it was refused before it ran.
    pub rejected: u64,
    /// How often it ran and ended with an error.
    pub failed: u64,
    /// Times of its runs, in nanoseconds, from the first that was tracked.
    pub histogram: Option<Box<Histogram<u64>>>,
}

/// What every command has cost.
#[derive(Debug)]
pub struct Statistics {
    /// By the index of the row.
    rows: Vec<CommandStatistics>,
}

impl Default for Statistics {
    fn default() -> Statistics {
        Statistics { rows: vec![CommandStatistics::default(); command::rows().count()] }
    }
}

impl Statistics {
    /// A command ran so often, and took so long in all.
    pub fn ran(&mut self, row: Row, calls: u32, took: Duration, tracked: bool) {
        let command = &mut self.rows[row.index];
        let nanos = took.as_nanos() as u64;
        command.calls += u64::from(calls);
        command.nanos += nanos;
        if tracked {
            let each = (nanos / u64::from(calls.max(1))).max(SHORTEST);
            command.histogram.get_or_insert_with(histogram).saturating_record_n(each, calls.into());
        }
    }

    /// A command was refused before it ran.
    pub fn rejected(&mut self, row: Row) {
        self.rows[row.index].rejected += 1;
    }

    /// A command ran and ended with an error.
    pub fn failed(&mut self, row: Row) {
        self.rows[row.index].failed += 1;
    }

    /// What one command has cost.
    pub fn of(&self, row: Row) -> &CommandStatistics {
        &self.rows[row.index]
    }

    /// Every command with what it has cost.
    pub fn iter(&self) -> impl Iterator<Item = (Row, &CommandStatistics)> {
        command::rows().zip(&self.rows)
    }
}

fn histogram() -> Box<Histogram<u64>> {
    Box::new(Histogram::new_with_bounds(SHORTEST, LONGEST, DIGITS).expect("the bounds are in order"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_share_a_time_are_each_booked_with_their_part() {
        let mut statistics = Statistics::default();
        let row = command::rows().nth(3).unwrap();
        statistics.ran(row, 4, Duration::from_nanos(4000), true);
        statistics.ran(row, 1, Duration::from_secs(9), true);
        statistics.ran(row, 1, Duration::ZERO, false);
        let (found, command) = statistics.iter().find(|(_, command)| command.calls > 0).unwrap();
        assert_eq!((found.index, command.calls, command.nanos), (3, 6, 9_000_004_000));
        let histogram = command.histogram.as_ref().unwrap();
        assert_eq!((histogram.len(), histogram.count_at(1000)), (5, 4));
        assert!(histogram.max() >= LONGEST, "what is longer counts as the longest");
    }
}
