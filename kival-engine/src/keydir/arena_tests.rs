//! Tests of the arena on its own, with a checker of its invariants.

use super::*;
use crate::keydir::{Entry, Place};

impl Arena {
    /// Asserts the module's invariants.
    pub(in crate::keydir) fn check(&self) {
        let mut held: usize = self.spare.iter().map(|data| data.len()).sum();
        let mut live = vec![0; self.classes.len()];
        let mut bytes = vec![0; self.classes.len()];
        for (index, page) in self.pages.iter().enumerate().skip(1) {
            held += page.data.len();
            if self.unused_pages.contains(&(index as u32)) {
                assert!(page.data.is_empty());
                continue;
            }
            assert!(page.live > 0, "an empty page is given back");
            if page.class == OVERSIZED {
                continue;
            }
            let class = usize::from(page.class);
            let size = slot_size(class);
            live[class] += usize::from(page.live);
            bytes[class] += page.data.len();
            assert_eq!(page.live as usize, self.live_slots(index).count());
            let is_victim = self.classes[class].victim as usize == index;
            assert_eq!(page.listed, page.has_room(size) && !is_victim);
        }
        assert_eq!(held, self.held);
        for (number, class) in self.classes.iter().enumerate() {
            assert_eq!((class.live, class.bytes), (live[number], bytes[number]));
            let listed = self.pages.iter().filter(|page| page.listed && usize::from(page.class) == number);
            assert_eq!(self.roomy_pages(number).count(), listed.count());
        }
    }

    /// Every live slot.
    pub(in crate::keydir) fn live(&self) -> impl Iterator<Item = Handle> + '_ {
        (1..self.pages.len()).flat_map(|index| self.live_slots(index))
    }

    fn live_slots(&self, index: usize) -> impl Iterator<Item = Handle> + '_ {
        let page = &self.pages[index];
        let (size, end) = match page.class {
            OVERSIZED => (MAX_SLOT, usize::from(page.live)),
            class => (slot_size(usize::from(class)), usize::from(page.untouched) * UNIT),
        };
        (0..end)
            .step_by(size)
            .filter(|at| !entry::is_vacant(&page.data[*at..]))
            .map(move |at| Handle::new(index as u32, at / UNIT))
    }

    fn roomy_pages(&self, class: usize) -> impl Iterator<Item = u32> + '_ {
        let some = |index: u32| (index != NO_PAGE).then_some(index);
        std::iter::successors(some(self.classes[class].roomy), move |index| {
            some(self.pages[*index as usize].next)
        })
    }
}

fn entry_at(offset: u64) -> Entry {
    Entry {
        place: Place::new(1, offset),
        sequence: 1,
        value_size: 0,
        data_type: 0,
        access: 0,
        expiry: 0,
        change: None,
    }
}

fn store(arena: &mut Arena, key: &[u8], offset: u64) -> Handle {
    let entry = entry_at(offset);
    let handle = arena.allocate(entry::stored_len(key.len(), &entry));
    entry::encode(&entry, key, arena.bytes_mut(handle));
    handle
}

#[test]
fn every_length_has_a_class_that_wastes_little() {
    for len in entry::HEADER_LEN..=MAX_SLOT {
        let size = slot_size(class_of(len));
        assert!(size >= len && size.is_multiple_of(UNIT), "{len} in {size}");
        assert!(size < len + UNIT || size * 4 <= len * 5, "{len} in {size}");
        assert!(class_of(len) == 0 || slot_size(class_of(len) - 1) < len);
    }
    assert!(class_of(MAX_SLOT) < usize::from(OVERSIZED));
}

#[test]
fn slots_do_not_overlap() {
    let mut arena = Arena::default();
    let keys: Vec<Vec<u8>> = (0..600).map(|n| vec![n as u8; n * n % 20_000]).collect();
    let handles: Vec<Handle> = keys.iter().map(|key| store(&mut arena, key, key.len() as u64)).collect();
    arena.check();
    for (key, handle) in keys.iter().zip(&handles) {
        assert_eq!(entry::key(arena.bytes(*handle)), key);
        assert_eq!(entry::decode(arena.bytes(*handle)), entry_at(key.len() as u64));
        assert!(handle.0 != 0 && handle.0 >> Handle::BITS == 0);
    }
    for handle in handles {
        arena.free(handle);
        arena.check();
    }
    assert!(arena.held <= SPARE_PAGES * PAGE_BYTES);
}

#[test]
fn freed_slots_and_pages_are_used_again() {
    let mut arena = Arena::default();
    let mut handles: Vec<Handle> = (0..20_000).map(|n| store(&mut arena, b"sixteen bytes...", n)).collect();
    let held = arena.held;
    for round in 0..10 {
        for (n, handle) in handles.iter_mut().enumerate().filter(|(n, _)| n % 3 == round % 3) {
            arena.free(*handle);
            *handle = store(&mut arena, b"sixteen bytes,,,", n as u64);
        }
    }
    arena.check();
    assert_eq!(arena.held, held);
    for handle in handles {
        arena.free(handle);
    }
    let pages = arena.pages.len();
    for n in 0..20_000 {
        store(&mut arena, b"another size", n);
    }
    assert_eq!(arena.pages.len(), pages, "other classes take the pages' indexes");
}

#[test]
fn sparse_pages_are_emptied() {
    let mut arena = Arena::default();
    let len = entry::stored_len(16, &entry_at(0));
    let mut handles: Vec<Handle> = (0..400_000).map(|n| store(&mut arena, &[7; 16], n)).collect();
    let held = arena.held;
    // Every tenth stays, so each page keeps some.
    for n in (0..400_000).filter(|n| n % 10 != 0) {
        arena.free(handles[n]);
        handles[n] = Handle(0);
        while let Some((from, to)) = arena.evacuate(len) {
            let n = entry::decode(arena.bytes(to)).place.offset() as usize;
            assert_eq!(handles[n], from);
            handles[n] = to;
        }
    }
    arena.check();
    assert!(arena.held * 4 < held, "{} of {held}", arena.held);
    for n in (0..400_000).step_by(10) {
        assert_eq!(entry::decode(arena.bytes(handles[n])), entry_at(n as u64));
    }
}
