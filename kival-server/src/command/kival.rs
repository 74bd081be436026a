//! KIVAL: what Redis has no word for: a connection's own durability, the segments of the log, compaction,
//! scrubs. The change feed is in `changes.rs`.

use super::changes::changes;
use super::introspection::help;
use super::options::{SYNTAX_ERROR, is_word};
use super::server::COMPACTING;
use super::{Command, Context, Flags, Group, Outcome};
use crate::config::AppendFsync;
use crate::resp::{Args, Reply};
use kival_engine::{DamagedPlace, Plan, PlannedSegment, ScrubStatus, SegmentState, SegmentStats};

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
            name: "changes",
            handler: changes,
            arity: -4,
            arguments: "SINCE sequence [COUNT count] [BLOCK milliseconds] [MATCH pattern] [WITHVALUES]",
            flags: SUBCOMMAND.flags.and(Flags::NO_MULTI).and(Flags::BLOCKING),
            complexity: "O(N) with N changes looked at; the log is read in the background",
            tips: &["nondeterministic_output"],
            summary: "Answers the changes behind a sequence, in their order: SINCE seq [COUNT n] [BLOCK ms] \
                [MATCH pattern] [WITHVALUES].",
            ..SUBCOMMAND
        },
        Command {
            name: "compact",
            handler: compact,
            arity: -2,
            arguments: "[DRYRUN]",
            complexity: "O(N) with N segments; the compaction runs in the background",
            summary: "Starts a compaction of the whole log; with DRYRUN tells what one would do.",
            ..SUBCOMMAND
        },
        Command {
            name: "durability",
            handler: durability,
            arity: -2,
            arguments: "policy=[ALWAYS | EVERYSEC | NO | DEFAULT]",
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
            name: "scrub",
            handler: scrub,
            arity: -2,
            arguments: "action=[STATUS | STOP]",
            complexity: "O(1); the log is read in the background",
            tips: &["nondeterministic_output"],
            summary: "Starts to read and check the whole log; STATUS tells what was found, STOP ends it.",
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

fn compact(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let mut words = args.tail(2).iter();
    match (words.next(), words.next()) {
        (None, _) if ctx.store.engine().compact() => Ok(Reply::status("Compaction started")),
        (None, _) => Err(COMPACTING.into()),
        (Some(word), None) if is_word(word, "dryrun") => {
            let plans = ctx.store.engine_ref().compaction_plans();
            Ok(Reply::fields([("now", plan(&plans.now)), ("full", plan(&plans.full))]))
        }
        _ => Err(SYNTAX_ERROR.into()),
    }
}

fn number(n: u64) -> Reply {
    Reply::Integer(n as i64)
}

fn plan(plan: &Plan) -> Reply {
    Reply::fields([
        ("reason", plan.reason.map_or(Reply::bulk("none"), |reason| Reply::bulk(reason.word()))),
        ("segments", plan.segments.iter().map(planned).collect()),
        ("bytes-to-read", number(plan.read)),
        ("bytes-to-write-at-most", number(plan.written)),
        ("bytes-freed-at-least", number(plan.freed)),
    ])
}

fn planned(segment: &PlannedSegment) -> Reply {
    Reply::fields([
        ("id", number(segment.id)),
        ("bytes", number(segment.bytes)),
        ("live-bytes", number(segment.live)),
        ("dead-bytes", number(segment.dead)),
    ])
}

fn segments(ctx: &mut Context<'_>, _: Args<'_>) -> Outcome {
    // A gauge, as INFO's counts are: it does not wait for the log.
    Ok(ctx.store.engine_ref().segments().iter().map(describe).collect())
}

fn scrub(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let mut words = args.tail(2).iter();
    match (words.next(), words.next()) {
        (None, _) => match ctx.store.engine().scrub() {
            Ok(true) => Ok(Reply::status("Scrub started")),
            Ok(false) if ctx.store.engine_ref().scrub_status().stopping => {
                Err("ERR The last scrub is still stopping".into())
            }
            Ok(false) => Err("ERR A scrub is already in progress".into()),
            Err(error) => Err(format!("ERR No thread could be had for a scrub: {error}").into()),
        },
        // A gauge: what was found concerns no reply.
        (Some(word), None) if is_word(word, "status") => {
            Ok(describe_scrub(&ctx.store.engine_ref().scrub_status()))
        }
        (Some(word), None) if is_word(word, "stop") => {
            if ctx.store.engine().stop_scrub() {
                Ok(Reply::Ok)
            } else {
                Err("ERR No scrub is in progress".into())
            }
        }
        _ => Err(SYNTAX_ERROR.into()),
    }
}

fn describe_scrub(status: &ScrubStatus) -> Reply {
    let number = |n: u64| Reply::Integer(n as i64);
    Reply::fields([
        ("running", number(status.running.into())),
        ("stopping", number(status.stopping.into())),
        ("bytes-read", number(status.bytes_read)),
        ("bytes-total", number(status.bytes_total)),
        ("started-ms", number(status.started_ms)),
        ("finished-ms", number(status.finished_ms)),
        ("damaged-places", number(status.damaged)),
        ("places", status.places.iter().map(describe_place).collect()),
    ])
}

fn describe_place(place: &DamagedPlace) -> Reply {
    Reply::fields([
        ("file", Reply::bulk(place.file.display().to_string())),
        ("offset", Reply::Integer(place.offset as i64)),
        ("end", Reply::Integer(place.end as i64)),
        ("damage", Reply::bulk(place.fault.to_string())),
        ("key", place.key.as_deref().map_or(Reply::Null, |key| Reply::bulk(key.to_vec()))),
    ])
}

fn describe(segment: &SegmentStats) -> Reply {
    let state = match segment.state {
        SegmentState::Active => "active",
        SegmentState::Sealing => "sealing",
        SegmentState::Sealed => "sealed",
    };
    Reply::fields([
        ("id", number(segment.id)),
        ("state", Reply::bulk(state)),
        ("kind", Reply::bulk(if segment.merged { "merged" } else { "log" })),
        ("bytes", number(segment.bytes)),
        ("live-bytes", number(segment.live_bytes)),
        ("dead-bytes", number(segment.bytes.saturating_sub(segment.live_bytes))),
        ("records", number(segment.records)),
        ("tombstones", number(segment.tombstones)),
        ("created-ms", number(segment.created_ms)),
        ("lowest-sequence", number(segment.lowest)),
        ("highest-sequence", number(segment.highest)),
    ])
}
