//! MIGRATE: what goes where. How it travels is in `net/transfer.rs`, when, and what becomes of it here, in
//! `engine_task/migrate.rs`.

use super::options::{SYNTAX_ERROR, integer, is_word};
use super::{Abort, Categories, Command, Context, Flags, Group, KeySpec, Keys, KeysBehind, Outcome};
use crate::engine_task::migrate::Migration;
use crate::net::transfer::Target;
use crate::resp::{Args, ErrorReply, Reply};
use bytes::Bytes;
use std::ops::Range;
use std::time::Duration;

const KEYS_AND_KEY: &str =
    "ERR When using MIGRATE KEYS option, the key argument must be set to the empty string";
/// For a timeout that is none.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);

/// Places of the arguments that every request has.
const HOST: usize = 1;
const PORT: usize = 2;
const KEY: usize = 3;
const DATABASE: usize = 4;
const TIMEOUT: usize = 5;
const OPTIONS: usize = 6;

/// Keys that change their server.
pub(super) const COMMANDS: &[Command] = &[Command {
    name: "migrate",
    handler: migrate,
    arity: -6,
    arguments: "host port key_or_empty_string=(key | empty_string=\"\") destination-db timeout [COPY] [REPLACE] \
        authentication=[[AUTH password] | [username_password=AUTH2 (username password)]] [KEYS key ...]",
    flags: Flags::WRITE.and(Flags::MOVABLEKEYS).and(Flags::GOES_OUT),
    keys: Keys { first: KEY, last: KEY as i32, step: 1 },
    keys_behind: Some(KeysBehind { word: "KEYS", from: -2, find: keys_behind_word }),
    key_spec: KeySpec::all(&["RW", "access", "delete"]),
    categories: Categories::KEYSPACE.and(Categories::DANGEROUS),
    group: Group::Generic,
    since: "2.6.0",
    complexity: "O(N) with N bytes of the values, which another thread sends",
    tips: &["nondeterministic_output"],
    summary: "Moves keys to another server, or copies them (COPY).",
    secrets,
    ..Command::BASE
}];

/// A word of the options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Copy,
    Replace,
    Auth,
    Auth2,
    Keys,
}

/// Each with the number of arguments that belong to it; behind KEYS there are only keys.
const WORDS: [(&str, Word, usize); 5] = [
    ("COPY", Word::Copy, 0),
    ("REPLACE", Word::Replace, 0),
    ("AUTH", Word::Auth, 1),
    ("AUTH2", Word::Auth2, 2),
    ("KEYS", Word::Keys, usize::MAX),
];

/// The words of the options with their places; `None` where no word is known.
fn words(args: Args<'_>) -> impl Iterator<Item = (usize, Option<Word>)> {
    let mut next = OPTIONS;
    std::iter::from_fn(move || {
        let (at, word) = (next, args.get(next)?);
        let known = WORDS.into_iter().find(|(name, ..)| is_word(word, name));
        next = next.saturating_add(1).saturating_add(known.map_or(0, |(_, _, takes)| takes));
        Some((at, known.map(|(_, word, _)| word)))
    })
}

/// Where the keys stand if KEYS is said, as Redis finds them: none if there is another key too. At the very end
/// the word has no meaning.
fn keys_behind_word(args: Args<'_>) -> Option<Range<usize>> {
    let end = args.len();
    if !(PORT..end.saturating_sub(1)).any(|at| is_word(&args[at], "KEYS")) {
        return None;
    }
    let (at, _) = words(args).find(|(_, word)| *word == Some(Word::Keys))?;
    Some(if args[KEY].is_empty() { at + 1..end } else { 0..0 })
}

/// The passwords and users of AUTH and AUTH2.
fn secrets(args: Args<'_>) -> Vec<usize> {
    let of = |(at, word)| match word {
        Some(Word::Auth) => at + 1..at + 2,
        Some(Word::Auth2) => at + 1..at + 3,
        _ => 0..0,
    };
    words(args).flat_map(of).collect()
}

/// What is said behind the timeout.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    copy: bool,
    replace: bool,
    credentials: Range<usize>,
    keys: Range<usize>,
}

impl Options {
    fn parse(args: Args<'_>) -> Result<Options, ErrorReply> {
        let mut parsed = Options { copy: false, replace: false, credentials: 0..0, keys: KEY..KEY + 1 };
        for (at, word) in words(args) {
            match word.ok_or(SYNTAX_ERROR)? {
                Word::Copy => parsed.copy = true,
                Word::Replace => parsed.replace = true,
                Word::Auth => parsed.credentials = at + 1..at + 2,
                Word::Auth2 => parsed.credentials = at + 1..at + 3,
                Word::Keys if args[KEY].is_empty() => parsed.keys = at + 1..args.len(),
                Word::Keys => return Err(KEYS_AND_KEY.into()),
            }
            if parsed.credentials.end > args.len() {
                return Err(SYNTAX_ERROR.into());
            }
        }
        Ok(parsed)
    }
}

/// As C's `atoi`, which Redis asks: what follows the digits does not count, and without any it is 0.
fn port(text: &[u8]) -> u16 {
    let digits = text.trim_ascii_start().iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0_u16, |port, digit| port.saturating_mul(10).saturating_add(u16::from(digit - b'0')))
}

/// `MIGRATE host port key|"" destination-db timeout [COPY] [REPLACE] [AUTH password | AUTH2 user password]
/// [KEYS key ...]`
fn migrate(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let options = Options::parse(args)?;
    let timeout = u64::try_from(integer(&args[TIMEOUT])?).ok().filter(|&milliseconds| milliseconds > 0);
    let target = Target {
        host: Bytes::copy_from_slice(&args[HOST]),
        port: port(&args[PORT]),
        db: integer(&args[DATABASE])?,
        credentials: options.credentials.map(|at| Bytes::copy_from_slice(&args[at])).collect(),
        timeout: timeout.map_or(DEFAULT_TIMEOUT, Duration::from_millis),
        replace: options.replace,
    };
    let mut migration = Migration::new(target, ctx.session.db, options.copy);
    for key in options.keys.map(|at| &args[at]) {
        if let Some(entry) = ctx.lookup(key)? {
            let value = ctx.value_of(key, &entry)?;
            migration.add(ctx.store, key, value, &entry);
        }
    }
    if migration.is_empty() { Ok(Reply::status("NOKEY")) } else { Err(Abort::Migrate(Box::new(migration))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::Batch;

    fn request(key: &str, options: &str) -> Batch {
        let head = ["migrate", "host", "port", key, "0", "1"];
        Batch::from_args(head.into_iter().chain(options.split_whitespace()))
    }

    #[track_caller]
    fn check(key: &str, options: &str, expected: Result<(&str, &str, &str), &str>) {
        let batch = request(key, options);
        let args = batch.command(0);
        let texts = |range: Range<usize>| {
            let texts: Vec<String> = range.map(|at| args[at].escape_ascii().to_string()).collect();
            texts.join(" ")
        };
        let parsed = Options::parse(args).map_err(|error| error.to_string()).map(|parsed| {
            let said = [(parsed.copy, "copy"), (parsed.replace, "replace")];
            let said: Vec<&str> = said.into_iter().filter(|(is, _)| *is).map(|(_, word)| word).collect();
            (said.join(" "), texts(parsed.credentials), texts(parsed.keys))
        });
        let expected = expected.map_err(str::to_owned);
        let expected =
            expected.map(|(said, credentials, keys)| (said.into(), credentials.into(), keys.into()));
        assert_eq!(parsed, expected, "{options}");
    }

    #[test]
    fn options_come_in_any_order_before_the_keys() {
        check("k", "", Ok(("", "", "k")));
        check("k", "replace COPY", Ok(("copy replace", "", "k")));
        check("k", "auth pw copy", Ok(("copy", "pw", "k")));
        check("k", "auth pw AUTH2 user other", Ok(("", "user other", "k")));
        check("", "auth keys KEYS copy auth", Ok(("", "keys", "copy auth")));
        check("", "keys", Ok(("", "", "")));
    }

    #[test]
    fn what_is_no_option_or_lacks_something_is_a_syntax_error() {
        for options in ["foo", "copy foo", "auth", "auth2", "auth2 user", "copy auth"] {
            check("k", options, Err(SYNTAX_ERROR));
        }
        check("k", "keys a", Err(KEYS_AND_KEY));
        check("k", "keys a foo", Err(KEYS_AND_KEY));
    }

    #[test]
    fn a_port_is_read_as_c_reads_it() {
        let read = ["6379", " 6379", "6379x", "", "x", "99999999"].map(|text| port(text.as_bytes()));
        assert_eq!(read, [6379, 6379, 6379, 0, 0, u16::MAX]);
    }
}
