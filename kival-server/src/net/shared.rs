//! What connections and the engine task share: limits that can change at any time, and the end.

use crate::config::Config;
use crate::resp;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// Settings in force for connections, and how many there are.
#[derive(Debug, Default)]
pub struct Shared {
    max_bulk: AtomicU64,
    query_buffer: AtomicU64,
    maxclients: AtomicUsize,
    /// Seconds, 0 for none.
    keepalive: AtomicU64,
    /// Whether only this machine may connect.
    closed_to_others: AtomicBool,
    connected: AtomicUsize,
    stopping: AtomicBool,
    stop: Notify,
}

impl Shared {
    /// The limits of `config`.
    pub fn new(config: &Config) -> Shared {
        let shared = Shared::default();
        shared.apply(config);
        shared
    }

    /// Brings changed settings into force.
    pub fn apply(&self, config: &Config) {
        self.max_bulk.store(config.proto_max_bulk_len, Ordering::Relaxed);
        self.query_buffer.store(config.client_query_buffer_limit, Ordering::Relaxed);
        self.maxclients.store(config.maxclients as usize, Ordering::Relaxed);
        self.keepalive.store(config.tcp_keepalive.as_secs(), Ordering::Relaxed);
        let protected = config.protected_mode && config.requirepass.is_empty();
        self.closed_to_others.store(protected, Ordering::Relaxed);
    }

    /// What a connection may send.
    pub fn limits(&self, authenticated: bool) -> resp::Limits {
        resp::Limits {
            max_bulk: self.max_bulk.load(Ordering::Relaxed),
            query_buffer: self.query_buffer.load(Ordering::Relaxed),
            authenticated,
        }
    }

    /// How long a silent connection goes unprobed, if it is probed at all.
    pub fn keepalive(&self) -> Option<Duration> {
        match self.keepalive.load(Ordering::Relaxed) {
            0 => None,
            seconds => Some(Duration::from_secs(seconds)),
        }
    }

    /// Whether `protected-mode` keeps other machines out.
    pub fn closed_to_others(&self) -> bool {
        self.closed_to_others.load(Ordering::Relaxed)
    }

    /// Counts a connection, unless there are `maxclients` already.
    pub fn enter(&self) -> bool {
        let before = self.connected.fetch_add(1, Ordering::Relaxed);
        if before >= self.maxclients.load(Ordering::Relaxed) {
            self.leave();
            return false;
        }
        true
    }

    /// A counted connection has gone.
    pub fn leave(&self) {
        self.connected.fetch_sub(1, Ordering::Relaxed);
    }

    /// Connections now.
    pub fn connected(&self) -> usize {
        self.connected.load(Ordering::Relaxed)
    }

    /// Ends accepting.
    pub fn stop_accepting(&self) {
        self.stopping.store(true, Ordering::Release);
        self.stop.notify_waiters();
    }

    /// Waits for the end of accepting.
    pub async fn stopped(&self) {
        let notified = self.stop.notified();
        if !self.stopping.load(Ordering::Acquire) {
            notified.await;
        }
    }
}
