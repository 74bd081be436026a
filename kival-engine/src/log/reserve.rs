//! The file `RESERVE`: disk space that nobody else can take, for the day when the disk is full.
//!
//! Its bytes mean nothing. What it holds is its length: filling it reserves the blocks first and writes the
//! last byte then. The writer gives some back at a time; the keeper fills it again. When that is to happen
//! is said in `engine/space.rs`.

use super::Home;
use crate::format::segment::RESERVE;
use crate::fs::{File, write_all_at};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The file; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReserveFile(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    file: Option<Arc<dyn File>>,
    held: u64,
}

impl ReserveFile {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Each field is replaced whole: a panic elsewhere does not spoil them.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes it hold `bytes`. On an error it holds what it held.
    pub(crate) fn fill(&self, home: &Home, bytes: u64) -> io::Result<()> {
        let mut state = self.lock();
        let file = match &state.file {
            Some(file) => file.clone(),
            None => home.fs.create(&home.dir.join(RESERVE))?,
        };
        state.file = Some(file.clone());
        if bytes > state.held {
            let filled = file.reserve(0, bytes).and_then(|()| write_all_at(&*file, &[0], bytes - 1));
            // Some file systems keep what they had found before they found no more.
            filled.inspect_err(|_: &io::Error| drop(file.truncate(state.held)))?;
        } else {
            file.truncate(bytes)?;
        }
        state.held = bytes;
        Ok(())
    }

    /// Bytes that it holds now.
    pub(crate) fn held(&self) -> u64 {
        self.lock().held
    }

    /// Gives all beyond `bytes` back to the disk; `false` if that cannot be done.
    pub(crate) fn cut_to(&self, bytes: u64) -> bool {
        let mut state = self.lock();
        let cut = state.file.as_ref().is_some_and(|file| file.truncate(bytes).is_ok());
        if cut {
            state.held = state.held.min(bytes);
        }
        cut
    }
}
