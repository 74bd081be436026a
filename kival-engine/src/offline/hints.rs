//! A hint held against its segment: is it usable, and does it tell the truth?

use super::Flaw;
use crate::format::filter::{self, Filter};
use crate::format::hint;
use crate::format::record::{Header, Record};
use crate::fs::FileSystem;
use crate::log::hint_file::{HintReader, Unusable};
use std::ops::Range;
use std::path::Path;

/// A hint that passes its own checks, in memory.
#[derive(Debug)]
pub(crate) struct Hint {
    rows: Vec<Row>,
    /// As far as it can be read; merges take one that cannot to hold every key.
    pub(crate) filter: Result<Filter, String>,
    /// How many rows have been found in the segment.
    seen: usize,
    /// The first thing that is not as the segment has it.
    lie: Option<Flaw>,
}

/// A record as the hint names it.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) header: Header,
    pub(crate) offset: u64,
    pub(crate) key: Box<[u8]>,
}

impl Hint {
    /// Reads the hint of `segment`, of which `length` bytes count; why it cannot be used otherwise.
    pub(crate) fn read(
        fs: &dyn FileSystem,
        dir: &Path,
        store: u64,
        segment: u64,
        length: u64,
    ) -> Result<Hint, String> {
        let read = || -> Result<Hint, Unusable> {
            let mut reader = HintReader::open(fs, dir, store, segment, length)?;
            let mut rows = Vec::new();
            while let Some(block) = reader.next_block()? {
                for entry in hint::entries(block)? {
                    let entry = entry?;
                    rows.push(Row { header: entry.header, offset: entry.offset, key: entry.key.into() });
                }
            }
            let filter = reader.filter().map_err(|error| error.to_string());
            Ok(Hint { rows, filter, seen: 0, lie: None })
        };
        read().map_err(|error| error.to_string())
    }

    /// The rows of records that begin in this part of the segment.
    pub(crate) fn rows(&self, within: Range<u64>) -> &[Row] {
        let from = self.rows.partition_point(|row| row.offset < within.start);
        let to = self.rows.partition_point(|row| row.offset < within.end);
        &self.rows[from..to.max(from)]
    }

    /// Compares a sound record of the segment.
    pub(crate) fn compare(&mut self, offset: u64, record: &Record<'_>) {
        let row = self.rows.binary_search_by_key(&offset, |row| row.offset).ok().map(|at| &self.rows[at]);
        match row {
            Some(row) if row.header == record.header && *row.key == *record.key => self.seen += 1,
            _ => {
                self.lie.get_or_insert(Flaw::HintLies { record: offset });
            }
        }
        let hash = || filter::hash(record.header.namespace, record.key);
        if self.filter.as_ref().is_ok_and(|filter| !filter.may_contain(hash())) {
            self.lie.get_or_insert(Flaw::FilterLies { record: offset });
        }
    }

    /// After all sound records: what the hint says that the segment does not. `broken` is the number of
    /// rows that lie in broken places, where nothing can be compared.
    pub(crate) fn lie(&self, broken: usize) -> Option<Flaw> {
        let more = || self.rows.first().map(|row| Flaw::HintLies { record: row.offset });
        self.lie.or_else(|| if self.seen + broken == self.rows.len() { None } else { more() })
    }
}
