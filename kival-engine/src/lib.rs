//! kival's storage engine: a Bitcask. Every key is in memory, every value in an append-only, checksummed
//! log of segments. A write is one sequential append, a read at most one disk read, a restart a scan of
//! small hint files.
//!
//! The engine is a synchronous library with one writer, [`Engine`]; it knows no network and no async
//! runtime. It runs on a [`fs::FileSystem`]: the operating system's, or one in memory.
//!
//! | module | holds | never |
//! | --- | --- | --- |
//! | [`engine`] | the writer: staging, commits, reads, databases, maintenance | a byte layout |
//! | [`keydir`] | the keys in memory | a file, a clock |
//! | [`mod@format`] | bytes to values and back, as `record_format.md` says | I/O |
//! | `log` | segments, hints and manifest as files; sync and housekeeping threads | the keydir |
//! | `recovery` | from files to keydir, at open | a clock |
//! | `compaction` | merges, and when to do them | a change of the keydir outside the writer |
//! | [`feed`] | changes in order, read from the log | the keydir |
//! | [`offline`] | check, inspect, repair and restore of a store that no server has open | a change of what it reads |
//! | [`fs`], [`clock`] | what the engine needs of a machine, as traits | |

mod cache;
pub mod clock;
mod compaction;
pub mod engine;
pub mod error;
pub mod feed;
pub mod format;
pub mod fs;
pub mod keydir;
mod log;
pub mod offline;
mod priority;
mod recovery;

pub use compaction::{BadWindow, CompactionPolicy, Plan, PlannedSegment, Plans, Progress, Reason, Window};
pub use engine::options::{Background, OnCorruption, Options, SyncPolicy, Worker};
pub use engine::quarantine::Zone;
pub use engine::{
    BackupStatus, ColdRead, Engine, Fetched, KeyEntry, LargeStart, LargeWrite, LargeWritten, ReadBack,
    Savepoint, ScrubStatus, SegmentStats, Stats,
};
pub use error::{Corruption, Damage, OpenError, ReadError, WriteError};
pub use log::backup::Backup;
pub use log::scrub::{DamagedPlace, Fault};
pub use log::segments::SegmentState;
pub use log::sync::Waker;
pub use priority::step_back;
pub use recovery::{OpenReport, TornTail};
