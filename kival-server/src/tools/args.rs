//! The command lines of the tools.

use super::time;
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// The first words that mean a tool. A configuration file of such a name is given as `./check`.
pub(super) const NAMES: [&str; 5] = ["check", "repair", "inspect", "restore", "import"];

/// The command line of a tool.
#[derive(Debug, Parser)]
#[command(name = "kival-server", disable_help_subcommand = true)]
pub(super) struct Line {
    #[command(subcommand)]
    pub(super) tool: Tool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Tool {
    /// Read a data directory or backup and name every damaged place; exit code 0: sound, 1: damaged, 2: could
    /// not be checked
    Check(Check),
    /// Build a new directory of all that is sound, and report what is lost; exit code 0: nothing is lost, 1:
    /// something is, 2: not done
    Repair(Repair),
    /// Show what the files hold, structure by structure, past any damage
    Inspect(Inspect),
    /// Build a new directory that holds what the store held earlier
    Restore(Restore),
    /// Copy the strings of a server or of an RDB file into a store, with their expiries; what is there of the
    /// same names is replaced; exit code 0: all are copied, 1: keys of other types were left out, and are named, 2:
    /// not done
    Import(Import),
}

#[derive(Debug, Args)]
pub(super) struct Check {
    /// Data directory or backup
    #[arg(long, value_name = "DIR")]
    pub(super) dir: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Repair {
    /// Damaged data directory or backup; it is only read
    #[arg(long, value_name = "DIR")]
    pub(super) dir: PathBuf,
    /// Directory to build [default: DIR.repaired]
    #[arg(long, value_name = "NEW")]
    pub(super) to: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").args(["dir", "files"]).required(true))]
pub(super) struct Inspect {
    /// Data directory or backup
    #[arg(long, value_name = "DIR")]
    pub(super) dir: Option<PathBuf>,
    /// Manifests, segments or hints
    #[arg(value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// Lines for people, or one JSON object a line; bytes of keys that are not ASCII are escaped as \xff
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(super) format: Format,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("source").args(["from", "rdb"]).required(true))]
#[command(group = ArgGroup::new("destination").args(["to", "dir"]))]
pub(super) struct Import {
    /// Server to read, walked by SCAN while it serves: redis://[[user]:password@]host[:port][/database]; without
    /// a database all of them
    #[arg(long, value_name = "URL")]
    pub(super) from: Option<String>,
    /// RDB file to read, as redis-server writes it (dump.rdb), up to that of version 7.4
    #[arg(long, value_name = "FILE")]
    pub(super) rdb: Option<PathBuf>,
    /// Running server to write to [default: redis://127.0.0.1:6380]
    #[arg(long, value_name = "URL")]
    pub(super) to: Option<String>,
    /// Data directory to write to, which no server has open; it is made if it is not there
    #[arg(long, value_name = "DIR")]
    pub(super) dir: Option<PathBuf>,
    /// Databases of DIR
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(super) databases: u32,
}

/// What the lines are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Text,
    Json,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("target").args(["to_sequence", "to_time"]).required(true))]
pub(super) struct Restore {
    /// Data directory or backup; it is only read
    #[arg(long, value_name = "DIR")]
    pub(super) dir: PathBuf,
    /// Directory to build
    #[arg(long, value_name = "NEW")]
    pub(super) to: PathBuf,
    /// As it was after the record with this number
    #[arg(long, value_name = "N")]
    pub(super) to_sequence: Option<u64>,
    /// As it was at this time: Unix time in seconds or milliseconds, or as 2026-11-22T10:00:00Z
    #[arg(long, value_name = "T", value_parser = time::parse)]
    pub(super) to_time: Option<u64>,
}
