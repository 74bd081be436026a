//! INFO: what the server tells of itself, in sections of `name:value` lines.
//!
//! The names are Redis's where the value means what it means there, and begin with `kival_` elsewhere. A
//! field whose value would have to be made up is not there.

mod absent;
mod statistics;

use super::persistence::last_save;
use super::{Categories, Command, Context, Flags, Group, Outcome};
use crate::engine_task::park::Parked;
use crate::engine_task::session::Session;
use crate::process::{Resident, resident_memory};
use crate::resp::{Args, Reply};
use std::fmt::{Display, Write};
use std::fs::read_to_string;
use std::time::{SystemTime, UNIX_EPOCH};

/// The version of Redis whose clients and tools this server means to satisfy.
pub(super) const REDIS_VERSION: &str = "7.2.4";

const SECONDS_A_DAY: u64 = 24 * 60 * 60;
/// The bits of Redis's clock for idle times, which counts seconds.
const LRU_CLOCK: u64 = 0xff_ffff;
/// Linux counts processor time for programs in hundredths of a second, on every machine.
const TICKS_A_SECOND: u64 = 100;

/// The server's report.
pub(super) const COMMANDS: &[Command] = &[Command {
    name: "info",
    handler: info,
    arity: -1,
    arguments: "[section ...]",
    flags: Flags::LOADING.and(Flags::STALE),
    categories: Categories::DANGEROUS,
    group: Group::Server,
    tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
    summary: "Tells of the server, section by section: those named, or all.",
    ..Command::BASE
}];

/// Writes the lines of a section.
type Section = fn(&mut Context<'_>, &mut Report);

const SECTIONS: &[(&str, Section)] = &[
    ("Server", server),
    ("Clients", clients),
    ("Memory", memory),
    ("Persistence", persistence),
    ("Stats", stats),
    ("Replication", replication),
    ("CPU", cpu),
    // There are none: only the title is told.
    ("Modules", |_, _| {}),
    ("Commandstats", statistics::commandstats),
    ("Errorstats", statistics::errorstats),
    ("Latencystats", statistics::latencystats),
    ("Cluster", cluster),
    ("Keyspace", keyspace),
];

/// Names of all sections together.
const ALL: [&str; 2] = ["all", "everything"];
/// Sections that are told only if asked for.
const ON_REQUEST: [&str; 2] = ["Commandstats", "Latencystats"];

fn info(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let mut report = Report::default();
    for (title, section) in SECTIONS.iter().filter(|(title, _)| is_wanted(args.tail(1), title)) {
        report.section(title);
        section(ctx, &mut report);
    }
    Ok(Reply::Verbatim { format: "txt", text: report.text.into() })
}

fn is_wanted(names: Args<'_>, title: &str) -> bool {
    let is = |name: &[u8], other: &str| name.eq_ignore_ascii_case(other.as_bytes());
    let by_default = !ON_REQUEST.contains(&title);
    (names.is_empty() && by_default)
        || names.iter().any(|name| {
            is(name, title) || ALL.iter().any(|all| is(name, all)) || (by_default && is(name, "default"))
        })
}

/// The text so far.
#[derive(Debug, Default)]
struct Report {
    text: String,
}

impl Report {
    fn section(&mut self, title: &str) {
        if !self.text.is_empty() {
            self.text.push_str("\r\n");
        }
        self.line(format_args!("# {title}"));
    }

    fn field(&mut self, name: &str, value: impl Display) {
        self.line(format_args!("{name}:{value}"));
    }

    fn fields(&mut self, fields: absent::Fields) {
        fields.iter().for_each(|(name, value)| self.field(name, value));
    }

    /// A size in bytes, and again for people.
    fn size(&mut self, name: &str, bytes: u64) {
        self.field(name, bytes);
        self.line(format_args!("{name}_human:{}", human(bytes)));
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        self.text.write_fmt(text).expect("a String takes everything");
        self.text.push_str("\r\n");
    }
}

/// A size as Redis shows it to people.
pub(super) fn human(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let mut size = bytes as f64 / 1024.0;
    let mut units = ["K", "M", "G", "T", "P"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    while size >= 1024.0
        && let Some(next) = units.next()
    {
        size /= 1024.0;
        unit = next;
    }
    format!("{size:.2}{unit}")
}

fn server(ctx: &mut Context<'_>, report: &mut Report) {
    let uptime = ctx.server.started.elapsed().as_secs();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let system = rustix::system::uname();
    let os = [system.sysname(), system.release(), system.machine()].map(|part| part.to_string_lossy());
    let path = |path: Option<&std::path::Path>| path.map(|path| path.display().to_string());
    report.field("redis_version", REDIS_VERSION);
    report.field("kival_version", env!("CARGO_PKG_VERSION"));
    report.fields(absent::BUILD);
    report.field("redis_mode", "standalone");
    report.field("os", os.join(" "));
    report.field("arch_bits", usize::BITS);
    report.fields(absent::MADE);
    report.field("process_id", std::process::id());
    report.field("process_supervised", "no");
    report.field("run_id", &ctx.server.run_id);
    report.field("tcp_port", ctx.server.port);
    report.field("server_time_usec", now.as_micros());
    report.field("uptime_in_seconds", uptime);
    report.field("uptime_in_days", uptime / SECONDS_A_DAY);
    report.field("hz", ctx.server.config.hz);
    report.field("configured_hz", ctx.server.config.hz);
    report.field("lru_clock", now.as_secs() & LRU_CLOCK);
    report.field("executable", path(std::env::current_exe().ok().as_deref()).unwrap_or_default());
    report.field("config_file", path(ctx.server.config_file.as_deref()).unwrap_or_default());
    report.field("io_threads_active", 0);
}

fn clients(ctx: &mut Context<'_>, report: &mut Report) {
    let parked = |is: fn(&Parked) -> bool| {
        ctx.clients.iter().filter(|session| session.parked.as_ref().is_some_and(is)).count()
    };
    let (blocked, with_timeout) = (parked(Parked::is_blocked), parked(Parked::has_deadline));
    let all = || ctx.clients.iter().chain([&*ctx.session]);
    let input = all().map(|session| session.query_bytes).max().unwrap_or(0);
    let output = all().map(Session::unsent).max().unwrap_or(0);
    report.field("connected_clients", ctx.clients.connected);
    report.field("cluster_connections", 0);
    report.field("maxclients", ctx.server.config.maxclients);
    report.field("client_recent_max_input_buffer", input);
    report.field("client_recent_max_output_buffer", output);
    report.field("blocked_clients", blocked);
    let [tracking, ..] = ctx.store.tracking.counts();
    report.field("tracking_clients", tracking);
    report.field("clients_in_timeout_table", with_timeout);
    report.field("kival_most_clients", ctx.server.counters.most_clients);
}

fn memory(ctx: &mut Context<'_>, report: &mut Report) {
    let engine = ctx.store.engine_ref().stats();
    if let Some(Resident { now, peak }) = resident_memory() {
        let dataset = engine.keydir_bytes + engine.cache_bytes;
        let percent = |part: u64, whole: u64| format!("{:.2}%", part as f64 * 100.0 / whole.max(1) as f64);
        report.size("used_memory", now);
        report.size("used_memory_rss", now);
        report.size("used_memory_peak", peak);
        report.field("used_memory_peak_perc", percent(now, peak));
        report.field("used_memory_overhead", now.saturating_sub(dataset));
        report.field("used_memory_startup", ctx.server.memory_at_start);
        report.field("used_memory_dataset", dataset);
        report.field("used_memory_dataset_perc", percent(dataset, now));
    }
    if let Some(total) = crate::limits::total_memory() {
        report.size("total_system_memory", total);
    }
    report.fields(absent::SCRIPTS);
    report.size("maxmemory", 0);
    report.field("maxmemory_policy", "noeviction");
    // What the program uses is told by its resident pages: the two cannot differ.
    for overhead in ["rss_overhead", "mem_fragmentation"] {
        report.field(&format!("{overhead}_ratio"), "1.00");
        report.field(&format!("{overhead}_bytes"), 0);
    }
    let clients = ctx.clients.iter().chain([&*ctx.session]);
    report.field("mem_clients_normal", clients.map(Session::memory).sum::<usize>());
    report.field("mem_aof_buffer", ctx.store.engine_ref().staged_bytes());
    report.fields(absent::MEMORY);
    report.field("mem_allocator", "mimalloc");
    report.field("kival_keydir_bytes", engine.keydir_bytes);
    report.field("kival_cache_bytes", engine.cache_bytes);
    report.field("kival_cache_values", engine.cache_values);
}

fn persistence(ctx: &mut Context<'_>, report: &mut Report) {
    let engine = ctx.store.engine_ref();
    let stats = engine.stats();
    let writes = engine.poisoned().is_none() && !stats.disk_full;
    let compaction = stats.compaction;
    report.fields(absent::FORKS);
    // Redis takes the state at its start for saved.
    let backups = engine.backups();
    report.field("rdb_changes_since_last_save", ctx.store.changes - ctx.server.saves.changes_saved);
    report.field("rdb_bgsave_in_progress", u8::from(backups.running));
    report.field("rdb_last_save_time", last_save(ctx));
    report.field("rdb_last_bgsave_status", if backups.failure.is_none() { "ok" } else { "err" });
    let seconds = if backups.ended == 0 { -1 } else { backups.took_ms as i64 / 1000 };
    report.field("rdb_last_bgsave_time_sec", seconds);
    let begun = ctx.server.saves.asked_at.filter(|_| backups.running);
    let seconds = begun.map_or(-1, |begun| begun.elapsed().as_secs() as i64);
    report.field("rdb_current_bgsave_time_sec", seconds);
    report.field("rdb_saves", backups.made);
    if let Some(newest) = &backups.newest {
        report.field("kival_last_backup", newest.dir.display());
        report.field("kival_backup_sequence", newest.sequence);
    }
    if let Some(failure) = &backups.failure {
        report.field("kival_backup_failure", failure);
    }
    report.field("aof_enabled", 1);
    report.field("aof_rewrite_in_progress", u8::from(compaction.running));
    report.field("aof_rewrite_scheduled", u8::from(compaction.scheduled));
    let whole = |seconds: Option<f64>| seconds.map_or(-1, |seconds| seconds as i64);
    report.field("aof_last_rewrite_time_sec", whole(compaction.last_seconds));
    report.field("aof_current_rewrite_time_sec", whole(compaction.seconds));
    report.field("aof_last_bgrewrite_status", if compaction.last_ok { "ok" } else { "err" });
    report.field("aof_rewrites", compaction.finished);
    report.field("aof_last_write_status", if writes { "ok" } else { "err" });
    report.field("aof_delayed_fsync", ctx.server.counters.delayed_syncs);
    report.field("aof_current_size", stats.log_bytes);
    report.field("aof_base_size", stats.live_bytes);
    report.field("aof_pending_rewrite", 0);
    report.field("aof_buffer_length", engine.staged_bytes());
    report.field("kival_segments", stats.segments);
    report.field("kival_live_bytes", stats.live_bytes);
    report.field("kival_dead_bytes", stats.log_bytes.saturating_sub(stats.live_bytes));
    report.field("kival_disk_full", u8::from(stats.disk_full));
    report.field("kival_reserved_bytes", stats.reserved_bytes);
    report.field("kival_last_sequence", stats.last_sequence);
    report.field("kival_durable_sequence", stats.durable_sequence);
    report.field("kival_syncs", stats.syncs);
    report.field("kival_compactions_failed", compaction.failed);
    report.field("kival_compaction_bytes_read", compaction.bytes_read);
    report.field("kival_compaction_bytes_total", compaction.bytes_total);
    report.field("kival_compaction_bytes_written", compaction.bytes_written);
    report.field("kival_compaction_reason", compaction.reason.map_or("none", |reason| reason.word()));
    report.field("kival_compaction_records_copied", compaction.records_copied);
    report.field("kival_compaction_records_dropped", compaction.records_dropped);
    report.field("kival_compaction_segments_in", compaction.segments_in);
    report.field("kival_compaction_segments_out", compaction.segments_out);
    report.field("kival_compaction_last_error", compaction.last_error.unwrap_or_default());
    report.field("kival_scrub_in_progress", u8::from(stats.scrub.running));
    report.field("kival_scrub_bytes_read", stats.scrub.bytes_read);
    report.field("kival_scrub_bytes_total", stats.scrub.bytes_total);
    report.field("kival_scrub_last_finished", stats.scrub.finished_ms / 1000);
    report.field("kival_scrub_damaged_places", stats.scrub.damaged);
}

fn stats(ctx: &mut Context<'_>, report: &mut Report) {
    let (engine, counters) = (ctx.store.engine_ref().stats(), &ctx.server.counters);
    report.field("total_connections_received", counters.connections);
    report.field("total_commands_processed", counters.commands);
    let [commands, bytes_in, bytes_out] = ctx.server.rates.a_second();
    let kilobytes = |bytes: u64| format!("{:.2}", bytes as f64 / 1024.0);
    report.field("instantaneous_ops_per_sec", commands);
    report.field("total_net_input_bytes", counters.bytes_in);
    report.field("total_net_output_bytes", counters.bytes_out);
    report.field("instantaneous_input_kbps", kilobytes(bytes_in));
    report.field("instantaneous_output_kbps", kilobytes(bytes_out));
    report.fields(absent::REPLICA_TRAFFIC);
    report.field("rejected_connections", counters.rejected);
    report.fields(absent::SYNCS);
    report.field("expired_keys", engine.expired);
    report.field("expired_time_cap_reached_count", counters.expire_cycles_cut);
    report.field("expire_cycle_cpu_milliseconds", counters.expire_time.as_millis());
    report.fields(absent::EVICTION);
    report.field("keyspace_hits", ctx.store.hits);
    report.field("keyspace_misses", ctx.store.misses);
    let (channels, patterns, shard_channels) = ctx.store.channels.counts();
    report.field("pubsub_channels", channels);
    report.field("pubsub_patterns", patterns);
    report.field("pubsubshard_channels", shard_channels);
    let [_, keys, items, prefixes] = ctx.store.tracking.counts();
    report.field("tracking_total_keys", keys);
    report.field("tracking_total_items", items);
    report.field("tracking_total_prefixes", prefixes);
    report.fields(absent::STATS);
    report.field("total_error_replies", counters.error_replies);
    report.fields(absent::LAST_STATS);
    report.field("client_query_buffer_limit_disconnections", counters.query_limit_cuts);
    report.field("client_output_buffer_limit_disconnections", counters.output_limit_cuts);
    report.field("kival_cold_reads", counters.cold_reads);
    report.field("kival_corrupt_reads", counters.corrupt_reads);
    report.field("kival_quarantined_segments", engine.quarantined_segments);
    report.field("kival_quarantined_bytes", engine.quarantined_bytes);
    report.field("kival_cache_hits", engine.cache_hits);
    report.field("kival_cache_misses", engine.cache_misses);
    report.field("kival_keydir_moved_max", engine.keydir_moved_max);
}

fn replication(ctx: &mut Context<'_>, report: &mut Report) {
    report.field("role", "master");
    report.field("connected_slaves", 0);
    report.field("master_failover_state", "no-failover");
    report.field("master_replid", &ctx.server.run_id);
    report.field("master_replid2", "0".repeat(40));
    report.fields(absent::REPLICATION);
}

fn cpu(_: &mut Context<'_>, report: &mut Report) {
    let ticks = |path: &str| processor_ticks(&read_to_string(path).unwrap_or_default());
    let seconds = |ticks: u64| format!("{:.6}", ticks as f64 / TICKS_A_SECOND as f64);
    if let Some((user, system)) = ticks("/proc/self/stat") {
        report.field("used_cpu_sys", seconds(system));
        report.field("used_cpu_user", seconds(user));
        // There is no fork.
        report.field("used_cpu_sys_children", seconds(0));
        report.field("used_cpu_user_children", seconds(0));
    }
    // The first thread has the number of the process.
    if let Some((user, system)) = ticks(&format!("/proc/self/task/{}/stat", std::process::id())) {
        report.field("used_cpu_sys_main_thread", seconds(system));
        report.field("used_cpu_user_main_thread", seconds(user));
    }
}

/// Ticks spent in the program and in the system, out of `/proc/self/stat`.
fn processor_ticks(stat: &str) -> Option<(u64, u64)> {
    // The name of the program, in brackets, may hold blanks and brackets. Of what follows it the first
    // field is the third of all; the ticks are the 14th and the 15th.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields.split_ascii_whitespace().skip(14 - 3).map(|ticks| ticks.parse().ok());
    Some((ticks.next()??, ticks.next()??))
}

fn cluster(_: &mut Context<'_>, report: &mut Report) {
    report.field("cluster_enabled", 0);
}

fn keyspace(ctx: &mut Context<'_>, report: &mut Report) {
    for db in 0..ctx.store.engine_ref().databases() {
        // A gauge for people who look for what is wrong: it does not wait for the log.
        let keys = ctx.store.engine_ref().key_count(db);
        if keys > 0 {
            let engine = ctx.store.engine_ref();
            let (expires, ttl) = (engine.expiring_count(db), engine.average_ttl(db));
            report.line(format_args!("db{db}:keys={keys},expires={expires},avg_ttl={ttl}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::Batch;

    #[track_caller]
    fn check_sections(names: &str, expected: &[&str]) {
        let batch = Batch::from_args(names.split(' '));
        let names = batch.command(0).tail(1);
        let titles = SECTIONS.iter().map(|(title, _)| *title);
        assert_eq!(titles.filter(|title| is_wanted(names, title)).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn sections_are_chosen_by_name() {
        let all: Vec<&str> = SECTIONS.iter().map(|(title, _)| *title).collect();
        let by_default: Vec<&str> = all.iter().copied().filter(|title| !ON_REQUEST.contains(title)).collect();
        check_sections("info", &by_default);
        check_sections("info default", &by_default);
        for everything in ["ALL", "everything cpu"] {
            check_sections(&format!("info {everything}"), &all);
        }
        check_sections("info cpu SERVER cpu", &["Server", "CPU"]);
        check_sections("info nosuch", &[]);
    }

    #[test]
    fn a_report_reads_like_that_of_redis() {
        let mut report = Report::default();
        report.section("Cluster");
        report.field("cluster_enabled", 0);
        report.section("Memory");
        report.size("maxmemory", 0);
        let expected =
            "# Cluster\r\ncluster_enabled:0\r\n\r\n# Memory\r\nmaxmemory:0\r\nmaxmemory_human:0B\r\n";
        assert_eq!(report.text, expected);
    }

    #[test]
    fn sizes_are_shown_in_the_units_of_redis() {
        let shown = [0, 1023, 1024, 1_415_528, 25_274_793_984, 1 << 60].map(human);
        assert_eq!(shown, ["0B", "1023B", "1.00K", "1.35M", "23.54G", "1024.00P"]);
    }

    #[test]
    fn the_files_of_the_system_are_understood() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 75 0 0";
        assert_eq!(processor_ticks(stat), Some((250, 75)));
        assert_eq!(processor_ticks("7 (a) S 1"), None);
    }
}
