//! The tools: `kival-server check`, `repair`, `inspect`, `restore`, and `import`.
//!
//! The work of the first four is [`kival_engine::offline`]'s; here are its command lines, its words and its exit codes. What
//! was asked for goes to standard output, progress and errors to standard error.

mod args;
mod check;
mod import;
mod inspect;
mod progress;
mod repair;
mod restore;
mod time;

use args::{Line, Tool};
use clap::Parser;
use kival_engine::offline::ToolError;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

/// The work is done, and there is nothing to complain of.
const FINE: u8 = 0;
/// A check found damage, or a repair lost something.
const DAMAGED: u8 = 1;
/// The work could not be done.
const FAILED: u8 = 2;

/// How many keys of a damaged place are named.
const KEYS_SHOWN: usize = 10;

/// Runs the tool that the first argument after the program's name asks for; `None` if it asks for none,
/// and the server is meant.
pub fn run(args: &[OsString]) -> Option<ExitCode> {
    let asked = args.get(1)?;
    if !args::NAMES.iter().any(|name| asked == name) {
        return None;
    }
    let line = match Line::try_parse_from(args) {
        Ok(line) => line,
        Err(error) => {
            // Where even that cannot be printed, the code still tells.
            let _ = error.print();
            return Some(ExitCode::from(error.exit_code() as u8));
        }
    };
    let mut out = io::stdout().lock();
    let done = match line.tool {
        Tool::Check(args) => check::run(&args, &mut out),
        Tool::Repair(args) => repair::run(&args, &mut out),
        Tool::Inspect(args) => inspect::run(&args, &mut out),
        Tool::Import(args) => import::run(&args, &mut out),
        Tool::Restore(args) => restore::run(&args, &mut out),
    };
    let done = done.and_then(|code| out.flush().map(|()| code).map_err(Failure::Output));
    Some(ExitCode::from(done.unwrap_or_else(|failure| failure.tell())))
}

/// What to tell someone whose command line names a tool, but not first.
pub fn misplaced(args: &[OsString]) -> Option<String> {
    let tool = args::NAMES.iter().find(|name| args.iter().skip(2).any(|arg| arg == *name))?;
    Some(format!("if you mean the tool, its name comes first: kival-server {tool} ..."))
}

/// Why a tool gave up.
enum Failure {
    Tool(ToolError),
    Output(io::Error),
}

impl From<ToolError> for Failure {
    fn from(error: ToolError) -> Failure {
        match error {
            // Only showing goes to standard output.
            ToolError::Io { action: "show", source, .. } => Failure::Output(source),
            error => Failure::Tool(error),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Output(error)
    }
}

impl Failure {
    /// Says it, and gives the exit code.
    fn tell(&self) -> u8 {
        match self {
            // Who reads has seen enough: `inspect | head`.
            Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return FINE,
            Failure::Output(error) => eprintln!("kival-server: cannot write: {error}"),
            Failure::Tool(ToolError::BelowFloor { floor, time_ms: Some(ms) }) => eprintln!(
                "kival-server: this store can be restored to sequence {floor} and later, which is {} and later \
                 at the latest; what came before has been compacted away",
                time::text(*ms)
            ),
            Failure::Tool(ToolError::BeforeFirst { sequence, time_ms }) => eprintln!(
                "kival-server: this store held nothing then; its first record is sequence {sequence}, which is of {}: \
                 restore to that time or later",
                time::text(*time_ms)
            ),
            Failure::Tool(error) => eprintln!("kival-server: {error}"),
        }
        FAILED
    }
}

/// The first of so many keys, as text.
fn some_keys<'a>(keys: impl ExactSizeIterator<Item = &'a [u8]>) -> String {
    let count = keys.len();
    let shown: Vec<String> = keys.take(KEYS_SHOWN).map(|key| key.escape_ascii().to_string()).collect();
    let more = count.saturating_sub(KEYS_SHOWN);
    if more > 0 { format!("{} and {more} more", shown.join(" ")) } else { shown.join(" ") }
}
