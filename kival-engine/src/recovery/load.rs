//! Reading all sealed segments into the keydir: hints where they can be used, else the records.
//!
//! Segments are read by several threads; one puts the records into the keydir, in whatever order they
//! come. Sequences decide, so the order does not matter.

use super::Found;
use super::salvage::{Piece, salvage, zones};
use crate::engine::databases::{Databases, NAMESPACES, NamespaceMap, Space};
use crate::engine::options::OnCorruption;
use crate::engine::quarantine::{Quarantine, Zone};
use crate::error::{Corruption, Damage, OpenError};
use crate::format::hint::{self, BlockBuilder, HintEntry};
use crate::format::record::{self, Kind, record_size};
use crate::fs::read_full_at;
use crate::keydir::{Entry, ExpiryChange, Place};
use crate::log::Home;
use crate::log::hint_file::{HintReader, Unusable};
use crate::log::scan::{Group, Scanner, Step};
use crate::log::segments::Tally;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Blocks on their way from the readers to the keydir.
const IN_FLIGHT: usize = 16;
/// Namespace ids passed over after damage, for those that a lost map may have issued.
const LOST_NAMESPACES: u32 = 1 << 20;
/// Most threads that read segments.
pub(super) const READERS: usize = 4;
/// How often a long load says how far it is.
const PROGRESS: Duration = Duration::from_secs(2);

/// What was loaded.
pub(super) struct Loaded {
    pub(super) databases: Databases,
    /// Ids of the segments whose hint was of no use and can be made anew.
    pub(super) without_hint: Vec<u64>,
    /// Ids of the segments in which there is damage.
    pub(super) damaged: Vec<u64>,
    /// What is in doubt because of it.
    pub(super) quarantine: Quarantine,
    /// What each of the segments holds, as far as it could be read.
    pub(super) tallies: Vec<Tally>,
}

/// What is loaded: sealed segments, which stand in these slots.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) home: &'a Home,
    pub(super) sealed: &'a [Found],
    pub(super) slots: &'a [u32],
    pub(super) policy: OnCorruption,
}

/// What reading segments has shown.
#[derive(Default)]
struct Shown {
    without_hint: Vec<u64>,
    damaged: Vec<u64>,
    zones: Vec<Zone>,
}

/// A block of hint entries whose checksum was right.
struct Block {
    segment: usize,
    bytes: Vec<u8>,
}

/// Loads segments by at most so many threads.
pub(super) fn load(source: Source<'_>, databases: u32, most: usize) -> Result<Loaded, OpenError> {
    let next = AtomicUsize::new(0);
    let sealed = source.sealed;
    let readers = std::thread::available_parallelism().map_or(1, usize::from).min(most).min(sealed.len());
    let mut loader = Loader::new(source);
    let reader = |sender: SyncSender<Block>| -> Result<Shown, OpenError> {
        let mut shown = Shown::default();
        loop {
            let segment = next.fetch_add(1, Ordering::Relaxed);
            let Some(found) = sealed.get(segment) else { return Ok(shown) };
            read_segment(source, segment, found, &sender, &mut shown)?;
        }
    };
    let reader = &reader;
    let shown = std::thread::scope(|scope| {
        let (sender, blocks) = sync_channel::<Block>(IN_FLIGHT);
        let spawn = |_| {
            let sender = sender.clone();
            scope.spawn(move || reader(sender))
        };
        let threads: Vec<_> = (0..readers).map(spawn).collect();
        drop(sender);
        // On an error the channel is dropped, which stops the readers.
        let inserted = blocks.into_iter().try_for_each(|block| loader.insert(&block));
        let mut all = Shown::default();
        for thread in threads {
            let shown = thread.join().expect("a reader does not panic")?;
            all.without_hint.extend(shown.without_hint);
            all.damaged.extend(shown.damaged);
            all.zones.extend(shown.zones);
        }
        inserted.map(|()| all)
    })?;
    let tallies = std::mem::take(&mut loader.tallies);
    let (databases, quarantine) = loader.finish(databases, shown.zones)?;
    Ok(Loaded { databases, without_hint: shown.without_hint, damaged: shown.damaged, quarantine, tallies })
}

/// Sends the entries of a segment.
fn read_segment(
    source: Source<'_>,
    segment: usize,
    found: &Found,
    out: &SyncSender<Block>,
    shown: &mut Shown,
) -> Result<(), OpenError> {
    let home = source.home;
    let Err(reason) = read_hint(home, segment, found, out) else { return Ok(()) };
    tracing::info!(segment = %found.path.display(), %reason, "reading all records: its hint is of no use");
    if source.policy == OnCorruption::Refuse {
        read_records(home, segment, found, out)?;
        shown.without_hint.push(found.entry.id);
        return Ok(());
    }
    let sealed = found.entry.sealed.unwrap_or_default();
    let (mut sender, mut records, mut gaps) = (Sender::new(segment, out), 0, Vec::new());
    salvage(home, found, sealed.length, |piece| match piece {
        Piece::Group(group) => {
            records += u64::from(group.header.records);
            sender.push_all(group);
        }
        Piece::Gap(gap) => gaps.push(gap),
    })?;
    sender.finish();
    if gaps.is_empty() && !found.damaged {
        shown.without_hint.push(found.entry.id);
    } else {
        shown.damaged.push(found.entry.id);
        shown.zones.extend(zones(home, found, &sealed, records, &gaps));
    }
    Ok(())
}

/// Sends the entries of groups, block by block.
struct Sender<'a> {
    segment: usize,
    out: &'a SyncSender<Block>,
    block: BlockBuilder,
}

impl<'a> Sender<'a> {
    fn new(segment: usize, out: &'a SyncSender<Block>) -> Sender<'a> {
        Sender { segment, out, block: BlockBuilder::default() }
    }

    fn push_all(&mut self, group: &Group<'_>) {
        for (offset, record) in group.records() {
            if self.block.is_full_for(record.key.len()) {
                self.flush();
            }
            self.block.push(&HintEntry { header: record.header, offset, key: record.key });
        }
    }

    fn flush(&mut self) {
        // A closed channel means that the load has failed elsewhere.
        let _ = self.out.send(Block { segment: self.segment, bytes: self.block.finish().to_vec() });
        self.block.clear();
    }

    fn finish(mut self) {
        if !self.block.is_empty() {
            self.flush();
        }
    }
}

fn read_hint(home: &Home, segment: usize, found: &Found, out: &SyncSender<Block>) -> Result<(), Unusable> {
    let length = found.entry.sealed.unwrap_or_default().length;
    let mut reader = HintReader::open(&*home.fs, &home.dir, home.store, found.entry.id, length)?;
    while let Some(bytes) = reader.next_block()? {
        for entry in hint::entries(bytes)? {
            let entry = entry?;
            let end = entry.offset.checked_add(entry.header.record_size());
            if end.is_none_or(|end| end > length) {
                return Err(Damage::Field.into());
            }
        }
        if out.send(Block { segment, bytes: bytes.to_vec() }).is_err() {
            break;
        }
    }
    Ok(())
}

fn read_records(
    home: &Home,
    segment: usize,
    found: &Found,
    out: &SyncSender<Block>,
) -> Result<(), OpenError> {
    let length = found.entry.sealed.unwrap_or_default().length;
    let mut scanner = Scanner::new(found.file.clone(), home.store, found.first_group(), length, None);
    let mut sender = Sender::new(segment, out);
    loop {
        let place = scanner.position();
        match scanner.step().map_err(found.io("read"))? {
            Step::Group(group) => sender.push_all(&group),
            Step::End => break,
            Step::Broken(damage) => return Err(found.corruption(place.offset, damage)),
        }
    }
    sender.finish();
    Ok(())
}

/// A namespace while it is loaded: beside its keys what may still meet an older record.
struct Loading {
    space: Space,
    tombstones: HashMap<Box<[u8]>, u64>,
    /// Expiry records whose value has not come yet.
    changes: HashMap<Box<[u8]>, (u64, ExpiryChange)>,
}

struct Loader<'a> {
    home: &'a Home,
    sealed: &'a [Found],
    slots: &'a [u32],
    policy: OnCorruption,
    limit: u64,
    spaces: HashMap<u32, Loading>,
    /// The newest namespaces record: sequence, segment, offset, header.
    newest_map: Option<(u64, usize, u64, record::Header)>,
    records: u64,
    tallies: Vec<Tally>,
    started: Instant,
    told: Instant,
}

impl<'a> Loader<'a> {
    fn new(source: Source<'a>) -> Loader<'a> {
        let Source { home, sealed, slots, policy } = source;
        Loader {
            home,
            sealed,
            slots,
            policy,
            limit: home.manifest.get().sequence_limit,
            spaces: HashMap::new(),
            newest_map: None,
            records: 0,
            tallies: vec![Tally::default(); sealed.len()],
            started: Instant::now(),
            told: Instant::now(),
        }
    }

    fn insert(&mut self, block: &Block) -> Result<(), OpenError> {
        let found = &self.sealed[block.segment];
        let sound = "the reader has checked the block";
        for entry in hint::entries(&block.bytes).expect(sound) {
            let entry = entry.expect(sound);
            if entry.header.sequence > self.limit {
                let evidence = format!("{} holds a later record", found.path.display());
                return Err(OpenError::StaleManifest { dir: self.home.dir.to_path_buf(), evidence });
            }
            self.insert_entry(block.segment, &entry)?;
            self.tallies[block.segment].count(&entry.header);
            self.records += 1;
        }
        if self.told.elapsed() > PROGRESS {
            self.told = Instant::now();
            let total: u64 = self.sealed.iter().map(|f| f.entry.sealed.unwrap_or_default().records).sum();
            let seconds = self.started.elapsed().as_secs();
            tracing::info!(records = self.records, of = total, seconds, "loading");
        }
        Ok(())
    }

    fn insert_entry(&mut self, segment: usize, entry: &HintEntry<'_>) -> Result<(), OpenError> {
        let header = &entry.header;
        let place = Place::new(self.slots[segment], entry.offset);
        if header.kind == Kind::Namespaces {
            if self.newest_map.is_none_or(|(sequence, ..)| sequence < header.sequence) {
                self.newest_map = Some((header.sequence, segment, entry.offset, *header));
            }
            return Ok(());
        }
        let loading = self.spaces.entry(header.namespace).or_insert_with(|| Loading {
            space: Space::new(header.namespace),
            tombstones: HashMap::new(),
            changes: HashMap::new(),
        });
        match header.kind {
            Kind::Value => loading.value(entry.key, header, place),
            Kind::Tombstone => loading.tombstone(entry.key, header.sequence),
            Kind::Expiry => loading.expiry(entry.key, header, place),
            Kind::Root | Kind::Element | Kind::ElementTombstone | Kind::Namespaces => {
                return Err(self.sealed[segment].corruption(entry.offset, Damage::Unsupported));
            }
        }
        Ok(())
    }

    fn finish(mut self, databases: u32, zones: Vec<Zone>) -> Result<(Databases, Quarantine), OpenError> {
        let mut lost_map = None;
        let (mut map, record) = match self.newest_map {
            Some((sequence, segment, offset, header)) => match self.read_map(segment, offset, &header) {
                Ok(map) => {
                    let place = Place::new(self.slots[segment], offset);
                    (map, Some((sequence, place, header.record_size())))
                }
                Err(OpenError::Corrupt(corruption)) if self.policy == OnCorruption::Quarantine => {
                    lost_map = Some((sequence, corruption));
                    (NamespaceMap::default(), None)
                }
                Err(error) => return Err(error),
            },
            None => (NamespaceMap::default(), None),
        };
        if !zones.is_empty() || lost_map.is_some() {
            // What was issued by a map that is lost is not issued again.
            let seen = self.spaces.keys().copied().max().unwrap_or(0).max(map.next);
            map.next = seen.saturating_add(LOST_NAMESPACES);
        }
        let mut quarantine = Quarantine::new(zones, lost_map, map.next);
        for (&namespace, loading) in &self.spaces {
            for (key, &sequence) in &loading.tombstones {
                quarantine.note_deleted(namespace, key, sequence);
            }
        }
        quarantine.commit();
        let spaces = self.spaces.drain().map(|(id, loading)| (id, loading.space)).collect();
        Ok((Databases::new(&map, spaces, databases, record), quarantine))
    }

    fn read_map(
        &self,
        segment: usize,
        offset: u64,
        header: &record::Header,
    ) -> Result<NamespaceMap, OpenError> {
        let found = &self.sealed[segment];
        let mut bytes = vec![0; header.record_size() as usize];
        read_full_at(&*found.file, &mut bytes, offset).map_err(found.io("read"))?;
        let value = record::decode(&bytes).and_then(|record| {
            let expected = record.header == *header && header.namespace == NAMESPACES;
            if expected { NamespaceMap::decode(record.value) } else { Err(Damage::Misplaced) }
        });
        value.map_err(|damage| Corruption { file: found.path.clone(), offset, damage }.into())
    }
}

impl Loading {
    fn value(&mut self, key: &[u8], header: &record::Header, place: Place) {
        let sequence = header.sequence;
        if !self.tombstones.is_empty() && self.tombstones.get(key).is_some_and(|&gone| gone > sequence) {
            return;
        }
        let mut entry = Entry {
            place,
            sequence,
            value_size: header.value_size,
            data_type: header.data_type,
            access: 0,
            expiry: header.expiry,
            change: None,
        };
        // Optimistic: most keys of a load are new, and one look-up is enough for them.
        if let Some(before) = self.space.keydir.insert(key, entry) {
            if before.sequence >= sequence {
                self.space.keydir.insert(key, before);
                return;
            }
            self.space.retire_entry(key, &before);
            if let Some(change) = before.change.filter(|change| change.sequence > sequence) {
                entry.change = Some(change);
                entry.expiry = before.expiry;
                self.space.keydir.insert(key, entry);
            }
        }
        if !self.changes.is_empty() {
            let waiting = self.changes.remove(key);
            if let Some((expiry, change)) = waiting.filter(|(_, change)| change.sequence > sequence) {
                entry.change = Some(change);
                entry.expiry = expiry;
                self.space.keydir.insert(key, entry);
            }
        }
        self.space.enlist_entry(key, &entry);
    }

    fn tombstone(&mut self, key: &[u8], sequence: u64) {
        if let Some(before) = self.space.keydir.get(key)
            && before.sequence < sequence
        {
            self.space.retire_entry(key, &before);
            self.space.keydir.remove(key);
            // A later expiry belongs to a value that has not come yet.
            if let Some(change) = before.change.filter(|change| change.sequence > sequence) {
                self.changes.insert(key.into(), (before.expiry, change));
            }
        }
        match self.tombstones.get_mut(key) {
            Some(newest) => *newest = sequence.max(*newest),
            None => {
                self.tombstones.insert(key.into(), sequence);
            }
        }
    }

    fn expiry(&mut self, key: &[u8], header: &record::Header, place: Place) {
        let change = ExpiryChange { sequence: header.sequence, place };
        match self.space.keydir.get(key) {
            Some(mut entry) => {
                let newest = entry.change.map_or(entry.sequence, |change| change.sequence);
                if change.sequence > newest {
                    if let Some(older) = entry.change {
                        self.space.retire(older.place, record_size(key.len(), 0));
                    }
                    self.space.enlist(place, record_size(key.len(), 0));
                    entry.change = Some(change);
                    entry.expiry = header.expiry;
                    self.space.keydir.insert(key, entry);
                }
            }
            None => {
                let waiting = self.changes.get(key);
                if waiting.is_none_or(|(_, other)| other.sequence < change.sequence) {
                    self.changes.insert(key.into(), (header.expiry, change));
                }
            }
        }
    }
}
