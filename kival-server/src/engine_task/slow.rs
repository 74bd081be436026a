//! What was slow: the commands that SLOWLOG shows, and the events that LATENCY shows.

use super::EngineTask;
use super::server_state::ServerState;
use super::session::Session;
use crate::command::{Flags, Row, redacted};
use crate::config::AppendFsync;
use crate::resp::Args;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Redis keeps so many arguments of a slow command, and so many bytes of each.
const MOST_ARGUMENTS: usize = 32;
const MOST_BYTES: usize = 128;
/// Samples that are kept of an event.
const MOST_SAMPLES: usize = 160;

/// A command that was slow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlowCommand {
    /// Counts from 0 at the start of the server.
    pub id: u64,
    /// Unix seconds at which it had ended.
    pub at: u64,
    /// How long it took, in microseconds.
    pub micros: u64,
    /// Its arguments, shortened, without secrets.
    pub args: Vec<Vec<u8>>,
    /// The address of its client.
    pub addr: String,
    /// The name of its client.
    pub name: Vec<u8>,
}

/// The commands that were slow, the newest first.
#[derive(Debug, Default)]
pub struct SlowLog {
    next_id: u64,
    /// The entries.
    pub entries: VecDeque<SlowCommand>,
}

/// An event took so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Unix seconds.
    pub at: u64,
    /// Milliseconds.
    pub millis: u64,
}

/// The last times that an event took too long.
#[derive(Debug, Default)]
pub struct Series {
    /// The oldest first; at most one a second, the longest of it.
    pub samples: VecDeque<Sample>,
    /// The longest since the last reset, in milliseconds.
    pub longest: u64,
}

impl Series {
    fn add(&mut self, sample: Sample) {
        self.longest = self.longest.max(sample.millis);
        if let Some(last) = self.samples.back_mut().filter(|last| last.at == sample.at) {
            last.millis = last.millis.max(sample.millis);
            return;
        }
        if self.samples.len() == MOST_SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }
}

/// The events that took too long, by name.
pub type Latencies = BTreeMap<&'static str, Series>;

/// A time that nothing takes.
const NEVER: Duration = Duration::MAX;

impl ServerState {
    /// From what time on a command is slow for the slow log or for the latency monitor.
    pub fn slow_from(&self) -> Duration {
        self.logged_from().min(self.monitored_from())
    }

    fn logged_from(&self) -> Duration {
        u64::try_from(self.config.slowlog_log_slower_than).map_or(NEVER, Duration::from_micros)
    }

    /// From what time on an event is noted for LATENCY; [`Duration::MAX`] where none is.
    pub fn monitored_from(&self) -> Duration {
        match self.config.latency_monitor_threshold {
            0 => NEVER,
            millis => Duration::from_millis(millis),
        }
    }

    /// Notes a command that was slow, for whoever finds it so.
    pub(super) fn note_slow(&mut self, session: &Session, row: Row, took: Duration, args: Args<'_>) {
        let fast = row.command.flags.has(Flags::FAST);
        self.note_event(if fast { "fast-command" } else { "command" }, took);
        if took < self.logged_from() || row.command.flags.has(Flags::SKIP_SLOWLOG) {
            return;
        }
        let SlowLog { next_id, entries } = &mut self.slow_log;
        entries.push_front(SlowCommand {
            id: *next_id,
            at: unix_seconds(),
            micros: took.as_micros() as u64,
            args: shortened(&redacted(row.command, args)),
            addr: session.addr.to_string(),
            name: session.name.clone(),
        });
        *next_id += 1;
        entries.truncate(usize::try_from(self.config.slowlog_max_len).unwrap_or(usize::MAX));
    }

    /// Notes an event that took so long, if that is too long.
    pub(super) fn note_event(&mut self, event: &'static str, took: Duration) {
        if took >= self.monitored_from() {
            let sample = Sample { at: unix_seconds(), millis: took.as_millis() as u64 };
            self.latencies.entry(event).or_default().add(sample);
        }
    }
}

impl EngineTask {
    /// The time, if events are to be measured.
    pub(super) fn monitored_now(&self) -> Option<Instant> {
        (self.server.monitored_from() != NEVER).then(Instant::now)
    }

    /// Notes the slowest sync since the last time.
    pub(super) fn note_syncs(&mut self) {
        let always = self.server.config.appendfsync == AppendFsync::Always;
        let event = if always { "aof-fsync-always" } else { "aof-fsync" };
        let took = self.store.engine_ref().take_slowest_sync();
        self.server.note_event(event, took);
    }

    /// Notes an event that began then.
    pub(super) fn note_since(&mut self, began: Option<Instant>, event: &'static str) {
        if let Some(began) = began {
            self.server.note_event(event, began.elapsed());
        }
    }
}

/// The time, in Unix seconds.
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// As much of a command as the slow log keeps; what is left out is told in place of it.
fn shortened(args: &[&[u8]]) -> Vec<Vec<u8>> {
    let whole = if args.len() > MOST_ARGUMENTS { MOST_ARGUMENTS - 1 } else { args.len() };
    let mut kept: Vec<Vec<u8>> = args[..whole].iter().map(|arg| shortened_one(arg)).collect();
    if whole < args.len() {
        kept.push(format!("... ({} more arguments)", args.len() - whole).into_bytes());
    }
    kept
}

fn shortened_one(arg: &[u8]) -> Vec<u8> {
    match arg.split_at_checked(MOST_BYTES) {
        Some((kept, rest)) if !rest.is_empty() => {
            [kept, format!("... ({} more bytes)", rest.len()).as_bytes()].concat()
        }
        _ => arg.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_commands_are_kept_in_part() {
        let many: Vec<Vec<u8>> = (0..33).map(|i| i.to_string().into_bytes()).collect();
        let many: Vec<&[u8]> = many.iter().map(Vec::as_slice).collect();
        assert_eq!(shortened(&many[..32]).len(), 32);
        assert_eq!(shortened(&many)[30..], [b"30".to_vec(), b"... (2 more arguments)".to_vec()]);
        let long = shortened_one(&[b'x'; 200]);
        assert!(long.starts_with(&[b'x'; 128]) && long.ends_with(b"x... (72 more bytes)"));
        assert_eq!(shortened_one(&[b'x'; 128]), [b'x'; 128]);
    }

    #[test]
    fn an_event_has_one_sample_a_second_and_a_bounded_number() {
        let mut series = Series::default();
        for (at, millis) in [(1, 5), (1, 9), (1, 7)] {
            series.add(Sample { at, millis });
        }
        assert_eq!(series.samples, [Sample { at: 1, millis: 9 }]);
        (2..200).for_each(|at| series.add(Sample { at, millis: 1 }));
        assert_eq!((series.samples.len(), series.samples[0].at, series.longest), (160, 40, 9));
    }
}
