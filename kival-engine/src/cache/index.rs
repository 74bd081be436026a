//! Where in the rings the value of a record is: a table of sets, each one line of the processor's cache.
//!
//! A slot holds 16 bits of the sequence's hash and a spot. Positions in a ring only grow, so a slot whose
//! position lies behind the ring's tail is free by itself: nothing has to be removed when the ring moves on.
//! Until it is used again it tells that the value was here lately. A set that is full loses a value early, which
//! a cache may.
//!
//! Writes note one sequence after the other. So neighbours lie in neighbouring sets, whose lines the processor loads
//! ahead, and only runs of them are scattered; each run in an order of its own, since every second sequence, say, may
//! be one that nobody will ask for.

/// Slots of a set.
const WAYS: usize = 8;
/// Sequences of a run, at most: two to the power of this.
const RUN_BITS: u32 = 5;
const SPOT_BITS: u32 = 48;
const SPOT_MASK: u64 = (1 << SPOT_BITS) - 1;
/// Positions are multiples of this many bytes.
const UNIT: u64 = 8;

/// A place in one of the rings. The order is that in which values may be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spot {
    /// Whether it is in the main ring.
    pub(super) main: bool,
    pub(super) position: u64,
}

impl Spot {
    /// The first position that cannot be held, after half a petabyte.
    pub(super) const END: u64 = ((SPOT_MASK >> 1) - 1) * UNIT;

    /// Never zero, which is an empty slot.
    fn pack(self, tag: u64) -> u64 {
        tag << SPOT_BITS | (self.position / UNIT + 1) << 1 | u64::from(self.main)
    }

    fn unpack(slot: u64) -> Spot {
        Spot { main: slot & 1 == 1, position: (((slot & SPOT_MASK) >> 1) - 1) * UNIT }
    }
}

/// One line of the processor's cache.
#[derive(Debug, Clone, Default)]
#[repr(align(64))]
struct Set([u64; WAYS]);

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Index {
    sets: Vec<Set>,
    run_bits: u32,
}

impl Index {
    /// An index of at most `bytes` bytes, one set at least.
    pub(super) fn new(bytes: u64) -> Index {
        let sets = (bytes / size_of::<Set>() as u64).max(1);
        Index { sets: vec![Set::default(); sets as usize], run_bits: sets.ilog2().min(RUN_BITS) }
    }

    /// Bytes held.
    pub(super) fn memory(&self) -> u64 {
        (self.sets.len() * size_of::<Set>()) as u64
    }

    #[inline]
    fn locate(&self, sequence: u64) -> (usize, u64) {
        // Numbers follow each other: multiplied by the golden ratio they scatter.
        let scattered = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hash = scattered(sequence >> self.run_bits);
        let first = (u128::from(hash) * self.sets.len() as u128) >> u64::BITS;
        let within = (sequence ^ hash >> 20) & ((1 << self.run_bits) - 1);
        let set = first as usize + within as usize;
        let over = if set >= self.sets.len() { self.sets.len() } else { 0 };
        (set - over, scattered(sequence) & 0xffff)
    }

    /// Loads the line of a sequence; what it gives means nothing.
    #[inline]
    pub(super) fn touch(&self, sequence: u64) -> u64 {
        self.sets[self.locate(sequence).0].0[0]
    }

    /// Spots at which the value of a record may be, or may have been.
    #[inline]
    pub(super) fn candidates(&self, sequence: u64) -> impl Iterator<Item = Spot> {
        let (set, tag) = self.locate(sequence);
        let matching = self.sets[set].0.iter().filter(move |slot| *slot >> SPOT_BITS == tag && **slot != 0);
        matching.map(|slot| Spot::unpack(*slot))
    }

    /// Notes where a value is, in place of one that is not live, or of the first to lose.
    pub(super) fn insert(&mut self, sequence: u64, spot: Spot, is_live: impl Fn(Spot) -> bool) {
        let (set, tag) = self.locate(sequence);
        let worth = |slot: &u64| match *slot {
            0 => None,
            slot => Some(Spot::unpack(slot)).map(|spot| (is_live(spot), spot)),
        };
        let least = self.sets[set].0.iter_mut().min_by_key(|slot| worth(slot));
        *least.expect("a set has slots") = spot.pack(tag);
    }

    /// Forgets the value at a spot.
    pub(super) fn remove(&mut self, sequence: u64, spot: Spot) {
        let (set, tag) = self.locate(sequence);
        let slot = spot.pack(tag);
        self.sets[set].0.iter_mut().filter(|other| **other == slot).for_each(|other| *other = 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spot(position: u64) -> Spot {
        Spot { main: position.is_multiple_of(16), position }
    }

    fn found(index: &Index, sequence: u64) -> bool {
        index.candidates(sequence).any(|found| found == spot(sequence * 8))
    }

    #[test]
    fn a_spot_is_found_until_it_is_removed() {
        let mut index = Index::new(1 << 16);
        for sequence in 1..=500 {
            index.insert(sequence, spot(sequence * 8), |_| true);
        }
        assert!((1..=500).all(|sequence| found(&index, sequence)));
        index.remove(300, spot(2400));
        assert!(!found(&index, 300) && found(&index, 301));
    }

    #[test]
    fn a_full_set_loses_what_is_not_live_and_then_what_is_not_in_the_main_ring() {
        let mut index = Index::new(0);
        for sequence in 1..=8 {
            index.insert(sequence, spot(sequence * 8), |_| true);
        }
        index.insert(9, spot(72), |spot| spot.position != 64);
        index.insert(10, spot(80), |_| true);
        assert!(!found(&index, 8) && !found(&index, 1));
        assert!([2, 3, 4, 5, 6, 7, 9, 10].into_iter().all(|sequence| found(&index, sequence)));
    }

    #[test]
    fn the_first_and_the_last_spot_are_told_from_an_empty_slot() {
        let mut index = Index::new(0);
        assert_eq!(index.candidates(0).count(), 0);
        let last = Spot { main: true, position: Spot::END - UNIT };
        index.insert(0, spot(0), |_| true);
        index.insert(1, last, |_| true);
        assert!(found(&index, 0) && index.candidates(1).any(|spot| spot == last));
    }
}
