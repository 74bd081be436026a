//! What there is to know about a store.

use super::{Engine, ScrubStatus};
use crate::compaction::Progress;
use crate::log::segments::SegmentState;

/// Counters and gauges of a store.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// Live segments, the active one included.
    pub segments: u64,
    /// Bytes of all segments.
    pub log_bytes: u64,
    /// Bytes of records that the keydir stands on.
    pub live_bytes: u64,
    /// Bytes that the keydirs take in memory.
    pub keydir_bytes: u64,
    /// Most entries moved by one growth step of a keydir.
    pub keydir_moved_max: u64,
    /// Bytes of values in the cache.
    pub cache_bytes: u64,
    /// Values in the cache.
    pub cache_values: u64,
    /// Values found in the cache.
    pub cache_hits: u64,
    /// Values not found there.
    pub cache_misses: u64,
    /// Highest sequence used.
    pub last_sequence: u64,
    /// Highest sequence on disk with everything before it.
    pub durable_sequence: u64,
    /// Bytes of disk space held in reserve.
    pub reserved_bytes: u64,
    /// Whether puts are refused because the disk is full.
    pub disk_full: bool,
    /// Syncs of the log.
    pub syncs: u64,
    /// Keys removed because they had expired.
    pub expired: u64,
    /// Segments that were damaged when the store was opened.
    pub quarantined_segments: u64,
    /// Bytes of the log that are lost, so that keys are in doubt.
    pub quarantined_bytes: u64,
    /// Compactions finished, and how far the running one is.
    pub compaction: Progress,
    /// How far the scrub is, without the places that it has found.
    pub scrub: ScrubStatus,
}

/// One segment.
#[derive(Debug, Clone)]
pub struct SegmentStats {
    /// Its id.
    pub id: u64,
    /// Whether it is written to.
    pub state: SegmentState,
    /// Whether it is a merge output.
    pub merged: bool,
    /// Its bytes.
    pub bytes: u64,
    /// Bytes of records that the keydir stands on.
    pub live_bytes: u64,
    /// Records, once it is sealed.
    pub records: u64,
    /// Tombstones, once it is sealed.
    pub tombstones: u64,
    /// Wall time of its creation, in Unix milliseconds.
    pub created_ms: u64,
    /// Lowest sequence, once it is sealed.
    pub lowest: u64,
    /// Highest sequence, once it is sealed.
    pub highest: u64,
}

impl Engine {
    /// Counters and gauges as they are now.
    pub fn stats(&self) -> Stats {
        let spaces = &self.databases.spaces;
        Stats {
            segments: self.segments.iter().count() as u64,
            log_bytes: self.segments.iter().map(|(_, segment)| segment.bytes).sum(),
            live_bytes: self.databases.live_bytes(),
            keydir_bytes: spaces.iter().map(|space| space.memory() as u64).sum(),
            keydir_moved_max: spaces.iter().map(|space| space.keydir.moved_max() as u64).max().unwrap_or(0),
            cache_bytes: self.cache.bytes(),
            cache_values: self.cache.len() as u64,
            cache_hits: self.cache.hits,
            cache_misses: self.cache.misses,
            last_sequence: self.last_sequence(),
            durable_sequence: self.durable_sequence(),
            reserved_bytes: self.space.held(),
            disk_full: self.space.is_full(),
            syncs: self.syncer.syncs(),
            expired: self.expired,
            quarantined_segments: self.segments.iter().filter(|(_, s)| s.quarantined).count() as u64,
            quarantined_bytes: self.quarantine.zones().iter().map(|zone| zone.bytes).sum(),
            compaction: self.compactor.progress(),
            scrub: self.scrubber.progress(),
        }
    }

    /// All segments, rising by id.
    pub fn segments(&self) -> Vec<SegmentStats> {
        let mut all: Vec<SegmentStats> = self
            .segments
            .iter()
            .map(|(slot, segment)| SegmentStats {
                id: segment.id,
                state: segment.state,
                merged: segment.merged,
                bytes: segment.bytes,
                live_bytes: self.databases.live_in(slot),
                records: segment.summary.records,
                tombstones: segment.tally.tombstones,
                created_ms: segment.created_ms,
                lowest: segment.summary.lowest,
                highest: segment.summary.highest,
            })
            .collect();
        all.sort_by_key(|segment| segment.id);
        all
    }

    /// Sets the counters of hits, misses and expired keys to zero.
    pub fn reset_counters(&mut self) {
        (self.cache.hits, self.cache.misses, self.expired) = (0, 0, 0);
    }
}
