//! [`Config`], the plain struct that the rest of the server reads. How its fields are named, bounded and
//! written is said in the table, not here.

use std::path::PathBuf;
use std::time::Duration;

use kival_engine::Window;

use super::error::{ValueFault, as_remark};
use super::events::NotifyEvents;
use super::lists::{BindAddress, OutputLimits};
use super::row::Setting;
use super::settings::settings;
use super::source::{Place, Source, Sources};
use super::values::{AppendFsync, DebugCommand, LogFormat, LogLevel, OnCorruption, Secret};

/// What Redis brings `hz` into, whatever was asked for.
const HZ_RANGE: (u32, u32) = (1, 500);

/// Every setting's value. The defaults, ranges and meanings stand in [`settings`].
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// TCP port to listen on; 0 for one that the system chooses.
    pub port: u16,
    /// Addresses to listen on; at least one.
    pub bind: Vec<BindAddress>,
    /// Whether clients of other machines are refused as long as there is no password.
    pub protected_mode: bool,
    /// Connections that may wait to be accepted.
    pub tcp_backlog: u32,
    /// How long a connection is silent before its peer is probed; zero for never.
    pub tcp_keepalive: Duration,
    /// How long a client may be idle before it is disconnected; zero for ever.
    pub timeout: Duration,
    /// Clients that may be connected at once.
    pub maxclients: u32,
    /// How long a stop waits for what is under way.
    pub shutdown_timeout: Duration,
    /// The password that clients must give; empty for none.
    pub requirepass: Secret,
    /// Who may call DEBUG.
    pub enable_debug_command: DebugCommand,
    /// Number of databases; their numbers are below it.
    pub databases: u32,
    /// Directory of the store.
    pub dir: PathBuf,
    /// Directory of backups; empty for one inside the store's.
    pub backup_dir: PathBuf,
    /// Backups that stay.
    pub backup_keep: u32,
    /// Whether the store is kept in memory only and is gone when the server stops.
    pub in_memory: bool,
    /// What a start does about damaged files.
    pub on_corruption: OnCorruption,
    /// When a write is made durable.
    pub appendfsync: AppendFsync,
    /// Bytes of disk space kept back for a full disk.
    pub reserved_space: u64,
    /// Bytes at which a segment of the log is full.
    pub segment_size: u64,
    /// Growth since the last compaction, in percent of the log's size then, at which the next one starts;
    /// 0 for never.
    pub auto_aof_rewrite_percentage: u32,
    /// Bytes below which the log is never compacted by itself.
    pub auto_aof_rewrite_min_size: u64,
    /// Dead bytes of one segment at which it is compacted; 0 for never.
    pub compaction_dead_bytes: u64,
    /// Bytes below which a segment is small; 0 for none.
    pub compaction_small_file: u64,
    /// Small segments that may lie around.
    pub compaction_small_files: u32,
    /// The part of the day in which compaction may begin by itself.
    pub compaction_window: Window,
    /// Megabytes a second that compaction may read and write; 0 for no limit.
    pub compaction_rate: u32,
    /// How long what was overwritten or deleted is kept for a restore.
    pub history_retention: Duration,
    /// Bytes of values that are kept in memory for reads.
    pub cache_size: u64,
    /// Bytes from which on a value is written and read beside the turns.
    pub large_value_size: u64,
    /// Values of so many bytes change page by page.
    pub paged_value_size: u64,
    /// Microseconds from which on a command is in the slow log; negative for none.
    pub slowlog_log_slower_than: i64,
    /// Entries that the slow log keeps.
    pub slowlog_max_len: u64,
    /// Milliseconds from which on LATENCY notes an event; 0 for none.
    pub latency_monitor_threshold: u64,
    /// Whether the times of commands are kept as histograms.
    pub latency_tracking: bool,
    /// The percentiles of these that INFO shows.
    pub latency_percentiles: Vec<f64>,
    /// Longest argument that a client may send, in bytes.
    pub proto_max_bulk_len: u64,
    /// Size in bytes above which a HyperLogLog is packed.
    pub hll_sparse_max_bytes: u64,
    /// Keys that clients may have cached.
    pub tracking_table_max_keys: u64,
    /// Bytes of requests that may wait for one client.
    pub client_query_buffer_limit: u64,
    /// Bytes of replies that may wait for one client, by class of client.
    pub client_output_buffer_limit: OutputLimits,
    /// Which events of keys are told.
    pub notify_keyspace_events: NotifyEvents,
    /// How often background work runs, in times a second.
    pub hz: u32,
    /// How hard expired keys are looked for, from 1 to 10.
    pub active_expire_effort: u8,
    /// Megabytes a second that a scrub reads; 0 for no limit.
    pub scrub_rate: u32,
    /// How much is logged.
    pub loglevel: LogLevel,
    /// File to log to; standard output if none.
    pub logfile: Option<PathBuf>,
    /// What a line of the log looks like.
    pub log_format: LogFormat,
    /// Where each value came from.
    pub sources: Sources,
}

impl Default for Config {
    fn default() -> Self {
        let mut config = Self::unset();
        for setting in settings() {
            setting.set(&mut config, &[setting.default.as_bytes()]).expect("a test sets every default");
        }
        config
    }
}

impl Config {
    /// All fields empty or zero; of use only to be filled with the defaults.
    fn unset() -> Self {
        Self {
            port: 0,
            bind: Vec::new(),
            protected_mode: false,
            tcp_backlog: 0,
            tcp_keepalive: Duration::ZERO,
            timeout: Duration::ZERO,
            maxclients: 0,
            shutdown_timeout: Duration::ZERO,
            requirepass: Secret::default(),
            enable_debug_command: DebugCommand::No,
            databases: 0,
            dir: PathBuf::new(),
            backup_dir: PathBuf::new(),
            backup_keep: 0,
            in_memory: false,
            on_corruption: OnCorruption::Refuse,
            appendfsync: AppendFsync::Always,
            reserved_space: 0,
            segment_size: 0,
            auto_aof_rewrite_percentage: 0,
            auto_aof_rewrite_min_size: 0,
            compaction_dead_bytes: 0,
            compaction_small_file: 0,
            compaction_small_files: 0,
            compaction_window: Window::Always,
            compaction_rate: 0,
            history_retention: Duration::ZERO,
            cache_size: 0,
            large_value_size: 0,
            paged_value_size: 0,
            slowlog_log_slower_than: 0,
            slowlog_max_len: 0,
            latency_monitor_threshold: 0,
            latency_tracking: false,
            latency_percentiles: Vec::new(),
            proto_max_bulk_len: 0,
            hll_sparse_max_bytes: 0,
            tracking_table_max_keys: 0,
            client_query_buffer_limit: 0,
            client_output_buffer_limit: OutputLimits::default(),
            notify_keyspace_events: NotifyEvents::NONE,
            hz: 0,
            active_expire_effort: 0,
            scrub_rate: 0,
            loglevel: LogLevel::Notice,
            logfile: None,
            log_format: LogFormat::Text,
            sources: Sources::default(),
        }
    }

    /// Where backups go.
    pub fn backup_dir(&self) -> PathBuf {
        if self.backup_dir.as_os_str().is_empty() {
            self.dir.join("backups")
        } else {
            self.backup_dir.clone()
        }
    }

    /// Sets one setting from the words given for it, and notes who gave them. On an error nothing changes.
    pub(super) fn assign(
        &mut self,
        setting: &Setting,
        words: &[&[u8]],
        source: Source,
    ) -> Result<(), ValueFault> {
        setting.set(self, words)?;
        self.sources.note(setting.name, source);
        Ok(())
    }

    /// Brings into range what Redis silently brings into range, and tells of values that are allowed one by
    /// one but make little sense together.
    pub fn sanitize(&mut self) -> Vec<Warning> {
        self.hz = self.hz.clamp(HZ_RANGE.0, HZ_RANGE.1);

        let mut warnings = Vec::new();
        let given = |name: &str| *self.sources.of(name) != Source::Default;
        if self.in_memory {
            let ignored = ["dir", "appendfsync"].into_iter().filter(|name| given(name));
            warnings.extend(ignored.map(|name| Warning::UnusedInMemory { name }));
        }
        if self.client_query_buffer_limit < self.proto_max_bulk_len {
            warnings.push(Warning::ArgumentAboveQueryBuffer {
                argument: self.proto_max_bulk_len,
                buffer: self.client_query_buffer_limit,
            });
        }
        warnings
    }
}

/// What is allowed but probably not meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// A line of a file sets what only Redis has.
    #[error("{at}: skipped: {name} is a setting of Redis that kival does not have")]
    Skipped {
        /// The line.
        at: Place,
        /// The setting of Redis.
        name: String,
    },
    /// A line of a file wants another value of a fact.
    #[error("{at}: skipped: {name} cannot be set ({})", as_remark(.help))]
    Contradicted {
        /// The line.
        at: Place,
        /// The fact.
        name: &'static str,
        /// What it always is, and why.
        help: &'static str,
    },
    /// A setting of the log on disk, where there is none.
    #[error("{name} has no effect with in-memory yes")]
    UnusedInMemory {
        /// The setting.
        name: &'static str,
    },
    /// The longest argument allowed does not fit in what a client may have waiting.
    #[error(
        "proto-max-bulk-len ({argument} bytes) is above client-query-buffer-limit ({buffer} bytes): \
         a client that sends an argument of that length is disconnected"
    )]
    ArgumentAboveQueryBuffer {
        /// `proto-max-bulk-len`, in bytes.
        argument: u64,
        /// `client-query-buffer-limit`, in bytes.
        buffer: u64,
    },
}
