//! A merge: sealed segments in, what is live of them out.
//!
//! The order of steps is what makes it survive a crash anywhere: outputs and their hints are written and
//! synced; the log is synced through every record that judged another dead; one manifest exchanges inputs
//! for outputs; only then entries are repointed, and only then inputs removed.

use super::fate::{Fate, Floors, Judge};
use super::output::{Output, Writer};
use super::pace::Pace;
use super::progress::Meter;
use super::{Batch, Question};
use crate::error::Damage;
use crate::format::group::{self, Position};
use crate::format::hint::{self, HintEntry};
use crate::format::manifest::SegmentEntry;
use crate::format::record::Kind;
use crate::format::segment::hint_name;
use crate::fs::File;
use crate::log::Home;
use crate::log::hint_file::HintReader;
use crate::log::scan::{self, Raw, Scanner, Step, read_segment_header};
use crate::log::segments::Segment;
use crate::log::sync::Waker;
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Records judged with one question.
const BATCH: usize = 512;
/// Bytes of records held while they are judged; a larger group is judged by itself.
const BATCH_BYTES: usize = 1 << 20;

/// A segment to be merged.
pub(crate) struct Input {
    pub(crate) id: u64,
    pub(crate) file: Arc<dyn File>,
    pub(crate) path: Arc<PathBuf>,
    pub(crate) length: u64,
    pub(crate) records: u64,
    /// The highest sequence in it.
    pub(crate) highest: u64,
    /// Nothing in it is live.
    pub(crate) wholly_dead: bool,
    /// And nothing in it has to be judged: all of it can go.
    pub(crate) counts_for_nothing: bool,
}

impl Input {
    /// The input that a segment is.
    pub(crate) fn of(segment: &Segment, live: u64) -> Input {
        Input {
            id: segment.id,
            file: segment.file.clone(),
            path: segment.path.clone(),
            length: segment.bytes,
            records: segment.summary.records,
            highest: segment.summary.highest,
            wholly_dead: live == 0,
            counts_for_nothing: false,
        }
    }
}

/// The way to the engine task.
pub(super) struct Line {
    pub(super) questions: SyncSender<Question>,
    pub(super) waker: Waker,
    pub(super) stop: Arc<AtomicBool>,
    /// In lockstep: what comes when the merge may go on.
    pub(super) go: Option<Receiver<()>>,
}

fn stopped() -> io::Error {
    io::Error::other("the store is being closed")
}

impl Line {
    /// Whether the engine wants no more of this merge.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn tell(&self, question: Question) -> io::Result<()> {
        if self.is_stopped() {
            return Err(stopped());
        }
        self.questions.send(question).map_err(|_| stopped())?;
        (self.waker)();
        self.wait_for_turn()
    }

    /// In lockstep the merge runs only while the engine's owner lets it.
    fn wait_for_turn(&self) -> io::Result<()> {
        self.go.as_ref().map_or(Ok(()), |go| go.recv().map_err(|_| stopped()))
    }

    pub(super) fn ask<T>(&self, question: impl FnOnce(SyncSender<T>) -> Question) -> io::Result<T> {
        let (sender, answer) = sync_channel(1);
        self.tell(question(sender))?;
        answer.recv().map_err(|_| stopped())
    }
}

/// What a merge is to do.
pub(super) struct Task {
    pub(super) inputs: Vec<Input>,
    /// Bytes at which an output is full.
    pub(super) target: u64,
    /// What was superseded above this stays.
    pub(super) cut: u64,
    /// The last sequence of all when the merge began.
    pub(super) last: u64,
    pub(super) meter: Arc<Meter>,
    pub(super) pace: Pace,
}

/// Runs a merge to its end, and says how it ended.
pub(super) fn run(home: &Home, line: &Line, mut task: Task) {
    // A panic has been printed. Whoever waits for the merge must hear of its end all the same.
    let work = AssertUnwindSafe(|| line.wait_for_turn().and_then(|()| merge(home, line, &mut task)));
    let result = std::panic::catch_unwind(work).unwrap_or_else(|_| Err(io::Error::other("it panicked")));
    // If the engine has gone, nobody asks how it went.
    let _ = line.tell(Question::Ended(result.map_err(|error| error.to_string())));
}

fn merge(home: &Home, line: &Line, task: &mut Task) -> io::Result<()> {
    let Task { inputs, target, cut, last, meter, pace } = task;
    let inputs = &**inputs;
    let mut work = Work {
        line,
        judge: Judge::new(home, line, inputs, *cut),
        writer: Writer::new(home, inputs, *target, meter),
        meter,
        pace,
        store: home.store,
        last: *last,
    };
    let copied = inputs.iter().try_for_each(|input| work.take(home, input));
    let Work { judge, mut writer, .. } = work;
    if let Err(error) = copied.and_then(|()| writer.finish_output()) {
        writer.remove_all();
        return Err(error);
    }
    if let Err(error) = switch(home, line, inputs, &writer.done, &judge.floors) {
        // A switch that could not be synced is not known to have failed.
        if writer.done.iter().all(|output| !home.manifest.names(output.id)) {
            writer.remove_all();
        }
        return Err(error);
    }
    let outputs = std::mem::take(&mut writer.done);
    let ids: Vec<u64> = outputs.iter().map(|output| output.id).collect();
    for output in outputs {
        line.tell(Question::Adopt(Box::new(output)))?;
    }
    for id in ids {
        repoint(home, line, id)?;
    }
    line.ask(|done| Question::Release(inputs.iter().map(|input| input.id).collect(), done))?;
    for input in inputs {
        home.fs.remove(&input.path)?;
        // A hint is never needed.
        let _ = home.fs.remove(&home.dir.join(hint_name(input.id)));
    }
    Ok(())
}

/// Exchanges inputs for outputs in the manifest.
fn switch(home: &Home, line: &Line, inputs: &[Input], outputs: &[Output], floors: &Floors) -> io::Result<()> {
    // What judged a record dead must be on disk before that record is gone.
    let (waiter, sequence) = line.ask(Question::SyncLog)?;
    waiter.wait(sequence).map_err(io::Error::other)?;
    home.manifest.update(|manifest| {
        manifest.segments.retain(|entry| inputs.iter().all(|input| input.id != entry.id));
        manifest.segments.extend(outputs.iter().map(|output| SegmentEntry {
            id: output.id,
            merged: true,
            sealed: Some(output.summary),
        }));
        manifest.feed_floor = manifest.feed_floor.max(floors.feed);
        manifest.restore_floor = manifest.restore_floor.max(floors.restore);
    })
}

/// A merge at its inputs.
struct Work<'a> {
    line: &'a Line,
    judge: Judge<'a>,
    writer: Writer<'a>,
    meter: &'a Meter,
    pace: &'a mut Pace,
    store: u64,
    last: u64,
}

impl Work<'_> {
    /// Has the records of an input judged, and writes those that count.
    fn take(&mut self, home: &Home, input: &Input) -> io::Result<()> {
        if input.counts_for_nothing {
            self.judge.drop_all(input.highest, self.last);
        }
        if input.counts_for_nothing || input.wholly_dead && self.can_go(home, input)? {
            Meter::add(&self.meter.dropped, input.records);
            self.meter.total.fetch_sub(input.length, Ordering::Relaxed);
            return Ok(());
        }
        self.copy(input)
    }

    /// Whether all records of a segment can be left out: its hint tells what they are, so that the
    /// segment need not be read. A hint that is of no use, or one record that must stay, says no.
    fn can_go(&mut self, home: &Home, input: &Input) -> io::Result<bool> {
        let reader = HintReader::open(&*home.fs, &home.dir, home.store, input.id, input.length);
        let Ok(mut reader) = reader else { return Ok(false) };
        let mut records = 0;
        loop {
            let Ok(block) = reader.next_block() else { return Ok(false) };
            let Some(block) = block else { return Ok(records == input.records) };
            self.pace.spend(block.len() as u64)?;
            let Ok(entries) = hint::entries(block) else { return Ok(false) };
            let Ok(entries) = entries.collect::<Result<Vec<_>, _>>() else { return Ok(false) };
            for entries in entries.chunks(BATCH) {
                let mut batch = Batch::default();
                entries.iter().for_each(|entry| batch.push(&entry.header, entry.key));
                if self.judge.fates(batch)?.iter().any(|fate| *fate != Fate::Drop) {
                    return Ok(false);
                }
                records += entries.len() as u64;
            }
        }
    }

    fn copy(&mut self, input: &Input) -> io::Result<()> {
        let header = match read_segment_header(&*input.file, self.store, input.id)? {
            Ok(header) => header,
            Err(damage) => return Err(self.refuse(input, 0, damage)),
        };
        Meter::add(&self.meter.read, header.size());
        let first_group = Position { segment: input.id, offset: header.size() };
        let mut scanner = Scanner::new(input.file.clone(), self.store, first_group, input.length, None);
        let mut gathered = Gathered::default();
        loop {
            let place = scanner.position();
            match scanner.step()? {
                Step::Group(group) => {
                    let (body, second) = (group.body(), group.header.time_ms / 1000);
                    if !gathered.has_room_for(body) {
                        self.copy_records(gathered.records())?;
                        gathered.clear();
                    }
                    if gathered.has_room_for(body) {
                        gathered.add(body, second);
                    } else {
                        self.copy_records(scan::records(body).map(|record| (record, second)))?;
                    }
                    let size = (body.len() + group::HEADER) as u64;
                    Meter::add(&self.meter.read, size);
                    self.pace.spend(size)?;
                }
                Step::End => return self.copy_records(gathered.records()),
                Step::Broken(damage) => return Err(self.refuse(input, place.offset, damage)),
            }
        }
    }

    /// Tells of an input that does not read back, so that the next merge leaves it out.
    fn refuse(&self, input: &Input, offset: u64, damage: Damage) -> io::Error {
        // A store that is being closed forgets it, and finds it again.
        let _ = self.line.tell(Question::Damaged(input.id));
        io::Error::other(format!("{}: offset {offset}: {damage}", input.path.display()))
    }

    /// Has records judged, and writes those that count; each comes with the second of its group.
    fn copy_records<'r>(&mut self, records: impl Iterator<Item = (Raw<'r>, u64)> + Clone) -> io::Result<()> {
        let mut rest = records;
        loop {
            let (met, mut batch) = (rest.clone(), Batch::default());
            for (raw, _) in rest.by_ref().take(BATCH) {
                batch.push(&raw.record.header, raw.record.key);
            }
            if batch.len() == 0 {
                return Ok(());
            }
            for ((raw, second), fate) in met.zip(self.judge.fates(batch)?) {
                let held_until = match fate {
                    Fate::Drop => {
                        Meter::add(&self.meter.dropped, 1);
                        continue;
                    }
                    Fate::Copy => None,
                    Fate::Hold { until } => Some(until),
                };
                self.writer.copy(&raw, second, held_until, self.pace)?;
            }
        }
    }
}

/// Bodies of small groups, which are judged together: each question costs the engine a turn.
#[derive(Default)]
struct Gathered {
    bytes: Vec<u8>,
    /// Where each group ends, and its second.
    groups: Vec<(usize, u64)>,
}

impl Gathered {
    fn has_room_for(&self, body: &[u8]) -> bool {
        self.bytes.len() + body.len() <= BATCH_BYTES
    }

    fn add(&mut self, body: &[u8], second: u64) {
        self.bytes.extend_from_slice(body);
        self.groups.push((self.bytes.len(), second));
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.groups.clear();
    }

    fn records(&self) -> impl Iterator<Item = (Raw<'_>, u64)> + Clone {
        let mut begin = 0;
        let groups = self.groups.iter().map(move |(end, second)| {
            let body = &self.bytes[begin..*end];
            begin = *end;
            (body, *second)
        });
        groups.flat_map(|(body, second)| scan::records(body).map(move |record| (record, second)))
    }
}

/// Hands back where the copies of an output stand, as its hint tells.
fn repoint(home: &Home, line: &Line, id: u64) -> io::Result<()> {
    let path = home.dir.join(hint_name(id));
    let unusable = |error: &dyn std::fmt::Display| io::Error::other(format!("{}: {error}", path.display()));
    let length = home.manifest.get().segments.iter().find(|entry| entry.id == id).and_then(|e| e.sealed);
    let length = length.map_or(0, |sealed| sealed.length);
    let mut reader =
        HintReader::open(&*home.fs, &home.dir, home.store, id, length).map_err(|error| unusable(&error))?;
    while let Some(block) = reader.next_block().map_err(|error| unusable(&error))? {
        let (mut copies, mut offsets) = (Batch::default(), Vec::new());
        for entry in hint::entries(block).map_err(|error| unusable(&error))? {
            let HintEntry { header, offset, key } = entry.map_err(|error| unusable(&error))?;
            if header.kind != Kind::Tombstone {
                copies.push(&header, key);
                offsets.push(offset);
            }
            if copies.len() >= BATCH {
                let (copies, offsets) = (std::mem::take(&mut copies), std::mem::take(&mut offsets));
                line.tell(Question::Repoint(id, copies, offsets))?;
            }
        }
        line.tell(Question::Repoint(id, copies, offsets))?;
    }
    Ok(())
}
