//! Strings, written: SET and its variations, several keys at once, changes inside a value.

use super::options::{Condition, Lifetime, SetOptions, Time, integer, is_word};
use super::{Abort, Categories, Command, Context, Flags, Group, KeySpec, Keys, Outcome};
use crate::config::NotifyEvents;
use crate::resp::{Args, Reply};

const TOO_LONG: &str = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";

/// What the rows of this file have in common.
const STRING: Command = Command {
    flags: Flags::WRITE.and(Flags::DENYOOM),
    keys: Keys::ONE,
    key_spec: KeySpec::all(&["OW", "update"]),
    categories: Categories::STRING,
    group: Group::String,
    ..Command::BASE
};

/// Strings, written.
pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "append",
        handler: append,
        arity: 3,
        arguments: "key value",
        flags: STRING.flags.and(Flags::FAST),
        key_spec: KeySpec::all(&["RW", "insert"]),
        since: "2.0.0",
        complexity: "O(N) with N bytes of the value",
        summary: "Adds bytes to the end of a value.",
        ..STRING
    },
    Command {
        name: "mset",
        handler: mset,
        arity: -3,
        arguments: "(key value) ...",
        keys: Keys::PAIRS,
        since: "1.0.1",
        complexity: "O(N) with N keys",
        summary: "Sets several keys at once.",
        tips: &["request_policy:multi_shard", "response_policy:all_succeeded"],
        ..STRING
    },
    Command {
        name: "msetnx",
        handler: msetnx,
        arity: -3,
        arguments: "(key value) ...",
        keys: Keys::PAIRS,
        key_spec: KeySpec::all(&["OW", "insert"]),
        since: "1.0.1",
        complexity: "O(N) with N keys",
        summary: "Sets several keys at once if none of them is there.",
        tips: &["request_policy:multi_shard", "response_policy:agg_min"],
        ..STRING
    },
    Command {
        name: "psetex",
        handler: psetex,
        arity: 4,
        arguments: "key milliseconds value",
        since: "2.6.0",
        summary: "Sets a key for a number of milliseconds.",
        ..STRING
    },
    Command {
        name: "set",
        handler: set,
        arity: -3,
        arguments: "key value condition=[NX | XX] [GET] expiration=[EX seconds | PX milliseconds | \
            EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]",
        key_spec: KeySpec {
            first: &["RW", "access", "update", "variable_flags"],
            second: &[],
            notes: "RW and ACCESS due to the optional `GET` argument",
        },
        uses_keys: |args| {
            let reads = args.tail(3).iter().any(|word| is_word(word, "get"));
            Some(if reads { &["RW", "access", "update"] } else { &["OW", "update"] })
        },
        summary: "Sets a key, on conditions and for a time if so wished.",
        ..STRING
    },
    Command {
        name: "setex",
        handler: setex,
        arity: 4,
        arguments: "key seconds value",
        since: "2.0.0",
        summary: "Sets a key for a number of seconds.",
        ..STRING
    },
    Command {
        name: "setnx",
        handler: setnx,
        arity: 3,
        arguments: "key value",
        flags: STRING.flags.and(Flags::FAST),
        key_spec: KeySpec::all(&["OW", "insert"]),
        summary: "Sets a key if it is not there.",
        ..STRING
    },
    Command {
        name: "setrange",
        handler: setrange,
        arity: 4,
        arguments: "key offset value",
        key_spec: KeySpec::all(&["RW", "update"]),
        since: "2.2.0",
        complexity: "O(N) with N bytes of the value",
        summary: "Writes over a part of a value, lengthening it where need be.",
        ..STRING
    },
];

fn set(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    if args.len() == 3 {
        ctx.put(&args[1], &args[2], 0)?;
        ctx.notify(NotifyEvents::STRING, "set", &args[1]);
        return Ok(Reply::Ok);
    }
    let options = SetOptions::parse(args.tail(3))?;
    set_with(ctx, &args[1], &args[2], &options)
}

fn set_with(ctx: &mut Context<'_>, key: &[u8], value: &[u8], options: &SetOptions<'_>) -> Outcome {
    let mut expiry = match options.lifetime {
        Lifetime::Until(time, count) => time.expiry(count, ctx.now(), "set")?,
        _ => 0,
    };
    let mut reply = Reply::Ok;
    if options.get || options.condition != Condition::Always || options.lifetime == Lifetime::Keep {
        let entry = if options.get { ctx.lookup(key)? } else { ctx.peek(key)? };
        if options.get {
            reply = entry.map(|entry| ctx.value_of(key, &entry)).transpose()?.into();
        }
        let refused = match options.condition {
            Condition::Always => false,
            Condition::Absent => entry.is_some(),
            Condition::Present => entry.is_none(),
        };
        if refused {
            return Ok(if options.get { reply } else { Reply::Null });
        }
        if options.lifetime == Lifetime::Keep {
            expiry = entry.map_or(0, |entry| entry.expiry);
        }
    }
    put_until(ctx, key, value, expiry)?;
    ctx.notify(NotifyEvents::STRING, "set", key);
    if let Lifetime::Until(..) = options.lifetime {
        ctx.notify(NotifyEvents::GENERIC, "expire", key);
        if expiry <= ctx.now() {
            ctx.notify(NotifyEvents::EXPIRED, "expired", key);
        }
    }
    Ok(reply)
}

/// Sets a key. If its time is over already it is gone at once.
fn put_until(ctx: &mut Context<'_>, key: &[u8], value: &[u8], expiry: u64) -> Result<(), Abort> {
    if expiry != 0 && expiry <= ctx.now() {
        if !ctx.delete(key)? {
            // It was there for a moment: who watches the key has seen it change.
            ctx.store.changed(ctx.session.db, key);
            ctx.notify(NotifyEvents::NEW, "new", key);
        }
        return Ok(());
    }
    ctx.put(key, value, expiry)
}

fn setex(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let expiry = Time::Seconds.expiry(&args[2], ctx.now(), "setex")?;
    put_for(ctx, &args[1], &args[3], expiry)
}

fn psetex(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let expiry = Time::Milliseconds.expiry(&args[2], ctx.now(), "psetex")?;
    put_for(ctx, &args[1], &args[3], expiry)
}

fn put_for(ctx: &mut Context<'_>, key: &[u8], value: &[u8], expiry: u64) -> Outcome {
    ctx.put(key, value, expiry)?;
    ctx.notify(NotifyEvents::STRING, "set", key);
    ctx.notify(NotifyEvents::GENERIC, "expire", key);
    Ok(Reply::Ok)
}

fn setnx(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    if ctx.peek(&args[1])?.is_some() {
        return Ok(Reply::Integer(0));
    }
    ctx.put(&args[1], &args[2], 0)?;
    ctx.notify(NotifyEvents::STRING, "set", &args[1]);
    Ok(Reply::Integer(1))
}

fn mset(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    if args.len().is_multiple_of(2) {
        return Err("ERR wrong number of arguments for 'mset' command".into());
    }
    put_pairs(ctx, args)?;
    Ok(Reply::Ok)
}

fn msetnx(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    if args.len().is_multiple_of(2) {
        return Err("ERR wrong number of arguments for 'msetnx' command".into());
    }
    for key in args.iter().skip(1).step_by(2) {
        if ctx.peek(key)?.is_some() {
            return Ok(Reply::Integer(0));
        }
    }
    put_pairs(ctx, args)?;
    Ok(Reply::Integer(1))
}

fn put_pairs(ctx: &mut Context<'_>, args: Args<'_>) -> Result<(), Abort> {
    for key in (1..args.len()).step_by(2) {
        ctx.put(&args[key], &args[key + 1], 0)?;
        ctx.notify(NotifyEvents::STRING, "set", &args[key]);
    }
    Ok(())
}

fn append(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let (key, more) = (&args[1], &args[2]);
    let Some(entry) = ctx.peek(key)? else {
        ctx.put(key, more, 0)?;
        ctx.notify(NotifyEvents::STRING, "append", key);
        return Ok(Reply::Integer(more.len() as i64));
    };
    let len = entry.value_size as usize + more.len();
    check_length(ctx, len as u64)?;
    if more.is_empty() {
        // Nothing to write, and yet a change to who watches the key.
        ctx.store.changed(ctx.session.db, key);
        ctx.notify(NotifyEvents::STRING, "append", key);
        return Ok(Reply::Integer(len as i64));
    }
    ctx.put_part(key, Some(entry), entry.value_size as usize, more)?;
    ctx.notify(NotifyEvents::STRING, "append", key);
    Ok(Reply::Integer(len as i64))
}

fn setrange(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let (key, part) = (&args[1], &args[3]);
    let offset = u64::try_from(integer(&args[2])?).map_err(|_| "ERR offset is out of range")?;
    let entry = ctx.peek(key)?;
    if part.is_empty() {
        return Ok(Reply::Integer(entry.map_or(0, |entry| entry.value_size.into())));
    }
    let end = offset + part.len() as u64;
    check_length(ctx, end)?;
    let len = ctx.put_part(key, entry, offset as usize, part)?;
    ctx.notify(NotifyEvents::STRING, "setrange", key);
    Ok(Reply::Integer(len as i64))
}

fn check_length(ctx: &Context<'_>, len: u64) -> Result<(), Abort> {
    if len > ctx.server.config.proto_max_bulk_len { Err(TOO_LONG.into()) } else { Ok(()) }
}
