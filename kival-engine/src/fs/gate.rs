//! A gate before reads: the cold disk of the tests.
//!
//! While it is closed, nothing is in the page cache ([`File::read_at_cached`](super::File) says `None`)
//! and a blocking read waits until it opens.

use super::hook::{Call, Hook, Op, Verdict};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

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
        self.lock().closed = closed;
        self.state.1.notify_all();
    }

    /// Waits until at least `n` reads stand at the closed gate.
    pub fn wait_for_readers(&self, n: usize) {
        drop(self.state.1.wait_while(self.lock(), |state| state.waiting < n));
    }

    fn lock(&self) -> MutexGuard<'_, GateState> {
        self.state.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass(&self) {
        let mut state = self.lock();
        state.waiting += 1;
        self.state.1.notify_all();
        let mut state =
            self.state.1.wait_while(state, |state| state.closed).unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
    }
}

impl Hook for Gate {
    fn before(&self, call: &Call<'_>) -> Verdict {
        match call.op {
            Op::ReadAt => self.pass(),
            Op::ReadAtCached if self.lock().closed => return Verdict::Skip,
            _ => {}
        }
        Verdict::Go
    }
}
