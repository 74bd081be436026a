//! Databases, the namespaces behind them, and what each segment holds for them.
//!
//! A database is a number that clients use; its keys belong to a namespace. FLUSHDB gives the database
//! a new namespace, SWAPDB exchanges two: one small record each, whatever the number of keys.

use crate::error::Damage;
use crate::format::Fields;
use crate::format::record::record_size;
use crate::keydir::{Entry, Keydir, Page, Pages, Place};
use foldhash::fast::RandomState;
use std::collections::HashMap;

/// Namespace ids below this belong to the databases of the same numbers, at first.
pub(crate) const FIRST_ISSUED: u32 = 1 << 16;
/// The namespace that namespaces records carry.
pub(crate) const NAMESPACES: u32 = u32::MAX;

/// The keys of one namespace, and how many bytes of each segment they stand on.
pub(crate) struct Space {
    pub(crate) namespace: u32,
    pub(crate) keydir: Keydir,
    /// The pages of values that were changed in part, by the sequence of the record that they lie over.
    pub(crate) paged: HashMap<u64, Pages>,
    /// Bytes of records that the keydir stands on, by segment slot.
    live: Vec<u64>,
}

impl Space {
    /// An empty space.
    pub(crate) fn new(namespace: u32) -> Space {
        Space { namespace, keydir: Keydir::new(random_u64()), paged: HashMap::new(), live: Vec::new() }
    }

    /// Counts a record at `place` as live.
    pub(crate) fn enlist(&mut self, place: Place, bytes: u64) {
        let slot = place.slot() as usize;
        if self.live.len() <= slot {
            self.live.resize(slot + 1, 0);
        }
        self.live[slot] += bytes;
    }

    /// Counts a record at `place` as dead.
    pub(crate) fn retire(&mut self, place: Place, bytes: u64) {
        self.live[place.slot() as usize] -= bytes;
    }

    /// The pages of a value, if it has any.
    #[inline]
    pub(crate) fn pages_of(&self, entry: &Entry) -> Option<&Pages> {
        if self.paged.is_empty() { None } else { self.paged.get(&entry.sequence) }
    }

    /// Bytes of the value in an entry's own record.
    pub(crate) fn base_size(&self, entry: &Entry) -> usize {
        self.pages_of(entry).map_or(entry.value_size, Pages::base_size) as usize
    }

    /// Counts the records of an entry as live.
    pub(crate) fn enlist_entry(&mut self, key: &[u8], entry: &Entry) {
        self.for_each_record(key, entry, Space::enlist);
    }

    /// Counts the records of an entry as dead.
    pub(crate) fn retire_entry(&mut self, key: &[u8], entry: &Entry) {
        self.for_each_record(key, entry, Space::retire);
    }

    /// Counts the records of an entry that was replaced as dead, and takes its pages out.
    pub(crate) fn leave(&mut self, key: &[u8], entry: &Entry) -> Option<Box<Pages>> {
        self.retire_entry(key, entry);
        if self.paged.is_empty() { None } else { self.paged.remove(&entry.sequence).map(Box::new) }
    }

    /// Undoes the setting of a page over the record `base`, and gives the page that goes.
    pub(crate) fn take_page_back(
        &mut self,
        key: &[u8],
        base: u64,
        number: u32,
        before: Option<Page>,
        newest: u64,
    ) -> Option<Page> {
        let pages = self.paged.get_mut(&base)?;
        let gone = pages.take_back(number, before, newest)?;
        let value_size = pages.size();
        if pages.is_empty() {
            self.paged.remove(&base);
        }
        self.keydir.update(key, |entry| entry.value_size = value_size);
        self.retire(gone.place, gone.record_size(key.len()));
        if let Some(before) = before {
            self.enlist(before.place, before.record_size(key.len()));
        }
        Some(gone)
    }

    /// Entries and pages.
    pub(crate) fn entries(&self) -> usize {
        self.keydir.len() + self.paged.values().map(Pages::len).sum::<usize>()
    }

    /// Bytes in memory.
    pub(crate) fn memory(&self) -> usize {
        self.keydir.memory() + self.paged.values().map(Pages::memory).sum::<usize>()
    }

    fn for_each_record(&mut self, key: &[u8], entry: &Entry, count: fn(&mut Space, Place, u64)) {
        count(self, entry.place, record_size(key.len(), self.base_size(entry)));
        if let Some(change) = entry.change {
            count(self, change.place, record_size(key.len(), 0));
        }
        if self.pages_of(entry).is_some() {
            let records = |pages: &Pages| -> Vec<Page> { pages.iter().map(|(_, page)| *page).collect() };
            for page in self.pages_of(entry).map(records).unwrap_or_default() {
                count(self, page.place, page.record_size(key.len()));
            }
        }
    }

    /// Live bytes in the segment at `slot`.
    pub(crate) fn live_in(&self, slot: u32) -> u64 {
        self.live.get(slot as usize).copied().unwrap_or(0)
    }

    /// Live bytes in all segments.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.live.iter().sum()
    }
}

/// A number that clients cannot guess, for hash seeds and ids.
pub(crate) fn random_u64() -> u64 {
    getrandom::u64().unwrap_or_else(|_| {
        // Without the system's source a keyed hasher of the standard library still differs each time.
        use std::hash::{BuildHasher, RandomState};
        RandomState::new().hash_one(0)
    })
}

/// The map from database numbers to namespaces, as a namespaces record holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamespaceMap {
    pub(crate) next: u32,
    /// Rising by database; those that are not their own number.
    pub(crate) moved: Vec<(u32, u32)>,
}

impl Default for NamespaceMap {
    fn default() -> Self {
        NamespaceMap { next: FIRST_ISSUED, moved: Vec::new() }
    }
}

impl NamespaceMap {
    /// The map of these databases, in the order of their numbers.
    pub(crate) fn of(next: u32, databases: &[Space]) -> NamespaceMap {
        let numbered = databases.iter().enumerate().map(|(db, space)| (db as u32, space.namespace));
        NamespaceMap { next, moved: numbered.filter(|(db, namespace)| db != namespace).collect() }
    }

    /// The namespace of database `db`.
    pub(crate) fn namespace(&self, db: u32) -> u32 {
        match self.moved.binary_search_by_key(&db, |&(db, _)| db) {
            Ok(found) => self.moved[found].1,
            Err(_) => db,
        }
    }

    /// The value of a namespaces record.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = self.next.to_le_bytes().to_vec();
        out.extend_from_slice(&(self.moved.len() as u32).to_le_bytes());
        for (db, namespace) in &self.moved {
            out.extend_from_slice(&db.to_le_bytes());
            out.extend_from_slice(&namespace.to_le_bytes());
        }
        out
    }

    /// Reads the value of a namespaces record.
    pub(crate) fn decode(bytes: &[u8]) -> Result<NamespaceMap, Damage> {
        let mut fields = Fields(bytes);
        let next = fields.u32()?;
        let count = fields.u32()?;
        let mut moved: Vec<(u32, u32)> = Vec::new();
        for _ in 0..count {
            let pair = (fields.u32()?, fields.u32()?);
            if moved.last().is_some_and(|last| last.0 >= pair.0) || pair.0 >= FIRST_ISSUED || pair.1 >= next {
                return Err(Damage::Field);
            }
            moved.push(pair);
        }
        let map = NamespaceMap { next, moved };
        if fields.0.is_empty() && (FIRST_ISSUED..NAMESPACES).contains(&next) && map.is_one_to_one() {
            Ok(map)
        } else {
            Err(Damage::Field)
        }
    }

    /// Whether no two databases have the same namespace, and none is entered with its own number.
    fn is_one_to_one(&self) -> bool {
        let mut namespaces: Vec<u32> = self.moved.iter().map(|&(_, namespace)| namespace).collect();
        namespaces.sort_unstable();
        let shared = namespaces.windows(2).any(|pair| pair[0] == pair[1]);
        // A database's number may be the namespace of another only if the database has moved itself.
        let left = |namespace: u32| self.moved.binary_search_by_key(&namespace, |&(db, _)| db).is_ok();
        let taken = namespaces.iter().any(|&namespace| namespace < FIRST_ISSUED && !left(namespace));
        !shared && !taken && self.moved.iter().all(|(db, namespace)| db != namespace)
    }
}

/// All databases, by number.
pub(crate) struct Databases {
    pub(crate) spaces: Vec<Space>,
    /// The database that has a namespace.
    /// A merge asks it for each record.
    by_namespace: HashMap<u32, u32, RandomState>,
    pub(crate) next_namespace: u32,
    /// The newest namespaces record: its sequence, its place and its size.
    pub(crate) record: Option<(u64, Place, u64)>,
}

impl Databases {
    /// Puts loaded namespaces behind their databases; at least `count` databases.
    pub(crate) fn new(
        map: &NamespaceMap,
        mut loaded: HashMap<u32, Space>,
        count: u32,
        record: Option<(u64, Place, u64)>,
    ) -> Databases {
        let held = loaded.keys().filter(|&&id| id < FIRST_ISSUED && map.namespace(id) == id).max();
        let count = count.max(held.map_or(0, |id| id + 1)).max(map.moved.last().map_or(0, |last| last.0 + 1));
        let spaces: Vec<Space> = (0..count)
            .map(|db| map.namespace(db))
            .map(|namespace| loaded.remove(&namespace).unwrap_or_else(|| Space::new(namespace)))
            .collect();
        let mut databases =
            Databases { spaces, by_namespace: HashMap::default(), next_namespace: map.next, record };
        databases.index();
        databases
    }

    /// Brings the way back from namespaces to databases up to date.
    pub(crate) fn index(&mut self) {
        let pairs = self.spaces.iter().enumerate().map(|(db, space)| (space.namespace, db as u32));
        self.by_namespace = pairs.collect();
    }

    /// The map as it is now.
    pub(crate) fn map(&self) -> NamespaceMap {
        NamespaceMap::of(self.next_namespace, &self.spaces)
    }

    /// The space of a namespace, if a database has it.
    pub(crate) fn of_namespace(&mut self, namespace: u32) -> Option<&mut Space> {
        let db = *self.by_namespace.get(&namespace)?;
        Some(&mut self.spaces[db as usize])
    }

    /// Live bytes in the segment at `slot`.
    pub(crate) fn live_in(&self, slot: u32) -> u64 {
        let map = self.record.map_or(0, |(_, place, bytes)| if place.slot() == slot { bytes } else { 0 });
        self.spaces.iter().map(|space| space.live_in(slot)).sum::<u64>() + map
    }

    /// Whether anything that counts stands in the segment at `slot`: as live bytes tell, but found by a look at every
    /// entry. For assertions.
    pub(crate) fn stands_in(&self, slot: u32) -> bool {
        let is_there = |place: Place| place.slot() == slot;
        self.record.is_some_and(|(_, place, _)| is_there(place))
            || self.spaces.iter().any(|space| {
                let of_page = |pages: &Pages| pages.iter().any(|(_, page)| is_there(page.place));
                let of_entry = |entry: &Entry| {
                    is_there(entry.place) || entry.change.is_some_and(|change| is_there(change.place))
                };
                space.keydir.iter().any(|(_, entry)| of_entry(&entry)) || space.paged.values().any(of_page)
            })
    }

    /// Live bytes in all segments.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.spaces.iter().map(Space::live_bytes).sum::<u64>() + self.record.map_or(0, |(_, _, bytes)| bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_goes_both_ways_and_damage_is_refused() {
        let map = NamespaceMap { next: FIRST_ISSUED + 2, moved: vec![(0, 1), (1, 0), (7, FIRST_ISSUED + 1)] };
        assert_eq!(NamespaceMap::decode(&map.encode()), Ok(map.clone()));
        assert_eq!(map.namespace(0), 1);
        assert_eq!(map.namespace(3), 3);
        let bytes = map.encode();
        for cut in 0..bytes.len() {
            assert!(NamespaceMap::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let refused = |moved: &[(u32, u32)]| {
            let map = NamespaceMap { next: FIRST_ISSUED + 2, moved: moved.to_vec() };
            assert_eq!(NamespaceMap::decode(&map.encode()), Err(Damage::Field), "{moved:?}");
        };
        refused(&[(2, 1), (1, 2)]);
        refused(&[(1, FIRST_ISSUED), (2, FIRST_ISSUED)]);
        refused(&[(1, 2)]);
        refused(&[(1, 1)]);
        refused(&[(1, FIRST_ISSUED + 2)]);
    }
}
