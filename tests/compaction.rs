//! Compaction as an operator meets it: started by hand, tried dry, set by CONFIG SET, told by INFO.

use std::collections::BTreeMap;

use kival_test_support::{Client, Server, Value, eventually};

use crate::target;

/// A reply of names and values.
fn map(reply: &Value) -> BTreeMap<String, Value> {
    let words = reply.items().unwrap_or_else(|| panic!("no map: {reply:?}"));
    words.chunks(2).map(|pair| (pair[0].text(), pair[1].clone())).collect()
}

fn number(facts: &BTreeMap<String, Value>, name: &str) -> i64 {
    facts[name].int().unwrap_or_else(|| panic!("{name} is no number"))
}

fn segments(client: &mut Client) -> Vec<BTreeMap<String, Value>> {
    client.call(&["KIVAL", "SEGMENTS"]).items().expect("a list").iter().map(map).collect()
}

fn plan(client: &mut Client, which: &str) -> BTreeMap<String, Value> {
    map(&map(&client.call(&["KIVAL", "COMPACT", "DRYRUN"]))[which])
}

fn info(client: &mut Client, field: &str) -> String {
    client.info("persistence", field).unwrap_or_else(|| panic!("INFO does not tell {field}"))
}

fn set(client: &mut Client, name: &str, value: &str) {
    assert_eq!(client.call(&["CONFIG", "SET", name, value]), Value::ok(), "{name} {value}");
}

/// A server that compacts only when told to, with ten keys and ten that were deleted, all in sealed segments.
fn filled() -> (Server, Client) {
    let mut server = target::start(&["--auto-aof-rewrite-percentage", "0", "--segment-size", "64kb"]);
    let mut client = server.client();
    for round in 0..20 {
        for key in 0..20 {
            let value = format!("{round}").repeat(500);
            assert_eq!(client.call(&["SET", &format!("key{key}"), &value]), Value::ok());
        }
    }
    for key in 10..20 {
        assert_eq!(client.call(&["DEL", &format!("key{key}")]), Value::Int(1));
    }
    server.restart();
    let client = server.client();
    (server, client)
}

#[test]
fn compaction_by_hand_does_what_the_dry_run_said() {
    if !target::is_kival() {
        return;
    }
    let (_server, mut client) = filled();
    let before = segments(&mut client);
    let tombstones: i64 = before.iter().map(|segment| number(segment, "tombstones")).sum();
    assert_eq!(tombstones, 10);
    assert!(before.iter().all(|segment| number(segment, "created-ms") > 1_500_000_000_000));

    assert_eq!(plan(&mut client, "now")["reason"].text(), "none");
    let full = plan(&mut client, "full");
    assert_eq!(full["reason"].text(), "by-hand");
    let sealed: Vec<i64> =
        before.iter().filter(|s| s["state"].text() == "sealed").map(|s| number(s, "id")).collect();
    let planned: Vec<i64> =
        full["segments"].items().expect("a list").iter().map(|s| number(&map(s), "id")).collect();
    assert_eq!(planned, sealed);
    let bytes =
        |segments: &[BTreeMap<String, Value>]| -> i64 { segments.iter().map(|s| number(s, "bytes")).sum() };
    assert_eq!(number(&full, "bytes-to-write-at-most") + number(&full, "bytes-freed-at-least"), {
        let empty: i64 =
            before.iter().filter(|s| s["state"].text() == "active").map(|s| number(s, "bytes")).sum();
        bytes(&before) - empty
    });

    assert_eq!(client.call(&["KIVAL", "COMPACT"]), Value::Simple(b"Compaction started".to_vec()));
    eventually("the compaction is over", || (info(&mut client, "aof_rewrites") == "1").then_some(()));
    let after = segments(&mut client);
    assert!(after.iter().any(|segment| segment["kind"].text() == "merged"));
    assert!(bytes(&before) - bytes(&after) >= number(&full, "bytes-freed-at-least"));
    assert_eq!(info(&mut client, "kival_compaction_reason"), "by-hand");
    assert_eq!(info(&mut client, "kival_compaction_records_copied"), "10");
    assert_eq!(info(&mut client, "kival_compaction_records_dropped"), "400");
    assert_eq!(info(&mut client, "kival_compaction_segments_in"), sealed.len().to_string());
    assert_eq!(info(&mut client, "kival_compaction_segments_out"), "1");
    assert_eq!(
        info(&mut client, "kival_compaction_bytes_read"),
        info(&mut client, "kival_compaction_bytes_total")
    );
    assert_ne!(info(&mut client, "kival_compaction_bytes_written"), "0");
    assert_ne!(info(&mut client, "aof_last_rewrite_time_sec"), "-1");
    assert_eq!(info(&mut client, "kival_compaction_last_error"), "");
    let error = client.call(&["KIVAL", "COMPACT", "WETRUN"]);
    assert_eq!(error, Value::Error(b"ERR syntax error".to_vec()));
}

#[test]
fn a_compaction_is_slowed_and_let_go_by_config_set() {
    if !target::is_kival() {
        return;
    }
    let (_server, mut client) = filled();
    for key in 0..3000 {
        assert_eq!(client.call(&["SET", &format!("other{key}"), &"x".repeat(1000)]), Value::ok());
    }
    set(&mut client, "compaction-rate", "1");
    assert!(!client.call(&["KIVAL", "COMPACT"]).is_error());
    let busy = b"ERR Background append only file rewriting already in progress".to_vec();
    assert_eq!(client.call(&["KIVAL", "COMPACT"]), Value::Error(busy));
    eventually("it runs", || (info(&mut client, "aof_rewrite_in_progress") == "1").then_some(()));
    set(&mut client, "compaction-rate", "0");
    eventually("it is over", || (info(&mut client, "aof_rewrites") == "1").then_some(()));
}

#[test]
fn compaction_by_itself_begins_when_its_window_opens() {
    if !target::is_kival() {
        return;
    }
    let (_server, mut client) = filled();
    set(&mut client, "compaction-window", "never");
    set(&mut client, "auto-aof-rewrite-min-size", "0");
    set(&mut client, "auto-aof-rewrite-percentage", "100");
    assert_eq!(plan(&mut client, "now")["reason"].text(), "none");
    assert_eq!(info(&mut client, "aof_rewrites"), "0");
    for nonsense in ["sometimes", "25-26", "1-2", "03-03"] {
        assert!(client.call(&["CONFIG", "SET", "compaction-window", nonsense]).is_error(), "{nonsense}");
    }
    set(&mut client, "compaction-window", "always");
    eventually("it compacts by itself", || (info(&mut client, "aof_rewrites") != "0").then_some(()));
    assert_ne!(info(&mut client, "kival_compaction_reason"), "by-hand");
}
