//! What segments hold, gathered into keydirs.
//!
//! Values are added in bulk: nothing looks for their keys until so many have come that it pays to merge
//! them into the keydir, in one sweep. Tombstones and expiry records wait for that too. Sequences decide
//! what stays, so that everything may come in whatever order.

use super::Found;
use crate::engine::databases::{Databases, NAMESPACES, NamespaceMap, Space, random_u64};
use crate::engine::options::OnCorruption;
use crate::engine::quarantine::{Quarantine, Zone};
use crate::error::{Corruption, Damage, OpenError};
use crate::format::hint::HintEntry;
use crate::format::record::{self, Kind, PAGE_HEAD, record_size};
use crate::fs::read_full_at;
use crate::keydir::{Bulk, Entry, ExpiryChange, Keydir, Page, Pages, Place};
use std::collections::{BTreeMap, HashMap};

/// Namespace ids passed over after damage, for those that a lost map may have issued.
const LOST_NAMESPACES: u32 = 1 << 20;
/// Bytes in memory that may wait to be merged into keydirs that hold less than twice as much.
const LEAST_WAITING: usize = 64 << 20;

/// Puts records into the keydirs of their namespaces.
pub(super) struct Gatherer<'a> {
    sealed: &'a [Found],
    slots: &'a [u32],
    policy: OnCorruption,
    spaces: HashMap<u32, Loading>,
    /// The newest namespaces record: sequence, segment, offset, header.
    newest_map: Option<(u64, usize, u64, record::Header)>,
    /// Bytes that wait to be merged.
    waiting: usize,
    /// How many may.
    most_waiting: usize,
    least_waiting: usize,
}

/// A namespace while it is loaded: beside its keys what may still meet an older record.
struct Loading {
    space: Space,
    bulk: Bulk,
    tombstones: HashMap<Box<[u8]>, u64>,
    /// Expiry records whose value has not come yet.
    changes: Changes,
    /// The newest record of each page; whether they count is known when all values have come.
    pages: HashMap<Box<[u8]>, BTreeMap<u32, Page>>,
    /// What is done when all values that have come are in the keydir.
    later: Vec<Later>,
}

/// A record that is not a value.
enum Later {
    Tombstone { key: Box<[u8]>, sequence: u64 },
    Expiry { key: Box<[u8]>, expiry: u64, change: ExpiryChange },
}

impl<'a> Gatherer<'a> {
    /// For segments that stand in these slots.
    pub(super) fn new(sealed: &'a [Found], slots: &'a [u32], policy: OnCorruption) -> Gatherer<'a> {
        Gatherer {
            sealed,
            slots,
            policy,
            spaces: HashMap::new(),
            newest_map: None,
            waiting: 0,
            most_waiting: LEAST_WAITING,
            least_waiting: LEAST_WAITING,
        }
    }

    /// Adds the records of a segment.
    pub(super) fn add_all<'e>(
        &mut self,
        segment: usize,
        entries: impl Iterator<Item = HintEntry<'e>>,
    ) -> Result<(), OpenError> {
        let mut entries = entries.peekable();
        while let Some(first) = entries.peek() {
            let namespace = first.header.namespace;
            if first.header.kind == Kind::Namespaces {
                let (header, offset) = (first.header, first.offset);
                if self.newest_map.is_none_or(|(sequence, ..)| sequence < header.sequence) {
                    self.newest_map = Some((header.sequence, segment, offset, header));
                }
                entries.next();
                continue;
            }
            // Neighbours are mostly of one namespace.
            let loading = self.spaces.entry(namespace).or_insert_with(|| Loading::new(namespace));
            let of_it = |entry: &HintEntry<'_>| {
                entry.header.namespace == namespace && entry.header.kind != Kind::Namespaces
            };
            while let Some(entry) = entries.next_if(of_it) {
                let place = Place::new(self.slots[segment], entry.offset);
                self.waiting += match entry.header.kind {
                    Kind::Value => loading.value(entry.key, &entry.header, place),
                    Kind::Tombstone => loading.later(Later::tombstone(&entry)),
                    Kind::Expiry => loading.later(Later::expiry(&entry, place)),
                    Kind::Page => loading.page(&entry, place),
                    Kind::Root | Kind::Element | Kind::ElementTombstone | Kind::Namespaces => {
                        return Err(self.sealed[segment].corruption(entry.offset, Damage::Unsupported));
                    }
                };
                if self.waiting > self.most_waiting {
                    break;
                }
            }
            if self.waiting > self.most_waiting {
                self.merge();
            }
        }
        Ok(())
    }

    /// Merges all that waits into the keydirs.
    fn merge(&mut self) {
        self.spaces.values_mut().for_each(Loading::merge);
        let held: usize = self.spaces.values().map(|loading| loading.bulk.memory()).sum();
        (self.waiting, self.most_waiting) = (0, self.least_waiting.max(held / 2));
    }

    /// The databases, and what is in doubt.
    pub(super) fn finish(
        mut self,
        databases: u32,
        zones: Vec<Zone>,
    ) -> Result<(Databases, Quarantine), OpenError> {
        self.merge();
        let mut lost_map = None;
        let (mut map, record) = match self.newest_map {
            Some((sequence, segment, offset, header)) => match self.read_map(segment, offset, &header) {
                Ok(map) => {
                    let place = Place::new(self.slots[segment], offset);
                    (map, Some((sequence, place, header.record_size())))
                }
                Err(OpenError::Corrupt(corruption)) if self.policy == OnCorruption::Quarantine => {
                    lost_map = Some((sequence, corruption));
                    (NamespaceMap::default(), None)
                }
                Err(error) => return Err(error),
            },
            None => (NamespaceMap::default(), None),
        };
        if !zones.is_empty() || lost_map.is_some() {
            // What was issued by a map that is lost is not issued again.
            let seen = self.spaces.keys().copied().max().unwrap_or(0).max(map.next);
            map.next = seen.saturating_add(LOST_NAMESPACES);
        }
        let mut quarantine = Quarantine::new(zones, lost_map, map.next);
        for (&namespace, loading) in &self.spaces {
            for (key, &sequence) in &loading.tombstones {
                quarantine.note_deleted(namespace, key, sequence);
            }
        }
        quarantine.commit();
        let spaces = self.spaces.drain().map(|(id, loading)| (id, loading.finish())).collect();
        Ok((Databases::new(&map, spaces, databases, record), quarantine))
    }

    fn read_map(
        &self,
        segment: usize,
        offset: u64,
        header: &record::Header,
    ) -> Result<NamespaceMap, OpenError> {
        let found = &self.sealed[segment];
        let mut bytes = vec![0; header.record_size() as usize];
        read_full_at(&*found.file, &mut bytes, offset).map_err(found.io("read"))?;
        let value = record::decode(&bytes).and_then(|record| {
            let expected = record.header == *header && header.namespace == NAMESPACES;
            if expected { NamespaceMap::decode(record.value) } else { Err(Damage::Misplaced) }
        });
        value.map_err(|damage| Corruption { file: found.path.clone(), offset, damage }.into())
    }
}

impl Later {
    fn tombstone(entry: &HintEntry<'_>) -> Later {
        Later::Tombstone { key: entry.key.into(), sequence: entry.header.sequence }
    }

    fn expiry(entry: &HintEntry<'_>, place: Place) -> Later {
        let change = ExpiryChange { sequence: entry.header.sequence, place };
        Later::Expiry { key: entry.key.into(), expiry: entry.header.expiry, change }
    }
}

impl Loading {
    fn new(namespace: u32) -> Loading {
        Loading {
            space: Space::new(namespace),
            bulk: Bulk::new(Keydir::new(random_u64())),
            tombstones: HashMap::new(),
            changes: HashMap::new(),
            pages: HashMap::new(),
            later: Vec::new(),
        }
    }

    /// Adds a value; gives the bytes that wait for the next merge because of it.
    fn value(&mut self, key: &[u8], header: &record::Header, place: Place) -> usize {
        let sequence = header.sequence;
        if !self.tombstones.is_empty() && self.tombstones.get(key).is_some_and(|&gone| gone > sequence) {
            return 0;
        }
        let mut entry = Entry {
            place,
            sequence,
            value_size: header.value_size,
            data_type: header.data_type,
            access: 0,
            expiry: header.expiry,
            change: None,
        };
        if !self.changes.is_empty() {
            let waiting = self.changes.remove(key);
            if let Some((expiry, change)) = waiting.filter(|(_, change)| change.sequence > sequence) {
                entry.change = Some(change);
                entry.expiry = expiry;
            }
        }
        self.space.enlist_entry(key, &entry);
        self.bulk.add(key, &entry)
    }

    /// Puts a record off until the next merge; gives the bytes that it takes.
    fn later(&mut self, record: Later) -> usize {
        let (Later::Tombstone { key, .. } | Later::Expiry { key, .. }) = &record;
        let bytes = size_of::<Later>() + key.len();
        self.later.push(record);
        bytes
    }

    /// Keeps a page if it is the newest that has come; gives the bytes that wait for the next merge: none.
    fn page(&mut self, entry: &HintEntry<'_>, place: Place) -> usize {
        let HintEntry { header, key, .. } = entry;
        let page = Page {
            sequence: header.sequence,
            place,
            size: header.value_size.saturating_sub(PAGE_HEAD as u32) as u16,
        };
        if !self.pages.contains_key(*key) {
            self.pages.insert((*key).into(), BTreeMap::new());
        }
        if let Some(pages) = self.pages.get_mut(*key) {
            let newest = pages.entry(header.page()).or_insert(page);
            if newest.sequence < page.sequence {
                *newest = page;
            }
        }
        0
    }

    fn merge(&mut self) {
        let Loading { space, bulk, later, tombstones, changes, .. } = self;
        let keydir = bulk.settle(|key, gone| {
            space.retire_entry(key, gone);
            if let Some(change) = gone.change {
                // It may be later than the value that stays.
                later.push(Later::Expiry { key: key.into(), expiry: gone.expiry, change });
            }
        });
        for record in std::mem::take(later) {
            match record {
                Later::Tombstone { key, sequence } => {
                    tombstone(space, keydir, changes, &key, sequence);
                    let newest = tombstones.entry(key).or_default();
                    *newest = sequence.max(*newest);
                }
                Later::Expiry { key, expiry, change } => {
                    set_expiry(space, keydir, changes, key, expiry, change);
                }
            }
        }
    }

    /// The space with its keys; all is merged.
    fn finish(mut self) -> Space {
        self.space.keydir = self.bulk.finish();
        for (key, pages) in self.pages {
            self.space.add_pages(&key, pages);
        }
        self.space
    }
}

impl Space {
    /// Lays those pages over the value of a key that are newer than it.
    fn add_pages(&mut self, key: &[u8], newest: BTreeMap<u32, Page>) {
        let Some(entry) = self.keydir.get(key) else { return };
        let mut pages = Pages::over(entry.value_size);
        for (number, page) in newest.into_iter().filter(|(_, page)| page.sequence > entry.sequence) {
            self.enlist(page.place, page.record_size(key.len()));
            pages.set(number, page);
        }
        if !pages.is_empty() {
            self.keydir.update(key, |entry| entry.value_size = pages.size());
            self.paged.insert(entry.sequence, pages);
        }
    }
}

type Changes = HashMap<Box<[u8]>, (u64, ExpiryChange)>;

fn tombstone(space: &mut Space, keydir: &mut Keydir, changes: &mut Changes, key: &[u8], sequence: u64) {
    let Some(before) = keydir.get(key).filter(|before| before.sequence < sequence) else { return };
    space.retire_entry(key, &before);
    keydir.remove(key);
    // A later expiry belongs to a value that has not come yet.
    if let Some(change) = before.change.filter(|change| change.sequence > sequence) {
        changes.insert(key.into(), (before.expiry, change));
    }
}

fn set_expiry(
    space: &mut Space,
    keydir: &mut Keydir,
    changes: &mut Changes,
    key: Box<[u8]>,
    expiry: u64,
    change: ExpiryChange,
) {
    let bytes = record_size(key.len(), 0);
    let Some(mut entry) = keydir.get(&key) else {
        let waiting = changes.get(&key);
        if waiting.is_none_or(|(_, other)| other.sequence < change.sequence) {
            changes.insert(key, (expiry, change));
        }
        return;
    };
    let newest = entry.change.map_or(entry.sequence, |change| change.sequence);
    if change.sequence > newest {
        if let Some(older) = entry.change {
            space.retire(older.place, bytes);
        }
        space.enlist(change.place, bytes);
        entry.change = Some(change);
        entry.expiry = expiry;
        keydir.insert(&key, entry);
    }
}

#[cfg(test)]
#[path = "gather_tests.rs"]
mod tests;
