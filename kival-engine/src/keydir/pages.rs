//! The pages of a value that was changed in part: those that stand for parts of what its record holds.
//!
//! Such a value is the one in its own record, the *base*, with some pages put over it or behind it. What no page
//! and no byte of the base tells is zero. A page costs about 40 bytes of memory.

use super::Place;
use crate::format::record::{PAGE, PAGE_HEAD, record_size};
use std::collections::BTreeMap;
use std::ops::Range;

/// Where a page's record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// The sequence of the record.
    pub sequence: u64,
    /// Where it starts.
    pub place: Place,
    /// Bytes of the page that it holds; those behind them are zero.
    pub size: u16,
}

impl Page {
    /// Bytes of its record, under a key of so many bytes.
    pub fn record_size(&self, key_size: usize) -> u64 {
        record_size(key_size, PAGE_HEAD + usize::from(self.size))
    }
}

/// The pages of one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pages {
    base_size: u32,
    newest: u64,
    pages: BTreeMap<u32, Page>,
    /// Bytes that all pages hold.
    bytes: u64,
    /// Bytes of the base that pages stand for.
    covered: u64,
}

impl Pages {
    /// No pages yet, over a record with a value of `base_size` bytes.
    pub fn over(base_size: u32) -> Pages {
        Pages { base_size, newest: 0, pages: BTreeMap::new(), bytes: 0, covered: 0 }
    }

    /// Bytes of the value in the base.
    pub fn base_size(&self) -> u32 {
        self.base_size
    }

    /// Bytes of the whole value.
    pub fn size(&self) -> u32 {
        let last = self.pages.last_key_value();
        let end = last.map_or(0, |(number, page)| number * PAGE as u32 + u32::from(page.size));
        end.max(self.base_size)
    }

    /// The highest sequence of a page.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// Number of pages.
    pub fn len(&self) -> usize {
        self.pages.len()
    }

    /// Bytes that the base and all pages hold, dead ones of the base among them.
    pub fn stored(&self) -> u64 {
        self.bytes + u64::from(self.base_size)
    }

    /// Bytes of the base that pages stand for.
    pub fn covered(&self) -> u64 {
        self.covered
    }

    /// Bytes in memory, about.
    pub fn memory(&self) -> usize {
        size_of::<Pages>() + self.pages.len() * (size_of::<(u32, Page)>() + 8)
    }

    /// The page of this number.
    pub fn get(&self, number: u32) -> Option<&Page> {
        self.pages.get(&number)
    }

    /// The page of this number, to move it.
    pub fn get_mut(&mut self, number: u32) -> Option<&mut Page> {
        self.pages.get_mut(&number)
    }

    /// The pages with numbers in a range, rising.
    pub fn range(&self, numbers: Range<u32>) -> impl Iterator<Item = (u32, &Page)> {
        self.pages.range(numbers).map(|(number, page)| (*number, page))
    }

    /// All pages, rising.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Page)> {
        self.range(0..u32::MAX)
    }

    /// Bytes of the base that lie in a page.
    pub fn of_base(&self, number: u32) -> u64 {
        u64::from(self.base_size).saturating_sub(u64::from(number) * PAGE as u64).min(PAGE as u64)
    }

    /// Sets a page, and gives the one that it replaces.
    pub fn set(&mut self, number: u32, page: Page) -> Option<Page> {
        self.newest = self.newest.max(page.sequence);
        self.bytes += u64::from(page.size);
        let before = self.pages.insert(number, page);
        match before {
            Some(before) => self.bytes -= u64::from(before.size),
            None => self.covered += self.of_base(number),
        }
        before
    }

    /// Undoes [`Self::set`]; `newest` is what was the highest sequence before. Gives the page that goes.
    pub fn take_back(&mut self, number: u32, before: Option<Page>, newest: u64) -> Option<Page> {
        let now = self.pages.remove(&number)?;
        self.bytes -= u64::from(now.size);
        self.covered -= self.of_base(number);
        if let Some(before) = before {
            self.set(number, before);
        }
        self.newest = newest;
        Some(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(sequence: u64, size: u16) -> Page {
        Page { sequence, place: Place::new(1, sequence), size }
    }

    #[test]
    fn a_value_ends_where_its_last_page_or_its_base_does() {
        let mut pages = Pages::over(5000);
        assert_eq!(
            (pages.size(), pages.of_base(0), pages.of_base(1), pages.of_base(2)),
            (5000, 4096, 904, 0)
        );
        pages.set(0, page(1, 4096));
        assert_eq!((pages.size(), pages.covered(), pages.stored()), (5000, 4096, 9096));
        pages.set(1, page(2, 1000));
        assert_eq!((pages.size(), pages.covered()), (5096, 5000));
        pages.set(9, page(3, 7));
        assert_eq!((pages.size(), pages.covered(), pages.newest()), (9 * 4096 + 7, 5000, 3));
    }

    #[test]
    fn what_is_taken_back_leaves_no_trace() {
        let mut pages = Pages::over(100);
        pages.set(3, page(5, 10));
        let before = pages.clone();
        for (number, old) in [(3, Some(page(5, 10))), (0, None), (7, None)] {
            assert_eq!(pages.set(number, page(6, 20)), old);
            assert_eq!(pages.take_back(number, old, 5), Some(page(6, 20)));
            assert_eq!(pages, before);
        }
    }
}
