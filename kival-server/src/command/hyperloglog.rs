//! PFADD, PFCOUNT and PFMERGE. What the bytes of a HyperLogLog mean is known to [`crate::hll`].

use super::{Abort, Categories, Command, Context, Flags, Group, KeySpec, Keys, Outcome};
use crate::config::NotifyEvents;
use crate::hll::{HllError, HyperLogLog, Registers};
use crate::resp::{Args, Reply};

/// What the rows of this file have in common.
const COUNTER: Command = Command {
    categories: Categories::HYPERLOGLOG,
    group: Group::HyperLogLog,
    since: "2.8.9",
    ..Command::BASE
};

/// HyperLogLogs.
pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "pfadd",
        handler: pfadd,
        arity: -2,
        arguments: "key [element ...]",
        flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
        keys: Keys::ONE,
        key_spec: KeySpec::all(&["RW", "insert"]),
        complexity: "O(1) for each element",
        summary: "Adds elements to a HyperLogLog, making it if it is not there.",
        ..COUNTER
    },
    Command {
        name: "pfcount",
        handler: pfcount,
        arity: -2,
        arguments: "key ...",
        flags: Flags::READONLY.and(Flags::MAY_REPLICATE),
        keys: Keys::ALL,
        key_spec: KeySpec {
            first: &["RW", "access"],
            second: &[],
            notes: "RW because it may change the internal representation of the key, and propagate to replicas",
        },
        complexity: "O(N) with N keys; of one key it is remembered",
        summary: "Estimates how many distinct elements were added to one or several HyperLogLogs.",
        ..COUNTER
    },
    Command {
        name: "pfmerge",
        handler: pfmerge,
        arity: -2,
        arguments: "destkey sourcekey ...",
        flags: Flags::WRITE.and(Flags::DENYOOM),
        keys: Keys::ALL,
        key_spec: KeySpec { first: &["RW", "access", "insert"], second: &["RO", "access"], notes: "" },
        complexity: "O(N) with N keys",
        summary: "Adds to a HyperLogLog what was added to others.",
        ..COUNTER
    },
];

impl From<HllError> for Abort {
    fn from(error: HllError) -> Abort {
        match error {
            HllError::NotOne => "WRONGTYPE Key is not a valid HyperLogLog string value.".into(),
            HllError::Corrupt => "INVALIDOBJ Corrupted HLL object detected".into(),
        }
    }
}

fn pfadd(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let key = &args[1];
    let sparse_most = ctx.server.config.hll_sparse_max_bytes;
    let (mut counter, expiry, mut updated) = match ctx.peek(key)? {
        Some(entry) => (HyperLogLog::from_bytes(ctx.value_of(key, &entry)?)?, entry.expiry, false),
        None => (HyperLogLog::new(), 0, true),
    };
    for element in args.tail(2) {
        updated |= counter.add(element, sparse_most)?;
    }
    if updated {
        counter.forget_count();
        ctx.put(key, counter.bytes(), expiry)?;
        ctx.notify(NotifyEvents::STRING, "pfadd", key);
    }
    Ok(Reply::Integer(updated.into()))
}

fn pfcount(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    if args.len() > 2 {
        let mut all = Registers::new();
        for key in args.tail(1) {
            if let Some(value) = ctx.value(key)? {
                all.merge(&HyperLogLog::from_bytes(value)?)?;
            }
        }
        return Ok(Reply::Integer(all.count() as i64));
    }
    let key = &args[1];
    let Some(entry) = ctx.lookup(key)? else { return Ok(Reply::Integer(0)) };
    let mut counter = HyperLogLog::from_bytes(ctx.value_of(key, &entry)?)?;
    if let Some(count) = counter.remembered_count() {
        return Ok(Reply::Integer(count as i64));
    }
    let mut registers = Registers::new();
    registers.merge(&counter)?;
    let count = registers.count();
    counter.remember_count(count);
    match ctx.put(key, counter.bytes(), entry.expiry) {
        // That it cannot be remembered, on a full disk for instance, is no reason not to answer.
        Ok(()) | Err(Abort::Write(_)) => Ok(Reply::Integer(count as i64)),
        Err(other) => Err(other),
    }
}

fn pfmerge(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let key = &args[1];
    let sparse_most = ctx.server.config.hll_sparse_max_bytes;
    let mut all = Registers::new();
    let mut dense = false;
    let (mut target, mut expiry) = (HyperLogLog::new(), 0);
    for (index, source) in args.tail(1).iter().enumerate() {
        let Some(entry) = ctx.lookup(source)? else { continue };
        let counter = HyperLogLog::from_bytes(ctx.value_of(source, &entry)?)?;
        dense |= counter.is_dense();
        all.merge(&counter)?;
        if index == 0 {
            (target, expiry) = (counter, entry.expiry);
        }
    }
    if dense {
        target.make_dense()?;
    }
    target.raise(&all, sparse_most)?;
    target.forget_count();
    ctx.put(key, target.bytes(), expiry)?;
    ctx.notify(NotifyEvents::STRING, "pfadd", key);
    Ok(Reply::Ok)
}
