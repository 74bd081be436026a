//! sled 0.34, the last release. Without a sync it keeps writes in its own buffers until they are full; its
//! sync by the clock is off, for no other store here has one. On Linux its sync is sync_file_range, which orders
//! the disk neither to empty its cache nor to make the file's length durable.

use super::{Error, Key, Opened, Pair};
use sled::{Batch, Config, Db, Mode};
use std::path::Path;
use std::time::{Duration, Instant};

/// A store that is dropped lets its lock go a little later.
const LOCKED_FOR: Duration = Duration::from_secs(10);

struct Sled(Db);

pub fn open(dir: &Path, cache: u64) -> Result<Box<dyn Opened>, Error> {
    let config =
        Config::new().path(dir).cache_capacity(cache).mode(Mode::HighThroughput).flush_every_ms(None);
    let began = Instant::now();
    loop {
        match config.open() {
            Err(sled::Error::Io(error))
                if error.to_string().contains("lock") && began.elapsed() < LOCKED_FOR =>
            {
                std::thread::sleep(Duration::from_millis(10));
            }
            opened => return Ok(Box::new(Sled(opened?))),
        }
    }
}

impl Opened for Sled {
    fn write(&mut self, pairs: &[Pair], sync: bool) -> Result<(), Error> {
        if let [(key, value)] = pairs {
            self.0.insert(key, &value[..])?;
        } else {
            let mut batch = Batch::default();
            for (key, value) in pairs {
                batch.insert(key, &value[..]);
            }
            self.0.apply_batch(batch)?;
        }
        if sync {
            self.0.flush()?;
        }
        Ok(())
    }

    fn get(&mut self, key: &Key, see: &mut dyn FnMut(&[u8])) -> Result<bool, Error> {
        let value = self.0.get(key)?;
        Ok(value.map(|value| see(&value)).is_some())
    }

    fn close(self: Box<Self>) -> Result<(), Error> {
        self.0.flush()?;
        Ok(())
    }
}
