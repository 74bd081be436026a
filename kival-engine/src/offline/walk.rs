//! Going through a segment past its damage, and what can still be read inside a broken place.
//!
//! What is looked for next after a broken place is a group header that names its own store, segment and
//! offset under a sound checksum. Nothing here decides what damage means.

use super::ToolError;
use super::hints::Hint;
use crate::error::Damage;
use crate::format::group::{self, GroupHeader, Position};
use crate::format::record::{self, Record, record_size};
use crate::fs::{File, read_full_at};
use crate::log::scan::{Group, Scanner, Step};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Bytes of a segment that are no whole group; none where a whole group does not chain to the one before.
#[derive(Debug, Clone)]
pub(crate) struct Break {
    pub(crate) at: Position,
    pub(crate) end: u64,
    pub(crate) damage: Damage,
    /// The last log sequence before, if it is known.
    pub(crate) before: Option<u64>,
    /// The last log sequence that was lost, if the next group tells.
    pub(crate) after: Option<u64>,
    /// The header that stands here, if that much of the group is sound.
    pub(crate) header: Option<GroupHeader>,
}

/// What a walk comes to.
pub(crate) enum Piece<'a> {
    Group(Group<'a>),
    Break(Break),
}

/// Goes through the groups from `scanner`'s place to its end.
pub(crate) fn walk(
    mut scanner: Scanner,
    on: &mut dyn FnMut(Piece<'_>) -> Result<(), Stop>,
) -> Result<(), Stop> {
    loop {
        let (at, before) = (scanner.position(), scanner.previous());
        let damage = match scanner.step()? {
            Step::Group(group) => {
                on(Piece::Group(group))?;
                continue;
            }
            Step::End => return Ok(()),
            Step::Broken(damage) => damage,
        };
        // A group that is whole but does not chain stays whole: what is before it is missing.
        if before.is_some() {
            scanner.unchain();
            if let Step::Group(group) = scanner.step()? {
                let (header, after) = (Some(group.header), Some(group.header.previous_sequence));
                on(Piece::Break(Break { at, end: at.offset, damage, before, after, header }))?;
                on(Piece::Group(group))?;
                continue;
            }
        }
        let header = scanner.header_here()?;
        let next = scanner.resume()?;
        let after = next.filter(|next| !next.merged).map(|next| next.previous_sequence);
        let end = scanner.position().offset;
        on(Piece::Break(Break { at, end, damage, before, after, header }))?;
    }
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
