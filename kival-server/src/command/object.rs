//! OBJECT: how Redis would keep a value. Here every value is bytes in the log, so these are answers by the
//! value alone, for programs that ask.

use super::introspection::help;
use super::{Abort, Categories, Command, Context, Flags, Group, KeySpec, Keys, Outcome};
use crate::number::parse_i64;
use crate::resp::{Args, Reply};
use kival_engine::KeyEntry;

/// Redis keeps strings up to this long beside their header.
const LONGEST_EMBEDDED: usize = 44;
const NO_FREQUENCY: &str = "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please \
    note that when switching between policies at runtime LRU and LFU data will take some time to adjust.";

/// What the subcommands have in common.
const SUBCOMMAND: Command = Command {
    arity: 3,
    flags: Flags::READONLY,
    keys: Keys { first: 2, last: 2, step: 1 },
    key_spec: KeySpec::all(&["RO"]),
    categories: Categories::KEYSPACE,
    group: Group::Generic,
    since: "2.2.3",
    tips: &["nondeterministic_output"],
    ..Command::BASE
};

/// How Redis would keep a value.
pub(super) const COMMANDS: &[Command] = &[Command {
    name: "object",
    arity: -2,
    group: Group::Generic,
    since: "2.2.3",
    complexity: "Depends on the subcommand",
    summary: "Holds the commands about how a value is kept.",
    subcommands: &[
        Command {
            name: "encoding",
            handler: encoding,
            arguments: "key",
            summary: "Answers the encoding that Redis would choose: int, embstr or raw.",
            ..SUBCOMMAND
        },
        Command {
            name: "freq",
            handler: freq,
            arguments: "key",
            since: "4.0.0",
            summary: "Answers how often a key is accessed, which is not counted: an error.",
            ..SUBCOMMAND
        },
        Command {
            name: "help",
            handler: help,
            arity: 2,
            flags: Flags::LOADING.and(Flags::STALE),
            keys: Keys::NONE,
            key_spec: KeySpec::NONE,
            since: "6.2.0",
            tips: &[],
            summary: "Lists the subcommands.",
            ..SUBCOMMAND
        },
        Command {
            name: "idletime",
            handler: idletime,
            arguments: "key",
            summary: "Answers the seconds since a key was last read or set, or the server started.",
            ..SUBCOMMAND
        },
        Command {
            name: "refcount",
            handler: refcount,
            arguments: "key",
            summary: "Answers how many names a value has: 1.",
            ..SUBCOMMAND
        },
    ],
    ..Command::BASE
}];

/// As a glance at a key, but nobody is told that it is not there.
fn look(ctx: &mut Context<'_>, key: &[u8]) -> Result<Option<KeyEntry>, Abort> {
    let entry = ctx.peek(key)?;
    match entry {
        Some(_) => ctx.store.hits += 1,
        None => ctx.store.misses += 1,
    }
    Ok(entry)
}

fn encoding(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let key = &args[2];
    let Some(entry) = look(ctx, key)? else { return Ok(Reply::Null) };
    // A long one is known without the value, which may be on disk.
    if entry.value_size as usize > LONGEST_EMBEDDED {
        return Ok("raw".into());
    }
    let value = ctx.value_of(key, &entry)?;
    Ok(encoding_of(&value).into())
}

/// How Redis keeps such a value.
pub(super) fn encoding_of(value: &[u8]) -> &'static str {
    match value.len() {
        length if length > LONGEST_EMBEDDED => "raw",
        _ if parse_i64(value).is_some() => "int",
        _ => "embstr",
    }
}

/// Seconds since a key was last read or set, or the server started.
pub(super) fn idle_seconds(ctx: &Context<'_>, entry: &KeyEntry) -> u32 {
    let since_start = || ctx.server.started.elapsed().as_secs() as u32;
    ctx.store.engine_ref().idle_seconds(entry).unwrap_or_else(since_start)
}

fn freq(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    match look(ctx, &args[2])? {
        Some(_) => Err(NO_FREQUENCY.into()),
        None => Ok(Reply::Null),
    }
}

fn idletime(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let Some(entry) = look(ctx, &args[2])? else { return Ok(Reply::Null) };
    Ok(Reply::Integer(idle_seconds(ctx, &entry).into()))
}

fn refcount(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    Ok(look(ctx, &args[2])?.map_or(Reply::Null, |_| Reply::Integer(1)))
}
