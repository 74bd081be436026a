//! SLOWLOG and LATENCY: what was slow. How it is found out is in `engine_task/slow.rs` and `engine_task/meter.rs`.

use super::introspection::help;
use super::{Command, Context, Flags, Group, Outcome, Row, doctor, graph, shown};
use crate::engine_task::slow::{SlowCommand, unix_seconds};
use crate::engine_task::statistics::CommandStatistics;
use crate::number::parse_i64;
use crate::resp::{Args, ErrorReply, Reply};
use hdrhistogram::Histogram;

/// Entries that SLOWLOG GET shows unless it is told how many.
const SHOWN: usize = 10;
const BAD_COUNT: &str = "ERR count should be greater than or equal to -1";
const TOO_MANY: &str = "ERR unknown subcommand or wrong number of arguments for 'GET'. Try SLOWLOG HELP.";
/// Where a histogram is cut, in nanoseconds: here and at each double of it, as Redis does.
const FIRST_CUT: u64 = 1024;

/// What the rows of this file have in common.
const SERVER: Command = Command { arity: -2, group: Group::Server, ..Command::BASE };

const SLOWLOG: Command = Command {
    arity: 2,
    flags: Flags::ADMIN.and(Flags::LOADING).and(Flags::STALE),
    since: "2.2.12",
    ..SERVER
};

const LATENCY: Command = Command {
    arity: 2,
    flags: SLOWLOG.flags.and(Flags::NOSCRIPT),
    since: "2.8.13",
    tips: &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"],
    ..SERVER
};

const HELP: Command = Command {
    name: "help",
    handler: help,
    arity: 2,
    flags: Flags::LOADING.and(Flags::STALE),
    summary: "Lists the subcommands.",
    ..SERVER
};

/// What was slow.
pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "slowlog",
        since: "2.2.12",
        complexity: "That of the subcommand",
        summary: "Holds the commands about the log of slow commands.",
        subcommands: &[
            Command {
                name: "get",
                handler: slowlog_get,
                arity: -2,
                arguments: "[count]",
                complexity: "O(N) with N entries shown",
                tips: &["request_policy:all_nodes", "nondeterministic_output"],
                summary: "Shows the newest entries, 10 or as many as asked for; -1 is all.",
                ..SLOWLOG
            },
            Command { since: "6.2.0", ..HELP },
            Command {
                name: "len",
                handler: slowlog_len,
                tips: &["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"],
                summary: "Counts the entries.",
                ..SLOWLOG
            },
            Command {
                name: "reset",
                handler: slowlog_reset,
                complexity: "O(N) with N entries",
                tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
                summary: "Forgets all entries.",
                ..SLOWLOG
            },
        ],
        ..SERVER
    },
    Command {
        name: "latency",
        since: "2.8.13",
        complexity: "That of the subcommand",
        summary: "Holds the commands about what took long.",
        subcommands: &[
            Command {
                name: "doctor",
                handler: doctor,
                summary: "Tells in sentences which events took too long, how often, and what helps.",
                ..LATENCY
            },
            Command {
                name: "graph",
                handler: graph,
                arity: 3,
                arguments: "event",
                summary: "Draws how long an event took, the last times that it took too long.",
                ..LATENCY
            },
            Command { since: "2.8.13", ..HELP },
            Command {
                name: "histogram",
                handler: histogram,
                arity: -2,
                arguments: "[command ...]",
                since: "7.0.0",
                complexity: "O(N) with N commands",
                summary: "Tells how many runs took at most how long, for the commands named, or all.",
                ..LATENCY
            },
            Command {
                name: "history",
                handler: history,
                arity: 3,
                arguments: "event",
                summary: "Lists when an event took too long, and how long, in milliseconds.",
                ..LATENCY
            },
            Command {
                name: "latest",
                handler: latest,
                summary: "Lists the events that took too long: the last time, how long then, and at most.",
                ..LATENCY
            },
            Command {
                name: "reset",
                handler: reset,
                arity: -2,
                arguments: "[event ...]",
                tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
                summary: "Forgets these events, or all.",
                ..LATENCY
            },
        ],
        ..SERVER
    },
];

fn slowlog_get(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let count = match (args.len(), args.get(2)) {
        (2, _) => SHOWN,
        (3, Some(count)) => match parse_i64(count).ok_or(BAD_COUNT)? {
            -1 => usize::MAX,
            count => usize::try_from(count).map_err(|_| BAD_COUNT)?,
        },
        _ => return Err(TOO_MANY.into()),
    };
    Ok(ctx.server.slow_log.entries.iter().take(count).map(slow_command).collect())
}

fn slow_command(slow: &SlowCommand) -> Reply {
    Reply::Array(vec![
        Reply::Integer(slow.id.cast_signed()),
        Reply::Integer(slow.at.cast_signed()),
        Reply::Integer(slow.micros.cast_signed()),
        slow.args.iter().map(|arg| Reply::bulk(arg.clone())).collect(),
        Reply::bulk(slow.addr.clone()),
        Reply::bulk(slow.name.clone()),
    ])
}

fn slowlog_len(ctx: &mut Context<'_>, _: Args<'_>) -> Outcome {
    Ok(Reply::Integer(ctx.server.slow_log.entries.len() as i64))
}

fn slowlog_reset(ctx: &mut Context<'_>, _: Args<'_>) -> Outcome {
    ctx.server.slow_log.entries.clear();
    Ok(Reply::Ok)
}

fn latest(ctx: &mut Context<'_>, _: Args<'_>) -> Outcome {
    let events = ctx.server.latencies.iter();
    let line = |(name, last, longest): (&'static str, (u64, u64), u64)| {
        let numbers = [last.0, last.1, longest].map(|number| Reply::Integer(number.cast_signed()));
        Reply::Array(std::iter::once(Reply::bulk(name)).chain(numbers).collect())
    };
    Ok(events
        .filter_map(|(name, series)| {
            let last = series.samples.back()?;
            Some((*name, (last.at, last.millis), series.longest))
        })
        .map(line)
        .collect())
}

fn doctor(ctx: &mut Context<'_>, _: Args<'_>) -> Outcome {
    let config = &ctx.server.config;
    let (threshold, slow_from) = (config.latency_monitor_threshold, config.slowlog_log_slower_than);
    let report = doctor::of_latency(&ctx.server.latencies, threshold, slow_from, unix_seconds());
    Ok(Reply::Verbatim { format: "txt", text: report.into() })
}

fn graph(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let event = str::from_utf8(&args[2]).ok().and_then(|event| ctx.server.latencies.get_key_value(event));
    let Some((event, series)) = event else {
        let error = [b"ERR No samples available for event '", shown(&args[2], usize::MAX), b"'"].concat();
        return Err(ErrorReply::from(error).into());
    };
    let drawing = graph::graph(event, series, unix_seconds());
    Ok(Reply::Verbatim { format: "txt", text: drawing.into() })
}

fn history(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let series = str::from_utf8(&args[2]).ok().and_then(|event| ctx.server.latencies.get(event));
    let samples = series.into_iter().flat_map(|series| &series.samples);
    let pair = |at: u64, millis: u64| [at.cast_signed(), millis.cast_signed()].into_iter().collect::<Reply>();
    Ok(samples.map(|sample| pair(sample.at, sample.millis)).collect())
}

fn reset(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let events = args.tail(2);
    let before = ctx.server.latencies.len();
    ctx.server
        .latencies
        .retain(|event, _| !events.is_empty() && !events.iter().any(|name| name == event.as_bytes()));
    Ok(Reply::Integer((before - ctx.server.latencies.len()) as i64))
}

fn histogram(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let names = args.tail(2);
    let wanted = |row: &Row| {
        let (name, container) = (row.name(), row.container.name);
        let is = |wanted: &[u8], name: &str| wanted.eq_ignore_ascii_case(name.as_bytes());
        names.is_empty() || names.iter().any(|wanted| is(wanted, &name) || is(wanted, container))
    };
    let statistics = ctx.server.counters.statistics.iter().filter(|(row, _)| wanted(row));
    Ok(Reply::fields(statistics.filter_map(|(row, command)| Some((row.name(), distribution(command)?)))))
}

/// How many runs of a command took at most how many microseconds.
fn distribution(command: &CommandStatistics) -> Option<Reply> {
    let histogram = command.histogram.as_ref()?;
    let steps = cumulative(histogram).into_iter();
    let steps = steps.map(|(micros, count)| (micros.cast_signed().into(), count.cast_signed().into()));
    Some(Reply::fields([
        ("calls", Reply::Integer(histogram.len().cast_signed())),
        ("histogram_usec", Reply::Map(steps.collect())),
    ]))
}

/// Microseconds and how many runs took at most so many, where that number grows.
fn cumulative(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    let mut steps: Vec<(u64, u64)> = Vec::new();
    let (mut level, mut count) = (FIRST_CUT, 0);
    while count < histogram.len() {
        let cut = histogram.highest_equivalent(level);
        let within = histogram.count_between(0, cut);
        if within > count {
            steps.push((cut / 1000, within));
        }
        (level, count) = (level * 2, within);
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_cut_where_redis_cuts_it() {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 1_000_000_000, 2).unwrap();
        for micros in [7, 7, 9, 15, 24, 154] {
            histogram.record(micros * 1000).unwrap();
        }
        assert_eq!(cumulative(&histogram), [(8, 2), (16, 4), (33, 5), (264, 6)]);
    }
}
