//! Random work on a store, beside its model.

use crate::common;
use crate::history::{DATABASES, History, State};
use bytes::Bytes;
use fastrand::Rng;
use kival_engine::clock::ManualClock;
use kival_engine::format::segment::file_name;
use kival_engine::fs::FileSystem;
use kival_engine::{
    Background, CompactionPolicy, Engine, LargeStart, Options, SyncPolicy, Worker, WriteError,
};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

const KEYS: u8 = 10;
const START: u64 = 1_000_000;
const BACKUPS: &str = "/store/backups";
/// Backups that stay.
const KEEP: usize = 2;

/// A store under test and what it should hold.
pub struct Bench {
    pub clock: ManualClock,
    pub now: u64,
    pub policy: SyncPolicy,
    /// Whether syncs are never late.
    pub prompt: bool,
    pub rng: Rng,
    pub history: History,
    /// Whether only syncs that were asked for by hand, with something new to sync, count as promises:
    /// where the merge's own sync lies, the engine believes it.
    pub doubt_merges: bool,
    /// Whether calls fail now and then: a write that finds no space is passed over, and so is background
    /// work that fails.
    pub faulty: bool,
    pub state: State,
    /// Backups that were reported, and what they must hold.
    backups: Vec<(PathBuf, State)>,
    /// Times that zeros were seen ahead of the log.
    pub runways: u64,
    /// Large values that were put.
    pub larges: u64,
    /// Parts that were set page by page.
    pub parts: u64,
    options: Options,
    puts: u64,
    /// The highest number that was issued, in all lives.
    highest: u64,
    fresh: bool,
}

/// Why work ended.
#[derive(Debug)]
pub enum End {
    /// The disk fails: what is left is for recovery.
    Disk,
    /// The store is wrong.
    Wrong(String),
}

impl Bench {
    /// Draws a setup from the seed.
    pub fn new(seed: u64, fs: Arc<dyn FileSystem>) -> Bench {
        let mut rng = Rng::with_seed(seed);
        let clock = ManualClock::new(START);
        let policy = [SyncPolicy::Always, SyncPolicy::EverySecond, SyncPolicy::No][rng.usize(..3)];
        // One turn in so many is a worker's own.
        let odds =
            [Worker::Sync, Worker::Keeper, Worker::Merge].map(|worker| (worker, [1, 2, 8][rng.usize(..3)]));
        let prompt = odds[0].1 == 1;
        let percentage = [0, 1, 50][rng.usize(..3)];
        let chooser = Mutex::new(rng.fork());
        let choose = move |worker: Worker| {
            let odds = odds.iter().find(|(other, _)| *other == worker).map_or(1, |(_, odds)| *odds);
            chooser.lock().unwrap().u8(..odds) == 0
        };
        let options = Options {
            fs,
            clock: Arc::new(clock.clone()),
            databases: DATABASES as u32,
            segment_size: [4 << 10, 4 << 10, 16 << 10][rng.usize(..3)],
            runway_syncs: [0, 1, 1, 3][rng.usize(..4)],
            large_value: [0, 500, 2000][rng.usize(..3)],
            cache_size: [0, 8 << 10][rng.usize(..2)],
            paged_from: 0,
            reserved_space: [0, 32 << 10][rng.usize(..2)],
            sync: policy,
            compaction: CompactionPolicy {
                percentage,
                min_size: 0,
                dead_bytes: [0, 1000][rng.usize(..2)],
                retention_ms: [0, 0, 700][rng.usize(..3)],
                ..CompactionPolicy::DEFAULT
            },
            background: Background::Lockstep(Arc::new(choose)),
            ..Options::new("/store")
        };
        Bench {
            clock,
            now: START,
            policy,
            prompt,
            rng,
            history: History::begin(0, START, State::default()),
            doubt_merges: false,
            faulty: false,
            state: State::default(),
            backups: Vec::new(),
            runways: 0,
            larges: 0,
            parts: 0,
            options,
            puts: 0,
            highest: 0,
            fresh: false,
        }
    }

    /// The same store on another disk.
    pub fn move_to(&mut self, fs: Arc<dyn FileSystem>) {
        self.options.fs = fs;
    }

    /// Opens the store and holds what it shows against its history; from then on that is promised.
    pub fn open(&mut self) -> Result<Engine, End> {
        let (mut engine, _) = Engine::open(self.options.clone()).map_err(|error| match error {
            kival_engine::OpenError::Io { .. } => End::Disk,
            other => End::Wrong(format!("refused: {other}")),
        })?;
        let found = State::of(&mut engine).map_err(|error| self.unless_disk(error))?;
        self.state = self.history.explain(&found, self.now).map_err(End::Wrong)?;
        self.history = History::begin(engine.last_sequence(), self.now, self.state.clone());
        Ok(engine)
    }

    fn unless_disk(&self, error: String) -> End {
        if error.contains("CORRUPT") || error.contains("checksum") { End::Wrong(error) } else { End::Disk }
    }

    /// Does something drawn at random.
    pub fn step(&mut self, engine: &mut Engine) -> Result<(), End> {
        let db = if self.rng.bool() { 0 } else { self.rng.usize(..DATABASES) };
        let key = vec![b'a' + self.rng.u8(..KEYS); if self.rng.u8(..5) == 0 { 200 } else { 3 }];
        match self.rng.u8(..60) {
            0..14 => self.put(engine, db, key)?,
            14..18 => self.put_part(engine, db, key)?,
            18..24 => {
                if self.written(engine.delete(db as u32, &key))?.is_some() {
                    self.state.0[db].remove(&key);
                }
            }
            24..30 => self.set_expiry(engine, db, &key)?,
            30 => {
                if self.written(engine.flush(&[db as u32]))?.is_some() {
                    self.state.0[db].clear();
                }
            }
            31 => {
                let other = self.rng.usize(..DATABASES);
                if self.written(engine.swap(db as u32, other as u32))?.is_some() {
                    self.state.0.swap(db, other);
                }
            }
            32 => drop(engine.compact()),
            33 if self.rng.bool() => drop(engine.back_up(BACKUPS.into(), KEEP).map_err(|_| End::Disk)?),
            33..35 => self.tick(engine),
            35..38 => self.look(engine, db, &key)?,
            38..48 => self.commit(engine)?,
            48..58 => self.maintain(engine)?,
            _ => self.sync(engine)?,
        }
        Ok(())
    }

    /// What a write gave; `None` if it found no space, which changes nothing.
    fn written<T>(&self, result: Result<T, WriteError>) -> Result<Option<T>, End> {
        match result {
            Ok(given) => Ok(Some(given)),
            Err(WriteError::NoSpace) if self.faulty => Ok(None),
            Err(_) => Err(End::Disk),
        }
    }

    fn put(&mut self, engine: &mut Engine, db: usize, key: Vec<u8>) -> Result<(), End> {
        self.puts += 1;
        let size = match self.rng.u8(..8) {
            0 => self.rng.usize(2000..5000),
            1 => self.rng.usize(500..900),
            _ => self.rng.usize(..100),
        };
        let mut value = vec![self.puts as u8; size];
        value.extend_from_slice(&self.puts.to_le_bytes());
        let value = Bytes::from(value);
        let expiry = if self.rng.u8(..3) == 0 { self.now + self.rng.u64(1..3000) } else { 0 };
        if value.len() as u64 >= engine.large_from() && !self.write_large(engine, &key, &value)? {
            return Ok(());
        }
        let sequence = engine.put(db as u32, &key, &value, expiry);
        let Some(sequence) = self.written(sequence)? else { return Ok(()) };
        if sequence <= self.highest {
            return Err(End::Wrong(format!("number {sequence} is issued again")));
        }
        self.highest = sequence;
        self.state.0[db].insert(key, (Arc::new(value.to_vec()), expiry));
        Ok(())
    }

    /// Changes a part of a value, page by page or the whole of it.
    fn put_part(&mut self, engine: &mut Engine, db: usize, key: Vec<u8>) -> Result<(), End> {
        self.puts += 1;
        let offset = if self.rng.bool() { self.rng.usize(..9000) } else { self.rng.usize(..40_000) };
        let most = if self.rng.bool() { 200 } else { 5000 };
        let part = vec![self.puts as u8; self.rng.usize(1..most)];
        let savepoint = engine.savepoint();
        match common::put_part(engine, db as u32, &key, offset, &part) {
            Ok(by_page) => self.parts += u64::from(by_page),
            Err(error) => {
                engine.roll_back(savepoint);
                let full = matches!(error.downcast_ref(), Some(WriteError::NoSpace));
                return if full && self.faulty { Ok(()) } else { Err(self.unless_disk(error.to_string())) };
            }
        }
        let (mut value, expiry) = match self.state.get(db, &key, self.now) {
            Some((value, expiry)) => (value.to_vec(), *expiry),
            None => (Vec::new(), 0),
        };
        value.resize(value.len().max(offset + part.len()), 0);
        value[offset..offset + part.len()].copy_from_slice(&part);
        self.state.0[db].insert(key, (Arc::new(value), expiry));
        Ok(())
    }

    /// Has a large value written ahead of its put, and whether it is to be put. Others commit meanwhile.
    fn write_large(&mut self, engine: &mut Engine, key: &[u8], value: &Bytes) -> Result<bool, End> {
        self.commit(engine)?;
        for _ in 0..self.rng.u32(1..20) {
            match engine.begin_large(key.len(), value.clone()) {
                LargeStart::Later => self.maintain(engine)?,
                // As it comes, with the others.
                LargeStart::Never => return Ok(true),
                LargeStart::Begun(write) => {
                    for _ in 0..self.rng.u32(..4) {
                        let sequence = engine.put(0, b"meanwhile", &vec![0; self.rng.usize(..900)], 1);
                        let Some(sequence) = self.written(sequence)? else { continue };
                        self.highest = sequence;
                        self.commit(engine)?;
                        self.maintain(engine)?;
                    }
                    if self.written(engine.end_large(write.write()))?.is_none() {
                        return Ok(false);
                    }
                    if self.rng.u8(..5) == 0 {
                        engine.give_up_large();
                        return Ok(false);
                    }
                    if self.rng.u8(..5) == 0 {
                        let savepoint = engine.savepoint();
                        self.written(engine.put(0, key, value, 0))?;
                        engine.roll_back(savepoint);
                        engine.give_up_large();
                        return Ok(false);
                    }
                    self.larges += u64::from(engine.has_large(key.len(), value));
                    return Ok(true);
                }
            }
        }
        Ok(true)
    }

    fn set_expiry(&mut self, engine: &mut Engine, db: usize, key: &[u8]) -> Result<(), End> {
        let expiry = if self.rng.bool() { self.now + self.rng.u64(1..3000) } else { 0 };
        let set = engine.set_expiry(db as u32, key, expiry);
        let Some(set) = self.written(set)? else { return Ok(()) };
        if set != self.state.get(db, key, self.now).is_some() {
            return Err(End::Wrong(format!("an expiry was set on {key:?}: {set}")));
        }
        if set && let Some(value) = self.state.0[db].get_mut(key) {
            value.1 = expiry;
        }
        Ok(())
    }

    fn look(&mut self, engine: &mut Engine, db: usize, key: &[u8]) -> Result<(), End> {
        let seen = engine.get(db as u32, key).map_err(|error| self.unless_disk(error.to_string()))?;
        let expected = self.state.get(db, key, self.now).map(|(value, _)| &value[..]);
        if seen.as_deref() == expected {
            return Ok(());
        }
        Err(End::Wrong(format!("{key:?} reads as {seen:?}")))
    }

    fn tick(&mut self, engine: &mut Engine) {
        self.now += self.rng.u64(1..700);
        self.clock.set(self.now);
        engine.tick();
    }

    fn commit(&mut self, engine: &mut Engine) -> Result<(), End> {
        if engine.staged_bytes() == 0 {
            return Ok(());
        }
        self.history.push(engine.last_sequence(), self.now, self.state.clone());
        self.fresh = true;
        if self.written(engine.commit())?.is_none() {
            // Taken back whole, and never to be seen again.
            self.history.pop();
            self.state = self.history.newest().clone();
        }
        self.note_durable(engine);
        Ok(())
    }

    fn sync(&mut self, engine: &mut Engine) -> Result<(), End> {
        self.commit(engine)?;
        let last = engine.last_sequence();
        let fresh = std::mem::take(&mut self.fresh);
        engine.sync().map_err(|_| End::Disk)?;
        if fresh || !self.doubt_merges {
            self.history.promise(last);
        }
        Ok(())
    }

    fn note_runway(&mut self, engine: &Engine) {
        let active = engine.segments().pop().expect("there is always one");
        let file = self.options.fs.open(&self.options.dir.join(file_name(active.id)));
        let len = file.and_then(|file| file.len()).unwrap_or_default();
        self.runways += u64::from(len > active.bytes);
    }

    fn maintain(&mut self, engine: &mut Engine) -> Result<(), End> {
        self.commit(engine)?;
        self.note_runway(engine);
        let made = engine.backups().made;
        for _ in 0..if self.rng.u8(..6) == 0 { 60 } else { self.rng.u32(1..4) } {
            engine.maintain();
        }
        if engine.backups().made > made
            && let Some(backup) = &engine.backups().newest
        {
            let state = self.history.at(backup.sequence).expect("it was made in this life");
            self.backups.push((backup.dir.clone(), state.clone()));
        }
        let failed = engine.stats().compaction.failed > 0 || engine.backups().failure.is_some();
        if (failed && !self.faulty) || engine.poisoned().is_some() {
            // A disk that works fails nothing.
            return Err(End::Disk);
        }
        self.fresh = false;
        self.note_durable(engine);
        if self.policy == SyncPolicy::EverySecond && self.prompt && !self.faulty {
            // The request goes out in one round, the sync is made in the next.
            engine.maintain();
            let due = self.history.committed_by(self.now.saturating_sub(1000));
            if engine.durable_sequence() < due && engine.poisoned().is_none() {
                return Err(End::Wrong("a write is not on disk after its second".into()));
            }
        }
        Ok(())
    }

    /// Opens every backup that is there: it must hold what the store held at its sequence.
    pub fn check_backups(&mut self) -> Result<(), End> {
        let names = self.options.fs.list(Path::new(BACKUPS)).unwrap_or_default();
        for name in names.iter().filter(|name| !name.ends_with(".tmp")) {
            let dir = Path::new(BACKUPS).join(name);
            let wrong = |what: String| End::Wrong(format!("backup {name}: {what}"));
            let options = Options { dir: dir.clone(), ..self.options.clone() };
            let (mut engine, report) = Engine::open(options).map_err(|error| wrong(error.to_string()))?;
            let found = State::of(&mut engine).map_err(wrong)?;
            let Some((_, state)) = self.backups.iter().find(|(other, _)| *other == dir) else { continue };
            if found != state.live(self.now) || !(report.clean || report.torn.is_empty()) {
                return Err(wrong("it does not hold what the store held".into()));
            }
        }
        let there = |dir: &PathBuf| names.iter().any(|name| dir.ends_with(name));
        for (dir, _) in self.backups.iter().filter(|(dir, _)| !there(dir)) {
            // Some that are there may not have been reported before the power went.
            let newer = names.iter().filter(|name| Path::new(BACKUPS).join(name) > *dir).count();
            if newer < KEEP {
                return Err(End::Wrong(format!("{} is gone before its time", dir.display())));
            }
        }
        self.backups.retain(|(dir, _)| there(dir));
        Ok(())
    }

    fn note_durable(&mut self, engine: &Engine) {
        if !self.doubt_merges {
            self.history.promise(engine.durable_sequence());
        }
    }

    /// Closes the store; everything is promised then.
    pub fn close(&mut self, mut engine: Engine) -> Result<(), End> {
        self.commit(&mut engine)?;
        let last = engine.last_sequence();
        engine.close().map_err(|_| End::Disk)?;
        self.history.promise(last);
        Ok(())
    }
}
