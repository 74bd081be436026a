//! When keys expire: setting, asking, taking it back. How expired keys go is the engine's.

use super::generic::glance;
use super::options::{Time, c_string, integer, invalid_expire_time, is_word};
use super::{Categories, Command, Context, Flags, KeySpec, Keys, Outcome};
use crate::config::NotifyEvents;
use crate::resp::{Args, ErrorReply, Reply};

/// What the rows of commands that change an expiry have in common.
const CHANGE: Command = Command {
    arity: -3,
    flags: Flags::WRITE.and(Flags::FAST),
    keys: Keys::ONE,
    key_spec: KeySpec::all(&["RW", "update"]),
    categories: Categories::KEYSPACE,
    ..Command::BASE
};

/// What the rows of commands that ask for one have in common.
const QUESTION: Command = Command {
    arity: 2,
    flags: Flags::READONLY.and(Flags::FAST),
    keys: Keys::ONE,
    key_spec: KeySpec::all(&["RO", "access"]),
    categories: Categories::KEYSPACE,
    ..Command::BASE
};

/// When keys expire.
pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "expire",
        handler: expire,
        arguments: "key seconds condition=[NX | XX | GT | LT]",
        summary: "Lets a key expire in a number of seconds.",
        ..CHANGE
    },
    Command {
        name: "expireat",
        handler: expireat,
        arguments: "key unix-time-seconds condition=[NX | XX | GT | LT]",
        since: "1.2.0",
        summary: "Lets a key expire at a Unix time in seconds.",
        ..CHANGE
    },
    Command {
        name: "expiretime",
        handler: expiretime,
        arguments: "key",
        since: "7.0.0",
        summary: "Answers the Unix time in seconds at which a key expires.",
        ..QUESTION
    },
    Command {
        name: "persist",
        handler: persist,
        arity: 2,
        arguments: "key",
        since: "2.2.0",
        summary: "Lets a key stay until it is removed.",
        ..CHANGE
    },
    Command {
        name: "pexpire",
        handler: pexpire,
        arguments: "key milliseconds condition=[NX | XX | GT | LT]",
        since: "2.6.0",
        summary: "Lets a key expire in a number of milliseconds.",
        ..CHANGE
    },
    Command {
        name: "pexpireat",
        handler: pexpireat,
        arguments: "key unix-time-milliseconds condition=[NX | XX | GT | LT]",
        since: "2.6.0",
        summary: "Lets a key expire at a Unix time in milliseconds.",
        ..CHANGE
    },
    Command {
        name: "pexpiretime",
        handler: pexpiretime,
        arguments: "key",
        since: "7.0.0",
        summary: "Answers the Unix time in milliseconds at which a key expires.",
        ..QUESTION
    },
    Command {
        name: "pttl",
        handler: pttl,
        arguments: "key",
        since: "2.6.0",
        summary: "Answers in how many milliseconds a key expires.",
        tips: &["nondeterministic_output"],
        ..QUESTION
    },
    Command {
        name: "ttl",
        handler: ttl,
        arguments: "key",
        summary: "Answers in how many seconds a key expires.",
        tips: &["nondeterministic_output"],
        ..QUESTION
    },
];

fn expire(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    expire_by(ctx, args, Time::Seconds, "expire")
}

fn pexpire(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    expire_by(ctx, args, Time::Milliseconds, "pexpire")
}

fn expireat(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    expire_by(ctx, args, Time::UnixSeconds, "expireat")
}

fn pexpireat(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    expire_by(ctx, args, Time::UnixMilliseconds, "pexpireat")
}

fn expire_by(ctx: &mut Context<'_>, args: Args<'_>, time: Time, command: &str) -> Outcome {
    let key = &args[1];
    let conditions = Conditions::parse(args.tail(3))?;
    let at = time.unix_milliseconds(integer(&args[2])?, ctx.now());
    let at = at.ok_or_else(|| invalid_expire_time(command))?;
    let Some(entry) = ctx.peek(key)? else { return Ok(Reply::Integer(0)) };
    if !conditions.allow(entry.expiry, at) {
        return Ok(Reply::Integer(0));
    }
    // At or before 0 is past too: 0 in the store would mean never.
    match u64::try_from(at) {
        Ok(at) if at > ctx.now() => {
            ctx.set_expiry(key, at)?;
            ctx.notify(NotifyEvents::GENERIC, "expire", key);
        }
        _ => {
            ctx.delete(key)?;
            ctx.notify(NotifyEvents::GENERIC, "del", key);
        }
    }
    Ok(Reply::Integer(1))
}

/// When EXPIRE changes an expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Conditions {
    /// NX: if there is none.
    absent: bool,
    /// XX: if there is one.
    present: bool,
    /// GT: if the new one is later; none is later than all.
    later: bool,
    /// LT: if the new one is earlier.
    earlier: bool,
}

impl Conditions {
    /// Reads what follows the time.
    fn parse(options: Args<'_>) -> Result<Conditions, ErrorReply> {
        let mut conditions = Conditions::default();
        for option in options {
            let condition = match option {
                _ if is_word(option, "NX") => &mut conditions.absent,
                _ if is_word(option, "XX") => &mut conditions.present,
                _ if is_word(option, "GT") => &mut conditions.later,
                _ if is_word(option, "LT") => &mut conditions.earlier,
                _ => return Err([b"ERR Unsupported option ", c_string(option)].concat().into()),
            };
            *condition = true;
        }
        let Conditions { absent, present, later, earlier } = conditions;
        if absent && (present || later || earlier) {
            return Err("ERR NX and XX, GT or LT options at the same time are not compatible".into());
        }
        if later && earlier {
            return Err("ERR GT and LT options at the same time are not compatible".into());
        }
        Ok(conditions)
    }

    /// Whether an expiry, 0 for none, may become `new`.
    fn allow(self, old: u64, new: i64) -> bool {
        let (has_one, new) = (old != 0, i128::from(new));
        let old = i128::from(old);
        !(self.absent && has_one
            || self.present && !has_one
            || self.later && (!has_one || new <= old)
            || self.earlier && has_one && new >= old)
    }
}

fn persist(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let expires = ctx.peek(&args[1])?.is_some_and(|entry| entry.expiry != 0);
    if expires {
        ctx.set_expiry(&args[1], 0)?;
        ctx.notify(NotifyEvents::GENERIC, "persist", &args[1]);
    }
    Ok(Reply::Integer(expires.into()))
}

fn ttl(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let now = ctx.now();
    ask(ctx, &args[1], |expiry| to_seconds(expiry.saturating_sub(now)))
}

fn pttl(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let now = ctx.now();
    ask(ctx, &args[1], |expiry| expiry.saturating_sub(now))
}

fn expiretime(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    ask(ctx, &args[1], to_seconds)
}

fn pexpiretime(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    ask(ctx, &args[1], |expiry| expiry)
}

/// What is to be told of a key's expiry; -1 if it has none, -2 if there is no such key.
fn ask(ctx: &mut Context<'_>, key: &[u8], tell: impl Fn(u64) -> u64) -> Outcome {
    Ok(Reply::Integer(match glance(ctx, key)? {
        Some(entry) if entry.expiry != 0 => tell(entry.expiry) as i64,
        Some(_) => -1,
        None => -2,
    }))
}

/// Seconds, to the nearest.
fn to_seconds(milliseconds: u64) -> u64 {
    (milliseconds + 500) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::Batch;

    fn parse(options: &str) -> Result<Conditions, String> {
        let batch = Batch::from_args(std::iter::once("expire").chain(options.split_whitespace()));
        Conditions::parse(batch.command(0).tail(1)).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn check_error(options: &str, expected: &str) {
        assert_eq!(parse(options), Err(expected.to_owned()), "{options}");
    }

    /// Whether an expiry at `new` may replace one at `old` (0: none).
    #[track_caller]
    fn check(options: &str, old: u64, new: i64, expected: bool) {
        assert_eq!(parse(options).map(|conditions| conditions.allow(old, new)), Ok(expected), "{options}");
    }

    #[test]
    fn conditions_that_exclude_each_other_are_refused() {
        let nx = "ERR NX and XX, GT or LT options at the same time are not compatible";
        for options in ["nx xx", "GT nx", "lt NX", "nx gt lt"] {
            check_error(options, nx);
        }
        check_error("gt lt", "ERR GT and LT options at the same time are not compatible");
        check_error("xx lt gt", "ERR GT and LT options at the same time are not compatible");
    }

    #[test]
    fn an_unknown_condition_is_named_up_to_a_nul() {
        check_error("foo", "ERR Unsupported option foo");
        check_error("nx xx Foo\0bar", "ERR Unsupported option Foo");
    }

    #[test]
    fn without_a_condition_every_expiry_is_allowed() {
        check("", 0, 10, true);
        check("", 10, -10, true);
    }

    #[test]
    fn nx_and_xx_ask_whether_there_is_an_expiry() {
        check("nx", 0, 10, true);
        check("nx nx", 10, 20, false);
        check("xx", 0, 10, false);
        check("Xx", 10, 20, true);
    }

    #[test]
    fn gt_and_lt_compare_and_no_expiry_is_the_latest() {
        check("gt", 10, 11, true);
        check("gt", 10, 10, false);
        check("gt", 0, 10, false);
        check("lt", 10, 9, true);
        check("lt", 10, 10, false);
        check("lt", 0, i64::MAX, true);
        check("lt", 10, -5, true);
        check("xx lt", 0, 10, false);
        check("xx gt", 10, 11, true);
    }

    #[test]
    fn seconds_are_the_nearest() {
        assert_eq!([0, 499, 500, 1499, i64::MAX as u64].map(to_seconds), [0, 0, 1, 1, 9_223_372_036_854_776]);
    }
}
