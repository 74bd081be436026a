//! Connections steer themselves and each other: CLIENT KILL, REPLY, UNBLOCK, PAUSE and what belongs to them.

use kival_test_support::{Client, Launch, Server, Value, eventually, seed};

use crate::target;

fn server() -> Server {
    target::start(&["--appendfsync", "everysec"])
}

fn id(client: &mut Client) -> String {
    client.call(&["CLIENT", "ID"]).int().unwrap().to_string()
}

/// The field of a connection's line in CLIENT LIST; none if it is not there.
fn shown(client: &mut Client, id: &str, field: &str) -> Option<String> {
    let line = client.call(&["CLIENT", "LIST", "ID", id]).text();
    let start = format!("{field}=");
    line.split_whitespace().find_map(|part| part.strip_prefix(&start)).map(str::to_owned)
}

#[test]
fn connections_are_killed_by_what_they_are() {
    let server = server();
    let mut client = server.client();
    let own = id(&mut client);
    let mut by_id = server.client();
    let other = id(&mut by_id);
    assert_eq!(client.call(&["CLIENT", "KILL", "ID", &other]), Value::Int(1));
    assert_eq!(by_id.until_closed(), b"");
    assert_eq!(client.call(&["CLIENT", "LIST", "ID", &other]).text(), "");
    assert_eq!(client.call(&["CLIENT", "KILL", "ID", &other]), Value::Int(0));
    let mut by_address = server.client();
    let other = id(&mut by_address);
    let addr = shown(&mut client, &other, "addr").unwrap();
    assert_eq!(client.call(&["CLIENT", "KILL", &addr]), Value::ok());
    assert_eq!(by_address.until_closed(), b"");
    assert_eq!(client.call(&["CLIENT", "KILL", &addr]).text(), "ERR No such client");
    let mut listener = server.client();
    listener.call(&["SUBSCRIBE", "news"]);
    let mut other = server.client();
    assert_eq!(other.call(&["PING"]), Value::Simple("PONG".into()));
    assert_eq!(client.call(&["CLIENT", "KILL", "TYPE", "pubsub"]), Value::Int(1));
    assert_eq!(listener.until_closed(), b"");
    assert_eq!(client.call(&["PUBLISH", "news", "x"]), Value::Int(0));
    assert_eq!(client.call(&["CLIENT", "KILL", "TYPE", "normal"]), Value::Int(1), "itself is spared");
    assert_eq!(other.until_closed(), b"");
    assert_eq!(client.call(&["CLIENT", "KILL", "ID", &own]), Value::Int(0));
    assert_eq!(client.call(&["CLIENT", "KILL", "ID", &own, "SKIPME", "no"]), Value::Int(1));
    assert_eq!(client.until_closed(), b"");
}

#[test]
fn nothing_of_a_killed_connection_runs_any_more() {
    let server = server();
    let (mut client, mut other) = (server.client(), server.client());
    let id = id(&mut other);
    other.call(&["CLIENT", "PAUSE", "60000", "WRITE"]);
    other.send(&["SET", "k", "held"]);
    eventually("it is held", || shown(&mut client, &id, "flags").filter(|flags| flags == "b"));
    assert_eq!(client.call(&["CLIENT", "KILL", "ID", &id]), Value::Int(1));
    assert_eq!(client.call(&["CLIENT", "UNPAUSE"]), Value::ok());
    assert_eq!(client.call(&["GET", "k"]), Value::Nil);
}

#[test]
fn nothing_behind_its_own_end_is_answered_to_a_connection() {
    let server = server();
    for (lines, expected) in [
        ("CLIENT KILL TYPE normal SKIPME no\r\nPING\r\n", ":1\r\n"),
        (
            "MULTI\r\nPING\r\nCLIENT KILL TYPE normal SKIPME no\r\nSET k v\r\nPING\r\nEXEC\r\nPING\r\n",
            "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*4\r\n+PONG\r\n:1\r\n",
        ),
    ] {
        let mut client = server.client();
        client.write(lines.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(client.until_closed()).unwrap(), expected, "{lines}");
    }
    // What stood in the transaction has run all the same.
    assert_eq!(server.client().call(&["GET", "k"]), Value::bulk("v"));
}

#[test]
fn the_last_command_is_listed_whether_it_ran_or_not() {
    let server = server();
    let (mut client, mut watcher) = (server.client(), server.client());
    let own = id(&mut client);
    for (line, expected) in [
        ("GET", "get"),
        ("NOSUCH", "NULL"),
        ("CONFIG GET", "config|get"),
        ("CONFIG NOSUCH", "NULL"),
        ("GET k", "get"),
    ] {
        client.call(&line.split(' ').collect::<Vec<_>>());
        assert_eq!(shown(&mut watcher, &own, "cmd").as_deref(), Some(expected), "{line}");
    }
}

#[test]
fn a_watch_that_has_failed_is_listed() {
    let server = server();
    let (mut client, mut other) = (server.client(), server.client());
    let own = id(&mut client);
    client.call(&["WATCH", "k"]);
    assert_eq!(shown(&mut other, &own, "flags").as_deref(), Some("N"));
    other.call(&["SET", "k", "v"]);
    assert_eq!(shown(&mut other, &own, "flags").as_deref(), Some("d"));
    client.call(&["MULTI"]);
    assert_eq!(shown(&mut other, &own, "flags").as_deref(), Some("xd"));
    assert_eq!(client.call(&["EXEC"]), Value::Nil);
    assert_eq!(shown(&mut other, &own, "flags").as_deref(), Some("N"));
}

#[test]
fn replies_can_be_left_out() {
    let server = server();
    let mut client = server.client();
    let mut check = |sent: &str, expected: &str| {
        client.write(sent.as_bytes()).unwrap();
        let mut heard = Vec::new();
        for _ in 0..expected.split(' ').count() {
            heard.push(client.read().text());
        }
        assert_eq!(heard.join(" "), expected, "{sent:?}");
        assert!(client.is_silent(), "{sent:?}");
    };
    check("CLIENT REPLY ON\r\n", "OK");
    check("CLIENT REPLY SKIP\r\nPING a\r\nPING b\r\n", "b");
    check("CLIENT REPLY SKIP\r\nCLIENT REPLY SKIP\r\nPING a\r\nPING b\r\n", "b");
    check("CLIENT REPLY SKIP\r\nNOSUCH\r\nPING b\r\n", "b");
    check("CLIENT REPLY SKIP\r\nWAIT 1 1\r\nPING b\r\n", "b");
    check("CLIENT REPLY OFF\r\nPING\r\nCLIENT REPLY SKIP\r\nPING\r\nCLIENT REPLY ON\r\n", "OK");
    check("CLIENT REPLY OFF\r\nSET k v\r\nRESET\r\nGET k\r\n", "RESET v");
    check("CLIENT REPLY SKIP\r\nMULTI\r\nGET k\r\nDISCARD\r\n", "QUEUED OK");
    check("CLIENT REPLY OFF\r\nMONITOR\r\nPING\r\nRESET\r\n", "RESET");
}

/// What a client of its own hears that sends these lines and then goes.
fn heard(server: &Server, lines: &[&str]) -> String {
    let mut client = server.client();
    // The end leaves nothing of what the lines may have begun, and is answered.
    let end = ["EXEC", "UNSUBSCRIBE", "SUNSUBSCRIBE", "CLIENT REPLY ON", "DEL k", "QUIT", ""];
    client.write([lines, &end].concat().join("\r\n").as_bytes()).unwrap();
    String::from_utf8(client.until_closed()).unwrap()
}

/// CLIENT REPLY before, inside and behind transactions, beside commands that fail and messages, which are heard
/// all the same.
#[test]
fn what_redis_leaves_out_is_left_out() {
    const LINES: [&str; 27] = [
        "CLIENT REPLY ON",
        "CLIENT REPLY OFF",
        "CLIENT REPLY OFF",
        "CLIENT REPLY SKIP",
        "CLIENT REPLY SKIP",
        "CLIENT REPLY SKIP",
        "CLIENT REPLY",
        "CLIENT REPLY x",
        "MULTI",
        "MULTI",
        "MULTI",
        "EXEC",
        "EXEC",
        "DISCARD",
        "WATCH k",
        "SET k v",
        "GET k",
        "INCR k",
        "NOSUCH",
        "PING a",
        "RESET",
        "SUBSCRIBE c",
        "UNSUBSCRIBE",
        "PUBLISH c m",
        "SSUBSCRIBE s",
        "SUNSUBSCRIBE",
        "SPUBLISH s m",
    ];
    let Some(redis) = Launch::redis(&["--appendonly", "no"]) else { return };
    let (redis, server) = (redis.start(), target::start(&[]));
    let (mut rng, _) = seed::generator("what redis leaves out");
    for _ in 0..400 {
        let count = rng.usize(1..=10);
        let lines: Vec<&str> = (0..count).map(|_| LINES[rng.usize(..LINES.len())]).collect();
        assert_eq!(heard(&server, &lines), heard(&redis, &lines), "{lines:?}");
    }
}

#[test]
fn a_reply_of_a_transaction_is_in_the_protocol_of_its_moment() {
    let server = server();
    let heard = heard(&server, &["MULTI", "GET k", "HELLO 3", "GET k"]);
    let (_, replies) = heard.split_once("*3\r\n").expect("the replies of EXEC");
    assert!(replies.starts_with("$-1\r\n%7\r\n"), "{replies:?}");
    assert!(replies.contains("*0\r\n_\r\n"), "{replies:?}");
}

#[test]
fn a_wait_is_ended_by_others() {
    let server = server();
    let (mut client, mut waiting) = (server.client(), server.client());
    let id = id(&mut waiting);
    let unblock = |client: &mut Client, words: &[&str]| {
        client.call(&[&["CLIENT", "UNBLOCK", id.as_str()], words].concat())
    };
    assert_eq!(unblock(&mut client, &[]), Value::Int(0), "it does not wait");
    for (reason, answer) in
        [(&[][..], "0"), (&["TIMEOUT"], "0"), (&["ERROR"], "UNBLOCKED client unblocked via CLIENT UNBLOCK")]
    {
        waiting.send(&["WAIT", "1", "0"]);
        eventually("it waits", || shown(&mut client, &id, "flags").filter(|flags| flags == "b"));
        assert_eq!(unblock(&mut client, reason), Value::Int(1));
        let reply = waiting.read();
        assert_eq!(reply.int().map_or_else(|| reply.text(), |count| count.to_string()), answer);
    }
    assert_eq!(waiting.call(&["PING", "still here"]).text(), "still here");
}

#[test]
fn a_pause_holds_back_what_may_write() {
    let server = server();
    let mut client = server.client();
    let mut held: Vec<Client> = (0..4).map(|_| server.client()).collect();
    held[2].call_all(&[vec!["MULTI"], vec!["SET", "k", "queued"]]);
    assert_eq!(client.call(&["CLIENT", "PAUSE", "600000", "WRITE"]), Value::ok());
    assert_eq!(client.call(&["GET", "k"]), Value::Nil);
    assert!(client.call(&["SET", "k"]).is_error(), "what is wrong is told at once");
    held[0].send(&["SET", "k", "v"]);
    held[0].send(&["GET", "k"]);
    held[1].send(&["PUBLISH", "news", "x"]);
    held[2].send(&["EXEC"]);
    held[3].send(&["PFCOUNT", "hll"]);
    eventually("all are held", || client.info("clients", "blocked_clients").filter(|blocked| blocked == "4"));
    assert_eq!(client.call(&["CLIENT", "UNPAUSE"]), Value::ok());
    assert_eq!(held[0].read(), Value::ok());
    assert!(["v", "queued"].contains(&held[0].read().text().as_str()));
    assert_eq!(held[1].read(), Value::Int(0));
    assert_eq!(held[2].read(), Value::Array(vec![Value::ok()]));
    assert_eq!(held[3].read(), Value::Int(0));
}

#[test]
fn a_pause_of_everything_ends_by_itself() {
    let server = server();
    let mut client = server.client();
    assert_eq!(client.call(&["CLIENT", "PAUSE", "50"]), Value::ok());
    assert_eq!(client.call(&["PING", "back"]).text(), "back");
}

#[test]
fn a_connection_tells_that_it_is_neither_evicted_nor_tracked() {
    let server = server();
    let mut client = server.client();
    let own = id(&mut client);
    assert_eq!(client.call(&["CLIENT", "NO-EVICT", "on"]), Value::ok());
    assert_eq!(shown(&mut client, &own, "flags").unwrap(), "e");
    assert!(client.call(&["CLIENT", "NO-EVICT", "maybe"]).is_error());
    assert_eq!(client.call(&["CLIENT", "GETREDIR"]), Value::Int(-1));
    let info = client.call(&["CLIENT", "TRACKINGINFO"]);
    let expected = ["flags", "off", "redirect", "-1", "prefixes"];
    let words = info.items().unwrap().iter().filter_map(|item| match item {
        Value::Array(flags) => flags.first().map(Value::text),
        Value::Int(number) => Some(number.to_string()),
        other => Some(other.text()),
    });
    assert_eq!(words.collect::<Vec<_>>(), expected);
    if target::is_kival() {
        assert_eq!(client.call(&["CLIENT", "NO-TOUCH", "on"]), Value::ok());
        assert_eq!(shown(&mut client, &own, "flags").unwrap(), "eT");
    }
    assert_eq!(client.call(&["RESET"]), Value::Simple("RESET".into()));
    let flags = shown(&mut client, &own, "flags").unwrap();
    assert!(flags == "N" || !target::is_kival(), "{flags}");
}

#[test]
fn a_connection_is_listed_with_its_descriptor() {
    let server = server();
    let (mut one, mut other) = (server.client(), server.client());
    let (first, second) = (id(&mut one), id(&mut other));
    let fds = [first, second].map(|id| shown(&mut one, &id, "fd").unwrap().parse::<i32>().unwrap());
    assert!(fds[0] > 2 && fds[1] > 2 && fds[0] != fds[1], "{fds:?}");
}
