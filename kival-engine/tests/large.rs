//! Large values: written ahead of the log's end while others go on, part of the log all at once or not at all,
//! and no harm to anybody where they fail.
#![allow(clippy::unwrap_used)]

mod common;

use bytes::Bytes;
use common::{DIR, EIO, ENOSPC, Fault, FaultFs, Faults, Store};
use kival_engine::fs::MemoryFs;
use kival_engine::offline::{Note, check};
use kival_engine::{Background, ColdRead, Engine, Fetched, LargeStart, Worker, WriteError};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const SIZE: usize = 20_000;

/// A store whose calls can be failed, and whose keeper works while the flag is set.
fn store() -> (Store, MemoryFs, FaultFs, Arc<AtomicBool>) {
    let (store, fs) = Store::in_memory();
    let faulty = Faults::on(&fs);
    let mut store = store.on(Arc::new(faulty.clone()));
    let keeper = Arc::new(AtomicBool::new(true));
    let flag = keeper.clone();
    let choose = move |worker| worker != Worker::Keeper || flag.load(Ordering::Relaxed);
    store.options.background = Background::Lockstep(Arc::new(choose));
    store.options.segment_size = 64 << 10;
    store.options.large_value = 1000;
    (store, fs, faulty, keeper)
}

fn value(byte: u8) -> Bytes {
    vec![byte; SIZE].into()
}

fn put(engine: &mut Engine, key: &[u8], value: &[u8]) {
    engine.put(0, key, value, 0).unwrap();
    engine.commit().unwrap();
}

fn begin(engine: &mut Engine, key: &[u8], value: &Bytes) -> kival_engine::LargeWrite {
    loop {
        match engine.begin_large(key.len(), value.clone()) {
            LargeStart::Begun(write) => return write,
            LargeStart::Later => engine.maintain(),
            LargeStart::Never => panic!("there is room"),
        }
    }
}

/// Puts a large value by the whole way.
fn put_large(engine: &mut Engine, key: &[u8], value: &Bytes) {
    let write = begin(engine, key, value);
    engine.end_large(write.write()).unwrap();
    assert!(engine.has_large(key.len(), value));
    put(engine, key, value);
}

fn cold(engine: &mut Engine, key: &[u8]) -> ColdRead {
    let entry = engine.entry(0, key).unwrap().unwrap();
    match engine.fetch(0, key, &entry).unwrap() {
        Fetched::Cold(read) => read,
        Fetched::Value(_) => panic!("the writer read it itself"),
    }
}

#[test]
fn others_commit_while_a_large_value_is_written_and_it_takes_its_place_behind_them() {
    let (store, fs, ..) = store();
    let mut engine = store.open().0;
    put(&mut engine, b"before", b"1");
    let large = value(b'x');
    let write = begin(&mut engine, b"large", &large);
    assert!(matches!(engine.begin_large(1, value(b'y')), LargeStart::Later), "one at a time");
    for _ in 0..30 {
        put(&mut engine, b"meanwhile", &value(b'm')[..900]);
        engine.maintain();
    }
    let written = write.write();
    put(&mut engine, b"large", b"an older one");
    engine.end_large(written).unwrap();
    let before = engine.stats().log_bytes;
    put(&mut engine, b"large", &large);
    put(&mut engine, b"behind", b"2");
    let grown = engine.stats().log_bytes - before;
    assert!((SIZE as u64..SIZE as u64 + 500).contains(&grown), "{grown}");
    let held = store.contents(&mut engine);
    assert_eq!(held.iter().find(|(key, _)| key == b"large").unwrap().1, large);
    drop(engine);
    let (mut engine, report) = store.open();
    assert_eq!((report.torn, store.contents(&mut engine)), (vec![], held.clone()));
    engine.close().unwrap();
    assert_eq!(check(Arc::new(fs), Path::new(DIR), &mut ()).unwrap().places, []);
    assert_eq!(store.contents(&mut store.open().0), held);
}

#[test]
fn only_the_very_bytes_that_were_written_are_taken_for_them() {
    let (store, ..) = store();
    let mut engine = store.open().0;
    let (large, twin) = (value(b'x'), value(b'x'));
    let write = begin(&mut engine, b"large", &large);
    engine.end_large(write.write()).unwrap();
    assert!(engine.has_large(5, &large) && !engine.has_large(4, &large));
    assert!(!engine.has_large(5, &large[1..]) && !engine.has_large(5, &twin));
    put(&mut engine, b"other", &twin);
    assert!(engine.has_large(5, &large), "it waits for its put");
    engine.put(0, b"first", b"", 0).unwrap();
    assert!(!engine.has_large(5, &large), "it would not be the first of its group");
}

#[test]
fn a_value_that_was_begun_before_the_store_was_opened_again_is_refused() {
    let (store, ..) = store();
    let mut engine = store.open().0;
    let large = value(b'x');
    let written = begin(&mut engine, b"large", &large).write();
    engine.close().unwrap();
    let mut engine = store.open().0;
    assert!(engine.end_large(written).is_err() && !engine.has_large(5, &large));
    put_large(&mut engine, b"large", &large);
    engine.close().unwrap();
    assert_eq!(store.open().0.get(0, b"large").unwrap(), Some(large));
}

#[test]
fn a_large_value_is_read_beside_the_writer() {
    let (store, ..) = store();
    let mut engine = store.open().0;
    put_large(&mut engine, b"large", &value(b'x'));
    assert_eq!(engine.stats().cache_values, 0, "it drives nothing out");
    let read = cold(&mut engine, b"large").read().unwrap();
    engine.pin(read);
    let entry = engine.entry(0, b"large").unwrap().unwrap();
    let Fetched::Value(seen) = engine.fetch(0, b"large", &entry).unwrap() else { panic!("it is pinned") };
    assert_eq!(seen, value(b'x'));
}

#[test]
fn what_a_kill_leaves_of_a_large_value_is_a_torn_tail() {
    let (store, fs, ..) = store();
    let mut engine = store.open().0;
    put(&mut engine, b"before", b"1");
    let write = begin(&mut engine, b"large", &value(b'x'));
    put(&mut engine, b"meanwhile", b"2");
    let held = store.contents(&mut engine);
    engine.end_large(write.write()).unwrap();
    drop(engine);
    let found = check(Arc::new(fs), Path::new(DIR), &mut ()).unwrap();
    assert!(found.places.is_empty(), "{:?}", found.places);
    assert!(found.notes.iter().any(|note| matches!(note, Note::TornTail { .. })), "{:?}", found.notes);
    let (mut engine, report) = store.open();
    assert_eq!((report.torn.len(), store.contents(&mut engine)), (1, held));
}

#[test]
fn a_large_value_that_fails_or_is_not_wanted_leaves_nothing() {
    for fault in [
        Some((Fault::Write(".seg", 100), ENOSPC)),
        Some((Fault::Write(".seg", 100), EIO)),
        Some((Fault::Sync(".seg"), EIO)),
        None,
    ] {
        let (store, _, faulty, _) = store();
        let mut engine = store.open().0;
        put(&mut engine, b"before", b"1");
        let large = value(b'x');
        let write = begin(&mut engine, b"large", &large);
        match fault {
            Some((fault, errno)) => {
                faulty.hook().fail(fault, errno);
                let error = engine.end_large(write.write()).unwrap_err();
                assert_eq!(matches!(error, WriteError::NoSpace), errno == ENOSPC, "{error}");
            }
            None => {
                engine.end_large(write.write()).unwrap();
                engine.give_up_large();
            }
        }
        assert!(!engine.has_large(5, &large) && engine.poisoned().is_none());
        let bytes = engine.stats().log_bytes;
        put_large(&mut engine, b"large", &large);
        assert!(engine.stats().log_bytes < bytes + SIZE as u64 + 500);
        drop(engine);
        let (mut engine, report) = store.open();
        assert_eq!(report.torn, []);
        assert_eq!(
            store.contents(&mut engine),
            [(b"before".to_vec(), b"1".to_vec()), (b"large".to_vec(), large.to_vec()),]
        );
    }
}

#[test]
fn a_segment_that_cannot_be_discarded_holds_the_next_one_back() {
    let (store, fs, faulty, _) = store();
    let mut engine = store.open().0;
    put(&mut engine, b"before", b"1");
    let write = begin(&mut engine, b"large", &value(b'x'));
    engine.end_large(write.write()).unwrap();
    faulty.hook().fail(Fault::Create("MANIFEST.tmp"), EIO);
    engine.give_up_large();
    for _ in 0..10 {
        engine.maintain();
        assert!(matches!(engine.begin_large(5, value(b'x')), LargeStart::Later | LargeStart::Never));
    }
    store.clock.set(1_010_000);
    engine.tick();
    put_large(&mut engine, b"large", &value(b'x'));
    engine.sync().unwrap();
    let killed = store.on(Arc::new(common::copy(&fs)));
    assert_eq!(killed.contents(&mut killed.open().0).len(), 2);
}

#[test]
fn one_that_is_taken_back_and_cannot_be_cut_off_hides_nothing() {
    let (store, fs, faulty, keeper) = store();
    let mut engine = store.open().0;
    put(&mut engine, b"before", b"1");
    let large = value(b'x');
    let write = begin(&mut engine, b"large", &large);
    engine.end_large(write.write()).unwrap();
    let savepoint = engine.savepoint();
    engine.put(0, b"large", &large, 0).unwrap();
    faulty.hook().fail(Fault::Truncate(".seg"), EIO);
    engine.roll_back(savepoint);
    assert!(engine.get(0, b"large").unwrap().is_none());
    let again = begin(&mut engine, b"large", &large);
    engine.end_large(again.write()).unwrap();
    // From here on nothing is taken out of the manifest.
    keeper.store(false, Ordering::Relaxed);
    put(&mut engine, b"large", &large);
    engine.sync().unwrap();
    let held = store.contents(&mut engine);
    // Before the engine ends: its keeper would do its last jobs.
    let killed = store.on(Arc::new(common::copy(&fs)));
    assert_eq!(killed.contents(&mut killed.open().0), held);
}
