//! The manifest on disk: every change of the set of segments is one atomic step here.

use crate::error::{Corruption, OpenError};
use crate::format::manifest::Manifest;
use crate::format::segment::MANIFEST;
use crate::fs::{FileSystem, read_whole, replace};
use crate::log::sync::DurableMark;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Ids that a manifest reserves beyond those in use, so that most need no manifest of their own.
const ID_RESERVE: u64 = 64;

/// Holds the manifest and replaces it; shared by the background threads.
#[derive(Debug)]
pub(crate) struct ManifestFile {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    durable: DurableMark,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// What stands on disk.
    manifest: Manifest,
    /// The next segment id to be issued, at most the manifest's.
    next_id: u64,
    /// Set when it is not known which of two manifests a power cut would leave.
    doubtful: bool,
}

/// Reads the manifest of `dir`; `None` if there is none.
pub(crate) fn read(fs: &dyn FileSystem, dir: &Path) -> Result<Option<Manifest>, OpenError> {
    let path = dir.join(MANIFEST);
    let bytes = match fs.open(&path).and_then(|file| read_whole(&*file)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(OpenError::io("read", path)(error)),
    };
    match Manifest::decode(&bytes) {
        Ok(manifest) => Ok(Some(manifest)),
        Err(damage) => Err(Corruption { file: path, offset: 0, damage }.into()),
    }
}

impl ManifestFile {
    /// Takes charge of `manifest`, which is what stands on disk (or will, after the first update).
    /// Each update records how far the log is durable, as `durable` tells.
    pub(crate) fn new(
        fs: Arc<dyn FileSystem>,
        dir: PathBuf,
        manifest: Manifest,
        durable: DurableMark,
    ) -> ManifestFile {
        let next_id = manifest.next_segment;
        ManifestFile { fs, dir, durable, state: Mutex::new(State { manifest, next_id, doubtful: false }) }
    }

    /// A copy of the manifest.
    pub(crate) fn get(&self) -> Manifest {
        self.lock().manifest.clone()
    }

    /// Whether it names segment `id`.
    pub(crate) fn names(&self, id: u64) -> bool {
        self.lock().manifest.segments.iter().any(|entry| entry.id == id)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Both fields are replaced whole: a panic elsewhere does not spoil them.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Issues a segment id, which the manifest on disk has reserved.
    pub(crate) fn issue_id(&self) -> io::Result<u64> {
        let mut state = self.lock();
        if state.next_id >= state.manifest.next_segment {
            self.replace(&mut state, |_| {})?;
        }
        state.next_id += 1;
        Ok(state.next_id - 1)
    }

    /// Changes the manifest in one atomic and durable step. On an error the old one stands, or, if the
    /// new one was already in place but could not be made durable, no further update is accepted.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Manifest)) -> io::Result<()> {
        self.replace(&mut self.lock(), change)
    }

    fn replace(&self, state: &mut State, change: impl FnOnce(&mut Manifest)) -> io::Result<()> {
        if state.doubtful {
            return Err(io::Error::other("an earlier replacement of the manifest could not be synced"));
        }
        let mut next = state.manifest.clone();
        change(&mut next);
        next.generation += 1;
        next.next_segment = next.next_segment.max(state.next_id + ID_RESERVE);
        next.watermark = next.watermark.max(self.durable.get().position);
        next.segments.sort_by_key(|segment| segment.id);
        replace(&*self.fs, &self.dir, MANIFEST, &next.encode())?;
        // From here on a reader sees the new manifest, whatever becomes of the sync.
        state.manifest = next;
        self.fs.sync_dir(&self.dir).inspect_err(|_| state.doubtful = true)
    }
}
