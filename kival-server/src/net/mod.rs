//! Sockets: accepting connections, reading requests, writing replies.
//!
//! Nothing here knows a command or a key. A connection decodes what it reads into batches, hands them to
//! the engine task, and writes what comes back.

pub mod connection;
pub mod listener;
pub mod outbox;
pub mod shared;
