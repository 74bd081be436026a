//! `history-retention`: compaction leaves what was superseded a short time ago.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Store, manifest, records};
use kival_engine::format::record::Kind;
use kival_engine::fs::MemoryFs;
use kival_engine::{CompactionPolicy, Engine};

const RETENTION: u64 = 60_000;
const START: u64 = 1_000_000;

fn keeping_history() -> (Store, MemoryFs) {
    let (mut store, fs) = Store::in_memory();
    store.options.compaction =
        CompactionPolicy { percentage: 0, retention_ms: RETENTION, ..CompactionPolicy::DEFAULT };
    (store, fs)
}

fn turn<T>(engine: &mut Engine, write: impl FnOnce(&mut Engine) -> T) {
    engine.tick();
    write(engine);
    engine.commit().unwrap();
}

/// How many records of the key there are, tombstones too.
fn versions(fs: &MemoryFs, key: &[u8]) -> usize {
    records(fs).iter().filter(|record| record.1 == key).count()
}

/// Opens the store at a time, writes something else, compacts everything and closes it.
fn compact_at(store: &Store, now: u64) {
    store.clock.set(now);
    let (mut engine, _) = store.open();
    turn(&mut engine, |engine| engine.put(0, b"other", b"v", 0).unwrap());
    store.compact(&mut engine);
    engine.close().unwrap();
}

/// At the start a key was overwritten, another deleted.
fn overwritten_and_deleted(store: &Store) {
    let (mut engine, _) = store.open();
    turn(&mut engine, |engine| {
        engine.put(0, b"over", b"1", 0).unwrap();
        engine.put(0, b"gone", b"1", 0).unwrap();
    });
    turn(&mut engine, |engine| {
        engine.put(0, b"over", b"2", 0).unwrap();
        assert!(engine.delete(0, b"gone").unwrap());
    });
    engine.close().unwrap();
}

#[test]
fn what_was_superseded_stays_for_its_time_and_goes_after_it() {
    let (store, fs) = keeping_history();
    overwritten_and_deleted(&store);
    compact_at(&store, START + 1000);
    assert_eq!((versions(&fs, b"over"), versions(&fs, b"gone")), (2, 2));
    assert_eq!(manifest(&fs).restore_floor, 0, "nothing was dropped");
    compact_at(&store, START + RETENTION - 1);
    assert_eq!((versions(&fs, b"over"), versions(&fs, b"gone")), (2, 2));
    // Some segment has to have been created after the deletion and be old enough itself.
    compact_at(&store, START + 2 * RETENTION);
    assert_eq!((versions(&fs, b"over"), versions(&fs, b"gone")), (1, 0));
    let floor = manifest(&fs).restore_floor;
    assert!(floor > 0);
    let (engine, _) = store.open();
    assert!(floor < engine.last_sequence(), "the last turns can be restored");
}

#[test]
fn a_segment_in_which_nothing_is_live_is_held_too() {
    let (store, fs) = keeping_history();
    for value in [b"1", b"2"] {
        // Each session has a segment of its own.
        let (mut engine, _) = store.open();
        turn(&mut engine, |engine| engine.put(0, b"over", value, 0).unwrap());
        engine.close().unwrap();
    }
    compact_at(&store, START + 1000);
    assert_eq!(versions(&fs, b"over"), 2);
    compact_at(&store, START + 2 * RETENTION);
    assert_eq!(versions(&fs, b"over"), 1);
}

#[test]
fn a_deleted_key_does_not_come_back_while_its_value_is_held() {
    let (store, fs) = keeping_history();
    overwritten_and_deleted(&store);
    for n in 1..10 {
        compact_at(&store, START + n * RETENTION / 4);
        let held = records(&fs).iter().any(|r| r.0 == Kind::Value && r.1 == b"gone");
        let tombstone = records(&fs).iter().any(|r| r.0 == Kind::Tombstone && r.1 == b"gone");
        assert!(tombstone || !held, "round {n}");
        let (mut engine, _) = store.open();
        assert!(engine.entry(0, b"gone").unwrap().is_none(), "round {n}");
        assert_eq!(engine.get(0, b"over").unwrap().as_deref(), Some(&b"2"[..]));
        engine.close().unwrap();
    }
}

#[test]
fn a_clock_that_steps_back_drops_nothing_early() {
    let (store, fs) = keeping_history();
    compact_at(&store, START + 100 * RETENTION);
    // By mistake the clock shows an earlier time while a key is overwritten, and is mended.
    store.clock.set(START);
    overwritten_and_deleted(&store);
    let (mut engine, _) = store.open();
    turn(&mut engine, |engine| engine.put(0, b"next segment", b"v", 0).unwrap());
    engine.close().unwrap();
    compact_at(&store, START + 100 * RETENTION + 1000);
    assert_eq!((versions(&fs, b"over"), versions(&fs, b"gone")), (2, 2));
}

#[test]
fn the_policy_rests_while_history_is_held() {
    let (mut store, fs) = keeping_history();
    let (mut engine, _) = store.open();
    for n in 0..100u8 {
        turn(&mut engine, |engine| engine.put(0, b"again", &[n; 200], 0).unwrap());
    }
    engine.close().unwrap();
    store.options.compaction = CompactionPolicy { percentage: 1, min_size: 0, ..store.options.compaction };
    for _ in 0..3 {
        let (mut engine, _) = store.open();
        engine.maintain();
        store.settle(&mut engine);
        assert_eq!(engine.stats().compaction.finished, 0, "nothing could be freed");
        turn(&mut engine, |engine| engine.put(0, b"other", b"v", 0).unwrap());
        engine.close().unwrap();
    }
    store.clock.set(START + 2 * RETENTION);
    let (mut engine, _) = store.open();
    engine.maintain();
    store.settle(&mut engine);
    assert!(engine.stats().compaction.finished > 0);
    engine.close().unwrap();
    assert!(versions(&fs, b"again") < 10);
}
