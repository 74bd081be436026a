//! The change feed: every change above the floor, once, in order, whatever became of the files meanwhile.
#![allow(clippy::unwrap_used)]

mod common;

use bytes::Bytes;
use common::{DIR, Store, manifest};
use kival_engine::feed::{Bounds, Change, Changes, FeedError, FeedQuery, What};
use kival_engine::fs::{FileSystem, MemoryFs};
use kival_engine::{CompactionPolicy, Engine, ReadError, SegmentStats};
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;

const DATABASES: u32 = 3;

#[derive(Debug, Clone)]
enum Op {
    Put(u32, u8, u16),
    PutPart(u32, u8, u16, u16),
    Delete(u32, u8),
    Expire(u32, u8, u64),
    Flush(Vec<u32>),
    Swap(u32, u32),
    RollBack,
    Commit,
    Compact,
    /// Asks for a compaction, and lets it come so many rounds far.
    Maintain(usize),
    Close,
    Crash,
    /// A follower reads about so many changes, this often.
    Follow(usize, usize),
}

/// Small enough for a small log to meet each of them.
const TIGHT: Bounds = Bounds { answer_bytes: 900, read_bytes: 2000, indexed: 3, mark_every: 1000 };

fn op() -> impl Strategy<Value = Op> {
    let db = || 0..DATABASES;
    prop_oneof![
        20 => (db(), 0..9u8, 0..900u16).prop_map(|(db, key, size)| Op::Put(db, key, size)),
        4 => (db(), 0..3u8, 0..20_000u16, 1..300u16)
            .prop_map(|(db, key, offset, size)| Op::PutPart(db, key, offset, size)),
        5 => (db(), 0..9u8).prop_map(|(db, key)| Op::Delete(db, key)),
        5 => (db(), 0..9u8, 0..3u64).prop_map(|(db, key, expiry)| Op::Expire(db, key, expiry)),
        2 => proptest::sample::subsequence(vec![0, 1, 2], 1..=3).prop_map(Op::Flush),
        2 => (db(), db()).prop_map(|(first, second)| Op::Swap(first, second)),
        2 => Just(Op::RollBack),
        9 => Just(Op::Commit),
        2 => Just(Op::Compact),
        4 => (1..8usize).prop_map(Op::Maintain),
        1 => Just(Op::Close),
        1 => Just(Op::Crash),
        4 => (1..6usize, 1..4usize).prop_map(|(count, times)| Op::Follow(count, times)),
    ]
}

fn query(since: u64, count: usize) -> FeedQuery {
    FeedQuery { since, count, filter: None, values: true }
}

fn change(sequence: u64, db: u32, key: &[u8], what: What) -> Change {
    Change { sequence, db, key: key.to_vec().into(), expiry: 0, what }
}

/// A store under a random run, what the feed has to tell of it, and a follower that remembers its place only.
struct Run {
    store: Store,
    fs: MemoryFs,
    engine: Option<Engine>,
    staged: Vec<Change>,
    told: Vec<Change>,
    followed: Vec<Change>,
    since: u64,
}

impl Run {
    fn new(retention_ms: u64) -> Run {
        let (mut store, fs) = Store::in_memory();
        store.options.databases = DATABASES;
        // Small segments are put together, so that outputs stand across others.
        store.options.compaction = CompactionPolicy {
            percentage: 10_000,
            min_size: 1 << 30,
            small_files: 1,
            retention_ms,
            ..CompactionPolicy::DEFAULT
        };
        let engine = Some(store.open().0);
        let (staged, told, followed) = (Vec::new(), Vec::new(), Vec::new());
        Run { store, fs, engine, staged, told, followed, since: 0 }
    }

    fn engine(&mut self) -> &mut Engine {
        self.engine.as_mut().unwrap()
    }

    fn stage(&mut self, change: impl FnOnce(u64) -> Change) {
        let sequence = self.engine().last_sequence();
        self.staged.push(change(sequence));
    }

    fn commit(&mut self) {
        self.engine().commit().unwrap();
        self.engine().tick();
        self.told.append(&mut self.staged);
    }

    fn step(&mut self, op: &Op) {
        match op {
            Op::Put(db, key, size) => {
                let value = vec![*key; usize::from(*size)];
                self.engine().put(*db, &[*key], &value, 0).unwrap();
                self.stage(|seq| change(seq, *db, &[*key], What::Set(Some(value.into()))));
            }
            Op::PutPart(db, key, offset, size) => self.put_part(*db, *key, (*offset).into(), (*size).into()),
            Op::Delete(db, key) => {
                if self.engine().delete(*db, &[*key]).unwrap() {
                    self.stage(|seq| change(seq, *db, &[*key], What::Delete));
                }
            }
            Op::Expire(db, key, later) => {
                let expiry = if *later == 0 { 0 } else { 10_000_000 + later };
                if self.engine().set_expiry(*db, &[*key], expiry).unwrap() {
                    self.stage(|seq| Change { expiry, ..change(seq, *db, &[*key], What::Expire) });
                }
            }
            Op::Flush(databases) => {
                let full = |db: &&u32| self.engine.as_ref().unwrap().key_count(**db) > 0;
                let flushed: Vec<u32> = databases.iter().filter(full).copied().collect();
                self.engine().flush(databases).unwrap();
                flushed.iter().for_each(|db| self.stage(|seq| change(seq, *db, b"", What::Flush)));
            }
            Op::Swap(first, second) => {
                self.engine().swap(*first, *second).unwrap();
                if first != second {
                    let (low, high) = (first.min(second), first.max(second));
                    self.stage(|seq| change(seq, *low, b"", What::Swap(*high)));
                }
            }
            Op::RollBack => {
                let savepoint = self.engine().savepoint();
                self.engine().put(0, b"never", b"", 0).unwrap();
                self.engine().roll_back(savepoint);
            }
            Op::Commit => self.commit(),
            Op::Compact => {
                self.commit();
                let Run { store, engine, .. } = self;
                store.compact(engine.as_mut().unwrap());
            }
            Op::Maintain(rounds) => {
                self.commit();
                let Run { store, engine, .. } = self;
                let engine = engine.as_mut().unwrap();
                engine.compact();
                store.maintain(engine, *rounds);
                engine.sync().unwrap();
            }
            Op::Close | Op::Crash => {
                self.commit();
                let engine = self.engine.take().unwrap();
                match op {
                    Op::Close => engine.close().unwrap(),
                    _ => drop(engine),
                }
                self.engine = Some(self.store.open().0);
            }
            Op::Follow(count, times) => {
                self.commit();
                self.engine().sync().unwrap();
                (0..*times).for_each(|_| _ = self.follow(*count));
            }
        }
    }

    fn put_part(&mut self, db: u32, key: u8, offset: usize, size: usize) {
        let part = vec![offset as u8; size];
        let is_new = self.engine().entry(db, &[key]).unwrap().is_none();
        let by_page = common::put_part(self.engine(), db, &[key], offset, &part).unwrap();
        let entry = self.engine().entry(db, &[key]).unwrap().unwrap();
        let value = common::get_part(self.engine(), db, &[key], 0..usize::MAX).unwrap().unwrap();
        if !by_page {
            let set = What::Set(Some(value));
            return self.stage(|seq| Change { expiry: entry.expiry, ..change(seq, db, &[key], set) });
        }
        let mut sequence = self.engine().last_sequence();
        for number in (offset / 4096..(offset + size).div_ceil(4096)).rev() {
            let page = value.slice(number * 4096..value.len().min((number + 1) * 4096));
            let told = What::Part(number as u32 * 4096, Some(page));
            self.staged.push(change(sequence, db, &[key], told));
            sequence -= 1;
        }
        if is_new {
            self.staged.push(change(sequence, db, &[key], What::Set(Some(Bytes::new()))));
        }
        self.staged.sort_by_key(|change| change.sequence);
    }

    /// One read of the follower; `true` at the end.
    fn follow(&mut self, count: usize) -> bool {
        let since = self.since;
        let mut view = self.engine().feed();
        view.bounds = if count.is_multiple_of(2) { TIGHT } else { Bounds::default() };
        let found = view.read(&query(since, count)).unwrap();
        assert!(found.next >= since && found.changes.iter().all(|change| change.sequence > since));
        assert!(found.changes.iter().all(|change| change.sequence <= found.next));
        self.since = found.next;
        self.followed.extend(found.changes);
        found.at_end
    }

    fn read_all(&self, mut since: u64, count: usize) -> Vec<Change> {
        let mut all = Vec::new();
        loop {
            let mut view = self.engine.as_ref().unwrap().feed();
            view.bounds = if count.is_multiple_of(2) { TIGHT } else { Bounds::default() };
            let Changes { changes, next, at_end } = view.read(&query(since, count)).unwrap();
            all.extend(changes);
            since = next;
            if at_end {
                return all;
            }
        }
    }

    /// Whoever goes on from a place gets all that is behind it.
    fn read_from_every_place(&self) -> Result<(), TestCaseError> {
        for seen in (0..self.told.len()).rev() {
            let since = self.told[seen].sequence;
            let rest: Vec<Change> = self.told.iter().filter(|c| c.sequence > since).cloned().collect();
            prop_assert_eq!(self.read_all(since, 4), rest);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_follower_sees_every_change_once_in_order(ops in proptest::collection::vec(op(), 1..150)) {
        let mut run = Run::new(3_600_000);
        for op in &ops {
            run.step(op);
            if matches!(op, Op::Maintain(_)) {
                // In the middle of a merge the log has some records twice.
                prop_assert_eq!(&run.read_all(0, 2), &run.told);
            }
        }
        run.step(&Op::Follow(3, 1));
        while !run.follow(3) {}
        prop_assert_eq!(&run.followed, &run.told);
        run.read_from_every_place()?;
        run.step(&Op::Compact);
        for count in [1, 2, 1000] {
            prop_assert_eq!(&run.read_all(0, count), &run.told);
        }
        // Without what earlier reads remember.
        run.step(&Op::Crash);
        run.read_from_every_place()?;
    }

    #[test]
    fn above_the_floor_nothing_is_missing_and_below_it_is_an_error(
        ops in proptest::collection::vec(op(), 1..150),
    ) {
        let mut run = Run::new(0);
        let ops = ops.iter().filter(|op| !matches!(op, Op::Follow(..)));
        for op in ops {
            run.step(op);
            if matches!(op, Op::Compact | Op::Close | Op::Crash) {
                let floor = manifest(&run.fs).feed_floor;
                run.engine().sync().unwrap();
                let kept: Vec<Change> = run.told.iter().filter(|c| c.sequence > floor).cloned().collect();
                prop_assert_eq!(run.read_all(floor, 5), kept);
                if floor > 0 {
                    let refused = run.engine().feed().read(&query(floor - 1, 5));
                    let told = matches!(refused, Err(FeedError::Gap { floor: told }) if told == floor);
                    prop_assert!(told);
                }
            }
        }
    }
}

fn put(engine: &mut Engine, keys: &[&str]) {
    for key in keys {
        engine.put(0, key.as_bytes(), b"value", 0).unwrap();
    }
    engine.commit().unwrap();
}

fn keys(changes: &Changes) -> Vec<String> {
    changes.changes.iter().map(|change| String::from_utf8_lossy(&change.key).into_owned()).collect()
}

#[test]
fn only_what_is_on_disk_is_shown() {
    let (store, _) = Store::in_memory();
    let (mut engine, _) = store.open();
    put(&mut engine, &["a"]);
    engine.sync().unwrap();
    put(&mut engine, &["b"]);
    let found = engine.feed().read(&query(0, 9)).unwrap();
    assert_eq!((keys(&found), found.at_end), (vec!["a".to_owned()], true));
    engine.sync().unwrap();
    assert_eq!(keys(&engine.feed().read(&query(found.next, 9)).unwrap()), ["b"]);
}

#[test]
fn a_group_is_not_cut_and_filters_go_on_behind_what_they_leave_out() {
    let (store, _) = Store::in_memory();
    let (mut engine, _) = store.open();
    put(&mut engine, &["a1", "b1", "a2"]);
    put(&mut engine, &["b2", "b3"]);
    put(&mut engine, &["a3"]);
    engine.sync().unwrap();
    assert_eq!(keys(&engine.feed().read(&query(0, 1)).unwrap()), ["a1", "b1", "a2"]);
    assert_eq!(keys(&engine.feed().read(&query(1, 1)).unwrap()), ["b1", "a2"], "from within a group");
    let only_a = FeedQuery {
        filter: Some(Arc::new(|key: &[u8]| key.starts_with(b"a"))),
        values: false,
        ..query(0, 3)
    };
    let found = engine.feed().read(&only_a).unwrap();
    assert_eq!(keys(&found), ["a1", "a2", "a3"]);
    assert!(found.changes.iter().all(|change| change.what == What::Set(None)));
    assert_eq!(found.next, engine.last_sequence());
}

#[test]
fn a_sequence_that_was_never_given_out_is_refused() {
    let (store, _) = Store::in_memory();
    let (mut engine, _) = store.open();
    put(&mut engine, &["a"]);
    engine.sync().unwrap();
    let end = engine.feed().end();
    assert!(engine.feed().read(&query(end, 1)).unwrap().changes.is_empty());
    assert!(matches!(engine.feed().read(&query(end + 1, 1)), Err(FeedError::Ahead { last }) if last == end));
}

#[test]
fn damage_in_the_log_is_an_error_that_names_the_place() {
    let (store, fs) = Store::in_memory();
    let (mut engine, _) = store.open();
    put(&mut engine, &["a", "b"]);
    engine.sync().unwrap();
    let name = fs.list(Path::new(DIR)).unwrap().into_iter().find(|name| name.ends_with(".seg")).unwrap();
    let path = common::path(&name);
    common::flip_in_place(&fs, &path, common::read(&fs, &path).len() as u64 - 1);
    let error = engine.feed().read(&query(0, 9)).unwrap_err();
    assert!(matches!(error, FeedError::Read(ReadError::Corrupt(place)) if place.file == path), "named");
}

#[test]
fn a_merge_that_ends_under_a_view_does_not_disturb_it() {
    let (store, _) = Store::in_memory();
    let (mut engine, _) = store.open();
    for n in 0..200 {
        put(&mut engine, &[&format!("key {}", n % 7)]);
    }
    engine.sync().unwrap();
    let view = engine.feed();
    store.compact(&mut engine);
    assert_eq!(view.read(&query(0, 1000)).unwrap().changes.len(), 200);
    assert!(matches!(engine.feed().read(&query(0, 1)), Err(FeedError::Gap { .. })));
}

#[test]
fn segments_that_overlap_are_read_in_the_order_of_the_changes() {
    let mut run = Run::new(3_600_000);
    for (key, size) in [(1, 10), (2, 3000), (3, 10), (4, 3000), (5, 10)] {
        run.step(&Op::Put(0, key, size));
        run.step(&Op::Close);
    }
    let Run { store, engine, .. } = &mut run;
    let engine = engine.as_mut().unwrap();
    store.settle(engine);
    let segments = engine.segments();
    let merged = segments.iter().find(|segment| segment.merged).expect("the small ones were put together");
    let across = |other: &&SegmentStats| merged.lowest < other.lowest && other.highest < merged.highest;
    assert_eq!(segments.iter().filter(across).count(), 2);
    for count in [1, 2, 100] {
        assert_eq!(run.read_all(0, count), run.told);
    }
}
