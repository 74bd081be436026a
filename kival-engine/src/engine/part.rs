//! Values read and changed in part.
//!
//! A part of a value is read page by page. The record of a value has one checksum, which takes all of it; so the
//! first read of a part goes through the whole record, on a thread that may wait, and keeps the checksums of its
//! pages ([`Sums`]). A change of a part stages page records that lie over the value's own
//! ([`crate::keydir::Pages`]), until that pays no more.

use super::cold::{ColdRead, PageSource, PartPlan, PartRead, Plan, ReadBack, RecordAt, What, lay};
use super::{Engine, Fetched};
use crate::error::{ReadError, WriteError};
use crate::format::MAX_BLOB;
use crate::format::record::{PAGE, PAGE_HEAD};
use crate::keydir::{Entry, Page, Pages, Place};
use bytes::Bytes;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

/// Parts up to this size are read where the writer is, if they are in memory.
const IN_PLACE: usize = 256 << 10;
/// Pages that may have changed since a part was read for it still to be of use.
const MOST_STALE: usize = 1 << 10;
/// Time after which a value that was to be written anew, and was not, is up for it again, in milliseconds.
const RENEWAL_MS: u64 = 1000;
/// Bytes of checksums that are kept: those of 8 GiB of values.
const SUMS: usize = 8 << 20;

/// The checksums of the pages of large values, by the sequences of their records: the first come go first.
#[derive(Default)]
pub(super) struct Sums {
    known: HashMap<u64, Arc<[u32]>>,
    order: VecDeque<u64>,
    bytes: usize,
}

impl Sums {
    fn get(&self, sequence: u64) -> Option<Arc<[u32]>> {
        self.known.get(&sequence).cloned()
    }

    fn insert(&mut self, sequence: u64, sums: Arc<[u32]>) {
        self.bytes += size_of_val(&*sums);
        self.order.push_back(sequence);
        if let Some(same) = self.known.insert(sequence, sums) {
            self.bytes -= size_of_val(&*same);
            self.order.pop_back();
        }
        while self.bytes > SUMS && self.order.len() > 1 {
            let oldest = self.order.pop_front().and_then(|sequence| self.known.remove(&sequence));
            self.bytes -= oldest.map_or(0, |sums| size_of_val(&*sums));
        }
    }
}

/// What is held for commands that waited for it.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) sums: Sums,
    pinned: Vec<(PartRead, Bytes)>,
    /// The value that is being written anew, by the sequence of its record, and until when no other one is.
    renewal: Option<(u64, u64)>,
}

impl Parts {
    /// A read that holds all of a part of the value in the record `base`.
    fn covering(&self, base: u64, wanted: &Range<usize>) -> Option<&(PartRead, Bytes)> {
        let covers = |part: &Range<usize>| part.start <= wanted.start && wanted.end <= part.end;
        self.pinned.iter().find(|(read, _)| read.base == base && covers(&read.part))
    }

    /// A page, if it is held: that of the record `over`, or that of the record `base` itself. Others of the value may
    /// have changed since it was read.
    fn pinned_page(&self, base: u64, number: u32, over: Option<u64>) -> Option<Bytes> {
        let at = number as usize * PAGE;
        let found = self.pinned.iter().find(|(read, _)| {
            let page = read.pages.binary_search_by_key(&number, |(number, _)| *number);
            read.base == base && read.part.contains(&at) && page.ok().map(|page| read.pages[page].1) == over
        });
        found.map(|(read, bytes)| {
            let from = at - read.part.start;
            bytes.slice(from..bytes.len().min(from + PAGE))
        })
    }

    /// Lets all parts that are held go.
    pub(super) fn unpin(&mut self) {
        self.pinned.clear();
    }
}

impl Engine {
    /// A part of the value of a key, given its entry, without waiting for the disk. It lies within the value.
    ///
    /// # Errors
    /// [`ReadError`] if something cannot be read or is not what was written.
    pub fn fetch_part(
        &mut self,
        db: u32,
        key: &[u8],
        entry: &Entry,
        part: Range<usize>,
    ) -> Result<Fetched, ReadError> {
        if part.is_empty() {
            return Ok(Fetched::Value(Bytes::new()));
        }
        if self.databases.spaces[db as usize].pages_of(entry).is_some() {
            return self.fetch_pages(db, key, entry, part);
        }
        let value = match self.cache.get(entry.sequence) {
            Some(value) => Fetched::Value(value),
            None if entry.value_size as usize <= IN_PLACE => self.fetch_record(db, key, entry)?,
            None => return self.fetch_pages(db, key, entry, part),
        };
        match value {
            Fetched::Value(value) => Ok(Fetched::Value(value.slice(part))),
            Fetched::Cold(_) => self.fetch_pages(db, key, entry, part),
        }
    }

    /// As [`Self::fetch_part`], from the pages of the value and those of its record.
    pub(super) fn fetch_pages(
        &mut self,
        db: u32,
        key: &[u8],
        entry: &Entry,
        part: Range<usize>,
    ) -> Result<Fetched, ReadError> {
        if let Some(bytes) = self.held_part(db, key, entry, &part)? {
            return Ok(Fetched::Value(bytes));
        }
        let whole_pages = page_span(part.start, part.len(), entry.value_size as usize);
        let within = part.start - whole_pages.start..part.end - whole_pages.start;
        let plan = self.plan(db, key, entry, whole_pages);
        if plan.part.len() > IN_PLACE {
            return Ok(Fetched::Cold(ColdRead(Plan::Part(plan))));
        }
        let read = plan.read(|file, buffer, offset| file.read_at_cached(buffer, offset))?;
        let cold = || Fetched::Cold(ColdRead(Plan::Part(plan)));
        Ok(read.map_or_else(cold, |bytes| Fetched::Value(bytes.slice(within))))
    }

    /// A part of which an earlier state is held, brought up to date with the pages that have changed since: those
    /// are in memory nearly always, so that a value that is changed all the time can be read all the same.
    fn held_part(
        &mut self,
        db: u32,
        key: &[u8],
        entry: &Entry,
        part: &Range<usize>,
    ) -> Result<Option<Bytes>, ReadError> {
        let Some((read, bytes)) = self.parts.covering(entry.sequence, part) else { return Ok(None) };
        let bytes = bytes.slice(part.start - read.part.start..part.end - read.part.start);
        let numbers = (part.start / PAGE) as u32..part.end.div_ceil(PAGE) as u32;
        let pages = self.databases.spaces[db as usize].pages_of(entry);
        let now = pages.into_iter().flat_map(|pages| pages.range(numbers.clone()));
        let now: Vec<(u32, u64)> = now.map(|(number, page)| (number, page.sequence)).collect();
        let then = read.pages.iter().filter(|(number, _)| numbers.contains(number)).copied();
        let stale = differing(then.collect(), now);
        if stale.is_empty() {
            return Ok(Some(bytes));
        }
        if stale.len() > MOST_STALE {
            return Ok(None);
        }
        let mut fresh = bytes.to_vec();
        for number in stale {
            let at = number as usize * PAGE;
            let page = at..(at + PAGE).min(entry.value_size as usize);
            let plan = self.plan(db, key, entry, page);
            let read = plan.read(|file, buffer, offset| file.read_at_cached(buffer, offset))?;
            let Some(content) = read else { return Ok(None) };
            lay(&content, at, part, &mut fresh);
        }
        Ok(Some(fresh.into()))
    }

    fn plan(&mut self, db: u32, key: &[u8], entry: &Entry, part: Range<usize>) -> PartPlan {
        let space = &self.databases.spaces[db as usize];
        let (namespace, base_size) = (space.namespace, space.base_size(entry));
        let numbers = (part.start / PAGE) as u32..part.end.div_ceil(PAGE) as u32;
        let over = space.pages_of(entry).into_iter().flat_map(|pages| pages.range(numbers.clone()));
        let over: Vec<(u32, Page)> = over.map(|(number, page)| (number, *page)).collect();
        let key: Arc<[u8]> = key.into();
        let at = |engine: &Engine, place: Place, sequence: u64, value_size: usize| {
            let segment = engine.segments.get(place.slot());
            let (file, path, key) = (segment.file.clone(), segment.path.clone(), key.clone());
            RecordAt { file, path, offset: place.offset(), namespace, key, sequence, value_size }
        };
        let base = at(self, entry.place, entry.sequence, base_size);
        let end = part.end.min(base_size);
        let base_bytes = if part.start >= end {
            Some(Bytes::new())
        } else {
            self.staged_part(entry.place, key.len(), part.start..end)
        };
        let mut pages = Vec::with_capacity(over.len());
        for (number, page) in &over {
            let size = usize::from(page.size);
            let bytes = self.cache.get(page.sequence);
            let bytes = bytes.or_else(|| self.parts.pinned_page(base.sequence, *number, Some(page.sequence)));
            let bytes =
                bytes.or_else(|| self.staged_part(page.place, key.len(), PAGE_HEAD..PAGE_HEAD + size));
            let record = || PageSource::Record(at(self, page.place, page.sequence, PAGE_HEAD + size));
            pages.push((*number, bytes.map_or_else(record, PageSource::Bytes)));
        }
        let over = over.iter().map(|(number, page)| (*number, self.known_for_ever(page.sequence)));
        let over: Vec<(u32, u64)> = over.collect();
        if base_bytes.is_none() && !self.parts.pinned.is_empty() {
            let of_base = numbers.filter(|number| over.binary_search_by_key(number, |(n, _)| *n).is_err());
            let held = |number| Some((number, self.parts.pinned_page(base.sequence, number, None)?));
            pages.extend(of_base.filter_map(held).map(|(number, bytes)| (number, PageSource::Bytes(bytes))));
            pages.sort_by_key(|(number, _)| *number);
        }
        let sums = self.parts.sums.get(entry.sequence);
        PartPlan {
            part,
            known_base: self.known_for_ever(entry.sequence),
            base,
            base_bytes,
            sums,
            pages,
            over,
        }
    }

    /// The number by which what stands in a record may be found later. One that is staged may be taken back, and its
    /// number then names another record: it gets a number that none has.
    fn known_for_ever(&self, sequence: u64) -> u64 {
        if sequence > self.last_logged { u64::MAX } else { sequence }
    }

    /// A part of the value of a record, if it was staged in this turn.
    pub(super) fn staged_part(&self, place: Place, key_size: usize, part: Range<usize>) -> Option<Bytes> {
        let (slot, offset) = (place.slot(), place.offset());
        (slot == self.active.slot && offset >= self.active.end).then(|| {
            let staged = self.stage.value(offset - self.active.end, key_size, part);
            staged.expect("it was staged in this turn")
        })
    }

    /// Changes the size from which on values change page by page, in bytes.
    pub fn set_paged_from(&mut self, bytes: u64) {
        self.options.paged_from = bytes;
    }

    /// Whether a change of `len` bytes at `offset` of a value, absent or with this entry, is to be made by
    /// [`Self::put_pages`], and not by a [`Self::put`] of all of it.
    pub fn is_by_page(&mut self, db: u32, entry: Option<&Entry>, offset: usize, len: usize) -> bool {
        let value_size = entry.map_or(0, |entry| entry.value_size as usize);
        let (span, size) = (page_span(offset, len, usize::MAX), value_size.max(offset + len));
        if (size as u64) < self.options.paged_from || span.len() > size / 2 {
            return false;
        }
        let Some(entry) = entry else { return true };
        // A third of what stands in the log for this value is dead, and all of it would take little more.
        let pays = |pages: &Pages| pages.covered() * 3 <= pages.stored() || pages.stored() * 2 < size as u64;
        let pays = self.databases.spaces[db as usize].pages_of(entry).is_none_or(pays);
        pays || !self.may_renew(entry)
    }

    /// Whether the caller is to write a value anew: one alone at a time, since it reads all of it for that.
    fn may_renew(&mut self, entry: &Entry) -> bool {
        if self.parts.covering(entry.sequence, &(0..entry.value_size as usize)).is_some() {
            return true;
        }
        let is_taken =
            self.parts.renewal.is_some_and(|(base, until)| base == entry.sequence && self.now_ms < until);
        if !is_taken {
            self.parts.renewal = Some((entry.sequence, self.now_ms + RENEWAL_MS));
        }
        !is_taken
    }

    /// The bytes of whole pages around a change of `len` bytes at `offset`, as far as the value will reach.
    pub fn pages_around(&self, entry: &Entry, offset: usize, len: usize) -> Range<usize> {
        page_span(offset, len, (entry.value_size as usize).max(offset + len))
    }

    /// Sets whole pages of the value of a key, given its entry: `bytes` from `offset` on, where a page begins, up
    /// to where one ends or the value will. Gives the sequence of the last.
    ///
    /// # Errors
    /// [`WriteError`]; some pages may have been set then: to be taken back to a savepoint.
    pub fn put_pages(
        &mut self,
        db: u32,
        key: &[u8],
        entry: &Entry,
        offset: usize,
        bytes: &[u8],
    ) -> Result<u64, WriteError> {
        debug_assert!(offset.is_multiple_of(PAGE));
        if (offset + bytes.len()) as u64 > MAX_BLOB {
            return Err(WriteError::TooLarge);
        }
        self.check_map()?;
        let mut last = entry.sequence;
        for (number, page) in ((offset / PAGE) as u32..).zip(bytes.chunks(PAGE)) {
            last = self.stage_page(db, key, entry, number, page)?;
        }
        Ok(last)
    }

    /// The sequence of the newest record that the value of an entry stands in.
    pub fn newest_of(&self, db: u32, entry: &Entry) -> u64 {
        self.databases.spaces[db as usize].pages_of(entry).map_or(entry.sequence, Pages::newest)
    }

    /// Holds what a [`ColdRead`] has brought, until [`Self::unpin`].
    pub fn pin(&mut self, read: ReadBack) {
        if let Some((sequence, sums)) = read.sums {
            self.parts.sums.insert(sequence, sums);
        }
        match read.what {
            What::Record(sequence) => self.cache.pin(sequence, read.value),
            What::Part(part) => self.parts.pinned.push((part, read.value)),
        }
    }
}

/// The pages, rising, that are in one list alone, or in both with different sequences.
fn differing(then: Vec<(u32, u64)>, now: Vec<(u32, u64)>) -> BTreeSet<u32> {
    if then == now {
        // Nearly always; a large value may have tens of thousands.
        return BTreeSet::new();
    }
    let (then, now): (BTreeSet<_>, BTreeSet<_>) = (then.into_iter().collect(), now.into_iter().collect());
    then.symmetric_difference(&now).map(|(number, _)| *number).collect()
}

/// The bytes of whole pages around `len` bytes at `offset` of a value of `size` bytes.
fn page_span(offset: usize, len: usize, size: usize) -> Range<usize> {
    offset / PAGE * PAGE..((offset + len).div_ceil(PAGE) * PAGE).min(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_begins_and_ends_with_pages_or_the_value() {
        assert_eq!(page_span(0, 1, 10_000), 0..4096);
        assert_eq!(page_span(4095, 2, 10_000), 0..8192);
        assert_eq!(page_span(9000, 1, 10_000), 8192..10_000);
    }

    #[test]
    fn checksums_are_bounded_but_for_the_last() {
        let mut sums = Sums::default();
        let of = |bytes: usize| -> Arc<[u32]> { vec![0; bytes / 4].into() };
        for sequence in 0..10 {
            sums.insert(sequence, of(SUMS / 4));
        }
        assert_eq!((sums.get(5).is_some(), sums.get(6).is_some(), sums.bytes), (false, true, SUMS));
        sums.insert(9, of(SUMS / 8));
        assert_eq!((sums.bytes, sums.order.len()), (SUMS - SUMS / 8, 4));
        sums.insert(10, of(SUMS * 2));
        assert_eq!((sums.bytes, sums.order.len()), (SUMS * 2, 1));
    }
}
