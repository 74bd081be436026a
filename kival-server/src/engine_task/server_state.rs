//! The server as handlers see it: configuration, counters, what was asked of the loop.

use super::monitor::Monitors;
use super::pause::Pause;
use super::rates::Rates;
use super::slow::{Latencies, SlowLog};
use super::statistics::Statistics;
use crate::config::Config;
use crate::logging::LogHandle;
use crate::net::doors::Doors;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// State that is neither keys nor a client.
pub struct ServerState {
    /// The settings in force.
    pub config: Config,
    /// The configuration file, if one was given.
    pub config_file: Option<std::path::PathBuf>,
    /// Changes the level of the log.
    pub log: Option<LogHandle>,
    /// Chosen anew at each start: 40 hexadecimal digits.
    pub run_id: String,
    /// When the server started.
    pub started: Instant,
    /// The same as wall time.
    pub started_at: SystemTime,
    /// Resident memory before the store was opened, in bytes.
    pub memory_at_start: u64,
    /// The port that is served, in case the configured one is 0.
    pub port: u16,
    /// Where it is served.
    pub doors: Arc<Doors>,
    /// Counters.
    pub counters: Counters,
    /// How fast some of them rise.
    pub rates: Rates,
    /// Commands that were slow.
    pub slow_log: SlowLog,
    /// Events that took too long.
    pub latencies: Latencies,
    /// What backups cover.
    pub saves: Saves,
    /// MONITOR.
    pub monitors: Monitors,
    /// CLIENT PAUSE.
    pub pause: Option<Pause>,
    /// CLIENT UNBLOCK has ended a wait, which is still to be answered.
    pub unblocked: bool,
    /// Whether expired keys are removed before somebody looks for them.
    pub active_expire: bool,
    /// Set by DEBUG RELOAD: the loop opens the store again after this turn.
    pub reload: bool,
    /// Set by SHUTDOWN: the loop ends the server after this turn.
    pub shutdown: bool,
    /// Set by MEMORY PURGE: the loop empties the cache of values after this turn.
    pub purge: bool,
    /// Settings that were changed in this turn, for the loop to act on.
    pub changed_settings: Vec<&'static str>,
    /// Whether a client chose another durability in this turn, or one that had chosen its own has gone.
    pub durability_changed: bool,
}

/// Which changes of keys are in a backup.
#[derive(Debug, Default)]
pub struct Saves {
    /// Backups made, as far as this has been noted.
    pub made: u64,
    /// Changes when the last backup was asked for.
    pub changes_asked: u64,
    /// When that was.
    pub asked_at: Option<Instant>,
    /// Changes that the last one which was made holds.
    pub changes_saved: u64,
}

/// Counters that CONFIG RESETSTAT sets to zero.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections taken.
    pub connections: u64,
    /// Connections refused for `maxclients`.
    pub rejected: u64,
    /// Commands run.
    pub commands: u64,
    /// Error replies by their first word.
    pub errors: HashMap<String, u64>,
    /// All error replies.
    pub error_replies: u64,
    /// Bytes of requests.
    pub bytes_in: u64,
    /// Bytes of replies.
    pub bytes_out: u64,
    /// Clients cut for their output buffer.
    pub output_limit_cuts: u64,
    /// Clients cut for their query buffer.
    pub query_limit_cuts: u64,
    /// Syncs that took longer than a second.
    pub delayed_syncs: u64,
    /// Time spent on removing expired keys by the clock.
    pub expire_time: Duration,
    /// How often that was cut short.
    pub expire_cycles_cut: u64,
    /// Reads that had to wait for the disk.
    pub cold_reads: u64,
    /// Reads that found damage.
    pub corrupt_reads: u64,
    /// What each command has cost.
    pub statistics: Statistics,
    /// Most clients at one time.
    pub most_clients: usize,
}
