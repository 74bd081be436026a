//! The runway: zeros ahead of the log's end, so that a sync has neither a length nor an extent to journal.
//!
//! The writer lays it behind the group that it has just appended, and nobody else does: zeros from another
//! thread could come to stand on a group. Sealing cuts it off; recovery knows it by its zeros. Where it cannot
//! be written the log goes on without.

use super::Engine;
use crate::fs::write_all_at;
use std::collections::VecDeque;

/// How far zeros are written ahead, in bytes. Measured on ext4, microseconds for an append and its fdatasync:
///
/// | | appends of 8,000 bytes | of 150 bytes |
/// | --- | --- | --- |
/// | the file grows | 377 to 453 | 285 |
/// | the file grows into reserved space | 410 to 446 | 310 |
/// | zeros 64 KiB ahead | 242 to 322 | |
/// | zeros 256 KiB ahead | 215 to 275 | 190 |
/// | zeros 1 MiB ahead | 221 to 272 | |
const LENGTH: u64 = 256 << 10;
/// Where a sync covers more bytes than this the disk's time goes into them, and zeros would double it.
const MOST_A_SYNC: u64 = 64 << 10;
/// Syncs that were asked for longer ago, in milliseconds, say nothing about those to come.
const RECENT: u64 = 1000;

/// How often the log is synced, and how much is appended between two syncs.
#[derive(Debug, Default)]
pub(super) struct SyncPace {
    /// The last syncs: when they were asked for, on the steady clock, and the bytes appended by then.
    asked: VecDeque<(u64, u64)>,
    /// Bytes appended so far.
    appended: u64,
    /// The syncs that were done when one was last asked for.
    done: u64,
}

impl SyncPace {
    /// So many bytes were appended.
    pub(super) fn note_append(&mut self, bytes: u64) {
        self.appended += bytes;
    }

    /// A sync is asked for; `done` are done so far, and the newest `kept` are remembered.
    pub(super) fn note_sync(&mut self, now_ms: u64, done: u64, kept: usize) {
        // What is asked for while one waits to begin becomes one with it.
        if self.asked.is_empty() || done != self.done {
            self.done = done;
            self.asked.push_back((now_ms, self.appended));
        }
        while self.asked.len() > kept {
            self.asked.pop_front();
        }
    }

    /// Whether there were at least `least` syncs in the last second, each of few bytes on average.
    fn is_quick(&self, now_ms: u64, least: usize) -> bool {
        let Some(&(asked_ms, appended)) = self.asked.front() else { return false };
        let bytes = self.appended - appended;
        self.asked.len() >= least && now_ms <= asked_ms + RECENT && bytes <= least as u64 * MOST_A_SYNC
    }
}

impl Engine {
    /// Lays the next runway if the log has come to the end of the last one, and where it pays: under
    /// `runway_syncs` quick syncs. It lies in space that is reserved already, and within the segment's size.
    pub(super) fn lay_runway(&mut self) {
        let (active, least) = (&mut self.active, self.options.runway_syncs);
        if active.end <= active.runway || !active.can_lay || least == 0 {
            return;
        }
        if !self.pace.is_quick(self.options.clock.steady_ms(), least) {
            return;
        }
        let reserved = if active.can_reserve { active.reserved } else { u64::MAX };
        let end = (active.end + LENGTH).min(self.options.segment_size).min(reserved);
        if end <= active.end {
            return;
        }
        // Zeroed memory that is only read takes next to none.
        let zeros = vec![0; (end - active.end) as usize];
        match write_all_at(&*self.segments.get(active.slot).file, &zeros, active.end) {
            Ok(()) => active.runway = end,
            Err(error) => {
                tracing::info!(%error, "no zeros can be written ahead of the log: its syncs take longer");
                active.can_lay = false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Syncs at these times, each after so many bytes; whether they are quick, 16 being enough, a moment later.
    fn quick(times: impl Iterator<Item = u64>, bytes: u64, later: u64) -> bool {
        let (mut pace, mut last) = (SyncPace::default(), 0);
        for (done, time) in times.enumerate() {
            pace.note_append(bytes);
            pace.note_sync(time, done as u64, 16);
            last = time;
        }
        pace.is_quick(last + later, 16)
    }

    #[test]
    fn many_small_syncs_in_a_second_are_quick() {
        assert!(quick((0..100).map(|n| n * 50), 1000, 10));
        assert!(!quick(0..15, 1000, 10), "too few");
        assert!(!quick((0..100).map(|n| n * 100), 1000, 10), "too slow");
        assert!(!quick((0..100).map(|n| n * 50), 70_000, 10), "too large");
        assert!(!quick((0..100).map(|n| n * 50), 1000, 500), "too long ago");
    }

    #[test]
    fn what_is_asked_for_while_a_sync_waits_is_one_sync() {
        let mut pace = SyncPace::default();
        for time in 0..100 {
            pace.note_append(5000);
            pace.note_sync(time, time / 20, 16);
        }
        assert!(!pace.is_quick(100, 16), "these were five syncs");
    }
}
