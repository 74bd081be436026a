//! CLIENT: what connections tell of themselves, and of each other.

mod steer;
mod tracking;

use super::introspection::help;
use super::options::{SYNTAX_ERROR, c_string, is_word};
use super::{Abort, Categories, Command, Context, Flags, Group, Outcome};
use crate::engine_task::park::Parked;
use crate::engine_task::session::Session;
use crate::engine_task::tracking::Tracker;
use crate::engine_task::transaction::Watched;
use crate::number::parse_i64;
use crate::resp::{Args, ErrorReply, Reply};

const BAD_NAME: &str = "ERR Client names cannot contain spaces, newlines or special characters.";
const BAD_ID: &str = "ERR Invalid client ID";

/// What the subcommands have in common.
const SUBCOMMAND: Command = Command {
    arity: 2,
    flags: Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE).and(Flags::KEEPS_CACHING),
    categories: Categories::CONNECTION,
    group: Group::Connection,
    ..Command::BASE
};

/// Clients.
pub(super) const COMMANDS: &[Command] = &[Command {
    name: "client",
    arity: -2,
    group: Group::Connection,
    since: "2.4.0",
    complexity: "That of the subcommand",
    summary: "Holds the commands about connections.",
    subcommands: &[
        tracking::CACHING,
        Command {
            name: "getname",
            handler: get_name,
            since: "2.6.9",
            summary: "Answers the name of this connection.",
            ..SUBCOMMAND
        },
        tracking::GETREDIR,
        Command {
            name: "help",
            handler: help,
            flags: Flags::LOADING.and(Flags::STALE),
            since: "5.0.0",
            summary: "Lists the subcommands.",
            ..SUBCOMMAND
        },
        Command {
            name: "id",
            handler: id,
            since: "5.0.0",
            summary: "Answers the id of this connection.",
            ..SUBCOMMAND
        },
        Command {
            name: "info",
            handler: info,
            since: "6.2.0",
            tips: &["nondeterministic_output"],
            summary: "Describes this connection in one line.",
            ..SUBCOMMAND
        },
        steer::KILL,
        Command {
            name: "list",
            handler: list,
            arity: -2,
            arguments: "[TYPE (NORMAL | MASTER | REPLICA | PUBSUB)] [id=ID (client-id ...)]",
            flags: SUBCOMMAND.flags.and(Flags::ADMIN),
            since: "2.4.0",
            complexity: "O(N) with N clients or commands",
            tips: &["nondeterministic_output"],
            summary: "Describes connections, a line each: all, those of a type (TYPE type), or those with \
                certain ids (ID id ...).",
            ..SUBCOMMAND
        },
        steer::NO_EVICT,
        steer::NO_TOUCH,
        steer::PAUSE,
        steer::REPLY,
        Command {
            name: "setinfo",
            handler: set_info,
            arity: 4,
            arguments: "attr=(LIB-NAME libname | LIB-VER libver)",
            since: "7.2.0",
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            summary: "Notes the client library of this connection (LIB-NAME name) or its version \
                (LIB-VER version).",
            ..SUBCOMMAND
        },
        Command {
            name: "setname",
            handler: set_own_name,
            arity: 3,
            arguments: "connection-name",
            since: "2.6.9",
            summary: "Names this connection; an empty name takes it back.",
            ..SUBCOMMAND
        },
        tracking::TRACKING,
        tracking::TRACKINGINFO,
        steer::UNBLOCK,
        steer::UNPAUSE,
    ],
    ..Command::BASE
}];

fn id(ctx: &mut Context<'_>, _: Args<'_>) -> Outcome {
    Ok(Reply::Integer(ctx.session.id.cast_signed()))
}

fn get_name(ctx: &mut Context<'_>, _: Args<'_>) -> Outcome {
    let name = &ctx.session.name;
    Ok(if name.is_empty() { Reply::Null } else { Reply::bulk(name.clone()) })
}

fn set_own_name(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    set_name(ctx.session, &args[2])?;
    Ok(Reply::Ok)
}

/// Names a connection.
pub(super) fn set_name(session: &mut Session, name: &[u8]) -> Result<(), Abort> {
    if !fits_in_a_line(name) {
        return Err(BAD_NAME.into());
    }
    session.name = name.to_vec();
    Ok(())
}

/// Whether CLIENT LIST can show it as one word.
fn fits_in_a_line(word: &[u8]) -> bool {
    word.iter().all(u8::is_ascii_graphic)
}

fn set_info(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let (attribute, value) = (&args[2], &args[3]);
    let field = if is_word(attribute, "lib-name") {
        &mut ctx.session.lib_name
    } else if is_word(attribute, "lib-ver") {
        &mut ctx.session.lib_ver
    } else {
        return Err(ErrorReply::from([b"ERR Unrecognized option '", attribute, b"'"].concat()).into());
    };
    if !fits_in_a_line(value) {
        let why = b" cannot contain spaces, newlines or special characters.";
        return Err(ErrorReply::from([b"ERR ", attribute, why].concat()).into());
    }
    *field = value.to_vec();
    Ok(Reply::Ok)
}

fn info(ctx: &mut Context<'_>, _: Args<'_>) -> Outcome {
    Ok(lines(ctx, std::iter::once(&*ctx.session)))
}

fn list(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let mut all: Vec<&Session> = ctx.clients.iter().chain([&*ctx.session]).collect();
    all.retain(|session| !ctx.clients.killed.iter().any(|killed| killed.id == session.id));
    all.sort_unstable_by_key(|session| session.id);
    let wanted = match parse_selection(args)? {
        Selection::All => all,
        Selection::Listening(listening) => {
            all.retain(|session| session.subscriptions.is_some() == listening);
            all
        }
        Selection::None => Vec::new(),
        Selection::Ids(ids) => ids
            .iter()
            .filter_map(|id| all.binary_search_by_key(id, |session| session.id).ok())
            .map(|index| all[index])
            .collect(),
    };
    Ok(lines(ctx, wanted.into_iter()))
}

/// Which connections CLIENT LIST is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Selection {
    All,
    /// Those that listen to messages, or those that do not.
    Listening(bool),
    /// Those of a type that no connection here is of.
    None,
    /// In the order asked for.
    Ids(Vec<u64>),
}

fn parse_selection(args: Args<'_>) -> Result<Selection, Abort> {
    match (args.len(), args.get(2)) {
        (2, _) => Ok(Selection::All),
        (4, Some(option)) if is_word(option, "type") => {
            let kind = &args[3];
            if is_word(kind, "normal") {
                Ok(Selection::Listening(false))
            } else if is_word(kind, "pubsub") {
                Ok(Selection::Listening(true))
            } else if ["slave", "replica", "master"].iter().any(|other| is_word(kind, other)) {
                Ok(Selection::None)
            } else {
                Err(unknown_type(kind))
            }
        }
        (4.., Some(option)) if is_word(option, "id") => {
            let mut ids = Vec::with_capacity(args.len() - 3);
            for text in args.tail(3) {
                let id = parse_i64(text).ok_or(BAD_ID)?;
                // There is none with a negative one.
                ids.extend(u64::try_from(id));
            }
            Ok(Selection::Ids(ids))
        }
        _ => Err(SYNTAX_ERROR.into()),
    }
}

fn unknown_type(kind: &[u8]) -> Abort {
    ErrorReply::from([b"ERR Unknown client type '", c_string(kind), b"'"].concat()).into()
}

fn lines<'a>(ctx: &Context<'_>, sessions: impl Iterator<Item = &'a Session>) -> Reply {
    let trackers = ctx.store.tracking.by_id();
    let is_touched =
        |watched: &Watched| ctx.store.watches.changes(watched.db, &watched.key) != watched.changes;
    let one = |session: &Session| {
        line(session, trackers.get(&session.id).copied(), session.watched.iter().any(is_touched))
    };
    let text: String = sessions.map(one).collect();
    Reply::Verbatim { format: "txt", text: text.into() }
}

/// The line of one connection, with the fields of Redis 7.2. What does not exist here is shown as Redis
/// shows it where it is not in use. `touched`: a key that it watches was changed.
fn line(session: &Session, tracker: Option<&Tracker>, touched: bool) -> String {
    let text = String::from_utf8_lossy;
    let output = session.unsent();
    let queued = session.transaction.as_deref();
    let multi_mem = queued.map_or(0, |transaction| transaction.bytes);
    let memory = session.memory();
    let waits = session.parked.as_ref().is_some_and(Parked::is_blocked);
    let listens = session.subscriptions.is_some();
    let manner = session.manner;
    let all = [
        (session.monitors, 'O'),
        (listens, 'P'),
        (queued.is_some(), 'x'),
        (waits, 'b'),
        (tracker.is_some(), 't'),
        (tracker.is_some_and(|own| own.broken), 'R'),
        (tracker.is_some_and(|own| own.broadcast), 'B'),
        (touched, 'd'),
        (session.closing, 'c'),
        (manner.no_evict, 'e'),
        (manner.no_touch, 'T'),
    ];
    let mut flags: String = all.iter().filter(|(set, _)| *set).map(|(_, letter)| letter).collect();
    if flags.is_empty() {
        flags.push('N');
    }
    let (sub, psub, ssub) = session
        .subscriptions
        .as_ref()
        .map_or((0, 0, 0), |own| (own.channels.len(), own.patterns.len(), own.shards.len()));
    let command = session.last_command_name();
    format!(
        "id={id} addr={addr} laddr={laddr} fd={fd} name={name} age={age} idle={idle} flags={flags} db={db} \
         sub={sub} psub={psub} ssub={ssub} multi={multi} qbuf={qbuf} qbuf-free=0 argv-mem=0 multi-mem={multi_mem} rbs=0 rbp=0 obl=0 \
         oll={oll} omem={output} tot-mem={memory} events={events} cmd={command} user=default redir={redir} \
         resp={resp} lib-name={lib_name} lib-ver={lib_ver}\n",
        id = session.id,
        fd = session.fd,
        addr = session.addr,
        laddr = session.laddr,
        name = text(&session.name),
        age = session.since.elapsed().as_secs(),
        idle = session.active.elapsed().as_secs(),
        db = session.db,
        multi = queued.map_or(-1, |transaction| transaction.queue.len() as i64),
        qbuf = session.query_bytes,
        oll = session.held.len(),
        events = if output > 0 { "rw" } else { "r" },
        redir = tracking::redirection(tracker),
        resp = session.protocol.version(),
        lib_name = text(&session.lib_name),
        lib_ver = text(&session.lib_ver),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine_task::session::Manner;
    use crate::net::outbox::outbox;
    use crate::resp::{Batch, Protocol};
    use std::collections::VecDeque;
    use std::time::Instant;

    fn session() -> Session {
        Session {
            id: 7,
            fd: 9,
            addr: ([127, 0, 0, 1], 5000).into(),
            laddr: ([127, 0, 0, 1], 6380).into(),
            db: 3,
            protocol: Protocol::Resp3,
            authenticated: true,
            durability: None,
            name: b"worker".to_vec(),
            lib_name: Vec::new(),
            lib_ver: b"1.2".to_vec(),
            since: Instant::now(),
            active: Instant::now(),
            last_command: None,
            last_word: None,
            input_ended: false,
            query_bytes: 12,
            bytes_in: 0,
            bytes_out: 0,
            closing: false,
            manner: Manner::default(),
            outbox: outbox(None).0,
            parked: None,
            read: Vec::new(),
            backlog: VecDeque::new(),
            transaction: None,
            watched: Vec::new(),
            held: VecDeque::new(),
            held_bytes: 0,
            subscriptions: None,
            monitors: false,
            pushed: None,
            over_soft_limit: None,
        }
    }

    #[test]
    fn a_line_has_the_fields_of_redis_in_its_order() {
        let line = line(&session(), None, false);
        let names: Vec<&str> = line.split_whitespace().filter_map(|field| field.split('=').next()).collect();
        assert_eq!(
            names.join(" "),
            "id addr laddr fd name age idle flags db sub psub ssub multi qbuf qbuf-free argv-mem multi-mem \
             rbs rbp obl oll omem tot-mem events cmd user redir resp lib-name lib-ver"
        );
        for part in [
            "id=7 addr=127.0.0.1:5000 laddr=127.0.0.1:6380 fd=9 ",
            " name=worker age=0 idle=0 flags=N db=3 ",
            " qbuf=12 ",
            " cmd=NULL user=default redir=-1 resp=3 lib-name= lib-ver=1.2\n",
        ] {
            assert!(line.contains(part), "{part:?} in {line:?}");
        }
    }

    #[track_caller]
    fn check(words: &str, expected: Result<Selection, &str>) {
        let batch = Batch::from_args(words.split(' '));
        let selection = parse_selection(batch.command(0)).map_err(|abort| match abort {
            Abort::Error(error) => error.to_string(),
            other => panic!("{other:?}"),
        });
        assert_eq!(selection, expected.map_err(str::to_owned), "{words}");
    }

    #[test]
    fn the_list_can_be_narrowed() {
        check("client list", Ok(Selection::All));
        check("client list TYPE Normal", Ok(Selection::Listening(false)));
        check("client list type pubsub", Ok(Selection::Listening(true)));
        check("client list type replica", Ok(Selection::None));
        check("client list type x", Err("ERR Unknown client type 'x'"));
        check("client list type normal x", Err(SYNTAX_ERROR));
        check("client list id 4 2 -1 4", Ok(Selection::Ids(vec![4, 2, 4])));
        check("client list id", Err(SYNTAX_ERROR));
        check("client list id x", Err(BAD_ID));
        check("client list foo", Err(SYNTAX_ERROR));
    }

    #[test]
    fn names_are_one_visible_word() {
        let mut session = session();
        assert!(set_name(&mut session, b"a b").is_err());
        assert!(set_name(&mut session, b"a\n").is_err());
        assert_eq!(session.name, b"worker");
        assert!(set_name(&mut session, b"!~").is_ok() && session.name == b"!~");
        assert!(set_name(&mut session, b"").is_ok() && session.name.is_empty());
    }
}
