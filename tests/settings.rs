//! Settings of a server that runs: what CONFIG SET brings about, and what CONFIG tells.

use std::net::{Ipv4Addr, TcpListener, TcpStream};

use kival_test_support::{Client, Launch, Value, eventually};

use crate::target;

/// A port that is free, as long as the listener is dropped, and one that is taken.
fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    (listener, port)
}

fn set(client: &mut Client, name: &str, value: &str) -> Value {
    client.call(&["CONFIG", "SET", name, value])
}

#[test]
fn another_port_is_listened_on_and_connections_stay() {
    let server = target::start(&[]);
    let (mut client, before) = (server.client(), server.port());
    let (free, port) = listener();
    drop(free);
    assert_eq!(set(&mut client, "port", &port), Value::ok());
    assert_eq!(client.call(&["PING"]), Value::Simple(b"PONG".to_vec()));
    assert_eq!(client.info("server", "tcp_port").as_deref(), Some(port.as_str()));
    assert_eq!(
        Client::connect(port.parse().unwrap()).unwrap().call(&["PING"]),
        Value::Simple(b"PONG".to_vec())
    );
    eventually("the old port is closed", || Client::connect(before).is_err().then_some(()));
    assert_eq!(set(&mut client, "port", &before.to_string()), Value::ok());
    assert_eq!(server.client().call(&["PING"]), Value::Simple(b"PONG".to_vec()));
}

#[test]
fn other_addresses_are_listened_on() {
    let server = target::start(&["--bind", "127.0.0.1"]);
    let (mut client, port) = (server.client(), server.port());
    let is_open = |last: u8| TcpStream::connect((Ipv4Addr::new(127, 0, 0, last), port)).is_ok();
    assert!(is_open(1) && !is_open(2));
    assert_eq!(set(&mut client, "bind", "127.0.0.2 -192.0.2.1"), Value::ok());
    assert!(is_open(2) && !is_open(1));
    assert_eq!(set(&mut client, "bind", "127.0.0.1"), Value::ok());
    assert!(is_open(1) && !is_open(2));
    assert_eq!(client.call(&["PING"]), Value::Simple(b"PONG".to_vec()));
}

#[test]
fn where_nobody_can_listen_nothing_changes() {
    let Some(redis) = Launch::redis(&["--appendonly", "no", "--bind", "127.0.0.1"]) else { return };
    let (redis, server) = (redis.start(), target::start(&["--bind", "127.0.0.1"]));
    let (mut left, mut right) = (server.client(), redis.client());
    let (_taken, port) = listener();
    for words in [
        &["port", &port][..],
        &["bind", "192.0.2.1"],
        &["bind", "127.0.0.1 nosuch.invalid"],
        &["timeout", "7", "port", &port, "bind", "192.0.2.1"],
        &["bind", "192.0.2.1", "timeout", "7", "port", &port],
    ] {
        let request = [&["CONFIG", "SET"], words].concat();
        assert_eq!(left.call(&request), right.call(&request), "{request:?}");
        for name in ["timeout", "bind"] {
            let get = ["CONFIG", "GET", name];
            assert_eq!(left.call(&get), right.call(&get), "{request:?}: {name}");
        }
        assert_eq!(server.client().call(&["PING"]), Value::Simple(b"PONG".to_vec()), "{request:?}");
        assert_eq!(server.client().info("server", "tcp_port"), Some(server.port().to_string()));
    }
}

/// What clients and tools ask for, where kival is as redis-server is by default.
const FACTS: &[&str] = &[
    "save",
    "maxmemory",
    "maxmemory-policy",
    "maxmemory-clients",
    "activedefrag",
    "io-threads",
    "lua-time-limit",
    "busy-reply-threshold",
    "enable-module-command",
    "replicaof",
    "slaveof",
    "replica-read-only",
    "slave-read-only",
    "min-replicas-to-write",
    "min-slaves-to-write",
    "cluster-enabled",
    "tls-port",
    "unixsocket",
    "aclfile",
    "daemonize",
    "supervised",
    "pidfile",
    "syslog-enabled",
];

#[test]
fn facts_are_told_as_redis_tells_them() {
    let Some(redis) = Launch::redis(&["--save", ""]) else { return };
    let (redis, server) = (redis.start(), target::start(&["--daemonize", "no", "--maxmemory", "0"]));
    let (mut left, mut right) = (server.client(), redis.client());
    for name in FACTS {
        let get = ["CONFIG", "GET", name];
        assert_eq!(left.call(&get), right.call(&get), "{name}");
    }
    for (name, value) in
        [("save", ""), ("maxmemory", "0"), ("maxmemory-policy", "NOEVICTION"), ("appendonly", "yes")]
    {
        assert_eq!(set(&mut left, name, value), set(&mut right, name, value), "{name}");
    }
    assert!(set(&mut left, "maxmemory", "1gb").is_error());
    assert_eq!(
        left.call(&["CONFIG", "GET", "maxmemory"]).items().map(|pair| pair[1].text()),
        Some("0".into())
    );
}
