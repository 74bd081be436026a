//! What can still be read inside a broken place. How a segment is gone through past its damage is in
//! `log/walk.rs`. Nothing here decides what damage means.

use super::ToolError;
use super::hints::Hint;
use crate::format::group::{self, Position};
use crate::format::record::{self, Record, record_size};
use crate::fs::{File, read_full_at};
use crate::log::scan::Scanner;
use crate::log::walk;
pub(crate) use crate::log::walk::{Break, Piece};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Goes through the groups from `scanner`'s place to its end.
pub(crate) fn walk(
    mut scanner: Scanner,
    on: &mut dyn FnMut(Piece<'_>) -> Result<(), Stop>,
) -> Result<(), Stop> {
    walk::walk(&mut scanner, on)
}

/// Where the groups of a segment are looked for.
pub(crate) fn scanner(
    file: &Arc<dyn File>,
    store: u64,
    at: Position,
    end: u64,
    chain: Option<u64>,
) -> Scanner {
    Scanner::new(file.clone(), store, at, end, chain)
}

/// The sound records of a broken place.
#[derive(Debug, Default)]
pub(crate) struct Salvage {
    bytes: Vec<u8>,
    /// Where the bytes begin in the segment.
    at: u64,
    /// Rising; in `bytes`.
    found: Vec<Range<usize>>,
}

impl Salvage {
    /// The records with their offsets in the segment.
    pub(crate) fn records(&self) -> impl Iterator<Item = (u64, Record<'_>)> {
        self.found.iter().map(|range| {
            let record =
                record::decode(&self.bytes[range.clone()]).expect("it was decoded when it was found");
            (self.at + range.start as u64, record)
        })
    }

    /// Whether the record at this offset was found.
    pub(crate) fn has(&self, offset: u64) -> bool {
        self.found.binary_search_by_key(&offset, |range| self.at + range.start as u64).is_ok()
    }
}

/// Finds the records in a broken place that pass their checks and lie where something sound says that a
/// record lies: in line behind the group's start, one damaged record being stepped over by the size that
/// it announces; or where the hint names this very record.
pub(crate) fn salvage(file: &dyn File, place: &Break, hint: Option<&Hint>) -> io::Result<Salvage> {
    let mut bytes = vec![0; (place.end - place.at.offset) as usize];
    let read = read_full_at(file, &mut bytes, place.at.offset)?;
    bytes.truncate(read);
    let mut found = in_line(&bytes, place);
    for row in hint.into_iter().flat_map(|hint| hint.rows(place.at.offset..place.end)) {
        let start = (row.offset - place.at.offset) as usize;
        let record = bytes.get(start..).and_then(|bytes| record::decode(bytes).ok());
        if record.is_some_and(|record| record.header == row.header && record.key == &*row.key) {
            found.push(start..start + row.header.record_size() as usize);
        }
    }
    found.sort_by_key(|range| range.start);
    found.dedup();
    Ok(Salvage { bytes, at: place.at.offset, found })
}

fn in_line(bytes: &[u8], place: &Break) -> Vec<Range<usize>> {
    let merged = place.header.is_some_and(|header| header.merged);
    let first = place.header.map(|header| header.first_sequence);
    let Some(mut expected) = first.or(place.before.map(|before| before + 1)) else { return Vec::new() };
    let sound = |at: usize, expected: u64| {
        let record = record::decode(bytes.get(at..)?).ok()?;
        let sequence = record.header.sequence;
        let fits = if merged { sequence >= expected } else { sequence == expected };
        fits.then(|| at + record.header.record_size() as usize)
    };
    let next = |expected: u64| if merged { expected } else { expected + 1 };
    let (mut at, mut found) = (group::HEADER, Vec::new());
    while at < bytes.len() {
        match sound(at, expected) {
            Some(end) => {
                found.push(at..end);
                at = end;
            }
            None => {
                let Some(over) = announced(bytes, at) else { break };
                if sound(over, next(expected)).is_none() {
                    break;
                }
                at = over;
            }
        }
        expected = next(expected);
    }
    found
}

/// Where the record at `at` ends by its own words, which nothing vouches for.
fn announced(bytes: &[u8], at: usize) -> Option<usize> {
    let size = |from: usize| Some(u32::from_le_bytes(bytes.get(from..from + 4)?.try_into().ok()?) as usize);
    at.checked_add(record_size(size(at + 4)?, size(at + 8)?) as usize)
}

/// Why a walk ended before the end.
pub(crate) enum Stop {
    Read(io::Error),
    Told(Box<ToolError>),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Read(error)
    }
}

impl From<ToolError> for Stop {
    fn from(error: ToolError) -> Stop {
        Stop::Told(Box::new(error))
    }
}

impl Stop {
    /// The error, if the segment at `path` was read.
    pub(crate) fn told(self, path: &Path) -> ToolError {
        match self {
            Stop::Read(error) => ToolError::io("read", path)(error),
            Stop::Told(error) => *error,
        }
    }
}
