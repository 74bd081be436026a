//! The table of settings: one row for each, and nowhere else a word about it.
//!
//! To add a setting: a field of [`Config`](super::Config), and a row here. Where Redis has the setting, the
//! name, the range, the default and the order of words are its own; what differs says so in its help.

use std::path::Path;

use super::row::Change::{Never, RunTime, Start};
use super::row::Heading::{
    Background, Backups, Compaction, Facts, Limits, Logging, Network, Security, Store,
};
use super::row::{Kind, Setting};
use super::values::{AppendFsync, DebugCommand, LogFormat, LogLevel, OnCorruption};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Redis's bound on plain numbers.
const INT_MAX: i64 = i32::MAX as i64;
/// Redis's bound on sizes.
const SIZE_MAX: u64 = i64::MAX as u64;
/// The longest value that a record of the log can hold: see `record_format.md`.
const VALUE_MAX: u64 = 512 * MIB;

/// Every setting, grouped by heading.
pub static SETTINGS: &[Setting] = &[
    Setting {
        name: "port",
        heading: Network,
        kind: Kind::Integer { min: 0, max: 65_535, get: |c| c.port.into(), set: |c, n| c.port = fit(n) },
        default: "6380",
        unit: "",
        change: RunTime,
        help: "TCP port to listen on; 0 lets the system choose a free one",
    },
    Setting {
        name: "bind",
        heading: Network,
        kind: Kind::Addresses { get: |c| &c.bind, set: |c, addresses| c.bind = addresses },
        default: "127.0.0.1 -::1",
        unit: "",
        change: RunTime,
        help: "Addresses to listen on; one with a leading - may be missing on this machine, \
               * is all of IPv4, ::* all of IPv6",
    },
    Setting {
        name: "protected-mode",
        heading: Network,
        kind: Kind::Bool { get: |c| c.protected_mode, set: |c, on| c.protected_mode = on },
        default: "yes",
        unit: "",
        change: RunTime,
        help: "Refuse clients of other machines as long as there is no password",
    },
    Setting {
        name: "tcp-backlog",
        heading: Network,
        kind: Kind::Integer {
            min: 0,
            max: INT_MAX,
            get: |c| c.tcp_backlog.into(),
            set: |c, n| c.tcp_backlog = fit(n),
        },
        default: "511",
        unit: "connections",
        change: Start,
        help: "Connections that may wait to be accepted; the system's own bound counts too",
    },
    Setting {
        name: "tcp-keepalive",
        heading: Network,
        kind: Kind::Seconds { max: INT_MAX, get: |c| c.tcp_keepalive, set: |c, time| c.tcp_keepalive = time },
        default: "300",
        unit: "seconds",
        change: RunTime,
        help: "Silence after which a client is probed, to find connections that are dead; 0 is never",
    },
    Setting {
        name: "timeout",
        heading: Network,
        kind: Kind::Seconds { max: INT_MAX, get: |c| c.timeout, set: |c, time| c.timeout = time },
        default: "0",
        unit: "seconds",
        change: RunTime,
        help: "Idle time after which a client is disconnected; 0 is never",
    },
    Setting {
        name: "shutdown-timeout",
        heading: Network,
        kind: Kind::Seconds {
            max: INT_MAX,
            get: |c| c.shutdown_timeout,
            set: |c, time| c.shutdown_timeout = time,
        },
        default: "10",
        unit: "seconds",
        change: RunTime,
        help: "How long a stop waits for what is under way",
    },
    Setting {
        name: "requirepass",
        heading: Security,
        kind: Kind::Secret { get: |c| &c.requirepass, set: |c, secret| c.requirepass = secret },
        default: "",
        unit: "",
        change: RunTime,
        help: "Password that clients must give with AUTH or HELLO; empty is none",
    },
    Setting {
        name: "enable-debug-command",
        heading: Security,
        kind: Kind::Word {
            words: DebugCommand::WORDS,
            get: |c| c.enable_debug_command.word(),
            set: |c, index| c.enable_debug_command = DebugCommand::ALL[index],
        },
        default: "no",
        unit: "",
        change: Start,
        help: "Who may call DEBUG: nobody, everybody, or clients of this machine",
    },
    Setting {
        name: "databases",
        heading: Store,
        kind: Kind::Integer {
            min: 1,
            max: 65_536,
            get: |c| c.databases.into(),
            set: |c, n| c.databases = fit(n),
        },
        default: "16",
        unit: "databases",
        change: Start,
        help: "Number of databases that SELECT can choose from",
    },
    Setting {
        name: "dir",
        heading: Store,
        kind: Kind::Path { may_be_empty: false, get: |c| &c.dir, set: |c, path| c.dir = path },
        default: "./kival-data",
        unit: "",
        change: Start,
        help: "Directory of the store; made if it is not there",
    },
    Setting {
        name: "in-memory",
        heading: Store,
        kind: Kind::Bool { get: |c| c.in_memory, set: |c, on| c.in_memory = on },
        default: "no",
        unit: "",
        change: Start,
        help: "Keep the store in memory only; it is gone when the server stops",
    },
    Setting {
        name: "on-corruption",
        heading: Store,
        kind: Kind::Word {
            words: OnCorruption::WORDS,
            get: |c| c.on_corruption.word(),
            set: |c, index| c.on_corruption = OnCorruption::ALL[index],
        },
        default: "refuse",
        unit: "",
        change: Start,
        help: "What a start does about damage that no crash leaves behind: refuse to start, or serve what \
               is sound and answer CORRUPT for every key that the damage may concern (quarantine)",
    },
    Setting {
        name: "appendfsync",
        heading: Store,
        kind: Kind::Word {
            words: AppendFsync::WORDS,
            get: |c| c.appendfsync.word(),
            set: |c, index| c.appendfsync = AppendFsync::ALL[index],
        },
        default: "always",
        unit: "",
        change: RunTime,
        help: "When a write is durable: before its reply (always), within about a second, \
               or when the system sees fit (no)",
    },
    Setting {
        name: "reserved-space",
        heading: Store,
        kind: Kind::Memory {
            min: 0,
            max: SIZE_MAX,
            get: |c| c.reserved_space,
            set: |c, bytes| c.reserved_space = bytes,
        },
        default: "16mb",
        unit: "bytes",
        change: RunTime,
        help: "Disk space kept back for a full disk: keys can still be deleted then, and compaction can free \
               space; 0 is none",
    },
    Setting {
        name: "segment-size",
        heading: Store,
        kind: Kind::Memory {
            min: 64 * KIB,
            max: 4 * GIB,
            get: |c| c.segment_size,
            set: |c, bytes| c.segment_size = bytes,
        },
        default: "256mb",
        unit: "bytes",
        change: RunTime,
        help: "Size at which a file of the log is full and the next one begins",
    },
    Setting {
        name: "cache-size",
        heading: Store,
        kind: Kind::Memory {
            min: 0,
            max: SIZE_MAX,
            get: |c| c.cache_size,
            set: |c, bytes| c.cache_size = bytes,
        },
        default: "64mb",
        unit: "bytes",
        change: RunTime,
        help: "Memory for values that were lately written or read; 0 is none",
    },
    Setting {
        name: "auto-aof-rewrite-percentage",
        heading: Compaction,
        kind: Kind::Integer {
            min: 0,
            max: INT_MAX,
            get: |c| c.auto_aof_rewrite_percentage.into(),
            set: |c, n| c.auto_aof_rewrite_percentage = fit(n),
        },
        default: "100",
        unit: "percent",
        change: RunTime,
        help: "Dead bytes that the log may hold, in percent of the live ones, before compaction has brought them down; 0 never compacts by itself",
    },
    Setting {
        name: "auto-aof-rewrite-min-size",
        heading: Compaction,
        kind: Kind::Memory {
            min: 0,
            max: SIZE_MAX,
            get: |c| c.auto_aof_rewrite_min_size,
            set: |c, bytes| c.auto_aof_rewrite_min_size = bytes,
        },
        default: "64mb",
        unit: "bytes",
        change: RunTime,
        help: "Size of the log below which no compaction starts by itself",
    },
    Setting {
        name: "compaction-dead-bytes",
        heading: Compaction,
        kind: Kind::Memory {
            min: 0,
            max: SIZE_MAX,
            get: |c| c.compaction_dead_bytes,
            set: |c, bytes| c.compaction_dead_bytes = bytes,
        },
        default: "0",
        unit: "bytes",
        change: RunTime,
        help: "A file of the log with so many dead bytes is compacted, whatever the percentage; 0 is never",
    },
    Setting {
        name: "compaction-small-file",
        heading: Compaction,
        kind: Kind::Memory {
            min: 0,
            max: SIZE_MAX,
            get: |c| c.compaction_small_file,
            set: |c, bytes| c.compaction_small_file = bytes,
        },
        default: "64mb",
        unit: "bytes",
        change: RunTime,
        help: "Size below which a file of the log counts as small; never more than a quarter of segment-size",
    },
    Setting {
        name: "compaction-small-files",
        heading: Compaction,
        kind: Kind::Integer {
            min: 1,
            max: INT_MAX,
            get: |c| c.compaction_small_files.into(),
            set: |c, n| c.compaction_small_files = fit(n),
        },
        default: "16",
        unit: "files",
        change: RunTime,
        help: "Small files that may lie around before compaction puts them together",
    },
    Setting {
        name: "compaction-window",
        heading: Compaction,
        kind: Kind::Window { get: |c| c.compaction_window, set: |c, window| c.compaction_window = window },
        default: "always",
        unit: "",
        change: RunTime,
        help: "When compaction may begin by itself: always, never, or hours of the day in UTC as 22-06",
    },
    Setting {
        name: "compaction-rate",
        heading: Compaction,
        kind: Kind::Integer {
            min: 0,
            max: 1_000_000,
            get: |c| c.compaction_rate.into(),
            set: |c, n| c.compaction_rate = fit(n),
        },
        default: "0",
        unit: "MB/s",
        change: RunTime,
        help: "Megabytes a second that compaction may read and write together; 0 is no limit",
    },
    Setting {
        name: "history-retention",
        heading: Compaction,
        kind: Kind::Seconds {
            max: INT_MAX,
            get: |c| c.history_retention,
            set: |c, time| c.history_retention = time,
        },
        default: "0",
        unit: "seconds",
        change: RunTime,
        help: "How long compaction keeps what was overwritten or deleted; it takes disk space beyond the percentage",
    },
    Setting {
        name: "backup-dir",
        heading: Backups,
        kind: Kind::Path { may_be_empty: true, get: |c| &c.backup_dir, set: |c, path| c.backup_dir = path },
        default: "",
        unit: "",
        change: RunTime,
        help: "Directory of the backups that SAVE and BGSAVE make, on the file system of dir; \
               empty is the directory backups inside dir",
    },
    Setting {
        name: "backup-keep",
        heading: Backups,
        kind: Kind::Integer {
            min: 1,
            max: 1_000_000,
            get: |c| c.backup_keep.into(),
            set: |c, n| c.backup_keep = fit(n),
        },
        default: "3",
        unit: "backups",
        change: RunTime,
        help: "Backups that stay; a new one removes those that are older",
    },
    Setting {
        name: "maxclients",
        heading: Limits,
        kind: Kind::Integer {
            min: 1,
            max: u32::MAX as i64,
            get: |c| c.maxclients.into(),
            set: |c, n| c.maxclients = fit(n),
        },
        default: "10000",
        unit: "clients",
        change: RunTime,
        help: "Clients that may be connected at once",
    },
    Setting {
        name: "proto-max-bulk-len",
        heading: Limits,
        kind: Kind::Memory {
            min: MIB,
            max: VALUE_MAX,
            get: |c| c.proto_max_bulk_len,
            set: |c, bytes| c.proto_max_bulk_len = bytes,
        },
        default: "512mb",
        unit: "bytes",
        change: RunTime,
        help: "Longest single argument of a command; 512mb, the longest value of the log, is also the most",
    },
    Setting {
        name: "client-query-buffer-limit",
        heading: Limits,
        kind: Kind::Memory {
            min: MIB,
            max: 4 * GIB - 1,
            get: |c| c.client_query_buffer_limit,
            set: |c, bytes| c.client_query_buffer_limit = bytes,
        },
        default: "1gb",
        unit: "bytes",
        change: RunTime,
        help: "Bytes of requests that may wait for one client before it is disconnected; below 4gb",
    },
    Setting {
        name: "client-output-buffer-limit",
        heading: Limits,
        kind: Kind::OutputLimits {
            get: |c| &c.client_output_buffer_limit,
            get_mut: |c| &mut c.client_output_buffer_limit,
        },
        default: "normal 0 0 0 slave 256mb 64mb 60 pubsub 32mb 8mb 60",
        unit: "bytes, bytes, seconds",
        change: RunTime,
        help: "Bytes of replies that may wait for a client of a class (normal, replica or slave, pubsub): \
               at the hard limit it is disconnected at once, above the soft one after the seconds given; \
               0 is no limit",
    },
    Setting {
        name: "hll-sparse-max-bytes",
        heading: Limits,
        kind: Kind::Memory {
            min: 0,
            max: SIZE_MAX,
            get: |c| c.hll_sparse_max_bytes,
            set: |c, bytes| c.hll_sparse_max_bytes = bytes,
        },
        default: "3000",
        unit: "bytes",
        change: RunTime,
        help: "Size up to which a HyperLogLog is kept as runs of equal registers; then it is packed",
    },
    Setting {
        name: "notify-keyspace-events",
        heading: Background,
        kind: Kind::Events {
            get: |c| c.notify_keyspace_events,
            set: |c, events| c.notify_keyspace_events = events,
        },
        default: "",
        unit: "",
        change: RunTime,
        help: "Events of keys that are published: K and/or E for the channels, then classes (g$x, A is all, m \
               misses, n new keys); empty is none",
    },
    Setting {
        name: "hz",
        heading: Background,
        kind: Kind::Integer { min: 0, max: INT_MAX, get: |c| c.hz.into(), set: |c, n| c.hz = fit(n) },
        default: "10",
        unit: "times a second",
        change: RunTime,
        help: "How often background work runs; brought into 1 to 500",
    },
    Setting {
        name: "active-expire-effort",
        heading: Background,
        kind: Kind::Integer {
            min: 1,
            max: 10,
            get: |c| c.active_expire_effort.into(),
            set: |c, n| c.active_expire_effort = fit(n),
        },
        default: "1",
        unit: "",
        change: RunTime,
        help: "How hard expired keys are looked for, from 1 (lazily) to 10",
    },
    Setting {
        name: "scrub-rate",
        heading: Background,
        kind: Kind::Integer {
            min: 0,
            max: 1_000_000,
            get: |c| c.scrub_rate.into(),
            set: |c, n| c.scrub_rate = fit(n),
        },
        default: "50",
        unit: "MB/s",
        change: RunTime,
        help: "Megabytes a second that KIVAL SCRUB reads, also the running one; 0 is no limit",
    },
    Setting {
        name: "loglevel",
        heading: Logging,
        kind: Kind::Word {
            words: LogLevel::WORDS,
            get: |c| c.loglevel.word(),
            set: |c, index| c.loglevel = LogLevel::ALL[index],
        },
        default: "notice",
        unit: "",
        change: RunTime,
        help: "How much is logged, from everything (debug) to what needs attention (warning)",
    },
    Setting {
        name: "logfile",
        heading: Logging,
        kind: Kind::Path {
            may_be_empty: true,
            get: |c| c.logfile.as_deref().unwrap_or(Path::new("")),
            set: |c, path| c.logfile = Some(path).filter(|path| !path.as_os_str().is_empty()),
        },
        default: "",
        unit: "",
        change: Start,
        help: "File to append the log to; empty is standard output",
    },
    Setting {
        name: "log-format",
        heading: Logging,
        kind: Kind::Word {
            words: LogFormat::WORDS,
            get: |c| c.log_format.word(),
            set: |c, index| c.log_format = LogFormat::ALL[index],
        },
        default: "text",
        unit: "",
        change: Start,
        help: "Lines for people (text) or one JSON object a line (json)",
    },
    Setting {
        name: "appendonly",
        heading: Facts,
        kind: Kind::Fact,
        default: "yes",
        unit: "",
        change: Never,
        help: "Always yes: every write goes to the log",
    },
    Setting {
        name: "save",
        heading: Facts,
        kind: Kind::Fact,
        default: "",
        unit: "",
        change: Never,
        help: "Always empty: there are no snapshots to schedule, the log is all there is",
    },
];

/// A number that its row has found in range, in the type of its field.
fn fit<T: TryFrom<i64>>(number: i64) -> T {
    T::try_from(number).ok().expect("a test sets every row to both ends of its range")
}
