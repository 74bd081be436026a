//! Values that are too large for a turn: while one is written to the disk everybody else is served, and every
//! command that sets one does what it does with small ones.
//!
//! The server runs inside the test, on a file system where writes of large values wait at a gate.

use kival_engine::fs::gate::Gate;
use kival_engine::fs::hook::{Call, Hook, Op, Verdict};
use kival_test_support::{Client, Value};

use crate::inside::{Disk, Inside};

const LARGE: usize = 100 << 10;
const SETTINGS: [&str; 2] = ["--large-value-size", "100kb"];

/// Writes of so many bytes, and reads of them, wait here.
#[derive(Debug, Clone, Default)]
struct Slow(Gate);

impl Hook for Slow {
    fn before(&self, call: &Call<'_>) -> Verdict {
        if call.op == Op::WriteAt && call.bytes >= LARGE {
            return self.0.before(&Call { op: Op::ReadAt, ..*call });
        }
        Verdict::Go
    }
}

impl Disk for Slow {
    fn let_go(&self) {
        self.0.set_closed(false);
    }
}

fn start(settings: &[&str]) -> Inside<Slow> {
    Inside::start(Slow::default(), &[&SETTINGS, settings].concat())
}

fn large(byte: char) -> String {
    byte.to_string().repeat(LARGE)
}

fn get(client: &mut Client, key: &str) -> Value {
    client.call(&["GET", key])
}

#[test]
fn others_are_served_while_a_large_value_is_written() {
    let server = start(&[]);
    let (mut slow, mut other) = (server.client(), server.client());
    other.call(&["SET", "k", "old"]);
    server.disk.0.set_closed(true);
    slow.send(&["PING", "first"]);
    slow.send(&["SET", "k", &large('x')]);
    slow.send(&["STRLEN", "k"]);
    server.disk.0.wait_for_readers(1);

    assert_eq!(get(&mut other, "k"), Value::bulk("old"), "it is not set yet");
    assert_eq!(other.call(&["SET", "other", "1"]), Value::ok());
    assert_eq!(other.call(&["APPEND", "k", "er"]), Value::Int(5));
    assert_eq!(slow.read(), Value::bulk("first"));

    server.disk.let_go();
    assert_eq!((slow.read(), slow.read()), (Value::ok(), Value::Int(LARGE as i64)));
    assert_eq!(get(&mut other, "k"), Value::bulk(large('x')));
    assert_eq!(get(&mut other, "other"), Value::bulk("1"));
}

#[test]
fn several_large_values_are_written_one_after_the_other() {
    let server = start(&[]);
    let mut clients: Vec<Client> = (0..4).map(|_| server.client()).collect();
    server.disk.0.set_closed(true);
    for (index, client) in clients.iter_mut().enumerate() {
        let key = format!("k{index}");
        client.send(&["SET", &key, &large('a')]);
        client.send(&["SET", &key, &large('b')]);
        client.send(&["GETSET", &key, &large('c')]);
    }
    server.disk.0.wait_for_readers(1);
    server.disk.let_go();
    for (index, client) in clients.iter_mut().enumerate() {
        assert_eq!((client.read(), client.read()), (Value::ok(), Value::ok()));
        assert_eq!(client.read(), Value::bulk(large('b')));
        assert_eq!(get(client, &format!("k{index}")), Value::bulk(large('c')));
    }
}

#[test]
fn a_command_is_decided_when_its_value_has_been_written() {
    let server = start(&[]);
    let (mut slow, mut other) = (server.client(), server.client());
    for (command, reply, left) in [
        (vec!["SETNX", "k", "LARGE"], Value::Int(0), "taken"),
        (vec!["SET", "k", "LARGE", "NX", "GET"], Value::bulk("taken"), "taken"),
        (vec!["MSETNX", "a", "LARGE", "k", "x"], Value::Int(0), "taken"),
    ] {
        other.call(&["DEL", "k"]);
        server.disk.0.set_closed(true);
        let value = large('x');
        let command: Vec<&str> =
            command.iter().map(|arg| if *arg == "LARGE" { &value[..] } else { arg }).collect();
        slow.send(&command);
        server.disk.0.wait_for_readers(1);
        assert_eq!(other.call(&["SET", "k", "taken"]), Value::ok());
        server.disk.let_go();
        assert_eq!(slow.read(), reply, "{}", command[0]);
        assert_eq!(get(&mut other, "k"), Value::bulk(left));
    }
    // What was written for nothing is in nobody's way.
    assert_eq!(slow.call(&["SET", "k", &large('y')]), Value::ok());
    assert_eq!(get(&mut other, "k"), Value::bulk(large('y')));
}

#[test]
fn a_client_that_is_killed_meanwhile_sets_nothing_and_blocks_nobody() {
    let server = start(&[]);
    let (mut gone, mut waits, mut other) = (server.client(), server.client(), server.client());
    let Value::Int(id) = gone.call(&["CLIENT", "ID"]) else { panic!("an id is a number") };
    server.disk.0.set_closed(true);
    gone.send(&["SET", "gone", &large('x')]);
    server.disk.0.wait_for_readers(1);
    waits.send(&["SET", "k", &large('y')]);
    assert_eq!(other.call(&["CLIENT", "KILL", "ID", &id.to_string()]), Value::Int(1));
    while other.info("clients", "connected_clients").as_deref() != Some("2") {
        std::thread::yield_now();
    }
    server.disk.let_go();
    assert_eq!(waits.read(), Value::ok());
    assert_eq!(other.call(&["EXISTS", "gone", "k"]), Value::Int(1));
}

#[test]
fn every_command_that_sets_a_value_sets_a_large_one() {
    let server = start(&["--cache-size", "0"]);
    let mut client = server.client();
    let (x, y) = (large('x'), large('y'));
    assert_eq!(client.call(&["MSET", "small", "1", "a", &x, "b", &y]), Value::ok());
    assert_eq!(client.call(&["MSET", "c", &x, "d", &y]), Value::ok());
    assert_eq!(
        client.call(&["MGET", "a", "b", "c", "d"]),
        Value::Array([&x, &y, &x, &y].map(Value::bulk).into())
    );
    assert_eq!(client.call(&["SETEX", "a", "1000", &y]), Value::ok());
    assert_eq!(client.call(&["APPEND", "new", &x]), Value::Int(LARGE as i64));
    assert_eq!(client.call(&["APPEND", "a", &x]), Value::Int(2 * LARGE as i64));
    assert_eq!(client.call(&["SETRANGE", "b", "1", &x]), Value::Int(LARGE as i64 + 1));
    assert_eq!(client.call(&["RENAME", "b", "e"]), Value::ok());
    assert_eq!(client.call(&["MULTI"]), Value::ok());
    client.call(&["SET", "a", "small"]);
    client.call(&["SET", "b", &y]);
    client.call(&["SET", "c", &y, "GET"]);
    assert_eq!(client.call(&["EXEC"]), Value::Array(vec![Value::ok(), Value::ok(), Value::bulk(&x)]));
    assert_eq!(client.call(&["MGET", "a", "b"]), Value::Array(vec![Value::bulk("small"), Value::bulk(&y)]));
    // One that has expired makes way in the same command.
    assert_eq!(client.call(&["SET", "t", "1", "PX", "1"]), Value::ok());
    while client.call(&["PTTL", "t"]) != Value::Int(-2) {}
    assert_eq!(client.call(&["SET", "t", &x, "NX"]), Value::ok());
    assert_eq!(get(&mut client, "t"), Value::bulk(&x));
}

#[test]
fn a_watched_key_changes_when_its_large_value_is_set_and_not_before() {
    let server = start(&[]);
    let (mut slow, mut other) = (server.client(), server.client());
    for let_go_first in [false, true] {
        other.call(&["WATCH", "k"]);
        server.disk.0.set_closed(true);
        slow.send(&["SET", "k", &large('x')]);
        server.disk.0.wait_for_readers(1);
        if let_go_first {
            server.disk.let_go();
            assert_eq!(slow.read(), Value::ok());
        }
        other.call(&["MULTI"]);
        other.call(&["PING"]);
        let ran = other.call(&["EXEC"]) != Value::Nil;
        assert_eq!(ran, !let_go_first);
        if !let_go_first {
            server.disk.let_go();
            assert_eq!(slow.read(), Value::ok());
        }
    }
}

#[test]
fn a_large_value_that_was_acknowledged_outlives_a_kill() {
    if !crate::target::is_kival() {
        return;
    }
    let mut server = crate::target::start(&["--large-value-size", "100kb"]);
    let mut client = server.client();
    for byte in ['a', 'b', 'c'] {
        assert_eq!(client.call(&["SET", &byte.to_string(), &large(byte)]), Value::ok());
        assert_eq!(client.call(&["SET", "small", &byte.to_string()]), Value::ok());
    }
    server.kill9();
    server.restart();
    let mut client = server.client();
    for byte in ['a', 'b', 'c'] {
        assert_eq!(get(&mut client, &byte.to_string()), Value::bulk(large(byte)));
    }
    assert_eq!(get(&mut client, "small"), Value::bulk("c"));
}
