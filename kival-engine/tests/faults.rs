//! A disk that fails: what was promised before stays, what fails is taken back whole, and nobody is told
//! that something is durable which is not.
#![allow(clippy::unwrap_used)]

mod common;

use common::{EIO, ENOSPC, Fault, FaultFs, Faults, Store, flip, manifest, segment_path};
use kival_engine::error::{Damage, ReadError, WriteError};
use kival_engine::fs::MemoryFs;
use kival_engine::fs::gate::Gate;
use kival_engine::fs::hook::HookFs;
use kival_engine::{Engine, Fetched, Options};
use std::sync::Arc;

fn faulty() -> (Store, MemoryFs, FaultFs) {
    let (store, fs) = Store::in_memory();
    let faults = Faults::on(&fs);
    (store.on(Arc::new(faults.clone())), fs, faults)
}

/// A turn of every kind of change.
fn stage(engine: &mut Engine) {
    engine.put(0, b"changed", b"after", 0).unwrap();
    engine.put(0, b"new", b"after", 1_000_500).unwrap();
    engine.delete(0, b"deleted").unwrap();
    engine.set_expiry(0, b"timed", 1_000_700).unwrap();
    engine.set_expiry(0, b"timed", 0).unwrap();
    engine.flush(&[1]).unwrap();
    engine.swap(0, 2).unwrap();
    engine.put(0, b"swapped", b"after", 0).unwrap();
}

fn prepared(store: &Store) -> Engine {
    let (mut engine, _) = store.open();
    for key in [&b"changed"[..], b"deleted", b"timed"] {
        engine.put(0, key, b"before", 0).unwrap();
    }
    engine.put(1, b"flushed", b"before", 0).unwrap();
    engine.set_expiry(0, b"timed", 1_000_900).unwrap();
    engine.commit().unwrap();
    engine
}

type Seen = (Vec<(Vec<u8>, Vec<u8>)>, Vec<usize>, Option<u64>, u64);

fn seen(store: &Store, engine: &mut Engine) -> Seen {
    let counts = (0..engine.databases()).map(|db| engine.key_count(db)).collect();
    let expiry = engine.entry(0, b"timed").unwrap().map(|entry| entry.expiry);
    (store.contents(engine), counts, expiry, engine.stats().live_bytes)
}

#[test]
fn a_full_disk_takes_a_turn_back_whole_wherever_it_struck() {
    for written in 0.. {
        let (store, _, faults) = faulty();
        let mut engine = prepared(&store);
        let before = seen(&store, &mut engine);
        stage(&mut engine);
        let burnt = engine.last_sequence();
        if written >= engine.staged_bytes() {
            return;
        }
        faults.hook().fail(Fault::Write(".seg", written), ENOSPC);
        assert!(matches!(engine.commit(), Err(WriteError::NoSpace)), "after {written} bytes");
        assert_eq!(seen(&store, &mut engine), before, "after {written} bytes");
        assert_eq!(engine.absence(0, b"deleted"), engine.absence(0, b"never there"));
        assert!(engine.put(0, b"later", b"value", 0).unwrap() > burnt, "its numbers are burnt");
        engine.commit().unwrap();
        let after = seen(&store, &mut engine);
        drop(engine);
        let (mut engine, report) = store.open();
        assert!(report.torn.is_empty());
        assert_eq!(seen(&store, &mut engine), after, "after {written} bytes");
    }
}

#[test]
fn a_log_that_cannot_be_cut_back_takes_no_more_writes() {
    let (store, _, faults) = faulty();
    let mut engine = prepared(&store);
    let before = seen(&store, &mut engine);
    stage(&mut engine);
    faults.hook().fail(Fault::Write(".seg", 100), ENOSPC);
    faults.hook().fail(Fault::Truncate(".seg"), EIO);
    assert!(matches!(engine.commit(), Err(WriteError::Poisoned { .. })));
    assert!(matches!(engine.put(0, b"k", b"v", 0), Err(WriteError::Poisoned { .. })));
    assert_eq!(seen(&store, &mut engine), before);
    assert!(matches!(engine.close(), Err(WriteError::Poisoned { .. })));
    let (mut engine, report) = store.open();
    assert!(!report.clean);
    // Zeros at its end do not count.
    assert!((90..=100).contains(&report.torn[0].bytes), "{:?}", report.torn);
    assert_eq!(seen(&store, &mut engine), before);
}

#[test]
fn a_failed_sync_is_final_and_reads_go_on() {
    let (store, _, faults) = faulty();
    let mut engine = prepared(&store);
    let durable = engine.durable_sequence();
    faults.hook().fail(Fault::Sync(".seg"), EIO);
    assert!(matches!(engine.sync(), Err(WriteError::Poisoned { .. })));
    assert!(engine.poisoned().is_some());
    assert!(engine.sync().is_err(), "the disk is well again, and nobody is told so");
    assert_eq!(engine.durable_sequence(), durable);
    assert!(matches!(engine.put(0, b"k", b"v", 0), Err(WriteError::Poisoned { .. })));
    let before = seen(&store, &mut engine);
    assert_eq!(before.0.len(), 3);
    assert!(engine.close().is_err());
    let (mut engine, report) = store.open();
    assert!(!report.clean, "recovery appends it anew");
    assert_eq!(seen(&store, &mut engine), before);
    engine.sync().unwrap();
}

#[test]
fn what_is_staged_when_a_sync_fails_is_taken_back() {
    let (store, _, faults) = faulty();
    let mut engine = prepared(&store);
    let before = seen(&store, &mut engine);
    stage(&mut engine);
    faults.hook().fail(Fault::Sync(".seg"), EIO);
    assert!(engine.sync().is_err());
    assert!(matches!(engine.commit(), Err(WriteError::Poisoned { .. })));
    assert_eq!(seen(&store, &mut engine), before);
}

#[test]
fn a_sync_that_fails_while_a_segment_is_sealed_is_final_too() {
    let (store, fs, faults) = faulty();
    let (mut engine, _) = store.open();
    engine.put(0, b"a", &[1; 2200], 0).unwrap();
    engine.commit().unwrap();
    store.drive(&mut engine, |_| manifest(&fs).segments.len() == 2);
    engine.maintain();
    // The kernel tells of a failure once: whoever syncs next hears that all is well.
    faults.hook().fail(Fault::Sync(".seg"), EIO);
    engine.put(0, b"b", &[1; 2200], 0).unwrap();
    engine.commit().unwrap();
    store.drive(&mut engine, |engine| engine.poisoned().is_some());
    assert!(engine.sync().is_err());
    assert!(engine.durable_sequence() < engine.last_sequence());
}

#[test]
fn housekeeping_that_failed_is_done_later() {
    let (store, fs, faults) = faulty();
    let (mut engine, _) = store.open();
    faults.hook().fail(Fault::Sync(".seg"), EIO);
    engine.put(0, b"a", &[1; 2200], 0).unwrap();
    engine.commit().unwrap();
    // The next segment cannot be had: the active one takes what comes.
    store.bell.wait();
    engine.maintain();
    assert_eq!(manifest(&fs).segments.len(), 1);
    engine.put(0, b"b", &[1; 2200], 0).unwrap();
    engine.commit().unwrap();
    faults.hook().fail(Fault::Create(".hint.tmp"), EIO);
    store.clock.set(1_002_000);
    engine.tick();
    store.drive(&mut engine, |engine| engine.segments().len() == 2);
    assert!(manifest(&fs).segments[0].sealed.is_none());
    let mut now = 1_002_000;
    store.drive(&mut engine, |engine| {
        now += 2000;
        store.clock.set(now);
        engine.tick();
        engine.maintain();
        manifest(&fs).segments[0].sealed.is_some()
    });
    engine.close().unwrap();
    assert!(store.open().1.clean);
}

#[test]
fn a_damaged_value_is_told_by_file_and_offset() {
    let (store, fs) = Store::in_memory();
    let store = Store { options: Options { cache_size: 0, ..store.options }, ..store };
    let (mut engine, _) = store.open();
    engine.put(0, b"sound", b"value", 0).unwrap();
    engine.put(0, b"damaged", b"value", 0).unwrap();
    engine.commit().unwrap();
    let offset = engine.entry(0, b"damaged").unwrap().unwrap().place.offset();
    let file = segment_path(manifest(&fs).segments[0].id);
    // The engine keeps its file open: the damage is done in place.
    let open = kival_engine::fs::FileSystem::open(&fs, &file).unwrap();
    open.write_at(b"V", offset + 36 + 7).unwrap();
    match engine.get(0, b"damaged") {
        Err(ReadError::Corrupt(corruption)) => {
            assert_eq!((corruption.file, corruption.offset), (file.clone(), offset));
            assert_eq!(corruption.damage, Damage::Checksum);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(engine.get(0, b"sound").unwrap().as_deref(), Some(&b"value"[..]));
    drop(engine);
    flip(&fs, &file, 0);
    assert!(Engine::open(store.options).is_err());
}

#[test]
fn a_cold_value_is_read_elsewhere_while_the_writer_goes_on() {
    let (gate, fs) = (Gate::default(), MemoryFs::default());
    let store = Store::in_memory().0.on(Arc::new(HookFs::new(fs, gate.clone())));
    let store = Store { options: Options { cache_size: 0, ..store.options }, ..store };
    let (mut engine, _) = store.open();
    engine.put(0, b"cold", b"value", 0).unwrap();
    engine.commit().unwrap();
    gate.set_closed(true);
    let entry = engine.entry(0, b"cold").unwrap().unwrap();
    let Fetched::Cold(cold) = engine.fetch(0, b"cold", &entry).unwrap() else { panic!("the gate is closed") };
    let reader = std::thread::spawn({
        let cold = cold.clone();
        move || cold.read()
    });
    gate.wait_for_readers(1);
    engine.put(0, b"other", b"value", 0).unwrap();
    engine.commit().unwrap();
    gate.set_closed(false);
    let read = reader.join().unwrap().unwrap();
    gate.set_closed(true);
    engine.pin(read);
    match engine.fetch(0, b"cold", &entry).unwrap() {
        Fetched::Value(value) => assert_eq!(&value[..], b"value"),
        Fetched::Cold(_) => panic!("it is pinned"),
    }
    engine.put(0, b"cold", b"newer", 0).unwrap();
    assert_eq!(engine.get(0, b"cold").unwrap().as_deref(), Some(&b"newer"[..]), "pins follow records");
    engine.unpin();
    engine.commit().unwrap();
    gate.set_closed(false);
    store.compact(&mut engine);
    assert_eq!(engine.segments().iter().filter(|segment| !segment.merged).count(), 1);
    cold.read().expect("a file that was merged away stays open for those who read it");
}
