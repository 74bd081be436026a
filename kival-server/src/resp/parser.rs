//! The grammar of requests, over a growing slice and resumable at any byte.
//!
//! The parser never copies and never waits: it goes as far as the bytes reach and remembers where it stopped.
//!
//! ```text
//!             '*' count                 '$' length              `length` bytes + 2
//!   +-------+ ---------> +-----------+ ----------> +----------+ ----------+
//!   | Start |            | missing>0 |             | bulk set |           |
//!   +-------+ <--------- +-----------+ <---------- +----------+ <---------+
//!    |     ^   missing=0
//!    +-----+
//!     a line of words; an empty line; a count of zero or less
//! ```
//!
//! Where Redis 7.0.15 is odd, so is this parser: a line of numbers ends at the first `\r` whatever follows it;
//! the two bytes behind an argument are skipped unread; and because Redis looks for line ends with `strchr`, a
//! NUL hides every line end behind it.
//!
//! Invariants, with `input` as of the last call: `done <= pos <= input.len()`; all spans end before `pos`;
//! no line end that was sought lies in `pos..scanned`.

use memchr::memchr2;

use super::{Limits, ProtocolError, Span, inline};
use crate::number::parse_i64;

/// How long a line may grow while its end has not arrived: Redis's `PROTO_INLINE_MAX_SIZE`.
const MAX_LINE: usize = 64 * 1024;

/// The most arguments of one command: C's `INT_MAX`.
const MAX_ARGUMENTS: i64 = i32::MAX as i64;

/// The most arguments of one command before authentication.
const MAX_ARGUMENTS_UNAUTHENTICATED: i64 = 10;

/// The longest argument before authentication.
const MAX_BULK_UNAUTHENTICATED: u64 = 16 * 1024;

/// How many spans are allocated at most before any is found.
const MAX_HINT: usize = 256;

/// What was complete, taken out of the parser.
pub(super) struct Taken {
    /// How many bytes at the start of the input are done with.
    pub(super) consumed: usize,
    /// The arguments of all complete commands, within those bytes.
    pub(super) spans: Vec<Span>,
    /// For each complete command but the last, where its arguments end in `spans`.
    pub(super) ends: Vec<u32>,
}

/// How far the input has been understood. See the file's head for the states.
#[derive(Debug, Default)]
pub(super) struct Parser {
    /// The first byte not yet understood.
    pos: usize,
    /// Where to go on looking for the end of the line that starts at `pos`.
    scanned: usize,
    /// The end of the last complete command.
    done: usize,
    /// Arguments of the current command still to come.
    missing: u32,
    /// The announced length of the current argument, which starts at `pos`.
    bulk: Option<usize>,
    /// The arguments found, those of the current command last.
    spans: Vec<Span>,
    /// For each complete command but the last, where its arguments end in `spans`.
    ends: Vec<u32>,
    /// Where those of the last one end; 0 if none is complete.
    complete: u32,
    /// Sizes of the previous `spans` and `ends`, as a guess at those of the next.
    hint: (usize, usize),
}

impl Parser {
    /// Reads on in `input`: what the last call was given, less what was [taken](Parser::take), with more bytes
    /// at its end. Inline arguments are unescaped in it.
    ///
    /// Stops after one command unless the client is authenticated: that command may change the limits.
    ///
    /// `input` is shorter than 4 GiB.
    pub(super) fn parse(&mut self, input: &mut [u8], limits: &Limits) -> Result<(), ProtocolError> {
        if self.spans.capacity() == 0 {
            self.spans = Vec::with_capacity(self.hint.0);
            self.ends = Vec::with_capacity(self.hint.1);
        }
        while self.pos < input.len() || self.missing > 0 {
            let complete = if self.missing > 0 {
                self.arguments(input, limits)?
            } else if input[self.pos] == b'*' {
                self.count(input, limits)? && self.arguments(input, limits)?
            } else {
                self.inline(input)?
            };
            if !complete || (self.finish(input)? && !limits.authenticated) {
                break;
            }
        }
        Ok(())
    }

    /// Takes the complete commands out; what is left refers to the input without them.
    pub(super) fn take(&mut self) -> Taken {
        let consumed = std::mem::take(&mut self.done);
        let mut taken = Taken { consumed, spans: Vec::new(), ends: Vec::new() };
        let complete = std::mem::take(&mut self.complete) as usize;
        if complete > 0 {
            let all = complete == self.spans.len();
            let current = if all { Vec::new() } else { self.spans.split_off(complete) };
            taken.spans = std::mem::replace(&mut self.spans, current);
            taken.ends = std::mem::take(&mut self.ends);
            self.hint = (taken.spans.len().min(MAX_HINT), taken.ends.len().min(MAX_HINT));
        }
        if consumed > 0 {
            self.pos -= consumed;
            self.scanned = self.scanned.saturating_sub(consumed);
            for span in &mut self.spans {
                span.start -= consumed as u32;
            }
        }
        taken
    }

    /// How many bytes the current argument needs beyond the `arrived` ones, if its length is known.
    pub(super) fn wanted(&self, arrived: usize) -> Option<usize> {
        let end = self.pos.saturating_add(self.bulk?).saturating_add(2);
        Some(end.saturating_sub(arrived))
    }

    /// The memory held apart from the input.
    pub(super) fn footprint(&self) -> usize {
        self.spans.capacity() * size_of::<Span>() + self.ends.capacity() * size_of::<u32>()
    }

    /// Closes the current command; tells whether it was one, not just an empty line.
    fn finish(&mut self, input: &[u8]) -> Result<bool, ProtocolError> {
        let first = self.complete as usize;
        let Some(name) = self.spans.get(first) else {
            self.done = self.pos;
            return Ok(false);
        };
        if is_http(&input[name.start as usize..(name.start + name.len) as usize]) {
            return Err(ProtocolError::CrossProtocol);
        }
        if first > 0 {
            self.ends.push(self.complete);
        }
        self.complete = self.spans.len() as u32;
        self.done = self.pos;
        Ok(true)
    }

    /// Reads `*count\r\n`; false until the line is whole. A count of zero or less leaves nothing missing.
    fn count(&mut self, input: &[u8], limits: &Limits) -> Result<bool, ProtocolError> {
        if let Some((count, next)) = short_number(input, self.pos + 1)
            && count <= MAX_ARGUMENTS_UNAUTHENTICATED as usize
        {
            self.pos = next;
            self.missing = count as u32;
            return Ok(true);
        }
        let Some(end) = self.line(input, ProtocolError::TooBigMultibulkCount)? else { return Ok(false) };
        let count = parse_i64(&input[self.pos + 1..end])
            .filter(|&count| count <= MAX_ARGUMENTS)
            .ok_or(ProtocolError::InvalidMultibulkLength)?;
        if count > MAX_ARGUMENTS_UNAUTHENTICATED && !limits.authenticated {
            return Err(ProtocolError::UnauthenticatedMultibulkLength);
        }
        self.pos = end + 2;
        self.missing = count.max(0) as u32;
        Ok(true)
    }

    /// Reads the missing arguments; false until all are whole.
    #[inline]
    fn arguments(&mut self, input: &[u8], limits: &Limits) -> Result<bool, ProtocolError> {
        while self.missing > 0 {
            let len = match self.bulk {
                Some(len) => len,
                None => match self.length(input, limits)? {
                    Some(len) => len,
                    None => return Ok(false),
                },
            };
            if input.len() - self.pos < len.saturating_add(2) {
                self.bulk = Some(len);
                return Ok(false);
            }
            self.bulk = None;
            self.spans.push(Span::new(self.pos, len));
            self.pos += len + 2;
            self.missing -= 1;
        }
        Ok(true)
    }

    /// Reads `$length\r\n`; `None` until the line is whole.
    #[inline]
    fn length(&mut self, input: &[u8], limits: &Limits) -> Result<Option<usize>, ProtocolError> {
        if input.get(self.pos) == Some(&b'$')
            && let Some((len, next)) = short_number(input, self.pos + 1)
            && len as u64 <= limits.max_bulk.min(MAX_BULK_UNAUTHENTICATED)
        {
            self.pos = next;
            return Ok(Some(len));
        }
        self.length_line(input, limits)
    }

    /// [`length`](Parser::length) for what is long, partial or wrong.
    #[cold]
    fn length_line(&mut self, input: &[u8], limits: &Limits) -> Result<Option<usize>, ProtocolError> {
        let Some(end) = self.line(input, ProtocolError::TooBigBulkCount)? else { return Ok(None) };
        if input[self.pos] != b'$' {
            return Err(ProtocolError::ExpectedDollar(input[self.pos]));
        }
        let len = parse_i64(&input[self.pos + 1..end])
            .and_then(|len| u64::try_from(len).ok())
            .filter(|&len| len <= limits.max_bulk)
            .ok_or(ProtocolError::InvalidBulkLength)?;
        if len > MAX_BULK_UNAUTHENTICATED && !limits.authenticated {
            return Err(ProtocolError::UnauthenticatedBulkLength);
        }
        self.pos = end + 2;
        usize::try_from(len).map(Some).map_err(|_| ProtocolError::InvalidBulkLength)
    }

    /// Finds the `\r` of the line at `pos`, once the byte behind it has arrived too.
    fn line(&mut self, input: &[u8], too_long: ProtocolError) -> Result<Option<usize>, ProtocolError> {
        let from = self.scanned.max(self.pos);
        let stop = memchr2(b'\r', b'\0', &input[from..]).map(|offset| from + offset);
        self.scanned = stop.unwrap_or(input.len());
        match stop {
            Some(end) if input[end] == b'\r' => Ok((end + 2 <= input.len()).then_some(end)),
            _ if input.len() - self.pos > MAX_LINE => Err(too_long),
            _ => Ok(None),
        }
    }

    /// Reads a line of words; false until the line is whole.
    fn inline(&mut self, input: &mut [u8]) -> Result<bool, ProtocolError> {
        let from = self.scanned.max(self.pos);
        let stop = memchr2(b'\n', b'\0', &input[from..]).map(|offset| from + offset);
        self.scanned = stop.unwrap_or(input.len());
        match stop {
            Some(newline) if input[newline] == b'\n' => {
                let line = &input[self.pos..newline];
                let end = newline - usize::from(line.last() == Some(&b'\r'));
                inline::split(input, self.pos, end, &mut self.spans)?;
                self.pos = newline + 1;
                Ok(true)
            }
            _ if input.len() - self.pos > MAX_LINE => Err(ProtocolError::TooBigInline),
            _ => Ok(false),
        }
    }
}

/// The number of one to eight digits at `at` and the position behind its line, if the line is whole, and plain.
#[inline]
fn short_number(input: &[u8], at: usize) -> Option<(usize, usize)> {
    /// So few that the number cannot overflow.
    const DIGITS: usize = 8;
    let line = input.get(at..)?;
    // Nearly all are these.
    if let [digit @ b'0'..=b'9', b'\r', _, ..] = line {
        return Some((usize::from(digit - b'0'), at + 3));
    }
    if let [ten @ b'1'..=b'9', one @ b'0'..=b'9', b'\r', _, ..] = line {
        return Some((usize::from(ten - b'0') * 10 + usize::from(one - b'0'), at + 4));
    }
    let mut value = 0;
    for (i, &byte) in line.iter().take(DIGITS + 1).enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            value = value * 10 + usize::from(digit);
            continue;
        }
        let next = at + i + 2;
        // A leading zero is only right in front of nothing else.
        let canonical = i == 1 || (i > 1 && input[at] != b'0');
        return (byte == b'\r' && canonical && next <= input.len()).then_some((value, next));
    }
    None
}

/// Whether this is the first word of an HTTP request line or of the header that follows it. Redis compares C
/// strings, so a NUL ends the word.
#[inline]
fn is_http(name: &[u8]) -> bool {
    let word = |name: &[u8]| name.split(|&byte| byte == 0).next().unwrap_or_default().to_ascii_lowercase();
    matches!(name, [b'P' | b'p', b'O' | b'o', ..] | [b'H' | b'h', b'O' | b'o', ..])
        && matches!(&*word(name), b"post" | b"host:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_byte_is_searched_twice_for_a_line_end() {
        for start in ["GET ", "*", "*1\r\n$"] {
            let mut input = start.as_bytes().to_vec();
            let mut parser = Parser::default();
            for _ in 0..1000 {
                parser.parse(&mut input, &Limits::default()).unwrap();
                assert_eq!(parser.take().consumed, 0);
                assert_eq!(parser.scanned, input.len(), "{start:?}");
                input.push(b'1');
            }
        }
    }

    #[test]
    fn a_short_number_is_plain_and_whole_or_left_to_the_slow_path() {
        for (line, expected) in [
            ("0\r\n", Some((0, 3))),
            ("12345678\r\n", Some((12_345_678, 10))),
            ("123456789\r\n", None),
            ("", None),
            ("1", None),
            ("1\r", None),
            ("\r\n", None),
            ("01\r\n", None),
            ("00\r\n", None),
            ("-1\r\n", None),
            ("1 \r\n", None),
        ] {
            assert_eq!(short_number(line.as_bytes(), 0), expected, "{line:?}");
        }
    }
}
