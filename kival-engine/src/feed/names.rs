//! Which database a namespace was, and what one map of databases says of the one before it.

use super::What;
use crate::engine::databases::{FIRST_ISSUED, NamespaceMap};
use crate::error::Damage;
use std::collections::HashMap;

/// A map of databases that can be asked either way.
#[derive(Debug, Default)]
pub(crate) struct Names {
    map: NamespaceMap,
    /// The database of each namespace that is not of its own number.
    moved: HashMap<u32, u32>,
}

impl Names {
    pub(super) fn of(map: NamespaceMap) -> Names {
        let moved = map.moved.iter().map(|&(db, namespace)| (namespace, db)).collect();
        Names { map, moved }
    }

    /// As the value of a namespaces record holds it.
    pub(super) fn decode(bytes: &[u8]) -> Result<Names, Damage> {
        NamespaceMap::decode(bytes).map(Names::of)
    }

    /// The database of a namespace, if one has it.
    pub(super) fn database(&self, namespace: u32) -> Option<u32> {
        let own =
            || (namespace < FIRST_ISSUED && self.map.namespace(namespace) == namespace).then_some(namespace);
        self.moved.get(&namespace).copied().or_else(own)
    }

    /// What has happened to databases when `later` took the place of this map: those that have a namespace
    /// which was never issued before were flushed, others have exchanged theirs.
    pub(super) fn told(&self, later: &Names) -> Vec<(u32, What)> {
        let mut databases: Vec<u32> =
            self.map.moved.iter().chain(&later.map.moved).map(|&(db, _)| db).collect();
        databases.sort_unstable();
        databases.dedup();
        let mut told = Vec::new();
        for db in databases {
            let (before, after) = (self.map.namespace(db), later.map.namespace(db));
            if before == after {
                continue;
            }
            if after >= self.map.next {
                told.push((db, What::Flush));
                continue;
            }
            // Told once, with the lower number first.
            if let Some(other) = self.database(after).filter(|other| db < *other) {
                told.push((db, What::Swap(other)));
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(next: u32, moved: &[(u32, u32)]) -> Names {
        Names::of(NamespaceMap { next: FIRST_ISSUED + next, moved: moved.to_vec() })
    }

    #[test]
    fn flushes_and_exchanges_are_told_apart() {
        let first = Names::default();
        let flushed = names(2, &[(0, FIRST_ISSUED), (3, FIRST_ISSUED + 1)]);
        assert_eq!(first.told(&flushed), [(0, What::Flush), (3, What::Flush)]);
        let swapped = names(2, &[(0, 1), (1, FIRST_ISSUED), (3, FIRST_ISSUED + 1)]);
        assert_eq!(flushed.told(&swapped), [(0, What::Swap(1))]);
        assert_eq!(swapped.told(&flushed), [(0, What::Swap(1))]);
        assert_eq!(
            flushed.told(&names(2, &[(0, FIRST_ISSUED + 1), (3, FIRST_ISSUED)])),
            [(0, What::Swap(3))]
        );
        let of = |names: &Names| [0, 1, 2, FIRST_ISSUED].map(|namespace| names.database(namespace));
        assert_eq!(of(&first), [Some(0), Some(1), Some(2), None]);
        assert_eq!(of(&swapped), [None, Some(0), Some(2), Some(1)]);
    }
}
