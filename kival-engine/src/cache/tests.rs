use super::*;
use proptest::prelude::*;

const BUDGET: u64 = 1 << 20;

fn value(sequence: u64, size: usize) -> Vec<u8> {
    (0..size).map(|at| (sequence as usize * 7 + at) as u8).collect()
}

#[test]
fn what_was_inserted_last_is_there_and_the_budget_is_kept() {
    for size in [0, 10, 100, 1000, 5000, 20_000] {
        let mut cache = ValueCache::new(BUDGET);
        for sequence in 1..=40_000 {
            cache.insert(sequence, &value(sequence, size));
            assert!(cache.bytes() <= BUDGET, "{} bytes with values of {size}", cache.bytes());
            assert_eq!(cache.get(sequence), Some(value(sequence, size).into()));
        }
        let held = (1..=40_000).filter(|sequence| cache.get(*sequence).is_some()).count();
        let wanted = (BUDGET as usize * 3 / 4 / (size + 64)).min(10_000);
        assert!(held >= wanted, "{held} of {wanted} values of {size} bytes");
    }
}

#[test]
fn a_value_that_is_read_stays_and_others_leave() {
    let mut cache = ValueCache::new(BUDGET);
    for sequence in 1..=100_000 {
        cache.insert(sequence, &value(sequence, 100));
        assert!(cache.get(1).is_some(), "lost after {sequence}");
    }
    assert_eq!(cache.get(2), None);
    assert_eq!((cache.hits, cache.misses), (100_000, 1));
}

#[test]
fn a_sequence_that_was_taken_back_has_no_value_of_before() {
    let mut cache = ValueCache::new(BUDGET);
    for size in [100, 10_000] {
        cache.insert(5, &value(1, size));
        cache.remove(5);
        assert_eq!(cache.get(5), None);
        cache.insert(5, &value(2, size));
        assert_eq!(cache.get(5), Some(value(2, size).into()));
        cache.remove(5);
    }
}

#[test]
fn the_memory_of_a_large_value_is_given_back_when_it_dies() {
    let mut cache = ValueCache::new(64 << 20);
    cache.insert(1, &value(1, 1 << 20));
    let with = cache.bytes();
    cache.retire(1, 1 << 20);
    assert!(cache.bytes() <= with - (1 << 20));
    assert_eq!(cache.get(1), None);
}

#[test]
fn without_a_budget_only_pinned_values_are_there() {
    let mut cache = ValueCache::new(0);
    cache.insert(1, b"");
    cache.pin(2, Bytes::from_static(b"pinned"));
    assert_eq!((cache.get(1), cache.get(2)), (None, Some("pinned".into())));
    cache.unpin();
    assert_eq!((cache.get(2), cache.len()), (None, 0));
}

#[derive(Debug, Clone)]
enum Step {
    Insert(usize),
    Overwrite(u64, usize),
    Get(u64),
    TakeBack(u64),
    Retire(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop_oneof![0usize..300, 3000usize..9000].prop_map(Step::Insert),
        2 => (0u64..400, 0usize..20).prop_map(|(back, size)| Step::Overwrite(back, size)),
        4 => (0u64..400).prop_map(Step::Get),
        1 => (1u64..4).prop_map(Step::TakeBack),
        1 => (0u64..400).prop_map(Step::Retire),
    ]
}

proptest! {
    /// Whatever happens, a sequence has its own value or none.
    #[test]
    fn nothing_is_ever_another_value(steps in proptest::collection::vec(step(), 1..400), small in any::<bool>()) {
        let budget = if small { 100_000 } else { BUDGET };
        let mut cache = ValueCache::new(budget);
        let mut model: Vec<Vec<u8>> = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Insert(size) => {
                    model.push(value(number as u64, size));
                    cache.insert(model.len() as u64, &model[model.len() - 1]);
                }
                Step::Overwrite(back, size) => {
                    let old = (model.len() as u64).saturating_sub(back);
                    let size = if old == 0 { size } else { model[old as usize - 1].len().max(9) - 9 + size };
                    model.push(value(number as u64, size));
                    cache.replace(old, model.len() as u64, &model[model.len() - 1]);
                    prop_assert!(old == 0 || cache.get(old).is_none());
                }
                Step::Get(back) => {
                    let sequence = (model.len() as u64).saturating_sub(back);
                    if let Some(found) = cache.get(sequence) {
                        prop_assert!(found == model[sequence as usize - 1]);
                    }
                }
                Step::TakeBack(count) => {
                    for _ in 0..count.min(model.len() as u64) {
                        cache.remove(model.len() as u64);
                        model.pop();
                    }
                }
                Step::Retire(back) => {
                    let sequence = (model.len() as u64).saturating_sub(back);
                    if sequence > 0 {
                        cache.retire(sequence, model[sequence as usize - 1].len() as u32);
                    }
                }
            }
            prop_assert!(cache.bytes() <= budget);
        }
    }
}
