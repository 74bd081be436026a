//! When the engine syncs by itself.
#![allow(clippy::unwrap_used)]

mod common;

use common::Store;
use kival_engine::{Engine, Options, SyncPolicy};

fn every_second() -> (Store, Engine) {
    let (store, _) = Store::in_memory();
    let store = Store { options: Options { sync: SyncPolicy::EverySecond, ..store.options }, ..store };
    let engine = store.open().0;
    (store, engine)
}

fn put(engine: &mut Engine) -> u64 {
    engine.put(0, b"k", b"v", 0).unwrap();
    engine.commit().unwrap()
}

#[test]
fn the_log_is_synced_a_second_after_the_last_time_if_there_is_something_to_sync() {
    let (store, mut engine) = every_second();
    let mut upto = 0;
    for round in 1..4 {
        store.clock.set(1_000_000 + round * 1000);
        upto = put(&mut engine);
        engine.tick();
        store.drive(&mut engine, |engine| engine.durable_sequence() >= upto);
    }
    let syncs = engine.stats().syncs;
    store.clock.set(1_010_000);
    engine.tick();
    engine.maintain();
    engine.sync().unwrap();
    assert_eq!((engine.stats().syncs, engine.durable_sequence()), (syncs, upto), "there was nothing to sync");
}

#[test]
fn a_clock_that_is_set_back_does_not_make_the_second_longer() {
    let (store, mut engine) = every_second();
    store.clock.set(1_001_000);
    let first = put(&mut engine);
    engine.tick();
    store.drive(&mut engine, |engine| engine.durable_sequence() >= first);
    // Half a second later somebody sets the clock back by as much.
    let second = put(&mut engine);
    store.clock.set(1_001_500);
    store.clock.set(1_001_000);
    store.clock.pass(500);
    engine.tick();
    store.drive(&mut engine, |engine| engine.durable_sequence() >= second);
}

#[test]
fn what_is_written_behind_a_sync_is_being_synced_within_the_second() {
    let (store, mut engine) = every_second();
    store.clock.set(1_001_000);
    let first = put(&mut engine);
    engine.tick();
    store.drive(&mut engine, |engine| engine.durable_sequence() >= first);
    let second = put(&mut engine);
    // Maintenance comes every tenth of a second, and once some milliseconds late.
    for tenth in 1..10 {
        store.clock.set(1_001_000 + tenth * 100 + 20);
        engine.tick();
        engine.maintain();
    }
    // Within the second, and with the clock standing still from here on.
    store.drive(&mut engine, |engine| engine.durable_sequence() >= second);
}

#[test]
fn a_caller_that_syncs_itself_has_its_sync_when_it_returns() {
    let (store, mut engine) = every_second();
    let first = put(&mut engine);
    // Of a disk that has not shown to be quick it is only asked for.
    engine.sync_now_of(first);
    store.drive(&mut engine, |engine| engine.durable_sequence() >= first);
    let syncs = engine.stats().syncs;
    let second = put(&mut engine);
    engine.sync_now_of(second);
    assert_eq!((engine.durable_sequence(), engine.stats().syncs), (second, syncs + 1));
    engine.sync_now_of(second);
    assert_eq!(engine.stats().syncs, syncs + 1, "there was nothing to sync");
}
