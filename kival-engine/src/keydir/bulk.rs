//! Filling a keydir with many entries at once, as a start does.
//!
//! An insert costs some cache misses: where it looks for the key, nothing is warm. A [`Bulk`] stores
//! entries as they come, without a look at the table, and [`Bulk::settle`] merges them into it, in the
//! order of their hashes. Until then nothing names them, so the keydir cannot be used.

use super::bucket::Slot;
use super::{Entry, Handle, Keydir, entry, rebuild};

/// A keydir that is being filled.
#[derive(Debug)]
pub struct Bulk {
    keydir: Keydir,
    /// Entries in the arena that the table does not name yet.
    fresh: Vec<Slot>,
    /// Those of them that expire.
    expiring: Vec<(u64, Handle)>,
}

impl Bulk {
    /// Goes on filling a keydir.
    pub fn new(keydir: Keydir) -> Bulk {
        Bulk { keydir, fresh: Vec::new(), expiring: Vec::new() }
    }

    /// Adds an entry, whether its key is there already or not. Gives the bytes that it takes until the
    /// next [`Bulk::settle`].
    pub fn add(&mut self, key: &[u8], entry: &Entry) -> usize {
        let hash = self.keydir.hash(key);
        let handle = self.keydir.store(key, entry);
        self.fresh.push(Slot::new(hash, handle));
        if entry.expiry != 0 {
            self.expiring.push((entry.expiry, handle));
        }
        entry::stored_len(key.len(), entry) + size_of::<Slot>()
    }

    /// Puts all that was added into the keydir, and gives it for other changes. Of several entries of a
    /// key the one with the highest sequence stays; the others are shown to `superseded`.
    pub fn settle(&mut self, mut superseded: impl FnMut(&[u8], &Entry)) -> &mut Keydir {
        let keydir = &mut self.keydir;
        if self.fresh.is_empty() {
            return keydir;
        }
        let arena = &keydir.arena;
        let replaces = |one: Handle, other: Handle| {
            let (one, other) = (arena.bytes(one), arena.bytes(other));
            let same = entry::key(one) == entry::key(other);
            same.then(|| entry::decode(one).sequence < entry::decode(other).sequence)
        };
        let gone = rebuild::merge(&mut keydir.table, &mut self.fresh, &replaces);
        keydir.expires.extend(std::mem::take(&mut self.expiring));
        for handle in gone {
            let (key, entry) = keydir.read(handle);
            superseded(key, &entry);
            keydir.expires.remove(entry.expiry, handle);
            keydir.arena.free(handle);
        }
        // What is moved must be named, so nothing is moved before all of them are gone.
        keydir.evacuate_all();
        keydir
    }

    /// The keydir, once everything is settled.
    ///
    /// # Panics
    /// If something was added after the last [`Bulk::settle`].
    pub fn finish(self) -> Keydir {
        assert!(self.fresh.is_empty(), "what was added is settled");
        self.keydir
    }

    /// The keydir's bytes in memory, what is not settled included.
    pub fn memory(&self) -> usize {
        self.keydir.memory()
            + self.fresh.capacity() * size_of::<Slot>()
            + self.expiring.capacity() * size_of::<(u64, Handle)>()
    }
}

#[cfg(test)]
#[path = "bulk_tests.rs"]
mod tests;
