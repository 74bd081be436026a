//! Reading: entries from the keydir, values from memory, from the page cache or from the disk.

use super::Engine;
use super::cold::{ColdRead, Plan, RecordAt, check};
use crate::error::{Corruption, ReadError};
use crate::format::record::record_size;
use crate::keydir::{Entry, WARM};
use bytes::Bytes;
use std::hint::black_box;

/// Records up to this size are read into a buffer that is used again.
const SCRATCH: usize = 64 << 10;

/// A value, or what has to be read to have it.
#[derive(Debug)]
pub enum Fetched {
    /// The value.
    Value(Bytes),
    /// It is on disk and not in the page cache: [`ColdRead::read`] it on a thread that may wait.
    Cold(ColdRead),
}

/// The access clock that an entry keeps: seconds, modulo 2^24.
pub(super) fn access_clock(now_ms: u64) -> u32 {
    (now_ms / 1000) as u32 & 0xff_ffff
}

/// An access that seems to lie less than this far ahead, in seconds, was noted by a clock that was ahead.
const CLOCK_SET_BACK: u32 = 24 * 60 * 60;

/// Seconds from one access clock to a later one; 0 if the clock was set back in between.
fn clock_between(access: u32, now: u32) -> u32 {
    let passed = now.wrapping_sub(access) & 0xff_ffff;
    if passed > 0xff_ffff - CLOCK_SET_BACK { 0 } else { passed }
}

impl Engine {
    /// What is known of a live key. A key that has expired is removed on the way, and is none; where
    /// nothing can be written it is only hidden.
    ///
    /// # Errors
    /// [`ReadError::Doubtful`] if damage may have taken what is newest.
    pub fn entry(&mut self, db: u32, key: &[u8]) -> Result<Option<Entry>, ReadError> {
        let entry = self.databases.spaces[db as usize].keydir.get(key);
        if !self.quarantine.is_empty()
            && let Some(corruption) = self.doubts(db, key, entry.as_ref())
        {
            return Err(ReadError::Doubtful(corruption));
        }
        let Some(entry) = entry else { return Ok(None) };
        if entry.expiry != 0 && entry.expiry <= self.now_ms {
            // Refused where nothing can be written: the key stays hidden all the same.
            if self.bury(db, key).is_ok() {
                self.note_one_expired(db, key);
            }
            return Ok(None);
        }
        Ok(Some(entry))
    }

    /// Has the names of keys kept that are removed because their time has come, until they are taken; or not.
    pub fn note_expired(&mut self, keep: bool) {
        self.expired_keys = keep.then(Vec::new);
    }

    /// The keys, with their databases, that were removed because their time had come, since the last call.
    pub fn take_expired(&mut self) -> Vec<(u32, Box<[u8]>)> {
        self.expired_keys.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(super) fn note_one_expired(&mut self, db: u32, key: &[u8]) {
        self.expired += 1;
        if let Some(keys) = &mut self.expired_keys {
            keys.push((db, key.into()));
        }
    }

    /// Whether the keydir has a key, one that has expired and was not looked at since included.
    pub fn contains(&self, db: u32, key: &[u8]) -> bool {
        self.databases.spaces[db as usize].keydir.get(key).is_some()
    }

    /// The damage that may have taken a newer record of a key than its entry, or than its absence.
    pub(super) fn doubts(&self, db: u32, key: &[u8], entry: Option<&Entry>) -> Option<Corruption> {
        // Which namespace a database has is told by the newest map.
        self.quarantine.doubts_map(self.map_sequence()).or_else(|| {
            let namespace = self.databases.spaces[db as usize].namespace;
            self.quarantine.doubts(namespace, key, entry.map_or(0, |entry| entry.sequence))
        })
    }

    /// Whether an entry is known to be the newest of its key.
    pub(super) fn is_certain(&self, db: u32, key: &[u8], entry: &Entry) -> bool {
        self.quarantine.is_empty() || self.doubts(db, key, Some(entry)).is_none()
    }

    /// As [`Self::entry`], and notes the time of access.
    ///
    /// # Errors
    /// As [`Self::entry`].
    pub fn touch(&mut self, db: u32, key: &[u8]) -> Result<Option<Entry>, ReadError> {
        let Some(entry) = self.entry(db, key)? else { return Ok(None) };
        let clock = access_clock(self.now_ms);
        if entry.access != clock {
            self.databases.spaces[db as usize].keydir.touch(key, clock);
        }
        Ok(Some(entry))
    }

    /// Seconds since a key was last read with [`Self::touch`] or set, modulo 194 days; `None` if that was
    /// before the store was opened.
    pub fn idle_seconds(&self, entry: &Entry) -> Option<u32> {
        (entry.access != 0).then(|| clock_between(entry.access, access_clock(self.now_ms)))
    }

    /// The value of a key, given its entry, without waiting for the disk.
    ///
    /// # Errors
    /// [`ReadError`] if the record cannot be read or is not what was written.
    pub fn fetch(&mut self, db: u32, key: &[u8], entry: &Entry) -> Result<Fetched, ReadError> {
        if self.databases.spaces[db as usize].pages_of(entry).is_some() {
            return self.fetch_pages(db, key, entry, 0..entry.value_size as usize);
        }
        match self.cache.get(entry.sequence) {
            Some(value) => Ok(Fetched::Value(value)),
            None => self.fetch_record(db, key, entry),
        }
    }

    /// The value in the record of a key that has no pages and is not in the cache.
    pub(super) fn fetch_record(&mut self, db: u32, key: &[u8], entry: &Entry) -> Result<Fetched, ReadError> {
        let value_size = entry.value_size as usize;
        if let Some(value) = self.staged_part(entry.place, key.len(), 0..value_size) {
            return Ok(Fetched::Value(value));
        }
        let size = record_size(key.len(), value_size) as usize;
        let segment = self.segments.get(entry.place.slot());
        let namespace = self.databases.spaces[db as usize].namespace;
        let at = || RecordAt {
            file: segment.file.clone(),
            path: segment.path.clone(),
            offset: entry.place.offset(),
            namespace,
            key: key.into(),
            sequence: entry.sequence,
            value_size,
        };
        if value_size as u64 >= self.options.large_value {
            // Wherever it is, it would hold the writer up.
            return Ok(Fetched::Cold(ColdRead(Plan::Record(at()))));
        }
        if size > SCRATCH {
            let at = at();
            let Some(value) = at.value(|file, buffer, offset| file.read_at_cached(buffer, offset))? else {
                return Ok(Fetched::Cold(ColdRead(Plan::Record(at))));
            };
            self.cache.insert_shared(entry.sequence, &value);
            return Ok(Fetched::Value(value));
        }
        self.scratch.resize(size, 0);
        let (scratch, offset) = (&mut self.scratch, entry.place.offset());
        let read = segment.luck.ask(|| segment.file.read_at_cached(scratch, offset));
        match read.map_err(|source| ReadError::Io { path: segment.path.to_path_buf(), source })? {
            Some(read) => {
                let value = check(&self.scratch[..read], namespace, key, entry.sequence);
                let value = value.map_err(|damage| segment.corruption(entry.place.offset(), damage))?;
                self.cache.insert(entry.sequence, value);
                Ok(Fetched::Value(Bytes::copy_from_slice(value)))
            }
            None => Ok(Fetched::Cold(ColdRead(Plan::Record(at())))),
        }
    }

    /// Loads into the processor's caches what reading these keys will want. Most of the time of a look-up is spent
    /// waiting for memory; for several keys at once the waits overlap.
    pub fn warm(&self, db: u32, keys: &[&[u8]; WARM]) {
        let values = self.databases.spaces[db as usize].keydir.warm(keys);
        black_box(values.iter().fold(0, |loaded, (sequence, _)| loaded ^ self.cache.touch_index(*sequence)));
        let touch_value = |(sequence, size): &(u64, u32)| self.cache.touch_value(*sequence, *size as usize);
        black_box(values.iter().fold(0, |loaded, value| loaded ^ touch_value(value)));
    }

    /// Lets all held values go.
    pub fn unpin(&mut self) {
        self.cache.unpin();
        self.parts.unpin();
    }

    /// The value of a key, waiting for the disk if need be.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn get(&mut self, db: u32, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        let Some(entry) = self.touch(db, key)? else { return Ok(None) };
        match self.fetch(db, key, &entry)? {
            Fetched::Value(value) => Ok(Some(value)),
            Fetched::Cold(cold) => Ok(Some(cold.read()?.value)),
        }
    }

    /// The sequence that must be durable before a client may be told that this key is absent.
    pub fn absence(&self, db: u32, key: &[u8]) -> u64 {
        self.deletes.dependency(self.databases.spaces[db as usize].namespace, key)
    }

    /// The sequence of the newest map from databases to their keys: what any look-up depends on.
    pub fn map_sequence(&self) -> u64 {
        self.databases.record.map_or(0, |(sequence, ..)| sequence)
    }

    /// Number of keys in a database, those included that have expired and were not looked at since. As in
    /// all that tells of many keys, those in doubt because of damage are left out; then this takes as long
    /// as going through all of them.
    pub fn key_count(&self, db: u32) -> usize {
        let keydir = &self.databases.spaces[db as usize].keydir;
        if self.quarantine.is_empty() {
            return keydir.len();
        }
        keydir.iter().filter(|(key, entry)| self.is_certain(db, key, entry)).count()
    }

    /// Number of keys with an expiry.
    pub fn expiring_count(&self, db: u32) -> usize {
        self.databases.spaces[db as usize].keydir.expires()
    }

    /// Mean time to live of the keys with an expiry, in milliseconds, estimated.
    pub fn average_ttl(&self, db: u32) -> u64 {
        self.databases.spaces[db as usize].keydir.average_ttl(self.now_ms)
    }

    /// Goes through the keys of a database, about `count` of them, beginning at `cursor` (0 at first);
    /// gives the cursor to go on with, 0 at the end. A key that is there from the first call to the last
    /// is seen at least once, whatever happens in between. Expired keys are passed over.
    pub fn scan(&self, db: u32, cursor: u64, count: usize, mut see: impl FnMut(&[u8], &Entry)) -> u64 {
        let now = self.now_ms;
        let keydir = &self.databases.spaces[db as usize].keydir;
        let mut live = |key: &[u8], entry: &Entry| {
            if (entry.expiry == 0 || entry.expiry > now) && self.is_certain(db, key, entry) {
                see(key, entry);
            }
        };
        keydir.scan(cursor, &mut live, count)
    }

    /// A key near a random point; it may have expired.
    pub fn random_key(&self, db: u32, random: u64) -> Option<Vec<u8>> {
        let (key, entry) = self.databases.spaces[db as usize].keydir.random(random)?;
        if self.is_certain(db, key, &entry) {
            return Some(key.to_vec());
        }
        self.iter(db).next().map(|(key, _)| key.to_vec())
    }

    /// All live keys of a database with their entries, in no particular order.
    pub fn iter(&self, db: u32) -> impl Iterator<Item = (&[u8], Entry)> {
        let now = self.now_ms;
        let entries = self.databases.spaces[db as usize].keydir.iter();
        let live = entries.filter(move |(_, entry)| entry.expiry == 0 || entry.expiry > now);
        live.filter(move |(key, entry)| self.is_certain(db, key, entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_clock_goes_round_and_is_not_ahead_of_itself() {
        assert_eq!(clock_between(5, 5), 0);
        assert_eq!(clock_between(5, 65), 60);
        assert_eq!(clock_between(0xff_fff0, 0x10), 0x20);
        assert_eq!(clock_between(100, 90), 0, "set back by ten seconds");
        assert_eq!(clock_between(0, 0xff_ffff - CLOCK_SET_BACK), 0xff_ffff - CLOCK_SET_BACK);
    }
}
