//! The engine: one writer over the log and the keydir.
//!
//! [`Engine`] is a synchronous structure for one owner. What lies between two calls of
//! [`Engine::commit`] is one append group: it reaches the log whole or not at all. Background threads
//! sync, seal and compact; they never touch the keydir. Their news is taken in by [`Engine::maintain`].
//!
//! | file | holds |
//! | --- | --- |
//! | `mod.rs` | the structure, opening and closing |
//! | `write.rs` | staging records, savepoints, the append |
//! | `undo.rs` | taking back what was staged |
//! | `large.rs` | values too large for a turn |
//! | `read.rs` | entries, values, iteration |
//! | `part.rs` | values read and changed in part |
//! | `cold.rs` | reads that wait for the disk |
//! | `backup.rs` | backups under way |
//! | `absence.rs` | what the absence of a key depends on |
//! | `quarantine.rs` | what damage may have taken: which answers cannot be given |
//! | `databases.rs` | databases, namespaces, live bytes |
//! | `space.rs` | disk space, and the reserve for a full disk |
//! | `runway.rs` | zeros ahead of the log, for quick syncs |
//! | `maintain.rs` | taking in news, expiry, syncs by the clock |
//! | `scrub.rs` | starting and watching a scrub |
//! | `stats.rs` | what there is to know about a store |

pub(crate) mod absence;
mod backup;
mod cold;
pub(crate) mod databases;
mod large;
mod maintain;
pub(crate) mod options;
mod part;
pub(crate) mod quarantine;
mod read;
mod runway;
pub(crate) mod scrub;
pub(crate) mod space;
mod stats;
mod undo;
mod write;

pub use backup::BackupStatus;
pub use cold::{ColdRead, ReadBack};
pub use large::{LargeStart, LargeWrite, LargeWritten};
pub use read::Fetched;
pub use scrub::ScrubStatus;
pub use stats::{SegmentStats, Stats};
pub use write::Savepoint;

use crate::cache::ValueCache;
use crate::compaction::{CompactionPolicy, Compactor};
use crate::error::{OpenError, WriteError};
use crate::feed::Memory;
use crate::format::group::Position;
use crate::fs::LockGuard;
use crate::keydir::Entry;
use crate::log::Home;
use crate::log::keeper::{Job, Keeper, News, Prepared};
use crate::log::segments::{Begun, Segment, SegmentState, Segments};
use crate::log::sync::{DurableMark, Mark, SyncRequest, Syncer};
use crate::recovery::{self, OpenReport};
use absence::RecentDeletes;
use databases::Databases;
use options::Options;
use quarantine::Quarantine;
use runway::SyncPace;
use space::DiskSpace;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use write::Stage;

/// Time before housekeeping that failed is tried again, in milliseconds.
const RETRY_AFTER: u64 = 1000;

/// A store, opened for its one writer.
///
/// ```
/// use kival_engine::{Engine, Options};
///
/// let (mut engine, _report) = Engine::open(Options::in_memory())?;
/// engine.put(0, b"greeting", b"hello", 0)?;
/// engine.put(0, b"farewell", b"bye", 0)?;
/// engine.commit()?; // both or, after a crash, neither
/// engine.sync()?; // on disk
/// assert_eq!(engine.get(0, b"greeting")?.as_deref(), Some(&b"hello"[..]));
/// engine.delete(0, b"greeting")?;
/// engine.commit()?;
/// assert_eq!(engine.get(0, b"greeting")?, None);
/// engine.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Engine {
    pub(crate) options: Options,
    pub(crate) home: Home,
    pub(crate) segments: Segments,
    pub(crate) databases: Databases,
    cache: ValueCache,
    parts: part::Parts,
    active: Active,
    pace: SyncPace,
    pub(crate) space: DiskSpace,
    stage: Stage,
    /// The next number to be issued.
    next_sequence: u64,
    /// No number above this may be issued: the manifest's promise.
    sequence_limit: u64,
    limit_asked: bool,
    /// The sequence of the last record in the log.
    pub(crate) last_logged: u64,
    /// Where that record's group ends. Not the start of a segment that is still empty: a watermark there
    /// would not say how long the segment before it is.
    log_end: Position,
    /// Wall time of the current turn, in milliseconds.
    now_ms: u64,
    deletes: RecentDeletes,
    /// What is in doubt because of damage; empty in a sound store.
    pub(crate) quarantine: Quarantine,
    /// Why nothing can be written any more.
    poison: Option<String>,
    pub(crate) syncer: Syncer,
    durable: DurableMark,
    /// The highest sequence that a sync was asked for.
    pub(crate) sync_asked: u64,
    /// When, on the steady clock.
    last_sync_ms: u64,
    /// The sequence that the running sync covers, and when it began on the steady clock.
    sync_under_way: Option<(u64, u64)>,
    keeper: Keeper,
    prepare: Prepare,
    /// Segments to be taken out of the manifest, which failed before.
    discards: Vec<Job>,
    /// A value in a segment that is lent, to be put.
    large: Option<large::LargeValue>,
    /// Full segments, oldest first; the keeper seals one at a time.
    pub(crate) sealing: VecDeque<u32>,
    /// Whether the keeper is at the oldest of them.
    seal_asked: bool,
    /// Housekeeping that failed is not tried again before this time, in Unix milliseconds.
    retry_ms: u64,
    pub(crate) compactor: Compactor,
    backups: backup::Backups,
    pub(crate) scrubber: scrub::Scrubber,
    pub(crate) feed_memory: Arc<Mutex<Memory>>,
    expired: u64,
    /// Keys removed because their time had come, if someone wants their names.
    expired_keys: Option<Vec<(u32, Box<[u8]>)>>,
    /// Where small records are read into.
    scratch: Vec<u8>,
    /// Held until everything else is gone.
    _lock: Box<dyn LockGuard>,
}

/// The segment that the writer appends to.
struct Active {
    slot: u32,
    id: u64,
    header_size: u64,
    /// The first number that can stand in it.
    first_sequence: u64,
    /// Where the next group goes.
    end: u64,
    /// Up to where disk space is reserved.
    reserved: u64,
    /// Whether the file system can reserve at all.
    can_reserve: bool,
    /// Up to where zeros were written ahead.
    runway: u64,
    /// Whether they can be.
    can_lay: bool,
    /// Whether something may stand behind its end.
    touched: bool,
    /// Whether the system lets the file grow no more.
    capped: bool,
    /// Earlier segments that hold groups not yet synced.
    unsynced: Vec<u32>,
}

/// The next segment.
enum Prepare {
    /// Not asked for yet.
    Idle,
    /// The keeper is at it.
    Asked,
    /// It is ready.
    Ready(Prepared),
    /// A large value is being written to it.
    Lent,
}

/// An expiry, an access clock, a size: what is known of a live key without reading its value.
pub type KeyEntry = Entry;

impl Engine {
    /// Opens the store in `options.dir`, or creates it, and says what was found.
    ///
    /// # Errors
    /// [`OpenError`]; the directory is then as it was, but for files of interrupted work.
    pub fn open(mut options: Options) -> Result<(Engine, OpenReport), OpenError> {
        options.sanitize();
        let mut opened = recovery::open(&options)?;
        let failed =
            |source| OpenError::Io { action: "start a thread for", path: options.dir.clone(), source };
        let lockstep = options.background.is_lockstep();
        let syncer =
            Syncer::start(opened.durable.clone(), options.waker.clone(), lockstep).map_err(failed)?;
        let keeper = Keeper::start(opened.home.clone(), options.waker.clone(), lockstep).map_err(failed)?;
        for id in &opened.without_hint {
            if let Some((_, segment)) = opened.segments.iter().find(|(_, segment)| segment.id == *id) {
                let (id, file, length) = (segment.id, segment.file.clone(), segment.bytes);
                keeper.ask(Job::WriteHint { id, file, length });
            }
        }
        let active = Active::begin(&opened.active, &mut opened.segments, &opened.home, opened.next_sequence);
        let compactor = Compactor::new(&opened.home, &options);
        let mut engine = Engine {
            cache: ValueCache::new(options.cache_size),
            parts: part::Parts::default(),
            space: DiskSpace::new(options.reserved_space),
            stage: Stage::default(),
            next_sequence: opened.next_sequence,
            sequence_limit: opened.home.manifest.get().sequence_limit,
            limit_asked: false,
            last_logged: opened.last_logged,
            log_end: opened.durable.get().position,
            now_ms: 0,
            deletes: RecentDeletes::default(),
            quarantine: opened.quarantine,
            poison: None,
            durable: opened.durable,
            sync_asked: opened.next_sequence - 1,
            last_sync_ms: 0,
            sync_under_way: None,
            prepare: Prepare::Idle,
            discards: Vec::new(),
            large: None,
            sealing: VecDeque::new(),
            seal_asked: false,
            retry_ms: 0,
            backups: backup::Backups::default(),
            expired: 0,
            expired_keys: None,
            scratch: Vec::new(),
            segments: opened.segments,
            databases: opened.databases,
            home: opened.home,
            _lock: opened.lock,
            options,
            active,
            pace: SyncPace::default(),
            syncer,
            keeper,
            compactor,
            scrubber: scrub::Scrubber::default(),
            feed_memory: Arc::default(),
        };
        engine.tick();
        Ok((engine, opened.report))
    }

    /// Reads the clock for the turn that begins; everything until the next call happens at that time.
    /// Returns it, in Unix milliseconds.
    pub fn tick(&mut self) -> u64 {
        self.now_ms = self.options.clock.now_ms();
        self.now_ms
    }

    /// The time of this turn, in Unix milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Number of databases.
    pub fn databases(&self) -> u32 {
        self.databases.spaces.len() as u32
    }

    /// Asks for a sync of all that is committed, without waiting for it; [`Self::durable_sequence`]
    /// tells when it is done.
    pub fn request_sync(&mut self) {
        self.request_sync_of(self.last_logged);
    }

    /// As [`Self::request_sync`], unless a sync that was asked for will cover `sequence`.
    pub fn request_sync_of(&mut self, sequence: u64) {
        if self.sync_asked < sequence.min(self.last_logged) {
            self.ask_sync();
        }
    }

    /// As [`Self::request_sync_of`], for a caller that has nothing else to do until then: the sync is made on its
    /// thread, if none is under way and the disk is quick.
    pub fn sync_now_of(&mut self, sequence: u64) {
        if self.sync_asked < sequence.min(self.last_logged) {
            let request = self.sync_request();
            self.syncer.sync_here(request);
        }
    }

    /// Waits until all that is committed is on disk.
    ///
    /// # Errors
    /// [`WriteError::Poisoned`] if it could not be made durable.
    pub fn sync(&mut self) -> Result<(), WriteError> {
        self.request_sync();
        let synced = self.syncer.waiter().wait(self.sync_asked);
        synced.map_err(|cause| {
            self.poison.get_or_insert(cause.clone());
            WriteError::Poisoned { cause }
        })
    }

    /// The highest sequence that is on disk with everything before it.
    pub fn durable_sequence(&self) -> u64 {
        self.syncer.durable_sequence()
    }

    /// How far the log is on disk.
    pub(crate) fn durable_mark(&self) -> Mark {
        self.durable.get()
    }

    /// The highest sequence that counts so far, committed or staged. Numbers of a turn that was taken
    /// back do not: nothing will ever make them durable.
    pub fn last_sequence(&self) -> u64 {
        if self.stage.is_empty() { self.last_logged } else { self.next_sequence - 1 }
    }

    /// Why writes are refused until the store is opened again, if they are.
    pub fn poisoned(&self) -> Option<&str> {
        self.poison.as_deref()
    }

    /// Why the log cannot be synced any more, if it cannot: what is not durable by now will never be.
    pub fn sync_failure(&self) -> Option<String> {
        self.syncer.failure()
    }

    /// Changes when appends are made durable. What was appended under the policy so far is synced.
    pub fn set_sync_policy(&mut self, policy: options::SyncPolicy) {
        if self.options.sync != policy {
            self.options.sync = policy;
            self.request_sync();
        }
    }

    /// Changes the size at which the next segments are full, in bytes.
    pub fn set_segment_size(&mut self, bytes: u64) {
        self.options.segment_size = bytes;
        self.options.sanitize();
    }

    /// Changes the budget of the value cache, in bytes, and empties it if that is a change.
    pub fn set_cache_size(&mut self, bytes: u64) {
        if self.options.cache_size != bytes {
            self.options.cache_size = bytes;
            self.cache.resize(bytes);
        }
    }

    /// Forgets all cached values, and gives back what they took.
    pub fn empty_cache(&mut self) {
        self.cache.resize(self.options.cache_size);
    }

    /// Changes when compaction begins by itself.
    pub fn set_compaction(&mut self, policy: CompactionPolicy) {
        self.options.compaction = policy;
        self.compactor.set_rate(policy.rate);
    }

    /// Closes the store: everything staged is committed, everything committed synced, every segment
    /// sealed with its hint, so that the next open is fast.
    ///
    /// # Errors
    /// What kept it from closing cleanly. The next open then recovers as after a crash.
    pub fn close(mut self) -> Result<(), WriteError> {
        self.commit()?;
        self.sync()?;
        if let Some(cause) = self.poison.clone() {
            // What the files hold is for recovery to judge.
            return Err(WriteError::Poisoned { cause });
        }
        self.compactor.stop();
        let news = self.keeper.finish();
        news.into_iter().for_each(|news| self.take_in(news));
        if self.is_backing_up() {
            self.end_backup(Err("the store is being closed".into()));
        }
        let sealed = self.with_reserve(Engine::seal_all);
        sealed.map_err(|error| WriteError::Append { cause: error.to_string() })
    }

    /// Seals every segment, and names no open one in the manifest any more. Can be done again where it failed.
    fn seal_all(&mut self) -> std::io::Result<()> {
        while let Some(&slot) = self.sealing.front() {
            self.seal_now(slot)?;
            self.sealing.pop_front();
        }
        let active = self.active.slot;
        if self.active.end > self.active.header_size {
            self.seal_now(active)?;
        }
        let last = self.next_sequence - 1;
        let (chain, mut empty) = (self.last_logged, Vec::new());
        self.home.manifest.update(|manifest| {
            empty = manifest.segments.iter().filter(|entry| entry.sealed.is_none()).map(|e| e.id).collect();
            manifest.segments.retain(|entry| entry.sealed.is_some());
            manifest.sequence_limit = last;
            manifest.chain = chain;
        })?;
        for id in empty {
            // The manifest does not name it any more: what stays is removed at the next open.
            let _ = self.home.fs.remove(&self.home.dir.join(crate::format::segment::file_name(id)));
        }
        Ok(())
    }

    fn seal_now(&mut self, slot: u32) -> std::io::Result<()> {
        let segment = self.segments.get(slot);
        let header_size = crate::format::segment::HEADER as u64;
        let (id, file, length) = (segment.id, segment.file.clone(), segment.bytes);
        crate::log::keeper::seal(&self.home, id, &file, header_size, length).map(|_| ())
    }

    /// Asks the syncer to cover all that is appended.
    fn ask_sync(&mut self) {
        let request = self.sync_request();
        self.syncer.request(request);
    }

    /// A sync of all that is appended, about to be asked for.
    fn sync_request(&mut self) -> SyncRequest {
        let slots = self.active.unsynced.iter().chain([&self.active.slot]);
        let files = slots.map(|&slot| self.segments.get(slot).file.clone()).collect();
        self.active.unsynced.clear();
        self.sync_asked = self.last_logged;
        self.last_sync_ms = self.options.clock.steady_ms();
        self.pace.note_sync(self.last_sync_ms, self.syncer.syncs(), self.options.runway_syncs);
        self.sync_under_way.get_or_insert((self.sync_asked, self.last_sync_ms));
        SyncRequest { files, upto: Mark { sequence: self.last_logged, position: self.log_end } }
    }

    /// Takes in what the keeper has done.
    fn take_in(&mut self, news: News) {
        match news {
            News::Prepared(prepared) => {
                self.space.untell();
                self.prepare = Prepare::Ready(prepared);
            }
            News::Sealed { id, summary, tally } => {
                self.seal_asked = false;
                if let Some(slot) = self.segments.slot_of(id) {
                    self.sealing.retain(|&other| other != slot);
                    let segment = self.segments.get_mut(slot);
                    segment.state = SegmentState::Sealed;
                    segment.summary = summary;
                    segment.tally = tally;
                }
                self.seal_next();
            }
            News::LimitRaised(limit) => {
                self.sequence_limit = limit;
                self.limit_asked = false;
            }
            News::HintWritten | News::Discarded { lent: false } => {}
            News::Discarded { lent: true } => self.prepare = Prepare::Idle,
            News::BackedUp(backup) => self.end_backup(Ok(backup)),
            News::ReserveFilled => self.space.filled(),
            News::Failed { job: Job::Backup { .. }, cause, .. } => self.end_backup(Err(cause)),
            News::Failed { job: Job::FillReserve { .. }, cause, no_space } => {
                self.space.not_filled(no_space, &cause);
            }
            News::Failed { job, cause, no_space } => {
                if no_space {
                    self.space.tell(&job);
                } else {
                    tracing::error!(%cause, ?job, "housekeeping failed; it will be tried again");
                }
                self.retry_ms = self.now_ms + RETRY_AFTER;
                if matches!(job, Job::Prepare | Job::Seal { .. }) {
                    self.give_up_backup(&cause);
                }
                match job {
                    Job::Prepare => self.prepare = Prepare::Idle,
                    Job::RaiseLimit(_) => self.limit_asked = false,
                    Job::Seal { .. } => self.seal_asked = false,
                    Job::Discard { .. } => self.discards.push(job),
                    // Made anew at the next open.
                    Job::WriteHint { .. } | Job::FillReserve { .. } => {}
                    Job::Backup { .. } => unreachable!("a failed backup was taken in above"),
                }
            }
        }
    }

    /// Whether housekeeping may be asked for, or failed a moment ago.
    fn may_retry(&self) -> bool {
        self.now_ms >= self.retry_ms || self.now_ms + RETRY_AFTER < self.retry_ms
    }

    /// Hands the oldest full segment to the keeper, one at a time.
    fn seal_next(&mut self) {
        if self.seal_asked || !self.may_retry() {
            return;
        }
        if let Some(&slot) = self.sealing.front() {
            // Only the syncer syncs the log: of two that do, one alone would hear of a failure.
            self.request_sync();
            self.seal_asked = true;
            let durable = (self.syncer.waiter(), self.sync_asked);
            let segment = self.segments.get(slot);
            self.keeper.ask(Job::Seal {
                id: segment.id,
                file: segment.file.clone(),
                header_size: crate::format::segment::HEADER as u64,
                length: segment.bytes,
                durable,
            });
        }
    }
}

impl Active {
    /// Begins to append to a prepared segment.
    fn begin(prepared: &Prepared, segments: &mut Segments, home: &Home, first_sequence: u64) -> Active {
        let header_size = prepared.header_size;
        let file = prepared.file.clone();
        let mut segment = Segment::new(&home.dir, prepared.id, file, SegmentState::Active, header_size);
        segment.created_ms = prepared.created_ms;
        segment.begun = Some(Begun { sequence: first_sequence, time_ms: home.clock.now_ms() });
        Active {
            slot: segments.insert(segment),
            id: prepared.id,
            header_size,
            first_sequence,
            end: header_size,
            reserved: header_size,
            can_reserve: true,
            runway: header_size,
            can_lay: true,
            touched: false,
            capped: false,
            unsynced: Vec::new(),
        }
    }
}
