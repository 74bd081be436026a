//! Programs that a test needs beside the server, and what happens where one is missing.

use std::env;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::Command;

/// The path of the program `tool`, if it is on `PATH`.
pub fn find(tool: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join(tool)).find(|path| path.is_file())
}

/// Whether `tool` can be used. Where it cannot, the caller returns at once: this has said so, or has
/// failed the test, see [`skip`].
pub fn have(tool: &str) -> bool {
    let found = find(tool).is_some();
    if !found {
        skip(&format!("{tool} is not on PATH"));
    }
    found
}

/// Says on the real standard error (`cargo test` swallows what `eprintln!` says in a passing test)
/// that the running test is skipped, and why.
///
/// # Panics
/// If `KIVAL_REQUIRE_TOOLS=1`, which `.ci/run` sets: there nothing may be skipped for want of a tool.
pub fn skip(reason: &str) {
    assert!(
        env::var_os("KIVAL_REQUIRE_TOOLS").is_none_or(|v| v != "1"),
        "KIVAL_REQUIRE_TOOLS=1, but {reason}"
    );
    not_applicable(reason);
}

/// Like [`skip`], for a test that has no meaning here: never an error.
pub fn not_applicable(reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // Nothing can be done about a closed standard error.
    let _ = writeln!(io::stderr(), "skipped {test}: {reason}");
}

/// Whether `program` can run this text, which loads what a script needs.
pub fn can(program: &str, flag: &str, text: &str) -> bool {
    have(program) && {
        let able =
            Command::new(program).args([flag, text]).output().is_ok_and(|output| output.status.success());
        if !able {
            skip(&format!("{program} cannot run {text:?} (see .ci/run for what to install)"));
        }
        able
    }
}
