//! The zeros that the writer lays ahead of the log: when it does, who cuts them off, and that a crash among them
//! loses nothing, hides nothing and warns of nothing.
#![allow(clippy::unwrap_used)]

mod common;

use common::{
    DIR, EIO, ENOSPC, Fault, Faults, Store, copy, groups, manifest, path, read, segment_path, write,
};
use kival_engine::fs::hook::{Call, Hook, HookFs, Op, Verdict};
use kival_engine::fs::{FileSystem, MemoryFs};
use kival_engine::offline::{Checked, Item, Note, check, inspect_dir, repair};
use kival_engine::{Background, Engine, OnCorruption, OpenError, SyncPolicy, TornTail};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

type Contents = Vec<(Vec<u8>, Vec<u8>)>;

/// A store that lays its runway after its first sync, and does its background work when it is maintained.
fn laying() -> (Store, MemoryFs) {
    let (mut store, fs) = Store::in_memory();
    store.options.segment_size = 64 << 10;
    store.options.runway_syncs = 1;
    store.options.background = Background::Lockstep(Arc::new(|_| true));
    (store, fs)
}

fn put(engine: &mut Engine, key: u8, bytes: usize) {
    engine.put(0, &[key], &vec![key; bytes], 0).unwrap();
    engine.commit().unwrap();
}

/// Maintains until `done`.
fn until(engine: &mut Engine, mut done: impl FnMut(&Engine) -> bool) {
    while !done(engine) {
        engine.maintain();
    }
}

/// The segment that is written to, where its log ends, and the bytes of its file.
fn active(engine: &Engine, fs: &MemoryFs) -> (u64, u64, u64) {
    let segment = engine.segments().pop().unwrap();
    (segment.id, segment.bytes, fs.open(&segment_path(segment.id)).unwrap().len().unwrap())
}

/// A store killed with a runway: `synced` groups, of which the first is durable for sure, and one more. Gives
/// what it held after each group, where each ends, and the segment.
fn killed(synced: u8) -> (Store, MemoryFs, Vec<Contents>, Vec<u64>, u64) {
    let (store, fs) = laying();
    let mut engine = store.open().0;
    let (mut held, mut ends, mut id) = (vec![Contents::new()], vec![48], 0);
    for turn in 1..=synced + 1 {
        put(&mut engine, turn, 700);
        let (segment, end, _) = active(&engine, &fs);
        held.push(store.contents(&mut engine));
        ends.push(end);
        id = segment;
        if turn <= synced {
            engine.sync().unwrap();
        }
    }
    let (_, end, len) = active(&engine, &fs);
    assert!(len > end + 5000, "there is a runway: {end} of {len}");
    drop(engine);
    (store, fs, held, ends, id)
}

fn checked(fs: &MemoryFs) -> Checked {
    check(Arc::new(fs.clone()), Path::new(DIR), &mut ()).expect("it can be checked")
}

/// The files with one of them changed.
fn changed(fs: &MemoryFs, id: u64, change: impl FnOnce(&mut Vec<u8>)) -> MemoryFs {
    let fs = copy(fs);
    let mut bytes = read(&fs, &segment_path(id));
    change(&mut bytes);
    write(&fs, &segment_path(id), &bytes);
    fs
}

/// The bytes of every segment in a directory, and those that count.
fn lengths(fs: &MemoryFs, dir: &Path) -> BTreeMap<u64, (u64, u64)> {
    let known = kival_engine::format::manifest::Manifest::decode(&read(fs, &dir.join("MANIFEST"))).unwrap();
    let length = |id: u64| {
        let name = segment_path(id);
        fs.open(&dir.join(name.file_name().unwrap())).unwrap().len().unwrap()
    };
    let sealed = known.segments.iter().filter_map(|entry| Some((entry.id, entry.sealed?.length)));
    sealed.map(|(id, counts)| (id, (length(id), counts))).collect()
}

#[test]
fn zeros_are_laid_when_syncs_are_quick_and_within_the_segment() {
    let (mut store, fs) = laying();
    store.options.runway_syncs = 4;
    let mut engine = store.open().0;
    for turn in 0..4 {
        put(&mut engine, turn, 100);
        let (_, end, len) = active(&engine, &fs);
        assert_eq!(len, end, "too few syncs so far");
        engine.sync().unwrap();
    }
    for turn in 0..80 {
        put(&mut engine, turn, 1000);
        let (_, end, len) = active(&engine, &fs);
        assert!(len > end || end >= 64 << 10, "turn {turn}: {end} of {len}");
        assert!(len <= (64 << 10) || len == end, "turn {turn}: {end} of {len}");
        engine.sync().unwrap();
    }
}

#[test]
fn no_zeros_are_laid_when_syncs_go_by_the_clock() {
    let (mut store, fs) = laying();
    store.options.runway_syncs = 2;
    store.options.sync = SyncPolicy::EverySecond;
    let mut engine = store.open().0;
    for turn in 0..20u8 {
        store.clock.set(1_001_000 + u64::from(turn) * 1000);
        engine.tick();
        put(&mut engine, turn, 100);
        let last = engine.last_sequence();
        until(&mut engine, |engine| engine.durable_sequence() >= last);
        let (_, end, len) = active(&engine, &fs);
        assert_eq!(len, end);
    }
}

#[test]
fn a_store_killed_with_a_runway_is_sound_and_nothing_is_torn() {
    let (store, fs, held, ends, id) = killed(3);
    let found = checked(&fs);
    assert_eq!((found.places, found.notes), (vec![], vec![Note::Unclean]));
    let (mut zeros, len) = (Vec::new(), read(&fs, &segment_path(id)).len() as u64);
    let mut show = |_: &Path, item: Item<'_>| {
        match item {
            Item::Zeros { offset, end } => zeros.push((offset, end)),
            Item::Damage { offset, .. } => panic!("damage at {offset}"),
            _ => {}
        }
        Ok(())
    };
    inspect_dir(Arc::new(fs.clone()), Path::new(DIR), &mut show).unwrap();
    assert_eq!(zeros, [(*ends.last().unwrap(), len)]);
    let (mut engine, report) = store.open();
    assert_eq!((report.torn, report.clean), (vec![], false));
    assert_eq!(store.contents(&mut engine), held[4]);
    engine.close().unwrap();
    let (mut engine, report) = store.open();
    assert!(report.clean && report.torn.is_empty());
    assert_eq!(store.contents(&mut engine), held[4]);
}

#[test]
fn a_group_torn_inside_a_runway_is_a_torn_tail_of_what_is_there_of_it() {
    let (store, fs, held, ends, id) = killed(3);
    let (start, end) = (ends[3] as usize, ends[4] as usize);
    // Sectors of the last group that did not reach the disk read as the zeros that were there before.
    for lost in 1..8u32 {
        let torn = changed(&fs, id, |bytes| {
            for at in (start..end).filter(|at| lost & (1 << ((at / 512) - start / 512)) != 0) {
                bytes[at] = 0;
            }
        });
        let bytes = read(&torn, &segment_path(id));
        let left = bytes[start..end].iter().rposition(|&byte| byte != 0).map_or(0, |last| last as u64 + 1);
        let tail = TornTail { file: segment_path(id), offset: ends[3], bytes: left };
        let note = Note::TornTail { file: segment_path(id), offset: ends[3], bytes: left };
        let there = usize::from(left > 0);
        assert_eq!(checked(&torn).notes, [Note::Unclean, note][..=there], "lost {lost:b}");
        assert_eq!(checked(&torn).places, [], "lost {lost:b}");
        let store = store.on(Arc::new(torn));
        let (mut engine, report) = store.open();
        assert_eq!(report.torn, [tail][..there], "lost {lost:b}");
        assert_eq!(store.contents(&mut engine), held[3], "lost {lost:b}");
    }
}

#[test]
fn a_durable_group_that_reads_as_zeros_is_corruption() {
    let (store, fs, _, ends, id) = killed(3);
    let watermark = groups(&fs, id)[3].0.watermark;
    assert_eq!((watermark.segment, watermark.offset), (id, ends[3]), "it speaks for three groups");
    for (first, last) in [(0, 1), (1, 2), (2, 3), (0, 3)] {
        let damaged = changed(&fs, id, |bytes| bytes[ends[first] as usize..ends[last] as usize].fill(0));
        let store = store.on(Arc::new(damaged.clone()));
        let Err(OpenError::Corrupt(found)) = Engine::open(store.options.clone()) else {
            panic!("zeros for groups {first} to {last} were not seen")
        };
        assert_eq!((found.file, found.offset), (segment_path(id), ends[first]));
        assert_eq!(checked(&damaged).places[0].offset, ends[first]);
    }
}

#[test]
fn zeros_from_a_durable_group_to_the_end_are_corruption_where_the_manifest_knows_of_it() {
    let (mut store, fs) = laying();
    store.options.segment_size = 8 << 10;
    let mut engine = store.open().0;
    put(&mut engine, 1, 700);
    engine.sync().unwrap();
    put(&mut engine, 2, 700);
    engine.sync().unwrap();
    // Half full: the manifest that names the next segment knows what is durable.
    put(&mut engine, 3, 3500);
    until(&mut engine, |_| manifest(&fs).segments.len() == 2);
    let (id, end, len) = active(&engine, &fs);
    assert!(len > end);
    drop(engine);
    let starts: Vec<u64> = groups(&fs, id).iter().map(|(group, _)| group.at.offset).collect();
    assert_eq!(manifest(&fs).watermark.offset, starts[2]);
    let zeroed = |from: u64| changed(&fs, id, |bytes| bytes[from as usize..].fill(0));
    assert_eq!(store.on(Arc::new(zeroed(starts[2]))).open().1.torn, [], "nobody was told of the third");
    let damaged = zeroed(starts[1]);
    assert!(matches!(
        Engine::open(store.on(Arc::new(damaged.clone())).options),
        Err(OpenError::Corrupt(found)) if found.offset == starts[1]
    ));
    let places = checked(&damaged).places;
    assert_eq!(places.iter().map(|place| place.offset).collect::<Vec<_>>(), [starts[1]]);
    let made = repair(Arc::new(damaged), Path::new(DIR), Path::new("/new"), &mut ()).unwrap();
    let gaps: Vec<_> = made.expect("there is damage").gaps.iter().map(|gap| gap.offset).collect();
    assert_eq!(gaps, [starts[1]]);
}

#[test]
fn sealing_closing_and_backing_up_cut_the_runway_off() {
    let (store, fs) = laying();
    let mut engine = store.open().0;
    for turn in 0..100 {
        put(&mut engine, turn, 1500);
        engine.sync().unwrap();
        engine.maintain();
    }
    let ended = engine.backups().ended;
    assert!(active(&engine, &fs).2 > active(&engine, &fs).1, "there is a runway");
    engine.back_up(path("backups"), 1).unwrap();
    until(&mut engine, |engine| engine.backups().ended > ended);
    let backup = engine.backups().newest.clone().expect("it is made").dir;
    put(&mut engine, 1, 10);
    engine.sync().unwrap();
    put(&mut engine, 2, 10);
    assert!(active(&engine, &fs).2 > active(&engine, &fs).1, "there is a runway");
    engine.close().unwrap();
    for dir in [Path::new(DIR), &backup] {
        let lengths = lengths(&fs, dir);
        assert!(lengths.len() >= 3);
        for (id, (len, counts)) in lengths {
            assert_eq!(len, counts, "segment {id} in {}", dir.display());
        }
    }
}

#[test]
fn zeros_behind_a_sealed_segment_do_not_count_and_zeros_inside_are_damage() {
    let (store, fs, held, ends, id) = killed(3);
    store.open().0.close().unwrap();
    let (len, counts) = lengths(&fs, Path::new(DIR))[&id];
    assert!(counts == ends[3] && len > counts, "recovery leaves the file as it is");
    assert_eq!(checked(&fs).places, []);
    assert_eq!(store.contents(&mut store.open().0), held[4]);
    store.open().0.close().unwrap();
    let damaged = changed(&fs, id, |bytes| bytes[ends[2] as usize..].fill(0));
    assert_eq!(checked(&damaged).places[0].offset, ends[2]);
}

/// Fails large writes to segments: those of zeros.
#[derive(Debug)]
struct NoZeros(i32, usize);

impl Hook for NoZeros {
    fn before(&self, call: &Call<'_>) -> Verdict {
        let zeros = call.op == Op::WriteAt && call.is_on(".seg") && call.bytes > 5000;
        if zeros { Verdict::Torn(self.1, io::Error::from_raw_os_error(self.0)) } else { Verdict::Go }
    }
}

#[test]
fn zeros_that_cannot_be_written_fail_no_append() {
    for (errno, written) in [(ENOSPC, 0), (ENOSPC, 300), (EIO, 3000)] {
        let (store, fs) = laying();
        let store = store.on(Arc::new(HookFs::new(fs.clone(), NoZeros(errno, written))));
        let mut engine = store.open().0;
        for turn in 0..8 {
            put(&mut engine, turn, 700);
            engine.sync().unwrap();
        }
        let (_, end, len) = active(&engine, &fs);
        assert_eq!(len, end, "there is no runway");
        let held = store.contents(&mut engine);
        drop(engine);
        let (mut engine, report) = store.open();
        assert_eq!(report.torn, []);
        assert_eq!(store.contents(&mut engine), held);
    }
}

#[test]
fn an_append_that_fails_inside_a_runway_leaves_nothing_and_the_next_lays_another() {
    let (store, fs) = laying();
    let faults = Faults::on(&fs);
    let store = store.on(Arc::new(faults.clone()));
    let mut engine = store.open().0;
    for turn in 0..3 {
        put(&mut engine, turn, 700);
        engine.sync().unwrap();
    }
    let held = store.contents(&mut engine);
    let (_, end, _) = active(&engine, &fs);
    faults.hook().fail(Fault::Write(".seg", 300), ENOSPC);
    engine.put(0, b"refused", &[9; 700], 0).unwrap();
    engine.commit().expect_err("the disk is full");
    assert_eq!(active(&engine, &fs).1, end);
    assert_eq!(active(&engine, &fs).2, end, "what was written of it is cut off, and the zeros with it");
    put(&mut engine, 0, 700);
    assert!(active(&engine, &fs).2 > active(&engine, &fs).1, "there is a runway again");
    assert_eq!(store.contents(&mut engine), held);
    drop(engine);
    let (mut engine, report) = store.open();
    assert_eq!(report.torn, []);
    assert_eq!(store.contents(&mut engine), held);
}

/// A store killed when a segment with a runway was full and not sealed, since its file could not be cut: the
/// log goes on in the next, which has a runway too. Gives the two.
fn killed_over_two_segments() -> (Store, MemoryFs, Contents, [u64; 2]) {
    let (mut store, fs) = laying();
    store.options.segment_size = 16 << 10;
    let faults = Faults::on(&fs);
    let behind = store.on(Arc::new(faults.clone()));
    let mut engine = behind.open().0;
    let first = active(&engine, &fs).0;
    faults.hook().fail(Fault::Truncate(".seg"), EIO);
    for turn in 0..3 {
        put(&mut engine, turn, 700);
        engine.sync().unwrap();
    }
    // It is closed before it is full, as for a backup.
    engine.back_up(path("backups"), 1).unwrap();
    until(&mut engine, |engine| engine.backups().ended == 1);
    for turn in 3..6 {
        put(&mut engine, turn, 700);
        engine.sync().unwrap();
    }
    let (second, end, len) = active(&engine, &fs);
    assert!(second > first && len > end);
    let held = store.contents(&mut engine);
    drop(engine);
    let open: Vec<u64> = manifest(&fs).segments.iter().filter(|s| s.sealed.is_none()).map(|s| s.id).collect();
    assert_eq!(open, [first, second]);
    let end = groups(&fs, first).last().map(|(group, _)| group.at.offset + group.group_size().unwrap());
    assert!(read(&fs, &segment_path(first)).len() as u64 > end.unwrap(), "it has its runway");
    (store, fs, held, [first, second])
}

#[test]
fn the_log_goes_on_behind_the_runway_of_a_full_segment() {
    let (store, fs, held, _) = killed_over_two_segments();
    let found = checked(&fs);
    assert_eq!((found.places, found.notes), (vec![], vec![Note::Unclean]));
    let (mut engine, report) = store.open();
    assert_eq!(report.torn, []);
    assert_eq!(store.contents(&mut engine), held);
}

#[test]
fn damage_beside_runways_is_all_the_damage_that_there_is() {
    let (mut store, fs, held, [first, second]) = killed_over_two_segments();
    let start = |id: u64, group: usize| groups(&fs, id)[group].0.at.offset;
    let places = |fs: &MemoryFs| -> Vec<(u64, u64)> {
        let places = checked(fs).places;
        let id = |file: &Path| if file == segment_path(first) { first } else { second };
        places.iter().map(|place| (id(&place.file), place.offset)).collect()
    };
    for (id, group) in [(first, 1), (second, 1)] {
        let at = start(id, group);
        let damaged = changed(&fs, id, |bytes| bytes[at as usize + 100] ^= 1);
        assert_eq!(places(&damaged), [(id, at)]);
        // Going on around it loses that group and nothing else.
        store.options.on_corruption = OnCorruption::Quarantine;
        let store = store.on(Arc::new(damaged.clone()));
        for _ in 0..2 {
            let (engine, report) = store.open();
            assert_eq!(report.quarantined.len(), 1, "{:?}", report.quarantined);
            assert_eq!(report.quarantined[0].offset, at);
            assert_eq!((report.torn, report.keys), (vec![], held.len() as u64 - 1));
            drop(engine);
            assert_eq!(places(&damaged), [(id, at)]);
        }
    }
}

#[test]
fn the_last_groups_of_a_full_segment_that_read_as_zeros_are_seen_by_the_next_segment() {
    let (store, fs, _, [first, _]) = killed_over_two_segments();
    let at = groups(&fs, first)[2].0.at.offset;
    let damaged = changed(&fs, first, |bytes| bytes[at as usize..].fill(0));
    assert!(matches!(
        Engine::open(store.on(Arc::new(damaged.clone())).options),
        Err(OpenError::Corrupt(found)) if found.file == segment_path(first) && found.offset == at
    ));
    assert!(checked(&damaged).places.iter().any(|place| place.offset == at));
    let made = repair(Arc::new(damaged), Path::new(DIR), Path::new("/new"), &mut ()).unwrap();
    let gaps: Vec<_> = made.expect("there is damage").gaps.iter().map(|gap| gap.sequences).collect();
    assert_eq!(gaps, [Some((3, 3))]);
}

#[test]
fn a_lost_manifest_is_made_up_without_taking_runways_for_damage() {
    let (store, fs, held, _) = killed_over_two_segments();
    fs.remove(&path("MANIFEST")).unwrap();
    let made = repair(Arc::new(fs.clone()), Path::new(DIR), Path::new("/new"), &mut ()).unwrap();
    let made = made.expect("there is no manifest");
    assert_eq!((made.gaps.len(), made.lost.len()), (0, 0));
    let mut repaired = store.clone();
    repaired.options.dir = "/new".into();
    let mut engine = repaired.open().0;
    assert_eq!(repaired.contents(&mut engine), held);
}
