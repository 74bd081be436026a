//! Merges: what they may drop, what they must keep, and when they stop.
#![allow(clippy::unwrap_used)]

mod common;

use common::{EIO, ENOSPC, Fault, Faults, Store, groups, manifest, records, segment_path};
use kival_engine::format::record::Kind;
use kival_engine::fs::hook::{Call, Hook, HookFs, Op, Verdict};
use kival_engine::fs::{FileSystem, MemoryFs};
use kival_engine::{CompactionPolicy, Engine, Reason};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const EAGER: CompactionPolicy = CompactionPolicy { percentage: 1, min_size: 0, ..CompactionPolicy::DEFAULT };

/// Fills a segment of its own with what `turn` does.
fn segment(store: &Store, turn: impl FnOnce(&mut Engine)) {
    let (mut engine, _) = store.open();
    turn(&mut engine);
    engine.commit().unwrap();
    engine.close().unwrap();
}

/// So many keys that stay.
fn live(engine: &mut Engine, prefix: u8, count: u8) {
    for n in 0..count {
        engine.put(0, &[prefix, n], &[n; 200], 0).unwrap();
    }
}

/// The same key so many times.
fn dead(engine: &mut Engine, count: u8) {
    for n in 0..count {
        engine.put(0, b"again", &[n; 200], 0).unwrap();
    }
}

/// Lets the policy merge what it wants; the ids of the segments that stayed.
fn merge_some(store: &Store, fs: &MemoryFs) -> Vec<u64> {
    let before: Vec<u64> = manifest(fs).segments.iter().map(|segment| segment.id).collect();
    let (mut engine, _) = store.open();
    engine.set_compaction(EAGER);
    store.settle(&mut engine);
    assert_eq!(engine.stats().compaction.finished, 1);
    engine.close().unwrap();
    let after = manifest(fs);
    before.into_iter().filter(|id| after.segments.iter().any(|segment| segment.id == *id)).collect()
}

fn has(fs: &MemoryFs, kind: Kind, key: &[u8]) -> bool {
    records(fs).iter().any(|record| (record.0, &record.1[..]) == (kind, key))
}

#[test]
fn a_tombstone_stays_while_an_older_record_may_stand_elsewhere() {
    let (store, fs) = Store::in_memory();
    segment(&store, |engine| {
        engine.put(0, b"elsewhere", b"old", 0).unwrap();
        live(engine, b'l', 10);
    });
    segment(&store, |engine| {
        engine.delete(0, b"elsewhere").unwrap();
        engine.put(0, b"here", b"old", 0).unwrap();
        engine.delete(0, b"here").unwrap();
        dead(engine, 10);
    });
    let first = manifest(&fs).segments[0].id;
    assert_eq!(merge_some(&store, &fs), [first], "the deader segment was merged");
    assert!(has(&fs, Kind::Value, b"elsewhere"));
    assert!(has(&fs, Kind::Tombstone, b"elsewhere"), "its value is in the other segment");
    assert!(!has(&fs, Kind::Tombstone, b"here"), "nothing older can be anywhere");
    assert!(!has(&fs, Kind::Value, b"here"));
    let (mut engine, _) = store.open();
    assert!(engine.entry(0, b"elsewhere").unwrap().is_none());
    store.compact(&mut engine);
    drop(engine);
    assert!(!has(&fs, Kind::Value, b"elsewhere") && !has(&fs, Kind::Tombstone, b"elsewhere"));
    let (mut engine, report) = store.open();
    assert_eq!(report.keys, 11);
    assert!(engine.entry(0, b"elsewhere").unwrap().is_none());
}

#[test]
fn an_expiry_outlives_a_merge_of_its_value_alone() {
    let (store, fs) = Store::in_memory();
    segment(&store, |engine| {
        engine.put(0, b"kept", b"value", 1_000_100).unwrap();
        engine.put(0, b"timed", b"value", 0).unwrap();
        dead(engine, 10);
    });
    segment(&store, |engine| {
        assert!(engine.set_expiry(0, b"kept", 0).unwrap());
        assert!(engine.set_expiry(0, b"timed", 1_000_100).unwrap());
        live(engine, b'l', 10);
    });
    let second = manifest(&fs).segments[1].id;
    assert_eq!(merge_some(&store, &fs), [second], "only the values were merged");
    let check = |store: &Store| {
        let (mut engine, _) = store.open();
        assert_eq!(engine.entry(0, b"kept").unwrap().map(|entry| entry.expiry), Some(0));
        assert_eq!(engine.entry(0, b"timed").unwrap().map(|entry| entry.expiry), Some(1_000_100));
        engine
    };
    store.compact(&mut check(&store));
    store.clock.set(1_000_050);
    drop(check(&store));
    store.clock.set(1_000_200);
    let (mut engine, _) = store.open();
    assert!(engine.entry(0, b"kept").unwrap().is_some() && engine.entry(0, b"timed").unwrap().is_none());
}

#[test]
fn compaction_comes_to_rest_though_headers_weigh_more_than_records() {
    let (store, fs) = Store::in_memory();
    let (mut engine, _) = store.open();
    for n in 0..60u8 {
        // A group of its own, before the merge and after it: each second has its own.
        store.clock.set(1_000_000 + u64::from(n) * 1000);
        engine.tick();
        engine.put(0, &[n], b"small", 0).unwrap();
        engine.commit().unwrap();
    }
    engine.set_compaction(EAGER);
    assert!(engine.compact());
    store.drive(&mut engine, |engine| {
        let progress = engine.stats().compaction;
        assert!(progress.finished < 10, "it merges the same again and again");
        progress.finished > 0 && !progress.running && !progress.scheduled
    });
    let merged = manifest(&fs).segments.into_iter().filter(|segment| segment.merged);
    let times: Vec<u64> = merged.flat_map(|s| groups(&fs, s.id)).map(|(group, _)| group.time_ms).collect();
    assert_eq!(times.len(), 60, "the seconds are kept");
}

#[test]
fn a_compaction_may_be_asked_for_inside_a_turn() {
    let (store, fs) = Store::in_memory();
    let (mut engine, _) = store.open();
    engine.put(0, b"first", &[1; 2100], 0).unwrap();
    engine.commit().unwrap();
    store.drive(&mut engine, |_| manifest(&fs).segments.len() == 2);
    engine.maintain();
    engine.put(0, b"staged", b"value", 0).unwrap();
    assert!(engine.compact());
    engine.put(0, b"more", b"value", 0).unwrap();
    engine.commit().unwrap();
    store.settle(&mut engine);
    engine.set_cache_size(0);
    assert_eq!(engine.get(0, b"staged").unwrap().as_deref(), Some(&b"value"[..]));
    drop(engine);
    assert_eq!(store.open().1.keys, 3);
}

#[test]
fn a_merge_that_fails_leaves_its_inputs_and_no_rest() {
    let (store, fs) = Store::in_memory();
    let faults = Faults::on(&fs);
    let store = store.on(Arc::new(faults.clone()));
    segment(&store, |engine| {
        live(engine, b'l', 5);
        dead(engine, 5);
    });
    let (mut engine, _) = store.open();
    let contents = store.contents(&mut engine);
    // The first merge writes a manifest to have an id issued; the last finds enough of them reserved.
    let hint = ".hint.tmp";
    for fault in
        [Fault::Create(hint), Fault::Write(hint, 10), Fault::Sync(hint), Fault::Create("MANIFEST.tmp")]
    {
        faults.hook().fail(fault, ENOSPC);
        assert!(engine.compact());
        store.settle(&mut engine);
        assert!(!engine.stats().compaction.last_ok, "{fault:?}");
        assert_eq!(store.contents(&mut engine), contents);
        let named = manifest(&fs);
        for name in fs.list(Path::new(common::DIR)).unwrap() {
            let id = name.strip_suffix(".seg").and_then(|id| u64::from_str_radix(id, 16).ok());
            assert!(id.is_none_or(|id| named.segments.iter().any(|s| s.id == id)), "{fault:?} left {name}");
            assert!(!name.ends_with(".hint.tmp"), "{fault:?} left {name}");
        }
    }
    store.compact(&mut engine);
    assert_eq!(store.contents(&mut engine), contents);
    engine.close().unwrap();
}

/// Counts the bytes that are read of one segment.
#[derive(Debug, Clone, Default)]
struct Reads {
    of: Arc<std::sync::Mutex<String>>,
    bytes: Arc<AtomicUsize>,
}

impl Hook for Reads {
    fn before(&self, call: &Call<'_>) -> Verdict {
        let of = self.of.lock().unwrap();
        if call.op == Op::ReadAt && !of.is_empty() && call.is_on(&of) {
            self.bytes.fetch_add(call.bytes, Ordering::Relaxed);
        }
        Verdict::Go
    }
}

/// A store of whose second segment nothing is live, perhaps with a tombstone in it.
fn wholly_dead(store: &Store, tombstone: Option<&[u8]>) {
    segment(store, |engine| {
        engine.put(0, b"elsewhere", b"old", 0).unwrap();
        live(engine, b'l', 10);
    });
    segment(store, |engine| {
        dead(engine, 10);
        engine.put(0, b"here", b"old", 0).unwrap();
        if let Some(key) = tombstone {
            engine.delete(0, key).unwrap();
        }
    });
    segment(store, |engine| {
        dead(engine, 1);
        engine.put(0, b"here", b"new", 0).unwrap();
    });
}

/// How many bytes of the second segment, or of its hint, a merge by the policy reads.
fn read_of_the_dead(tombstone: Option<&[u8]>, of: &str) -> (usize, MemoryFs, Store) {
    let (store, fs) = Store::in_memory();
    wholly_dead(&store, tombstone);
    let reads = Reads::default();
    let hooked = store.on(Arc::new(HookFs::new(fs.clone(), reads.clone())));
    let (mut engine, _) = hooked.open();
    let second = manifest(&fs).segments[1].id;
    *reads.of.lock().unwrap() = format!("{second:016x}.{of}");
    engine.set_compaction(EAGER);
    engine.maintain();
    assert_eq!(engine.stats().compaction.reason, Some(Reason::WhollyDead));
    hooked.settle(&mut engine);
    engine.close().unwrap();
    assert!(!manifest(&fs).segments.iter().any(|segment| segment.id == second), "it has gone");
    (reads.bytes.load(Ordering::Relaxed), fs, store)
}

#[test]
fn a_segment_of_dead_values_goes_without_being_read() {
    for of in ["seg", "hint"] {
        let (bytes, fs, store) = read_of_the_dead(None, of);
        assert_eq!(bytes, 0, "{of}");
        let floors = manifest(&fs);
        assert!(floors.feed_floor > 0 && floors.restore_floor > floors.feed_floor, "both floors are kept");
        assert_eq!(store.open().1.keys, 13);
    }
}

#[test]
fn a_dead_segment_with_a_tombstone_that_can_go_is_judged_by_its_hint() {
    let (bytes, ..) = read_of_the_dead(Some(b"here"), "seg");
    assert_eq!(bytes, 0);
    let (bytes, fs, store) = read_of_the_dead(Some(b"here"), "hint");
    assert!(bytes > 0);
    assert!(!has(&fs, Kind::Tombstone, b"here"));
    assert_eq!(store.open().1.keys, 13);
}

#[test]
fn a_dead_segment_is_copied_for_a_tombstone_that_must_stay() {
    let (bytes, fs, store) = read_of_the_dead(Some(b"elsewhere"), "seg");
    assert!(bytes > 0);
    assert!(has(&fs, Kind::Tombstone, b"elsewhere"), "its value is in another segment");
    let (mut engine, _) = store.open();
    assert!(engine.entry(0, b"elsewhere").unwrap().is_none());
}

#[test]
fn compaction_rests_after_a_restart_too() {
    let (store, _) = Store::in_memory();
    let (mut engine, _) = store.open();
    for n in 0..60u8 {
        // A group of its own, before the merge and after it: each second has its own.
        store.clock.set(1_000_000 + u64::from(n) * 1000);
        engine.tick();
        engine.put(0, &[n], b"small", 0).unwrap();
        engine.commit().unwrap();
    }
    store.compact(&mut engine);
    engine.close().unwrap();
    let (mut engine, _) = store.open();
    engine.set_compaction(EAGER);
    engine.maintain();
    store.settle(&mut engine);
    assert_eq!(engine.stats().compaction.finished, 0, "there is nothing that it could free");
}

#[test]
fn a_segment_with_many_dead_bytes_is_merged_for_itself() {
    let (store, fs) = Store::in_memory();
    segment(&store, |engine| live(engine, b'l', 100));
    segment(&store, |engine| {
        live(engine, b'm', 10);
        dead(engine, 10);
    });
    let second = manifest(&fs).segments[1].id;
    let (mut engine, _) = store.open();
    // So far from the percentage that it says nothing.
    let policy = CompactionPolicy { percentage: 10_000, min_size: 1 << 30, ..EAGER };
    engine.set_compaction(CompactionPolicy { dead_bytes: 100_000, ..policy });
    assert!(engine.compaction_plans().now.segments.is_empty());
    engine.set_compaction(CompactionPolicy { dead_bytes: 1000, ..policy });
    let plan = engine.compaction_plans().now;
    assert_eq!(plan.reason, Some(Reason::DeadBytes));
    assert_eq!(plan.segments.iter().map(|segment| segment.id).collect::<Vec<_>>(), [second]);
    let before = engine.stats().log_bytes;
    engine.maintain();
    store.settle(&mut engine);
    let progress = engine.stats().compaction;
    assert_eq!((progress.finished, progress.reason), (1, Some(Reason::DeadBytes)));
    assert!(before - engine.stats().log_bytes >= plan.freed && plan.freed > 0);
    assert!(progress.bytes_written <= plan.written);
}

#[test]
fn small_files_are_put_together() {
    let (store, fs) = Store::in_memory();
    for n in 0..5 {
        segment(&store, |engine| live(engine, n, 2));
    }
    let (mut engine, _) = store.open();
    let policy = CompactionPolicy { percentage: 10_000, min_size: 1 << 30, small_files: 5, ..EAGER };
    engine.set_compaction(policy);
    engine.maintain();
    assert!(!engine.stats().compaction.running);
    engine.set_compaction(CompactionPolicy { small_files: 4, ..policy });
    engine.maintain();
    store.settle(&mut engine);
    assert_eq!(engine.stats().compaction.reason, Some(Reason::SmallFiles));
    engine.close().unwrap();
    assert_eq!(manifest(&fs).segments.len(), 1);
}

#[test]
fn a_segment_that_does_not_read_back_is_left_out_by_the_next_merge() {
    let (store, fs) = Store::in_memory();
    for n in 0..3u8 {
        segment(&store, |engine| {
            live(engine, n, 3);
            dead(engine, 5);
        });
    }
    let damaged = manifest(&fs).segments[1].id;
    let (mut engine, _) = store.open();
    let place = engine.entry(0, &[1, 0]).unwrap().unwrap().place;
    // The hint is sound, so that nothing shows at the open.
    let file = fs.open(&segment_path(damaged)).unwrap();
    file.write_at(b"X", place.offset() + 100).unwrap();
    assert!(engine.compact());
    store.settle(&mut engine);
    assert!(!engine.stats().compaction.last_ok);
    store.compact(&mut engine);
    let left: Vec<u64> = manifest(&fs).segments.iter().map(|segment| segment.id).collect();
    assert!(left.contains(&damaged), "what is damaged stays");
    assert_eq!(manifest(&fs).segments.iter().filter(|s| s.sealed.is_some() && !s.merged).count(), 1);
    for key in [[0, 0], [1, 1], [2, 2]] {
        assert!(engine.get(0, &key).unwrap().is_some());
    }
}

/// Trouble that only the merge thread has, once.
#[derive(Debug, Clone)]
struct Trouble {
    on: (Op, &'static str),
    panics: bool,
    armed: Arc<AtomicBool>,
}

impl Trouble {
    fn store(self, store: &Store, fs: &MemoryFs) -> Store {
        store.on(Arc::new(HookFs::new(fs.clone(), self)))
    }
}

impl Hook for Trouble {
    fn before(&self, call: &Call<'_>) -> Verdict {
        let merges = std::thread::current().name() == Some("kival-compact");
        let meant = merges && call.op == self.on.0 && call.is_on(self.on.1);
        if !meant || !self.armed.swap(false, Ordering::Relaxed) {
            return Verdict::Go;
        }
        assert!(!self.panics, "a bug in a merge");
        Verdict::Fail(io::Error::from_raw_os_error(EIO))
    }
}

#[test]
fn a_merge_that_fails_behind_its_exchange_is_made_good_by_the_next() {
    let (store, fs) = Store::in_memory();
    segment(&store, |engine| {
        live(engine, b'l', 5);
        dead(engine, 5);
    });
    // The hint of the output is read again once the manifest names it.
    let on = (Op::Open, ".hint");
    let store = Trouble { on, panics: false, armed: Arc::new(true.into()) }.store(&store, &fs);
    let (mut engine, _) = store.open();
    let contents = store.contents(&mut engine);
    let first = manifest(&fs).segments[0].id;
    assert!(engine.compact());
    store.settle(&mut engine);
    assert!(!engine.stats().compaction.last_ok);
    assert!(!manifest(&fs).segments.iter().any(|segment| segment.id == first), "it was exchanged");
    assert_eq!(store.contents(&mut engine), contents);
    engine.set_compaction(EAGER);
    store.clock.set(1_100_000);
    engine.tick();
    store.drive(&mut engine, |engine| {
        let progress = engine.stats().compaction;
        assert!(progress.finished < 10, "it merges the same again and again");
        progress.finished > 0 && !progress.running && !progress.scheduled
    });
    assert_eq!(store.contents(&mut engine), contents);
    let old = fs.open(&segment_path(first)).map(|_| ()).map_err(|error| error.kind());
    assert_eq!(old, Err(io::ErrorKind::NotFound), "nothing stands in it any more");
    engine.close().unwrap();
    assert_eq!(store.contents(&mut store.open().0), contents);
}

#[test]
fn a_merge_that_panics_is_one_that_failed() {
    let (store, fs) = Store::in_memory();
    segment(&store, |engine| live(engine, b'l', 5));
    let on = (Op::Create, ".hint.tmp");
    let store = Trouble { on, panics: true, armed: Arc::new(true.into()) }.store(&store, &fs);
    let (mut engine, _) = store.open();
    assert!(engine.compact());
    store.settle(&mut engine);
    assert!(!engine.stats().compaction.last_ok);
    store.compact(&mut engine);
    assert_eq!(store.contents(&mut engine).len(), 5);
}

#[test]
fn one_small_file_alone_is_not_put_together() {
    let (store, _) = Store::in_memory();
    segment(&store, |engine| live(engine, b'l', 2));
    let (mut engine, _) = store.open();
    engine.set_compaction(CompactionPolicy { percentage: 10_000, small_files: 0, ..EAGER });
    engine.maintain();
    store.settle(&mut engine);
    assert_eq!(engine.stats().compaction.finished, 0);
}
