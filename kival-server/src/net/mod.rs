//! Sockets: accepting connections, reading requests, writing replies; and, for `transfer`, a connection to another
//! server.
//!
//! Nothing here knows the command table or the store. A connection decodes what it reads into batches, hands them to
//! the engine task, and writes what comes back.

pub mod connection;
pub mod doors;
pub mod listener;
pub mod outbox;
pub mod shared;
pub mod transfer;
