//! SCAN: the keys of a database, some at a call. How a cursor survives changes is the keydir's.

use super::options::{SYNTAX_ERROR, c_string, integer, is_word};
use super::{Categories, Command, Context, Flags, Outcome};
use crate::glob::{self, Case};
use crate::number::format_u64;
use crate::resp::{Args, ErrorReply, Reply};
use bytes::Bytes;

/// Keys that a call visits if the client does not say.
const COUNT: usize = 10;

/// SCAN.
pub(super) const COMMANDS: &[Command] = &[Command {
    name: "scan",
    handler: scan,
    arity: -2,
    arguments: "cursor [MATCH pattern] [COUNT count] [TYPE type]",
    flags: Flags::READONLY.and(Flags::WHOLE_KEYSPACE),
    categories: Categories::KEYSPACE,
    since: "2.8.0",
    complexity: "O(N) a call, with N the COUNT",
    summary: "Answers some of the keys of the database, and where to go on.",
    tips: &["nondeterministic_output", "request_policy:special"],
    ..Command::BASE
}];

fn scan(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let cursor = parse_cursor(&args[1]).ok_or("ERR invalid cursor")?;
    let options = Options::parse(args.tail(2))?;
    // Never sized by COUNT: that is the client's word, not the number of keys.
    let mut keys = Vec::new();
    let next = ctx.store.scan(ctx.session.db, cursor, options.count, |key, _| {
        if options.want(key) {
            keys.push(Reply::Bulk(Bytes::copy_from_slice(key)));
        }
    });
    let next = Reply::Bulk(Bytes::copy_from_slice(&format_u64(next)));
    Ok(Reply::Array(vec![next, Reply::Array(keys)]))
}

/// What a client wants of a scan.
#[derive(Debug, PartialEq, Eq)]
struct Options<'a> {
    /// COUNT: about how many keys to visit.
    count: usize,
    /// MATCH, if it is not the pattern of all keys.
    pattern: Option<&'a [u8]>,
    /// TYPE: whether it can be met. All keys are strings.
    strings: bool,
}

impl<'a> Options<'a> {
    /// Reads what follows the cursor.
    fn parse(options: Args<'a>) -> Result<Options<'a>, ErrorReply> {
        let mut parsed = Options { count: COUNT, pattern: None, strings: true };
        let mut rest = options.iter();
        while let Some(option) = rest.next() {
            let argument = rest.next().ok_or(SYNTAX_ERROR)?;
            if is_word(option, "COUNT") {
                let count = integer(argument)?;
                parsed.count = usize::try_from(count).ok().filter(|&count| count > 0).ok_or(SYNTAX_ERROR)?;
            } else if is_word(option, "MATCH") {
                parsed.pattern = Some(argument).filter(|&pattern| pattern != b"*");
            } else if is_word(option, "TYPE") {
                parsed.strings = is_word(argument, "string");
            } else {
                return Err(SYNTAX_ERROR.into());
            }
        }
        Ok(parsed)
    }

    fn want(&self, key: &[u8]) -> bool {
        self.strings && self.pattern.is_none_or(|pattern| glob::matches(pattern, key, Case::Sensitive))
    }
}

/// A cursor as C's `strtoul` reads it: nothing is 0, a sign may lead, minus counts down from 2^64.
fn parse_cursor(text: &[u8]) -> Option<u64> {
    let text = c_string(text);
    if text.is_empty() {
        return Some(0);
    }
    let (negative, digits) = match text[0] {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if digits.is_empty() {
        return None;
    }
    let magnitude = digits.iter().try_fold(0u64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })?;
    Some(if negative { magnitude.wrapping_neg() } else { magnitude })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::Batch;

    #[track_caller]
    fn check(options: &str, expected: Result<Options<'_>, &str>) {
        let batch = Batch::from_args(std::iter::once("scan").chain(options.split_whitespace()));
        let parsed = Options::parse(batch.command(0).tail(1)).map_err(|error| error.to_string());
        assert_eq!(parsed, expected.map_err(str::to_owned), "{options}");
    }

    #[test]
    fn options_come_in_any_order_and_the_last_of_a_kind_counts() {
        check("", Ok(Options { count: 10, pattern: None, strings: true }));
        check("match a* Count 5", Ok(Options { count: 5, pattern: Some(b"a*"), strings: true }));
        check("MATCH a* match b", Ok(Options { count: 10, pattern: Some(b"b"), strings: true }));
        check("match a* match *", Ok(Options { count: 10, pattern: None, strings: true }));
        check("type STRING", Ok(Options { count: 10, pattern: None, strings: true }));
        check("type list", Ok(Options { count: 10, pattern: None, strings: false }));
    }

    #[test]
    fn errors_come_in_the_order_of_the_options() {
        for options in ["count", "match", "type", "foo", "foo bar", "count 0", "count -1", "count 1 foo"] {
            check(options, Err(SYNTAX_ERROR));
        }
        check("count abc foo", Err("ERR value is not an integer or out of range"));
        check("foo count abc", Err(SYNTAX_ERROR));
    }

    #[test]
    fn a_cursor_is_what_strtoul_reads() {
        let check = |text: &str, expected| assert_eq!(parse_cursor(text.as_bytes()), expected, "{text:?}");
        check("0", Some(0));
        check("007", Some(7));
        check("+3", Some(3));
        check("-1", Some(u64::MAX));
        check("-18446744073709551615", Some(1));
        check("18446744073709551615", Some(u64::MAX));
        check("", Some(0));
        check("5\0junk", Some(5));
        for text in [" 1", "1 ", "x", "1x", "-", "+", "+-1", "18446744073709551616", "99999999999999999999x"]
        {
            check(text, None);
        }
    }
}
