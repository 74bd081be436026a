//! What happens by the clock: expired keys, idle clients, settings that were changed.

use super::EngineTask;
use crate::config::{AppendFsync, Config};
use crate::limits;
use crate::server::reserved_space;
use kival_engine::{CompactionPolicy, SyncPolicy};
use std::time::{Duration, Instant};

/// How often the keys are measured against the machine's memory.
const MEMORY_PERIOD: Duration = Duration::from_secs(60);
/// Keys removed at a time before the clients get their turn.
const EXPIRE_STEP: usize = 128;
/// The part of a period, in percent, that removing expired keys may take at effort 1; each further level
/// adds two, as in Redis.
const EXPIRE_PERCENT: u32 = 25;

impl EngineTask {
    /// One beat of the clock, `hz` times a second.
    pub(super) fn cron(&mut self) {
        self.expire();
        if !self.followers.is_empty() {
            self.sync_for_followers();
        }
        let counters = &self.server.counters;
        let counted = [counters.commands, counters.bytes_in, counters.bytes_out];
        self.server.rates.measure(Instant::now(), counted);
        self.limit_tracking();
        self.check_output_limits();
        self.close_idle();
        self.watch_memory();
    }

    /// Warns before the keys outgrow the machine.
    fn watch_memory(&mut self) {
        if self.memory_watched.elapsed() >= MEMORY_PERIOD {
            self.memory_watched = Instant::now();
            limits::warn_of_memory(self.store.engine().stats().keydir_bytes);
        }
    }

    /// Removes keys whose time has come, for a bounded part of the period; none during a pause, as in Redis.
    fn expire(&mut self) {
        if self.server.pause.is_some() || !self.server.active_expire {
            return;
        }
        let effort = u32::from(self.server.config.active_expire_effort).saturating_sub(1);
        let budget = self.cron_period() * (EXPIRE_PERCENT + 2 * effort) / 100;
        let (started, monitored) = (Instant::now(), self.monitored_now());
        loop {
            let removed = self.store.engine().expire(EXPIRE_STEP);
            self.store.tell_expired();
            self.deliver_to_others();
            self.invalidate_for_others();
            if removed < EXPIRE_STEP {
                break;
            }
            if started.elapsed() >= budget {
                self.server.counters.expire_cycles_cut += 1;
                break;
            }
            self.end_turn();
        }
        self.server.counters.expire_time += started.elapsed();
        self.note_since(monitored, "expire-cycle");
    }

    /// Closes clients that have been silent for longer than `timeout`.
    fn close_idle(&mut self) {
        let timeout = self.server.config.timeout;
        if timeout == Duration::ZERO {
            return;
        }
        for session in self.clients.iter() {
            let idle = session.active.elapsed() > timeout && session.has_nothing_waiting();
            // Who listens has nothing to say.
            if idle && session.subscriptions.is_none() && !session.monitors {
                session.outbox.close();
            }
        }
    }

    /// Brings into force what CONFIG SET has changed.
    pub(super) fn apply_settings(&mut self) {
        if std::mem::take(&mut self.server.purge) {
            self.store.engine().empty_cache();
        }
        if self.server.durability_changed {
            self.apply_durability();
        }
        if self.server.changed_settings.is_empty() {
            return;
        }
        self.server.changed_settings.clear();
        self.apply_durability();
        let config = &self.server.config;
        self.shared.apply(config);
        let engine = self.store.engine();
        engine.set_segment_size(config.segment_size);
        engine.set_cache_size(config.cache_size);
        engine.set_large_from(config.large_value_size);
        engine.set_paged_from(config.paged_value_size);
        engine.set_reserved_space(reserved_space(config));
        engine.set_scrub_rate(scrub_rate(config));
        engine.set_compaction(compaction_policy(config));
    }

    /// Has the engine sync as the strictest policy in use wants it.
    fn apply_durability(&mut self) {
        self.server.durability_changed = false;
        let own = self.clients.iter().filter_map(|session| session.durability);
        let strictest = own.fold(self.server.config.appendfsync, AppendFsync::stricter);
        let engine = self.store.engine();
        engine.set_sync_policy(sync_policy(strictest));
        // What ran under a stricter policy, in a turn that has left it again, still has its second.
        engine.request_sync();
    }
}

/// What the engine does by itself under a policy. What an `always` client waits for is synced when it
/// begins to wait; whatever else is appended meanwhile, such as tombstones of expired keys, within a second.
pub fn sync_policy(policy: AppendFsync) -> SyncPolicy {
    match policy {
        AppendFsync::Always | AppendFsync::EverySec => SyncPolicy::EverySecond,
        AppendFsync::No => SyncPolicy::No,
    }
}

/// The engine's bytes a second for a scrub.
pub fn scrub_rate(config: &Config) -> u64 {
    u64::from(config.scrub_rate) * 1_000_000
}

/// The engine's policy of compaction.
pub fn compaction_policy(config: &Config) -> CompactionPolicy {
    CompactionPolicy {
        percentage: config.auto_aof_rewrite_percentage,
        min_size: config.auto_aof_rewrite_min_size,
        dead_bytes: config.compaction_dead_bytes,
        small_file: config.compaction_small_file,
        small_files: config.compaction_small_files as usize,
        window: config.compaction_window,
        rate: u64::from(config.compaction_rate) * 1_000_000,
        retention_ms: config.history_retention.as_millis() as u64,
    }
}
