//! Writing and reading hints.

use crate::error::Damage;
use crate::format::filter::{self, Filter};
use crate::format::group::Position;
use crate::format::hint::{self, BlockBuilder, HintEntry, HintHeader};
use crate::format::manifest::Sealed;
use crate::format::segment::hint_name;
use crate::fs::{File, FileSystem, read_full_at, write_all_at};
use crate::log::scan::Scanner;
use crate::log::segments::Tally;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Hashes in the first piece of them, and in the others.
const LEAST_HASHES: usize = 1 << 10;
const MOST_HASHES: usize = 1 << 17;

/// Writes a hint block by block beside its final place.
#[derive(Debug)]
pub(crate) struct HintWriter<'a> {
    fs: &'a dyn FileSystem,
    dir: &'a Path,
    store: u64,
    segment: u64,
    file: Arc<dyn File>,
    at: u64,
    block: BlockBuilder,
    /// Of all keys, in pieces: one that grew would be copied again and again.
    hashes: Vec<Vec<u64>>,
    summary: Sealed,
    tally: Tally,
}

impl<'a> HintWriter<'a> {
    /// Begins the hint of `segment`.
    pub(crate) fn create(
        fs: &'a dyn FileSystem,
        dir: &'a Path,
        store: u64,
        segment: u64,
    ) -> io::Result<HintWriter<'a>> {
        let file = fs.create(&dir.join(hint_name(segment) + ".tmp"))?;
        Ok(HintWriter {
            fs,
            dir,
            store,
            segment,
            file,
            at: hint::HEADER as u64,
            block: BlockBuilder::default(),
            hashes: Vec::new(),
            summary: Sealed::default(),
            tally: Tally::default(),
        })
    }

    /// Adds the next record of the segment.
    pub(crate) fn push(&mut self, entry: &HintEntry<'_>) -> io::Result<()> {
        if self.block.is_full_for(entry.key.len()) {
            self.flush()?;
        }
        self.block.push(entry);
        let hash = filter::hash(entry.header.namespace, entry.key);
        match self.hashes.last_mut().filter(|piece| piece.len() < piece.capacity()) {
            Some(piece) => piece.push(hash),
            None => {
                // The first is small, as most segments of a small store are.
                let room = if self.hashes.is_empty() { LEAST_HASHES } else { MOST_HASHES };
                let mut piece = Vec::with_capacity(room);
                piece.push(hash);
                self.hashes.push(piece);
            }
        }
        self.tally.count(&entry.header);
        let sequence = entry.header.sequence;
        self.summary.lowest =
            if self.summary.records == 0 { sequence } else { self.summary.lowest.min(sequence) };
        self.summary.highest = self.summary.highest.max(sequence);
        self.summary.records += 1;
        Ok(())
    }

    /// What has been added so far.
    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.block.is_empty() {
            let bytes = self.block.finish();
            write_all_at(&*self.file, bytes, self.at)?;
            self.at += bytes.len() as u64;
            self.block.clear();
        }
        Ok(())
    }

    /// Puts the hint in its place, describing the segment's first `covered` bytes.
    pub(crate) fn finish(mut self, covered: u64) -> io::Result<Sealed> {
        self.flush()?;
        let mut filter = Filter::with_room_for(self.summary.records);
        self.hashes.iter().flatten().for_each(|&hash| filter.insert(hash));
        let filter = filter.encode();
        write_all_at(&*self.file, &filter, self.at)?;
        self.summary.length = covered;
        let header = HintHeader {
            store: self.store,
            segment: self.segment,
            covered,
            records: self.summary.records,
            lowest: self.summary.lowest,
            highest: self.summary.highest,
            filter_at: self.at,
            file_size: self.at + filter.len() as u64,
        };
        write_all_at(&*self.file, &header.encode(), 0)?;
        self.file.sync()?;
        let name = hint_name(self.segment);
        self.fs.rename(&self.dir.join(name.clone() + ".tmp"), &self.dir.join(name))?;
        Ok(self.summary)
    }
}

/// A hint whose header fits its segment; blocks are checked as they are read.
#[derive(Debug)]
pub(crate) struct HintReader {
    file: Arc<dyn File>,
    header: HintHeader,
    at: u64,
    block: Vec<u8>,
}

/// Why a hint cannot be used. It is made anew from the segment.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Damage(#[from] Damage),
}

impl HintReader {
    /// Opens the hint of `segment`, of which the first `length` bytes count.
    pub(crate) fn open(
        fs: &dyn FileSystem,
        dir: &Path,
        store: u64,
        segment: u64,
        length: u64,
    ) -> Result<HintReader, Unusable> {
        let file = fs.open(&dir.join(hint_name(segment)))?;
        let mut bytes = [0; hint::HEADER];
        if read_full_at(&*file, &mut bytes, 0)? < bytes.len() {
            return Err(Damage::Truncated.into());
        }
        let header = HintHeader::decode(&bytes)?;
        if header.store != store || header.segment != segment {
            return Err(Damage::Misplaced.into());
        }
        if header.file_size != file.len()? {
            return Err(Damage::Truncated.into());
        }
        if header.covered != length {
            return Err(Damage::Field.into());
        }
        Ok(HintReader { file, header, at: hint::HEADER as u64, block: Vec::new() })
    }

    /// The next block's bytes with all entries, checksum not yet checked; `None` after the last.
    pub(crate) fn next_block(&mut self) -> Result<Option<&[u8]>, Unusable> {
        let mut block = std::mem::take(&mut self.block);
        let read = self.read_block(&mut block);
        self.block = block;
        Ok(read?.then_some(&self.block))
    }

    /// Reads the next block as [`HintReader::next_block`] does, into `block`; false after the last.
    pub(crate) fn read_block(&mut self, block: &mut Vec<u8>) -> Result<bool, Unusable> {
        let left = self.header.filter_at - self.at;
        if left == 0 {
            return Ok(false);
        }
        let mut head = [0; hint::BLOCK_HEADER];
        read_full_at(&*self.file, &mut head, self.at)?;
        let size = hint::block_size(&head);
        if size > left {
            return Err(Damage::Truncated.into());
        }
        block.resize(size as usize, 0);
        read_full_at(&*self.file, block, self.at)?;
        self.at += size;
        Ok(true)
    }

    /// The hint's filter.
    pub(crate) fn filter(&self) -> Result<Filter, Unusable> {
        let mut bytes = vec![0; (self.header.file_size - self.header.filter_at) as usize];
        read_full_at(&*self.file, &mut bytes, self.header.filter_at)?;
        Ok(Filter::decode(&bytes)?)
    }
}

/// What reading a whole segment for its hint found.
pub(crate) enum Summed {
    /// All groups are whole; the hint stands.
    Whole(Sealed),
    /// There is damage at this place.
    Broken(Position, Damage),
}

/// Reads the segment from its first group to `length`, and writes its hint.
pub(crate) fn write_from_segment(
    fs: &dyn FileSystem,
    dir: &Path,
    store: u64,
    file: Arc<dyn File>,
    first_group: Position,
    length: u64,
) -> io::Result<Summed> {
    write_and_tally(fs, dir, store, file, first_group, length).map(|(summed, _)| summed)
}

/// As [`write_from_segment`], and counts what the segment holds.
pub(crate) fn write_and_tally(
    fs: &dyn FileSystem,
    dir: &Path,
    store: u64,
    file: Arc<dyn File>,
    first_group: Position,
    length: u64,
) -> io::Result<(Summed, Tally)> {
    let mut writer = HintWriter::create(fs, dir, store, first_group.segment)?;
    let mut scanner = Scanner::new(file, store, first_group, length, None);
    loop {
        let place = scanner.position();
        let stepped =
            scanner.step_over(|offset, &header, key| writer.push(&HintEntry { header, offset, key }))?;
        match stepped {
            Ok(true) => {}
            Ok(false) => {
                let tally = writer.tally();
                return Ok((Summed::Whole(writer.finish(length)?), tally));
            }
            Err(damage) => return Ok((Summed::Broken(place, damage), writer.tally())),
        }
    }
}
