//! The change feed: all changes behind a sequence, in order, read from the log's own segments.
//!
//! The engine takes a [`FeedView`], which is cheap; a thread that may wait reads it. A view holds its
//! segments open, so a merge that ends meanwhile does not disturb it. Whatever is above the feed floor of
//! the manifest is in some segment, and what is below may not be: that is a gap, and an error.
//!
//! | file | holds |
//! | --- | --- |
//! | `mod.rs` | what is asked and answered, and the merge of the segments by sequence |
//! | `source.rs` | one segment as a source of changes |
//! | `names.rs` | which database a namespace was when a record was written |
//! | `memory.rs` | what is remembered between reads, so that the next one begins where the last ended |
//!
//! Nothing here knows the keydir.

mod memory;
mod names;
mod source;

use crate::engine::Engine;
use crate::error::{Damage, ReadError};
use crate::format::record::{Kind, PAGE, PAGE_HEAD};
use crate::log::Home;
use crate::log::segments::SegmentState;
use crate::log::sync::Mark;
use bytes::Bytes;
pub(crate) use memory::Memory;
use names::Names;
use source::{Raw, Source, Target, Unit};
use std::sync::{Arc, Mutex};

/// What a read may take; a change, or a group of the log, that is larger is read all the same.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// A read ends when its changes take this many bytes.
    pub answer_bytes: usize,
    /// A read ends when it has gone through this many bytes of the log, whatever it has found.
    pub read_bytes: u64,
    /// Records in the index of a merge output; one that has more is gone through again for the next ones.
    pub indexed: usize,
    /// Bytes between two places that are remembered of a log segment.
    pub mark_every: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds { answer_bytes: 4 << 20, read_bytes: 64 << 20, indexed: 128 << 10, mark_every: 1 << 20 }
    }
}

/// What a change counts beside its key and its value, in bytes.
const CHANGE_BYTES: usize = 64;

/// Says of a key whether its changes are wanted.
pub type KeyFilter = Arc<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// What is asked of the feed.
#[derive(Clone)]
pub struct FeedQuery {
    /// Changes above this sequence.
    pub since: u64,
    /// About so many: groups that still stand whole in the log are not cut.
    pub count: usize,
    /// Only those of these keys; what concerns whole databases is always told.
    pub filter: Option<KeyFilter>,
    /// With the values that were set.
    pub values: bool,
}

impl std::fmt::Debug for FeedQuery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let FeedQuery { since, count, filter, values } = self;
        let filtered = filter.is_some();
        write!(f, "FeedQuery {{ since: {since}, count: {count}, filtered: {filtered}, values: {values} }}")
    }
}

/// What has become of a key or a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The key was set; the value, if it was asked for.
    Set(Option<Bytes>),
    /// From this place on, where a page begins, the key's value has these bytes, if they were asked for, and zeros
    /// up to the end of the page; the value is longer then, if it was too short.
    Part(u32, Option<Bytes>),
    /// The key is gone: deleted, or its time had come.
    Delete,
    /// The key has another expiry, or none, and the value that it had.
    Expire,
    /// The database has lost all its keys.
    Flush,
    /// The database and this one have exchanged their keys.
    Swap(u32),
}

/// A change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its number. Those of one flush of several databases have the same.
    pub sequence: u64,
    /// The database.
    pub db: u32,
    /// The key; empty where the change concerns the database.
    pub key: Bytes,
    /// Expiry in Unix milliseconds behind a set or an expire, 0 for none.
    pub expiry: u64,
    /// What it is.
    pub what: What,
}

/// What a read has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// The changes, in their order.
    pub changes: Vec<Change>,
    /// Where to go on: everything up to this sequence has been looked at.
    pub next: u64,
    /// Whether that is all that is on disk.
    pub at_end: bool,
}

/// Why there are no changes to give.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// Compaction, a restore or a repair has dropped changes above the sequence.
    #[error("changes up to {floor} may have been dropped from the log; it has all of those after {floor}")]
    Gap {
        /// All above this are there.
        floor: u64,
    },
    /// No such sequence was ever given out: it is another store's.
    #[error("this store has not yet come to that sequence, its last one is {last}")]
    Ahead {
        /// The last one.
        last: u64,
    },
    /// The log cannot be read.
    #[error("{0}")]
    Read(#[from] ReadError),
}

/// The log at one moment, to be read by any thread.
pub struct FeedView {
    home: Home,
    targets: Vec<Arc<Target>>,
    floor: u64,
    last: u64,
    durable: u64,
    /// The sequence of the newest map of databases, and the map.
    map: (u64, Arc<Names>),
    memory: Arc<Mutex<Memory>>,
    /// What a read may take.
    pub bounds: Bounds,
}

impl Engine {
    /// The log as it is now, for the change feed: what is on disk of it.
    pub fn feed(&self) -> FeedView {
        let mark = self.durable_mark();
        let mut targets: Vec<Arc<Target>> = Vec::new();
        for (_, segment) in self.segments.iter() {
            let end = match segment.state {
                SegmentState::Sealed => segment.bytes,
                _ => durable_end(segment.id, segment.bytes, mark),
            };
            let sealed = segment.state == SegmentState::Sealed;
            targets.push(Arc::new(Target {
                id: segment.id,
                file: segment.file.clone(),
                path: segment.path.clone(),
                merged: segment.merged,
                sealed,
                end,
                lowest: if sealed { segment.summary.lowest } else { segment.begun.map_or(0, |b| b.sequence) },
                highest: if sealed { segment.summary.highest } else { u64::MAX },
            }));
        }
        targets.sort_by_key(|target| (target.lowest, target.id));
        // Behind the segments: a merge that has exchanged some of them meanwhile has raised it.
        let floor = self.home.manifest.get().feed_floor;
        let map = (self.map_sequence(), Arc::new(Names::of(self.databases.map())));
        let last = self.last_sequence().max(mark.sequence);
        let memory = self.feed_memory.clone();
        let (durable, bounds) = (mark.sequence, Bounds::default());
        FeedView { home: self.home.clone(), targets, floor, last, durable, map, memory, bounds }
    }
}

/// How far the bytes of an open segment are on disk.
fn durable_end(id: u64, bytes: u64, mark: Mark) -> u64 {
    match id.cmp(&mark.position.segment) {
        std::cmp::Ordering::Less => bytes,
        std::cmp::Ordering::Equal => mark.position.offset.min(bytes),
        std::cmp::Ordering::Greater => 0,
    }
}

impl FeedView {
    /// The sequence to begin with for whoever wants only what comes from now on.
    pub fn end(&self) -> u64 {
        self.durable.max(self.floor)
    }

    /// Reads what is asked for. To be called by a thread that may wait for the disk.
    ///
    /// # Errors
    /// [`FeedError`].
    pub fn read(&self, query: &FeedQuery) -> Result<Changes, FeedError> {
        let since = query.since;
        if since < self.floor {
            return Err(FeedError::Gap { floor: self.floor });
        }
        if since > self.last.max(self.floor) {
            return Err(FeedError::Ahead { last: self.last });
        }
        if since >= self.durable {
            return Ok(Changes { changes: Vec::new(), next: since, at_end: true });
        }
        let names = self.names_at(since)?;
        let mut reading = Reading {
            view: self,
            query,
            unopened: self.targets.iter().filter(|target| target.may_hold(since, self.durable)).collect(),
            open: Vec::new(),
            names,
            found: Changes { changes: Vec::new(), next: since, at_end: false },
            bytes: 0,
            read: 0,
        };
        reading.unopened.reverse();
        reading.run()?;
        let Reading { open, names, mut found, .. } = reading;
        if found.at_end {
            found.next = found.next.max(self.durable);
        }
        let mut memory = self.memory();
        memory.keep_only(|id| self.targets.iter().any(|target| target.id == id));
        for source in &open {
            source.remember(&mut memory);
        }
        memory.set_names(found.next, names);
        Ok(found)
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The names in force behind the sequence `since`.
    fn names_at(&self, since: u64) -> Result<Arc<Names>, ReadError> {
        let (newest, names) = &self.map;
        if *newest <= since {
            return Ok(names.clone());
        }
        if let Some(names) = self.memory().names(since) {
            return Ok(names);
        }
        // No map above the floor is ever dropped, nor the one before: that raises the floor above it.
        let mut last: Option<(u64, &Target, u64)> = None;
        for target in self.targets.iter().filter(|target| target.lowest <= since) {
            target.for_each_entry(&self.home, |header, offset| {
                let (sequence, kind) = (header.sequence, header.kind);
                if kind == Kind::Namespaces
                    && sequence <= since
                    && last.is_none_or(|(newest, ..)| newest < sequence)
                {
                    last = Some((sequence, target, offset));
                }
                // Nothing more to be found in a log segment, whose records rise.
                target.merged || sequence <= since
            })?;
        }
        let Some((_, target, offset)) = last else { return Ok(Arc::new(Names::default())) };
        let raw = target.read_record(offset, true)?;
        Names::decode(raw.value.as_deref().unwrap_or_default())
            .map(Arc::new)
            .map_err(|damage| target.corrupt(offset, damage))
    }
}

/// A read under way.
struct Reading<'a> {
    view: &'a FeedView,
    query: &'a FeedQuery,
    /// Segments not yet looked into; the one that may begin lowest is the last.
    unopened: Vec<&'a Arc<Target>>,
    open: Vec<Source>,
    names: Arc<Names>,
    found: Changes,
    bytes: usize,
    read: u64,
}

impl Reading<'_> {
    /// Takes unit after unit, always from the source whose next one is the lowest.
    fn run(&mut self) -> Result<(), ReadError> {
        loop {
            let full =
                self.found.changes.len() >= self.query.count || self.bytes >= self.view.bounds.answer_bytes;
            if full || self.read >= self.view.bounds.read_bytes {
                return Ok(());
            }
            let Some(lowest) = self.lowest()? else {
                self.found.at_end = true;
                return Ok(());
            };
            let unit = self.open[lowest].take(self.query)?;
            self.take(unit, lowest)?;
        }
    }

    /// The open source whose next unit begins lowest; opens those that may begin lower.
    fn lowest(&mut self) -> Result<Option<usize>, ReadError> {
        loop {
            let heads = self.open.iter().enumerate();
            let lowest = heads.filter_map(|(at, source)| Some((source.head()?, at))).min();
            let opens = |target: &&&Arc<Target>| lowest.is_none_or(|(head, _)| target.lowest <= head);
            if self.unopened.last().filter(opens).is_none() {
                return Ok(lowest.map(|(_, at)| at));
            }
            if let Some(target) = self.unopened.pop() {
                let source = Source::open(target, self.view, self.found.next, self.query)?;
                self.open.push(source);
            }
        }
    }

    /// Adds what a unit of source `from` holds.
    fn take(&mut self, unit: Unit, from: usize) -> Result<(), ReadError> {
        self.read += unit.size;
        for raw in unit.records {
            // Inputs and outputs of a merge may stand side by side.
            if raw.header.sequence > self.found.next {
                self.add(raw, from)?;
            }
        }
        self.found.next = self.found.next.max(unit.last);
        Ok(())
    }

    fn add(&mut self, raw: Raw, from: usize) -> Result<(), ReadError> {
        let (sequence, offset) = (raw.header.sequence, raw.offset);
        let corrupt = |damage| self.open[from].target().corrupt(offset, damage);
        let what = match raw.header.kind {
            Kind::Value => What::Set(raw.value.filter(|_| self.query.values)),
            // A large value: what it holds is in other records.
            Kind::Root => What::Set(None),
            Kind::Page => {
                let bytes = raw.value.filter(|bytes| self.query.values && bytes.len() > PAGE_HEAD);
                What::Part(raw.header.page() * PAGE as u32, bytes.map(|bytes| bytes.slice(PAGE_HEAD..)))
            }
            Kind::Tombstone => What::Delete,
            Kind::Expiry => What::Expire,
            Kind::Element | Kind::ElementTombstone => return Ok(()),
            Kind::Namespaces => {
                let later = Names::decode(raw.value.as_deref().unwrap_or_default()).map_err(corrupt)?;
                let told = self.names.told(&later);
                self.names = Arc::new(later);
                self.bytes += told.len() * CHANGE_BYTES;
                let changes = told.into_iter();
                self.found.changes.extend(changes.map(|(db, what)| Change {
                    sequence,
                    db,
                    key: Bytes::new(),
                    expiry: 0,
                    what,
                }));
                return Ok(());
            }
        };
        let db = self.names.database(raw.header.namespace).ok_or_else(|| corrupt(Damage::Misplaced))?;
        let value =
            if let What::Set(Some(value)) | What::Part(_, Some(value)) = &what { value.len() } else { 0 };
        self.bytes += CHANGE_BYTES + raw.key.len() + value;
        let expiry = if raw.header.kind == Kind::Page { 0 } else { raw.header.expiry };
        self.found.changes.push(Change { sequence, db, key: raw.key, expiry, what });
        Ok(())
    }
}
