//! One bucket of the table: slots in ascending order of hash.
//!
//! A slot packs the 30 bits of a key's hash that the table uses and the handle of its entry; zero
//! is an empty slot (no handle is zero). A bucket serves all hashes that begin with the same
//! `depth` bits. The bits below them, scaled to the number of homes, give a slot's home, so homes
//! ascend with hashes whatever the size of the bucket. Past the last home lies a margin that takes
//! what runs over; there is no wraparound.
//!
//! Invariants:
//! - the occupied slots are in ascending order of hash, ties in any order;
//! - no slot lies below its home, and none between its home and itself is empty.
//!
//! So a search ends at the first empty slot or greater hash.

use super::arena::Handle;

/// How many bits of a hash the table uses.
pub(super) const HASH_BITS: u32 = u64::BITS - Handle::BITS;
/// The largest bucket that splits rather than grows.
pub(super) const FULL_SLOTS: usize = 1024;
const LEAST_SLOTS: usize = 16;
const LEAST_MARGIN: usize = 4;
const MOST_MARGIN: usize = 32;

const EMPTY: u64 = 0;
const HANDLE_MASK: u64 = (1 << Handle::BITS) - 1;
const HASH_MASK: u64 = (1 << HASH_BITS) - 1;

/// An occupied slot, by value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(u64);

impl Slot {
    pub(super) fn new(hash: u32, handle: Handle) -> Slot {
        debug_assert!(u64::from(hash) <= HASH_MASK && handle.0 != 0 && handle.0 <= HANDLE_MASK);
        Slot(u64::from(hash) << Handle::BITS | handle.0)
    }

    #[inline]
    pub(super) fn hash(self) -> u32 {
        (self.0 >> Handle::BITS) as u32
    }

    #[inline]
    pub(super) fn handle(self) -> Handle {
        Handle(self.0 & HANDLE_MASK)
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    slots: Box<[u64]>,
    homes: u32,
    len: u32,
    depth: u32,
}

/// How many of `total` slots are homes. Beyond the ordinary size, which only a flood of equal
/// hashes reaches, half is margin, for equal hashes share one home.
fn homes_of(total: usize) -> usize {
    if total > FULL_SLOTS {
        return total / 2;
    }
    total - (total / 16).clamp(LEAST_MARGIN, MOST_MARGIN)
}

/// Seven eighths of the homes, at most, are taken.
fn limit(homes: usize) -> usize {
    homes / 8 * 7 + homes % 8 * 7 / 8
}

/// Sizes come in quarters of a doubling, as allocators' do, so buckets are well filled.
fn next_size(total: usize) -> usize {
    if total >= FULL_SLOTS { total * 2 } else { total + (1 << total.ilog2()) / 4 }
}

impl Bucket {
    /// An empty bucket of the least size.
    pub(super) fn new(depth: u32) -> Bucket {
        Bucket::with(std::iter::empty(), 0, depth, LEAST_SLOTS)
    }

    /// A bucket of entries in ascending order, no larger than they need; none if that is larger than a
    /// bucket that would rather split, unless it has to hold them.
    pub(super) fn of(entries: &[Slot], depth: u32, whatever_size: bool) -> Option<Bucket> {
        let room = entries.len();
        if room > limit(homes_of(FULL_SLOTS)) && !whatever_size {
            return None;
        }
        let bucket = Bucket::with(entries.iter().copied(), room, depth, LEAST_SLOTS);
        (bucket.size() <= FULL_SLOTS || whatever_size).then_some(bucket)
    }

    /// The least number of buckets that hold so many entries, if none is larger than one that would
    /// rather split; one at least.
    pub(super) fn least_for(len: usize) -> usize {
        len.div_ceil(limit(homes_of(FULL_SLOTS))).max(1)
    }

    /// Builds a bucket of at least `least` slots, with room for `room` entries, from entries in
    /// ascending order.
    fn with(entries: impl Iterator<Item = Slot> + Clone, room: usize, depth: u32, least: usize) -> Bucket {
        let mut total = LEAST_SLOTS;
        loop {
            let homes = homes_of(total);
            if total >= least && limit(homes) >= room {
                let mut bucket = Bucket { slots: Box::default(), homes: homes as u32, len: 0, depth };
                if bucket.fill(entries.clone(), total) {
                    return bucket;
                }
            }
            total = next_size(total);
        }
    }

    /// Lays the entries out over `total` fresh slots; false if they run past the margin.
    fn fill(&mut self, entries: impl Iterator<Item = Slot>, total: usize) -> bool {
        let mut slots = vec![EMPTY; total].into_boxed_slice();
        let mut end = 0;
        for slot in entries {
            let at = end.max(self.home(slot.hash()));
            let Some(place) = slots.get_mut(at) else { return false };
            *place = slot.0;
            end = at + 1;
            self.len += 1;
        }
        self.slots = slots;
        true
    }

    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    pub(super) fn depth(&self) -> u32 {
        self.depth
    }

    /// How many slots there are, occupied or not.
    pub(super) fn size(&self) -> usize {
        self.slots.len()
    }

    /// Few enough entries that a smaller bucket, or one shared with its buddy, would do.
    pub(super) fn is_sparse(&self) -> bool {
        self.len() * 4 < self.size()
    }

    /// The slot where a search for the hash begins.
    #[inline]
    pub(super) fn home(&self, hash: u32) -> usize {
        let below = u64::from(hash) << self.depth & HASH_MASK;
        ((below * u64::from(self.homes)) >> HASH_BITS) as usize
    }

    /// Occupied slots from position `from` on, ascending.
    pub(super) fn entries(&self, from: usize) -> impl Iterator<Item = Slot> + Clone + '_ {
        self.slots[from..].iter().filter(|slot| **slot != EMPTY).map(|slot| Slot(*slot))
    }

    /// What the slot at a position holds.
    pub(super) fn at(&self, position: usize) -> Option<Slot> {
        self.slots.get(position).filter(|slot| **slot != EMPTY).map(|slot| Slot(*slot))
    }

    /// The position of the entry with this hash that `is_it` accepts, and its handle.
    #[inline]
    pub(super) fn find(&self, hash: u32, mut is_it: impl FnMut(Handle) -> bool) -> Option<(usize, Handle)> {
        let home = self.home(hash);
        for (step, &slot) in self.slots[home..].iter().enumerate() {
            let slot = Slot(slot);
            if slot.hash() >= hash {
                if slot.hash() > hash || slot.0 == EMPTY {
                    return None;
                }
                if is_it(slot.handle()) {
                    return Some((home + step, slot.handle()));
                }
            } else if slot.0 == EMPTY {
                return None;
            }
        }
        None
    }

    /// Loads the slot where a search for the hash begins.
    #[inline]
    pub(super) fn touch(&self, hash: u32) -> u64 {
        self.slots[self.home(hash)]
    }

    /// Adds an entry; false, and nothing changed, if the bucket has to grow or split first.
    pub(super) fn insert(&mut self, slot: Slot) -> bool {
        if self.len() >= limit(self.homes as usize) {
            return false;
        }
        let home = self.home(slot.hash());
        let greater = |other: &u64| *other == EMPTY || Slot(*other).hash() > slot.hash();
        let Some(steps) = self.slots[home..].iter().position(greater) else { return false };
        let at = home + steps;
        let Some(run) = self.slots[at..].iter().position(|other| *other == EMPTY) else { return false };
        self.slots.copy_within(at..at + run, at + 1);
        self.slots[at] = slot.0;
        self.len += 1;
        true
    }

    /// Points the entry at a position to another handle.
    pub(super) fn repoint(&mut self, position: usize, handle: Handle) {
        self.slots[position] = Slot::new(Slot(self.slots[position]).hash(), handle).0;
    }

    /// Removes the entry at a position, and shifts back those that it had kept from their homes.
    pub(super) fn remove(&mut self, position: usize) {
        let mut end = position + 1;
        while let Some(slot) = self.at(end).filter(|slot| self.home(slot.hash()) < end) {
            self.slots[end - 1] = slot.0;
            end += 1;
        }
        self.slots[end - 1] = EMPTY;
        self.len -= 1;
    }

    /// The same entries in the next larger bucket.
    pub(super) fn grown(&self) -> Bucket {
        Bucket::with(self.entries(0), self.len(), self.depth, next_size(self.size()))
    }

    /// The same entries in a bucket half as large again as they need; none if that is no smaller.
    pub(super) fn shrunk(&self) -> Option<Bucket> {
        if self.size() == LEAST_SLOTS {
            return None;
        }
        let room = self.len() + self.len() / 2;
        let small = Bucket::with(self.entries(0), room, self.depth, LEAST_SLOTS);
        (small.size() < self.size()).then_some(small)
    }

    /// Two buckets, by the hash bit below this one's depth.
    pub(super) fn split(&self) -> (Bucket, Bucket) {
        let depth = self.depth + 1;
        let bit = 1 << (HASH_BITS - depth);
        let (lower, upper) = (|slot: &Slot| slot.hash() & bit == 0, |slot: &Slot| slot.hash() & bit != 0);
        let lower_len = self.entries(0).filter(lower).count();
        let upper_len = self.len() - lower_len;
        // A little more room than needed, for half-full buckets would otherwise often grow at once.
        let room = |len: usize| len + len / 16;
        (
            Bucket::with(self.entries(0).filter(lower), room(lower_len), depth, LEAST_SLOTS),
            Bucket::with(self.entries(0).filter(upper), room(upper_len), depth, LEAST_SLOTS),
        )
    }

    /// One bucket out of two buddies, half as large again as it needs to be.
    pub(super) fn merged(lower: &Bucket, upper: &Bucket) -> Bucket {
        let len = lower.len() + upper.len();
        Bucket::with(lower.entries(0).chain(upper.entries(0)), len + len / 2, lower.depth - 1, LEAST_SLOTS)
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        assert_eq!(self.entries(0).count(), self.len());
        assert!(self.len() <= limit(self.homes as usize) && self.homes as usize == homes_of(self.size()));
        assert!(self.entries(0).is_sorted_by_key(Slot::hash), "slots are in ascending order");
        for position in 0..self.size() {
            let Some(slot) = self.at(position) else { continue };
            let home = self.home(slot.hash());
            assert!(home <= position && home < self.homes as usize);
            assert!((home..position).all(|between| self.at(between).is_some()), "no gap behind a home");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(hash: u32, handle: u64) -> Slot {
        Slot::new(hash, Handle(handle))
    }

    fn scattered(count: u64) -> impl Iterator<Item = Slot> {
        (1..=count).map(|n| slot((n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 34) as u32, n))
    }

    #[test]
    fn sizes_are_what_the_allocator_likes_and_grow_by_a_quarter_at_most() {
        let mut total = LEAST_SLOTS;
        while total < FULL_SLOTS {
            assert!(homes_of(total) < total && next_size(total) * 4 <= total * 5);
            total = next_size(total);
        }
        assert_eq!(total, FULL_SLOTS);
    }

    #[test]
    fn what_is_inserted_is_found_until_it_is_removed() {
        let mut bucket = Bucket::new(0);
        for slot in scattered(800) {
            if !bucket.insert(slot) {
                bucket = bucket.grown();
                assert!(bucket.insert(slot));
            }
        }
        bucket.check();
        assert_eq!(bucket.size(), FULL_SLOTS);
        for slot in scattered(800) {
            let (position, _) = bucket.find(slot.hash(), |handle| handle == slot.handle()).unwrap();
            assert_eq!(bucket.at(position), Some(slot));
            bucket.remove(position);
            bucket.check();
            assert_eq!(bucket.find(slot.hash(), |handle| handle == slot.handle()), None);
        }
    }

    #[test]
    fn splitting_and_merging_keep_every_entry() {
        let mut entries: Vec<Slot> = scattered(200).collect();
        entries.sort_by_key(|slot| slot.0);
        let bucket = Bucket::with(entries.iter().copied(), 200, 0, LEAST_SLOTS);
        let (lower, upper) = bucket.split();
        lower.check();
        upper.check();
        assert!(lower.entries(0).chain(upper.entries(0)).eq(entries.iter().copied()));
        let merged = Bucket::merged(&lower, &upper);
        merged.check();
        assert!(merged.entries(0).eq(entries));
    }

    #[test]
    fn equal_hashes_beyond_any_margin_still_fit() {
        let (last, mut bucket) = ((1 << HASH_BITS) - 1, Bucket::new(29));
        for n in 1..=3000 {
            while !bucket.insert(slot(last, n)) {
                bucket = bucket.grown();
            }
        }
        bucket.check();
        assert!(bucket.find(last, |handle| handle.0 == 3000).is_some());
        assert!(bucket.size() <= 8192);
    }
}
