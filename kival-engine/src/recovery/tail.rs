//! After an unclean stop: how far the log reaches, and making that much durable.
//!
//! The open segments are scanned to the end of the log. What no watermark speaks for may be in the page
//! cache only, so it is appended anew to a fresh segment; the open ones are sealed below it.

use super::{Found, TornTail, around, strays};
use crate::engine::options::OnCorruption;
use crate::error::{Damage, OpenError};
use crate::format::group::{self, GroupHeader, Position};
use crate::format::manifest::{Manifest, Sealed, SegmentEntry};
use crate::format::segment::file_name;
use crate::fs::write_all_at;
use crate::log::Home;
use crate::log::hint_file::{Summed, write_from_segment};
use crate::log::keeper::create_log_segment;
use crate::log::scan::{Scanner, Step};
use std::io;

/// The log of the stopped run, settled.
pub(super) struct Settled {
    /// Its segments, all sealed now.
    pub(super) sealed: Vec<Found>,
    /// The sequence of its last record.
    pub(super) last_sequence: u64,
    /// What was left behind.
    pub(super) torn: Vec<TornTail>,
}

/// How far the log reaches; the lists have a place for each open segment.
#[derive(Default)]
pub(crate) struct Extent {
    /// The offset at which its last whole group ends.
    pub(crate) ends: Vec<u64>,
    /// Up to where it is known to be on disk: what is sealed of it.
    pub(crate) cuts: Vec<u64>,
    /// Its groups above that, which are appended anew: from and to which offset.
    pub(crate) tails: Vec<(u64, u64)>,
    /// What the manifest is to say of it if there is damage in it.
    pub(crate) damaged: Vec<Option<Sealed>>,
    /// Everything below is on disk.
    pub(crate) watermark: Position,
    pub(crate) last_sequence: u64,
}

/// Decides how far the log of the `open` segments reaches, makes that durable, and names the result in
/// the manifest. Changes nothing if one of the `strays` shows that the manifest is an older one.
pub(super) fn settle(
    home: &Home,
    open: Vec<Found>,
    strays: &[String],
    policy: OnCorruption,
) -> Result<Settled, OpenError> {
    let extent = extent(home, &open, policy)?;
    if extent.damaged.iter().all(Option::is_none) {
        strays::check_manifest(home, strays, extent.last_sequence, extent.watermark)?;
    }
    let mut torn = Vec::new();
    for (found, &end) in open.iter().zip(&extent.ends) {
        let bytes = found.end_of_bytes(end)? - end;
        if bytes > 0 {
            let tail = TornTail { file: found.path.clone(), offset: end, bytes };
            tracing::warn!(
                file = %tail.file.display(), offset = tail.offset, bytes = tail.bytes,
                "the log ends in a torn tail: these bytes belong to appends that the crash cut off"
            );
            torn.push(tail);
        }
    }
    let moved = move_tail(home, &open, &extent)?;
    let mut sealed = Vec::new();
    for ((mut found, &cut), damaged) in open.into_iter().zip(&extent.cuts).zip(&extent.damaged) {
        if damaged.is_some() {
            found.file.sync().map_err(found.io("sync"))?;
            found.entry.sealed = *damaged;
            sealed.push(found);
        } else if cut > found.header_size {
            summarize(home, &mut found, cut)?;
            sealed.push(found);
        }
    }
    sealed.extend(moved);
    let change = |manifest: &mut Manifest| {
        manifest.segments.retain(|entry| entry.sealed.is_some());
        manifest.segments.extend(sealed.iter().map(|found| found.entry));
        manifest.chain = extent.last_sequence;
        // What was left behind as torn knows of no later one: by that it is told from a log that goes on.
        manifest.watermark = manifest.watermark.max(extent.watermark);
    };
    home.manifest.update(change).map_err(OpenError::io("write the manifest of", &*home.dir))?;
    Ok(Settled { sealed, last_sequence: extent.last_sequence, torn })
}

/// Up to where an open segment is known to be on disk.
pub(super) fn cut(found: &Found, end: u64, watermark: Position) -> u64 {
    match found.entry.id.cmp(&watermark.segment) {
        std::cmp::Ordering::Less => end,
        std::cmp::Ordering::Equal => watermark.offset.clamp(found.header_size, end),
        std::cmp::Ordering::Greater => found.header_size,
    }
}

/// How far the log reaches; around damage only where the policy is to go on.
fn extent(home: &Home, open: &[Found], policy: OnCorruption) -> Result<Extent, OpenError> {
    if open.iter().any(|found| found.missing) {
        return around::measure(home, open);
    }
    match measure(&home.manifest.get(), open) {
        Err(OpenError::Corrupt(corruption)) if policy == OnCorruption::Quarantine => {
            match corruption.damage {
                Damage::Unsupported | Damage::Newer(_) => Err(corruption.into()),
                _ => around::measure(home, open),
            }
        }
        measured => measured,
    }
}

/// How far the log of the `open` segments of a manifest reaches, or where there is damage. Only reads.
pub(crate) fn measure(manifest: &Manifest, open: &[Found]) -> Result<Extent, OpenError> {
    let mut watermark = manifest.watermark;
    let mut last_sequence = manifest.chain;
    let mut ends: Vec<u64> = Vec::new();
    // Where no whole group stood, and what stood there instead.
    let mut broken: Option<(usize, Scanner, Damage)> = None;
    for (index, found) in open.iter().enumerate() {
        let mut scanner = Scanner::new(
            found.file.clone(),
            manifest.store,
            found.first_group(),
            found.len,
            Some(last_sequence),
        );
        let mut stop = None;
        loop {
            match scanner.step().map_err(found.io("read"))? {
                Step::Group(group) => {
                    watermark = watermark.max(group.header.watermark);
                    // The chain goes on, so that what was passed over was never part of it.
                    broken = None;
                }
                Step::End => break,
                Step::Broken(damage @ (Damage::Unsupported | Damage::Newer(_))) => {
                    return Err(found.corruption(scanner.position().offset, damage));
                }
                Step::Broken(damage) => {
                    stop = Some(damage);
                    break;
                }
            }
        }
        last_sequence = scanner.previous().unwrap_or(last_sequence);
        let end = scanner.position().offset;
        ends.push(end);
        if let Some(damage) = stop {
            let nothing_whole = end == found.header_size;
            let log_ended = broken.is_some();
            broken.get_or_insert((index, scanner, damage));
            if nothing_whole || log_ended {
                break;
            }
        }
    }
    ends.extend(open[ends.len()..].iter().map(|found| found.header_size));
    if let Some((index, mut scanner, damage)) = broken {
        let end = scanner.position();
        let mut speaks = scanner.watermark_beyond().map_err(open[index].io("read"))?;
        for later in &open[index + 1..] {
            let mut scanner =
                Scanner::new(later.file.clone(), manifest.store, later.first_group(), later.len, None);
            speaks = speaks.max(scanner.watermark_beyond().map_err(later.io("read"))?);
        }
        watermark = watermark.max(speaks);
        if watermark > end {
            return Err(open[index].corruption(end.offset, damage));
        }
    }
    check_reach(open, &ends, watermark)?;
    let cuts: Vec<u64> = open.iter().zip(&ends).map(|(found, &end)| cut(found, end, watermark)).collect();
    let tails = cuts.iter().copied().zip(ends.iter().copied()).collect();
    Ok(Extent { ends, cuts, tails, damaged: vec![None; open.len()], watermark, last_sequence })
}

/// Everything below the watermark must be there, also where a file simply ends too early.
fn check_reach(open: &[Found], ends: &[u64], watermark: Position) -> Result<(), OpenError> {
    for (found, &end) in open.iter().zip(ends) {
        if found.entry.id == watermark.segment && end < watermark.offset {
            return Err(found.corruption(end, Damage::Truncated));
        }
    }
    Ok(())
}

/// Appends the groups between watermark and end anew to a fresh segment, and syncs it. No segment if
/// there are none.
fn move_tail(home: &Home, open: &[Found], extent: &Extent) -> Result<Option<Found>, OpenError> {
    if extent.tails.iter().all(|(from, end)| from == end) {
        return Ok(None);
    }
    let failed = OpenError::io("append the tail of the log anew in", &*home.dir);
    let copy = || -> io::Result<Found> {
        let fresh = create_log_segment(home)?;
        let mut at = Position { segment: fresh.id, offset: fresh.header_size };
        for (found, &(from, end)) in open.iter().zip(&extent.tails) {
            let start = Position { segment: found.entry.id, offset: from };
            let mut scanner = Scanner::new(found.file.clone(), home.store, start, end, None);
            while let Step::Group(group) = scanner.step()? {
                let header = GroupHeader { at, watermark: Position::default(), ..group.header };
                write_all_at(&*fresh.file, &header.encode(), at.offset)?;
                write_all_at(&*fresh.file, group.body(), at.offset + group::HEADER as u64)?;
                at.offset += (group::HEADER + group.body().len()) as u64;
            }
            if scanner.position().offset != end {
                return Err(io::Error::other("the tail of the log changed while it was read"));
            }
        }
        fresh.file.sync()?;
        Ok(Found {
            entry: SegmentEntry { id: fresh.id, merged: false, sealed: None },
            file: fresh.file,
            path: home.dir.join(file_name(fresh.id)),
            header_size: fresh.header_size,
            len: at.offset,
            missing: false,
            damaged: false,
        })
    };
    let mut fresh = copy().map_err(failed)?;
    let len = fresh.len;
    summarize(home, &mut fresh, len)?;
    Ok(Some(fresh))
}

/// Writes the hint of a segment that counts up to `length`, and marks it sealed.
fn summarize(home: &Home, found: &mut Found, length: u64) -> Result<(), OpenError> {
    // It is sealed now, so it is synced; a file that ended before the kernel knew is no exception.
    found.file.sync().map_err(found.io("sync"))?;
    let summed =
        write_from_segment(&*home.fs, &home.dir, home.store, found.file.clone(), found.first_group(), length);
    match summed.map_err(found.io("write the hint of"))? {
        Summed::Whole(summary) => found.entry.sealed = Some(summary),
        Summed::Broken(place, damage) => return Err(found.corruption(place.offset, damage)),
    }
    Ok(())
}
