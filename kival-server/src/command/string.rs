//! Strings, read: GET and its variations, parts and lengths. GETDEL, GETEX and GETSET, which read a value
//! and then do something to its key, are here too; what only writes is in `string_set`.

use super::options::{Lifetime, integer, parse_getex};
use super::{Categories, Command, Context, Deprecated, Flags, Group, KeySpec, Keys, Outcome};
use crate::config::NotifyEvents;
use crate::resp::{Args, Reply};
use bytes::Bytes;

/// What the rows of this file have in common.
const STRING: Command = Command {
    keys: Keys::ONE,
    key_spec: KeySpec::all(&["RO", "access"]),
    categories: Categories::STRING,
    group: Group::String,
    ..Command::BASE
};

/// Strings, read.
pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "get",
        handler: get,
        arity: 2,
        arguments: "key",
        flags: Flags::READONLY.and(Flags::FAST),
        summary: "Answers the value of a key.",
        ..STRING
    },
    Command {
        name: "getdel",
        handler: getdel,
        arity: 2,
        arguments: "key",
        flags: Flags::WRITE.and(Flags::FAST),
        key_spec: KeySpec::all(&["RW", "access", "delete"]),
        since: "6.2.0",
        summary: "Answers the value of a key, and removes the key.",
        ..STRING
    },
    Command {
        name: "getex",
        handler: getex,
        arity: -2,
        arguments: "key expiration=[EX seconds | PX milliseconds | \
            EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST]",
        flags: Flags::WRITE.and(Flags::FAST),
        key_spec: KeySpec {
            first: &["RW", "access", "update"],
            second: &[],
            notes: "RW and UPDATE because it changes the TTL",
        },
        since: "6.2.0",
        summary: "Answers the value of a key, and changes when the key expires.",
        ..STRING
    },
    Command {
        name: "getrange",
        handler: getrange,
        arity: 4,
        arguments: "key start end",
        flags: Flags::READONLY,
        since: "2.4.0",
        complexity: "O(N) with N bytes of the value",
        summary: "Answers a part of a value.",
        ..STRING
    },
    Command {
        name: "getset",
        handler: getset,
        deprecated: Some(Deprecated { since: "6.2.0", replaced_by: "`SET` with the `!GET` argument" }),
        arity: 3,
        arguments: "key value",
        flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
        key_spec: KeySpec::all(&["RW", "access", "update"]),
        summary: "Sets a key, and answers the value it had before.",
        ..STRING
    },
    Command {
        name: "mget",
        handler: mget,
        arity: -2,
        arguments: "key ...",
        flags: Flags::READONLY.and(Flags::FAST),
        keys: Keys::ALL,
        complexity: "O(N) with N keys",
        summary: "Answers the values of several keys.",
        tips: &["request_policy:multi_shard"],
        ..STRING
    },
    Command {
        name: "strlen",
        handler: strlen,
        arity: 2,
        arguments: "key",
        flags: Flags::READONLY.and(Flags::FAST),
        key_spec: KeySpec::all(&["RO"]),
        since: "2.2.0",
        summary: "Answers the length of a value.",
        ..STRING
    },
    Command {
        name: "substr",
        handler: getrange,
        deprecated: Some(Deprecated { since: "2.0.0", replaced_by: "`GETRANGE`" }),
        arity: 4,
        arguments: "key start end",
        flags: Flags::READONLY,
        complexity: "O(N) with N bytes of the value",
        summary: "Answers a part of a value, as GETRANGE does.",
        ..STRING
    },
];

fn get(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    Ok(ctx.value(&args[1])?.into())
}

fn getdel(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let value = ctx.value(&args[1])?;
    if value.is_some() {
        ctx.delete(&args[1])?;
        ctx.notify(NotifyEvents::GENERIC, "del", &args[1]);
    }
    Ok(value.into())
}

fn getex(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let lifetime = parse_getex(args.tail(2))?;
    let key = &args[1];
    // Of a key that is not there no time is wrong: Redis looks the key up first.
    let Some(entry) = ctx.lookup(key)? else { return Ok(Reply::Null) };
    let wanted = match lifetime {
        Lifetime::Until(time, count) => Some(time.expiry(count, ctx.now(), "getex")?),
        Lifetime::Persist if entry.expiry != 0 => Some(0),
        _ => None,
    };
    let value = ctx.value_of(key, &entry)?;
    match wanted {
        None => {}
        Some(past) if past != 0 && past <= ctx.now() => {
            ctx.delete(key)?;
            ctx.notify(NotifyEvents::GENERIC, "del", key);
        }
        Some(expiry) => {
            ctx.set_expiry(key, expiry)?;
            let event = if expiry == 0 { "persist" } else { "expire" };
            ctx.notify(NotifyEvents::GENERIC, event, key);
        }
    }
    Ok(Reply::Bulk(value))
}

fn getrange(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let start = integer(&args[2])?;
    let end = integer(&args[3])?;
    let Some(entry) = ctx.lookup(&args[1])? else { return Ok(Reply::Bulk(Bytes::new())) };
    // An empty part is known without the value, which may be on disk.
    match range(start, end, entry.value_size as usize) {
        Some(range) => Ok(Reply::Bulk(ctx.part_of(&args[1], &entry, range)?)),
        None => Ok(Reply::Bulk(Bytes::new())),
    }
}

/// The part of `len` bytes from `start` to `end`, both included and, if negative, counted from the end;
/// `None` if it is empty.
fn range(start: i64, end: i64, len: usize) -> Option<std::ops::Range<usize>> {
    if start < 0 && end < 0 && start > end {
        return None;
    }
    let len = len as i64;
    // What lies before the first byte is the first byte, even as an end: so says Redis 7.0.
    let from_front = |index: i64| if index < 0 { (index + len).max(0) } else { index };
    let (start, end) = (from_front(start), from_front(end).min(len - 1));
    (start <= end).then(|| start as usize..end as usize + 1)
}

fn getset(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let before = ctx.value(&args[1])?;
    ctx.put(&args[1], &args[2], 0)?;
    ctx.notify(NotifyEvents::STRING, "set", &args[1]);
    Ok(before.into())
}

fn mget(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let mut values = Vec::with_capacity(args.len() - 1);
    for key in args.tail(1) {
        values.push(ctx.value(key)?.into());
    }
    Ok(Reply::Array(values))
}

fn strlen(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    Ok(Reply::Integer(ctx.lookup(&args[1])?.map_or(0, |entry| entry.value_size.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(start: i64, end: i64, expected: &str) {
        let text = "hello";
        assert_eq!(range(start, end, text.len()).map_or("", |range| &text[range]), expected);
    }

    #[test]
    fn a_range_includes_both_ends_and_counts_from_either() {
        check(0, -1, "hello");
        check(1, 3, "ell");
        check(-3, -2, "ll");
        check(4, 4, "o");
        check(-5, 0, "h");
    }

    #[test]
    fn a_range_is_cut_to_the_value() {
        check(0, 100, "hello");
        check(-100, 1, "he");
        check(0, -100, "h");
        check(-100, -50, "h");
        check(i64::MIN, i64::MAX, "hello");
        check(5, 9, "");
        check(i64::MAX, i64::MAX, "");
    }

    #[test]
    fn a_range_that_ends_before_it_starts_is_empty() {
        check(3, 2, "");
        check(-2, -3, "");
        check(-50, -100, "");
        assert_eq!(range(0, 0, 0), None);
        assert_eq!(range(0, -1, 0), None);
    }
}
