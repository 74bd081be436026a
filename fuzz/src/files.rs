//! Stores in memory: put together from files, opened with what keeps a run the same each time.

use kival_engine::clock::ManualClock;
use kival_engine::fs::{FileSystem, MemoryFs};
use kival_engine::{CompactionPolicy, Engine, OpenError, OpenReport, Options, SyncPolicy};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Names and contents.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

const DIR: &str = "/store";

/// A file system that holds the files.
pub(crate) fn file_system(files: &Files) -> MemoryFs {
    let fs = MemoryFs::default();
    fs.create_dir(Path::new(DIR)).expect("memory has directories");
    for (name, bytes) in files {
        let file = fs.create(&Path::new(DIR).join(name)).expect("memory takes any file");
        assert_eq!(file.write_at(bytes, 0).expect("memory takes any write"), bytes.len());
    }
    fs
}

/// Opens the store that lies in `fs`. Its clock stands at one million, as that of the fixtures.
pub(crate) fn open(fs: &MemoryFs) -> Result<(Engine, OpenReport), OpenError> {
    Engine::open(Options {
        fs: Arc::new(fs.clone()),
        clock: Arc::new(ManualClock::new(1_000_000)),
        databases: 4,
        segment_size: 4 << 10,
        cache_size: 0,
        sync: SyncPolicy::No,
        compaction: CompactionPolicy { percentage: 0, min_size: 0, ..CompactionPolicy::DEFAULT },
        ..Options::new(DIR)
    })
}

/// All that a store says: the keys of every database with their values, or why they cannot be read.
pub(crate) type Contents = Vec<Known>;

/// Database, key, and the value or why it cannot be read.
pub(crate) type Known = (u32, Vec<u8>, Result<Option<Vec<u8>>, String>);

/// Reads everything.
pub(crate) fn contents(engine: &mut Engine) -> Contents {
    let mut contents = Contents::new();
    for db in 0..engine.databases() {
        let keys: Vec<Vec<u8>> = engine.iter(db).map(|(key, _)| key.to_vec()).collect();
        for key in keys {
            let value = engine.get(db, &key).map(|value| value.map(|bytes| bytes.to_vec()));
            contents.push((db, key, value.map_err(|error| error.to_string())));
        }
    }
    contents.sort();
    contents
}
