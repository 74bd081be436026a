//! Strings that are numbers: INCR and its kin. Which texts are numbers, and how they add up, is known to
//! [`crate::number`].

use super::options::integer;
use super::{Categories, Command, Context, Flags, Group, KeySpec, Keys, Outcome};
use crate::config::NotifyEvents;
use crate::number::{FloatError, format_i64, incr_by_float};
use crate::resp::{Args, Reply};
use bytes::Bytes;

/// What the rows of this file have in common.
const COUNTER: Command = Command {
    flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
    keys: Keys::ONE,
    key_spec: KeySpec::all(&["RW", "access", "update"]),
    categories: Categories::STRING,
    group: Group::String,
    ..Command::BASE
};

/// Strings that are numbers.
pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "decr",
        handler: decr,
        arity: 2,
        arguments: "key",
        summary: "Takes one off a counter.",
        ..COUNTER
    },
    Command {
        name: "decrby",
        handler: decrby,
        arity: 3,
        arguments: "key decrement",
        summary: "Takes a number off a counter.",
        ..COUNTER
    },
    Command {
        name: "incr",
        handler: incr,
        arity: 2,
        arguments: "key",
        summary: "Adds one to a counter.",
        ..COUNTER
    },
    Command {
        name: "incrby",
        handler: incrby,
        arity: 3,
        arguments: "key increment",
        summary: "Adds a number to a counter.",
        ..COUNTER
    },
    Command {
        name: "incrbyfloat",
        handler: incrbyfloat,
        arity: 3,
        arguments: "key increment:double",
        since: "2.6.0",
        summary: "Adds a number with a fraction to a counter.",
        ..COUNTER
    },
];

fn incr(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    add(ctx, &args[1], 1)
}

fn decr(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    add(ctx, &args[1], -1)
}

fn incrby(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let increment = integer(&args[2])?;
    add(ctx, &args[1], increment)
}

fn decrby(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let decrement = integer(&args[2])?;
    let increment = decrement.checked_neg().ok_or("ERR decrement would overflow")?;
    add(ctx, &args[1], increment)
}

/// Adds to a counter, 0 if it is not there; its expiry stays.
fn add(ctx: &mut Context<'_>, key: &[u8], increment: i64) -> Outcome {
    let (before, expiry) = match ctx.peek(key)? {
        Some(entry) => (integer(&ctx.value_of(key, &entry)?)?, entry.expiry),
        None => (0, 0),
    };
    let sum = before.checked_add(increment).ok_or("ERR increment or decrement would overflow")?;
    ctx.put(key, &format_i64(sum), expiry)?;
    ctx.notify(NotifyEvents::STRING, "incrby", key);
    Ok(Reply::Integer(sum))
}

fn incrbyfloat(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let key = &args[1];
    let (before, expiry) = match ctx.peek(key)? {
        Some(entry) => (ctx.value_of(key, &entry)?, entry.expiry),
        None => (Bytes::from_static(b"0"), 0),
    };
    let sum = incr_by_float(&before, &args[2]).map_err(|error| match error {
        FloatError::NotAFloat => "ERR value is not a valid float",
        FloatError::NotFinite => "ERR increment would produce NaN or Infinity",
    })?;
    ctx.put(key, &sum, expiry)?;
    ctx.notify(NotifyEvents::STRING, "incrbyfloat", key);
    Ok(Reply::bulk(sum))
}
