//! Data directories that were written once and are kept: every format version that ever was, sound and
//! damaged, opens or is refused as it must be, by this program and by all that come after it.
//!
//! `fixtures/v<version>/<name>/` are the files. New ones are made, and old ones never touched, by
//! `cargo test -p kival-engine --test fixtures -- --ignored`; how is in `fixtures/make.rs`.
#![allow(clippy::unwrap_used)]
#![allow(unreachable_pub)]

mod common;
#[path = "fixtures/make.rs"]
mod make;

use common::{DIR, Store, path, segment_path, write};
use kival_engine::error::{Corruption, Damage, OpenError, ReadError};
use kival_engine::fs::MemoryFs;
use kival_engine::{Engine, OpenReport, TornTail};
use make::Small;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the directories of a format version lie.
fn home(version: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/v{version}"))
}

/// A store with the files of a fixture.
fn load(name: &str) -> (Store, MemoryFs) {
    let (store, fs) = Store::in_memory();
    let files = std::fs::read_dir(home(1).join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    for file in files {
        let file = file.unwrap();
        write(&fs, &path(file.file_name().to_str().unwrap()), &std::fs::read(file.path()).unwrap());
    }
    (store, fs)
}

/// What is known of a key: database, key, value, expiry.
type Known = (u32, Vec<u8>, Vec<u8>, u64);

fn contents(engine: &mut Engine) -> Vec<Known> {
    let mut all = Vec::new();
    for db in 0..engine.databases() {
        let entries: Vec<_> = engine.iter(db).map(|(key, entry)| (key.to_vec(), entry.expiry)).collect();
        for (key, expiry) in entries {
            let value = engine.get(db, &key).expect("sound").expect("live").to_vec();
            all.push((db, key, value, expiry));
        }
    }
    all.sort();
    all
}

/// The fixture opens, holds exactly this, takes a write, and has it after a clean stop.
#[track_caller]
fn opens(name: &str, mut expected: Vec<Known>) -> OpenReport {
    let (store, _) = load(name);
    let (mut engine, report) = store.open();
    expected.sort();
    assert_eq!(contents(&mut engine), expected, "{name}");
    assert_eq!(report.keys, expected.len() as u64, "{name}");
    engine.put(3, b"written by a later run", b"!", 0).unwrap();
    engine.close().unwrap();
    expected.push((3, b"written by a later run".to_vec(), b"!".to_vec(), 0));
    expected.sort();
    let (mut engine, again) = store.open();
    assert_eq!(contents(&mut engine), expected, "{name}, opened again");
    assert!(again.clean && again.torn.is_empty() && again.scanned == 0, "{name}: {again:?}");
    report
}

/// The fixture is refused, and its files are left as they are.
#[track_caller]
fn refused(name: &str) -> OpenError {
    let (store, fs) = load(name);
    let files = |fs: &MemoryFs| make::files(fs);
    let before = files(&fs);
    let Err(error) = Engine::open(store.on(Arc::new(fs.clone())).options) else {
        panic!("{name} was opened");
    };
    assert_eq!(files(&fs), before, "{name}: an open that is refused changes nothing");
    error
}

/// The fixture is refused because of this damage at this place.
#[track_caller]
fn corrupt(name: &str, file: PathBuf, offset: u64, damage: Damage) {
    match refused(name) {
        OpenError::Corrupt(found) => assert_eq!(found, Corruption { file, offset, damage }, "{name}"),
        other => panic!("{name}: refused for another reason: {other}"),
    }
}

#[test]
fn a_store_that_was_closed_opens_with_all_it_held() {
    let report = opens("closed", make::life());
    assert!(report.clean && report.torn.is_empty() && report.scanned == 0);
    assert!(report.segments > 1, "the fixture has more than one segment");
    let report = opens("empty", vec![]);
    assert!(report.clean);
}

#[test]
fn values_that_were_changed_page_by_page_open_as_they_were() {
    assert!(opens("paged", make::pages()).clean);
    assert!(opens("paged-merged", make::pages()).clean);
    assert!(!opens("paged-killed", make::pages()).clean);
}

#[test]
fn a_backup_opens_with_all_it_held_when_it_was_made() {
    let report = opens("backup", make::life());
    assert!(report.clean && report.torn.is_empty() && report.scanned == 0);
}

#[test]
fn a_store_that_was_closed_opens_on_a_real_disk() {
    let dir = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(home(1).join("closed")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
    }
    let options = kival_engine::Options { dir: dir.path().into(), ..Store::in_memory().0.options };
    let fs = Arc::new(kival_engine::fs::RealFs);
    let (mut engine, report) = Engine::open(kival_engine::Options { fs, ..options }).unwrap();
    let mut expected = make::life();
    expected.sort();
    assert_eq!(contents(&mut engine), expected);
    assert!(report.clean);
}

#[test]
fn a_store_that_was_merged_opens_with_all_it_held() {
    let (_, fs) = load("merged");
    assert!(common::manifest(&fs).segments.iter().any(|segment| segment.merged));
    assert!(common::manifest(&fs).restore_floor > 0, "something was dropped");
    let report = opens("merged", make::life());
    assert!(report.clean && report.scanned == 0);
}

#[test]
fn a_store_that_was_killed_opens_with_its_whole_groups() {
    let report = opens("killed", make::life());
    assert!(!report.clean && report.torn.is_empty());
    // Nothing was ever synced: there is no watermark, and all of it is appended anew.
    let report = opens("killed-unsynced", make::small(Small::Third));
    assert!(!report.clean && report.torn.is_empty());
}

#[test]
fn a_torn_tail_is_left_behind_and_said() {
    let (_, fs) = load("torn");
    let id = make::first_segment(&fs);
    let report = opens("torn", make::small(Small::Second));
    assert!(!report.clean);
    // Of 30 bytes the last four are zeros, which do not count.
    let torn = TornTail { file: segment_path(id), offset: make::THIRD_TURN, bytes: 26 };
    assert_eq!(report.torn, [torn]);
}

#[test]
fn damage_below_a_watermark_is_refused_by_file_and_offset() {
    let (_, fs) = load("flipped-below-watermark");
    let file = segment_path(make::first_segment(&fs));
    corrupt("flipped-below-watermark", file, make::SECOND_TURN, Damage::Checksum);
}

#[test]
fn a_hint_or_filter_that_is_missing_or_damaged_is_no_loss() {
    for (name, scanned) in [
        ("missing-hint", 1),
        ("damaged-hint", 1),
        ("short-hint", 1),
        ("damaged-filter", 0),
        // A newer program wrote the hint of a segment that this one can read.
        ("newer-hint", 1),
    ] {
        let report = opens(name, make::small(Small::Third));
        assert_eq!(report.scanned, scanned, "{name}");
        assert!(report.clean, "{name}");
    }
}

#[test]
fn a_damaged_value_is_an_error_where_it_is_read_and_nowhere_else() {
    let (store, fs) = load("flipped-value");
    let id = make::first_segment(&fs);
    let (mut engine, _) = store.open();
    let Err(ReadError::Corrupt(found)) = engine.get(0, b"second") else { panic!("the damage was not seen") };
    let offset = make::SECOND_TURN + 88;
    assert_eq!(found, Corruption { file: segment_path(id), offset, damage: Damage::Checksum });
    assert_eq!(engine.get(0, b"first").unwrap().as_deref(), Some(&b"1"[..]));
}

#[test]
fn a_segment_that_is_missing_or_short_is_refused() {
    // No segment is left to ask for its id: the manifest has it.
    let id = |name| common::manifest(&load(name).1).segments[0].id;
    corrupt("missing-segment", segment_path(id("missing-segment")), 0, Damage::Missing);
    let (_, fs) = load("short-segment");
    let file = segment_path(make::first_segment(&fs));
    let length = common::read(&fs, &file).len() as u64;
    corrupt("short-segment", file, length, Damage::Truncated);
}

#[test]
fn a_manifest_that_is_missing_damaged_or_of_another_time_is_refused() {
    assert!(matches!(refused("missing-manifest"), OpenError::NoManifest { .. }));
    corrupt("damaged-manifest", path("MANIFEST"), 0, Damage::Checksum);
    assert!(matches!(refused("stale-manifest"), OpenError::StaleManifest { .. }));
}

#[test]
fn a_newer_version_is_refused_by_its_number() {
    for name in ["newer-manifest", "newer-segment"] {
        let error = refused(name);
        let OpenError::Corrupt(found) = &error else { panic!("{name}: {error}") };
        assert_eq!((found.offset, found.damage), (0, Damage::Newer(2)), "{name}");
        assert!(error.to_string().contains("written by a newer format version (2)"), "{name}: {error}");
    }
}

#[test]
fn what_only_a_newer_program_knows_is_refused_and_no_torn_tail() {
    // All of it stands where nothing was synced: damage would be a torn tail there.
    for name in ["newer-kind", "newer-flag", "newer-reserved", "newer-data-type", "newer-object"] {
        let (_, fs) = load(name);
        let file = segment_path(make::first_segment(&fs));
        corrupt(name, file, make::THIRD_TURN, Damage::Unsupported);
    }
    corrupt("newer-segment-state", path("MANIFEST"), 0, Damage::Unsupported);
    let (_, fs) = load("newer-segment-kind");
    corrupt("newer-segment-kind", segment_path(make::first_segment(&fs)), 0, Damage::Unsupported);
}

#[test]
fn every_fixture_that_can_be_made_is_there_and_no_other() {
    let mut there: Vec<_> = std::fs::read_dir(home(1))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    there.sort();
    let mut made: Vec<_> = make::FIXTURES.iter().map(|(name, _)| (*name).to_owned()).collect();
    made.sort();
    assert_eq!(there, made);
}

#[test]
#[ignore = "writes into the source tree: the fixtures that are not there yet"]
fn make_the_fixtures_that_are_missing() {
    for (name, make) in make::FIXTURES {
        let dir = home(kival_engine::format::VERSION).join(name);
        if dir.exists() {
            continue;
        }
        let (store, fs) = Store::in_memory();
        make(&store, &fs);
        std::fs::create_dir_all(&dir).unwrap();
        for (name, bytes) in make::files(&fs) {
            std::fs::write(dir.join(Path::new(&name)), bytes).unwrap();
        }
        assert!(!make::files(&fs).is_empty(), "{DIR} holds a store");
    }
}
