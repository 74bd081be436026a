//! KIVAL: what Redis has no word for: a connection's own durability, the segments of the log.

use super::introspection::help;
use super::options::is_word;
use super::{Command, Context, Flags, Group, Outcome};
use crate::config::AppendFsync;
use crate::resp::{Args, Reply};
use kival_engine::{SegmentState, SegmentStats};

/// What the subcommands have in common.
const SUBCOMMAND: Command = Command {
    arity: 2,
    flags: Flags::ADMIN.and(Flags::NOSCRIPT),
    group: Group::Server,
    since: "0.1.0",
    ..Command::BASE
};

/// The store itself.
pub(super) const COMMANDS: &[Command] = &[Command {
    name: "kival",
    arity: -2,
    group: Group::Server,
    since: "0.1.0",
    complexity: "That of the subcommand",
    summary: "Holds the commands about kival's own store.",
    subcommands: &[
        Command {
            name: "durability",
            handler: durability,
            arity: -2,
            flags: Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE).and(Flags::FAST),
            complexity: "O(1)",
            summary: "Answers what this connection's replies promise, or chooses it: always, everysec or no; \
                default goes back to the server's appendfsync.",
            ..SUBCOMMAND
        },
        Command {
            name: "help",
            handler: help,
            flags: Flags::LOADING.and(Flags::STALE),
            summary: "Lists the subcommands.",
            ..SUBCOMMAND
        },
        Command {
            name: "segments",
            handler: segments,
            complexity: "O(N) with N segments",
            tips: &["nondeterministic_output"],
            summary: "Describes the files of the log, a map of facts for each.",
            ..SUBCOMMAND
        },
    ],
    ..Command::BASE
}];

const BAD_POLICY: &str = "ERR durability must be one of the following: always, everysec, no, default";

fn durability(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let Some(word) = args.get(2) else {
        let policy = ctx.session.durability.unwrap_or(ctx.server.config.appendfsync);
        return Ok(Reply::bulk(policy.word()));
    };
    if args.len() > 3 {
        return Err(BAD_POLICY.into());
    }
    let policy = AppendFsync::ALL.iter().copied().find(|policy| is_word(word, policy.word()));
    if policy.is_none() && !is_word(word, "default") {
        return Err(BAD_POLICY.into());
    }
    ctx.session.durability = policy;
    ctx.server.durability_changed = true;
    Ok(Reply::Ok)
}

fn segments(ctx: &mut Context<'_>, _: Args<'_>) -> Outcome {
    // A gauge, as INFO's counts are: it does not wait for the log.
    Ok(ctx.store.engine_ref().segments().iter().map(describe).collect())
}

fn describe(segment: &SegmentStats) -> Reply {
    let state = match segment.state {
        SegmentState::Active => "active",
        SegmentState::Sealing => "sealing",
        SegmentState::Sealed => "sealed",
    };
    let number = |n: u64| Reply::Integer(n as i64);
    Reply::fields([
        ("id", number(segment.id)),
        ("state", Reply::bulk(state)),
        ("kind", Reply::bulk(if segment.merged { "merged" } else { "log" })),
        ("bytes", number(segment.bytes)),
        ("live-bytes", number(segment.live_bytes)),
        ("dead-bytes", number(segment.bytes.saturating_sub(segment.live_bytes))),
        ("records", number(segment.records)),
        ("lowest-sequence", number(segment.lowest)),
        ("highest-sequence", number(segment.highest)),
    ])
}
