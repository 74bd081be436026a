//! The keys that have an expiry, soonest first.
//!
//! Holds handles only; [`super::Keydir`] keeps it in step with the arena and the table. A key
//! without an expiry costs nothing here.

use super::arena::Handle;
use std::collections::BTreeSet;

/// What a key in the set takes, roughly: 16 bytes in B-tree nodes about two thirds full, the nodes'
/// own fields, and their share of the inner nodes.
const BYTES_A_KEY: usize = 32;

/// The expiry index.
#[derive(Debug, Default)]
pub(super) struct Expires {
    soonest: BTreeSet<(u64, Handle)>,
    /// Sum of all the expiries in the set, for the average.
    sum: u128,
}

impl Expires {
    pub(super) fn len(&self) -> usize {
        self.soonest.len()
    }

    pub(super) fn memory(&self) -> usize {
        self.soonest.len() * BYTES_A_KEY
    }

    /// The soonest expiry and its entry.
    pub(super) fn first(&self) -> Option<(u64, Handle)> {
        self.soonest.first().copied()
    }

    /// All expiries and their entries, the soonest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, Handle)> {
        self.soonest.iter().copied()
    }

    /// Notes that an entry stands at `handle`; an expiry of 0 is none.
    pub(super) fn add(&mut self, expiry: u64, handle: Handle) {
        if expiry != 0 {
            let new = self.soonest.insert((expiry, handle));
            debug_assert!(new);
            self.sum += u128::from(expiry);
        }
    }

    /// Notes many entries at once, each with an expiry.
    pub(super) fn extend(&mut self, new: Vec<(u64, Handle)>) {
        self.sum += new.iter().map(|(expiry, _)| u128::from(*expiry)).sum::<u128>();
        self.soonest.append(&mut new.into_iter().collect());
    }

    /// Notes that the entry with this expiry has left `handle`.
    pub(super) fn remove(&mut self, expiry: u64, handle: Handle) {
        if expiry != 0 {
            let known = self.soonest.remove(&(expiry, handle));
            debug_assert!(known);
            self.sum -= u128::from(expiry);
        }
    }

    /// The mean of the times left at `now`; 0 with no keys, or if they are past on average.
    pub(super) fn average_ttl(&self, now: u64) -> u64 {
        let mean = self.sum.checked_div(self.soonest.len() as u128).unwrap_or(0);
        u64::try_from(mean).expect("a mean of 64-bit numbers").saturating_sub(now)
    }

    #[cfg(test)]
    pub(super) fn check(&self, expected: &BTreeSet<(u64, Handle)>) {
        assert_eq!(&self.soonest, expected);
        assert_eq!(self.sum, expected.iter().map(|(expiry, _)| u128::from(*expiry)).sum::<u128>());
    }
}
