//! What a store is opened with.

use crate::clock::{Clock, SystemClock, SystemTimer, Timer};
use crate::compaction::CompactionPolicy;
use crate::fs::{FileSystem, MemoryFs, RealFs};
use crate::log::sync::Waker;
use std::path::PathBuf;
use std::sync::Arc;

/// When an append is made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyncPolicy {
    /// A sync is asked for at each commit; a writer that waits for it has lost nothing in a power cut.
    #[default]
    Always,
    /// A sync is asked for once a second, by [`crate::Engine::maintain`].
    EverySecond,
    /// The operating system decides.
    No,
}

/// What an open does about damage that no crash leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnCorruption {
    /// It is refused, and says which file is damaged and where.
    #[default]
    Refuse,
    /// What is sound is served. A key that the damage may concern is an error, whether it is known or not.
    Quarantine,
}

/// Work beside the writer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worker {
    /// Syncs of the log.
    Sync,
    /// Preparing and sealing segments, replacing the manifest.
    Keeper,
    /// Merges.
    Merge,
}

/// Who does the work beside the writer's.
#[derive(Clone, Default)]
pub enum Background {
    /// Threads of the engine's own.
    #[default]
    Threads,
    /// The caller, inside [`crate::Engine::maintain`]: the function says, worker by worker, whether that one
    /// does its next piece now. With the same answers the same calls reach the file system in the same
    /// order, which is what a simulation needs. Whoever has to wait for a sync makes it himself.
    Lockstep(Arc<dyn Fn(Worker) -> bool + Send + Sync>),
}

impl Background {
    /// Whether the caller does the work.
    pub(crate) fn is_lockstep(&self) -> bool {
        matches!(self, Background::Lockstep(_))
    }

    /// Whether the caller is to do a piece of this work now.
    pub(crate) fn turn_of(&self, worker: Worker) -> bool {
        match self {
            Background::Threads => false,
            Background::Lockstep(choose) => choose(worker),
        }
    }
}

/// What a store is opened with. Those fields that [`crate::Engine`] has a setter for can change later.
#[derive(Clone)]
pub struct Options {
    /// The data directory; it is created if it is missing.
    pub dir: PathBuf,
    /// Where the directory lies. Default: the operating system's file system.
    pub fs: Arc<dyn FileSystem>,
    /// Tells the time. Default: the machine's clock.
    pub clock: Arc<dyn Clock>,
    /// Measures the time that a merge is slowed by, and how long it takes. Default: the machine's timer.
    pub timer: Arc<dyn Timer>,
    /// Number of databases, at most 65,536. Default 16. A store may hold more from an earlier time.
    pub databases: u32,
    /// A segment is full when it has this many bytes. Default 256 MiB, at least 4 KiB.
    pub segment_size: u64,
    /// Bytes of values kept in memory. Default 64 MiB; 0 keeps none.
    pub cache_size: u64,
    /// When appends are made durable. Default: always.
    pub sync: SyncPolicy,
    /// What an open does about damage. Default: it is refused.
    pub on_corruption: OnCorruption,
    /// When compaction begins by itself.
    pub compaction: CompactionPolicy,
    /// Bytes of disk space held in the file `RESERVE`, for deletions and compaction on a full disk.
    /// Default 0: none.
    pub reserved_space: u64,
    /// Syncs within a second from which on zeros are written ahead of the log, at most 256 KiB, as long as
    /// little is appended between two of them: a sync takes half its time then. Default 16; 0 is never.
    pub runway_syncs: usize,
    /// Bytes a second that a scrub reads. Default 50 MB; 0 is no limit.
    pub scrub_rate: u64,
    /// Values of so many bytes are written by [`crate::LargeWrite`], if the caller cares to, and read by
    /// [`crate::ColdRead`]. Default 8 MiB, at least 256; 0 is never.
    pub large_value: u64,
    /// Values of so many bytes change page by page. Default 16 KiB; less than two pages is the same as two.
    pub paged_from: u64,
    /// Called from background threads when [`crate::Engine::maintain`] has something to do or a sync
    /// has ended. Default: nothing.
    pub waker: Waker,
    /// Who does the work beside the writer's. Default: threads.
    pub background: Background,
}

impl Options {
    /// The defaults for a store in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Options {
        Options {
            dir: dir.into(),
            fs: Arc::new(RealFs),
            clock: Arc::new(SystemClock),
            timer: Arc::new(SystemTimer::default()),
            databases: 16,
            segment_size: 256 << 20,
            cache_size: 64 << 20,
            sync: SyncPolicy::default(),
            on_corruption: OnCorruption::default(),
            compaction: CompactionPolicy::default(),
            reserved_space: 0,
            runway_syncs: 16,
            scrub_rate: 50_000_000,
            large_value: 8 << 20,
            paged_from: 16 << 10,
            waker: Arc::new(|| {}),
            background: Background::default(),
        }
    }

    /// The defaults for a store that lives in memory only.
    pub fn in_memory() -> Options {
        Options { fs: Arc::new(MemoryFs::default()), runway_syncs: 0, ..Options::new("/memory") }
    }

    /// Brings every value into its range.
    pub fn sanitize(&mut self) {
        self.databases = self.databases.clamp(1, 1 << 16);
        self.segment_size = self.segment_size.clamp(4 << 10, 1 << 38);
        self.large_value = if self.large_value == 0 { u64::MAX } else { self.large_value.max(256) };
        self.runway_syncs = self.runway_syncs.min(1 << 10);
    }
}
