//! MULTI to EXEC: all or nothing, in one, unless a watched key has changed.

use kival_test_support::{Client, Value};

use crate::inside::Inside;
use crate::target;

fn queued() -> Value {
    Value::Simple(b"QUEUED".to_vec())
}

fn bulk(text: &str) -> Value {
    Value::bulk(text)
}

/// Watches `key`, lets `meanwhile` happen, and tells whether EXEC runs.
fn runs_after(watcher: &mut Client, key: &str, meanwhile: impl FnOnce()) -> bool {
    assert_eq!(watcher.call(&["WATCH", key]), Value::ok());
    meanwhile();
    assert_eq!(watcher.call(&["MULTI"]), Value::ok());
    assert_eq!(watcher.call(&["PING"]), queued());
    match watcher.call(&["EXEC"]) {
        Value::Nil => false,
        Value::Array(replies) => {
            assert_eq!(replies, [Value::Simple(b"PONG".to_vec())]);
            true
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_queued_runs_in_one_and_each_command_has_its_reply() {
    let server = target::start(&[]);
    let (mut client, mut other) = (server.client(), server.client());
    assert_eq!(client.call(&["MULTI"]), Value::ok());
    for args in [&["SET", "n", "x"][..], &["INCR", "n"], &["SET", "m", "1"], &["INCR", "m"], &["GET", "n"]] {
        assert_eq!(client.call(args), queued());
    }
    assert_eq!(other.call(&["EXISTS", "n", "m"]), Value::Int(0));
    let replies = client.call(&["EXEC"]);
    let replies = replies.items().expect("an array");
    assert_eq!(replies[0], Value::ok());
    assert!(replies[1].text().starts_with("ERR value is not an integer"));
    assert_eq!(replies[2..], [Value::ok(), Value::Int(2), bulk("x")]);
    assert_eq!(other.call(&["MGET", "n", "m"]), Value::Array(vec![bulk("x"), bulk("2")]));
}

#[test]
fn a_refused_command_spoils_the_transaction_and_discard_ends_it() {
    let server = target::start(&[]);
    let mut client = server.client();
    for wrong in [&["NOSUCH"][..], &["GET"], &["SAVE"]] {
        assert_eq!(client.call(&["MULTI"]), Value::ok());
        assert_eq!(client.call(&["SET", "a", "1"]), queued());
        assert!(client.call(wrong).is_error());
        assert!(client.call(&["EXEC"]).text().starts_with("EXECABORT"));
    }
    assert_eq!(client.call(&["MULTI"]), Value::ok());
    assert!(client.call(&["MULTI"]).text().contains("can not be nested"));
    assert!(client.call(&["WATCH", "a"]).text().contains("inside MULTI"));
    assert_eq!(client.call(&["SET", "a", "1"]), queued());
    assert_eq!(client.call(&["DISCARD"]), Value::ok());
    assert_eq!(client.call(&["EXISTS", "a"]), Value::Int(0));
    assert!(client.call(&["EXEC"]).text().contains("EXEC without MULTI"));
    assert!(client.call(&["DISCARD"]).text().contains("DISCARD without MULTI"));
}

#[test]
fn a_watched_key_that_changes_in_any_way_stops_exec() {
    let server = target::start(&[]);
    let (mut watcher, mut other) = (server.client(), server.client());
    let changes: [&[&str]; 8] = [
        &["SET", "key", "same"],
        &["APPEND", "key", "more"],
        &["APPEND", "key", ""],
        &["EXPIRE", "key", "1000"],
        &["RENAME", "key", "elsewhere"],
        &["FLUSHALL"],
        &["SWAPDB", "0", "1"],
        &["DEL", "key"],
    ];
    for change in changes {
        other.call(&["SET", "key", "same"]);
        assert!(!runs_after(&mut watcher, "key", || drop(other.call(change))), "{change:?}");
    }
    // There and gone again is a change too.
    other.call(&["DEL", "key"]);
    assert!(!runs_after(&mut watcher, "key", || {
        other.call(&["SET", "key", "1"]);
        other.call(&["DEL", "key"]);
    }));
    // So is a value whose time is over when it comes.
    assert!(!runs_after(&mut watcher, "key", || drop(other.call(&["SET", "key", "1", "PXAT", "1000"]))));
    // One's own change counts, that of another key or another database does not.
    assert!(runs_after(&mut watcher, "key", || {
        other.call(&["SET", "other", "1"]);
        other.call(&["SELECT", "3"]);
        other.call(&["SET", "key", "1"]);
        other.call(&["SELECT", "0"]);
        other.call(&["DEL", "nothing"]);
    }));
    watcher.call(&["WATCH", "key"]);
    watcher.call(&["SET", "key", "own"]);
    watcher.call(&["MULTI"]);
    assert_eq!(watcher.call(&["EXEC"]), Value::Nil);
}

#[test]
fn a_watched_key_that_expires_stops_exec_and_unwatch_lets_it_run() {
    let server = target::start(&[]);
    let (mut watcher, mut other) = (server.client(), server.client());
    other.call(&["SET", "key", "1"]);
    let gone = |client: &mut Client| {
        client.call(&["PEXPIRE", "key", "1"]);
        kival_test_support::wait::eventually("the key has expired", || {
            (client.call(&["EXISTS", "key"]) == Value::Int(0)).then_some(())
        });
    };
    assert!(!runs_after(&mut watcher, "key", || gone(&mut other)));
    other.call(&["SET", "key", "1"]);
    watcher.call(&["WATCH", "key"]);
    other.call(&["SET", "key", "2"]);
    assert_eq!(watcher.call(&["UNWATCH"]), Value::ok());
    assert!(runs_after(&mut watcher, "another", || {}));
}

#[test]
fn compaction_is_no_change_of_a_watched_key() {
    if !target::is_kival() {
        return;
    }
    let server = target::start(&["--segment-size", "1mb"]);
    let (mut watcher, mut other) = (server.client(), server.client());
    let value = "x".repeat(100_000);
    other.call(&["SET", "key", &value]);
    for round in 0..40 {
        other.call(&["SET", &format!("dead:{}", round % 2), &value]);
    }
    assert!(runs_after(&mut watcher, "key", || {
        other.call(&["BGREWRITEAOF"]);
        kival_test_support::wait::eventually("the log was compacted", || {
            let info = other.call(&["INFO", "persistence"]).text();
            (info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0"))
                .then_some(())
        });
    }));
}

#[test]
fn a_transaction_waits_for_its_values_on_disk_and_then_runs_once() {
    if !target::is_kival() {
        return;
    }
    let server = Inside::start(kival_engine::fs::gate::Gate::default(), &["--cache-size", "0"]);
    let (mut slow, mut other) = (server.client(), server.client());
    assert_eq!(other.call(&["MSET", "a", "1", "b", "2", "n", "5"]), Value::ok());
    server.disk.set_closed(true);
    slow.call(&["WATCH", "n"]);
    for args in [&["MULTI"][..], &["INCR", "n"], &["GET", "a"], &["SELECT", "2"], &["SET", "n", "9"]] {
        slow.call(args);
    }
    slow.call(&["GET", "n"]);
    slow.send(&["EXEC"]);
    server.disk.wait_for_readers(1);
    assert_eq!(other.call(&["PING"]), Value::Simple(b"PONG".to_vec()));
    server.disk.set_closed(false);
    let replies = [Value::Int(6), bulk("1"), Value::ok(), Value::ok(), bulk("9")];
    assert_eq!(slow.read(), Value::Array(replies.to_vec()));
    assert_eq!(other.call(&["GET", "n"]), bulk("6"));
    assert_eq!(slow.call(&["GET", "n"]), bulk("9"));
}

#[test]
fn a_transaction_that_waits_for_the_disk_is_answered_as_one_that_does_not() {
    if !target::is_kival() {
        return;
    }
    let server = Inside::start(kival_engine::fs::gate::Gate::default(), &["--cache-size", "0"]);
    let mut client = server.client();
    assert_eq!(client.call(&["SET", "a", "1"]), Value::ok());
    server.disk.set_closed(true);
    client.write(b"MULTI\r\nCLIENT REPLY OFF\r\nGET a\r\nCLIENT REPLY ON\r\nEXEC\r\nQUIT\r\n").unwrap();
    server.disk.wait_for_readers(1);
    server.disk.set_closed(false);
    // The array promises three, as in Redis.
    let heard = String::from_utf8(client.until_closed()).unwrap();
    let queued = "+QUEUED\r\n".repeat(3);
    assert_eq!(heard, format!("+OK\r\n{queued}*3\r\n+OK\r\n+OK\r\n"));
}
