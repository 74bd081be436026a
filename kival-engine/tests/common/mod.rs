//! What the engine's integration tests share: opening with a waker that can be waited for, driving
//! background work to its end, looking at files, and a file system that fails on demand.
#![allow(clippy::unwrap_used)]
#![allow(dead_code, unreachable_pub)] // each test file uses its part

use bytes::Bytes;
use kival_engine::clock::ManualClock;
use kival_engine::format::group::{GroupHeader, HEADER as GROUP, Position};
use kival_engine::format::manifest::Manifest;
use kival_engine::format::record::{self, Kind};
use kival_engine::format::segment::{SegmentHeader, file_name};
use kival_engine::fs::hook::{Call, Hook, HookFs, Op, Verdict};
use kival_engine::fs::{FileSystem, MemoryFs};
use kival_engine::{
    CompactionPolicy, Engine, Fetched, LargeStart, LargeWrite, OpenReport, Options, ReadError, SyncPolicy,
};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// Where the stores of the tests lie in their file systems.
pub const DIR: &str = "/store";

/// News from background threads, to be waited for.
#[derive(Debug, Clone, Default)]
pub struct Bell(Arc<(Mutex<bool>, Condvar)>);

impl Bell {
    fn ring(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    /// Waits until there is news.
    pub fn wait(&self) {
        let rung = self.0.0.lock().unwrap();
        let (mut rung, timeout) =
            self.0.1.wait_timeout_while(rung, Duration::from_secs(60), |rung| !*rung).unwrap();
        assert!(!timeout.timed_out(), "no news for a minute: background work is stuck");
        *rung = false;
    }
}

/// A store under test: its options stay the same over any number of opens.
#[derive(Clone)]
pub struct Store {
    pub options: Options,
    pub clock: ManualClock,
    pub bell: Bell,
}

impl Store {
    /// A store in `fs` with small segments, whose clock stands at one million, that compacts only when
    /// asked to, syncs only when told to, lays no runway, and changes what has two pages page by page.
    pub fn new(fs: Arc<dyn FileSystem>) -> Store {
        let (clock, bell) = (ManualClock::new(1_000_000), Bell::default());
        let ring = bell.clone();
        let options = Options {
            fs,
            clock: Arc::new(clock.clone()),
            databases: 4,
            segment_size: 4 << 10,
            sync: SyncPolicy::No,
            runway_syncs: 0,
            paged_from: 0,
            compaction: CompactionPolicy { percentage: 0, min_size: 0, ..CompactionPolicy::default() },
            waker: Arc::new(move || ring.ring()),
            ..Options::new(DIR)
        };
        Store { options, clock, bell }
    }

    pub fn in_memory() -> (Store, MemoryFs) {
        let fs = MemoryFs::default();
        (Store::new(Arc::new(fs.clone())), fs)
    }

    /// The same store in another file system.
    pub fn on(&self, fs: Arc<dyn FileSystem>) -> Store {
        Store { options: Options { fs, ..self.options.clone() }, ..self.clone() }
    }

    #[track_caller]
    pub fn open(&self) -> (Engine, OpenReport) {
        Engine::open(self.options.clone()).expect("the store opens")
    }

    /// Maintains until `done`, waiting for background threads in between.
    pub fn drive(&self, engine: &mut Engine, mut done: impl FnMut(&mut Engine) -> bool) {
        loop {
            engine.maintain();
            if done(engine) {
                return;
            }
            self.bell.wait();
        }
    }

    /// Maintains so many rounds, waiting in between for a compaction that is under way.
    pub fn maintain(&self, engine: &mut Engine, rounds: usize) {
        let mut left = rounds;
        self.drive(engine, |engine| {
            let progress = engine.stats().compaction;
            left -= 1;
            left == 0 || !(progress.running || progress.scheduled)
        });
    }

    /// Begins a large value, as soon as that can be. Nothing may be staged.
    pub fn begin_large(&self, engine: &mut Engine, key: &[u8], value: &Bytes) -> LargeWrite {
        let mut begun = None;
        self.drive(engine, |engine| {
            match engine.begin_large(key.len(), value.clone()) {
                LargeStart::Begun(write) => begun = Some(write),
                LargeStart::Later => {}
                LargeStart::Never => panic!("there is room"),
            }
            begun.is_some()
        });
        begun.unwrap()
    }

    /// Lets what compaction there is to do come to its end.
    pub fn settle(&self, engine: &mut Engine) {
        self.drive(engine, |engine| {
            let progress = engine.stats().compaction;
            assert!(progress.finished < 1000, "it merges the same again and again");
            !progress.running && !progress.scheduled
        });
    }

    /// Compacts everything by hand.
    pub fn compact(&self, engine: &mut Engine) {
        self.settle(engine);
        assert!(engine.compact());
        self.settle(engine);
        assert!(engine.stats().compaction.last_ok);
    }

    /// The value of every live key of database 0.
    pub fn contents(&self, engine: &mut Engine) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut keys: Vec<Vec<u8>> = engine.iter(0).map(|(key, _)| key.to_vec()).collect();
        keys.sort();
        let value = |key: &Vec<u8>| engine.get(0, key).expect("sound").expect("live").to_vec();
        let values: Vec<Vec<u8>> = keys.iter().map(value).collect();
        keys.into_iter().zip(values).collect()
    }
}

pub fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

pub fn segment_path(id: u64) -> PathBuf {
    path(&file_name(id))
}

pub fn read(fs: &dyn FileSystem, path: &Path) -> Vec<u8> {
    let file = fs.open(path).expect("the file is there");
    let mut bytes = vec![0; file.len().expect("length") as usize];
    assert_eq!(file.read_at(&mut bytes, 0).expect("read"), bytes.len());
    bytes
}

pub fn write(fs: &dyn FileSystem, path: &Path, bytes: &[u8]) {
    let file = fs.create(path).expect("created");
    let mut at = 0;
    while at < bytes.len() {
        at += file.write_at(&bytes[at..], at as u64).expect("written");
    }
}

/// Flips one bit of a byte.
pub fn flip(fs: &dyn FileSystem, path: &Path, offset: u64) {
    let mut bytes = read(fs, path);
    bytes[offset as usize] ^= 0x10;
    write(fs, path, &bytes);
}

/// The same under the feet of whoever has the file open.
pub fn flip_in_place(fs: &dyn FileSystem, path: &Path, offset: u64) {
    let file = fs.open(path).expect("the file is there");
    let mut byte = [0];
    assert_eq!(file.read_at(&mut byte, offset).expect("read"), 1);
    assert_eq!(file.write_at(&[byte[0] ^ 0x10], offset).expect("written"), 1);
}

/// A copy of all files, with nothing shared.
pub fn copy(fs: &dyn FileSystem) -> MemoryFs {
    let copied = MemoryFs::default();
    for name in fs.list(Path::new(DIR)).expect("listed") {
        write(&copied, &path(&name), &read(fs, &path(&name)));
    }
    copied
}

pub fn manifest(fs: &dyn FileSystem) -> Manifest {
    Manifest::decode(&read(fs, &path("MANIFEST"))).expect("a sound manifest")
}

/// A record's kind, key and sequence.
pub type Seen = (Kind, Vec<u8>, u64);

/// The groups of a segment and their records.
pub fn groups(fs: &dyn FileSystem, id: u64) -> Vec<(GroupHeader, Vec<Seen>)> {
    let bytes = read(fs, &segment_path(id));
    let head = SegmentHeader::decode(&bytes).expect("a sound header");
    let (mut offset, mut groups) = (head.size() as usize, Vec::new());
    while let Some(header) = bytes.get(offset..offset + GROUP) {
        let at = Position { segment: id, offset: offset as u64 };
        let Ok(header) = GroupHeader::decode(header.try_into().unwrap(), head.store, at) else { break };
        let mut records = Vec::new();
        let end = offset + header.group_size().unwrap() as usize;
        offset += GROUP;
        while offset < end {
            let record = record::decode(&bytes[offset..end]).expect("a sound record");
            records.push((record.header.kind, record.key.to_vec(), record.header.sequence));
            offset += record.header.record_size() as usize;
        }
        groups.push((header, records));
    }
    groups
}

/// All records of the live segments.
pub fn records(fs: &dyn FileSystem) -> Vec<Seen> {
    let ids = manifest(fs).segments.into_iter().map(|segment| segment.id);
    ids.flat_map(|id| groups(fs, id)).flat_map(|(_, records)| records).collect()
}

/// A call that [`Faults`] fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A write to a file whose name ends so: this many bytes are written first.
    Write(&'static str, usize),
    Sync(&'static str),
    Truncate(&'static str),
    Create(&'static str),
    Link(&'static str),
}

impl Fault {
    fn is(&self, call: &Call<'_>) -> bool {
        let (op, end) = match self {
            Fault::Write(end, _) => (Op::WriteAt, end),
            Fault::Sync(end) => (Op::Sync, end),
            Fault::Truncate(end) => (Op::Truncate, end),
            Fault::Create(end) => (Op::Create, end),
            Fault::Link(end) => (Op::Link, end),
        };
        call.op == op && call.is_on(end)
    }
}

/// Fails calls, each once, with the error it was told.
#[derive(Debug, Default)]
pub struct Faults(Mutex<Vec<(Fault, i32)>>);

pub type FaultFs = HookFs<MemoryFs, Faults>;

pub const ENOSPC: i32 = 28;
pub const EIO: i32 = 5;

impl Faults {
    pub fn on(fs: &MemoryFs) -> FaultFs {
        HookFs::new(fs.clone(), Faults::default())
    }

    /// Fails the next such call.
    pub fn fail(&self, fault: Fault, errno: i32) {
        self.0.lock().unwrap().push((fault, errno));
    }
}

impl Hook for Faults {
    fn before(&self, call: &Call<'_>) -> Verdict {
        let mut faults = self.0.lock().unwrap();
        let Some(at) = faults.iter().position(|(fault, _)| fault.is(call)) else { return Verdict::Go };
        let (fault, errno) = faults.remove(at);
        let error = io::Error::from_raw_os_error(errno);
        if let Fault::Write(_, written) = fault {
            Verdict::Torn(written, error)
        } else {
            Verdict::Fail(error)
        }
    }
}

/// The value of a key, or a part of it, waiting for the disk if need be, as a server does: what was read is pinned,
/// and the look begins anew.
pub fn get_part(
    engine: &mut Engine,
    db: u32,
    key: &[u8],
    part: Range<usize>,
) -> Result<Option<Bytes>, ReadError> {
    let Some(entry) = engine.entry(db, key)? else { return Ok(None) };
    let size = entry.value_size as usize;
    let part = part.start.min(size)..part.end.min(size);
    let found = match engine.fetch_part(db, key, &entry, part.clone())? {
        Fetched::Value(found) => found,
        Fetched::Cold(cold) => {
            engine.pin(cold.read()?);
            let Fetched::Value(found) = engine.fetch_part(db, key, &entry, part)? else {
                panic!("what is pinned is at hand");
            };
            engine.unpin();
            found
        }
    };
    Ok(Some(found))
}

/// Sets a part of a value, which may be absent; tells whether that was done page by page.
pub fn put_part(
    engine: &mut Engine,
    db: u32,
    key: &[u8],
    offset: usize,
    part: &[u8],
) -> Result<bool, Box<dyn std::error::Error>> {
    let (end, before) = (offset + part.len(), engine.entry(db, key)?);
    if engine.is_by_page(db, before.as_ref(), offset, part.len()) {
        if before.is_none() {
            engine.put(db, key, b"", 0)?;
        }
        let entry = engine.entry(db, key)?.expect("it was there, or was put");
        let span = engine.pages_around(&entry, offset, part.len());
        let known = get_part(engine, db, key, span.clone())?.expect("it is there");
        let mut bytes = known.to_vec();
        bytes.resize(span.len(), 0);
        bytes[offset - span.start..end - span.start].copy_from_slice(part);
        engine.put_pages(db, key, &entry, span.start, &bytes)?;
        return Ok(true);
    }
    let mut value = get_part(engine, db, key, 0..usize::MAX)?.unwrap_or_default().to_vec();
    value.resize(value.len().max(end), 0);
    value[offset..end].copy_from_slice(part);
    engine.put(db, key, &value, before.map_or(0, |entry| entry.expiry))?;
    Ok(false)
}
