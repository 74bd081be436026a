//! Transactions: MULTI, EXEC and what belongs to them. How the commands are queued and run is in
//! `engine_task/transaction.rs`.

use super::{Abort, Categories, Command, Context, Flags, Group, KeySpec, Keys, Outcome};
use crate::engine_task::transaction::Watched;
use crate::resp::{Args, Reply};

/// What the rows of this file have in common.
const TRANSACTION: Command = Command {
    arity: 1,
    flags: Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE).and(Flags::FAST).and(Flags::ALLOW_BUSY),
    categories: Categories::TRANSACTION,
    group: Group::Transactions,
    ..Command::BASE
};

/// Transactions.
pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "multi",
        handler: multi,
        flags: TRANSACTION.flags.and(Flags::UNQUEUED),
        since: "1.2.0",
        summary: "Queues the commands that follow, until EXEC.",
        ..TRANSACTION
    },
    Command {
        name: "exec",
        handler: exec,
        flags: Flags::NOSCRIPT
            .and(Flags::LOADING)
            .and(Flags::STALE)
            .and(Flags::SKIP_SLOWLOG)
            .and(Flags::UNQUEUED)
            .and(Flags::ENDS_TRANSACTION),
        since: "1.2.0",
        complexity: "That of the queued commands",
        summary: "Runs the queued commands, all in one, unless a watched key was changed.",
        ..TRANSACTION
    },
    Command {
        name: "discard",
        handler: discard,
        flags: TRANSACTION.flags.and(Flags::UNQUEUED),
        since: "2.0.0",
        complexity: "O(N) with N queued commands",
        summary: "Forgets the queued commands and the watched keys.",
        ..TRANSACTION
    },
    Command {
        name: "watch",
        handler: watch,
        arity: -2,
        arguments: "key ...",
        flags: TRANSACTION.flags.and(Flags::UNQUEUED),
        keys: Keys::ALL,
        key_spec: KeySpec::all(&["RO"]),
        since: "2.2.0",
        complexity: "O(1) for each key",
        summary: "Has the next EXEC run nothing if one of these keys has changed by then.",
        ..TRANSACTION
    },
    Command {
        name: "unwatch",
        handler: unwatch,
        since: "2.2.0",
        summary: "Forgets all watched keys.",
        ..TRANSACTION
    },
];

fn multi(ctx: &mut Context<'_>, _: Args<'_>) -> Outcome {
    if ctx.session.transaction.is_some() {
        return Err("ERR MULTI calls can not be nested".into());
    }
    ctx.session.transaction = Some(Box::default());
    Ok(Reply::Ok)
}

fn exec(ctx: &mut Context<'_>, _: Args<'_>) -> Outcome {
    let Some(transaction) = ctx.session.transaction.take() else {
        return Err("ERR EXEC without MULTI".into());
    };
    let changed = is_any_changed(ctx);
    if transaction.spoilt {
        abandon(ctx);
        return Err("EXECABORT Transaction discarded because of previous errors.".into());
    }
    match changed {
        Ok(false) => Err(Abort::Run(transaction)),
        other => {
            abandon(ctx);
            other.map(|_| Reply::NullArray)
        }
    }
}

/// Whether a watched key was changed, or has expired, since.
fn is_any_changed(ctx: &mut Context<'_>) -> Result<bool, Abort> {
    for watched in &ctx.session.watched {
        let Watched { db, key, changes, existed } = watched;
        if ctx.store.watches.changes(*db, key) != *changes
            || (*existed && ctx.store.peek(*db, key)?.is_none())
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn discard(ctx: &mut Context<'_>, _: Args<'_>) -> Outcome {
    if ctx.session.transaction.is_none() {
        return Err("ERR DISCARD without MULTI".into());
    }
    abandon(ctx);
    Ok(Reply::Ok)
}

fn watch(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    if ctx.session.transaction.is_some() {
        return Err("ERR WATCH inside MULTI is not allowed".into());
    }
    let db = ctx.session.db;
    for key in args.tail(1) {
        if ctx.session.watched.iter().any(|watched| watched.db == db && *watched.key == *key) {
            continue;
        }
        let existed = ctx.peek(key)?.is_some();
        let changes = ctx.store.watches.add(db, key);
        ctx.session.watched.push(Watched { db, key: key.into(), changes, existed });
    }
    Ok(Reply::Ok)
}

fn unwatch(ctx: &mut Context<'_>, _: Args<'_>) -> Outcome {
    release(ctx);
    Ok(Reply::Ok)
}

fn release(ctx: &mut Context<'_>) {
    for watched in ctx.session.watched.drain(..) {
        ctx.store.watches.remove(watched.db, &watched.key);
    }
}

/// Ends a transaction without a run.
pub(super) fn abandon(ctx: &mut Context<'_>) {
    ctx.session.transaction = None;
    release(ctx);
}
