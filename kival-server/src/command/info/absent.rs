//! Fields of INFO for what is not here: scripts, replicas, forks, modules. Exporters and dashboards read them; they are
//! always the same, and true.
//!
//! Not told is what would have to be made up: see `tests/server.rs`, which holds INFO against redis-server's.

/// Fields and their values.
pub(super) type Fields = &'static [(&'static str, &'static str)];

/// There is no git in a build, and no gcc.
pub(super) const BUILD: Fields =
    &[("redis_git_sha1", "00000000"), ("redis_git_dirty", "0"), ("redis_build_id", "0")];

/// How the program is made.
pub(super) const MADE: Fields = &[
    ("monotonic_clock", "POSIX clock_gettime"),
    ("multiplexing_api", "epoll"),
    ("atomicvar_api", "rust"),
    ("gcc_version", "0.0.0"),
];

/// No scripts and no functions.
pub(super) const SCRIPTS: Fields = &[
    ("used_memory_lua", "0"),
    ("used_memory_vm_eval", "0"),
    ("used_memory_lua_human", "0B"),
    ("used_memory_scripts_eval", "0"),
    ("number_of_cached_scripts", "0"),
    ("number_of_functions", "0"),
    ("number_of_libraries", "0"),
    ("used_memory_vm_functions", "0"),
    ("used_memory_vm_total", "0"),
    ("used_memory_vm_total_human", "0B"),
    ("used_memory_functions", "0"),
    ("used_memory_scripts", "0"),
    ("used_memory_scripts_human", "0B"),
];

/// No eviction, no replicas, no cluster, no defragmentation, and nothing that is freed later.
pub(super) const MEMORY: Fields = &[
    ("mem_not_counted_for_evict", "0"),
    ("mem_replication_backlog", "0"),
    ("mem_total_replication_buffers", "0"),
    ("mem_clients_slaves", "0"),
    ("mem_cluster_links", "0"),
    ("active_defrag_running", "0"),
    ("lazyfree_pending_objects", "0"),
    ("lazyfreed_objects", "0"),
];

/// Nothing is loaded while the server answers, and no child is forked that would copy pages.
pub(super) const FORKS: Fields = &[
    ("loading", "0"),
    ("async_loading", "0"),
    ("current_cow_peak", "0"),
    ("current_cow_size", "0"),
    ("current_cow_size_age", "0"),
    ("current_fork_perc", "0.00"),
    ("current_save_keys_processed", "0"),
    ("current_save_keys_total", "0"),
    ("rdb_last_cow_size", "0"),
    ("rdb_last_load_keys_expired", "0"),
    ("rdb_last_load_keys_loaded", "0"),
    ("aof_last_cow_size", "0"),
    ("module_fork_in_progress", "0"),
    ("module_fork_last_cow_size", "0"),
];

/// No traffic of replicas.
pub(super) const REPLICA_TRAFFIC: Fields = &[
    ("total_net_repl_input_bytes", "0"),
    ("total_net_repl_output_bytes", "0"),
    ("instantaneous_input_repl_kbps", "0.00"),
    ("instantaneous_output_repl_kbps", "0.00"),
];

/// No replicas that could be brought up to date.
pub(super) const SYNCS: Fields = &[("sync_full", "0"), ("sync_partial_ok", "0"), ("sync_partial_err", "0")];

/// No eviction.
pub(super) const EVICTION: Fields = &[
    ("evicted_keys", "0"),
    ("evicted_clients", "0"),
    ("total_eviction_exceeded_time", "0"),
    ("current_eviction_exceeded_time", "0"),
];

/// No forks, no sockets that MIGRATE would keep, no replica with expired keys, no defragmentation.
pub(super) const STATS: Fields = &[
    ("latest_fork_usec", "0"),
    ("total_forks", "0"),
    ("migrate_cached_sockets", "0"),
    ("slave_expires_tracked_keys", "0"),
    ("active_defrag_hits", "0"),
    ("active_defrag_misses", "0"),
    ("active_defrag_key_hits", "0"),
    ("active_defrag_key_misses", "0"),
    ("total_active_defrag_time", "0"),
    ("current_active_defrag_time", "0"),
];

/// No errors of scripts or replicas, no check of payloads beyond the one that all get, no threads that read and
/// write, no buffers of replies that change their size.
pub(super) const LAST_STATS: Fields = &[
    ("unexpected_error_replies", "0"),
    ("dump_payload_sanitizations", "0"),
    ("io_threaded_reads_processed", "0"),
    ("io_threaded_writes_processed", "0"),
    ("reply_buffer_shrinks", "0"),
    ("reply_buffer_expands", "0"),
];

/// No replica has ever been here.
pub(super) const REPLICATION: Fields = &[
    ("master_repl_offset", "0"),
    ("second_repl_offset", "-1"),
    ("repl_backlog_active", "0"),
    ("repl_backlog_size", "0"),
    ("repl_backlog_first_byte_offset", "0"),
    ("repl_backlog_histlen", "0"),
];
