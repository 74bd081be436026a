//! CONFIG GET and CONFIG SET. The owner of a setting's effects looks at what changed and acts; if that
//! fails, it drops the changed copy and answers with [`SetError::not_applied`].

use super::error::ValueFault;
use super::fields::Config;
use super::row::{Change, Setting};
use super::settings::settings;
use super::source::Source;

/// The settings whose values a CONFIG SET changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changed {
    /// Their names, in the order of the command. A setting that was set to the value it had is not among
    /// them.
    pub names: Vec<&'static str>,
}

impl Changed {
    /// Whether the setting of this (lower-case) name changed.
    pub fn contains(&self, name: &str) -> bool {
        self.names.contains(&name)
    }
}

/// Why CONFIG SET changed nothing. Displayed it is the error reply of Redis, `ERR` included, without the
/// framing of the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// There is no such setting.
    #[error("ERR Unknown option or number of arguments for CONFIG SET - '{name}'")]
    Unknown {
        /// The name as the client wrote it.
        name: String,
    },
    /// One of the settings cannot be what it should be.
    #[error("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}")]
    Failed {
        /// The setting.
        name: String,
        /// What hinders it.
        why: Refusal,
    },
}

/// What hinders a CONFIG SET.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It cannot change while the server runs.
    #[error("can't set immutable config")]
    Immutable,
    /// The same, for what would let a client write where it should not.
    #[error("can't set protected config")]
    Protected,
    /// The command names it twice.
    #[error("duplicate parameter")]
    Duplicate,
    /// It refuses the value.
    #[error(transparent)]
    Value(ValueFault),
    /// The value is fine, but could not be put into effect.
    #[error("{0}")]
    NotApplied(String),
}

impl SetError {
    /// The error for a value that was accepted and could not be put into effect, such as a port in use.
    pub fn not_applied(name: &'static str, why: impl Into<String>) -> Self {
        Self::Failed { name: name.into(), why: Refusal::NotApplied(why.into()) }
    }
}

impl Config {
    /// CONFIG GET: names and values of the settings that match any of the patterns, each once, in the order
    /// of the table. A name that is no pattern is answered as it was asked. `matches(pattern, name)` ignores case.
    pub fn get_matching<P: AsRef<[u8]>>(
        &self,
        patterns: &[P],
        matches: impl Fn(&[u8], &[u8]) -> bool,
    ) -> Vec<(Vec<u8>, Vec<u8>)> {
        let asked = |name: &'static str, pattern: &[u8]| {
            let (name, glob) = (name.as_bytes(), c_string(pattern));
            match glob.iter().any(|byte| b"[*?".contains(byte)) {
                true => matches(glob, name).then(|| name.to_vec()),
                false => pattern.eq_ignore_ascii_case(name).then(|| pattern.to_vec()),
            }
        };
        let found = |setting: &Setting| {
            let name = patterns.iter().find_map(|pattern| asked(setting.name, pattern.as_ref()))?;
            Some((name, setting.get(self)))
        };
        settings().filter_map(found).collect()
    }

    /// CONFIG SET: all the pairs of name and value, or none. Names are checked before values, and the first
    /// thing wrong is told, as Redis does.
    ///
    /// # Errors
    /// The error reply; `self` is as it was.
    pub fn set_many<N: AsRef<[u8]>, V: AsRef<[u8]>>(
        &mut self,
        pairs: &[(N, V)],
    ) -> Result<Changed, SetError> {
        let settings = may_set(pairs.iter().map(|(name, _)| name.as_ref()))?;
        let mut new = self.clone();
        for (setting, (_, value)) in settings.iter().zip(pairs) {
            new.assign(setting, &[value.as_ref()], Source::ConfigSet).map_err(|fault| SetError::Failed {
                name: setting.name.into(),
                why: Refusal::Value(fault),
            })?;
        }
        // The warnings are for an operator at start, not for a client.
        let _ = new.sanitize();
        let changed = settings.iter().filter(|setting| setting.get(self) != setting.get(&new));
        let changed = Changed { names: changed.map(|setting| setting.name).collect() };
        *self = new;
        Ok(changed)
    }
}

/// The settings of these names, if all exist, may change now and come once.
fn may_set<'a>(names: impl Iterator<Item = &'a [u8]>) -> Result<Vec<&'static Setting>, SetError> {
    let mut settings: Vec<&'static Setting> = Vec::new();
    for name in names {
        let setting = Setting::find(name).ok_or_else(|| SetError::Unknown { name: one_line(name) })?;
        let refused = |why| SetError::Failed { name: one_line(name), why };
        match setting.change {
            Change::Start => return Err(refused(Refusal::Immutable)),
            Change::Protected => return Err(refused(Refusal::Protected)),
            // A fact may be set to what it is.
            Change::RunTime | Change::Never => {}
        }
        if settings.iter().any(|earlier| earlier.name == setting.name) {
            return Err(refused(Refusal::Duplicate));
        }
        settings.push(setting);
    }
    Ok(settings)
}

/// What C sees of it: all up to a NUL.
fn c_string(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A client's name for a setting, fit for the single line of an error reply: what C sees of it.
fn one_line(name: &[u8]) -> String {
    String::from_utf8_lossy(c_string(name)).replace(['\r', '\n'], " ")
}
