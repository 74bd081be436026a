//! Memory for the stored entries: pages cut into slots of one size class each.
//!
//! The arena hands out bytes and knows nothing of hashes. A [`Handle`] (34 bits) names a slot for
//! as long as it is allocated: the index of a page and the slot's first unit of eight bytes.
//!
//! Invariants:
//! - a page belongs to one class and holds slots of that class's size only; a slot is live, vacant
//!   (marked, and threaded on its page's free list) or still untouched (at or beyond `untouched`);
//! - a page is on its class's list of pages with room if and only if it has room and is not the
//!   class's victim;
//! - a page with no live slot is given back at once. Random removals rarely empty a page, so
//!   [`Arena::evacuate`] moves the entries of a sparse page (the victim) to others of its class;
//! - page 0 is never used, so no handle is zero.

use super::entry;

const UNIT: usize = 8;
const PAGE_BYTES: usize = 64 << 10;
const FIRST_PAGE_BYTES: usize = 1 << 10;
const PAGE_SHIFT: u32 = 13;
/// Handles have 34 bits: 21 for the page, 13 for the unit, which is 128 GiB of entries.
const MAX_PAGES: usize = 1 << 21;
/// Whole pages kept for whichever class needs one next.
const SPARE_PAGES: usize = 4;

/// Slots up to this many units come in every multiple of the unit, beyond in quarters of a doubling.
const FINE_UNITS: usize = 64;
const LEAST_UNITS: usize = entry::HEADER_LEN / UNIT;
const FINE_CLASSES: usize = FINE_UNITS - LEAST_UNITS + 1;
/// Anything larger has a page of its own, of exactly its size.
const MAX_SLOT: usize = 16 << 10;
const OVERSIZED: u8 = u8::MAX;

const NO_UNIT: u16 = u16::MAX;
const NO_PAGE: u32 = 0;

const _: () = assert!(PAGE_BYTES / UNIT == 1 << PAGE_SHIFT);
const _: () = assert!(PAGE_BYTES / UNIT < NO_UNIT as usize && PAGE_BYTES >= 4 * MAX_SLOT);

/// Names an allocated slot. Never zero; below 2^34.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Handle(pub(super) u64);

impl Handle {
    /// How many bits a handle has.
    pub(super) const BITS: u32 = 34;

    fn new(page: u32, unit: usize) -> Handle {
        Handle(u64::from(page) << PAGE_SHIFT | unit as u64)
    }

    #[inline]
    fn page(self) -> usize {
        (self.0 >> PAGE_SHIFT) as usize
    }

    #[inline]
    fn offset(self) -> usize {
        (self.0 as usize & (PAGE_BYTES / UNIT - 1)) * UNIT
    }
}

#[derive(Debug)]
struct Page {
    data: Box<[u8]>,
    /// Neighbours on the class's list of pages with room.
    previous: u32,
    next: u32,
    live: u16,
    /// First vacant slot, by unit.
    vacant: u16,
    /// First slot that was never used, by unit.
    untouched: u16,
    class: u8,
    listed: bool,
}

impl Page {
    fn new(data: Box<[u8]>, class: u8) -> Page {
        let (previous, next) = (NO_PAGE, NO_PAGE);
        Page { data, previous, next, live: 0, vacant: NO_UNIT, untouched: 0, class, listed: false }
    }

    fn has_room(&self, size: usize) -> bool {
        self.vacant != NO_UNIT || usize::from(self.untouched) * UNIT + size <= self.data.len()
    }

    fn take(&mut self, size: usize) -> usize {
        self.live += 1;
        let unit = usize::from(self.vacant);
        if self.vacant != NO_UNIT {
            let at = unit * UNIT;
            self.vacant = u16::from_le_bytes([self.data[at], self.data[at + 1]]);
            return unit;
        }
        let unit = self.untouched;
        self.untouched += (size / UNIT) as u16;
        usize::from(unit)
    }

    fn give_back(&mut self, offset: usize) {
        self.live -= 1;
        self.data[offset..offset + 2].copy_from_slice(&self.vacant.to_le_bytes());
        entry::mark_vacant(&mut self.data[offset..]);
        self.vacant = (offset / UNIT) as u16;
    }
}

#[derive(Clone, Debug, Default)]
struct Class {
    /// Head of the list of pages with room.
    roomy: u32,
    /// The page being emptied, or none.
    victim: u32,
    /// Where in the victim the sweep for live slots stands, in bytes.
    swept: usize,
    live: usize,
    /// Bytes of all the pages of this class.
    bytes: usize,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Arena {
    pages: Vec<Page>,
    unused_pages: Vec<u32>,
    spare: Vec<Box<[u8]>>,
    classes: Vec<Class>,
    /// Bytes held in pages, spare ones included.
    held: usize,
}

fn class_of(len: usize) -> usize {
    if len <= FINE_UNITS * UNIT {
        return len.div_ceil(UNIT).max(LEAST_UNITS) - LEAST_UNITS;
    }
    let doubling = (len - 1).ilog2();
    let quarter = (len - 1) >> (doubling - 2) & 3;
    FINE_CLASSES + (doubling - (FINE_UNITS * UNIT).ilog2()) as usize * 4 + quarter
}

fn slot_size(class: usize) -> usize {
    if class < FINE_CLASSES {
        return (class + LEAST_UNITS) * UNIT;
    }
    let (doubling, quarter) = ((class - FINE_CLASSES) / 4, (class - FINE_CLASSES) % 4);
    (5 + quarter) << (doubling + (FINE_UNITS * UNIT / 4).ilog2() as usize)
}

impl Arena {
    /// Whether entries of these two lengths fit the same slots.
    pub(super) fn same_slot(a: usize, b: usize) -> bool {
        a.max(b) <= MAX_SLOT && class_of(a) == class_of(b)
    }

    /// Bytes held, the arena's own tables included.
    pub(super) fn memory(&self) -> usize {
        self.held
            + self.pages.capacity() * size_of::<Page>()
            + self.classes.capacity() * size_of::<Class>()
            + (self.unused_pages.capacity() + self.spare.capacity() * 4) * 4
    }

    /// The bytes from the slot's first to the end of its page.
    #[inline]
    pub(super) fn bytes(&self, handle: Handle) -> &[u8] {
        &self.pages[handle.page()].data[handle.offset()..]
    }

    /// As [`Arena::bytes`], to be written; what lies past the entry is not the caller's.
    #[inline]
    pub(super) fn bytes_mut(&mut self, handle: Handle) -> &mut [u8] {
        &mut self.pages[handle.page()].data[handle.offset()..]
    }

    /// Allocates a slot for `len` bytes.
    ///
    /// # Panics
    /// When 2^21 pages are in use, which is 128 GiB of ordinary keys.
    pub(super) fn allocate(&mut self, len: usize) -> Handle {
        if len > MAX_SLOT {
            let page = self.add_page(vec![0; len].into_boxed_slice(), OVERSIZED);
            self.pages[page as usize].live = 1;
            return Handle::new(page, 0);
        }
        let class = class_of(len);
        if self.classes.len() <= class {
            self.classes.resize(class + 1, Class::default());
        }
        if self.classes[class].roomy == NO_PAGE {
            self.extend(class);
        }
        self.take(class)
    }

    /// Takes a slot from the first page with room; there must be one.
    fn take(&mut self, class: usize) -> Handle {
        let size = slot_size(class);
        let index = self.classes[class].roomy;
        self.classes[class].live += 1;
        let page = &mut self.pages[index as usize];
        let unit = page.take(size);
        if !page.has_room(size) {
            self.unlist(index);
        }
        Handle::new(index, unit)
    }

    /// Frees the slot. The class may then have entries to [`Arena::evacuate`].
    pub(super) fn free(&mut self, handle: Handle) {
        let index = handle.page() as u32;
        let page = &mut self.pages[handle.page()];
        if page.class == OVERSIZED {
            return self.release(index);
        }
        page.give_back(handle.offset());
        let (listed, live) = (page.listed, page.live);
        let number = usize::from(page.class);
        let class = &mut self.classes[number];
        class.live -= 1;
        if live == 0 {
            if listed {
                self.unlist(index);
            } else if class.victim == index {
                class.victim = NO_PAGE;
            }
            return self.release(index);
        }
        if !self.nominate(index) && !listed && self.classes[number].victim != index {
            self.list(index);
        }
    }

    /// Makes a page its class's victim, if that has none and wastes memory, and the page is sparse.
    fn nominate(&mut self, index: u32) -> bool {
        let page = &self.pages[index as usize];
        let (live, bytes, listed) = (usize::from(page.live), page.data.len(), page.listed);
        let number = usize::from(page.class);
        let size = slot_size(number);
        let class = &mut self.classes[number];
        let wasteful = class.bytes > 2 * (class.live * size + PAGE_BYTES);
        if !wasteful || class.victim != NO_PAGE || live * size * 2 > bytes {
            return false;
        }
        class.victim = index;
        class.swept = 0;
        if listed {
            self.unlist(index);
        }
        true
    }

    /// The first page from `from` on that stands for something to [`Arena::evacuate`]: where to go on
    /// from when that is done, and the length of entries.
    pub(super) fn next_victim(&mut self, from: usize) -> Option<(usize, usize)> {
        for index in from..self.pages.len() {
            let page = &self.pages[index];
            if page.class == OVERSIZED || page.live == 0 {
                continue;
            }
            let number = usize::from(page.class);
            if self.classes[number].victim != NO_PAGE {
                return Some((index, slot_size(number)));
            }
            if self.nominate(index as u32) {
                return Some((index + 1, slot_size(number)));
            }
        }
        None
    }

    /// Moves one entry out of a sparse page of the class that holds entries of `len` bytes, and
    /// returns its old and its new handle; none when there is nothing to gain. The caller points
    /// whatever named the old handle at the new one.
    pub(super) fn evacuate(&mut self, len: usize) -> Option<(Handle, Handle)> {
        if len > MAX_SLOT {
            return None;
        }
        let number = class_of(len);
        let victim = self.classes.get(number)?.victim;
        if victim == NO_PAGE {
            return None;
        }
        if self.classes[number].roomy == NO_PAGE {
            // The other pages filled up meanwhile: the victim is worth keeping after all.
            self.classes[number].victim = NO_PAGE;
            self.list(victim);
            return None;
        }
        let size = slot_size(number);
        let page = &mut self.pages[victim as usize];
        let class = &mut self.classes[number];
        // A victim never takes entries, so what the sweep has passed stays vacant.
        while entry::is_vacant(&page.data[class.swept..]) {
            class.swept += size;
        }
        let from = Handle::new(victim, class.swept / UNIT);
        let data = std::mem::take(&mut page.data);
        let to = self.take(number);
        self.bytes_mut(to)[..size].copy_from_slice(&data[from.offset()..from.offset() + size]);
        self.pages[victim as usize].data = data;
        self.free(from);
        Some((from, to))
    }

    /// Adds a page to a class: as many bytes as the class has already, within bounds, so that small
    /// keydirs stay small.
    fn extend(&mut self, class: usize) {
        let least = FIRST_PAGE_BYTES.max(slot_size(class).next_power_of_two());
        let len = self.classes[class].bytes.next_power_of_two().clamp(least, PAGE_BYTES);
        let data = match self.spare.pop() {
            Some(data) if len == PAGE_BYTES => {
                self.held -= data.len();
                data
            }
            other => {
                self.spare.extend(other);
                vec![0; len].into_boxed_slice()
            }
        };
        self.classes[class].bytes += len;
        let page = self.add_page(data, class as u8);
        self.list(page);
    }

    fn add_page(&mut self, data: Box<[u8]>, class: u8) -> u32 {
        self.held += data.len();
        if self.pages.is_empty() {
            self.pages.push(Page::new(Box::default(), OVERSIZED));
        }
        let page = Page::new(data, class);
        if let Some(index) = self.unused_pages.pop() {
            self.pages[index as usize] = page;
            return index;
        }
        assert!(self.pages.len() < MAX_PAGES, "a keydir holds at most {MAX_PAGES} pages of entries");
        self.pages.push(page);
        (self.pages.len() - 1) as u32
    }

    /// Gives a page with no live slot back; it is on no list any more.
    fn release(&mut self, index: u32) {
        let page = &mut self.pages[index as usize];
        let data = std::mem::take(&mut page.data);
        (page.live, page.untouched) = (0, 0);
        if page.class != OVERSIZED {
            self.classes[usize::from(page.class)].bytes -= data.len();
        }
        self.unused_pages.push(index);
        if data.len() == PAGE_BYTES && page.class != OVERSIZED && self.spare.len() < SPARE_PAGES {
            self.spare.push(data);
        } else {
            self.held -= data.len();
        }
    }

    fn list(&mut self, index: u32) {
        let class = usize::from(self.pages[index as usize].class);
        let next = std::mem::replace(&mut self.classes[class].roomy, index);
        let page = &mut self.pages[index as usize];
        (page.previous, page.next, page.listed) = (NO_PAGE, next, true);
        if next != NO_PAGE {
            self.pages[next as usize].previous = index;
        }
    }

    fn unlist(&mut self, index: u32) {
        let page = &mut self.pages[index as usize];
        let (class, previous, next) = (usize::from(page.class), page.previous, page.next);
        page.listed = false;
        if previous == NO_PAGE {
            self.classes[class].roomy = next;
        } else {
            self.pages[previous as usize].next = next;
        }
        if next != NO_PAGE {
            self.pages[next as usize].previous = previous;
        }
    }
}

#[cfg(test)]
#[path = "arena_tests.rs"]
mod tests;
