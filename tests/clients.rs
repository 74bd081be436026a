//! Programs that people use with Redis work with this server: the `redis` crate, and redis-cli, with RESP2 and
//! RESP3. Those in other languages are in `programs`.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;

use kival_test_support::{Server, Value, can, encode, eventually, have};
use redis::{Commands, Connection, ErrorKind, ServerErrorKind};

use crate::target;

fn server() -> Server {
    target::start(&["--appendfsync", "everysec"])
}

/// Runs `test` with a connection of the `redis` crate for each version of the protocol.
fn with_crate(test: impl Fn(&mut Connection)) {
    let server = server();
    for protocol in ["resp2", "resp3"] {
        let url = format!("redis://127.0.0.1:{}/0?protocol={protocol}", server.port());
        let client = redis::Client::open(url).unwrap();
        let mut connection = client.get_connection().unwrap();
        redis::cmd("FLUSHALL").exec(&mut connection).unwrap();
        test(&mut connection);
    }
}

#[test]
fn the_redis_crate_stores_and_reads() {
    with_crate(|c| {
        let any: Vec<u8> = (0..=255).collect();
        let () = c.set("text", "v").unwrap();
        let () = c.set(&any, &any).unwrap();
        assert_eq!(c.get::<_, String>("text").unwrap(), "v");
        assert_eq!(c.get::<_, Vec<u8>>(&any).unwrap(), any);
        assert_eq!(c.get::<_, Option<String>>("none").unwrap(), None);
        assert!(!c.set_nx::<_, _, bool>("text", "w").unwrap());
        assert_eq!(c.getset::<_, _, String>("text", "w").unwrap(), "v");
        assert_eq!(c.append::<_, _, usize>("text", "xyz").unwrap(), 4);
        assert_eq!(c.getrange::<_, String>("text", 1, -2).unwrap(), "xy");
        assert_eq!(c.setrange::<_, _, usize>("text", 1, "XY").unwrap(), 4);
        let () = c.mset(&[("a", "1"), ("b", "2")]).unwrap();
        let found: Vec<Option<String>> = c.mget(&["a", "none", "b", "text"]).unwrap();
        assert_eq!(found, [Some("1".into()), None, Some("2".into()), Some("wXYz".into())]);
        assert_eq!(c.incr::<_, _, i64>("a", 41).unwrap(), 42);
        assert_eq!(c.incr::<_, _, f64>("b", 0.5).unwrap(), 2.5);
        assert_eq!(c.del::<_, usize>(&["a", "b", "none"]).unwrap(), 2);
        assert_eq!(c.exists::<_, usize>(&["text", "text", "a"]).unwrap(), 2);
    });
}

#[test]
fn the_redis_crate_sets_expiries() {
    with_crate(|c| {
        let () = c.set_ex("k", "v", 1000).unwrap();
        assert!((1..=1000).contains(&c.ttl::<_, i64>("k").unwrap()));
        assert!(c.persist::<_, bool>("k").unwrap());
        assert_eq!(c.ttl::<_, i64>("k").unwrap(), -1);
        assert!(c.expire_at::<_, bool>("k", 4_000_000_000).unwrap());
        assert_eq!(c.expire_time::<_, i64>("k").unwrap(), 4_000_000_000);
        assert!(c.pexpire::<_, bool>("k", 1).unwrap());
        eventually("k expires", || (!c.exists::<_, bool>("k").unwrap()).then_some(()));
        assert_eq!(c.pttl::<_, i64>("k").unwrap(), -2);
    });
}

#[test]
fn the_redis_crate_iterates_and_pipelines() {
    with_crate(|c| {
        let mut pipe = redis::pipe();
        for i in 0..2500 {
            pipe.set(format!("key:{i}"), i).ignore();
        }
        pipe.get("key:7").cmd("DBSIZE");
        assert_eq!(pipe.query::<(u32, usize)>(c).unwrap(), (7, 2500));
        let all: HashSet<String> = c.scan().unwrap().map(Result::unwrap).collect();
        assert_eq!(all.len(), 2500);
        let some: HashSet<String> = c.scan_match("key:1?").unwrap().map(Result::unwrap).collect();
        assert_eq!(some, (10..20).map(|i| format!("key:{i}")).collect());
    });
}

#[test]
fn the_redis_crate_understands_errors() {
    with_crate(|c| {
        let () = c.set("text", "v").unwrap();
        let error = c.incr::<_, _, i64>("text", 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Server(ServerErrorKind::ResponseError), "{error}");
        assert!(error.to_string().contains("value is not an integer or out of range"), "{error}");
        let error = redis::cmd("NOSUCH").arg("x").exec(c).unwrap_err();
        assert!(error.to_string().contains("unknown command 'NOSUCH'"), "{error}");
        assert_eq!(c.get::<_, String>("text").unwrap(), "v", "the connection goes on");
    });
}

#[test]
fn connections_of_the_redis_crate_count_exactly() {
    const CLIENTS: usize = 20;
    const TURNS: usize = 250;
    let server = server();
    let client = redis::Client::open(format!("redis://127.0.0.1:{}/", server.port())).unwrap();
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut connection = client.get_connection().unwrap();
                let seen: Vec<usize> = (0..TURNS).map(|_| connection.incr("n", 1).unwrap()).collect();
                assert!(seen.is_sorted());
            });
        }
    });
    assert_eq!(server.client().call(&["GET", "n"]), Value::bulk((CLIENTS * TURNS).to_string()));
}

/// redis-cli with these arguments, its input from a file where one is given.
fn cli(server: &Server, args: &[&str], input: Option<&Path>) -> Output {
    let input = input.map_or(Stdio::null(), |path| File::open(path).unwrap().into());
    let port = server.port().to_string();
    Command::new("redis-cli").args(["-p", &port]).args(args).stdin(input).output().unwrap()
}

/// What redis-cli says on standard output, once it has succeeded.
fn said(server: &Server, args: &[&str]) -> String {
    let output = cli(server, args, None);
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn redis_cli_stores_and_reads() {
    if !have("redis-cli") {
        return;
    }
    let server = server();
    for version in ["-2", "-3"] {
        assert_eq!(said(&server, &[version, "SET", "k", "v"]), "OK\n");
        assert_eq!(said(&server, &[version, "GET", "k"]), "v\n");
        assert_eq!(said(&server, &[version, "--no-raw", "GET", "none"]), "(nil)\n");
        assert_eq!(said(&server, &[version, "--no-raw", "EXISTS", "k", "k"]), "(integer) 2\n");
        assert_eq!(said(&server, &[version, "--no-raw", "MGET", "k", "none"]), "1) \"v\"\n2) (nil)\n");
        assert_eq!(said(&server, &[version, "-n", "3", "GET", "k"]), "\n");
        assert!(said(&server, &[version, "NOSUCH"]).contains("ERR unknown command 'NOSUCH'"));
        assert!(said(&server, &[version, "INFO", "server"]).contains("redis_version:"));
    }
    // -e: an error of the server makes redis-cli fail.
    assert!(!cli(&server, &["-e", "GET"], None).status.success());
}

#[test]
fn redis_cli_loads_in_bulk_and_walks() {
    const KEYS: usize = 5000;
    if !have("redis-cli") {
        return;
    }
    let server = server();
    let commands = server.beside("commands");
    let key = |i: usize| format!("{}:{i}", if i.is_multiple_of(2) { "even" } else { "odd" });
    let bytes: Vec<u8> = (0..KEYS)
        .flat_map(|i| encode(&["SET", &key(i), &"v".repeat(if i == 77 { 999 } else { 9 })]))
        .collect();
    std::fs::write(&commands, bytes).unwrap();
    let output = cli(&server, &["--pipe"], Some(&commands));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains(&format!("errors: 0, replies: {KEYS}")), "{text}");

    let all = said(&server, &["--scan"]);
    assert_eq!(all.lines().map(str::to_owned).collect::<HashSet<_>>(), (0..KEYS).map(key).collect());
    let odd = said(&server, &["--scan", "--pattern", "odd:*"]);
    assert_eq!(odd.lines().collect::<HashSet<_>>().len(), KEYS / 2);
    let biggest = said(&server, &["--bigkeys"]);
    assert!(biggest.contains("Biggest string found '\"odd:77\"' has 999 bytes"), "{biggest}");
    assert!(biggest.contains(&format!("Sampled {KEYS} keys in the keyspace!")), "{biggest}");
}

#[test]
fn redis_cli_measures_keys_and_latency() {
    if !have("redis-cli") {
        return;
    }
    let server = server();
    let mut client = server.client();
    (0..300).for_each(|i| assert_eq!(client.call(&["SET", &format!("key:{i}"), "value"]), Value::ok()));
    client.call(&["SET", "large", &"x".repeat(10_000)]);
    let largest = said(&server, &["--memkeys"]);
    assert!(largest.contains("Biggest string found '\"large\"' has 10"), "{largest}");
    assert!(largest.contains("Sampled 301 keys in the keyspace!"), "{largest}");
    // Least, most, mean, and how many: at least one.
    let latency = said(&server, &["--raw", "--latency", "-i", "0.1"]);
    let numbers: Vec<f64> = latency.split_whitespace().map(|word| word.parse().unwrap()).collect();
    assert!(numbers.len() == 4 && numbers[3] >= 1.0, "{latency:?}");
}

/// It asks COMMAND DOCS at its start, and makes the hints of what it is told.
#[test]
fn redis_cli_hints_at_the_arguments_while_one_types() {
    if !target::is_kival() || !have("redis-cli") || !can("python3", "-c", "import pty") {
        return;
    }
    let server = server();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/clients/hints.py");
    let port = server.port().to_string();
    let output = Command::new("python3").args([script, &port]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "4 checks done\n", "{errors}");
}

#[test]
fn redis_cli_shows_the_statistics_of_a_server() {
    if !have("redis-cli") || !have("stdbuf") {
        return;
    }
    let server = server();
    (0..77).for_each(|i| assert_eq!(server.client().call(&["SET", &format!("key:{i}"), "v"]), Value::ok()));
    let port = server.port().to_string();
    // It goes on until it is ended, and to a pipe it writes in blocks.
    let mut shown = Command::new("stdbuf")
        .args(["-oL", "redis-cli", "-p", &port, "--stat", "-i", "0.01"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(shown.stdout.take().unwrap()).lines();
    let figures: Vec<String> =
        lines.map(Result::unwrap).filter(|line| line.starts_with("77 ")).take(3).collect();
    shown.kill().unwrap();
    shown.wait().unwrap();
    assert!(figures.len() == 3 && figures[2].contains('M'), "keys, memory, clients, requests: {figures:?}");
}

#[test]
fn a_line_by_hand_works() {
    let server = server();
    let mut client = server.client();
    client.write(b"SET greeting \"hello\\nworld\"\r\nGET greeting\nEXISTS greeting 'no such'\r\n").unwrap();
    assert_eq!(client.read(), Value::ok());
    assert_eq!(client.read(), Value::bulk("hello\nworld"));
    assert_eq!(client.read(), Value::Int(1));
    client.write(b"QUIT\r\n").unwrap();
    assert_eq!(client.read(), Value::ok());
    assert_eq!(client.until_closed(), b"");
}
