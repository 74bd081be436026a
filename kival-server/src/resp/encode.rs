//! Replies to bytes, in either version of the protocol, with the bytes of Redis 7.0.15.

use bytes::{Bytes, BytesMut};

use super::Reply;
use crate::number::{format_f64, write_at_end};

/// The version of the protocol a client has chosen with `HELLO`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// What every connection starts with.
    #[default]
    Resp2,
    /// With types for maps, sets, doubles, booleans and pushes, and a single null.
    Resp3,
}

impl Protocol {
    /// The number `HELLO` knows this version by.
    pub fn version(self) -> i64 {
        match self {
            Protocol::Resp2 => 2,
            Protocol::Resp3 => 3,
        }
    }
}

/// Where encoded bytes go.
pub trait Sink {
    /// Copies bytes to the end.
    fn put(&mut self, bytes: &[u8]);

    /// Adds bytes to the end, by reference if that is worth it.
    fn put_shared(&mut self, bytes: &Bytes) {
        self.put(bytes);
    }
}

impl Sink for BytesMut {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Appends the bytes of a reply.
pub fn encode<S: Sink>(reply: &Reply, protocol: Protocol, out: &mut S) {
    let resp3 = protocol == Protocol::Resp3;
    match reply {
        Reply::Ok => out.put(b"+OK\r\n"),
        Reply::Integer(value) => integer(*value, out),
        Reply::Bulk(value) => bulk(value, out),
        Reply::Null | Reply::NullArray if resp3 => out.put(b"_\r\n"),
        Reply::Null => out.put(b"$-1\r\n"),
        Reply::NullArray => out.put(b"*-1\r\n"),
        Reply::Simple(text) => line(b'+', text.as_bytes(), out),
        Reply::Error(error) => line(b'-', error.text(), out),
        Reply::Array(items) => aggregate(b'*', items, protocol, out),
        Reply::Set(items) => aggregate(if resp3 { b'~' } else { b'*' }, items, protocol, out),
        Reply::Push(items) => aggregate(if resp3 { b'>' } else { b'*' }, items, protocol, out),
        Reply::Map(pairs) => {
            let (marker, count) = if resp3 { (b'%', pairs.len()) } else { (b'*', pairs.len() * 2) };
            header(marker, count, out);
            for (key, value) in pairs {
                encode(key, protocol, out);
                encode(value, protocol, out);
            }
        }
        Reply::Double(value) => text_or_bulk(b',', format_f64(*value).as_bytes(), protocol, out),
        Reply::BigNumber(digits) => text_or_bulk(b'(', digits, protocol, out),
        Reply::Bool(value) if resp3 => out.put(if *value { b"#t\r\n" } else { b"#f\r\n" }),
        Reply::Bool(value) => out.put(if *value { b":1\r\n" } else { b":0\r\n" }),
        Reply::Verbatim { format, text } if resp3 => {
            debug_assert_eq!(format.len(), 3, "clients cut the format off by its length");
            header(b'=', text.len() + 4, out);
            out.put(format.as_bytes());
            out.put(b":");
            out.put_shared(text);
            out.put(b"\r\n");
        }
        Reply::Verbatim { text, .. } => bulk(text, out),
        Reply::Sequence(replies) => replies.iter().for_each(|reply| encode(reply, protocol, out)),
    }
}

/// Appends the beginning of an array of so many replies.
pub fn array<S: Sink>(length: usize, out: &mut S) {
    header(b'*', length, out);
}

/// Writes `<marker><number>\r\n` in one go: the commonest write of all.
#[inline]
fn header<S: Sink>(marker: u8, number: usize, out: &mut S) {
    signed_header(marker, false, number as u64, out);
}

fn integer<S: Sink>(value: i64, out: &mut S) {
    signed_header(b':', value < 0, value.unsigned_abs(), out);
}

#[inline]
fn signed_header<S: Sink>(marker: u8, negative: bool, magnitude: u64, out: &mut S) {
    /// Marker, sign and 20 digits.
    const BREAK: usize = 22;
    let mut text = [0; BREAK + 2];
    text[BREAK..].copy_from_slice(b"\r\n");
    let mut start = write_at_end(&mut text[..BREAK], magnitude) - 1;
    if negative {
        text[start] = b'-';
        start -= 1;
    }
    text[start] = marker;
    out.put(&text[start..]);
}

#[inline]
fn bulk<S: Sink>(value: &Bytes, out: &mut S) {
    header(b'$', value.len(), out);
    out.put_shared(value);
    out.put(b"\r\n");
}

fn line<S: Sink>(marker: u8, text: &[u8], out: &mut S) {
    debug_assert!(!text.iter().any(|byte| matches!(byte, b'\r' | b'\n')), "a line break ends the reply");
    out.put(&[marker]);
    out.put(text);
    out.put(b"\r\n");
}

fn text_or_bulk<S: Sink>(marker: u8, text: &[u8], protocol: Protocol, out: &mut S) {
    match protocol {
        Protocol::Resp3 => line(marker, text, out),
        Protocol::Resp2 => {
            header(b'$', text.len(), out);
            out.put(text);
            out.put(b"\r\n");
        }
    }
}

fn aggregate<S: Sink>(marker: u8, items: &[Reply], protocol: Protocol, out: &mut S) {
    header(marker, items.len(), out);
    for item in items {
        encode(item, protocol, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(reply: Reply, resp2: &str, resp3: &str) {
        for (protocol, expected) in [(Protocol::Resp2, resp2), (Protocol::Resp3, resp3)] {
            let mut out = BytesMut::new();
            encode(&reply, protocol, &mut out);
            assert_eq!(out.escape_ascii().to_string(), expected.escape_default().to_string(), "{protocol:?}");
        }
    }

    #[test]
    fn what_both_versions_share_is_the_same_in_both() {
        for (reply, expected) in [
            (Reply::Ok, "+OK\r\n"),
            (Reply::status("PONG"), "+PONG\r\n"),
            (Reply::error("ERR no\r\nway"), "-ERR no  way\r\n"),
            (Reply::Integer(0), ":0\r\n"),
            (Reply::Integer(i64::MIN), ":-9223372036854775808\r\n"),
            (Reply::bulk("ab\r\n"), "$4\r\nab\r\n\r\n"),
            (Reply::bulk(""), "$0\r\n\r\n"),
            (Reply::Array(vec![]), "*0\r\n"),
            (Reply::Array(vec![1.into(), Reply::Array(vec!["x".into()])]), "*2\r\n:1\r\n*1\r\n$1\r\nx\r\n"),
            (Reply::Sequence(vec![Reply::Ok, 1.into()]), "+OK\r\n:1\r\n"),
            (Reply::Sequence(vec![]), ""),
        ] {
            check(reply, expected, expected);
        }
    }

    #[test]
    fn resp3_has_types_that_resp2_spells_otherwise() {
        check(Reply::Null, "$-1\r\n", "_\r\n");
        check(Reply::NullArray, "*-1\r\n", "_\r\n");
        check(Reply::Map(vec![("a".into(), 1.into())]), "*2\r\n$1\r\na\r\n:1\r\n", "%1\r\n$1\r\na\r\n:1\r\n");
        check(Reply::Set(vec![1.into()]), "*1\r\n:1\r\n", "~1\r\n:1\r\n");
        check(Reply::Push(vec![1.into()]), "*1\r\n:1\r\n", ">1\r\n:1\r\n");
        check(Reply::Bool(true), ":1\r\n", "#t\r\n");
        check(Reply::Bool(false), ":0\r\n", "#f\r\n");
        check(Reply::BigNumber("123".into()), "$3\r\n123\r\n", "(123\r\n");
        check(Reply::Verbatim { format: "txt", text: "hi".into() }, "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n");
        check(Reply::Array(vec![Reply::Null]), "*1\r\n$-1\r\n", "*1\r\n_\r\n");
    }

    #[test]
    fn doubles_have_seventeen_digits() {
        check(Reply::Double(1.5), "$3\r\n1.5\r\n", ",1.5\r\n");
        check(Reply::Double(0.1), "$19\r\n0.10000000000000001\r\n", ",0.10000000000000001\r\n");
        check(Reply::Double(f64::NEG_INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n");
    }
}
