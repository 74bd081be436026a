//! What a client can get wrong on the wire, and what it is told before its connection is closed.

use std::io;

use super::ErrorReply;

/// A violation of the protocol. The stream cannot be read past it: reply if there is a reply, then close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// An inline command went on for more than 64 KiB.
    #[error("too big inline request")]
    TooBigInline,
    /// An inline command opened a quote and did not close it, or closed it in the middle of a word.
    #[error("unbalanced quotes in request")]
    UnbalancedQuotes,
    /// The line with the number of arguments went on for more than 64 KiB.
    #[error("too big mbulk count string")]
    TooBigMultibulkCount,
    /// The number of arguments is no number, or beyond C's `int`.
    #[error("invalid multibulk length")]
    InvalidMultibulkLength,
    /// More arguments than `AUTH` or `HELLO` needs, from a client that has not authenticated.
    #[error("unauthenticated multibulk length")]
    UnauthenticatedMultibulkLength,
    /// The line with the length of an argument went on for more than 64 KiB.
    #[error("too big bulk count string")]
    TooBigBulkCount,
    /// An argument did not start with `$`, but with this byte.
    #[error("expected '$', got '{}'", .0.escape_ascii())]
    ExpectedDollar(u8),
    /// The length of an argument is no number, negative, or above `proto-max-bulk-len`.
    #[error("invalid bulk length")]
    InvalidBulkLength,
    /// A longer argument than `AUTH` or `HELLO` needs, from a client that has not authenticated.
    #[error("unauthenticated bulk length")]
    UnauthenticatedBulkLength,
    /// An HTTP request: somebody makes a browser speak to us. There is no reply.
    #[error("possible cross protocol scripting: POST or Host: is no command")]
    CrossProtocol,
    /// An unfinished command outgrew `client-query-buffer-limit`. There is no reply.
    #[error("query buffer limit exceeded")]
    QueryBufferLimit,
}

impl ProtocolError {
    /// What Redis answers, or `None` where it closes the connection without a word.
    pub fn reply(&self) -> Option<ErrorReply> {
        match self {
            ProtocolError::CrossProtocol | ProtocolError::QueryBufferLimit => None,
            // The byte goes out as it came in, even where it is no character.
            ProtocolError::ExpectedDollar(byte) => {
                let text = [&b"ERR Protocol error: expected '$', got '"[..], &[*byte], b"'"].concat();
                Some(ErrorReply::from(text))
            }
            error => Some(ErrorReply::from(format!("ERR Protocol error: {error}"))),
        }
    }
}

/// Why no more requests can be read from a connection.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The client broke the protocol.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// The transport failed; made by `Framed`, never by the codec itself.
    #[error(transparent)]
    Io(#[from] io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(error: ProtocolError, expected: Option<&[u8]>) {
        let reply = error.reply();
        assert_eq!(reply.as_ref().map(ErrorReply::text), expected);
    }

    /// The texts are those of redis-server 7.0.15.
    #[test]
    fn each_error_is_told_in_the_words_of_redis() {
        use ProtocolError::*;
        check(TooBigInline, Some(b"ERR Protocol error: too big inline request"));
        check(UnbalancedQuotes, Some(b"ERR Protocol error: unbalanced quotes in request"));
        check(TooBigMultibulkCount, Some(b"ERR Protocol error: too big mbulk count string"));
        check(InvalidMultibulkLength, Some(b"ERR Protocol error: invalid multibulk length"));
        check(UnauthenticatedMultibulkLength, Some(b"ERR Protocol error: unauthenticated multibulk length"));
        check(TooBigBulkCount, Some(b"ERR Protocol error: too big bulk count string"));
        check(ExpectedDollar(b'x'), Some(b"ERR Protocol error: expected '$', got 'x'"));
        check(ExpectedDollar(0xff), Some(b"ERR Protocol error: expected '$', got '\xff'"));
        check(InvalidBulkLength, Some(b"ERR Protocol error: invalid bulk length"));
        check(UnauthenticatedBulkLength, Some(b"ERR Protocol error: unauthenticated bulk length"));
        check(CrossProtocol, None);
        check(QueryBufferLimit, None);
    }
}
