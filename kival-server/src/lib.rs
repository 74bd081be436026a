//! kival's server: the Redis protocol over [`kival_engine`].
//!
//! Data goes one way: socket, RESP decoding, channel, engine task (command table, gates, handler, store),
//! reply, RESP encoding, socket.
//!
//! | module | holds |
//! | --- | --- |
//! | [`resp`] | the protocol: requests from bytes, replies to bytes |
//! | [`net`] | sockets |
//! | [`engine_task`] | the one task that touches the engine |
//! | [`command`] | the command table and the handlers |
//! | [`config`] | settings: command line, file, CONFIG |
//! | [`server`] | all of it put together |
//! | [`number`], [`glob`] | Redis's numbers and patterns |
//! | [`hll`] | HyperLogLogs in Redis's bytes |
//! | [`rdb`] | Redis's serialisation of values |
//! | [`limits`], [`process`], [`logging`] | descriptors, memory, logs |
//! | [`tools`] | the tools: check, repair, inspect, restore, import |

pub mod command;
pub mod config;
pub mod engine_task;
pub mod glob;
pub mod hll;
pub mod limits;
pub mod logging;
pub mod net;
pub mod number;
pub mod process;
pub mod rdb;
pub mod resp;
pub mod server;
pub mod tools;
