//! The whole-system tests: each starts real server programs and talks to them over sockets. One module a
//! promise; what they share is in `tests/support`.
//!
//! `KIVAL_TEST_SERVER=redis` runs them against redis-server in place of kival, which is how the tests
//! themselves are tested. `KIVAL_SEED` repeats a randomized test, `KIVAL_REQUIRE_TOOLS=1` makes a missing
//! redis-server, redis-cli, redis-py or strace, or no right to mount, an error. `KIVAL_DIFF_COMMANDS` and
//! `KIVAL_CHURN_KEYS` set the size of the two long ones.

#![allow(clippy::unwrap_used, reason = "all of this is test code, helpers included")]

mod churn;
mod clients;
mod cold;
mod differential;
mod durability;
mod faults;
mod inside;
mod limits;
mod readme;
mod restart;
mod target;
mod tools;
