//! Values in memory: those lately written or read, up to a budget, and those pinned for a command.
//!
//! A value is found by the sequence of its record. A sequence names one record for ever, so nothing here
//! can be stale, and compaction, which moves records and keeps their sequences, disturbs nothing.

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::unsync::Cache;
use std::collections::HashMap;

/// Bytes that a cached value costs beside its own: its key, its entry and its allocation.
const OVERHEAD: u64 = 96;
/// A value larger than the budget divided by this is not kept: it would drive out too many others.
const LARGEST_SHARE: u64 = 32;
/// Expected size of a value, from which the cache's first table is sized.
const EXPECTED: u64 = 512;

#[derive(Debug, Clone)]
struct ByBytes;

impl Weighter<u64, Bytes> for ByBytes {
    fn weight(&self, _sequence: &u64, value: &Bytes) -> u64 {
        value.len() as u64 + OVERHEAD
    }
}

/// The cache.
pub(crate) struct ValueCache {
    values: Cache<u64, Bytes, ByBytes>,
    budget: u64,
    pinned: HashMap<u64, Bytes>,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
}

fn sized(budget: u64) -> Cache<u64, Bytes, ByBytes> {
    Cache::with_weighter((budget / EXPECTED) as usize, budget, ByBytes)
}

impl ValueCache {
    /// A cache for `budget` bytes.
    pub(crate) fn new(budget: u64) -> ValueCache {
        ValueCache { values: sized(budget), budget, pinned: HashMap::new(), hits: 0, misses: 0 }
    }

    /// Changes the budget; what was cached is let go.
    pub(crate) fn resize(&mut self, budget: u64) {
        self.values = sized(budget);
        self.budget = budget;
    }

    /// The value of record `sequence`.
    pub(crate) fn get(&mut self, sequence: u64) -> Option<Bytes> {
        if let Some(value) = self.values.get(&sequence) {
            self.hits += 1;
            return Some(value.clone());
        }
        self.misses += 1;
        if self.pinned.is_empty() { None } else { self.pinned.get(&sequence).cloned() }
    }

    /// Whether a value of this size would be kept.
    pub(crate) fn admits(&self, size: usize) -> bool {
        size as u64 <= self.budget / LARGEST_SHARE
    }

    /// Keeps a value.
    pub(crate) fn insert(&mut self, sequence: u64, value: &[u8]) {
        if self.admits(value.len()) {
            // A copy of its own: a slice of a larger buffer would keep the whole buffer alive.
            self.values.insert(sequence, Bytes::copy_from_slice(value));
        }
    }

    /// Forgets the value of a record that is dead.
    pub(crate) fn remove(&mut self, sequence: u64) {
        self.values.remove(&sequence);
    }

    /// Holds a value that was read for a waiting command, until [`Self::unpin`].
    pub(crate) fn pin(&mut self, sequence: u64, value: Bytes) {
        self.insert(sequence, &value);
        self.pinned.insert(sequence, value);
    }

    /// Lets all pinned values go.
    pub(crate) fn unpin(&mut self) {
        self.pinned.clear();
    }

    /// Bytes held, overhead included.
    pub(crate) fn bytes(&self) -> u64 {
        self.values.weight()
    }

    /// Number of values held.
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }
}
