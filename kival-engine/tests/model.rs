//! The engine against a plain map: whatever is done in whatever order, and wherever the process stops,
//! both hold the same.
//!
//! The model also knows which bytes are live, so that the accounting that compaction stands on is
//! checked at every step. `KIVAL_MODEL_CASES` sets how many sequences are run in memory.

mod common;

use common::Store;
use kival_engine::fs::{FileSystem, MemoryFs, RealFs};
use kival_engine::{CompactionPolicy, Engine, Fetched, OpenReport, Options, Savepoint, SyncPolicy};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::BTreeMap;
use std::sync::Arc;

const DATABASES: u32 = 4;
const KEYS: u8 = 10;
const RECORD: u64 = 36;
const START: u64 = 1_000_000;
const WORKERS: u32 = 4;
/// Values of so many bytes are large.
const LARGE: u16 = 1000;
const PAGE: usize = 4096;

#[derive(Debug, Clone)]
enum Op {
    /// Expiry: milliseconds from now, 0 for none.
    Put {
        db: u32,
        key: u8,
        size: u16,
        expiry: u16,
    },
    /// By way of [`Engine::begin_large`]; meanwhile others commit so much.
    PutLarge {
        db: u32,
        key: u8,
        size: u16,
        expiry: u16,
        meanwhile: u16,
        fate: Fate,
    },
    Delete {
        db: u32,
        key: u8,
    },
    SetExpiry {
        db: u32,
        key: u8,
        expiry: u16,
    },
    Get {
        db: u32,
        key: u8,
    },
    /// A change of a part, page by page or of the whole value, as the engine would have it.
    PutPart {
        db: u32,
        key: u8,
        offset: u32,
        len: u16,
    },
    GetPart {
        db: u32,
        key: u8,
        from: u32,
        len: u16,
    },
    Flush(Vec<u32>),
    Swap(u32, u32),
    Mark,
    RollBack,
    Commit,
    /// Takes every key whose time has come, this many at a time.
    Expire(usize),
    /// The clock goes by so many milliseconds.
    Step(i16),
    /// So many rounds, waiting for a merge in between: what follows finds it half done.
    Maintain(usize),
    /// Asked for inside a turn.
    AskToCompact,
    Compact,
    Close,
    Crash,
    Scan {
        db: u32,
        count: usize,
    },
}

/// What becomes of a large value that was written.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Put,
    GivenUp,
    RolledBack,
    /// The process stops before it is put.
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    let db = || prop_oneof![3 => Just(0), 1 => 0..DATABASES];
    let key = || 0..KEYS;
    let expiry = || prop_oneof![3 => Just(0u16), 2 => 1..400u16];
    let size = prop_oneof![6 => 0..100u16, 2 => 100..900u16, 1 => 2000..5000u16, 1 => 5000..40_000u16];
    // Some begin at a page, or one byte beside.
    let offset = || prop_oneof![3 => 0..45_000u32, 1 => (0..11u32, 0..3u32).prop_map(|(n, by)| (n * 4096 + by).saturating_sub(1))];
    let part = || prop_oneof![4 => 1..300u16, 1 => 300..9000u16, 1 => Just(4096)];
    prop_oneof![
        10 => (db(), key(), offset(), part())
            .prop_map(|(db, key, offset, len)| Op::PutPart { db, key, offset, len }),
        3 => (db(), key(), offset(), part()).prop_map(|(db, key, from, len)| Op::GetPart { db, key, from, len }),
        14 => (db(), key(), size, expiry())
            .prop_map(|(db, key, size, expiry)| Op::Put { db, key, size, expiry }),
        3 => (db(), key(), LARGE..9000u16, expiry(), prop_oneof![2 => Just(0u16), 1 => 100..9000u16], fate())
            .prop_map(|(db, key, size, expiry, meanwhile, fate)| {
                Op::PutLarge { db, key, size, expiry, meanwhile, fate }
            }),
        5 => (db(), key()).prop_map(|(db, key)| Op::Delete { db, key }),
        5 => (db(), key(), expiry()).prop_map(|(db, key, expiry)| Op::SetExpiry { db, key, expiry }),
        3 => (db(), key()).prop_map(|(db, key)| Op::Get { db, key }),
        1 => proptest::sample::subsequence(vec![0, 1, 2, 3], 1..=4).prop_map(Op::Flush),
        1 => (0..DATABASES, 0..DATABASES).prop_map(|(first, second)| Op::Swap(first, second)),
        2 => Just(Op::Mark),
        2 => Just(Op::RollBack),
        8 => Just(Op::Commit),
        1 => (1usize..4).prop_map(Op::Expire),
        2 => (-150i16..300).prop_map(Op::Step),
        5 => (1usize..5).prop_map(Op::Maintain),
        2 => Just(Op::AskToCompact),
        2 => Just(Op::Compact),
        1 => Just(Op::Close),
        1 => Just(Op::Crash),
        1 => (db(), 1usize..4).prop_map(|(db, count)| Op::Scan { db, count }),
    ]
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![6 => Just(Fate::Put), 1 => Just(Fate::GivenUp), 1 => Just(Fate::RolledBack), 1 => Just(Fate::Crash)]
}

#[derive(Debug, Clone, PartialEq)]
struct Value {
    bytes: Vec<u8>,
    expiry: u64,
    /// An expiry record stands beside the value's.
    changed: bool,
    /// Bytes of the value in its own record.
    base: usize,
    /// Its pages, and how many bytes each of them has.
    pages: BTreeMap<usize, usize>,
}

impl Value {
    fn new(bytes: Vec<u8>, expiry: u64) -> Value {
        Value { base: bytes.len(), bytes, expiry, changed: false, pages: BTreeMap::new() }
    }

    /// Sets a part, as if a value were a slice that grows.
    fn set_part(&mut self, offset: usize, part: &[u8]) {
        let end = offset + part.len();
        self.bytes.resize(self.bytes.len().max(end), 0);
        self.bytes[offset..end].copy_from_slice(part);
    }

    /// The pages that were written for that.
    fn note_pages(&mut self, offset: usize, len: usize) {
        for number in offset / PAGE..(offset + len).div_ceil(PAGE) {
            self.pages.insert(number, (self.bytes.len() - number * PAGE).min(PAGE));
        }
    }
}

/// What the engine should hold.
#[derive(Debug, Clone)]
struct Model {
    spaces: Vec<(u32, BTreeMap<Vec<u8>, Value>)>,
    next_namespace: u32,
    map_record: u64,
}

impl Model {
    fn new() -> Model {
        let spaces = (0..DATABASES).map(|db| (db, BTreeMap::new())).collect();
        Model { spaces, next_namespace: 1 << 16, map_record: 0 }
    }

    fn db(&mut self, db: u32) -> &mut BTreeMap<Vec<u8>, Value> {
        &mut self.spaces[db as usize].1
    }

    /// A look at a key: if its time has come it goes for good.
    fn look(&mut self, db: u32, key: &[u8], now: u64) -> Option<&mut Value> {
        let keys = self.db(db);
        if keys.get(key).is_some_and(|value| value.expiry != 0 && value.expiry <= now) {
            keys.remove(key);
        }
        keys.get_mut(key)
    }

    fn remap(&mut self) {
        let moved = self.spaces.iter().zip(0..).filter(|((namespace, _), db)| namespace != db).count();
        self.map_record = RECORD + 8 + 8 * moved as u64;
    }

    fn live_bytes(&self) -> u64 {
        let keys = self.spaces.iter().flat_map(|(_, keys)| keys);
        let bytes = keys.map(|(key, value)| {
            let change = if value.changed { RECORD + key.len() as u64 } else { 0 };
            let page = |size: &usize| RECORD + (key.len() + 8 + size) as u64;
            let pages: u64 = value.pages.values().map(page).sum();
            RECORD + (key.len() + value.base) as u64 + change + pages
        });
        bytes.sum::<u64>() + self.map_record
    }
}

/// Some keys are long: their entries look otherwise in memory.
fn key_bytes(key: u8) -> Vec<u8> {
    let length = if key.is_multiple_of(5) { 260 } else { 3 };
    vec![b'a' + key; length]
}

struct Run {
    store: Store,
    engine: Option<Engine>,
    now: u64,
    model: Model,
    committed: Model,
    mark: Option<(Savepoint, Model)>,
    /// Distinguishes the values.
    puts: u64,
    highest: u64,
    /// A large value stands in the file, and not yet in the log.
    large_staged: bool,
    /// The segment that is written to has no group, and may have something behind its end: no later segment
    /// may begin before it has.
    touched: bool,
}

impl Run {
    fn new(store: Store) -> Run {
        store.clock.set(START);
        let (engine, report) = store.open();
        assert!(report.clean && report.keys == 0);
        let model = Model::new();
        let committed = model.clone();
        Run {
            store,
            engine: Some(engine),
            now: START,
            model,
            committed,
            mark: None,
            puts: 0,
            highest: 0,
            large_staged: false,
            touched: false,
        }
    }

    fn engine(&mut self) -> &mut Engine {
        self.engine.as_mut().expect("open between operations")
    }

    fn expiry(&self, delta: u16) -> u64 {
        if delta == 0 { 0 } else { self.now + u64::from(delta) }
    }

    fn commit(&mut self) {
        self.touched &= self.engine().staged_bytes() == 0;
        let last = self.engine().commit().expect("committed");
        assert!(last >= self.highest, "numbers never go back");
        self.highest = last;
        self.committed = self.model.clone();
        self.mark = None;
        self.large_staged = false;
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Put { .. } | Op::Delete { .. } | Op::SetExpiry { .. } | Op::Get { .. } => {
                self.apply_to_key(op)
            }
            Op::PutPart { db, key, offset, len } => self.put_part(db, key, offset as usize, len.into()),
            Op::GetPart { db, key, from, len } => self.get_part(db, key, from as usize, len.into()),
            Op::PutLarge { .. } => self.put_large(op),
            Op::Flush(ref databases) => self.flush(databases),
            Op::Swap(first, second) => {
                self.engine().swap(first, second).expect("swapped");
                if first != second {
                    self.model.spaces.swap(first as usize, second as usize);
                    self.model.remap();
                }
            }
            Op::Mark => self.mark = Some((self.engine().savepoint(), self.model.clone())),
            Op::RollBack => {
                if let Some((savepoint, model)) = self.mark.clone() {
                    self.engine().roll_back(savepoint);
                    self.model = model;
                }
            }
            Op::Commit => self.commit(),
            Op::Expire(most) => self.expire(most),
            Op::Step(by) => {
                self.now = self.now.saturating_add_signed(by.into());
                self.store.clock.set(self.now);
                self.engine().tick();
            }
            Op::Maintain(rounds) => {
                self.commit();
                let store = self.store.clone();
                store.maintain(self.engine(), rounds);
            }
            Op::AskToCompact => {
                self.engine().compact();
            }
            Op::Compact => {
                self.commit();
                let store = self.store.clone();
                store.compact(self.engine());
            }
            Op::Close => {
                self.commit();
                self.engine.take().expect("open").close().expect("closed");
                assert!(self.reopen().clean);
            }
            Op::Crash => self.crash(),
            Op::Scan { db, count } => self.scan(db, count),
        }
    }

    /// The process stops; what is torn then is in the segment of a large value.
    fn crash(&mut self) {
        let torn: &[u64] = if std::mem::take(&mut self.large_staged) { &[48] } else { &[] };
        self.engine = None;
        self.model = self.committed.clone();
        self.mark = None;
        let (engine, report) = self.store.open();
        assert!(!report.clean);
        assert_eq!(report.torn.iter().map(|torn| torn.offset).collect::<Vec<_>>(), torn);
        self.reopened(engine, &report);
    }

    fn put_large(&mut self, op: &Op) {
        let Op::PutLarge { db, key, size, expiry, meanwhile, fate } = *op else {
            panic!("{op:?} is another")
        };
        self.commit();
        self.puts += 1;
        let (key, expiry) = (key_bytes(key), self.expiry(expiry));
        let mut bytes = vec![self.puts as u8; usize::from(size)];
        bytes.extend_from_slice(&self.puts.to_le_bytes());
        let value = bytes::Bytes::from(bytes);
        let store = self.store.clone();
        let write = store.begin_large(self.engine(), &key, &value);
        for _ in 0..meanwhile.div_ceil(500) {
            // Whoever else writes goes on; the segment does not roll.
            self.apply_to_key(&Op::Put { db: 1, key: 1, size: meanwhile.min(500), expiry: 0 });
            self.commit();
            self.engine().maintain();
        }
        let touched = self.touched;
        let engine = self.engine();
        engine.end_large(write.write()).expect("written");
        assert_eq!(engine.has_large(key.len(), &value), !touched);
        match fate {
            Fate::GivenUp => {
                engine.give_up_large();
                assert!(!engine.has_large(key.len(), &value));
                return;
            }
            Fate::Crash => {
                self.large_staged = true;
                return self.crash();
            }
            Fate::Put | Fate::RolledBack => {}
        }
        let savepoint = engine.savepoint();
        let sequence = engine.put(db, &key, &value, expiry).expect("put");
        assert!(!engine.has_large(key.len(), &value), "it was used, or is not the first of its group");
        if touched {
            engine.give_up_large();
        }
        assert!(sequence > self.highest, "no number is used twice");
        if matches!(fate, Fate::RolledBack) {
            self.engine().roll_back(savepoint);
            self.touched = true;
        } else {
            self.large_staged = !touched;
            self.model.db(db).insert(key, Value::new(value.to_vec(), expiry));
        }
    }

    fn put_part(&mut self, db: u32, key: u8, offset: usize, len: usize) {
        self.puts += 1;
        let (key, part, now) = (key_bytes(key), vec![self.puts as u8; len], self.now);
        let by_page = common::put_part(self.engine(), db, &key, offset, &part).expect("put");
        let value = match self.model.look(db, &key, now) {
            Some(value) => value,
            None => self.model.db(db).entry(key).or_insert_with(|| Value::new(Vec::new(), 0)),
        };
        value.set_part(offset, &part);
        if by_page {
            value.note_pages(offset, len);
        } else {
            *value = Value::new(std::mem::take(&mut value.bytes), value.expiry);
        }
    }

    fn get_part(&mut self, db: u32, key: u8, from: usize, len: usize) {
        let (key, now) = (key_bytes(key), self.now);
        let found = common::get_part(self.engine(), db, &key, from..from + len).expect("read");
        let value = self.model.look(db, &key, now).map(|value| {
            let end = value.bytes.len().min(from + len);
            value.bytes[from.min(end)..end].to_vec()
        });
        assert_eq!(found.map(|part| part.to_vec()), value);
    }

    fn apply_to_key(&mut self, op: &Op) {
        let now = self.now;
        match *op {
            Op::Put { db, key, size, expiry } => {
                self.puts += 1;
                let (key, expiry) = (key_bytes(key), self.expiry(expiry));
                let mut bytes = vec![self.puts as u8; usize::from(size)];
                bytes.extend_from_slice(&self.puts.to_le_bytes());
                let sequence = self.engine().put(db, &key, &bytes, expiry).expect("put");
                assert!(sequence > self.highest, "no number is used twice");
                self.model.db(db).insert(key, Value::new(bytes, expiry));
            }
            Op::Delete { db, key } => {
                let key = key_bytes(key);
                let deleted = self.engine().delete(db, &key).expect("deleted");
                assert_eq!(deleted, self.model.look(db, &key, now).is_some());
                self.model.db(db).remove(&key);
            }
            Op::SetExpiry { db, key, expiry } => {
                let (key, expiry) = (key_bytes(key), self.expiry(expiry));
                let set = self.engine().set_expiry(db, &key, expiry).expect("set");
                let value = self.model.look(db, &key, now);
                assert_eq!(set, value.is_some());
                if let Some(value) = value {
                    (value.expiry, value.changed) = (expiry, true);
                }
            }
            Op::Get { db, key } => {
                let key = key_bytes(key);
                let value = self.engine().get(db, &key).expect("read");
                let expected = self.model.look(db, &key, now);
                assert_eq!(value.as_deref(), expected.map(|value| &value.bytes[..]));
            }
            ref other => panic!("{other:?} is not about a key"),
        }
    }

    fn flush(&mut self, databases: &[u32]) {
        self.engine().flush(databases).expect("flushed");
        let mut any = false;
        for &db in databases {
            let space = &mut self.model.spaces[db as usize];
            if !space.1.is_empty() {
                *space = (self.model.next_namespace, BTreeMap::new());
                self.model.next_namespace += 1;
                any = true;
            }
        }
        if any {
            self.model.remap();
        }
    }

    fn expire(&mut self, most: usize) {
        let now = self.now;
        let mut gone = 0;
        for (_, keys) in &mut self.model.spaces {
            let before = keys.len();
            keys.retain(|_, value| value.expiry == 0 || value.expiry > now);
            gone += before - keys.len();
        }
        while gone > 0 {
            assert_eq!(self.engine().expire(most), gone.min(most));
            gone = gone.saturating_sub(most);
        }
        assert_eq!(self.engine().expire(most), 0);
    }

    fn scan(&mut self, db: u32, count: usize) {
        let mut seen = Vec::new();
        let mut cursor = 0;
        loop {
            cursor = self.engine().scan(db, cursor, count, |key, _| seen.push(key.to_vec()));
            if cursor == 0 {
                break;
            }
        }
        seen.sort();
        let now = self.now;
        let live = self.model.db(db).iter().filter(|(_, value)| value.expiry == 0 || value.expiry > now);
        let live: Vec<Vec<u8>> = live.map(|(key, _)| key.clone()).collect();
        assert_eq!(seen, live);
    }

    fn reopen(&mut self) -> OpenReport {
        let (engine, report) = self.store.open();
        assert_eq!(&report.torn[..], &[][..]);
        self.reopened(engine, &report);
        report
    }

    fn reopened(&mut self, engine: Engine, report: &OpenReport) {
        assert_eq!(report.scanned, 0);
        self.touched = false;
        assert_eq!(report.keys, self.model.spaces.iter().map(|(_, keys)| keys.len() as u64).sum::<u64>());
        assert!(engine.last_sequence() >= self.highest);
        self.engine = Some(engine);
    }

    /// Looks at everything without touching anything.
    fn check(&mut self) {
        let now = self.now;
        let engine = self.engine.as_mut().expect("open between operations");
        for (db, (_, keys)) in (0..).zip(&self.model.spaces) {
            assert_eq!(engine.key_count(db), keys.len());
            assert_eq!(engine.expiring_count(db), keys.values().filter(|value| value.expiry != 0).count());
            let entries: BTreeMap<_, _> = engine.iter(db).map(|(key, entry)| (key.to_vec(), entry)).collect();
            let live = keys.iter().filter(|(_, value)| value.expiry == 0 || value.expiry > now);
            assert_eq!(entries.len(), live.clone().count());
            for (key, value) in live {
                let entry = entries.get(key).expect("a live key is there");
                assert_eq!((entry.expiry, entry.change.is_some()), (value.expiry, value.changed));
                let fetched = match engine.fetch(db, key, entry).expect("read") {
                    Fetched::Value(value) => value,
                    Fetched::Cold(cold) => {
                        engine.pin(cold.read().expect("read"));
                        let Ok(Fetched::Value(value)) = engine.fetch(db, key, entry) else {
                            panic!("a pinned value is at hand");
                        };
                        engine.unpin();
                        value
                    }
                };
                assert!(fetched == value.bytes, "{fetched:?} is not {:?}", value.bytes);
                assert_eq!(entry.value_size as usize, value.bytes.len());
            }
        }
        let segments = engine.segments();
        let live: u64 = segments.iter().map(|segment| segment.live_bytes).sum();
        assert_eq!(live, self.model.live_bytes(), "live bytes are counted right");
        assert_eq!(engine.stats().live_bytes, live);
    }
}

#[derive(Clone, Copy)]
struct Setup {
    automatic: bool,
    cache: u64,
    sync: SyncPolicy,
}

fn run(setup: Setup, store: Store, ops: &[Op]) {
    let percentage = if setup.automatic { 50 } else { 0 };
    let compaction = CompactionPolicy { percentage, min_size: 0, ..CompactionPolicy::default() };
    let options = Options {
        cache_size: setup.cache,
        sync: setup.sync,
        compaction,
        large_value: LARGE.into(),
        ..store.options
    };
    let mut run = Run::new(Store { options, ..store });
    for op in ops {
        run.apply(op);
        run.check();
    }
    run.apply(&Op::Compact);
    run.check();
    run.apply(&Op::Close);
    run.check();
    run.apply(&Op::Crash);
    run.check();
}

fn cases() -> u32 {
    std::env::var("KIVAL_MODEL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000)
}

/// Runs so many sequences, several at a time: a case waits for threads more than it computes.
fn check(cases: u32, setup: Setup, store: impl Fn() -> (Store, Option<tempfile::TempDir>) + Sync) {
    let cases = cases.div_ceil(WORKERS);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 4000, ..Config::default() };
    let work = || {
        let result = TestRunner::new(config.clone()).run(&prop::collection::vec(op(), 1..60), |ops| {
            let (store, _dir) = store();
            run(setup, store, &ops);
            Ok(())
        });
        result.unwrap_or_else(|failure| panic!("{failure}"));
    };
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(work);
        }
    });
}

fn in_memory() -> (Store, Option<tempfile::TempDir>) {
    (Store::in_memory().0, None)
}

#[test]
fn a_store_that_compacts_by_hand_is_a_map() {
    check(cases().div_ceil(2), Setup { automatic: false, cache: 8 << 10, sync: SyncPolicy::No }, in_memory);
}

#[test]
fn a_store_that_compacts_by_itself_and_caches_nothing_is_a_map() {
    check(cases().div_ceil(2), Setup { automatic: true, cache: 0, sync: SyncPolicy::Always }, in_memory);
}

#[test]
fn a_store_on_a_real_disk_is_a_map() {
    let setup = Setup { automatic: true, cache: 4 << 10, sync: SyncPolicy::EverySecond };
    check(cases().min(300), setup, || {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store = Store::new(Arc::new(RealFs) as Arc<dyn FileSystem>);
        let options = Options { dir: dir.path().to_owned(), ..store.options };
        (Store { options, ..store }, Some(dir))
    });
}

#[test]
fn two_stores_in_memory_share_nothing() {
    let (first, _) = Store::in_memory();
    let second = first.on(Arc::new(MemoryFs::default()));
    first.open().0.put(0, b"k", b"v", 0).expect("put");
    assert_eq!(second.open().1.keys, 0);
}
