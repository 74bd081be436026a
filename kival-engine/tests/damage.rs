//! Damage, exhaustively: every byte prefix of a log, and every flipped bit of a log, a hint and a
//! manifest. What was promised is there, or the open says which file is damaged and where; a wrong value
//! is never served.
//!
//! A run flips one bit of each byte, chosen by a seed, and cuts the long log at every eighth byte and
//! around every group's end; `KIVAL_DAMAGE=full` flips every bit and cuts at every byte.

#![allow(clippy::unwrap_used)]

mod common;

use common::{DIR, Store, groups, manifest, path, read, segment_path, write};
use kival_engine::format::filter::Filter;
use kival_engine::format::group::{self, GroupHeader, Position};
use kival_engine::format::hint::HintHeader;
use kival_engine::format::record;
use kival_engine::format::segment::hint_name;
use kival_engine::fs::{FileSystem, MemoryFs};
use kival_engine::{CompactionPolicy, Corruption, Damage, Engine, OpenError, ReadError, TornTail};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Values and expiries by key.
type State = BTreeMap<Vec<u8>, (Vec<u8>, u64)>;

/// Bytes of a segment's header.
const HEAD: u64 = 48;

/// A log of whole groups, and what its store held after each.
struct History {
    store: Store,
    files: Vec<(PathBuf, Vec<u8>)>,
    /// The segment that was appended to last, and its bytes.
    segment: u64,
    bytes: Vec<u8>,
    groups: Vec<GroupHeader>,
    /// One more than there are groups: the first is what the store held before.
    states: Vec<State>,
}

/// What became of a damaged store.
#[derive(Debug, PartialEq)]
enum Outcome {
    /// The open was refused for this.
    Refused(Corruption),
    /// The store holds what it held after so many groups; the rest was reported as torn, from there on.
    Holds(usize, Option<u64>),
    /// It holds what it never held: an example of it.
    Wrong(String),
}

fn key(number: u64) -> Vec<u8> {
    format!("key:{number:03}").into_bytes()
}

/// Appends groups of one to four records until the log's segment has `size` bytes; every eighth is synced.
fn append(store: &Store, fs: &MemoryFs, engine: &mut Engine, size: u64, states: &mut Vec<State>) -> u64 {
    let mut state = states.last().cloned().unwrap_or_default();
    if states.is_empty() {
        states.push(state.clone());
    }
    let segment = manifest(fs).segments.last().unwrap().id;
    let mut turn = 0;
    while engine.segments().last().unwrap().bytes < size {
        for part in 0..=turn % 4 {
            let number = (turn * 7 + part * 3) % 20;
            let size = (turn * 37 + part * 11) % 160;
            let value = vec![turn as u8 ^ part as u8; size as usize];
            engine.put(0, &key(number), &value, 0).unwrap();
            state.insert(key(number), (value, 0));
        }
        if turn % 5 == 3 {
            engine.delete(0, &key(turn % 20)).unwrap();
            state.remove(&key(turn % 20));
        }
        if turn % 7 == 2 && engine.set_expiry(0, &key(turn % 17), 9_000_000 + turn).unwrap() {
            state.get_mut(&key(turn % 17)).unwrap().1 = 9_000_000 + turn;
        }
        if engine.staged_bytes() > 0 {
            engine.commit().unwrap();
            states.push(state.clone());
        }
        if turn % 8 == 7 {
            engine.sync().unwrap();
        }
        turn += 1;
    }
    assert_eq!(&contents(engine), states.last().unwrap(), "the model is right");
    store.drive(engine, |engine| engine.segments().len() == manifest(fs).segments.len());
    segment
}

impl History {
    /// A log of `size` bytes in one segment, behind `before` bytes of earlier runs in sealed ones; then a
    /// crash.
    fn new(before: u64, size: u64) -> History {
        let (mut store, fs) = Store::in_memory();
        store.options.segment_size = 1 << 20;
        let mut states = Vec::new();
        let mut earlier = 0;
        while earlier < before {
            let (mut engine, _) = store.open();
            append(&store, &fs, &mut engine, before / 3, &mut states);
            engine.close().unwrap();
            earlier += before / 3;
        }
        let mut states = states.split_off(states.len().saturating_sub(1));
        let mut engine = store.open().0;
        let segment = append(&store, &fs, &mut engine, size, &mut states);
        drop(engine);
        History::of(store, &fs, segment, states)
    }

    /// A log of `size` bytes in one segment with a runway behind it, of at most as many; then a crash.
    fn with_runway(size: u64) -> History {
        let (mut store, fs) = Store::in_memory();
        // Space is reserved, and so zeros are written, up to a quarter of it at a time.
        store.options.segment_size = 4 * size;
        store.options.runway_syncs = 1;
        let mut states = Vec::new();
        let mut engine = store.open().0;
        let segment = append(&store, &fs, &mut engine, size - size / 8, &mut states);
        drop(engine);
        let history = History::of(store, &fs, segment, states);
        assert_eq!(history.bytes.len() as u64, size);
        history
    }

    /// The same, closed.
    fn closed(size: u64) -> History {
        let (mut store, fs) = Store::in_memory();
        store.options.segment_size = 1 << 20;
        let mut states = Vec::new();
        let mut engine = store.open().0;
        let segment = append(&store, &fs, &mut engine, size, &mut states);
        engine.close().unwrap();
        History::of(store, &fs, segment, states)
    }

    fn of(store: Store, fs: &MemoryFs, segment: u64, states: Vec<State>) -> History {
        let names = fs.list(Path::new(DIR)).unwrap();
        let files = names.iter().map(|name| (path(name), read(fs, &path(name)))).collect();
        let groups: Vec<GroupHeader> = groups(fs, segment).into_iter().map(|(header, _)| header).collect();
        assert_eq!(groups.len() + 1, states.len());
        History { store, files, segment, bytes: read(fs, &segment_path(segment)), groups, states }
    }

    /// The store with other bytes in one of its files.
    fn with(&self, file: &Path, bytes: &[u8]) -> (Store, MemoryFs) {
        let fs = MemoryFs::default();
        for (path, sound) in &self.files {
            write(&fs, path, if path == file { bytes } else { sound });
        }
        let mut store = self.store.on(Arc::new(fs.clone()));
        store.options.cache_size = 0;
        (store, fs)
    }

    fn last(&self) -> usize {
        self.groups.len()
    }

    fn end(group: &GroupHeader) -> u64 {
        group.at.offset + group.group_size().unwrap()
    }

    /// Opens the store with other bytes in the log, and compares.
    fn outcome(&self, bytes: &[u8]) -> Outcome {
        let (store, _) = self.with(&segment_path(self.segment), bytes);
        match Engine::open(store.options) {
            Err(OpenError::Corrupt(corruption)) => Outcome::Refused(corruption),
            Err(other) => Outcome::Wrong(format!("refused for another reason: {other}")),
            Ok((mut engine, report)) => {
                let held = contents(&mut engine);
                match self.states.iter().rposition(|state| *state == held) {
                    Some(groups) => Outcome::Holds(groups, report.torn.first().map(|torn| torn.offset)),
                    None => Outcome::Wrong(format!("it holds {held:?}")),
                }
            }
        }
    }

    /// What must come of damage to one bit at `offset`: below a watermark it is refused, with the group's
    /// offset; above all of them it is a torn tail.
    fn expected(&self, offset: u64) -> Outcome {
        let corruption = |offset, damage| Corruption { file: segment_path(self.segment), offset, damage };
        if offset < HEAD {
            let damage = if offset < 8 { Damage::Magic } else { Damage::Checksum };
            return Outcome::Refused(corruption(0, damage));
        }
        let Some(hit) = self.groups.iter().position(|group| offset < History::end(group)) else {
            return Outcome::Holds(self.last(), self.groups.last().map(History::end));
        };
        let start = self.groups[hit].at.offset;
        // A header that is damaged itself does not speak any more.
        let in_header = offset < start + group::HEADER as u64;
        let speaking = self.groups.iter().enumerate().filter(|(index, _)| *index != hit || !in_header);
        let watermark = speaking.map(|(_, group)| group.watermark).max().unwrap();
        if watermark > (Position { segment: self.segment, offset: start }) {
            return Outcome::Refused(corruption(start, Damage::Checksum));
        }
        Outcome::Holds(hit, Some(start))
    }
}

fn contents(engine: &mut Engine) -> State {
    let mut state = State::new();
    let keys: Vec<(Vec<u8>, u64)> = engine.iter(0).map(|(key, entry)| (key.to_vec(), entry.expiry)).collect();
    for (key, expiry) in keys {
        let value = engine.get(0, &key).expect("sound").expect("live").to_vec();
        state.insert(key, (value, expiry));
    }
    state
}

/// Runs `check` for all of `0..count` on as many threads as there are cores.
fn in_parallel(count: usize, check: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        return;
                    }
                    check(index);
                }
            });
        }
    });
}

/// The seed of this run: `KIVAL_SEED`, or any.
fn seed() -> u64 {
    let given = std::env::var("KIVAL_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| RandomState::new().hash_one(0));
    println!("KIVAL_SEED={seed}");
    seed
}

fn full() -> bool {
    std::env::var("KIVAL_DAMAGE").is_ok_and(|wanted| wanted == "full")
}

/// The bits to flip in each of `bytes` bytes: all of them, or one of each byte.
fn flips(bytes: usize) -> Vec<usize> {
    if full() {
        return (0..bytes * 8).collect();
    }
    let seed = seed();
    let bit =
        |byte: usize| (seed.wrapping_add(byte as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 61) as usize;
    (0..bytes).map(|byte| byte * 8 + bit(byte)).collect()
}

fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut damaged = bytes.to_vec();
    damaged[bit / 8] ^= 1 << (bit % 8);
    damaged
}

/// What is left of a log that was cut.
#[derive(Clone, Copy, PartialEq)]
enum Left {
    /// Its first bytes.
    Prefix,
    /// Zeros for the others: what was appended into a runway and did not reach the disk.
    Zeros,
}

/// The last segment's log cut at these offsets is its whole groups.
fn check_prefixes(history: &History, cuts: &[usize], left: Left) {
    in_parallel(cuts.len(), |index| {
        let cut = cuts[index];
        let mut bytes = history.bytes[..cut].to_vec();
        if left == Left::Zeros {
            bytes.resize(history.bytes.len(), 0);
        }
        let ends = history.groups.iter().map(|group| History::end(group) as usize);
        // What was cut off a value may have been zeros, too.
        let whole = ends.take_while(|&end| bytes.get(..end) == Some(&history.bytes[..end])).count();
        let end = if whole == 0 { HEAD } else { History::end(&history.groups[whole - 1]) };
        let (store, _) = history.with(&segment_path(history.segment), &bytes);
        let (mut engine, report) = store.open();
        assert_eq!(contents(&mut engine), history.states[whole], "cut at {cut}");
        let tail =
            bytes[end as usize..].iter().rposition(|&byte| byte != 0).map_or(0, |last| last as u64 + 1);
        let torn = TornTail { file: segment_path(history.segment), offset: end, bytes: tail };
        assert_eq!(report.torn, if tail == 0 { vec![] } else { vec![torn] }, "cut at {cut}");
    });
}

#[test]
fn every_prefix_of_a_long_log_is_its_whole_groups() {
    let history = History::new(0, 64 << 10);
    assert!(history.bytes.len() >= 64 << 10 && history.last() > 100);
    let start = seed() % 8;
    let near = |cut: u64| history.groups.iter().any(|group| History::end(group).abs_diff(cut) <= 1);
    let wanted = |cut: &usize| full() || (*cut as u64 + start).is_multiple_of(8) || near(*cut as u64);
    let cuts: Vec<usize> = (HEAD as usize..=history.bytes.len()).filter(wanted).collect();
    check_prefixes(&history, &cuts, Left::Prefix);
}

#[test]
fn every_prefix_of_a_log_behind_sealed_segments_is_its_whole_groups() {
    let history = History::new(12 << 10, 4 << 10);
    assert!(!history.states[0].is_empty());
    check_prefixes(&history, &(HEAD as usize..=history.bytes.len()).collect::<Vec<_>>(), Left::Prefix);
}

#[test]
fn every_prefix_of_a_log_with_a_runway_is_its_whole_groups() {
    let history = History::with_runway(8 << 10);
    let cuts: Vec<usize> = (HEAD as usize..=history.bytes.len()).collect();
    check_prefixes(&history, &cuts, Left::Prefix);
    check_prefixes(&history, &cuts, Left::Zeros);
}

#[test]
fn every_flipped_bit_of_a_log_with_a_runway_is_refused_or_a_torn_tail() {
    check_flips(&History::with_runway(8 << 10));
}

#[test]
fn every_flipped_bit_of_a_log_is_refused_or_a_torn_tail() {
    check_flips(&History::new(0, 16 << 10));
}

fn check_flips(history: &History) {
    let flips = flips(history.bytes.len());
    in_parallel(flips.len(), |index| {
        let bit = flips[index];
        let (found, expected) =
            (history.outcome(&flipped(&history.bytes, bit)), history.expected(bit as u64 / 8));
        match (&found, &expected) {
            // What kind of damage it looks like depends on the bit.
            (Outcome::Refused(found), Outcome::Refused(expected)) => {
                assert_eq!((&found.file, found.offset), (&expected.file, expected.offset), "bit {bit}");
            }
            _ => assert_eq!(found, expected, "bit {bit}"),
        }
    });
}

#[test]
fn every_flipped_bit_of_a_sealed_segment_is_harmless_or_an_error_at_its_place() {
    let history = History::closed(16 << 10);
    let flips = flips(history.bytes.len());
    let whole = history.states.last().unwrap();
    in_parallel(flips.len(), |index| {
        let bit = flips[index];
        let file = segment_path(history.segment);
        let (store, _) = history.with(&file, &flipped(&history.bytes, bit));
        let mut engine = match Engine::open(store.options) {
            Ok((engine, _)) => engine,
            Err(OpenError::Corrupt(corruption)) => {
                assert_eq!((corruption.file, corruption.offset), (file, 0), "bit {bit}");
                assert!((bit as u64) < HEAD * 8);
                return;
            }
            Err(other) => panic!("bit {bit}: {other}"),
        };
        let mut damaged = 0;
        for (key, (value, _)) in whole {
            match engine.get(0, key) {
                Ok(found) => assert_eq!(found.as_deref(), Some(&value[..]), "bit {bit}"),
                Err(ReadError::Corrupt(corruption)) => {
                    let size = record::record_size(key.len(), value.len());
                    let record = corruption.offset..corruption.offset + size;
                    assert!(corruption.file == file && record.contains(&(bit as u64 / 8)), "bit {bit}");
                    damaged += 1;
                }
                Err(other) => panic!("bit {bit}: {other}"),
            }
        }
        assert!(damaged <= 1);
        assert_eq!(engine.key_count(0), whole.len());
    });
}

/// Flips a bit of the last value in the log and makes every checksum above it match again.
fn forged(history: &History) -> Vec<u8> {
    let mut bytes = history.bytes.clone();
    let group = history.groups.iter().rev().find(|group| group.body_size > 200).unwrap();
    let (start, end) = (group.at.offset as usize, History::end(group) as usize);
    let (mut at, mut crcs, mut forged) = (start + group::HEADER, Vec::new(), false);
    while at < end {
        let header = record::decode(&bytes[at..end]).unwrap().header;
        let size = header.record_size() as usize;
        if header.value_size > 0 && !forged {
            bytes[at + size - 1] ^= 1;
            forged = true;
        }
        let crc = crc32fast::hash(&bytes[at + 4..at + size]).to_le_bytes();
        bytes[at..at + 4].copy_from_slice(&crc);
        crcs.extend_from_slice(&crc);
        at += size;
    }
    assert!(forged);
    let header = GroupHeader { body_crc: crc32fast::hash(&crcs), ..*group };
    bytes[start..start + group::HEADER].copy_from_slice(&header.encode());
    bytes
}

#[test]
fn a_flip_that_no_checksum_sees_is_seen_as_a_wrong_value() {
    let history = History::new(0, 16 << 10);
    let outcome = history.outcome(&forged(&history));
    assert!(matches!(outcome, Outcome::Wrong(_)), "the comparison is blind: {outcome:?}");
}

#[test]
fn every_flipped_bit_of_a_hint_is_harmless() {
    let history = History::closed(4 << 10);
    let hint = path(&hint_name(history.segment));
    let bytes = history.files.iter().find(|(path, _)| *path == hint).unwrap().1.clone();
    let filter_at = HintHeader::decode(bytes[..80].try_into().unwrap()).unwrap().filter_at;
    let flips = flips(bytes.len());
    in_parallel(flips.len(), |index| {
        let bit = flips[index];
        let (store, _) = history.with(&hint, &flipped(&bytes, bit));
        let (mut engine, report) = store.open();
        assert_eq!(&contents(&mut engine), history.states.last().unwrap(), "bit {bit}");
        let in_filter = bit as u64 / 8 >= filter_at;
        assert_eq!(report.scanned, u64::from(!in_filter), "bit {bit}");
    });
}

/// Merges the second of two segments alone, the filter of the first being as `damage` makes it.
fn merge_beside(damage: impl Fn(&[u8]) -> Vec<Vec<u8>>) {
    let (store, fs) = Store::in_memory();
    let mut engine = store.open().0;
    engine.put(0, b"gone", b"old", 0).unwrap();
    engine.put(0, b"kept", &[1; 3000], 0).unwrap();
    engine.close().unwrap();
    let first = manifest(&fs).segments[0].id;
    let mut engine = store.open().0;
    engine.delete(0, b"gone").unwrap();
    engine.put(0, b"dead", &[2; 3000], 0).unwrap();
    engine.delete(0, b"dead").unwrap();
    engine.close().unwrap();
    let hint = path(&hint_name(first));
    let files: Vec<_> = fs.list(Path::new(DIR)).unwrap().into_iter().map(|name| path(&name)).collect();
    let hints = damage(&read(&fs, &hint));
    in_parallel(hints.len(), |index| {
        let damaged = MemoryFs::default();
        files.iter().for_each(|file| write(&damaged, file, &read(&fs, file)));
        write(&damaged, &hint, &hints[index]);
        let store = Store::new(Arc::new(damaged.clone()));
        let mut engine = store.open().0;
        engine.set_compaction(CompactionPolicy { percentage: 1, min_size: 0, ..CompactionPolicy::DEFAULT });
        store.drive(&mut engine, |engine| engine.stats().compaction.finished > 0);
        assert!(manifest(&damaged).segments.iter().any(|segment| segment.id == first), "a partial merge");
        engine.close().unwrap();
        let mut engine = store.open().0;
        assert_eq!(engine.get(0, b"gone").unwrap(), None, "damaged hint {index}");
    });
}

#[test]
fn no_flipped_bit_of_a_filter_brings_a_deleted_key_back() {
    merge_beside(|hint| {
        let filter_at = HintHeader::decode(hint[..80].try_into().unwrap()).unwrap().filter_at as usize;
        (filter_at * 8..hint.len() * 8).map(|bit| flipped(hint, bit)).collect()
    });
}

#[test]
#[should_panic(expected = "a scoped thread panicked")]
fn a_filter_that_denies_its_keys_is_seen_to_bring_a_deleted_key_back() {
    merge_beside(|hint| {
        let filter_at = HintHeader::decode(hint[..80].try_into().unwrap()).unwrap().filter_at as usize;
        let empty = Filter::with_room_for(2).encode();
        assert_eq!(filter_at + empty.len(), hint.len());
        vec![[&hint[..filter_at], &empty].concat()]
    });
}

#[test]
fn every_flipped_bit_and_every_prefix_of_a_manifest_is_refused() {
    let history = History::closed(4 << 10);
    let file = path("MANIFEST");
    let bytes = history.files.iter().find(|(path, _)| *path == file).unwrap().1.clone();
    let refused = |damaged: &[u8], what: &str| {
        let (store, fs) = history.with(&file, damaged);
        match Engine::open(store.options) {
            Err(OpenError::Corrupt(corruption)) => assert_eq!(corruption.file, file, "{what}"),
            Err(other) => panic!("{what}: refused for another reason: {other}"),
            Ok(_) => panic!("{what} was not seen"),
        }
        assert_eq!(fs.list(Path::new(DIR)).unwrap().len(), history.files.len(), "nothing was removed");
    };
    in_parallel(bytes.len() * 8, |bit| refused(&flipped(&bytes, bit), &format!("bit {bit}")));
    in_parallel(bytes.len(), |cut| refused(&bytes[..cut], &format!("cut at {cut}")));
}

#[test]
fn a_value_that_changes_under_a_running_engine_is_an_error_with_its_place() {
    let (mut store, fs) = Store::in_memory();
    store.options.cache_size = 0;
    let mut engine = store.open().0;
    engine.put(0, b"key", b"some value", 0).unwrap();
    engine.commit().unwrap();
    let segment = manifest(&fs).segments[0].id;
    let file = fs.open(&segment_path(segment)).unwrap();
    let bytes = read(&fs, &segment_path(segment));
    let record = HEAD + group::HEADER as u64;
    for bit in record as usize * 8..bytes.len() * 8 {
        let byte = bit / 8;
        file.write_at(&[bytes[byte] ^ (1 << (bit % 8))], byte as u64).unwrap();
        match engine.get(0, b"key") {
            Err(ReadError::Corrupt(corruption)) => {
                assert_eq!(
                    (corruption.file, corruption.offset),
                    (segment_path(segment), record),
                    "bit {bit}"
                );
            }
            other => panic!("bit {bit}: {other:?}"),
        }
        file.write_at(&bytes[byte..=byte], byte as u64).unwrap();
        assert_eq!(engine.get(0, b"key").unwrap().as_deref(), Some(&b"some value"[..]));
    }
}
