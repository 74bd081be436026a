//! MEMORY: what a key takes, and what the whole store does.
//!
//! What is counted is kival's own: keys in the keydir, values in the cache. The allocator tells nothing that
//! is cheap to ask for, so the size of the process is that of its resident pages.

use super::doctor::{self, Memory};
use super::introspection::help;
use super::options::{SYNTAX_ERROR, integer, is_word};
use super::{Command, Context, Flags, Group, KeySpec, Keys, Outcome};
use crate::engine_task::session::Session;
use crate::limits::total_memory;
use crate::process::resident_memory;
use crate::resp::{Args, ErrorReply, Reply};
use kival_engine::Engine;

/// A slot in a bucket of the keydir, in bytes.
const SLOT: usize = 8;
/// What the keydir keeps of each key.
const ENTRY: usize = 24;
/// What it keeps of a key with an expiry, beyond that.
const EXPIRY: usize = 8;
/// What it keeps of a key whose expiry is a record of its own, beyond that.
const EXPIRY_RECORD: usize = 16;

/// What the subcommands have in common.
const SUBCOMMAND: Command = Command { arity: 2, group: Group::Server, since: "4.0.0", ..Command::BASE };

const SUBCOMMAND_TIPS: &[&str] =
    &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"];

/// What takes memory.
pub(super) const COMMANDS: &[Command] = &[Command {
    name: "memory",
    arity: -2,
    complexity: "That of the subcommand",
    summary: "Holds the commands about memory.",
    subcommands: &[
        Command {
            name: "doctor",
            handler: doctor,
            tips: SUBCOMMAND_TIPS,
            summary: "Tells in sentences what takes memory, what is wrong with that, and what helps.",
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
            name: "malloc-stats",
            handler: malloc_stats,
            complexity: "O(1)",
            tips: SUBCOMMAND_TIPS,
            summary: "Answers what the allocator, mimalloc, tells of itself, in JSON.",
            ..SUBCOMMAND
        },
        Command {
            name: "purge",
            handler: purge,
            complexity: "O(N) with N values in the cache",
            tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
            summary: "Empties the cache of values; they are on disk, and come back as they are read. What is free \
                the allocator gives back to the system by itself.",
            ..SUBCOMMAND
        },
        Command {
            name: "stats",
            handler: stats,
            tips: SUBCOMMAND_TIPS,
            summary: "Tells what takes memory, by name.",
            ..SUBCOMMAND
        },
        Command {
            name: "usage",
            handler: usage,
            arity: -3,
            arguments: "key [SAMPLES count]",
            flags: Flags::READONLY,
            keys: Keys { first: 2, last: 2, step: 1 },
            key_spec: KeySpec::all(&["RO"]),
            summary: "Answers the bytes that a key takes: those of the keydir, and its value's, cached or not.",
            ..SUBCOMMAND
        },
    ],
    ..SUBCOMMAND
}];

fn usage(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    check_samples(args.tail(3))?;
    let key = &args[2];
    let Some(entry) = ctx.peek(key)? else { return Ok(Reply::Null) };
    let expiry = if entry.expiry == 0 { 0 } else { EXPIRY };
    let record = entry.change.map_or(0, |_| EXPIRY_RECORD);
    let keydir = SLOT + (ENTRY + expiry + record + key.len()).next_multiple_of(8);
    Ok(Reply::Integer((keydir + entry.value_size as usize) as i64))
}

/// SAMPLES is for values that have parts; it is checked, and makes no difference.
fn check_samples(options: Args<'_>) -> Result<(), ErrorReply> {
    let mut options = options.iter();
    while let Some(word) = options.next() {
        let count = options.next().filter(|_| is_word(word, "samples")).ok_or(SYNTAX_ERROR)?;
        if integer(count)? < 0 {
            return Err(SYNTAX_ERROR.into());
        }
    }
    Ok(())
}

/// Keys of all databases.
fn key_count(engine: &Engine) -> u64 {
    (0..engine.databases()).map(|db| engine.key_count(db) as u64).sum()
}

fn stats(ctx: &mut Context<'_>, _: Args<'_>) -> Outcome {
    let engine = ctx.store.engine_ref();
    let stats = engine.stats();
    let keys = key_count(engine);
    let memory = resident_memory().unwrap_or_default();
    let clients = ctx.clients.iter().chain([&*ctx.session]);
    let dataset = stats.keydir_bytes + stats.cache_bytes;
    let share = |part: u64, whole: u64| Reply::Double(part as f64 * 100.0 / whole.max(1) as f64);
    let bytes = |bytes: u64| Reply::Integer(bytes as i64);
    Ok(Reply::fields([
        ("peak.allocated", bytes(memory.peak)),
        ("total.allocated", bytes(memory.now)),
        ("startup.allocated", bytes(ctx.server.memory_at_start)),
        ("replication.backlog", bytes(0)),
        ("clients.slaves", bytes(0)),
        ("clients.normal", bytes(clients.map(Session::memory).sum::<usize>() as u64)),
        ("cluster.links", bytes(0)),
        ("aof.buffer", bytes(engine.staged_bytes() as u64)),
        ("lua.caches", bytes(0)),
        ("functions.caches", bytes(0)),
        ("overhead.total", bytes(memory.now.saturating_sub(dataset))),
        ("keys.count", bytes(keys)),
        ("keys.bytes-per-key", bytes(stats.keydir_bytes.checked_div(keys).unwrap_or(0))),
        ("dataset.bytes", bytes(dataset)),
        ("dataset.percentage", share(dataset, memory.now)),
        ("peak.percentage", share(memory.now, memory.peak)),
        // What the program uses is told by its resident pages: the two cannot differ.
        ("rss-overhead.ratio", Reply::Double(1.0)),
        ("rss-overhead.bytes", bytes(0)),
        ("fragmentation", Reply::Double(1.0)),
        ("fragmentation.bytes", bytes(0)),
        ("kival.keydir", bytes(stats.keydir_bytes)),
        ("kival.cache", bytes(stats.cache_bytes)),
    ]))
}

fn doctor(ctx: &mut Context<'_>, _: Args<'_>) -> Outcome {
    let engine = ctx.store.engine_ref();
    let (stats, keys) = (engine.stats(), key_count(engine));
    let resident = resident_memory().unwrap_or_default();
    let waiting = ctx.clients.iter().chain([&*ctx.session]);
    let waiting = waiting.map(|client| client.query_bytes + client.held_bytes + client.outbox.unsent());
    let report = doctor::of_memory(Memory {
        resident: resident.now,
        peak: resident.peak,
        machine: total_memory(),
        keys,
        keydir: stats.keydir_bytes,
        cache: stats.cache_bytes,
        cache_size: ctx.server.config.cache_size,
        hits: stats.cache_hits,
        misses: stats.cache_misses,
        clients: ctx.clients.connected as u64,
        waiting: waiting.sum::<usize>() as u64,
    });
    Ok(Reply::Verbatim { format: "txt", text: report.into() })
}

fn malloc_stats(_: &mut Context<'_>, _: Args<'_>) -> Outcome {
    let stats = mimalloc::MiMalloc::stats_json()?;
    Ok(Reply::Verbatim { format: "txt", text: stats.to_bytes().to_vec().into() })
}

/// Not at once: what the turn has staged may stand nowhere else.
fn purge(ctx: &mut Context<'_>, _: Args<'_>) -> Outcome {
    ctx.server.purge = true;
    Ok(Reply::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::Batch;

    #[track_caller]
    fn check(words: &str, expected: Result<(), &'static str>) {
        let batch = Batch::from_args(words.split(' '));
        assert_eq!(check_samples(batch.command(0).tail(3)), expected.map_err(ErrorReply::from), "{words}");
    }

    #[test]
    fn samples_are_checked_as_redis_checks_them() {
        check("memory usage k", Ok(()));
        check("memory usage k samples 0", Ok(()));
        check("memory usage k SAMPLES 5 samples 6", Ok(()));
        check("memory usage k samples", Err(SYNTAX_ERROR));
        check("memory usage k samples -1", Err(SYNTAX_ERROR));
        check("memory usage k foo 5", Err(SYNTAX_ERROR));
        check("memory usage k samples x", Err("ERR value is not an integer or out of range"));
    }
}
