//! A full disk: puts are refused and change nothing, what frees space is written, and with room again all
//! goes on by itself.
#![allow(clippy::unwrap_used)]

mod common;

use bytes::Bytes;
use common::{DIR, ENOSPC, Store, path};
use kival_engine::clock::Clock;
use kival_engine::error::WriteError;
use kival_engine::fs::{File, FileSystem, LockGuard, MemoryFs};
use kival_engine::{Background, CompactionPolicy, Engine, LargeStart, Options};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

const EFBIG: i32 = 27;
const KIB: u64 = 1 << 10;
const DISK: u64 = 512 * KIB;
const RESERVED: u64 = 128 * KIB;

/// A disk in memory with so many bytes and no more. Clones share it.
#[derive(Debug, Clone, Default)]
struct SmallDisk {
    inner: MemoryFs,
    books: Arc<Mutex<Books>>,
}

#[derive(Debug, Default)]
struct Books {
    capacity: u64,
    /// The largest size that a file may have, if there is one.
    largest: Option<u64>,
    /// Whether a removed file's bytes stay taken, as where a backup has a link to it.
    linked: bool,
    /// Bytes that each file takes, by its number.
    taken: HashMap<u64, u64>,
    names: HashMap<PathBuf, u64>,
    next: u64,
}

impl Books {
    fn free(&self) -> u64 {
        self.capacity.saturating_sub(self.taken.values().sum())
    }

    fn grow(&mut self, file: u64, to: u64) -> io::Result<()> {
        if self.largest.is_some_and(|largest| to > largest) {
            return Err(io::Error::from_raw_os_error(EFBIG));
        }
        let has = self.taken.get(&file).copied().unwrap_or(0);
        if to > has && to - has > self.free() {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        self.taken.insert(file, has.max(to));
        Ok(())
    }

    fn forget(&mut self, path: &Path) {
        if let Some(file) = self.names.remove(path)
            && !self.linked
        {
            self.taken.remove(&file);
        }
    }
}

impl SmallDisk {
    fn new(capacity: u64) -> SmallDisk {
        let disk = SmallDisk::default();
        disk.set_capacity(capacity);
        disk
    }

    fn set_capacity(&self, bytes: u64) {
        self.books.lock().unwrap().capacity = bytes;
    }

    fn free(&self) -> u64 {
        self.books.lock().unwrap().free()
    }

    /// Leaves no byte free, as another program would.
    fn fill_up(&self) {
        let mut books = self.books.lock().unwrap();
        books.capacity -= books.free();
    }

    fn wrap(&self, path: &Path, inner: Arc<dyn File>) -> Arc<dyn File> {
        let books = self.books.lock().unwrap();
        let file = *books.names.get(path).expect("it was created here");
        Arc::new(SmallFile { inner, file, books: self.books.clone() })
    }
}

impl FileSystem for SmallDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.inner.list(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        {
            let mut books = self.books.lock().unwrap();
            books.forget(path);
            books.next += 1;
            let file = books.next;
            books.names.insert(path.to_owned(), file);
        }
        Ok(self.wrap(path, self.inner.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = self.inner.open(path)?;
        Ok(self.wrap(path, file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)?;
        let mut books = self.books.lock().unwrap();
        books.forget(to);
        if let Some(file) = books.names.remove(from) {
            books.names.insert(to.to_owned(), file);
        }
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(path)?;
        self.books.lock().unwrap().forget(path);
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.remove_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        self.inner.lock(path)
    }
}

#[derive(Debug)]
struct SmallFile {
    inner: Arc<dyn File>,
    file: u64,
    books: Arc<Mutex<Books>>,
}

impl File for SmallFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buf, offset)
    }

    fn read_at_cached(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.inner.read_at_cached(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.books.lock().unwrap().grow(self.file, offset + buf.len() as u64)?;
        self.inner.write_at(buf, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut books = self.books.lock().unwrap();
        if let Some(taken) = books.taken.get_mut(&self.file) {
            *taken = len.min(*taken);
        }
        self.inner.truncate(len)
    }

    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut books = self.books.lock().unwrap();
        let reserved = books.grow(self.file, offset + len);
        if reserved.is_err() {
            // As on ext4: what there was is kept.
            let all = books.taken.get(&self.file).copied().unwrap_or(0) + books.free();
            books.taken.insert(self.file, all);
        }
        reserved
    }

    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }
}

/// A store on a small disk whose reserve is whole.
fn store() -> (Store, SmallDisk, Engine) {
    let disk = SmallDisk::new(DISK);
    let store = Store::new(Arc::new(disk.clone()));
    let background = Background::Lockstep(Arc::new(|_| true));
    let options = Options { segment_size: 64 * KIB, reserved_space: RESERVED, background, ..store.options };
    let store = Store { options, ..store };
    let mut engine = store.open().0;
    later(&store, &mut engine, |engine| engine.stats().reserved_bytes == RESERVED);
    (store, disk, engine)
}

fn put(engine: &mut Engine, key: &str, bytes: usize) -> Result<u64, WriteError> {
    engine.put(0, key.as_bytes(), &vec![b'v'; bytes], 0)?;
    engine.commit()
}

/// Puts keys until the disk takes no more, and gives how many.
fn fill(engine: &mut Engine) -> usize {
    for n in 0.. {
        if let Err(error) = put(engine, &format!("key {n}"), 1000) {
            assert!(matches!(error, WriteError::NoSpace), "{error}");
            return n;
        }
        // As under `always`: what is not known to be on disk would have to be appended anew at the open.
        engine.sync().unwrap();
        engine.maintain();
    }
    unreachable!("a disk is never endless")
}

/// Lets time pass, and maintains, until `done`.
#[track_caller]
fn later(store: &Store, engine: &mut Engine, mut done: impl FnMut(&mut Engine) -> bool) {
    for _ in 0..10_000 {
        store.clock.set(store.clock.now_ms() + 200);
        engine.tick();
        engine.maintain();
        if done(engine) {
            return;
        }
    }
    panic!("it does not happen");
}

#[test]
fn a_full_disk_refuses_puts_takes_deletions_and_goes_on_when_there_is_room() {
    let (store, disk, mut engine) = store();
    let keys = fill(&mut engine);
    assert!(keys > 100, "{keys} keys on a disk of {DISK} bytes");
    disk.fill_up();
    let before = store.contents(&mut engine);
    assert!(matches!(put(&mut engine, "new", 1000), Err(WriteError::NoSpace)));
    assert!(matches!(put(&mut engine, "key 0", 1000), Err(WriteError::NoSpace)));
    assert_eq!(store.contents(&mut engine), before, "a refused put changes nothing");
    assert!(engine.stats().disk_full);

    // Nothing is free, and yet all this is written.
    for n in 0..100 {
        assert!(engine.delete(0, format!("key {n}").as_bytes()).unwrap());
        engine.commit().unwrap();
    }
    assert!(engine.set_expiry(0, b"key 100", 2_000_000).unwrap());
    engine.swap(1, 2).unwrap();
    engine.commit().unwrap();
    engine.sync().unwrap();
    assert!(engine.stats().reserved_bytes < RESERVED);
    assert!(matches!(put(&mut engine, "tiny", 1), Err(WriteError::NoSpace)), "puts never eat the reserve");
    let held = engine.stats().reserved_bytes;
    later(&store, &mut engine, |_| true);
    assert!(engine.stats().disk_full && engine.stats().reserved_bytes == held, "there is no room yet");

    disk.set_capacity(2 * DISK);
    later(&store, &mut engine, |engine| !engine.stats().disk_full);
    assert_eq!(engine.stats().reserved_bytes, RESERVED);
    put(&mut engine, "new", 1000).unwrap();
    let contents = store.contents(&mut engine);
    assert_eq!(contents.len(), keys - 100 + 1);
    drop(engine);
    let mut engine = store.open().0;
    assert_eq!(store.contents(&mut engine), contents);
}

#[test]
fn the_reserve_ends_too_and_half_of_it_is_not_for_deletions() {
    let (_store, disk, mut engine) = store();
    fill(&mut engine);
    disk.fill_up();
    let mut expiry = 2_000_000;
    let refused = loop {
        expiry += 1;
        match engine.set_expiry(0, b"key 0", expiry) {
            Ok(set) => assert!(set),
            Err(error) => break error,
        }
        engine.commit().unwrap();
    };
    assert!(matches!(refused, WriteError::NoSpace));
    assert!(engine.stats().reserved_bytes >= RESERVED / 2);
    assert_eq!(engine.entry(0, b"key 0").unwrap().unwrap().expiry, expiry - 1);
    let written = expiry - 2_000_000;
    assert!(written > 200, "only {written} records of {RESERVED} bytes");
}

#[test]
fn a_turn_in_which_some_are_refused_keeps_the_others() {
    let (store, disk, mut engine) = store();
    fill(&mut engine);
    disk.fill_up();
    let before = store.contents(&mut engine).len();
    assert!(engine.put(0, b"one", &[b'v'; 2000], 0).is_err());
    assert!(engine.delete(0, b"key 1").unwrap());
    let savepoint = engine.savepoint();
    assert!(engine.delete(0, b"key 2").unwrap());
    assert!(engine.put(0, b"two", b"v", 0).is_err());
    engine.roll_back(savepoint);
    assert!(engine.delete(0, b"key 3").unwrap());
    engine.commit().unwrap();
    assert_eq!(store.contents(&mut engine).len(), before - 2);
    assert!(engine.entry(0, b"key 2").unwrap().is_some());
    drop(engine);
    assert_eq!(store.open().0.key_count(0), before - 2);
}

#[test]
fn a_value_that_does_not_fit_hinders_nobody() {
    let (_, disk, mut engine) = store();
    let much = disk.free() as usize + 1;
    assert!(matches!(put(&mut engine, "large", much), Err(WriteError::NoSpace)));
    put(&mut engine, "small", 10).unwrap();
    assert!(!engine.stats().disk_full);
    assert_eq!(engine.stats().reserved_bytes, RESERVED);
}

#[test]
fn a_value_that_is_written_ahead_and_does_not_fit_gives_back_what_it_took() {
    let (store, disk, mut engine) = store();
    engine.set_large_from(1000);
    for _ in 0..3 {
        let value: Bytes = vec![b'x'; DISK as usize].into();
        let mut begun = None;
        later(&store, &mut engine, |engine| {
            if let LargeStart::Begun(write) = engine.begin_large(5, value.clone()) {
                begun = Some(write);
            }
            begun.is_some()
        });
        let written = begun.expect("it was begun").write();
        assert!(matches!(engine.end_large(written), Err(WriteError::NoSpace)));
        later(&store, &mut engine, |_| disk.free() > 200 * KIB);
        put(&mut engine, "small", 10).unwrap();
        assert!(!engine.stats().disk_full);
    }
}

#[test]
fn a_full_disk_can_be_opened_deleted_from_and_closed() {
    let (store, disk, mut engine) = store();
    let keys = fill(&mut engine);
    disk.fill_up();
    engine.sync().unwrap();
    drop(engine);
    let (mut engine, report) = store.open();
    assert!(!report.clean && report.keys == keys as u64);
    // Some of the reserve's space went into the open: it is not whole, and says so.
    later(&store, &mut engine, |engine| engine.stats().disk_full);
    assert!(put(&mut engine, "new", 1000).is_err());
    assert!(engine.delete(0, b"key 0").unwrap());
    engine.commit().unwrap();
    engine.close().unwrap();
    let (engine, report) = store.open();
    assert!(report.clean);
    assert_eq!(engine.key_count(0), keys - 1);
}

#[test]
fn a_disk_full_of_dead_bytes_comes_free_by_itself() {
    let (store, disk, mut engine) = store();
    // Far from what the policy would do something about.
    engine.set_compaction(CompactionPolicy {
        percentage: 1_000_000,
        min_size: 1 << 40,
        ..CompactionPolicy::DEFAULT
    });
    while put(&mut engine, "always the same", 1000).is_ok() {
        engine.maintain();
    }
    disk.fill_up();
    assert!(disk.free() < 16 * KIB);
    later(&store, &mut engine, |_| disk.free() > DISK / 4);
    later(&store, &mut engine, |engine| engine.stats().reserved_bytes == RESERVED);
    put(&mut engine, "new", 1000).unwrap();
    assert_eq!(engine.key_count(0), 2);
}

#[test]
fn a_merge_that_frees_nothing_leaves_the_half_for_deletions_alone() {
    let (store, disk, mut engine) = store();
    engine.set_compaction(CompactionPolicy {
        percentage: 1_000_000,
        min_size: 1 << 40,
        ..CompactionPolicy::DEFAULT
    });
    let mut keys = 0;
    while put(&mut engine, &format!("key {keys}"), 500).is_ok() {
        keys += 1;
        let _ = put(&mut engine, "always the same", 1000);
        engine.sync().unwrap();
        engine.maintain();
    }
    disk.fill_up();
    disk.books.lock().unwrap().linked = true;
    later(&store, &mut engine, |engine| engine.stats().reserved_bytes < RESERVED);
    let mut rounds = 0;
    later(&store, &mut engine, |_| {
        // Another program takes at once what comes free.
        rounds += 1;
        if rounds > 100 {
            disk.fill_up();
        }
        rounds == 200
    });
    assert_eq!(engine.stats().reserved_bytes, RESERVED / 2, "only the merge's half was lent");
    for n in 0..50 {
        assert!(engine.delete(0, format!("key {n}").as_bytes()).unwrap());
        engine.commit().unwrap();
        disk.fill_up();
    }
    disk.set_capacity(4 * DISK);
    later(&store, &mut engine, |engine| !engine.stats().disk_full);
    assert_eq!(engine.stats().reserved_bytes, RESERVED);
}

#[test]
fn a_reserve_of_another_size_is_had_at_any_time() {
    let (store, disk, mut engine) = store();
    let free = disk.free();
    engine.set_reserved_space(RESERVED / 2);
    later(&store, &mut engine, |engine| engine.stats().reserved_bytes == RESERVED / 2);
    assert_eq!(disk.free(), free + RESERVED / 2);
    engine.set_reserved_space(0);
    later(&store, &mut engine, |engine| engine.stats().reserved_bytes == 0);
    assert_eq!(disk.free(), free + RESERVED);
    assert!(disk.inner.open(&path("RESERVE")).is_ok() && disk.list(Path::new(DIR)).is_ok());
    engine.set_reserved_space(2 * DISK);
    later(&store, &mut engine, |engine| engine.stats().disk_full);
    engine.set_reserved_space(0);
    later(&store, &mut engine, |engine| !engine.stats().disk_full);
}

#[test]
fn a_segment_that_may_not_grow_further_is_followed_by_another() {
    let (store, disk, mut engine) = store();
    disk.books.lock().unwrap().largest = Some(40 * KIB);
    let mut refused = 0;
    for n in 0..100 {
        while let Err(error) = put(&mut engine, &format!("key {n}"), 1000) {
            assert!(matches!(error, WriteError::NoSpace), "{error}");
            refused += 1;
            assert!(refused < 100, "it is never followed by another");
            later(&store, &mut engine, |_| true);
        }
    }
    assert!(refused > 0 && engine.poisoned().is_none());
    assert!(matches!(put(&mut engine, "too large for any", 50_000), Err(WriteError::NoSpace)));
    assert_eq!(engine.key_count(0), 100);
    drop(engine);
    assert_eq!(store.open().0.key_count(0), 100);
}

#[test]
fn a_compaction_by_hand_makes_room_on_a_full_disk_where_none_begins_by_itself() {
    let (store, disk, mut engine) = store();
    let mut keys = 0;
    while put(&mut engine, &format!("key {keys}"), 500).is_ok() {
        keys += 1;
        let _ = put(&mut engine, "always the same", 1000);
        engine.sync().unwrap();
        engine.maintain();
    }
    disk.fill_up();
    let before = store.contents(&mut engine);
    let mut rounds = 0;
    later(&store, &mut engine, |engine| {
        rounds += 1;
        assert!(engine.stats().disk_full && !engine.stats().compaction.running);
        rounds == 100
    });
    assert!(engine.compact());
    later(&store, &mut engine, |engine| !engine.stats().disk_full);
    later(&store, &mut engine, |engine| {
        let progress = engine.stats().compaction;
        !progress.scheduled && !progress.running
    });
    assert!(engine.stats().compaction.last_ok && disk.free() > DISK / 8);
    assert_eq!(engine.stats().reserved_bytes, RESERVED);
    assert_eq!(store.contents(&mut engine), before);
    put(&mut engine, "new", 1000).unwrap();
}

#[test]
fn deletions_after_a_merge_that_freed_too_little_free_the_disk_by_themselves() {
    let (store, disk, mut engine) = store();
    engine.set_compaction(CompactionPolicy {
        percentage: 1_000_000,
        min_size: 1 << 40,
        ..CompactionPolicy::DEFAULT
    });
    let mut keys = 0;
    while put(&mut engine, &format!("key {keys}"), 1000).is_ok() {
        keys += 1;
        if keys % 3 == 0 {
            let _ = put(&mut engine, "always the same", 1000);
        }
        engine.sync().unwrap();
        engine.maintain();
    }
    disk.fill_up();
    // What the merge frees another program takes, but for a little.
    later(&store, &mut engine, |engine| engine.stats().compaction.finished > 0);
    disk.fill_up();
    let books = disk.books.clone();
    books.lock().unwrap().capacity += 16 * KIB;
    let mut rounds = 0;
    later(&store, &mut engine, |engine| {
        rounds += 1;
        assert!(engine.stats().disk_full);
        rounds == 200
    });
    for n in 0..keys - 10 {
        assert!(engine.delete(0, format!("key {n}").as_bytes()).unwrap());
        engine.commit().unwrap();
        engine.maintain();
    }
    later(&store, &mut engine, |engine| !engine.stats().disk_full);
    put(&mut engine, "new", 1000).unwrap();
    assert_eq!(engine.key_count(0), 12);
}

#[test]
fn what_was_given_away_while_the_reserve_was_filled_is_not_counted_as_held() {
    let disk = SmallDisk::new(DISK);
    let store = Store::new(Arc::new(disk.clone()));
    let store = Store {
        options: Options { segment_size: 64 * KIB, reserved_space: RESERVED, ..store.options },
        ..store
    };
    let mut engine = store.open().0;
    store.drive(&mut engine, |engine| engine.stats().reserved_bytes == RESERVED);
    let mut keys = 0;
    while put(&mut engine, &format!("key {keys}"), 1000).is_ok() {
        keys += 1;
        engine.sync().unwrap();
        engine.maintain();
    }
    let in_file = |disk: &SmallDisk| {
        let books = disk.books.lock().unwrap();
        books.taken[&books.names[&path("RESERVE")]]
    };
    let mut gone = 0;
    let mut delete = |engine: &mut Engine| {
        assert!(engine.delete(0, format!("key {gone}").as_bytes()).unwrap());
        engine.commit().unwrap();
        gone += 1;
    };
    disk.fill_up();
    while in_file(&disk) == RESERVED {
        delete(&mut engine);
    }
    // There is room again, the keeper fills the reserve, and the writer has not heard of it.
    disk.set_capacity(2 * DISK);
    store.clock.set(store.clock.now_ms() + 1000);
    engine.tick();
    engine.maintain();
    while in_file(&disk) < RESERVED {
        std::thread::yield_now();
    }
    disk.fill_up();
    while in_file(&disk) == RESERVED {
        delete(&mut engine);
    }
    assert!(engine.stats().disk_full);
    store.drive(&mut engine, |engine| engine.stats().reserved_bytes == in_file(&disk));
    assert!(engine.stats().disk_full, "the reserve is not whole");
}
