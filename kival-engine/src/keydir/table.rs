//! The hash table from keys to handles: extendible hashing on the top bits of the hash.
//!
//! The table knows hashes and handles, not keys: a search asks its caller whether a handle is the
//! one. A directory of 2^`global_depth` places, indexed by the top bits of a hash, names buckets;
//! a bucket of local depth d stands at 2^(`global_depth` - d) consecutive places. A bucket that is full
//! splits in two, so an insert moves at most a bucket's entries, never the table's (only the
//! directory doubles, four bytes a bucket or so). As directory and buckets are in hash order, the
//! whole table is: that is what a scan's cursor, a hash, stands on.

use super::arena::Handle;
use super::bucket::{Bucket, FULL_SLOTS, HASH_BITS, Slot};

/// Buddies with no more entries than this between them become one bucket.
const MERGED_LEN: usize = FULL_SLOTS / 4;
/// Merging stops where a bucket would stand at more places than this, which bounds its cost.
const MERGED_PLACES: u32 = 1 << 10;
/// The directory has at most this many places for each bucket, which hashes that an adversary has
/// chosen could otherwise exceed; buckets then grow instead of splitting.
const PLACES_A_BUCKET: usize = 1 << MOST_EMPTY_DEPTH;
pub(super) const MOST_EMPTY_DEPTH: u32 = 5;
/// Slots that one call of a scan may walk besides those its count asks for.
const SCAN_SLACK: usize = 4096;
/// Random draws of a slot before the next occupied one is taken.
const DRAWS: u32 = 16;

/// Where an entry's slot is; valid until the table changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    bucket: u32,
    slot: u32,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Table {
    directory: Vec<u32>,
    global_depth: u32,
    buckets: Vec<Bucket>,
    unused_buckets: Vec<u32>,
    len: usize,
    /// Slots in all buckets.
    slots: usize,
    moved_max: usize,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The most entries that one insert has had to move.
    pub(super) fn moved_max(&self) -> usize {
        self.moved_max
    }

    pub(super) fn memory(&self) -> usize {
        self.slots * size_of::<u64>()
            + self.buckets.capacity() * size_of::<Bucket>()
            + (self.directory.capacity() + self.unused_buckets.capacity()) * size_of::<u32>()
    }

    /// The directory's place for a hash.
    #[inline]
    fn place(&self, hash: u32) -> usize {
        (hash >> (HASH_BITS - self.global_depth)) as usize
    }

    /// The entry with this hash that `is_it` accepts.
    #[inline]
    pub(super) fn find(&self, hash: u32, is_it: impl FnMut(Handle) -> bool) -> Option<(Position, Handle)> {
        let bucket = *self.directory.get(self.place(hash))?;
        let home = &self.buckets[bucket as usize];
        let (slot, handle) = home.find(hash, is_it)?;
        Some((Position { bucket, slot: slot as u32 }, handle))
    }

    /// Loads the slot where a search for the hash begins; what it gives means nothing.
    #[inline]
    pub(super) fn touch(&self, hash: u32) -> u64 {
        match self.directory.get(self.place(hash)) {
            Some(bucket) => self.buckets[*bucket as usize].touch(hash),
            None => 0,
        }
    }

    /// Points the entry at a position to another handle.
    pub(super) fn repoint(&mut self, position: Position, handle: Handle) {
        self.buckets[position.bucket as usize].repoint(position.slot as usize, handle);
    }

    /// Adds an entry that is not there yet.
    pub(super) fn insert(&mut self, hash: u32, handle: Handle) {
        if self.directory.is_empty() {
            self.directory.push(0);
            self.push_bucket(Bucket::new(0));
        }
        let mut moved = 0;
        loop {
            let index = self.directory[self.place(hash)];
            let bucket = &mut self.buckets[index as usize];
            if bucket.insert(Slot::new(hash, handle)) {
                break;
            }
            moved += bucket.len();
            if bucket.size() >= FULL_SLOTS && self.may_split(index) {
                self.split(index, hash);
            } else {
                let grown = self.buckets[index as usize].grown();
                self.set_bucket(index, grown);
            }
        }
        self.len += 1;
        self.moved_max = self.moved_max.max(moved);
    }

    /// Removes the entry at a position that [`Table::find`] gave for this hash.
    pub(super) fn remove(&mut self, hash: u32, position: Position) {
        let index = position.bucket;
        let bucket = &mut self.buckets[index as usize];
        bucket.remove(position.slot as usize);
        self.len -= 1;
        if bucket.is_sparse()
            && !self.merge(index, hash)
            && let Some(small) = self.buckets[index as usize].shrunk()
        {
            self.set_bucket(index, small);
        }
    }

    fn push_bucket(&mut self, bucket: Bucket) -> u32 {
        self.slots += bucket.size();
        if let Some(index) = self.unused_buckets.pop() {
            self.buckets[index as usize] = bucket;
            return index;
        }
        self.buckets.push(bucket);
        (self.buckets.len() - 1) as u32
    }

    fn set_bucket(&mut self, index: u32, bucket: Bucket) {
        let old = std::mem::replace(&mut self.buckets[index as usize], bucket);
        self.slots = self.slots - old.size() + self.buckets[index as usize].size();
    }

    fn may_split(&self, index: u32) -> bool {
        let depth = self.buckets[index as usize].depth();
        depth < self.global_depth
            || depth < HASH_BITS && self.directory.len() < self.buckets.len() * PLACES_A_BUCKET
    }

    /// Splits the bucket that serves `hash`.
    fn split(&mut self, index: u32, hash: u32) {
        let (lower, upper) = self.buckets[index as usize].split();
        if lower.depth() > self.global_depth {
            self.directory = self.directory.iter().flat_map(|bucket| [*bucket; 2]).collect();
            self.global_depth += 1;
        }
        let places = self.places(upper.depth() - 1, hash);
        let middle = places.start + places.len() / 2;
        self.set_bucket(index, lower);
        let new = self.push_bucket(upper);
        self.directory[middle..places.end].fill(new);
    }

    /// The places of the bucket of local depth `depth` that serves `hash`.
    fn places(&self, depth: u32, hash: u32) -> std::ops::Range<usize> {
        let count = 1 << (self.global_depth - depth);
        let first = self.place(hash) & !(count - 1);
        first..first + count
    }

    /// Joins the bucket that serves `hash` with its buddy, if both are small enough.
    fn merge(&mut self, index: u32, hash: u32) -> bool {
        let depth = self.buckets[index as usize].depth();
        if depth == 0 || self.global_depth - depth >= MERGED_PLACES.ilog2() {
            return false;
        }
        let places = self.places(depth - 1, hash);
        let lower_index = self.directory[places.start];
        let upper_index = self.directory[places.end - 1];
        let (lower, upper) = (&self.buckets[lower_index as usize], &self.buckets[upper_index as usize]);
        if lower.depth() != upper.depth() || lower.len() + upper.len() > MERGED_LEN {
            return false;
        }
        let merged = Bucket::merged(lower, upper);
        self.set_bucket(lower_index, merged);
        self.set_bucket(upper_index, Bucket::default());
        self.unused_buckets.push(upper_index);
        self.directory[places].fill(lower_index);
        true
    }

    /// Visits about `count` entries in ascending order of hash, from the hash `cursor` on, and
    /// returns the hash to go on from; 0 at the end. Entries of equal hash are never parted. Besides
    /// what it visits, a call walks a bounded number of slots.
    pub(super) fn scan(&self, cursor: u64, count: usize, visit: &mut dyn FnMut(Handle)) -> u64 {
        if self.directory.is_empty() || cursor >> HASH_BITS != 0 {
            return 0;
        }
        let mut from = cursor as u32;
        let mut budget = count.saturating_mul(4).saturating_add(SCAN_SLACK);
        let (mut seen, mut last) = (0, None);
        loop {
            let bucket = &self.buckets[self.directory[self.place(from)] as usize];
            let home = bucket.home(from);
            for slot in bucket.entries(home).filter(|slot| slot.hash() >= from) {
                if seen >= count.max(1) && last != Some(slot.hash()) {
                    return u64::from(slot.hash());
                }
                visit(slot.handle());
                seen += 1;
                last = Some(slot.hash());
            }
            let served = HASH_BITS - bucket.depth();
            let end = ((u64::from(from) >> served) + 1) << served;
            budget = budget.saturating_sub(bucket.size() - home);
            if end >> HASH_BITS != 0 {
                return 0;
            }
            if seen >= count.max(1) || budget == 0 {
                return end;
            }
            from = end as u32;
        }
    }

    /// An entry near a random point of the hash order: the bucket by the top bits of `random`, so
    /// that a bucket that serves more hashes is drawn more often; within it any entry alike.
    pub(super) fn random(&self, random: u64) -> Option<Handle> {
        if self.len == 0 {
            return None;
        }
        let first = self.place((random >> Handle::BITS) as u32);
        let places = (first..self.directory.len()).chain(0..first);
        let mut filled = places.map(|place| &self.buckets[self.directory[place] as usize]);
        let bucket = filled.find(|bucket| bucket.len() > 0)?;
        let size = bucket.size() as u64;
        let mut draw = random;
        for _ in 0..DRAWS {
            draw = draw.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            if let Some(slot) = bucket.at((((draw >> 32) * size) >> 32) as usize) {
                return Some(slot.handle());
            }
        }
        bucket
            .entries((((draw >> 32) * size) >> 32) as usize)
            .chain(bucket.entries(0))
            .next()
            .map(Slot::handle)
    }

    /// Empties the table, and gives its buckets in the order of their hashes.
    pub(super) fn take_buckets(&mut self) -> Vec<Bucket> {
        let mut table = std::mem::take(self);
        let mut taken = Vec::with_capacity(table.buckets.len());
        let mut place = 0;
        while let Some(&index) = table.directory.get(place) {
            let bucket = std::mem::take(&mut table.buckets[index as usize]);
            place += 1 << (table.global_depth - bucket.depth());
            taken.push(bucket);
        }
        taken
    }

    /// The table of buckets that together serve all hashes and stand in their order.
    pub(super) fn of_buckets(buckets: Vec<Bucket>, moved_max: usize) -> Table {
        let global_depth = buckets.iter().map(Bucket::depth).max().unwrap_or(0);
        let places = |(index, bucket): (usize, &Bucket)| {
            std::iter::repeat_n(index as u32, 1 << (global_depth - bucket.depth()))
        };
        Table {
            directory: buckets.iter().enumerate().flat_map(places).collect(),
            global_depth,
            unused_buckets: Vec::new(),
            len: buckets.iter().map(Bucket::len).sum(),
            slots: buckets.iter().map(Bucket::size).sum(),
            moved_max,
            buckets,
        }
    }

    /// All entries, in no order.
    pub(super) fn handles(&self) -> impl Iterator<Item = Handle> + '_ {
        self.buckets.iter().flat_map(|bucket| bucket.entries(0)).map(Slot::handle)
    }

    /// Asserts the invariants, and that `hash_of` agrees with every slot.
    #[cfg(test)]
    pub(super) fn check(&self, hash_of: impl Fn(Handle) -> u32) {
        assert_eq!(self.buckets.iter().map(Bucket::len).sum::<usize>(), self.len);
        assert_eq!(self.buckets.iter().map(Bucket::size).sum::<usize>(), self.slots);
        let mut place = 0;
        let mut served = 0;
        while place < self.directory.len() {
            let index = self.directory[place];
            let bucket = &self.buckets[index as usize];
            bucket.check();
            let width = 1 << (self.global_depth - bucket.depth());
            assert!(self.directory[place..place + width].iter().all(|other| *other == index));
            for slot in bucket.entries(0) {
                assert_eq!(slot.hash(), hash_of(slot.handle()));
                assert!((place..place + width).contains(&self.place(slot.hash())));
            }
            served += 1;
            place += width;
        }
        assert_eq!(served + self.unused_buckets.len(), self.buckets.len());
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
