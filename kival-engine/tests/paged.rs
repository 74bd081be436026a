//! Values that change page by page: what that costs, and that damage never makes a value that was none.
#![allow(clippy::unwrap_used)]

mod common;

use common::{DIR, Store, copy, flip, get_part, groups, put_part, read, segment_path, write};
use kival_engine::clock::Clock;
use kival_engine::error::{Damage, WriteError};
use kival_engine::format::group::HEADER as GROUP;
use kival_engine::format::record::{self, Kind};
use kival_engine::fs::MemoryFs;
use kival_engine::offline::{check, repair};
use kival_engine::{Engine, Fetched, OnCorruption, Options, ReadError};
use std::path::Path;
use std::sync::Arc;

const PAGE: usize = 4096;
const KEY: &[u8] = b"key";
const LARGE: usize = 1_000_000;

fn log_bytes(engine: &Engine) -> u64 {
    engine.stats().log_bytes
}

fn value(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at / 7 % 251) as u8).collect()
}

/// A store with a value of several pages, page 3 of which was changed, and a small one.
fn changed() -> (Store, MemoryFs, Vec<u8>) {
    let (store, fs) = Store::in_memory();
    let store = Store { options: Options { segment_size: 1 << 30, ..store.options.clone() }, ..store };
    let (mut engine, _) = store.open();
    let mut expected = value(LARGE);
    engine.put(0, KEY, &expected, 0).unwrap();
    engine.put(0, b"small", b"one", 0).unwrap();
    engine.commit().unwrap();
    assert!(put_part(&mut engine, 0, KEY, 3 * PAGE + 5, b"changed").unwrap());
    expected[3 * PAGE + 5..][..7].copy_from_slice(b"changed");
    engine.commit().unwrap();
    engine.put(0, b"after", b"it", 0).unwrap();
    engine.commit().unwrap();
    engine.close().unwrap();
    (store, fs, expected)
}

/// Where the records of a kind stand: the segment, and their offsets.
fn find(fs: &MemoryFs, kind: Kind) -> (u64, Vec<u64>) {
    let id = common::manifest(fs).segments[0].id;
    let bytes = read(fs, &segment_path(id));
    let mut found = Vec::new();
    for (header, records) in groups(fs, id) {
        let mut at = header.at.offset as usize + GROUP;
        for (seen, ..) in records {
            if seen == kind {
                found.push(at as u64);
            }
            at += record::decode(&bytes[at..]).unwrap().header.record_size() as usize;
        }
    }
    (id, found)
}

fn part(engine: &mut Engine, from: usize, len: usize) -> Result<Vec<u8>, ReadError> {
    get_part(engine, 0, KEY, from..from + len).map(|part| part.expect("it is there").to_vec())
}

#[track_caller]
fn is_corrupt(found: Result<Vec<u8>, ReadError>, expected: Damage) {
    match found {
        Err(ReadError::Corrupt(corruption)) => assert_eq!(corruption.damage, expected),
        other => panic!("{other:?} and not damage"),
    }
}

#[test]
fn a_change_of_a_part_costs_a_page() {
    let (mut engine, _) = Engine::open(Options { segment_size: 1 << 30, ..Options::in_memory() }).unwrap();
    engine.put(0, KEY, &value(LARGE), 0).unwrap();
    engine.commit().unwrap();
    for at in [0, 5000, LARGE - 1, LARGE, LARGE + 3 * PAGE] {
        let before = log_bytes(&engine);
        assert!(put_part(&mut engine, 0, KEY, at, b"!").unwrap());
        engine.commit().unwrap();
        let cost = log_bytes(&engine) - before;
        assert!(cost < PAGE as u64 + 200, "{cost} bytes for one at {at}");
    }
    let entry = engine.entry(0, KEY).unwrap().unwrap();
    assert_eq!(entry.value_size as usize, LARGE + 3 * PAGE + 1);
}

#[test]
fn a_value_that_grows_bit_by_bit_costs_in_proportion() {
    let (mut engine, _) = Engine::open(Options { segment_size: 1 << 30, ..Options::in_memory() }).unwrap();
    let mut expected = Vec::new();
    for step in 0..3000_usize {
        let more = vec![step as u8; 100];
        put_part(&mut engine, 0, KEY, expected.len(), &more).unwrap();
        expected.extend(more);
        engine.commit().unwrap();
    }
    assert_eq!(engine.get(0, KEY).unwrap().unwrap(), expected);
    let cost = log_bytes(&engine);
    assert!(cost < 3000 * (PAGE as u64 + 200), "{cost} bytes");
    let live = engine.stats().live_bytes;
    assert!(live < expected.len() as u64 * 21 / 20, "{live} bytes count for {}", expected.len());
}

#[test]
fn a_value_with_few_bytes_in_it_costs_what_they_do() {
    let (mut engine, _) = Engine::open(Options::in_memory()).unwrap();
    let end = 512 << 20;
    assert!(put_part(&mut engine, 0, KEY, end - 1, b"!").unwrap());
    assert!(put_part(&mut engine, 0, KEY, 5, b"?").unwrap());
    engine.commit().unwrap();
    assert!(log_bytes(&engine) < 3 * PAGE as u64);
    assert_eq!(part(&mut engine, 4, 3).unwrap(), b"\0?\0");
    assert_eq!(part(&mut engine, end - 3, 10).unwrap(), b"\0\0!");
    assert_eq!(part(&mut engine, end / 2, 10).unwrap(), [0; 10]);
}

#[test]
fn a_value_that_was_changed_all_over_is_written_anew() {
    let (mut engine, _) = Engine::open(Options { segment_size: 1 << 30, ..Options::in_memory() }).unwrap();
    let mut expected = value(LARGE);
    engine.put(0, KEY, &expected, 0).unwrap();
    let (mut rewritten, pages) = (0, LARGE / PAGE);
    for number in (0..pages).map(|number| number * 7 % pages) {
        let by_page = put_part(&mut engine, 0, KEY, number * PAGE, b"here").unwrap();
        expected[number * PAGE..][..4].copy_from_slice(b"here");
        rewritten += usize::from(!by_page);
        engine.commit().unwrap();
        let live = engine.stats().live_bytes as usize;
        assert!(live < LARGE * 8 / 5, "{live} bytes count for {LARGE}");
    }
    assert!((1..=3).contains(&rewritten), "{rewritten} times");
    assert_eq!(engine.get(0, KEY).unwrap().unwrap(), expected);
}

#[test]
fn pages_leave_no_trace_in_memory_when_their_value_goes() {
    let (mut engine, _) = Engine::open(Options { segment_size: 1 << 30, ..Options::in_memory() }).unwrap();
    let ends: [fn(&mut Engine); 3] = [
        |engine| assert!(engine.delete(0, KEY).unwrap()),
        |engine| assert!(engine.put(0, KEY, b"short", 0).unwrap() > 0),
        |engine| engine.flush(&[0]).unwrap(),
    ];
    for end in ends {
        engine.put(0, KEY, b"", 0).unwrap();
        engine.commit().unwrap();
        let before = engine.stats().keydir_bytes;
        for number in 0..200 {
            assert!(put_part(&mut engine, 0, KEY, (300 + number) * PAGE, b"!").unwrap());
        }
        let held = engine.stats().keydir_bytes;
        assert!(held > before + 200 * 20, "{held} bytes and {before} without pages");
        engine.commit().unwrap();
        end(&mut engine);
        engine.commit().unwrap();
        let after = engine.stats().keydir_bytes;
        assert!(after <= before, "{after} bytes, {before} before");
    }
}

#[test]
fn what_was_read_for_a_command_is_not_served_when_it_has_changed_since() {
    let (mut engine, _) =
        Engine::open(Options { segment_size: 1 << 30, cache_size: 0, ..Options::in_memory() }).unwrap();
    engine.put(0, KEY, &value(LARGE), 0).unwrap();
    engine.commit().unwrap();
    let entry = engine.entry(0, KEY).unwrap().unwrap();
    let Fetched::Cold(cold) = engine.fetch_part(0, KEY, &entry, 0..3 * PAGE).unwrap() else {
        panic!("its checksums are not known yet")
    };
    let read = cold.read().unwrap();
    engine.put_pages(0, KEY, &entry, PAGE, &[b'!'; PAGE]).unwrap();
    engine.pin(read);
    let entry = engine.entry(0, KEY).unwrap().unwrap();
    let Fetched::Value(found) = engine.fetch_part(0, KEY, &entry, 0..3 * PAGE).unwrap() else {
        panic!("the pages beside it are held")
    };
    assert_eq!(found[..PAGE], value(LARGE)[..PAGE]);
    assert_eq!(found[PAGE..2 * PAGE], [b'!'; PAGE]);
    assert_eq!(found[2 * PAGE..], value(LARGE)[2 * PAGE..3 * PAGE]);
}

#[test]
fn a_damaged_page_is_told_and_the_others_are_read() {
    let (store, fs, expected) = changed();
    let (id, pages) = find(&fs, Kind::Page);
    // In the middle of the page's bytes.
    flip(&fs, &segment_path(id), pages[0] + 2000);
    let (mut engine, _) = store.open();
    is_corrupt(part(&mut engine, 3 * PAGE, 1), Damage::Checksum);
    is_corrupt(part(&mut engine, 0, LARGE), Damage::Checksum);
    assert_eq!(part(&mut engine, 0, 3 * PAGE).unwrap(), expected[..3 * PAGE]);
    assert_eq!(part(&mut engine, 4 * PAGE, 2 * PAGE).unwrap(), expected[4 * PAGE..6 * PAGE]);
}

#[test]
fn damage_of_the_value_is_told_whether_its_checksums_are_known_or_not() {
    let (store, fs, expected) = changed();
    let (id, values) = find(&fs, Kind::Value);
    let at = values[0] + 36 + KEY.len() as u64 + 10 * PAGE as u64;
    let first_read_after = |seen_before: bool| {
        let (fs, mut expected) = (copy(&fs), expected.clone());
        let (mut engine, _) = store.on(Arc::new(fs.clone())).open();
        if seen_before {
            assert_eq!(part(&mut engine, 0, 10).unwrap(), expected[..10]);
        }
        common::flip_in_place(&fs, &segment_path(id), at);
        expected.truncate(PAGE);
        (part(&mut engine, 10 * PAGE, 10), part(&mut engine, 0, PAGE), expected)
    };
    let (damaged, beside, expected) = first_read_after(true);
    is_corrupt(damaged, Damage::Checksum);
    assert_eq!(beside.unwrap(), expected, "its own checksum speaks for it");
    let (damaged, beside, _) = first_read_after(false);
    is_corrupt(damaged, Damage::Checksum);
    is_corrupt(beside, Damage::Checksum);
}

#[test]
fn a_page_over_another_value_is_corruption() {
    let (store, fs, _) = changed();
    let (id, pages) = find(&fs, Kind::Page);
    let mut bytes = read(&fs, &segment_path(id));
    let found = record::decode(&bytes[pages[0] as usize..]).unwrap();
    let (header, key, mut value) = (found.header, found.key.to_vec(), found.value.to_vec());
    value[0] ^= 1;
    let mut changed = Vec::new();
    record::encode(&mut changed, &header, &key, &value);
    bytes[pages[0] as usize..][..changed.len()].copy_from_slice(&changed);
    write(&fs, &segment_path(id), &bytes);
    // The hint still fits: only a read can tell.
    let (mut engine, _) = store.open();
    is_corrupt(part(&mut engine, 3 * PAGE, 1), Damage::Misplaced);
}

#[test]
fn a_lost_page_takes_its_value_along_in_a_repair() {
    let (store, fs, expected) = changed();
    let (id, pages) = find(&fs, Kind::Page);
    flip(&fs, &segment_path(id), pages[0] + 2000);
    let (dir, to) = (Path::new(DIR), Path::new("/new"));
    let found = repair(Arc::new(fs.clone()), dir, to, &mut ()).unwrap().expect("there is damage");
    assert_eq!(found.lost.iter().map(|lost| &lost.key[..]).collect::<Vec<_>>(), [KEY]);
    let open = |dir: &Path| Engine::open(Options { dir: dir.to_owned(), ..store.options.clone() });
    let (mut engine, report) = open(to).unwrap();
    assert_eq!((report.keys, engine.get(0, KEY).unwrap()), (2, None));
    assert_eq!(engine.get(0, b"small").unwrap().as_deref(), Some(&b"one"[..]));
    drop(engine);

    let (store, fs, _) = self::changed();
    assert!(check(Arc::new(fs.clone()), dir, &mut ()).unwrap().places.is_empty());
    assert_eq!(store.open().0.get(0, KEY).unwrap().unwrap(), expected, "a sound one is as it was");
}

#[test]
fn a_value_whose_page_may_be_lost_is_not_served() {
    let (store, fs, _) = changed();
    let (id, pages) = find(&fs, Kind::Page);
    flip(&fs, &segment_path(id), pages[0] + 2000);
    common::flip(&fs, &common::path(&kival_engine::format::segment::hint_name(id)), 84);
    let options = Options { on_corruption: OnCorruption::Quarantine, ..store.options.clone() };
    let (mut engine, report) = Engine::open(options).unwrap();
    assert!(!report.clean || engine.stats().quarantined_segments == 1);
    assert!(matches!(engine.entry(0, KEY), Err(ReadError::Doubtful(_))));
    assert!(matches!(engine.entry(0, b"after"), Ok(Some(_))));
}

#[test]
fn a_page_behind_the_end_of_all_values_is_refused() {
    let (store, _) = Store::in_memory();
    let mut engine = store.open().0;
    let savepoint = engine.savepoint();
    let error = put_part(&mut engine, 0, KEY, 512 << 20, b"!").unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(WriteError::TooLarge)), "{error}");
    engine.roll_back(savepoint);
    engine.put(0, b"other", b"v", 0).unwrap();
    engine.commit().unwrap();
    engine.close().unwrap();
    assert_eq!(store.contents(&mut store.open().0), [(b"other".to_vec(), b"v".to_vec())]);
}

#[test]
fn a_page_that_was_taken_back_is_not_found_by_the_number_that_another_has_now() {
    let (mut engine, _) =
        Engine::open(Options { segment_size: 1 << 30, cache_size: 0, ..Options::in_memory() }).unwrap();
    engine.put(0, KEY, &value(LARGE), 0).unwrap();
    engine.commit().unwrap();
    let entry = engine.entry(0, KEY).unwrap().unwrap();
    let savepoint = engine.savepoint();
    let taken_back = engine.put_pages(0, KEY, &entry, 0, &[b'A'; PAGE]).unwrap();
    let entry_then = engine.entry(0, KEY).unwrap().unwrap();
    let Fetched::Cold(cold) = engine.fetch_part(0, KEY, &entry_then, 0..400_000).unwrap() else {
        panic!("so much is read by a thread that may wait")
    };
    engine.roll_back(savepoint);
    assert_eq!(engine.put_pages(0, KEY, &entry, 0, &[b'B'; PAGE]).unwrap(), taken_back);
    engine.commit().unwrap();
    engine.pin(cold.read().unwrap());
    assert_eq!(part(&mut engine, 0, PAGE).unwrap(), [b'B'; PAGE]);
    assert_eq!(part(&mut engine, 0, 2 * PAGE).unwrap()[..PAGE], [b'B'; PAGE]);
    assert_eq!(part(&mut engine, PAGE, PAGE).unwrap(), value(LARGE)[PAGE..2 * PAGE]);
}

#[test]
fn a_large_part_is_read_at_once_though_pages_of_it_have_changed_while_it_was() {
    for cache_size in [0, 64 << 20] {
        let (mut engine, _) =
            Engine::open(Options { segment_size: 1 << 30, cache_size, ..Options::in_memory() }).unwrap();
        let mut expected = value(LARGE);
        engine.put(0, KEY, &expected, 0).unwrap();
        engine.commit().unwrap();
        assert!(put_part(&mut engine, 0, KEY, 9 * PAGE, b"before").unwrap());
        engine.commit().unwrap();
        expected[9 * PAGE..][..6].copy_from_slice(b"before");
        let entry = engine.entry(0, KEY).unwrap().unwrap();
        let Fetched::Cold(cold) = engine.fetch(0, KEY, &entry).unwrap() else {
            panic!("so much is read by a thread that may wait")
        };
        for (at, change) in [(3 * PAGE, b"one"), (9 * PAGE + 1, b"two"), (LARGE - 3, b"end")] {
            assert!(put_part(&mut engine, 0, KEY, at, change).unwrap());
            expected[at..at + 3].copy_from_slice(change);
        }
        engine.commit().unwrap();
        engine.pin(cold.read().unwrap());
        let entry = engine.entry(0, KEY).unwrap().unwrap();
        let Fetched::Value(found) = engine.fetch(0, KEY, &entry).unwrap() else {
            panic!("what has changed is in memory")
        };
        assert!(found == expected);
    }
}

#[test]
fn a_value_that_is_to_be_written_anew_is_so_by_one_alone() {
    let (store, _) = Store::in_memory();
    let options = Options { segment_size: 1 << 30, ..store.options.clone() };
    let store = Store { options, ..store };
    let mut engine = store.open().0;
    engine.put(0, KEY, &value(LARGE), 0).unwrap();
    engine.commit().unwrap();
    let mut at = 0;
    let mut entry = engine.entry(0, KEY).unwrap().unwrap();
    while engine.is_by_page(0, Some(&entry), at, 1) {
        assert!(put_part(&mut engine, 0, KEY, at, b"!").unwrap());
        entry = engine.entry(0, KEY).unwrap().unwrap();
        at += PAGE;
    }
    engine.commit().unwrap();
    assert!(engine.is_by_page(0, Some(&entry), 0, 1), "another one has been told to");
    store.clock.set(store.clock.now_ms() + 2000);
    engine.tick();
    assert!(!engine.is_by_page(0, Some(&entry), 0, 1), "it has not done so");
    let Fetched::Cold(cold) = engine.fetch(0, KEY, &entry).unwrap() else {
        panic!("so much is read by a thread that may wait")
    };
    engine.pin(cold.read().unwrap());
    assert!(!engine.is_by_page(0, Some(&entry), 0, 1), "this one has read all of it");
}
