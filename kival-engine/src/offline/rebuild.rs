//! A manifest made up from the segments, where there is none that can be trusted.

use super::ToolError;
use super::source::Source;
use crate::engine::databases::random_u64;
use crate::format::MAX_SEQUENCE;
use crate::format::group::{self, GroupHeader, Position};
use crate::format::manifest::{Manifest, SegmentEntry};
use crate::format::segment::{self, SegmentHeader, file_name};
use crate::fs::read_full_at;
use std::collections::{BTreeMap, BTreeSet};

/// Ids kept free above the highest that is seen: one that a lost manifest had issued is not used again.
const ID_RESERVE: u64 = 1 << 10;

/// What the manifest must have been, as far as the segments tell. No segment is sealed in it: what their
/// lengths were is not known. The sequence limit is the highest there is.
pub(crate) fn manifest(source: &Source) -> Result<Manifest, ToolError> {
    let possible = |id: &u64| *id <= MAX_SEQUENCE;
    let ids: Vec<u64> = source.segment_ids().into_iter().filter(possible).collect();
    let mut stores: BTreeMap<u64, Vec<(u64, Option<SegmentHeader>)>> = BTreeMap::new();
    for &id in &ids {
        if let Some((store, header)) = identify(source, id)? {
            stores.entry(store).or_default().push((id, header));
        }
    }
    let most = stores.into_iter().max_by_key(|(_, segments)| segments.len());
    let (store, segments) = most.unwrap_or_else(|| (random_u64(), Vec::new()));
    let gone = merged_away(&segments, &ids);
    let kept = segments.into_iter().filter(|(id, _)| !gone.contains(id));
    let entry = |(id, header): (u64, Option<SegmentHeader>)| SegmentEntry {
        id,
        merged: header.is_some_and(|header| header.merged),
        sealed: None,
    };
    let highest =
        source.names.iter().filter_map(|name| segment::id_of(name)).filter(possible).max().unwrap_or(0);
    Ok(Manifest {
        store,
        incarnation: random_u64(),
        generation: 1,
        next_segment: (highest + ID_RESERVE).min(MAX_SEQUENCE),
        sequence_limit: MAX_SEQUENCE,
        feed_floor: 0,
        restore_floor: 0,
        watermark: Position::default(),
        chain: 0,
        segments: kept.map(entry).collect(),
    })
}

/// The store that a segment belongs to, by its header or by its first group.
fn identify(source: &Source, id: u64) -> Result<Option<(u64, Option<SegmentHeader>)>, ToolError> {
    let path = source.dir.join(file_name(id));
    let file = source.fs.open(&path).map_err(ToolError::io("open", &path))?;
    let mut bytes = vec![0; SegmentHeader::max_size()];
    let read = read_full_at(&*file, &mut bytes, 0).map_err(ToolError::io("read", &path))?;
    bytes.truncate(read);
    if let Ok(header) = SegmentHeader::decode(&bytes) {
        return Ok((header.id == id).then_some((header.store, Some(header))));
    }
    let first = bytes.get(segment::HEADER..).and_then(|rest| rest.first_chunk::<{ group::HEADER }>());
    let store = first.and_then(|header| {
        let store = u64::from_le_bytes(header[8..16].try_into().ok()?);
        let at = Position { segment: id, offset: segment::HEADER as u64 };
        GroupHeader::decode(header, store, at).ok().map(|_| store)
    });
    Ok(store.map(|store| (store, None)))
}

/// Inputs of merges that came to their end: one input at least has been removed, so the outputs stand for
/// all of them. What is left of such inputs may hold keys whose tombstones are gone.
fn merged_away(segments: &[(u64, Option<SegmentHeader>)], ids: &[u64]) -> BTreeSet<u64> {
    let outputs = segments.iter().filter_map(|(_, header)| header.as_ref()).filter(|header| header.merged);
    let ended = outputs.filter(|output| output.inputs.iter().any(|input| !ids.contains(input)));
    ended.flat_map(|output| output.inputs.iter().copied()).collect()
}
