//! Random commands: mostly sensible ones on few keys, so that they meet, with every option, many edge
//! values, and a share that is wrong in some way.
//!
//! What must never come out of here is anything whose reply depends on when it runs:
//! - no expiry that comes due during the run: each is long past, or hours away;
//! - no two relative expiries so close that `GT` and `LT` could tell them apart on one server and not on
//!   the other: they are drawn from years;
//! - no size near the 512 MB limit that would be granted.
//!
//! The table is here; `words` makes single arguments, `strings`, `bits` and `keys` those of a command.

mod bits;
mod keys;
mod strings;
mod words;

use fastrand::Rng;

use super::edges::{JUNK, UNKNOWN};

/// A command: its name and arguments.
pub(crate) type Args = Vec<Vec<u8>>;

/// Makes one command after the other.
pub(crate) struct Generator {
    rng: Rng,
    /// The keys that commands are given.
    keys: Vec<Vec<u8>>,
    /// Those, and what may come in the place of a key when a command is spoilt.
    possible: Vec<Vec<u8>>,
    /// Keys of HyperLogLogs: on the others there is hardly ever one.
    counters: Vec<Vec<u8>>,
}

/// How often a kind of command comes, in parts of the sum of all, and how it is made.
type Row = (u32, &'static str, fn(&mut Generator) -> Args);

/// Every command of the comparison. A name stands here alone, the rest of the row makes its arguments.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    (10, "PING", |g| g.up_to(2, Generator::value)),
    (6, "ECHO", |g| vec![g.value()]),
    (20, "SELECT", |g| vec![g.db()]),
    (120, "SET", Generator::set),
    (50, "GET", |g| vec![g.key()]),
    (15, "GETSET", |g| vec![g.key(), g.value()]),
    (15, "GETDEL", |g| vec![g.key()]),
    (40, "GETEX", |g| { let mut args = vec![g.key()]; g.options(&mut args, &["PERSIST"], 2); args }),
    (15, "SETEX", |g| vec![g.key(), g.seconds(), g.value()]),
    (15, "PSETEX", |g| vec![g.key(), g.millis(), g.value()]),
    (15, "SETNX", |g| vec![g.key(), g.value()]),
    (15, "MSET", |g| g.pairs()),
    (15, "MSETNX", |g| g.pairs()),
    (20, "MGET", |g| g.up_to(8, Generator::key)),
    (25, "APPEND", |g| vec![g.key(), g.value()]),
    (20, "STRLEN", |g| vec![g.key()]),
    (35, "GETRANGE", |g| vec![g.key(), g.index(), g.index()]),
    (30, "SETRANGE", Generator::setrange),
    (25, "DUMP", |g| vec![if g.one_in(3) { g.counter() } else { g.key() }]),
    (40, "RESTORE", Generator::restore),
    (15, "SUBSTR", |g| vec![g.key(), g.index(), g.index()]),
    (20, "LCS", Generator::lcs),
    (40, "SETBIT", |g| vec![g.key(), g.bit_offset(), g.bit()]),
    (20, "GETBIT", |g| vec![g.key(), g.bit_offset()]),
    (30, "BITCOUNT", |g| { let mut args = vec![g.key()]; g.bit_range(&mut args, 2); args }),
    (30, "BITPOS", |g| { let mut args = vec![g.key(), g.bit()]; g.bit_range(&mut args, 1); args }),
    (25, "BITOP", Generator::bitop),
    (60, "BITFIELD", |g| { let mut args = vec![g.key()]; g.bit_fields(&mut args, 4); args }),
    (15, "BITFIELD_RO", |g| { let mut args = vec![g.key()]; g.bit_fields(&mut args, 1); args }),
    (60, "PFADD", Generator::pfadd),
    (30, "PFCOUNT", |g| g.several_counters()),
    (15, "PFMERGE", |g| g.several_counters()),
    (20, "GET", |g| vec![g.counter()]),
    (2, "DEL", |g| vec![g.counter()]),
    (2, "EXPIRE", |g| vec![g.counter(), g.seconds()]),
    (3, "SETRANGE", Generator::damage_counter),
    (20, "INCR", |g| vec![g.key()]),
    (20, "DECR", |g| vec![g.key()]),
    (30, "INCRBY", |g| vec![g.key(), g.int()]),
    (30, "DECRBY", |g| vec![g.key(), g.int()]),
    (40, "INCRBYFLOAT", |g| vec![g.key(), g.float()]),
    (30, "DEL", |g| g.up_to(4, Generator::key)),
    (15, "UNLINK", |g| g.up_to(4, Generator::key)),
    (20, "EXISTS", |g| g.up_to(5, Generator::key)),
    (15, "TYPE", |g| vec![g.key()]),
    (15, "TOUCH", |g| g.up_to(5, Generator::key)),
    (25, "RENAME", |g| vec![g.key(), g.key()]),
    (20, "RENAMENX", |g| vec![g.key(), g.key()]),
    (30, "COPY", Generator::copy),
    (20, "MOVE", |g| vec![g.key(), g.db()]),
    (15, "KEYS", |g| vec![g.pattern()]),
    (20, "SCAN", Generator::scan),
    (8, "DBSIZE", |_| vec![]),
    (2, "FLUSHDB", Generator::flush),
    (1, "FLUSHALL", Generator::flush),
    (6, "SWAPDB", |g| vec![g.db(), g.db()]),
    (25, "EXPIRE", |g| { let when = g.seconds(); g.expire(when) }),
    (25, "PEXPIRE", |g| { let when = g.millis(); g.expire(when) }),
    (25, "EXPIREAT", |g| { let when = g.at_seconds(); g.expire(when) }),
    (25, "PEXPIREAT", |g| { let when = g.at_millis(); g.expire(when) }),
    (20, "TTL", |g| vec![g.key()]),
    (20, "PTTL", |g| vec![g.key()]),
    (20, "EXPIRETIME", |g| vec![g.key()]),
    (20, "PEXPIRETIME", |g| vec![g.key()]),
    (20, "PERSIST", |g| vec![g.key()]),
    (30, "MULTI", |_| vec![]),
    (90, "EXEC", |_| vec![]),
    (6, "DISCARD", |_| vec![]),
    (25, "WATCH", |g| g.up_to(4, Generator::key)),
    (4, "UNWATCH", |_| vec![]),
    (4, "CONFIG", |g| g.choose(&[&["GET", "no-such-setting*"], &["GET"], &[], &["NOSUCH", "x"]])),
    (3, "COMMAND", |g| g.choose(&[&["GETKEYS"], &["getkeys", "nosuch"], &["NOSUCH"]])),
    (15, "COMMAND", |g| { let mut args = vec![g.cased("GETKEYS")]; args.extend(g.any()); args }),
];

/// Commands that are left as they are, since a change could make them ask for the server's own settings
/// and tables.
const NEVER_SPOILT: [&str; 2] = ["CONFIG", "COMMAND"];

impl Generator {
    pub(crate) fn new(rng: Rng) -> Generator {
        let plain = (0..18).map(|i| format!("key:{i}").into_bytes());
        let odd: [&[u8]; 12] = [
            b"",
            b"k",
            b"K",
            b"a b",
            b"\0",
            b"\r\n",
            b"\xff\xfe\0\x01",
            b"[a-c]*?",
            b"\\",
            b"12345",
            "\u{fc}ber".as_bytes(),
            &[b'L'; 3000],
        ];
        let keys: Vec<Vec<u8>> = plain.chain(odd.map(<[u8]>::to_vec)).collect();
        let counters: Vec<Vec<u8>> = (0..4).map(|i| format!("counter:{i}").into_bytes()).collect();
        let possible = keys.iter().chain(&counters).cloned().chain(JUNK.map(<[u8]>::to_vec)).collect();
        Generator { rng, keys, possible, counters }
    }

    /// All keys there can ever be.
    pub(crate) fn possible_keys(&self) -> &[Vec<u8>] {
        &self.possible
    }

    pub(crate) fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// The next command; one in twelve is spoilt, so that most of those are errors.
    pub(crate) fn command(&mut self) -> Args {
        let mut args = if self.one_in(60) { self.unknown() } else { self.any() };
        if self.one_in(12) {
            self.spoil(&mut args);
        }
        args
    }

    fn any(&mut self) -> Args {
        let sum: u32 = TABLE.iter().map(|row| row.0).sum();
        let mut pick = self.rng.u32(..sum);
        let (_, name, make) = TABLE
            .iter()
            .find(|row| {
                let here = pick < row.0;
                pick = pick.wrapping_sub(row.0);
                here
            })
            .expect("the pick is below the sum of all rows");
        let mut args = vec![self.cased(name)];
        args.extend(make(self));
        args
    }

    fn unknown(&mut self) -> Args {
        let mut args = vec![self.rng.choice(UNKNOWN).expect("not empty").to_vec()];
        args.extend(self.up_to(5, Generator::value));
        args
    }

    /// At most one wrong thing, so that the junk cannot combine into an expiry that comes due.
    fn spoil(&mut self, args: &mut Args) {
        if NEVER_SPOILT.iter().any(|name| args[0].eq_ignore_ascii_case(name.as_bytes())) {
            return;
        }
        match self.rng.u8(..4) {
            0 => args.push(self.junk()),
            1 => args.push(self.rng.choice(args.as_slice()).expect("not empty").clone()),
            2 if args.len() > 1 && !takes_offset(&args[0]) => {
                let at = self.rng.usize(1..args.len());
                args[at] = self.junk();
            }
            _ => args.truncate(1 + self.rng.usize(..args.len())),
        }
    }
}

/// Whether junk in place of an argument could ask for half a gigabyte.
fn takes_offset(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"SETRANGE")
}
