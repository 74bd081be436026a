//! Inline commands: a line of words, for whoever has only telnet at hand.
//!
//! Words are separated by blanks. Within double quotes, `\n \r \t \b \a`, `\xHH` and `\` before any other byte
//! are escapes; within single quotes only `\'` is. Quotes may start inside of a word, but a closing quote
//! ends it. The result is never longer than the line, so words are unescaped in place.

use super::{ProtocolError, Span};

/// C's `isspace`: what may stand between words. Fewer bytes end a word: see [`ends_word`].
fn is_blank(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == b'\x0b'
}

/// What ends a word outside of quotes. Vertical tab and form feed do not, although they separate words.
fn ends_word(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

/// Splits `buf[start..end]`, one line without its newline and without NUL, into words, and appends where
/// they are now.
pub(super) fn split(
    buf: &mut [u8],
    start: usize,
    end: usize,
    spans: &mut Vec<Span>,
) -> Result<(), ProtocolError> {
    let line = &mut buf[..end];
    let mut at = start;
    loop {
        while line.get(at).is_some_and(|&byte| is_blank(byte)) {
            at += 1;
        }
        if at == end {
            return Ok(());
        }
        let word = at;
        let mut written = at;
        at = unescape(line, at, &mut written)?;
        spans.push(Span::new(word, written - word));
    }
}

/// Moves the word at `at` to `written`, unescaped; gives the position behind the word.
fn unescape(line: &mut [u8], mut at: usize, written: &mut usize) -> Result<usize, ProtocolError> {
    let mut put = |line: &mut [u8], byte: u8| {
        // Every byte put was read from at least one, so this never overtakes `at`.
        line[*written] = byte;
        *written += 1;
    };
    while let Some(&byte) = line.get(at) {
        match byte {
            b'"' | b'\'' => {
                at += 1;
                loop {
                    let (value, length) = match quoted(&line[at..], byte) {
                        Quoted::Byte(value, length) => (value, length),
                        Quoted::End => return Ok(at + 1),
                        Quoted::Unbalanced => return Err(ProtocolError::UnbalancedQuotes),
                    };
                    put(line, value);
                    at += length;
                }
            }
            _ if ends_word(byte) => break,
            _ => {
                put(line, byte);
                at += 1;
            }
        }
    }
    Ok(at)
}

/// The next thing between quotes.
enum Quoted {
    /// A byte, and how many bytes it is written with.
    Byte(u8, usize),
    /// The closing quote.
    End,
    /// The end of the line, or a closing quote with a word stuck to it.
    Unbalanced,
}

fn quoted(rest: &[u8], quote: u8) -> Quoted {
    match (quote, rest) {
        (_, []) => Quoted::Unbalanced,
        (b'"', [b'\\', b'x', high, low, ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
            Quoted::Byte(hex(*high) << 4 | hex(*low), 4)
        }
        (b'"', [b'\\', escaped, ..]) => {
            let value = match escaped {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'b' => b'\x08',
                b'a' => b'\x07',
                other => *other,
            };
            Quoted::Byte(value, 2)
        }
        (b'\'', [b'\\', b'\'', ..]) => Quoted::Byte(b'\'', 2),
        (_, [byte, tail @ ..]) if *byte == quote => match tail.first() {
            Some(&next) if !is_blank(next) => Quoted::Unbalanced,
            _ => Quoted::End,
        },
        (_, [byte, ..]) => Quoted::Byte(*byte, 1),
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => digit.to_ascii_lowercase() - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: &[&[u8]]) {
        let mut buf = format!("..{line}..").into_bytes();
        let end = buf.len() - 2;
        let mut spans = Vec::new();
        split(&mut buf, 2, end, &mut spans).unwrap();
        let words: Vec<_> =
            spans.iter().map(|span| &buf[span.start as usize..(span.start + span.len) as usize]).collect();
        assert_eq!(words, expected, "{line:?}");
    }

    #[track_caller]
    fn check_unbalanced(line: &str) {
        let mut buf = line.as_bytes().to_vec();
        let end = buf.len();
        assert_eq!(
            split(&mut buf, 0, end, &mut Vec::new()),
            Err(ProtocolError::UnbalancedQuotes),
            "{line:?}"
        );
    }

    #[test]
    fn words_are_separated_by_blanks() {
        check("", &[]);
        check(" \t\r\x0b\x0c", &[]);
        check("SET key value", &[b"SET", b"key", b"value"]);
        check("  SET\tkey  ", &[b"SET", b"key"]);
        check("ping \x0ba\x0cb", &[b"ping", b"a\x0cb"]);
    }

    #[test]
    fn double_quotes_unescape() {
        check(r#""a b" "" "\x41\xfF\n\r\t\b\a\"\\\q""#, &[b"a b", b"", b"A\xff\n\r\t\x08\x07\"\\q"]);
        check(r#""\x4" "\xg1""#, &[b"x4", b"xg1"]);
        check(r#"x"y z""#, &[b"xy z"]);
        check(r#""it's""#, &[b"it's"]);
    }

    #[test]
    fn single_quotes_escape_only_themselves() {
        check(r"'a\'b' 'c\n' ''", &[b"a'b", br"c\n", b""]);
        check(r#"'"'"#, &[b"\""]);
    }

    #[test]
    fn an_escape_outside_of_quotes_is_two_bytes() {
        check(r"a\n \x41", &[br"a\n", br"\x41"]);
    }

    #[test]
    fn a_quote_left_open_or_stuck_to_a_word_is_unbalanced() {
        for line in ["\"", "'", "a \"b", "'a\\'", "\"a\\\"", "\"a\"b", "'a'b", "\"\"\"\"", "''\"\""] {
            check_unbalanced(line);
        }
    }
}
