//! Opening a store: from the files in a directory to the keydir, as `record_format.md` ("Recovery") says.
//!
//! [`tail`] decides how far the log of an unclean stop reaches and makes that durable; [`load`] reads
//! all segments. Nothing here looks at a clock: what has expired is found when it is looked at.

mod around;
mod gather;
mod load;
mod salvage;
pub(crate) mod strays;
pub(crate) mod tail;

use crate::engine::databases::{Databases, random_u64};
use crate::engine::options::{OnCorruption, Options};
use crate::engine::quarantine::{Quarantine, Zone};
use crate::error::{Corruption, Damage, OpenError};
use crate::format::group::Position;
use crate::format::manifest::Manifest;
use crate::format::manifest::SegmentEntry;
use crate::format::segment::{self, LOCK, RESERVE, file_name};
use crate::fs::{File, LockGuard};
use crate::log::Home;
use crate::log::keeper::{Prepared, SEQUENCE_RESERVE, create_log_segment};
use crate::log::manifest_file::{self, ManifestFile};
use crate::log::scan::{end_of_bytes, read_beginning, read_segment_header};
use crate::log::segments::{Held, Segment, SegmentState, Segments};
use crate::log::sync::{DurableMark, Mark};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What an open found.
#[derive(Debug, Clone, Default)]
pub struct OpenReport {
    /// Keys in all databases.
    pub keys: u64,
    /// Bytes of the segments that count.
    pub bytes: u64,
    /// Segments that count.
    pub segments: u64,
    /// Segments whose hint could not be used, so that all their records were read.
    pub scanned: u64,
    /// Whether the store had been closed cleanly.
    pub clean: bool,
    /// What stood after the end of the log, and was left behind.
    pub torn: Vec<TornTail>,
    /// Segments that are damaged.
    pub damaged_segments: u64,
    /// What was lost to damage, with [`OnCorruption::Quarantine`]: no key that it may concern is served.
    pub quarantined: Vec<Zone>,
    /// How long it took.
    pub elapsed: Duration,
}

/// Bytes after the end of the log: the rest of appends that a crash cut off. Nobody was told that
/// they were durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// The segment.
    pub file: PathBuf,
    /// Where the log ends in it.
    pub offset: u64,
    /// How many bytes stand there, zeros behind them not counted.
    pub bytes: u64,
}

/// A segment on disk, opened, its header checked.
pub(crate) struct Found {
    pub(crate) entry: SegmentEntry,
    pub(crate) file: Arc<dyn File>,
    pub(crate) path: PathBuf,
    pub(crate) header_size: u64,
    pub(crate) len: u64,
    /// There is no such file; it reads as an empty one.
    pub(crate) missing: bool,
    /// It is missing, too short, or its header cannot be read.
    pub(crate) damaged: bool,
}

impl Found {
    fn corruption(&self, offset: u64, damage: Damage) -> OpenError {
        Corruption { file: self.path.clone(), offset, damage }.into()
    }

    fn io(&self, action: &'static str) -> impl FnOnce(std::io::Error) -> OpenError + use<> {
        OpenError::io(action, self.path.clone())
    }

    /// Where the bytes behind `end` end; what was laid as a runway is none of them.
    fn end_of_bytes(&self, end: u64) -> Result<u64, OpenError> {
        end_of_bytes(&*self.file, end, self.len).map_err(self.io("read"))
    }

    fn first_group(&self) -> Position {
        Position { segment: self.entry.id, offset: self.header_size }
    }
}

/// An opened store, ready to be written to.
pub(crate) struct Opened {
    pub(crate) home: Home,
    pub(crate) lock: Box<dyn LockGuard>,
    pub(crate) durable: DurableMark,
    pub(crate) segments: Segments,
    pub(crate) databases: Databases,
    pub(crate) active: Prepared,
    /// The sequence of the last record in the log.
    pub(crate) last_logged: u64,
    /// The next number to be issued.
    pub(crate) next_sequence: u64,
    /// Sealed segments that have no usable hint.
    pub(crate) without_hint: Vec<u64>,
    /// What is in doubt because of damage.
    pub(crate) quarantine: Quarantine,
    pub(crate) report: OpenReport,
}

/// Opens the store of `options`.
pub(crate) fn open(options: &Options) -> Result<Opened, OpenError> {
    let started = Instant::now();
    let (fs, dir) = (&options.fs, &options.dir);
    fs.create_dir(dir).map_err(OpenError::io("create", dir))?;
    let lock_path = dir.join(LOCK);
    let lock = fs.lock(&lock_path).map_err(OpenError::io("lock", lock_path))?;
    let lock = lock.ok_or_else(|| OpenError::Locked { dir: dir.clone() })?;

    // Its space may be what makes this open possible. Where it cannot be had back, that may still be so.
    let _ = fs.remove(&dir.join(RESERVE));
    let home = open_home(options)?;
    let strays = strays::find(&home)?;
    let mut report = OpenReport::default();
    let manifest = home.manifest.get();
    let found: Vec<Found> = manifest
        .segments
        .iter()
        .map(|entry| find(&home, entry, options.on_corruption))
        .collect::<Result<_, _>>()?;
    let (mut sealed, open): (Vec<_>, Vec<_>) = found.into_iter().partition(|f| f.entry.sealed.is_some());
    report.clean = open.is_empty();
    let mut last_logged = manifest.chain;
    if open.is_empty() {
        strays::check_manifest(&home, &strays, last_logged, manifest.watermark)?;
    } else {
        let tail = tail::settle(&home, open, &strays, options.on_corruption)?;
        last_logged = tail.last_sequence;
        report.torn = tail.torn;
        sealed.extend(tail.sealed);
    }

    let mut segments = Segments::default();
    let slots: Vec<u32> = sealed.iter().map(|found| segments.insert(sealed_segment(&home, found))).collect();
    let readers = if options.background.is_lockstep() { 1 } else { load::READERS };
    let source = load::Source { home: &home, sealed: &sealed, slots: &slots, policy: options.on_corruption };
    let loaded = load::load(source, options.databases, readers)?;
    for (found, &slot) in sealed.iter().zip(&slots) {
        let damaged = found.damaged || loaded.damaged.contains(&found.entry.id);
        segments.get_mut(slot).quarantined = damaged;
        report.damaged_segments += u64::from(damaged);
    }
    for (slot, tally) in slots.iter().zip(&loaded.tallies) {
        let live = loaded.databases.live_in(*slot);
        let segment = segments.get_mut(*slot);
        segment.tally = *tally;
        if segment.merged {
            // As long as history is kept, a merge was to copy these; when they can go is not known.
            let bytes = segment.bytes.saturating_sub(live + segment.kept());
            segment.held = Held { bytes, until: last_logged };
        }
    }
    if report.damaged_segments == 0 {
        strays::remove(&home, &strays)?;
    } else if !strays.is_empty() {
        tracing::warn!(files = ?strays, "files that no manifest names stay where they are: they may be all that is left of a damaged one");
    }
    report.quarantined = loaded.quarantine.zones().to_vec();
    for zone in &report.quarantined {
        tracing::warn!(
            file = %zone.file.display(), offset = zone.offset, bytes = zone.bytes, damage = %zone.damage,
            sequences = format!("{} to {}", zone.lowest, zone.highest), filter = zone.has_filter(),
            "a part of the log is lost: no key that it may concern is served"
        );
    }
    report.scanned = loaded.without_hint.len() as u64;
    report.keys = loaded.databases.spaces.iter().map(|space| space.keydir.len() as u64).sum();
    report.bytes = segments.iter().map(|(_, segment)| segment.bytes).sum();
    report.segments = sealed.len() as u64;

    let next_sequence = home.manifest.get().sequence_limit + 1;
    let active = create_log_segment(&home).map_err(OpenError::io("create a segment in", dir))?;
    let durable = Mark {
        sequence: next_sequence - 1,
        position: Position { segment: active.id, offset: active.header_size },
    };
    let update = |manifest: &mut Manifest| {
        manifest.segments.push(SegmentEntry { id: active.id, merged: false, sealed: None });
        manifest.sequence_limit = next_sequence - 1 + SEQUENCE_RESERVE;
        manifest.chain = last_logged;
    };
    home.manifest.update(update).map_err(OpenError::io("write the manifest of", dir))?;
    let durable_mark = DurableMark::default();
    durable_mark.set(durable);
    report.elapsed = started.elapsed();
    Ok(Opened {
        home: Home { manifest: rehome(&home, durable_mark.clone()), ..home },
        lock,
        durable: durable_mark,
        segments,
        databases: loaded.databases,
        active,
        last_logged,
        next_sequence,
        without_hint: loaded.without_hint,
        quarantine: loaded.quarantine,
        report,
    })
}

/// The same manifest, whose updates record from now on how far the log is durable.
fn rehome(home: &Home, durable: DurableMark) -> Arc<ManifestFile> {
    let manifest = home.manifest.get();
    Arc::new(ManifestFile::new(home.fs.clone(), home.dir.to_path_buf(), manifest, durable))
}

/// Reads the manifest, or begins a new store.
fn open_home(options: &Options) -> Result<Home, OpenError> {
    let (fs, dir) = (&options.fs, &options.dir);
    let (manifest, new) = match manifest_file::read(&**fs, dir)? {
        Some(manifest) => (manifest, false),
        None => {
            let names = fs.list(dir).map_err(OpenError::io("list", dir))?;
            if names.iter().any(|name| name.ends_with(".seg")) {
                return Err(OpenError::NoManifest { dir: dir.clone() });
            }
            (new_manifest(), true)
        }
    };
    let store = manifest.store;
    let file = ManifestFile::new(fs.clone(), dir.clone(), manifest, DurableMark::default());
    if new {
        file.update(|_| {}).map_err(OpenError::io("write the manifest of", dir))?;
    }
    Ok(Home {
        fs: fs.clone(),
        dir: Arc::new(dir.clone()),
        store,
        manifest: Arc::new(file),
        clock: options.clock.clone(),
    })
}

fn new_manifest() -> Manifest {
    Manifest {
        store: random_u64(),
        incarnation: random_u64(),
        generation: 0,
        next_segment: 1,
        sequence_limit: 0,
        feed_floor: 0,
        restore_floor: 0,
        watermark: Position::default(),
        chain: 0,
        segments: Vec::new(),
    }
}

/// Opens a segment and checks its header. Where the policy is to go on, one that is damaged is found all
/// the same; what it holds is judged when it is read.
fn find(home: &Home, entry: &SegmentEntry, policy: OnCorruption) -> Result<Found, OpenError> {
    let path = home.dir.join(file_name(entry.id));
    let go_on = |damage: &Damage| {
        let newer = matches!(damage, Damage::Unsupported | Damage::Newer(_));
        policy == OnCorruption::Quarantine && !newer
    };
    let header_size = segment::HEADER as u64;
    let mut found = match home.fs.open(&path) {
        Ok(file) => {
            let len = file.len().map_err(OpenError::io("measure", &path))?;
            Found { entry: *entry, file, path, header_size, len, missing: false, damaged: false }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let file = Arc::new(salvage::MissingFile);
            Found { entry: *entry, file, path, header_size, len: 0, missing: true, damaged: true }
        }
        Err(error) => return Err(OpenError::io("open", path)(error)),
    };
    let header = if found.missing {
        Err(Damage::Missing)
    } else {
        read_segment_header(&*found.file, home.store, entry.id).map_err(found.io("read"))?
    };
    let damage = match header {
        Ok(header) => {
            found.header_size = header.size();
            let short = entry.sealed.is_some_and(|sealed| found.len < sealed.length);
            short.then_some((found.len, Damage::Truncated))
        }
        Err(damage) => Some((0, damage)),
    };
    match damage {
        Some((offset, damage)) if !go_on(&damage) => Err(found.corruption(offset, damage)),
        damage => {
            found.damaged = damage.is_some();
            if let Some((offset, damage)) = damage {
                let file = found.path.display();
                tracing::warn!(%file, offset, %damage, "a segment is damaged; on-corruption is quarantine");
            }
            Ok(found)
        }
    }
}

fn sealed_segment(home: &Home, found: &Found) -> Segment {
    let summary = found.entry.sealed.unwrap_or_default();
    let mut segment =
        Segment::new(&home.dir, found.entry.id, found.file.clone(), SegmentState::Sealed, summary.length);
    segment.merged = found.entry.merged;
    segment.summary = summary;
    // Whether it can be read is for those who need its records; this tells only how old they are.
    let beginning = read_beginning(&*found.file, home.store, found.entry.id).unwrap_or_default();
    (segment.created_ms, segment.begun) = (beginning.created_ms, beginning.begun);
    segment
}
