//! The file system below the engine, as a trait: the real one, one in memory, and wrappers for tests.
//!
//! Everything that the engine does to a disk goes through here, so that a test can see, delay or
//! fail each call. Files are written and read at explicit offsets; there is no file position.

pub mod gate;
pub mod hook;
mod memory;
mod real;

pub use memory::MemoryFs;
pub use real::RealFs;

use std::fmt::Debug;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// A directory tree with files.
pub trait FileSystem: Debug + Send + Sync {
    /// Creates `dir` and its missing parents, mode 0700.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// The names of the files and directories in `dir`, in no particular order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Creates a file for reading and writing, mode 0600; one that exists is emptied.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Opens an existing file for reading.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// The one path of something that exists, without links and `..`. Without links by itself, which is
    /// what the default takes for granted, it needs no look at the tree.
    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        let mut found = PathBuf::new();
        for part in std::path::absolute(path)?.components() {
            match part {
                Component::ParentDir => drop(found.pop()),
                part => found.push(part),
            }
        }
        Ok(found)
    }
    /// Renames a file over another, or a directory to a name that is free, atomically.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name, which must be free, on the same file system
    /// (`ErrorKind::CrossesDevices` elsewhere).
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes the entries of a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the lock file at `path` for as long as the guard lives; `None` if another process has it.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>>;
}

/// Holds a lock until it is dropped.
pub trait LockGuard: Debug + Send + Sync {}

/// An open file.
#[allow(clippy::len_without_is_empty)] // nobody asks
pub trait File: Debug + Send + Sync {
    /// Reads at `offset` into `buf`; fewer bytes than asked only at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// As `read_at`, but `None` if the bytes would have to come from the disk.
    fn read_at_cached(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>>;
    /// Writes some of `buf` at `offset` and says how much.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Cuts the file to `len` bytes and gives back what was reserved beyond.
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// Reserves disk space for the bytes `offset .. offset + len` without changing the file's length.
    /// A file system that cannot do this says so by `ErrorKind::Unsupported`.
    fn reserve(&self, offset: u64, len: u64) -> io::Result<()>;
    /// Makes contents and length durable.
    fn sync(&self) -> io::Result<()>;
    /// Lets the system drop what it holds of the file in memory, so that the next read shows what the
    /// disk has. Where that cannot be done nothing happens.
    fn forget_cached(&self) {}
}

/// Interruptions in a row after which a call is given up.
const INTERRUPTIONS: u32 = 100;

/// Writes all of `buf`, going on after short writes and interruptions.
pub(crate) fn write_all_at(file: &dyn File, mut buf: &[u8], mut offset: u64) -> io::Result<()> {
    let mut interrupted = 0;
    while !buf.is_empty() {
        match file.write_at(buf, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                buf = &buf[n..];
                offset += n as u64;
                interrupted = 0;
            }
            Err(error) if is_interruption(&error, &mut interrupted) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether a call was interrupted and is to be made again.
fn is_interruption(error: &io::Error, so_far: &mut u32) -> bool {
    *so_far += 1;
    error.kind() == io::ErrorKind::Interrupted && *so_far < INTERRUPTIONS
}

/// Fills `buf`, or says how much there was before the end of the file.
pub(crate) fn read_full_at(file: &dyn File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    let mut interrupted = 0;
    while filled < buf.len() {
        match file.read_at(&mut buf[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(n) => (filled, interrupted) = (filled + n, 0),
            Err(error) if is_interruption(&error, &mut interrupted) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Replaces the file `dir/name` by `bytes`: written beside, synced, renamed. The directory is not synced.
pub(crate) fn replace(fs: &dyn FileSystem, dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let beside = dir.join(format!("{name}.tmp"));
    let file = fs.create(&beside)?;
    write_all_at(&*file, bytes, 0)?;
    file.sync()?;
    fs.rename(&beside, &dir.join(name))
}

/// Reads a whole file.
pub(crate) fn read_whole(file: &dyn File) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; file.len()? as usize];
    let read = read_full_at(file, &mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}
