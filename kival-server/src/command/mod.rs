//! The commands: one table of rows, a file a family.
//!
//! A row says everything that differs between commands: arity, flags, key positions, ACL categories,
//! documentation and the function that runs it. Gates, COMMAND, parking and statistics read the row;
//! no code outside this folder knows a command by its name. To add a command, write its row and its
//! function in the file of its family, and a test.
//!
//! A handler is a plain function of the [`Context`]: it neither waits nor locks nor sees a socket. It
//! reads before it writes, so that one that meets a value on disk can start again later.

mod bitfield;
mod bitmap;
mod bits;
mod client;
mod connection;
pub mod context;
mod expiry;
mod generic;
mod hyperloglog;
mod info;
mod introspection;
mod kival;
mod lcs;
mod object;
mod options;
mod persistence;
mod pubsub;
mod row;
mod scan;
mod serialized;
mod server;
mod string;
mod string_numeric;
mod string_set;
mod transaction;

pub use context::{Abort, Context, Outcome, Wait, WaitFor};
pub use row::{Categories, Command, Flags, Group, KeySpec, Keys};

use crate::resp::{Args, ErrorReply};
use foldhash::fast::FixedState;
use std::collections::HashMap;
use std::sync::LazyLock;

/// The families' rows.
const FAMILIES: &[&[Command]] = &[
    bitfield::COMMANDS,
    bitmap::COMMANDS,
    client::COMMANDS,
    connection::COMMANDS,
    expiry::COMMANDS,
    generic::COMMANDS,
    hyperloglog::COMMANDS,
    info::COMMANDS,
    introspection::COMMANDS,
    kival::COMMANDS,
    lcs::COMMANDS,
    object::COMMANDS,
    persistence::COMMANDS,
    pubsub::COMMANDS,
    scan::COMMANDS,
    serialized::COMMANDS,
    server::COMMANDS,
    string::COMMANDS,
    string_numeric::COMMANDS,
    string_set::COMMANDS,
    transaction::COMMANDS,
];

/// Nobody can add a name that collides, so the quickest hash will do.
static BY_NAME: LazyLock<HashMap<&'static [u8], &'static Command, FixedState>> =
    LazyLock::new(|| all().map(|command| (command.name.as_bytes(), command)).collect());

/// Longest name of a command, in bytes.
const LONGEST_NAME: usize = 32;

/// All commands, by family.
pub fn all() -> impl Iterator<Item = &'static Command> {
    FAMILIES.iter().flat_map(|family| family.iter())
}

/// The command of this name, in whatever case.
pub fn find(name: &[u8]) -> Option<&'static Command> {
    let mut lower = [0; LONGEST_NAME];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    BY_NAME.get(&*lower).copied()
}

/// The row that a request names; for a subcommand that of its container, then its own.
///
/// # Errors
/// Redis's reply to a request for a command or subcommand that is not there.
pub fn resolve(args: Args<'_>) -> Result<(&'static Command, &'static Command), ErrorReply> {
    let command = find(args.name()).ok_or_else(|| unknown_command(args))?;
    if command.subcommands.is_empty() || args.len() < 2 {
        return Ok((command, command));
    }
    let wanted = &args[1];
    let found = command.subcommands.iter().find(|row| row.name.as_bytes().eq_ignore_ascii_case(wanted));
    found.map(|found| (command, found)).ok_or_else(|| {
        let try_help = format!("'. Try {} HELP.", command.name.to_ascii_uppercase());
        [b"ERR unknown subcommand '", shown(wanted, SHOWN), try_help.as_bytes()].concat().into()
    })
}

/// The name of a command as replies give it: `get`, or `config|set` for a subcommand.
pub fn full_name(container: &Command, command: &Command) -> String {
    if std::ptr::eq(container, command) {
        command.name.to_owned()
    } else {
        format!("{}|{}", container.name, command.name)
    }
}

/// Redis shows this much of a name in an error, and of all arguments together.
const SHOWN: usize = 128;

/// What C prints of an argument: at most `most` bytes, up to a NUL.
fn shown(arg: &[u8], most: usize) -> &[u8] {
    let cut = &arg[..arg.len().min(most)];
    &cut[..cut.iter().position(|&byte| byte == 0).unwrap_or(cut.len())]
}

fn unknown_command(args: Args<'_>) -> ErrorReply {
    let mut beginning: Vec<u8> = Vec::new();
    for arg in args.iter().skip(1) {
        if beginning.len() >= SHOWN {
            break;
        }
        let room = SHOWN - beginning.len();
        beginning.push(b'\'');
        beginning.extend_from_slice(shown(arg, room));
        beginning.extend_from_slice(b"' ");
    }
    let name = shown(args.name(), SHOWN);
    [b"ERR unknown command '", name, b"', with args beginning with: ", &beginning].concat().into()
}
