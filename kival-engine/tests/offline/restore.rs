//! Which earlier states a restore gives back, and which it refuses.

use crate::common::{DIR, EIO, Fault, Faults, Store, copy, flip, manifest, read, segment_path, write};
use crate::shared::{Contents, NEW, closed, contents, ids, opened, restored};
use kival_engine::Engine;
use kival_engine::fs::{FileSystem, MemoryFs};
use kival_engine::offline::{Target, ToolError, repair, restore};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

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
