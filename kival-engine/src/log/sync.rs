//! Group commit: a thread of its own syncs the log while the writer goes on appending.
//!
//! One sync covers all that was appended before it began; what is appended meanwhile waits for the
//! next. A failed sync is final: nothing is reported durable after it. A caller that has nothing else to do may
//! make the sync itself, which spares it two hand-overs. In lockstep there is no thread: who wants a sync makes it.

use crate::format::group::Position;
use crate::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Called, from a background thread, when there is news for the engine's owner.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// A point of the log: everything before it, and every record up to the sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Mark {
    pub(crate) sequence: u64,
    pub(crate) position: Position,
}

/// How far the log is known to be on disk; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct DurableMark(Arc<Mutex<Mark>>);

impl DurableMark {
    /// The mark as it is now.
    pub(crate) fn get(&self) -> Mark {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves the mark.
    pub(crate) fn set(&self, mark: Mark) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = mark;
    }
}

/// Files that may hold unsynced groups, and how far they reach.
#[derive(Debug)]
pub(crate) struct SyncRequest {
    pub(crate) files: Vec<Arc<dyn File>>,
    pub(crate) upto: Mark,
}

/// A caller makes a sync itself only if the last one took less than this: a slow disk holds up nobody else.
const QUICK: Duration = Duration::from_millis(5);

struct Shared {
    state: Mutex<State>,
    /// A sync is wanted.
    work: Condvar,
    /// A sync has ended.
    changed: Condvar,
    durable: DurableMark,
    durable_sequence: AtomicU64,
    syncs: AtomicU64,
    /// Microseconds that the slowest took since somebody asked.
    slowest: AtomicU64,
    has_failed: AtomicBool,
    waker: Waker,
    lockstep: bool,
}

#[derive(Debug, Default)]
struct State {
    wanted: Option<SyncRequest>,
    /// A sync is under way.
    serving: bool,
    /// The last sync was quick.
    quick: bool,
    failed: Option<String>,
    stop: bool,
}

/// The sync thread, or what stands for it in lockstep.
pub(crate) struct Syncer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is valid at every instruction: a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        loop {
            let state = self.lock();
            let mut state = self
                .work
                .wait_while(state, |state| (state.wanted.is_none() || state.serving) && !state.stop)
                .unwrap_or_else(PoisonError::into_inner);
            let Some(request) = state.wanted.take() else { return };
            state.serving = true;
            drop(state);
            self.serve(&request);
        }
    }

    fn serve(&self, request: &SyncRequest) {
        let began = Instant::now();
        let synced = request.files.iter().try_for_each(|file| file.sync());
        let mut state = self.lock();
        let took = began.elapsed();
        (state.serving, state.quick) = (false, took < QUICK);
        self.slowest.fetch_max(took.as_micros() as u64, Ordering::Relaxed);
        self.syncs.fetch_add(1, Ordering::Relaxed);
        match synced {
            Ok(()) => {
                self.durable.set(request.upto);
                self.durable_sequence.store(request.upto.sequence, Ordering::Release);
            }
            Err(error) => {
                self.has_failed.store(true, Ordering::Release);
                state.failed = Some(format!("sync of the log failed: {error}"));
                state.wanted = None;
                state.stop = true;
            }
        }
        drop(state);
        self.changed.notify_all();
        (self.waker)();
    }

    /// Makes the sync that is wanted, if one is, on the caller's thread.
    fn step(&self) {
        let wanted = self.lock().wanted.take();
        if let Some(request) = wanted {
            self.serve(&request);
        }
    }
}

impl Syncer {
    /// Starts the thread, which moves `durable` on; none in lockstep.
    pub(crate) fn start(durable: DurableMark, waker: Waker, lockstep: bool) -> std::io::Result<Syncer> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State::default()),
            work: Condvar::new(),
            changed: Condvar::new(),
            durable_sequence: AtomicU64::new(durable.get().sequence),
            syncs: AtomicU64::new(0),
            slowest: AtomicU64::new(0),
            has_failed: AtomicBool::new(false),
            durable,
            waker,
            lockstep,
        });
        let mut thread = None;
        if !lockstep {
            let shared = shared.clone();
            let builder = std::thread::Builder::new().name("kival-sync".into());
            thread = Some(builder.spawn(move || shared.run())?);
        }
        Ok(Syncer { shared, thread })
    }

    /// In lockstep: makes the sync that is wanted, if one is.
    pub(crate) fn step(&self) {
        self.shared.step();
    }

    /// Asks for a sync up to `request.upto`; one that has not begun is widened.
    pub(crate) fn request(&self, mut request: SyncRequest) {
        let mut state = self.shared.lock();
        if state.stop {
            return;
        }
        if let Some(waiting) = state.wanted.take() {
            // Same active file, most often: the later request names every file that the earlier did not.
            for file in waiting.files {
                if !request.files.iter().any(|other| Arc::ptr_eq(other, &file)) {
                    request.files.push(file);
                }
            }
        }
        state.wanted = Some(request);
        drop(state);
        self.shared.work.notify_all();
    }

    /// Makes a sync on the caller's thread, if none is under way or wanted and the disk is quick; else asks for it.
    pub(crate) fn sync_here(&self, request: SyncRequest) {
        let mut state = self.shared.lock();
        let is_free = state.quick && !state.serving && state.wanted.is_none() && !state.stop;
        if !is_free || self.shared.lockstep {
            drop(state);
            return self.request(request);
        }
        state.serving = true;
        drop(state);
        self.shared.serve(&request);
    }

    /// The highest sequence known to be on disk with everything before it.
    pub(crate) fn durable_sequence(&self) -> u64 {
        self.shared.durable_sequence.load(Ordering::Acquire)
    }

    /// Why the log cannot be synced any more, if so.
    pub(crate) fn failure(&self) -> Option<String> {
        self.shared.lock().failed.clone()
    }

    /// Whether the log cannot be synced any more, without a lock.
    pub(crate) fn has_failed(&self) -> bool {
        self.shared.has_failed.load(Ordering::Acquire)
    }

    /// Number of syncs done.
    pub(crate) fn syncs(&self) -> u64 {
        self.shared.syncs.load(Ordering::Relaxed)
    }

    /// What the slowest sync took since the last call.
    pub(crate) fn take_slowest(&self) -> Duration {
        Duration::from_micros(self.shared.slowest.swap(0, Ordering::Relaxed))
    }

    /// A handle by which another thread waits.
    pub(crate) fn waiter(&self) -> SyncWaiter {
        SyncWaiter { shared: self.shared.clone() }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.work.notify_all();
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has already been printed; there is nothing to add here.
            let _ = thread.join();
        }
    }
}

/// Waits for syncs.
#[derive(Clone)]
pub(crate) struct SyncWaiter {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for SyncWaiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SyncWaiter")
    }
}

impl SyncWaiter {
    /// Blocks until `sequence` is durable; an error if it will never be.
    pub(crate) fn wait(&self, sequence: u64) -> Result<(), String> {
        let durable = || self.shared.durable_sequence.load(Ordering::Acquire) >= sequence;
        if self.shared.lockstep && !durable() {
            self.shared.step();
        }
        let state = self.shared.lock();
        let state = self
            .shared
            .changed
            .wait_while(state, |state| !durable() && state.failed.is_none() && !state.stop)
            .unwrap_or_else(PoisonError::into_inner);
        match &state.failed {
            _ if durable() => Ok(()),
            Some(cause) => Err(cause.clone()),
            None => Err("the store was closed".into()),
        }
    }
}
