//! Setting up the log: where lines go, what they look like, and which are written.
//!
//! Lines are written with `tracing`'s macros all over the server; this file is the only one that knows
//! `tracing-subscriber`.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::level_filters::LevelFilter;
use tracing::{Dispatch, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::config::{Config, LogFormat, LogLevel};

/// Prefix of this project's own targets (`kival_server`, `kival_engine`).
const OWN_TARGETS: &str = "kival";

/// Other people's code is never heard in more detail than this.
const OTHERS_AT_MOST: LevelFilter = LevelFilter::INFO;

/// Only its owner reads the log: keys can appear in it.
const LOGFILE_MODE: u32 = 0o600;

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The file that `logfile` names cannot be appended to.
    #[error("cannot open logfile {}: {source}", .file.display())]
    Open {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The process has a log already.
    #[error("logging is set up already")]
    AlreadySetUp,
    /// The log whose level should change is gone.
    #[error("logging is not set up any more")]
    Gone,
}

/// Changes the log while the server runs.
#[derive(Debug, Clone)]
pub struct LogHandle {
    filter: reload::Handle<Targets, Registry>,
}

impl LogHandle {
    /// Changes how much is logged, from the next line on.
    ///
    /// # Errors
    /// [`LoggingError::Gone`] if the log that this handle belongs to is no more.
    pub fn set_level(&self, level: LogLevel) -> Result<(), LoggingError> {
        self.filter.reload(targets(level)).map_err(|_| LoggingError::Gone)
    }
}

/// Sets up the log of the process as the configuration asks: once, before anything is logged.
///
/// # Errors
/// The logfile cannot be opened, or there is a log already.
pub fn init(config: &Config) -> Result<LogHandle, LoggingError> {
    let (log, handle) = build(config)?;
    log.try_init().map_err(|_| LoggingError::AlreadySetUp)?;
    Ok(handle)
}

fn build(config: &Config) -> Result<(Dispatch, LogHandle), LoggingError> {
    match &config.logfile {
        Some(path) => Ok(build_to(config, Arc::new(open(path)?), false)),
        None => Ok(build_to(config, io::stdout, io::stdout().is_terminal())),
    }
}

fn build_to<W>(config: &Config, writer: W, colours: bool) -> (Dispatch, LogHandle)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(targets(config.loglevel));
    let log = Registry::default().with(lines(config.log_format, writer, colours).with_filter(filter));
    (Dispatch::new(log), LogHandle { filter: handle })
}

fn lines<S, W>(format: LogFormat, writer: W, colours: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'s> tracing_subscriber::registry::LookupSpan<'s>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_writer(writer).with_ansi(colours);
    match format {
        LogFormat::Text => layer.with_target(false).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    }
}

/// Appends; a new file can be read by its owner only.
fn open(path: &Path) -> Result<File, LoggingError> {
    let opened = OpenOptions::new().append(true).create(true).mode(LOGFILE_MODE).open(path);
    opened.map_err(|source| LoggingError::Open { file: path.into(), source })
}

fn targets(level: LogLevel) -> Targets {
    let own = match level {
        LogLevel::Debug => LevelFilter::TRACE,
        LogLevel::Verbose => LevelFilter::DEBUG,
        LogLevel::Notice => LevelFilter::INFO,
        LogLevel::Warning => LevelFilter::WARN,
    };
    Targets::new().with_target(OWN_TARGETS, own).with_default(own.min(OTHERS_AT_MOST))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use tracing::{debug, info, trace, warn};

    use super::*;

    /// Logs one line at each level, and returns the words that reached the file.
    fn logged(config: &Config, path: &Path, change: Option<LogLevel>) -> String {
        let (log, handle) = build(config).unwrap();
        tracing::dispatcher::with_default(&log, || {
            if let Some(level) = change {
                handle.set_level(level).unwrap();
            }
            trace!("at-trace");
            debug!("at-debug");
            info!(clients = 3, "at-info");
            warn!("at-warn");
            info!(target: "other", "other-info");
            debug!(target: "other", "other-debug");
        });
        fs::read_to_string(path).unwrap()
    }

    fn config(path: &Path, loglevel: LogLevel, log_format: LogFormat) -> Config {
        Config { logfile: Some(path.into()), loglevel, log_format, ..Config::default() }
    }

    #[track_caller]
    fn check(level: LogLevel, change: Option<LogLevel>, expected: &[&str]) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let text = logged(&config(&path, level, LogFormat::Text), &path, change);
        let all = ["at-trace", "at-debug", "at-info", "at-warn", "other-info", "other-debug"];
        let seen: Vec<_> = all.into_iter().filter(|word| text.contains(word)).collect();
        assert_eq!(seen, expected, "{text}");
    }

    #[test]
    fn the_level_chooses_the_lines_and_can_change() {
        check(LogLevel::Warning, None, &["at-warn"]);
        check(LogLevel::Notice, None, &["at-info", "at-warn", "other-info"]);
        check(LogLevel::Verbose, None, &["at-debug", "at-info", "at-warn", "other-info"]);
        check(LogLevel::Debug, None, &["at-trace", "at-debug", "at-info", "at-warn", "other-info"]);
        check(LogLevel::Debug, Some(LogLevel::Warning), &["at-warn"]);
        check(LogLevel::Warning, Some(LogLevel::Notice), &["at-info", "at-warn", "other-info"]);
    }

    #[test]
    fn a_json_line_is_one_object() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let text = logged(&config(&path, LogLevel::Notice, LogFormat::Json), &path, None);
        let line = text.lines().next().unwrap();
        assert!(line.starts_with('{') && line.ends_with('}'), "{line}");
        assert!(line.contains(r#""message":"at-info""#) && line.contains(r#""clients":3"#), "{line}");
    }

    #[test]
    fn the_file_is_private_and_appended_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let config = config(&path, LogLevel::Warning, LogFormat::Text);
        logged(&config, &path, None);
        let text = logged(&config, &path, None);
        assert_eq!(text.matches("at-warn").count(), 2);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_logfile_that_cannot_be_opened_is_told_by_name() {
        let config = config(Path::new("/nonexistent/log"), LogLevel::Notice, LogFormat::Text);
        let error = build(&config).err().unwrap().to_string();
        assert!(error.starts_with("cannot open logfile /nonexistent/log: No such file"), "{error}");
    }
}
