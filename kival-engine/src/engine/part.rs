//! Values read and changed in part.
//!
//! A part of a value is read page by page. The record of a value has one checksum, which takes all of it; so the
//! first read of a part goes through the whole record, on a thread that may wait, and keeps the checksums of its
//! pages ([`Sums`]). A change of a part stages page records that lie over the value's own
//! ([`crate::keydir::Pages`]), until that pays no more.

use super::cold::{ColdRead, PageSource, PartPlan, PartRead, Plan, ReadBack, RecordAt, What};
use super::{Engine, Fetched};
use crate::error::{ReadError, WriteError};
use crate::format::record::{PAGE, PAGE_HEAD};
use crate::keydir::{Entry, Page, Pages, Place};
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

/// Parts up to this size are read where the writer is, if they are in memory.
const IN_PLACE: usize = 256 << 10;
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
}

impl Parts {
    /// A part of the value in the record `base`, with pages up to `newest`, if it is held.
    fn pinned(&self, base: u64, newest: u64, wanted: &Range<usize>) -> Option<Bytes> {
        let found = self.pinned.iter().find(|(read, _)| {
            (read.base, read.newest) == (base, newest)
                && read.part.start <= wanted.start
                && wanted.end <= read.part.end
        });
        found.map(|(read, bytes)| bytes.slice(wanted.start - read.part.start..wanted.end - read.part.start))
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
        let pages = self.databases.spaces[db as usize].pages_of(entry);
        let newest = pages.map(Pages::newest);
        if newest.is_none() {
            let value = match self.cache.get(entry.sequence) {
                Some(value) => Fetched::Value(value),
                None if entry.value_size as usize <= IN_PLACE => self.fetch_record(db, key, entry)?,
                None => return self.fetch_pages(db, key, entry, part, 0),
            };
            return Ok(match value {
                Fetched::Value(value) => Fetched::Value(value.slice(part)),
                Fetched::Cold(_) => return self.fetch_pages(db, key, entry, part, 0),
            });
        }
        self.fetch_pages(db, key, entry, part, newest.unwrap_or_default())
    }

    /// As [`Self::fetch_part`], from the pages of the value and those of its record.
    pub(super) fn fetch_pages(
        &mut self,
        db: u32,
        key: &[u8],
        entry: &Entry,
        part: Range<usize>,
        newest: u64,
    ) -> Result<Fetched, ReadError> {
        if let Some(bytes) = self.parts.pinned(entry.sequence, newest, &part) {
            return Ok(Fetched::Value(bytes));
        }
        let whole_pages = page_span(part.start, part.len(), entry.value_size as usize);
        let within = part.start - whole_pages.start..part.end - whole_pages.start;
        let plan = self.plan(db, key, entry, whole_pages, newest);
        if plan.part.len() > IN_PLACE {
            return Ok(Fetched::Cold(ColdRead(Plan::Part(plan))));
        }
        let read = plan.read(|file, buffer, offset| file.read_at_cached(buffer, offset))?;
        let cold = || Fetched::Cold(ColdRead(Plan::Part(plan)));
        Ok(read.map_or_else(cold, |bytes| Fetched::Value(bytes.slice(within))))
    }

    fn plan(&mut self, db: u32, key: &[u8], entry: &Entry, part: Range<usize>, newest: u64) -> PartPlan {
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
        let over: Vec<(u32, u64)> = over.iter().map(|(number, page)| (*number, page.sequence)).collect();
        if base_bytes.is_none() && !self.parts.pinned.is_empty() {
            let of_base = numbers.filter(|number| over.binary_search_by_key(number, |(n, _)| *n).is_err());
            let held = |number| Some((number, self.parts.pinned_page(base.sequence, number, None)?));
            pages.extend(of_base.filter_map(held).map(|(number, bytes)| (number, PageSource::Bytes(bytes))));
            pages.sort_by_key(|(number, _)| *number);
        }
        let sums = self.parts.sums.get(entry.sequence);
        PartPlan { part, base, base_bytes, sums, pages, over, newest }
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
    pub fn is_by_page(&self, db: u32, entry: Option<&Entry>, offset: usize, len: usize) -> bool {
        let value_size = entry.map_or(0, |entry| entry.value_size as usize);
        let (span, size) = (page_span(offset, len, usize::MAX), value_size.max(offset + len));
        if (size as u64) < self.options.paged_from || span.len() > size / 2 {
            return false;
        }
        let pages = entry.and_then(|entry| self.databases.spaces[db as usize].pages_of(entry));
        // A third of what stands in the log for this value is dead, and all of it would take little more.
        let pays = |pages: &Pages| pages.covered() * 3 <= pages.stored() || pages.stored() * 2 < size as u64;
        pages.is_none_or(pays)
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
