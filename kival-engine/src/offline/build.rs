//! A new data directory, written beside its place and renamed when it is whole.

use super::ToolError;
use super::source::Source;
use super::survey::Judged;
use crate::clock::{Clock, SystemClock};
use crate::error::Damage;
use crate::format::group::{self, GroupHeader, Position};
use crate::format::manifest::{Manifest, Sealed, SegmentEntry};
use crate::format::record::{self, Record};
use crate::format::segment::{MANIFEST, SegmentHeader, file_name, hint_name};
use crate::fs::{File, FileSystem, read_full_at, replace, write_all_at};
use crate::log::hint_file::{Summed, write_from_segment};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes copied at a time.
const CHUNK: usize = 1 << 20;

/// A directory being built. Dropped before [`Self::finish`] it removes what it has written.
pub(crate) struct Build {
    fs: Arc<dyn FileSystem>,
    to: PathBuf,
    beside: PathBuf,
    store: u64,
    finished: bool,
}

impl Build {
    /// Begins the directory `to`, which must not exist, or be empty.
    pub(crate) fn begin(source: &Source, to: &Path, store: u64) -> Result<Build, ToolError> {
        let fs = source.fs.clone();
        if resolved(&*fs, to).starts_with(resolved(&*fs, &source.dir)) {
            return Err(ToolError::Inside { path: to.to_owned() });
        }
        let mut beside = to.components().collect::<PathBuf>().into_os_string();
        beside.push(".tmp");
        let beside = PathBuf::from(beside);
        for path in [to, &beside] {
            match fs.list(path) {
                Ok(names) if names.is_empty() => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                _ => return Err(ToolError::Exists { path: path.to_owned() }),
            }
        }
        fs.create_dir(&beside).map_err(ToolError::io("create", &beside))?;
        Ok(Build { fs, to: to.to_owned(), beside, store, finished: false })
    }

    /// Where it is being built.
    pub(crate) fn beside(&self) -> &Path {
        &self.beside
    }

    fn error(&self, action: &'static str) -> impl FnOnce(io::Error) -> ToolError + use<> {
        ToolError::io(action, self.beside.clone())
    }

    /// Takes a whole segment over under its id: a sealed one by a link where there can be one, since
    /// neither store will ever write to it.
    pub(crate) fn carry(&self, judged: &Judged) -> Result<SegmentEntry, ToolError> {
        let (id, length) = (judged.entry.id, judged.length);
        let (from, to) = (&judged.opened.path, self.beside.join(file_name(id)));
        let missing = || ToolError::io("open", from)(io::ErrorKind::NotFound.into());
        let file = judged.opened.file.clone().ok_or_else(missing)?;
        let linked = judged.entry.sealed.is_some() && self.fs.link(from, &to).is_ok();
        let file = if linked { file } else { self.copy(&*file, &to, length).map_err(self.error("write"))? };
        let (old, new) = (from.with_file_name(hint_name(id)), self.beside.join(hint_name(id)));
        let hint = linked && judged.hint_sound && self.fs.link(&old, &new).is_ok();
        let sealed = match hint {
            true => Sealed { length, ..judged.summary },
            false => self.write_hint(id, file, judged.first, length)?,
        };
        Ok(SegmentEntry { sealed: Some(sealed), ..judged.entry })
    }

    fn copy(&self, from: &dyn File, to: &Path, length: u64) -> io::Result<Arc<dyn File>> {
        let file = self.fs.create(to)?;
        let (mut at, mut chunk) = (0, vec![0; CHUNK]);
        while at < length {
            let wanted = (length - at).min(CHUNK as u64) as usize;
            if read_full_at(from, &mut chunk[..wanted], at)? < wanted {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            write_all_at(&*file, &chunk[..wanted], at)?;
            at += wanted as u64;
        }
        file.sync()?;
        Ok(file)
    }

    fn write_hint(&self, id: u64, file: Arc<dyn File>, first: u64, length: u64) -> Result<Sealed, ToolError> {
        let first = Position { segment: id, offset: first };
        let summed = write_from_segment(&*self.fs, &self.beside, self.store, file, first, length);
        match summed.map_err(self.error("write a hint in"))? {
            Summed::Whole(sealed) => Ok(sealed),
            Summed::Broken(_, damage) => Err(self.broken(damage)),
        }
    }

    fn broken(&self, damage: Damage) -> ToolError {
        self.error("read back what was written to")(io::Error::other(damage))
    }

    /// Begins a segment of its own.
    pub(crate) fn segment(&self, id: u64, merged: bool, inputs: Vec<u64>) -> Result<Writer<'_>, ToolError> {
        let created_ms = SystemClock.now_ms();
        let header = SegmentHeader { store: self.store, id, created_ms, inputs, merged };
        let create = || {
            let file = self.fs.create(&self.beside.join(file_name(id)))?;
            write_all_at(&*file, &header.encode(), 0)?;
            Ok(file)
        };
        let file = create().map_err(self.error("write"))?;
        Ok(Writer { build: self, id, merged, file, first: header.size(), end: header.size() })
    }

    /// Writes a file into the folder `damaged` of the new directory.
    pub(crate) fn set_aside(&self, name: &str, bytes: &[u8]) -> Result<(), ToolError> {
        let dir = self.beside.join("damaged");
        let write = || {
            self.fs.create_dir(&dir)?;
            let file = self.fs.create(&dir.join(name))?;
            write_all_at(&*file, bytes, 0)?;
            file.sync()?;
            self.fs.sync_dir(&dir)
        };
        write().map_err(self.error("write"))
    }

    /// Writes the manifest, after which the directory is a store under its passing name.
    pub(crate) fn seal(&self, manifest: &Manifest) -> Result<(), ToolError> {
        let write = || {
            replace(&*self.fs, &self.beside, MANIFEST, &manifest.encode())?;
            self.fs.sync_dir(&self.beside)
        };
        write().map_err(self.error("write"))
    }

    /// Puts the directory in its place.
    pub(crate) fn finish(mut self) -> Result<(), ToolError> {
        let place = || {
            // An empty directory was allowed to be there.
            let _ = self.fs.remove_dir(&self.to);
            self.fs.rename(&self.beside, &self.to)?;
            let parent = self.to.parent().filter(|parent| !parent.as_os_str().is_empty());
            self.fs.sync_dir(parent.unwrap_or(Path::new(".")))
        };
        place().map_err(ToolError::io("put in place", &self.to))?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Build {
    fn drop(&mut self) {
        if !self.finished {
            // What cannot be removed does no harm: it has another name, and the next run says so.
            for dir in [self.beside.join("damaged"), self.beside.clone()] {
                for name in self.fs.list(&dir).unwrap_or_default() {
                    let _ = self.fs.remove(&dir.join(name));
                }
                let _ = self.fs.remove_dir(&dir);
            }
        }
    }
}

/// A path without links and `..`, as far as it exists.
fn resolved(fs: &dyn FileSystem, path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let known = absolute.ancestors().find_map(|part| Some((part, fs.canonical(part).ok()?)));
    let known = known.and_then(|(part, found)| Some(found.join(absolute.strip_prefix(part).ok()?)));
    known.unwrap_or(absolute)
}

/// A segment being written.
pub(crate) struct Writer<'a> {
    build: &'a Build,
    id: u64,
    merged: bool,
    file: Arc<dyn File>,
    first: u64,
    end: u64,
}

impl Writer<'_> {
    /// Appends a group of these records. In a log segment it keeps time and chain of the group that it is
    /// made from; in a merge output its second.
    pub(crate) fn group(
        &mut self,
        from: Option<&GroupHeader>,
        time_ms: u64,
        records: &[Record<'_>],
    ) -> Result<(), ToolError> {
        let Some(lowest) = records.iter().map(|record| record.header.sequence).min() else { return Ok(()) };
        let (mut bytes, mut crcs) = (vec![0; group::HEADER], Vec::new());
        for record in records {
            let at = bytes.len();
            record::encode(&mut bytes, &record.header, record.key, record.value);
            crcs.extend_from_slice(&bytes[at..at + record::CRC_END]);
        }
        let previous = from.filter(|_| !self.merged).map_or(0, |from| from.previous_sequence);
        let header = GroupHeader {
            merged: self.merged,
            store: self.build.store,
            at: Position { segment: self.id, offset: self.end },
            body_size: (bytes.len() - group::HEADER) as u64,
            first_sequence: lowest,
            previous_sequence: previous,
            time_ms: if self.merged { time_ms / 1000 * 1000 } else { time_ms },
            watermark: Position::default(),
            records: records.len() as u32,
            body_crc: crc32fast::hash(&crcs),
        };
        bytes[..group::HEADER].copy_from_slice(&header.encode());
        write_all_at(&*self.file, &bytes, self.end).map_err(self.build.error("write"))?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Syncs it and writes its hint; nothing if no record came.
    pub(crate) fn finish(self) -> Result<Option<SegmentEntry>, ToolError> {
        let build = self.build;
        if self.end == self.first {
            build.fs.remove(&build.beside.join(file_name(self.id))).map_err(build.error("write"))?;
            return Ok(None);
        }
        self.file.sync().map_err(build.error("sync"))?;
        let sealed = build.write_hint(self.id, self.file, self.first, self.end)?;
        Ok(Some(SegmentEntry { id: self.id, merged: self.merged, sealed: Some(sealed) }))
    }
}
