//! Files that the manifest does not name: the rest of interrupted work, or proof that the manifest is an
//! older one than was there last.

use crate::error::OpenError;
use crate::format::group::{GroupHeader, Position};
use crate::format::segment::{self, file_name};
use crate::fs::FileSystem;
use crate::log::Home;
use crate::log::scan::{Scanner, Step, read_segment_header};
use std::path::Path;

/// The files that interrupted work has left behind. Refuses a manifest that has not issued the id of one.
pub(super) fn find(home: &Home) -> Result<Vec<String>, OpenError> {
    let dir = &*home.dir;
    let manifest = home.manifest.get();
    let names = home.fs.list(dir).map_err(OpenError::io("list", dir))?;
    let newer = |name: &&String| segment::id_of(name).is_some_and(|id| id >= manifest.next_segment);
    if let Some(name) = names.iter().find(newer) {
        return Err(stale(home, format!("it has not issued the id of {name}")));
    }
    let stray = |name: &String| {
        let id = segment::id_of(name.strip_suffix(".tmp").unwrap_or(name));
        let ours = id.is_some() || name == "MANIFEST.tmp";
        let named = id.is_some_and(|id| manifest.segments.iter().any(|entry| entry.id == id));
        ours && (!named || name.ends_with(".tmp"))
    };
    Ok(names.into_iter().filter(stray).collect())
}

/// Refuses a manifest that ends before the log does: a stray segment goes on where the log that it names
/// ends, at `last_sequence`, or holds what was written after everything below `watermark` was durable.
///
/// No crash leaves that. A segment is named before it is appended to. A merge output holds copies of what
/// was sealed, an input of a merge what the log has, too. What recovery left behind as torn chains to a
/// record that is lost, and its watermark was known. What an interrupted recovery has appended anew may
/// have gone from the log by a power cut since; it has no watermark.
pub(super) fn check_manifest(
    home: &Home,
    strays: &[String],
    last_sequence: u64,
    watermark: Position,
) -> Result<(), OpenError> {
    match later(&*home.fs, &home.dir, home.store, strays, last_sequence, watermark)? {
        Some(name) => Err(stale(home, format!("the log goes on in {name}, which it does not name"))),
        None => Ok(()),
    }
}

/// The first stray that shows that, as [`check_manifest`] says.
pub(crate) fn later<'a>(
    fs: &dyn FileSystem,
    dir: &Path,
    store: u64,
    strays: &'a [String],
    last_sequence: u64,
    watermark: Position,
) -> Result<Option<&'a String>, OpenError> {
    for name in strays {
        let Some(id) = segment::id_of(name).filter(|&id| *name == file_name(id)) else { continue };
        let Some(first) = first_group(fs, dir, store, id)? else { continue };
        let chains = first.previous_sequence == last_sequence && first.watermark != Position::default();
        let goes_on = first.merged || chains || first.watermark > watermark;
        if first.first_sequence > last_sequence && goes_on {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// The header of a segment's first group, if that is whole.
fn first_group(
    fs: &dyn FileSystem,
    dir: &Path,
    store: u64,
    id: u64,
) -> Result<Option<GroupHeader>, OpenError> {
    let path = dir.join(file_name(id));
    let read = || {
        let file = fs.open(&path)?;
        let Ok(header) = read_segment_header(&*file, store, id)? else { return Ok(None) };
        let (at, end) = (Position { segment: id, offset: header.size() }, file.len()?);
        match Scanner::new(file, store, at, end, None).step()? {
            Step::Group(group) => Ok(Some(group.header)),
            Step::End | Step::Broken(_) => Ok(None),
        }
    };
    read().map_err(OpenError::io("read", &path))
}

fn stale(home: &Home, evidence: String) -> OpenError {
    OpenError::StaleManifest { dir: home.dir.to_path_buf(), evidence }
}

/// Removes strays: after everything was loaded, so that an open that is refused has removed nothing.
pub(super) fn remove(home: &Home, strays: &[String]) -> Result<(), OpenError> {
    for name in strays {
        tracing::info!(file = %name, "removing a file that an interrupted preparation or merge left");
        match home.fs.remove(&home.dir.join(name)) {
            // A temporary file was used again, and renamed, by the recovery.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            removed => removed.map_err(OpenError::io("remove", home.dir.join(name)))?,
        }
    }
    Ok(())
}
