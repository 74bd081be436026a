//! RocksDB: each write goes to the file of its log. A Bloom filter of 10 bits, and a hash index inside the
//! blocks, as its tuning guide has it for point reads; pinned gets, which copy nothing.

use super::{Error, Key, Opened, Pair};
use rocksdb::DataBlockIndexType;
use rocksdb::{BlockBasedOptions, Cache, DB, DBCompressionType, Options, WriteBatch, WriteOptions};
use std::path::Path;

struct Rocks {
    db: DB,
    synced: WriteOptions,
    unsynced: WriteOptions,
}

pub fn open(dir: &Path, cache: u64) -> Result<Box<dyn Opened>, Error> {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&Cache::new_lru_cache(cache as usize)?);
    blocks.set_bloom_filter(10.0, false);
    blocks.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_compression_type(DBCompressionType::None);
    options.set_block_based_table_factory(&blocks);
    let mut synced = WriteOptions::default();
    synced.set_sync(true);
    Ok(Box::new(Rocks { db: DB::open(&options, dir)?, synced, unsynced: WriteOptions::default() }))
}

impl Opened for Rocks {
    fn write(&mut self, pairs: &[Pair], sync: bool) -> Result<(), Error> {
        let how = if sync { &self.synced } else { &self.unsynced };
        if let [(key, value)] = pairs {
            return Ok(self.db.put_opt(key, value, how)?);
        }
        let mut batch = WriteBatch::default();
        for (key, value) in pairs {
            batch.put(key, value);
        }
        Ok(self.db.write_opt(batch, how)?)
    }

    fn get(&mut self, key: &Key, see: &mut dyn FnMut(&[u8])) -> Result<bool, Error> {
        let value = self.db.get_pinned(key)?;
        Ok(value.map(|value| see(&value)).is_some())
    }

    fn close(self: Box<Self>) -> Result<(), Error> {
        Ok(self.db.flush_wal(true)?)
    }
}
