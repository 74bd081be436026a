//! What the whole-system tests share, each helper written once.
//!
//! - [`server`]: start, kill and restart a server program on a free port and a temporary directory.
//! - [`client`]: a blocking RESP2/RESP3 client that hands out the raw bytes of each reply.
//! - [`frame`], [`value`]: a reply, read and parsed; bytes made readable.
//! - [`disk`]: a disk below a real server that loses what was not synced.
//! - [`linear`]: whether a concurrent history can be told as a sequence.
//! - [`tools`]: which programs are there, and what happens to a test when one is not.
//! - [`wait`]: the only place that sleeps.
//! - [`seed`]: random numbers that can be had again.
//!
//! Nothing here knows what kival should answer; that is for the tests to say. Helpers panic with a
//! message rather than return errors, since their only callers are tests.

pub mod client;
pub mod disk;
pub mod frame;
pub mod linear;
pub mod seed;
pub mod server;
pub mod tools;
pub mod value;
pub mod wait;

pub use client::{Client, encode};
pub use frame::Frame;
pub use server::{Launch, Process, Server, StartFailure};
pub use tools::{can, have, skip};
pub use value::{Value, printable};
pub use wait::eventually;
