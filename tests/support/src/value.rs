//! A reply, parsed, in the types of RESP2 and RESP3; and bytes made readable for messages.

use std::fmt;

/// A reply. The three ways to say "nothing" (`$-1`, `*-1`, `_`) are one here; where the difference
/// matters, compare [`Frame::raw`](crate::Frame::raw).
#[derive(Clone, PartialEq)]
pub enum Value {
    /// `+`
    Simple(Vec<u8>),
    /// `-` or `!`
    Error(Vec<u8>),
    /// `:`
    Int(i64),
    /// `$`
    Bulk(Vec<u8>),
    /// `$-1`, `*-1` or `_`
    Nil,
    /// `*`
    Array(Vec<Value>),
    /// `%`, in the order of the wire
    Map(Vec<(Value, Value)>),
    /// `~`
    Set(Vec<Value>),
    /// `>`
    Push(Vec<Value>),
    /// `,`, as text, since its digits matter
    Double(Vec<u8>),
    /// `#`
    Bool(bool),
    /// `(`
    BigNumber(Vec<u8>),
    /// `=`, the three letters of its format and a colon included
    Verbatim(Vec<u8>),
}

impl Value {
    /// `+OK`
    pub fn ok() -> Value {
        Value::Simple(b"OK".to_vec())
    }

    /// A bulk string.
    pub fn bulk(bytes: impl AsRef<[u8]>) -> Value {
        Value::Bulk(bytes.as_ref().to_vec())
    }

    /// The bytes of a string of any type, error or number text; nothing for other types.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Value::Simple(b) | Value::Error(b) | Value::Bulk(b) | Value::Verbatim(b) => Some(b),
            Value::Double(b) | Value::BigNumber(b) => Some(b),
            _ => None,
        }
    }

    /// [`Value::bytes`] as text, with whatever is not UTF-8 replaced; empty for other types.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.bytes().unwrap_or_default()).into_owned()
    }

    /// The number of a `:` reply.
    pub fn int(&self) -> Option<i64> {
        if let Value::Int(n) = self { Some(*n) } else { None }
    }

    /// The elements of an array, a set or a push.
    pub fn items(&self) -> Option<&[Value]> {
        match self {
            Value::Array(items) | Value::Set(items) | Value::Push(items) => Some(items),
            _ => None,
        }
    }

    /// Whether it is an error reply.
    pub fn is_error(&self) -> bool {
        matches!(self, Value::Error(_))
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Simple(b) => write!(f, "+{}", printable(b)),
            Value::Error(b) => write!(f, "-{}", printable(b)),
            Value::Int(n) => write!(f, ":{n}"),
            Value::Bulk(b) => write!(f, "\"{}\"", printable(b)),
            Value::Nil => f.write_str("nil"),
            Value::Array(items) => f.debug_list().entries(items).finish(),
            Value::Map(pairs) => f.debug_map().entries(pairs.iter().map(|(k, v)| (k, v))).finish(),
            Value::Set(items) => f.debug_set().entries(items).finish(),
            Value::Push(items) => write!(f, "push {items:?}"),
            Value::Double(b) | Value::BigNumber(b) => f.write_str(&printable(b)),
            Value::Bool(b) => write!(f, "{b}"),
            Value::Verbatim(b) => write!(f, "verbatim \"{}\"", printable(b)),
        }
    }
}

/// The most bytes of one string that a message shows.
const SHOWN: usize = 160;

/// Bytes for a message: escaped, and cut in the middle of nowhere when long.
pub fn printable(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(SHOWN)];
    let rest = bytes.len() - shown.len();
    let tail = if rest > 0 { format!("... and {rest} bytes more") } else { String::new() };
    format!("{}{tail}", shown.escape_ascii())
}
