//! How far compaction is, in numbers that the merge thread counts and the engine shows.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why a merge was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Asked for.
    ByHand,
    /// The dead bytes of the log reached their percentage.
    Percentage,
    /// A segment had many dead bytes.
    DeadBytes,
    /// There were many small segments.
    SmallFiles,
    /// Nothing in a segment was live.
    WhollyDead,
    /// The disk is full.
    FullDisk,
}

impl Reason {
    /// A word for it.
    pub fn word(self) -> &'static str {
        match self {
            Reason::ByHand => "by-hand",
            Reason::Percentage => "percentage",
            Reason::DeadBytes => "dead-bytes",
            Reason::SmallFiles => "small-files",
            Reason::WhollyDead => "wholly-dead",
            Reason::FullDisk => "full-disk",
        }
    }
}

/// How far compaction is. What is counted of a merge is that of the running one, or of the last.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Progress {
    /// A merge runs.
    pub running: bool,
    /// A merge was asked for and waits for its segments to be sealed.
    pub scheduled: bool,
    /// Merges finished since the start.
    pub finished: u64,
    /// Merges that failed since the start.
    pub failed: u64,
    /// Why the merge was begun.
    pub reason: Option<Reason>,
    /// Bytes that it has read.
    pub bytes_read: u64,
    /// Bytes that it has to read; less once it is seen that a segment need not be read.
    pub bytes_total: u64,
    /// Bytes that it has written.
    pub bytes_written: u64,
    /// Records that it has copied.
    pub records_copied: u64,
    /// Records that it has left out.
    pub records_dropped: u64,
    /// Segments that go.
    pub segments_in: u64,
    /// Segments that it has written.
    pub segments_out: u64,
    /// Seconds that the running merge has taken, if one runs.
    pub seconds: Option<f64>,
    /// Seconds that the last one took, if there was one.
    pub last_seconds: Option<f64>,
    /// Whether the last merge ended well (so before the first).
    pub last_ok: bool,
    /// Why the last one that failed did.
    pub last_error: Option<String>,
}

/// What a merge counts.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    pub(super) read: AtomicU64,
    pub(super) total: AtomicU64,
    pub(super) written: AtomicU64,
    pub(super) copied: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) inputs: AtomicU64,
    pub(super) outputs: AtomicU64,
}

impl Meter {
    pub(super) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }

    pub(super) fn show(&self, progress: &mut Progress) {
        progress.bytes_read = Meter::get(&self.read);
        progress.bytes_total = Meter::get(&self.total);
        progress.bytes_written = Meter::get(&self.written);
        progress.records_copied = Meter::get(&self.copied);
        progress.records_dropped = Meter::get(&self.dropped);
        progress.segments_in = Meter::get(&self.inputs);
        progress.segments_out = Meter::get(&self.outputs);
    }
}
