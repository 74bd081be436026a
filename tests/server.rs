//! What the server tells of itself: ROLE, MEMORY, OBJECT IDLETIME and the fields of INFO that clients and exporters
//! read.

use kival_test_support::{Client, Launch, Value, eventually};

use crate::target;

/// Fields that some known reader wants as a number: redis-cli `--stat`, redis_exporter, RedisInsight.
const NUMBERS: &[(&str, &[&str])] = &[
    ("server", &["process_id", "tcp_port", "uptime_in_seconds", "hz", "io_threads_active"]),
    ("clients", &["connected_clients", "blocked_clients", "maxclients", "tracking_clients"]),
    (
        "memory",
        &[
            "used_memory",
            "used_memory_rss",
            "used_memory_peak",
            "used_memory_overhead",
            "used_memory_dataset",
            "total_system_memory",
            "maxmemory",
            "mem_fragmentation_ratio",
            "mem_fragmentation_bytes",
            "mem_clients_slaves",
        ],
    ),
    (
        "persistence",
        &["loading", "rdb_changes_since_last_save", "rdb_last_save_time", "aof_enabled", "aof_current_size"],
    ),
    (
        "stats",
        &[
            "total_connections_received",
            "total_commands_processed",
            "instantaneous_ops_per_sec",
            "instantaneous_input_kbps",
            "instantaneous_output_kbps",
            "total_net_input_bytes",
            "total_net_output_bytes",
            "rejected_connections",
            "expired_keys",
            "evicted_keys",
            "keyspace_hits",
            "keyspace_misses",
            "total_error_replies",
        ],
    ),
    ("replication", &["connected_slaves", "master_repl_offset", "second_repl_offset"]),
    ("cpu", &["used_cpu_sys", "used_cpu_user", "used_cpu_sys_children", "used_cpu_user_children"]),
    ("cluster", &["cluster_enabled"]),
];

#[test]
fn readers_of_info_find_their_numbers() {
    let server = target::start(&[]);
    let mut client = server.client();
    for (section, fields) in NUMBERS {
        for field in *fields {
            let value = client.info(section, field).unwrap_or_else(|| panic!("{section}: no {field}"));
            assert!(value.parse::<f64>().is_ok(), "{field}:{value}");
        }
    }
}

/// What redis-server tells in INFO or MEMORY STATS and kival does not, by how its name begins, and why.
const LEFT_OUT: &[(&str, &str)] = &[
    ("allocator", "mimalloc does not tell it by the way"),
    ("expired_stale_perc", "Redis estimates it from samples, and nothing is sampled here"),
    ("aof_rewrites_consecutive_failures", "only all failures are counted: kival_compactions_failed"),
    ("aof_pending_bio_fsync", "there is no queue of syncs"),
    ("total_reads_processed", "it would cost every read of a socket"),
    ("total_writes_processed", "it would cost every write to a socket"),
    ("db.", "what each database has of the keydir is not told"),
    ("cmdstat_", "commands differ"),
    ("latency_percentiles_usec_", "commands differ"),
    ("errorstat_", "errors come as they come"),
    ("db0", "keys come as they come"),
];

fn reason_to_leave_out(field: &str) -> Option<&'static str> {
    LEFT_OUT.iter().find(|(name, _)| field.starts_with(name)).map(|(_, why)| *why)
}

#[test]
fn every_field_of_redis_is_told_or_left_out_for_a_reason() {
    let Some(redis) = Launch::redis(&["--appendonly", "yes"]) else { return };
    let (redis, server) = (redis.start(), target::start(&[]));
    let fields = |client: &mut Client| -> Vec<String> {
        client.call(&["SET", "k", "v"]);
        let info = client.call(&["INFO", "everything"]).text();
        let lines = info.lines().map(|line| line.split(':').next().unwrap_or_default().to_owned());
        let stats = client.call(&["MEMORY", "STATS"]);
        let names = stats.items().expect("names and values").chunks(2).map(|pair| pair[0].text());
        lines.chain(names).collect()
    };
    let (ours, theirs) = (fields(&mut server.client()), fields(&mut redis.client()));
    let missing: Vec<&String> =
        theirs.iter().filter(|field| !ours.contains(field) && reason_to_leave_out(field).is_none()).collect();
    assert!(missing.is_empty(), "{missing:?}");
    if target::is_kival() {
        let told: Vec<&&str> = LEFT_OUT
            .iter()
            .filter(|(name, why)| !why.contains(" come as ") && !why.ends_with(" differ") && *name != "db.")
            .map(|(name, _)| name)
            .filter(|name| ours.iter().any(|field| field.starts_with(**name)))
            .collect();
        assert!(told.is_empty(), "told all the same: {told:?}");
    }
}

#[test]
fn the_largest_buffers_and_the_waits_that_end_are_told() {
    if !target::is_kival() {
        return;
    }
    let server = target::start(&[]);
    let (mut client, mut waiting) = (server.client(), server.client());
    let told = |client: &mut Client, field| client.info("clients", field).and_then(|n| n.parse::<u64>().ok());
    assert_eq!(told(&mut client, "clients_in_timeout_table"), Some(0));
    waiting.send(&["WAIT", "1", "100000"]);
    waiting.send(&["PING"]);
    eventually("it waits for a time", || {
        (told(&mut client, "clients_in_timeout_table") == Some(1)).then_some(())
    });
    eventually("its PING lies there", || {
        (told(&mut client, "client_recent_max_input_buffer")? > 0).then_some(())
    });
    let memory: u64 = client.info("memory", "mem_clients_normal").unwrap().parse().unwrap();
    assert!(memory > 2 * 100, "{memory}");
}

#[test]
fn the_rate_of_commands_rises_with_them() {
    let server = target::start(&[]);
    let mut client = server.client();
    eventually("commands have a rate", || {
        for _ in 0..100 {
            client.call(&["PING"]);
        }
        let rate = |client: &mut Client, field| client.info("stats", field);
        let ops: u64 = rate(&mut client, "instantaneous_ops_per_sec")?.parse().ok()?;
        let input: f64 = rate(&mut client, "instantaneous_input_kbps")?.parse().ok()?;
        let output: f64 = rate(&mut client, "instantaneous_output_kbps")?.parse().ok()?;
        (ops > 0 && input > 0.0 && output > 0.0).then_some(())
    });
}

#[test]
fn memory_and_role_answer_as_those_of_redis() {
    let Some(redis) = Launch::redis(&["--appendonly", "no"]) else { return };
    let (redis, server) = (redis.start(), target::start(&[]));
    let (mut left, mut right) = (server.client(), redis.client());
    let requests: &[&[&str]] = &[
        &["ROLE"],
        &["ROLE", "x"],
        &["SET", "k", "v"],
        &["MEMORY"],
        &["MEMORY", "NOSUCH"],
        &["MEMORY", "USAGE"],
        &["MEMORY", "USAGE", "nokey"],
        &["MEMORY", "USAGE", "nokey", "SAMPLES", "5"],
        &["MEMORY", "USAGE", "nokey", "SAMPLES", "x"],
        &["MEMORY", "USAGE", "k", "SAMPLES"],
        &["MEMORY", "USAGE", "k", "SAMPLES", "-1"],
        &["MEMORY", "USAGE", "k", "SAMPLES", "x"],
        &["MEMORY", "USAGE", "k", "OTHER", "5"],
        &["MEMORY", "STATS", "x"],
        &["MEMORY", "PURGE"],
        &["MEMORY", "PURGE", "x"],
        &["MEMORY", "MALLOC-STATS", "x"],
        &["MEMORY", "DOCTOR", "x"],
        &["LATENCY", "DOCTOR", "x"],
        &["LOLWUT", "VERSION", "x"],
        &["LATENCY", "GRAPH"],
        &["LATENCY", "GRAPH", "command"],
        &["LATENCY", "GRAPH", "a\0b"],
        &["OBJECT", "IDLETIME", "nokey"],
        &["OBJECT", "IDLETIME"],
    ];
    for request in requests {
        assert_eq!(left.call(request), right.call(request), "{request:?}");
    }
}

#[test]
fn a_key_takes_its_entry_in_the_keydir_and_its_value() {
    if !target::is_kival() {
        return;
    }
    let server = target::start(&[]);
    let mut client = server.client();
    client.call(&["SET", "k", &"v".repeat(100)]);
    assert_eq!(client.call(&["MEMORY", "USAGE", "k", "SAMPLES", "0"]), Value::Int(8 + 24 + 8 + 100));
    client.call(&["SET", "eight678", "", "EX", "1000"]);
    assert_eq!(client.call(&["MEMORY", "USAGE", "eight678"]), Value::Int(8 + 24 + 8 + 8));
    client.call(&["EXPIRE", "k", "1000"]);
    assert_eq!(client.call(&["MEMORY", "USAGE", "k"]), Value::Int(8 + 24 + 8 + 16 + 8 + 100));
}

#[test]
fn the_memory_of_the_store_is_told_by_name() {
    let server = target::start(&[]);
    let mut client = server.client();
    client.call(&["MSET", "a", "1", "b", "2"]);
    let stats = client.call(&["MEMORY", "STATS"]);
    let items = stats.items().expect("names and values");
    let number = |name: &str| {
        let at = items.iter().position(|item| item.text() == name).unwrap_or_else(|| panic!("no {name}"));
        items[at + 1].int().expect("a number")
    };
    assert_eq!(number("keys.count"), 2);
    for name in ["peak.allocated", "total.allocated", "dataset.bytes", "keys.bytes-per-key"] {
        assert!(number(name) > 0, "{name}");
    }
    assert!(number("peak.allocated") >= number("total.allocated"));
    assert!(client.call(&["MEMORY", "HELP"]).items().is_some());
}

#[test]
fn a_purge_empties_the_cache_and_no_value_is_lost() {
    if !target::is_kival() {
        return;
    }
    let server = target::start(&["--cache-size", "10mb"]);
    let mut client = server.client();
    let value = "v".repeat(10_000);
    for i in 0..200 {
        client.call(&["SET", &format!("key:{i}"), &value]);
    }
    let cached = |client: &mut Client| -> u64 {
        client.info("memory", "kival_cache_bytes").and_then(|bytes| bytes.parse().ok()).expect("a number")
    };
    let before = cached(&mut client);
    assert!(before > 2_000_000, "{before}");
    // What is written in the same turn is staged, and stays readable.
    client.write(b"SET k v\r\nMEMORY PURGE\r\nGET k\r\n").unwrap();
    assert_eq!([client.read(), client.read(), client.read()], [Value::ok(), Value::ok(), Value::bulk("v")]);
    let after = cached(&mut client);
    assert!(after + 2_000_000 <= before, "{before} and then {after}");
    assert!((0..200).all(|i| client.call(&["GET", &format!("key:{i}")]) == Value::bulk(&value)));
}

#[test]
fn the_doctor_and_the_allocator_answer_in_text() {
    if !target::is_kival() {
        return;
    }
    let server = target::start(&[]);
    let mut client = server.client3();
    let mut text = |args: &[&str]| match client.call(args) {
        Value::Verbatim(text) => String::from_utf8(text).expect("text"),
        other => panic!("{args:?}: {other:?}"),
    };
    assert!(text(&["MEMORY", "DOCTOR"]).starts_with("txt:The store is empty"));
    let stats = text(&["MEMORY", "MALLOC-STATS"]);
    assert!(stats.starts_with("txt:{") && stats.contains("mimalloc_version"), "{stats}");
    let picture = text(&["LOLWUT", "VERSION", "5"]);
    assert!(picture.starts_with("txt:The log") && picture.contains("\nkival ver. "), "{picture}");
    assert!(text(&["LATENCY", "DOCTOR"]).starts_with("txt:Nothing is measured"));
}

#[test]
fn idle_time_counts_from_the_last_use_or_the_start() {
    let mut server = target::start(&[]);
    let mut client = server.client();
    client.call(&["SET", "k", "v"]);
    let idle = |client: &mut Client| client.call(&["OBJECT", "IDLETIME", "k"]).int().expect("seconds");
    let uptime = |client: &mut Client| {
        client.info("server", "uptime_in_seconds").expect("a field").parse::<i64>().expect("seconds")
    };
    let set = idle(&mut client);
    // A second may begin between the two.
    assert!((0..=uptime(&mut client) + 1).contains(&set), "{set}");
    // Looking at it is no use, and neither is reading it by a client that wants to leave no trace.
    assert_eq!(client.call(&["CLIENT", "NO-TOUCH", "on"]), Value::ok());
    let unused = eventually("time passes", || {
        client.call(&["GET", "k"]);
        Some(idle(&mut client)).filter(|idle| *idle >= 2)
    });
    assert_eq!(client.call(&["CLIENT", "NO-TOUCH", "off"]), Value::ok());
    assert_eq!(client.call(&["GET", "k"]), Value::bulk("v"));
    assert!(idle(&mut client) < unused, "it was used");
    server.terminate();
    server.restart();
    let mut client = server.client();
    let started = idle(&mut client);
    assert!((0..=uptime(&mut client) + 1).contains(&started), "{started}");
}
