//! A new store of all that is sound in a damaged one, and a report of what is lost.
//!
//! Nothing that was superseded comes back as if it were current: of a key of whose newest value a part is known
//! to be lost, since a sound hint names it, all other records are left out too. Tombstones and expiries that
//! are damaged are taken from such a hint, which holds all of them. Where no hint tells what was lost,
//! older records stay, and the report says that any key may have an older value.

use super::build::Build;
use super::check::check;
use super::source::Source;
use super::survey::{Judged, Survey, survey};
use super::walk::{Break, Piece, salvage, scanner, walk};
use super::{Flaw, Place, Progress, ToolError, report};
use crate::engine::databases::random_u64;
use crate::format::MAX_SEQUENCE;
use crate::format::group::Position;
use crate::format::manifest::{Manifest, SegmentEntry};
use crate::format::record::{Kind, PAGE_HEAD, Record};
use crate::fs::{FileSystem, read_full_at};
use crate::log::keeper::SEQUENCE_RESERVE;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A key whose newest value is lost, or a page of it. It is not in the repaired store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostKey {
    /// Its namespace; below 65,536 most often the number of the database.
    pub namespace: u32,
    /// The key.
    pub key: Vec<u8>,
    /// The sequence of the lost record, the highest if there are several.
    pub sequence: u64,
}

/// Records that are lost, and nothing tells of which keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The segment.
    pub file: PathBuf,
    /// Where it begins.
    pub offset: u64,
    /// Where it ends; at `offset` where the bytes are missing, too.
    pub end: u64,
    /// The lowest and the highest sequence that were lost, where the log tells.
    pub sequences: Option<(u64, u64)>,
}

/// What a repair has made.
#[derive(Debug, Clone, Default)]
pub struct Repaired {
    /// The damaged places of the source.
    pub places: Vec<Place>,
    /// Records in the new store, dead ones too.
    pub records: u64,
    /// Keys that are lost.
    pub lost: Vec<LostKey>,
    /// Lost records of unknown keys.
    pub gaps: Vec<Gap>,
    /// The sequence of the map from databases to namespaces, if the newest is lost: flushed keys may be
    /// there again, and databases exchanged.
    pub lost_map: Option<u64>,
    /// The highest sequence of lost records that later ones have superseded: what is current does not need
    /// them, but no state before the store's restore floor can be had any more.
    pub lost_history: Option<u64>,
    /// Whether the manifest was made up from the segments.
    pub rebuilt: bool,
    /// All this in words, as it is in the new directory.
    pub report: String,
}

/// Builds in `to` a store of what is sound in `dir`; nothing if all of it is.
///
/// # Errors
/// [`ToolError`]; there is no `to` then.
pub fn repair(
    fs: Arc<dyn FileSystem>,
    dir: &Path,
    to: &Path,
    progress: &mut dyn Progress,
) -> Result<Option<Repaired>, ToolError> {
    let source = Source::open(fs.clone(), dir)?;
    let mut found = survey(&source, true, progress, &mut |_, _| {})?;
    if found.places.is_empty() {
        return Ok(None);
    }
    let places = found.places.clone();
    if places.iter().any(|place| matches!(place.flaw, Flaw::AboveLimit { .. } | Flaw::AboveIds | Flaw::Later))
    {
        // The manifest is older than the files: it names the wrong ones.
        found = survey(&source, false, progress, &mut |_, _| {})?;
    }
    if found.segments.is_empty() {
        return Err(ToolError::NoStore { dir: dir.to_owned() });
    }
    let mut losses = Losses::of(&found)?;
    losses.look_for_others(&found, progress)?;
    let build = Build::begin(&source, to, found.manifest.store)?;
    let (manifest, records) = write(&build, &found, &losses, progress)?;
    set_aside(&build, &found)?;
    let lost = losses.keys.iter().map(|((namespace, key), lost)| LostKey {
        namespace: *namespace,
        key: key.to_vec(),
        sequence: lost.sequence(),
    });
    let mut repaired = Repaired {
        places,
        records,
        lost: lost.collect(),
        gaps: losses.gaps,
        lost_map: losses.map,
        lost_history: losses.history,
        rebuilt: found.rebuilt,
        report: String::new(),
    };
    repaired.lost.sort_by(|a, b| (a.namespace, &a.key).cmp(&(b.namespace, &b.key)));
    repaired.report = report::text(dir, &repaired);
    build.set_aside("REPORT", repaired.report.as_bytes())?;
    build.seal(&manifest)?;
    let again = check(fs, build.beside(), progress)?;
    if let Some(first) = again.places.into_iter().next() {
        return Err(ToolError::Damaged { first: Box::new(first), places: 1 });
    }
    build.finish()?;
    Ok(Some(repaired))
}

/// What is lost of a key, and what is sound of it as far as that tells whether it counts.
#[derive(Default)]
struct Lost {
    /// The highest sequence that is lost of each page by its number, and of whole values (`None`).
    parts: BTreeMap<Option<u32>, u64>,
    /// Segments, by index, that hold other records of the key.
    others: BTreeSet<usize>,
    /// The newest sound value or tombstone, and whether it is a value.
    newest: Option<(u64, bool)>,
    /// The newest sound record of each lost page: its sequence, and that of the value that it lies over.
    pages: BTreeMap<u32, (u64, u64)>,
}

impl Lost {
    fn add(&mut self, part: Option<u32>, sequence: u64) {
        let highest = self.parts.entry(part).or_default();
        *highest = sequence.max(*highest);
    }

    /// Meets a sound record of the key.
    fn meet(&mut self, record: &Record<'_>) {
        let (sequence, page) = (record.header.sequence, record.header.page());
        match record.header.kind {
            Kind::Value | Kind::Tombstone => {
                self.newest = self.newest.max(Some((sequence, record.header.kind == Kind::Value)));
            }
            Kind::Page if self.parts.contains_key(&Some(page)) => {
                let Some(over) = record.value.first_chunk::<PAGE_HEAD>() else { return };
                let newest = self.pages.entry(page).or_default();
                *newest = (*newest).max((sequence, u64::from_le_bytes(*over)));
            }
            _ => {}
        }
    }

    /// Forgets what has been superseded by something that is sound; `false` if nothing is left.
    fn retain_current(&mut self) -> bool {
        let Lost { parts, newest, pages, .. } = self;
        parts.retain(|part, lost| {
            let value_is_later = newest.is_some_and(|(sequence, _)| sequence >= *lost);
            // A page lies over the value of its time. If that is the newest that is sound, there was no other
            // in between, and the lost page lay over it too. If not, a value is lost of which no hint tells.
            let page_is_later = part
                .and_then(|number| pages.get(&number))
                .is_some_and(|(sequence, over)| sequence >= lost && *newest == Some((*over, true)));
            !(value_is_later || page_is_later)
        });
        !parts.is_empty()
    }

    /// The highest sequence that is lost.
    fn sequence(&self) -> u64 {
        self.parts.values().copied().max().unwrap_or_default()
    }
}

#[derive(Default)]
struct Losses {
    keys: HashMap<(u32, Box<[u8]>), Lost>,
    gaps: Vec<Gap>,
    map: Option<u64>,
    /// The highest of the lost records that a hint knows, superseded or not.
    history: Option<u64>,
}

impl Losses {
    /// What the broken places of all segments held.
    fn of(found: &Survey) -> Result<Losses, ToolError> {
        let mut losses = Losses::default();
        for judged in &found.segments {
            for place in &judged.breaks {
                losses.place(judged, place)?;
            }
        }
        Ok(losses)
    }

    fn place(&mut self, judged: &Judged, place: &Break) -> Result<(), ToolError> {
        let Some(hint) = &judged.hint else {
            return self.gap(judged, place);
        };
        let saved = saved(judged, place)?;
        for row in hint.rows(place.at.offset..place.end).iter().filter(|row| !saved.has(row.offset)) {
            let sequence = row.header.sequence;
            if matches!(row.header.kind, Kind::Namespaces | Kind::Value | Kind::Page) {
                self.history = self.history.max(Some(sequence));
            }
            match row.header.kind {
                Kind::Namespaces => self.map = self.map.max(Some(sequence)),
                // What is lost of a value takes all of it along: its other parts alone are no value that it had.
                Kind::Value | Kind::Page => {
                    let part = (row.header.kind == Kind::Page).then(|| row.header.page());
                    let lost = self.keys.entry((row.header.namespace, row.key.clone())).or_default();
                    lost.add(part, sequence);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn gap(&mut self, judged: &Judged, place: &Break) -> Result<(), ToolError> {
        let saved = saved(judged, place)?;
        let mut sequences: Vec<u64> = saved.records().map(|(_, record)| record.header.sequence).collect();
        sequences.sort_unstable();
        let sealed = judged.entry.sealed.filter(|_| !judged.entry.merged);
        let (first, last) = match &place.header {
            // Where nothing stands the header is that of the group behind.
            Some(header) if !header.merged && place.end > place.at.offset => {
                (Some(header.first_sequence), Some(header.first_sequence + u64::from(header.records) - 1))
            }
            _ => (place.before.map(|before| before + 1), None),
        };
        let last = place.after.or(last).or(sealed.map(|sealed| sealed.highest));
        let range = first.zip(last);
        if let Some((first, last)) = range
            && (first..=last).all(|sequence| sequences.binary_search(&sequence).is_ok())
        {
            return Ok(());
        }
        let (file, offset, end) = (judged.opened.path.clone(), place.at.offset, place.end);
        let sequences = range.filter(|(first, last)| first <= last);
        self.gaps.push(Gap { file, offset, end, sequences });
        Ok(())
    }

    /// Looks in all that is kept for other records of the lost keys.
    fn look_for_others(&mut self, found: &Survey, progress: &mut dyn Progress) -> Result<(), ToolError> {
        if self.keys.is_empty() && self.map.is_none() {
            return Ok(());
        }
        progress.begin("looking for older records", found.segments.iter().map(|j| j.length).sum());
        for (index, judged) in found.segments.iter().enumerate() {
            kept(found, judged, &mut |_, records| {
                records.iter().for_each(|record| self.other(index, record));
                Ok(())
            })?;
            progress.advance(judged.length);
        }
        self.keys.retain(|_, lost| lost.retain_current());
        Ok(())
    }

    fn other(&mut self, index: usize, record: &Record<'_>) {
        if record.header.kind == Kind::Namespaces {
            self.map = self.map.filter(|lost| *lost > record.header.sequence);
            return;
        }
        let key = (record.header.namespace, Box::from(record.key));
        if let Some(lost) = self.keys.get_mut(&key) {
            lost.others.insert(index);
            lost.meet(record);
        }
    }

    /// Whether this record belongs to a lost key: it would stand for a lost one, or has nothing to stand on. No
    /// value or tombstone of such a key is later than what is lost.
    fn hides(&self, record: &Record<'_>) -> bool {
        !self.keys.is_empty()
            && record.header.kind != Kind::Namespaces
            && self.keys.contains_key(&(record.header.namespace, Box::from(record.key)))
    }

    /// Whether an earlier state would lack something.
    fn touch_history(&self) -> bool {
        self.history.is_some() || !self.gaps.is_empty()
    }
}

fn saved(judged: &Judged, place: &Break) -> Result<super::walk::Salvage, ToolError> {
    let Some(file) = &judged.opened.file else { return Ok(Default::default()) };
    salvage(&**file, place, judged.hint.as_ref()).map_err(ToolError::io("read", &judged.opened.path))
}

/// Is shown the records of a group, or of a broken place, and when they were appended.
type Keep<'a> = &'a mut dyn FnMut(u64, &[Record<'_>]) -> Result<(), ToolError>;

/// Shows all of a segment that is sound: whole groups, records found in broken places, and what a hint
/// holds in full.
fn kept(found: &Survey, judged: &Judged, on: Keep<'_>) -> Result<(), ToolError> {
    let mut times =
        vec![judged.opened.header.as_ref().map_or(0, |header| header.created_ms); judged.breaks.len()];
    if let Some(file) = &judged.opened.file {
        let first = Position { segment: judged.entry.id, offset: judged.first };
        let end = judged.length.min(judged.opened.len);
        walk(scanner(file, found.manifest.store, first, end, None), &mut |piece| {
            if let Piece::Group(group) = piece {
                let after = judged.breaks.partition_point(|place| place.at < group.header.at);
                times[after..].fill(group.header.time_ms);
                let records: Vec<Record<'_>> = group.records().map(|(_, record)| record).collect();
                on(group.header.time_ms, &records)?;
            }
            Ok(())
        })
        .map_err(|stop| stop.told(&judged.opened.path))?;
    }
    for (place, time) in judged.breaks.iter().zip(times) {
        let saved = saved(judged, place)?;
        let mut records: Vec<Record<'_>> = saved.records().map(|(_, record)| record).collect();
        let rows = judged.hint.iter().flat_map(|hint| hint.rows(place.at.offset..place.end));
        let whole = rows.filter(|row| matches!(row.header.kind, Kind::Tombstone | Kind::Expiry));
        let whole = whole.filter(|row| !saved.has(row.offset));
        records.extend(whole.map(|row| Record { header: row.header, key: &row.key, value: b"" }));
        on(place.header.map_or(time, |header| header.time_ms), &records)?;
    }
    Ok(())
}

/// Writes the segments of the new store; gives its manifest and how many records it has.
fn write(
    build: &Build,
    found: &Survey,
    losses: &Losses,
    progress: &mut dyn Progress,
) -> Result<(Manifest, u64), ToolError> {
    let old = &found.manifest;
    let limit = if found.rebuilt {
        (found.last + SEQUENCE_RESERVE).min(MAX_SEQUENCE)
    } else {
        old.sequence_limit.max(found.last)
    };
    let mut manifest = Manifest {
        incarnation: random_u64(),
        generation: 1,
        sequence_limit: limit,
        // A feed would miss what is lost, and an earlier state would lack it.
        feed_floor: limit,
        restore_floor: if losses.touch_history() || found.rebuilt { limit } else { old.restore_floor },
        watermark: Position::default(),
        chain: found.last,
        segments: Vec::new(),
        ..old.clone()
    };
    progress.begin("writing", found.segments.iter().map(|judged| judged.length).sum());
    let mut records = 0;
    for (index, judged) in found.segments.iter().enumerate() {
        let hiding = losses.keys.values().any(|lost| lost.others.contains(&index));
        let entry = if !judged.breaks.is_empty() || hiding {
            manifest.next_segment += 1;
            rewrite(build, found, judged, losses, manifest.next_segment - 1)?
        } else if judged.summary.records > 0 {
            Some(build.carry(judged)?)
        } else {
            None
        };
        records += entry.and_then(|entry| entry.sealed).map_or(0, |sealed| sealed.records);
        manifest.segments.extend(entry);
        progress.advance(judged.length);
    }
    manifest.segments.sort_by_key(|entry| entry.id);
    Ok((manifest, records))
}

/// Writes what is kept of a segment into a merge output: what is lost has broken the log's chain.
fn rewrite(
    build: &Build,
    found: &Survey,
    judged: &Judged,
    losses: &Losses,
    id: u64,
) -> Result<Option<SegmentEntry>, ToolError> {
    let mut writer = build.segment(id, true, vec![judged.entry.id])?;
    kept(found, judged, &mut |time, records| {
        let records: Vec<Record<'_>> =
            records.iter().filter(|record| !losses.hides(record)).copied().collect();
        writer.group(None, time, &records)
    })?;
    writer.finish()
}

/// Saves the damaged bytes.
fn set_aside(build: &Build, found: &Survey) -> Result<(), ToolError> {
    for judged in &found.segments {
        let Some(file) = &judged.opened.file else { continue };
        for place in judged.breaks.iter().filter(|place| place.end > place.at.offset) {
            let mut bytes = vec![0; (place.end - place.at.offset) as usize];
            let read = read_full_at(&**file, &mut bytes, place.at.offset);
            bytes.truncate(read.map_err(ToolError::io("read", &judged.opened.path))?);
            if !bytes.is_empty() {
                let name = format!("{:016x}.{}-{}", judged.entry.id, place.at.offset, place.end);
                build.set_aside(&name, &bytes)?;
            }
        }
    }
    Ok(())
}
