//! The engine alone: puts and gets, on the in-memory file system, so that what is measured is the engine and
//! not a disk.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kival_engine::fs::MemoryFs;
use kival_engine::{CompactionPolicy, Engine, Options, SyncPolicy};
use std::hint::black_box;
use std::sync::Arc;

const KEYS: u64 = 100_000;
const VALUE: [u8; 100] = [b'v'; 100];
/// Records that one group holds: a turn of a busy server.
const TURN: u64 = 64;

fn key(n: u64) -> [u8; 16] {
    let mut key = *b"key:............";
    key[4..].copy_from_slice(format!("{n:012}").as_bytes());
    key
}

fn options(fs: &MemoryFs) -> Options {
    Options {
        fs: Arc::new(fs.clone()),
        sync: SyncPolicy::No,
        compaction: CompactionPolicy { percentage: 0, min_size: 0, ..CompactionPolicy::default() },
        ..Options::in_memory()
    }
}

fn filled(fs: &MemoryFs) -> Engine {
    let (mut engine, _) = Engine::open(options(fs)).expect("a store in memory opens");
    for n in 0..KEYS {
        engine.put(0, &key(n), &VALUE, 0).expect("put");
        if n % TURN == 0 {
            engine.commit().expect("commit");
        }
    }
    engine.commit().expect("commit");
    engine
}

fn put_and_get(c: &mut Criterion) {
    let mut engine = filled(&MemoryFs::default());
    let mut group = c.benchmark_group("engine");
    group.throughput(Throughput::Elements(TURN));
    let mut random = 1u64;
    let mut next = move || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) % KEYS
    };
    let mut next_too = next;
    group.bench_function("put, 64 a group", |b| {
        b.iter(|| {
            for _ in 0..TURN {
                engine.put(0, &key(next()), &VALUE, 0).expect("put");
            }
            engine.commit().expect("commit")
        });
    });
    group.bench_function("get, cached", |b| {
        b.iter(|| {
            for _ in 0..TURN {
                black_box(engine.get(0, &key(next_too())).expect("get"));
            }
        });
    });
    group.finish();
}

criterion_group!(benches, put_and_get);
criterion_main!(benches);
