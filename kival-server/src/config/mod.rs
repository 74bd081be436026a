//! Configuration: what can be set, where the values come from, and how they change.
//!
//! One table, [`settings`], says all there is to say of a setting; everything else reads it:
//!
//! | file | lives there |
//! | --- | --- |
//! | `settings` | the table: a row a setting |
//! | `row` | what a row is, and how it gets and sets its field |
//! | `fields` | [`Config`], the plain struct that the rest of the server reads, and its cross-checks |
//! | `values`, `lists` | the types of fields that are more than a number |
//! | `parse` | one value: yes or no, integers, sizes with units |
//! | `words`, `file` | the lines and the files of redis.conf's form |
//! | `foreign` | settings that only Redis has, as its files name them |
//! | `cli` | the command line |
//! | `runtime` | CONFIG GET and CONFIG SET |
//! | `nearest`, `markdown` | "did you mean", and the table for the README |
//!
//! Precedence: default, then the file, then the command line, then CONFIG SET; [`Source`] remembers which.
//!
//! Nothing here acts on a value: listening anew, raising limits and changing the log's level are the
//! business of those who own sockets, limits and logs.

mod cli;
mod error;
mod events;
mod fields;
mod file;
mod foreign;
mod lists;
mod markdown;
mod nearest;
mod parse;
mod rewrite;
mod row;
mod runtime;
mod settings;
mod source;
mod values;
mod words;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::PathBuf;

pub use error::{ConfigError, ValueFault};
pub use events::NotifyEvents;
pub use fields::{Config, Warning};
pub use lists::{BindAddress, OutputLimit, OutputLimits};
pub use markdown::markdown_table;
pub use row::{Change, Heading, Kind, Setting};
pub use runtime::{Changed, Refusal, SetError};
pub use settings::settings;
pub use source::{Place, Source, Sources};
pub use values::{AppendFsync, DebugCommand, LogFormat, LogLevel, OnCorruption, Secret};

/// What [`load`] hands to `main`.
#[derive(Debug)]
pub struct Loaded {
    /// The values to start with, already [sanitized](Config::sanitize).
    pub config: Config,
    /// The configuration file that the command line named, if it named one.
    pub file: Option<PathBuf>,
    /// What is allowed but probably not meant; to be logged once logging is set up.
    pub warnings: Vec<Warning>,
}

/// Reads the command line and the configuration file that it names, if any.
///
/// `args` begins with the program's name, as [`std::env::args_os`] does.
///
/// # Errors
/// The first thing that is wrong, with the place where it stands. `--help` and `--version` come back as
/// an error too, one whose [`exit_code`](ConfigError::exit_code) is 0: see [`ConfigError::print`].
pub fn load(args: impl IntoIterator<Item = OsString>) -> Result<Loaded, ConfigError> {
    let line = cli::parse(args)?;
    let mut config = Config::default();
    let mut warnings = Vec::new();
    if let Some(path) = &line.file {
        let overruled: Vec<&str> = line.values.iter().map(|(setting, _)| setting.name).collect();
        warnings = file::read(&mut config, path, &overruled)?;
    }
    for (setting, words) in &line.values {
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        config.assign(setting, &words, Source::CommandLine).map_err(|fault| ConfigError::BadValue {
            at: Source::CommandLine,
            name: setting.name,
            fault,
        })?;
    }
    warnings.extend(config.sanitize());
    Ok(Loaded { config, file: line.file, warnings })
}
