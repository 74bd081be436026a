//! Keys of any type: whether they are there, what they are called, in which database; and databases as a
//! whole. When keys expire is in `expiry`, going through them in `scan`.

use super::options::{NO_SUCH_DB, SYNTAX_ERROR, database, is_word};
use super::{Abort, Categories, Command, Context, Flags, Group, KeySpec, Keys, Outcome};
use crate::config::NotifyEvents;
use crate::glob::{self, Case};
use crate::number::parse_i64;
use crate::resp::{Args, ErrorReply, Reply};
use bytes::Bytes;
use kival_engine::KeyEntry;
use std::hash::{BuildHasher, RandomState};

const SAME_OBJECT: &str = "ERR source and destination objects are the same";

/// How many random keys are tried before one that has not expired is searched for in order.
const RANDOM_TRIES: usize = 100;

/// What the rows of this file have in common.
const KEY: Command =
    Command { keys: Keys::ONE, categories: Categories::KEYSPACE, group: Group::Generic, ..Command::BASE };

/// The same of those that look at all the keys they are given.
const LOOK: Command = Command {
    arity: -2,
    flags: Flags::READONLY.and(Flags::FAST),
    keys: Keys::ALL,
    key_spec: KeySpec::all(&["RO"]),
    tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
    ..KEY
};

/// The same of those that remove all the keys they are given.
const REMOVE: Command = Command { flags: Flags::WRITE, key_spec: KeySpec::all(&["RM", "delete"]), ..LOOK };

/// The same of those that concern whole databases.
const DATABASE: Command = Command { keys: Keys::NONE, group: Group::Server, ..KEY };

/// The same of those that empty them.
const FLUSH: Command = Command {
    arity: -1,
    flags: Flags::WRITE.and(Flags::WHOLE_KEYSPACE),
    categories: Categories::KEYSPACE.and(Categories::DANGEROUS),
    tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
    ..DATABASE
};

/// Keys of any type.
pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "copy",
        handler: copy,
        arity: -3,
        arguments: "source destination [DB destination-db] [REPLACE]",
        flags: Flags::WRITE.and(Flags::DENYOOM),
        keys: Keys::TWO,
        key_spec: KeySpec { first: &["RO", "access"], second: &["OW", "update"], notes: "" },
        since: "6.2.0",
        complexity: "O(N) with N bytes of the value",
        summary: "Copies a key, its value and its expiry.",
        ..KEY
    },
    Command {
        name: "dbsize",
        handler: dbsize,
        flags: Flags::READONLY.and(Flags::FAST).and(Flags::WHOLE_KEYSPACE),
        summary: "Answers how many keys the database has.",
        tips: &["request_policy:all_shards", "response_policy:agg_sum"],
        ..DATABASE
    },
    Command {
        name: "del",
        handler: del,
        arguments: "key ...",
        complexity: "O(N) with N keys",
        summary: "Removes keys, and answers how many there were.",
        ..REMOVE
    },
    Command {
        name: "exists",
        handler: exists,
        arguments: "key ...",
        complexity: "O(N) with N keys",
        summary: "Answers how many of the keys are there.",
        ..LOOK
    },
    Command {
        name: "flushall",
        handler: flushall,
        arguments: "async=[ASYNC | SYNC]",
        complexity: "O(N) with N databases",
        summary: "Removes all keys of all databases.",
        ..FLUSH
    },
    Command {
        name: "flushdb",
        handler: flushdb,
        arguments: "async=[ASYNC | SYNC]",
        complexity: "O(1)",
        summary: "Removes all keys of the database.",
        ..FLUSH
    },
    Command {
        name: "keys",
        handler: keys,
        arity: 2,
        arguments: "pattern",
        flags: Flags::READONLY.and(Flags::WHOLE_KEYSPACE),
        keys: Keys::NONE,
        categories: Categories::KEYSPACE.and(Categories::DANGEROUS),
        complexity: "O(N) with N keys in the database",
        summary: "Answers all keys that match a pattern.",
        tips: &["request_policy:all_shards", "nondeterministic_output_order"],
        ..KEY
    },
    Command {
        name: "move",
        handler: move_key,
        arity: 3,
        arguments: "key db",
        flags: Flags::WRITE.and(Flags::FAST),
        key_spec: KeySpec::all(&["RW", "access", "update"]),
        summary: "Moves a key to another database, unless it has that key.",
        ..KEY
    },
    Command {
        name: "randomkey",
        handler: randomkey,
        flags: Flags::READONLY.and(Flags::WHOLE_KEYSPACE),
        keys: Keys::NONE,
        summary: "Answers some key of the database.",
        tips: &["request_policy:all_shards", "nondeterministic_output"],
        ..KEY
    },
    Command {
        name: "rename",
        handler: rename,
        arity: 3,
        arguments: "key newkey",
        flags: Flags::WRITE,
        keys: Keys::TWO,
        key_spec: KeySpec { first: &["RW", "access", "delete"], second: &["OW", "update"], notes: "" },
        summary: "Gives a key another name.",
        ..KEY
    },
    Command {
        name: "renamenx",
        handler: renamenx,
        arity: 3,
        arguments: "key newkey",
        flags: Flags::WRITE.and(Flags::FAST),
        keys: Keys::TWO,
        key_spec: KeySpec { first: &["RW", "access", "delete"], second: &["OW", "insert"], notes: "" },
        summary: "Gives a key another name, unless that is a key already.",
        ..KEY
    },
    Command {
        name: "swapdb",
        handler: swapdb,
        arity: 3,
        arguments: "index1 index2",
        flags: Flags::WRITE.and(Flags::FAST).and(Flags::WHOLE_KEYSPACE),
        categories: Categories::KEYSPACE.and(Categories::DANGEROUS),
        since: "4.0.0",
        complexity: "O(1)",
        summary: "Exchanges the keys of two databases.",
        ..DATABASE
    },
    Command {
        name: "touch",
        handler: touch,
        arguments: "key ...",
        since: "3.2.1",
        complexity: "O(N) with N keys",
        summary: "Notes an access to keys, and answers how many are there.",
        ..LOOK
    },
    Command {
        name: "type",
        handler: type_of,
        arity: 2,
        arguments: "key",
        flags: Flags::READONLY.and(Flags::FAST),
        key_spec: KeySpec::all(&["RO"]),
        summary: "Answers what type of value a key has.",
        ..KEY
    },
    Command {
        name: "unlink",
        handler: del,
        arguments: "key ...",
        flags: REMOVE.flags.and(Flags::FAST),
        since: "4.0.0",
        complexity: "O(N) with N keys",
        summary: "Removes keys, as DEL does.",
        ..REMOVE
    },
];

/// What is known of a key; counts as a hit or a miss, but not as an access.
pub(super) fn glance(ctx: &mut Context<'_>, key: &[u8]) -> Result<Option<KeyEntry>, Abort> {
    let entry = ctx.peek(key)?;
    match entry {
        Some(_) => ctx.store.hits += 1,
        None => ctx.store.missed(ctx.session.db, key),
    }
    Ok(entry)
}

fn exists(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let mut there = 0;
    for key in args.tail(1) {
        there += i64::from(glance(ctx, key)?.is_some());
    }
    Ok(Reply::Integer(there))
}

fn touch(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    // It is what it is for, also where CLIENT NO-TOUCH has other reads not count.
    ctx.store.no_touch = false;
    let mut there = 0;
    for key in args.tail(1) {
        there += i64::from(ctx.lookup(key)?.is_some());
    }
    Ok(Reply::Integer(there))
}

fn type_of(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    Ok(Reply::status(if glance(ctx, &args[1])?.is_some() { "string" } else { "none" }))
}

fn del(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let mut removed = 0;
    for key in args.tail(1) {
        if ctx.delete(key)? {
            ctx.notify(NotifyEvents::GENERIC, "del", key);
            removed += 1;
        }
    }
    Ok(Reply::Integer(removed))
}

fn rename(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let (from, to) = (&args[1], &args[2]);
    let entry = ctx.peek(from)?.ok_or("ERR no such key")?;
    if from != to {
        give_name(ctx, from, &entry, to)?;
    }
    Ok(Reply::Ok)
}

fn renamenx(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let (from, to) = (&args[1], &args[2]);
    let entry = ctx.peek(from)?.ok_or("ERR no such key")?;
    if from == to || ctx.peek(to)?.is_some() {
        return Ok(Reply::Integer(0));
    }
    give_name(ctx, from, &entry, to)?;
    Ok(Reply::Integer(1))
}

fn give_name(ctx: &mut Context<'_>, from: &[u8], entry: &KeyEntry, to: &[u8]) -> Result<(), Abort> {
    transfer(ctx, from, entry, ctx.session.db, to)?;
    ctx.delete(from)?;
    ctx.notify(NotifyEvents::GENERIC, "rename_from", from);
    ctx.notify(NotifyEvents::GENERIC, "rename_to", to);
    Ok(())
}

/// Sets key `to` of a database to the value and the expiry of an entry of the client's.
fn transfer(ctx: &mut Context<'_>, from: &[u8], entry: &KeyEntry, db: u32, to: &[u8]) -> Result<(), Abort> {
    let value = ctx.value_of(from, entry)?;
    // As in Redis, what stood there goes first, so that the key is new.
    if ctx.store.peek(db, to)?.is_some() {
        ctx.store.notify(db, NotifyEvents::NEW, "new", to);
    }
    ctx.store.put(db, to, &value, entry.expiry)
}

fn move_key(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let key = &args[1];
    let db = database(&args[2], ctx.server.config.databases)?;
    if db == ctx.session.db {
        return Err(SAME_OBJECT.into());
    }
    let Some(entry) = ctx.peek(key)? else { return Ok(Reply::Integer(0)) };
    if ctx.store.peek(db, key)?.is_some() {
        return Ok(Reply::Integer(0));
    }
    transfer(ctx, key, &entry, db, key)?;
    ctx.delete(key)?;
    ctx.notify(NotifyEvents::GENERIC, "move_from", key);
    ctx.store.notify(db, NotifyEvents::GENERIC, "move_to", key);
    Ok(Reply::Integer(1))
}

fn copy(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let (from, to) = (&args[1], &args[2]);
    let here = ctx.session.db;
    let (db, replace) = copy_options(args.tail(3), here, ctx.server.config.databases)?;
    if db == here && from == to {
        return Err(SAME_OBJECT.into());
    }
    let Some(entry) = ctx.lookup(from)? else { return Ok(Reply::Integer(0)) };
    if !replace && ctx.store.peek(db, to)?.is_some() {
        return Ok(Reply::Integer(0));
    }
    transfer(ctx, from, &entry, db, to)?;
    ctx.store.notify(db, NotifyEvents::GENERIC, "copy_to", to);
    Ok(Reply::Integer(1))
}

/// The database that COPY copies to, and whether a key there may be replaced.
fn copy_options(options: Args<'_>, here: u32, databases: u32) -> Result<(u32, bool), ErrorReply> {
    let (mut db, mut replace) = (here, false);
    let mut rest = options.iter();
    while let Some(option) = rest.next() {
        if is_word(option, "REPLACE") {
            replace = true;
        } else if is_word(option, "DB") {
            db = database(rest.next().ok_or(SYNTAX_ERROR)?, databases)?;
        } else {
            return Err(SYNTAX_ERROR.into());
        }
    }
    Ok((db, replace))
}

fn keys(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let pattern = &args[1];
    // `*` alone is all keys, the empty one too, which no pattern but the empty one matches.
    let wanted = |key: &[u8]| pattern == b"*" || glob::matches(pattern, key, Case::Sensitive);
    let keys = ctx.store.keys(ctx.session.db).filter(|(key, _)| wanted(key));
    Ok(keys.map(|(key, _)| Bytes::copy_from_slice(key)).collect())
}

fn randomkey(ctx: &mut Context<'_>, _: Args<'_>) -> Outcome {
    let random = RandomState::new();
    for attempt in 0..RANDOM_TRIES {
        let Some(key) = ctx.store.random_key(ctx.session.db, random.hash_one(attempt)) else {
            return Ok(Reply::Null);
        };
        // Looking at one that has expired removes it.
        if ctx.peek(&key)?.is_some() {
            return Ok(Reply::bulk(key));
        }
    }
    let some = ctx.store.keys(ctx.session.db).next();
    Ok(some.map(|(key, _)| Bytes::copy_from_slice(key)).into())
}

fn dbsize(ctx: &mut Context<'_>, _: Args<'_>) -> Outcome {
    Ok(Reply::Integer(ctx.store.key_count(ctx.session.db) as i64))
}

fn flushdb(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    check_flush_mode(args)?;
    ctx.store.flush(&[ctx.session.db])?;
    Ok(Reply::Ok)
}

fn flushall(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    check_flush_mode(args)?;
    // All that the store has, even if fewer are configured by now.
    let all: Vec<u32> = (0..ctx.store.engine_ref().databases()).collect();
    ctx.store.flush(&all)?;
    Ok(Reply::Ok)
}

/// ASYNC and SYNC are the same here: a flush is one record, whatever the number of keys.
fn check_flush_mode(args: Args<'_>) -> Result<(), Abort> {
    match args.get(1) {
        None => Ok(()),
        Some(mode) if args.len() == 2 && (is_word(mode, "SYNC") || is_word(mode, "ASYNC")) => Ok(()),
        Some(_) => Err(SYNTAX_ERROR.into()),
    }
}

fn swapdb(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let index = |arg| parse_i64(arg).and_then(|index| i32::try_from(index).ok());
    let first = index(&args[1]).ok_or("ERR invalid first DB index")?;
    let second = index(&args[2]).ok_or("ERR invalid second DB index")?;
    let databases = ctx.server.config.databases;
    let known = |index: i32| u32::try_from(index).ok().filter(|&db| db < databases).ok_or(NO_SUCH_DB);
    ctx.store.swap(known(first)?, known(second)?)?;
    Ok(Reply::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::Batch;

    #[track_caller]
    fn check_copy(options: &str, expected: Result<(u32, bool), &str>) {
        let batch = Batch::from_args(std::iter::once("copy").chain(options.split_whitespace()));
        let parsed = copy_options(batch.command(0).tail(1), 3, 16).map_err(|error| error.to_string());
        assert_eq!(parsed, expected.map_err(str::to_owned), "{options}");
    }

    #[test]
    fn copy_goes_to_the_same_database_and_replaces_nothing_unless_told() {
        check_copy("", Ok((3, false)));
        check_copy("replace", Ok((3, true)));
        check_copy("DB 0 Replace", Ok((0, true)));
        check_copy("db 1 db 2", Ok((2, false)));
    }

    #[test]
    fn options_of_copy_are_checked_in_order() {
        check_copy("db", Err(SYNTAX_ERROR));
        check_copy("foo", Err(SYNTAX_ERROR));
        check_copy("db 16 foo", Err(NO_SUCH_DB));
        check_copy("foo db 16", Err(SYNTAX_ERROR));
        check_copy("db x", Err("ERR value is not an integer or out of range"));
    }

    #[track_caller]
    fn check_flush(request: &str, allowed: bool) {
        let batch = Batch::from_args(request.split_whitespace());
        assert_eq!(check_flush_mode(batch.command(0)).is_ok(), allowed, "{request}");
    }

    #[test]
    fn a_flush_takes_one_mode_at_most() {
        check_flush("flushdb", true);
        check_flush("flushdb sync", true);
        check_flush("flushall Async", true);
        check_flush("flushdb now", false);
        check_flush("flushdb sync async", false);
    }
}
