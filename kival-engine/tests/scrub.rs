//! A scrub reads the log of a store that is in use, and names exactly the places that are damaged.

#![allow(clippy::unwrap_used)]

mod common;

use common::{EIO, Store, flip_in_place, groups, manifest, read, segment_path};
use kival_engine::format::group::HEADER as GROUP;
use kival_engine::format::record;
use kival_engine::format::segment::hint_name;
use kival_engine::fs::hook::{Call, Hook, HookFs, Op, Verdict};
use kival_engine::fs::{FileSystem, MemoryFs};
use kival_engine::{DamagedPlace, Engine, Fault, ScrubStatus, SegmentState, SegmentStats};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

/// File, offset and key of a damaged place.
type Where = (std::path::PathBuf, u64, Option<Vec<u8>>);

fn scrub(store: &Store, engine: &mut Engine) -> ScrubStatus {
    assert!(engine.scrub().unwrap());
    store.drive(engine, |engine| !engine.scrub_status().running);
    engine.scrub_status()
}

fn found(status: &ScrubStatus) -> Vec<Where> {
    let place =
        |place: &DamagedPlace| (place.file.clone(), place.offset, place.key.as_deref().map(<[u8]>::to_vec));
    status.places.iter().map(place).collect()
}

fn has_room(segment: &SegmentStats) -> bool {
    segment.state == SegmentState::Active && segment.bytes < 4 << 10
}

/// A store with some sealed segments and an active one, all of it durable, and no rate limit.
fn filled(fs: Arc<dyn FileSystem>) -> (Store, Engine) {
    let mut store = Store::new(fs);
    store.options.scrub_rate = 0;
    let mut engine = store.open().0;
    for turn in 0..120_u32 {
        // The next segment is made by a thread: wait for it, so that each has its size.
        store.drive(&mut engine, |engine| engine.segments().iter().any(has_room));
        for part in 0..3 {
            let key = format!("key:{turn}:{part}");
            engine.put(0, key.as_bytes(), &[turn as u8; 50], 0).unwrap();
        }
        engine.commit().unwrap();
        engine.maintain();
    }
    engine.sync().unwrap();
    let sealed =
        |engine: &mut Engine| engine.segments().iter().filter(|segment| segment.records == 0).count() == 1;
    store.drive(&mut engine, sealed);
    (store, engine)
}

/// The offset of every record in a segment, with its key.
fn places(fs: &dyn FileSystem, id: u64) -> Vec<(u64, Vec<u8>)> {
    let bytes = read(fs, &segment_path(id));
    let mut all = Vec::new();
    for (header, records) in groups(fs, id) {
        let mut at = header.at.offset as usize + GROUP;
        for _ in records {
            let record = record::decode(&bytes[at..]).unwrap();
            all.push((at as u64, record.key.to_vec()));
            at += record.header.record_size() as usize;
        }
    }
    all
}

#[test]
fn a_sound_store_has_no_damaged_place_and_is_read_whole() {
    let fs = MemoryFs::default();
    let (store, mut engine) = filled(Arc::new(fs.clone()));
    let status = scrub(&store, &mut engine);
    let log: u64 = engine.segments().iter().map(|segment| segment.bytes).sum();
    assert_eq!((status.damaged, status.bytes_read, status.bytes_total), (0, log, log));
    assert_eq!(status.finished_ms, 1_000_000);
}

#[test]
fn every_flipped_record_of_a_sealed_segment_is_named_with_its_key_and_no_other_is() {
    let fs = MemoryFs::default();
    let (store, mut engine) = filled(Arc::new(fs.clone()));
    let ids: Vec<u64> = manifest(&fs).segments.iter().filter(|s| s.sealed.is_some()).map(|s| s.id).collect();
    assert!(ids.len() >= 3, "there are sealed segments");
    let mut flipped: Vec<Where> = Vec::new();
    for &id in &ids {
        // Two of one group, and one of the last group.
        let all = places(&fs, id);
        for (offset, key) in [&all[3], &all[5], all.last().unwrap()] {
            flip_in_place(&fs, &segment_path(id), offset + 40);
            flipped.push((segment_path(id), *offset, Some(key.clone())));
        }
    }
    let status = scrub(&store, &mut engine);
    assert_eq!(found(&status), flipped);
    assert_eq!(status.damaged, flipped.len() as u64);
    // What is dead is read like what is live, and the store goes on.
    engine.put(0, b"another", b"value", 0).unwrap();
    engine.commit().unwrap();
}

#[test]
fn damaged_sizes_and_headers_hide_nothing_of_what_stands_behind_them() {
    let fs = MemoryFs::default();
    let (store, mut engine) = filled(Arc::new(fs.clone()));
    let id = manifest(&fs).segments[0].id;
    let groups = groups(&fs, id);
    let (head, all) = (groups[1].0.at.offset, places(&fs, id));
    // The segment's header, a group's header, the key size of a record, a record far behind.
    flip_in_place(&fs, &segment_path(id), 20);
    flip_in_place(&fs, &segment_path(id), head + 30);
    flip_in_place(&fs, &segment_path(id), all[7].0 + 6);
    flip_in_place(&fs, &segment_path(id), all[20].0 + 50);
    let named = |at: &(u64, Vec<u8>)| (segment_path(id), at.0, Some(at.1.clone()));
    let expected =
        [(segment_path(id), 0, None), (segment_path(id), head, None), named(&all[7]), named(&all[20])];
    assert_eq!(found(&scrub(&store, &mut engine)), expected);
    // Without a hint the places are the same; only the keys are not known.
    fs.remove(&common::path(&hint_name(id))).unwrap();
    let without = expected.map(|(file, offset, _)| (file, offset, None));
    assert_eq!(found(&scrub(&store, &mut engine)), without);
}

#[test]
fn the_active_segment_is_read_up_to_what_is_durable() {
    let fs = MemoryFs::default();
    let (store, mut engine) = filled(Arc::new(fs.clone()));
    let active = manifest(&fs).segments.iter().filter(|s| s.sealed.is_none()).map(|s| s.id).min().unwrap();
    let durable = places(&fs, active);
    engine.put(0, b"not yet durable", &[1; 100], 0).unwrap();
    engine.commit().unwrap();
    let all = places(&fs, active);
    assert!(all.len() > durable.len() && !durable.is_empty());
    flip_in_place(&fs, &segment_path(active), all.last().unwrap().0 + 60);
    assert_eq!(scrub(&store, &mut engine).damaged, 0, "what is not durable may be as it likes");
    let last = durable.last().unwrap();
    flip_in_place(&fs, &segment_path(active), last.0 + 40);
    assert_eq!(found(&scrub(&store, &mut engine)), [(segment_path(active), last.0, None)]);
    // Now that it is durable the other one counts too.
    engine.sync().unwrap();
    assert_eq!(scrub(&store, &mut engine).damaged, 2);
}

/// Holds up reads of segments, and can fail them.
#[derive(Debug, Default)]
struct Reads {
    closed: (Mutex<bool>, Condvar),
    waiting: (Mutex<bool>, Condvar),
    fail: AtomicBool,
}

#[derive(Debug, Clone, Default)]
struct Held(Arc<Reads>);

impl Hook for Held {
    fn before(&self, call: &Call<'_>) -> Verdict {
        if call.op != Op::ReadAt || !call.is_on(".seg") {
            return Verdict::Go;
        }
        if self.0.fail.load(Ordering::Relaxed) {
            return Verdict::Fail(io::Error::from_raw_os_error(EIO));
        }
        if std::thread::current().name() == Some("kival-scrub") {
            *self.0.waiting.0.lock().unwrap() = true;
            self.0.waiting.1.notify_all();
            let closed = self.0.closed.0.lock().unwrap();
            drop(self.0.closed.1.wait_while(closed, |closed| *closed).unwrap());
        }
        Verdict::Go
    }
}

impl Held {
    fn close(&self, closed: bool) {
        *self.0.closed.0.lock().unwrap() = closed;
        self.0.closed.1.notify_all();
    }

    fn wait_for_a_reader(&self) {
        let waiting = self.0.waiting.0.lock().unwrap();
        drop(self.0.waiting.1.wait_while(waiting, |waiting| !*waiting).unwrap());
    }
}

struct OpenedAtLast(Held);

impl Drop for OpenedAtLast {
    fn drop(&mut self) {
        self.0.close(false);
    }
}

#[test]
fn segments_that_are_merged_away_meanwhile_are_read_all_the_same() {
    let (fs, held) = (MemoryFs::default(), Held::default());
    let (store, mut engine) = filled(Arc::new(HookFs::new(fs.clone(), held.clone())));
    let id = manifest(&fs).segments[1].id;
    for (_, key) in places(&fs, id) {
        engine.delete(0, &key).unwrap();
    }
    engine.commit().unwrap();
    // Dropped before the engine, which waits for its thread: a failure must not hang.
    let _opened = OpenedAtLast(held.clone());
    held.close(true);
    assert!(engine.scrub().unwrap());
    held.wait_for_a_reader();
    assert!(!engine.scrub().unwrap(), "one is enough");
    store.compact(&mut engine);
    assert!(fs.open(&segment_path(id)).is_err(), "it is gone");
    held.close(false);
    store.drive(&mut engine, |engine| !engine.scrub_status().running);
    let status = engine.scrub_status();
    assert_eq!((status.damaged, status.bytes_read), (0, status.bytes_total));
}

#[test]
fn a_scrub_stops_when_told_and_a_disk_that_cannot_be_read_is_damage() {
    let (fs, held) = (MemoryFs::default(), Held::default());
    let (store, mut engine) = filled(Arc::new(HookFs::new(fs.clone(), held.clone())));
    // At one byte a second it would take hours; it stops all the same.
    engine.set_scrub_rate(1);
    assert!(engine.scrub().unwrap());
    assert!(engine.scrub_status().running);
    assert!(engine.stop_scrub());
    assert!(!engine.stop_scrub());
    store.drive(&mut engine, |engine| !engine.scrub_status().running);
    assert_eq!(engine.scrub_status().finished_ms, 0, "it has not read everything");
    engine.set_scrub_rate(0);
    held.0.fail.store(true, Ordering::Relaxed);
    let status = scrub(&store, &mut engine);
    let segments = engine.segments().len();
    assert_eq!(status.damaged, segments as u64);
    assert!(matches!(&status.places[0].fault, Fault::Unreadable(cause) if cause.contains("os error 5")));
    held.0.fail.store(false, Ordering::Relaxed);
    assert_eq!(scrub(&store, &mut engine).damaged, 0);
}

#[test]
fn a_faster_rate_counts_for_the_scrub_that_runs() {
    let (store, mut engine) = filled(Arc::new(MemoryFs::default()));
    engine.set_scrub_rate(1);
    assert!(engine.scrub().unwrap());
    engine.set_scrub_rate(0);
    store.drive(&mut engine, |engine| !engine.scrub_status().running);
    assert_eq!(engine.scrub_status().damaged, 0);
}

#[test]
fn a_scrub_that_hangs_on_the_disk_is_told_to_stop_and_nobody_waits_for_it() {
    let (fs, held) = (MemoryFs::default(), Held::default());
    let (store, mut engine) = filled(Arc::new(HookFs::new(fs, held.clone())));
    let _opened = OpenedAtLast(held.clone());
    held.close(true);
    assert!(engine.scrub().unwrap());
    held.wait_for_a_reader();
    assert!(engine.stop_scrub(), "it returns while the read hangs");
    let status = engine.scrub_status();
    assert!(status.running && status.stopping);
    assert!(!engine.scrub().unwrap(), "the last one has not ended");
    held.close(false);
    store.drive(&mut engine, |engine| !engine.scrub_status().running);
    assert!(!engine.scrub_status().stopping);
    assert_eq!(scrub(&store, &mut engine).damaged, 0);
}
