//! KIVAL: what Redis has no word for: the segments of the log.

use super::introspection::help;
use super::{Command, Context, Flags, Group, Outcome};
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
