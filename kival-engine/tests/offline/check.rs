//! What a check names: every damaged place, and nothing else.

use crate::common::{DIR, copy, flip, groups, manifest, path, read, segment_path, write};
use crate::shared::{NEW, checked, closed, ids, killed, opened, repaired, restored};
use kival_engine::error::Damage;
use kival_engine::format::filter::Filter;
use kival_engine::format::hint::{self, BlockBuilder, HintEntry, HintHeader};
use kival_engine::format::segment::hint_name;
use kival_engine::fs::{FileSystem, MemoryFs};
use kival_engine::offline::{Checked, Flaw, Note, Place, Target, ToolError, check};
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[test]
fn a_sound_store_is_found_sound_closed_crashed_or_without_a_lock_file() {
    let (store, fs, contents) = closed();
    let all = checked(&fs);
    assert_eq!((&all.places, &all.notes), (&vec![], &vec![]));
    assert_eq!((all.live_keys, all.segments), (contents.len() as u64, 2));
    assert_eq!(all.records, manifest(&fs).segments.iter().map(|s| s.sealed.unwrap().records).sum::<u64>());
    let backup = copy(&fs);
    backup.remove(&path("LOCK")).unwrap();
    assert_eq!(checked(&backup).places, []);
    assert!(!backup.list(Path::new(DIR)).unwrap().contains(&"LOCK".into()), "it is only read");
    let (mut engine, _) = store.open();
    engine.put(0, b"more", b"", 0).unwrap();
    engine.commit().unwrap();
    drop(engine);
    let crashed = checked(&fs);
    assert_eq!((crashed.places, crashed.notes), (vec![], vec![Note::Unclean]));
    assert_eq!(crashed.live_keys, all.live_keys + 1);
}

#[test]
fn every_damaged_byte_of_a_segment_is_named_and_all_else_is_read() {
    let (_, fs, _) = closed();
    let whole = checked(&fs).records;
    for id in ids(&fs) {
        let starts: Vec<u64> = groups(&fs, id).iter().map(|(group, _)| group.at.offset).collect();
        let counts: Vec<u64> = groups(&fs, id).iter().map(|(_, records)| records.len() as u64).collect();
        for offset in 0..read(&fs, &segment_path(id)).len() as u64 {
            let damaged = copy(&fs);
            flip(&damaged, &segment_path(id), offset);
            let found = checked(&damaged);
            assert_eq!(found.places.len(), 1, "byte {offset}: {:?}", found.places);
            let place = &found.places[0];
            let group = starts.iter().rposition(|&start| start <= offset);
            let (start, lost) = group.map_or((0, 0), |group| (starts[group], counts[group]));
            assert_eq!((&place.file, place.offset), (&segment_path(id), start), "byte {offset}");
            assert!(offset < place.end, "byte {offset}");
            assert_eq!(found.records, whole - lost, "byte {offset}: it goes on behind");
        }
    }
}

#[test]
fn every_damaged_byte_of_a_manifest_is_named_and_of_a_hint_does_no_harm() {
    let (_, fs, _) = closed();
    let whole = checked(&fs);
    for offset in 0..read(&fs, &path("MANIFEST")).len() as u64 {
        let damaged = copy(&fs);
        flip(&damaged, &path("MANIFEST"), offset);
        // A version that is not known yet is no damage; the checksum says what it is.
        let found = checked(&damaged);
        let files: Vec<PathBuf> = found.places.into_iter().map(|place| place.file).collect();
        assert_eq!(files, [path("MANIFEST")], "byte {offset}");
        assert_eq!(found.records, whole.records, "byte {offset}: the segments are read all the same");
    }
    let hint = path(&hint_name(ids(&fs)[0]));
    let filter_at = HintHeader::decode(read(&fs, &hint)[..80].try_into().unwrap()).unwrap().filter_at;
    for offset in 0..read(&fs, &hint).len() as u64 {
        let damaged = copy(&fs);
        flip(&damaged, &hint, offset);
        let found = checked(&damaged);
        assert_eq!(found.places, [], "byte {offset}");
        match &found.notes[..] {
            [Note::Hint { file, .. }] => assert!(*file == hint && offset < filter_at),
            [Note::Filter { file, .. }] => assert!(*file == hint && offset >= filter_at),
            other => panic!("byte {offset}: {other:?}"),
        }
    }
}

/// Rewrites a hint that passes all its own checks.
fn forge(
    fs: &MemoryFs,
    id: u64,
    change: impl Fn(&mut Vec<(u64, kival_engine::format::record::Header, Vec<u8>)>),
    filter: bool,
) {
    let bytes = read(fs, &path(&hint_name(id)));
    let mut header = HintHeader::decode(bytes[..80].try_into().unwrap()).unwrap();
    let block = &bytes[80..header.filter_at as usize];
    let entries = hint::entries(block).unwrap().map(|entry| entry.unwrap());
    let mut entries: Vec<_> = entries.map(|entry| (entry.offset, entry.header, entry.key.to_vec())).collect();
    change(&mut entries);
    let mut block = BlockBuilder::default();
    for (offset, header, key) in &entries {
        block.push(&HintEntry { header: *header, offset: *offset, key });
    }
    let block = block.finish();
    let kept =
        if filter { bytes[header.filter_at as usize..].to_vec() } else { Filter::with_room_for(9).encode() };
    header.filter_at = 80 + block.len() as u64;
    header.file_size = header.filter_at + kept.len() as u64;
    write(fs, &path(&hint_name(id)), &[&header.encode(), block, &kept].concat());
}

#[test]
fn a_hint_that_tells_something_else_than_its_segment_is_damage() {
    let (store, fs, contents) = closed();
    let id = ids(&fs)[1];
    let flaw = |fs: &MemoryFs| {
        let found = checked(fs);
        assert_eq!(found.places.len(), 1);
        assert_eq!(found.places[0].file, path(&hint_name(id)));
        assert!(repaired(fs).unwrap().lost.is_empty());
        assert_eq!(opened(&store, fs, NEW), contents);
        found.places[0].flaw
    };
    let second = groups(&fs, id)[0].0.at.offset + 88;
    let (other, fewer, filter) = (copy(&fs), copy(&fs), copy(&fs));
    forge(&other, id, |entries| entries[0].1.expiry = 7, true);
    assert_eq!(flaw(&other), Flaw::HintLies { record: second });
    forge(&fewer, id, |entries| drop(entries.pop()), true);
    assert!(matches!(flaw(&fewer), Flaw::HintLies { .. }));
    forge(&filter, id, |_| {}, false);
    assert_eq!(flaw(&filter), Flaw::FilterLies { record: second });
}

#[test]
fn what_the_manifest_cannot_mean_is_named() {
    let (_, fs, _) = closed();
    let [first, second] = ids(&fs)[..] else { panic!("two segments") };
    let sole = |fs: &MemoryFs| -> (PathBuf, u64, Flaw) {
        let found = checked(fs);
        assert_eq!(found.places.len(), 1, "{:?}", found.places);
        let Place { file, offset, flaw, .. } = found.places.into_iter().next().unwrap();
        (file, offset, flaw)
    };
    let missing = copy(&fs);
    missing.remove(&segment_path(first)).unwrap();
    assert_eq!(sole(&missing), (segment_path(first), 0, Flaw::Damage(Damage::Missing)));
    let short = copy(&fs);
    let bytes = read(&fs, &segment_path(second));
    let last = groups(&fs, second).last().unwrap().0.at.offset;
    write(&short, &segment_path(second), &bytes[..last as usize]);
    assert_eq!(sole(&short), (segment_path(second), last, Flaw::Damage(Damage::Truncated)));
    let older = copy(&fs);
    let mut changed = manifest(&fs);
    changed.sequence_limit = groups(&fs, second).last().unwrap().1.last().unwrap().2 - 1;
    write(&older, &path("MANIFEST"), &changed.encode());
    assert!(matches!(sole(&older).2, Flaw::AboveLimit { .. }));
    let unknown = copy(&fs);
    write(&unknown, &path("00000000000fffff.seg"), b"");
    assert_eq!(sole(&unknown), (path("00000000000fffff.seg"), 0, Flaw::AboveIds));
    let miscounted = copy(&fs);
    let mut changed = manifest(&fs);
    changed.segments[1].sealed.as_mut().unwrap().records += 1;
    write(&miscounted, &path("MANIFEST"), &changed.encode());
    assert_eq!(sole(&miscounted), (path("MANIFEST"), 104 + 48, Flaw::Summary));
    let stray = copy(&fs);
    write(&stray, &path("0000000000000000.seg"), b"");
    assert_eq!(checked(&stray).notes, [Note::Stray { file: path("0000000000000000.seg") }]);
}

#[test]
fn a_torn_tail_is_no_damage_and_what_a_watermark_speaks_for_is() {
    let (store, fs, id) = killed();
    let starts: Vec<u64> = groups(&fs, id).iter().map(|(group, _)| group.at.offset).collect();
    let bytes = read(&fs, &segment_path(id));
    for offset in 48..bytes.len() as u64 {
        let damaged = copy(&fs);
        flip(&damaged, &segment_path(id), offset);
        let found = checked(&damaged);
        let group = *starts.iter().rfind(|&&start| start <= offset).unwrap();
        if offset < starts[2] {
            assert_eq!((found.places.len(), found.places[0].offset), (1, group), "byte {offset}");
            assert_eq!(found.records, 4, "byte {offset}");
        } else {
            let bytes = bytes.len() as u64 - starts[2];
            let torn = Note::TornTail { file: segment_path(id), offset: starts[2], bytes };
            assert_eq!((found.places, found.notes), (vec![], vec![Note::Unclean, torn]), "byte {offset}");
            // The next start thinks the same.
            assert_eq!(store.on(Arc::new(damaged)).open().1.torn[0].offset, starts[2]);
        }
    }
}

#[test]
fn a_directory_in_use_and_one_without_a_store_cannot_be_checked() {
    let (store, fs, _) = closed();
    let (engine, _) = store.open();
    let locked = |result: Result<Checked, ToolError>| matches!(result, Err(ToolError::Locked { .. }));
    assert!(locked(check(Arc::new(fs.clone()), Path::new(DIR), &mut ())));
    assert!(matches!(restored(&fs, NEW, Target::Sequence(1)), Err(ToolError::Locked { .. })));
    drop(engine);
    let nothing = check(Arc::new(fs), Path::new("/nothing"), &mut ());
    assert!(matches!(nothing, Err(ToolError::NoStore { .. })));
}
