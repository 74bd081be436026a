//! Arguments that several families read alike: words, integers, database numbers, times of expiry, the
//! options of SET and GETEX. Pure functions of the arguments; what is done with them is the families'.

use crate::number::parse_i64;
use crate::resp::{Args, ErrorReply};

/// Redis's reply to what no option fits.
pub(super) const SYNTAX_ERROR: &str = "ERR syntax error";
/// Its reply to a number of a database that is not there.
pub(super) const NO_SUCH_DB: &str = "ERR DB index is out of range";

const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";
const NOT_AN_INT: &str = "ERR value is out of range, value must between -2147483648 and 2147483647";

/// What C sees of an argument: the bytes up to a NUL. Redis compares words and scans cursors this way.
pub(super) fn c_string(arg: &[u8]) -> &[u8] {
    &arg[..arg.iter().position(|&byte| byte == 0).unwrap_or(arg.len())]
}

/// Whether an argument is this word, in whatever case.
pub(super) fn is_word(arg: &[u8], word: &str) -> bool {
    c_string(arg).eq_ignore_ascii_case(word.as_bytes())
}

/// An argument, or a value, that has to be an integer.
pub(super) fn integer(text: &[u8]) -> Result<i64, ErrorReply> {
    parse_i64(text).ok_or_else(|| NOT_AN_INTEGER.into())
}

/// An argument that has to be one of C's `int`.
fn int(text: &[u8]) -> Result<i32, ErrorReply> {
    i32::try_from(integer(text)?).map_err(|_| NOT_AN_INT.into())
}

/// An argument that names one of so many databases.
pub(super) fn database(text: &[u8], databases: u32) -> Result<u32, ErrorReply> {
    let db = u32::try_from(int(text)?).ok();
    db.filter(|&db| db < databases).ok_or_else(|| NO_SUCH_DB.into())
}

/// The reply to a time that no expiry can have.
#[cold]
pub(super) fn invalid_expire_time(command: &str) -> ErrorReply {
    format!("ERR invalid expire time in '{command}' command").into()
}

/// How a client tells a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Time {
    /// Seconds from now.
    Seconds,
    /// Milliseconds from now.
    Milliseconds,
    /// Seconds since 1970.
    UnixSeconds,
    /// Milliseconds since 1970.
    UnixMilliseconds,
}

impl Time {
    /// The options that tell one.
    const OPTIONS: [(&'static str, Time); 4] = [
        ("EX", Time::Seconds),
        ("PX", Time::Milliseconds),
        ("EXAT", Time::UnixSeconds),
        ("PXAT", Time::UnixMilliseconds),
    ];

    /// The Unix milliseconds that it means, below zero too; `None` beyond what 64 bits hold.
    pub(super) fn unix_milliseconds(self, count: i64, now: u64) -> Option<i64> {
        let milliseconds = match self {
            Time::Seconds | Time::UnixSeconds => count.checked_mul(1000)?,
            Time::Milliseconds | Time::UnixMilliseconds => count,
        };
        match self {
            Time::Seconds | Time::Milliseconds => milliseconds.checked_add_unsigned(now),
            Time::UnixSeconds | Time::UnixMilliseconds => Some(milliseconds),
        }
    }

    /// The expiry of a value that a client sets for a time; that may be past, but not before 1970.
    pub(super) fn expiry(self, text: &[u8], now: u64, command: &str) -> Result<u64, ErrorReply> {
        let count = integer(text)?;
        let at = if count > 0 { self.unix_milliseconds(count, now) } else { None };
        at.and_then(|at| u64::try_from(at).ok()).ok_or_else(|| invalid_expire_time(command))
    }
}

/// What a client wants of a key's expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Lifetime<'a> {
    /// It did not say.
    #[default]
    Unsaid,
    /// KEEPTTL.
    Keep,
    /// PERSIST.
    Persist,
    /// A time, and its count as it came.
    Until(Time, &'a [u8]),
}

impl<'a> Lifetime<'a> {
    /// Reads an option that tells a time; the count is taken from `rest`.
    fn time(option: &[u8], rest: &mut impl Iterator<Item = &'a [u8]>) -> Option<Lifetime<'a>> {
        let (_, time) = Time::OPTIONS.into_iter().find(|(word, _)| is_word(option, word))?;
        Some(Lifetime::Until(time, rest.next()?))
    }

    /// What is wanted after one more option. Another of the same kind replaces it, one of another kind is
    /// an error.
    fn then(self, next: Option<Lifetime<'a>>) -> Result<Lifetime<'a>, ErrorReply> {
        let next = next.ok_or(SYNTAX_ERROR)?;
        let agree = match (self, next) {
            (Lifetime::Unsaid, _) => true,
            (Lifetime::Until(before, _), Lifetime::Until(now, _)) => before == now,
            (before, now) => before == now,
        };
        if agree { Ok(next) } else { Err(SYNTAX_ERROR.into()) }
    }
}

/// Which keys SET may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Condition {
    /// All.
    #[default]
    Always,
    /// NX: those that are not there.
    Absent,
    /// XX: those that are.
    Present,
}

/// The options of SET.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct SetOptions<'a> {
    /// NX or XX.
    pub(super) condition: Condition,
    /// GET: the reply is the value from before.
    pub(super) get: bool,
    /// KEEPTTL or a time.
    pub(super) lifetime: Lifetime<'a>,
}

impl<'a> SetOptions<'a> {
    /// Reads what follows the value.
    pub(super) fn parse(options: Args<'a>) -> Result<SetOptions<'a>, ErrorReply> {
        let mut parsed = SetOptions::default();
        let mut rest = options.iter();
        while let Some(option) = rest.next() {
            if is_word(option, "NX") {
                parsed.require(Condition::Absent)?;
            } else if is_word(option, "XX") {
                parsed.require(Condition::Present)?;
            } else if is_word(option, "GET") {
                parsed.get = true;
            } else {
                let keep = is_word(option, "KEEPTTL").then_some(Lifetime::Keep);
                let lifetime = keep.or_else(|| Lifetime::time(option, &mut rest));
                parsed.lifetime = parsed.lifetime.then(lifetime)?;
            }
        }
        Ok(parsed)
    }

    fn require(&mut self, condition: Condition) -> Result<(), ErrorReply> {
        if self.condition != Condition::Always && self.condition != condition {
            return Err(SYNTAX_ERROR.into());
        }
        self.condition = condition;
        Ok(())
    }
}

/// Reads the options of GETEX: what follows the key.
pub(super) fn parse_getex(options: Args<'_>) -> Result<Lifetime<'_>, ErrorReply> {
    let mut lifetime = Lifetime::Unsaid;
    let mut rest = options.iter();
    while let Some(option) = rest.next() {
        let persist = is_word(option, "PERSIST").then_some(Lifetime::Persist);
        lifetime = lifetime.then(persist.or_else(|| Lifetime::time(option, &mut rest)))?;
    }
    Ok(lifetime)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::Batch;

    /// The options in words; times as their count and unit.
    fn described(options: &SetOptions<'_>) -> String {
        let condition = match options.condition {
            Condition::Always => "",
            Condition::Absent => "nx ",
            Condition::Present => "xx ",
        };
        format!("{condition}{}{}", if options.get { "get " } else { "" }, lifetime(options.lifetime))
    }

    fn lifetime(lifetime: Lifetime<'_>) -> String {
        match lifetime {
            Lifetime::Until(time, count) => format!("{} {time:?}", count.escape_ascii()),
            other => format!("{other:?}"),
        }
    }

    fn batch(options: &str) -> Batch {
        Batch::from_args(std::iter::once("command").chain(options.split_whitespace()))
    }

    #[track_caller]
    fn check_set(options: &str, expected: &str) {
        let batch = batch(options);
        let parsed = SetOptions::parse(batch.command(0).tail(1));
        assert_eq!(parsed.map_or_else(|error| error.to_string(), |parsed| described(&parsed)), expected);
    }

    #[track_caller]
    fn check_getex(options: &str, expected: &str) {
        let batch = batch(options);
        let parsed = parse_getex(batch.command(0).tail(1));
        assert_eq!(parsed.map_or_else(|error| error.to_string(), lifetime), expected);
    }

    #[test]
    fn options_of_set_come_in_any_order_and_case() {
        check_set("", "Unsaid");
        check_set("eX 10", "10 Seconds");
        check_set("PX 10 nx", "nx 10 Milliseconds");
        check_set("get xx ExAt 7", "xx get 7 UnixSeconds");
        check_set("nx GET pxat 7", "nx get 7 UnixMilliseconds");
        check_set("keepttl", "Keep");
        check_set("nx\0junk", "nx Unsaid");
    }

    #[test]
    fn an_option_may_be_said_twice() {
        check_set("ex 1 ex 2", "2 Seconds");
        check_set("nx nx get get", "nx get Unsaid");
        check_set("keepttl keepttl", "Keep");
        check_getex("persist persist", "Persist");
    }

    #[test]
    fn options_that_exclude_each_other_are_a_syntax_error() {
        for options in ["nx xx", "xx nx", "ex 1 px 1", "ex 1 exat 1", "keepttl ex 1", "ex 1 keepttl"] {
            check_set(options, SYNTAX_ERROR);
        }
        for options in ["persist ex 1", "ex 1 persist", "px 1 pxat 1"] {
            check_getex(options, SYNTAX_ERROR);
        }
    }

    #[test]
    fn what_is_no_option_or_lacks_its_time_is_a_syntax_error() {
        for options in ["persist", "ex", "nx ex", "foo", "nx foo"] {
            check_set(options, SYNTAX_ERROR);
        }
        for options in ["keepttl", "nx", "get", "px", "foo"] {
            check_getex(options, SYNTAX_ERROR);
        }
    }

    #[test]
    fn a_time_is_not_looked_at_before_all_options_are() {
        check_set("ex abc foo", SYNTAX_ERROR);
        check_set("ex abc", "abc Seconds");
        check_getex("ex nx", "nx Seconds");
    }

    #[track_caller]
    fn check_expiry(time: Time, text: &str, expected: Result<u64, &str>) {
        let expiry = time.expiry(text.as_bytes(), 1000, "set");
        assert_eq!(expiry.map_err(|error| error.to_string()), expected.map_err(str::to_owned));
    }

    #[test]
    fn a_time_becomes_unix_milliseconds() {
        check_expiry(Time::Seconds, "5", Ok(6000));
        check_expiry(Time::Milliseconds, "5", Ok(1005));
        check_expiry(Time::UnixSeconds, "5", Ok(5000));
        check_expiry(Time::UnixMilliseconds, "5", Ok(5));
        check_expiry(Time::UnixMilliseconds, "9223372036854775807", Ok(i64::MAX as u64));
        check_expiry(Time::Milliseconds, "9223372036854774807", Ok(i64::MAX as u64));
    }

    #[test]
    fn a_time_that_does_not_fit_or_is_not_above_zero_is_invalid() {
        let invalid = Err("ERR invalid expire time in 'set' command");
        check_expiry(Time::Seconds, "0", invalid);
        check_expiry(Time::UnixMilliseconds, "-1", invalid);
        check_expiry(Time::Seconds, "9223372036854775", invalid);
        check_expiry(Time::UnixSeconds, "9223372036854776", invalid);
        check_expiry(Time::Milliseconds, "9223372036854774808", invalid);
        check_expiry(Time::Seconds, "-9223372036854775808", invalid);
        check_expiry(Time::Seconds, "1.5", Err(NOT_AN_INTEGER));
    }

    #[test]
    fn a_database_is_a_number_below_their_number() {
        let check = |text: &str, expected: Result<u32, &str>| {
            let found = database(text.as_bytes(), 16).map_err(|error| error.to_string());
            assert_eq!(found, expected.map_err(str::to_owned));
        };
        check("15", Ok(15));
        check("16", Err(NO_SUCH_DB));
        check("-1", Err(NO_SUCH_DB));
        check("2147483648", Err(NOT_AN_INT));
        check("x", Err(NOT_AN_INTEGER));
    }
}
