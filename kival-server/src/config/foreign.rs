//! Settings that redis-server 7.0 knows and kival does not: what a file may say of them.
//!
//! A file of Redis is to be of use here. What only tunes Redis's own ways is skipped, with a warning; what somebody
//! relies on is not. Settings of Redis that are facts here are rows of the table, in `settings/facts.rs`.

/// What becomes of a line that sets something of Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Foreign {
    /// It is skipped, with a warning.
    Skipped,
    /// The server does not start, for this reason.
    Refused(&'static str),
}

/// Lines that promise something, with what is the case here.
const REFUSED: [(&str, &str); 3] = [
    ("loadmodule", "there are no modules"),
    ("rename-command", "the command would go on under its own name"),
    ("user", "there are no users, only the password of requirepass"),
];

/// All others, by the alphabet.
const SKIPPED: &str = "\
    acl-pubsub-default acllog-max-len active-defrag-cycle-max active-defrag-cycle-min \
    active-defrag-ignore-bytes active-defrag-max-scan-fields active-defrag-threshold-lower \
    active-defrag-threshold-upper activerehashing always-show-logo aof-disable-auto-gc \
    aof-load-truncated aof-rewrite-incremental-fsync aof-timestamp-enabled aof-use-rdb-preamble \
    aof_rewrite_cpulist appenddirname appendfilename bgsave_cpulist bind-source-addr bio_cpulist \
    cluster-allow-pubsubshard-when-down cluster-allow-reads-when-down cluster-allow-replica-migration \
    cluster-announce-bus-port cluster-announce-hostname cluster-announce-ip cluster-announce-port \
    cluster-announce-tls-port cluster-config-file cluster-link-sendbuf-limit cluster-migration-barrier \
    cluster-node-timeout cluster-port cluster-preferred-endpoint-type cluster-replica-no-failover \
    cluster-replica-validity-factor cluster-require-full-coverage cluster-slave-no-failover \
    cluster-slave-validity-factor crash-log-enabled crash-memcheck-enabled disable-thp dynamic-hz \
    enable-protected-configs hash-max-listpack-entries hash-max-listpack-value hash-max-ziplist-entries \
    hash-max-ziplist-value ignore-warnings io-threads-do-reads jemalloc-bg-thread lazyfree-lazy-eviction \
    lazyfree-lazy-expire lazyfree-lazy-server-del lazyfree-lazy-user-del lazyfree-lazy-user-flush \
    lfu-decay-time lfu-log-factor list-compress-depth list-max-listpack-size list-max-ziplist-entries \
    list-max-ziplist-size list-max-ziplist-value masterauth masteruser maxmemory-eviction-tenacity \
    maxmemory-samples min-replicas-max-lag min-slaves-max-lag no-appendfsync-on-rewrite oom-score-adj \
    oom-score-adj-values proc-title-template propagation-error-behavior rdb-del-sync-files \
    rdb-save-incremental-fsync rdbchecksum rdbcompression repl-backlog-size repl-backlog-ttl \
    repl-disable-tcp-nodelay repl-diskless-load repl-diskless-sync repl-diskless-sync-delay \
    repl-diskless-sync-max-replicas repl-ping-replica-period repl-ping-slave-period repl-timeout \
    replica-announce-ip replica-announce-port replica-announced replica-ignore-disk-write-errors \
    replica-ignore-maxmemory replica-lazy-flush replica-priority replica-serve-stale-data \
    sanitize-dump-payload server_cpulist set-max-intset-entries set-proc-title shutdown-on-sigint \
    shutdown-on-sigterm slave-announce-ip slave-announce-port slave-ignore-maxmemory slave-lazy-flush \
    slave-priority slave-serve-stale-data socket-mark-id stop-writes-on-bgsave-error \
    stream-node-max-bytes stream-node-max-entries syslog-facility syslog-ident tls-auth-clients \
    tls-ca-cert-dir tls-ca-cert-file tls-cert-file tls-ciphers tls-ciphersuites tls-client-cert-file \
    tls-client-key-file tls-client-key-file-pass tls-cluster tls-dh-params-file tls-key-file \
    tls-key-file-pass tls-prefer-server-ciphers tls-protocols tls-replication tls-session-cache-size \
    tls-session-cache-timeout tls-session-caching unixsocketperm zset-max-listpack-entries \
    zset-max-listpack-value zset-max-ziplist-entries zset-max-ziplist-value";

/// The names of all of them.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    SKIPPED.split(' ').chain(REFUSED.iter().map(|(name, _)| *name))
}

/// What Redis's setting of this name is here, in whatever case; none if Redis does not know it either.
pub(super) fn find(name: &[u8]) -> Option<Foreign> {
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    match REFUSED.iter().find(|(known, _)| is(known)) {
        Some((_, why)) => Some(Foreign::Refused(why)),
        None => SKIPPED.split(' ').any(is).then_some(Foreign::Skipped),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings;
    use std::collections::HashSet;

    #[test]
    fn a_setting_is_foreign_or_our_own() {
        let all: Vec<&str> = names().collect();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len(), "each name once");
        let ours: Vec<&str> =
            settings().map(|setting| setting.name).filter(|name| all.contains(name)).collect();
        assert_eq!(ours, [""; 0]);
        assert!(all.iter().all(|name| !name.is_empty()) && all.len() > 100);
    }

    #[test]
    fn names_are_found_in_any_case() {
        assert_eq!(find(b"RdbCompression"), Some(Foreign::Skipped));
        assert!(matches!(find(b"USER"), Some(Foreign::Refused(_))));
        for stranger in ["rdbcompress", "port", "", " "] {
            assert_eq!(find(stranger.as_bytes()), None, "{stranger:?}");
        }
    }
}
