//! What a repair keeps, what it lists as lost, and what never comes back.

use crate::common::{
    EIO, Fault, Faults, Store, copy, flip, groups, manifest, path, read, segment_path, write,
};
use crate::shared::{NEW, checked, closed, contents, drop_hints, ids, killed, opened, repaired};
use kival_engine::Engine;
use kival_engine::fs::FileSystem;
use kival_engine::offline::{Flaw, Target, ToolError, check, restore};
use std::collections::BTreeSet;
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
