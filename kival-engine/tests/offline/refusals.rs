//! A disk that refuses to read parts of files.

use crate::common::{DIR, EIO, Store, copy, read, segment_path, write};
use crate::shared::{NEW, ids, opened};
use kival_engine::error::Damage;
use kival_engine::fs::MemoryFs;
use kival_engine::fs::hook::{Call, Hook, HookFs, Op, Verdict};
use kival_engine::offline::{Flaw, Note, check, repair};
use std::path::Path;
use std::sync::Arc;

/// Refuses reads that touch a part of the file, as a disk with bad sectors does.
#[derive(Debug)]
struct BadSectors {
    file: &'static str,
    part: std::ops::Range<u64>,
}

impl Hook for BadSectors {
    fn before(&self, call: &Call<'_>) -> Verdict {
        let end = call.offset + call.bytes as u64;
        if call.op == Op::ReadAt
            && call.is_on(self.file)
            && call.offset < self.part.end
            && self.part.start < end
        {
            return Verdict::Fail(std::io::Error::from_raw_os_error(EIO));
        }
        Verdict::Go
    }
}

/// A closed store of one segment with a value of some sectors, and small ones around it.
fn closed_with_a_large_value() -> (Store, MemoryFs) {
    let (store, fs) = Store::in_memory();
    let (mut engine, _) = store.open();
    for (key, size) in [(&b"before"[..], 10), (b"large", 20_000), (b"after", 10)] {
        engine.put(0, key, &vec![b'x'; size], 0).unwrap();
        engine.commit().unwrap();
    }
    engine.close().unwrap();
    (store, fs)
}

#[test]
fn what_the_disk_refuses_to_read_is_damage_and_the_rest_is_saved() {
    let (store, fs) = closed_with_a_large_value();
    let bad = HookFs::new(fs.clone(), BadSectors { file: ".seg", part: 9000..9001 });
    let found = check(Arc::new(bad.clone()), Path::new(DIR), &mut ()).unwrap();
    let [place] = &found.places[..] else { panic!("{:?}", found.places) };
    assert_eq!(place.flaw, Flaw::Damage(Damage::Unreadable));
    assert_eq!((&place.file, &place.keys[..]), (&segment_path(ids(&fs)[0]), &[b"large".to_vec()][..]));
    let made =
        repair(Arc::new(bad), Path::new(DIR), Path::new(NEW), &mut ()).unwrap().expect("there is damage");
    assert_eq!(made.lost.iter().map(|lost| &lost.key[..]).collect::<Vec<_>>(), [b"large"]);
    assert!(made.report.contains("the disk refuses to read this"), "{}", made.report);
    let kept: Vec<Vec<u8>> = opened(&store, &fs, NEW).into_keys().map(|(_, key)| key).collect();
    assert_eq!(kept, [b"after".to_vec(), b"before".to_vec()]);
}

#[test]
fn refused_sectors_that_no_record_needs_are_named_too() {
    let (_, fs) = closed_with_a_large_value();
    for (file, damaged) in [("MANIFEST", true), (".hint", false)] {
        let bad = HookFs::new(fs.clone(), BadSectors { file, part: 0..1 });
        let found = check(Arc::new(bad), Path::new(DIR), &mut ()).unwrap();
        let flaws: Vec<Flaw> = found.places.iter().map(|place| place.flaw).collect();
        assert_eq!(flaws, if damaged { vec![Flaw::Damage(Damage::Unreadable)] } else { vec![] }, "{file}");
        assert!(damaged || matches!(found.notes[..], [Note::Hint { .. }]), "{:?}", found.notes);
    }
    // Zeros behind the end of an open segment, of which the disk gives nothing back.
    let (store, fs) = Store::in_memory();
    let (mut engine, _) = store.open();
    engine.put(0, b"key", b"value", 0).unwrap();
    engine.commit().unwrap();
    engine.sync().unwrap();
    let crashed = copy(&fs);
    drop(engine);
    let id = ids(&crashed)[0];
    let mut bytes = read(&crashed, &segment_path(id));
    bytes.resize(3 * 4096, 0);
    write(&crashed, &segment_path(id), &bytes);
    let bad = HookFs::new(crashed, BadSectors { file: ".seg", part: 9000..9001 });
    let found = check(Arc::new(bad), Path::new(DIR), &mut ()).unwrap();
    let parts: Vec<_> = found.places.iter().map(|place| (place.offset, place.end, place.flaw)).collect();
    assert_eq!(parts, [(8192, 12288, Flaw::Damage(Damage::Unreadable))]);
}
