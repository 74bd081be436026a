//! The work that every store does, and its speed. Values are checked as they are read: a store that
//! answers wrongly is not fast.

use crate::stores::{Error, Key, Opened, Pair, Store, Value};
use std::path::PathBuf;
use std::time::Instant;

/// Puts in a batch.
const BATCH: u64 = 1000;

/// What is measured, in the words of the table.
pub const MEASURES: [&str; 6] = [
    "put, no sync",
    "put in batches of 1,000, no sync",
    "put in batches of 1,000, a sync each",
    "put, a sync each",
    "get, cache holds all",
    "get, cache holds few",
];

/// Whether a measure waits for the disk.
pub fn is_synced(measure: usize) -> bool {
    MEASURES[measure].ends_with("a sync each")
}

/// Operations a second, one for each of [`MEASURES`].
pub type Rates = [f64; MEASURES.len()];

/// How much of it.
pub struct Load {
    pub keys: u64,
    pub synced: u64,
    pub cache: u64,
    pub small_cache: u64,
    pub dir: PathBuf,
}

impl Load {
    /// Runs everything on fresh stores of one kind.
    pub fn run(&self, store: &Store) -> Result<Rates, Error> {
        let fresh = || tempfile::Builder::new().prefix("rivals-").tempdir_in(&self.dir);
        let singles = fresh()?;
        let mut opened = (store.open)(singles.path(), self.cache)?;
        let put = self.puts(&mut *opened, self.keys, 1, false)?;
        opened.close()?;
        drop(singles);

        let synced = fresh()?;
        let mut opened = (store.open)(synced.path(), self.cache)?;
        let batches_synced = self.puts(&mut *opened, self.keys, BATCH, true)?;
        opened.close()?;
        let mut opened = (store.open)(synced.path(), self.cache)?;
        let put_synced = self.puts(&mut *opened, self.synced, 1, true)?;
        opened.close()?;
        drop(synced);

        let batched = fresh()?;
        let mut opened = (store.open)(batched.path(), self.cache)?;
        let batches = self.puts(&mut *opened, self.keys, BATCH, false)?;
        opened.close()?;
        let mut opened = (store.open)(batched.path(), self.cache)?;
        // Once uncounted: the caches fill.
        self.gets(&mut *opened)?;
        let get = self.gets(&mut *opened)?;
        opened.close()?;
        let mut opened = (store.open)(batched.path(), self.small_cache)?;
        self.gets(&mut *opened)?;
        let get_missing = self.gets(&mut *opened)?;
        opened.close()?;
        Ok([put, batches, batches_synced, put_synced, get, get_missing])
    }

    fn puts(&self, store: &mut dyn Opened, keys: u64, batch: u64, sync: bool) -> Result<f64, Error> {
        let noise = Noise::new();
        let mut pairs: Vec<Pair> = Vec::with_capacity(batch as usize);
        let began = Instant::now();
        let mut n = 0;
        while n < keys {
            pairs.clear();
            pairs.extend((n..keys.min(n + batch)).map(|n| (key(n), noise.value(n))));
            store.write(&pairs, sync)?;
            n += batch;
        }
        Ok(keys as f64 / began.elapsed().as_secs_f64())
    }

    fn gets(&self, store: &mut dyn Opened) -> Result<f64, Error> {
        let mut random = fastrand::Rng::with_seed(7);
        let mut wrong = 0u64;
        let began = Instant::now();
        for _ in 0..self.keys {
            let n = random.u64(..self.keys);
            let found = store.get(&key(n), &mut |value| {
                wrong += u64::from(value.len() != size_of::<Value>() || value[..8] != n.to_le_bytes());
            })?;
            wrong += u64::from(!found);
        }
        let elapsed = began.elapsed();
        if wrong > 0 {
            return Err(format!("{wrong} of {} values were wrong or missing", self.keys).into());
        }
        Ok(self.keys as f64 / elapsed.as_secs_f64())
    }
}

/// The n-th key. Rising numbers give keys in random order.
fn key(n: u64) -> Key {
    // The finalizer of splitmix64.
    let mut mixed = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    let mut key = Key::default();
    key[..8].copy_from_slice(&mixed.to_be_bytes());
    key[8..].copy_from_slice(&n.to_be_bytes());
    key
}

/// Bytes that cannot be compressed, for values.
struct Noise(Vec<u8>);

impl Noise {
    const LEN: usize = 1 << 20;

    fn new() -> Noise {
        let mut bytes = vec![0; Self::LEN + size_of::<Value>()];
        fastrand::Rng::with_seed(1).fill(&mut bytes);
        Noise(bytes)
    }

    /// The value of the n-th key: it begins with n.
    fn value(&self, n: u64) -> Value {
        let at = (n as usize).wrapping_mul(97) % Self::LEN;
        let mut value: Value =
            self.0[at..at + size_of::<Value>()].try_into().expect("a slice of that length");
        value[..8].copy_from_slice(&n.to_le_bytes());
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stores::STORES;

    /// The load checks each value that it reads.
    #[test]
    fn every_store_gives_back_what_was_put() {
        let dir = tempfile::tempdir().unwrap();
        let load =
            Load { keys: 3_500, synced: 20, cache: 4 << 20, small_cache: 1 << 20, dir: dir.path().into() };
        for store in STORES {
            let rates = load.run(store).unwrap_or_else(|error| panic!("{}: {error}", store.name));
            assert!(rates.iter().all(|rate| *rate > 0.0));
        }
    }
}
