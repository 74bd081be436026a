//! Where keys come from: a server, walked by SCAN, or an RDB file.

use super::into::connect;
use super::{Found, ImportError};
use crate::rdb::file::{Item, RdbFile};
use crate::tools::progress::Bar;
use bytes::Bytes;
use kival_engine::offline::Progress;
use redis::{Connection, RedisError, RedisResult, Value};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::time::SystemTime;

/// Longest key or string: that of Redis, in bytes.
const LONGEST: u64 = 512 << 20;
const BUFFER: usize = 1 << 20;
/// Keys that a SCAN is asked for.
const STEP: usize = 500;
/// Values asked for at once; few, since each may be long.
const VALUES: usize = 50;

/// Reads an RDB file; to its end before anything is taken, since only there it is known to be sound.
pub(super) fn file(
    path: &Path,
    bar: &mut Bar,
    take: impl FnMut(Found) -> Result<(), ImportError>,
) -> Result<(), ImportError> {
    pass(path, "checking", bar, |_| Ok(()))?;
    pass(path, "copying", bar, take)
}

fn pass(
    path: &Path,
    what: &'static str,
    bar: &mut Bar,
    mut take: impl FnMut(Found) -> Result<(), ImportError>,
) -> Result<(), ImportError> {
    let from = File::open(path).map_err(|error| ImportError::File(path.to_owned(), error))?;
    let size = from.metadata().map_or(0, |metadata| metadata.len());
    bar.begin(what, size);
    let broken = |error| ImportError::Rdb(path.to_owned(), error);
    let mut file = RdbFile::new(BufReader::with_capacity(BUFFER, from), LONGEST).map_err(broken)?;
    let mut seen = 0;
    while let Some(Item { db, key, expiry, value }) = file.next_item().map_err(broken)? {
        take(Found { db, key, expiry, value: value.map_err(str::to_owned) })?;
        bar.advance(file.offset() - seen);
        seen = file.offset();
    }
    Ok(())
}

/// Walks a server: the database of the URL, or all of them if it names none.
pub(super) fn server(
    url: &str,
    bar: &mut Bar,
    mut take: impl FnMut(Found) -> Result<(), ImportError>,
) -> Result<(), ImportError> {
    let broken = |error| ImportError::Source(url.to_owned(), error);
    let mut connection = connect(url).map_err(broken)?;
    let only = database_of(url);
    let mut databases = databases(&mut connection).map_err(broken)?;
    databases.retain(|(db, _)| only.is_none_or(|only| only == *db));
    bar.begin_keys("copying", databases.iter().map(|(_, keys)| keys).sum());
    let absolute = knows_expiretime(&mut connection).map_err(broken)?;
    for (db, _) in databases {
        redis::cmd("SELECT").arg(db).exec(&mut connection).map_err(broken)?;
        let mut cursor = Bytes::from_static(b"0");
        loop {
            let step: (Vec<u8>, Vec<Vec<u8>>) = redis::cmd("SCAN")
                .arg(&cursor[..])
                .arg("COUNT")
                .arg(STEP)
                .query(&mut connection)
                .map_err(broken)?;
            cursor = step.0.into();
            for keys in step.1.chunks(VALUES) {
                let found = fetch(&mut connection, db, keys, absolute).map_err(broken)?;
                found.into_iter().try_for_each(&mut take)?;
                bar.advance(keys.len() as u64);
            }
            if cursor == "0" {
                break;
            }
        }
    }
    Ok(())
}

/// The database that a URL names.
fn database_of(url: &str) -> Option<u32> {
    let path = url.split_once("://")?.1.split('?').next()?;
    path.split_once('/')?.1.parse().ok()
}

/// The databases that have keys, and how many.
fn databases(connection: &mut Connection) -> RedisResult<Vec<(u32, u64)>> {
    let info: String = redis::cmd("INFO").arg("keyspace").query(connection)?;
    let parse = |line: &str| {
        let (db, fields) = line.strip_prefix("db")?.split_once(":keys=")?;
        Some((db.parse().ok()?, fields.split(',').next()?.parse().ok()?))
    };
    Ok(info.lines().filter_map(parse).collect())
}

/// Whether the server can say when a key expires, as 7.0 and later can, and not only how soon.
fn knows_expiretime(connection: &mut Connection) -> RedisResult<bool> {
    match redis::cmd("PEXPIRETIME").arg("").exec(connection) {
        Err(error) if error.kind() == redis::ErrorKind::Io => Err(error),
        answer => Ok(answer.is_ok()),
    }
}

/// The values of keys, first asked for their types: what is no string may be large, and is not wanted.
fn fetch(connection: &mut Connection, db: u32, keys: &[Vec<u8>], absolute: bool) -> RedisResult<Vec<Found>> {
    let mut types = redis::pipe();
    for key in keys {
        types.cmd("TYPE").arg(key);
    }
    let types: Vec<String> = types.query(connection)?;
    let mut found = Vec::with_capacity(keys.len());
    let mut values = redis::pipe();
    let mut strings = Vec::with_capacity(keys.len());
    for (key, kind) in keys.iter().zip(types) {
        let key = Bytes::copy_from_slice(key);
        match &*kind {
            "string" => {
                values.cmd("GET").arg(&key[..]);
                values.cmd(if absolute { "PEXPIRETIME" } else { "PTTL" }).arg(&key[..]);
                strings.push(key);
            }
            // Gone since it was listed.
            "none" => {}
            _ => found.push(Found { db, key, expiry: 0, value: Err(kind) }),
        }
    }
    if strings.is_empty() {
        return Ok(found);
    }
    let answers: Vec<Value> = values.query(connection)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    for (key, answer) in strings.into_iter().zip(answers.chunks(2)) {
        // Null: gone meanwhile. -2: between the two questions.
        if let [Value::BulkString(value), Value::Int(when)] = answer
            && *when != -2
        {
            let from = if absolute { 0 } else { now };
            let expiry = u64::try_from(*when).map_or(0, |when| from + when);
            found.push(Found { db, key, expiry, value: Ok(Bytes::copy_from_slice(value)) });
        } else if let Some(Value::ServerError(error)) = answer.first() {
            return Err(RedisError::from(error.clone()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_database_or_none() {
        assert_eq!(database_of("redis://127.0.0.1:6379"), None);
        assert_eq!(database_of("redis://user:a@host:6379/"), None);
        assert_eq!(database_of("redis://:pw@host:6379/12"), Some(12));
        assert_eq!(database_of("redis://host/3?protocol=resp3"), Some(3));
    }
}
