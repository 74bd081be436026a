//! Compaction: copying what is live out of sealed segments, so that they can go.
//!
//! A merge runs on a thread of its own and never touches the keydir. It asks the engine task about
//! records in batches ([`Question::Judge`]), copies the live ones, asks for the log to be synced, changes
//! the manifest in one step, and hands back where the copies stand ([`Question::Repoint`]). The engine
//! answers a bounded number of questions a turn, so that no client waits for a merge.
//!
//! | file | holds |
//! | --- | --- |
//! | `mod.rs` | the conversation, and when a merge begins and ends |
//! | `answers.rs` | what the engine answers |
//! | `settings.rs` | the policy as data |
//! | `policy.rs` | which segments, and when |
//! | `merge.rs` | the merge itself |
//! | `fate.rs` | what becomes of a record |
//! | `output.rs` | the segments that a merge writes |
//! | `pace.rs` | how fast it may be |
//! | `progress.rs` | how far it is |

mod answers;
mod fate;
mod merge;
mod output;
mod pace;
pub(crate) mod policy;
mod progress;
mod settings;
#[cfg(test)]
mod tests;

pub use policy::{Plan, PlannedSegment, Plans};
pub use progress::{Progress, Reason};
pub use settings::{BadWindow, CompactionPolicy, Window};

use crate::clock::Timer;
use crate::engine::Engine;
use crate::engine::options::Options;
use crate::format::record::Header;
use crate::log::Home;
use crate::log::segments::Segment;
use crate::log::sync::{SyncWaiter, Waker};
use crate::priority;
use merge::{Input, Task};
use output::Output;
use pace::Pace;
use progress::Meter;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Records that a merge has met, in its order: of each the header and the key.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    headers: Vec<Header>,
    keys: Vec<u8>,
}

impl Batch {
    fn push(&mut self, header: &Header, key: &[u8]) {
        self.headers.push(*header);
        self.keys.extend_from_slice(key);
    }

    fn len(&self) -> usize {
        self.headers.len()
    }

    fn iter(&self) -> impl Iterator<Item = (&Header, &[u8])> {
        let mut keys = &*self.keys;
        self.headers.iter().map(move |header| {
            let (key, rest) = keys.split_at(header.key_size as usize);
            keys = rest;
            (header, key)
        })
    }
}

/// What the engine says of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It counts.
    Live,
    /// A later record, at most this one, has put it out of force.
    Dead { superseded_by: u64 },
    /// A tombstone of a key that is absent: it counts as long as an older record of the key may exist.
    Tombstone,
}

/// What a merge asks of the engine task.
pub(crate) enum Question {
    /// Are these records live?
    Judge(Batch, SyncSender<Vec<Verdict>>),
    /// Sync the log through everything so far; the waiter tells when.
    SyncLog(SyncSender<(SyncWaiter, u64)>),
    /// The manifest names this output now.
    Adopt(Box<Output>),
    /// Records of this output, and the offsets at which they stand in it.
    Repoint(u64, Batch, Vec<u64>),
    /// Everything is handed over: forget the inputs. The sender is answered when that is done.
    Release(Vec<u64>, SyncSender<()>),
    /// This input does not read back: no merge can take it.
    Damaged(u64),
    /// It is over.
    Ended(Result<(), String>),
}

/// The engine's side of compaction.
pub(crate) struct Compactor {
    home: Home,
    waker: Waker,
    lockstep: bool,
    running: Option<Running>,
    /// Segments that a merge asked for by hand still waits to see sealed.
    scheduled: Option<u64>,
    /// The same for the one that runs, if it was asked for by hand.
    by_hand: Option<u64>,
    /// After a merge that failed, none begins by itself in this time, in Unix milliseconds.
    pause: Range<u64>,
    counters: Counters,
    timer: Arc<dyn Timer>,
    /// Bytes a second that a merge may read and write, 0 for no limit.
    rate: Arc<AtomicU64>,
    last: Last,
    /// The manifest's, as of the last merge.
    restore_floor: u64,
}

#[derive(Default)]
struct Counters {
    finished: u64,
    failed: u64,
    last_failed: bool,
    last_error: Option<String>,
}

/// The merge that runs or has ended last.
#[derive(Default)]
struct Last {
    meter: Arc<Meter>,
    reason: Option<Reason>,
    began: Duration,
    took: Option<Duration>,
    told: Duration,
}

struct Running {
    /// A question that has to wait until a backup is done.
    deferred: Option<Question>,
    questions: Receiver<Question>,
    /// In lockstep: lets the merge go on to its next question.
    go: Option<SyncSender<()>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // A merge that waits for an answer sees its channel closed, and ends; a question put off has one too.
        self.deferred = None;
        let (_, closed) = sync_channel(0);
        self.questions = closed;
        self.go = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has already been printed; its inputs are all still there.
            let _ = thread.join();
        }
    }
}

/// What a merge goes by.
struct Limits {
    /// Bytes at which an output is full.
    target: u64,
    /// What was superseded above this stays.
    cut: u64,
    /// The last sequence of all.
    last: u64,
}

impl Compactor {
    /// Nothing runs at first.
    pub(crate) fn new(home: &Home, options: &Options) -> Compactor {
        Compactor {
            home: home.clone(),
            waker: options.waker.clone(),
            lockstep: options.background.is_lockstep(),
            running: None,
            scheduled: None,
            by_hand: None,
            pause: 0..0,
            counters: Counters::default(),
            timer: options.timer.clone(),
            rate: Arc::new(AtomicU64::new(options.compaction.rate)),
            last: Last::default(),
            restore_floor: home.manifest.get().restore_floor,
        }
    }

    /// How far it is.
    pub(crate) fn progress(&self) -> Progress {
        let running = self.running.is_some();
        let mut progress = Progress {
            running,
            scheduled: self.scheduled.is_some(),
            finished: self.counters.finished,
            failed: self.counters.failed,
            reason: self.last.reason,
            seconds: running.then(|| self.timer.now().saturating_sub(self.last.began).as_secs_f64()),
            last_seconds: self.last.took.map(|took| took.as_secs_f64()),
            last_ok: !self.counters.last_failed,
            last_error: self.counters.last_error.clone(),
            ..Progress::default()
        };
        self.last.meter.show(&mut progress);
        progress
    }

    /// Ends a running merge; its inputs stay.
    pub(crate) fn stop(&mut self) {
        self.scheduled = None;
        self.running = None;
    }

    /// Whether the last one failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.counters.last_failed
    }

    /// Changes the bytes a second that a merge may read and write, also for one that runs.
    pub(crate) fn set_rate(&self, rate: u64) {
        self.rate.store(rate, Ordering::Relaxed);
    }

    fn start(&mut self, reason: Reason, inputs: Vec<Input>, limits: Limits) -> std::io::Result<()> {
        let (sender, questions) = sync_channel(2);
        let stop = Arc::new(AtomicBool::new(false));
        let meter = Arc::new(Meter::default());
        let bytes = inputs.iter().map(|input| input.length).sum();
        Meter::add(&meter.total, bytes);
        Meter::add(&meter.inputs, inputs.len() as u64);
        tracing::info!(reason = reason.word(), segments = inputs.len(), bytes, "a compaction begins");
        let pace = Pace::new(self.timer.clone(), self.rate.clone(), stop.clone());
        let (go, start) = if self.lockstep { Some(sync_channel(1)).unzip() } else { (None, None) };
        let line =
            merge::Line { questions: sender, waker: self.waker.clone(), stop: stop.clone(), go: start };
        let Limits { target, cut, last } = limits;
        let (home, task) =
            (self.home.clone(), Task { inputs, target, cut, last, meter: meter.clone(), pace });
        let work = move || {
            priority::step_back();
            merge::run(&home, &line, task);
        };
        let thread = std::thread::Builder::new().name("kival-compact".into()).spawn(work)?;
        self.running = Some(Running { deferred: None, questions, go, stop, thread: Some(thread) });
        let began = self.timer.now();
        self.last = Last { meter, reason: Some(reason), began, told: began, took: self.last.took };
        Ok(())
    }

    /// Says how far a long merge is, every few seconds.
    fn tell(&mut self) {
        let now = self.timer.now();
        if now.saturating_sub(self.last.told) < TELL_EVERY {
            return;
        }
        self.last.told = now;
        let (bytes, of) = (Meter::get(&self.last.meter.read), Meter::get(&self.last.meter.total));
        let seconds = now.saturating_sub(self.last.began).as_secs();
        tracing::info!(bytes, of, seconds, "compacting");
    }

    fn ended(&mut self, result: Result<(), String>, now_ms: u64) {
        if let Some(running) = self.running.as_mut().filter(|_| !self.lockstep) {
            // It has said its last word. What its thread held may be large, and is given back while others go on.
            running.thread = None;
        }
        self.running = None;
        let took = self.timer.now().saturating_sub(self.last.began);
        self.last.took = Some(took);
        self.counters.last_failed = result.is_err();
        self.restore_floor = self.home.manifest.get().restore_floor;
        let (meter, seconds) = (&self.last.meter, took.as_secs_f64());
        match result {
            Ok(()) => {
                self.counters.finished += 1;
                let (read, written) = (Meter::get(&meter.read), Meter::get(&meter.written));
                let (copied, dropped) = (Meter::get(&meter.copied), Meter::get(&meter.dropped));
                tracing::info!(read, written, copied, dropped, seconds, "a compaction has ended");
            }
            Err(cause) => {
                tracing::error!(%cause, seconds, "a compaction failed; nothing is lost, its inputs stay");
                self.counters.failed += 1;
                self.counters.last_error = Some(cause);
                self.pause = now_ms..now_ms + RETRY_AFTER;
            }
        }
    }
}

/// How often a long merge says how far it is.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// Time before a merge that failed is tried again by itself, in milliseconds.
const RETRY_AFTER: u64 = 10_000;

impl Engine {
    /// Asks for a compaction of all that is committed, the active segment included; `false` if one runs
    /// already. It begins in [`Self::maintain`], so this may stand inside a turn.
    pub fn compact(&mut self) -> bool {
        if self.compactor.running.is_some() || self.compactor.scheduled.is_some() {
            return false;
        }
        self.compactor.scheduled = Some(self.last_logged);
        (self.compactor.waker)();
        true
    }

    /// Begins a scheduled merge when its segments are sealed, or one that the policy wants.
    pub(crate) fn consider_compaction(&mut self) {
        if self.compactor.running.is_some() || self.poisoned().is_some() {
            return;
        }
        if let Some(corruption) = self.quarantine.doubts_map(self.map_sequence()) {
            // A namespace that no database seems to have may be one that is in use.
            if self.compactor.scheduled.take().is_some() {
                tracing::error!(%corruption, "no compaction: it is not known which keys the databases have");
                self.compactor.counters.failed += 1;
                self.compactor.counters.last_failed = true;
                self.compactor.counters.last_error = Some(corruption.to_string());
            }
            return;
        }
        // By hand the dead go first where the disk is full; the rest follows when there is room.
        let makes_room = match self.compactor.scheduled {
            Some(_) => self.space.is_short(),
            None => self.space.is_full() && self.options.compaction.percentage > 0,
        };
        let waits = self.compactor.pause.contains(&self.now_ms());
        let chosen = match self.compactor.scheduled {
            _ if makes_room && waits => return,
            _ if makes_room => Some((Reason::FullDisk, self.choose_on_full_disk())),
            Some(upto) => {
                if self.active_holds(upto) {
                    return self.ask_to_roll();
                }
                if !self.sealing.is_empty() {
                    return;
                }
                self.compactor.by_hand = self.compactor.scheduled.take();
                Some((Reason::ByHand, policy::all(self)))
            }
            None if waits || self.space.is_full() => return,
            None => policy::choose(self),
        };
        let Some((reason, slots)) = chosen.filter(|(_, slots)| !slots.is_empty()) else { return };
        let (target, cut, last) = (self.options.segment_size, self.history_cut(), self.last_sequence());
        // What is staged may be taken back, and be live again. And where a merge failed behind its exchange, entries
        // stand on segments that a start would not find, while their copies lie in one that seems to be dead.
        let is_settled = self.staged_bytes() == 0
            && self.quarantine.is_empty()
            && cut == u64::MAX
            && !self.segments.iter().any(|(_, segment)| segment.exchanged);
        let inputs = slots.iter().map(|&slot| self.input(slot, is_settled)).collect();
        if let Err(error) = self.compactor.start(reason, inputs, Limits { target, cut, last }) {
            tracing::error!(%error, "no thread could be had for a compaction");
            self.compactor.counters.failed += 1;
        }
    }

    /// A segment as input of a merge. If nothing can make live bytes untrue, they tell where nothing is to be judged.
    fn input(&self, slot: u32, is_settled: bool) -> Input {
        let segment = self.segments.get(slot);
        let input = Input::of(segment, self.databases.live_in(slot));
        let counts_for_nothing = is_settled && input.wholly_dead && segment.holds_values_only();
        debug_assert!(!counts_for_nothing || !self.databases.stands_in(slot), "live bytes are counted wrong");
        Input { counts_for_nothing, ..input }
    }

    /// What was superseded up to this sequence may be dropped: it was issued longer ago than history is
    /// kept. Each segment tells when numbers had been issued: a log segment those below its first when
    /// that was appended, a merge output all of its own when it was created. A clock that stepped back
    /// does not make them older than the segments before it say.
    pub(crate) fn history_cut(&self) -> u64 {
        let retention = self.options.compaction.retention_ms;
        if retention == 0 {
            return u64::MAX;
        }
        let mut segments: Vec<&Segment> = self.segments.iter().map(|(_, segment)| segment).collect();
        segments.sort_by_key(|segment| segment.id);
        // Below the floor nothing can be restored any more: there is nothing to keep.
        let (mut cut, mut latest) = (self.compactor.restore_floor, 0);
        for segment in segments {
            latest = latest.max(segment.created_ms);
            let issued = match segment.begun {
                Some(begun) => {
                    latest = latest.max(begun.time_ms);
                    begun.sequence.saturating_sub(1)
                }
                None if segment.merged => segment.summary.highest,
                None => continue,
            };
            if latest.saturating_add(retention) <= self.now_ms() {
                cut = cut.max(issued);
            }
        }
        cut
    }
}
