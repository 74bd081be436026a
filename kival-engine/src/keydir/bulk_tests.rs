//! Tests of filling in bulk: against a model, against single inserts, and with hashes that a good hash
//! never gives.

use super::super::arena::Handle;
use super::super::bucket::{HASH_BITS, Slot};
use super::super::rebuild;
use super::super::table::Table;
use super::super::tests::{any_entry, any_key, entry, filled, key_of};
use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

#[derive(Clone, Debug)]
enum Step {
    Add(Vec<u8>, Entry),
    Settle,
    /// As a load does it between two merges.
    Remove(Vec<u8>),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        40 => (any_key(), any_entry()).prop_map(|(key, entry)| Step::Add(key, entry)),
        2 => Just(Step::Settle),
        4 => any_key().prop_map(Step::Remove),
    ]
}

/// What is to be in a keydir, and what was added but had to go.
#[derive(Default)]
struct Model {
    kept: HashMap<Vec<u8>, Entry>,
    gone: Vec<(Vec<u8>, u64)>,
}

impl Model {
    fn add(&mut self, key: Vec<u8>, entry: Entry) {
        match self.kept.get_mut(&key) {
            Some(kept) if kept.sequence >= entry.sequence => self.gone.push((key, entry.sequence)),
            Some(kept) => self.gone.push((key, std::mem::replace(kept, entry).sequence)),
            None => drop(self.kept.insert(key, entry)),
        }
    }

    fn check(&mut self, keydir: &Keydir, mut gone: Vec<(Vec<u8>, u64)>) {
        keydir.check();
        assert_eq!(keydir.len(), self.kept.len());
        for (key, entry) in &self.kept {
            assert_eq!(keydir.get(key), Some(*entry));
        }
        gone.sort();
        self.gone.sort();
        assert_eq!(gone, self.gone, "each entry that does not stay is shown once");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn of_each_key_the_highest_sequence_stays(
        seed: u64,
        steps in prop::collection::vec(any_step(), 1..400),
    ) {
        let (mut bulk, mut model) = (Bulk::new(Keydir::new(seed)), Model::default());
        let mut gone = Vec::new();
        for step in steps.into_iter().chain([Step::Settle]) {
            match step {
                Step::Add(key, entry) => {
                    assert!(bulk.add(&key, &entry) > key.len());
                    model.add(key, entry);
                }
                Step::Settle => {
                    let keydir = bulk.settle(|key, entry| gone.push((key.to_vec(), entry.sequence)));
                    model.check(keydir, gone.clone());
                }
                Step::Remove(key) => {
                    let keydir = bulk.settle(|key, entry| gone.push((key.to_vec(), entry.sequence)));
                    assert_eq!(keydir.remove(&key), model.kept.remove(&key));
                }
            }
        }
        model.check(&bulk.finish(), gone);
    }
}

/// Fills by rounds of `round` keys; each key comes `times`, with rising sequences.
fn filled_in_bulk(count: u64, times: u64, round: u64) -> Keydir {
    let mut bulk = Bulk::new(Keydir::new(7));
    let mut gone = 0;
    for n in 0..count * times {
        bulk.add(&key_of(n % count), &entry(n));
        if n % round == 0 {
            bulk.settle(|_, _| gone += 1);
        }
    }
    bulk.settle(|_, _| gone += 1);
    assert_eq!(gone, count * (times - 1));
    bulk.finish()
}

#[test]
fn what_comes_in_bulk_is_what_single_inserts_make_of_it() {
    let single = filled(150_000);
    let keydir = filled_in_bulk(150_000, 1, 70_000);
    keydir.check();
    assert_eq!(keydir.len(), single.len());
    assert!(single.iter().all(|(key, entry)| keydir.get(key) == Some(entry)));
    let (mut cursor, mut seen) = (0, 0);
    loop {
        cursor = keydir.scan(cursor, &mut |_, _| seen += 1, 1_000);
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(seen, 150_000, "a scan visits each entry once");
}

#[test]
fn it_takes_no_more_memory_than_single_inserts() {
    for count in [0, 1, 100, 3_000, 50_000, 300_000, 700_000] {
        let single = filled(count).memory();
        let bulk = filled_in_bulk(count.max(1), 1, count + 2).memory();
        assert!(bulk <= single + single / 100 + 4_096, "{count} keys: {bulk}, {single} one by one");
    }
}

#[test]
fn what_had_to_go_gives_its_memory_back() {
    // Ten entries of each key, and which one stays is a matter of chance, so that no page gets empty.
    let mut bulk = Bulk::new(Keydir::new(7));
    for n in 0..300_000 {
        bulk.add(&key_of(n % 30_000), &entry(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24));
    }
    let full = bulk.memory();
    let mut gone = 0;
    bulk.settle(|_, _| gone += 1).check();
    assert_eq!(gone, 270_000);
    let memory = bulk.finish().memory();
    assert!(memory * 3 < full, "{memory} of {full}");
}

#[test]
fn a_keydir_that_was_filled_in_bulk_grows_and_shrinks_like_any_other() {
    let mut keydir = filled_in_bulk(100_000, 2, 150_000);
    for n in 100_000..150_000 {
        keydir.insert(&key_of(n), entry(n));
    }
    keydir.check();
    assert!(keydir.moved_max() <= 2_048);
    for n in 1_000..150_000 {
        assert!(keydir.remove(&key_of(n)).is_some());
    }
    keydir.check();
    assert_eq!(keydir.len(), 1_000);
}

/// Merges one entry a hash, in two rounds, and looks for each.
fn check(hashes: &[u32]) {
    let mut table = Table::default();
    let hash = |handle: Handle| hashes[handle.0 as usize - 1];
    let slot = |n: usize| Slot::new(hashes[n], Handle(n as u64 + 1));
    let middle = hashes.len() / 3;
    for part in [0..middle, middle..hashes.len()] {
        let gone = rebuild::merge(&mut table, &mut part.map(slot).collect(), &|_, _| None);
        assert!(gone.is_empty());
        table.check(hash);
    }
    for (n, hash) in hashes.iter().enumerate() {
        assert!(table.find(*hash, |handle| handle == Handle(n as u64 + 1)).is_some());
    }
    assert!(table.memory() < 4_096 + hashes.len() * 64, "{} for {}", table.memory(), hashes.len());
}

#[test]
fn any_distribution_of_hashes_is_laid_out() {
    const TOP: u32 = (1 << HASH_BITS) - 1;
    check(&[]);
    check(&[0]);
    check(&[TOP]);
    check(&(0..100_000).map(|n: u32| n.wrapping_mul(0x9e37_79b1) >> 2).collect::<Vec<_>>());
    check(&(0..5_000).collect::<Vec<_>>());
    check(&(0..50_000).map(|n| TOP - n).collect::<Vec<_>>());
    check(&[0; 3_000]);
    check(&[TOP; 3_000]);
    check(&(0..3_000).map(|n| if n % 2 == 0 { 0 } else { TOP }).collect::<Vec<_>>());
}

#[test]
#[should_panic(expected = "what was added is settled")]
fn nothing_is_forgotten() {
    let mut bulk = Bulk::new(Keydir::new(1));
    bulk.add(b"key", &entry(1));
    let _ = bulk.finish();
}
