//! The directory that a tool reads: its lock, its names, its manifest, its segments opened.

use super::ToolError;
use super::patient::{PatientFs, Refused};
use crate::error::{Corruption, Damage, OpenError};
use crate::format::manifest::Manifest;
use crate::format::segment::{LOCK, MANIFEST, SegmentHeader, file_name, id_of};
use crate::fs::{File, FileSystem, LockGuard};
use crate::log::manifest_file;
use crate::log::scan::read_segment_header;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A data directory or backup, opened for reading.
pub(crate) struct Source {
    pub(crate) fs: Arc<dyn FileSystem>,
    pub(crate) dir: PathBuf,
    pub(crate) names: Vec<String>,
    /// What the disk has refused so far.
    pub(crate) refused: Refused,
    _lock: Option<Box<dyn LockGuard>>,
}

/// A manifest: sound, not there, or damaged.
pub(crate) enum Found {
    Sound(Manifest),
    Missing,
    Damaged(Damage),
}

/// A segment's file, or why there is none to read.
pub(crate) struct Opened {
    pub(crate) path: PathBuf,
    pub(crate) file: Option<Arc<dyn File>>,
    /// Bytes of the file.
    pub(crate) len: u64,
    pub(crate) header: Result<SegmentHeader, Damage>,
}

impl Source {
    /// Opens `dir`, and keeps servers out of it as long as this lives. A directory that has never had a
    /// lock, such as a backup, gets none.
    pub(crate) fn open(fs: Arc<dyn FileSystem>, dir: &Path) -> Result<Source, ToolError> {
        let mut source = Source::unlocked(fs, dir)?;
        if source.names.iter().any(|name| name == LOCK) {
            let path = dir.join(LOCK);
            match source.fs.lock(&path) {
                Ok(Some(guard)) => source._lock = Some(guard),
                Ok(None) => return Err(ToolError::Locked { dir: dir.to_owned() }),
                // No server can have it open either.
                Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {}
                Err(error) => return Err(ToolError::io("lock", path)(error)),
            }
        }
        Ok(source)
    }

    /// Opens `dir`, in which a server may be at work.
    pub(crate) fn unlocked(fs: Arc<dyn FileSystem>, dir: &Path) -> Result<Source, ToolError> {
        let (fs, refused) = PatientFs::over(fs);
        let mut names = fs.list(dir).map_err(ToolError::io("list", dir))?;
        names.sort();
        if !names.iter().any(|name| name == MANIFEST || name.ends_with(".seg")) {
            return Err(ToolError::NoStore { dir: dir.to_owned() });
        }
        Ok(Source { fs, dir: dir.to_owned(), names, refused, _lock: None })
    }

    /// The manifest.
    pub(crate) fn manifest(&self) -> Result<Found, ToolError> {
        let newer = |file, damage| ToolError::Newer { file, offset: 0, damage };
        match manifest_file::read(&*self.fs, &self.dir) {
            Ok(Some(manifest)) => Ok(Found::Sound(manifest)),
            Ok(None) => Ok(Found::Missing),
            Err(OpenError::Corrupt(Corruption { file, damage, .. })) if is_newer(damage) => {
                Err(newer(file, damage))
            }
            Err(OpenError::Corrupt(Corruption { damage, .. })) => Ok(Found::Damaged(damage)),
            Err(OpenError::Io { path, source, .. }) => Err(ToolError::io("read", path)(source)),
            Err(other) => Err(ToolError::io("read", self.dir.join(MANIFEST))(io::Error::other(other))),
        }
    }

    /// The segment `id` of `store`.
    pub(crate) fn segment(&self, store: u64, id: u64) -> Result<Opened, ToolError> {
        let path = self.dir.join(file_name(id));
        let file = match self.fs.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Opened { path, file: None, len: 0, header: Err(Damage::Missing) });
            }
            Err(error) => return Err(ToolError::io("open", path)(error)),
        };
        let header = read_segment_header(&*file, store, id).map_err(ToolError::io("read", &path))?;
        if let Err(damage) = header
            && is_newer(damage)
        {
            return Err(ToolError::Newer { file: path, offset: 0, damage });
        }
        let len = file.len().map_err(ToolError::io("measure", &path))?;
        Ok(Opened { path, file: Some(file), len, header })
    }

    /// The ids of all segment files.
    pub(crate) fn segment_ids(&self) -> Vec<u64> {
        self.names.iter().filter(|name| name.ends_with(".seg")).filter_map(|name| id_of(name)).collect()
    }
}

/// Whether sound bytes hold what this program does not know: nothing that a repair should touch.
pub(crate) fn is_newer(damage: Damage) -> bool {
    matches!(damage, Damage::Newer(_) | Damage::Unsupported)
}
