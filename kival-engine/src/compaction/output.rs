//! What a merge writes: its output segments with their hints.

use super::merge::Input;
use super::pace::Pace;
use super::progress::Meter;
use crate::format::group::{self, GroupHeader, Position};
use crate::format::hint::HintEntry;
use crate::format::manifest::Sealed;
use crate::format::record;
use crate::format::segment::{SegmentHeader, file_name, hint_name};
use crate::fs::{File, write_all_at};
use crate::log::Home;
use crate::log::hint_file::HintWriter;
use crate::log::scan::Raw;
use crate::log::segments::{Held, Tally};
use std::io;
use std::sync::Arc;

/// A group is written when it has this many bytes.
pub(super) const GROUP_BYTES: usize = 256 << 10;

/// A segment that a merge has made.
pub(crate) struct Output {
    pub(crate) id: u64,
    pub(crate) file: Arc<dyn File>,
    pub(crate) summary: Sealed,
    pub(crate) tally: Tally,
    pub(crate) held: Held,
    pub(crate) created_ms: u64,
}

/// Writes outputs.
pub(super) struct Writer<'a> {
    home: &'a Home,
    inputs: &'a [Input],
    target: u64,
    meter: &'a Meter,
    open: Option<OpenOutput<'a>>,
    pub(super) done: Vec<Output>,
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
    held: Held,
    created_ms: u64,
}

impl<'a> Writer<'a> {
    pub(super) fn new(home: &'a Home, inputs: &'a [Input], target: u64, meter: &'a Meter) -> Writer<'a> {
        Writer { home, inputs, target, meter, open: None, done: Vec::new() }
    }

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
            let create = || {
                let file = home.fs.create(&home.dir.join(file_name(id)))?;
                write_all_at(&*file, &header.encode(), 0)?;
                Ok((file, HintWriter::create(&*home.fs, &home.dir, home.store, id)?))
            };
            let (file, hint) = create().inspect_err(|_: &io::Error| remove_output(home, id))?;
            self.open = Some(OpenOutput {
                id,
                file,
                end: header.size(),
                hint,
                group: Vec::new(),
                crcs: Vec::new(),
                records: 0,
                lowest: u64::MAX,
                second: 0,
                held: Held::default(),
                created_ms: header.created_ms,
            });
        }
        Ok(self.open.as_mut().expect("it was opened just now"))
    }

    /// Adds a record whose group was appended in this second. If it does not count any more, it is held
    /// back until everything up to a sequence is old enough.
    pub(super) fn copy(
        &mut self,
        raw: &Raw<'_>,
        second: u64,
        held_until: Option<u64>,
        pace: &mut Pace,
    ) -> io::Result<()> {
        let (store, meter) = (self.home.store, self.meter);
        let output = self.open()?;
        if output.records > 0 && (output.second != second || output.group.len() >= GROUP_BYTES) {
            let written = output.write_group(store)?;
            Meter::add(&meter.written, written);
            pace.spend(written)?;
        }
        if output.records == 0 {
            output.group.resize(group::HEADER, 0);
            output.second = second;
        }
        let at = output.group.len();
        let Raw { bytes, record } = raw;
        output.group.extend_from_slice(bytes);
        output.crcs.extend_from_slice(record::crc_of(bytes).expect("a record begins with its CRC"));
        output.records += 1;
        output.lowest = output.lowest.min(record.header.sequence);
        let offset = output.end + at as u64;
        if let Some(until) = held_until {
            output.held.bytes += record.header.record_size();
            output.held.until = output.held.until.max(until);
        }
        Meter::add(&meter.copied, 1);
        output.hint.push(&HintEntry { header: record.header, offset, key: record.key })
    }

    /// Closes the output that is open.
    pub(super) fn finish_output(&mut self) -> io::Result<()> {
        let Some(mut output) = self.open.take() else { return Ok(()) };
        let tally = output.hint.tally();
        let finished = output.write_group(self.home.store).and_then(|written| {
            Meter::add(&self.meter.written, written);
            output.file.sync()?;
            output.hint.finish(output.end)
        });
        let summary = finished.inspect_err(|_| remove_output(self.home, output.id))?;
        let OpenOutput { id, file, held, created_ms, .. } = output;
        self.done.push(Output { id, file, summary, tally, held, created_ms });
        Meter::add(&self.meter.outputs, 1);
        self.home.fs.sync_dir(&self.home.dir)
    }

    /// Removes what a failed merge has written.
    pub(super) fn remove_all(&mut self) {
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
    /// Writes the group that is open; gives its bytes.
    fn write_group(&mut self, store: u64) -> io::Result<u64> {
        if self.records == 0 {
            return Ok(0);
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
        let written = self.group.len() as u64;
        self.end += written;
        self.group.clear();
        self.crcs.clear();
        self.records = 0;
        self.lowest = u64::MAX;
        Ok(written)
    }
}
