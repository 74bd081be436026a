//! MONITOR shows what ran: every command of every client, with its database, and no secret.

use kival_test_support::{Client, Value, eventually};

use crate::target;

/// The next line, its time and the port of its client left out.
fn line(monitor: &mut Client) -> String {
    let text = monitor.read().text();
    let (time, rest) = text.split_once(" [").expect("a line of MONITOR");
    let (seconds, micros) = time.split_once('.').expect("a time");
    assert!(seconds.len() >= 10 && micros.len() == 6, "{text}");
    let (client, command) = rest.split_once("] ").expect("a client");
    let (client, port) = client.rsplit_once(':').expect("an address");
    assert!(port.parse::<u16>().is_ok(), "{text}");
    format!("[{client}] {command}")
}

#[track_caller]
fn check(client: &mut Client, monitor: &mut Client, args: &[&str], expected: &[&str]) {
    client.call(args);
    for expected in expected {
        assert_eq!(line(monitor), *expected, "{args:?}");
    }
    // A line that should not be there would come before this one.
    client.call(&["ECHO", "end"]);
    assert!(line(monitor).ends_with("\"ECHO\" \"end\""), "{args:?}");
}

#[test]
fn commands_are_shown_as_they_have_run() {
    let server = target::start(&["--requirepass", "word"]);
    let (mut client, mut monitor, mut third) = (server.client(), server.client(), server.client());
    for other in [&mut client, &mut monitor] {
        assert_eq!(other.call(&["AUTH", "word"]), Value::ok());
    }
    assert!(!third.call(&["HELLO", "3", "AUTH", "default", "word"]).is_error());
    assert_eq!(monitor.call(&["MONITOR"]), Value::ok());
    assert_eq!(third.call(&["MONITOR"]), Value::ok());
    let mut check = |args: &[&str], expected: &[&str]| {
        check(&mut client, &mut monitor, args, expected);
        expected.iter().for_each(|expected| assert_eq!(line(&mut third), *expected));
        line(&mut third);
    };
    check(&["set", "k", "a \"b\"\r\n\u{1}"], &[r#"[0 127.0.0.1] "set" "k" "a \"b\"\r\n\x01""#]);
    check(&["INCR", "k"], &[r#"[0 127.0.0.1] "INCR" "k""#]);
    check(&["SELECT", "3"], &[r#"[3 127.0.0.1] "SELECT" "3""#]);
    check(&["SET", "k"], &[]);
    check(&["NOSUCH"], &[]);
    check(&["CONFIG", "GET", "port"], &[]);
    check(&["AUTH", "default", "word"], &[r#"[3 127.0.0.1] "AUTH" "(redacted)" "(redacted)""#]);
    check(&["AUTH", "wrong"], &[r#"[3 127.0.0.1] "AUTH" "(redacted)""#]);
    let hello = ["HELLO", "2", "AUTH", "default", "word"];
    check(&hello, &[r#"[3 127.0.0.1] "HELLO" "2" "AUTH" "(redacted)" "(redacted)""#]);
    assert_eq!(client.call(&["MULTI"]), Value::ok());
    for args in [&["SET", "k", "1"][..], &["SELECT", "0"], &["INCR", "k"]] {
        assert_eq!(client.call(args), Value::Simple(b"QUEUED".to_vec()));
    }
    let shown = [
        r#"[3 127.0.0.1] "MULTI""#,
        r#"[3 127.0.0.1] "SET" "k" "1""#,
        r#"[0 127.0.0.1] "SELECT" "0""#,
        r#"[0 127.0.0.1] "INCR" "k""#,
        r#"[0 127.0.0.1] "EXEC""#,
    ];
    client.call(&["EXEC"]);
    for expected in shown {
        assert_eq!(line(&mut monitor), expected);
        assert_eq!(line(&mut third), expected);
    }
}

#[test]
fn a_client_that_monitors_is_shown_its_own_commands_and_keeps_off_the_keys() {
    let server = target::start(&[]);
    let (mut client, mut monitor) = (server.client(), server.client());
    assert_eq!(monitor.call(&["MONITOR"]), Value::ok());
    assert_eq!(monitor.call(&["PING"]).text(), "PONG");
    assert_eq!(line(&mut monitor), r#"[0 127.0.0.1] "PING""#);
    let refused = "ERR Replica can't interact with the keyspace";
    for args in [&["GET", "k"][..], &["SET", "k", "v"], &["PUBLISH", "c", "m"]] {
        assert_eq!(monitor.call(args).text(), refused, "{args:?}");
    }
    monitor.send(&["MONITOR"]);
    assert_eq!(monitor.call(&["PING", "again"]).text(), "again", "a second MONITOR has no reply");
    line(&mut monitor);
    let id = monitor.call(&["CLIENT", "ID"]).int().expect("its id").to_string();
    monitor.read();
    let listed = client.call(&["CLIENT", "LIST", "ID", &id]).text();
    assert!(listed.contains(" flags=O "), "{listed}");
    assert_eq!(monitor.call(&["RESET"]).text(), "RESET");
    assert_eq!(client.call(&["SET", "k", "v"]), Value::ok());
    assert_eq!(monitor.call(&["GET", "k"]), Value::bulk("v"));
    client.call(&["MULTI"]);
    client.call(&["MONITOR"]);
    let answer = client.call(&["EXEC"]);
    let refused = "ERR MONITOR isn't allowed for DENY BLOCKING client";
    assert_eq!(answer.items().expect("an answer for each")[0].text(), refused);
}

#[test]
fn a_quit_is_shown_to_all_but_its_own_client() {
    let server = target::start(&[]);
    let (mut leaving, mut monitor) = (server.client(), server.client());
    for client in [&mut leaving, &mut monitor] {
        assert_eq!(client.call(&["MONITOR"]), Value::ok());
    }
    leaving.write(b"QUIT\r\nPING\r\n").unwrap();
    assert_eq!(leaving.until_closed(), b"+OK\r\n");
    assert_eq!(line(&mut monitor), r#"[0 127.0.0.1] "QUIT""#);
}

#[test]
fn a_monitor_that_does_not_read_is_cut() {
    let server = target::start(&["--client-output-buffer-limit", "pubsub 1mb 0 0"]);
    if !target::is_kival() {
        return kival_test_support::tools::not_applicable("redis-server lets the output of a monitor grow");
    }
    let (mut client, mut monitor) = (server.client(), server.client());
    assert_eq!(monitor.call(&["MONITOR"]), Value::ok());
    let value = "x".repeat(100_000);
    eventually("the monitor is cut", || {
        client.call(&["SET", "k", &value]);
        let field = "client_output_buffer_limit_disconnections";
        (server.client().info("stats", field).as_deref() == Some("1")).then_some(())
    });
    assert!(monitor.until_closed().len() < 100_000_000);
}
