//! What a repair keeps, what it lists as lost, and what never comes back.

use crate::common::{
    EIO, Fault, Faults, Store, copy, flip, groups, manifest, path, put_part, read, segment_path, write,
};
use crate::shared::{
    Contents, NEW, Standing, checked, closed, contents, drop_hints, ids, killed, opened, repaired, standing,
};
use kival_engine::Engine;
use kival_engine::format::record::{Kind, PAGE};
use kival_engine::format::segment::hint_name;
use kival_engine::fs::{FileSystem, MemoryFs};
use kival_engine::offline::{Flaw, Repaired, Target, ToolError, check, restore};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

#[test]
fn repair_of_any_byte_keeps_what_is_sound_and_lists_by_name_what_is_lost() {
    let (store, fs, before) = closed();
    let mut lost_something = 0;
    for id in ids(&fs) {
        for offset in 0..read(&fs, &segment_path(id)).len() as u64 {
            let damaged = copy(&fs);
            flip(&damaged, &segment_path(id), offset);
            let found = repaired(&damaged).expect("there is damage");
            assert!(!found.rebuilt && found.gaps.is_empty(), "byte {offset}: {:?}", found.gaps);
            assert!(found.lost.len() <= 1, "byte {offset}: one byte, one record");
            lost_something += found.lost.len();
            let after = opened(&store, &damaged, NEW);
            let mut expected = before.clone();
            if found.lost_map.is_none() {
                expected.retain(|(_, key), _| found.lost.iter().all(|lost| lost.key != *key));
                assert_eq!(after, expected, "segment {id} byte {offset}: {:?}", found.lost);
            } else {
                assert!(found.report.contains("ARE UNDONE"));
            }
            assert!(found.report.contains(&segment_path(id).display().to_string()));
            assert_eq!(check(Arc::new(damaged.clone()), Path::new(NEW), &mut ()).unwrap().places, []);
            assert!(!damaged.list(&Path::new(NEW).join("damaged")).unwrap().is_empty());
        }
    }
    assert!(lost_something > 50);
}

#[test]
fn repair_without_a_hint_says_that_keys_may_have_older_values() {
    let (store, fs, before) = closed();
    drop_hints(&fs);
    let mut gaps = 0;
    for id in ids(&fs) {
        for offset in 0..read(&fs, &segment_path(id)).len() as u64 {
            let damaged = copy(&fs);
            flip(&damaged, &segment_path(id), offset);
            let found = repaired(&damaged).expect("there is damage");
            let after = opened(&store, &damaged, NEW);
            if after != before {
                assert_eq!(found.gaps.len(), 1, "segment {id} byte {offset}");
                assert!(found.report.contains("ANY KEY MAY HAVE AN OLDER VALUE"));
                let (first, last) = found.gaps[0].sequences.expect("the log tells");
                let group =
                    groups(&fs, id).into_iter().rfind(|(group, _)| group.at.offset <= offset).unwrap();
                let inside = group.1.iter().all(|record| (first..=last).contains(&record.2));
                assert!(inside, "segment {id} byte {offset}: {first} to {last}");
            }
            gaps += found.gaps.len();
        }
    }
    assert!(gaps > 50);
}

#[test]
fn a_lost_value_does_not_let_an_older_one_of_another_segment_come_back() {
    let (store, fs, before) = closed();
    let (id, at) = (ids(&fs)[1], groups(&fs, ids(&fs)[1])[0].0.at.offset);
    // The value of `twice` in the second segment: the first one still has the older.
    flip(&fs, &segment_path(id), at + 88 + 36 + 5 + 3);
    let found = repaired(&fs).expect("there is damage");
    assert_eq!(found.lost.iter().map(|lost| &lost.key[..]).collect::<Vec<_>>(), [b"twice"]);
    let after = opened(&store, &fs, NEW);
    assert_eq!(after.len(), before.len() - 1);
    assert!(!after.contains_key(&(0, b"twice".to_vec())));
    let made = Path::new(NEW);
    let names = fs.list(made).unwrap();
    assert!(names.iter().all(|name| !name.ends_with(".tmp")), "{names:?}");
}

#[test]
fn of_a_missing_segment_the_hint_still_tells_what_is_lost() {
    let (store, fs, before) = closed();
    fs.remove(&segment_path(ids(&fs)[1])).unwrap();
    let found = repaired(&fs).expect("there is damage");
    let lost: BTreeSet<&[u8]> = found.lost.iter().map(|lost| &lost.key[..]).collect();
    // The value of `deleted` was lost, too, but so was its tombstone, which the hint holds in full.
    assert_eq!(lost, BTreeSet::from([&b"twice"[..], b"k\x01", b"expires", b"flushed"]));
    let after = opened(&store, &fs, NEW);
    assert!(found.gaps.is_empty() && found.lost_map.is_some());
    let kept = |(_, key): &(u32, Vec<u8>)| !lost.contains(&key[..]);
    assert!(after.keys().all(kept), "{after:?}");
    assert!(before.keys().filter(|key| kept(key)).all(|key| after.contains_key(key)));
}

#[test]
fn a_manifest_from_earlier_in_the_same_run_is_named_and_made_up_anew() {
    let (store, fs) = Store::in_memory();
    let (mut engine, _) = store.open();
    let mut earlier = Vec::new();
    for turn in 0..18u8 {
        if turn == 3 {
            earlier = read(&fs, &path("MANIFEST"));
        }
        engine.put(0, &[turn], &[turn; 1500], 0).unwrap();
        engine.commit().unwrap();
        engine.sync().unwrap();
        store.drive(&mut engine, |_| manifest(&fs).segments.len() > usize::from(turn) / 3);
    }
    let before = contents(&mut engine);
    engine.close().unwrap();
    write(&fs, &path("MANIFEST"), &earlier);
    assert!(Engine::open(store.options.clone()).is_err());
    let found = checked(&fs);
    // Whether it had set aside the later ids already depends on the keeper.
    let later = |flaw: &Flaw| matches!(flaw, Flaw::Later | Flaw::AboveIds);
    assert!(found.places.iter().any(|place| later(&place.flaw)), "{:?}", found.places);
    assert!(repaired(&fs).unwrap().rebuilt);
    assert_eq!(opened(&store, &fs, NEW), before);
}

#[test]
fn repair_makes_up_a_manifest_that_is_missing_or_older() {
    let (store, fs, before) = closed();
    let missing = copy(&fs);
    missing.remove(&path("MANIFEST")).unwrap();
    assert!(repaired(&missing).unwrap().rebuilt);
    assert_eq!(opened(&store, &missing, NEW), before);
    let older = copy(&fs);
    let mut changed = manifest(&fs);
    (changed.next_segment, changed.segments) = (changed.segments[1].id, vec![changed.segments[0]]);
    changed.sequence_limit = 3;
    write(&older, &path("MANIFEST"), &changed.encode());
    assert!(repaired(&older).unwrap().rebuilt);
    assert_eq!(opened(&store, &older, NEW), before);
}

#[test]
fn repair_of_a_killed_store_keeps_all_sound_groups() {
    let (store, fs, id) = killed();
    let starts: Vec<u64> = groups(&fs, id).iter().map(|(group, _)| group.at.offset).collect();
    assert!(repaired(&fs).is_none(), "a sound store needs none");
    flip(&fs, &segment_path(id), starts[1]);
    let found = repaired(&fs).expect("there is damage");
    // Only the header of the group is broken, its records stand in line behind the group before.
    assert_eq!((found.lost.len(), found.gaps.len()), (0, 0));
    let after = opened(&store, &fs, NEW);
    assert_eq!(after.len(), 4);
    assert_eq!(after[&(0, b"again".to_vec())].0, [2; 20]);
}

#[test]
fn damage_at_the_end_of_an_open_segment_does_not_cost_the_next_one() {
    let (store, fs) = Store::in_memory();
    let faults = Faults::on(&fs);
    let store = store.on(Arc::new(faults.clone()));
    let (mut engine, _) = store.open();
    // Without its hint the first segment stays open.
    faults.hook().fail(Fault::Create(".hint.tmp"), EIO);
    for turn in 0..3u8 {
        engine.put(0, &[turn], &[turn; 1500], 0).unwrap();
        engine.commit().unwrap();
        store.drive(&mut engine, |_| turn < 1 || manifest(&fs).segments.len() == 2);
    }
    store.drive(&mut engine, |engine| engine.segments().len() == 2);
    engine.sync().unwrap();
    for key in [b"next", b"last"] {
        engine.put(0, key, b"", 0).unwrap();
        engine.commit().unwrap();
    }
    drop(engine);
    let first = ids(&fs)[0];
    let last = groups(&fs, first).last().unwrap().0.at.offset;
    flip(&fs, &segment_path(first), last + 200);
    let places = checked(&fs).places;
    assert_eq!(
        places.iter().map(|place| (&place.file, place.offset)).collect::<Vec<_>>(),
        [(&segment_path(first), last)]
    );
    assert_eq!(repaired(&fs).unwrap().gaps[0].sequences, Some((3, 3)));
    let after = opened(&store, &fs, NEW);
    assert_eq!(
        after.keys().map(|(_, key)| &key[..]).collect::<Vec<_>>(),
        [b"\0", &b"\x01"[..], b"last", b"next"]
    );
}

#[test]
fn leftover_inputs_of_an_ended_merge_do_not_come_back_without_a_manifest() {
    let (store, fs) = Store::in_memory();
    for delete in [false, true] {
        let (mut engine, _) = store.open();
        if delete {
            engine.delete(0, b"gone").unwrap();
        } else {
            engine.put(0, b"gone", b"old", 0).unwrap();
            engine.put(0, b"stays", b"", 0).unwrap();
        }
        engine.commit().unwrap();
        engine.close().unwrap();
    }
    let first = ids(&fs)[0];
    let bytes = read(&fs, &segment_path(first));
    let (mut engine, _) = store.open();
    store.compact(&mut engine);
    engine.close().unwrap();
    // As if the merge had been cut off after it removed the tombstone's segment.
    write(&fs, &segment_path(first), &bytes);
    fs.remove(&path("MANIFEST")).unwrap();
    repaired(&fs).unwrap();
    let after = opened(&store, &fs, NEW);
    assert_eq!(after.keys().map(|(_, key)| &key[..]).collect::<Vec<_>>(), [b"stays"]);
}

#[test]
fn a_repair_that_lost_only_the_past_lets_nobody_restore_it() {
    let (store, fs) = Store::in_memory();
    let (mut engine, _) = store.open();
    let mut put = |key: &[u8], value: &[u8]| {
        engine.put(0, key, value, 0).unwrap();
        engine.commit().unwrap()
    };
    put(b"k", b"oldest");
    put(b"k", b"in between");
    let then = put(b"other", b"1");
    put(b"k", b"newest");
    engine.close().unwrap();
    let id = manifest(&fs).segments[0].id;
    let bytes = read(&fs, &segment_path(id));
    let at = bytes.windows(10).position(|window| window == b"in between").unwrap();
    flip(&fs, &segment_path(id), at as u64);
    let made = repaired(&fs).expect("there is damage");
    assert!(made.lost.is_empty() && made.lost_history.is_some());
    assert!(made.report.contains("Nothing current is lost"), "{}", made.report);
    assert_eq!(opened(&store, &fs, NEW).get(&(0, b"k".to_vec())).unwrap().0, b"newest");
    let target = Target::Sequence(then);
    let back = restore(Arc::new(fs.clone()), Path::new(NEW), Path::new("/back"), target, &mut ());
    assert!(matches!(back, Err(ToolError::BelowFloor { .. })), "{back:?}");
}

const KEY: &[u8] = b"paged";

/// What is done to [`KEY`], each in a segment of its own.
#[derive(Clone, Copy)]
enum Change {
    Whole,
    Page(usize),
}
use Change::{Page, Whole};

/// A closed store of a small key and these changes; gives all records of the paged one, too.
fn paged(changes: &[Change]) -> (Store, MemoryFs, Contents, Vec<Standing>) {
    let (store, fs) = Store::in_memory();
    let (mut engine, _) = store.open();
    engine.put(0, b"beside", b"it", 0).unwrap();
    for (number, change) in (0u8..).zip(changes) {
        match change {
            Whole => drop(engine.put(0, KEY, &[number; 8 * PAGE], 0).unwrap()),
            Page(page) => assert!(put_part(&mut engine, 0, KEY, page * PAGE + 7, &[number; 99]).unwrap()),
        }
        engine.close().unwrap();
        engine = store.open().0;
    }
    let before = contents(&mut engine);
    engine.close().unwrap();
    let records: Vec<Standing> = standing(&fs).into_iter().filter(|found| found.key == KEY).collect();
    assert_eq!(records.len(), changes.len());
    (store, fs, before, records)
}

/// Damages a record in the last of its bytes.
fn rot(fs: &MemoryFs, record: &Standing) {
    flip(fs, &segment_path(record.segment), record.offset + record.header.record_size() - 1);
}

/// Repairs a store of these changes after some of them rotted; gives what is said, and what is there.
fn repaired_after(changes: &[Change], rotten: &[usize]) -> (Repaired, Contents, Contents, Vec<Standing>) {
    let (store, fs, before, records) = paged(changes);
    rotten.iter().for_each(|&at| rot(&fs, &records[at]));
    let found = repaired(&fs).expect("there is damage");
    let after = opened(&store, &fs, NEW);
    (found, before, after, records)
}

#[track_caller]
fn costs_nothing(changes: &[Change], rotten: &[usize]) {
    let (found, before, after, records) = repaired_after(changes, rotten);
    assert_eq!((found.lost, found.gaps), (vec![], vec![]));
    assert!(after == before, "the value is as it was");
    let highest = rotten.iter().map(|&at| records[at].header.sequence).max();
    assert_eq!(found.lost_history, highest, "an earlier state would lack it");
}

/// Of what is lost `counts` is the newest that nothing has superseded.
#[track_caller]
fn costs_the_key(changes: &[Change], rotten: &[usize], counts: usize) {
    let (found, mut before, after, records) = repaired_after(changes, rotten);
    let lost: Vec<_> = found.lost.iter().map(|lost| (&lost.key[..], lost.sequence)).collect();
    assert_eq!(lost, [(KEY, records[counts].header.sequence)]);
    assert!(found.report.contains("paged"), "{}", found.report);
    before.remove(&(0, KEY.to_vec()));
    assert_eq!(after, before);
    assert_eq!(found.records, 1, "no page stays without the value that it lay over");
}

#[test]
fn a_lost_page_that_a_later_one_has_superseded_costs_nothing() {
    costs_nothing(&[Whole, Page(3), Page(3)], &[1]);
    costs_nothing(&[Whole, Page(3), Page(5), Page(3), Page(3)], &[1, 3]);
}

#[test]
fn a_lost_page_that_a_later_value_has_superseded_costs_nothing() {
    costs_nothing(&[Whole, Page(3), Whole], &[1]);
    costs_nothing(&[Whole, Page(3), Whole, Page(5)], &[0, 1]);
}

#[test]
fn a_lost_page_that_counts_costs_the_key() {
    costs_the_key(&[Whole, Page(3), Page(3)], &[2], 2);
    costs_the_key(&[Whole, Page(3), Page(3), Page(5)], &[1, 2], 2);
    costs_the_key(&[Whole, Page(3), Whole, Page(3)], &[3], 3);
}

#[test]
fn of_two_lost_pages_the_one_that_counts_costs_the_key() {
    costs_the_key(&[Whole, Page(3), Page(5), Page(3)], &[1, 2], 2);
    costs_the_key(&[Whole, Page(5), Page(3), Page(3)], &[1, 2], 1);
}

#[test]
fn a_lost_value_costs_the_key_whatever_pages_lie_over_it() {
    costs_the_key(&[Whole, Page(3), Page(5)], &[0], 0);
    costs_the_key(&[Whole, Page(3), Whole, Page(3)], &[2], 2);
    costs_the_key(&[Whole, Page(3), Whole, Page(3)], &[1, 2], 2);
}

#[test]
fn a_page_over_a_value_that_no_hint_tells_of_does_not_stand_for_an_older_one() {
    let (store, fs, mut before, records) = paged(&[Whole, Page(3), Whole, Page(3)]);
    rot(&fs, &records[1]);
    rot(&fs, &records[2]);
    fs.remove(&path(&hint_name(records[2].segment))).unwrap();
    let found = repaired(&fs).expect("there is damage");
    assert_eq!(found.lost.iter().map(|lost| &lost.key[..]).collect::<Vec<_>>(), [KEY]);
    assert_eq!(found.gaps.len(), 1);
    before.remove(&(0, KEY.to_vec()));
    assert_eq!(opened(&store, &fs, NEW), before);
}

#[derive(Debug, Clone)]
enum Op {
    Put(u8, usize),
    Part(u8, usize),
    Delete(u8),
    SetExpiry(u8, u64),
    Compact,
    Close,
}

fn op() -> impl Strategy<Value = Op> {
    let key = || 0..4u8;
    prop_oneof![
        3 => (key(), prop_oneof![0..100usize, 8_000..40_000usize]).prop_map(|(key, size)| Op::Put(key, size)),
        12 => (key(), 0..30_000usize).prop_map(|(key, offset)| Op::Part(key, offset)),
        1 => key().prop_map(Op::Delete),
        1 => (key(), prop_oneof![Just(0u64), Just(9_000_000)]).prop_map(|(key, at)| Op::SetExpiry(key, at)),
        1 => Just(Op::Compact),
        2 => Just(Op::Close),
    ]
}

/// A closed store after these operations, and what it holds.
fn after(ops: &[Op]) -> (Store, MemoryFs, Contents) {
    let (store, fs) = Store::in_memory();
    let (mut engine, _) = store.open();
    for (number, op) in ops.iter().enumerate() {
        match *op {
            Op::Put(key, size) => drop(engine.put(0, &[key], &vec![number as u8; size], 0).unwrap()),
            Op::Part(key, offset) => {
                put_part(&mut engine, 0, &[key], offset, &[number as u8; 50]).unwrap();
            }
            Op::Delete(key) => drop(engine.delete(0, &[key]).unwrap()),
            Op::SetExpiry(key, expiry) => drop(engine.set_expiry(0, &[key], expiry).unwrap()),
            Op::Compact => {
                engine.commit().unwrap();
                store.compact(&mut engine);
            }
            Op::Close => {
                engine.close().unwrap();
                engine = store.open().0;
            }
        }
        if number % 3 == 0 {
            engine.commit().unwrap();
        }
    }
    engine.commit().unwrap();
    let contents = contents(&mut engine);
    engine.close().unwrap();
    (store, fs, contents)
}

/// The sequences of the records in which values stand now: of each key the newest value, and the newest of each
/// page over it.
fn current(records: &[Standing]) -> BTreeSet<u64> {
    let (mut newest, mut pages) = (BTreeMap::new(), BTreeMap::new());
    for Standing { header, key, over, .. } in records {
        match header.kind {
            Kind::Value => drop(newest.insert(key, header.sequence)),
            Kind::Tombstone => drop(newest.remove(key)),
            Kind::Page => drop(pages.insert((key, header.page()), (header.sequence, *over))),
            _ => {}
        }
    }
    let over_newest = pages.iter().filter(|((key, _), (_, over))| newest.get(key) == Some(over));
    newest.values().copied().chain(over_newest.map(|(_, (sequence, _))| *sequence)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn a_key_is_lost_if_and_only_if_a_record_is_in_which_its_value_stands(
        ops in proptest::collection::vec(op(), 1..60),
        rotten in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..5),
    ) {
        let (store, fs, before) = after(&ops);
        let records = standing(&fs);
        if records.is_empty() {
            return Ok(());
        }
        let (current, mut hit) = (current(&records), BTreeSet::new());
        let mut lost = BTreeSet::new();
        for (record, byte) in &rotten {
            let Standing { segment, offset, header, key, .. } = record.get(&records);
            if hit.insert((segment, offset)) {
                let byte = byte.index(header.record_size() as usize) as u64;
                flip(&fs, &segment_path(*segment), offset + byte);
                if current.contains(&header.sequence) {
                    lost.insert(key.clone());
                }
            }
        }
        let found = repaired(&fs).expect("there is damage");
        let named: BTreeSet<Vec<u8>> = found.lost.iter().map(|lost| lost.key.clone()).collect();
        prop_assert_eq!(&named, &lost);
        prop_assert!(found.gaps.is_empty());
        let mut expected = before;
        expected.retain(|(_, key), _| !lost.contains(key));
        prop_assert!(opened(&store, &fs, NEW) == expected, "what is not lost is as it was");
    }
}
