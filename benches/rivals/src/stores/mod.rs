//! The stores behind one small face. Each has a file; what is particular about its setup is said there.
//!
//! All have the same budget for their cache, no compression (values are noise), and sync by fdatasync.
//! A batch is what the store itself calls one: all of it or nothing after a crash.

mod fjall;
mod kival;
mod redb;
#[cfg(feature = "rocksdb")]
mod rocksdb;
mod sled;

use std::path::Path;

/// Whatever a store says went wrong.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
pub type Key = [u8; 16];
pub type Value = [u8; 100];
pub type Pair = (Key, Value);

pub type Open = fn(&Path, u64) -> Result<Box<dyn Opened>, Error>;

/// A kind of store.
pub struct Store {
    pub name: &'static str,
    /// Whether its sync brings data past the cache of the disk. One that does not cannot be the best at syncs.
    pub syncs: bool,
    /// Opens the store in a directory, with so many bytes of cache.
    pub open: Open,
}

/// An open store.
pub trait Opened {
    /// Puts all pairs, by the store's call for one where there is one. With `sync` they are on disk when it
    /// returns.
    fn write(&mut self, pairs: &[Pair], sync: bool) -> Result<(), Error>;
    /// Shows the value of a key where the store has it; `false` if there is no such key.
    fn get(&mut self, key: &Key, see: &mut dyn FnMut(&[u8])) -> Result<bool, Error>;
    /// Closes the store; all of it is on disk then.
    fn close(self: Box<Self>) -> Result<(), Error>;
}

/// kival first.
pub const STORES: &[Store] = &[
    Store { name: "kival", syncs: true, open: kival::open },
    Store { name: "fjall", syncs: true, open: fjall::open },
    Store { name: "redb", syncs: true, open: redb::open },
    Store { name: "sled", syncs: false, open: sled::open },
    #[cfg(feature = "rocksdb")]
    Store { name: "rocksdb", syncs: true, open: rocksdb::open },
];
