//! The table of segments that the engine task holds.
//!
//! A keydir entry names a segment by its *slot* in this table. Slots are used again after a segment is
//! gone; ids never are.

use crate::error::{Corruption, Damage};
use crate::format::manifest::Sealed;
use crate::format::record::{Header, Kind};
use crate::format::segment::file_name;
use crate::fs::File;
use crate::log::luck::Luck;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a segment is to the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentState {
    /// The writer appends to it.
    Active,
    /// Full; it is being synced and its hint written.
    Sealing,
    /// Never written again.
    Sealed,
}

/// What a segment holds; its hint tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    /// Number of records.
    pub(crate) records: u64,
    /// Number of those that say which keys a database has.
    pub(crate) maps: u64,
    /// Number of tombstones.
    pub(crate) tombstones: u64,
    /// Their bytes.
    pub(crate) tombstone_bytes: u64,
    /// Bytes of all records, without the headers of groups and segment.
    pub(crate) record_bytes: u64,
}

impl Tally {
    /// Adds a record.
    pub(crate) fn count(&mut self, header: &Header) {
        let bytes = header.record_size();
        self.records += 1;
        self.record_bytes += bytes;
        self.maps += u64::from(header.kind == Kind::Namespaces);
        if header.kind == Kind::Tombstone {
            self.tombstones += 1;
            self.tombstone_bytes += bytes;
        }
    }
}

/// Dead bytes that a merge had to copy, since what superseded them was too young.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Held {
    pub(crate) bytes: u64,
    /// They can go when everything up to this sequence is old enough.
    pub(crate) until: u64,
}

/// The first append to a log segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Begun {
    /// All numbers below were issued before.
    pub(crate) sequence: u64,
    pub(crate) time_ms: u64,
}

/// A live segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) id: u64,
    pub(crate) file: Arc<dyn File>,
    pub(crate) path: Arc<PathBuf>,
    pub(crate) state: SegmentState,
    pub(crate) merged: bool,
    /// Bytes that count, header included.
    pub(crate) bytes: u64,
    /// It was damaged when the store was opened: no merge reads it, and it stays.
    pub(crate) quarantined: bool,
    /// A merge has exchanged it in the manifest. No other reads it: its records are in the outputs.
    pub(crate) exchanged: bool,
    /// Of reads that ask for what the system's cache has of it.
    pub(crate) luck: Luck,
    /// Known once it is sealed.
    pub(crate) summary: Sealed,
    /// Known once it is sealed.
    pub(crate) tally: Tally,
    /// What a merge had to copy for `history-retention`.
    pub(crate) held: Held,
    /// Wall time at which the file was created, in Unix milliseconds.
    pub(crate) created_ms: u64,
    /// The first append, of a log segment that has one.
    pub(crate) begun: Option<Begun>,
}

impl Segment {
    /// A segment without records.
    pub(crate) fn new(dir: &Path, id: u64, file: Arc<dyn File>, state: SegmentState, bytes: u64) -> Segment {
        Segment {
            id,
            file,
            path: Arc::new(dir.join(file_name(id))),
            state,
            merged: false,
            bytes,
            quarantined: false,
            exchanged: false,
            luck: Luck::default(),
            summary: Sealed::default(),
            tally: Tally::default(),
            held: Held::default(),
            created_ms: 0,
            begun: None,
        }
    }

    /// Whether a merge may read it, and remove it.
    pub(crate) fn may_be_merged(&self) -> bool {
        self.state == SegmentState::Sealed && !self.quarantined && !self.exchanged
    }

    /// Whether it is known to hold nothing but values, their pages and expiries: where none of those is live, none
    /// counts for anything.
    pub(crate) fn holds_values_only(&self) -> bool {
        self.tally.records == self.summary.records && self.tally.tombstones == 0 && self.tally.maps == 0
    }

    /// Bytes that are not live and that another merge of this segment alone would not free: a merge has
    /// written them all the same. Headers, and tombstones that it had to keep.
    pub(crate) fn kept(&self) -> u64 {
        if self.merged { self.framing() + self.tally.tombstone_bytes } else { 0 }
    }

    /// Bytes of headers, once it is sealed.
    pub(crate) fn framing(&self) -> u64 {
        self.bytes.saturating_sub(self.tally.record_bytes)
    }

    /// Damage at an offset of this segment.
    pub(crate) fn corruption(&self, offset: u64, damage: Damage) -> Corruption {
        Corruption { file: self.path.to_path_buf(), offset, damage }
    }
}

/// Segments by slot.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    slots: Vec<Option<Segment>>,
}

impl Segments {
    /// Puts a segment into a free slot.
    pub(crate) fn insert(&mut self, segment: Segment) -> u32 {
        if let Some(free) = self.slots.iter().position(Option::is_none) {
            self.slots[free] = Some(segment);
            return free as u32;
        }
        self.slots.push(Some(segment));
        (self.slots.len() - 1) as u32
    }

    /// The segment in `slot`, which must be in use: the keydir names no other.
    pub(crate) fn get(&self, slot: u32) -> &Segment {
        self.slots[slot as usize].as_ref().expect("a slot that is named is in use")
    }

    /// As `get`, to change it.
    pub(crate) fn get_mut(&mut self, slot: u32) -> &mut Segment {
        self.slots[slot as usize].as_mut().expect("a slot that is named is in use")
    }

    /// The slot of the segment `id`.
    pub(crate) fn slot_of(&self, id: u64) -> Option<u32> {
        self.iter().find(|(_, segment)| segment.id == id).map(|(slot, _)| slot)
    }

    /// Marks the sealed segments that the manifest does not name any more.
    pub(crate) fn mark_exchanged(&mut self, is_named: impl Fn(u64) -> bool) {
        let sealed = self.slots.iter_mut().flatten().filter(|segment| segment.state == SegmentState::Sealed);
        for segment in sealed {
            segment.exchanged |= !is_named(segment.id);
        }
    }

    /// Takes a segment out; its slot is free again.
    pub(crate) fn remove(&mut self, slot: u32) -> Segment {
        self.slots[slot as usize].take().expect("a slot that is named is in use")
    }

    /// All segments with their slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Segment)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(slot, segment)| segment.as_ref().map(|segment| (slot as u32, segment)))
    }
}
