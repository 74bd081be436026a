//! redb: a transaction for each write; `Durability::None` where there is no sync, which leaves the commit
//! in memory until a later one is synced. Gets share one read transaction, as it is meant to be used.

use super::{Error, Key, Opened, Pair};
use redb::{Database, Durability, ReadOnlyTable, ReadableDatabase, TableDefinition};
use std::path::Path;

const TABLE: TableDefinition<'_, &Key, &[u8]> = TableDefinition::new("bench");

struct Redb {
    database: Database,
    reading: Option<ReadOnlyTable<&'static Key, &'static [u8]>>,
}

pub fn open(dir: &Path, cache: u64) -> Result<Box<dyn Opened>, Error> {
    let database = Database::builder().set_cache_size(cache as usize).create(dir.join("bench.redb"))?;
    Ok(Box::new(Redb { database, reading: None }))
}

impl Redb {
    fn commit(&mut self, pairs: &[Pair], durability: Durability) -> Result<(), Error> {
        self.reading = None;
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(durability)?;
        {
            let mut table = transaction.open_table(TABLE)?;
            for (key, value) in pairs {
                table.insert(key, &value[..])?;
            }
        }
        Ok(transaction.commit()?)
    }
}

impl Opened for Redb {
    fn write(&mut self, pairs: &[Pair], sync: bool) -> Result<(), Error> {
        self.commit(pairs, if sync { Durability::Immediate } else { Durability::None })
    }

    fn get(&mut self, key: &Key, see: &mut dyn FnMut(&[u8])) -> Result<bool, Error> {
        if self.reading.is_none() {
            self.reading = Some(self.database.begin_read()?.open_table(TABLE)?);
        }
        let table = self.reading.as_ref().expect("opened above");
        let value = table.get(key)?;
        Ok(value.map(|value| see(value.value())).is_some())
    }

    fn close(mut self: Box<Self>) -> Result<(), Error> {
        self.commit(&[], Durability::Immediate)
    }
}
