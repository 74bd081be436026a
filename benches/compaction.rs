//! Merging a whole store, from the question to the switch: all of it live, and half of it dead. On the in-memory
//! file system, so that what is measured is the engine and not a disk.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use kival_engine::fs::MemoryFs;
use kival_engine::{CompactionPolicy, Engine, Options, SyncPolicy};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

const KEYS: u64 = 100_000;
const VALUE: [u8; 100] = [b'v'; 100];
/// Records that one group holds: a turn of a busy server.
const TURN: u64 = 64;
/// Small enough that there are several of them.
const SEGMENT: u64 = 4 << 20;

fn options(fs: &MemoryFs) -> Options {
    Options {
        fs: Arc::new(fs.clone()),
        sync: SyncPolicy::No,
        segment_size: SEGMENT,
        compaction: CompactionPolicy { percentage: 0, ..CompactionPolicy::default() },
        ..Options::in_memory()
    }
}

/// A store whose segments are all sealed. With `dead`, every second record has been overwritten by a later one.
fn store(dead: bool) -> (Engine, Receiver<()>) {
    let fs = MemoryFs::default();
    let (mut engine, _) = Engine::open(options(&fs)).expect("a store in memory opens");
    let keys = if dead { KEYS / 2 } else { KEYS };
    for n in 0..KEYS {
        engine.put(0, format!("key:{:012}", n % keys).as_bytes(), &VALUE, 0).expect("put");
        if n % TURN == 0 {
            engine.commit().expect("commit");
        }
    }
    engine.close().expect("close");
    let (wake, news) = channel();
    let waker: kival_engine::Waker = Arc::new(move || {
        // The bench has ended when nobody listens.
        let _ = wake.send(());
    });
    let (engine, report) = Engine::open(Options { waker, ..options(&fs) }).expect("open");
    assert_eq!(report.keys, keys);
    (engine, news)
}

fn merge((mut engine, news): (Engine, Receiver<()>)) -> Engine {
    assert!(engine.compact());
    engine.maintain();
    while engine.stats().compaction.finished == 0 {
        news.recv().expect("the engine keeps its waker");
        engine.maintain();
    }
    engine
}

fn compaction(c: &mut Criterion) {
    let mut group = c.benchmark_group("compaction");
    group.throughput(Throughput::Elements(KEYS));
    group.sample_size(10);
    for (name, dead) in [("all live", false), ("half dead", true)] {
        group.bench_function(name, |b| {
            b.iter_batched(|| store(dead), merge, BatchSize::PerIteration);
        });
    }
    group.finish();
}

criterion_group!(benches, compaction);
criterion_main!(benches);
