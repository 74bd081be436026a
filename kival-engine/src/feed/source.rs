//! One segment as a source of changes, in the order of their sequences.
//!
//! A log segment is read group by group, a merge output record by record: its records are in no order, so
//! an index of the next ones is made from its hint, a bounded number at a time.

use super::memory::{Index, Memory};
use super::{FeedQuery, FeedView};
use crate::error::{Corruption, Damage, ReadError};
use crate::format::group::Position;
use crate::format::hint;
use crate::format::record::{self, HEADER, Header, Kind, Record};
use crate::fs::{File, read_full_at};
use crate::log::Home;
use crate::log::hint_file::HintReader;
use crate::log::scan::{Scanner, Step, read_segment_header};
use bytes::Bytes;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// A segment of a view.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) id: u64,
    pub(super) file: Arc<dyn File>,
    pub(super) path: Arc<PathBuf>,
    pub(super) merged: bool,
    pub(super) sealed: bool,
    /// Bytes that are on disk.
    pub(super) end: u64,
    /// No record is below this,
    pub(super) lowest: u64,
    /// or above this.
    pub(super) highest: u64,
}

/// A record as it stands in a segment.
pub(super) struct Raw {
    pub(super) header: Header,
    pub(super) offset: u64,
    pub(super) key: Bytes,
    /// Where it is wanted.
    pub(super) value: Option<Bytes>,
}

/// What a source gives at a time: a group of the log, or a record of a merge output.
pub(super) struct Unit {
    pub(super) records: Vec<Raw>,
    /// The last sequence of it.
    pub(super) last: u64,
    /// Bytes that were read for it.
    pub(super) size: u64,
}

impl Target {
    /// Whether records above `since` and up to `upto` may stand in it.
    pub(super) fn may_hold(&self, since: u64, upto: u64) -> bool {
        self.highest > since && self.lowest <= upto && self.end > 0
    }

    pub(super) fn corrupt(&self, offset: u64, damage: Damage) -> ReadError {
        Corruption { file: self.path.to_path_buf(), offset, damage }.into()
    }

    fn io(&self, source: io::Error) -> ReadError {
        ReadError::Io { path: self.path.to_path_buf(), source }
    }

    /// A scanner from `from` on, or from the first group.
    fn scanner(&self, store: u64, from: Option<u64>) -> Result<Scanner, ReadError> {
        let offset = match from {
            Some(offset) => offset,
            None => match read_segment_header(&*self.file, store, self.id).map_err(|e| self.io(e))? {
                Ok(header) => header.size(),
                Err(damage) => return Err(self.corrupt(0, damage)),
            },
        };
        let from = Position { segment: self.id, offset };
        Ok(Scanner::new(self.file.clone(), store, from, self.end, None))
    }

    /// Shows the headers of all records and where they stand, as the hint tells or else the segment, until
    /// `go_on` says no.
    pub(super) fn for_each_entry(
        &self,
        home: &Home,
        mut go_on: impl FnMut(&Header, u64) -> bool,
    ) -> Result<(), ReadError> {
        if self.sealed && self.hinted(home, &mut go_on).is_some() {
            return Ok(());
        }
        let mut scanner = self.scanner(home.store, None)?;
        loop {
            let at = scanner.position().offset;
            match scanner.step().map_err(|error| self.io(error))? {
                Step::Group(group) => {
                    for (offset, record) in group.records() {
                        if !go_on(&record.header, offset) {
                            return Ok(());
                        }
                    }
                }
                Step::End => return Ok(()),
                Step::Broken(damage) => return Err(self.corrupt(at, damage)),
            }
        }
    }

    /// As [`Self::for_each_entry`] from the hint; nothing if it is of no use: then some may have been shown.
    fn hinted(&self, home: &Home, go_on: &mut impl FnMut(&Header, u64) -> bool) -> Option<()> {
        let mut reader = HintReader::open(&*home.fs, &home.dir, home.store, self.id, self.end).ok()?;
        while let Some(block) = reader.next_block().ok()? {
            for entry in hint::entries(block).ok()? {
                let entry = entry.ok()?;
                if !go_on(&entry.header, entry.offset) {
                    return Some(());
                }
            }
        }
        Some(())
    }

    /// The record at an offset.
    pub(super) fn read_record(&self, offset: u64, value: bool) -> Result<Raw, ReadError> {
        let mut bytes = vec![0; HEADER];
        read_full_at(&*self.file, &mut bytes, offset).map_err(|error| self.io(error))?;
        let size = |at: usize| bytes[at..at + 4].try_into().map_or(0, u32::from_le_bytes);
        let size = record::record_size(size(4) as usize, size(8) as usize);
        // A damaged size is believed only as far as the segment reaches.
        if offset + size > self.end {
            return Err(self.corrupt(offset, Damage::Truncated));
        }
        bytes.resize(size as usize, 0);
        let read = read_full_at(&*self.file, &mut bytes, offset).map_err(|error| self.io(error))?;
        bytes.truncate(read);
        let record = record::decode(&bytes).map_err(|damage| self.corrupt(offset, damage))?;
        Ok(raw(&record, offset, value))
    }
}

/// A copy of what is wanted of a record.
fn raw(record: &Record<'_>, offset: u64, values: bool) -> Raw {
    let wanted = record.header.kind == Kind::Namespaces
        || (values && matches!(record.header.kind, Kind::Value | Kind::Page));
    Raw {
        header: record.header,
        offset,
        key: Bytes::copy_from_slice(record.key),
        value: wanted.then(|| Bytes::copy_from_slice(record.value)),
    }
}

/// Whether a record is of interest.
fn is_wanted(header: &Header, key: &[u8], query: &FeedQuery) -> bool {
    match header.kind {
        Kind::Namespaces => true,
        Kind::Element | Kind::ElementTombstone => false,
        _ => query.filter.as_ref().is_none_or(|wants| wants(key)),
    }
}

/// A segment that is being read.
pub(super) enum Source {
    Log(LogSource),
    Merged(MergeSource),
}

impl Source {
    /// Goes to what stands in a segment of the view above `after`.
    pub(super) fn open(
        target: &Arc<Target>,
        view: &FeedView,
        after: u64,
        query: &FeedQuery,
    ) -> Result<Source, ReadError> {
        let (upto, target) = (view.durable, target.clone());
        if target.merged {
            let (home, memory) = (view.home.clone(), view.memory.clone());
            let most = view.bounds.indexed;
            let mut source = MergeSource { target, home, memory, most, index: None, at: 0, after, upto };
            source.refill()?;
            return Ok(Source::Merged(source));
        }
        let from = view.memory().place(target.id, after + 1);
        let scanner = target.scanner(view.home.store, from)?;
        let mut source = LogSource {
            target,
            scanner,
            after,
            upto,
            next: None,
            marks: Vec::new(),
            marked: 0,
            mark_every: view.bounds.mark_every,
            beyond: false,
        };
        source.advance(query)?;
        Ok(Source::Log(source))
    }

    pub(super) fn target(&self) -> &Target {
        match self {
            Source::Log(source) => &source.target,
            Source::Merged(source) => &source.target,
        }
    }

    /// Where its next unit begins.
    pub(super) fn head(&self) -> Option<u64> {
        match self {
            Source::Log(source) => source.next.as_ref().map(|next| next.first),
            Source::Merged(source) => source.place().map(|(sequence, _)| sequence),
        }
    }

    /// Takes the next unit, of which there must be one.
    pub(super) fn take(&mut self, query: &FeedQuery) -> Result<Unit, ReadError> {
        match self {
            Source::Log(source) => {
                let next = source.next.take().expect("it has a head");
                source.after = next.unit.last;
                source.advance(query)?;
                Ok(next.unit)
            }
            Source::Merged(source) => source.take(query),
        }
    }

    /// Keeps where it is for the next read.
    pub(super) fn remember(&self, memory: &mut Memory) {
        if let Source::Log(source) = self {
            for (sequence, offset) in source.marks.iter().copied().chain(source.here()) {
                memory.mark(source.target.id, sequence, offset);
            }
        }
    }
}

/// A log segment, and its next group.
pub(super) struct LogSource {
    target: Arc<Target>,
    scanner: Scanner,
    /// What is up to here was taken or is not asked for.
    after: u64,
    upto: u64,
    next: Option<NextGroup>,
    /// Sequences and the offsets of their groups, some way apart.
    marks: Vec<(u64, u64)>,
    marked: u64,
    mark_every: u64,
    /// It has met a group above `upto`.
    beyond: bool,
}

struct NextGroup {
    first: u64,
    offset: u64,
    unit: Unit,
}

impl LogSource {
    /// Reads the next group that holds anything above `after`.
    fn advance(&mut self, query: &FeedQuery) -> Result<(), ReadError> {
        loop {
            let at = self.scanner.position().offset;
            let group = match self.scanner.step().map_err(|error| self.target.io(error))? {
                Step::Group(group) => group,
                Step::End => return Ok(()),
                Step::Broken(damage) => return Err(self.target.corrupt(at, damage)),
            };
            let first = group.header.first_sequence;
            let last = first + u64::from(group.header.records) - 1;
            if first > self.upto {
                self.beyond = true;
                return Ok(());
            }
            if at >= self.marked + self.mark_every {
                self.marks.push((first, at));
                self.marked = at;
            }
            if last <= self.after {
                continue;
            }
            let wanted = group.records().filter(|(_, record)| {
                record.header.sequence > self.after && is_wanted(&record.header, record.key, query)
            });
            let records = wanted.map(|(offset, record)| raw(&record, offset, query.values)).collect();
            let unit = Unit { records, last, size: group.body().len() as u64 };
            self.next = Some(NextGroup { first, offset: at, unit });
            return Ok(());
        }
    }

    /// What is known of the place where it is: nothing above `after` stands before.
    fn here(&self) -> Option<(u64, u64)> {
        match &self.next {
            Some(next) => Some((next.first, next.offset)),
            None if self.beyond => None,
            None => Some((self.after + 1, self.scanner.position().offset)),
        }
    }
}

/// A merge output, and an index of what comes next in it.
pub(super) struct MergeSource {
    target: Arc<Target>,
    home: Home,
    memory: Arc<Mutex<Memory>>,
    /// Records that an index has at most.
    most: usize,
    index: Option<Arc<Index>>,
    /// The next one of the index.
    at: usize,
    after: u64,
    upto: u64,
}

impl MergeSource {
    fn place(&self) -> Option<(u64, u64)> {
        let place = self.index.as_ref()?.places.get(self.at).copied();
        place.filter(|(sequence, _)| *sequence <= self.upto)
    }

    fn take(&mut self, query: &FeedQuery) -> Result<Unit, ReadError> {
        let (sequence, offset) = self.place().expect("it has a head");
        let raw = self.target.read_record(offset, query.values)?;
        if raw.header.sequence != sequence {
            return Err(self.target.corrupt(offset, Damage::Misplaced));
        }
        (self.at, self.after) = (self.at + 1, sequence);
        if self.place().is_none() {
            self.refill()?;
        }
        let size = raw.header.record_size();
        let records = if is_wanted(&raw.header, &raw.key, query) { vec![raw] } else { Vec::new() };
        Ok(Unit { records, last: sequence, size })
    }

    /// Goes to the first record above `after`, in the index that has it.
    fn refill(&mut self) -> Result<(), ReadError> {
        if self.index.as_ref().is_some_and(|index| index.upto == u64::MAX) {
            return Ok(());
        }
        let known = self.memory().index(self.target.id, self.after);
        let index = match known {
            Some(index) => index,
            None => {
                let index = Arc::new(self.make_index()?);
                self.memory().set_index(index.clone());
                index
            }
        };
        self.at = index.places.partition_point(|(sequence, _)| *sequence <= self.after);
        self.index = Some(index);
        Ok(())
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the next records above `after` stand.
    fn make_index(&self) -> Result<Index, ReadError> {
        let (segment, after) = (self.target.id, self.after);
        let (mut places, mut upto) = (Vec::new(), u64::MAX);
        self.target.for_each_entry(&self.home, |header, offset| {
            if header.sequence > after && header.sequence < upto {
                places.push((header.sequence, offset));
            }
            if places.len() >= 2 * self.most {
                upto = keep_lowest(&mut places, self.most);
            }
            true
        })?;
        if places.len() > self.most {
            upto = keep_lowest(&mut places, self.most);
        }
        // Upto itself is in it: the others that were left out are above.
        places.sort_unstable();
        places.dedup_by_key(|(sequence, _)| *sequence);
        Ok(Index { segment, after, upto, places })
    }
}

/// Leaves the lowest `most` of the places, and gives the highest of those.
fn keep_lowest(places: &mut Vec<(u64, u64)>, most: usize) -> u64 {
    let (_, &mut (highest, _), _) = places.select_nth_unstable(most - 1);
    places.truncate(most);
    highest
}
