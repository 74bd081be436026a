//! Reading a segment group by group, and what stands after the place where that ends.

use crate::error::Damage;
use crate::format::group::{self, GroupHeader, Position};
use crate::format::record::{self, Header, Record};
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

/// A record without its value: its header, its key, and its CRC field.
type RecordHead = (Header, Vec<u8>, [u8; record::CRC_END]);

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
        let (at, previous) = (self.at, self.previous);
        let (header, size) = match self.next_header()? {
            Ok(next) => next,
            Err(damage) => return Ok(Step::Broken(damage)),
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

    /// The header of the next group, and the group's bytes.
    fn next_header(&mut self) -> io::Result<Result<(GroupHeader, u64), Damage>> {
        let (store, at) = (self.store, self.at);
        let header = match self.fill(at.offset, group::HEADER)?.try_into() {
            Ok(bytes) => GroupHeader::decode(bytes, store, at),
            Err(_) => Err(Damage::Truncated),
        };
        Ok(header.and_then(|header| match header.group_size() {
            // The size is believed only as far as the file reaches.
            Some(size) if size <= self.end - at.offset => Ok((header, size)),
            _ => Err(Damage::Truncated),
        }))
    }

    /// As [`Self::step`], for who wants no values: checks all the same, and shows each record's offset, header and key.
    /// A value larger than the window is read piece by piece, so that it need not be in memory. `true` if there was a
    /// group.
    pub(crate) fn step_over(
        &mut self,
        mut see: impl FnMut(u64, &Header, &[u8]) -> io::Result<()>,
    ) -> io::Result<Result<bool, Damage>> {
        if self.at.offset >= self.end {
            return Ok(Ok(false));
        }
        let (header, size) = match self.next_header()? {
            Ok(next) => next,
            Err(damage) => return Ok(Err(damage)),
        };
        let mut check = match Check::begin(&header, self.previous) {
            Ok(check) => check,
            Err(damage) => return Ok(Err(damage)),
        };
        let end = self.at.offset + size;
        let mut offset = self.at.offset + group::HEADER as u64;
        while offset < end {
            let head = self.fill(offset, record::HEADER.min((end - offset) as usize))?;
            let size = match record::size_of(head) {
                Some(size) if size <= end - offset => size,
                _ => return Ok(Err(Damage::Truncated)),
            };
            let large;
            let read = if size <= CHUNK as u64 {
                let bytes = self.fill(offset, size as usize)?;
                record::decode(bytes).map(|record| (record.header, record.key, &bytes[..record::CRC_END]))
            } else {
                large = self.head_of_large(offset, size)?;
                large
                    .as_ref()
                    .map(|(header, key, crc)| (*header, &key[..], &crc[..]))
                    .map_err(|damage| *damage)
            };
            let checked =
                read.and_then(|(header, key, crc)| check.record(&header, crc).map(|()| (header, key)));
            match checked {
                Ok((header, key)) => see(offset, &header, key)?,
                Err(damage) => return Ok(Err(damage)),
            }
            offset += size;
        }
        Ok(check.end().map(|last| {
            (self.previous, self.at.offset) = (last, end);
            true
        }))
    }

    /// Goes through a record that is larger than the window, and checks it.
    fn head_of_large(&mut self, offset: u64, size: u64) -> io::Result<Result<RecordHead, Damage>> {
        let mut sum = crc32fast::Hasher::new();
        let mut head = Vec::new();
        let mut at = offset;
        while at < offset + size {
            let left = (offset + size - at).min(CHUNK as u64) as usize;
            let piece = self.fill(at, left)?;
            if piece.is_empty() {
                return Ok(Err(Damage::Truncated));
            }
            let counted = if at == offset { &piece[record::CRC_END.min(piece.len())..] } else { piece };
            sum.update(counted);
            // Of the value nothing is kept; a key may be large too.
            if head.len() < record::HEADER || (head.len() as u64) < record::head_size(&head) {
                head.extend_from_slice(piece);
            }
            at += piece.len() as u64;
        }
        let decoded = record::decode_head(&head, sum.finalize());
        Ok(decoded.map(|(header, key, crc)| (header, key.to_vec(), crc)))
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
    let mut check = Check::begin(header, previous)?;
    let mut rest = body;
    while !rest.is_empty() {
        let record = record::decode(rest)?;
        check.record(&record.header, record::crc_of(rest).ok_or(Damage::Truncated)?)?;
        rest = &rest[record.header.record_size() as usize..];
    }
    check.end()
}

/// The check of a group, record by record.
struct Check<'a> {
    group: &'a GroupHeader,
    previous: Option<u64>,
    crcs: crc32fast::Hasher,
    count: u32,
    lowest: u64,
}

impl<'a> Check<'a> {
    fn begin(group: &'a GroupHeader, previous: Option<u64>) -> Result<Check<'a>, Damage> {
        if !group.merged && previous.is_some_and(|previous| previous != group.previous_sequence) {
            return Err(Damage::Order);
        }
        Ok(Check { group, previous, crcs: crc32fast::Hasher::new(), count: 0, lowest: u64::MAX })
    }

    /// The next record, whose checksum is right.
    fn record(&mut self, header: &Header, crc: &[u8]) -> Result<(), Damage> {
        if !header.kind.is_supported() {
            return Err(Damage::Unsupported);
        }
        let group = self.group;
        if !group.merged && header.sequence != group.first_sequence.saturating_add(u64::from(self.count)) {
            return Err(Damage::Order);
        }
        self.crcs.update(crc);
        self.lowest = self.lowest.min(header.sequence);
        self.count += 1;
        Ok(())
    }

    /// Gives the number that the next log group chains to.
    fn end(self) -> Result<Option<u64>, Damage> {
        if self.count != self.group.records || self.crcs.finalize() != self.group.body_crc {
            return Err(Damage::Checksum);
        }
        if self.lowest != self.group.first_sequence {
            return Err(Damage::Order);
        }
        Ok(if self.group.merged { self.previous } else { Some(self.lowest + u64::from(self.count) - 1) })
    }
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

    const AT: Position = Position { segment: 1, offset: 0 };

    /// A group of records with keys and values of these sizes, and the sizes with the records' offsets.
    fn group_of(sizes: &[(usize, usize)]) -> (Vec<u8>, Vec<(u64, usize, usize)>) {
        let (mut bytes, mut crcs, mut placed) = (vec![0; group::HEADER], Vec::new(), Vec::new());
        for (&(key_size, value_size), sequence) in sizes.iter().zip(7..) {
            let at = bytes.len();
            let header = Header {
                key_size: key_size as u32,
                value_size: value_size as u32,
                namespace: 0,
                sequence,
                expiry: 0,
                kind: record::Kind::Value,
                data_type: 0,
            };
            let bytes_of = |len: usize| -> Vec<u8> { (0..len).map(|n| (n / 3) as u8).collect() };
            record::encode(&mut bytes, &header, &bytes_of(key_size), &bytes_of(value_size));
            crcs.extend_from_slice(&bytes[at..at + record::CRC_END]);
            placed.push((at as u64, key_size, value_size));
        }
        let header = GroupHeader {
            merged: false,
            store: 5,
            at: AT,
            body_size: (bytes.len() - group::HEADER) as u64,
            first_sequence: 7,
            previous_sequence: 6,
            time_ms: 0,
            watermark: Position::default(),
            records: sizes.len() as u32,
            body_crc: crc32fast::hash(&crcs),
        };
        bytes[..group::HEADER].copy_from_slice(&header.encode());
        (bytes, placed)
    }

    type Seen = Vec<(u64, usize, usize)>;

    fn over(bytes: &[u8]) -> Result<Seen, Damage> {
        let file = MemoryFs::default().create(Path::new("/f")).expect("created");
        write_all_at(&*file, bytes, 0).expect("written");
        let (mut scanner, mut seen) = (Scanner::new(file, 5, AT, bytes.len() as u64, Some(6)), Vec::new());
        let mut step = || {
            scanner
                .step_over(|offset, header, key| {
                    assert_eq!(header.key_size as usize, key.len());
                    seen.push((offset, key.len(), header.value_size as usize));
                    Ok(())
                })
                .expect("read")
        };
        step()?;
        assert_eq!(step(), Ok(false));
        Ok(seen)
    }

    #[test]
    fn values_are_stepped_over_and_checked_whatever_their_size() {
        let sizes = [(3, 10), (0, 0), (5, CHUNK), (9, 3 * CHUNK + 5), (CHUNK + 100, 7), (4, 30)];
        let (bytes, placed) = group_of(&sizes);
        assert_eq!(over(&bytes), Ok(placed.clone()));
        for (at, key_size, value_size) in placed {
            for within in
                [0, 5, record::HEADER, record::HEADER + key_size, record::HEADER + key_size + value_size / 2]
            {
                let mut bytes = bytes.clone();
                let at = (at as usize + within).min(bytes.len() - 1);
                bytes[at] ^= 1;
                assert!(over(&bytes).is_err(), "byte {at}");
            }
        }
        for len in [bytes.len() - 1, bytes.len() / 2, group::HEADER + 20, 10] {
            assert!(over(&bytes[..len]).is_err(), "{len} bytes of it");
        }
    }
}
