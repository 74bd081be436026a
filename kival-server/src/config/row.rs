//! A row of the table of settings: its parts, and how it reads and writes its field.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kival_engine::Window;

use super::error::ValueFault;
use super::events::NotifyEvents;
use super::fields::Config;
use super::lists::{BindAddress, OutputLimits};
use super::parse;
use super::settings::settings;
use super::values::Secret;

/// One setting: all that the command line, the files, CONFIG and the documentation need to know of it.
#[derive(Debug)]
pub struct Setting {
    /// Redis's name for it, in lower case.
    pub name: &'static str,
    /// The group it is shown in.
    pub heading: Heading,
    /// What values it takes, and the field that holds them.
    pub kind: Kind,
    /// The default, written as a file would write it.
    pub default: &'static str,
    /// What its numbers count; empty for those that count nothing.
    pub unit: &'static str,
    /// When it can be changed.
    pub change: Change,
    /// What it does, in one sentence without a full stop.
    pub help: &'static str,
}

/// Groups of settings, in the order in which they are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heading {
    /// Listening, connections.
    Network,
    /// Who may do what.
    Security,
    /// The log on disk.
    Store,
    /// Compaction of the log.
    Compaction,
    /// Backups.
    Backups,
    /// What is bounded.
    Limits,
    /// Work in the background.
    Background,
    /// What the server tells of itself.
    Logging,
    /// What clients ask for and cannot change.
    Facts,
}

impl Heading {
    /// All headings, in order.
    pub const ALL: &[Self] = &[
        Self::Network,
        Self::Security,
        Self::Store,
        Self::Compaction,
        Self::Backups,
        Self::Limits,
        Self::Background,
        Self::Logging,
        Self::Facts,
    ];

    /// The heading as shown.
    pub fn title(self) -> &'static str {
        match self {
            Self::Network => "Network",
            Self::Security => "Security",
            Self::Store => "Store",
            Self::Compaction => "Compaction",
            Self::Backups => "Backups",
            Self::Limits => "Limits",
            Self::Background => "Background work",
            Self::Logging => "Logging",
            Self::Facts => "Facts, for clients that ask",
        }
    }
}

/// When a setting can be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// At any time, with CONFIG SET.
    RunTime,
    /// Only when the server starts.
    Start,
    /// The same, and Redis has another word for it.
    Protected,
    /// Never: it tells how kival is.
    Never,
}

/// What values a setting takes, with access to its field. `get` and `set` take values that have been
/// checked.
#[derive(Debug)]
#[allow(
    missing_docs,
    reason = "get and set are the same in every kind, min and max are bounds, both allowed"
)]
pub enum Kind {
    /// `yes` or `no`.
    Bool { get: fn(&Config) -> bool, set: fn(&mut Config, bool) },
    /// An integer.
    Integer { min: i64, max: i64, get: fn(&Config) -> i64, set: fn(&mut Config, i64) },
    /// Whole seconds.
    Seconds { max: i64, get: fn(&Config) -> Duration, set: fn(&mut Config, Duration) },
    /// Bytes, with Redis's units.
    Memory { min: u64, max: u64, get: fn(&Config) -> u64, set: fn(&mut Config, u64) },
    /// One of a few words, by index.
    Word { words: &'static [&'static str], get: fn(&Config) -> &'static str, set: fn(&mut Config, usize) },
    /// Any bytes, never shown but to CONFIG GET.
    Secret { get: fn(&Config) -> &Secret, set: fn(&mut Config, Secret) },
    /// A file or directory.
    Path { may_be_empty: bool, get: fn(&Config) -> &Path, set: fn(&mut Config, PathBuf) },
    /// Addresses to listen on.
    Addresses { get: fn(&Config) -> &[BindAddress], set: fn(&mut Config, Vec<BindAddress>) },
    /// A part of the day.
    Window { get: fn(&Config) -> Window, set: fn(&mut Config, Window) },
    /// Classes of events, a letter each.
    Events { get: fn(&Config) -> NotifyEvents, set: fn(&mut Config, NotifyEvents) },
    /// Numbers from 0 to 100.
    Percentiles { get: fn(&Config) -> &[f64], set: fn(&mut Config, Vec<f64>) },
    /// Output limits by class of client.
    OutputLimits { get: fn(&Config) -> &OutputLimits, get_mut: fn(&mut Config) -> &mut OutputLimits },
    /// What is always the default. If it `insists`, a file that says otherwise is refused; else its line is skipped.
    Fact { insists: bool },
}

impl Setting {
    /// The setting of this name, in any case.
    pub fn find(name: &[u8]) -> Option<&'static Self> {
        settings().find(|setting| name.eq_ignore_ascii_case(setting.name.as_bytes()))
    }

    /// Whether the setting takes several words, one after the other.
    pub fn is_list(&self) -> bool {
        matches!(self.kind, Kind::Addresses { .. } | Kind::OutputLimits { .. } | Kind::Percentiles { .. })
    }

    /// Whether its value is not for others to see.
    pub fn is_secret(&self) -> bool {
        matches!(self.kind, Kind::Secret { .. })
    }

    /// The present value as CONFIG GET replies it.
    pub fn get(&self, config: &Config) -> Vec<u8> {
        match &self.kind {
            Kind::Bool { get, .. } => if get(config) { "yes" } else { "no" }.into(),
            Kind::Integer { get, .. } => get(config).to_string().into(),
            Kind::Seconds { get, .. } => get(config).as_secs().to_string().into(),
            Kind::Memory { get, .. } => get(config).to_string().into(),
            Kind::Word { get, .. } => get(config).into(),
            Kind::Secret { get, .. } => get(config).expose().to_vec(),
            Kind::Path { get, .. } => get(config).as_os_str().as_bytes().to_vec(),
            Kind::Addresses { get, .. } => {
                let words: Vec<String> = get(config).iter().map(BindAddress::to_string).collect();
                words.join(" ").into()
            }
            Kind::Window { get, .. } => get(config).to_string().into(),
            Kind::Events { get, .. } => get(config).to_string().into(),
            Kind::Percentiles { get, .. } => {
                let words: Vec<String> = get(config).iter().map(f64::to_string).collect();
                words.join(" ").into()
            }
            Kind::OutputLimits { get, .. } => get(config).to_string().into(),
            Kind::Fact { .. } => self.default.into(),
        }
    }

    /// Checks the words given for this setting and puts them into its field. As in Redis a list may come as
    /// one word, with single blanks inside. On an error nothing changes.
    ///
    /// # Errors
    /// Why the words are no value of this setting.
    pub fn set(&self, config: &mut Config, words: &[&[u8]]) -> Result<(), ValueFault> {
        match &self.kind {
            Kind::Bool { set, .. } => set(config, parse::boolean(one(words)?)?),
            Kind::Integer { min, max, set, .. } => {
                set(config, in_range(parse::integer(one(words)?)?, *min, *max)?);
            }
            Kind::Seconds { max, set, .. } => {
                let seconds = in_range(parse::integer(one(words)?)?, 0, *max)?;
                set(config, Duration::from_secs(seconds.unsigned_abs()));
            }
            Kind::Memory { min, max, set, .. } => {
                let bytes = parse::memory(one(words)?)?;
                if !(*min..=*max).contains(&bytes) {
                    return Err(ValueFault::OutOfRange { min: shown(*min), max: shown(*max) });
                }
                set(config, bytes);
            }
            Kind::Word { words: allowed, set, .. } => set(config, parse::word(one(words)?, allowed)?),
            Kind::Secret { set, .. } => set(config, Secret::new(one(words)?)),
            Kind::Path { may_be_empty, set, .. } => {
                let path = one(words)?;
                if path.contains(&0) || (path.is_empty() && !may_be_empty) {
                    return Err(ValueFault::NotAPath);
                }
                set(config, PathBuf::from(OsStr::from_bytes(path)));
            }
            Kind::Addresses { set, .. } => set(config, BindAddress::parse_all(&unfold(words))?),
            Kind::Window { set, .. } => {
                let text = str::from_utf8(one(words)?).map_err(|_| ValueFault::NotAWindow)?;
                set(config, text.parse().map_err(|_| ValueFault::NotAWindow)?);
            }
            Kind::Events { set, .. } => set(config, NotifyEvents::parse(one(words)?)?),
            Kind::Percentiles { set, .. } => {
                set(config, unfold(words).into_iter().map(parse::percentile).collect::<Result<_, _>>()?);
            }
            Kind::OutputLimits { get_mut, .. } => get_mut(config).update(&unfold(words))?,
            Kind::Fact { .. } => {
                if !matches!(words, [word] if self.is_default(word)) {
                    return Err(ValueFault::Fact { value: self.default });
                }
            }
        }
        Ok(())
    }

    /// Whether a word means the default, as far as words and plain numbers go.
    fn is_default(&self, word: &[u8]) -> bool {
        let number = |text: &[u8]| parse::memory(text).ok().filter(|_| !text.is_empty());
        let same_number = number(word).is_some_and(|value| number(self.default.as_bytes()) == Some(value));
        word.eq_ignore_ascii_case(self.default.as_bytes()) || same_number
    }

    /// What stands for a value in help and documentation, such as `yes|no` or `SECONDS`.
    pub fn value_name(&self) -> String {
        match &self.kind {
            Kind::Bool { .. } => "yes|no".into(),
            Kind::Word { words, .. } => words.join("|"),
            Kind::Integer { .. } if self.unit.is_empty() => "NUMBER".into(),
            Kind::Integer { .. } | Kind::Seconds { .. } | Kind::Memory { .. } => {
                self.unit.to_uppercase().replace(' ', "_")
            }
            Kind::Secret { .. } => "PASSWORD".into(),
            Kind::Path { .. } => "PATH".into(),
            Kind::Addresses { .. } => "ADDRESS ...".into(),
            Kind::Window { .. } => "always|never|HH-HH".into(),
            Kind::Events { .. } => "CLASSES".into(),
            Kind::Percentiles { .. } => "PERCENT ...".into(),
            Kind::OutputLimits { .. } => "CLASS HARD SOFT SECONDS ...".into(),
            Kind::Fact { .. } => "VALUE".into(),
        }
    }
}

fn one<'a>(words: &[&'a [u8]]) -> Result<&'a [u8], ValueFault> {
    match words {
        [word] => Ok(word),
        _ => Err(ValueFault::WrongCount),
    }
}

/// A list that came as one word is cut at each blank; an empty word is an empty list.
fn unfold<'a>(words: &[&'a [u8]]) -> Vec<&'a [u8]> {
    match words {
        [[]] => Vec::new(),
        [word] => word.split(|byte| *byte == b' ').collect(),
        _ => words.to_vec(),
    }
}

fn in_range(number: i64, min: i64, max: i64) -> Result<i64, ValueFault> {
    if (min..=max).contains(&number) { Ok(number) } else { Err(ValueFault::OutOfRange { min, max }) }
}

fn shown(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
