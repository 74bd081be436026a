//! Merging many entries into the table at once: buckets are built anew, in the order of their hashes.
//!
//! An insert by itself finds its bucket in a place of memory that nothing has touched lately. Here the
//! entries are first parted by the top bits of their hashes, into as many *ranges* as it takes to have
//! one, with the buckets that serve it, stay in the processor's cache; then each range is sorted, and
//! its buckets are laid out one after the other. One thread does it: with several, the allocator keeps
//! what they free, a fifth of the table, and the time saved is small beside what comes before.

use super::arena::Handle;
use super::bucket::{Bucket, HASH_BITS, Slot};
use super::table::{MOST_EMPTY_DEPTH, Table};

/// Entries in a range, roughly: half a megabyte with its buckets and what sorting takes.
const RANGE_LEN: usize = 1 << 14;

/// Compares two entries: nothing if their keys differ, else whether the second is to replace the first.
pub(super) type Replaces<'a> = dyn Fn(Handle, Handle) -> Option<bool> + 'a;

/// What is known of the hashes that begin with the same bits.
#[derive(Default)]
struct Range {
    buckets: Vec<Bucket>,
    fresh: Vec<Slot>,
}

/// What became of the ranges so far.
#[derive(Default)]
struct Merged {
    /// In the order of their hashes.
    buckets: Vec<Bucket>,
    superseded: Vec<Handle>,
}

/// Adds entries to the table, in whatever order they come, some of them perhaps with a key that is there
/// already or comes twice: `replaces` says so, and which one stays. Gives those that do not; `fresh` is empty then,
/// and keeps its memory.
pub(super) fn merge(table: &mut Table, fresh: &mut Vec<Slot>, replaces: &Replaces<'_>) -> Vec<Handle> {
    let len = table.len() + fresh.len();
    let moved_max = table.moved_max();
    let buckets = table.take_buckets();
    // A range begins and ends with buckets; only hashes that were chosen make one that is shallow.
    let shallowest = buckets.iter().map(Bucket::depth).min().unwrap_or(HASH_BITS);
    let depth = (len / RANGE_LEN).max(1).ilog2().min(shallowest);
    let deepest = depth.max(Bucket::least_for(len).ilog2() + MOST_EMPTY_DEPTH).min(HASH_BITS);
    let mut merged = Merged::default();
    for range in part(buckets, fresh, depth) {
        merged.add(range, depth, deepest, replaces);
    }
    *table = Table::of_buckets(merged.buckets, moved_max);
    merged.superseded
}

/// The ranges of hashes that begin with the same `depth` bits, in order.
fn part(buckets: Vec<Bucket>, fresh: &mut Vec<Slot>, depth: u32) -> Vec<Range> {
    let below = HASH_BITS - depth;
    let mean = fresh.len() >> depth;
    let empty = || Range { buckets: Vec::new(), fresh: Vec::with_capacity(mean + mean / 16) };
    let mut ranges: Vec<Range> = std::iter::repeat_with(empty).take(1 << depth).collect();
    let mut first_hash = 0_u64;
    for bucket in buckets {
        let served = 1 << (HASH_BITS - bucket.depth());
        ranges[(first_hash >> below) as usize].buckets.push(bucket);
        first_hash += served;
    }
    for slot in fresh.drain(..) {
        ranges[(slot.hash() >> below) as usize].fresh.push(slot);
    }
    ranges
}

impl Merged {
    fn add(&mut self, range: Range, depth: u32, deepest: u32, replaces: &Replaces<'_>) {
        let Range { buckets, fresh } = range;
        let held: usize = buckets.iter().map(Bucket::len).sum();
        let mut slots = Vec::with_capacity(held + fresh.len());
        slots.extend(buckets.iter().flat_map(|bucket| bucket.entries(0)));
        slots.extend(fresh);
        drop(buckets);
        // Stable, and quick with what is in order already.
        slots.sort_by_key(|slot| slot.hash());
        self.drop_superseded(&mut slots, replaces);
        self.lay_out(&slots, depth, deepest);
    }

    /// Leaves one entry for each key.
    fn drop_superseded(&mut self, slots: &mut Vec<Slot>, replaces: &Replaces<'_>) {
        // Those kept stand in `..kept`, the ones with the hash at hand from `same` on.
        let (mut kept, mut same) = (0, 0);
        for next in 0..slots.len() {
            let slot = slots[next];
            if slots[same].hash() != slot.hash() {
                same = kept;
            }
            let twin = slots[same..kept]
                .iter_mut()
                .find_map(|other| Some((replaces(other.handle(), slot.handle())?, other)));
            match twin {
                Some((true, other)) => self.superseded.push(std::mem::replace(other, slot).handle()),
                Some((false, _)) => self.superseded.push(slot.handle()),
                None => {
                    slots[kept] = slot;
                    kept += 1;
                }
            }
        }
        slots.truncate(kept);
    }

    /// Appends the bucket of these entries, or several where they do not fit one.
    fn lay_out(&mut self, slots: &[Slot], depth: u32, deepest: u32) {
        if let Some(bucket) = Bucket::of(slots, depth, depth == deepest) {
            return self.buckets.push(bucket);
        }
        let bit = 1 << (HASH_BITS - depth - 1);
        let (lower, upper) = slots.split_at(slots.partition_point(|slot| slot.hash() & bit == 0));
        self.lay_out(lower, depth + 1, deepest);
        self.lay_out(upper, depth + 1, deepest);
    }
}
