//! Facts: settings of Redis that cannot be set here, because kival is one way only. Clients and tools ask for them.

use crate::config::row::{Change, Heading, Kind, Setting};

/// Nothing goes wrong where a file says otherwise: the line is skipped, with a warning.
const TOLD: bool = false;
/// Who says otherwise in a file relies on it: the server does not start.
const REFUSED: bool = true;

pub(super) static SETTINGS: &[Setting] = &[
    fact("appendonly", "yes", TOLD, "Always yes: every write goes to the log"),
    fact("save", "", TOLD, "Always empty: there are no snapshots to schedule, the log is all there is"),
    fact("dbfilename", "", TOLD, "Always empty: there is no RDB file"),
    fact("maxmemory", "0", REFUSED, "Always 0: nothing is evicted, all keys stay in memory; values need not"),
    fact("maxmemory-policy", "noeviction", TOLD, "Always noeviction: no key goes before its time"),
    fact("maxmemory-clients", "0", REFUSED, "Always 0: no client is closed to save memory"),
    fact("activedefrag", "no", TOLD, "Always no: memory is not defragmented"),
    fact("io-threads", "1", TOLD, "Always 1: one thread reads and writes all connections"),
    fact("lua-time-limit", "5000", TOLD, "Always Redis's default: there are no scripts"),
    fact("busy-reply-threshold", "5000", TOLD, "Always Redis's default: there are no scripts"),
    fact("enable-module-command", "no", TOLD, "Always no: there are no modules"),
    fact("replicaof", "", REFUSED, "Always empty: there is no replication"),
    fact("slaveof", "", REFUSED, "As replicaof"),
    fact("replica-read-only", "yes", TOLD, "Always yes: there are no replicas that could be written"),
    fact("slave-read-only", "yes", TOLD, "As replica-read-only"),
    fact("min-replicas-to-write", "0", REFUSED, "Always 0: there is no replication"),
    fact("min-slaves-to-write", "0", REFUSED, "As min-replicas-to-write"),
    fact("cluster-enabled", "no", REFUSED, "Always no: there is no cluster mode"),
    fact("tls-port", "0", REFUSED, "Always 0: there is no TLS"),
    fact("unixsocket", "", REFUSED, "Always empty: TCP is the only way in"),
    fact("aclfile", "", REFUSED, "Always empty: there are no users, only the password of requirepass"),
    fact("daemonize", "no", REFUSED, "Always no: the server stays in the foreground"),
    fact("supervised", "no", REFUSED, "Always no: no supervisor is told that the server is ready"),
    fact("pidfile", "", TOLD, "Always empty: no file is written"),
    fact("syslog-enabled", "no", TOLD, "Always no: the log goes to logfile or to standard output"),
];

const fn fact(name: &'static str, value: &'static str, insists: bool, help: &'static str) -> Setting {
    Setting {
        name,
        heading: Heading::Facts,
        kind: Kind::Fact { insists },
        default: value,
        unit: "",
        change: Change::Never,
        help,
    }
}
