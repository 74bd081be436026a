//! What damage may have taken: the answers that cannot be given any more.
//!
//! A lost part of the log, a *zone*, may hold records of unknown keys, whose sequences lie in a range that
//! its neighbours tell. A key whose newest known record lies below that range's end is in doubt, unless the
//! filter of the zone's segment denies that it ever held a record of it. A store without damage has no
//! zone, and pays one look at an empty list.

use super::databases::NAMESPACES;
use crate::error::{Corruption, Damage};
use crate::format::filter::{self, Filter};
use std::collections::HashMap;
use std::path::PathBuf;

/// Most keys remembered as deleted after all damage; beyond, a deleted key is in doubt again.
const MOST_DELETED: usize = 1 << 20;

/// A part of the log that cannot be read, and what it may have held.
#[derive(Debug, Clone)]
pub struct Zone {
    /// The segment's file.
    pub file: PathBuf,
    /// Where the part begins, in bytes.
    pub offset: u64,
    /// How many bytes it has.
    pub bytes: u64,
    /// The lowest sequence of a record that may have stood there.
    pub lowest: u64,
    /// The highest.
    pub highest: u64,
    /// What is wrong there.
    pub damage: Damage,
    /// The keys that the segment holds records of, if that is known.
    pub(crate) filter: Option<Filter>,
}

impl Zone {
    /// Whether the filter of the segment can be used, so that most keys are in no doubt.
    pub fn has_filter(&self) -> bool {
        self.filter.is_some()
    }

    fn may_hold(&self, hash: u64) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.may_contain(hash))
    }

    fn corruption(&self) -> Corruption {
        Corruption { file: self.file.clone(), offset: self.offset, damage: self.damage }
    }
}

/// What is in doubt.
#[derive(Debug, Default)]
pub(crate) struct Quarantine {
    zones: Vec<Zone>,
    /// A map of databases that is lost, or may be: the highest sequence that it can have, and where.
    map: Option<(u64, Corruption)>,
    /// Namespaces from this one on were issued after all damage: no zone holds a record of them.
    fresh_from: u32,
    /// Absent keys with their tombstones above a zone.
    deleted: HashMap<(u32, Box<[u8]>), u64>,
    /// Those of the turn that is not yet committed.
    staged: Vec<(u32, Box<[u8]>, u64)>,
}

impl Quarantine {
    /// What these zones put in doubt. `lost_map`: a map of databases that was found but cannot be read.
    pub(crate) fn new(zones: Vec<Zone>, lost_map: Option<(u64, Corruption)>, fresh_from: u32) -> Quarantine {
        let map_hash = filter::hash(NAMESPACES, b"");
        let maps = zones.iter().filter(|zone| zone.may_hold(map_hash));
        let maps = maps.map(|zone| (zone.highest, zone.corruption()));
        let map = maps.chain(lost_map).max_by_key(|(sequence, _)| *sequence);
        Quarantine { zones, map, fresh_from, ..Quarantine::default() }
    }

    /// Whether nothing is in doubt.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.zones.is_empty() && self.map.is_none()
    }

    /// The first damage, if there is any.
    pub(crate) fn first(&self) -> Option<Corruption> {
        let zone = self.zones.first().map(Zone::corruption);
        zone.or_else(|| self.map.as_ref().map(|(_, corruption)| corruption.clone()))
    }

    /// The zones.
    pub(crate) fn zones(&self) -> &[Zone] {
        &self.zones
    }

    /// The damage because of which it is not known which keys a database has, if the newest known map has
    /// this sequence.
    pub(crate) fn doubts_map(&self, newest: u64) -> Option<Corruption> {
        self.map.as_ref().filter(|(highest, _)| *highest > newest).map(|(_, corruption)| corruption.clone())
    }

    /// The damage that may concern a key of which nothing newer than `newest` is known; 0 if there is no
    /// such record.
    pub(crate) fn doubts(&self, namespace: u32, key: &[u8], newest: u64) -> Option<Corruption> {
        if namespace >= self.fresh_from {
            return None;
        }
        let hash = filter::hash(namespace, key);
        let newest = if newest == 0 { self.deleted_at(namespace, key) } else { newest };
        let zone = self.zones.iter().find(|zone| zone.highest > newest && zone.may_hold(hash))?;
        Some(zone.corruption())
    }

    /// The newest tombstone known of an absent key, 0 if none.
    fn deleted_at(&self, namespace: u32, key: &[u8]) -> u64 {
        let staged = self.staged.iter().rev();
        let mut staged = staged.filter(|(other, name, _)| *other == namespace && **name == *key);
        if let Some((.., sequence)) = staged.next() {
            return *sequence;
        }
        // The keys are boxed: a look-up by reference would need a map of maps.
        self.deleted.get(&(namespace, key.into())).copied().unwrap_or(0)
    }

    /// Remembers the tombstone of a key.
    pub(crate) fn note_deleted(&mut self, namespace: u32, key: &[u8], sequence: u64) {
        if self.zones.iter().any(|zone| zone.highest < sequence) {
            self.staged.push((namespace, key.into(), sequence));
        }
    }

    /// Forgets tombstones that were taken back: all from `sequence` on.
    pub(crate) fn take_back(&mut self, sequence: u64) {
        self.staged.retain(|(.., staged)| *staged < sequence);
    }

    /// The turn is in the log.
    pub(crate) fn commit(&mut self) {
        for (namespace, key, sequence) in self.staged.drain(..) {
            if self.deleted.len() < MOST_DELETED {
                self.deleted.insert((namespace, key), sequence);
            }
        }
    }
}
