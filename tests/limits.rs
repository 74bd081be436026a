//! What a server refuses: strangers, too many connections, and sizes beyond its limits. Texts are those of
//! redis-server 7.0.
//!
//! Protected mode is not tried: it concerns other machines only.

use std::fs;
use std::io;

use kival_test_support::{Client, Server, Value, encode, eventually};

use crate::target;

fn error(text: &str) -> Value {
    Value::Error(text.as_bytes().to_vec())
}

/// Sends `bytes` and gives everything that comes until the server hangs up. It may hang up before it has
/// taken all.
fn cut(mut client: Client, bytes: &[u8]) -> String {
    if let Err(e) = client.write(bytes) {
        assert!(matches!(e.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe), "{e}");
    }
    String::from_utf8_lossy(&client.until_closed()).into_owned()
}

/// A field of `/proc/PID/status` in bytes.
fn memory(server: &Server, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("the server runs");
    let line = status.lines().find(|line| line.starts_with(field)).expect("the kernel knows the field");
    let kib: u64 = line.split_ascii_whitespace().nth(1).expect("a number").parse().expect("in KiB");
    kib * 1024
}

/// Waits until `watcher` is one of `count` connections.
fn connected(watcher: &mut Client, count: usize) {
    let count = count.to_string();
    eventually(&format!("connected_clients is {count}"), || {
        watcher.info("clients", "connected_clients").filter(|found| *found == count)
    });
}

#[test]
fn a_password_is_asked_for() {
    let server = target::start(&["--requirepass", "secret"]);
    let noauth = error("NOAUTH Authentication required.");
    let wrong = error("WRONGPASS invalid username-password pair or user is disabled.");
    let check = |client: &mut Client, args: &[&str], expected: &Value| {
        assert_eq!(client.call(args), *expected, "{args:?}");
    };
    let mut client = server.client();
    for args in
        [&["PING"][..], &["GET", "k"], &["SET", "k", "v"], &["INFO"], &["CONFIG", "GET", "requirepass"]]
    {
        check(&mut client, args, &noauth);
    }
    check(&mut client, &["AUTH"], &error("ERR wrong number of arguments for 'auth' command"));
    check(&mut client, &["AUTH", "wrong"], &wrong);
    check(&mut client, &["AUTH", "nobody", "secret"], &wrong);
    check(&mut client, &["GET", "k"], &noauth);
    let hello = client.call(&["HELLO", "3"]);
    assert!(
        hello.text().starts_with("NOAUTH HELLO must be called with the client already authenticated"),
        "{hello:?}"
    );
    check(&mut client, &["AUTH", "secret"], &Value::ok());
    check(&mut client, &["SET", "k", "v"], &Value::ok());
    check(&mut client, &["RESET"], &Value::Simple(b"RESET".to_vec()));
    check(&mut client, &["GET", "k"], &noauth);
    check(&mut client, &["AUTH", "default", "secret"], &Value::ok());
    check(&mut client, &["GET", "k"], &Value::bulk("v"));

    let mut other = server.client();
    assert!(!other.call(&["HELLO", "3", "AUTH", "default", "secret"]).is_error());
    check(&mut other, &["GET", "k"], &Value::bulk("v"));
}

#[test]
fn strangers_get_ten_arguments_of_16_kib() {
    let server = target::start(&["--requirepass", "secret"]);
    let noauth = "-NOAUTH Authentication required.\r\n";
    let long = "x".repeat(16_384);
    let mut client = server.client();
    assert_eq!(client.call(&[&["DEL"][..], &["k"; 9]].concat()), error("NOAUTH Authentication required."));
    assert_eq!(client.call(&["ECHO", &long]), error("NOAUTH Authentication required."));
    drop(client);
    let check = |sent: &[u8], expected: &str| assert_eq!(cut(server.client(), sent), expected);
    check(b"*11\r\n", "-ERR Protocol error: unauthenticated multibulk length\r\n");
    check(b"*2\r\n$4\r\nECHO\r\n$16385\r\n", "-ERR Protocol error: unauthenticated bulk length\r\n");
    check(b"PING\r\n*11\r\n", &format!("{noauth}-ERR Protocol error: unauthenticated multibulk length\r\n"));
    // With the password the limits are gone.
    let mut client = server.client();
    assert_eq!(client.call(&["AUTH", "secret"]), Value::ok());
    assert_eq!(client.call(&[&["DEL"][..], &["k"; 20]].concat()), Value::Int(0));
    assert_eq!(client.call(&["ECHO", &long.repeat(2)]), Value::bulk(long.repeat(2)));
}

#[test]
fn what_comes_behind_auth_in_the_same_write_has_the_limits_of_a_known_client() {
    let server = target::start(&["--requirepass", "secret"]);
    let long = "x".repeat(1 << 20);
    let mut client = server.client();
    client.write(&[encode(&["AUTH", "secret"]), encode(&["ECHO", &long])].concat()).unwrap();
    assert_eq!(client.read(), Value::ok());
    assert_eq!(client.read(), Value::bulk(&long));
}

#[test]
fn strangers_take_no_memory_however_much_they_send() {
    const MIB: u64 = 1 << 20;
    let server = target::start(&["--requirepass", "secret"]);
    let before = memory(&server, "VmRSS");
    let request = encode(&["ECHO", &"x".repeat(16_384)]);
    let requests = 2_000;
    let strangers: Vec<_> = (0..8)
        .map(|_| {
            let (mut client, bytes) = (server.client(), request.repeat(requests));
            std::thread::spawn(move || {
                let mut frames = Vec::new();
                client.pipeline(&bytes, requests, &mut frames).unwrap();
                // And then a request that does not end.
                client.write(&bytes[..16_000]).unwrap();
                assert!(frames.iter().all(|frame| frame.value.text().starts_with("NOAUTH")));
                client
            })
        })
        .collect();
    let strangers: Vec<Client> = strangers.into_iter().map(|stranger| stranger.join().unwrap()).collect();
    let grown = memory(&server, "VmHWM").saturating_sub(before) / MIB;
    assert!(grown < 32, "{grown} MiB for {} strangers", strangers.len());
}

#[test]
fn one_client_too_many_is_told_so() {
    let server = target::start(&["--maxclients", "5"]);
    let mut first = server.client();
    connected(&mut first, 1);
    let mut others: Vec<Client> = (0..4).map(|_| server.client()).collect();
    for client in &mut others {
        assert_eq!(client.call(&["PING"]), Value::Simple(b"PONG".to_vec()));
    }
    let refusal = "-ERR max number of clients reached\r\n";
    assert_eq!(cut(server.client(), b""), refusal);
    assert_eq!(cut(server.client(), b""), refusal);
    assert_eq!(first.call(&["PING"]), Value::Simple(b"PONG".to_vec()), "the others are still served");
    drop(others);
    connected(&mut first, 1);
    assert_eq!(server.client().call(&["PING"]), Value::Simple(b"PONG".to_vec()), "and there is room again");
}

#[test]
fn http_is_cut() {
    let server = target::start(&[]);
    let request = b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\nSET stolen yes\r\n";
    assert_eq!(cut(server.client(), request), "");
    let answer = cut(server.client(), b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nSET stolen yes\r\n");
    assert!(!answer.contains("OK"), "{answer}");
    assert_eq!(server.client().call(&["EXISTS", "stolen"]), Value::Int(0));
    for header in [&b"*1\r\n$5\r\nhOsT:\r\n"[..], b"MULTI\r\nhost: x\r\n"] {
        let answer = cut(server.client(), &[header, b"SET stolen yes\r\n"].concat());
        assert!(answer.is_empty() || answer == "+OK\r\n", "{answer}");
    }
    assert!(server.log().contains("SECURITY ATTACK"), "{}", server.log());
}

#[test]
fn arguments_end_at_proto_max_bulk_len() {
    let server = target::start(&[]);
    assert_eq!(server.client().call(&["CONFIG", "SET", "proto-max-bulk-len", "1mb"]), Value::ok());
    let most = "x".repeat(1 << 20);
    let mut client = server.client();
    assert_eq!(client.call(&["SET", "k", &most]), Value::ok());
    let too_long = error("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
    assert_eq!(client.call(&["APPEND", "k", "x"]), too_long);
    assert_eq!(client.call(&["SETRANGE", "k", "1048576", "x"]), too_long);
    let refusal = cut(client, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1048577\r\n");
    assert_eq!(refusal, "-ERR Protocol error: invalid bulk length\r\n");
}

#[test]
fn requests_end_at_client_query_buffer_limit() {
    let server = target::start(&["--client-query-buffer-limit", "1mb"]);
    let mut client = server.client();
    assert_eq!(client.call(&["SET", "k", &"x".repeat(500_000)]), Value::ok());
    let big = encode(&["SET", "k", &"y".repeat(4 << 20)]);
    assert_eq!(cut(client, &big), "");
    assert_eq!(server.client().call(&["STRLEN", "k"]), Value::Int(500_000));
}

#[test]
fn a_line_ends_at_64_kib() {
    let server = target::start(&[]);
    let refusal = cut(server.client(), "x".repeat(200_000).as_bytes());
    assert_eq!(refusal, "-ERR Protocol error: too big inline request\r\n");
}

#[test]
fn a_client_that_does_not_read_is_cut() {
    let server = target::start(&[]);
    let mut watcher = server.client();
    let setting = ["CONFIG", "SET", "client-output-buffer-limit", "normal 1mb 0 0"];
    assert_eq!(watcher.call(&setting), Value::ok());
    assert_eq!(watcher.call(&["SET", "k", &"x".repeat(500_000)]), Value::ok());
    connected(&mut watcher, 1);
    let replies = 200;
    let mut deaf = server.client();
    deaf.write(&encode(&["GET", "k"]).repeat(replies)).expect("the requests fit into the socket");
    eventually("the server has seen the client", || {
        let accepted = watcher.info("stats", "total_connections_received")?.parse::<u32>().ok()?;
        (accepted >= 3).then_some(())
    });
    connected(&mut watcher, 1);
    let read = deaf.until_closed().len();
    assert!(read < replies * 500_000, "the client was cut, but got all of its {read} bytes");
    assert_eq!(watcher.call(&["PING"]), Value::Simple(b"PONG".to_vec()));
}

#[test]
fn announced_sizes_take_no_memory() {
    const CLIENTS: usize = 100;
    const MIB: u64 = 1 << 20;
    let server = target::start(&[]);
    let mut watcher = server.client();
    connected(&mut watcher, 1);
    let before = ["VmRSS", "VmSize"].map(|field| memory(&server, field));
    let announcements: [&[u8]; 3] = [
        b"*2\r\n$4\r\nECHO\r\n$536870912\r\nxxxx",
        b"*2147483647\r\n$1\r\nx\r\n",
        b"*1000000\r\n$4\r\nMSET\r\n",
    ];
    let clients: Vec<Client> = (0..CLIENTS)
        .map(|i| {
            let mut client = server.client();
            // In one write with a PING: once that is answered, the announcement has been read too.
            client
                .write(&[b"PING\r\n", announcements[i % announcements.len()]].concat())
                .expect("it is read");
            assert_eq!(client.read(), Value::Simple(b"PONG".to_vec()));
            client
        })
        .collect();
    connected(&mut watcher, 1 + CLIENTS);
    let after = ["VmRSS", "VmSize"].map(|field| memory(&server, field));
    let [resident, address_space] = [0, 1].map(|i| after[i].saturating_sub(before[i]) / MIB);
    assert!(resident < 64, "{resident} MiB for {CLIENTS} clients that sent next to nothing");
    // redis-server asks for the memory, and only does not touch it.
    if !target::is_redis() {
        assert!(address_space < 4096, "{address_space} MiB of address space were asked for");
    }
    drop(clients);
}

#[test]
fn who_waits_for_replicas_and_hangs_up_leaves_nothing_behind() {
    let server = target::start(&[]);
    let mut other = server.client();
    {
        let mut waiting = server.client();
        waiting.write(b"PING\r\nWAIT 1 0\r\n").unwrap();
        assert_eq!(waiting.read(), Value::Simple(b"PONG".to_vec()));
    }
    eventually("the connection is gone", || {
        let connected = other.info("clients", "connected_clients");
        (connected.as_deref() == Some("1")).then_some(())
    });
}
