//! What the absence of a key depends on: the tombstone that made it so, while that is not yet on disk.
//!
//! A client that is told "no such key" must not be told otherwise after a power cut. For a key that was
//! deleted lately the answer depends on its tombstone; for any other absent key on nothing. Only
//! tombstones above the durable sequence are remembered. When there are too many, they are forgotten
//! together, and for a while every absence depends on the newest of them: late, but never wrong.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

/// Most tombstones remembered one by one: about 4 MiB.
const MOST: usize = 1 << 16;

/// Tombstones that are not yet on disk.
#[derive(Default)]
pub(crate) struct RecentDeletes {
    hasher: RandomState,
    newest: HashMap<u64, u64>,
    in_order: VecDeque<Delete>,
    /// Absence of any key depends at least on this.
    floor: u64,
}

/// A tombstone, and the one that it replaced as the newest of its key (0 for none).
struct Delete {
    sequence: u64,
    hash: u64,
    before: u64,
}

impl RecentDeletes {
    fn hash(&self, namespace: u32, key: &[u8]) -> u64 {
        self.hasher.hash_one((namespace, key))
    }

    /// Remembers that tombstone `sequence` removed a key.
    pub(crate) fn push(&mut self, namespace: u32, key: &[u8], sequence: u64) {
        if self.in_order.len() >= MOST {
            self.floor = sequence;
            self.newest.clear();
            self.in_order.clear();
            return;
        }
        let hash = self.hash(namespace, key);
        let before = self.newest.insert(hash, sequence).unwrap_or(0);
        self.in_order.push_back(Delete { sequence, hash, before });
    }

    /// Makes the absence of every key depend on `sequence`: a whole database went.
    pub(crate) fn push_all(&mut self, sequence: u64) {
        self.floor = sequence;
    }

    /// Forgets what has become durable.
    pub(crate) fn settle(&mut self, durable: u64) {
        while self.in_order.front().is_some_and(|delete| delete.sequence <= durable) {
            let Some(settled) = self.in_order.pop_front() else { return };
            if self.newest.get(&settled.hash) == Some(&settled.sequence) {
                self.newest.remove(&settled.hash);
            }
        }
    }

    /// Forgets what was taken back: all from `sequence` on.
    pub(crate) fn take_back(&mut self, sequence: u64) {
        while self.in_order.back().is_some_and(|delete| delete.sequence >= sequence) {
            let Some(Delete { hash, before, .. }) = self.in_order.pop_back() else { break };
            // An earlier tombstone of the key counts again, unless it has settled meanwhile.
            if self.in_order.front().is_some_and(|oldest| oldest.sequence <= before) {
                self.newest.insert(hash, before);
            } else {
                self.newest.remove(&hash);
            }
        }
        self.floor = self.floor.min(sequence - 1);
    }

    /// The sequence that the absence of a key depends on; what is not above the durable sequence is
    /// settled.
    pub(crate) fn dependency(&self, namespace: u32, key: &[u8]) -> u64 {
        if self.newest.is_empty() {
            return self.floor;
        }
        let own = self.newest.get(&self.hash(namespace, key)).copied().unwrap_or(0);
        own.max(self.floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absence_depends_on_its_own_tombstone_until_that_is_durable() {
        let mut deletes = RecentDeletes::default();
        deletes.push(0, b"a", 5);
        deletes.push(0, b"a", 7);
        deletes.push(1, b"a", 8);
        assert_eq!(deletes.dependency(0, b"a"), 7);
        assert_eq!(deletes.dependency(0, b"b"), 0);
        deletes.settle(6);
        assert_eq!(deletes.dependency(0, b"a"), 7, "the newer tombstone still counts");
        deletes.take_back(8);
        assert_eq!(deletes.dependency(1, b"a"), 0);
        deletes.settle(7);
        assert_eq!(deletes.dependency(0, b"a"), 0);
    }

    #[test]
    fn an_earlier_tombstone_counts_again_when_a_later_one_is_taken_back() {
        let mut deletes = RecentDeletes::default();
        deletes.push(0, b"a", 5);
        deletes.push(0, b"a", 7);
        deletes.push(0, b"a", 8);
        deletes.take_back(7);
        assert_eq!(deletes.dependency(0, b"a"), 5);
        deletes.push(0, b"a", 7);
        deletes.settle(5);
        deletes.take_back(7);
        assert_eq!(deletes.dependency(0, b"a"), 0, "what has settled does not come back");
    }

    #[test]
    fn too_many_are_forgotten_together_and_never_forgiven() {
        let mut deletes = RecentDeletes::default();
        for sequence in 1..=MOST as u64 + 1 {
            deletes.push(0, &sequence.to_le_bytes(), sequence);
        }
        assert_eq!(deletes.dependency(0, &1u64.to_le_bytes()), MOST as u64 + 1);
    }
}
