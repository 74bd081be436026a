//! Large values: written where they will stand by a thread that may wait, and made part of the log by one
//! small append.
//!
//! A value of [`crate::Options::large_value`] bytes or more would hold the writer up for as long as its copy, its
//! checksum and its write take. So it gets the next segment: [`Engine::begin_large`] lends that out,
//! [`LargeWrite::write`] puts the value behind the room for its group's header, its own header and its key, and
//! syncs it. [`Engine::put`] of the same bytes then writes only what stands before them, as the first group of
//! that segment, and the log goes on behind. Until that group is whole the value is nothing to anybody: what a
//! crash leaves of it is a torn tail.
//!
//! One is written at a time, and meanwhile the log does not roll: the segment that is lent comes next. What is
//! not used in the end is discarded with its segment, before any later segment may be named: a recovery ends
//! the log at a segment that begins with no whole group.

use super::write::{Draft, Staged};
use super::{Active, Engine, Prepare};
use crate::error::WriteError;
use crate::format::group;
use crate::format::record::{self, record_size};
use crate::fs::{File, write_all_at};
use crate::keydir::Place;
use crate::log::keeper::{Job, Prepared};
use crate::log::segments::SegmentState;
use bytes::Bytes;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes that are written, and summed, at a time.
const CHUNK: usize = 1 << 20;
/// Bytes after which what was written is synced: so much at most the disk is behind by, for whoever else wants
/// something of it.
const SYNC_EVERY: usize = 16 << 20;

/// What became of the wish to write a large value.
#[derive(Debug)]
pub enum LargeStart {
    /// Here it is.
    Begun(LargeWrite),
    /// Another one is under way, or the next segment is not ready: after the next [`Engine::maintain`].
    Later,
    /// There is no room, or nothing is written any more: [`Engine::put`] has the error.
    Never,
}

/// A large value to be written. It needs nothing of the engine, so any thread can do it.
#[derive(Debug)]
pub struct LargeWrite {
    segment: Prepared,
    key_size: usize,
    value: Bytes,
    /// Of the engine that lent the segment: no other knows it.
    lender: Arc<PathBuf>,
}

/// A large value that was written, or could not be: for [`Engine::end_large`].
#[derive(Debug)]
pub struct LargeWritten {
    write: LargeWrite,
    crc: io::Result<crc32fast::Hasher>,
}

/// A value that waits to be put.
#[derive(Debug)]
pub(super) struct LargeValue {
    write: LargeWrite,
    crc: crc32fast::Hasher,
}

/// A value of the staged group that is in the file already.
#[derive(Debug)]
pub(super) struct StagedLarge {
    /// Where it belongs in the staged bytes.
    pub(super) at: usize,
    pub(super) value: Bytes,
}

impl LargeWrite {
    /// Where the value's first byte will stand.
    fn value_at(&self) -> u64 {
        self.segment.header_size + (group::HEADER + record::HEADER + self.key_size) as u64
    }

    fn end(&self) -> u64 {
        self.value_at() + self.value.len() as u64
    }

    /// Writes the value and syncs it; waits for the disk.
    pub fn write(self) -> LargeWritten {
        let crc = self.try_write();
        LargeWritten { write: self, crc }
    }

    fn try_write(&self) -> io::Result<crc32fast::Hasher> {
        let file = &self.segment.file;
        let from = self.segment.header_size;
        match file.reserve(from, self.end() - from) {
            Err(error) if super::space::is_no_space(&error) => return Err(error),
            // A file system that cannot reserve tells a lack of space at the write.
            _ => {}
        }
        let mut crc = crc32fast::Hasher::new();
        let (mut at, mut unsynced) = (self.value_at(), 0);
        for chunk in self.value.chunks(CHUNK) {
            crc.update(chunk);
            write_all_at(&**file, chunk, at)?;
            at += chunk.len() as u64;
            unsynced += chunk.len();
            if unsynced >= SYNC_EVERY {
                file.sync()?;
                unsynced = 0;
            }
        }
        file.sync()?;
        Ok(crc)
    }
}

impl LargeValue {
    /// Whether these are the very bytes that were written. They are held, so that no others can have come to
    /// stand at their address.
    fn is(&self, key_size: usize, value: &[u8]) -> bool {
        self.write.key_size == key_size && std::ptr::eq(&raw const *self.write.value, &raw const *value)
    }
}

impl Engine {
    /// The size from which on a value is worth [`Self::begin_large`], in bytes.
    pub fn large_from(&self) -> u64 {
        self.options.large_value
    }

    /// Changes that size; 0 is never.
    pub fn set_large_from(&mut self, bytes: u64) {
        self.options.large_value = bytes;
        self.options.sanitize();
    }

    /// Begins to write `value` ahead of the [`Self::put`] that sets a key of `key_size` bytes to it.
    pub fn begin_large(&mut self, key_size: usize, value: Bytes) -> LargeStart {
        if self.poison.is_some() || self.space.is_low() {
            return LargeStart::Never;
        }
        match self.prepare {
            Prepare::Idle if !self.may_retry() => return LargeStart::Never,
            Prepare::Idle => self.ask_to_prepare(),
            Prepare::Asked | Prepare::Lent | Prepare::Ready(_) => {}
        }
        let Prepare::Ready(_) = &self.prepare else { return LargeStart::Later };
        let Prepare::Ready(segment) = std::mem::replace(&mut self.prepare, Prepare::Lent) else {
            return LargeStart::Later;
        };
        LargeStart::Begun(LargeWrite { segment, key_size, value, lender: self.home.dir.clone() })
    }

    /// Takes in a value that was written: the next [`Self::put`] of it, if it is the first record of its group,
    /// finds it there. Until then, or until [`Self::give_up_large`], no other is begun.
    ///
    /// # Errors
    /// [`WriteError`] if it could not be written. The log is as it was.
    pub fn end_large(&mut self, written: LargeWritten) -> Result<(), WriteError> {
        let LargeWritten { write, crc } = written;
        if !Arc::ptr_eq(&write.lender, &self.home.dir) {
            return Err(WriteError::Append { cause: "the store was opened again meanwhile".into() });
        }
        match crc {
            Ok(crc) => {
                self.large = Some(LargeValue { write, crc });
                Ok(())
            }
            Err(error) => {
                let path = self.home.dir.join(crate::format::segment::file_name(write.segment.id));
                tracing::warn!(%error, file = %path.display(), "a large value could not be written");
                self.discard_lent(write);
                if super::space::is_no_space(&error) {
                    return Err(WriteError::NoSpace);
                }
                Err(WriteError::Append { cause: error.to_string() })
            }
        }
    }

    /// Whether [`Self::put`] of these very bytes, now, would find them written.
    pub fn has_large(&self, key_size: usize, value: &[u8]) -> bool {
        // The front of an empty segment that an append has failed in may not be what it seems after a crash, so
        // that no later segment may be named without it.
        let may_roll = self.active.end > self.active.header_size || !self.active.touched;
        self.stage.is_empty()
            && may_roll
            && self.large.as_ref().is_some_and(|large| large.is(key_size, value))
    }

    /// Forgets the value that waits to be put, if there is one.
    pub fn give_up_large(&mut self) {
        if let Some(large) = self.large.take() {
            self.discard_lent(large.write);
        }
    }

    /// The segment comes back when the manifest does not name it any more.
    fn discard_lent(&mut self, write: LargeWrite) {
        let Prepared { id, file, header_size, .. } = write.segment;
        self.keeper.ask(Job::Discard { id, file, header_size, lent: true });
    }

    /// Asks once more for what failed.
    pub(super) fn discard_again(&mut self) {
        if !self.discards.is_empty() && self.may_retry() {
            self.discards.drain(..).for_each(|job| self.keeper.ask(job));
        }
    }

    /// Stages the record whose value waits: the writer goes over to its segment, where its group is the first.
    pub(super) fn stage_large(&mut self, draft: &Draft<'_>) -> Result<Staged, WriteError> {
        if let Some(cause) = &self.poison {
            return Err(WriteError::Poisoned { cause: cause.clone() });
        }
        self.watch_limit()?;
        self.make_room(0, false)?;
        let LargeValue { write, crc } = self.large.take().expect("has_large was asked");
        let reserved = write.end();
        self.prepare = Prepare::Idle;
        self.go_over(&write.segment);
        self.active.reserved = reserved;
        self.active.touched = true;
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.stage.begin_with(draft.header(sequence), draft.key, write.value, &crc);
        let place = Place::new(self.active.slot, self.active.end + group::HEADER as u64);
        Ok(Staged { sequence, place, key_at: group::HEADER + record::HEADER })
    }

    /// Appends to `prepared` from now on. The active segment is full, or, if it is empty, goes.
    pub(super) fn go_over(&mut self, prepared: &Prepared) {
        let left = self.active.slot;
        let is_empty = self.active.end == self.active.header_size;
        let mut unsynced = std::mem::take(&mut self.active.unsynced);
        if !is_empty && self.sync_asked < self.last_logged {
            unsynced.push(left);
        }
        self.segments.get_mut(left).state = SegmentState::Sealing;
        self.active = Active::begin(prepared, &mut self.segments, &self.home, self.next_sequence);
        self.active.unsynced = unsynced;
        if is_empty {
            let segment = self.segments.remove(left);
            let (id, file, header_size) = (segment.id, segment.file, segment.bytes);
            self.keeper.ask(Job::Discard { id, file, header_size, lent: false });
        } else {
            self.sealing.push_back(left);
        }
        self.seal_next();
    }

    /// Lets a staged value go whose record is taken back: its segment goes on without it.
    pub(super) fn drop_staged_large(&mut self) {
        if self.stage.large.take().is_some() {
            let active = &mut self.active;
            // What cannot be cut off is written over, or left behind as a torn tail.
            let _ = self.segments.get(active.slot).file.truncate(active.end);
            (active.reserved, active.runway) = (active.end, active.end);
        }
    }
}

/// Bytes of a record without its value.
pub(super) fn size_but_value(key_size: usize) -> usize {
    record_size(key_size, 0) as usize
}

/// Writes a staged group at `end`, around the value that is there.
pub(super) fn write_around(
    file: &dyn File,
    bytes: &[u8],
    large: Option<&StagedLarge>,
    end: u64,
) -> io::Result<()> {
    let Some(large) = large else { return write_all_at(file, bytes, end) };
    let (before, behind) = bytes.split_at(large.at);
    if !behind.is_empty() {
        write_all_at(file, behind, end + (large.at + large.value.len()) as u64)?;
    }
    write_all_at(file, before, end)
}
