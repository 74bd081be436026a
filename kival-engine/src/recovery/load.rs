//! Reading all sealed segments into the keydir: hints where they can be used, else the records.
//!
//! Segments are read and checked by several threads; one gathers what they find ([`super::gather`]), in
//! whatever order it comes.

use super::Found;
use super::gather::Gatherer;
use super::salvage::{Piece, salvage, zones};
use crate::engine::databases::Databases;
use crate::engine::options::OnCorruption;
use crate::engine::quarantine::{Quarantine, Zone};
use crate::error::{Damage, OpenError};
use crate::format::hint::{self, BlockBuilder, HintEntry};
use crate::format::record::Header;
use crate::log::Home;
use crate::log::hint_file::{HintReader, Unusable};
use crate::log::scan::{Group, Scanner, Step};
use crate::log::segments::Tally;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Blocks on their way from the readers to the keydir.
const IN_FLIGHT: usize = 4;
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
    /// What each segment holds.
    tallies: Vec<(usize, Tally)>,
}

/// A block of hint entries that are sound.
struct Block {
    segment: usize,
    records: u64,
    bytes: Vec<u8>,
}

/// What the readers have in common.
struct Desk<'a> {
    source: Source<'a>,
    /// No record has a sequence above it.
    limit: u64,
    /// The next segment to be read.
    next: AtomicUsize,
    /// Buffers of blocks that have been taken up. New ones would cost as much as filling them.
    buffers: Mutex<Vec<Vec<u8>>>,
}

/// Loads segments by at most so many threads.
pub(super) fn load(source: Source<'_>, databases: u32, most: usize) -> Result<Loaded, OpenError> {
    let sealed = source.sealed;
    let readers = std::thread::available_parallelism().map_or(1, usize::from).min(most).min(sealed.len());
    let desk = Desk {
        source,
        limit: source.home.manifest.get().sequence_limit,
        next: AtomicUsize::new(0),
        buffers: Mutex::default(),
    };
    let desk = &desk;
    let mut gatherer = Gatherer::new(sealed, source.slots, source.policy);
    let mut progress = Progress::of(sealed);
    let shown = std::thread::scope(|scope| {
        let (sender, blocks) = sync_channel::<Block>(IN_FLIGHT);
        let spawn = |_| {
            let sender = sender.clone();
            scope.spawn(move || desk.read_all(&sender))
        };
        let threads: Vec<_> = (0..readers).map(spawn).collect();
        drop(sender);
        // On an error the channel is dropped, which stops the readers.
        let gathered: Result<(), OpenError> = blocks.into_iter().try_for_each(|block| {
            gatherer.add_all(block.segment, hint::checked_entries(&block.bytes))?;
            progress.add(block.records);
            desk.hand_back(block.bytes);
            Ok(())
        });
        let mut all = Shown::default();
        for thread in threads {
            let shown = thread.join().expect("a reader does not panic")?;
            all.without_hint.extend(shown.without_hint);
            all.damaged.extend(shown.damaged);
            all.zones.extend(shown.zones);
            all.tallies.extend(shown.tallies);
        }
        gathered.map(|()| all)
    })?;
    let mut tallies = vec![Tally::default(); sealed.len()];
    shown.tallies.into_iter().for_each(|(segment, tally)| tallies[segment] = tally);
    let (databases, quarantine) = gatherer.finish(databases, shown.zones)?;
    Ok(Loaded { databases, without_hint: shown.without_hint, damaged: shown.damaged, quarantine, tallies })
}

/// How far a load is.
struct Progress {
    records: u64,
    of: u64,
    started: Instant,
    told: Instant,
}

impl Progress {
    fn of(sealed: &[Found]) -> Progress {
        let of = sealed.iter().map(|found| found.entry.sealed.unwrap_or_default().records).sum();
        Progress { records: 0, of, started: Instant::now(), told: Instant::now() }
    }

    fn add(&mut self, records: u64) {
        self.records += records;
        if self.told.elapsed() > PROGRESS {
            self.told = Instant::now();
            let seconds = self.started.elapsed().as_secs();
            tracing::info!(records = self.records, of = self.of, seconds, "loading");
        }
    }
}

/// What the records of a segment add up to.
#[derive(Default)]
struct Sum {
    tally: Tally,
    /// The highest sequence of all that was sent.
    highest: u64,
}

impl Sum {
    fn count(&mut self, header: &Header) {
        self.tally.count(header);
        self.highest = self.highest.max(header.sequence);
    }
}

impl Desk<'_> {
    /// Reads segments until there are none left.
    fn read_all(&self, out: &SyncSender<Block>) -> Result<Shown, OpenError> {
        let mut shown = Shown::default();
        loop {
            let segment = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(found) = self.source.sealed.get(segment) else { return Ok(shown) };
            let mut sender = Sender {
                desk: self,
                segment,
                out,
                block: BlockBuilder::default(),
                records: 0,
                sum: Sum::default(),
            };
            self.read_segment(found, &mut sender, &mut shown)?;
            if sender.sum.highest > self.limit {
                let evidence = format!("{} holds a later record", found.path.display());
                return Err(OpenError::StaleManifest { dir: self.source.home.dir.to_path_buf(), evidence });
            }
            shown.tallies.push((segment, sender.sum.tally));
        }
    }

    /// A buffer to read a block into.
    fn buffer(&self) -> Vec<u8> {
        self.buffers.lock().expect("nobody panics with it").pop().unwrap_or_default()
    }

    fn hand_back(&self, buffer: Vec<u8>) {
        if buffer.capacity() <= 2 * hint::MAX_BLOCK {
            self.buffers.lock().expect("nobody panics with it").push(buffer);
        }
    }

    /// Sends the entries of a segment.
    fn read_segment(
        &self,
        found: &Found,
        sender: &mut Sender<'_>,
        shown: &mut Shown,
    ) -> Result<(), OpenError> {
        let home = self.source.home;
        let Err(reason) = sender.send_hint(home, found) else { return Ok(()) };
        tracing::info!(segment = %found.path.display(), %reason, "reading all records: its hint is of no use");
        // What has been sent of it was sound; it comes again.
        sender.sum.tally = Tally::default();
        if self.source.policy == OnCorruption::Refuse {
            sender.send_records(home, found)?;
            shown.without_hint.push(found.entry.id);
            return Ok(());
        }
        let sealed = found.entry.sealed.unwrap_or_default();
        let (mut records, mut gaps) = (0, Vec::new());
        salvage(home, found, sealed.length, |piece| match piece {
            Piece::Group(group) => {
                records += u64::from(group.header.records);
                sender.push_all(group);
            }
            Piece::Gap(gap) => gaps.push(gap),
        })?;
        sender.flush();
        if gaps.is_empty() && !found.damaged {
            shown.without_hint.push(found.entry.id);
        } else {
            shown.damaged.push(found.entry.id);
            shown.zones.extend(zones(home, found, &sealed, records, &gaps));
        }
        Ok(())
    }
}

/// Sends the entries of one segment, block by block, and adds them up.
struct Sender<'a> {
    desk: &'a Desk<'a>,
    segment: usize,
    out: &'a SyncSender<Block>,
    block: BlockBuilder,
    /// How many are in the block.
    records: u64,
    sum: Sum,
}

impl Sender<'_> {
    /// Sends a block; false if nobody wants it, because the load has failed elsewhere.
    fn send(&self, bytes: Vec<u8>, records: u64) -> bool {
        self.out.send(Block { segment: self.segment, records, bytes }).is_ok()
    }

    fn push_all(&mut self, group: &Group<'_>) {
        for (offset, record) in group.records() {
            if self.block.is_full_for(record.key.len()) {
                self.flush();
            }
            self.block.push(&HintEntry { header: record.header, offset, key: record.key });
            self.records += 1;
            self.sum.count(&record.header);
        }
    }

    fn flush(&mut self) {
        if self.block.is_empty() {
            return;
        }
        let mut bytes = self.desk.buffer();
        bytes.clear();
        bytes.extend_from_slice(self.block.finish());
        let records = std::mem::take(&mut self.records);
        self.send(bytes, records);
        self.block.clear();
    }

    fn send_hint(&mut self, home: &Home, found: &Found) -> Result<(), Unusable> {
        let length = found.entry.sealed.unwrap_or_default().length;
        let mut reader = HintReader::open(&*home.fs, &home.dir, home.store, found.entry.id, length)?;
        loop {
            let mut bytes = self.desk.buffer();
            if !reader.read_block(&mut bytes)? {
                return Ok(());
            }
            let mut records = 0;
            for entry in hint::entries(&bytes)? {
                let entry = entry?;
                let end = entry.offset.checked_add(entry.header.record_size());
                if end.is_none_or(|end| end > length) {
                    return Err(Damage::Field.into());
                }
                self.sum.count(&entry.header);
                records += 1;
            }
            if !self.send(bytes, records) {
                return Ok(());
            }
        }
    }

    fn send_records(&mut self, home: &Home, found: &Found) -> Result<(), OpenError> {
        let length = found.entry.sealed.unwrap_or_default().length;
        let mut scanner = Scanner::new(found.file.clone(), home.store, found.first_group(), length, None);
        loop {
            let place = scanner.position();
            match scanner.step().map_err(found.io("read"))? {
                Step::Group(group) => self.push_all(&group),
                Step::End => break,
                Step::Broken(damage) => return Err(found.corruption(place.offset, damage)),
            }
        }
        self.flush();
        Ok(())
    }
}
