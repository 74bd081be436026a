//! The engine as handlers see it: keys of databases, and the sequence that a reply depends on.

use super::ClientKey;
use super::channels::Channels;
use super::tracking::{Tracker, Tracking};
use super::watch::Watches;
use crate::command::{Abort, LargeArg};
use crate::config::NotifyEvents;
use bytes::Bytes;
use kival_engine::{Engine, Fetched, KeyEntry, Savepoint};
use std::ops::Range;

/// The keys of all databases.
///
/// Whatever a client could learn from a call raises a dependency: the record that was read, the
/// tombstone that made a key absent. A client under `appendfsync always` gets its reply when that
/// sequence is on disk.
pub struct Store {
    engine: Engine,
    depends: u64,
    /// Whether look-ups count as no accesses: the client whose command runs wants it so.
    pub no_touch: bool,
    /// Where the command that runs began, if it may park for a large value before it has changed anything.
    pub began: Option<Savepoint>,
    /// Look-ups that found a key.
    pub hits: u64,
    /// Look-ups that did not.
    pub misses: u64,
    /// Changes of keys since the start.
    pub changes: u64,
    /// Keys that clients watch.
    pub watches: Watches,
    /// Who listens to messages, and those not yet delivered.
    pub channels: Channels,
    /// What clients have cached.
    pub tracking: Tracking,
    /// Which events of keys are told.
    events: NotifyEvents,
}

impl Store {
    /// Takes the engine in.
    pub fn new(engine: Engine) -> Store {
        Store {
            engine,
            depends: 0,
            no_touch: false,
            began: None,
            hits: 0,
            misses: 0,
            changes: 0,
            watches: Watches::default(),
            channels: Channels::default(),
            tracking: Tracking::default(),
            events: NotifyEvents::NONE,
        }
    }

    /// The engine, for what is not about keys.
    pub fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// The engine, to look at.
    pub fn engine_ref(&self) -> &Engine {
        &self.engine
    }

    /// Gives the engine back.
    pub fn into_engine(self) -> Engine {
        self.engine
    }

    /// The same over another engine, which is made of this one.
    ///
    /// # Errors
    /// Those of `reopen`; the store is gone then.
    pub fn reopened<E>(self, reopen: impl FnOnce(Engine) -> Result<Engine, E>) -> Result<Store, E> {
        Ok(Store { engine: reopen(self.engine)?, ..self })
    }

    /// Unix milliseconds; the same throughout a turn.
    pub fn now(&self) -> u64 {
        self.engine.now_ms()
    }

    /// Takes the sequence that the replies since the last call depend on.
    pub fn take_dependency(&mut self) -> u64 {
        std::mem::take(&mut self.depends)
    }

    /// The sequence that [`Self::take_dependency`] would give.
    pub fn dependency(&self) -> u64 {
        self.depends
    }

    /// Makes the reply depend on everything so far: for what tells of all keys at once.
    pub fn depend_on_all(&mut self) {
        self.depends = self.engine.last_sequence();
    }

    /// Hits and misses so far.
    pub fn counted(&self) -> (u64, u64) {
        (self.hits, self.misses)
    }

    /// Sets hits and misses back: what was counted since did not happen.
    pub fn recount(&mut self, counted: (u64, u64)) {
        (self.hits, self.misses) = counted;
    }

    /// After something was taken back: nothing can depend on numbers that do not count any more.
    pub fn forget_taken_back(&mut self) {
        self.depends = self.depends.min(self.engine.last_sequence());
    }

    fn depend(&mut self, sequence: u64) {
        self.depends = self.depends.max(sequence);
    }

    fn depend_on_entry(&mut self, db: u32, entry: &KeyEntry) {
        // That the key is in this database is told by the newest map of databases, too.
        self.depend(entry.change.map_or(entry.sequence, |change| change.sequence));
        self.depend(self.engine.newest_of(db, entry));
        self.depend(self.engine.map_sequence());
    }

    fn depend_on_absence(&mut self, db: u32, key: &[u8]) {
        let sequence = self.engine.absence(db, key);
        self.depend(sequence);
    }

    /// What is known of a key, counted as an access.
    ///
    /// # Errors
    /// [`Abort::Read`] if damage may have taken what is newest.
    pub fn lookup(&mut self, db: u32, key: &[u8]) -> Result<Option<KeyEntry>, Abort> {
        let found = if self.no_touch { self.engine.entry(db, key) } else { self.engine.touch(db, key) }?;
        self.tell_expired();
        match found {
            Some(entry) => {
                self.hits += 1;
                self.depend_on_entry(db, &entry);
                Ok(Some(entry))
            }
            None => {
                self.missed(db, key);
                self.depend_on_absence(db, key);
                Ok(None)
            }
        }
    }

    /// What is known of a key, not counted.
    ///
    /// # Errors
    /// As [`Self::lookup`].
    pub fn peek(&mut self, db: u32, key: &[u8]) -> Result<Option<KeyEntry>, Abort> {
        let found = self.engine.entry(db, key)?;
        self.tell_expired();
        match found {
            Some(entry) => {
                self.depend_on_entry(db, &entry);
                Ok(Some(entry))
            }
            None => {
                self.depend_on_absence(db, key);
                Ok(None)
            }
        }
    }

    /// The value of a key, counted as an access.
    ///
    /// # Errors
    /// [`Abort::Cold`] if it must be read from disk first, [`Abort::Read`] if that cannot be done.
    pub fn value(&mut self, db: u32, key: &[u8]) -> Result<Option<Bytes>, Abort> {
        match self.lookup(db, key)? {
            Some(entry) => self.value_of(db, key, &entry).map(Some),
            None => Ok(None),
        }
    }

    /// The value of an entry that was just looked up.
    ///
    /// # Errors
    /// As [`Self::value`].
    pub fn value_of(&mut self, db: u32, key: &[u8], entry: &KeyEntry) -> Result<Bytes, Abort> {
        match self.engine.fetch(db, key, entry)? {
            Fetched::Value(value) => Ok(value),
            Fetched::Cold(cold) => Err(Abort::Cold(Box::new(cold))),
        }
    }

    /// A part of the value of an entry that was just looked up; as much of it as the value reaches.
    ///
    /// # Errors
    /// As [`Self::value`].
    pub fn part_of(
        &mut self,
        db: u32,
        key: &[u8],
        entry: &KeyEntry,
        part: Range<usize>,
    ) -> Result<Bytes, Abort> {
        let size = entry.value_size as usize;
        match self.engine.fetch_part(db, key, entry, part.start.min(size)..part.end.min(size))? {
            Fetched::Value(value) => Ok(value),
            Fetched::Cold(cold) => Err(Abort::Cold(Box::new(cold))),
        }
    }

    /// Sets a part of the value of a key, which is absent or has this entry, with zeros ahead of it if the value is
    /// too short: page by page where that pays. The expiry stays. Gives the length of the value in bytes.
    ///
    /// # Errors
    /// As [`Self::value`] and [`Self::put`].
    pub fn put_part(
        &mut self,
        db: u32,
        key: &[u8],
        entry: Option<KeyEntry>,
        offset: usize,
        bytes: &[u8],
    ) -> Result<usize, Abort> {
        let end = offset + bytes.len();
        if self.engine.is_by_page(db, entry.as_ref(), offset, bytes.len()) {
            let entry = match entry {
                Some(entry) => entry,
                None => {
                    self.put(db, key, b"", 0)?;
                    self.engine.entry(db, key)?.expect("it was just put")
                }
            };
            let span = self.engine.pages_around(&entry, offset, bytes.len());
            let mut pages = with_room(&self.part_of(db, key, &entry, span.clone())?, span.len());
            pages[offset - span.start..end - span.start].copy_from_slice(bytes);
            let sequence = self.engine.put_pages(db, key, &entry, span.start, &pages)?;
            self.depend(sequence);
            self.changed(db, key);
            return Ok(end.max(entry.value_size as usize));
        }
        let before = match &entry {
            Some(entry) => self.value_of(db, key, entry)?,
            None => Bytes::new(),
        };
        let mut value = with_room(&before, end);
        value[offset..end].copy_from_slice(bytes);
        self.put(db, key, &value, entry.map_or(0, |entry| entry.expiry))?;
        Ok(value.len())
    }

    /// Whether a large value is to be written before it is put.
    #[cold]
    fn is_to_park(&self, key: &[u8], value: &[u8]) -> bool {
        self.began.is_some_and(|began| self.engine.is_at(&began)) && !self.engine.has_large(key.len(), value)
    }

    /// Sets a key; `expiry` in Unix milliseconds, 0 for none.
    ///
    /// # Errors
    /// [`Abort::Write`], or [`Abort::Large`] if nothing else was changed before.
    pub fn put(&mut self, db: u32, key: &[u8], value: &[u8], expiry: u64) -> Result<(), Abort> {
        if value.len() as u64 >= self.engine.large_from() && self.is_to_park(key, value) {
            return Err(Abort::Large(LargeArg::new(key.len(), value)));
        }
        if !self.events.is_none() {
            self.before_put(db, key);
        }
        let sequence = self.engine.put(db, key, value, expiry)?;
        self.depend(sequence);
        self.changed(db, key);
        Ok(())
    }

    /// Removes a key, and says whether there was one.
    ///
    /// # Errors
    /// [`Abort::Write`].
    pub fn delete(&mut self, db: u32, key: &[u8]) -> Result<bool, Abort> {
        // One that has expired is none: it goes with the look-up.
        if self.peek(db, key)?.is_none() {
            return Ok(false);
        }
        self.engine.delete(db, key)?;
        self.depend(self.engine.last_sequence());
        self.changed(db, key);
        Ok(true)
    }

    /// Changes a key's expiry, 0 for none, and says whether there is such a key.
    ///
    /// # Errors
    /// [`Abort::Write`].
    pub fn set_expiry(&mut self, db: u32, key: &[u8], expiry: u64) -> Result<bool, Abort> {
        if self.peek(db, key)?.is_none() {
            return Ok(false);
        }
        self.engine.set_expiry(db, key, expiry)?;
        self.depend(self.engine.last_sequence());
        self.changed(db, key);
        Ok(true)
    }

    /// Counts a look-up that found nothing.
    pub fn missed(&mut self, db: u32, key: &[u8]) {
        self.misses += 1;
        if self.events.has(NotifyEvents::KEY_MISS) {
            let before = self.channels.outgoing.len();
            self.tell(db, "keymiss", key);
            self.channels.outgoing[before..].iter_mut().for_each(|message| message.stands = true);
        }
    }

    /// Has these events told from now on.
    pub fn set_events(&mut self, events: NotifyEvents) {
        self.events = events;
        self.note_expired();
    }

    /// Has the engine note expired keys, if anybody wants to know.
    fn note_expired(&mut self) {
        self.engine.note_expired(self.wants_expired());
    }

    fn wants_expired(&self) -> bool {
        self.events.has(NotifyEvents::EXPIRED) || self.tracking.is_on()
    }

    /// CLIENT TRACKING ON.
    pub fn start_tracking(&mut self, client: ClientKey, tracker: Tracker) {
        self.tracking.start(client, tracker);
        self.note_expired();
    }

    /// CLIENT TRACKING OFF.
    pub fn stop_tracking(&mut self, client: ClientKey) {
        if self.tracking.is_on() {
            self.tracking.stop(client);
            self.note_expired();
        }
    }

    /// Tells an event of a key, if its class is told.
    #[inline]
    pub fn notify(&mut self, db: u32, class: NotifyEvents, event: &'static str, key: &[u8]) {
        if self.events.has(class) {
            self.tell(db, event, key);
        }
    }

    #[cold]
    fn tell(&mut self, db: u32, event: &'static str, key: &[u8]) {
        let channel = |kind: &str, name: &[u8]| -> Bytes {
            [b"__key", kind.as_bytes(), b"@", db.to_string().as_bytes(), b"__:", name].concat().into()
        };
        if self.events.has(NotifyEvents::BY_KEY) {
            self.channels.publish(&channel("space", key), &Bytes::from_static(event.as_bytes()));
        }
        if self.events.has(NotifyEvents::BY_EVENT) {
            self.channels.publish(&channel("event", event.as_bytes()), &Bytes::copy_from_slice(key));
        }
    }

    /// Tells which keys have been removed because their time has come.
    #[inline]
    pub fn tell_expired(&mut self) {
        if self.wants_expired() {
            for (db, key) in self.engine.take_expired() {
                self.notify(db, NotifyEvents::EXPIRED, "expired", &key);
                self.tracking.changed(&key);
            }
        }
    }

    /// A key is set: one that has expired goes first, and one that is not there is new.
    #[cold]
    fn before_put(&mut self, db: u32, key: &[u8]) {
        // Where the answer is in doubt the key may be set all the same.
        let is_new = matches!(self.engine.entry(db, key), Ok(None));
        self.tell_expired();
        if is_new {
            self.notify(db, NotifyEvents::NEW, "new", key);
        }
    }

    /// Removes all keys of these databases.
    ///
    /// # Errors
    /// [`Abort::Write`].
    pub fn flush(&mut self, databases: &[u32]) -> Result<(), Abort> {
        let keys: usize = databases.iter().map(|&db| self.engine.key_count(db)).sum();
        for &db in databases {
            self.watches.changed_where(db, |key| self.engine.contains(db, key));
        }
        self.engine.flush(databases)?;
        self.tracking.flushed();
        self.depend_on_all();
        self.changes += keys as u64;
        Ok(())
    }

    /// Exchanges two databases.
    ///
    /// # Errors
    /// [`Abort::Write`].
    pub fn swap(&mut self, first: u32, second: u32) -> Result<(), Abort> {
        self.engine.swap(first, second)?;
        if first != second {
            for db in [first, second] {
                let engine = &self.engine;
                let exists = |key: &[u8]| engine.contains(first, key) || engine.contains(second, key);
                self.watches.changed_where(db, exists);
            }
        }
        self.depend(self.engine.last_sequence());
        self.changes += 1;
        Ok(())
    }

    /// Counts a change of a key, and tells those who watch it.
    pub fn changed(&mut self, db: u32, key: &[u8]) {
        self.changes += 1;
        if !self.watches.is_empty() {
            self.watches.changed(db, key);
        }
        self.tracking.changed(key);
    }

    /// Number of keys in a database.
    pub fn key_count(&mut self, db: u32) -> usize {
        self.depend_on_all();
        self.engine.key_count(db)
    }

    /// Goes through about `count` keys of a database from `cursor` on; see [`Engine::scan`].
    pub fn scan(&mut self, db: u32, cursor: u64, count: usize, see: impl FnMut(&[u8], &KeyEntry)) -> u64 {
        self.depend_on_all();
        self.engine.scan(db, cursor, count, see)
    }

    /// A key near a random point, which may have expired.
    pub fn random_key(&mut self, db: u32, random: u64) -> Option<Vec<u8>> {
        self.depend_on_all();
        self.engine.random_key(db, random)
    }

    /// All live keys of a database.
    pub fn keys(&mut self, db: u32) -> impl Iterator<Item = (&[u8], KeyEntry)> {
        self.depend_on_all();
        self.engine.iter(db)
    }
}

/// A copy of `value`, with zeros behind it up to `len` bytes.
fn with_room(value: &[u8], len: usize) -> Vec<u8> {
    let mut copy = Vec::with_capacity(len.max(value.len()));
    copy.extend_from_slice(value);
    copy.resize(len.max(value.len()), 0);
    copy
}
