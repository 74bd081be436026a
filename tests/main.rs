//! The whole-system tests: each starts real server programs and talks to them over sockets. One module a
//! promise; what they share is in `tests/support`.
//!
//! `KIVAL_TEST_SERVER=redis` runs them against redis-server in place of kival, which is how the tests
//! themselves are tested. `KIVAL_SEED` repeats a randomized test, `KIVAL_REQUIRE_TOOLS=1` makes a missing
//! redis-server, redis-cli, redis-py, strace or cc, or no right to mount, an error. `KIVAL_DIFF_COMMANDS`,
//! `KIVAL_CHURN_KEYS`, `KIVAL_CRASH_CYCLES`, `KIVAL_CUT_CYCLES`, `KIVAL_POWER_CYCLES` and `KIVAL_LINEAR_CYCLES`
//! set the sizes of the long ones; `tests/soak` runs them in full.

#![allow(clippy::unwrap_used, reason = "all of this is test code, helpers included")]

mod backup;
mod changes;
mod churn;
mod clients;
mod cold;
mod commands;
mod compaction;
mod connections;
mod crash;
mod debug;
mod differential;
mod durability;
mod exchange;
mod faults;
mod import;
mod inside;
mod large;
mod limits;
mod linearizable;
mod messages;
mod migrate;
mod monitor;
mod paged;
mod programs;
mod quarantine;
mod readme;
mod restart;
mod scrub;
mod server;
mod settings;
mod slow;
mod target;
mod tools;
mod tracking;
mod transactions;
