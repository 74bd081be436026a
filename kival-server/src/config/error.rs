//! What can be wrong with a value, and with a configuration as a whole at start.
//!
//! The texts of [`ValueFault`] are Redis 7.0's wherever Redis has one: clients' test suites compare them.
//! No text holds a value: it could be a password.

use std::io;
use std::path::PathBuf;

use super::source::{Place, Source};

/// Why a setting refuses a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueFault {
    /// Neither `yes` nor `no`.
    #[error("argument must be 'yes' or 'no'")]
    NotBool,
    /// Not a decimal integer of 64 bits.
    #[error("argument couldn't be parsed into an integer")]
    NotInteger,
    /// Not digits with one of the units `b k kb m mb g gb`.
    #[error("argument must be a memory value")]
    NotMemory,
    /// A number outside the setting's range, both ends of which are allowed.
    #[error("argument must be between {min} and {max} inclusive")]
    OutOfRange {
        /// Least value allowed, in the setting's unit.
        min: i64,
        /// Greatest value allowed, in the setting's unit.
        max: i64,
    },
    /// Not one of the setting's words.
    #[error("argument(s) must be one of the following: {}", .words.join(", "))]
    NotAWord {
        /// The words that are allowed.
        words: &'static [&'static str],
    },
    /// No value, or more than one for a setting that takes one.
    #[error("wrong number of arguments")]
    WrongCount,
    /// Neither `always` nor `never` nor two hours.
    #[error("argument must be always, never or two different hours as 22-06")]
    NotAWindow,
    /// A path that is empty where one is needed, or that holds a NUL byte.
    #[error("argument must be a path")]
    NotAPath,
    /// More addresses than a server can bind.
    #[error("Too many bind addresses specified.")]
    TooManyAddresses,
    /// An empty list of addresses: kival has no other way in than TCP.
    #[error("argument must name at least one address")]
    NoAddress,
    /// An address that cannot be one: empty, not UTF-8, or with blanks or control characters in it.
    #[error("Failed to bind to specified addresses.")]
    BadAddress,
    /// Not groups of class, hard limit, soft limit, seconds.
    #[error("Wrong number of arguments in buffer limit configuration.")]
    LimitCount,
    /// A class of clients that does not exist.
    #[error("Invalid client class specified in buffer limit configuration.")]
    LimitClass,
    /// A limit that is not a size, or seconds that are not a number.
    #[error("Error in hard, soft or soft_seconds setting in buffer limit configuration.")]
    LimitNumber,
    /// A letter that stands for no class of events.
    #[error("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")]
    NotEvents,
    /// Percentiles that are no numbers.
    #[error("Invalid latency-tracking-info-percentiles parameters")]
    NotPercentiles,
    /// Percentiles that are none.
    #[error("latency-tracking-info-percentiles parameters should sit between [0.0,100.0]")]
    NoPercentile,
    /// Another value for what is a fact of this server.
    #[error("this cannot be set: it is always '{value}'")]
    Fact {
        /// The only value there is.
        value: &'static str,
    },
}

/// Why the server cannot start with the configuration it was given.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The command line does not parse, or asks for help or the version.
    #[error(transparent)]
    Usage(clap::Error),
    /// A configuration file cannot be read.
    #[error("{}cannot read configuration file {}: {source}", prefix(.from), .file.display())]
    Unreadable {
        /// The `include` line that named the file; none if the command line did.
        from: Option<Place>,
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file includes itself, directly or through others.
    #[error("{at}: include loop: {} is already being read", .file.display())]
    IncludeLoop {
        /// The `include` line that closes the loop.
        at: Place,
        /// The file that it names.
        file: PathBuf,
    },
    /// An `include` line that does not name exactly one file.
    #[error("{at}: include needs exactly one file name")]
    BadInclude {
        /// The line.
        at: Place,
    },
    /// A line whose quotes do not close, or close in the middle of a word.
    #[error("{at}: unbalanced quotes")]
    UnbalancedQuotes {
        /// The line.
        at: Place,
    },
    /// A line that sets what does not exist.
    #[error("{at}: unknown setting '{name}'{}", hint(.nearest))]
    Unknown {
        /// The line.
        at: Place,
        /// The name as written, cut and made printable.
        name: String,
        /// The setting whose name is nearest, if any is near.
        nearest: Option<&'static str>,
    },
    /// A line that asks for something of Redis that is not here, and that whoever wrote it relies on.
    #[error("{at}: kival has no '{name}' ({why}), and does not start as if it had: remove the line")]
    NotHere {
        /// The line.
        at: Place,
        /// The setting of Redis.
        name: String,
        /// What is the case here.
        why: &'static str,
    },
    /// A line that asks for another value of a fact, and that whoever wrote it relies on.
    #[error(
        "{at}: {name} cannot be set ({}): remove the line, or overrule it on the command line by --{name} {}",
        as_remark(.help), shown(.value)
    )]
    Contradicts {
        /// The line.
        at: Place,
        /// The fact.
        name: &'static str,
        /// What it always is.
        value: &'static str,
        /// What that means.
        help: &'static str,
    },
    /// A value that its setting refuses.
    #[error("{at}: {name}: {fault}")]
    BadValue {
        /// Where the value was given.
        at: Source,
        /// The setting.
        name: &'static str,
        /// What is wrong with the value.
        fault: ValueFault,
    },
}

impl ConfigError {
    /// The status that the process should exit with: 0 after `--help` and `--version`, 2 for a command
    /// line that does not parse, 1 for the rest.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(usage) => u8::try_from(usage.exit_code()).unwrap_or(2),
            _ => 1,
        }
    }

    /// Prints help and version to standard output, errors to standard error (where logging is not set up
    /// yet).
    ///
    /// # Errors
    /// What writing to the stream said.
    pub fn print(&self) -> io::Result<()> {
        use io::Write;
        match self {
            Self::Usage(usage) => usage.print(),
            other => writeln!(io::stderr(), "kival-server: {other}"),
        }
    }
}

/// A sentence of help as it stands in brackets.
pub(super) fn as_remark(help: &str) -> String {
    let mut chars = help.chars();
    chars.next().into_iter().flat_map(char::to_lowercase).chain(chars).collect()
}

fn shown(value: &str) -> &str {
    if value.is_empty() { "\"\"" } else { value }
}

fn prefix(from: &Option<Place>) -> String {
    from.as_ref().map_or(String::new(), |place| format!("{place}: "))
}

fn hint(nearest: &Option<&'static str>) -> String {
    nearest.map_or(String::new(), |name| format!(", did you mean '{name}'?"))
}
