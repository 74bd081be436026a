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

/// Settings of a file that would take the server elsewhere.
const PLACES: [&str; 5] = ["port", "bind", "dir", "logfile", "enable-debug-command"];

#[test]
fn a_file_of_redis_can_be_read() {
    if !target::is_kival() {
        return;
    }
    let Some(redis) = Launch::redis(&["--save", "3600 1"]) else { return };
    let redis = redis.start();
    let all = redis.client().call(&["CONFIG", "GET", "*"]);
    let pairs: Vec<String> = all.items().expect("names and values").iter().map(Value::text).collect();
    let lines = pairs.chunks(2).filter(|pair| !PLACES.contains(&pair[0].as_str()));
    let lines: Vec<String> = lines.map(|pair| format!("{} \"{}\"\n", pair[0], pair[1])).collect();
    let file = redis.beside("redis.conf");
    std::fs::write(&file, ["daemonize yes\n", &lines.concat()].concat()).unwrap();
    let file = file.to_str().expect("a path of the test");

    let failure = target::launch(&[file]).start_on(&redis.beside("data"), &redis.beside("refused.log"));
    let output = failure.expect_err("nobody forks").output;
    assert!(output.contains(&format!("{file}:1: daemonize cannot be set")), "{output}");
    assert!(output.contains("by --daemonize no"), "{output}");

    let mut server = target::start(&[file, "--daemonize", "no"]);
    let log = server.log();
    let skipped: Vec<&str> = log.lines().filter(|line| line.contains(": skipped: ")).collect();
    assert!(skipped.len() > 100 && skipped.iter().all(|line| line.contains(file)), "{log}");
    for name in ["rdbcompression", "zset-max-ziplist-value", "save", "dbfilename"] {
        let of = |line: &&&str| line.contains(&format!(": skipped: {name} "));
        assert_eq!(skipped.iter().filter(of).count(), 1, "{name}: {log}");
    }
    let mut client = server.client();
    assert_eq!(set(&mut client, "hz", "17"), Value::ok());
    assert_eq!(client.call(&["CONFIG", "REWRITE"]), Value::ok());
    server.restart();
    assert_eq!(
        server.client().call(&["CONFIG", "GET", "hz"]).items().map(|pair| pair[1].text()),
        Some("17".into())
    );
}

#[test]
fn the_file_is_known_by_its_whole_path() {
    if !target::is_kival() {
        return;
    }
    let home = target::start(&[]);
    let file = home.beside("kival.conf");
    std::fs::write(&file, "hz 20\n").unwrap();
    let depth = std::env::current_dir().unwrap().components().count();
    let relative = format!("{}{}", "../".repeat(depth), file.strip_prefix("/").unwrap().display());
    let server = target::start(&[&relative]);
    let mut client = server.client();
    let told = std::path::PathBuf::from(client.info("server", "config_file").unwrap());
    assert!(told.is_absolute(), "{}", told.display());
    assert_eq!(told.canonicalize().unwrap(), file.canonicalize().unwrap());
    assert_eq!(set(&mut client, "hz", "30"), Value::ok());
    assert_eq!(client.call(&["CONFIG", "REWRITE"]), Value::ok());
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().next(), Some("hz 30"));
}
