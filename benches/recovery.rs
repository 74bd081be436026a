//! Opening a store, with its hints and without: on the in-memory file system, so that what is measured is the
//! engine and not a disk.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use kival_engine::fs::{FileSystem, MemoryFs};
use kival_engine::{CompactionPolicy, Engine, Options, SyncPolicy};
use std::sync::Arc;

const KEYS: u64 = 100_000;
const VALUE: [u8; 100] = [b'v'; 100];
/// Records that one group holds: a turn of a busy server.
const TURN: u64 = 64;

fn options(fs: &MemoryFs) -> Options {
    Options {
        fs: Arc::new(fs.clone()),
        sync: SyncPolicy::No,
        compaction: CompactionPolicy { percentage: 0, ..CompactionPolicy::default() },
        ..Options::in_memory()
    }
}

/// A store that was closed cleanly.
fn stopped(hints: bool) -> MemoryFs {
    let fs = MemoryFs::default();
    let (mut engine, _) = Engine::open(options(&fs)).expect("a store in memory opens");
    for n in 0..KEYS {
        engine.put(0, format!("key:{n:012}").as_bytes(), &VALUE, 0).expect("put");
        if n % TURN == 0 {
            engine.commit().expect("commit");
        }
    }
    engine.close().expect("close");
    if !hints {
        let dir = Options::in_memory().dir;
        for name in fs.list(&dir).expect("list").iter().filter(|name| name.ends_with(".hint")) {
            fs.remove(&dir.join(name)).expect("remove");
        }
    }
    fs
}

/// What is returned is dropped uncounted.
fn open(fs: &MemoryFs, hints: bool) -> Engine {
    let (engine, report) = Engine::open(options(fs)).expect("open");
    assert_eq!((report.keys, report.scanned == 0), (KEYS, hints));
    engine
}

fn recovery(c: &mut Criterion) {
    let mut group = c.benchmark_group("recovery");
    group.throughput(Throughput::Elements(KEYS));
    group.sample_size(10);
    for (name, hints) in [("from hints", true), ("without hints", false)] {
        group.bench_function(name, |b| {
            // A store of its own for each: an open has hints that it missed written anew.
            b.iter_batched(|| stopped(hints), |fs| open(&fs, hints), BatchSize::PerIteration);
        });
    }
    group.finish();
}

criterion_group!(benches, recovery);
criterion_main!(benches);
