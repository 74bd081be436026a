//! Reading a damaged segment: the whole groups in it, and the places between them.

use super::Found;
use crate::engine::quarantine::Zone;
use crate::error::{Damage, OpenError};
use crate::format::manifest::Sealed;
use crate::fs::File;
use crate::log::Home;
use crate::log::hint_file::HintReader;
use crate::log::scan::{Group, Scanner, Step};
use std::io;

/// Bytes that are no whole group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gap {
    pub(super) offset: u64,
    pub(super) end: u64,
    pub(super) damage: Damage,
    /// The sequence of the last record before it, if a group stands there.
    pub(super) after: Option<u64>,
    /// What the group behind it chains to, if one stands there and is of the log.
    pub(super) before: Option<u64>,
}

/// What stands in a damaged segment.
pub(super) enum Piece<'a> {
    Group(&'a Group<'a>),
    Gap(Gap),
}

/// Goes through the first `length` bytes of a segment, damage or not.
pub(super) fn salvage(
    home: &Home,
    found: &Found,
    length: u64,
    mut see: impl FnMut(Piece<'_>),
) -> Result<(), OpenError> {
    let end = found.len.min(length);
    let mut at = found.first_group();
    let mut last = None;
    let mut open: Option<(u64, Damage)> = None;
    'after_gap: loop {
        let mut scanner = Scanner::new(found.file.clone(), home.store, at, end, None);
        loop {
            let place = scanner.position();
            let known = scanner.previous().is_some();
            match scanner.step().map_err(found.io("read"))? {
                Step::Group(group) => {
                    let header = group.header;
                    if let Some((offset, damage)) = open.take() {
                        let before = (!header.merged).then_some(header.previous_sequence);
                        see(Piece::Gap(Gap { offset, end: place.offset, damage, after: last, before }));
                    }
                    see(Piece::Group(&group));
                    last = Some(header.first_sequence + u64::from(header.records) - 1);
                }
                Step::Broken(damage @ (Damage::Unsupported | Damage::Newer(_))) => {
                    return Err(found.corruption(place.offset, damage));
                }
                Step::Broken(damage) => {
                    open.get_or_insert((place.offset, damage));
                    // A whole group that only does not chain to what was before: records are missing.
                    let from = if damage == Damage::Order && known { place.offset } else { place.offset + 1 };
                    match scanner.header_from(from).map_err(found.io("read"))? {
                        Some(header) => {
                            at = header.at;
                            continue 'after_gap;
                        }
                        None => break 'after_gap,
                    }
                }
                Step::End => break 'after_gap,
            }
        }
    }
    if open.is_none() && end < length && length != u64::MAX {
        let missing = if found.missing { Damage::Missing } else { Damage::Truncated };
        open = Some((end, missing));
    }
    if let Some((offset, damage)) = open {
        let end = if length == u64::MAX { end } else { length };
        see(Piece::Gap(Gap { offset, end, damage, after: last, before: None }));
    }
    Ok(())
}

/// The zones that the gaps of a sealed segment are, after `records` sound records were found in it.
pub(super) fn zones(home: &Home, found: &Found, sealed: &Sealed, records: u64, gaps: &[Gap]) -> Vec<Zone> {
    if records == sealed.records {
        // What is damaged belongs to no record: the header of the segment.
        return Vec::new();
    }
    let reader = HintReader::open(&*home.fs, &home.dir, home.store, found.entry.id, sealed.length);
    let filter = reader.and_then(|reader| reader.filter()).ok();
    let zone = |gap: &Gap| {
        // Copies stand in no order: any of them may have stood in any gap.
        let known = |sequence: Option<u64>| sequence.filter(|_| !found.entry.merged);
        let lowest = known(gap.after).map_or(sealed.lowest, |last| last + 1);
        let highest = known(gap.before).unwrap_or(sealed.highest);
        (lowest <= highest).then(|| Zone {
            file: found.path.clone(),
            offset: gap.offset,
            bytes: gap.end - gap.offset,
            lowest,
            highest,
            damage: gap.damage,
            filter: filter.clone(),
        })
    };
    gaps.iter().filter_map(zone).collect()
}

/// A segment whose file is gone: there is nothing to read in it.
#[derive(Debug)]
pub(super) struct MissingFile;

impl File for MissingFile {
    fn read_at(&self, _buf: &mut [u8], _offset: u64) -> io::Result<usize> {
        Ok(0)
    }

    fn read_at_cached(&self, _buf: &mut [u8], _offset: u64) -> io::Result<Option<usize>> {
        Ok(Some(0))
    }

    fn write_at(&self, _buf: &[u8], _offset: u64) -> io::Result<usize> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(0)
    }

    fn truncate(&self, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn reserve(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
