//! The store: where it is, when a write is durable, and its sizes.

use super::{GIB, KIB, SIZE_MAX, fit};
use crate::config::row::Change::{Protected, RunTime, Start};
use crate::config::row::Heading::Store;
use crate::config::row::{Kind, Setting};
use crate::config::values::{AppendFsync, OnCorruption};

pub(super) static SETTINGS: &[Setting] = &[
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
        change: Protected,
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
        name: "large-value-size",
        heading: Store,
        kind: Kind::Memory {
            min: 0,
            max: SIZE_MAX,
            get: |c| c.large_value_size,
            set: |c, bytes| c.large_value_size = bytes,
        },
        default: "8mb",
        unit: "bytes",
        change: RunTime,
        help: "Values of this size or more are written and read beside the turns of other clients; 0 is never",
    },
    Setting {
        name: "paged-value-size",
        heading: Store,
        kind: Kind::Memory {
            min: 8 << 10,
            max: SIZE_MAX,
            get: |c| c.paged_value_size,
            set: |c, bytes| c.paged_value_size = bytes,
        },
        default: "16kb",
        unit: "bytes",
        change: RunTime,
        help: "Values of this size or more change page by page (SETRANGE, SETBIT, BITFIELD, APPEND)",
    },
];
