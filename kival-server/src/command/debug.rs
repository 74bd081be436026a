//! DEBUG: what helps to test the server and the programs that use it.

use super::options::is_word;
use super::{Abort, Command, Context, Flags, Group, Outcome, SHOWN, Wait, WaitFor, object, shown};
use crate::number::parse_f64;
use crate::rdb;
use crate::resp::{Args, Reply};
use std::time::Duration;

const NO_SUCH_KEY: &str = "ERR no such key";
const RELOAD_OPTIONS: &str = "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.";
const RELOAD_IN_EXEC: &str = "ERR DEBUG RELOAD is not possible inside a transaction";
const RELOAD_IN_BACKUP: &str = "ERR DEBUG RELOAD is not possible while a backup is made";

/// Bytes of a payload of DUMP that are no part of the value: its type, its version and its checksum.
const FRAME: usize = 11;

/// Help for tests.
pub(super) const COMMANDS: &[Command] = &[Command {
    name: "debug",
    handler: debug,
    arity: -2,
    flags: Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::LOADING).and(Flags::STALE).and(Flags::PROTECTED),
    group: Group::Server,
    complexity: "That of the subcommand",
    summary: "Holds the commands that help to test the server.",
    ..Command::BASE
}];

const HELP: &[&str] = &[
    "DEBUG <subcommand> [argument ...]. Its subcommands:",
    "ERROR <text>",
    "    Answers with this error.",
    "HELP",
    "    Lists the subcommands.",
    "LOADAOF",
    "    As RELOAD: the log is all there is.",
    "LOG <text>",
    "    Writes a line to the server's log.",
    "OBJECT <key>",
    "    Tells how a value is kept.",
    "RELOAD [MERGE] [NOFLUSH] [NOSAVE]",
    "    Closes the store, and opens it again from disk; the options make no difference.",
    "SET-ACTIVE-EXPIRE <0|1>",
    "    Whether expired keys are removed before somebody looks for them.",
    "SLEEP <seconds>",
    "    Keeps the server from doing anything for a time; fractions are allowed.",
];

fn debug(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let subcommand = &args[1];
    let is = |word: &str, arguments: usize| is_word(subcommand, word) && args.len() == 2 + arguments;
    match () {
        () if is("error", 1) => error(&args[2]),
        () if is("help", 0) => Ok(HELP.iter().map(|line| Reply::status(*line)).collect()),
        () if is("loadaof", 0) => reload(ctx),
        () if is_word(subcommand, "reload") => {
            let known =
                |option: &[u8]| ["merge", "noflush", "nosave"].iter().any(|word| is_word(option, word));
            if args.tail(2).iter().all(known) { reload(ctx) } else { Err(RELOAD_OPTIONS.into()) }
        }
        () if is("log", 1) => {
            tracing::warn!(text = %String::from_utf8_lossy(&args[2]), "DEBUG LOG");
            Ok(Reply::Ok)
        }
        () if is("object", 1) => object_of(ctx, &args[2]),
        () if is("set-active-expire", 1) => {
            // Any number but 0 means yes; what is no number means 0, as C reads it.
            ctx.server.active_expire = parse_f64(&args[2]).is_some_and(|number| number != 0.0);
            Ok(Reply::Ok)
        }
        () if is("sleep", 1) => {
            // All clients are to wait: that is what it is for.
            std::thread::sleep(seconds(&args[2]));
            Ok(Reply::Ok)
        }
        () => {
            let what = b"ERR unknown subcommand or wrong number of arguments for '";
            Err(Abort::Error([what, shown(subcommand, SHOWN), b"'. Try DEBUG HELP."].concat().into()))
        }
    }
}

/// An error is one line, whatever the text. As in Redis it is counted nowhere.
fn error(text: &[u8]) -> Outcome {
    let line: Vec<u8> =
        text.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }).collect();
    Ok(Reply::Sequence(vec![Reply::Error(line.into())]))
}

/// The address of Redis's answer is here the sequence of the record in the log.
fn object_of(ctx: &mut Context<'_>, key: &[u8]) -> Outcome {
    let entry = ctx.peek(key)?.ok_or(NO_SUCH_KEY)?;
    let value = ctx.value_of(key, &entry)?;
    let idle = u64::from(object::idle_seconds(ctx, &entry));
    let clock = (ctx.now() / 1000).saturating_sub(idle) & 0xff_ffff;
    Ok(Reply::status(format!(
        "Value at:0x{sequence:012x} refcount:1 encoding:{encoding} serializedlength:{length} lru:{clock} \
         lru_seconds_idle:{idle}",
        sequence = entry.sequence,
        encoding = object::encoding_of(&value),
        length = rdb::dump(&value).len() - FRAME,
    )))
}

/// The engine task does it, when this turn is over; the reply is made then.
fn reload(ctx: &mut Context<'_>) -> Outcome {
    if ctx.session.is_executing() {
        return Err(RELOAD_IN_EXEC.into());
    }
    if ctx.store.engine_ref().backups().running {
        return Err(RELOAD_IN_BACKUP.into());
    }
    ctx.server.reload = true;
    Err(Abort::Wait(Wait { until: WaitFor::Reload, deadline: None }))
}

/// What is no time at all counts as none, as in Redis.
fn seconds(text: &[u8]) -> Duration {
    parse_f64(text).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleep_takes_fractions_and_ignores_nonsense() {
        assert_eq!(seconds(b"0.25"), Duration::from_millis(250));
        for nonsense in ["-1", "x", "nan", "inf", ""] {
            assert_eq!(seconds(nonsense.as_bytes()), Duration::ZERO, "{nonsense:?}");
        }
    }
}
