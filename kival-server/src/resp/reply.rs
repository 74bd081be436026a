//! Replies as values: what a command answers, before any protocol version is chosen.
//!
//! A reply says what it is in RESP3's terms; `encode` finds the RESP2 form of whatever RESP2 lacks.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

/// The answer to one command.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// `+OK`.
    Ok,
    /// A status: one line of text, with neither CR nor LF.
    Simple(Cow<'static, str>),
    /// An error.
    Error(ErrorReply),
    /// An integer.
    Integer(i64),
    /// A byte string.
    Bulk(Bytes),
    /// The absence of a value.
    Null,
    /// The absence of an array; RESP3 has only one null.
    NullArray,
    /// Replies in order.
    Array(Vec<Reply>),
    /// Pairs of keys and values; in RESP2 an array with the two in turn.
    Map(Vec<(Reply, Reply)>),
    /// Distinct replies in no order; in RESP2 an array.
    Set(Vec<Reply>),
    /// Something that is not an answer, such as a published message; in RESP2 an array.
    Push(Vec<Reply>),
    /// A floating point number; in RESP2 a byte string.
    Double(f64),
    /// A truth value; in RESP2 the integer 1 or 0.
    Bool(bool),
    /// The decimal digits of an integer of any size; in RESP2 a byte string.
    BigNumber(Bytes),
    /// A text for people, with its format in three letters (`txt`, `mkd`); in RESP2 a byte string.
    Verbatim {
        /// Exactly three ASCII letters.
        format: &'static str,
        /// The text itself.
        text: Bytes,
    },
    /// Several answers to one command, one after the other without a frame (`SUBSCRIBE a b`), or none.
    Sequence(Vec<Reply>),
}

impl Reply {
    /// A byte string.
    pub fn bulk(value: impl Into<Bytes>) -> Reply {
        Reply::Bulk(value.into())
    }

    /// A status line, such as `PONG`.
    pub fn status(text: impl Into<Cow<'static, str>>) -> Reply {
        Reply::Simple(text.into())
    }

    /// An error; the text starts with its code, such as `ERR` or `WRONGTYPE`.
    pub fn error(text: impl Into<ErrorReply>) -> Reply {
        Reply::Error(text.into())
    }

    /// A map whose keys are names, as in `HELLO` or `CONFIG GET`.
    pub fn fields<N: Into<Bytes>>(fields: impl IntoIterator<Item = (N, Reply)>) -> Reply {
        Reply::Map(fields.into_iter().map(|(name, value)| (Reply::bulk(name), value)).collect())
    }

    /// Whether the command failed.
    pub fn is_error(&self) -> bool {
        matches!(self, Reply::Error(_))
    }
}

impl From<i64> for Reply {
    fn from(value: i64) -> Reply {
        Reply::Integer(value)
    }
}

impl From<f64> for Reply {
    fn from(value: f64) -> Reply {
        Reply::Double(value)
    }
}

impl From<Bytes> for Reply {
    fn from(value: Bytes) -> Reply {
        Reply::Bulk(value)
    }
}

/// As a byte string; for a status see [`Reply::status`].
impl From<&'static str> for Reply {
    fn from(value: &'static str) -> Reply {
        Reply::bulk(value)
    }
}

/// As a byte string.
impl From<String> for Reply {
    fn from(value: String) -> Reply {
        Reply::bulk(value)
    }
}

/// Nothing is null.
impl<T: Into<Reply>> From<Option<T>> for Reply {
    fn from(value: Option<T>) -> Reply {
        value.map_or(Reply::Null, Into::into)
    }
}

impl From<Vec<Reply>> for Reply {
    fn from(value: Vec<Reply>) -> Reply {
        Reply::Array(value)
    }
}

impl From<ErrorReply> for Reply {
    fn from(value: ErrorReply) -> Reply {
        Reply::Error(value)
    }
}

/// Collects into an array.
impl<T: Into<Reply>> FromIterator<T> for Reply {
    fn from_iter<I: IntoIterator<Item = T>>(replies: I) -> Reply {
        Reply::Array(replies.into_iter().map(Into::into).collect())
    }
}

/// The text of an error reply, code included: one line, whatever a client made us quote in it.
///
/// Bytes, not characters: Redis quotes arguments in its errors as they came.
#[derive(Clone, PartialEq, Eq)]
pub struct ErrorReply(Cow<'static, [u8]>);

impl ErrorReply {
    /// The text, without the `-` in front and without CR or LF.
    pub fn text(&self) -> &[u8] {
        &self.0
    }

    /// The first word of the text, by which clients tell errors apart.
    pub fn code(&self) -> &[u8] {
        self.0.split(|&byte| byte == b' ').next().unwrap_or_default()
    }

    /// Drops line breaks around the text and makes spaces of those in it, as Redis does.
    fn one_line(text: Cow<'static, [u8]>) -> ErrorReply {
        let breaks = |byte: &u8| matches!(byte, b'\r' | b'\n');
        if !text.iter().any(breaks) {
            return ErrorReply(text);
        }
        let start = text.iter().position(|byte| !breaks(byte)).unwrap_or(text.len());
        let end = text.iter().rposition(|byte| !breaks(byte)).map_or(start, |last| last + 1);
        let line = text[start..end].iter().map(|byte| if breaks(byte) { b' ' } else { *byte });
        ErrorReply(line.collect())
    }
}

impl From<&'static str> for ErrorReply {
    fn from(text: &'static str) -> ErrorReply {
        ErrorReply::one_line(Cow::Borrowed(text.as_bytes()))
    }
}

impl From<String> for ErrorReply {
    fn from(text: String) -> ErrorReply {
        ErrorReply::one_line(Cow::Owned(text.into_bytes()))
    }
}

impl From<Vec<u8>> for ErrorReply {
    fn from(text: Vec<u8>) -> ErrorReply {
        ErrorReply::one_line(Cow::Owned(text))
    }
}

impl From<Cow<'static, str>> for ErrorReply {
    fn from(text: Cow<'static, str>) -> ErrorReply {
        match text {
            Cow::Borrowed(text) => text.into(),
            Cow::Owned(text) => text.into(),
        }
    }
}

impl fmt::Display for ErrorReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for ErrorReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ErrorReply({})", self.0.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &'static str, expected: &str) {
        assert_eq!(ErrorReply::from(text).to_string(), expected);
        assert_eq!(ErrorReply::from(text.to_owned()).to_string(), expected);
    }

    #[test]
    fn an_error_is_one_line() {
        check("ERR no", "ERR no");
        check("ERR a\r\nb\n", "ERR a  b");
        check("\r\nERR a", "ERR a");
        check("\r\n", "");
    }

    #[test]
    fn the_code_is_the_first_word() {
        assert_eq!(ErrorReply::from("WRONGTYPE Operation").code(), b"WRONGTYPE");
        assert_eq!(ErrorReply::from("EXECABORT").code(), b"EXECABORT");
    }

    #[test]
    fn values_turn_into_replies() {
        assert_eq!(Reply::from(None::<Bytes>), Reply::Null);
        assert_eq!(Reply::from(Some("a")), Reply::bulk("a"));
        assert_eq!([1, 2].into_iter().collect::<Reply>(), Reply::Array(vec![1.into(), 2.into()]));
        assert_eq!(Reply::fields([("a", 1.into())]), Reply::Map(vec![("a".into(), 1.into())]));
    }
}
