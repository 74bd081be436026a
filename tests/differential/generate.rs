//! Random commands: mostly sensible ones on few keys, so that they meet, with every option, many edge
//! values, and a share that is wrong in some way.
//!
//! What must never come out of here is anything whose reply depends on when it runs:
//! - no expiry that comes due during the run: each is long past, or hours away;
//! - no two relative expiries so close that `GT` and `LT` could tell them apart on one server and not on
//!   the other: they are drawn from years;
//! - no size near the 512 MB limit that would be granted.

use fastrand::Rng;

use super::edges::{BAD_DBS, BAD_EXPIRIES, DBS, FLOATS, INTS, JUNK, UNKNOWN};

/// A command: its name and arguments.
pub(crate) type Args = Vec<Vec<u8>>;

/// The size of a big value.
const BIG: usize = 100_000;

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

    fn choose(&mut self, from: &[&[&str]]) -> Args {
        let args = self.rng.choice(from).expect("not empty");
        args.iter().map(|arg| arg.as_bytes().to_vec()).collect()
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.rng.u32(..n) == 0
    }

    fn pick(&mut self, from: &[&str]) -> Vec<u8> {
        self.rng.choice(from).expect("not empty").as_bytes().to_vec()
    }

    fn junk(&mut self) -> Vec<u8> {
        self.rng.choice(JUNK).expect("not empty").to_vec()
    }

    fn up_to(&mut self, most: usize, mut make: impl FnMut(&mut Self) -> Vec<u8>) -> Args {
        (0..self.rng.usize(..=most)).map(|_| make(self)).collect()
    }

    /// A name as it is, in lower case, or in both.
    fn cased(&mut self, name: &str) -> Vec<u8> {
        match self.rng.u8(..3) {
            0 => name.as_bytes().to_vec(),
            1 => name.to_ascii_lowercase().into_bytes(),
            _ => {
                let mixed = name.bytes().map(|b| if self.rng.bool() { b.to_ascii_lowercase() } else { b });
                mixed.collect()
            }
        }
    }

    fn key(&mut self) -> Vec<u8> {
        self.rng.choice(self.keys.as_slice()).expect("not empty").clone()
    }

    fn value(&mut self) -> Vec<u8> {
        match self.rng.u32(..1000) {
            0..=299 => self.int(),
            300..=399 => self.float(),
            400..=799 => (0..self.rng.usize(..12)).map(|_| self.rng.alphanumeric() as u8).collect(),
            800..=949 => (0..self.rng.usize(..40)).map(|_| self.rng.u8(..)).collect(),
            950..=996 => vec![self.rng.u8(..); self.rng.usize(..600)],
            _ => vec![self.rng.u8(..); self.rng.usize(..=BIG)],
        }
    }

    fn int(&mut self) -> Vec<u8> {
        match self.rng.u8(..3) {
            0 => self.pick(&INTS),
            1 => self.rng.i64(-1000..1000).to_string().into_bytes(),
            _ => self.rng.i64(..).to_string().into_bytes(),
        }
    }

    fn float(&mut self) -> Vec<u8> {
        match self.rng.u8(..4) {
            0 | 1 => self.pick(&FLOATS),
            2 => format!("{:.*}", self.rng.usize(..20), (self.rng.f64() - 0.5) * 1e4).into_bytes(),
            _ => format!("{}e{}", self.rng.i32(-99..99), self.rng.i32(-25..25)).into_bytes(),
        }
    }

    fn index(&mut self) -> Vec<u8> {
        if self.one_in(4) { self.pick(&INTS) } else { self.rng.i32(-30..30).to_string().into_bytes() }
    }

    fn db(&mut self) -> Vec<u8> {
        if self.one_in(8) { self.pick(&BAD_DBS) } else { self.pick(&DBS) }
    }

    fn pattern(&mut self) -> Vec<u8> {
        const PATTERNS: [&str; 20] = [
            "*",
            "key:*",
            "key:?",
            "key:1[0-9]",
            "key:[^1]*",
            "[a-z]*",
            "[z-a]*",
            "?",
            "",
            "\\[a-c\\]\\*\\?",
            "[",
            "[a",
            "[]",
            "[^]",
            "\\",
            "\\\\",
            "**:***",
            "*y*:*1*",
            "?ey:[\\1]",
            "K",
        ];
        if self.one_in(6) { self.key() } else { self.pick(&PATTERNS) }
    }

    fn pairs(&mut self) -> Args {
        (0..self.rng.usize(1..5)).flat_map(|_| [self.key(), self.value()]).collect()
    }

    /// Offsets are small, or refused: what `SETRANGE k 536870911 x` would take is tried once, elsewhere.
    fn setrange(&mut self) -> Args {
        const REFUSED: [&str; 9] = [
            "-1",
            "536870912",
            "536870913",
            "4294967296",
            "9223372036854775807",
            "9223372036854775808",
            "-9223372036854775808",
            "abc",
            "1.5",
        ];
        let value = self.value();
        let offset = match self.rng.u32(..200) {
            0 => self.rng.usize(..BIG).to_string().into_bytes(),
            1..=49 => self.pick(&REFUSED),
            _ => self.rng.u32(..60).to_string().into_bytes(),
        };
        vec![self.key(), offset, value]
    }

    fn lcs(&mut self) -> Args {
        let mut args = vec![self.key(), self.key()];
        // One time in two without any, since most of several exclude each other.
        let count = if self.rng.bool() { 0 } else { self.rng.usize(1..4) };
        for _ in 0..count {
            let word =
                self.rng.choice(["LEN", "IDX", "IDX", "WITHMATCHLEN", "MINMATCHLEN"]).expect("not empty");
            args.push(self.cased(word));
            if word == "MINMATCHLEN" {
                args.push(if self.one_in(4) {
                    self.int()
                } else {
                    self.rng.u8(..5).to_string().into_bytes()
                });
            }
        }
        args
    }

    fn bit(&mut self) -> Vec<u8> {
        if self.one_in(15) { self.int() } else { self.pick(&["0", "1"]) }
    }

    /// As in `setrange`; with `#` some overflow, to what is refused or to 0.
    fn bit_offset(&mut self) -> Vec<u8> {
        const REFUSED: [&str; 10] = [
            "-1",
            "4294967296",
            "4294967297",
            "9223372036854775807",
            "-9223372036854775808",
            "18446744073709551616",
            "abc",
            "",
            "#",
            "1.5",
        ];
        match self.rng.u32(..200) {
            0 => self.rng.usize(..BIG * 8).to_string().into_bytes(),
            1..=10 => self.pick(&REFUSED),
            11..=15 => {
                self.pick(&["#1000000000000", "#4611686018427387904", "#9223372036854775807", "#-1", "#x"])
            }
            16..=60 => format!("#{}", self.rng.u32(..20)).into_bytes(),
            _ => self.rng.u32(..400).to_string().into_bytes(),
        }
    }

    /// None to three of start, end and unit; those behind the first `certain` ones come together.
    fn bit_range(&mut self, args: &mut Args, certain: usize) {
        let given = if self.rng.bool() { self.rng.usize(certain..4) } else { 0 };
        let unit = self.rng.choice(["BIT", "BYTE", "BIT", "BITE"]).expect("not empty");
        let all = [self.index(), self.index(), self.cased(unit)];
        args.extend(all.into_iter().take(given));
    }

    fn bitop(&mut self) -> Args {
        let word = self.rng.choice(["AND", "OR", "XOR", "NOT", "NAND"]).expect("not empty");
        let mut args = vec![self.cased(word), self.key(), self.key()];
        if word != "NOT" || self.one_in(4) {
            args.extend(self.up_to(3, Generator::key));
        }
        args
    }

    fn bit_fields(&mut self, args: &mut Args, kinds: usize) {
        for _ in 0..self.rng.usize(..5) {
            let kind = if self.one_in(20) { 3 } else { self.rng.usize(..kinds) };
            let word = ["GET", "SET", "INCRBY", "OVERFLOW"][kind];
            args.push(self.cased(word));
            if kind == 3 {
                let how = self.rng.choice(["WRAP", "SAT", "FAIL", "SAT", "FAIL", "TRAP"]).expect("not empty");
                args.push(self.cased(how));
                continue;
            }
            args.push(self.bit_type());
            args.push(self.bit_offset());
            if kind > 0 {
                args.push(self.int());
            }
        }
    }

    fn bit_type(&mut self) -> Vec<u8> {
        if self.one_in(40) {
            return self.pick(&["u64", "i65", "i0", "u", "", "8", "I8", "u8\0", "i-1", "u08"]);
        }
        let sign = if self.rng.bool() { 'i' } else { 'u' };
        let width = *self.rng.choice(&[1, 2, 4, 5, 7, 8, 9, 16, 31, 32, 33, 62, 63]).expect("not empty");
        let width = if sign == 'i' && self.one_in(6) { 64 } else { width };
        format!("{sign}{width}").into_bytes()
    }

    fn counter(&mut self) -> Vec<u8> {
        if self.one_in(12) { self.key() } else { self.rng.choice(&self.counters).expect("not empty").clone() }
    }

    fn several_counters(&mut self) -> Args {
        (0..self.rng.usize(1..4)).map(|_| self.counter()).collect()
    }

    /// Enough elements to pack a HyperLogLog, at times.
    fn pfadd(&mut self) -> Args {
        let mut args = vec![self.counter()];
        let count = if self.one_in(8) { self.rng.usize(..2000) } else { self.rng.usize(..6) };
        for _ in 0..count {
            args.push(if self.one_in(3) { self.value() } else { self.rng.u32(..).to_string().into_bytes() });
        }
        args
    }

    /// Changes the magic or the remembered count. What is behind the header stays sound: where Redis finds
    /// damage there it keeps what it has added before, and kival does not.
    fn damage_counter(&mut self) -> Args {
        let offset = if self.rng.bool() { self.rng.u8(..4) } else { self.rng.u8(8..16) };
        vec![self.counter(), offset.to_string().into_bytes(), vec![self.rng.u8(..)]]
    }

    /// A payload of kival's, or one that redis-server has compressed, at times with a byte changed.
    fn restore(&mut self) -> Args {
        const COMPRESSED: &[u8] = b"\0\xc3\x09(\x01aa\xe0\x1b\0\x01aa\x0a\0\xcf\x09/\xaa\xae%\x83\x1d";
        let value = self.value();
        let mut payload = if self.one_in(8) { COMPRESSED.to_vec() } else { kival_server::rdb::dump(&value) };
        if self.one_in(10) {
            let at = self.rng.usize(..payload.len());
            payload[at] ^= 1 << self.rng.u8(..8);
        }
        let lifetime = match self.rng.u8(..3) {
            0 => b"0".to_vec(),
            1 => self.millis(),
            _ => self.at_millis(),
        };
        let mut args = vec![self.key(), lifetime, payload];
        for _ in 0..self.rng.usize(..3) {
            let word =
                self.rng.choice(["REPLACE", "REPLACE", "ABSTTL", "IDLETIME", "FREQ"]).expect("not empty");
            args.push(self.cased(word));
            if word == "IDLETIME" || word == "FREQ" {
                args.push(if self.one_in(3) { self.int() } else { self.rng.u8(..).to_string().into_bytes() });
            }
        }
        args
    }

    fn set(&mut self) -> Args {
        let mut args = vec![self.key(), self.value()];
        if self.rng.bool() {
            self.options(&mut args, &["NX", "XX", "GET", "KEEPTTL"], 4);
        }
        args
    }

    /// Options of `SET` and `GETEX`: some of `words`, and those with an expiry; they may conflict or repeat.
    fn options(&mut self, args: &mut Args, words: &[&str], most: usize) {
        // As often one option as several, since most sets of several are syntax errors.
        let count = if self.rng.bool() { 1 } else { self.rng.usize(..=most) };
        for _ in 0..count {
            let (word, when) = match self.rng.usize(..words.len() + 4) {
                0 => ("EX", Some(self.seconds())),
                1 => ("PX", Some(self.millis())),
                2 => ("EXAT", Some(self.at_seconds())),
                3 => ("PXAT", Some(self.at_millis())),
                n => (words[n - 4], None),
            };
            args.push(self.cased(word));
            args.extend(when);
        }
    }

    fn expire(&mut self, when: Vec<u8>) -> Args {
        let mut args = vec![self.key(), when];
        let words: usize = if self.rng.bool() { 0 } else { self.rng.usize(1..3) };
        for _ in 0..words {
            let word = self.rng.choice(["NX", "XX", "GT", "LT", "XY"]).expect("not empty");
            args.push(self.cased(word));
        }
        args
    }

    fn copy(&mut self) -> Args {
        let mut args = vec![self.key(), self.key()];
        for _ in 0..self.rng.usize(..3) {
            if self.rng.bool() {
                args.push(self.cased("REPLACE"));
            } else {
                args.extend([self.cased("DB"), self.db()]);
            }
        }
        args
    }

    fn scan(&mut self) -> Args {
        const CURSORS: [&str; 10] = ["0", "0", "0", "0", "00", "abc", "", "18446744073709551616", "1x", "0 "];
        let mut args = vec![self.pick(&CURSORS)];
        for _ in 0..self.rng.usize(..4) {
            match self.rng.u8(..3) {
                0 => args.extend([self.cased("MATCH"), self.pattern()]),
                1 => {
                    let count = self.pick(&["1", "10", "1000", "0", "-1", "abc", "9223372036854775808"]);
                    args.extend([self.cased("COUNT"), count]);
                }
                _ => {
                    let kind = self.pick(&["string", "list", "STRING", "nosuch"]);
                    args.extend([self.cased("TYPE"), kind]);
                }
            }
        }
        args
    }

    fn flush(&mut self) -> Args {
        let how = self.pick(&["SYNC", "async", "ASYNC", "nosuch"]);
        if self.rng.bool() { vec![] } else { vec![how] }
    }

    fn seconds(&mut self) -> Vec<u8> {
        self.when(10_000..3_000_000_000)
    }

    fn millis(&mut self) -> Vec<u8> {
        self.when(10_000_000..3_000_000_000_000)
    }

    /// From 2096 on, or long ago.
    fn at_seconds(&mut self) -> Vec<u8> {
        if self.one_in(5) { self.when(1..1_577_836_800) } else { self.when(4_000_000_000..4_000_000_100) }
    }

    fn at_millis(&mut self) -> Vec<u8> {
        if self.one_in(5) {
            self.when(1..1_577_836_800_000)
        } else {
            self.when(4_000_000_000_000..4_000_000_000_100)
        }
    }

    fn when(&mut self, good: std::ops::Range<i64>) -> Vec<u8> {
        if self.one_in(6) { self.pick(&BAD_EXPIRIES) } else { self.rng.i64(good).to_string().into_bytes() }
    }
}

/// Whether junk in place of an argument could ask for half a gigabyte.
fn takes_offset(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"SETRANGE")
}
