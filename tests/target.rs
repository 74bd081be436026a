//! The server under test: kival, or redis-server to try the tests themselves. The one place that knows
//! how the two are told the same thing.

use std::path::Path;

use kival_test_support::tools::not_applicable;
use kival_test_support::{Launch, Server};

/// Settings that redis-server does not know. Each takes one value.
const KIVAL_ONLY: [&str; 3] = ["--segment-size", "--reserved-space", "--scrub-rate"];

/// Whether redis-server stands in for kival.
pub(crate) fn is_redis() -> bool {
    std::env::var("KIVAL_TEST_SERVER").is_ok_and(|name| name == "redis")
}

/// For a test of what only kival promises: whether to go on. If not, it has said so.
pub(crate) fn is_kival() -> bool {
    if is_redis() {
        not_applicable("redis-server makes no such promise");
    }
    !is_redis()
}

/// How to start the server under test with these settings.
pub(crate) fn launch(args: &[&str]) -> Launch {
    if !is_redis() {
        return Launch::kival(Path::new(env!("CARGO_BIN_EXE_kival-server")), args);
    }
    let mut shared = Vec::new();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if KIVAL_ONLY.contains(arg) {
            rest.next();
        } else {
            shared.push(*arg);
        }
    }
    Launch::redis(&shared).expect("KIVAL_TEST_SERVER=redis needs redis-server")
}

/// A server under test, started with these settings on a directory of its own.
pub(crate) fn start(args: &[&str]) -> Server {
    launch(args).start()
}
