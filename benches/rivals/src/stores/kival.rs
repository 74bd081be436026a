//! kival's engine: a commit for each write, which is one append to the file; maintenance every thousand puts.

use super::{Error, Key, Opened, Pair};
use kival_engine::{Engine, Options, SyncPolicy};
use std::path::Path;

/// Puts between two rounds of maintenance; a server makes one ten times a second.
const MAINTAIN_EVERY: usize = 1000;

struct Kival {
    engine: Engine,
    since: usize,
}

pub fn open(dir: &Path, cache: u64) -> Result<Box<dyn Opened>, Error> {
    let options = Options { cache_size: cache, sync: SyncPolicy::No, ..Options::new(dir) };
    Ok(Box::new(Kival { engine: Engine::open(options)?.0, since: 0 }))
}

impl Opened for Kival {
    fn write(&mut self, pairs: &[Pair], sync: bool) -> Result<(), Error> {
        for (key, value) in pairs {
            self.engine.put(0, key, value, 0)?;
        }
        self.engine.commit()?;
        if sync {
            self.engine.sync()?;
        }
        self.since += pairs.len();
        if self.since >= MAINTAIN_EVERY {
            self.since = 0;
            self.engine.tick();
            self.engine.maintain();
        }
        Ok(())
    }

    fn get(&mut self, key: &Key, see: &mut dyn FnMut(&[u8])) -> Result<bool, Error> {
        let value = self.engine.get(0, key)?;
        Ok(value.map(|value| see(&value)).is_some())
    }

    fn close(self: Box<Self>) -> Result<(), Error> {
        Ok(self.engine.close()?)
    }
}
