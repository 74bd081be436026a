//! What was acknowledged is there after a restart, and one directory has one server.

use std::fs;

use kival_test_support::{Client, Launch, Server, StartFailure, Value};

use crate::target;

const ALWAYS: [&str; 2] = ["--appendfsync", "always"];

/// Sends commands that are all to succeed.
fn write(client: &mut Client, commands: &[&[&str]]) {
    for args in commands {
        let reply = client.call(args);
        assert!(!reply.is_error(), "{args:?} answered {reply:?}");
    }
}

/// What is where: for each database the value of each key.
fn holds(client: &mut Client, expected: &[(&str, &[(&str, &str)])]) {
    for (db, pairs) in expected {
        assert_eq!(client.call(&["SELECT", db]), Value::ok());
        assert_eq!(client.call(&["DBSIZE"]), Value::Int(pairs.len() as i64), "keys in database {db}");
        for (key, value) in *pairs {
            assert_eq!(client.call(&["GET", key]), Value::bulk(value), "{key} in database {db}");
        }
    }
}

/// Starts a server, does `change`, and expects `expected` then, after a crash, and after a clean stop.
fn survives(change: &[&[&str]], expected: &[(&str, &[(&str, &str)])]) {
    let mut server = target::start(&ALWAYS);
    write(&mut server.client(), change);
    holds(&mut server.client(), expected);
    server.kill9();
    server.restart();
    holds(&mut server.client(), expected);
    assert!(server.terminate().success());
    server.restart();
    holds(&mut server.client(), expected);
}

fn refused(launch: &Launch, dir: &std::path::Path, server: &Server) -> String {
    let failure = launch.start_on(dir, &server.beside("refused.log"));
    let StartFailure { status, output } = failure.expect_err("the server is to refuse to start");
    assert!(
        status.code().is_some_and(|code| code != 0),
        "it exits with an error of its own: {status}\n{output}"
    );
    assert!(!output.contains("panicked"), "{output}");
    output
}

#[test]
fn a_value_survives_a_crash() {
    survives(&[&["SET", "k", "v"]], &[("0", &[("k", "v")])]);
}

#[test]
fn the_last_of_several_values_survives() {
    let change: &[&[&str]] = &[
        &["SET", "n", "1"],
        &["INCRBY", "n", "41"],
        &["APPEND", "text", "a"],
        &["APPEND", "text", "b"],
        &["MSET", "x", "1", "y", "2", "z", "3"],
        &["DEL", "x", "nosuch"],
        &["RENAME", "y", "renamed"],
        &["COPY", "z", "copied"],
        &["SETRANGE", "text", "3", "c"],
        &["GETDEL", "z"],
    ];
    survives(change, &[("0", &[("n", "42"), ("text", "ab\0c"), ("renamed", "2"), ("copied", "3")])]);
}

#[test]
fn any_bytes_survive() {
    let mut server = target::start(&ALWAYS);
    let every_byte: Vec<u8> = (0..=255).collect();
    let long = vec![7; 3_000_000];
    let pairs: [(&[u8], &[u8]); 4] =
        [(&every_byte, &every_byte), (b"", b"no key"), (b"no value", b""), (b"l", &long)];
    let mut client = server.client();
    for (key, value) in pairs {
        assert_eq!(client.call(&[b"SET", key, value]), Value::ok());
    }
    server.kill9();
    server.restart();
    let mut client = server.client();
    for (key, value) in pairs {
        assert_eq!(client.call(&[b"GET", key]), Value::bulk(value));
    }
}

#[test]
fn databases_survive_as_they_were_moved_swapped_and_flushed() {
    let change: &[&[&str]] = &[
        &["MSET", "a", "0", "b", "0"],
        &["MOVE", "a", "1"],
        &["SELECT", "2"],
        &["SET", "c", "2"],
        &["SWAPDB", "0", "2"],
        &["SELECT", "3"],
        &["SET", "gone", "3"],
        &["FLUSHDB"],
        &["SET", "after", "3"],
        &["SELECT", "0"],
        &["COPY", "c", "c", "DB", "15"],
    ];
    let expected: &[(&str, &[(&str, &str)])] = &[
        ("0", &[("c", "2")]),
        ("1", &[("a", "0")]),
        ("2", &[("b", "0")]),
        ("3", &[("after", "3")]),
        ("15", &[("c", "2")]),
    ];
    survives(change, expected);
}

#[test]
fn flushall_survives() {
    let change: &[&[&str]] =
        &[&["SET", "a", "0"], &["SELECT", "7"], &["SET", "b", "7"], &["FLUSHALL"], &["SET", "c", "7"]];
    survives(change, &[("0", &[]), ("7", &[("c", "7")])]);
}

#[test]
fn expiry_survives() {
    let mut server = target::start(&ALWAYS);
    let at = "4000000000123";
    let change: &[&[&str]] = &[
        &["SET", "set", "v", "PXAT", at],
        &["SET", "changed", "v"],
        &["PEXPIREAT", "changed", at],
        &["SET", "persisted", "v", "EX", "100000"],
        &["PERSIST", "persisted"],
        &["SET", "kept", "v", "PXAT", at],
        &["SET", "kept", "w", "KEEPTTL"],
        &["SET", "renamed-from", "v", "PXAT", at],
        &["RENAME", "renamed-from", "renamed"],
        &["SET", "past", "v"],
        &["EXPIREAT", "past", "1"],
        &["SET", "soon", "v", "PX", "1"],
    ];
    write(&mut server.client(), change);
    for clean in [false, true] {
        if clean {
            assert!(server.terminate().success())
        } else {
            server.kill9()
        }
        server.restart();
        let mut client = server.client();
        for key in ["set", "changed", "kept", "renamed"] {
            assert_eq!(client.call(&["PEXPIRETIME", key]), Value::Int(4_000_000_000_123), "{key}");
        }
        assert_eq!(client.call(&["PEXPIRETIME", "persisted"]), Value::Int(-1));
        assert_eq!(client.call(&["EXISTS", "past", "soon", "renamed-from"]), Value::Int(0));
    }
}

#[test]
fn a_stop_by_sigterm_is_clean() {
    let mut server = target::start(&["--appendfsync", "everysec"]);
    let mut idle = server.client();
    idle.call(&["SET", "k", "v"]);
    let status = server.terminate();
    assert_eq!(status.code(), Some(0), "{}", server.log());
    assert_eq!(idle.until_closed(), b"");
    server.restart();
    assert_eq!(server.client().call(&["GET", "k"]), Value::bulk("v"));
}

#[test]
fn a_stop_by_shutdown_is_clean() {
    let mut server = target::start(&["--appendfsync", "no"]);
    let mut client = server.client();
    client.call(&["SET", "k", "v"]);
    client.send(&["SHUTDOWN"]);
    assert_eq!(client.until_closed(), b"");
    server.restart();
    assert_eq!(server.client().call(&["GET", "k"]), Value::bulk("v"));
}

#[test]
fn a_second_server_on_the_same_directory_is_refused() {
    if !target::is_kival() {
        return;
    }
    let mut server = target::start(&ALWAYS);
    server.client().call(&["SET", "k", "v"]);
    let output = refused(server.launch(), &server.dir(), &server);
    assert!(output.contains(&*server.dir().to_string_lossy()), "the message names the directory: {output}");
    assert!(output.contains("in use") || output.contains("lock"), "the message says why: {output}");
    assert_eq!(server.client().call(&["GET", "k"]), Value::bulk("v"), "the first server goes on");
    // The lock is the kernel's: it goes with the process, however that ends.
    server.kill9();
    server.restart();
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    if !target::is_kival() {
        return;
    }
    let server = target::start(&[]);
    // Below a file, since for root no permission forbids anything.
    let file = server.beside("file");
    fs::write(&file, "").expect("the temporary directory can be written");
    let output = refused(server.launch(), &file.join("data"), &server);
    assert!(output.contains(&*file.to_string_lossy()), "{output}");
}

#[test]
fn a_wrong_setting_names_the_nearest_one() {
    if !target::is_kival() {
        return;
    }
    let server = target::start(&[]);
    let check = |args: &[&str], said: &[&str]| {
        let output = refused(&target::launch(args), &server.beside("other"), &server);
        for words in said {
            assert!(output.contains(words), "{args:?} is to say {words}: {output}");
        }
    };
    check(&["--appendfsyn", "always"], &["--appendfsync"]);
    check(&["--appendfsync", "alway"], &["always", "everysec", "no"]);
    check(&["--segment-size", "tiny"], &["segment-size"]);
    let file = server.beside("kival.conf");
    fs::write(&file, "# fine\nappendfsync always\nmaxclient 10\n").expect("a file beside the data");
    check(&[&file.to_string_lossy()], &["maxclients", "kival.conf:3:"]);
}

#[test]
fn commands_before_a_stop_are_answered() {
    let server = target::start(&[]);
    let mut client = server.client();
    client.write(b"SET k v\r\nGET k\r\nSHUTDOWN\r\n").unwrap();
    assert_eq!(client.until_closed(), b"+OK\r\n$1\r\nv\r\n");
}

#[test]
fn nothing_behind_a_shutdown_is_run_or_answered() {
    if !target::is_kival() {
        return;
    }
    let mut server = target::start(&[]);
    let mut client = server.client();
    client.write(b"SET k v\r\nSHUTDOWN\r\nSET k other\r\nPING\r\n").unwrap();
    client.write(b"SET k later\r\n").ok();
    assert_eq!(client.until_closed(), b"+OK\r\n");
    server.restart();
    assert_eq!(server.client().call(&["GET", "k"]), Value::bulk("v"));
    // One that is refused ends nothing.
    let mut client = server.client();
    client.write(b"SHUTDOWN ABORT\r\nGET k\r\n").unwrap();
    assert!(client.read().is_error());
    assert_eq!(client.read(), Value::bulk("v"));
}
