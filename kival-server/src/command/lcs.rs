//! LCS: the longest common subsequence of two values, by the table that compares every byte of one with
//! every byte of the other. What has to be equal to Redis is which of several longest ones is answered, and
//! so the order of the way back through the table.

use super::options::{SYNTAX_ERROR, integer, is_word};
use super::{Abort, Categories, Command, Context, Flags, Group, KeySpec, Keys, Outcome};
use crate::resp::{Args, ErrorReply, Reply};
use bytes::Bytes;
use std::ops::RangeInclusive;

const BOTH: &str = "ERR If you want both the length and indexes, please just use IDX.";
const TOO_LARGE: &str = "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len";

/// LCS.
pub(super) const COMMANDS: &[Command] = &[Command {
    name: "lcs",
    handler: lcs,
    arity: -3,
    arguments: "key1 key2 [LEN] [IDX] [MINMATCHLEN len] [WITHMATCHLEN]",
    flags: Flags::READONLY,
    keys: Keys::TWO,
    key_spec: KeySpec::all(&["RO", "access"]),
    categories: Categories::STRING,
    group: Group::String,
    since: "7.0.0",
    complexity: "O(N*M) with N and M bytes of the two values",
    summary: "Finds the longest common subsequence of two values.",
    ..Command::BASE
}];

/// What follows the keys.
#[derive(Debug, Default, PartialEq)]
struct Options {
    len: bool,
    idx: bool,
    with_match_len: bool,
    min_match_len: u64,
}

impl Options {
    fn parse(options: Args<'_>) -> Result<Options, ErrorReply> {
        let mut parsed = Options::default();
        let mut rest = options.iter();
        while let Some(option) = rest.next() {
            if is_word(option, "IDX") {
                parsed.idx = true;
            } else if is_word(option, "LEN") {
                parsed.len = true;
            } else if is_word(option, "WITHMATCHLEN") {
                parsed.with_match_len = true;
            } else if is_word(option, "MINMATCHLEN") {
                let least = integer(rest.next().ok_or(SYNTAX_ERROR)?)?;
                parsed.min_match_len = least.max(0).unsigned_abs();
            } else {
                return Err(SYNTAX_ERROR.into());
            }
        }
        if parsed.idx && parsed.len { Err(BOTH.into()) } else { Ok(parsed) }
    }
}

fn lcs(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let a = ctx.value(&args[1])?.unwrap_or_default();
    let b = ctx.value(&args[2])?.unwrap_or_default();
    let options = Options::parse(args.tail(3))?;
    let table = Table::new(&a, &b, ctx.server.config.proto_max_bulk_len)?;
    if options.len {
        return Ok(Reply::Integer(table.len() as i64));
    }
    if options.idx {
        let matches = table.matches().into_iter().filter(|found| found.len() >= options.min_match_len);
        let matches = matches.map(|found| found.reply(options.with_match_len)).collect();
        return Ok(Reply::fields([("matches", matches), ("len", Reply::Integer(table.len() as i64))]));
    }
    Ok(Reply::bulk(table.text()))
}

/// A part that both values have, in the same place of the subsequence.
#[derive(Debug, Clone, PartialEq)]
struct Match {
    a: RangeInclusive<usize>,
    b: RangeInclusive<usize>,
}

impl Match {
    fn len(&self) -> u64 {
        (self.a.end() - self.a.start() + 1) as u64
    }

    fn reply(self, with_len: bool) -> Reply {
        let len = self.len();
        let pair = |range: RangeInclusive<usize>| {
            [*range.start() as i64, *range.end() as i64].into_iter().collect::<Reply>()
        };
        let mut parts = vec![pair(self.a), pair(self.b)];
        if with_len {
            parts.push(Reply::Integer(len as i64));
        }
        Reply::Array(parts)
    }
}

/// For each pair of beginnings of the two values how long their longest common subsequence is.
struct Table<'a> {
    a: &'a [u8],
    b: &'a [u8],
    /// A row for each length of `a`'s beginning, with a column for each of `b`'s.
    cells: Vec<u32>,
}

impl<'a> Table<'a> {
    /// Fills the table, if it is not larger than `most` bytes.
    fn new(a: &'a Bytes, b: &'a Bytes, most: u64) -> Result<Table<'a>, Abort> {
        // Values are at most 512 MB long, so that this cannot overflow.
        let cells = (a.len() as u64 + 1) * (b.len() as u64 + 1);
        if cells * size_of::<u32>() as u64 > most {
            return Err(TOO_LARGE.into());
        }
        let width = b.len() + 1;
        let mut cells = vec![0; cells as usize];
        for (row, &byte) in a.iter().enumerate() {
            let (above, here) = cells[row * width..(row + 2) * width].split_at_mut(width);
            for (column, &other) in b.iter().enumerate() {
                here[column + 1] =
                    if byte == other { above[column] + 1 } else { above[column + 1].max(here[column]) };
            }
        }
        Ok(Table { a, b, cells })
    }

    fn at(&self, a: usize, b: usize) -> u32 {
        self.cells[a * (self.b.len() + 1) + b]
    }

    fn len(&self) -> usize {
        self.at(self.a.len(), self.b.len()) as usize
    }

    /// The pairs of equal bytes on Redis's way back through the table, last first. Where both directions
    /// are as good it shortens `b`.
    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        let (mut a, mut b) = (self.a.len(), self.b.len());
        std::iter::from_fn(move || {
            while a > 0 && b > 0 {
                if self.a[a - 1] == self.b[b - 1] {
                    (a, b) = (a - 1, b - 1);
                    return Some((a, b));
                }
                if self.at(a - 1, b) > self.at(a, b - 1) { a -= 1 } else { b -= 1 }
            }
            None
        })
    }

    /// The subsequence.
    fn text(&self) -> Vec<u8> {
        let mut text: Vec<u8> = self.pairs().map(|(a, _)| self.a[a]).collect();
        text.reverse();
        text
    }

    /// Its parts that have no gap in either value, last first.
    fn matches(&self) -> Vec<Match> {
        let mut matches: Vec<Match> = Vec::new();
        for (a, b) in self.pairs() {
            match matches.last_mut() {
                Some(last) if *last.a.start() == a + 1 && *last.b.start() == b + 1 => {
                    *last = Match { a: a..=*last.a.end(), b: b..=*last.b.end() };
                }
                _ => matches.push(Match { a: a..=a, b: b..=b }),
            }
        }
        matches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(a: &'static str, b: &'static str, text: &str, matches: &[(usize, usize, usize)]) {
        let (a, b) = (Bytes::from_static(a.as_bytes()), Bytes::from_static(b.as_bytes()));
        let table = Table::new(&a, &b, 1 << 20).unwrap();
        assert_eq!(String::from_utf8(table.text()).unwrap(), text);
        assert_eq!(table.len(), text.len());
        let found: Vec<_> =
            table.matches().iter().map(|m| (*m.a.start(), *m.b.start(), m.len() as usize)).collect();
        assert_eq!(found, matches);
    }

    #[test]
    fn the_longest_common_subsequence_comes_with_its_parts() {
        check("ohmytext", "mynewtext", "mytext", &[(4, 5, 4), (2, 0, 2)]);
        check("abc", "abc", "abc", &[(0, 0, 3)]);
        check("abc", "xyz", "", &[]);
        check("", "xyz", "", &[]);
    }

    #[test]
    fn of_two_that_are_as_long_it_is_the_one_that_redis_finds() {
        check("ab", "ba", "b", &[(1, 0, 1)]);
        check("abab", "ba", "ba", &[(1, 0, 2)]);
    }

    #[test]
    fn a_table_has_a_bound() {
        let text = Bytes::from_static(b"0123456789");
        assert!(Table::new(&text, &text, 4 * 11 * 11).is_ok());
        assert!(Table::new(&text, &text, 4 * 11 * 11 - 1).is_err());
    }
}
