//! DUMP and RESTORE: values in Redis's serialisation, whose bytes [`crate::rdb`] knows. So they travel between
//! kival and redis-server.

use super::options::{SYNTAX_ERROR, integer, is_word};
use super::{Categories, Command, Context, Flags, Group, KeySpec, Keys, Outcome};
use crate::config::NotifyEvents;
use crate::rdb;
use crate::resp::{Args, ErrorReply, Reply};

const BUSY_KEY: &str = "BUSYKEY Target key name already exists.";
const BAD_TTL: &str = "ERR Invalid TTL value, must be >= 0";
const BAD_IDLE_TIME: &str = "ERR Invalid IDLETIME value, must be >= 0";
const BAD_FREQUENCY: &str = "ERR Invalid FREQ value, must be >= 0 and <= 255";
const GREATEST_FREQUENCY: i64 = 255;

/// What the rows of this file have in common.
const VALUE: Command = Command {
    keys: Keys::ONE,
    categories: Categories::KEYSPACE,
    group: Group::Generic,
    since: "2.6.0",
    complexity: "O(N) with N bytes of the value",
    ..Command::BASE
};

/// Values in Redis's serialisation.
pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "dump",
        handler: dump,
        arity: 2,
        arguments: "key",
        flags: Flags::READONLY,
        key_spec: KeySpec::all(&["RO", "access"]),
        tips: &["nondeterministic_output"],
        summary: "Answers a value in Redis's serialisation.",
        ..VALUE
    },
    Command {
        name: "restore",
        handler: restore,
        arity: -4,
        arguments: "key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]",
        flags: Flags::WRITE.and(Flags::DENYOOM),
        key_spec: KeySpec::all(&["OW", "update"]),
        categories: VALUE.categories.and(Categories::DANGEROUS),
        summary: "Sets a key to a value in Redis's serialisation.",
        ..VALUE
    },
];

/// What follows the payload. IDLETIME and FREQ are checked, and tell of evictions, of which there are none.
#[derive(Debug, Default)]
struct Options {
    replace: bool,
    absolute: bool,
}

impl Options {
    fn parse(options: Args<'_>) -> Result<Options, ErrorReply> {
        let mut parsed = Options::default();
        let (mut idle, mut frequent) = (false, false);
        let mut rest = options.iter();
        while let Some(option) = rest.next() {
            if is_word(option, "REPLACE") {
                parsed.replace = true;
            } else if is_word(option, "ABSTTL") {
                parsed.absolute = true;
            } else if is_word(option, "IDLETIME") && !frequent {
                if integer(rest.next().ok_or(SYNTAX_ERROR)?)? < 0 {
                    return Err(BAD_IDLE_TIME.into());
                }
                idle = true;
            } else if is_word(option, "FREQ") && !idle {
                if !(0..=GREATEST_FREQUENCY).contains(&integer(rest.next().ok_or(SYNTAX_ERROR)?)?) {
                    return Err(BAD_FREQUENCY.into());
                }
                frequent = true;
            } else {
                return Err(SYNTAX_ERROR.into());
            }
        }
        Ok(parsed)
    }
}

fn dump(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let value = ctx.value(&args[1])?;
    Ok(value.map_or(Reply::Null, |value| Reply::bulk(rdb::dump(&value))))
}

fn restore(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let key = &args[1];
    let options = Options::parse(args.tail(4))?;
    if !options.replace && ctx.peek(key)?.is_some() {
        return Err(BUSY_KEY.into());
    }
    let lifetime = u64::try_from(integer(&args[2])?).map_err(|_| BAD_TTL)?;
    let most = ctx.server.config.proto_max_bulk_len;
    let value = rdb::restore(&args[3], most).map_err(|error| format!("ERR {error}"))?;
    let expiry = match lifetime {
        0 => 0,
        at if options.absolute => at,
        lifetime => ctx.now() + lifetime,
    };
    // One beyond what Redis counts to is past for it.
    if expiry != 0 && (expiry <= ctx.now() || i64::try_from(expiry).is_err()) {
        if ctx.delete(key)? {
            ctx.notify(NotifyEvents::GENERIC, "del", key);
        }
    } else {
        if ctx.peek(key)?.is_some() {
            // As in Redis, what stood there goes first, so that the key is new.
            ctx.notify(NotifyEvents::NEW, "new", key);
        }
        ctx.put(key, &value, expiry)?;
        ctx.notify(NotifyEvents::GENERIC, "restore", key);
    }
    Ok(Reply::Ok)
}
