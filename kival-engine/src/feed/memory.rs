//! What is remembered between two reads: where in a segment a sequence stands, and which names were in
//! force there. All of it can be found again from the log.

use super::names::Names;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Places that are kept of one segment; beyond that every other one goes.
const MARKS: usize = 4096;
/// Ends of reads of which the names are kept.
const NAMES: usize = 1024;
/// Indexes of merge outputs that are kept.
const INDEXES: usize = 16;

/// Where records of a merge output stand, by sequence: its records are in no order.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) segment: u64,
    /// It has those above this,
    pub(super) after: u64,
    /// and up to this.
    pub(super) upto: u64,
    /// Sequences and offsets, rising.
    pub(super) places: Vec<(u64, u64)>,
}

/// What the reads of one store remember.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// By segment: the groups with sequences from the key on stand at this offset or after it.
    marks: HashMap<u64, BTreeMap<u64, u64>>,
    names: BTreeMap<u64, Arc<Names>>,
    /// The last used is the last.
    indexes: Vec<Arc<Index>>,
}

impl Memory {
    /// Forgets segments that have gone.
    pub(super) fn keep_only(&mut self, is_there: impl Fn(u64) -> bool) {
        self.marks.retain(|id, _| is_there(*id));
        self.indexes.retain(|index| is_there(index.segment));
    }

    /// Notes that what has sequences from `sequence` on stands at `offset` of a log segment, or after it.
    pub(super) fn mark(&mut self, segment: u64, sequence: u64, offset: u64) {
        let marks = self.marks.entry(segment).or_default();
        marks.insert(sequence, offset);
        if marks.len() > MARKS {
            let mut odd = false;
            marks.retain(|_, _| {
                odd = !odd;
                odd
            });
            marks.insert(sequence, offset);
        }
    }

    /// The last place known of a log segment that nothing from `sequence` on stands before.
    pub(super) fn place(&self, segment: u64, sequence: u64) -> Option<u64> {
        let (_, offset) = self.marks.get(&segment)?.range(..=sequence).next_back()?;
        Some(*offset)
    }

    /// Notes the names in force behind a sequence.
    pub(super) fn set_names(&mut self, sequence: u64, names: Arc<Names>) {
        self.names.insert(sequence, names);
        if self.names.len() > NAMES {
            self.names.pop_first();
        }
    }

    /// The names in force behind a sequence where a read ended.
    pub(super) fn names(&self, sequence: u64) -> Option<Arc<Names>> {
        self.names.get(&sequence).cloned()
    }

    /// An index of a merge output that has what comes next above `sequence`.
    pub(super) fn index(&mut self, segment: u64, sequence: u64) -> Option<Arc<Index>> {
        let fits =
            |index: &Arc<Index>| index.segment == segment && index.after <= sequence && sequence < index.upto;
        let at = self.indexes.iter().position(fits)?;
        let index = self.indexes.remove(at);
        self.indexes.push(index.clone());
        Some(index)
    }

    /// Keeps an index.
    pub(super) fn set_index(&mut self, index: Arc<Index>) {
        if self.indexes.len() >= INDEXES {
            self.indexes.remove(0);
        }
        self.indexes.push(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_given_is_never_behind_the_sequence() {
        let mut memory = Memory::default();
        for n in 1..=3 * MARKS as u64 {
            memory.mark(1, n * 10, n);
        }
        assert!(memory.marks[&1].len() <= MARKS + 1);
        for n in 1..=3 * MARKS as u64 {
            assert!(memory.place(1, n * 10 + 5).is_none_or(|offset| offset <= n));
        }
        assert_eq!(memory.place(1, 30 * MARKS as u64), Some(3 * MARKS as u64), "the last is kept");
        assert_eq!((memory.place(1, 9), memory.place(2, 10)), (None, None));
    }
}
