//! `on-corruption quarantine` against a model: after any history and any damage every answer is the
//! model's or an error. Never a wrong value, a nil for a live key, a deleted key back; and nothing that is
//! done meanwhile, compaction included, takes from the store what putting the lost file back would bring.
//!
//! Histories and damage come from seeds: `KIVAL_SEED` runs one, `KIVAL_QUARANTINE_CASES` so many.
#![allow(clippy::unwrap_used)]

mod common;

use common::{DIR, EIO, Fault, Faults, Store, copy, flip, groups, manifest, path, read, segment_path, write};
use kival_engine::error::OpenError;
use kival_engine::format::filter::Filter;
use kival_engine::format::hint::HintHeader;
use kival_engine::format::segment::hint_name;
use kival_engine::fs::{FileSystem, MemoryFs};
use kival_engine::{Engine, OnCorruption, OpenReport, ReadError, WriteError};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;

const DATABASES: u32 = 3;
const KEYS: u64 = 12;
const START: u64 = 1_000_000;

/// Value and expiry by database and key.
type Model = BTreeMap<(u32, Vec<u8>), (Vec<u8>, u64)>;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

fn key(number: u64) -> Vec<u8> {
    format!("key{number}").into_bytes()
}

fn swapped(db: u32, first: u32, second: u32) -> u32 {
    match db {
        db if db == first => second,
        db if db == second => first,
        db => db,
    }
}

/// Does something to the engine and to the model.
fn act(random: &mut Random, engine: &mut Engine, model: &mut Model) {
    let (db, name) = (random.below(DATABASES.into()) as u32, key(random.below(KEYS)));
    let expiry = if random.one_in(4) { START + 1 + random.below(2000) } else { 0 };
    match random.below(24) {
        0..3 => {
            let offset = if random.one_in(2) { random.below(300) } else { random.below(20_000) } as usize;
            let part = vec![random.next() as u8; 1 + random.below(180) as usize];
            common::put_part(engine, db, &name, offset, &part).unwrap();
            let now = engine.now_ms();
            let gone = live(model, db, &name, now).is_none();
            let (value, expiry) = model.entry((db, name)).or_default();
            if gone {
                (*value, *expiry) = (Vec::new(), 0);
            }
            value.resize(value.len().max(offset + part.len()), 0);
            value[offset..offset + part.len()].copy_from_slice(&part);
        }
        3..14 => {
            let value = vec![random.next() as u8; random.below(180) as usize];
            engine.put(db, &name, &value, expiry).unwrap();
            model.insert((db, name), (value, expiry));
        }
        14..19 => {
            engine.delete(db, &name).unwrap();
            model.remove(&(db, name));
        }
        19..23 => {
            engine.set_expiry(db, &name, expiry).unwrap();
            model.entry((db, name)).and_modify(|(_, old)| *old = expiry);
        }
        _ if random.one_in(3) => {
            engine.flush(&[db]).unwrap();
            model.retain(|(other, _), _| *other != db);
        }
        _ => {
            let other = random.below(DATABASES.into()) as u32;
            engine.swap(db, other).unwrap();
            let moved = std::mem::take(model).into_iter();
            *model = moved.map(|((at, key), value)| ((swapped(at, db, other), key), value)).collect();
        }
    }
}

/// Some runs of the store, the last one ending cleanly or by a crash.
fn history(random: &mut Random, store: &Store, clean: bool) -> Model {
    let mut model = Model::new();
    let runs = 1 + random.below(4);
    for run in 1..=runs {
        let mut engine = store.open().0;
        for _ in 0..random.below(60) {
            act(random, &mut engine, &mut model);
            if random.one_in(2) {
                engine.commit().unwrap();
                engine.maintain();
            }
            if random.one_in(12) {
                engine.sync().unwrap();
            }
        }
        if random.one_in(4) {
            engine.commit().unwrap();
            store.compact(&mut engine);
        }
        if run < runs || clean {
            engine.close().unwrap();
            continue;
        }
        // The last group speaks for all before it; what is done to it is a torn tail.
        engine.commit().unwrap();
        engine.sync().unwrap();
        engine.put(0, b"last", b"", 0).unwrap();
        model.insert((0, b"last".to_vec()), (vec![], 0));
        engine.commit().unwrap();
    }
    model
}

/// Damages one segment of the store and perhaps its hint; gives the segment's id.
fn damage(random: &mut Random, fs: &MemoryFs) -> Option<u64> {
    let segments = manifest(fs).segments;
    if segments.is_empty() {
        return None;
    }
    let entry = segments[random.below(segments.len() as u64) as usize];
    let (file, hint) = (segment_path(entry.id), path(&hint_name(entry.id)));
    let mut bytes = read(fs, &file);
    // Of the last group of the log nothing tells whether it was durable.
    let last = groups(fs, entry.id).last().map(|(header, _)| header.at.offset);
    let end = if entry.sealed.is_some() { bytes.len() as u64 } else { last.unwrap_or(48) };
    if end == 0 {
        return None;
    }
    let offset = random.below(end);
    let upto = (offset + 1 + random.below(200)).min(end) as usize;
    match random.below(6) {
        0 => fs.remove(&file).unwrap(),
        1 if entry.sealed.is_some() => write(fs, &file, &bytes[..offset as usize]),
        2 => {
            bytes[offset as usize..upto].fill(0);
            write(fs, &file, &bytes);
        }
        3 => flip(fs, &file, offset),
        _ => {
            bytes[offset as usize..upto].iter_mut().for_each(|byte| *byte = random.next() as u8);
            write(fs, &file, &bytes);
        }
    }
    if let Ok(length) = fs.open(&hint).and_then(|hint| hint.len()) {
        match random.below(4) {
            0 => {}
            1 => fs.remove(&hint).unwrap(),
            // The first block, so that the filter stays.
            2 => flip(fs, &hint, 84),
            _ => flip(fs, &hint, random.below(length)),
        }
    }
    Some(entry.id)
}

/// What was asked, and how often the answer was an error.
#[derive(Default, Debug)]
struct Tally {
    answers: u64,
    errors: u64,
}

fn live<'a>(model: &'a Model, db: u32, key: &[u8], now: u64) -> Option<&'a (Vec<u8>, u64)> {
    model.get(&(db, key.to_vec())).filter(|(_, expiry)| *expiry == 0 || *expiry > now)
}

/// Every answer is the model's or an error.
fn check(engine: &mut Engine, model: &Model, what: &str, tally: &mut Tally) {
    let now = engine.tick();
    for db in 0..DATABASES {
        let names = (0..KEYS + 3).map(key).chain([b"last".to_vec()]);
        for name in names {
            let expected = live(model, db, &name, now);
            tally.answers += 1;
            match engine.entry(db, &name) {
                Err(ReadError::Doubtful(_)) => tally.errors += 1,
                Err(other) => panic!("{what}: {other}"),
                Ok(entry) => {
                    assert_eq!(
                        entry.map(|entry| entry.expiry),
                        expected.map(|(_, expiry)| *expiry),
                        "{what}: {db} {}",
                        String::from_utf8_lossy(&name)
                    );
                    match engine.get(db, &name) {
                        Err(ReadError::Corrupt(_)) => tally.errors += 1,
                        Err(other) => panic!("{what}: {other}"),
                        Ok(value) => assert_eq!(
                            value.as_deref(),
                            expected.map(|(value, _)| &value[..]),
                            "{what}: {db} {}",
                            String::from_utf8_lossy(&name)
                        ),
                    }
                }
            }
        }
        for (name, entry) in engine.iter(db) {
            let expected = live(model, db, name, now).expect("shown, and live");
            assert_eq!(entry.expiry, expected.1, "{what}");
        }
        let there = model.iter().filter(|((at, _), _)| *at == db).count();
        assert!(engine.key_count(db) <= there, "{what}");
    }
}

/// Writes over keys and removes some of them: that heals them, where writes are taken at all.
fn heal(random: &mut Random, engine: &mut Engine, model: &mut Model, tally: &mut Tally) {
    for _ in 0..12 {
        let (db, name) = (random.below(DATABASES.into()) as u32, key(random.below(KEYS)));
        match engine.put(db, &name, b"healed", 0) {
            Ok(_) => {
                model.insert((db, name.clone()), (b"healed".to_vec(), 0));
                assert_eq!(engine.get(db, &name).unwrap().as_deref(), Some(&b"healed"[..]));
                if random.one_in(3) {
                    let savepoint = engine.savepoint();
                    assert!(engine.delete(db, &name).unwrap());
                    assert_eq!(
                        engine.get(db, &name).unwrap(),
                        None,
                        "its tombstone is newer than all damage"
                    );
                    if random.one_in(2) {
                        engine.roll_back(savepoint);
                    } else {
                        model.remove(&(db, name));
                    }
                }
            }
            Err(WriteError::Doubtful(_)) => tally.errors += 1,
            Err(other) => panic!("{other}"),
        }
        if random.one_in(3) {
            engine.commit().unwrap();
        }
        let (savepoint, name) = (engine.savepoint(), key(random.below(KEYS)));
        match engine.delete(db, &name) {
            Ok(removed) => {
                assert_eq!(removed, live(model, db, &name, engine.now_ms()).is_some());
                engine.roll_back(savepoint);
            }
            Err(WriteError::Doubtful(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }
    engine.commit().unwrap();
}

fn quarantine(store: &Store, fs: &MemoryFs) -> Store {
    let mut store = store.on(Arc::new(fs.clone()));
    store.options.on_corruption = OnCorruption::Quarantine;
    store.options.cache_size = 0;
    store
}

/// One history, one damage, and all that may be done after.
fn case(seed: u64, tally: &mut Tally) {
    let mut random = Random(seed);
    let (mut store, fs) = Store::in_memory();
    store.options.databases = DATABASES;
    let clean = random.one_in(2);
    let mut model = history(&mut random, &store, clean);
    let sound = copy(&fs);
    let Some(damaged) = damage(&mut random, &fs) else { return };
    let store = quarantine(&store, &fs);
    let (mut engine, report) = store.open();
    check(&mut engine, &model, "opened", tally);
    heal(&mut random, &mut engine, &mut model, tally);
    check(&mut engine, &model, "healed", tally);
    store.clock.set(START + 1000);
    engine.tick();
    engine.expire(100);
    engine.commit().unwrap();
    check(&mut engine, &model, "after expiry", tally);
    if random.one_in(2) {
        engine.compact();
        store.settle(&mut engine);
        check(&mut engine, &model, "compacted", tally);
    }
    engine.sync().unwrap();
    engine.close().unwrap();
    let (mut engine, again) = store.open();
    assert!(again.clean);
    assert_eq!(again.damaged_segments, report.damaged_segments, "what is damaged stays so");
    check(&mut engine, &model, "opened again", tally);
    engine.close().unwrap();
    if clean && manifest(&fs).segments.iter().any(|segment| segment.id == damaged) {
        // The operator finds the files that were lost.
        for file in [segment_path(damaged), path(&hint_name(damaged))] {
            write(&fs, &file, &read(&sound, &file));
        }
        let mut store = store.clone();
        store.options.on_corruption = OnCorruption::Refuse;
        let mut engine = store.open().0;
        let mut whole = Tally::default();
        check(&mut engine, &model, "made whole", &mut whole);
        assert_eq!(whole.errors, 0);
    }
}

#[test]
fn after_any_damage_every_answer_is_true_or_an_error() {
    let given = |name: &str| std::env::var(name).ok().and_then(|number| number.parse::<u64>().ok());
    let mut tally = Tally::default();
    if let Some(seed) = given("KIVAL_SEED") {
        return case(seed, &mut tally);
    }
    let cases = given("KIVAL_QUARANTINE_CASES").unwrap_or(400);
    let first = RandomState::new().hash_one(0);
    for seed in (0..cases).map(|number| first.wrapping_add(number)) {
        println!("KIVAL_SEED={seed}");
        case(seed, &mut tally);
    }
    println!("{tally:?}");
    assert!(tally.errors > cases, "damage was made");
    assert!(tally.errors < tally.answers / 3 * 2, "and not all was refused");
}

/// A store of one sealed segment, of which the groups after the first have been overwritten, and the first
/// block of its hint: what is known of the lost keys is the filter alone.
fn lost_but_for_the_filter(forge: impl Fn(&mut Vec<u8>, usize)) -> (Store, OpenReport, Engine) {
    let (store, fs) = Store::in_memory();
    let mut engine = store.open().0;
    engine.put(0, b"kept", b"1", 0).unwrap();
    engine.commit().unwrap();
    engine.put(0, b"lost", b"2", 0).unwrap();
    engine.close().unwrap();
    let id = manifest(&fs).segments[0].id;
    let second = groups(&fs, id)[1].0.at.offset;
    flip(&fs, &segment_path(id), second + 100);
    let hint = path(&hint_name(id));
    let mut bytes = read(&fs, &hint);
    bytes[84] ^= 1;
    let filter_at = HintHeader::decode(bytes[..80].try_into().unwrap()).unwrap().filter_at as usize;
    forge(&mut bytes, filter_at);
    write(&fs, &hint, &bytes);
    let store = quarantine(&store, &fs);
    let (engine, report) = store.open();
    (store, report, engine)
}

#[test]
fn a_filter_tells_which_keys_are_in_doubt() {
    let (_, report, mut engine) = lost_but_for_the_filter(|_, _| {});
    let zone = &report.quarantined[0];
    assert_eq!((zone.lowest, zone.highest, zone.has_filter()), (2, 2, true));
    assert_eq!((engine.stats().quarantined_segments, engine.stats().quarantined_bytes), (1, zone.bytes));
    assert!(matches!(engine.get(0, b"lost"), Err(ReadError::Doubtful(_))));
    assert!(matches!(engine.get(0, b"kept"), Err(ReadError::Doubtful(_))), "there may be a newer one");
    let absent = (0..50).filter(|n| engine.get(0, &key(*n)).is_ok_and(|value| value.is_none())).count();
    assert!(absent > 40, "the filter denies keys that it does not hold: {absent}");
    assert_eq!(engine.key_count(0), 0, "only what is certain is shown");
    engine.put(0, b"kept", b"3", 0).unwrap();
    assert_eq!(engine.get(0, b"kept").unwrap().as_deref(), Some(&b"3"[..]), "a blind write heals");
    assert_eq!(engine.key_count(0), 1);
}

#[test]
#[should_panic(expected = "a nil for a live key")]
fn a_filter_that_denies_its_keys_is_seen_to_hide_them() {
    let (_, _, mut engine) = lost_but_for_the_filter(|hint, filter_at| {
        hint.truncate(filter_at);
        hint.extend_from_slice(&Filter::with_room_for(2).encode());
    });
    assert!(engine.get(0, b"lost").is_err(), "a nil for a live key");
}

#[test]
fn a_sealed_segment_that_is_missing_serves_its_keys_and_no_value() {
    let (store, fs) = Store::in_memory();
    let mut engine = store.open().0;
    engine.put(0, b"key", b"value", 1_900_000).unwrap();
    engine.close().unwrap();
    let id = manifest(&fs).segments[0].id;
    fs.remove(&segment_path(id)).unwrap();
    assert!(matches!(Engine::open(store.options.clone()), Err(OpenError::Corrupt(_))), "the default refuses");
    let store = quarantine(&store, &fs);
    let (mut engine, report) = store.open();
    assert_eq!((report.damaged_segments, report.quarantined.len()), (1, 0), "its hint tells all keys");
    assert_eq!(engine.entry(0, b"key").unwrap().map(|entry| entry.expiry), Some(1_900_000));
    assert_eq!(engine.get(0, b"other").unwrap(), None);
    match engine.get(0, b"key") {
        Err(ReadError::Corrupt(corruption)) => assert_eq!(corruption.file, segment_path(id)),
        other => panic!("{other:?}"),
    }
    engine.compact();
    store.settle(&mut engine);
    assert!(manifest(&fs).segments.iter().any(|segment| segment.id == id), "no merge drops it");
    assert!(engine.stats().compaction.last_ok, "nor reads it");
}

#[test]
fn the_log_goes_on_behind_damage_below_a_watermark() {
    let (store, fs) = Store::in_memory();
    let mut engine = store.open().0;
    for turn in 0..3u8 {
        engine.put(0, &[b'a' + turn], &[turn], 0).unwrap();
        engine.commit().unwrap();
        engine.sync().unwrap();
    }
    engine.put(1, b"unsynced", b"", 0).unwrap();
    engine.commit().unwrap();
    drop(engine);
    let id = manifest(&fs).segments[0].id;
    flip(&fs, &segment_path(id), groups(&fs, id)[1].0.at.offset);
    assert!(matches!(Engine::open(store.options.clone()), Err(OpenError::Corrupt(_))), "the default refuses");
    let store = quarantine(&store, &fs);
    for round in 0..3 {
        let (engine, report) = store.open();
        let zone = &report.quarantined[0];
        assert_eq!((zone.lowest, zone.highest, zone.has_filter()), (2, 2, false), "open {round}");
        assert_eq!(report.keys, 3, "all but the lost one are loaded");
        assert!(report.torn.is_empty());
        assert!(fs.list(Path::new(DIR)).unwrap().iter().any(|name| path(name) == segment_path(id)));
        drop(engine);
    }
}

#[test]
fn a_removal_that_was_taken_back_leaves_the_key_in_doubt() {
    let (_, _, mut engine) = lost_but_for_the_filter(|_, _| {});
    let savepoint = engine.savepoint();
    engine.put(0, b"lost", b"", 0).unwrap();
    engine.delete(0, b"lost").unwrap();
    assert_eq!(engine.get(0, b"lost").unwrap(), None);
    engine.roll_back(savepoint);
    assert!(matches!(engine.get(0, b"lost"), Err(ReadError::Doubtful(_))));
}

#[test]
fn what_is_missing_at_the_end_of_a_segment_stays_missed() {
    let (store, fs) = Store::in_memory();
    let faults = Faults::on(&fs);
    let first = {
        let store = store.on(Arc::new(faults.clone()));
        let (mut engine, _) = store.open();
        // Without its hint the first segment cannot be sealed: no manifest knows its length.
        faults.hook().fail(Fault::Create(".hint.tmp"), EIO);
        for turn in 0..3u8 {
            engine.put(0, &[turn], &[turn; 1500], 0).unwrap();
            engine.commit().unwrap();
            store.drive(&mut engine, |_| turn < 1 || manifest(&fs).segments.len() == 2);
        }
        store.drive(&mut engine, |engine| engine.segments().len() == 2);
        engine.put(0, b"durable", b"", 0).unwrap();
        engine.commit().unwrap();
        engine.sync().unwrap();
        engine.put(0, b"last", b"", 0).unwrap();
        engine.commit().unwrap();
        manifest(&fs).segments[0]
    };
    assert!(first.sealed.is_none());
    let end = groups(&fs, first.id)[2].0.at.offset;
    write(&fs, &segment_path(first.id), &read(&fs, &segment_path(first.id))[..end as usize]);
    let store = quarantine(&store, &fs);
    for round in 0..3 {
        let (mut engine, report) = store.open();
        let zone = &report.quarantined[0];
        assert_eq!((zone.offset, zone.lowest, zone.highest), (end, 3, 3), "open {round}");
        assert!(matches!(engine.get(0, &[2]), Err(ReadError::Doubtful(_))), "open {round}");
        assert_eq!(report.keys, 4);
        engine.close().unwrap();
    }
}

#[test]
fn while_the_map_of_databases_may_be_lost_nothing_is_served_until_all_is_flushed() {
    let (store, fs) = Store::in_memory();
    let mut engine = store.open().0;
    engine.put(0, b"key", b"value", 0).unwrap();
    engine.commit().unwrap();
    engine.flush(&[0]).unwrap();
    engine.commit().unwrap();
    engine.put(1, b"later", b"value", 0).unwrap();
    engine.close().unwrap();
    let id = manifest(&fs).segments[0].id;
    flip(&fs, &segment_path(id), groups(&fs, id)[1].0.at.offset + 5);
    fs.remove(&path(&hint_name(id))).unwrap();
    let store = quarantine(&store, &fs);
    let mut engine = store.open().0;
    assert!(matches!(engine.get(1, b"later"), Err(ReadError::Doubtful(_))), "newer, but in which database?");
    assert!(matches!(engine.put(0, b"key", b"", 0), Err(WriteError::Doubtful(_))));
    assert!(matches!(engine.swap(0, 1), Err(WriteError::Doubtful(_))));
    assert!(matches!(engine.flush(&[0]), Err(WriteError::Doubtful(_))));
    assert!((0..4).all(|db| engine.key_count(db) == 0));
    engine.flush(&[0, 1, 2, 3]).unwrap();
    assert_eq!(engine.get(0, b"key").unwrap(), None);
    assert_eq!(engine.get(1, b"later").unwrap(), None);
    engine.put(1, b"later", b"again", 0).unwrap();
    engine.close().unwrap();
    let mut engine = store.open().0;
    assert_eq!(engine.get(1, b"later").unwrap().as_deref(), Some(&b"again"[..]));
}
