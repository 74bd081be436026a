//! Warming: what the next commands will look up is loaded into the processor's caches for several of them at once.
//!
//! With many keys a look-up spends most of its time waiting for memory, at each of its steps. Loads that do not
//! depend on each other overlap, so the waits of several commands cost little more than those of one. Nothing
//! here has an effect beyond that: whether an argument is a key at all does not matter.

use super::session::Clients;
use super::{Request, Said};
use crate::resp::Batch;
use kival_engine::Engine;
use kival_engine::keydir::WARM;

/// Fewer keys are not worth it.
const LEAST: usize = 3;

/// Keys of one database, gathered until there are enough.
struct Warmer<'a> {
    engine: &'a Engine,
    keys: [&'a [u8]; WARM],
    count: usize,
    db: u32,
}

impl<'a> Warmer<'a> {
    fn new(engine: &'a Engine, db: u32) -> Warmer<'a> {
        Warmer { engine, keys: [b""; WARM], count: 0, db }
    }

    fn add(&mut self, db: u32, key: &'a [u8]) {
        if db != self.db || self.count == WARM {
            self.warm();
            self.db = db;
        }
        self.keys[self.count] = key;
        self.count += 1;
    }

    fn warm(&mut self) {
        if self.count >= LEAST {
            self.engine.warm(self.db, &self.keys);
        }
        self.count = 0;
    }
}

/// Warms the first command of each request.
pub(super) fn requests(engine: &Engine, clients: &Clients, requests: &[Request]) {
    let mut warmer = Warmer::new(engine, 0);
    for request in requests {
        if let Said::Batch(batch) = &request.said
            && let Some(key) = batch.command(0).get(1)
            && let Some(session) = clients.get(request.client.slot)
        {
            warmer.add(session.db, key);
        }
    }
    warmer.warm();
}

/// Warms the next [`WARM`] commands of a batch.
pub(super) fn batch(engine: &Engine, db: u32, batch: &Batch, from: usize) {
    let mut warmer = Warmer::new(engine, db);
    for index in from..batch.len().min(from + WARM) {
        if let Some(key) = batch.command(index).get(1) {
            warmer.add(db, key);
        }
    }
    warmer.warm();
}
