//! Reads that may have to wait for the disk: of a record, or of a part of a value with its pages. They hold all
//! that they need of the engine, so that any thread can do them.

use crate::error::{Corruption, Damage, ReadError};
use crate::format::record::{self, HEADER, Header, Kind, PAGE, PAGE_HEAD, record_size};
use crate::fs::{File, read_full_at};
use bytes::Bytes;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes that are read at a time where all of a large value is gone through; a multiple of a page.
const CHUNK: usize = 1 << 20;

/// A read that waits for the disk. It needs nothing of the engine, so it can be done on any thread.
#[derive(Debug, Clone)]
pub struct ColdRead(pub(super) Plan);

#[derive(Debug, Clone)]
pub(super) enum Plan {
    /// A value, as its record holds it.
    Record(RecordAt),
    /// A part of a value, from its record and its pages.
    Part(PartPlan),
}

/// A value, or a part of one, that was read for a waiting command. Clones share the bytes.
#[derive(Debug, Clone)]
pub struct ReadBack {
    pub(super) what: What,
    pub(super) value: Bytes,
    /// The checksums of the pages of a record's value, if they were computed: its sequence and they.
    pub(super) sums: Option<(u64, Arc<[u32]>)>,
}

impl ReadBack {
    /// Whether it holds all that an earlier one holds.
    pub fn replaces(&self, earlier: &ReadBack) -> bool {
        match (&self.what, &earlier.what) {
            (What::Part(new), What::Part(old)) => {
                new.base == old.base && new.part.start <= old.part.start && old.part.end <= new.part.end
            }
            (new, old) => new == old,
        }
    }
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// The value of the record with this sequence.
    Record(u64),
    /// A part of a value, made of whole pages.
    Part(PartRead),
}

/// Which state of which part of a value was read. What was not yet appended then has the sequence `u64::MAX`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PartRead {
    /// The sequence of the value's record.
    pub(super) base: u64,
    pub(super) part: Range<usize>,
    /// The pages in it, rising, with the sequences of their records; the others are those of the value's record.
    pub(super) pages: Vec<(u32, u64)>,
}

/// A record of a key and where it stands.
#[derive(Debug, Clone)]
pub(super) struct RecordAt {
    pub(super) file: Arc<dyn File>,
    pub(super) path: Arc<PathBuf>,
    pub(super) offset: u64,
    pub(super) namespace: u32,
    pub(super) key: Arc<[u8]>,
    pub(super) sequence: u64,
    pub(super) value_size: usize,
}

/// A part of a value, and where its bytes are.
#[derive(Debug, Clone)]
pub(super) struct PartPlan {
    pub(super) part: Range<usize>,
    /// The record that the pages lie over.
    pub(super) base: RecordAt,
    /// Its bytes within the part, if they are at hand.
    pub(super) base_bytes: Option<Bytes>,
    /// The checksums of its pages, if they are known.
    pub(super) sums: Option<Arc<[u32]>>,
    /// The pages that are not to be read from the base, rising.
    pub(super) pages: Vec<(u32, PageSource)>,
    /// Those among them that lie over it, with the sequences by which they may be found later.
    pub(super) over: Vec<(u32, u64)>,
    /// The sequence by which the base may be found later.
    pub(super) known_base: u64,
}

/// Where a page's bytes are.
#[derive(Debug, Clone)]
pub(super) enum PageSource {
    /// Here.
    Bytes(Bytes),
    /// In a record, which has so many of them.
    Record(RecordAt),
}

/// How a file is read: what was read, or nothing if that would have to wait.
pub(super) type Reader = fn(&dyn File, &mut [u8], u64) -> io::Result<Option<usize>>;

/// Reads, waiting for the disk.
fn patiently(file: &dyn File, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
    read_full_at(file, buffer, offset).map(Some)
}

impl ColdRead {
    /// Reads from disk, and checks what was read.
    ///
    /// # Errors
    /// [`ReadError`] if the disk fails or what it holds is not what was written.
    pub fn read(&self) -> Result<ReadBack, ReadError> {
        match &self.0 {
            Plan::Record(at) => {
                let value = at.value(patiently)?.unwrap_or_default();
                Ok(ReadBack { what: What::Record(at.sequence), value, sums: None })
            }
            Plan::Part(plan) => {
                if let Some(value) = plan.read(patiently)? {
                    return Ok(ReadBack { what: plan.what(), value, sums: None });
                }
                let (value, sums) = plan.read_all()?;
                Ok(ReadBack { what: plan.what(), value, sums: Some((plan.base.sequence, sums)) })
            }
        }
    }

    /// The sequence of the record that it reads, or whose pages.
    pub fn sequence(&self) -> u64 {
        match &self.0 {
            Plan::Record(at) => at.sequence,
            Plan::Part(plan) => plan.base.sequence,
        }
    }
}

/// The value of the record that takes up all of `bytes`, if it is sound and the one that the keydir means.
pub(super) fn check<'a>(
    bytes: &'a [u8],
    namespace: u32,
    key: &[u8],
    sequence: u64,
) -> Result<&'a [u8], Damage> {
    let record = record::decode(bytes)?;
    let whole = record.header.record_size() == bytes.len() as u64;
    let meant = whole && is_of(&record.header, record.key, Kind::Value, (namespace, key, sequence));
    if meant { Ok(record.value) } else { Err(Damage::Misplaced) }
}

/// Whether a record is of this kind, and has this namespace, key and sequence.
fn is_of(header: &Header, key: &[u8], kind: Kind, meant: (u32, &[u8], u64)) -> bool {
    header.kind == kind && (header.namespace, key, header.sequence) == meant
}

impl RecordAt {
    fn io(&self, source: io::Error) -> ReadError {
        ReadError::Io { path: self.path.to_path_buf(), source }
    }

    pub(super) fn corrupt(&self, damage: Damage) -> ReadError {
        Corruption { file: self.path.to_path_buf(), offset: self.offset, damage }.into()
    }

    pub(super) fn size(&self) -> usize {
        record_size(self.key.len(), self.value_size) as usize
    }

    fn value_at(&self) -> u64 {
        self.offset + (HEADER + self.key.len()) as u64
    }

    /// Reads the value and checks it.
    pub(super) fn value(&self, reader: Reader) -> Result<Option<Bytes>, ReadError> {
        let mut bytes = vec![0; self.size()];
        let Some(read) = reader(&*self.file, &mut bytes, self.offset).map_err(|e| self.io(e))? else {
            return Ok(None);
        };
        let checked = check(&bytes[..read], self.namespace, &self.key, self.sequence);
        if let Err(damage) = checked {
            return Err(self.corrupt(damage));
        }
        Ok(Some(Bytes::from(bytes).slice(HEADER + self.key.len()..)))
    }

    fn is(&self, header: &Header, key: &[u8], kind: Kind) -> bool {
        header.record_size() as usize == self.size()
            && is_of(header, key, kind, (self.namespace, &self.key, self.sequence))
    }

    /// Reads the bytes of a page over the record `base`, and checks them.
    fn page(&self, number: u32, base: u64, reader: Reader) -> Result<Option<Bytes>, ReadError> {
        let mut bytes = vec![0; self.size()];
        let Some(read) = reader(&*self.file, &mut bytes, self.offset).map_err(|e| self.io(e))? else {
            return Ok(None);
        };
        let record = record::decode(&bytes[..read]).map_err(|damage| self.corrupt(damage))?;
        let over = record.value.first_chunk::<PAGE_HEAD>().copied().map(u64::from_le_bytes);
        if !self.is(&record.header, record.key, Kind::Page)
            || record.header.page() != number
            || over != Some(base)
        {
            return Err(self.corrupt(Damage::Misplaced));
        }
        Ok(Some(Bytes::from(bytes).slice(HEADER + self.key.len() + PAGE_HEAD..)))
    }

    /// Goes through the whole value, and checks it: shows it piece by piece, a multiple of a page each but the
    /// last, with their places. Gives the checksums of its pages.
    fn walk(&self, mut see: impl FnMut(usize, &[u8])) -> Result<Arc<[u32]>, ReadError> {
        let mut head = vec![0; HEADER + self.key.len()];
        read_full_at(&*self.file, &mut head, self.offset).map_err(|e| self.io(e))?;
        let (crc, covered) = head.split_first_chunk::<{ record::CRC_END }>().expect("a header was read");
        let mut sum = crc32fast::Hasher::new();
        sum.update(covered);
        let mut sums = Vec::with_capacity(self.value_size.div_ceil(PAGE));
        let (mut buffer, mut at) = (vec![0; CHUNK.min(self.value_size)], 0);
        while at < self.value_size {
            let piece = &mut buffer[..CHUNK.min(self.value_size - at)];
            let read =
                read_full_at(&*self.file, piece, self.value_at() + at as u64).map_err(|e| self.io(e))?;
            if read < piece.len() {
                return Err(self.corrupt(Damage::Truncated));
            }
            sum.update(piece);
            sums.extend(piece.chunks(PAGE).map(crc32fast::hash));
            see(at, piece);
            at += piece.len();
        }
        if sum.finalize().to_le_bytes() != *crc {
            return Err(self.corrupt(Damage::Checksum));
        }
        let (fields, key) = covered.split_first_chunk().expect("a header was read");
        let header = Header::decode(fields).map_err(|damage| self.corrupt(damage))?;
        if self.is(&header, key, Kind::Value) {
            Ok(sums.into())
        } else {
            Err(self.corrupt(Damage::Misplaced))
        }
    }

    /// Reads pages of the value whose checksums are known into `out`, which is the part `part` of it.
    fn read_pages(
        &self,
        numbers: Range<u32>,
        sums: &[u32],
        part: &Range<usize>,
        out: &mut [u8],
        reader: Reader,
    ) -> Result<Option<()>, ReadError> {
        let from = numbers.start as usize * PAGE;
        let to = (numbers.end as usize * PAGE).min(self.value_size);
        let mut bytes = vec![0; to - from];
        let read = reader(&*self.file, &mut bytes, self.value_at() + from as u64).map_err(|e| self.io(e))?;
        match read {
            None => return Ok(None),
            Some(read) if read < bytes.len() => return Err(self.corrupt(Damage::Truncated)),
            Some(_) => {}
        }
        let known = &sums[numbers.start as usize..];
        if bytes.chunks(PAGE).zip(known).any(|(page, sum)| crc32fast::hash(page) != *sum) {
            return Err(self.corrupt(Damage::Checksum));
        }
        lay(&bytes, from, part, out);
        Ok(Some(()))
    }
}

/// Copies what lies in `part` of `bytes`, which begin at `at` of a value, to where it belongs in `out`.
pub(super) fn lay(bytes: &[u8], at: usize, part: &Range<usize>, out: &mut [u8]) {
    let (from, to) = (at.max(part.start), (at + bytes.len()).min(part.end));
    if from < to {
        out[from - part.start..to - part.start].copy_from_slice(&bytes[from - at..to - at]);
    }
}

impl PartPlan {
    /// What it reads.
    pub(super) fn what(&self) -> What {
        What::Part(PartRead { base: self.known_base, part: self.part.clone(), pages: self.over.clone() })
    }

    /// The pages of the base that are wanted, in runs.
    fn runs(&self) -> Vec<Range<u32>> {
        let end = self.part.end.min(self.base.value_size).div_ceil(PAGE) as u32;
        let (mut runs, mut next) = (Vec::new(), (self.part.start / PAGE) as u32);
        for number in self.pages.iter().map(|(number, _)| *number).chain([end]) {
            if next < number.min(end) {
                runs.push(next..number.min(end));
            }
            next = number + 1;
        }
        runs
    }

    /// Reads the part, if the checksums are known that this takes.
    pub(super) fn read(&self, reader: Reader) -> Result<Option<Bytes>, ReadError> {
        let mut out = vec![0; self.part.len()];
        match (&self.base_bytes, &self.sums) {
            (Some(bytes), _) => lay(bytes, self.part.start, &self.part, &mut out),
            (None, sums) => {
                for run in self.runs() {
                    let Some(sums) = sums else { return Ok(None) };
                    if self.base.read_pages(run, sums, &self.part, &mut out, reader)?.is_none() {
                        return Ok(None);
                    }
                }
            }
        }
        Ok(self.lay_pages(&mut out, reader)?.map(|()| out.into()))
    }

    /// Reads the part, and for that all of the base.
    fn read_all(&self) -> Result<(Bytes, Arc<[u32]>), ReadError> {
        let mut out = vec![0; self.part.len()];
        let sums = self.base.walk(|at, bytes| lay(bytes, at, &self.part, &mut out))?;
        self.lay_pages(&mut out, patiently)?;
        Ok((out.into(), sums))
    }

    fn lay_pages(&self, out: &mut [u8], reader: Reader) -> Result<Option<()>, ReadError> {
        for (number, source) in &self.pages {
            let bytes = match source {
                PageSource::Bytes(bytes) => Some(bytes.clone()),
                PageSource::Record(at) => at.page(*number, self.base.sequence, reader)?,
            };
            let Some(bytes) = bytes else { return Ok(None) };
            // It holds all that the base has there, and more.
            lay(&bytes, *number as usize * PAGE, &self.part, out);
        }
        Ok(Some(()))
    }
}
