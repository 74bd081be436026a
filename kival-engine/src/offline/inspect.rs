//! What the files say, structure by structure. Damage is shown where it stands, and what follows is shown
//! too. Nothing is judged here, and no lock is taken: the files of a running server can be looked at.

use super::patient::{PatientFs, Refused};
use super::source::{Found, Source};
use super::walk::{Piece, Stop, scanner, walk};
use super::{ToolError, rebuild};
use crate::error::Damage;
use crate::format::filter::Filter;
use crate::format::group::{GroupHeader, Position};
use crate::format::hint::{self, HintHeader};
use crate::format::manifest::Manifest;
use crate::format::record::Header;
use crate::format::segment::{MANIFEST, SegmentHeader, file_name, hint_name, id_of};
use crate::fs::{File, FileSystem, read_full_at, read_whole};
use crate::log::scan::end_of_bytes;
use std::path::Path;
use std::sync::Arc;

/// A structure of a file.
#[derive(Debug)]
pub enum Item<'a> {
    /// The manifest.
    Manifest(&'a Manifest),
    /// A segment begins.
    Segment(&'a SegmentHeader),
    /// A group of records.
    Group(&'a GroupHeader),
    /// A record of the group that was shown last.
    Record {
        /// Where it stands in the segment.
        offset: u64,
        /// Its header.
        header: &'a Header,
        /// Its key.
        key: &'a [u8],
    },
    /// A hint begins.
    Hint(&'a HintHeader),
    /// A record as the hint names it.
    HintEntry {
        /// Where the record stands in the segment.
        offset: u64,
        /// Its header.
        header: &'a Header,
        /// Its key.
        key: &'a [u8],
    },
    /// The filter of a hint.
    Filter {
        /// Where it stands in the hint.
        offset: u64,
        /// Its size in bytes.
        bytes: u64,
    },
    /// Zeros at the end of a segment: room for appends.
    Zeros {
        /// Where they begin.
        offset: u64,
        /// Where they end.
        end: u64,
    },
    /// Bytes that are none of these.
    Damage {
        /// Where they begin.
        offset: u64,
        /// Where they end.
        end: u64,
        /// What is wrong.
        damage: Damage,
    },
}

/// Takes what is shown, with the file that it is in; an error ends the inspection.
pub type Show<'a> = &'a mut dyn FnMut(&Path, Item<'_>) -> std::io::Result<()>;

/// Shows manifest, segments and hints of a directory, whether the manifest names them or not.
///
/// # Errors
/// [`ToolError`] if a file cannot be read, or nobody takes what is shown.
pub fn inspect_dir(fs: Arc<dyn FileSystem>, dir: &Path, show: Show<'_>) -> Result<(), ToolError> {
    let source = Source::unlocked(fs, dir)?;
    let path = dir.join(MANIFEST);
    let store = match source.manifest()? {
        Found::Sound(manifest) => {
            show(&path, Item::Manifest(&manifest)).map_err(ToolError::io("show", &path))?;
            manifest.store
        }
        missing => {
            let damage = if let Found::Damaged(damage) = missing { damage } else { Damage::Missing };
            show(&path, Item::Damage { offset: 0, end: 0, damage }).map_err(ToolError::io("show", &path))?;
            rebuild::manifest(&source)?.store
        }
    };
    for id in source.segment_ids() {
        inspect_segment(&*source.fs, &dir.join(file_name(id)), id, Some(store), show)?;
        let hint = hint_name(id);
        if source.names.contains(&hint) {
            inspect_hint(&*source.fs, &dir.join(hint), show)?;
        }
    }
    show_refused(&source.refused, show)
}

/// Shows one file: a manifest, a segment or a hint, by what it begins with or by its name.
///
/// # Errors
/// As [`inspect_dir`].
pub fn inspect_file(fs: Arc<dyn FileSystem>, path: &Path, show: Show<'_>) -> Result<(), ToolError> {
    let (fs, refused) = PatientFs::over(fs);
    inspect_one(&*fs, path, show)?;
    show_refused(&refused, show)
}

/// What the disk refused was shown as damage; this says so.
fn show_refused(refused: &Refused, show: Show<'_>) -> Result<(), ToolError> {
    refused.parts().into_iter().try_for_each(|(path, part)| {
        let item = Item::Damage { offset: part.start, end: part.end, damage: Damage::Unreadable };
        show(&path, item).map_err(ToolError::io("show", path))
    })
}

fn inspect_one(fs: &dyn FileSystem, path: &Path, show: Show<'_>) -> Result<(), ToolError> {
    let file = open(fs, path)?;
    let mut magic = [0; 8];
    read_full_at(&*file, &mut magic, 0).map_err(ToolError::io("read", path))?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let is = |kind: &[u8; 8], like: bool| magic == *kind || (!magic.starts_with(b"KIVAL") && like);
    if is(b"KIVALMAN", name.starts_with(MANIFEST)) {
        inspect_manifest(&*file, path, show)
    } else if is(b"KIVALHNT", name.ends_with(".hint")) {
        inspect_hint(fs, path, show)
    } else {
        inspect_segment(fs, path, id_of(&name).unwrap_or(0), None, show)
    }
}

fn open(fs: &dyn FileSystem, path: &Path) -> Result<Arc<dyn File>, ToolError> {
    fs.open(path).map_err(ToolError::io("open", path))
}

fn inspect_manifest(file: &dyn File, path: &Path, show: Show<'_>) -> Result<(), ToolError> {
    let bytes = read_whole(file).map_err(ToolError::io("read", path))?;
    let shown = match Manifest::decode(&bytes) {
        Ok(manifest) => show(path, Item::Manifest(&manifest)),
        Err(damage) => show(path, Item::Damage { offset: 0, end: bytes.len() as u64, damage }),
    };
    shown.map_err(ToolError::io("show", path))
}

fn inspect_segment(
    fs: &dyn FileSystem,
    path: &Path,
    id: u64,
    store: Option<u64>,
    show: Show<'_>,
) -> Result<(), ToolError> {
    let file = open(fs, path)?;
    let len = file.len().map_err(ToolError::io("measure", path))?;
    let mut head = vec![0; SegmentHeader::max_size()];
    let read = read_full_at(&*file, &mut head, 0).map_err(ToolError::io("read", path))?;
    head.truncate(read);
    let header = SegmentHeader::decode(&head);
    if let Ok(header) = &header {
        show(path, Item::Segment(header)).map_err(ToolError::io("show", path))?;
    }
    let at = |from: usize| Some(u64::from_le_bytes(head.get(from..from + 8)?.try_into().ok()?));
    // A damaged header may still tell the store, as the first group does.
    let (id, store, first) = match &header {
        Ok(header) => (header.id, header.store, header.size()),
        Err(_) => (id, store.or(at(48 + 8)).unwrap_or(0), 0),
    };
    let from = Position { segment: id, offset: first };
    walk(scanner(&file, store, from, len, None), &mut |piece| {
        let shown = match piece {
            Piece::Group(group) => {
                show(path, Item::Group(&group.header)).map_err(ToolError::io("show", path))?;
                group.records().try_for_each(|(offset, record)| {
                    show(path, Item::Record { offset, header: &record.header, key: record.key })
                })
            }
            Piece::Break(found) => {
                let offset = found.at.offset;
                let end = if found.end == len { end_of_bytes(&*file, offset, len)? } else { found.end };
                let damage = header.as_ref().err().copied().filter(|_| offset == 0).unwrap_or(found.damage);
                let damaged = offset == found.end || end > offset;
                let shown = if damaged { show(path, Item::Damage { offset, end, damage }) } else { Ok(()) };
                let zeros = Item::Zeros { offset: end, end: found.end };
                shown.and_then(|()| if end < found.end { show(path, zeros) } else { Ok(()) })
            }
        };
        Ok::<(), Stop>(shown.map_err(ToolError::io("show", path))?)
    })
    .map_err(|stop| stop.told(path))
}

/// Shows header, blocks and filter. A block with a wrong checksum is passed over by its announced size.
fn inspect_hint(fs: &dyn FileSystem, path: &Path, show: Show<'_>) -> Result<(), ToolError> {
    let bytes = read_whole(&*open(fs, path)?).map_err(ToolError::io("read", path))?;
    let mut show = |item: Item<'_>| show(path, item).map_err(ToolError::io("show", path));
    let len = bytes.len() as u64;
    let header = bytes.first_chunk().ok_or(Damage::Truncated).and_then(HintHeader::decode);
    let end = match &header {
        Ok(header) => {
            show(Item::Hint(header))?;
            header.filter_at.min(len)
        }
        Err(damage) => {
            show(Item::Damage { offset: 0, end: hint::HEADER as u64, damage: *damage })?;
            len
        }
    };
    let mut at = hint::HEADER as u64;
    while at < end {
        let rest = &bytes[at as usize..end as usize];
        let size = rest.first_chunk().map(hint::block_size).filter(|size| *size <= end - at);
        let Some(size) = size else {
            show(Item::Damage { offset: at, end, damage: Damage::Truncated })?;
            break;
        };
        match hint::entries(&rest[..size as usize]) {
            Ok(entries) => {
                for entry in entries {
                    match entry {
                        Ok(entry) => {
                            let (offset, key) = (entry.offset, entry.key);
                            show(Item::HintEntry { offset, header: &entry.header, key })?;
                        }
                        Err(damage) => show(Item::Damage { offset: at, end: at + size, damage })?,
                    }
                }
            }
            Err(damage) => show(Item::Damage { offset: at, end: at + size, damage })?,
        }
        at += size;
    }
    if header.is_ok() && end <= len {
        let filter = &bytes[end as usize..];
        match Filter::decode(filter) {
            Ok(_) => show(Item::Filter { offset: end, bytes: filter.len() as u64 })?,
            Err(damage) => show(Item::Damage { offset: end, end: len, damage })?,
        }
    }
    Ok(())
}
