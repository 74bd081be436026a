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
mod changes;
mod client;
mod connection;
pub mod context;
mod debug;
mod doctor;
mod expiry;
mod generic;
mod graph;
mod hyperloglog;
mod info;
mod introspection;
mod kival;
mod lcs;
mod lolwut;
mod memory;
mod migrate;
mod monitor;
mod object;
mod options;
mod parts;
mod persistence;
mod pubsub;
mod redact;
mod row;
mod scan;
mod serialized;
mod server;
mod slowlog;
mod string;
mod string_numeric;
mod string_set;
mod syntax;
mod transaction;

pub use changes::answer as changes_answer;
pub use context::{Abort, Context, LargeArg, Outcome, Wait, WaitFor};
pub use redact::redacted;
pub use row::{Categories, Command, Deprecated, Flags, Group, KeySpec, Keys, KeysBehind};

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
    debug::COMMANDS,
    expiry::COMMANDS,
    generic::COMMANDS,
    hyperloglog::COMMANDS,
    info::COMMANDS,
    introspection::COMMANDS,
    kival::COMMANDS,
    lcs::COMMANDS,
    lolwut::COMMANDS,
    memory::COMMANDS,
    migrate::COMMANDS,
    monitor::COMMANDS,
    object::COMMANDS,
    persistence::COMMANDS,
    pubsub::COMMANDS,
    scan::COMMANDS,
    serialized::COMMANDS,
    server::COMMANDS,
    slowlog::COMMANDS,
    string::COMMANDS,
    string_numeric::COMMANDS,
    string_set::COMMANDS,
    transaction::COMMANDS,
];

/// A command as a request names it.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The container of a subcommand; else the command itself.
    pub container: &'static Command,
    /// The command.
    pub command: &'static Command,
    /// Its place among all rows of all families, each container before its subcommands.
    pub index: usize,
}

impl Row {
    /// `get`, or `config|set` for a subcommand.
    pub fn name(&self) -> String {
        full_name(self.container, self.command)
    }
}

/// Nobody can add a name that collides, so the quickest hash will do.
static BY_NAME: LazyLock<HashMap<&'static [u8], Row, FixedState>> = LazyLock::new(|| {
    let containers = rows().filter(|row| std::ptr::eq(row.container, row.command));
    containers.map(|row| (row.command.name.as_bytes(), row)).collect()
});

/// Those whose name fits a word, near the place of that: every request is looked up here.
static BY_WORD: LazyLock<[Option<(u64, Row)>; WORDS]> = LazyLock::new(|| {
    let mut table = [None; WORDS];
    for row in BY_NAME.values().filter(|row| row.command.name.len() <= size_of::<u64>()) {
        let word = word(row.command.name.as_bytes());
        let mut place = place(word);
        while table[place].is_some() {
            place = (place + 1) % WORDS;
        }
        table[place] = Some((word, *row));
    }
    table
});

/// Places for names that fit a word, many more than there are.
const WORDS: usize = 1024;

/// A name of eight bytes at most in lower case, as a number.
fn word(name: &[u8]) -> u64 {
    name.iter().fold(0, |word, byte| word << 8 | u64::from(byte.to_ascii_lowercase()))
}

fn place(word: u64) -> usize {
    (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - WORDS.ilog2())) as usize
}

/// Longest name of a command, in bytes.
const LONGEST_NAME: usize = 32;

/// All commands, by family.
pub fn all() -> impl Iterator<Item = &'static Command> {
    FAMILIES.iter().flat_map(|family| family.iter())
}

/// All commands and subcommands, in the order of their indices.
pub fn rows() -> impl Iterator<Item = Row> {
    let with_subcommands = all().flat_map(|container| {
        std::iter::once((container, container))
            .chain(container.subcommands.iter().map(move |command| (container, command)))
    });
    with_subcommands.enumerate().map(|(index, (container, command))| Row { container, command, index })
}

/// The command of this name, in whatever case.
pub fn find(name: &[u8]) -> Option<&'static Command> {
    find_row(name).map(|row| row.command)
}

fn find_row(name: &[u8]) -> Option<Row> {
    if name.len() <= size_of::<u64>() {
        let (word, mut at) = (word(name), place(word(name)));
        while let Some((other, row)) = &BY_WORD[at] {
            // Zeros ahead of a name do not show in its word.
            if *other == word && row.command.name.len() == name.len() {
                return Some(*row);
            }
            at = (at + 1) % WORDS;
        }
        return None;
    }
    let mut lower = [0; LONGEST_NAME];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    BY_NAME.get(&*lower).copied()
}

/// The row that a request names.
///
/// # Errors
/// Redis's reply to a request for a command or subcommand that is not there.
pub fn resolve(args: Args<'_>) -> Result<Row, ErrorReply> {
    let row = find_row(args.name()).ok_or_else(|| unknown_command(args))?;
    let Row { container, index, .. } = row;
    if container.subcommands.is_empty() || args.len() < 2 {
        return Ok(row);
    }
    let wanted = &args[1];
    let is_wanted = |row: &Command| row.name.as_bytes().eq_ignore_ascii_case(wanted);
    if let Some(place) = container.subcommands.iter().position(is_wanted) {
        return Ok(Row { container, command: &container.subcommands[place], index: index + 1 + place });
    }
    let try_help = format!("'. Try {} HELP.", container.name.to_ascii_uppercase());
    Err([b"ERR unknown subcommand '", shown(wanted, SHOWN), try_help.as_bytes()].concat().into())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_found_by_its_name_in_any_case_and_by_nothing_else() {
        for command in all() {
            let name = command.name.as_bytes();
            for written in [name.to_vec(), name.to_ascii_uppercase()] {
                assert!(std::ptr::eq(find(&written).unwrap(), command), "{}", command.name);
            }
            for other in
                [&[b"\0", name].concat()[..], &[name, b"\0"].concat(), &[name, b"x"].concat(), &name[1..]]
            {
                let found = find(other).map(|found| found.name.as_bytes());
                assert!(found.is_none_or(|found| found == other), "{other:?} is taken for {found:?}");
            }
        }
        assert!(find(b"").is_none());
        assert!(find(&[b'a'; 100]).is_none());
    }
}
