//! Several parts of a value, for commands that change it page by page: all that they will want is read before
//! anything is changed, and each page is written once. What is done to the parts is not known here.

use super::{Abort, Context};
use bytes::Bytes;
use kival_engine::KeyEntry;
use kival_engine::format::record::PAGE;
use std::ops::Range;

/// A command that wants more pages than this reads those that are cold together with others near them: it starts
/// again after each read.
const MOST_ALONE: usize = 64;
/// The bytes of a value, from a multiple of this on, of which all is read together.
const NEAR: usize = 4 << 20;

/// The pages of a value that hold some parts of it.
pub(super) struct Parts {
    /// Rising.
    pages: Vec<Page>,
}

struct Page {
    number: usize,
    /// What the value has there, which may end before the page does.
    before: Bytes,
    /// All of the page, if it is to change.
    after: Option<Vec<u8>>,
}

impl Parts {
    /// Reads them, of a value that is absent or has this entry.
    pub(super) fn read(
        ctx: &mut Context<'_>,
        key: &[u8],
        entry: Option<&KeyEntry>,
        parts: impl Iterator<Item = Range<usize>>,
    ) -> Result<Parts, Abort> {
        let mut numbers: Vec<usize> = parts.flat_map(numbers_of).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let mut pages = Vec::with_capacity(numbers.len());
        for (at, &number) in numbers.iter().enumerate() {
            let before = match entry {
                Some(entry) => read_page(ctx, key, entry, &numbers[at..], numbers.len() > MOST_ALONE)?,
                None => Bytes::new(),
            };
            pages.push(Page { number, before, after: None });
        }
        Ok(Parts { pages })
    }

    /// One of the parts as it is now, zeros where the value does not reach.
    pub(super) fn get(&self, part: Range<usize>) -> Vec<u8> {
        let mut out = vec![0; part.len()];
        for page in &self.pages[self.indices(&part)] {
            let (begin, bytes) = (page.number * PAGE, page.after.as_deref().unwrap_or(&page.before));
            let (from, to) = (part.start.max(begin), part.end.min(begin + bytes.len()));
            if from < to {
                out[from - part.start..to - part.start].copy_from_slice(&bytes[from - begin..to - begin]);
            }
        }
        out
    }

    /// Changes one of the parts, or what lies within one.
    pub(super) fn set(&mut self, offset: usize, bytes: &[u8]) {
        let part = offset..offset + bytes.len();
        let indices = self.indices(&part);
        for page in &mut self.pages[indices] {
            let begin = page.number * PAGE;
            let (from, to) = (part.start.max(begin), part.end.min(begin + PAGE));
            page.changing()[from - begin..to - begin].copy_from_slice(&bytes[from - offset..to - offset]);
        }
    }

    /// Writes the pages that have changed, of a value that is `len` bytes long when that is done.
    pub(super) fn write(self, ctx: &mut Context<'_>, key: &[u8], len: usize) -> Result<(), Abort> {
        // The last one first: with it the value has its length.
        for page in self.pages.into_iter().rev() {
            let Some(bytes) = page.after else { continue };
            let (entry, begin) = (ctx.peek(key)?, page.number * PAGE);
            ctx.put_part(key, entry, begin, &bytes[..PAGE.min(len - begin)])?;
        }
        Ok(())
    }

    /// Where the pages of a part are.
    fn indices(&self, part: &Range<usize>) -> Range<usize> {
        let numbers = numbers_of(part.clone());
        let index = |number| self.pages.partition_point(|page| page.number < number);
        index(numbers.start)..index(numbers.end)
    }
}

impl Page {
    fn changing(&mut self) -> &mut Vec<u8> {
        let Page { before, after, .. } = self;
        after.get_or_insert_with(|| {
            let mut bytes = Vec::with_capacity(PAGE);
            bytes.extend_from_slice(before);
            bytes.resize(PAGE, 0);
            bytes
        })
    }
}

/// The numbers of the pages in which a part lies.
fn numbers_of(part: Range<usize>) -> Range<usize> {
    part.start / PAGE..part.end.div_ceil(PAGE)
}

/// Reads the first of these pages, which rise; if it is cold and they are `many`, with it all up to the last one near
/// it: damage of a page in between is told, too, though nobody wants it.
fn read_page(
    ctx: &mut Context<'_>,
    key: &[u8],
    entry: &KeyEntry,
    numbers: &[usize],
    many: bool,
) -> Result<Bytes, Abort> {
    let begin = numbers[0] * PAGE;
    match ctx.part_of(key, entry, begin..begin + PAGE) {
        Err(Abort::Cold(alone)) if many => {
            let near = numbers.partition_point(|number| number * PAGE / NEAR == begin / NEAR);
            let end = (numbers[near - 1] + 1) * PAGE;
            // What is in memory meanwhile is found by the next run.
            Err(ctx.part_of(key, entry, begin..end).err().unwrap_or(Abort::Cold(alone)))
        }
        found => found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(pages: &[(usize, &[u8])]) -> Parts {
        let page = |&(number, bytes): &(usize, &[u8])| Page {
            number,
            before: Bytes::copy_from_slice(bytes),
            after: None,
        };
        Parts { pages: pages.iter().map(page).collect() }
    }

    #[test]
    fn a_part_goes_across_pages_and_over_the_end() {
        let mut parts = parts(&[(2, &[1; PAGE]), (3, &[2; 5]), (9, &[])]);
        assert_eq!(parts.get(3 * PAGE - 2..3 * PAGE + 7), [1, 1, 2, 2, 2, 2, 2, 0, 0]);
        assert_eq!(parts.get(9 * PAGE..9 * PAGE + 3), [0; 3]);
        parts.set(3 * PAGE - 1, &[7, 8]);
        assert_eq!(parts.get(3 * PAGE - 2..3 * PAGE + 3), [1, 7, 8, 2, 2]);
        parts.set(3 * PAGE + 6, &[9]);
        assert_eq!(parts.get(3 * PAGE..3 * PAGE + 8), [8, 2, 2, 2, 2, 0, 9, 0]);
        let changed: Vec<usize> =
            parts.pages.iter().filter(|page| page.after.is_some()).map(|page| page.number).collect();
        assert_eq!(changed, [2, 3]);
    }
}
