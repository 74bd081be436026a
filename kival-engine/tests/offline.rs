//! The tools for a store that no server has open: check names exactly what is damaged, repair keeps what is
//! sound and falsifies nothing, restore gives back any earlier state that compaction has left.
#![allow(clippy::unwrap_used)]

mod common;

use common::{DIR, EIO, Fault, Faults, Store, copy, flip, groups, manifest, path, read, segment_path, write};
use kival_engine::Engine;
use kival_engine::error::Damage;
use kival_engine::format::filter::Filter;
use kival_engine::format::hint::{self, BlockBuilder, HintEntry, HintHeader};
use kival_engine::format::record::Kind;
use kival_engine::format::segment::hint_name;
use kival_engine::fs::{FileSystem, MemoryFs};
use kival_engine::offline::{
    Checked, Flaw, Item, Note, Place, Repaired, Restored, Target, ToolError, check, inspect_dir, repair,
    restore,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const NEW: &str = "/new";

type Contents = BTreeMap<(u32, Vec<u8>), (Vec<u8>, u64)>;

/// Every live key of all databases, with value and expiry.
fn contents(engine: &mut Engine) -> Contents {
    let mut all = Contents::new();
    for db in 0..engine.databases() {
        let keys: Vec<(Vec<u8>, u64)> =
            engine.iter(db).map(|(key, entry)| (key.to_vec(), entry.expiry)).collect();
        for (key, expiry) in keys {
            let value = engine.get(db, &key).expect("sound").expect("live").to_vec();
            all.insert((db, key), (value, expiry));
        }
    }
    all
}

/// What a server finds in a directory.
fn opened(store: &Store, fs: &MemoryFs, dir: &str) -> Contents {
    let fs: Arc<dyn FileSystem> = Arc::new(fs.clone());
    let mut options = store.on(fs).options;
    options.dir = dir.into();
    let (mut engine, report) = Engine::open(options).expect("it opens");
    assert!(report.torn.is_empty());
    contents(&mut engine)
}

fn all_files(fs: &MemoryFs) -> BTreeMap<String, Vec<u8>> {
    let names = fs.list(Path::new(DIR)).unwrap();
    names.into_iter().map(|name| (name.clone(), read(fs, &path(&name)))).collect()
}

fn checked(fs: &MemoryFs) -> Checked {
    let before = all_files(fs);
    let checked = check(Arc::new(fs.clone()), Path::new(DIR), &mut ()).expect("it can be checked");
    assert_eq!(all_files(fs), before, "a check changes nothing");
    checked
}

fn repaired(fs: &MemoryFs) -> Option<Repaired> {
    let before = all_files(fs);
    let repaired = repair(Arc::new(fs.clone()), Path::new(DIR), Path::new(NEW), &mut ());
    assert_eq!(all_files(fs), before, "a repair changes nothing in its source");
    repaired.unwrap_or_else(|error| panic!("it can be repaired: {error}"))
}

fn restored(fs: &MemoryFs, to: &str, target: Target) -> Result<Restored, ToolError> {
    let before = all_files(fs);
    let restored = restore(Arc::new(fs.clone()), Path::new(DIR), Path::new(to), target, &mut ());
    assert_eq!(all_files(fs), before, "a restore changes nothing in its source");
    restored
}

/// A closed store of two segments: values, one of them twice, a tombstone, an expiry, a flushed database.
fn closed() -> (Store, MemoryFs, Contents) {
    let (store, fs) = Store::in_memory();
    let (mut engine, _) = store.open();
    for turn in 0..2u8 {
        engine.put(0, b"twice", &[turn; 30], 0).unwrap();
        engine.put(0, &[b'k', turn], b"value", 0).unwrap();
        engine.commit().unwrap();
        engine.put(1, b"flushed", b"", 0).unwrap();
        engine.put(0, b"expires", &[turn], 0).unwrap();
        engine.set_expiry(0, b"expires", 9_000_000).unwrap();
        engine.commit().unwrap();
        engine.put(0, b"deleted", b"", 0).unwrap();
        engine.delete(0, b"deleted").unwrap();
        engine.flush(&[1]).unwrap();
        engine.commit().unwrap();
        engine.close().unwrap();
        engine = store.open().0;
    }
    let contents = contents(&mut engine);
    engine.close().unwrap();
    assert_eq!(manifest(&fs).segments.len(), 2);
    (store, fs, contents)
}

fn ids(fs: &MemoryFs) -> Vec<u64> {
    manifest(fs).segments.iter().map(|segment| segment.id).collect()
}

fn drop_hints(fs: &MemoryFs) {
    ids(fs).iter().for_each(|&id| fs.remove(&path(&hint_name(id))).unwrap());
}

#[test]
fn a_sound_store_is_found_sound_closed_crashed_or_without_a_lock_file() {
    let (store, fs, contents) = closed();
    let all = checked(&fs);
    assert_eq!((&all.places, &all.notes), (&vec![], &vec![]));
    assert_eq!((all.live_keys, all.segments), (contents.len() as u64, 2));
    assert_eq!(all.records, manifest(&fs).segments.iter().map(|s| s.sealed.unwrap().records).sum::<u64>());
    let backup = copy(&fs);
    backup.remove(&path("LOCK")).unwrap();
    assert_eq!(checked(&backup).places, []);
    assert!(!backup.list(Path::new(DIR)).unwrap().contains(&"LOCK".into()), "it is only read");
    let (mut engine, _) = store.open();
    engine.put(0, b"more", b"", 0).unwrap();
    engine.commit().unwrap();
    drop(engine);
    let crashed = checked(&fs);
    assert_eq!((crashed.places, crashed.notes), (vec![], vec![Note::Unclean]));
    assert_eq!(crashed.live_keys, all.live_keys + 1);
}

#[test]
fn every_damaged_byte_of_a_segment_is_named_and_all_else_is_read() {
    let (_, fs, _) = closed();
    let whole = checked(&fs).records;
    for id in ids(&fs) {
        let starts: Vec<u64> = groups(&fs, id).iter().map(|(group, _)| group.at.offset).collect();
        let counts: Vec<u64> = groups(&fs, id).iter().map(|(_, records)| records.len() as u64).collect();
        for offset in 0..read(&fs, &segment_path(id)).len() as u64 {
            let damaged = copy(&fs);
            flip(&damaged, &segment_path(id), offset);
            let found = checked(&damaged);
            assert_eq!(found.places.len(), 1, "byte {offset}: {:?}", found.places);
            let place = &found.places[0];
            let group = starts.iter().rposition(|&start| start <= offset);
            let (start, lost) = group.map_or((0, 0), |group| (starts[group], counts[group]));
            assert_eq!((&place.file, place.offset), (&segment_path(id), start), "byte {offset}");
            assert!(offset < place.end, "byte {offset}");
            assert_eq!(found.records, whole - lost, "byte {offset}: it goes on behind");
        }
    }
}

#[test]
fn every_damaged_byte_of_a_manifest_is_named_and_of_a_hint_does_no_harm() {
    let (_, fs, _) = closed();
    let whole = checked(&fs);
    for offset in 0..read(&fs, &path("MANIFEST")).len() as u64 {
        let damaged = copy(&fs);
        flip(&damaged, &path("MANIFEST"), offset);
        // A version that is not known yet is no damage; the checksum says what it is.
        let found = checked(&damaged);
        let files: Vec<PathBuf> = found.places.into_iter().map(|place| place.file).collect();
        assert_eq!(files, [path("MANIFEST")], "byte {offset}");
        assert_eq!(found.records, whole.records, "byte {offset}: the segments are read all the same");
    }
    let hint = path(&hint_name(ids(&fs)[0]));
    let filter_at = HintHeader::decode(read(&fs, &hint)[..80].try_into().unwrap()).unwrap().filter_at;
    for offset in 0..read(&fs, &hint).len() as u64 {
        let damaged = copy(&fs);
        flip(&damaged, &hint, offset);
        let found = checked(&damaged);
        assert_eq!(found.places, [], "byte {offset}");
        match &found.notes[..] {
            [Note::Hint { file, .. }] => assert!(*file == hint && offset < filter_at),
            [Note::Filter { file, .. }] => assert!(*file == hint && offset >= filter_at),
            other => panic!("byte {offset}: {other:?}"),
        }
    }
}

/// Rewrites a hint that passes all its own checks.
fn forge(
    fs: &MemoryFs,
    id: u64,
    change: impl Fn(&mut Vec<(u64, kival_engine::format::record::Header, Vec<u8>)>),
    filter: bool,
) {
    let bytes = read(fs, &path(&hint_name(id)));
    let mut header = HintHeader::decode(bytes[..80].try_into().unwrap()).unwrap();
    let block = &bytes[80..header.filter_at as usize];
    let entries = hint::entries(block).unwrap().map(|entry| entry.unwrap());
    let mut entries: Vec<_> = entries.map(|entry| (entry.offset, entry.header, entry.key.to_vec())).collect();
    change(&mut entries);
    let mut block = BlockBuilder::default();
    for (offset, header, key) in &entries {
        block.push(&HintEntry { header: *header, offset: *offset, key });
    }
    let block = block.finish();
    let kept =
        if filter { bytes[header.filter_at as usize..].to_vec() } else { Filter::with_room_for(9).encode() };
    header.filter_at = 80 + block.len() as u64;
    header.file_size = header.filter_at + kept.len() as u64;
    write(fs, &path(&hint_name(id)), &[&header.encode(), block, &kept].concat());
}

#[test]
fn a_hint_that_tells_something_else_than_its_segment_is_damage() {
    let (store, fs, contents) = closed();
    let id = ids(&fs)[1];
    let flaw = |fs: &MemoryFs| {
        let found = checked(fs);
        assert_eq!(found.places.len(), 1);
        assert_eq!(found.places[0].file, path(&hint_name(id)));
        assert!(repaired(fs).unwrap().lost.is_empty());
        assert_eq!(opened(&store, fs, NEW), contents);
        found.places[0].flaw
    };
    let second = groups(&fs, id)[0].0.at.offset + 88;
    let (other, fewer, filter) = (copy(&fs), copy(&fs), copy(&fs));
    forge(&other, id, |entries| entries[0].1.expiry = 7, true);
    assert_eq!(flaw(&other), Flaw::HintLies { record: second });
    forge(&fewer, id, |entries| drop(entries.pop()), true);
    assert!(matches!(flaw(&fewer), Flaw::HintLies { .. }));
    forge(&filter, id, |_| {}, false);
    assert_eq!(flaw(&filter), Flaw::FilterLies { record: second });
}

#[test]
fn what_the_manifest_cannot_mean_is_named() {
    let (_, fs, _) = closed();
    let [first, second] = ids(&fs)[..] else { panic!("two segments") };
    let sole = |fs: &MemoryFs| -> (PathBuf, u64, Flaw) {
        let found = checked(fs);
        assert_eq!(found.places.len(), 1, "{:?}", found.places);
        let Place { file, offset, flaw, .. } = found.places.into_iter().next().unwrap();
        (file, offset, flaw)
    };
    let missing = copy(&fs);
    missing.remove(&segment_path(first)).unwrap();
    assert_eq!(sole(&missing), (segment_path(first), 0, Flaw::Damage(Damage::Missing)));
    let short = copy(&fs);
    let bytes = read(&fs, &segment_path(second));
    let last = groups(&fs, second).last().unwrap().0.at.offset;
    write(&short, &segment_path(second), &bytes[..last as usize]);
    assert_eq!(sole(&short), (segment_path(second), last, Flaw::Damage(Damage::Truncated)));
    let older = copy(&fs);
    let mut changed = manifest(&fs);
    changed.sequence_limit = groups(&fs, second).last().unwrap().1.last().unwrap().2 - 1;
    write(&older, &path("MANIFEST"), &changed.encode());
    assert!(matches!(sole(&older).2, Flaw::AboveLimit { .. }));
    let unknown = copy(&fs);
    write(&unknown, &path("00000000000fffff.seg"), b"");
    assert_eq!(sole(&unknown), (path("00000000000fffff.seg"), 0, Flaw::AboveIds));
    let miscounted = copy(&fs);
    let mut changed = manifest(&fs);
    changed.segments[1].sealed.as_mut().unwrap().records += 1;
    write(&miscounted, &path("MANIFEST"), &changed.encode());
    assert_eq!(sole(&miscounted), (path("MANIFEST"), 104 + 48, Flaw::Summary));
    let stray = copy(&fs);
    write(&stray, &path("0000000000000000.seg"), b"");
    assert_eq!(checked(&stray).notes, [Note::Stray { file: path("0000000000000000.seg") }]);
}

/// A store that was killed: three groups, of which two were durable when the third was appended.
fn killed() -> (Store, MemoryFs, u64) {
    let (store, fs) = Store::in_memory();
    let (mut engine, _) = store.open();
    for turn in 0..3u8 {
        engine.put(0, &[turn], &[turn; 20], 0).unwrap();
        engine.put(0, b"again", &[turn; 20], 0).unwrap();
        engine.commit().unwrap();
        if turn == 1 {
            engine.sync().unwrap();
        }
    }
    drop(engine);
    let id = *ids(&fs).iter().find(|&&id| !groups(&fs, id).is_empty()).unwrap();
    (store, fs, id)
}

#[test]
fn a_torn_tail_is_no_damage_and_what_a_watermark_speaks_for_is() {
    let (store, fs, id) = killed();
    let starts: Vec<u64> = groups(&fs, id).iter().map(|(group, _)| group.at.offset).collect();
    let bytes = read(&fs, &segment_path(id));
    for offset in 48..bytes.len() as u64 {
        let damaged = copy(&fs);
        flip(&damaged, &segment_path(id), offset);
        let found = checked(&damaged);
        let group = *starts.iter().rfind(|&&start| start <= offset).unwrap();
        if offset < starts[2] {
            assert_eq!((found.places.len(), found.places[0].offset), (1, group), "byte {offset}");
            assert_eq!(found.records, 4, "byte {offset}");
        } else {
            let bytes = bytes.len() as u64 - starts[2];
            let torn = Note::TornTail { file: segment_path(id), offset: starts[2], bytes };
            assert_eq!((found.places, found.notes), (vec![], vec![Note::Unclean, torn]), "byte {offset}");
            // The next start thinks the same.
            assert_eq!(store.on(Arc::new(damaged)).open().1.torn[0].offset, starts[2]);
        }
    }
}

#[test]
fn a_directory_in_use_and_one_without_a_store_cannot_be_checked() {
    let (store, fs, _) = closed();
    let (engine, _) = store.open();
    let locked = |result: Result<Checked, ToolError>| matches!(result, Err(ToolError::Locked { .. }));
    assert!(locked(check(Arc::new(fs.clone()), Path::new(DIR), &mut ())));
    assert!(matches!(restored(&fs, NEW, Target::Sequence(1)), Err(ToolError::Locked { .. })));
    drop(engine);
    let nothing = check(Arc::new(fs), Path::new("/nothing"), &mut ());
    assert!(matches!(nothing, Err(ToolError::NoStore { .. })));
}

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

#[derive(Debug, Clone)]
enum Op {
    Put(u32, u8, u16),
    Delete(u32, u8),
    SetExpiry(u32, u8, u64),
    Flush(u32),
    Swap(u32, u32),
    Compact,
    Close,
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    let (db, key) = (|| prop_oneof![3 => Just(0u32), 1 => 0..2u32], || 0..6u8);
    let size = prop_oneof![8 => 0..100u16, 1 => 1000..3000u16];
    prop_oneof![
        12 => (db(), key(), size).prop_map(|(db, key, size)| Op::Put(db, key, size)),
        5 => (db(), key()).prop_map(|(db, key)| Op::Delete(db, key)),
        3 => (db(), key(), prop_oneof![Just(0u64), 5_000_000..6_000_000u64])
            .prop_map(|(db, key, expiry)| Op::SetExpiry(db, key, expiry)),
        1 => db().prop_map(Op::Flush),
        1 => Just(Op::Swap(0, 1)),
        1 => Just(Op::Compact),
        1 => Just(Op::Close),
        1 => Just(Op::Crash),
    ]
}

/// The store after each sequence at which it changed, the time of each, and how it was left.
struct History {
    store: Store,
    fs: MemoryFs,
    states: BTreeMap<u64, Contents>,
    times: BTreeMap<u64, u64>,
}

fn live(ops: &[Op], close: bool) -> History {
    let (store, fs) = Store::in_memory();
    let (mut engine, _) = store.open();
    let (mut states, mut times) = (BTreeMap::from([(0, Contents::new())]), BTreeMap::new());
    for (number, op) in ops.iter().enumerate() {
        let now = 1_000_000 + number as u64 * 700;
        store.clock.set(now);
        engine.tick();
        match *op {
            Op::Put(db, key, size) => {
                engine.put(db, &[key], &vec![number as u8; size.into()], 0).unwrap();
            }
            Op::Delete(db, key) => {
                engine.delete(db, &[key]).unwrap();
            }
            Op::SetExpiry(db, key, expiry) => {
                engine.set_expiry(db, &[key], expiry).unwrap();
            }
            Op::Flush(db) => engine.flush(&[db]).unwrap(),
            Op::Swap(one, other) => engine.swap(one, other).unwrap(),
            Op::Compact => store.compact(&mut engine),
            Op::Close => {
                engine.close().unwrap();
                engine = store.open().0;
            }
            Op::Crash => {
                drop(engine);
                engine = store.open().0;
            }
        }
        engine.commit().unwrap();
        let last = engine.last_sequence();
        states.entry(last).or_insert_with(|| {
            times.insert(last, now);
            contents(&mut engine)
        });
    }
    if close {
        engine.close().unwrap()
    } else {
        drop(engine)
    }
    History { store, fs, states, times }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn restore_to_any_sequence_is_the_store_as_it_was(
        ops in proptest::collection::vec(op(), 1..50), close in any::<bool>(),
    ) {
        let History { store, fs, states, times } = live(&ops, close);
        let (floor, limit) = (manifest(&fs).restore_floor, manifest(&fs).sequence_limit);
        let last = *states.keys().last().unwrap();
        for (&sequence, state) in &states {
            let to = format!("/to-{sequence}");
            match restored(&fs, &to, Target::Sequence(sequence)) {
                Ok(found) => {
                    prop_assert!(sequence >= floor);
                    prop_assert_eq!(found.last, last);
                    prop_assert_eq!(&opened(&store, &fs, &to), state, "sequence {} of {}", sequence, last);
                }
                Err(ToolError::BelowFloor { floor: told, .. }) => {
                    prop_assert_eq!(told, floor);
                    prop_assert!(sequence < floor);
                }
                Err(other) => return Err(TestCaseError::fail(other.to_string())),
            }
            if let Some(&time) = times.get(&sequence).filter(|_| sequence >= floor) {
                // Of copied records only the second is known.
                let to = format!("/time-{sequence}");
                let upto = restored(&fs, &to, Target::Time(time / 1000 * 1000 + 999)).unwrap().sequence;
                let later = times.iter().find(|(_, at)| **at > time / 1000 * 1000 + 999);
                let expected = states.range(..later.map_or(u64::MAX, |(later, _)| *later)).next_back().unwrap();
                prop_assert!(upto >= *expected.0, "{} is before {}", upto, expected.0);
                prop_assert_eq!(&opened(&store, &fs, &to), expected.1, "time {}", time);
            }
        }
        let above = restored(&fs, NEW, Target::Sequence(last + 1));
        let beyond = matches!(above, Err(ToolError::BeyondEnd { .. }));
        prop_assert!(beyond);
        prop_assert!(!fs.list(Path::new("/")).unwrap().contains(&"new".into()));
        if last >= floor {
            let mut options = store.on(Arc::new(fs.clone())).options;
            options.dir = format!("/to-{last}").into();
            let (mut engine, _) = Engine::open(options).unwrap();
            prop_assert!(engine.put(0, b"new", b"", 0).unwrap() > limit, "no number comes twice");
        }
    }
}

#[test]
fn a_restored_store_is_another_incarnation_and_knows_that_no_feed_goes_on() {
    let (_, fs, _) = closed();
    restored(&fs, NEW, Target::Sequence(4)).unwrap();
    let (old, new) = (manifest(&fs), read(&fs, &Path::new(NEW).join("MANIFEST")));
    let new = kival_engine::format::manifest::Manifest::decode(&new).unwrap();
    assert_ne!(new.incarnation, old.incarnation);
    assert_eq!(
        (new.store, new.sequence_limit, new.feed_floor),
        (old.store, old.sequence_limit, old.sequence_limit)
    );
    assert_eq!((new.restore_floor, new.chain), (old.restore_floor, 4));
}

#[test]
fn compaction_raises_the_floor_and_below_it_restore_is_refused_with_its_time() {
    let (store, fs, _) = closed();
    let (mut engine, _) = store.open();
    store.compact(&mut engine);
    engine.close().unwrap();
    let floor = manifest(&fs).restore_floor;
    assert!(floor > 4);
    match restored(&fs, NEW, Target::Sequence(floor - 1)) {
        Err(ToolError::BelowFloor { floor: told, time_ms: Some(1_000_999) }) => assert_eq!(told, floor),
        other => panic!("{other:?}"),
    }
    assert!(matches!(restored(&fs, NEW, Target::Time(5)), Err(ToolError::BelowFloor { .. })));
}

#[test]
fn a_damaged_source_is_not_restored_and_nothing_is_overwritten() {
    let (_, fs, _) = closed();
    let damaged = copy(&fs);
    flip(&damaged, &segment_path(ids(&fs)[0]), 50);
    assert!(matches!(
        restored(&damaged, NEW, Target::Sequence(9)),
        Err(ToolError::Damaged { places: 1, .. })
    ));
    for taken in [NEW, "/new.tmp"] {
        let full = copy(&damaged);
        write(&full, &Path::new(taken).join("file"), b"mine");
        let sound = copy(&fs);
        write(&sound, &Path::new(taken).join("file"), b"mine");
        let refused = restored(&sound, NEW, Target::Sequence(9));
        assert!(matches!(refused, Err(ToolError::Exists { path }) if path == Path::new(taken)));
        let refused = repair(Arc::new(full.clone()), Path::new(DIR), Path::new(NEW), &mut ());
        assert!(matches!(refused, Err(ToolError::Exists { .. })));
        assert_eq!(read(&full, &Path::new(taken).join("file")), b"mine");
    }
    for inside in ["/store/new", "/other/../store/new", "/store/../store/./new"] {
        let refused = restored(&fs, inside, Target::Sequence(9));
        assert!(matches!(refused, Err(ToolError::Inside { .. })), "{inside}: {refused:?}");
    }
}

#[test]
#[cfg(unix)]
fn a_link_into_the_data_directory_is_inside_it() {
    use kival_engine::fs::RealFs;
    let root = tempfile::tempdir().unwrap();
    let (dir, link) = (root.path().join("store"), root.path().join("link"));
    let (mut engine, _) = Engine::open(kival_engine::Options::new(&dir)).unwrap();
    engine.put(0, b"key", b"value", 0).unwrap();
    engine.close().unwrap();
    std::os::unix::fs::symlink(&dir, &link).unwrap();
    for (from, to) in [(&dir, link.join("new")), (&link, dir.join("new")), (&dir, dir.join("../store/new"))] {
        let refused = restore(Arc::new(RealFs), from, &to, Target::Sequence(1), &mut ());
        assert!(matches!(refused, Err(ToolError::Inside { .. })), "{refused:?}");
    }
    let beside = root.path().join("store/../new");
    restore(Arc::new(RealFs), &link, &beside, Target::Sequence(1), &mut ()).unwrap();
}

#[test]
fn a_time_before_the_first_record_is_refused_with_the_earliest() {
    let (store, fs) = Store::in_memory();
    let (mut engine, _) = store.open();
    engine.put(0, b"key", b"value", 0).unwrap();
    engine.close().unwrap();
    match restored(&fs, NEW, Target::Time(999_999)) {
        Err(ToolError::BeforeFirst { sequence: 1, time_ms: 1_000_000 }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(restored(&fs, NEW, Target::Time(1_000_000)).unwrap().sequence, 1);
}

#[test]
fn a_restore_that_fails_leaves_nothing_behind() {
    let (_, fs, _) = closed();
    for fault in [Fault::Sync("MANIFEST.tmp"), Fault::Write(".seg", 7), Fault::Sync(".hint.tmp")] {
        let faults = Faults::on(&fs);
        faults.hook().fail(fault, EIO);
        let failed = restore(Arc::new(faults), Path::new(DIR), Path::new(NEW), Target::Sequence(4), &mut ());
        assert!(matches!(failed, Err(ToolError::Io { .. })), "{fault:?}: {failed:?}");
        let left: Vec<String> = fs.list(Path::new("/")).unwrap();
        assert_eq!(left, ["store"], "{fault:?}");
    }
}

#[test]
fn inspect_shows_every_structure_and_goes_on_behind_damage() {
    let (_, fs, _) = closed();
    let (id, total) = (ids(&fs)[0], checked(&fs).records);
    let shown = |fs: &MemoryFs| {
        let (mut records, mut entries, mut damaged, mut kinds) = (0, 0, Vec::new(), BTreeSet::new());
        inspect_dir(Arc::new(fs.clone()), Path::new(DIR), &mut |file, item| {
            match item {
                Item::Record { header, .. } => {
                    records += 1;
                    kinds.insert(header.kind as u8);
                }
                Item::HintEntry { .. } => entries += 1,
                Item::Damage { offset, .. } => damaged.push((file.to_owned(), offset)),
                _ => {}
            }
            Ok(())
        })
        .unwrap();
        (records, entries, damaged, kinds)
    };
    let kinds = [Kind::Value, Kind::Tombstone, Kind::Expiry, Kind::Namespaces].map(|kind| kind as u8);
    assert_eq!(shown(&fs), (total, total, vec![], BTreeSet::from(kinds)));
    let (first, records) = groups(&fs, id).remove(0);
    flip(&fs, &segment_path(id), first.at.offset + 100);
    let (seen, entries, damaged, _) = shown(&fs);
    assert_eq!((seen, entries), (total - records.len() as u64, total));
    assert_eq!(damaged, [(segment_path(id), first.at.offset)]);
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
