//! SAVE and its kin: backups by hard links, without a copy and without a pause.

use super::options::{SYNTAX_ERROR, is_word};
use super::{Abort, Categories, Command, Context, Flags, Group, Outcome, Wait, WaitFor};
use crate::resp::{Args, Reply};
use std::time::{Instant, UNIX_EPOCH};

const IN_PROGRESS: &str = "ERR Background save already in progress";
const VOLATILE: &str = "ERR there is nothing to link: this store lives in memory only (in-memory yes)";

/// What saving has in common.
const SAVING: Command = Command {
    flags: Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::NO_ASYNC_LOADING),
    group: Group::Server,
    complexity: "O(N) with N files of the log",
    ..Command::BASE
};

/// Backups.
pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "bgsave",
        handler: bgsave,
        arity: -1,
        arguments: "[SCHEDULE]",
        summary: "Starts a backup: links to the files of the log, in backup-dir.",
        ..SAVING
    },
    Command {
        name: "lastsave",
        handler: lastsave,
        arity: 1,
        flags: Flags::LOADING.and(Flags::STALE).and(Flags::FAST),
        categories: Categories::ADMIN.and(Categories::DANGEROUS),
        group: Group::Server,
        tips: &["nondeterministic_output"],
        summary: "Answers when the last backup was made, in Unix seconds.",
        ..Command::BASE
    },
    Command {
        name: "save",
        handler: save,
        arity: 1,
        flags: SAVING.flags.and(Flags::NO_MULTI),
        summary: "Makes a backup, and answers when it stands.",
        ..SAVING
    },
];

fn save(ctx: &mut Context<'_>, _: Args<'_>) -> Outcome {
    let ended = begin(ctx)?;
    Err(Abort::Wait(Wait { until: WaitFor::Backup(ended), deadline: None }))
}

fn bgsave(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    // SCHEDULE: there is nothing here that a backup would have to wait for.
    let options: Vec<&[u8]> = args.tail(1).iter().collect();
    if !(options.is_empty() || matches!(options[..], [word] if is_word(word, "schedule"))) {
        return Err(SYNTAX_ERROR.into());
    }
    begin(ctx)?;
    Ok(Reply::status("Background saving started"))
}

/// Begins a backup; gives how many will have ended when this one has.
fn begin(ctx: &mut Context<'_>) -> Result<u64, Abort> {
    let config = &ctx.server.config;
    if config.in_memory {
        return Err(VOLATILE.into());
    }
    let (into, keep) = (config.backup_dir(), config.backup_keep as usize);
    let engine = ctx.store.engine();
    if !engine.back_up(into, keep)? {
        return Err(IN_PROGRESS.into());
    }
    let ended = engine.backups().ended + 1;
    ctx.server.saves.changes_asked = ctx.store.changes;
    ctx.server.saves.asked_at = Some(Instant::now());
    Ok(ended)
}

fn lastsave(ctx: &mut Context<'_>, _: Args<'_>) -> Outcome {
    Ok(Reply::Integer(last_save(ctx) as i64))
}

/// When the last backup was made, Unix seconds; before the first, when the server started.
pub(super) fn last_save(ctx: &Context<'_>) -> u64 {
    let started = ctx.server.started_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let newest = ctx.store.engine_ref().backups().newest.as_ref();
    newest.map_or(started, |backup| backup.time_ms / 1000)
}
