//! A wrapper that shows every call to a hook first: the one way in which tests delay, fail, count or
//! leave out what the engine does to a disk.

use super::{File, FileSystem, LockGuard};
use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which call it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is the method of FileSystem or File of the same name")]
pub enum Op {
    CreateDir,
    List,
    Create,
    Open,
    Rename,
    Link,
    Remove,
    RemoveDir,
    SyncDir,
    Lock,
    ReadAt,
    ReadAtCached,
    WriteAt,
    Len,
    Truncate,
    Reserve,
    Sync,
}

impl Op {
    /// Whether the call may change what a disk holds, or makes a change durable.
    pub fn changes(self) -> bool {
        !matches!(self, Op::List | Op::Open | Op::Lock | Op::ReadAt | Op::ReadAtCached | Op::Len)
    }
}

/// A call that is about to be made.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Which.
    pub op: Op,
    /// The file or directory; of a rename or a link the new name.
    pub path: &'a Path,
    /// Bytes to be read or written; 0 for other calls.
    pub bytes: usize,
    /// Where in the file they are; 0 for other calls.
    pub offset: u64,
}

impl Call<'_> {
    /// Whether the path's text ends so.
    pub fn is_on(&self, end: &str) -> bool {
        self.path.to_string_lossy().ends_with(end)
    }
}

/// What becomes of a call.
#[derive(Debug)]
pub enum Verdict {
    /// It is made.
    Go,
    /// It is not made, and says that it was.
    Skip,
    /// A write or read of at most this many bytes is made.
    Short(usize),
    /// So many bytes of a write are made; then it fails.
    Torn(usize, io::Error),
    /// It fails.
    Fail(io::Error),
}

/// Sees every call before it is made.
pub trait Hook: Debug + Send + Sync {
    /// Decides what becomes of `call`.
    fn before(&self, call: &Call<'_>) -> Verdict;
}

/// A file system behind a hook; clones share it.
#[derive(Debug)]
pub struct HookFs<F, H> {
    inner: F,
    hook: Arc<H>,
}

impl<F: Clone, H> Clone for HookFs<F, H> {
    fn clone(&self) -> Self {
        HookFs { inner: self.inner.clone(), hook: self.hook.clone() }
    }
}

impl<F: FileSystem, H: Hook> HookFs<F, H> {
    /// Puts `hook` before `inner`.
    pub fn new(inner: F, hook: H) -> Self {
        HookFs { inner, hook: Arc::new(hook) }
    }

    /// The hook.
    pub fn hook(&self) -> &H {
        &self.hook
    }

    fn pass(&self, op: Op, path: &Path, make: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        match self.hook.before(&Call { op, path, bytes: 0, offset: 0 }) {
            Verdict::Go | Verdict::Short(_) => make(),
            Verdict::Skip => Ok(()),
            Verdict::Fail(error) | Verdict::Torn(_, error) => Err(error),
        }
    }

    /// As `pass`, for calls whose answer cannot be made up.
    fn ask<T>(&self, op: Op, path: &Path, make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.pass(op, path, || Ok(()))?;
        make()
    }
}

impl<F: FileSystem, H: Hook + 'static> HookFs<F, H> {
    fn wrap(&self, path: &Path, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(HookFile { inner: file, path: path.to_owned(), hook: self.hook.clone() })
    }
}

impl<F: FileSystem, H: Hook + 'static> FileSystem for HookFs<F, H> {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.pass(Op::CreateDir, dir, || self.inner.create_dir(dir))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.ask(Op::List, dir, || self.inner.list(dir))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.ask(Op::Create, path, || Ok(self.wrap(path, self.inner.create(path)?)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.ask(Op::Open, path, || Ok(self.wrap(path, self.inner.open(path)?)))
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        self.inner.canonical(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.pass(Op::Rename, to, || self.inner.rename(from, to))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.pass(Op::Link, to, || self.inner.link(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.pass(Op::Remove, path, || self.inner.remove(path))
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.pass(Op::RemoveDir, dir, || self.inner.remove_dir(dir))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.pass(Op::SyncDir, dir, || self.inner.sync_dir(dir))
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        self.ask(Op::Lock, path, || self.inner.lock(path))
    }
}

#[derive(Debug)]
struct HookFile<H> {
    inner: Arc<dyn File>,
    path: PathBuf,
    hook: Arc<H>,
}

impl<H: Hook> HookFile<H> {
    fn before(&self, op: Op, bytes: usize, offset: u64) -> Verdict {
        self.hook.before(&Call { op, path: &self.path, bytes, offset })
    }

    fn pass(&self, op: Op, make: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        match self.before(op, 0, 0) {
            Verdict::Go | Verdict::Short(_) => make(),
            Verdict::Skip => Ok(()),
            Verdict::Fail(error) | Verdict::Torn(_, error) => Err(error),
        }
    }
}

impl<H: Hook> File for HookFile<H> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        match self.before(Op::ReadAt, buf.len(), offset) {
            Verdict::Go | Verdict::Skip => self.inner.read_at(buf, offset),
            Verdict::Short(most) => {
                let most = most.min(buf.len());
                self.inner.read_at(&mut buf[..most], offset)
            }
            Verdict::Fail(error) | Verdict::Torn(_, error) => Err(error),
        }
    }

    fn read_at_cached(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        match self.before(Op::ReadAtCached, buf.len(), offset) {
            Verdict::Go => self.inner.read_at_cached(buf, offset),
            // Nothing is in the cache.
            Verdict::Skip | Verdict::Short(_) => Ok(None),
            Verdict::Fail(error) | Verdict::Torn(_, error) => Err(error),
        }
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        match self.before(Op::WriteAt, buf.len(), offset) {
            Verdict::Go => self.inner.write_at(buf, offset),
            Verdict::Skip => Ok(buf.len()),
            Verdict::Short(most) => self.inner.write_at(&buf[..most.min(buf.len())], offset),
            Verdict::Torn(most, error) => {
                self.inner.write_at(&buf[..most.min(buf.len())], offset)?;
                Err(error)
            }
            Verdict::Fail(error) => Err(error),
        }
    }

    fn len(&self) -> io::Result<u64> {
        self.pass(Op::Len, || Ok(()))?;
        self.inner.len()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.pass(Op::Truncate, || self.inner.truncate(len))
    }

    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        self.pass(Op::Reserve, || self.inner.reserve(offset, len))
    }

    fn sync(&self) -> io::Result<()> {
        self.pass(Op::Sync, || self.inner.sync())
    }

    fn forget_cached(&self) {
        self.inner.forget_cached();
    }
}
