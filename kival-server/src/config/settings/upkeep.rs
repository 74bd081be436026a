//! Compaction and backups.

use super::{INT_MAX, SIZE_MAX, fit};
use crate::config::row::Change::RunTime;
use crate::config::row::Heading::{Backups, Compaction};
use crate::config::row::{Kind, Setting};

pub(super) static SETTINGS: &[Setting] = &[
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
];
