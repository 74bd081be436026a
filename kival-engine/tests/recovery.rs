//! Opening a store whose files a crash, a disk or an operator has changed: what was durable is there or
//! the open is refused by file and offset; what was not is whole groups or nothing.
#![allow(clippy::unwrap_used)]

mod common;

use common::{EIO, Fault, Faults, Store, copy, flip, groups, manifest, path, read, segment_path, write};
use kival_engine::error::{Corruption, Damage, OpenError, ReadError};
use kival_engine::format::group::{GroupHeader, HEADER, Position};
use kival_engine::format::hint::{self, BlockBuilder, HintHeader};
use kival_engine::format::manifest::Manifest;
use kival_engine::format::segment::{file_name, hint_name};
use kival_engine::fs::{FileSystem, MemoryFs};
use kival_engine::{Engine, TornTail};
use std::path::Path;
use std::sync::Arc;

type Contents = Vec<(Vec<u8>, Vec<u8>)>;

/// The id of the one segment that holds log groups.
fn logged(fs: &MemoryFs) -> u64 {
    let ids = manifest(fs).segments.into_iter().map(|segment| segment.id);
    let holding: Vec<u64> = ids.filter(|&id| !groups(fs, id).is_empty()).collect();
    assert_eq!(holding.len(), 1);
    holding[0]
}

/// Where the groups of a segment end, its header first.
fn ends(fs: &MemoryFs, id: u64) -> Vec<u64> {
    let mut ends = vec![48];
    ends.extend(groups(fs, id).iter().map(|(group, _)| group.at.offset + group.group_size().unwrap()));
    ends
}

/// Three turns of several records each; gives what the store held before and after each.
fn three_turns(
    store: &Store,
    engine: &mut Engine,
    mut after: impl FnMut(usize, &mut Engine),
) -> Vec<Contents> {
    let mut contents = vec![store.contents(engine)];
    for turn in 0..3u8 {
        engine.put(0, b"a", &[turn; 20], 0).unwrap();
        engine.put(0, &[b'b', turn], b"once", 0).unwrap();
        if turn > 0 {
            engine.delete(0, &[b'b', turn - 1]).unwrap();
            engine.set_expiry(0, b"a", 2_000_000).unwrap();
        }
        engine.commit().unwrap();
        contents.push(store.contents(engine));
        after(turn.into(), engine);
    }
    contents
}

#[track_caller]
fn refused(store: &Store, fs: &MemoryFs) -> Corruption {
    match Engine::open(store.on(Arc::new(fs.clone())).options) {
        Err(OpenError::Corrupt(corruption)) => corruption,
        Err(other) => panic!("refused for another reason: {other}"),
        Ok(_) => panic!("the damage was not seen"),
    }
}

#[test]
fn a_log_cut_at_any_byte_is_its_whole_groups() {
    let (store, fs) = Store::in_memory();
    let contents = three_turns(&store, &mut store.open().0, |_, _| {});
    let id = logged(&fs);
    let (ends, bytes) = (ends(&fs, id), read(&fs, &segment_path(id)));
    assert_eq!(*ends.last().unwrap(), bytes.len() as u64);
    for cut in 48..=bytes.len() {
        let cut_fs = copy(&fs);
        write(&cut_fs, &segment_path(id), &bytes[..cut]);
        let store = store.on(Arc::new(cut_fs));
        let (mut engine, report) = store.open();
        let whole = ends.iter().filter(|&&end| end <= cut as u64).count() - 1;
        assert_eq!(store.contents(&mut engine), contents[whole], "cut at {cut}");
        let tail = &bytes[ends[whole] as usize..cut];
        let tail = tail.iter().rposition(|&byte| byte != 0).map_or(0, |last| last as u64 + 1);
        let torn = TornTail { file: segment_path(id), offset: ends[whole], bytes: tail };
        assert_eq!(report.torn, if tail == 0 { vec![] } else { vec![torn] }, "cut at {cut}");
        assert!(!report.clean);
        engine.close().unwrap();
        let (mut engine, report) = store.open();
        assert!(report.clean && report.torn.is_empty());
        assert_eq!(store.contents(&mut engine), contents[whole], "cut at {cut}, opened twice");
    }
}

#[test]
fn a_damaged_byte_below_a_watermark_refuses_and_above_it_is_a_torn_tail() {
    let (store, fs) = Store::in_memory();
    let contents = three_turns(&store, &mut store.open().0, |turn, engine| {
        if turn == 1 {
            engine.sync().unwrap();
        }
    });
    let id = logged(&fs);
    let ends = ends(&fs, id);
    assert_eq!(groups(&fs, id)[2].0.watermark.offset, ends[2]);
    for offset in 0..*ends.last().unwrap() {
        let damaged = copy(&fs);
        flip(&damaged, &segment_path(id), offset);
        if offset < ends[2] {
            let corruption = refused(&store, &damaged);
            let group = ends.iter().rev().find(|&&end| end <= offset).copied().unwrap_or(0);
            assert_eq!((corruption.file, corruption.offset), (segment_path(id), group), "byte {offset}");
        } else {
            let store = store.on(Arc::new(damaged));
            let (mut engine, report) = store.open();
            assert_eq!(report.torn[0].offset, ends[2]);
            assert_eq!(store.contents(&mut engine), contents[2], "byte {offset}");
        }
    }
}

#[test]
fn a_log_that_ends_below_the_manifests_watermark_is_refused() {
    let (store, fs) = Store::in_memory();
    let (mut engine, _) = store.open();
    engine.put(0, b"a", &[1; 100], 0).unwrap();
    engine.commit().unwrap();
    engine.sync().unwrap();
    engine.put(0, b"b", &[2; 2100], 0).unwrap();
    engine.commit().unwrap();
    // Half full: the next segment is prepared, and the manifest that names it knows what is durable.
    store.drive(&mut engine, |_| manifest(&fs).segments.len() == 2);
    drop(engine);
    let id = logged(&fs);
    let bytes = read(&fs, &segment_path(id));
    let durable = ends(&fs, id)[1];
    assert_eq!((manifest(&fs).watermark.segment, manifest(&fs).watermark.offset), (id, durable));
    for cut in 48..durable + 200 {
        let cut_fs = copy(&fs);
        write(&cut_fs, &segment_path(id), &bytes[..cut as usize]);
        if cut < durable {
            assert_eq!(refused(&store, &cut_fs).file, segment_path(id), "cut at {cut}");
        } else {
            let store = store.on(Arc::new(cut_fs));
            assert_eq!(store.open().1.keys, 1, "cut at {cut}");
        }
    }
}

#[test]
fn a_durable_group_missing_before_the_next_segment_is_refused() {
    let (store, fs) = Store::in_memory();
    let faults = Faults::on(&fs);
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
    engine.sync().unwrap();
    let whole = fs.clone();
    engine.put(0, b"last", b"", 0).unwrap();
    engine.commit().unwrap();
    drop(engine);
    let first = manifest(&fs).segments[0].id;
    assert!(manifest(&fs).segments[0].sealed.is_none());
    assert_eq!(store.on(Arc::new(copy(&whole))).open().1.keys, 4);
    let ends = ends(&fs, first);
    let damaged = copy(&fs);
    write(&damaged, &segment_path(first), &read(&fs, &segment_path(first))[..ends[2] as usize]);
    let corruption = refused(&store, &damaged);
    assert_eq!((corruption.file, corruption.offset), (segment_path(first), ends[2]));
}

#[test]
fn what_recovery_keeps_is_appended_anew_and_numbers_skip_ahead() {
    let (store, fs) = Store::in_memory();
    let (mut engine, _) = store.open();
    let contents = three_turns(&store, &mut engine, |turn, engine| {
        if turn == 0 {
            engine.sync().unwrap();
        }
    });
    let last = engine.last_sequence();
    drop(engine);
    let (old, limit) = (logged(&fs), manifest(&fs).sequence_limit);
    let before = groups(&fs, old);
    let (mut engine, _) = store.open();
    assert_eq!(store.contents(&mut engine), contents[3]);
    let sealed: Vec<_> = manifest(&fs).segments.into_iter().filter_map(|s| Some((s.id, s.sealed?))).collect();
    assert_eq!(sealed[0].0, old);
    assert_eq!(sealed[0].1.length, before[1].0.watermark.offset, "sealed at the watermark");
    let anew = groups(&fs, sealed[1].0);
    let records =
        |groups: &[(_, Vec<_>)]| groups.iter().map(|(_, records)| records.clone()).collect::<Vec<_>>();
    assert_eq!(records(&anew), records(&before[1..]));
    assert!(engine.put(0, b"next", b"", 0).unwrap() > limit.max(last));
}

#[test]
fn a_hint_that_is_damaged_or_missing_is_made_anew() {
    let (store, fs) = Store::in_memory();
    let (mut engine, _) = store.open();
    let contents = three_turns(&store, &mut engine, |_, _| {}).pop().unwrap();
    engine.close().unwrap();
    let hint = path(&hint_name(logged(&fs)));
    let bytes = read(&fs, &hint);
    let header = HintHeader::decode(bytes[..80].try_into().unwrap()).unwrap();
    let check = |what: &str, damage: &dyn Fn(&MemoryFs)| {
        let damaged = copy(&fs);
        damage(&damaged);
        let store = store.on(Arc::new(damaged.clone()));
        let (mut engine, report) = store.open();
        assert_eq!(report.scanned, 1, "{what}");
        assert_eq!(store.contents(&mut engine), contents, "{what}");
        engine.close().unwrap();
        assert_eq!(read(&damaged, &hint), bytes, "{what}: written again");
        assert_eq!(store.open().1.scanned, 0, "{what}");
    };
    check("missing", &|fs| fs.remove(&hint).unwrap());
    for offset in 0..header.filter_at {
        check(&format!("byte {offset}"), &|fs| flip(fs, &hint, offset));
    }
    for cut in 0..bytes.len() {
        check(&format!("cut at {cut}"), &|fs| write(fs, &hint, &bytes[..cut]));
    }
}

#[test]
fn a_hint_that_claims_a_larger_record_gives_no_wrong_value() {
    let (store, fs) = Store::in_memory();
    let (mut engine, _) = store.open();
    engine.put(0, b"short", b"value", 0).unwrap();
    engine.put(0, b"filler", &[0; 100_000], 0).unwrap();
    engine.close().unwrap();
    let id = logged(&fs);
    let (file, segment) = (path(&hint_name(id)), segment_path(id));
    let bytes = read(&fs, &file);
    let value_at = HintHeader::decode(bytes[..80].try_into().unwrap()).unwrap().filter_at as usize;
    let claim = |value_size: u32| {
        let block = hint::entries(&bytes[80..value_at]).unwrap().map(Result::unwrap);
        let mut builder = BlockBuilder::default();
        for (i, mut entry) in block.enumerate() {
            entry.header.value_size = if i == 0 { value_size } else { entry.header.value_size };
            builder.push(&entry);
        }
        let damaged = copy(&fs);
        write(&damaged, &file, &[&bytes[..80], builder.finish(), &bytes[value_at..]].concat());
        let store = store.on(Arc::new(damaged));
        let (mut engine, report) = store.open();
        (report.scanned, engine.get(0, b"short").map(|value| value.unwrap().to_vec()))
    };
    assert_eq!(claim(5).1.unwrap(), b"value");
    for within in [4, 6, 90_000] {
        let (scanned, value) = claim(within);
        let Err(ReadError::Corrupt(found)) = value else { panic!("{within}: {value:?}") };
        assert_eq!((scanned, found.file), (0, segment.clone()), "{within}");
    }
    // One that reaches beyond the segment is seen at once.
    let (scanned, value) = claim(500 << 20);
    assert_eq!((scanned, value.unwrap()), (1, b"value".to_vec()));
}

fn names(fs: &MemoryFs) -> Vec<String> {
    let mut names = fs.list(Path::new(common::DIR)).unwrap();
    names.sort();
    names
}

/// A store that was closed twice with something written, and the manifest of the first time.
fn closed_twice() -> (Store, MemoryFs, Vec<u8>) {
    let (store, fs) = Store::in_memory();
    let mut manifests = Vec::new();
    for key in [b"a", b"b"] {
        let (mut engine, _) = store.open();
        engine.put(0, key, b"", 0).unwrap();
        engine.close().unwrap();
        manifests.push(read(&fs, &path("MANIFEST")));
    }
    (store, fs, manifests.swap_remove(0))
}

#[test]
fn a_manifest_of_an_earlier_run_is_refused_and_nothing_is_removed() {
    let (store, fs, earlier) = closed_twice();
    write(&fs, &path("MANIFEST"), &earlier);
    let before = names(&fs);
    assert!(matches!(Engine::open(store.options), Err(OpenError::StaleManifest { .. })));
    assert_eq!(names(&fs), before);
}

/// A run that goes on from one segment to the next and, if `further`, to a third: its files after a crash,
/// the manifest as it stood when the first two were open, and their ids.
fn several_segments(further: bool) -> (Store, MemoryFs, Vec<u8>, [u64; 2]) {
    let (store, fs) = Store::in_memory();
    let (mut engine, _) = store.open();
    engine.put(0, b"a", &[1; 100], 0).unwrap();
    engine.commit().unwrap();
    engine.sync().unwrap();
    let fill = |engine: &mut Engine, keys: [u8; 2], segments| {
        for key in keys {
            engine.put(0, &[key], &[key; 2100], 0).unwrap();
            engine.commit().unwrap();
            store.drive(engine, |_| manifest(&fs).segments.len() == segments);
        }
        store.drive(engine, |engine| engine.segments().len() == segments);
    };
    fill(&mut engine, [0, 1], 2);
    engine.put(0, b"later", b"", 0).unwrap();
    engine.commit().unwrap();
    let both = manifest(&fs);
    if further {
        fill(&mut engine, [2, 3], 3);
        engine.put(0, b"last", b"", 0).unwrap();
        engine.commit().unwrap();
    }
    drop(engine);
    (store, fs, both.encode(), [both.segments[0].id, both.segments[1].id])
}

#[test]
fn a_manifest_from_earlier_in_the_same_run_is_refused_and_nothing_is_removed() {
    let (store, fs, earlier, _) = several_segments(true);
    let now = read(&fs, &path("MANIFEST"));
    write(&fs, &path("MANIFEST"), &earlier);
    let before = names(&fs);
    match Engine::open(store.options.clone()) {
        Err(OpenError::StaleManifest { evidence, .. }) => assert!(evidence.contains("goes on"), "{evidence}"),
        other => panic!("not refused: {:?}", other.map(|(_, report)| report)),
    }
    assert_eq!(names(&fs), before);
    write(&fs, &path("MANIFEST"), &now);
    assert_eq!(store.open().1.keys, 7);
}

#[test]
fn a_segment_left_behind_a_torn_tail_does_not_accuse_the_manifest() {
    let (store, fs, both, [first, second]) = several_segments(false);
    let durable = ends(&fs, first)[1];
    // As if nothing had been synced or sealed since the first group was, and that only the groups knew.
    let mut both = Manifest::decode(&both).unwrap();
    (both.watermark, both.chain) = (Position::default(), 0);
    both.segments[0].sealed = None;
    write(&fs, &path("MANIFEST"), &both.encode());
    // Of the two groups above the watermark the first is lost; the one in the next segment was written
    // before anything told of a later watermark.
    let mut bytes = read(&fs, &segment_path(second));
    let group = groups(&fs, second)[0].0;
    let torn = GroupHeader { watermark: Position { segment: first, offset: durable }, ..group };
    bytes[48..48 + HEADER].copy_from_slice(&torn.encode());
    write(&fs, &segment_path(second), &bytes);
    flip(&fs, &segment_path(first), durable + 100);
    for _ in 0..3 {
        // Each time the process is killed before it has written anything.
        let (mut engine, report) = store.open();
        assert_eq!(store.contents(&mut engine), [(b"a".to_vec(), vec![1; 100])]);
        assert_eq!(report.keys, 1);
    }
    assert!(!names(&fs).contains(&file_name(second)), "the second open has removed it");
}

#[test]
fn a_tail_that_an_interrupted_recovery_copied_does_not_accuse_the_manifest() {
    let (store, fs) = Store::in_memory();
    let contents = three_turns(&store, &mut store.open().0, |turn, engine| {
        if turn == 0 {
            engine.sync().unwrap();
        }
    });
    let id = logged(&fs);
    let durable = ends(&fs, id)[1] as usize;
    let faults = Faults::on(&fs);
    faults.hook().fail(Fault::Create(".hint.tmp"), EIO);
    assert!(Engine::open(store.on(Arc::new(faults)).options).is_err());
    assert!(manifest(&fs).segments.iter().all(|segment| segment.sealed.is_none()), "before the switch");
    // The power cut takes what had been in the page cache only, but not the copy, which was synced.
    write(&fs, &segment_path(id), &read(&fs, &segment_path(id))[..durable]);
    assert_eq!(store.contents(&mut store.open().0), contents[1]);
}

#[test]
fn a_record_above_the_sequence_limit_refuses() {
    let (store, fs, _) = closed_twice();
    let mut manifest = manifest(&fs);
    manifest.sequence_limit = 1;
    write(&fs, &path("MANIFEST"), &manifest.encode());
    assert!(matches!(Engine::open(store.options), Err(OpenError::StaleManifest { .. })));
}

#[test]
fn segments_without_a_manifest_are_refused() {
    let (store, fs, _) = closed_twice();
    fs.remove(&path("MANIFEST")).unwrap();
    let before = names(&fs);
    assert!(matches!(Engine::open(store.options), Err(OpenError::NoManifest { .. })));
    assert_eq!(names(&fs), before);
}

#[test]
fn a_missing_or_short_segment_is_refused_and_nothing_is_removed() {
    let (store, fs, _) = closed_twice();
    let id = manifest(&fs).segments[0].id;
    write(&fs, &path("00000000000000ff.seg"), b"");
    let mut next = manifest(&fs);
    next.next_segment = 0x1000;
    write(&fs, &path("MANIFEST"), &next.encode());
    let bytes = read(&fs, &segment_path(id));
    write(&fs, &segment_path(id), &bytes[..bytes.len() - 1]);
    let before = names(&fs);
    let short = refused(&store, &fs);
    assert_eq!((short.offset, short.damage), (bytes.len() as u64 - 1, Damage::Truncated));
    assert_eq!(names(&fs), before);
    fs.remove(&segment_path(id)).unwrap();
    assert_eq!(refused(&store, &fs).damage, Damage::Missing);
    write(&fs, &segment_path(id), &bytes);
    store.open();
    assert!(!names(&fs).contains(&"00000000000000ff.seg".into()), "strays go when all is well");
}

#[test]
fn a_directory_in_use_is_refused() {
    let (store, _) = Store::in_memory();
    let (engine, _) = store.open();
    assert!(matches!(Engine::open(store.options.clone()), Err(OpenError::Locked { .. })));
    drop(engine);
    store.open();
}
