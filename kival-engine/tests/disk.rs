//! How much disk the log takes: twice the live bytes and two segments, whatever is written.
#![allow(clippy::unwrap_used)]

mod common;

use common::Store;
use fastrand::Rng;
use kival_engine::fs::{FileSystem, MemoryFs};
use kival_engine::{Background, CompactionPolicy, Engine, SyncPolicy};
use std::path::Path;
use std::sync::Arc;

const SEGMENT: u64 = 64 << 10;
const KEYS: u32 = 2000;
const COMMITS: u32 = 4000;
const WRITES: usize = 20;
/// Calls of `maintain` after each commit.
const ROUNDS: usize = 8;

/// What a commit writes.
type Pattern = fn(&mut Engine, &mut Rng, u32);

fn put(engine: &mut Engine, key: u32, bytes: usize) {
    engine.put(0, &key.to_be_bytes(), &vec![b'v'; bytes], 0).unwrap();
}

/// The bytes of all segments in the directory, those that a merge is writing too.
fn segment_bytes(fs: &MemoryFs) -> u64 {
    let names = fs.list(Path::new(common::DIR)).unwrap();
    let segments = names.iter().filter(|name| name.ends_with(".seg"));
    segments.map(|name| fs.open(&common::path(name)).map_or(0, |file| file.len().unwrap())).sum()
}

#[track_caller]
fn check(name: &str, pattern: Pattern) {
    let (mut store, fs) = Store::in_memory();
    store.options.segment_size = SEGMENT;
    // A runway takes space too.
    (store.options.sync, store.options.runway_syncs) = (SyncPolicy::Always, 1);
    // Each call of `maintain` is a step of everything beside the writer.
    store.options.background = Background::Lockstep(Arc::new(|_| true));
    // The defaults, with sizes in proportion to the segments.
    store.options.compaction =
        CompactionPolicy { min_size: SEGMENT / 4, small_file: SEGMENT / 4, ..CompactionPolicy::DEFAULT };
    let (mut engine, _) = store.open();
    let mut rng = Rng::with_seed(7);
    for n in 0..COMMITS {
        for _ in 0..WRITES {
            pattern(&mut engine, &mut rng, n);
        }
        engine.commit().unwrap();
        for _ in 0..ROUNDS {
            engine.maintain();
            let live = engine.stats().live_bytes;
            let bytes = segment_bytes(&fs);
            let progress = engine.stats().compaction;
            assert!(bytes < 2 * live + 2 * SEGMENT, "{name}: {bytes} with {live} live at {n}; {progress:?}");
        }
    }
    assert!(engine.stats().compaction.finished > 0, "{name}: nothing was compacted");
    engine.close().unwrap();
}

#[test]
fn uniform_overwrite_stays_within_the_bound() {
    check("uniform", |engine, rng, _| put(engine, rng.u32(..KEYS), 100));
}

#[test]
fn skewed_overwrite_stays_within_the_bound() {
    check("skewed", |engine, rng, _| {
        let skewed = (f64::from(KEYS) * rng.f64().powi(6)) as u32;
        put(engine, skewed, 100);
    });
}

#[test]
fn a_few_keys_written_again_and_again_stay_within_the_bound() {
    check("few", |engine, rng, _| put(engine, rng.u32(..20), 200));
}

#[test]
fn values_that_grow_and_shrink_stay_within_the_bound() {
    check("growing and shrinking", |engine, rng, n| {
        let bytes = if n / 500 % 2 == 0 { 20 + n as usize % 500 } else { 520 - n as usize % 500 };
        put(engine, rng.u32(..KEYS), bytes);
    });
}

#[test]
fn deletes_stay_within_the_bound() {
    check("deletes", |engine, rng, n| {
        let key = rng.u32(..KEYS);
        if n / 500 % 2 == 1 && rng.u8(..4) > 0 {
            engine.delete(0, &key.to_be_bytes()).unwrap();
        } else {
            put(engine, key, 100);
        }
    });
}

#[test]
fn a_queue_stays_within_the_bound() {
    check("queue", |engine, rng, n| {
        let head = n * WRITES as u32 + rng.u32(..WRITES as u32);
        put(engine, head, 100);
        engine.delete(0, &head.saturating_sub(KEYS).to_be_bytes()).unwrap();
    });
}
