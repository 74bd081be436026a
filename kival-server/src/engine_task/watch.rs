//! WATCH: which keys some client watches, and how often each was changed since.
//!
//! What a watching client remembers is the count at its WATCH. Changes by compaction do not pass here, so they
//! are not seen, and neither are expiries: who watches a key looks for itself whether it is still there.

use std::collections::HashMap;

/// A watched key.
#[derive(Debug, Default)]
struct Watch {
    changes: u64,
    watchers: usize,
}

/// The watched keys of all databases.
#[derive(Debug, Default)]
pub struct Watches {
    databases: HashMap<u32, HashMap<Box<[u8]>, Watch>>,
}

impl Watches {
    /// Whether nobody watches anything: then changes need not be told.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.databases.is_empty()
    }

    /// Takes in one more watcher of a key, and gives the count of its changes.
    pub fn add(&mut self, db: u32, key: &[u8]) -> u64 {
        let keys = self.databases.entry(db).or_default();
        let watch = keys.entry(key.into()).or_default();
        watch.watchers += 1;
        watch.changes
    }

    /// Lets a watcher of a key go.
    pub fn remove(&mut self, db: u32, key: &[u8]) {
        let Some(keys) = self.databases.get_mut(&db) else { return };
        if let Some(watch) = keys.get_mut(key) {
            watch.watchers -= 1;
            if watch.watchers == 0 {
                keys.remove(key);
            }
        }
        if keys.is_empty() {
            self.databases.remove(&db);
        }
    }

    /// Changes of a watched key so far.
    pub fn changes(&self, db: u32, key: &[u8]) -> u64 {
        self.databases.get(&db).and_then(|keys| keys.get(key)).map_or(0, |watch| watch.changes)
    }

    /// A key was changed.
    pub fn changed(&mut self, db: u32, key: &[u8]) {
        if let Some(watch) = self.databases.get_mut(&db).and_then(|keys| keys.get_mut(key)) {
            watch.changes += 1;
        }
    }

    /// The keys of a database that `concerned` is true of were changed together.
    pub fn changed_where(&mut self, db: u32, mut concerned: impl FnMut(&[u8]) -> bool) {
        for (key, watch) in self.databases.get_mut(&db).into_iter().flatten() {
            watch.changes += u64::from(concerned(key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_count_as_long_as_someone_watches() {
        let mut watches = Watches::default();
        watches.changed(0, b"key");
        assert_eq!((watches.add(0, b"key"), watches.add(0, b"key")), (0, 0));
        watches.changed(0, b"key");
        watches.changed(1, b"key");
        watches.changed_where(0, |key| key == b"key");
        watches.remove(0, b"key");
        assert_eq!(watches.changes(0, b"key"), 2);
        watches.remove(0, b"key");
        assert!(watches.is_empty());
    }
}
