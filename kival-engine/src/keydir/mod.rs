//! The keydir: every key of one database in memory, and where its value lies on disk.
//!
//! An entry with its key lies in the arena, as `entry` describes; the table of buckets finds it by
//! hash; `expires` orders those that expire. This module keeps the three in step. It knows no file,
//! no clock and no record: places, sequences and access times are its callers' numbers.
//!
//! A key of 16 bytes without an expiry takes 40 bytes in the arena and 9 to 13 in the table.
//! No operation's work grows with the number of keys, apart from the amortised doubling of
//! directories (a few bytes a thousand keys) and the logarithm of the expiry index.
//!
//! Invariants: every slot of the table names a live slot of the arena, and each live slot is named
//! once; the expiry index holds exactly the entries whose expiry is not 0.

mod arena;
mod bucket;
mod bulk;
mod entry;
mod expires;
mod pages;
mod rebuild;
mod table;
#[cfg(test)]
mod tests;

pub use bulk::Bulk;
pub use pages::{Page, Pages};

use arena::{Arena, Handle};
use expires::Expires;
use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;
use std::hash::Hasher;
use std::hint::black_box;
use table::{Position, Table};

/// Entries moved out of a sparse page of the arena for each one freed. More than one, for a page
/// under evacuation is up to half full.
const EVACUATIONS: usize = 2;

/// Keys that [`Keydir::warm`] takes at a time: about as many loads as a processor has under way.
pub const WARM: usize = 16;

/// Where a record starts: a segment slot (24 bits, an index into the engine's table of segments,
/// not a segment id) and an offset in that segment (40 bits), packed into eight bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(u64);

impl Place {
    const OFFSET_BITS: u32 = 40;
    /// The greatest segment slot.
    pub const MAX_SLOT: u32 = (1 << 24) - 1;
    /// The greatest offset.
    pub const MAX_OFFSET: u64 = (1 << Self::OFFSET_BITS) - 1;

    /// The place at `offset` in the segment at `slot`.
    ///
    /// # Panics
    /// If either is beyond its greatest value.
    pub fn new(slot: u32, offset: u64) -> Place {
        assert!(slot <= Self::MAX_SLOT && offset <= Self::MAX_OFFSET, "no place {slot}:{offset}");
        Place(u64::from(slot) << Self::OFFSET_BITS | offset)
    }

    /// The index of the segment in the engine's table of segments.
    pub fn slot(self) -> u32 {
        (self.0 >> Self::OFFSET_BITS) as u32
    }

    /// The offset in the segment.
    pub fn offset(self) -> u64 {
        self.0 & Self::MAX_OFFSET
    }
}

/// A changed expiry: the record that overrides the expiry in the value's own record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpiryChange {
    /// The sequence of the expiry record; 56 bits.
    pub sequence: u64,
    /// Where the expiry record starts.
    pub place: Place,
}

/// What the keydir knows of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where the value's record starts.
    pub place: Place,
    /// The sequence of the value's record; 56 bits.
    pub sequence: u64,
    /// The length of the value in bytes, its pages included.
    pub value_size: u32,
    /// The type of the value, for TYPE and for commands on the wrong type; 4 bits.
    pub data_type: u8,
    /// An access clock, for eviction; 24 bits, opaque here.
    pub access: u32,
    /// When the key expires, in milliseconds since the epoch; 0 for never.
    pub expiry: u64,
    /// The record that set `expiry`, if not the value's own.
    pub change: Option<ExpiryChange>,
}

/// The key directory of one database; see the module's documentation.
#[derive(Debug)]
pub struct Keydir {
    arena: Arena,
    table: Table,
    expires: Expires,
    /// Kept here rather than fixed: with seeds that are known, keys that collide are easily made.
    shared_seed: SharedSeed,
    seed: u64,
}

impl Keydir {
    /// An empty keydir, which allocates nothing yet. The seed keys the hash: it should be random
    /// and secret, or clients can choose keys that collide.
    pub fn new(seed: u64) -> Keydir {
        // A seed of zero would stay zero through foldhash's mixing.
        let seed = seed ^ 0x9e37_79b9_7f4a_7c15;
        Keydir {
            arena: Arena::default(),
            table: Table::default(),
            expires: Expires::default(),
            shared_seed: SharedSeed::from_u64(seed),
            seed: seed.rotate_left(32),
        }
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of keys that have an expiry.
    pub fn expires(&self) -> usize {
        self.expires.len()
    }

    /// Bytes held in memory; the expiry index's share is estimated.
    pub fn memory(&self) -> usize {
        size_of::<Keydir>() + self.arena.memory() + self.table.memory() + self.expires.memory()
    }

    /// The most entries of the table that a single insert has had to move so far.
    pub fn moved_max(&self) -> usize {
        self.table.moved_max()
    }

    /// The entry of a key.
    #[inline]
    pub fn get(&self, key: &[u8]) -> Option<Entry> {
        let (_, handle) = self.find(self.hash(key), key)?;
        Some(entry::decode(self.arena.bytes(handle)))
    }

    /// The entry of a key as it was, setting its access clock.
    #[inline]
    pub fn get_and_touch(&mut self, key: &[u8], access: u32) -> Option<Entry> {
        let (_, handle) = self.find(self.hash(key), key)?;
        let bytes = self.arena.bytes_mut(handle);
        let entry = entry::decode(bytes);
        entry::set_access(bytes, access);
        Some(entry)
    }

    /// Sets the access clock of a key; nothing if there is no such key.
    pub fn touch(&mut self, key: &[u8], access: u32) {
        if let Some((_, handle)) = self.find(self.hash(key), key) {
            entry::set_access(self.arena.bytes_mut(handle), access);
        }
    }

    /// Loads into the processor's caches what look-ups of these keys will want, and gives what the sequences and
    /// value sizes of their entries seem to be, anything for a key that is not there.
    ///
    /// A look-up waits for memory twice, once for the slot and once for the entry. Here no branch depends on what
    /// is loaded, so that the waits of all keys overlap.
    #[inline]
    pub fn warm(&self, keys: &[&[u8]; WARM]) -> [(u64, u32); WARM] {
        let hashes = keys.map(|key| (self.hash(key), key.len()));
        black_box(hashes.iter().fold(0, |loaded, (hash, _)| loaded ^ self.table.touch(*hash)));
        hashes.map(|(hash, key_len)| match self.table.find(hash, |_| true) {
            Some((_, handle)) => entry::touch(self.arena.bytes(handle), key_len),
            None => (0, 0),
        })
    }

    /// Sets the entry of a key and returns the one it had.
    ///
    /// # Panics
    /// If the keydir's pages are used up, at 128 GiB of ordinary keys.
    pub fn insert(&mut self, key: &[u8], entry: Entry) -> Option<Entry> {
        let hash = self.hash(key);
        if let Some((position, handle)) = self.find(hash, key) {
            let old = entry::decode(self.arena.bytes(handle));
            self.replace(key, position, handle, &old, &entry);
            return Some(old);
        }
        let handle = self.store(key, &entry);
        self.table.insert(hash, handle);
        self.expires.add(entry.expiry, handle);
        None
    }

    /// Lets `change` change the entry of a key; false if there is no such key.
    pub fn update(&mut self, key: &[u8], change: impl FnOnce(&mut Entry)) -> bool {
        let Some((position, handle)) = self.find(self.hash(key), key) else { return false };
        let old = entry::decode(self.arena.bytes(handle));
        let mut new = old;
        change(&mut new);
        self.replace(key, position, handle, &old, &new);
        true
    }

    /// Removes a key and returns the entry it had.
    pub fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        let hash = self.hash(key);
        let (position, handle) = self.find(hash, key)?;
        let old = entry::decode(self.arena.bytes(handle));
        self.table.remove(hash, position);
        self.expires.remove(old.expiry, handle);
        self.free(handle, entry::stored_len(key.len(), &old));
        Some(old)
    }

    /// Visits about `count` entries in hash order and returns the cursor to go on from; 0 starts,
    /// and 0 is returned at the end.
    ///
    /// A key that is there from the first call to the last is visited at least once (here: exactly
    /// once), whatever is inserted and removed between the calls. A call's work is bounded by
    /// `count` and a constant, so it may visit fewer, even none, before the end. Cursors are below
    /// 2^30; any other number ends the scan.
    pub fn scan(&self, cursor: u64, f: &mut dyn FnMut(&[u8], &Entry), count: usize) -> u64 {
        self.table.scan(cursor, count, &mut |handle| {
            let bytes = self.arena.bytes(handle);
            f(entry::key(bytes), &entry::decode(bytes));
        })
    }

    /// An entry chosen by a random number, about uniformly; none if there are no keys.
    pub fn random(&self, random: u64) -> Option<(&[u8], Entry)> {
        Some(self.read(self.table.random(random)?))
    }

    /// All keys and entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Entry)> {
        self.table.handles().map(|handle| self.read(handle))
    }

    /// The soonest expiry and its key.
    pub fn first_expiring(&self) -> Option<(u64, &[u8])> {
        let (expiry, handle) = self.expires.first()?;
        Some((expiry, entry::key(self.arena.bytes(handle))))
    }

    /// All expiries with their keys, the soonest first.
    pub fn expiring(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.expires.iter().map(|(expiry, handle)| (expiry, entry::key(self.arena.bytes(handle))))
    }

    /// The mean time left, in milliseconds, of the keys that have an expiry: exact, from a running
    /// sum, with keys that are past their expiry counting as negative; 0 at least.
    pub fn average_ttl(&self, now: u64) -> u64 {
        self.expires.average_ttl(now)
    }

    /// The top bits of the key's hash, as many as the table uses.
    #[inline]
    fn hash(&self, key: &[u8]) -> u32 {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.shared_seed);
        hasher.write(key);
        (hasher.finish() >> Handle::BITS) as u32
    }

    #[inline]
    fn find(&self, hash: u32, key: &[u8]) -> Option<(Position, Handle)> {
        self.table.find(hash, |handle| entry::is_of(self.arena.bytes(handle), key))
    }

    fn read(&self, handle: Handle) -> (&[u8], Entry) {
        let bytes = self.arena.bytes(handle);
        (entry::key(bytes), entry::decode(bytes))
    }

    fn store(&mut self, key: &[u8], entry: &Entry) -> Handle {
        let handle = self.arena.allocate(entry::stored_len(key.len(), entry));
        entry::encode(entry, key, self.arena.bytes_mut(handle));
        handle
    }

    /// Replaces the entry at `handle`: in place if it fits the same slot, else in a new one.
    fn replace(&mut self, key: &[u8], position: Position, handle: Handle, old: &Entry, new: &Entry) {
        let bytes = self.arena.bytes_mut(handle);
        if entry::overwrite(new, bytes) {
            return self.reindex(old.expiry, handle, new.expiry, handle);
        }
        let old_len = entry::stored_len(key.len(), old);
        if Arena::same_slot(old_len, entry::stored_len(key.len(), new)) {
            entry::encode(new, key, bytes);
            return self.reindex(old.expiry, handle, new.expiry, handle);
        }
        let moved = self.store(key, new);
        self.table.repoint(position, moved);
        self.reindex(old.expiry, handle, new.expiry, moved);
        self.free(handle, old_len);
    }

    /// Brings the expiry index up to date with an entry that was replaced or moved.
    fn reindex(&mut self, was: u64, handle: Handle, is: u64, moved: Handle) {
        if (was, handle) != (is, moved) {
            self.expires.remove(was, handle);
            self.expires.add(is, moved);
        }
    }

    /// Frees a slot that nothing names any more, and goes on emptying sparse pages of its class.
    fn free(&mut self, handle: Handle, len: usize) {
        self.arena.free(handle);
        for _ in 0..EVACUATIONS {
            if !self.evacuate(len) {
                return;
            }
        }
    }

    /// Moves one entry out of a sparse page of the class that holds entries of `len` bytes; false if
    /// there is nothing to gain.
    fn evacuate(&mut self, len: usize) -> bool {
        let Some((from, to)) = self.arena.evacuate(len) else { return false };
        let (key, entry) = self.read(to);
        let hash = self.hash(key);
        let (position, _) = self.table.find(hash, |handle| handle == from).expect("a live slot is named");
        self.table.repoint(position, to);
        self.reindex(entry.expiry, from, entry.expiry, to);
        true
    }

    /// Empties all sparse pages, after many slots were freed at once.
    fn evacuate_all(&mut self) {
        let mut page = 0;
        while let Some((next, len)) = self.arena.next_victim(page) {
            while self.evacuate(len) {}
            page = next;
        }
    }
}
