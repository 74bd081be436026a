//! Reading a segment group by group, and what stands after the place where that ends.

use crate::error::Damage;
use crate::format::group::{self, GroupHeader, Position};
use crate::format::record::{self, Record};
use crate::format::segment::SegmentHeader;
use crate::fs::{File, read_full_at};
use crate::log::segments::Begun;
use std::io;
use std::sync::Arc;

/// Bytes read at a time; a larger group is read whole.
const CHUNK: usize = 1 << 20;

/// Reads the header of a segment and checks that it is the one expected.
pub(crate) fn read_segment_header(
    file: &dyn File,
    store: u64,
    id: u64,
) -> io::Result<Result<SegmentHeader, Damage>> {
    // Most headers are 48 bytes; one with many merge inputs wants more.
    let mut bytes = vec![0; 4096];
    let read = read_full_at(file, &mut bytes, 0)?;
    bytes.truncate(read);
    let mut header = SegmentHeader::decode(&bytes);
    if header == Err(Damage::Truncated) && read == 4096 {
        bytes.resize(SegmentHeader::max_size(), 0);
        let read = read_full_at(file, &mut bytes, 0)?;
        bytes.truncate(read);
        header = SegmentHeader::decode(&bytes);
    }
    Ok(header.and_then(|header| {
        if header.store == store && header.id == id { Ok(header) } else { Err(Damage::Misplaced) }
    }))
}

/// Where a file's bytes end between `from` and `end`, zeros behind them not counted; `from` if all are zeros.
pub(crate) fn end_of_bytes(file: &dyn File, from: u64, mut end: u64) -> io::Result<u64> {
    let mut chunk = vec![0; CHUNK.min(end.saturating_sub(from) as usize)];
    while end > from {
        let start = end.saturating_sub(CHUNK as u64).max(from);
        let read = read_full_at(file, &mut chunk[..(end - start) as usize], start)?;
        if let Some(last) = chunk[..read].iter().rposition(|&byte| byte != 0) {
            return Ok(start + last as u64 + 1);
        }
        end = start;
    }
    Ok(from)
}

/// How a segment began.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Beginning {
    pub(crate) created_ms: u64,
    /// The first append of a log segment.
    pub(crate) begun: Option<Begun>,
}

/// Reads when a segment was created and first appended to. What is damaged tells nothing here: those who
/// read records report it.
pub(crate) fn read_beginning(file: &dyn File, store: u64, id: u64) -> io::Result<Beginning> {
    let Ok(header) = read_segment_header(file, store, id)? else { return Ok(Beginning::default()) };
    let mut bytes = [0; group::HEADER];
    let offset = header.size();
    let read = if header.merged { 0 } else { read_full_at(file, &mut bytes, offset)? };
    let first = GroupHeader::decode(&bytes, store, Position { segment: id, offset });
    let first = first.ok().filter(|_| read == bytes.len());
    let begun = first.map(|group| Begun { sequence: group.first_sequence, time_ms: group.time_ms });
    Ok(Beginning { created_ms: header.created_ms, begun })
}

/// Goes through the groups of a segment.
#[derive(Debug)]
pub(crate) struct Scanner {
    file: Arc<dyn File>,
    store: u64,
    at: Position,
    end: u64,
    previous: Option<u64>,
    window: Vec<u8>,
    window_at: u64,
}

/// What stands at the scanner's place.
pub(crate) enum Step<'a> {
    /// A whole group.
    Group(Group<'a>),
    /// The end: no byte is left.
    End,
    /// Bytes that are no whole group.
    Broken(Damage),
}

/// A whole group: all of its records have passed their checks.
pub(crate) struct Group<'a> {
    pub(crate) header: GroupHeader,
    body: &'a [u8],
}

impl<'a> Group<'a> {
    /// The records with their offsets in the segment.
    pub(crate) fn records(&self) -> impl Iterator<Item = (u64, Record<'a>)> + use<'a> {
        let mut offset = self.header.at.offset + group::HEADER as u64;
        records(self.body).map(move |Raw { bytes, record }| {
            let here = offset;
            offset += bytes.len() as u64;
            (here, record)
        })
    }

    /// The bytes of all records.
    pub(crate) fn body(&self) -> &'a [u8] {
        self.body
    }
}

/// A record, and the bytes that it is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Raw<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) record: Record<'a>,
}

/// The records in the body of a whole group.
pub(crate) fn records(mut body: &[u8]) -> impl Iterator<Item = Raw<'_>> + Clone {
    std::iter::from_fn(move || {
        if body.is_empty() {
            return None;
        }
        let record = record::decode_checked(body).expect("the scanner has checked every record");
        let (bytes, rest) = body.split_at(record.header.record_size() as usize);
        body = rest;
        Some(Raw { bytes, record })
    })
}

impl Scanner {
    /// Begins at `from`, a group boundary, and stops at `end`. The first group must chain to `previous`,
    /// where that is known.
    pub(crate) fn new(
        file: Arc<dyn File>,
        store: u64,
        from: Position,
        end: u64,
        previous: Option<u64>,
    ) -> Scanner {
        Scanner { file, store, at: from, end, previous, window: Vec::new(), window_at: 0 }
    }

    /// Where the next group stands, or where the last step found none.
    pub(crate) fn position(&self) -> Position {
        self.at
    }

    /// The sequence that the next group must chain to, if it is known.
    pub(crate) fn previous(&self) -> Option<u64> {
        self.previous
    }

    /// Makes the window hold `size` bytes from `offset` on, or all there are before the end.
    fn fill(&mut self, offset: u64, size: usize) -> io::Result<&[u8]> {
        let size = size.min(self.end.saturating_sub(offset) as usize);
        let held = self.window_at..self.window_at + self.window.len() as u64;
        if !(held.start <= offset && offset + size as u64 <= held.end) {
            let wanted = size.max(CHUNK).min((self.end - offset) as usize);
            self.window.resize(wanted, 0);
            let read = read_full_at(&*self.file, &mut self.window, offset)?;
            self.window.truncate(read);
            self.window_at = offset;
        }
        let from = (offset - self.window_at) as usize;
        Ok(&self.window[from..(from + size).min(self.window.len())])
    }

    /// Takes the next group.
    pub(crate) fn step(&mut self) -> io::Result<Step<'_>> {
        if self.at.offset >= self.end {
            return Ok(Step::End);
        }
        let (store, at, previous) = (self.store, self.at, self.previous);
        let header = match self.fill(at.offset, group::HEADER)?.try_into() {
            Ok(bytes) => GroupHeader::decode(bytes, store, at),
            Err(_) => Err(Damage::Truncated),
        };
        let header = match header {
            Ok(header) => header,
            Err(damage) => return Ok(Step::Broken(damage)),
        };
        // The size is believed only as far as the file reaches.
        let size = match header.group_size() {
            Some(size) if size <= self.end - at.offset => size,
            _ => return Ok(Step::Broken(Damage::Truncated)),
        };
        let bytes = self.fill(at.offset, size as usize)?;
        if (bytes.len() as u64) < size {
            return Ok(Step::Broken(Damage::Truncated));
        }
        match check_body(&header, &bytes[group::HEADER..], previous) {
            Ok(last) => {
                self.previous = last;
                self.at.offset += size;
                let from = (at.offset - self.window_at) as usize;
                let body = &self.window[from + group::HEADER..from + size as usize];
                Ok(Step::Group(Group { header, body }))
            }
            Err(damage) => Ok(Step::Broken(damage)),
        }
    }

    /// The highest watermark in the headers of groups that stand, at their own offsets, at or after
    /// the scanner's place: what speaks for bytes that it could not read.
    pub(crate) fn watermark_beyond(&mut self) -> io::Result<Position> {
        let mut highest = Position::default();
        let mut from = self.at.offset;
        while let Some(header) = self.header_from(from)? {
            highest = highest.max(header.watermark);
            from = header.at.offset + 1;
        }
        Ok(highest)
    }

    /// The first group header that stands at its own offset, at or after `offset`.
    pub(crate) fn header_from(&mut self, mut offset: u64) -> io::Result<Option<GroupHeader>> {
        let (store, segment) = (self.store, self.at.segment);
        while offset + group::HEADER as u64 <= self.end {
            if self.fill(offset, group::HEADER)?.len() < group::HEADER {
                break;
            }
            let bytes = &self.window[(offset - self.window_at) as usize..];
            let candidates = bytes.len() - group::HEADER + 1;
            for start in 0..candidates {
                if bytes[start + 8..start + 16] != store.to_le_bytes() {
                    continue;
                }
                let at = Position { segment, offset: offset + start as u64 };
                let header = bytes[start..start + group::HEADER].try_into().expect("88 bytes were taken");
                if let Ok(header) = GroupHeader::decode(header, store, at) {
                    return Ok(Some(header));
                }
            }
            offset += candidates as u64;
        }
        Ok(None)
    }

    /// The group header that stands at `offset`, if one does.
    fn header_at(&mut self, offset: u64) -> io::Result<Option<GroupHeader>> {
        let (store, at) = (self.store, Position { offset, ..self.at });
        let bytes = self.fill(offset, group::HEADER)?.try_into();
        Ok(bytes.ok().and_then(|bytes| GroupHeader::decode(bytes, store, at).ok()))
    }

    /// The group header at the scanner's place, if that much of a group stands there.
    pub(crate) fn header_here(&mut self) -> io::Result<Option<GroupHeader>> {
        self.header_at(self.at.offset)
    }

    /// Goes on from a place where no whole group stood: to where the header that stands there says that
    /// its group ends, if the next one begins or the segment ends there, else to the next header that
    /// stands at its own offset. Gives that header; at the end there is none.
    pub(crate) fn resume(&mut self) -> io::Result<Option<GroupHeader>> {
        let here = self.header_here()?;
        self.previous = None;
        let announced = here.and_then(|here| self.at.offset.checked_add(here.group_size()?));
        if announced == Some(self.end) {
            self.at.offset = self.end;
            return Ok(None);
        }
        let mut next = None;
        if let Some(end) = announced.filter(|&end| end < self.end) {
            next = self.header_at(end)?;
        }
        if next.is_none() {
            next = self.header_from(self.at.offset + 1)?;
        }
        self.at.offset = next.map_or(self.end, |header| header.at.offset);
        Ok(next)
    }

    /// Forgets what the next group must chain to.
    pub(crate) fn unchain(&mut self) {
        self.previous = None;
    }
}

/// Checks that the records fill the body, each with its CRC, numbered and chained as they must be; gives
/// the number that the next log group chains to.
fn check_body(header: &GroupHeader, body: &[u8], previous: Option<u64>) -> Result<Option<u64>, Damage> {
    if !header.merged && previous.is_some_and(|previous| previous != header.previous_sequence) {
        return Err(Damage::Order);
    }
    let mut rest = body;
    let mut crcs = crc32fast::Hasher::new();
    let (mut count, mut lowest) = (0, u64::MAX);
    while !rest.is_empty() {
        let record = record::decode(rest)?;
        let sequence = record.header.sequence;
        if !record.header.kind.is_supported() {
            return Err(Damage::Unsupported);
        }
        if !header.merged && sequence != header.first_sequence.saturating_add(u64::from(count)) {
            return Err(Damage::Order);
        }
        crcs.update(record::crc_of(rest).ok_or(Damage::Truncated)?);
        lowest = lowest.min(sequence);
        count += 1;
        rest = &rest[record.header.record_size() as usize..];
    }
    if count != header.records || crcs.finalize() != header.body_crc {
        return Err(Damage::Checksum);
    }
    if lowest != header.first_sequence {
        return Err(Damage::Order);
    }
    Ok(if header.merged { previous } else { Some(lowest + u64::from(count) - 1) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::{FileSystem, MemoryFs, write_all_at};
    use std::path::Path;

    #[test]
    fn bytes_end_before_the_zeros_however_many_there_are() {
        let file = MemoryFs::default().create(Path::new("/f")).expect("created");
        let end = 2 * CHUNK as u64 + 100;
        write_all_at(&*file, &vec![0; end as usize], 0).expect("written");
        let found = |from, end| end_of_bytes(&*file, from, end).expect("read");
        assert_eq!((found(0, end), found(7, end), found(9, 7)), (0, 7, 9));
        for at in [0, 50, CHUNK as u64, end - 1] {
            write_all_at(&*file, b"x", at).expect("written");
            assert_eq!((found(0, end), found(at, end), found(at + 1, end)), (at + 1, at + 1, at + 1));
        }
    }
}
