//! The connection itself: who it is, what it speaks, which database it means. What a connection tells of
//! itself and of others is in `client`.

use super::options::{SYNTAX_ERROR, database, is_word};
use super::{
    Abort, Categories, Command, Context, Flags, Group, Outcome, client, info, monitor, pubsub, redact,
    transaction,
};
use crate::number::parse_i64;
use crate::resp::{Args, Protocol, Reply};

/// The one user there is.
const DEFAULT_USER: &[u8] = b"default";

const WRONGPASS: &str = "WRONGPASS invalid username-password pair or user is disabled.";
const NO_PASSWORD_SET: &str = "ERR AUTH <password> called without any password configured for the default \
    user. Are you sure your configuration is correct?";
const HELLO_NEEDS_AUTH: &str = "NOAUTH HELLO must be called with the client already authenticated, \
    otherwise the HELLO AUTH <user> <pass> option can be used to authenticate the client and select the \
    RESP protocol version at the same time";
const NOT_A_VERSION: &str = "ERR Protocol version is not an integer or out of range";
const UNKNOWN_VERSION: &str = "NOPROTO unsupported protocol version";

/// What the rows of this file have in common.
const CONNECTION: Command = Command {
    flags: Flags::LOADING.and(Flags::STALE).and(Flags::FAST),
    categories: Categories::CONNECTION,
    group: Group::Connection,
    ..Command::BASE
};

/// What is allowed before authentication.
const ALWAYS: Flags = CONNECTION.flags.and(Flags::NOSCRIPT).and(Flags::NO_AUTH).and(Flags::ALLOW_BUSY);

/// The connection.
pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "auth",
        handler: auth,
        secrets: redact::all_arguments,
        arity: -2,
        arguments: "[username] password",
        flags: ALWAYS,
        complexity: "O(1)",
        summary: "Authenticates the connection.",
        ..CONNECTION
    },
    Command {
        name: "echo",
        handler: echo,
        arity: 2,
        arguments: "message",
        summary: "Answers its argument.",
        ..CONNECTION
    },
    Command {
        name: "hello",
        handler: hello,
        secrets: redact::of_hello,
        arity: -1,
        arguments: "arguments=[protover [AUTH (username password)] [SETNAME clientname]]",
        flags: ALWAYS,
        since: "6.0.0",
        summary: "Chooses the version of the protocol, authenticates and names the connection if asked to, \
            and tells of the server.",
        ..CONNECTION
    },
    Command {
        name: "ping",
        handler: ping,
        arity: -1,
        arguments: "[message]",
        flags: Flags::FAST.and(Flags::WHILE_SUBSCRIBED),
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        summary: "Answers PONG, or its argument.",
        ..CONNECTION
    },
    Command {
        name: "quit",
        handler: quit,
        arity: -1,
        flags: ALWAYS.and(Flags::UNQUEUED).and(Flags::WHILE_SUBSCRIBED),
        summary: "Ends the connection behind the replies so far.",
        ..CONNECTION
    },
    Command {
        name: "reset",
        handler: reset,
        arity: 1,
        flags: ALWAYS.and(Flags::UNQUEUED).and(Flags::WHILE_SUBSCRIBED),
        since: "6.2.0",
        summary: "Makes the connection as if it were new.",
        ..CONNECTION
    },
    Command {
        name: "select",
        handler: select,
        arity: 2,
        arguments: "index",
        summary: "Chooses the database that later commands mean.",
        ..CONNECTION
    },
];

fn ping(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let listens = ctx.session.subscriptions.is_some() && ctx.session.protocol == Protocol::Resp2;
    match args.len() {
        // Among messages it must look like one.
        1 if listens => Ok(Reply::Array(vec!["pong".into(), "".into()])),
        2 if listens => Ok(Reply::Array(vec!["pong".into(), Reply::Bulk(args.bytes(1))])),
        1 => Ok(Reply::status("PONG")),
        2 => Ok(Reply::Bulk(args.bytes(1))),
        _ => Err("ERR wrong number of arguments for 'ping' command".into()),
    }
}

fn echo(_: &mut Context<'_>, args: Args<'_>) -> Outcome {
    Ok(Reply::Bulk(args.bytes(1)))
}

fn quit(ctx: &mut Context<'_>, _: Args<'_>) -> Outcome {
    ctx.session.closing = true;
    Ok(Reply::Ok)
}

fn reset(ctx: &mut Context<'_>, _: Args<'_>) -> Outcome {
    let authenticated = ctx.server.config.requirepass.is_empty();
    ctx.server.durability_changed |= ctx.session.durability.is_some();
    transaction::abandon(ctx);
    pubsub::forget(ctx);
    monitor::end(ctx);
    ctx.store.stop_tracking(ctx.client);
    ctx.session.reset(authenticated);
    Ok(Reply::status("RESET"))
}

fn select(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    ctx.session.db = database(&args[1], ctx.server.config.databases)?;
    Ok(Reply::Ok)
}

fn auth(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let (user, password) = match args.len() {
        2 if ctx.server.config.requirepass.is_empty() => return Err(NO_PASSWORD_SET.into()),
        2 => (DEFAULT_USER, &args[1]),
        3 => (&args[1], &args[2]),
        _ => return Err(SYNTAX_ERROR.into()),
    };
    authenticate(ctx, user, password)?;
    Ok(Reply::Ok)
}

/// Lets the client in, or not. Without a configured password any will do.
fn authenticate(ctx: &mut Context<'_>, user: &[u8], password: &[u8]) -> Result<(), Abort> {
    let required = &ctx.server.config.requirepass;
    let right = user == DEFAULT_USER && (required.is_empty() || is_password(required.expose(), password));
    if !right {
        return Err(WRONGPASS.into());
    }
    ctx.session.authenticated = true;
    Ok(())
}

/// Compares in a time that depends on `given` alone.
fn is_password(required: &[u8], given: &[u8]) -> bool {
    let pairs = given.iter().zip(required.iter().cycle());
    let difference = pairs.fold(0, |difference, (one, other)| difference | (one ^ other));
    std::hint::black_box(difference) == 0 && required.len() == given.len()
}

fn hello(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let protocol = args.get(1).map(protocol).transpose()?;
    // As in Redis, options before one that is wrong have taken effect.
    let mut rest = args.tail(2);
    while let Some(option) = rest.get(0) {
        if is_word(option, "auth") && rest.len() > 2 {
            authenticate(ctx, &rest[1], &rest[2])?;
            rest = rest.tail(3);
        } else if is_word(option, "setname") && rest.len() > 1 {
            client::set_name(ctx.session, &rest[1])?;
            rest = rest.tail(2);
        } else {
            return Err(Abort::Error([b"ERR Syntax error in HELLO option '", option, b"'"].concat().into()));
        }
    }
    if !ctx.session.authenticated {
        return Err(HELLO_NEEDS_AUTH.into());
    }
    if let Some(protocol) = protocol {
        ctx.session.protocol = protocol;
    }
    Ok(Reply::fields([
        ("server", Reply::bulk("redis")),
        ("version", Reply::bulk(info::REDIS_VERSION)),
        ("proto", Reply::Integer(ctx.session.protocol.version())),
        ("id", Reply::Integer(ctx.session.id.cast_signed())),
        ("mode", Reply::bulk("standalone")),
        ("role", Reply::bulk("master")),
        ("modules", Reply::Array(Vec::new())),
    ]))
}

fn protocol(version: &[u8]) -> Result<Protocol, Abort> {
    match parse_i64(version) {
        Some(2) => Ok(Protocol::Resp2),
        Some(3) => Ok(Protocol::Resp3),
        Some(_) => Err(UNKNOWN_VERSION.into()),
        None => Err(NOT_A_VERSION.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_password_is_the_password() {
        assert!(is_password(b"sesame", b"sesame"));
        for wrong in ["", "s", "sesam", "sesamesesame", "Sesame", "sesame\0"] {
            assert!(!is_password(b"sesame", wrong.as_bytes()), "{wrong:?}");
        }
    }

    #[test]
    fn there_are_two_versions_of_the_protocol() {
        assert_eq!(protocol(b"3").ok(), Some(Protocol::Resp3));
        for wrong in ["1", "4", "x", ""] {
            assert!(protocol(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
    }
}
