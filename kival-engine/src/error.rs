//! The engine's errors, one enum for each family of operations.

use std::io;
use std::path::{Path, PathBuf};

/// What is wrong with bytes that were read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The magic number is not the one this kind of file begins with.
    #[error("not a file of this kind (bad magic number)")]
    Magic,
    /// The checksum does not match.
    #[error("checksum mismatch")]
    Checksum,
    /// The structure ends before its announced size.
    #[error("cut short")]
    Truncated,
    /// A field holds a value that cannot be (a size over its limit, ids that do not rise).
    #[error("impossible value in a field")]
    Field,
    /// The bytes are sound but belong elsewhere: another store, segment, offset, key or sequence.
    #[error("belongs to another place")]
    Misplaced,
    /// Sequence numbers do not rise as they must.
    #[error("sequence numbers out of order")]
    Order,
    /// The file was written by a newer version of kival.
    #[error("written by a newer format version ({0})")]
    Newer(u32),
    /// The bytes are sound but hold an unknown kind, state, flag or data type, or a reserved byte
    /// that is not zero: a newer kival wrote them.
    #[error("holds what only a newer kival knows")]
    Unsupported,
    /// The file is named by the manifest but is not there.
    #[error("file is missing")]
    Missing,
    /// The disk does not give the bytes back; only the offline tools read past that.
    #[error("the disk refuses to read this")]
    Unreadable,
}

/// Damage found at a place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: offset {offset}: {damage}", file.display())]
pub struct Corruption {
    /// The damaged file.
    pub file: PathBuf,
    /// Where in it, in bytes.
    pub offset: u64,
    /// What is wrong there.
    pub damage: Damage,
}

impl Corruption {
    /// The data directory of the damaged file.
    fn dir(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new("."))
    }
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the directory open.
    #[error("{} is in use by another process (its LOCK file is held); stop that server or choose another directory", dir.display())]
    Locked {
        /// The data directory.
        dir: PathBuf,
    },
    /// There are segments but no manifest says which of them count.
    #[error("{} holds segments but no MANIFEST; choose another directory, or have one made up by `kival-server repair --dir {}`", dir.display(), dir.display())]
    NoManifest {
        /// The data directory.
        dir: PathBuf,
    },
    /// The manifest is older than the files beside it.
    #[error("the MANIFEST in {} does not belong to the segments beside it ({evidence}); put back the one that was there last, or have one made up by `kival-server repair --dir {}`", dir.display(), dir.display())]
    StaleManifest {
        /// The data directory.
        dir: PathBuf,
        /// What shows it.
        evidence: String,
    },
    /// A file is damaged beyond what a crash can leave behind.
    #[error(
        "{0}; nothing was changed; run `kival-server check --dir {dir}`, then `kival-server repair --dir {dir}`",
        dir = .0.dir().display()
    )]
    Corrupt(#[from] Corruption),
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

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// What is known of the key may not be its newest record: that may be among what is lost there.
    #[error("{0}; a newer record of this key may be lost there")]
    Doubtful(Corruption),
    /// What is on disk is not what was written.
    #[error("{0}")]
    Corrupt(#[from] Corruption),
    /// The operating system refused.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The segment.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// Why a write was refused; nothing has changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// There is no room for the record on the disk.
    #[error("No space left on device for the log")]
    NoSpace,
    /// An append or a sync failed earlier: nothing is written until the store is opened again.
    #[error("writes are refused until a restart: {cause}")]
    Poisoned {
        /// What failed first.
        cause: String,
    },
    /// This append failed, and was taken back whole.
    #[error("cannot append to the log: {cause}")]
    Append {
        /// The system's error.
        cause: String,
    },
    /// What a change would rest on may be lost there.
    #[error("{0}; what this would change may be lost there")]
    Doubtful(Corruption),
    /// A backup would hold the damage too, and in time push out the last sound one.
    #[error(
        "{0}; a backup would keep that in the place of a sound one: stop the server and repair the store first"
    )]
    Damaged(Corruption),
    /// The key or the value is over 512 MiB.
    #[error("key or value exceeds the maximum size of 512 MiB")]
    TooLarge,
}

impl OpenError {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> OpenError {
        let path = path.into();
        move |source| OpenError::Io { action, path, source }
    }
}
