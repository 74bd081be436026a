//! Tools for a store that no server has open. They only read the directory that they are given; what they
//! make goes into a new one, which appears whole or not at all.
//!
//! | file | holds |
//! | --- | --- |
//! | `check.rs` | is everything as it was written? |
//! | `inspect.rs` | what the files say, structure by structure |
//! | `repair.rs` | a new store of all that is sound, and a report of what is lost |
//! | `restore.rs` | a new store as an earlier sequence left it |
//! | `patient.rs` | a disk that refuses parts of a file |
//! | `source.rs`, `survey.rs`, `walk.rs`, `hints.rs` | reading a directory past its damage |
//! | `rebuild.rs` | a manifest made up from the segments |
//! | `build.rs`, `report.rs` | writing the new directory, and what was lost |

mod build;
mod check;
mod hints;
mod inspect;
mod patient;
mod rebuild;
mod repair;
mod report;
mod restore;
mod source;
mod survey;
mod walk;

pub use check::{Checked, check};
pub use inspect::{Item, Show, inspect_dir, inspect_file};
pub use repair::{Gap, LostKey, Repaired, repair};
pub use restore::{Restored, Target, restore};

use crate::error::Damage;
use std::io;
use std::path::PathBuf;

/// Is told how far a tool is, in bytes.
pub trait Progress {
    /// A part of the work begins, with so many bytes to read.
    fn begin(&mut self, what: &'static str, bytes: u64);
    /// So many more have been read.
    fn advance(&mut self, bytes: u64);
}

/// Tells nobody.
impl Progress for () {
    fn begin(&mut self, _: &'static str, _: u64) {}
    fn advance(&mut self, _: u64) {}
}

/// What is wrong at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// The bytes are not what was written.
    #[error("{0}")]
    Damage(#[from] Damage),
    /// The manifest promises that no such number has been issued.
    #[error(
        "sequence {sequence} is above the manifest's limit {limit}: the MANIFEST is older than this file"
    )]
    AboveLimit {
        /// The record's sequence.
        sequence: u64,
        /// The manifest's limit.
        limit: u64,
    },
    /// A file that the manifest cannot know.
    #[error("its id is above all that the manifest has issued: the MANIFEST is older than this file")]
    AboveIds,
    /// A file that the manifest should know.
    #[error("the log goes on here, and the MANIFEST does not name it: the MANIFEST is older than this file")]
    Later,
    /// The manifest's figures of a segment are not those of its records.
    #[error("the number of records, or their sequences, are not those that the MANIFEST tells")]
    Summary,
    /// A hint that passes its own checks tells something else than the segment.
    #[error("the hint does not tell what the segment has at offset {record}")]
    HintLies {
        /// The record's offset in the segment.
        record: u64,
    },
    /// A filter that passes its own checks does not know a key.
    #[error("the filter does not hold the key of the record at offset {record} of the segment")]
    FilterLies {
        /// The record's offset in the segment.
        record: u64,
    },
}

/// A damaged place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// Where in it the damage begins, in bytes.
    pub offset: u64,
    /// Where sound bytes follow again; at `offset` where no bytes can be named.
    pub end: u64,
    /// What is wrong.
    pub flaw: Flaw,
    /// Keys whose records are damaged, as far as a sound hint names them.
    pub keys: Vec<Vec<u8>>,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: offset {}", self.file.display(), self.offset)?;
        if self.end > self.offset {
            write!(f, " to {}", self.end)?;
        }
        write!(f, ": {}", self.flaw)
    }
}

/// What was found and does no harm.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Note {
    /// The store was not closed cleanly; the next start recovers it.
    #[error("the store was not closed cleanly: the next start recovers it")]
    Unclean,
    /// Appends that a crash cut off. Nobody was told that they were durable.
    #[error("{}: offset {offset}: a torn tail of {bytes} bytes, which a crash cut off; the next start leaves it behind", file.display())]
    TornTail {
        /// The segment.
        file: PathBuf,
        /// Where the log ends in it.
        offset: u64,
        /// Bytes behind that, zeros at their end not counted.
        bytes: u64,
    },
    /// A hint that will be made anew from its segment.
    #[error("{}: the hint is of no use ({why}); it will be made anew", file.display())]
    Hint {
        /// The hint.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A filter that cannot be used; compaction takes it to hold every key.
    #[error("{}: the filter is of no use ({why}); compaction does without it", file.display())]
    Filter {
        /// The hint that it is in.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The rest of interrupted work.
    #[error("{}: left by interrupted work; the next start removes it", file.display())]
    Stray {
        /// The file.
        file: PathBuf,
    },
}

/// Why a tool could not do its work. The directory that it read is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// A server has the directory open.
    #[error("{} is in use by a server (its LOCK file is held); stop it first, or use KIVAL SCRUB on the running server", dir.display())]
    Locked {
        /// The data directory.
        dir: PathBuf,
    },
    /// There is neither a manifest nor a segment.
    #[error("{} holds no kival store", dir.display())]
    NoStore {
        /// The directory.
        dir: PathBuf,
    },
    /// The new directory would overwrite something.
    #[error("{} exists already; name another directory, or remove it first", path.display())]
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// The new directory would lie in the old one.
    #[error("{} lies inside the data directory; name another one", path.display())]
    Inside {
        /// The directory.
        path: PathBuf,
    },
    /// A newer kival has written this.
    #[error("{}: offset {offset}: {damage}; use that version's tools", file.display())]
    Newer {
        /// The file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What it holds.
        damage: Damage,
    },
    /// The source is damaged.
    #[error(
        "the store is damaged in {places} places, the first: {first}; run `kival-server check`, then `kival-server repair`"
    )]
    Damaged {
        /// The first damaged place.
        first: Box<Place>,
        /// How many there are.
        places: usize,
    },
    /// Compaction has dropped what this would need.
    #[error("the store can be restored to sequence {floor} and later{}; what came before has been compacted away", since(*time_ms))]
    BelowFloor {
        /// The lowest sequence that can be restored to.
        floor: u64,
        /// When that was written, in Unix milliseconds, if it is known: then at the latest.
        time_ms: Option<u64>,
    },
    /// The store held nothing yet.
    #[error(
        "the store held nothing then; its first record is sequence {sequence} (time {time_ms}, in Unix milliseconds)"
    )]
    BeforeFirst {
        /// The lowest sequence of the store.
        sequence: u64,
        /// When that was written, in Unix milliseconds, at the latest.
        time_ms: u64,
    },
    /// The store has not come so far.
    #[error("the store ends at sequence {last}")]
    BeyondEnd {
        /// Its last sequence.
        last: u64,
    },
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

fn since(time_ms: Option<u64>) -> String {
    time_ms.map_or(String::new(), |ms| format!(" (time {ms}, in Unix milliseconds)"))
}

impl ToolError {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> ToolError {
        let path = path.into();
        move |source| ToolError::Io { action, path, source }
    }
}
