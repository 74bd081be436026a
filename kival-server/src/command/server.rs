//! The server: its clock, its settings, its end, its log. What it tells of itself is in `info`.

use super::introspection::help;
use super::options::{SYNTAX_ERROR, integer, is_word};
use super::{Abort, Categories, Command, Context, Flags, Group, Outcome, Wait, WaitFor, redact};
use crate::config::{Changed, SetError};
use crate::engine_task::rates::Rates;
use crate::engine_task::server_state::{Counters, ServerState};
use crate::glob::{Case, matches};
use crate::number::parse_i64;
use crate::resp::{Args, ErrorReply, Reply};
use std::time::{Instant, SystemTime};

const NO_SHUTDOWN: &str = "ERR No shutdown in progress.";
pub(super) const COMPACTING: &str = "ERR Background append only file rewriting already in progress";
const BAD_TIMEOUT: &str = "ERR timeout is not an integer or out of range";
const NEGATIVE_TIMEOUT: &str = "ERR timeout is negative";
const ONE_LOG: &str = "ERR value is out of range, value must between 0 and 1";
const NO_PORT: &str = "Unable to listen on this port. Check server logs.";
const NO_ADDRESS: &str = "Failed to bind to specified addresses.";
const NOT_POSITIVE: &str = "ERR value is out of range, must be positive";

/// What the rows for administrators have in common.
const ADMIN: Command = Command {
    flags: Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::LOADING).and(Flags::STALE),
    group: Group::Server,
    ..Command::BASE
};

/// The server.
pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "bgrewriteaof",
        handler: bgrewriteaof,
        arity: 1,
        flags: Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::NO_ASYNC_LOADING),
        summary: "Starts a compaction of the log in the background.",
        ..ADMIN
    },
    Command {
        name: "config",
        arity: -2,
        group: Group::Server,
        since: "2.0.0",
        complexity: "That of the subcommand",
        summary: "Holds the commands about settings.",
        subcommands: CONFIG,
        ..Command::BASE
    },
    Command {
        name: "shutdown",
        handler: shutdown,
        arity: -1,
        arguments: "[NOSAVE | SAVE] [NOW] [FORCE] [ABORT]",
        flags: ADMIN.flags.and(Flags::NO_MULTI).and(Flags::ALLOW_BUSY),
        complexity: "O(N) with N bytes not yet on disk",
        summary: "Ends the server when everything is on disk.",
        ..ADMIN
    },
    Command {
        name: "role",
        handler: role,
        arity: 1,
        flags: Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE).and(Flags::FAST),
        categories: Categories::ADMIN.and(Categories::DANGEROUS),
        group: Group::Server,
        since: "2.8.12",
        summary: "Answers what this server is in replication: a master without replicas.",
        ..Command::BASE
    },
    Command {
        name: "time",
        handler: time,
        arity: 1,
        flags: Flags::LOADING.and(Flags::STALE).and(Flags::FAST),
        group: Group::Server,
        since: "2.6.0",
        tips: &["nondeterministic_output"],
        summary: "Answers the server's clock: Unix seconds, and microseconds within the second.",
        ..Command::BASE
    },
    Command {
        name: "wait",
        handler: wait,
        arity: 3,
        arguments: "numreplicas timeout",
        flags: Flags::NOSCRIPT,
        categories: Categories::CONNECTION,
        since: "3.0.0",
        tips: &["request_policy:all_shards", "response_policy:agg_min"],
        summary: "Waits until so many replicas have the writes so far; there are none here, so only the \
            timeout ends it.",
        ..Command::BASE
    },
    Command {
        name: "waitaof",
        handler: waitaof,
        arity: 4,
        arguments: "numlocal numreplicas timeout",
        flags: Flags::BLOCKING,
        categories: Categories::CONNECTION,
        since: "7.2.0",
        tips: &["request_policy:all_shards", "response_policy:agg_min"],
        summary: "Waits until the writes so far are on disk, here and on so many replicas.",
        ..Command::BASE
    },
];

const CONFIG: &[Command] = &[
    Command {
        name: "get",
        handler: config_get,
        arity: -3,
        arguments: "(parameter) ...",
        since: "2.0.0",
        complexity: "O(N) with N patterns",
        summary: "Answers the settings whose names match one of the patterns.",
        ..ADMIN
    },
    Command {
        name: "help",
        handler: help,
        arity: 2,
        flags: Flags::LOADING.and(Flags::STALE),
        since: "5.0.0",
        summary: "Lists the subcommands.",
        ..ADMIN
    },
    Command {
        name: "resetstat",
        handler: config_resetstat,
        arity: 2,
        since: "2.0.0",
        summary: "Sets the counters of INFO to zero.",
        ..ADMIN
    },
    Command {
        name: "rewrite",
        handler: config_rewrite,
        arity: 2,
        since: "2.8.0",
        summary: "Writes the present settings into the configuration file, and leaves its comments and order.",
        ..ADMIN
    },
    Command {
        name: "set",
        handler: config_set,
        secrets: redact::of_config_set,
        arity: -4,
        arguments: "(parameter value) ...",
        since: "2.0.0",
        complexity: "O(N) with N settings",
        tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
        summary: "Changes settings given as pairs of name and value: all of them, or none.",
        ..ADMIN
    },
];

fn role(_: &mut Context<'_>, _: Args<'_>) -> Outcome {
    Ok(Reply::Array(vec!["master".into(), Reply::Integer(0), Reply::Array(Vec::new())]))
}

fn time(_: &mut Context<'_>, _: Args<'_>) -> Outcome {
    // Finer than the turn's clock, which counts milliseconds.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let parts = [now.as_secs().to_string(), now.subsec_micros().to_string()];
    Ok(parts.into_iter().collect())
}

fn config_get(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let patterns: Vec<&[u8]> = args.tail(2).iter().collect();
    let found =
        ctx.server.config.get_matching(&patterns, |pattern, name| matches(pattern, name, Case::Ignored));
    Ok(Reply::fields(found.into_iter().map(|(name, value)| (name, Reply::bulk(value)))))
}

fn config_set(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let words: Vec<&[u8]> = args.tail(2).iter().collect();
    let (pairs, []) = words.as_chunks::<2>() else { return Err(SYNTAX_ERROR.into()) };
    let pairs: Vec<(&[u8], &[u8])> = pairs.iter().map(|&[name, value]| (name, value)).collect();
    let before = ctx.server.config.clone();
    let changed = ctx.server.config.set_many(&pairs).map_err(|error| error.to_string())?;
    if let Err(error) = listen_anew(ctx.server, &changed) {
        ctx.server.config = before;
        return Err(error.to_string().into());
    }
    if changed.contains("loglevel")
        && let Some(log) = &ctx.server.log
        && let Err(error) = log.set_level(ctx.server.config.loglevel)
    {
        tracing::error!(%error, "the level of the log could not be changed");
    }
    ctx.store.set_events(ctx.server.config.notify_keyspace_events);
    ctx.server.changed_settings.extend(changed.names);
    Ok(Reply::Ok)
}

/// Listens where the settings say now, if that is another place.
fn listen_anew(server: &mut ServerState, changed: &Changed) -> Result<(), SetError> {
    let is_address = |name: &&&str| ["port", "bind"].contains(*name);
    let Some(&name) = changed.names.iter().find(is_address) else { return Ok(()) };
    // A port that the system has chosen stays when only the addresses change.
    let port = if changed.contains("port") { server.config.port } else { server.port };
    server.port = server.doors.rebind(&server.config, port).map_err(|error| {
        tracing::warn!(error, "CONFIG SET: the server listens where it did");
        SetError::not_applied(name, if name == "port" { NO_PORT } else { NO_ADDRESS })
    })?;
    let addresses: Vec<String> = server.doors.addresses().iter().map(ToString::to_string).collect();
    tracing::info!(addresses = addresses.join(" "), "CONFIG SET: listening");
    Ok(())
}

fn config_rewrite(ctx: &mut Context<'_>, _: Args<'_>) -> Outcome {
    let Some(path) = &ctx.server.config_file else {
        return Err("ERR The server is running without a config file".into());
    };
    match ctx.server.config.rewrite(path) {
        Ok(()) => {
            tracing::info!(file = %path.display(), "the configuration file was rewritten");
            Ok(Reply::Ok)
        }
        Err(error) => {
            tracing::warn!(file = %path.display(), %error, "the configuration file could not be rewritten");
            Err(format!("ERR Rewriting config file: {error}").into())
        }
    }
}

fn config_resetstat(ctx: &mut Context<'_>, _: Args<'_>) -> Outcome {
    ctx.server.counters = Counters { most_clients: ctx.clients.connected, ..Counters::default() };
    (ctx.store.hits, ctx.store.misses) = (0, 0);
    ctx.server.rates = Rates::new(Instant::now());
    ctx.store.engine().reset_counters();
    Ok(Reply::Ok)
}

fn shutdown(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    match parse_shutdown(args)? {
        // Once it has begun there is no way back.
        Ending::Abort => Err(NO_SHUTDOWN.into()),
        Ending::Now => {
            ctx.server.shutdown = true;
            // What its client has sent behind it does not run any more.
            ctx.session.closing = true;
            Err(Abort::Silent)
        }
    }
}

/// What SHUTDOWN is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Ending {
    Now,
    Abort,
}

/// SAVE, NOSAVE, NOW and FORCE change nothing: the log holds everything, and there is no replica.
fn parse_shutdown(args: Args<'_>) -> Result<Ending, ErrorReply> {
    let (mut save, mut nosave, mut abort, mut other) = (false, false, false, false);
    for arg in args.tail(1) {
        match () {
            () if is_word(arg, "save") => save = true,
            () if is_word(arg, "nosave") => nosave = true,
            () if is_word(arg, "now") || is_word(arg, "force") => other = true,
            () if is_word(arg, "abort") => abort = true,
            () => return Err(SYNTAX_ERROR.into()),
        }
    }
    match abort {
        true if save || nosave || other => Err(SYNTAX_ERROR.into()),
        false if save && nosave => Err(SYNTAX_ERROR.into()),
        true => Ok(Ending::Abort),
        false => Ok(Ending::Now),
    }
}

fn bgrewriteaof(ctx: &mut Context<'_>, _: Args<'_>) -> Outcome {
    if !ctx.store.engine().compact() {
        return Err(COMPACTING.into());
    }
    Ok(Reply::status("Background append only file rewriting started"))
}

fn wait(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let replicas = integer(&args[1])?;
    let deadline = deadline(&args[2], ctx.now())?;
    if replicas <= 0 {
        return Ok(Reply::Integer(0));
    }
    Err(Abort::Wait(Wait { until: WaitFor::Replicas, deadline }))
}

fn waitaof(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let local = integer(&args[1])?;
    if !(0..=1).contains(&local) {
        return Err(ONE_LOG.into());
    }
    let replicas = parse_i64(&args[2]).filter(|count| *count >= 0).ok_or(NOT_POSITIVE)?;
    let deadline = deadline(&args[3], ctx.now())?;
    let last = ctx.store.engine_ref().last_sequence();
    let durable = ctx.store.engine_ref().durable_sequence() >= last;
    if replicas == 0 && i64::from(durable) >= local {
        return Ok([i64::from(durable), 0].into_iter().collect());
    }
    ctx.store.engine().request_sync();
    let until = if replicas == 0 { WaitFor::Durable(last) } else { WaitFor::DurableAndReplicas(last) };
    Err(Abort::Wait(Wait { until, deadline }))
}

/// When a timeout in milliseconds is over; 0 is never.
fn deadline(timeout: &[u8], now: u64) -> Result<Option<u64>, ErrorReply> {
    let timeout = parse_i64(timeout).ok_or(BAD_TIMEOUT)?;
    let timeout = u64::try_from(timeout).map_err(|_| NEGATIVE_TIMEOUT)?;
    Ok((timeout > 0).then(|| now.saturating_add(timeout)))
}

/// DEBUG has no rows for its subcommands, as in Redis: COMMAND shows none.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::Batch;

    #[track_caller]
    fn check_shutdown(words: &str, expected: Option<Ending>) {
        let batch = Batch::from_args(words.split(' '));
        assert_eq!(parse_shutdown(batch.command(0)).ok(), expected, "{words}");
    }

    #[test]
    fn shutdown_takes_the_words_of_redis() {
        check_shutdown("shutdown", Some(Ending::Now));
        check_shutdown("shutdown NoSave now FORCE", Some(Ending::Now));
        check_shutdown("shutdown save", Some(Ending::Now));
        check_shutdown("shutdown save nosave", None);
        check_shutdown("shutdown abort", Some(Ending::Abort));
        check_shutdown("shutdown abort abort", Some(Ending::Abort));
        check_shutdown("shutdown abort now", None);
        check_shutdown("shutdown later", None);
    }

    #[test]
    fn a_timeout_ends_at_a_time_or_never() {
        assert_eq!(deadline(b"0", 5), Ok(None));
        assert_eq!(deadline(b"10", 5), Ok(Some(15)));
        assert_eq!(deadline(b"-1", 5), Err(NEGATIVE_TIMEOUT.into()));
        assert_eq!(deadline(b"x", 5), Err(BAD_TIMEOUT.into()));
    }
}
