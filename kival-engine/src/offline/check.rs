//! Is everything in a data directory as it was written?

use super::source::Source;
use super::survey::{Survey, survey};
use super::{Note, Place, Progress, ToolError};
use crate::engine::databases::{FIRST_ISSUED, NAMESPACES, NamespaceMap};
use crate::format::filter;
use crate::format::record::{Kind, Record};
use crate::fs::FileSystem;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// What a check found.
#[derive(Debug, Clone, Default)]
pub struct Checked {
    /// Every damaged place; none in a sound store.
    pub places: Vec<Place>,
    /// What does no harm.
    pub notes: Vec<Note>,
    /// Sound records, dead ones too.
    pub records: u64,
    /// Keys that these records leave in force, in all databases.
    pub live_keys: u64,
    /// Segments that count.
    pub segments: u64,
    /// Bytes of the segments that count.
    pub bytes: u64,
}

/// Reads everything that counts in `dir`: manifest, segments record by record, hints and filters against
/// them. Damage does not end it: it goes on with what stands behind.
///
/// # Errors
/// [`ToolError`] where it could not be checked.
pub fn check(fs: Arc<dyn FileSystem>, dir: &Path, progress: &mut dyn Progress) -> Result<Checked, ToolError> {
    let source = Source::open(fs, dir)?;
    let mut keys = LiveKeys::default();
    let found = survey(&source, true, progress, &mut |_, record| keys.record(record))?;
    let Survey { segments, places, notes, .. } = found;
    Ok(Checked {
        places,
        notes,
        records: segments.iter().map(|segment| segment.summary.records).sum(),
        live_keys: keys.count(),
        segments: segments.len() as u64,
        bytes: segments.iter().map(|segment| segment.length).sum(),
    })
}

/// Counts live keys by their hashes: of keys with the same hash one is counted.
#[derive(Default)]
struct LiveKeys {
    /// For each namespace and hash the record that decides: its sequence, and whether it is a value.
    deciding: HashMap<(u32, u64), (u64, bool)>,
    map: Option<(u64, NamespaceMap)>,
}

impl LiveKeys {
    fn record(&mut self, record: &Record<'_>) {
        let (namespace, sequence) = (record.header.namespace, record.header.sequence);
        match record.header.kind {
            Kind::Namespaces if namespace == NAMESPACES => {
                if self.map.as_ref().is_none_or(|(newest, _)| *newest < sequence)
                    && let Ok(map) = NamespaceMap::decode(record.value)
                {
                    self.map = Some((sequence, map));
                }
            }
            Kind::Value | Kind::Tombstone => {
                let key = (namespace, filter::hash(namespace, record.key));
                let newest = self.deciding.entry(key).or_default();
                *newest = (*newest).max((sequence, record.header.kind == Kind::Value));
            }
            _ => {}
        }
    }

    fn count(&self) -> u64 {
        let map = self.map.as_ref().map_or_else(NamespaceMap::default, |(_, map)| map.clone());
        let reached = |namespace: u32| {
            map.moved.iter().any(|(_, moved)| *moved == namespace)
                || (namespace < FIRST_ISSUED && map.namespace(namespace) == namespace)
        };
        let mut known: HashMap<u32, bool> = HashMap::new();
        let live = self.deciding.iter().filter(|((namespace, _), (_, live))| {
            *live && *known.entry(*namespace).or_insert_with(|| reached(*namespace))
        });
        live.count() as u64
    }
}
