//! Compaction: copying what is live out of sealed segments, so that they can go.
//!
//! A merge runs on a thread of its own and never touches the keydir. It asks the engine task about
//! records in batches ([`Question::Judge`]), copies the live ones, asks for the log to be synced, changes
//! the manifest in one step, and hands back where the copies stand ([`Question::Repoint`]). The engine
//! answers a bounded number of questions a turn, so that no client waits for a merge.
//!
//! | file | holds |
//! | --- | --- |
//! | `mod.rs` | the conversation, and the engine's side of it |
//! | `merge.rs` | the merge itself |
//! | `policy.rs` | which segments, and when |

mod merge;
pub(crate) mod policy;

use crate::engine::Engine;
use crate::engine::options::Worker;
use crate::format::record::{Kind, record_size};
use crate::keydir::Place;
use crate::log::Home;
use crate::log::segments::{Segment, SegmentState};
use crate::log::sync::{SyncWaiter, Waker};
use merge::{Input, Output};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// How far compaction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// A merge runs.
    pub running: bool,
    /// A merge was asked for and waits for its segments to be sealed.
    pub scheduled: bool,
    /// Merges finished since the start.
    pub finished: u64,
    /// Merges that failed since the start.
    pub failed: u64,
    /// Bytes that the running merge has read.
    pub bytes_read: u64,
    /// Bytes that it has to read.
    pub bytes_total: u64,
    /// Whether the last merge ended well (so before the first).
    pub last_ok: bool,
}

/// A record that a merge has met.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) kind: Kind,
    pub(crate) namespace: u32,
    pub(crate) key: Box<[u8]>,
    pub(crate) sequence: u64,
}

/// What becomes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It counts: copy it.
    Live,
    /// A later record, at most this one, has put it out of force.
    Dead { superseded_by: u64 },
    /// A tombstone of a key that is absent: it counts as long as an older record of the key may exist.
    Tombstone,
}

/// A copy: the record of this key and sequence stands at `place` now.
#[derive(Debug)]
pub(crate) struct Copied {
    pub(crate) kind: Kind,
    pub(crate) namespace: u32,
    pub(crate) key: Box<[u8]>,
    pub(crate) sequence: u64,
    pub(crate) offset: u64,
}

/// What a merge asks of the engine task.
pub(crate) enum Question {
    /// Are these records live?
    Judge(Vec<Candidate>, SyncSender<Vec<Verdict>>),
    /// Sync the log through everything so far; the waiter tells when.
    SyncLog(SyncSender<(SyncWaiter, u64)>),
    /// The manifest names this output now.
    Adopt(Box<Output>),
    /// Records of this output.
    Repoint(u64, Vec<Copied>),
    /// Everything is handed over: forget the inputs. The sender is answered when that is done.
    Release(Vec<u64>, SyncSender<()>),
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
    /// After a merge that failed, none begins by itself in this time, in Unix milliseconds.
    pause: Range<u64>,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    finished: u64,
    failed: u64,
    last_failed: bool,
}

struct Running {
    /// A question that has to wait until a backup is done.
    deferred: Option<Question>,
    questions: Receiver<Question>,
    /// In lockstep: lets the merge go on to its next question.
    go: Option<SyncSender<()>>,
    stop: Arc<AtomicBool>,
    read: Arc<AtomicU64>,
    total: u64,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // A merge that waits for an answer sees its channel closed, and ends.
        let (_, closed) = sync_channel(0);
        self.questions = closed;
        self.go = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has already been printed; its inputs are all still there.
            let _ = thread.join();
        }
    }
}

impl Compactor {
    /// Nothing runs at first.
    pub(crate) fn new(home: &Home, waker: Waker, lockstep: bool) -> Compactor {
        Compactor {
            home: home.clone(),
            waker,
            lockstep,
            running: None,
            scheduled: None,
            pause: 0..0,
            counters: Counters::default(),
        }
    }

    /// How far it is.
    pub(crate) fn progress(&self) -> Progress {
        let running = self.running.as_ref();
        Progress {
            running: running.is_some(),
            scheduled: self.scheduled.is_some(),
            finished: self.counters.finished,
            failed: self.counters.failed,
            bytes_read: running.map_or(0, |running| running.read.load(Ordering::Relaxed)),
            bytes_total: running.map_or(0, |running| running.total),
            last_ok: !self.counters.last_failed,
        }
    }

    /// Ends a running merge; its inputs stay.
    pub(crate) fn stop(&mut self) {
        self.scheduled = None;
        self.running = None;
    }

    fn start(&mut self, inputs: Vec<Input>, target: u64) -> std::io::Result<()> {
        let (sender, questions) = sync_channel(2);
        let stop = Arc::new(AtomicBool::new(false));
        let read = Arc::new(AtomicU64::new(0));
        let total = inputs.iter().map(|input| input.length).sum();
        let (go, start) = if self.lockstep { Some(sync_channel(1)).unzip() } else { (None, None) };
        let line =
            merge::Line { questions: sender, waker: self.waker.clone(), stop: stop.clone(), go: start };
        let (home, progress) = (self.home.clone(), read.clone());
        let work = move || merge::run(&home, &line, inputs, target, &progress);
        let thread = std::thread::Builder::new().name("kival-compact".into()).spawn(work)?;
        self.running =
            Some(Running { deferred: None, questions, go, stop, read, total, thread: Some(thread) });
        Ok(())
    }
}

/// Time before a merge that failed is tried again by itself, in milliseconds.
const RETRY_AFTER: u64 = 10_000;
/// Questions answered in one call of [`Engine::maintain`].
const ANSWERS: usize = 4;

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
            }
            return;
        }
        let slots = match self.compactor.scheduled {
            Some(upto) => {
                if self.active_holds(upto) {
                    return self.ask_to_roll();
                }
                if !self.sealing.is_empty() {
                    return;
                }
                self.compactor.scheduled = None;
                policy::all(self)
            }
            None if self.compactor.pause.contains(&self.now_ms()) => return,
            None if self.space.is_full() => self.choose_on_full_disk(),
            None => policy::choose(self),
        };
        if slots.is_empty() {
            return;
        }
        let inputs = slots.iter().map(|&slot| Input::of(self.segments.get(slot))).collect();
        let target = self.options.segment_size;
        if let Err(error) = self.compactor.start(inputs, target) {
            tracing::error!(%error, "no thread could be had for a compaction");
            self.compactor.counters.failed += 1;
        }
    }

    /// Answers what the running merge asks; a few questions at a time.
    pub(crate) fn answer_merge(&mut self) {
        if self.compactor.lockstep {
            return self.step_merge();
        }
        for _ in 0..ANSWERS {
            let Some(running) = &self.compactor.running else { return };
            if running.deferred.is_some() {
                return;
            }
            let Ok(question) = running.questions.try_recv() else { return };
            self.answer(question);
        }
        // There may be more: come back after the clients' turn.
        (self.compactor.waker)();
    }

    /// In lockstep the merge runs, while the caller waits, until it has its next question.
    fn step_merge(&mut self) {
        let Some(running) = &self.compactor.running else { return };
        if running.deferred.is_some() {
            return;
        }
        if !self.options.background.turn_of(Worker::Merge) {
            return;
        }
        let next = running.go.as_ref().and_then(|go| go.send(()).ok());
        match next.and_then(|()| running.questions.recv().ok()) {
            Some(question) => self.answer(question),
            None => self.answer(Question::Ended(Err("the merge has gone".into()))),
        }
    }

    /// Answers the question that waited for a backup.
    pub(crate) fn resume_merge(&mut self) {
        let deferred = self.compactor.running.as_mut().and_then(|running| running.deferred.take());
        if let Some(question) = deferred {
            self.answer(question);
        }
    }

    fn answer(&mut self, question: Question) {
        // While a backup is under way no segment is exchanged or removed.
        let exchanges = matches!(question, Question::SyncLog(_) | Question::Release(..));
        if exchanges && self.is_backing_up() {
            if let Some(running) = &mut self.compactor.running {
                running.deferred = Some(question);
            }
            return;
        }
        // A merge that has ended meanwhile does not need its answer.
        match question {
            Question::Judge(candidates, answer) => {
                let verdicts = candidates.iter().map(|candidate| self.judge(candidate)).collect();
                let _ = answer.send(verdicts);
            }
            Question::SyncLog(answer) => {
                self.request_sync();
                let _ = answer.send((self.syncer.waiter(), self.sync_asked));
            }
            Question::Adopt(output) => self.adopt(&output),
            Question::Repoint(output, copies) => self.repoint(output, &copies),
            Question::Release(inputs, answer) => {
                for id in inputs {
                    self.release(id);
                }
                let _ = answer.send(());
            }
            Question::Ended(result) => {
                self.compactor.running = None;
                self.compactor.counters.last_failed = result.is_err();
                match result {
                    Ok(()) => self.compactor.counters.finished += 1,
                    Err(cause) => {
                        tracing::error!(%cause, "a compaction failed; nothing is lost, its inputs stay");
                        self.compactor.counters.failed += 1;
                        self.compactor.pause = self.now_ms()..self.now_ms() + RETRY_AFTER;
                    }
                }
            }
        }
    }

    fn judge(&mut self, candidate: &Candidate) -> Verdict {
        let last = self.last_sequence();
        let databases = &mut self.databases;
        if candidate.kind == Kind::Namespaces {
            return match databases.record {
                Some((sequence, ..)) if sequence == candidate.sequence => Verdict::Live,
                newest => Verdict::Dead { superseded_by: newest.map_or(last, |(sequence, ..)| sequence) },
            };
        }
        let Some(space) = databases.of_namespace(candidate.namespace) else {
            return Verdict::Dead { superseded_by: databases.record.map_or(last, |(sequence, ..)| sequence) };
        };
        let entry = space.keydir.get(&candidate.key);
        match (candidate.kind, entry) {
            (Kind::Tombstone, Some(entry)) if entry.sequence > candidate.sequence => {
                Verdict::Dead { superseded_by: entry.sequence }
            }
            (Kind::Tombstone, _) => Verdict::Tombstone,
            // The value that it belongs to may be among what is lost.
            (Kind::Expiry, None)
                if self.quarantine.doubts(candidate.namespace, &candidate.key, 0).is_some() =>
            {
                Verdict::Live
            }
            (_, None) => Verdict::Dead { superseded_by: last },
            (Kind::Expiry, Some(entry)) => match entry.change {
                Some(change) if change.sequence == candidate.sequence => Verdict::Live,
                change => Verdict::Dead {
                    superseded_by: change.map_or(0, |change| change.sequence).max(entry.sequence),
                },
            },
            (_, Some(entry)) if entry.sequence == candidate.sequence => Verdict::Live,
            (_, Some(entry)) => Verdict::Dead { superseded_by: entry.sequence },
        }
    }

    /// Takes an output into the table of segments.
    fn adopt(&mut self, output: &Output) {
        let length = output.summary.length;
        let mut segment =
            Segment::new(&self.home.dir, output.id, output.file.clone(), SegmentState::Sealed, length);
        segment.merged = true;
        segment.summary = output.summary;
        segment.kept = output.kept;
        self.segments.insert(segment);
    }

    /// Lets entries stand on their copies, those that still stand on the original.
    fn repoint(&mut self, output: u64, copies: &[Copied]) {
        let Some(slot) = self.segments.slot_of(output) else { return };
        for copy in copies {
            let place = Place::new(slot, copy.offset);
            let databases = &mut self.databases;
            if copy.kind == Kind::Namespaces {
                if let Some((sequence, at, _)) = &mut databases.record
                    && *sequence == copy.sequence
                {
                    *at = place;
                }
                continue;
            }
            let Some(space) = databases.of_namespace(copy.namespace) else { continue };
            let mut moved: Option<(Place, u64)> = None;
            space.keydir.update(&copy.key, |entry| {
                if copy.kind == Kind::Expiry {
                    if let Some(change) = entry.change.as_mut().filter(|c| c.sequence == copy.sequence) {
                        moved = Some((change.place, record_size(copy.key.len(), 0)));
                        change.place = place;
                    }
                } else if entry.sequence == copy.sequence {
                    moved = Some((entry.place, record_size(copy.key.len(), entry.value_size as usize)));
                    entry.place = place;
                }
            });
            if let Some((before, bytes)) = moved {
                space.retire(before, bytes);
                space.enlist(place, bytes);
            }
        }
    }

    /// Forgets an input; its file is removed by the merge.
    fn release(&mut self, id: u64) {
        let Some(slot) = self.segments.slot_of(id) else { return };
        let left = self.databases.live_in(slot);
        if left > 0 {
            // Every entry that stood here was copied: this cannot be. Reads go on from the open file.
            tracing::error!(segment = id, bytes = left, "a merged segment still holds live records");
            debug_assert_eq!(left, 0, "a merged segment still holds live records");
            return;
        }
        self.segments.remove(slot);
    }
}
