//! Whether it pays to ask the system for what its cache has of a segment.
//!
//! To ask in vain is not free: the system begins to read from the disk, on the thread that asks. So where hardly
//! anything was found it is asked now and then only, and the others read on a thread that may wait.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

/// So many reads in vain, of 32, are too many.
const TOO_MANY: u32 = 28;
/// Then every so many reads one asks.
const EVERY: u32 = 16;

/// How the last reads fared that asked.
#[derive(Debug, Default)]
pub(crate) struct Luck {
    /// A bit for each, the newest lowest: set if it was in vain.
    in_vain: AtomicU32,
    /// Reads that did not ask, when they should not.
    passed: AtomicU32,
}

impl Luck {
    /// What a read that asks finds; nothing if it is not worth asking.
    ///
    /// # Errors
    /// That of the read.
    pub(crate) fn ask<T>(&self, read: impl FnOnce() -> io::Result<Option<T>>) -> io::Result<Option<T>> {
        if !self.is_worth_it() {
            return Ok(None);
        }
        let found = read();
        let in_vain = !matches!(found, Ok(Some(_)));
        let before = self.in_vain.load(Ordering::Relaxed);
        self.in_vain.store(before << 1 | u32::from(in_vain), Ordering::Relaxed);
        found
    }

    fn is_worth_it(&self) -> bool {
        if self.in_vain.load(Ordering::Relaxed).count_ones() < TOO_MANY {
            return true;
        }
        self.passed.fetch_add(1, Ordering::Relaxed) % EVERY == EVERY - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_nothing_is_found_few_reads_ask_and_all_do_when_something_is() {
        let luck = Luck::default();
        let asked = |reads: u32, found: bool| {
            let mut asked = 0;
            for _ in 0..reads {
                let read = || {
                    asked += 1;
                    Ok(found.then_some(()))
                };
                luck.ask(read).unwrap();
            }
            asked
        };
        assert_eq!(asked(28, false), 28);
        assert_eq!(asked(160, false), 10);
        assert!(asked(400, true) >= 150, "it is believed again after some five finds");
        assert_eq!(asked(100, true), 100);
    }
}
