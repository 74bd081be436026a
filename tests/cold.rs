//! A value that must come from the disk holds up nobody but its own connection, and not its order.
//!
//! The server runs inside the test, on a file system whose reads wait at a gate.

use std::sync::Arc;
use std::thread::JoinHandle;

use kival_engine::fs::MemoryFs;
use kival_engine::fs::gate::Gate;
use kival_engine::fs::hook::HookFs;
use kival_server::config;
use kival_server::server::{Server, Stopper};
use kival_test_support::{Client, Value};

/// A server in this process whose disk is behind a gate. It has no cache, so every value is on disk.
struct ColdServer {
    port: u16,
    gate: Gate,
    stopper: Stopper,
    thread: Option<JoinHandle<()>>,
}

impl ColdServer {
    fn start() -> ColdServer {
        let gate = Gate::default();
        let fs = Arc::new(HookFs::new(MemoryFs::default(), gate.clone()));
        let args = ["kival-server", "--port", "0", "--cache-size", "0", "--in-memory", "yes"];
        let loaded = config::load(args.map(Into::into)).unwrap();
        let (started, start) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let server = Server::start(loaded, fs, None).unwrap();
                started.send((server.port(), server.stopper())).unwrap();
                server.run().await.unwrap();
            });
        });
        let (port, stopper) = start.recv().unwrap();
        ColdServer { port, gate, stopper, thread: Some(thread) }
    }

    fn client(&self) -> Client {
        Client::connect(self.port).unwrap()
    }
}

impl Drop for ColdServer {
    fn drop(&mut self) {
        self.gate.set_closed(false);
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn bulk(text: &str) -> Value {
    Value::bulk(text)
}

#[test]
fn others_go_on_while_one_waits_for_the_disk_and_its_own_order_stays() {
    let server = ColdServer::start();
    let (mut slow, mut other) = (server.client(), server.client());
    assert_eq!(other.call(&["MSET", "a", "1", "b", "2"]), Value::ok());
    server.gate.set_closed(true);

    slow.send(&["PING", "first"]);
    slow.send(&["GET", "a"]);
    slow.send(&["PING", "between"]);
    slow.send(&["INCR", "b"]);
    slow.send(&["MGET", "a", "b"]);
    slow.send(&["PING", "last"]);
    server.gate.wait_for_readers(1);

    // Everybody else is served, writes included, also on the key that is being read.
    assert_eq!(other.call(&["PING"]), Value::Simple(b"PONG".to_vec()));
    assert_eq!(other.call(&["SET", "c", "3"]), Value::ok());
    assert_eq!(other.call(&["EXISTS", "a", "b", "c"]), Value::Int(3));
    assert_eq!(other.call(&["DEL", "c"]), Value::Int(1));

    server.gate.set_closed(false);
    assert_eq!(slow.read(), bulk("first"));
    assert_eq!(slow.read(), bulk("1"));
    assert_eq!(slow.read(), bulk("between"));
    assert_eq!(slow.read(), Value::Int(3));
    assert_eq!(slow.read(), Value::Array(vec![bulk("1"), bulk("3")]));
    assert_eq!(slow.read(), bulk("last"));
}

#[test]
fn a_parked_command_sees_what_was_written_while_it_waited() {
    let server = ColdServer::start();
    let (mut slow, mut other) = (server.client(), server.client());
    other.call(&["SET", "k", "old"]);
    server.gate.set_closed(true);
    slow.send(&["GET", "k"]);
    server.gate.wait_for_readers(1);
    assert_eq!(other.call(&["DEL", "k"]), Value::Int(1));
    server.gate.set_closed(false);
    assert_eq!(slow.read(), Value::Nil, "the command starts again when its value is there");
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
