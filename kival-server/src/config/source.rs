//! Where each setting's value came from: for error messages now, for CONFIG REWRITE later.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// A line of a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, as it was named.
    pub file: PathBuf,
    /// The line, the first being 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// Where a setting's present value came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Source {
    /// Nobody set it.
    #[default]
    Default,
    /// A line of a configuration file.
    File(Place),
    /// The command line.
    CommandLine,
    /// A client, while the server ran.
    ConfigSet,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(place) => place.fmt(f),
            Self::CommandLine => f.write_str("command line"),
            Self::ConfigSet => f.write_str("CONFIG SET"),
        }
    }
}

/// The source of every setting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// By setting's name; a setting that is not here has its default.
    set: BTreeMap<&'static str, Source>,
}

impl Sources {
    /// Where the setting of this (lower-case) name got its value.
    pub fn of(&self, name: &str) -> &Source {
        self.set.get(name).unwrap_or(&Source::Default)
    }

    pub(super) fn note(&mut self, name: &'static str, source: Source) {
        self.set.insert(name, source);
    }
}
