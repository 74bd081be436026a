//! Values in memory: those lately written or read, up to a budget, and those pinned for a command.
//!
//! A value is found by the sequence of its record. A sequence names one record for ever, so nothing here
//! can be stale, and compaction, which moves records and keeps their sequences, disturbs nothing. Only a
//! sequence that is taken back is issued again: its value must be removed.
//!
//! Values lie in two rings (`ring`) and leave them in the order of their coming. A new value comes to the
//! smaller one, on probation: if it is read there it goes on to the main ring, else it leaves, so that a scan
//! drives out nothing. In the main ring a value that is read goes round again. A table of spots (`index`) finds
//! them. This is S3-FIFO (Yang and others, "FIFO queues are all you need for cache eviction", SOSP 2023), its
//! ghost queue being the slots of the index that are not live any more.
//!
//! Writing a value is thus one sequential copy, and reading one touches two lines of memory before the value
//! itself. A value that is overwritten by one of its size has the new one in its place, and its standing. Large
//! values are held beside the rings.

mod index;
mod ring;

use bytes::Bytes;
use index::{Index, Note, Spot, Tails};
use ring::Ring;
use std::collections::HashMap;

/// A value from this size on, in bytes, is held by reference, so that a reply takes it without a copy. In a small
/// cache it is less, so that several values fit a chunk.
const LARGE: usize = 16 << 10;
/// A value larger than the budget divided by this is not kept: it would drive out too many others.
const LARGEST_SHARE: u64 = 32;
/// The budget's share that is the index: room for one value for each 96 bytes.
const INDEX_SHARE: u64 = 12;
/// The budget's share that is for values on probation.
const PROBATION_SHARE: u64 = 10;
/// Chunks of both rings when the budget is used up, unless they are as large or as small as they get.
const CHUNKS: u64 = 512;
const LEAST_CHUNK: u64 = 4 << 10;
const MOST_CHUNK: u64 = 1 << 20;
/// Chunks that are held beyond what lies between head and tail: of each ring both ends, and a spare one.
const SLACK: u64 = 6;
/// Bytes that a large value costs beside its own.
const LARGE_OVERHEAD: u64 = 128;
/// Values that one insertion lets go on or round again, at most; what comes then leaves, read or not.
const MOST_ROUNDS: usize = 16;

/// The cache.
pub(crate) struct ValueCache {
    probation: Ring,
    main: Ring,
    index: Index,
    large: HashMap<u64, Bytes>,
    large_bytes: u64,
    budget: u64,
    chunk: u64,
    /// Values from this size on lie beside the rings.
    large_from: usize,
    pinned: HashMap<u64, Bytes>,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
}

impl ValueCache {
    /// A cache for `budget` bytes.
    pub(crate) fn new(budget: u64) -> ValueCache {
        let chunk = (budget / CHUNKS).clamp(LEAST_CHUNK, MOST_CHUNK).next_power_of_two();
        ValueCache {
            probation: Ring::new(chunk as usize),
            main: Ring::new(chunk as usize),
            index: Index::new(budget / INDEX_SHARE),
            large: HashMap::new(),
            large_bytes: 0,
            budget,
            chunk,
            large_from: LARGE.min(chunk as usize / 2),
            pinned: HashMap::new(),
            hits: 0,
            misses: 0,
        }
    }

    /// Changes the budget; what was cached is let go.
    pub(crate) fn resize(&mut self, budget: u64) {
        let pinned = std::mem::take(&mut self.pinned);
        let (hits, misses) = (self.hits, self.misses);
        *self = ValueCache { pinned, hits, misses, ..ValueCache::new(budget) };
    }

    fn ring(&self, main: bool) -> &Ring {
        if main { &self.main } else { &self.probation }
    }

    fn is_live(&self, spot: Spot) -> bool {
        spot.position >= self.ring(spot.main).tail()
    }

    /// Where the value of a record is, and where that is noted.
    #[inline]
    fn find(&self, sequence: u64) -> Option<(Spot, Note)> {
        let mut candidates = self.index.candidates(sequence).filter(|(spot, _)| self.is_live(*spot));
        candidates.find(|(spot, _)| self.ring(spot.main).sequence(spot.position) == sequence)
    }

    /// The value of record `sequence`.
    #[inline]
    pub(crate) fn get(&mut self, sequence: u64) -> Option<Bytes> {
        if let Some((Spot { main, position }, _)) = self.find(sequence) {
            let ring = if main { &mut self.main } else { &mut self.probation };
            let value = match ring.read(position) {
                Some(value) => Some(Bytes::copy_from_slice(value)),
                None => self.large.get(&sequence).cloned(),
            };
            if value.is_some() {
                self.hits += 1;
                return value;
            }
        }
        self.misses += 1;
        if self.pinned.is_empty() { None } else { self.pinned.get(&sequence).cloned() }
    }

    /// Loads what a look-up will want first; what it gives means nothing.
    #[inline]
    pub(crate) fn touch_index(&self, sequence: u64) -> u64 {
        self.index.touch(sequence)
    }

    /// Loads the beginning of a value of about this size, if it is there; what it gives means nothing.
    #[inline]
    pub(crate) fn touch_value(&self, sequence: u64, size: usize) -> u8 {
        let found = self.index.candidates(sequence).find(|(spot, _)| self.is_live(*spot));
        found.map_or(0, |(spot, _)| self.ring(spot.main).touch(spot.position, size))
    }

    /// Whether a value of this size would be kept.
    pub(crate) fn admits(&self, size: usize) -> bool {
        self.budget > 0 && size as u64 <= self.budget / LARGEST_SHARE
    }

    /// Keeps a value that is not there yet.
    pub(crate) fn insert(&mut self, sequence: u64, value: &[u8]) {
        if !self.admits(value.len()) {
            return;
        }
        self.keep(self.is_known(sequence), sequence, value);
    }

    /// As [`Self::insert`]; a large value is shared, not copied.
    pub(crate) fn insert_shared(&mut self, sequence: u64, value: &Bytes) {
        if value.len() < self.large_from {
            self.insert(sequence, value);
        } else if self.admits(value.len()) {
            self.keep_large(self.is_known(sequence), sequence, value.clone());
        }
    }

    /// Keeps a value that was written. A large one costs a copy, and is kept when it is read first.
    pub(crate) fn insert_written(&mut self, sequence: u64, value: &[u8]) {
        if value.len() < self.large_from {
            self.insert(sequence, value);
        }
    }

    /// Whether a value was here lately: if it comes again, it has passed its probation.
    fn is_known(&self, sequence: u64) -> bool {
        self.index.candidates(sequence).any(|(spot, _)| !self.is_live(spot))
    }

    /// Keeps a value, in place of that of the record that it overwrites, as [`Self::insert_written`] does.
    pub(crate) fn replace(&mut self, old: u64, sequence: u64, value: &[u8]) {
        if value.len() >= self.large_from || !self.admits(value.len()) {
            return self.remove(old);
        }
        let Some((spot, note)) = self.find(old) else { return self.keep(false, sequence, value) };
        self.index.clear(note);
        let ring = if spot.main { &mut self.main } else { &mut self.probation };
        if ring.overwrite(spot.position, sequence, value) {
            self.note(sequence, spot);
        } else {
            self.forget_large(old);
            self.keep(spot.main, sequence, value);
        }
    }

    fn keep(&mut self, known: bool, sequence: u64, value: &[u8]) {
        if value.len() < self.large_from {
            self.make_room(value.len());
            self.push(known, sequence, Some(value), 0);
        } else {
            self.keep_large(known, sequence, Bytes::copy_from_slice(value));
        }
    }

    /// Holds a value beside the rings. It must not be a part of something much larger: that would stay with it.
    fn keep_large(&mut self, known: bool, sequence: u64, value: Bytes) {
        self.large_bytes += value.len() as u64 + LARGE_OVERHEAD;
        if let Some(same) = self.large.insert(sequence, value) {
            self.large_bytes -= same.len() as u64 + LARGE_OVERHEAD;
        }
        self.make_room(0);
        self.push(known, sequence, None, 0);
    }

    fn push(&mut self, main: bool, sequence: u64, value: Option<&[u8]>, reads: u8) {
        let ring = if main { &mut self.main } else { &mut self.probation };
        if ring.head() >= Spot::END - 2 * MOST_CHUNK {
            // Positions have run out.
            return self.resize(self.budget);
        }
        let position = ring.push(sequence, value, reads);
        self.note(sequence, Spot { main, position });
    }

    fn note(&mut self, sequence: u64, spot: Spot) {
        let tails = Tails { probation: self.probation.tail(), main: self.main.tail() };
        self.index.insert(sequence, spot, tails);
    }

    /// Lets values go until one of this size has room.
    fn make_room(&mut self, size: usize) {
        let fixed = self.index.memory() + SLACK * self.chunk + (size + ring::HEADER) as u64;
        let mut rounds = 0;
        loop {
            let (on_probation, in_main) = (self.probation.span(), self.main.span());
            let held = on_probation + in_main + self.large_bytes;
            if held + fixed <= self.budget || held == 0 {
                return;
            }
            let main = on_probation <= self.budget / PROBATION_SHARE && in_main > 0;
            rounds += usize::from(self.let_go(main, rounds < MOST_ROUNDS));
        }
    }

    /// Lets the oldest value of a ring go, to the main one if it was read and `may_stay`; tells whether it did.
    fn let_go(&mut self, main: bool, may_stay: bool) -> bool {
        let ring = if main { &mut self.main } else { &mut self.probation };
        let Some((position, oldest)) = ring.oldest() else { return false };
        let (sequence, reads) = (oldest.sequence, oldest.reads);
        let value = oldest.value.filter(|_| reads > 0).map(<[u8]>::to_vec);
        let is_elsewhere = oldest.value.is_none();
        let here = Spot { main, position };
        let stays = reads > 0 && may_stay && self.find(sequence).is_some_and(|(spot, _)| spot == here);
        if !stays && is_elsewhere {
            self.forget_large(sequence);
        }
        if main {
            self.main.pop()
        } else {
            self.probation.pop()
        }
        if stays {
            // What has passed its probation begins anew; in the main ring each round costs a reading.
            self.push(true, sequence, value.as_deref(), if main { reads - 1 } else { 0 });
        }
        stays
    }

    fn forget_large(&mut self, sequence: u64) {
        if let Some(value) = self.large.remove(&sequence) {
            self.large_bytes -= value.len() as u64 + LARGE_OVERHEAD;
        }
    }

    /// Forgets the value of a record that is taken back, or that is dead and large.
    pub(crate) fn remove(&mut self, sequence: u64) {
        self.forget_large(sequence);
        while let Some((_, note)) = self.find(sequence) {
            self.index.clear(note);
        }
    }

    /// Forgets the value of a dead record where that frees memory at once: a small one leaves in its turn.
    pub(crate) fn retire(&mut self, sequence: u64, size: u32) {
        if size as usize >= self.large_from {
            self.remove(sequence);
        }
    }

    /// Holds a value that was read for a waiting command, until [`Self::unpin`].
    pub(crate) fn pin(&mut self, sequence: u64, value: Bytes) {
        if self.find(sequence).is_none() {
            self.insert_shared(sequence, &value);
        }
        self.pinned.insert(sequence, value);
    }

    /// Lets all pinned values go.
    pub(crate) fn unpin(&mut self) {
        self.pinned.clear();
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        self.probation.memory() + self.main.memory() + self.large_bytes + self.index.memory()
    }

    /// Number of values held, those of dead records among them.
    pub(crate) fn len(&self) -> usize {
        self.probation.len() + self.main.len()
    }
}

#[cfg(test)]
mod tests;
