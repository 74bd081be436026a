//! The scrub thread: it reads the log from the disk while the store is used, and says which places of it
//! are damaged.
//!
//! It holds the files open and knows nothing of the keydir, so neither writes nor merges disturb it: a
//! segment that a merge has removed meanwhile is read to its end. It changes nothing.

use super::Home;
use super::hint_file::HintReader;
use super::scan::{Scanner, read_segment_header};
use super::walk::{Break, Piece, walk};
use crate::error::Damage;
use crate::format::group::{self, Position};
use crate::format::hint;
use crate::format::record::{self, Header};
use crate::fs::{File, read_full_at};
use crate::priority;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Places that are kept to be shown. All are counted and logged.
pub(crate) const PLACES: usize = 1000;
/// A pause is taken in parts as long as this, so that a changed rate counts at once.
const PAUSE: Duration = Duration::from_millis(100);

/// A place of the log that does not read back as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedPlace {
    /// The segment's file.
    pub file: PathBuf,
    /// Where the damaged record, group header or stretch begins, in bytes.
    pub offset: u64,
    /// Where it ends, in bytes.
    pub end: u64,
    /// What is wrong there.
    pub fault: Fault,
    /// The key whose record stood there, live or not, where the segment's hint knows it.
    pub key: Option<Box<[u8]>>,
}

/// What is wrong with a place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It can be read, and is not what was written.
    #[error("{0}")]
    Damaged(Damage),
    /// The system could not read it, nor was the rest of the file read.
    #[error("cannot be read: {0}")]
    Unreadable(String),
}

/// A segment to be read, up to its durable end.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) id: u64,
    pub(crate) file: Arc<dyn File>,
    pub(crate) path: Arc<PathBuf>,
    pub(crate) end: u64,
}

/// How far a scrub is, shared with its thread.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Bytes a second that may be read; 0 is no limit.
    pub(crate) rate: AtomicU64,
    pub(crate) read: AtomicU64,
    pub(crate) ended: AtomicBool,
    findings: Mutex<Findings>,
}

/// What was found so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Findings {
    pub(crate) damaged: u64,
    /// The first of them.
    pub(crate) places: Vec<DamagedPlace>,
    /// When it had read everything, in Unix milliseconds; 0 for not yet.
    pub(crate) finished_ms: u64,
}

impl Shared {
    pub(crate) fn findings(&self) -> MutexGuard<'_, Findings> {
        // The findings are valid at every instruction: a panic elsewhere does not spoil them.
        self.findings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, place: DamagedPlace) {
        let key = place.key.as_deref().map(|key| key.escape_ascii().to_string());
        tracing::warn!(
            file = %place.file.display(), offset = place.offset, end = place.end, key,
            "the scrub found damage: {}", place.fault
        );
        let mut findings = self.findings();
        findings.damaged += 1;
        if findings.places.len() < PLACES {
            findings.places.push(place);
        }
    }
}

/// The thread's handle; dropped, it ends the thread and waits for that.
#[derive(Debug)]
pub(crate) struct ScrubThread {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ScrubThread {
    /// Starts to read these segments.
    pub(crate) fn start(
        home: &Home,
        targets: Vec<Target>,
        shared: Arc<Shared>,
        done: impl Fn() + Send + 'static,
    ) -> io::Result<ScrubThread> {
        let (stop, stopped) = channel();
        let mut scrub = Scrub { home: home.clone(), shared, stopped, debt: 0 };
        let work = move || {
            priority::step_back();
            scrub.run(&targets);
            done();
        };
        let thread = std::thread::Builder::new().name("kival-scrub".into()).spawn(work)?;
        Ok(ScrubThread { stop: Some(stop), thread: Some(thread) })
    }

    /// Tells it to end, and does not wait for that: a read of the disk may hang.
    pub(crate) fn stop(&mut self) {
        self.stop = None;
    }

    /// Whether it has been told to end.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.is_none()
    }
}

impl Drop for ScrubThread {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has already been printed; it has changed nothing.
            let _ = thread.join();
        }
    }
}

/// Why a segment was not read to its end.
enum Stop {
    Asked,
    Read(io::Error),
}

impl From<()> for Stop {
    fn from((): ()) -> Stop {
        Stop::Asked
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Read(error)
    }
}

struct Scrub {
    home: Home,
    shared: Arc<Shared>,
    /// Closed when the scrub is to end.
    stopped: Receiver<()>,
    /// Bytes read that no pause has paid for.
    debt: u64,
}

impl Scrub {
    fn run(&mut self, targets: &[Target]) {
        let whole = targets.iter().try_for_each(|target| self.segment(target)).is_ok();
        let bytes = self.shared.read.load(Ordering::Relaxed);
        let mut findings = self.shared.findings();
        let damaged = findings.damaged;
        if whole {
            findings.finished_ms = self.home.clock.now_ms();
        }
        drop(findings);
        match (whole, damaged) {
            (true, 0) => tracing::info!(bytes, "the scrub has read the whole log and found no damage"),
            (true, _) => tracing::warn!(bytes, damaged, "the scrub has read the whole log and found damage"),
            (false, _) => tracing::info!(bytes, damaged, "the scrub was stopped"),
        }
        self.shared.ended.store(true, Ordering::Release);
    }

    /// Reads one segment; fails if it is to stop.
    fn segment(&mut self, target: &Target) -> Result<(), ()> {
        target.file.forget_cached();
        let (store, id) = (self.home.store, target.id);
        let from = match read_segment_header(&*target.file, store, id) {
            Ok(Ok(header)) => header.size(),
            // What stands before the first group is then the first broken place.
            Ok(Err(_)) => 0,
            Err(error) => {
                self.unreadable(target, 0, &error);
                return Ok(());
            }
        };
        self.paid(from)?;
        let from = Position { segment: id, offset: from };
        let mut scanner = Scanner::new(target.file.clone(), store, from, target.end, None);
        let mut hint = None;
        let walked = walk(&mut scanner, &mut |piece| {
            let bytes = match piece {
                Piece::Group(group) => group.header.group_size().unwrap_or(0),
                Piece::Break(broken) => {
                    let rows = match &mut hint {
                        Some(rows) => rows,
                        None => hint.insert(self.rows(target)?),
                    };
                    for place in self.places(target, &broken, rows.as_deref())? {
                        self.shared.report(place);
                    }
                    broken.end - broken.at.offset
                }
            };
            Ok(self.paid(bytes)?)
        });
        match walked {
            Ok(()) => Ok(()),
            Err(Stop::Asked) => Err(()),
            Err(Stop::Read(error)) => {
                let offset = scanner.position().offset;
                self.unreadable(target, offset, &error);
                Ok(())
            }
        }
    }

    fn unreadable(&self, target: &Target, offset: u64, error: &io::Error) {
        self.shared.report(DamagedPlace {
            file: target.path.to_path_buf(),
            offset,
            end: target.end,
            fault: Fault::Unreadable(error.to_string()),
            key: None,
        });
    }

    /// Counts bytes of the log that were read, and pays for them; fails if it is to stop.
    fn paid(&mut self, bytes: u64) -> Result<(), ()> {
        self.shared.read.fetch_add(bytes, Ordering::Relaxed);
        self.pause(bytes)
    }

    /// Pauses for as long as the rate wants for so many bytes read; fails if it is to stop.
    fn pause(&mut self, bytes: u64) -> Result<(), ()> {
        self.debt += bytes;
        loop {
            let rate = self.shared.rate.load(Ordering::Relaxed);
            let part = (rate / 10).max(1);
            let pause = if rate == 0 || self.debt < part {
                Duration::ZERO
            } else {
                self.debt -= part;
                PAUSE
            };
            if rate == 0 {
                self.debt = 0;
            }
            match self.stopped.recv_timeout(pause) {
                Err(RecvTimeoutError::Timeout) if pause.is_zero() => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return Err(()),
            }
        }
    }

    /// What the segment's hint says; `None` without one that fits.
    fn rows(&mut self, target: &Target) -> Result<Option<Vec<Row>>, Stop> {
        let home = self.home.clone();
        let opened = HintReader::open(&*home.fs, &home.dir, home.store, target.id, target.end);
        let Ok(mut reader) = opened else { return Ok(None) };
        let mut rows = Vec::new();
        loop {
            let block = match reader.next_block() {
                Ok(Some(block)) => block,
                Ok(None) => return Ok(Some(rows)),
                Err(_) => return Ok(None),
            };
            let Ok(size) = read_rows(block, &mut rows) else { return Ok(None) };
            self.pause(size)?;
        }
    }

    /// The damaged places inside a broken one, as closely as the hint, or the records in line behind a sound
    /// group header, tell.
    fn places(
        &mut self,
        target: &Target,
        broken: &Break,
        rows: Option<&[Row]>,
    ) -> Result<Vec<DamagedPlace>, Stop> {
        let place = |offset: u64, end: u64, damage: Damage, key: Option<Box<[u8]>>| DamagedPlace {
            file: target.path.to_path_buf(),
            offset,
            end,
            fault: Fault::Damaged(damage),
            key,
        };
        let (at, end) = (broken.at.offset, broken.end);
        let mut found = Vec::new();
        let Some(rows) = rows else {
            let from = first_unsound(target, broken)?;
            found.push(place(from, end, broken.damage, None));
            return Ok(found);
        };
        if broken.header.is_none() {
            found.push(place(at, end.min(at + group::HEADER as u64), broken.damage, None));
        }
        for row in rows.iter().filter(|row| (at..end).contains(&row.offset)) {
            let size = row.header.record_size();
            if let Err(damage) = check(&*target.file, row)? {
                found.push(place(row.offset, row.offset + size, damage, Some(row.key.clone())));
            }
            self.pause(size)?;
        }
        if found.is_empty() {
            // All records are as they were: their order, number or group is not.
            found.push(place(at, end, broken.damage, None));
        }
        Ok(found)
    }
}

/// A record as a hint describes it.
struct Row {
    header: Header,
    offset: u64,
    key: Box<[u8]>,
}

/// Adds what a block of a hint says; gives the block's size in bytes.
fn read_rows(block: &[u8], rows: &mut Vec<Row>) -> Result<u64, Damage> {
    for entry in hint::entries(block)? {
        let entry = entry?;
        rows.push(Row { header: entry.header, offset: entry.offset, key: entry.key.into() });
    }
    Ok(block.len() as u64)
}

/// Where the first record stands that is not sound, if the group's header is; else where the group stands.
fn first_unsound(target: &Target, broken: &Break) -> io::Result<u64> {
    let at = broken.at.offset;
    let Some(size) = broken.header.and_then(|header| header.group_size()) else { return Ok(at) };
    let mut bytes = vec![0; size.min(broken.end - at) as usize];
    let read = read_full_at(&*target.file, &mut bytes, at)?;
    let mut rest = bytes[..read].get(group::HEADER..).unwrap_or_default();
    let end = at + read as u64;
    while let Ok(record) = record::decode(rest) {
        rest = &rest[record.header.record_size() as usize..];
    }
    // Where every record is sound the group as a whole is not.
    Ok(if rest.is_empty() { at } else { end - rest.len() as u64 })
}

/// Whether the record that a hint names stands where it should.
fn check(file: &dyn File, row: &Row) -> io::Result<Result<(), Damage>> {
    let mut bytes = vec![0; row.header.record_size() as usize];
    let read = read_full_at(file, &mut bytes, row.offset)?;
    bytes.truncate(read);
    Ok(record::decode(&bytes).and_then(|record| {
        let same = record.header == row.header && *record.key == *row.key;
        if same { Ok(()) } else { Err(Damage::Misplaced) }
    }))
}
