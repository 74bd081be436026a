//! A new store that holds what the old one held after an earlier sequence.
//!
//! Segments that end before it are taken over whole; of others the records up to it are written anew. What
//! compaction has dropped cannot be brought back: the manifest's restore floor says from where on nothing
//! is missing.

use super::build::Build;
use super::source::Source;
use super::survey::{Judged, Survey, survey};
use super::walk::{Piece, scanner, walk};
use super::{Note, Progress, ToolError};
use crate::engine::databases::random_u64;
use crate::format::group::{GroupHeader, Position};
use crate::format::manifest::{Manifest, SegmentEntry};
use crate::format::record::Record;
use crate::fs::FileSystem;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// After the record with this number.
    Sequence(u64),
    /// Before the first record that was appended later than this, in Unix milliseconds. Of a record that
    /// compaction has copied only the second is known: it counts as the end of that second.
    Time(u64),
}

/// What a restore has made.
#[derive(Debug, Clone)]
pub struct Restored {
    /// The store stands as it did after this sequence.
    pub sequence: u64,
    /// The sequence at which the source ends.
    pub last: u64,
    /// Records taken over, dead ones too.
    pub records: u64,
    /// What was found in the source and does no harm.
    pub notes: Vec<Note>,
}

/// Builds in `to` the store that `dir` was at `target`.
///
/// # Errors
/// [`ToolError`]; there is no `to` then.
pub fn restore(
    fs: Arc<dyn FileSystem>,
    dir: &Path,
    to: &Path,
    target: Target,
    progress: &mut dyn Progress,
) -> Result<Restored, ToolError> {
    let source = Source::open(fs, dir)?;
    let (found, history) = look(&source, target, progress)?;
    if let Some(first) = found.places.first() {
        return Err(ToolError::Damaged { first: Box::new(first.clone()), places: found.places.len() });
    }
    let upto = history.resolve(target, &found)?;
    let build = Build::begin(&source, to, found.manifest.store)?;
    let mut manifest = Manifest {
        incarnation: random_u64(),
        generation: 1,
        // Numbers above the restored sequence have been seen and undone: no feed goes on across that.
        feed_floor: found.manifest.sequence_limit,
        watermark: Position::default(),
        chain: upto,
        segments: Vec::new(),
        ..found.manifest
    };
    progress.begin("writing", found.segments.iter().map(|judged| judged.length).sum());
    let mut records = 0;
    for judged in &found.segments {
        let summary = &judged.summary;
        let entry = if summary.records == 0 || summary.lowest > upto {
            None
        } else if summary.highest <= upto {
            Some(build.carry(judged)?)
        } else {
            manifest.next_segment += 1;
            let id = manifest.next_segment - 1;
            trim(&build, &manifest, judged, id, upto)?
        };
        progress.advance(judged.length);
        if let Some(sealed) = entry.and_then(|entry| entry.sealed) {
            records += sealed.records;
        }
        manifest.segments.extend(entry);
    }
    manifest.segments.sort_by_key(|entry| entry.id);
    build.seal(&manifest)?;
    build.finish()?;
    Ok(Restored { sequence: upto, last: found.last, records, notes: found.notes })
}

/// Times, as far as a target and a refusal need them.
#[derive(Default)]
struct History {
    /// The lowest sequence above the target time.
    later: Option<u64>,
    /// The lowest sequence of all, and its time.
    first: Option<(u64, u64)>,
    /// The lowest sequence at or above the restore floor, and its time.
    floor: Option<(u64, u64)>,
}

fn look(
    source: &Source,
    target: Target,
    progress: &mut dyn Progress,
) -> Result<(Survey, History), ToolError> {
    let floor = match source.manifest()? {
        super::source::Found::Sound(manifest) => manifest.restore_floor,
        _ => 0,
    };
    let mut history = History::default();
    let found = survey(source, true, progress, &mut |header, record| {
        let (sequence, time) = (record.header.sequence, latest(header));
        if history.first.is_none_or(|(lowest, _)| sequence < lowest) {
            history.first = Some((sequence, time));
        }
        if sequence >= floor && history.floor.is_none_or(|(lowest, _)| sequence < lowest) {
            history.floor = Some((sequence, time));
        }
        if matches!(target, Target::Time(asked) if time > asked) {
            history.later = Some(history.later.map_or(sequence, |lowest| lowest.min(sequence)));
        }
    })?;
    Ok((found, history))
}

/// The latest time at which a record of the group can have been appended.
fn latest(header: &GroupHeader) -> u64 {
    if header.merged { header.time_ms / 1000 * 1000 + 999 } else { header.time_ms }
}

impl History {
    /// The sequence that a target means.
    fn resolve(&self, target: Target, found: &Survey) -> Result<u64, ToolError> {
        let upto = match target {
            Target::Sequence(sequence) => sequence,
            Target::Time(_) => self.later.map_or(found.last, |later| later - 1),
        };
        let floor = found.manifest.restore_floor;
        if upto < floor {
            return Err(ToolError::BelowFloor { floor, time_ms: self.floor.map(|(_, time)| time) });
        }
        // Where something was dropped already, what is first now need not have been the first.
        if let (Target::Time(_), Some((sequence, time_ms))) = (target, self.first)
            && upto < sequence
            && floor == 0
        {
            return Err(ToolError::BeforeFirst { sequence, time_ms });
        }
        if upto > found.last {
            return Err(ToolError::BeyondEnd { last: found.last });
        }
        Ok(upto)
    }
}

/// Writes the records of a segment up to a sequence into a new one.
fn trim(
    build: &Build,
    manifest: &Manifest,
    judged: &Judged,
    id: u64,
    upto: u64,
) -> Result<Option<SegmentEntry>, ToolError> {
    let inputs = judged.opened.header.as_ref().map_or(Vec::new(), |header| header.inputs.clone());
    let path = &judged.opened.path;
    let changed = || ToolError::io("read", path)(io::Error::other("the segment changed while it was read"));
    let file = judged.opened.file.as_ref().ok_or_else(changed)?;
    let mut writer = build.segment(id, judged.entry.merged, inputs)?;
    let first = Position { segment: judged.entry.id, offset: judged.first };
    walk(scanner(file, manifest.store, first, judged.length, None), &mut |piece| match piece {
        Piece::Group(group) => {
            let kept = group.records().map(|(_, record)| record);
            let kept: Vec<Record<'_>> = kept.filter(|record| record.header.sequence <= upto).collect();
            Ok(writer.group(Some(&group.header), group.header.time_ms, &kept)?)
        }
        Piece::Break(_) => Err(changed().into()),
    })
    .map_err(|stop| stop.told(path))?;
    writer.finish()
}
