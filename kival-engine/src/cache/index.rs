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

/// Where a spot is noted; valid until something else is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Note {
    set: usize,
    way: usize,
}

/// What lies below these positions is not live.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tails {
    pub(super) probation: u64,
    pub(super) main: u64,
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

    /// Spots at which the value of a record may be, or may have been, and where that is noted.
    #[inline]
    pub(super) fn candidates(&self, sequence: u64) -> impl Iterator<Item = (Spot, Note)> {
        let (set, tag) = self.locate(sequence);
        let slots = self.sets[set].0.iter().enumerate();
        let matching = slots.filter(move |(_, slot)| **slot >> SPOT_BITS == tag && **slot != 0);
        matching.map(move |(way, slot)| (Spot::unpack(*slot), Note { set, way }))
    }

    /// Notes where a value is, in place of one that is not live, or of the first to lose. Live are those from the
    /// tails of the rings on.
    pub(super) fn insert(&mut self, sequence: u64, spot: Spot, tails: Tails) {
        let (set, tag) = self.locate(sequence);
        // As a spot is packed: the position is one more.
        let first_live = [tails.probation / UNIT + 1, tails.main / UNIT + 1];
        let worth = |slot: u64| {
            let (main, position) = (slot & 1, (slot & SPOT_MASK) >> 1);
            let live = u64::from(position >= first_live[main as usize]);
            live << 63 | main << 62 | position
        };
        let slots = &mut self.sets[set].0;
        let (mut way, mut least) = (0, u64::MAX);
        for (other, slot) in slots.iter().enumerate() {
            let worth = worth(*slot);
            (way, least) = if worth < least { (other, worth) } else { (way, least) };
        }
        slots[way] = spot.pack(tag);
    }

    /// Forgets what was noted there.
    pub(super) fn clear(&mut self, note: Note) {
        self.sets[note.set].0[note.way] = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spot(position: u64) -> Spot {
        Spot { main: position.is_multiple_of(16), position }
    }

    fn note(index: &Index, sequence: u64) -> Option<Note> {
        let mut candidates = index.candidates(sequence);
        candidates.find(|(found, _)| *found == spot(sequence * 8)).map(|(_, note)| note)
    }

    fn found(index: &Index, sequence: u64) -> bool {
        note(index, sequence).is_some()
    }

    const ALL_LIVE: Tails = Tails { probation: 0, main: 0 };

    #[test]
    fn a_spot_is_found_until_it_is_removed() {
        let mut index = Index::new(1 << 16);
        for sequence in 1..=500 {
            index.insert(sequence, spot(sequence * 8), ALL_LIVE);
        }
        assert!((1..=500).all(|sequence| found(&index, sequence)));
        index.clear(note(&index, 300).unwrap());
        assert!(!found(&index, 300) && found(&index, 301));
    }

    #[test]
    fn a_full_set_loses_what_is_not_live_and_then_what_is_not_in_the_main_ring() {
        let mut index = Index::new(0);
        for sequence in 1..=8 {
            index.insert(sequence, spot(sequence * 8), ALL_LIVE);
        }
        // In the main ring are the even ones; of these 2 is at 16.
        index.insert(9, spot(72), Tails { probation: 8, main: 24 });
        index.insert(10, spot(80), ALL_LIVE);
        assert!(!found(&index, 2) && !found(&index, 1));
        assert!([3, 4, 5, 6, 7, 8, 9, 10].into_iter().all(|sequence| found(&index, sequence)));
    }

    #[test]
    fn a_slot_that_is_empty_is_taken_before_any_other() {
        let mut index = Index::new(0);
        for sequence in 1..=8 {
            index.insert(sequence, spot(sequence * 8), ALL_LIVE);
        }
        index.clear(note(&index, 8).unwrap());
        index.insert(9, spot(72), Tails { probation: 1000, main: 1000 });
        assert!((1..=7).all(|sequence| found(&index, sequence)));
    }

    #[test]
    fn the_first_and_the_last_spot_are_told_from_an_empty_slot() {
        let mut index = Index::new(0);
        assert_eq!(index.candidates(0).count(), 0);
        let last = Spot { main: true, position: Spot::END - UNIT };
        index.insert(0, spot(0), ALL_LIVE);
        index.insert(1, last, ALL_LIVE);
        assert!(found(&index, 0) && index.candidates(1).any(|(spot, _)| spot == last));
    }
}
