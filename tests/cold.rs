//! A value that must come from the disk holds up nobody but its own connection, and not its order.
//!
//! The server runs inside the test, on a file system whose reads wait at a gate.

use std::sync::atomic::{AtomicBool, Ordering};

use kival_engine::fs::gate::Gate;
use kival_test_support::{Value, eventually};

use crate::inside::{Disk, Inside};

impl Disk for Gate {
    fn let_go(&self) {
        self.set_closed(false);
    }
}

/// A server without a cache, so that every value is on the disk, behind a gate.
fn start() -> Inside<Gate> {
    Inside::start(Gate::default(), &["--cache-size", "0"])
}

fn bulk(text: &str) -> Value {
    Value::bulk(text)
}

#[test]
fn others_go_on_while_one_waits_for_the_disk_and_its_own_order_stays() {
    let server = start();
    let (mut slow, mut other) = (server.client(), server.client());
    assert_eq!(other.call(&["MSET", "a", "1", "b", "2"]), Value::ok());
    server.disk.set_closed(true);

    slow.send(&["PING", "first"]);
    slow.send(&["GET", "a"]);
    slow.send(&["PING", "between"]);
    slow.send(&["INCR", "b"]);
    slow.send(&["MGET", "a", "b"]);
    slow.send(&["PING", "last"]);
    server.disk.wait_for_readers(1);

    // Everybody else is served, writes included, also on the key that is being read.
    assert_eq!(other.call(&["PING"]), Value::Simple(b"PONG".to_vec()));
    assert_eq!(other.call(&["SET", "c", "3"]), Value::ok());
    assert_eq!(other.call(&["EXISTS", "a", "b", "c"]), Value::Int(3));
    assert_eq!(other.call(&["DEL", "c"]), Value::Int(1));

    server.disk.set_closed(false);
    assert_eq!(slow.read(), bulk("first"));
    assert_eq!(slow.read(), bulk("1"));
    assert_eq!(slow.read(), bulk("between"));
    assert_eq!(slow.read(), Value::Int(3));
    assert_eq!(slow.read(), Value::Array(vec![bulk("1"), bulk("3")]));
    assert_eq!(slow.read(), bulk("last"));
}

#[test]
fn a_parked_command_sees_what_was_written_while_it_waited() {
    let server = start();
    let (mut slow, mut other) = (server.client(), server.client());
    other.call(&["SET", "k", "old"]);
    server.disk.set_closed(true);
    slow.send(&["GET", "k"]);
    server.disk.wait_for_readers(1);
    assert_eq!(other.call(&["DEL", "k"]), Value::Int(1));
    server.disk.set_closed(false);
    assert_eq!(slow.read(), Value::Nil, "the command starts again when its value is there");
}

#[test]
fn a_key_that_is_found_expired_on_the_way_to_the_disk_is_told() {
    let disk = Gate::default();
    let words = ["--cache-size", "0", "--notify-keyspace-events", "Ex", "--enable-debug-command", "yes"];
    let server = Inside::start(disk, &words);
    let (mut slow, mut other, mut listener) = (server.client(), server.client(), server.client());
    listener.call(&["SUBSCRIBE", "__keyevent@0__:expired"]);
    other.call(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"]);
    other.call(&["SET", "cold", "1"]);
    other.call(&["SET", "gone", "1", "PX", "1"]);
    other.call(&["SET", "clock", "1", "PX", "2"]);
    eventually("its time has come", || (other.call(&["GET", "clock"]) == Value::Nil).then_some(()));
    assert_eq!(listener.read().items().unwrap()[2], bulk("clock"));
    server.disk.set_closed(true);
    slow.send(&["MGET", "cold", "gone"]);
    server.disk.wait_for_readers(1);
    // It looks keys up, ends with an error, and takes back what it has done.
    assert!(other.call(&["RENAME", "no key", "x"]).is_error());
    server.disk.set_closed(false);
    assert_eq!(slow.read(), Value::Array(vec![bulk("1"), Value::Nil]));
    assert_eq!(listener.read().items().unwrap()[2], bulk("gone"));
}

#[test]
fn a_busy_pipeline_does_not_starve_who_waits_for_the_disk() {
    let server = start();
    let (mut slow, mut busy) = (server.client(), server.client());
    assert_eq!(busy.call(&["SET", "k", "v"]), Value::ok());
    server.disk.set_closed(true);
    slow.send(&["GET", "k"]);
    server.disk.wait_for_readers(1);
    let served = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let pipeline: Vec<Vec<&str>> = vec![vec!["SET", "other", "value"]; 20_000];
            busy.call(&["KIVAL", "DURABILITY", "no"]);
            while !served.load(Ordering::Relaxed) {
                busy.call_all(&pipeline);
            }
        });
        server.disk.set_closed(false);
        // It would never come if the next request were always taken before the value that was read.
        let value = slow.read();
        served.store(true, Ordering::Relaxed);
        assert_eq!(value, bulk("v"));
    });
}

#[test]
fn a_value_that_the_disk_has_lost_is_an_error_and_nothing_else_stops() {
    if !crate::target::is_kival() {
        return;
    }
    let mut server = crate::target::start(&["--cache-size", "0"]);
    assert_eq!(server.client().call(&["MSET", "a", "1", "b", "2"]), Value::ok());
    assert!(server.terminate().success());
    server.restart();
    for entry in std::fs::read_dir(server.dir()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "seg") {
            std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(48).unwrap();
        }
    }
    let mut client = server.client();
    for command in [&["GET", "a"][..], &["MGET", "b", "a"]] {
        let reply = client.call(command);
        assert!(reply.text().contains("CORRUPT") && reply.is_error(), "{reply:?}");
    }
    assert_eq!(client.call(&["EXISTS", "a"]), Value::Int(1));
    assert_eq!(client.info("stats", "kival_corrupt_reads").as_deref(), Some("2"));
    assert_eq!(client.call(&["SET", "a", "3"]), Value::ok());
}
