//! Bounds on clients, and work in the background.

use super::{GIB, INT_MAX, MIB, SIZE_MAX, VALUE_MAX, fit};
use crate::config::row::Change::RunTime;
use crate::config::row::Heading::{Background, Limits};
use crate::config::row::{Kind, Setting};

pub(super) static SETTINGS: &[Setting] = &[
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
        name: "tracking-table-max-keys",
        heading: Limits,
        kind: Kind::Integer {
            min: 0,
            max: i64::MAX,
            get: |c| c.tracking_table_max_keys.cast_signed(),
            set: |c, n| c.tracking_table_max_keys = fit(n),
        },
        default: "1000000",
        unit: "keys",
        change: RunTime,
        help: "Keys that clients are known to have cached (CLIENT TRACKING); of more, some are taken for changed; \
               0 is no limit",
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
];
