//! fjall: one keyspace. Each write goes to the file of the journal, as its default is. Gets find their key
//! here, so filters of the last level are left out, as its documentation advises.

use super::{Error, Key, Opened, Pair};
use fjall::config::CompressionPolicy;
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use std::path::Path;

struct Fjall {
    database: Database,
    keyspace: Keyspace,
}

pub fn open(dir: &Path, cache: u64) -> Result<Box<dyn Opened>, Error> {
    let database = Database::builder(dir).cache_size(cache).open()?;
    let options = || {
        KeyspaceCreateOptions::default()
            .data_block_compression_policy(CompressionPolicy::all(CompressionType::None))
            .expect_point_read_hits(true)
    };
    let keyspace = database.keyspace("bench", options)?;
    Ok(Box::new(Fjall { database, keyspace }))
}

impl Opened for Fjall {
    fn write(&mut self, pairs: &[Pair], sync: bool) -> Result<(), Error> {
        if let [(key, value)] = pairs {
            self.keyspace.insert(key, value)?;
            if sync {
                self.database.persist(PersistMode::SyncData)?;
            }
            return Ok(());
        }
        let mut batch = self.database.batch().durability(sync.then_some(PersistMode::SyncData));
        for (key, value) in pairs {
            batch.insert(&self.keyspace, key, value);
        }
        Ok(batch.commit()?)
    }

    fn get(&mut self, key: &Key, see: &mut dyn FnMut(&[u8])) -> Result<bool, Error> {
        let value = self.keyspace.get(key)?;
        Ok(value.map(|value| see(&value)).is_some())
    }

    fn close(self: Box<Self>) -> Result<(), Error> {
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }
}
