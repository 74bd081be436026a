//! A disk that does not give back all of a file: what it refuses is passed over, and noted.
//!
//! In the place of refused bytes stand others, under which no checksum holds: they are damage like any other,
//! and what is around them can still be read. What the damage comes from is told from the notes.

use crate::fs::{File, FileSystem, LockGuard};
use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes that a disk gives or refuses together.
const BLOCK: u64 = 4096;
/// What stands for a refused byte; not zero, since zeros behind a log's end are no damage.
const FILLER: u8 = 0xe5;
/// The system's errors for bytes that cannot be had back: EIO; EBADMSG and EUCLEAN, of file systems that check.
const REFUSALS: [i32; 3] = [5, 74, 117];

/// What a disk has refused so far; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Refused(Arc<Mutex<BTreeSet<(PathBuf, u64)>>>);

impl Refused {
    fn note(&self, path: &Path, block: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((path.to_owned(), block));
    }

    /// The refused parts of files, neighbours in one.
    pub(crate) fn parts(&self) -> Vec<(PathBuf, Range<u64>)> {
        let mut parts: Vec<(PathBuf, Range<u64>)> = Vec::new();
        for (path, block) in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let end = (block + 1) * BLOCK;
            match parts.last_mut() {
                Some((last, part)) if last == path && part.end == block * BLOCK => part.end = end,
                _ => parts.push((path.clone(), block * BLOCK..end)),
            }
        }
        parts
    }
}

/// A file system whose opened files pass over what the disk refuses.
#[derive(Debug)]
pub(crate) struct PatientFs {
    inner: Arc<dyn FileSystem>,
    refused: Refused,
}

impl PatientFs {
    /// Over `inner`; what it refuses is noted in what is given back.
    pub(crate) fn over(inner: Arc<dyn FileSystem>) -> (Arc<PatientFs>, Refused) {
        let refused = Refused::default();
        (Arc::new(PatientFs { inner, refused: refused.clone() }), refused)
    }
}

impl FileSystem for PatientFs {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.inner.list(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.inner.create(path)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let inner = self.inner.open(path)?;
        Ok(Arc::new(PatientFile { inner, path: path.to_owned(), refused: self.refused.clone() }))
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        self.inner.canonical(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.remove_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        self.inner.lock(path)
    }
}

#[derive(Debug)]
struct PatientFile {
    inner: Arc<dyn File>,
    path: PathBuf,
    refused: Refused,
}

impl PatientFile {
    /// Reads block by block.
    fn read_in_blocks(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let end = self.inner.len()?.min(offset + buf.len() as u64);
        let mut at = offset;
        while at < end {
            let block = at / BLOCK;
            let until = ((block + 1) * BLOCK).min(end);
            let part = &mut buf[(at - offset) as usize..(until - offset) as usize];
            at += match self.inner.read_at(part, at) {
                Ok(0) => break,
                Ok(read) => read as u64,
                Err(error) if is_refusal(&error) => {
                    part.fill(FILLER);
                    self.refused.note(&self.path, block);
                    until - at
                }
                Err(error) => return Err(error),
            };
        }
        Ok((at - offset) as usize)
    }
}

fn is_refusal(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|number| REFUSALS.contains(&number))
}

impl File for PatientFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        match self.inner.read_at(buf, offset) {
            Err(error) if is_refusal(&error) => self.read_in_blocks(buf, offset),
            read => read,
        }
    }

    fn read_at_cached(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.inner.read_at_cached(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.inner.write_at(buf, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.inner.truncate(len)
    }

    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        self.inner.reserve(offset, len)
    }

    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }

    fn forget_cached(&self) {
        self.inner.forget_cached();
    }
}
