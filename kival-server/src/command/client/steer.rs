//! CLIENT: what connections make of themselves and of others: REPLY, NO-EVICT, NO-TOUCH, KILL, UNBLOCK, PAUSE.
//! Who is paused, and for how long, is decided in `engine_task/pause.rs`.

use super::super::options::{SYNTAX_ERROR, integer, is_word};
use super::super::{Abort, Command, Context, Flags, Outcome, WaitFor};
use super::{SUBCOMMAND, unknown_type};
use crate::engine_task::ClientKey;
use crate::engine_task::park::Parked;
use crate::engine_task::pause::Pause;
use crate::engine_task::session::{Replies, Session};
use crate::number::parse_i64;
use crate::resp::{Args, ErrorReply, Reply};

const NO_SUCH_CLIENT: &str = "ERR No such client";
const LOW_ID: &str = "ERR client-id should be greater than 0";
const BAD_AGE: &str = "ERR maxage is not an integer or out of range";
const LOW_AGE: &str = "ERR maxage should be greater than 0";
const BAD_REASON: &str = "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR";
const BAD_MODE: &str = "ERR CLIENT PAUSE mode must be WRITE or ALL";
const BAD_TIMEOUT: &str = "ERR timeout is not an integer or out of range";
const NEGATIVE_TIMEOUT: &str = "ERR timeout is negative";
const LONG_TIMEOUT: &str = "ERR timeout is out of range";
/// The one user there is.
const USER: &str = "default";

/// What the subcommands that concern other connections have in common.
const OVER_OTHERS: Command = Command { arity: -3, flags: SUBCOMMAND.flags.and(Flags::ADMIN), ..SUBCOMMAND };

pub(super) const KILL: Command = Command {
    name: "kill",
    handler: kill,
    arguments: "filter=(ip:port | new-format=([ID client-id] | \
        [normal_master_slave_pubsub=TYPE (NORMAL | MASTER | SLAVE | REPLICA | PUBSUB)] | \
        [USER username] | [ADDR ip:port] | [LADDR ip:port] | [SKIPME yes/no]) ...)",
    since: "2.4.0",
    complexity: "O(N) with N clients",
    summary: "Closes connections: the one from an address (ip:port), or those that all filters take (ID id, TYPE \
        type, USER name, ADDR ip:port, LADDR ip:port, MAXAGE seconds; SKIPME no includes this one).",
    ..OVER_OTHERS
};

pub(super) const NO_EVICT: Command = Command {
    name: "no-evict",
    handler: no_evict,
    arity: 3,
    arguments: "enabled=(ON | OFF)",
    since: "7.0.0",
    summary: "Keeps this connection from being closed to save memory (ON, OFF).",
    ..OVER_OTHERS
};

pub(super) const NO_TOUCH: Command = Command {
    name: "no-touch",
    handler: no_touch,
    arity: 3,
    arguments: "enabled=(ON | OFF)",
    since: "7.2.0",
    summary: "Has reads of this connection not count as accesses of their keys (ON, OFF).",
    ..SUBCOMMAND
};

pub(super) const PAUSE: Command = Command {
    name: "pause",
    handler: pause,
    arguments: "timeout mode=[WRITE | ALL]",
    since: "2.9.50",
    summary: "Holds back all commands of all connections (ALL), or those that may write (WRITE), for so many \
        milliseconds.",
    ..OVER_OTHERS
};

pub(super) const REPLY: Command = Command {
    name: "reply",
    handler: reply,
    arity: 3,
    arguments: "(ON | OFF | SKIP)",
    since: "3.2.0",
    summary: "Chooses whether this connection gets replies (ON, OFF), or none to the next command (SKIP).",
    ..SUBCOMMAND
};

pub(super) const UNBLOCK: Command = Command {
    name: "unblock",
    handler: unblock,
    arguments: "client-id [TIMEOUT | ERROR]",
    since: "5.0.0",
    complexity: "O(N) with N clients",
    summary: "Ends the wait of another connection as if its time was over (TIMEOUT), or with an error (ERROR).",
    ..OVER_OTHERS
};

pub(super) const UNPAUSE: Command = Command {
    name: "unpause",
    handler: unpause,
    arity: 2,
    since: "6.2.0",
    complexity: "O(N) with N clients",
    summary: "Ends a pause.",
    ..OVER_OTHERS
};

fn reply(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let replies = &mut ctx.session.manner.replies;
    if is_word(&args[2], "on") {
        *replies = Replies { off: false, skip: false, ..*replies };
        return Ok(Reply::Ok);
    }
    if is_word(&args[2], "off") {
        replies.off = true;
    } else if is_word(&args[2], "skip") {
        replies.skip_next = !replies.off;
    } else {
        return Err(SYNTAX_ERROR.into());
    }
    Err(Abort::Silent)
}

fn on_or_off(word: &[u8]) -> Result<bool, Abort> {
    match () {
        () if is_word(word, "on") => Ok(true),
        () if is_word(word, "off") => Ok(false),
        () => Err(SYNTAX_ERROR.into()),
    }
}

fn no_evict(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    ctx.session.manner.no_evict = on_or_off(&args[2])?;
    Ok(Reply::Ok)
}

fn no_touch(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    ctx.session.manner.no_touch = on_or_off(&args[2])?;
    Ok(Reply::Ok)
}

/// Which connections CLIENT KILL is to close.
#[derive(Debug, Default, PartialEq, Eq)]
struct Filter {
    id: Option<u64>,
    /// Whether it listens to messages; `Some(None)`: a type that no connection here is of.
    listens: Option<Option<bool>>,
    addr: Option<String>,
    laddr: Option<String>,
    /// Seconds.
    max_age: Option<u64>,
    spares_self: bool,
}

impl Filter {
    fn parse(args: Args<'_>) -> Result<Filter, Abort> {
        let text = |word: &[u8]| Some(String::from_utf8_lossy(word).into_owned());
        let mut filter = Filter { spares_self: true, ..Filter::default() };
        let mut rest = args.tail(2);
        while let Some(option) = rest.get(0) {
            let value = rest.get(1).ok_or(SYNTAX_ERROR)?;
            match () {
                () if is_word(option, "id") => {
                    let id = parse_i64(value).and_then(|id| u64::try_from(id).ok());
                    filter.id = Some(id.filter(|id| *id > 0).ok_or(LOW_ID)?);
                }
                () if is_word(option, "type") => filter.listens = Some(kind(value)?),
                () if is_word(option, "addr") => filter.addr = text(value),
                () if is_word(option, "laddr") => filter.laddr = text(value),
                () if is_word(option, "user") => {
                    if value != USER.as_bytes() {
                        return Err(ErrorReply::from([b"ERR No such user '", value, b"'"].concat()).into());
                    }
                }
                () if is_word(option, "maxage") => {
                    let age = parse_i64(value).ok_or(BAD_AGE)?;
                    filter.max_age = Some(u64::try_from(age).ok().filter(|age| *age > 0).ok_or(LOW_AGE)?);
                }
                () if is_word(option, "skipme") && is_word(value, "yes") => filter.spares_self = true,
                () if is_word(option, "skipme") && is_word(value, "no") => filter.spares_self = false,
                () => return Err(SYNTAX_ERROR.into()),
            }
            rest = rest.tail(2);
        }
        Ok(filter)
    }

    fn takes(&self, session: &Session) -> bool {
        let old = |age: u64| session.since.elapsed().as_secs() >= age;
        self.id.is_none_or(|id| id == session.id)
            && self.listens.is_none_or(|listens| listens == Some(session.subscriptions.is_some()))
            && self.addr.as_ref().is_none_or(|addr| *addr == session.addr.to_string())
            && self.laddr.as_ref().is_none_or(|laddr| *laddr == session.laddr.to_string())
            && self.max_age.is_none_or(old)
    }
}

/// Whether a type of connections listens to messages; none if no connection here is of that type.
fn kind(word: &[u8]) -> Result<Option<bool>, Abort> {
    match () {
        () if is_word(word, "normal") => Ok(Some(false)),
        () if is_word(word, "pubsub") => Ok(Some(true)),
        () if ["slave", "replica", "master"].iter().any(|other| is_word(word, other)) => Ok(None),
        () => Err(unknown_type(word)),
    }
}

fn kill(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    // The old form: an address, and the connection itself is not spared.
    let by_address = args.len() == 3;
    let filter = if by_address {
        Filter { addr: Some(String::from_utf8_lossy(&args[2]).into_owned()), ..Filter::default() }
    } else {
        Filter::parse(args)?
    };
    let mut killed = 0;
    for slot in ctx.clients.slots_where(|session| filter.takes(session)) {
        let Some(session) = ctx.clients.get_mut(slot) else { continue };
        let client = ClientKey { slot, id: session.id };
        // Nothing of it runs or is sent any more; it is forgotten with the turn, whose replies go by slot.
        session.closing = true;
        session.outbox.kill();
        if !ctx.clients.killed.contains(&client) {
            ctx.clients.killed.push(client);
            killed += 1;
        }
    }
    if filter.takes(ctx.session) && !filter.spares_self {
        // Its own end comes behind the reply.
        ctx.session.closing = true;
        killed += 1;
    }
    match (by_address, killed) {
        (true, 0) => Err(NO_SUCH_CLIENT.into()),
        (true, _) => Ok(Reply::Ok),
        (false, killed) => Ok(Reply::Integer(killed)),
    }
}

fn unblock(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let with_error = match (args.len(), args.get(3)) {
        (3, _) => false,
        (4, Some(reason)) if is_word(reason, "timeout") => false,
        (4, Some(reason)) if is_word(reason, "error") => true,
        (4, _) => return Err(BAD_REASON.into()),
        _ => return Err(wrong_count("UNBLOCK")),
    };
    let id = integer(&args[2])?;
    let id = u64::try_from(id).unwrap_or(0);
    let waits = |session: &Session| {
        let wait = match &session.parked {
            Some(Parked::Waiting(wait)) => wait.until.is_for_others(),
            Some(Parked::Following(following)) => following.blocks(),
            _ => false,
        };
        session.id == id && wait
    };
    let Some(slot) = ctx.clients.slots_where(waits).pop() else { return Ok(Reply::Integer(0)) };
    match ctx.clients.get_mut(slot).and_then(|session| session.parked.as_mut()) {
        Some(Parked::Waiting(wait)) => {
            if with_error {
                wait.until = WaitFor::Nothing;
            }
            wait.deadline = Some(0);
        }
        Some(Parked::Following(following)) => following.unblock(with_error),
        _ => {}
    }
    ctx.server.unblocked = true;
    Ok(Reply::Integer(1))
}

fn pause(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let all = match (args.len(), args.get(3)) {
        (3, _) => true,
        (4, Some(mode)) if is_word(mode, "all") => true,
        (4, Some(mode)) if is_word(mode, "write") => false,
        (4, _) => return Err(BAD_MODE.into()),
        _ => return Err(wrong_count("PAUSE")),
    };
    let timeout = parse_i64(&args[2]).ok_or(BAD_TIMEOUT)?;
    let timeout = u64::try_from(timeout).map_err(|_| NEGATIVE_TIMEOUT)?;
    let end = ctx.now().checked_add(timeout).filter(|end| i64::try_from(*end).is_ok()).ok_or(LONG_TIMEOUT)?;
    let asked = Pause { all, until_ms: end };
    ctx.server.pause = Some(ctx.server.pause.map_or(asked, |now| now.stricter(asked)));
    Ok(Reply::Ok)
}

fn unpause(ctx: &mut Context<'_>, _: Args<'_>) -> Outcome {
    if let Some(pause) = &mut ctx.server.pause {
        pause.until_ms = 0;
    }
    Ok(Reply::Ok)
}

fn wrong_count(subcommand: &str) -> Abort {
    let error =
        format!("ERR unknown subcommand or wrong number of arguments for '{subcommand}'. Try CLIENT HELP.");
    error.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::Batch;

    #[track_caller]
    fn check(words: &str, expected: Result<Filter, &str>) {
        let batch = Batch::from_args(words.split(' '));
        let filter = Filter::parse(batch.command(0)).map_err(|abort| match abort {
            Abort::Error(error) => error.to_string(),
            other => panic!("{other:?}"),
        });
        assert_eq!(filter, expected.map_err(str::to_owned), "{words}");
    }

    #[test]
    fn who_is_to_be_killed_is_said_by_filters() {
        let other = Filter { spares_self: true, ..Filter::default() };
        check("client kill ID 7 skipme NO", Ok(Filter { id: Some(7), ..Filter::default() }));
        check("client kill id 0 skipme no", Err(LOW_ID));
        check("client kill id x skipme no", Err(LOW_ID));
        check("client kill type pubsub", Ok(Filter { listens: Some(Some(true)), ..other }));
        let other = || Filter { spares_self: true, ..Filter::default() };
        check("client kill type Replica", Ok(Filter { listens: Some(None), ..other() }));
        check("client kill type x", Err("ERR Unknown client type 'x'"));
        check("client kill user default maxage 5", Ok(Filter { max_age: Some(5), ..other() }));
        check("client kill user x", Err("ERR No such user 'x'"));
        check("client kill maxage 0", Err(LOW_AGE));
        check("client kill skipme maybe", Err(SYNTAX_ERROR));
        check("client kill id 7 type", Err(SYNTAX_ERROR));
        let addr = Some("1.2.3.4:5".to_owned());
        check("client kill addr 1.2.3.4:5", Ok(Filter { addr: addr.clone(), ..other() }));
        check("client kill laddr 1.2.3.4:5", Ok(Filter { laddr: addr, ..other() }));
    }
}
