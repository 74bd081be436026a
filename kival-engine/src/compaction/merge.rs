//! A merge: sealed segments in, what is live of them out.
//!
//! The order of steps is what makes it survive a crash anywhere: outputs and their hints are written and
//! synced; the log is synced through every record that judged another dead; one manifest exchanges inputs
//! for outputs; only then entries are repointed, and only then inputs removed.

use super::{Candidate, Copied, Question, Verdict};
use crate::format::filter;
use crate::format::group::{self, GroupHeader, Position};
use crate::format::hint::{self, HintEntry};
use crate::format::manifest::{Sealed, SegmentEntry};
use crate::format::record::{self, Kind, Record};
use crate::format::segment::{SegmentHeader, file_name, hint_name};
use crate::fs::{File, write_all_at};
use crate::log::Home;
use crate::log::hint_file::{HintReader, HintWriter};
use crate::log::scan::{Scanner, Step, read_segment_header};
use crate::log::segments::Segment;
use crate::log::sync::Waker;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Records judged with one question.
const BATCH: usize = 256;
/// Bytes of records held while they are judged; a larger record is alone in its batch.
const BATCH_BYTES: usize = 1 << 20;
/// A group is written when it has this many bytes.
const GROUP_BYTES: usize = 256 << 10;

/// A segment to be merged.
pub(crate) struct Input {
    pub(crate) id: u64,
    pub(crate) file: Arc<dyn File>,
    pub(crate) path: Arc<PathBuf>,
    pub(crate) length: u64,
}

impl Input {
    /// The input that a segment is.
    pub(crate) fn of(segment: &Segment) -> Input {
        Input {
            id: segment.id,
            file: segment.file.clone(),
            path: segment.path.clone(),
            length: segment.bytes,
        }
    }
}

/// A segment that a merge has made.
pub(crate) struct Output {
    pub(crate) id: u64,
    pub(crate) file: Arc<dyn File>,
    pub(crate) summary: Sealed,
    /// Bytes that were never live: tombstones, headers.
    pub(crate) kept: u64,
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
    fn tell(&self, question: Question) -> io::Result<()> {
        if self.stop.load(Ordering::Relaxed) {
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

    fn ask<T>(&self, question: impl FnOnce(SyncSender<T>) -> Question) -> io::Result<T> {
        let (sender, answer) = sync_channel(1);
        self.tell(question(sender))?;
        answer.recv().map_err(|_| stopped())
    }
}

/// Runs a merge to its end, and says how it ended.
pub(super) fn run(home: &Home, line: &Line, inputs: Vec<Input>, target: u64, read: &AtomicU64) {
    let result = line.wait_for_turn().and_then(|()| merge(home, line, &inputs, target, read));
    // If the engine has gone, nobody asks how it went.
    let _ = line.tell(Question::Ended(result.map_err(|error| error.to_string())));
}

/// The highest sequences that were dropped, and that superseded something dropped.
#[derive(Default)]
struct Floors {
    feed: u64,
    restore: u64,
}

fn merge(home: &Home, line: &Line, inputs: &[Input], target: u64, read: &AtomicU64) -> io::Result<()> {
    let outside = Outside::load(home, inputs);
    let mut writer = Writer { home, inputs, target, open: None, done: Vec::new() };
    let mut floors = Floors::default();
    let copied = copy_all(line, inputs, &outside, &mut writer, &mut floors, read, home.store)
        .and_then(|()| writer.finish_output());
    if let Err(error) = copied {
        writer.remove_all();
        return Err(error);
    }
    if let Err(error) = switch(home, line, inputs, &writer.done, &floors) {
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

/// Reads all inputs, has their records judged, and writes those that count.
fn copy_all(
    line: &Line,
    inputs: &[Input],
    outside: &Outside,
    writer: &mut Writer<'_>,
    floors: &mut Floors,
    read: &AtomicU64,
    store: u64,
) -> io::Result<()> {
    for input in inputs {
        let damaged = |offset: u64, damage| {
            io::Error::other(format!("{}: offset {offset}: {damage}", input.path.display()))
        };
        let header =
            read_segment_header(&*input.file, store, input.id)?.map_err(|damage| damaged(0, damage))?;
        let first_group = Position { segment: input.id, offset: header.size() };
        let mut scanner = Scanner::new(input.file.clone(), store, first_group, input.length, None);
        loop {
            let place = scanner.position();
            match scanner.step()? {
                Step::Group(group) => {
                    let second = group.header.time_ms / 1000;
                    let mut batch: Vec<Record<'_>> = Vec::new();
                    let mut bytes = 0;
                    for (_, record) in group.records() {
                        bytes += record.header.record_size() as usize;
                        batch.push(record);
                        if batch.len() >= BATCH || bytes >= BATCH_BYTES {
                            copy_batch(line, &batch, second, outside, writer, floors)?;
                            batch.clear();
                            bytes = 0;
                        }
                    }
                    copy_batch(line, &batch, second, outside, writer, floors)?;
                    let size = group.body().len() + group::HEADER;
                    read.fetch_add(size as u64, Ordering::Relaxed);
                }
                Step::End => break,
                Step::Broken(damage) => return Err(damaged(place.offset, damage)),
            }
        }
    }
    Ok(())
}

fn copy_batch(
    line: &Line,
    batch: &[Record<'_>],
    second: u64,
    outside: &Outside,
    writer: &mut Writer<'_>,
    floors: &mut Floors,
) -> io::Result<()> {
    if batch.is_empty() {
        return Ok(());
    }
    let candidates = batch.iter().map(|record| Candidate {
        kind: record.header.kind,
        namespace: record.header.namespace,
        key: record.key.into(),
        sequence: record.header.sequence,
    });
    let candidates = candidates.collect();
    let verdicts = line.ask(|answer| Question::Judge(candidates, answer))?;
    for (record, verdict) in batch.iter().zip(verdicts) {
        let sequence = record.header.sequence;
        match verdict {
            Verdict::Live => writer.copy(record, second)?,
            Verdict::Tombstone if outside.may_hold_older(record) => {
                writer.copy(record, second)?;
                writer.count_kept(record.header.record_size());
            }
            Verdict::Tombstone => floors.feed = floors.feed.max(sequence),
            Verdict::Dead { superseded_by } => {
                floors.feed = floors.feed.max(sequence);
                floors.restore = floors.restore.max(superseded_by);
            }
        }
    }
    Ok(())
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
        let mut copies = Vec::new();
        for entry in hint::entries(block).map_err(|error| unusable(&error))? {
            let HintEntry { header, offset, key } = entry.map_err(|error| unusable(&error))?;
            if header.kind != Kind::Tombstone {
                copies.push(Copied {
                    kind: header.kind,
                    namespace: header.namespace,
                    key: key.into(),
                    sequence: header.sequence,
                    offset,
                });
            }
            if copies.len() >= BATCH {
                line.tell(Question::Repoint(id, std::mem::take(&mut copies)))?;
            }
        }
        line.tell(Question::Repoint(id, copies))?;
    }
    Ok(())
}

/// The sealed segments that are not part of the merge, as far as a tombstone must know them.
struct Outside {
    others: Vec<(u64, Option<filter::Filter>)>,
}

impl Outside {
    fn load(home: &Home, inputs: &[Input]) -> Outside {
        let manifest = home.manifest.get();
        let others = manifest.segments.iter().filter(|entry| inputs.iter().all(|input| input.id != entry.id));
        let others = others.map(|entry| match entry.sealed {
            Some(sealed) => {
                let reader = HintReader::open(&*home.fs, &home.dir, home.store, entry.id, sealed.length);
                (sealed.lowest, reader.and_then(|reader| reader.filter()).ok())
            }
            // An open segment holds only records that are later than any sealed one's.
            None => (u64::MAX, None),
        });
        Outside { others: others.collect() }
    }

    /// Whether a record of the tombstone's key, older than it, may exist outside. A segment without a
    /// usable filter may hold anything.
    fn may_hold_older(&self, tombstone: &Record<'_>) -> bool {
        let hash = filter::hash(tombstone.header.namespace, tombstone.key);
        self.others.iter().any(|(lowest, filter)| {
            *lowest < tombstone.header.sequence
                && filter.as_ref().is_none_or(|filter| filter.may_contain(hash))
        })
    }
}

/// Writes outputs.
struct Writer<'a> {
    home: &'a Home,
    inputs: &'a [Input],
    target: u64,
    open: Option<OpenOutput<'a>>,
    done: Vec<Output>,
}

struct OpenOutput<'a> {
    id: u64,
    file: Arc<dyn File>,
    end: u64,
    hint: HintWriter<'a>,
    group: Vec<u8>,
    crcs: Vec<u8>,
    records: u32,
    lowest: u64,
    second: u64,
    kept: u64,
}

impl<'a> Writer<'a> {
    fn open(&mut self) -> io::Result<&mut OpenOutput<'a>> {
        if self.open.as_ref().is_some_and(|output| output.end >= self.target) {
            self.finish_output()?;
        }
        if self.open.is_none() {
            let home = self.home;
            let id = home.manifest.issue_id()?;
            let header = SegmentHeader {
                store: home.store,
                id,
                created_ms: home.clock.now_ms(),
                inputs: self.inputs.iter().map(|input| input.id).collect(),
                merged: true,
            };
            let file = home.fs.create(&home.dir.join(file_name(id)))?;
            write_all_at(&*file, &header.encode(), 0)?;
            self.open = Some(OpenOutput {
                id,
                file,
                end: header.size(),
                hint: HintWriter::create(&*home.fs, &home.dir, home.store, id)?,
                group: Vec::new(),
                crcs: Vec::new(),
                records: 0,
                lowest: u64::MAX,
                second: 0,
                kept: header.size(),
            });
        }
        Ok(self.open.as_mut().expect("it was opened just now"))
    }

    fn copy(&mut self, record: &Record<'_>, second: u64) -> io::Result<()> {
        let store = self.home.store;
        let output = self.open()?;
        if output.records > 0 && (output.second != second || output.group.len() >= GROUP_BYTES) {
            output.write_group(store)?;
        }
        if output.records == 0 {
            output.group.resize(group::HEADER, 0);
            output.kept += group::HEADER as u64;
            output.second = second;
        }
        let at = output.group.len();
        record::encode(&mut output.group, &record.header, record.key, record.value);
        let crc = record::crc_of(&output.group[at..]).expect("a record was just written there");
        output.crcs.extend_from_slice(crc);
        output.records += 1;
        output.lowest = output.lowest.min(record.header.sequence);
        let offset = output.end + at as u64;
        output.hint.push(&HintEntry { header: record.header, offset, key: record.key })
    }

    fn count_kept(&mut self, bytes: u64) {
        if let Some(output) = &mut self.open {
            output.kept += bytes;
        }
    }

    fn finish_output(&mut self) -> io::Result<()> {
        let Some(mut output) = self.open.take() else { return Ok(()) };
        let finished = output.write_group(self.home.store).and_then(|()| {
            output.file.sync()?;
            output.hint.finish(output.end)
        });
        let summary = finished.inspect_err(|_| remove_output(self.home, output.id))?;
        let OpenOutput { id, file, kept, .. } = output;
        self.done.push(Output { id, file, summary, kept });
        self.home.fs.sync_dir(&self.home.dir)
    }

    /// Removes what a failed merge has written.
    fn remove_all(&mut self) {
        let ids = self.done.iter().map(|output| output.id).chain(self.open.as_ref().map(|output| output.id));
        ids.for_each(|id| remove_output(self.home, id));
    }
}

/// Removes an output that no manifest names; what cannot be removed now goes at the next open.
fn remove_output(home: &Home, id: u64) {
    for name in [file_name(id), hint_name(id), hint_name(id) + ".tmp"] {
        let _ = home.fs.remove(&home.dir.join(name));
    }
}

impl OpenOutput<'_> {
    fn write_group(&mut self, store: u64) -> io::Result<()> {
        if self.records == 0 {
            return Ok(());
        }
        let header = GroupHeader {
            merged: true,
            store,
            at: Position { segment: self.id, offset: self.end },
            body_size: (self.group.len() - group::HEADER) as u64,
            first_sequence: self.lowest,
            previous_sequence: 0,
            time_ms: self.second * 1000,
            watermark: Position::default(),
            records: self.records,
            body_crc: crc32fast::hash(&self.crcs),
        };
        self.group[..group::HEADER].copy_from_slice(&header.encode());
        write_all_at(&*self.file, &self.group, self.end)?;
        self.end += self.group.len() as u64;
        self.group.clear();
        self.crcs.clear();
        self.records = 0;
        self.lowest = u64::MAX;
        Ok(())
    }
}
