//! MONITOR: has a client be shown what all others do. How that reaches it is in `engine_task/monitor.rs`.

use super::{Command, Context, Flags, Group, Outcome};
use crate::resp::{Args, Reply};

const IN_TRANSACTION: &str = "ERR MONITOR isn't allowed for DENY BLOCKING client";

/// Being shown all commands.
pub(super) const COMMANDS: &[Command] = &[Command {
    name: "monitor",
    handler: monitor,
    arity: 1,
    flags: Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::LOADING).and(Flags::STALE),
    group: Group::Server,
    summary: "Shows the commands of all clients, as they have run.",
    ..Command::BASE
}];

fn monitor(ctx: &mut Context<'_>, _: Args<'_>) -> Outcome {
    if ctx.session.is_executing() {
        return Err(IN_TRANSACTION.into());
    }
    if ctx.session.monitors {
        return Ok(Reply::Sequence(Vec::new()));
    }
    ctx.session.monitors = true;
    ctx.server.monitors.add(ctx.client);
    Ok(Reply::Ok)
}

/// Ends what MONITOR began.
pub(super) fn end(ctx: &mut Context<'_>) {
    if std::mem::take(&mut ctx.session.monitors) {
        ctx.server.monitors.remove(ctx.client);
    }
}
