//! What becomes of a record that a merge has met: the engine's verdict, weighed against what the other
//! segments may hold (rule 17) and against the history that has to be kept.

use super::merge::{Input, Line};
use super::{Batch, Question, Verdict};
use crate::format::filter::{self, Filter};
use crate::format::hint;
use crate::format::manifest::SegmentEntry;
use crate::format::record::{Header, Kind};
use crate::log::Home;
use crate::log::hint_file::HintReader;
use std::cell::OnceCell;
use std::collections::HashMap;
use std::io;

/// What becomes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is copied.
    Copy,
    /// It does not count, and is copied until everything up to a sequence is old enough.
    Hold { until: u64 },
    /// It is left out.
    Drop,
}

/// The highest sequences that were dropped, and that superseded something dropped, or may have.
#[derive(Debug, Default)]
pub(super) struct Floors {
    pub(super) feed: u64,
    pub(super) restore: u64,
}

/// Decides.
pub(super) struct Judge<'a> {
    line: &'a Line,
    outside: Outside<'a>,
    history: History,
    pub(super) floors: Floors,
}

impl<'a> Judge<'a> {
    /// Of records of `inputs`; of what was superseded above `cut` nothing may be dropped.
    pub(super) fn new(home: &'a Home, line: &'a Line, inputs: &[Input], cut: u64) -> Judge<'a> {
        let segments = home.manifest.get().segments;
        let history = History::load(home, line, &segments, cut);
        let others = segments.into_iter().filter(|entry| inputs.iter().all(|input| input.id != entry.id));
        let others = others.map(|entry| Other { entry, filter: OnceCell::new() }).collect();
        Judge { line, outside: Outside { home, others }, history, floors: Floors::default() }
    }

    /// What becomes of these records.
    pub(super) fn fates(&mut self, batch: Batch) -> io::Result<Vec<Fate>> {
        // All that the rules need later: the engine takes the batch itself.
        let asks_all = !self.history.tombstones.is_empty();
        let records: Vec<_> = batch.iter().map(|(header, key)| Seen::of(header, key, asks_all)).collect();
        let verdicts = self.line.ask(|answer| Question::Judge(batch, answer))?;
        Ok(records.iter().zip(verdicts).map(|(seen, verdict)| self.fate(seen, verdict)).collect())
    }

    /// Drops all records of a segment: values, pages and expiries up to a sequence, superseded up to another.
    pub(super) fn drop_all(&mut self, highest: u64, superseded_by: u64) {
        self.floors.feed = self.floors.feed.max(highest);
        self.floors.restore = self.floors.restore.max(superseded_by);
    }

    fn fate(&mut self, seen: &Seen, verdict: Verdict) -> Fate {
        let superseded_by = match verdict {
            Verdict::Live => return Fate::Copy,
            Verdict::Tombstone => {
                let kept = self.history.needs_tombstone(seen) || self.outside.may_hold_older(seen);
                if !kept {
                    self.floors.feed = self.floors.feed.max(seen.sequence);
                }
                return if kept { Fate::Copy } else { Fate::Drop };
            }
            Verdict::Dead { superseded_by } => self.history.superseded(seen, superseded_by),
        };
        if superseded_by > self.history.cut {
            return Fate::Hold { until: superseded_by };
        }
        // Without the map that was in force, what follows up to the next one cannot be given its databases.
        let last_told = if seen.kind == Kind::Namespaces { superseded_by } else { seen.sequence };
        self.floors.feed = self.floors.feed.max(last_told);
        self.floors.restore = self.floors.restore.max(superseded_by);
        Fate::Drop
    }
}

/// A record, as far as the rules ask about it.
struct Seen {
    /// The key's, if anything asks for it: of a tombstone, or if there is a history of them.
    hash: u64,
    sequence: u64,
    kind: Kind,
}

impl Seen {
    fn of(header: &Header, key: &[u8], asks_all: bool) -> Seen {
        let asks = asks_all || header.kind == Kind::Tombstone;
        let hash = if asks { filter::hash(header.namespace, key) } else { 0 };
        Seen { hash, sequence: header.sequence, kind: header.kind }
    }
}

/// What is known of tombstones when history is kept: the engine does not know which tombstone made a key
/// absent, and says "at most the last record of all".
struct History {
    /// What superseded a record above this is too young.
    cut: u64,
    /// The newest tombstone up to the cut, by the hash of its key.
    tombstones: HashMap<u64, u64>,
}

impl History {
    fn load(home: &Home, line: &Line, segments: &[SegmentEntry], cut: u64) -> History {
        let mut history = History { cut, tombstones: HashMap::new() };
        if cut == u64::MAX {
            return history;
        }
        for entry in segments {
            let Some(sealed) = entry.sealed else { continue };
            let reader = HintReader::open(&*home.fs, &home.dir, home.store, entry.id, sealed.length);
            let Ok(mut reader) = reader else { continue };
            // What cannot be read is not known: more is kept than must be.
            while !line.is_stopped()
                && let Ok(Some(block)) = reader.next_block()
            {
                let Ok(entries) = hint::entries(block) else { break };
                entries.map_while(Result::ok).for_each(|entry| history.note(&entry.header, entry.key));
            }
        }
        history
    }

    fn note(&mut self, header: &Header, key: &[u8]) {
        if header.kind == Kind::Tombstone && header.sequence <= self.cut {
            let newest = self.tombstones.entry(filter::hash(header.namespace, key)).or_default();
            *newest = header.sequence.max(*newest);
        }
    }

    /// The lowest sequence known to have superseded the record: at most `known`.
    fn superseded(&self, seen: &Seen, known: u64) -> u64 {
        if seen.kind == Kind::Tombstone {
            return known;
        }
        let tombstone = self.tombstones.get(&seen.hash).copied().filter(|gone| *gone > seen.sequence);
        tombstone.map_or(known, |gone| gone.min(known))
    }

    /// Whether a tombstone of an absent key is too young to go, or not one of those known: then older
    /// records of its key are held back, and would come to life without it.
    fn needs_tombstone(&self, seen: &Seen) -> bool {
        self.cut != u64::MAX
            && (seen.sequence > self.cut
                || self.tombstones.get(&seen.hash).is_none_or(|newest| *newest < seen.sequence))
    }
}

/// The segments that are not part of the merge, as far as a tombstone must know them.
struct Outside<'a> {
    home: &'a Home,
    others: Vec<Other>,
}

struct Other {
    entry: SegmentEntry,
    /// Read when the first tombstone asks; nothing if there is none of use.
    filter: OnceCell<Option<Filter>>,
}

impl Outside<'_> {
    /// Whether a record of the tombstone's key, older than it, may exist outside. A segment without a
    /// usable filter may hold anything.
    fn may_hold_older(&self, tombstone: &Seen) -> bool {
        self.others.iter().any(|other| {
            // An open segment holds only records that are later than any sealed one's.
            let Some(sealed) = other.entry.sealed else { return false };
            sealed.lowest < tombstone.sequence
                && other
                    .filter
                    .get_or_init(|| self.read(other.entry.id, sealed.length))
                    .as_ref()
                    .is_none_or(|filter| filter.may_contain(tombstone.hash))
        })
    }

    fn read(&self, id: u64, length: u64) -> Option<Filter> {
        let home = self.home;
        let reader = HintReader::open(&*home.fs, &home.dir, home.store, id, length);
        reader.and_then(|reader| reader.filter()).ok()
    }
}
