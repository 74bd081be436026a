//! Where imported keys go: to a server, in pipelines, or into the log of a directory that no server has open.

use super::ImportError;
use kival_engine::{Engine, Options, SyncPolicy};
use redis::{Connection, Pipeline, RedisError};
use std::path::Path;
use std::time::Duration;

/// Commands of a pipeline at most, and bytes from which on it is sent.
const COMMANDS: usize = 1000;
const BYTES: usize = 1 << 20;
/// A server that says nothing for so long has hung up.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// What takes keys.
pub(super) trait Destination {
    /// Sets a key; `expiry` in Unix milliseconds, 0 for none.
    fn put(&mut self, db: u32, key: &[u8], value: &[u8], expiry: u64) -> Result<(), ImportError>;

    /// Sees to it that all keys have arrived.
    fn finish(self) -> Result<(), ImportError>;
}

/// Connects to a server.
pub(super) fn connect(url: &str) -> Result<Connection, RedisError> {
    let connection = redis::Client::open(url)?.get_connection_with_timeout(PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    Ok(connection)
}

/// A server, by its URL.
pub(super) fn server(url: &str) -> Result<impl Destination + use<>, ImportError> {
    let connection = connect(url).map_err(|error| ImportError::Destination(url.to_owned(), error))?;
    Ok(Server { url: url.to_owned(), connection, pipe: Pipeline::new(), db: None, bytes: 0 })
}

struct Server {
    url: String,
    connection: Connection,
    pipe: Pipeline,
    db: Option<u32>,
    bytes: usize,
}

impl Server {
    fn send(&mut self) -> Result<(), ImportError> {
        self.bytes = 0;
        if self.pipe.is_empty() {
            return Ok(());
        }
        let sent = std::mem::take(&mut self.pipe).exec(&mut self.connection);
        sent.map_err(|error| ImportError::Destination(self.url.clone(), error))
    }
}

impl Destination for Server {
    fn put(&mut self, db: u32, key: &[u8], value: &[u8], expiry: u64) -> Result<(), ImportError> {
        if self.db.replace(db) != Some(db) {
            // Where it fails the keys behind it must not be sent: they would be set in another database.
            self.send()?;
            let selected = redis::cmd("SELECT").arg(db).exec(&mut self.connection);
            selected.map_err(|error| ImportError::Database(format!("database {db}: {error}")))?;
        }
        self.pipe.cmd("SET").arg(key).arg(value);
        if expiry > 0 {
            self.pipe.arg("PXAT").arg(expiry);
        }
        self.bytes += key.len() + value.len();
        if self.bytes >= BYTES || self.pipe.len() >= COMMANDS { self.send() } else { Ok(()) }
    }

    fn finish(mut self) -> Result<(), ImportError> {
        self.send()
    }
}

/// A data directory; it is made if it is not there.
pub(super) fn directory(dir: &Path, databases: u32) -> Result<impl Destination + use<>, ImportError> {
    // It is synced at the end: nobody is told of single keys.
    let options = Options { databases, sync: SyncPolicy::No, ..Options::new(dir) };
    let (engine, _) = Engine::open(options)?;
    Ok(Directory { engine, databases })
}

struct Directory {
    engine: Engine,
    databases: u32,
}

impl Destination for Directory {
    fn put(&mut self, db: u32, key: &[u8], value: &[u8], expiry: u64) -> Result<(), ImportError> {
        if db >= self.databases {
            return Err(ImportError::Database(format!("database {db} is out of range")));
        }
        self.engine.put(db, key, value, expiry)?;
        if self.engine.staged_bytes() >= BYTES {
            self.engine.commit()?;
            self.engine.maintain();
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), ImportError> {
        self.engine.commit()?;
        Ok(self.engine.close()?)
    }
}
