//! Stores for the tools, and what the tools are held to each time: their source is as it was.

use crate::common::{DIR, Store, groups, manifest, path, read, segment_path};
use kival_engine::Engine;
use kival_engine::format::group::HEADER as GROUP;
use kival_engine::format::record::{self, Header, Kind, PAGE_HEAD};
use kival_engine::format::segment::hint_name;
use kival_engine::fs::{FileSystem, MemoryFs};
use kival_engine::offline::{Checked, Repaired, Restored, Target, ToolError, check, repair, restore};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

pub(crate) const NEW: &str = "/new";

pub(crate) type Contents = BTreeMap<(u32, Vec<u8>), (Vec<u8>, u64)>;

/// Every live key of all databases, with value and expiry.
pub(crate) fn contents(engine: &mut Engine) -> Contents {
    let mut all = Contents::new();
    for db in 0..engine.databases() {
        let keys: Vec<(Vec<u8>, u64)> =
            engine.iter(db).map(|(key, entry)| (key.to_vec(), entry.expiry)).collect();
        for (key, expiry) in keys {
            let value = engine.get(db, &key).expect("sound").expect("live").to_vec();
            all.insert((db, key), (value, expiry));
        }
    }
    all
}

/// What a server finds in a directory.
pub(crate) fn opened(store: &Store, fs: &MemoryFs, dir: &str) -> Contents {
    let fs: Arc<dyn FileSystem> = Arc::new(fs.clone());
    let mut options = store.on(fs).options;
    options.dir = dir.into();
    let (mut engine, report) = Engine::open(options).expect("it opens");
    assert!(report.torn.is_empty());
    contents(&mut engine)
}

pub(crate) fn all_files(fs: &MemoryFs) -> BTreeMap<String, Vec<u8>> {
    let names = fs.list(Path::new(DIR)).unwrap();
    names.into_iter().map(|name| (name.clone(), read(fs, &path(&name)))).collect()
}

pub(crate) fn checked(fs: &MemoryFs) -> Checked {
    let before = all_files(fs);
    let checked = check(Arc::new(fs.clone()), Path::new(DIR), &mut ()).expect("it can be checked");
    assert_eq!(all_files(fs), before, "a check changes nothing");
    checked
}

pub(crate) fn repaired(fs: &MemoryFs) -> Option<Repaired> {
    let before = all_files(fs);
    let repaired = repair(Arc::new(fs.clone()), Path::new(DIR), Path::new(NEW), &mut ());
    assert_eq!(all_files(fs), before, "a repair changes nothing in its source");
    repaired.unwrap_or_else(|error| panic!("it can be repaired: {error}"))
}

pub(crate) fn restored(fs: &MemoryFs, to: &str, target: Target) -> Result<Restored, ToolError> {
    let before = all_files(fs);
    let restored = restore(Arc::new(fs.clone()), Path::new(DIR), Path::new(to), target, &mut ());
    assert_eq!(all_files(fs), before, "a restore changes nothing in its source");
    restored
}

/// A closed store of two segments: values, one of them twice, a tombstone, an expiry, a flushed database.
pub(crate) fn closed() -> (Store, MemoryFs, Contents) {
    let (store, fs) = Store::in_memory();
    let (mut engine, _) = store.open();
    for turn in 0..2u8 {
        engine.put(0, b"twice", &[turn; 30], 0).unwrap();
        engine.put(0, &[b'k', turn], b"value", 0).unwrap();
        engine.commit().unwrap();
        engine.put(1, b"flushed", b"", 0).unwrap();
        engine.put(0, b"expires", &[turn], 0).unwrap();
        engine.set_expiry(0, b"expires", 9_000_000).unwrap();
        engine.commit().unwrap();
        engine.put(0, b"deleted", b"", 0).unwrap();
        engine.delete(0, b"deleted").unwrap();
        engine.flush(&[1]).unwrap();
        engine.commit().unwrap();
        engine.close().unwrap();
        engine = store.open().0;
    }
    let contents = contents(&mut engine);
    engine.close().unwrap();
    assert_eq!(manifest(&fs).segments.len(), 2);
    (store, fs, contents)
}

pub(crate) fn ids(fs: &MemoryFs) -> Vec<u64> {
    manifest(fs).segments.iter().map(|segment| segment.id).collect()
}

pub(crate) fn drop_hints(fs: &MemoryFs) {
    ids(fs).iter().for_each(|&id| fs.remove(&path(&hint_name(id))).unwrap());
}

/// A record where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    pub(crate) header: Header,
    pub(crate) key: Vec<u8>,
    /// Of a page the sequence of the value that it lies over.
    pub(crate) over: u64,
}

/// All records of the live segments, rising by sequence.
pub(crate) fn standing(fs: &MemoryFs) -> Vec<Standing> {
    let mut found = Vec::new();
    for segment in ids(fs) {
        let bytes = read(fs, &segment_path(segment));
        for (group, records) in groups(fs, segment) {
            let mut offset = group.at.offset + GROUP as u64;
            for _ in records {
                let record = record::decode(&bytes[offset as usize..]).unwrap();
                let over = match record.header.kind {
                    Kind::Page => u64::from_le_bytes(record.value[..PAGE_HEAD].try_into().unwrap()),
                    _ => 0,
                };
                let (header, key) = (record.header, record.key.to_vec());
                found.push(Standing { segment, offset, header, key, over });
                offset += header.record_size();
            }
        }
    }
    found.sort_by_key(|standing| standing.header.sequence);
    found
}

/// A store that was killed: three groups, of which two were durable when the third was appended.
pub(crate) fn killed() -> (Store, MemoryFs, u64) {
    let (store, fs) = Store::in_memory();
    let (mut engine, _) = store.open();
    for turn in 0..3u8 {
        engine.put(0, &[turn], &[turn; 20], 0).unwrap();
        engine.put(0, b"again", &[turn; 20], 0).unwrap();
        engine.commit().unwrap();
        if turn == 1 {
            engine.sync().unwrap();
        }
    }
    drop(engine);
    let id = *ids(&fs).iter().find(|&&id| !groups(&fs, id).is_empty()).unwrap();
    (store, fs, id)
}
