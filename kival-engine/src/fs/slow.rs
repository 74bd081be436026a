//! A wrapper whose reads wait at a gate: the cold disk of the tests.
//!
//! While the gate is closed, nothing is in the page cache ([`File::read_at_cached`] says `None`) and a
//! blocking read waits until the gate opens.

use super::{File, FileSystem, LockGuard};
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Where reads wait; clones share the gate.
#[derive(Debug, Clone, Default)]
pub struct Gate {
    state: Arc<(Mutex<GateState>, Condvar)>,
}

#[derive(Debug, Default)]
struct GateState {
    closed: bool,
    waiting: usize,
}

impl Gate {
    /// Opens or closes the gate.
    pub fn set_closed(&self, closed: bool) {
        self.state.0.lock().unwrap_or_else(PoisonError::into_inner).closed = closed;
        self.state.1.notify_all();
    }

    /// Waits until at least `n` reads stand at the closed gate.
    pub fn wait_for_readers(&self, n: usize) {
        let state = self.state.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.state.1.wait_while(state, |state| state.waiting < n));
    }

    fn is_closed(&self) -> bool {
        self.state.0.lock().unwrap_or_else(PoisonError::into_inner).closed
    }

    fn pass(&self) {
        let mut state = self.state.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting += 1;
        self.state.1.notify_all();
        let mut state =
            self.state.1.wait_while(state, |state| state.closed).unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
    }
}

/// A file system whose reads go through a [`Gate`].
#[derive(Debug, Clone)]
pub struct SlowFs<F> {
    inner: F,
    gate: Gate,
}

impl<F> SlowFs<F> {
    /// Puts `gate` before the reads of `inner`.
    pub fn new(inner: F, gate: Gate) -> Self {
        SlowFs { inner, gate }
    }

    fn wrap(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(SlowFile { inner: file, gate: self.gate.clone() })
    }
}

impl<F: FileSystem> FileSystem for SlowFs<F> {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.inner.list(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(self.wrap(self.inner.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(self.wrap(self.inner.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        self.inner.lock(path)
    }
}

#[derive(Debug)]
struct SlowFile {
    inner: Arc<dyn File>,
    gate: Gate,
}

impl File for SlowFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.gate.pass();
        self.inner.read_at(buf, offset)
    }

    fn read_at_cached(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        if self.gate.is_closed() { Ok(None) } else { self.inner.read_at_cached(buf, offset) }
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
}
