//! Staging records and appending them: one group for each commit.
//!
//! A record that is staged shows in the keydir at once, so that what follows in the same turn sees it.
//! Each change is remembered until the commit: a [`Savepoint`] takes one command back, a failed append
//! takes all back. Disk space is reserved when a record is staged (`space.rs`).

use super::databases::{NAMESPACES, NamespaceMap, Space};
use super::large::{StagedLarge, size_but_value, write_around};
use super::space::is_no_space;
use super::undo::Undo;
use super::{Engine, Prepare};
use crate::error::{ReadError, WriteError};
use crate::format::group::{self, GroupHeader, Position};
use crate::format::record::{self, Header, Kind, PAGE, record_size};
use crate::format::{MAX_BLOB, MAX_SEQUENCE};
use crate::keydir::{Entry, ExpiryChange, Page, Pages, Place};
use crate::log::keeper::{Job, SEQUENCE_RESERVE};
use bytes::Bytes;
use std::io;
use std::ops::Range;

/// Room for a group that is always kept, and the most that is kept at all, in bytes.
const ROOM: usize = 1 << 20;
const MOST_ROOM: usize = 16 << 20;
/// Groups for which there was much more room than they took, before that is given back.
const PATIENCE: u32 = 64;

/// Records waiting for the commit, and how to take them back.
#[derive(Default)]
pub(crate) struct Stage {
    /// The group as it will stand in the log, its header not yet filled in.
    pub(super) bytes: Vec<u8>,
    /// The records' CRC fields, one after another.
    crcs: Vec<u8>,
    records: u32,
    /// Groups in a row for which there was much more room than they took.
    small_groups: u32,
    first_sequence: u64,
    pub(super) undo: Vec<Undo>,
    /// A value of this group that is in the file already, and not among the bytes.
    pub(super) large: Option<StagedLarge>,
}

/// A point inside a turn to which its changes can be taken back.
#[derive(Debug, Clone, Copy)]
pub struct Savepoint {
    bytes: usize,
    crcs: usize,
    records: u32,
    undo: usize,
    next_sequence: u64,
}

/// A record about to be staged.
pub(super) struct Draft<'a> {
    kind: Kind,
    namespace: u32,
    pub(super) key: &'a [u8],
    value: &'a [u8],
    expiry: u64,
    data_type: u8,
}

/// Where a staged record will stand.
pub(super) struct Staged {
    pub(super) sequence: u64,
    pub(super) place: Place,
    /// In the staged bytes.
    pub(super) key_at: usize,
}

impl Draft<'_> {
    /// The record's header, numbered.
    pub(super) fn header(&self, sequence: u64) -> Header {
        Header {
            key_size: self.key.len() as u32,
            value_size: self.value.len() as u32,
            namespace: self.namespace,
            sequence,
            expiry: self.expiry,
            kind: self.kind,
            data_type: self.data_type,
        }
    }
}

impl Engine {
    /// Sets the value of a key in database `db`, with an expiry in Unix milliseconds, 0 for none. Gives
    /// the record's sequence.
    ///
    /// # Errors
    /// [`WriteError`]; nothing has changed then.
    pub fn put(&mut self, db: u32, key: &[u8], value: &[u8], expiry: u64) -> Result<u64, WriteError> {
        self.check_map()?;
        let namespace = self.databases.spaces[db as usize].namespace;
        let draft = Draft { kind: Kind::Value, namespace, key, value, expiry, data_type: 0 };
        let large = value.len() as u64 >= self.options.large_value;
        let written = large && self.has_large(key.len(), value);
        let staged = if written { self.stage_large(&draft)? } else { self.stage(&draft)? };
        let entry = Entry {
            place: staged.place,
            sequence: staged.sequence,
            value_size: value.len() as u32,
            data_type: 0,
            access: super::read::access_clock(self.now_ms),
            expiry,
            change: None,
        };
        let space = &mut self.databases.spaces[db as usize];
        let before = space.keydir.insert(key, entry);
        space.enlist(entry.place, record_size(key.len(), value.len()));
        let mut pages = None;
        if let Some(before) = &before {
            pages = space.leave(key, before);
            self.cache.replace(before.sequence, staged.sequence, value);
        } else {
            self.cache.insert_written(staged.sequence, value);
        }
        self.stage.undo.push(Undo::Key { db, key_at: staged.key_at, key_size: key.len(), before, pages });
        Ok(staged.sequence)
    }

    /// Removes a key; `false` if there is none. A key that has expired is removed and counts as none.
    ///
    /// # Errors
    /// [`WriteError`]; nothing has changed then.
    pub fn delete(&mut self, db: u32, key: &[u8]) -> Result<bool, WriteError> {
        let entry = self.databases.spaces[db as usize].keydir.get(key);
        if !self.quarantine.is_empty()
            && let Some(corruption) = self.doubts(db, key, entry.as_ref())
        {
            return Err(WriteError::Doubtful(corruption));
        }
        match entry {
            Some(entry) => {
                self.bury(db, key)?;
                Ok(entry.expiry == 0 || entry.expiry > self.now_ms)
            }
            None => Ok(false),
        }
    }

    /// Stages the tombstone of a key that is in the keydir.
    pub(super) fn bury(&mut self, db: u32, key: &[u8]) -> Result<(), WriteError> {
        let namespace = self.databases.spaces[db as usize].namespace;
        let draft = Draft { kind: Kind::Tombstone, namespace, key, value: b"", expiry: 0, data_type: 0 };
        let staged = self.stage(&draft)?;
        let space = &mut self.databases.spaces[db as usize];
        let before = space.keydir.remove(key);
        let mut pages = None;
        if let Some(before) = &before {
            pages = space.leave(key, before);
            self.cache.retire(before.sequence, before.value_size);
        }
        self.deletes.push(namespace, key, staged.sequence);
        if !self.quarantine.is_empty() {
            self.quarantine.note_deleted(namespace, key, staged.sequence);
        }
        self.stage.undo.push(Undo::Key { db, key_at: staged.key_at, key_size: key.len(), before, pages });
        Ok(())
    }

    /// Changes the expiry of a key without writing its value again: Unix milliseconds, 0 for none.
    /// `false` if there is no such key.
    ///
    /// # Errors
    /// [`WriteError`]; nothing has changed then.
    pub fn set_expiry(&mut self, db: u32, key: &[u8], expiry: u64) -> Result<bool, WriteError> {
        // A key that has expired is none: a new expiry must not bring it back.
        let before = self.entry(db, key).map_err(|error| match error {
            ReadError::Doubtful(corruption) | ReadError::Corrupt(corruption) => {
                WriteError::Doubtful(corruption)
            }
            ReadError::Io { .. } => unreachable!("the keydir is in memory"),
        });
        let Some(before) = before? else { return Ok(false) };
        let namespace = self.databases.spaces[db as usize].namespace;
        let draft = Draft { kind: Kind::Expiry, namespace, key, value: b"", expiry, data_type: 0 };
        let staged = self.stage(&draft)?;
        let change = ExpiryChange { sequence: staged.sequence, place: staged.place };
        let space = &mut self.databases.spaces[db as usize];
        space.keydir.insert(key, Entry { expiry, change: Some(change), ..before });
        if let Some(older) = before.change {
            space.retire(older.place, record_size(key.len(), 0));
        }
        space.enlist(change.place, record_size(key.len(), 0));
        let before = Some(before);
        let (key_at, key_size) = (staged.key_at, key.len());
        self.stage.undo.push(Undo::Key { db, key_at, key_size, before, pages: None });
        Ok(true)
    }

    /// Stages a page of the value whose entry is given, and shows it. Gives its sequence.
    pub(super) fn stage_page(
        &mut self,
        db: u32,
        key: &[u8],
        entry: &Entry,
        number: u32,
        content: &[u8],
    ) -> Result<u64, WriteError> {
        let namespace = self.databases.spaces[db as usize].namespace;
        let value = [&entry.sequence.to_le_bytes()[..], content].concat();
        let begins = u64::from(number) * PAGE as u64;
        let draft = Draft { kind: Kind::Page, namespace, key, value: &value, expiry: begins, data_type: 0 };
        let Staged { sequence, place, key_at } = self.stage(&draft)?;
        let page = Page { sequence, place, size: content.len() as u16 };
        let (base, access) = (entry.sequence, super::read::access_clock(self.now_ms));
        let space = &mut self.databases.spaces[db as usize];
        let pages = space.paged.entry(base).or_insert_with(|| Pages::over(entry.value_size));
        let newest = pages.newest();
        let before = pages.set(number, page);
        let value_size = pages.size();
        space.keydir.update(key, |entry| (entry.value_size, entry.access) = (value_size, access));
        space.enlist(place, page.record_size(key.len()));
        match before {
            Some(before) => {
                space.retire(before.place, before.record_size(key.len()));
                self.cache.replace(before.sequence, sequence, content);
            }
            None => self.cache.insert(sequence, content),
        }
        let key_size = key.len();
        self.stage.undo.push(Undo::Page { db, key_at, key_size, base, number, before, newest });
        Ok(sequence)
    }

    /// Removes all keys of these databases: one record, whatever the number of keys.
    ///
    /// # Errors
    /// [`WriteError`]; nothing has changed then.
    pub fn flush(&mut self, databases: &[u32]) -> Result<(), WriteError> {
        let sound = self.quarantine.is_empty();
        let all = (0..self.databases()).all(|db| databases.contains(&db));
        // Where it is not known which keys a database has, only all can go: then nothing is in doubt.
        if !all {
            self.check_map()?;
        }
        // A database may have keys that nothing is known of any more.
        let holds = |db: &u32| !sound || !self.databases.spaces[*db as usize].keydir.is_empty();
        let holding: Vec<u32> = databases.iter().copied().filter(holds).collect();
        if holding.is_empty() {
            return Ok(());
        }
        let (next_namespace, record) = (self.databases.next_namespace, self.databases.record);
        let mut replaced = Vec::new();
        for &db in &holding {
            let fresh = Space::new(self.databases.next_namespace);
            self.databases.next_namespace += 1;
            replaced.push((db, std::mem::replace(&mut self.databases.spaces[db as usize], fresh)));
        }
        self.databases.index();
        let undo = Undo::Map { replaced, next_namespace, record };
        let sequence = self.stage_map(undo)?;
        self.deletes.push_all(sequence);
        Ok(())
    }

    /// Exchanges the keys of two databases.
    ///
    /// # Errors
    /// [`WriteError`]; nothing has changed then.
    pub fn swap(&mut self, first: u32, second: u32) -> Result<(), WriteError> {
        if first == second {
            return Ok(());
        }
        self.check_map()?;
        let record = self.databases.record;
        self.databases.swap(first, second);
        let sequence = self.stage_map(Undo::Swap { first, second, record })?;
        self.deletes.push_all(sequence);
        Ok(())
    }

    /// Refuses a change while it is not known which keys a database has.
    pub(super) fn check_map(&self) -> Result<(), WriteError> {
        if self.quarantine.is_empty() {
            return Ok(());
        }
        match self.quarantine.doubts_map(self.map_sequence()) {
            Some(corruption) => Err(WriteError::Doubtful(corruption)),
            None => Ok(()),
        }
    }

    /// Stages the map of the databases as they are now; takes `undo` back if that fails.
    fn stage_map(&mut self, undo: Undo) -> Result<u64, WriteError> {
        let map = NamespaceMap::of(self.databases.next_namespace, &self.databases.spaces).encode();
        let draft = Draft {
            kind: Kind::Namespaces,
            namespace: NAMESPACES,
            key: b"",
            value: &map,
            expiry: 0,
            data_type: 0,
        };
        match self.stage(&draft) {
            Ok(staged) => {
                let bytes = record_size(0, map.len());
                self.databases.record = Some((staged.sequence, staged.place, bytes));
                self.stage.undo.push(undo);
                Ok(staged.sequence)
            }
            Err(error) => {
                self.databases.take_back(undo);
                Err(error)
            }
        }
    }

    /// Bytes staged since the last commit.
    pub fn staged_bytes(&self) -> usize {
        self.stage.size() as usize
    }

    /// Whether nothing was staged, or all was taken back, since `savepoint`, which must be of this turn.
    pub fn is_at(&self, savepoint: &Savepoint) -> bool {
        self.stage.undo.len() == savepoint.undo
    }

    /// Marks this point of the turn.
    pub fn savepoint(&self) -> Savepoint {
        Savepoint {
            bytes: self.stage.bytes.len(),
            crcs: self.stage.crcs.len(),
            records: self.stage.records,
            undo: self.stage.undo.len(),
            next_sequence: self.next_sequence,
        }
    }

    /// Takes back everything staged since `savepoint`, which must be of this turn.
    pub fn roll_back(&mut self, savepoint: Savepoint) {
        if self.stage.undo.len() == savepoint.undo {
            return;
        }
        self.undo_to(savepoint.undo);
        self.stage.bytes.truncate(savepoint.bytes);
        if savepoint.bytes == 0 {
            self.drop_staged_large();
        }
        self.stage.crcs.truncate(savepoint.crcs);
        self.stage.records = savepoint.records;
        // These numbers never left this turn.
        self.next_sequence = savepoint.next_sequence;
        self.deletes.take_back(self.next_sequence);
        self.quarantine.take_back(self.next_sequence);
    }

    /// Encodes a record into the group of this turn.
    fn stage(&mut self, draft: &Draft<'_>) -> Result<Staged, WriteError> {
        if let Some(cause) = &self.poison {
            return Err(WriteError::Poisoned { cause: cause.clone() });
        }
        if draft.key.len().max(draft.value.len()) as u64 > MAX_BLOB {
            return Err(WriteError::TooLarge);
        }
        let sequence = self.next_sequence;
        self.watch_limit()?;
        let header_size = if self.stage.records == 0 { group::HEADER } else { 0 };
        let size = record_size(draft.key.len(), draft.value.len());
        let at = self.stage.size() + header_size as u64;
        self.make_room(self.active.end + at + size, !matches!(draft.kind, Kind::Value | Kind::Page))?;
        let stage = &mut self.stage;
        if stage.records == 0 {
            stage.bytes.resize(group::HEADER, 0);
            stage.first_sequence = sequence;
        }
        let (begin, header) = (stage.bytes.len(), draft.header(sequence));
        debug_assert!(Header::decode(&header.encode()).is_ok(), "what is written must be read again");
        record::encode(&mut stage.bytes, &header, draft.key, draft.value);
        let crc = record::crc_of(&stage.bytes[begin..]).expect("a record was just written there");
        stage.crcs.extend_from_slice(crc);
        stage.records += 1;
        self.next_sequence += 1;
        let place = Place::new(self.active.slot, self.active.end + at);
        Ok(Staged { sequence, place, key_at: begin + record::HEADER })
    }

    /// Keeps the promise that no number above the manifest's limit is issued.
    pub(super) fn watch_limit(&mut self) -> Result<(), WriteError> {
        if self.next_sequence + SEQUENCE_RESERVE / 2 > self.sequence_limit
            && !self.limit_asked
            && self.may_retry()
        {
            self.limit_asked = true;
            self.keeper.ask(Job::RaiseLimit((self.next_sequence + SEQUENCE_RESERVE).min(MAX_SEQUENCE)));
        }
        if self.next_sequence > self.sequence_limit {
            let cause = "the manifest could not be written to reserve more sequence numbers".into();
            return Err(WriteError::Append { cause });
        }
        Ok(())
    }

    /// Appends what was staged since the last commit, as one group. Gives the highest sequence in the
    /// log. Under [`super::options::SyncPolicy::Always`] a sync is asked for.
    ///
    /// # Errors
    /// [`WriteError`]; then everything staged has been taken back.
    pub fn commit(&mut self) -> Result<u64, WriteError> {
        if self.stage.records == 0 {
            return Ok(self.last_logged);
        }
        // Looked at here too, so that nothing is acknowledged between the failure and its news.
        if self.syncer.has_failed() {
            self.notice_failed_sync();
        }
        if let Some(cause) = self.poison.clone() {
            self.take_turn_back();
            return Err(WriteError::Poisoned { cause });
        }
        self.stage.seal_header(GroupHeader {
            merged: false,
            store: self.home.store,
            at: Position { segment: self.active.id, offset: self.active.end },
            body_size: self.stage.size() - group::HEADER as u64,
            first_sequence: self.stage.first_sequence,
            previous_sequence: self.last_logged,
            time_ms: self.now_ms,
            watermark: self.durable.get().position,
            records: self.stage.records,
            body_crc: 0,
        });
        let file = self.segments.get(self.active.slot).file.clone();
        let (bytes, large) = (&self.stage.bytes, self.stage.large.as_ref());
        if let Err(error) = write_around(&*file, bytes, large, self.active.end) {
            return Err(self.fail_append(&*file, &error));
        }
        self.pace.note_append(self.stage.bytes.len() as u64);
        self.active.end += self.stage.size();
        self.segments.get_mut(self.active.slot).bytes = self.active.end;
        self.log_end = Position { segment: self.active.id, offset: self.active.end };
        self.last_logged = self.next_sequence - 1;
        self.drop_replaced();
        self.quarantine.commit();
        self.stage.clear();
        self.lay_runway();
        if self.options.sync == super::options::SyncPolicy::Always {
            self.ask_sync();
        }
        self.roll_if_full();
        Ok(self.last_logged)
    }

    /// Takes the turn back after its append failed, and cuts the log back to its last whole group.
    fn fail_append(&mut self, file: &dyn crate::fs::File, error: &io::Error) -> WriteError {
        let staged = self.stage.size();
        self.take_turn_back();
        self.active.touched = true;
        let cut = file.truncate(self.active.end);
        (self.active.reserved, self.active.runway) = (self.active.end, self.active.end);
        let cause = match cut {
            // The rest of the log is as sound as it was: with room it goes on.
            Ok(()) if is_no_space(error) => {
                self.active.watch_largest(error, self.active.end + staged);
                return self.space.refuse();
            }
            Ok(()) => format!("an append to the log failed: {error}"),
            Err(cut) => format!("an append failed ({error}), and the log could not be cut back ({cut})"),
        };
        tracing::error!(%cause, "nothing is written any more until the store is opened again");
        self.poison.get_or_insert(cause.clone());
        WriteError::Poisoned { cause }
    }

    /// Undoes all that is staged. Its numbers are burnt: parts of it may be on disk.
    fn take_turn_back(&mut self) {
        self.undo_to(0);
        self.deletes.take_back(self.stage.first_sequence);
        self.quarantine.take_back(self.stage.first_sequence);
        self.stage.clear();
    }

    /// Goes on in the next segment if the active one is full and the next is ready; asks for it early.
    pub(super) fn roll_if_full(&mut self) {
        let full = self.active.end >= self.options.segment_size || self.active.capped;
        let soon = full || self.active.end >= self.options.segment_size / 2;
        if matches!(self.prepare, Prepare::Idle) && soon {
            self.ask_to_prepare();
        }
        if full {
            self.roll();
        }
    }

    /// Goes on in the next segment, if it is ready. The active one must not be empty.
    pub(super) fn roll(&mut self) -> bool {
        let Prepare::Ready(_) = &self.prepare else { return false };
        let Prepare::Ready(prepared) = std::mem::replace(&mut self.prepare, Prepare::Idle) else {
            return false;
        };
        self.go_over(&prepared);
        true
    }
}

impl Stage {
    fn seal_header(&mut self, header: GroupHeader) {
        let header = GroupHeader { body_crc: crc32fast::hash(&self.crcs), ..header };
        self.bytes[..group::HEADER].copy_from_slice(&header.encode());
    }

    /// Bytes that the group takes in the log, so far.
    fn size(&self) -> u64 {
        (self.bytes.len() + self.large.as_ref().map_or(0, |large| large.value.len())) as u64
    }

    /// A part of the value of a record that begins `at` so many bytes behind the group's start.
    pub(super) fn value(&self, at: u64, key_size: usize, part: Range<usize>) -> Option<Bytes> {
        let mut value_at = at as usize + size_but_value(key_size);
        if let Some(large) = &self.large {
            if value_at == large.at {
                return (part.end <= large.value.len()).then(|| large.value.slice(part));
            }
            value_at = value_at.checked_sub(large.value.len())?;
        }
        self.bytes.get(value_at + part.start..value_at + part.end).map(Bytes::copy_from_slice)
    }

    /// Begins a group with a record whose value is in the file already; `crc` is the value's.
    pub(super) fn begin_with(&mut self, header: Header, key: &[u8], value: Bytes, crc: &crc32fast::Hasher) {
        self.first_sequence = header.sequence;
        self.bytes.resize(group::HEADER, 0);
        let fields = record::encode_around(&mut self.bytes, &header, key, crc);
        self.crcs.extend_from_slice(&fields);
        self.records = 1;
        self.large = Some(StagedLarge { at: self.bytes.len(), value });
    }

    /// Whether no record waits.
    pub(super) fn is_empty(&self) -> bool {
        self.records == 0
    }

    fn clear(&mut self) {
        // Room for a large group is kept as long as such groups come: to have it again costs more than to fill it.
        let is_small = self.bytes.len() < self.bytes.capacity() / 4;
        self.small_groups = if is_small { self.small_groups + 1 } else { 0 };
        self.bytes.clear();
        if self.bytes.capacity() > MOST_ROOM || (self.bytes.capacity() > ROOM && self.small_groups > PATIENCE)
        {
            self.bytes = Vec::new();
        }
        self.crcs.clear();
        self.records = 0;
        self.large = None;
        self.undo.clear();
    }
}
