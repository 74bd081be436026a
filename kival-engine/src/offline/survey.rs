//! Reading a whole directory and judging it: what is sound, what is damaged, what does no harm.
//!
//! Sealed segments must be whole. Of open ones, and of all where no manifest says which are sealed, what
//! lies below a watermark must be; recovery's own measure ([`tail::measure`]) decides how far the log goes.

use super::hints::Hint;
use super::source::{Found, Opened, Source, is_newer};
use super::walk::{Break, Piece, Stop, salvage, scanner, walk};
use super::{Flaw, Note, Place, Progress, ToolError, rebuild};
use crate::engine::databases::NamespaceMap;
use crate::error::{Corruption, Damage, OpenError};
use crate::format::group::{GroupHeader, Position};
use crate::format::manifest::{Manifest, Sealed, SegmentEntry};
use crate::format::record::{Kind, Record};
use crate::format::segment::{self, MANIFEST, hint_name};
use crate::log::scan::end_of_bytes;
use crate::recovery::Found as Segment;
use crate::recovery::{strays, tail};
use std::io;
use std::path::Path;

/// Where the segments begin in a manifest, and how many bytes one takes.
const ENTRIES: (u64, u64) = (104, 48);

/// Is shown every sound record of the log.
pub(crate) type Visit<'a> = &'a mut dyn FnMut(&GroupHeader, &Record<'_>);

/// A segment as it was found.
pub(crate) struct Judged {
    pub(crate) entry: SegmentEntry,
    pub(crate) opened: Opened,
    /// Where its first group should stand.
    pub(crate) first: u64,
    /// How far it counts.
    pub(crate) length: u64,
    /// What is broken below that.
    pub(crate) breaks: Vec<Break>,
    /// Whether its hint can be used and tells the truth.
    pub(crate) hint_sound: bool,
    /// The hint of a broken segment, if it can be used.
    pub(crate) hint: Option<Hint>,
    /// What its whole groups hold.
    pub(crate) summary: Sealed,
}

/// A directory as it was found.
pub(crate) struct Survey {
    /// What stands, or what it must have been.
    pub(crate) manifest: Manifest,
    /// Whether that was made up.
    pub(crate) rebuilt: bool,
    pub(crate) segments: Vec<Judged>,
    pub(crate) places: Vec<Place>,
    pub(crate) notes: Vec<Note>,
    /// The sequence of the last record of the log.
    pub(crate) last: u64,
}

/// Reads everything that counts in `source`. A manifest that is not trusted is made up anew from the
/// segments, as one that is missing or damaged.
pub(crate) fn survey(
    source: &Source,
    trust: bool,
    progress: &mut dyn Progress,
    visit: Visit<'_>,
) -> Result<Survey, ToolError> {
    let mut places = Vec::new();
    let mut made_up = |damage: Damage| {
        let file = source.dir.join(MANIFEST);
        places.push(Place { file, offset: 0, end: 0, flaw: damage.into(), keys: Vec::new() });
        rebuild::manifest(source)
    };
    let (manifest, rebuilt) = match source.manifest()? {
        Found::Sound(manifest) if trust => (manifest, false),
        Found::Sound(_) => (rebuild::manifest(source)?, true),
        Found::Missing => (made_up(Damage::Missing)?, true),
        Found::Damaged(damage) => (made_up(damage)?, true),
    };
    let open = |entry: &SegmentEntry| Ok((*entry, source.segment(manifest.store, entry.id)?));
    let opened: Vec<(SegmentEntry, Opened)> = manifest.segments.iter().map(open).collect::<Result<_, _>>()?;
    let log = LogEnd::find(&manifest, rebuilt, &opened)?;
    let bytes = |(entry, opened): &(SegmentEntry, Opened)| entry.sealed.map_or(opened.len, |s| s.length);
    progress.begin("reading", opened.iter().map(bytes).sum());
    let last = manifest.chain;
    let survey = Survey { manifest, rebuilt, segments: Vec::new(), places, notes: Vec::new(), last };
    let mut surveyor = Surveyor { source, progress, visit, survey, log };
    surveyor.names()?;
    for (index, (entry, opened)) in opened.into_iter().enumerate() {
        surveyor.segment(index, entry, opened)?;
    }
    Ok(surveyor.finish())
}

/// How far the open segments count.
enum LogEnd {
    /// As recovery sees it: where each open segment ends, by id, the last sequence, the watermark.
    Measured { ends: Vec<(u64, u64)>, last: u64, watermark: Position },
    /// There is damage: what is broken below this counts as damage, and above it ends the log.
    Watermark { watermark: Position, corruption: Option<Corruption>, ended: bool, previous: Option<u64> },
}

impl LogEnd {
    fn find(
        manifest: &Manifest,
        rebuilt: bool,
        opened: &[(SegmentEntry, Opened)],
    ) -> Result<LogEnd, ToolError> {
        let open = opened.iter().filter(|(entry, _)| entry.sealed.is_none());
        let found: Vec<Segment> =
            open.clone().filter_map(|(entry, opened)| as_segment(entry, opened)).collect();
        let mut corruption = None;
        if !rebuilt && found.len() == open.clone().count() {
            match tail::measure(manifest, &found) {
                Ok(extent) => {
                    let ends = found.iter().zip(extent.ends).map(|(found, end)| (found.entry.id, end));
                    let (last, watermark) = (extent.last_sequence, extent.watermark);
                    return Ok(LogEnd::Measured { ends: ends.collect(), last, watermark });
                }
                Err(OpenError::Corrupt(Corruption { file, offset, damage })) if is_newer(damage) => {
                    return Err(ToolError::Newer { file, offset, damage });
                }
                Err(OpenError::Corrupt(found)) => corruption = Some(found),
                Err(OpenError::Io { path, source, .. }) => return Err(ToolError::io("read", path)(source)),
                Err(other) => return Err(ToolError::io("read", MANIFEST)(io::Error::other(other))),
            }
        }
        let mut watermark = manifest.watermark;
        for (entry, opened) in open {
            let Some(file) = &opened.file else { continue };
            let start = Position { segment: entry.id, offset: 0 };
            let mut headers = scanner(file, manifest.store, start, opened.len, None);
            let found = headers.watermark_beyond().map_err(ToolError::io("read", &opened.path))?;
            watermark = watermark.max(found);
        }
        let previous = (!rebuilt).then_some(manifest.chain);
        Ok(LogEnd::Watermark { watermark, corruption, ended: false, previous })
    }
}

fn as_segment(entry: &SegmentEntry, opened: &Opened) -> Option<Segment> {
    Some(Segment {
        entry: *entry,
        file: opened.file.clone()?,
        path: opened.path.clone(),
        header_size: opened.header.as_ref().ok()?.size(),
        len: opened.len,
        missing: false,
        damaged: false,
    })
}

struct Surveyor<'a> {
    source: &'a Source,
    progress: &'a mut dyn Progress,
    visit: Visit<'a>,
    survey: Survey,
    log: LogEnd,
}

impl Surveyor<'_> {
    fn place(&mut self, file: &Path, (offset, end): (u64, u64), flaw: impl Into<Flaw>) {
        let (file, flaw) = (file.to_owned(), flaw.into());
        self.survey.places.push(Place { file, offset, end, flaw, keys: Vec::new() });
    }

    /// Files that the manifest does not name.
    fn names(&mut self) -> Result<(), ToolError> {
        let (source, manifest) = (self.source, &self.survey.manifest);
        let named = |id: u64| manifest.segments.iter().any(|entry| entry.id == id);
        let stray = |name: &&String| match segment::id_of(name) {
            Some(id) => !named(id),
            None => name.ends_with(".tmp"),
        };
        let strays: Vec<String> = source.names.iter().filter(stray).cloned().collect();
        let later = match &self.log {
            LogEnd::Measured { last, watermark, .. } => {
                let (fs, dir) = (&*source.fs, &source.dir);
                let later = strays::later(fs, dir, manifest.store, &strays, *last, *watermark);
                later.map_err(|error| ToolError::io("read", dir)(io::Error::other(error)))?
            }
            LogEnd::Watermark { .. } => None,
        };
        for name in &strays {
            let file = source.dir.join(name);
            let above = segment::id_of(name).is_some_and(|id| id >= self.survey.manifest.next_segment);
            if above {
                self.place(&file, (0, 0), Flaw::AboveIds);
            } else if later == Some(name) {
                self.place(&file, (0, 0), Flaw::Later);
            } else {
                self.survey.notes.push(Note::Stray { file });
            }
        }
        Ok(())
    }

    fn segment(&mut self, index: usize, entry: SegmentEntry, opened: Opened) -> Result<(), ToolError> {
        let first = opened.header.as_ref().map_or(0, |header| header.size());
        let length = entry.sealed.map_or(opened.len, |sealed| sealed.length);
        let mut judged = Judged {
            entry,
            opened,
            first,
            length,
            breaks: Vec::new(),
            hint_sound: false,
            hint: None,
            summary: Sealed::default(),
        };
        if let LogEnd::Measured { ends, .. } = &self.log
            && let Some(&(_, end)) = ends.iter().find(|(id, _)| *id == entry.id)
        {
            judged.length = end;
        }
        let mut hint = self.read_hint(&judged);
        self.walk(&mut judged, &mut hint)?;
        let at = |end: u64| Position { segment: entry.id, offset: end };
        let short = match &self.log {
            _ if entry.sealed.is_some() => length,
            LogEnd::Watermark { watermark, .. } if watermark.segment == entry.id => watermark.offset,
            _ => 0,
        };
        let damage = if judged.opened.file.is_some() { Damage::Truncated } else { Damage::Missing };
        let len = judged.opened.len;
        if len < short {
            match judged.breaks.last_mut() {
                Some(last) if last.end == len => last.end = short,
                last => {
                    let (before, end) = (last.and_then(|last| last.before), short);
                    let missing = Break { at: at(len), end, damage, before, after: None, header: None };
                    judged.breaks.push(missing);
                }
            }
            judged.length = short;
        }
        self.note_torn_tail(&judged)?;
        self.judge(index, &mut judged, hint)?;
        self.survey.segments.push(judged);
        Ok(())
    }

    fn read_hint(&mut self, judged: &Judged) -> Option<Hint> {
        let id = judged.entry.id;
        if judged.entry.sealed.is_none() && !self.survey.rebuilt {
            return None;
        }
        let (source, store) = (self.source, self.survey.manifest.store);
        let file = source.dir.join(hint_name(id));
        match Hint::read(&*source.fs, &source.dir, store, id, judged.length) {
            Ok(hint) => {
                if let Err(why) = &hint.filter {
                    self.survey.notes.push(Note::Filter { file, why: why.clone() });
                }
                Some(hint)
            }
            Err(why) => {
                if judged.entry.sealed.is_some() {
                    self.survey.notes.push(Note::Hint { file, why });
                }
                None
            }
        }
    }

    /// Goes through the segment as far as it counts.
    fn walk(&mut self, judged: &mut Judged, hint: &mut Option<Hint>) -> Result<(), ToolError> {
        let Some(file) = judged.opened.file.clone() else { return Ok(()) };
        let (entry, path) = (judged.entry, judged.opened.path.clone());
        let from = Position { segment: entry.id, offset: judged.first };
        let chain = match &self.log {
            LogEnd::Watermark { previous, .. } if entry.sealed.is_none() && !self.survey.rebuilt => *previous,
            _ => None,
        };
        let end = judged.length.min(judged.opened.len);
        let groups = scanner(&file, self.survey.manifest.store, from, end, chain);
        // Behind what ended the log in this segment nothing of it counts.
        let mut stopped = false;
        walk(groups, &mut |piece| match piece {
            Piece::Group(group) if self.group_counts(&group.header, judged, &mut stopped) => {
                for (offset, record) in group.records() {
                    self.record(&path, (offset, &record), &group.header, judged, hint)?;
                }
                self.progress.advance(group.header.group_size().unwrap_or_default());
                Ok(())
            }
            Piece::Group(_) => Ok(()),
            Piece::Break(found) => self.broken(found, judged, hint.is_some(), &mut stopped),
        })
        .map_err(|stop| stop.told(&path))
    }

    /// Whether a whole group is part of the log, which ends before the first one that is not.
    fn group_counts(&mut self, header: &GroupHeader, judged: &mut Judged, stopped: &mut bool) -> bool {
        if let LogEnd::Watermark { ended, previous, .. } = &mut self.log
            && judged.entry.sealed.is_none()
            && !header.merged
        {
            // As in recovery: what chains goes on, whatever was passed over.
            *ended &= *stopped || *previous != Some(header.previous_sequence);
            if *ended {
                judged.length = judged.length.min(header.at.offset);
                *stopped = true;
                return false;
            }
            *previous = Some(header.first_sequence + u64::from(header.records) - 1);
        }
        true
    }

    /// Notes a place where no whole group stands: as damage, or as the end of the log.
    fn broken(
        &mut self,
        mut found: Break,
        judged: &mut Judged,
        has_hint: bool,
        stopped: &mut bool,
    ) -> Result<(), Stop> {
        let (entry, at) = (judged.entry, found.at);
        if at.offset < judged.first || judged.first == 0 && at.offset == 0 {
            found.damage = judged.opened.header.as_ref().err().copied().unwrap_or(found.damage);
        }
        if let Some(sealed) = entry.sealed.filter(|_| !entry.merged && at.offset <= judged.first) {
            found.before = sealed.lowest.checked_sub(1);
        }
        if is_newer(found.damage) {
            let file = judged.opened.path.clone();
            return Err(ToolError::Newer { file, offset: at.offset, damage: found.damage }.into());
        }
        self.progress.advance(found.end - at.offset);
        if let LogEnd::Watermark { watermark, ended, .. } = &mut self.log
            && entry.sealed.is_none()
            && !entry.merged
            && (*ended || at >= *watermark)
        {
            (*ended, *stopped) = (true, true);
            judged.length = judged.length.min(at.offset);
            return Ok(());
        }
        if self.is_runway(&found, judged, has_hint)? {
            // Whether records are lost there the next segment tells, by what it chains to.
            judged.length = judged.length.min(at.offset);
            return Ok(());
        }
        if let LogEnd::Watermark { previous, .. } = &mut self.log
            && entry.sealed.is_none()
        {
            // What the next segment chains to may have stood here.
            *previous = None;
        }
        judged.breaks.push(found);
        Ok(())
    }

    fn record(
        &mut self,
        path: &Path,
        (offset, record): (u64, &Record<'_>),
        header: &GroupHeader,
        judged: &mut Judged,
        hint: &mut Option<Hint>,
    ) -> Result<(), ToolError> {
        let (sequence, limit) = (record.header.sequence, self.survey.manifest.sequence_limit);
        match record.header.kind {
            Kind::Root | Kind::Element | Kind::ElementTombstone => {
                let damage = Damage::Unsupported;
                return Err(ToolError::Newer { file: path.to_owned(), offset, damage });
            }
            Kind::Namespaces => {
                if let Err(damage) = NamespaceMap::decode(record.value) {
                    self.place(path, (offset, offset + record.header.record_size()), damage);
                }
            }
            Kind::Value | Kind::Tombstone | Kind::Expiry | Kind::Page => {}
        }
        if sequence > limit {
            self.place(path, (offset, offset), Flaw::AboveLimit { sequence, limit });
        }
        let summary = &mut judged.summary;
        summary.lowest = if summary.records == 0 { sequence } else { summary.lowest.min(sequence) };
        summary.highest = summary.highest.max(sequence);
        summary.records += 1;
        self.survey.last = self.survey.last.max(sequence);
        if let Some(hint) = hint {
            hint.compare(offset, record);
        }
        (self.visit)(header, record);
        Ok(())
    }

    /// Whether a broken place is but zeros at the end of a segment that may have been open, and that is not
    /// known to have held groups there: by its hint, or by a watermark in it.
    fn is_runway(&self, found: &Break, judged: &Judged, hinted: bool) -> io::Result<bool> {
        let opened = &judged.opened;
        let (LogEnd::Watermark { watermark, .. }, Some(file)) = (&self.log, &opened.file) else {
            return Ok(false);
        };
        let known = hinted || (watermark.segment == judged.entry.id && found.at < *watermark);
        if judged.entry.sealed.is_some() || judged.entry.merged || known || found.end != opened.len {
            return Ok(false);
        }
        let begins = found.at.offset;
        Ok(begins < found.end && end_of_bytes(&**file, begins, found.end)? == begins)
    }

    fn note_torn_tail(&mut self, judged: &Judged) -> Result<(), ToolError> {
        let (offset, opened) = (judged.length, &judged.opened);
        let Some(read) = &opened.file else { return Ok(()) };
        if judged.entry.sealed.is_none() {
            let end =
                end_of_bytes(&**read, offset, opened.len).map_err(ToolError::io("read", &opened.path))?;
            let (file, bytes) = (opened.path.clone(), end - offset);
            self.survey.notes.extend((bytes > 0).then_some(Note::TornTail { file, offset, bytes }));
        }
        Ok(())
    }

    /// Names what is wrong with a segment that has been read.
    fn judge(&mut self, index: usize, judged: &mut Judged, hint: Option<Hint>) -> Result<(), ToolError> {
        let path = judged.opened.path.clone();
        let mut in_breaks = 0;
        for found in &judged.breaks {
            let mut keys = Vec::new();
            if let Some(hint) = &hint {
                let saved = match &judged.opened.file {
                    Some(file) => salvage(&**file, found, Some(hint)),
                    None => Ok(Default::default()),
                };
                let saved = saved.map_err(ToolError::io("read", &path))?;
                let rows = hint.rows(found.at.offset..found.end);
                in_breaks += rows.len();
                let lost = rows.iter().filter(|row| !saved.has(row.offset));
                keys = lost.map(|row| row.key.to_vec()).collect();
            }
            let (offset, end, flaw) = (found.at.offset, found.end, found.damage.into());
            self.survey.places.push(Place { file: path.clone(), offset, end, flaw, keys });
        }
        if let Some(hint) = &hint
            && let Some(lie) = hint.lie(in_breaks)
        {
            self.place(&self.source.dir.join(hint_name(judged.entry.id)), (0, 0), lie);
        } else {
            judged.hint_sound = hint.is_some();
        }
        if judged.hint_sound && !judged.breaks.is_empty() {
            judged.hint = hint;
        }
        if let Some(sealed) = judged.entry.sealed {
            let told = Sealed { length: judged.summary.length, ..sealed };
            if judged.breaks.is_empty() && told != judged.summary {
                let at = ENTRIES.0 + ENTRIES.1 * index as u64;
                self.place(&self.source.dir.join(MANIFEST), (at, at + ENTRIES.1), Flaw::Summary);
            }
        }
        Ok(())
    }

    /// Tells which damage is the disk's refusal, and names what it refused besides. A hint is never needed.
    fn name_refused(&mut self) {
        for (file, part) in self.source.refused.parts() {
            if file.extension().is_some_and(|extension| extension == "hint") {
                continue;
            }
            let places = self.survey.places.iter_mut();
            let mut within = places
                .filter(|place| place.file == file && place.offset < part.end && part.start <= place.end)
                .peekable();
            if within.peek().is_none() {
                drop(within);
                self.place(&file, (part.start, part.end), Damage::Unreadable);
            } else {
                within.for_each(|place| place.flaw = Damage::Unreadable.into());
            }
        }
    }

    fn finish(mut self) -> Survey {
        if let LogEnd::Watermark { corruption: Some(found), .. } = &self.log {
            let known = |place: &Place| place.file == found.file && place.offset == found.offset;
            if !self.survey.places.iter().any(known) {
                let (file, at, damage) = (found.file.clone(), found.offset, found.damage);
                self.place(&file, (at, at), damage);
            }
        }
        self.name_refused();
        if !self.survey.rebuilt && self.survey.manifest.segments.iter().any(|entry| entry.sealed.is_none()) {
            self.survey.notes.insert(0, Note::Unclean);
        }
        self.survey
    }
}
