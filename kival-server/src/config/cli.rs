//! The command line: an option for every row of the table, and the configuration file first.
//!
//! clap finds the options and prints the help; values go to the table unread, so that they mean the same
//! as in a file and are refused with the same words.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::{Arg, ArgAction, Command, value_parser};

use super::error::ConfigError;
use super::row::{Heading, Kind, Setting};
use super::settings::settings;

const FILE: &str = "FILE";
const AFTER_HELP: &str = "Sizes in bytes take the units b, k, kb, m, mb, g, gb, in any case: \
                          1k is 1000 bytes, 1kb is 1024. Every option can also stand in FILE, a line each, \
                          as in redis.conf: the name, then the value. The command line beats the file.\n\n\
                          Tools for a directory that no server has open, each with its own --help:\n\
                          kival-server check, repair, inspect, restore. And kival-server import, which \
                          copies the keys of a redis-server or of a dump.rdb.";

/// What the command line says.
pub(super) struct CommandLine {
    /// The configuration file to read first.
    pub file: Option<PathBuf>,
    /// Settings with the words given for them.
    pub values: Vec<(&'static Setting, Vec<Vec<u8>>)>,
}

/// Reads a command line that begins with the program's name.
pub(super) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<CommandLine, ConfigError> {
    let matches = command().try_get_matches_from(join_lists(args)).map_err(ConfigError::Usage)?;
    let file = matches.get_one::<PathBuf>(FILE).cloned();
    let mut values = Vec::new();
    for setting in settings() {
        for value in matches.get_many::<OsString>(setting.name).into_iter().flatten() {
            values.push((setting, vec![value.as_bytes().to_vec()]));
        }
    }
    Ok(CommandLine { file, values })
}

/// The definition that clap works from.
pub(super) fn command() -> Command {
    let file = Arg::new(FILE)
        .value_parser(value_parser!(PathBuf))
        .help("Configuration file in the form of redis.conf; goes before the options");
    Command::new("kival-server")
        .about(env!("CARGO_PKG_DESCRIPTION"))
        .version(env!("CARGO_PKG_VERSION"))
        .override_usage("kival-server [FILE] [--SETTING VALUE]...")
        .after_help(AFTER_HELP)
        .arg(file)
        .args(
            Heading::ALL
                .iter()
                .flat_map(|heading| settings().filter(|setting| setting.heading == *heading).map(option)),
        )
}

fn option(setting: &'static Setting) -> Arg {
    let arg = Arg::new(setting.name)
        .long(setting.name)
        .help_heading(setting.heading.title())
        .value_name(setting.value_name())
        .value_parser(value_parser!(OsString))
        .allow_negative_numbers(true)
        .action(ArgAction::Append)
        .help(help(setting));
    match setting.kind {
        Kind::Bool { .. } => arg.num_args(0..=1).default_missing_value("yes"),
        _ => arg,
    }
}

fn help(setting: &Setting) -> String {
    match (setting.default, setting.unit) {
        ("", _) => format!("{} [default: none]", setting.help),
        (default, "") => format!("{} [default: {default}]", setting.help),
        (default, unit) => format!("{} [{unit}; default: {default}]", setting.help),
    }
}

/// Makes one argument of a list's option and all words after it, up to the next option: `--bind a -b` is
/// `--bind=a -b`. clap would take `-b` for an option of its own.
fn join_lists(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut joined: Vec<OsString> = Vec::new();
    // Set while the last argument of `joined` is a list's option: what goes before the next word of it.
    let mut glue: Option<&str> = None;
    for arg in args {
        if arg.as_bytes().starts_with(b"--") {
            glue = names_a_list(&arg).then_some("=");
            joined.push(arg);
            continue;
        }
        match (joined.last_mut(), glue) {
            (Some(option), Some(with)) => {
                option.push(with);
                option.push(arg);
                glue = Some(" ");
            }
            _ => joined.push(arg),
        }
    }
    joined
}

fn names_a_list(arg: &OsStr) -> bool {
    let name = arg.as_bytes().strip_prefix(b"--");
    settings().any(|setting| setting.is_list() && name == Some(setting.name.as_bytes()))
}
