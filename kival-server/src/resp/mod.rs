//! The Redis protocol: requests from bytes, replies to bytes.
//!
//! Like h2's `frame` and `codec`, this is layered from pure to practical:
//!
//! | file | story |
//! | --- | --- |
//! | `batch` | the commands that one read completed, in one buffer without a copy |
//! | `inline` | commands typed by hand: words, quotes and escapes |
//! | `parser` | the resumable grammar, over any slice of bytes |
//! | `error` | what a client can get wrong, and what it is told |
//! | `codec` | the parser under `tokio_util`'s `Decoder`, with the limits on memory |
//! | `reply` | replies as values |
//! | `encode` | replies as bytes of either protocol version |
//! | `output` | bytes waiting for the socket; large values stay where they are |
//!
//! Nothing here knows a command: names, arity and permissions are decided elsewhere.

mod batch;
mod codec;
mod encode;
mod error;
mod inline;
mod output;
mod parser;
mod reply;
#[cfg(test)]
mod tests;

pub use batch::{Args, Batch, Span};
pub use codec::{Codec, Limits};
pub use encode::{Protocol, Sink, array, encode};
pub use error::{DecodeError, ProtocolError};
pub use output::{Mark, Output};
pub use reply::{ErrorReply, Reply};
