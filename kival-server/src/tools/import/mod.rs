//! `kival-server import`: the strings of a server or of an RDB file, with their expiries, into a store.
//!
//! `from` reads, `into` writes. Nothing is left out without a word: keys of other types are counted and some of
//! them named.

mod from;
mod into;

use super::args::Import as Args;
use super::progress::Bar;
use super::{DAMAGED, FAILED, FINE, Failure, some_keys};
use crate::rdb::file::RdbError;
use bytes::Bytes;
use into::Destination;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::SystemTime;

/// Where keys go if nothing is said.
const HERE: &str = "redis://127.0.0.1:6380";
/// Keys of a type that are left out and remembered by name.
const NAMED: usize = 10;

/// Why an import ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum ImportError {
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
    #[error("{0}: {1}")]
    Rdb(PathBuf, RdbError),
    #[error("{0} cannot be read from: {1}")]
    Source(String, redis::RedisError),
    #[error("{0} does not take the keys: {1}")]
    Destination(String, redis::RedisError),
    #[error("{0}; give the server its own number of databases, and the import with --databases")]
    Database(String),
    #[error("{0}")]
    Open(#[from] kival_engine::OpenError),
    #[error("{0}")]
    Write(#[from] kival_engine::WriteError),
}

/// A key as it is found.
struct Found {
    db: u32,
    key: Bytes,
    /// Unix milliseconds; 0 for none.
    expiry: u64,
    /// Of what is no string the type.
    value: Result<Bytes, String>,
}

/// What has become of the keys found.
#[derive(Debug, Default)]
struct Tally {
    imported: u64,
    bytes: u64,
    expired: u64,
    /// How many of each type, and the first of them.
    others: BTreeMap<String, (u64, Vec<Bytes>)>,
}

impl Tally {
    /// Takes a key in, or counts it out.
    fn take(&mut self, found: Found, into: &mut dyn Destination) -> Result<(), ImportError> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let Found { db, key, expiry, value } = found;
        match value {
            Err(kind) => {
                let (count, keys) = self.others.entry(kind).or_default();
                *count += 1;
                if keys.len() < NAMED {
                    keys.push(key);
                }
            }
            Ok(_) if expiry > 0 && u128::from(expiry) <= now.as_millis() => self.expired += 1,
            Ok(value) => {
                into.put(db, &key, &value, expiry)?;
                self.imported += 1;
                self.bytes += (key.len() + value.len()) as u64;
            }
        }
        Ok(())
    }

    fn tell(&self, to: &str, out: &mut dyn Write) -> io::Result<()> {
        let Tally { imported, bytes, expired, others } = self;
        writeln!(out, "{to} has taken {imported} keys, {bytes} bytes; {expired} had expired")?;
        for (kind, (count, keys)) in others {
            let names = some_keys(keys.iter().map(|key| &key[..]));
            let more = if *count > keys.len() as u64 { ", ..." } else { "" };
            writeln!(out, "left out: {count} of type {kind}, which kival does not have: {names}{more}")?;
        }
        Ok(())
    }
}

/// Copies keys.
pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<u8, Failure> {
    let mut tally = Tally::default();
    let (to, done) = match &args.dir {
        Some(dir) => {
            (dir.display().to_string(), copy(args, into::directory(dir, args.databases), &mut tally))
        }
        None => {
            let to = args.to.as_deref().unwrap_or(HERE);
            (to.to_owned(), copy(args, into::server(to), &mut tally))
        }
    };
    // Also what an import has done that did not come to its end.
    tally.tell(&to, out)?;
    Ok(match done {
        Err(error) => {
            eprintln!("kival-server: {error}");
            eprintln!("the import is not complete; it can be done again: it sets each key to what it finds");
            FAILED
        }
        Ok(()) if tally.others.is_empty() => FINE,
        Ok(()) => DAMAGED,
    })
}

fn copy<D: Destination>(
    args: &Args,
    into: Result<D, ImportError>,
    tally: &mut Tally,
) -> Result<(), ImportError> {
    let mut into = into?;
    let mut bar = Bar::new();
    let copied = match (&args.from, &args.rdb) {
        (Some(url), _) => from::server(url, &mut bar, |found| tally.take(found, &mut into)),
        (_, Some(path)) => from::file(path, &mut bar, |found| tally.take(found, &mut into)),
        (None, None) => Ok(()),
    };
    // What was taken is to stay, whatever came behind it.
    let finished = into.finish();
    copied.and(finished)
}
