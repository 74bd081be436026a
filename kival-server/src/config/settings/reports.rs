//! The log of the server, and what is measured.

use std::path::Path;

use super::fit;
use crate::config::row::Change::{RunTime, Start};
use crate::config::row::Heading::Logging;
use crate::config::row::{Kind, Setting};
use crate::config::values::{LogFormat, LogLevel};

pub(super) static SETTINGS: &[Setting] = &[
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
        name: "slowlog-log-slower-than",
        heading: Logging,
        kind: Kind::Integer {
            min: -1,
            max: i64::MAX,
            get: |c| c.slowlog_log_slower_than,
            set: |c, n| c.slowlog_log_slower_than = n,
        },
        default: "10000",
        unit: "microseconds",
        change: RunTime,
        help: "Time from which on a command is in the slow log; -1 is never",
    },
    Setting {
        name: "slowlog-max-len",
        heading: Logging,
        kind: Kind::Integer {
            min: 0,
            max: i64::MAX,
            get: |c| c.slowlog_max_len.cast_signed(),
            set: |c, n| c.slowlog_max_len = fit(n),
        },
        default: "128",
        unit: "entries",
        change: RunTime,
        help: "Entries that the slow log keeps",
    },
    Setting {
        name: "latency-monitor-threshold",
        heading: Logging,
        kind: Kind::Integer {
            min: 0,
            max: i64::MAX,
            get: |c| c.latency_monitor_threshold.cast_signed(),
            set: |c, n| c.latency_monitor_threshold = fit(n),
        },
        default: "0",
        unit: "milliseconds",
        change: RunTime,
        help: "Time from which on LATENCY notes what took it; 0 is never",
    },
    Setting {
        name: "latency-tracking",
        heading: Logging,
        kind: Kind::Bool { get: |c| c.latency_tracking, set: |c, on| c.latency_tracking = on },
        default: "yes",
        unit: "",
        change: RunTime,
        help: "Keep the times of each command for INFO latencystats and LATENCY HISTOGRAM",
    },
    Setting {
        name: "latency-tracking-info-percentiles",
        heading: Logging,
        kind: Kind::Percentiles { get: |c| &c.latency_percentiles, set: |c, p| c.latency_percentiles = p },
        default: "50 99 99.9",
        unit: "",
        change: RunTime,
        help: "Percentiles that INFO latencystats shows",
    },
];
