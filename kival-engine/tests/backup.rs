//! Backups: what they hold, what they leave alone, and what they remove. The simulation makes them among
//! merges and power cuts; here are the plain promises.
#![allow(clippy::unwrap_used)]

mod common;

use common::{DIR, Fault, Faults, Store, manifest, path, read};
use kival_engine::fs::{FileSystem, MemoryFs};
use kival_engine::{Engine, Options};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const EXDEV: i32 = 18;

fn backups() -> PathBuf {
    path("backups")
}

fn back_up(store: &Store, engine: &mut Engine, keep: usize) {
    let ended = engine.backups().ended;
    assert!(engine.back_up(backups(), keep).unwrap());
    assert!(!engine.back_up(backups(), keep).unwrap(), "one at a time");
    store.drive(engine, |engine| engine.backups().ended > ended);
}

fn names(fs: &dyn FileSystem, dir: &Path) -> Vec<String> {
    let mut names = fs.list(dir).unwrap();
    names.sort();
    names
}

/// Everything below the store's directory but its backups.
fn bytes(fs: &MemoryFs) -> BTreeMap<String, Vec<u8>> {
    let files = names(fs, Path::new(DIR)).into_iter().filter(|name| name != "backups" && name != "LOCK");
    files.map(|name| (name.clone(), read(fs, &path(&name)))).collect()
}

fn at(store: &Store, dir: PathBuf) -> Store {
    Store { options: Options { dir, ..store.options.clone() }, ..store.clone() }
}

#[test]
fn a_backup_is_a_store_and_writing_to_it_leaves_the_original_alone() {
    let (store, fs) = Store::in_memory();
    let (mut engine, _) = store.open();
    for n in 0..40u8 {
        engine.put(0, &[n % 10], &[n; 300], 0).unwrap();
        engine.commit().unwrap();
        engine.maintain();
    }
    engine.put(0, b"staged", b"with the request", 0).unwrap();
    let held = store.contents(&mut engine);
    engine.back_up(backups(), 3).unwrap();
    engine.commit().unwrap();
    store.drive(&mut engine, |engine| engine.backups().ended == 1);
    let made = engine.backups().newest.clone().unwrap();
    assert_eq!(made.sequence, engine.last_sequence());
    engine.put(0, b"later", b"not in it", 0).unwrap();
    engine.commit().unwrap();
    engine.close().unwrap();
    let before = bytes(&fs);
    assert_eq!(manifest(&fs).store, store_of(&fs, &made.dir));

    let other = at(&store, made.dir.clone());
    let (mut copy, report) = other.open();
    assert!(report.clean);
    assert_eq!(other.contents(&mut copy), held);
    copy.put(0, b"a", b"changed there", 0).unwrap();
    copy.commit().unwrap();
    other.compact(&mut copy);
    copy.close().unwrap();
    assert_eq!(bytes(&fs), before, "the original's files are as they were");
    assert_eq!(store.open().1.keys, held.len() as u64 + 1);
}

fn store_of(fs: &MemoryFs, dir: &Path) -> u64 {
    kival_engine::format::manifest::Manifest::decode(&read(fs, &dir.join("MANIFEST"))).unwrap().store
}

#[test]
fn the_newest_stay_and_nothing_else_is_touched() {
    let (store, fs) = Store::in_memory();
    let (mut engine, _) = store.open();
    fs.create_dir(&backups().join("2020-01-01T00-00-00Z")).unwrap();
    let id = manifest(&fs).store;
    let rests =
        [format!("2020-01-01T00-00-00Z.{id:016x}.tmp"), format!("2020-01-01T00-00-00Z.{:016x}.tmp", !id)];
    rests.iter().for_each(|name| fs.create_dir(&backups().join(name)).unwrap());
    fs.create_dir(&backups().join("mine")).unwrap();
    common::write(&fs, &backups().join("mine/notes"), b"kept");
    for second in 0..4u64 {
        store.clock.set(1_000_000_000_000 + second / 2 * 1000);
        engine.tick();
        engine.put(0, b"k", &[second as u8], 0).unwrap();
        engine.commit().unwrap();
        back_up(&store, &mut engine, 2);
        assert_eq!(engine.backups().failure, None);
    }
    let left = names(&fs, &backups());
    let stay =
        ["2001-09-09T01-46-41Z", "2001-09-09T01-46-41Z-002", "2020-01-01T00-00-00Z", &rests[1], "mine"];
    assert_eq!(left, stay, "an empty directory of such a name is not ours, a half-made one of our store is");
    assert_eq!(engine.backups().made, 4);
}

#[test]
fn another_file_system_is_refused_with_a_hint_and_nothing_stays_behind() {
    let (store, fs) = Store::in_memory();
    let faults = Faults::on(&fs);
    let store = store.on(Arc::new(faults.clone()));
    let (mut engine, _) = store.open();
    engine.put(0, b"k", b"v", 0).unwrap();
    engine.commit().unwrap();
    faults.hook().fail(Fault::Link(".seg"), EXDEV);
    back_up(&store, &mut engine, 3);
    let failure = engine.backups().failure.clone().unwrap();
    assert!(failure.contains("another file system") && failure.contains("backup-dir"), "{failure}");
    assert!(names(&fs, &backups()).is_empty());
    let unharmed = bytes(&fs);
    back_up(&store, &mut engine, 3);
    assert_eq!(engine.backups().failure, None, "the next one works");
    assert_eq!(bytes(&fs), unharmed);
}

#[test]
fn a_clock_that_was_set_back_takes_nothing_from_the_newest() {
    let (store, _) = Store::in_memory();
    let (mut engine, _) = store.open();
    engine.put(0, b"k", b"v", 0).unwrap();
    engine.commit().unwrap();
    for time in [3, 2, 1] {
        store.clock.set(time * 1_000_000_000_000);
        engine.tick();
        back_up(&store, &mut engine, 2);
        assert_eq!(engine.backups().failure, None);
        let newest = engine.backups().newest.clone().unwrap();
        assert_eq!(at(&store, newest.dir).open().1.keys, 1, "a missing one would be made anew, and empty");
    }
}

#[test]
fn a_backup_for_which_the_log_cannot_be_closed_ends() {
    let (store, fs) = Store::in_memory();
    let faults = Faults::on(&fs);
    let store = store.on(Arc::new(faults.clone()));
    let (mut engine, _) = store.open();
    engine.put(0, b"k", b"v", 0).unwrap();
    engine.commit().unwrap();
    faults.hook().fail(Fault::Create(".seg"), 5);
    back_up(&store, &mut engine, 3);
    assert!(engine.backups().failure.as_ref().is_some_and(|failure| failure.contains("could not be closed")));
    store.clock.set(1_010_000);
    engine.tick();
    back_up(&store, &mut engine, 3);
    assert_eq!(engine.backups().failure, None, "the next one works");
}

#[test]
fn a_store_that_was_repaired_can_be_backed_up_and_no_number_comes_twice() {
    let (store, fs) = Store::in_memory();
    let (mut engine, _) = store.open();
    engine.put(0, b"k", b"v", 0).unwrap();
    engine.commit().unwrap();
    engine.close().unwrap();
    // As a repair leaves it that could not tell what was lost.
    let mut lossy = manifest(&fs);
    lossy.sequence_limit += 100;
    lossy.restore_floor = lossy.sequence_limit;
    common::write(&fs, &path("MANIFEST"), &lossy.encode());
    let (mut engine, _) = store.open();
    back_up(&store, &mut engine, 3);
    assert_eq!(engine.backups().failure, None);
    let dir = engine.backups().newest.clone().unwrap().dir;
    let next = at(&store, dir).open().0.put(0, b"k", b"w", 0).unwrap();
    assert!(next > lossy.sequence_limit);
}
