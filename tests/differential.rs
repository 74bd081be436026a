//! The same commands to the server under test and to redis-server 7.0, every reply compared to the byte.
//!
//! `generate` makes the commands (from `edges`, among others), `compare` says when two replies are the same (and lists the exceptions),
//! `run` sends, compares and explains. Here: what is promised, and the proof that the comparison can fail.

mod compare;
mod edges;
mod generate;
mod run;

use std::fmt::Write as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kival_test_support::{Frame, Launch, Server, Value, encode, eventually, seed, skip};

use self::compare::{Rule, rule, same};
use self::run::Run;
use crate::target;

/// After so many differences the rest would not be read.
const REPORTED: usize = 20;

/// What never succeeds, since it is unknown.
const NEVER_BOTH: [&str; 1] = [run::UNKNOWN];

/// The server to compare with, if it is there in the version whose replies are promised.
fn reference() -> Option<Launch> {
    // Nothing expires in the middle of a comparison, so the active cycle can only blur DBSIZE.
    let launch = Launch::redis(&["--appendonly", "no"])?;
    let version = Command::new("redis-server").arg("--version").output().expect("redis-server can be run");
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    if !version.contains("v=7.0.") {
        skip(&format!("replies are compared with those of redis-server 7.0, not of {version}"));
        return None;
    }
    Some(launch)
}

/// The server under test and the one to compare with.
fn pair() -> Option<(Server, Server)> {
    let reference = reference()?.start();
    let sizes = ["--large-value-size", "2kb", "--paged-value-size", "8kb"];
    Some((target::start(&[&["--appendfsync", "everysec"], &sizes[..]].concat()), reference))
}

#[test]
fn every_reply_is_that_of_redis() {
    let Some((left, right)) = pair() else { return };
    let commands: u64 = seed::number("KIVAL_DIFF_COMMANDS", 200_000);
    let (rng, seed) = seed::generator("differential");
    let mut run = Run::new(left, right, rng);
    let mut report = String::new();
    let mut differences = 0;
    while run.sent() < commands && differences < REPORTED {
        let mut result = run.step();
        if result.is_ok() && run.sent() >= commands {
            result = run.compare_states();
        }
        if let Err(difference) = result {
            differences += 1;
            writeln!(report, "{difference}").expect("a string takes it");
            run.start_over();
        }
    }
    let sent = run.sent();
    println!("commands, with how many replies that were errors and were not: {:?}", run.outcomes());
    if sent >= 50_000 {
        let useless: Vec<_> = run.outcomes().iter().filter(|(_, counts)| counts.contains(&0)).collect();
        let fine = useless.iter().all(|(name, _)| NEVER_BOTH.contains(&name.as_str()));
        assert!(fine, "some commands only ever failed, or never did: {useless:?}");
    }
    assert!(differences == 0, "KIVAL_SEED={seed}: {differences} differences in {sent} commands\n{report}");
}

#[test]
fn a_reply_that_differs_is_noticed() {
    let (Some(left), Some(right)) = (reference(), reference()) else { return };
    let (rng, _) = seed::generator("tampered differential");
    let mut run = Run::new(left.start(), right.start(), rng);
    let changed = Arc::new(AtomicU64::new(u64::MAX));
    let note = changed.clone();
    run.tamper = Some(Box::new(move |index, args, frame: &mut Frame| {
        let first = note.load(Ordering::Relaxed) == u64::MAX;
        if first && index > 1000 && rule(&args[0]) == Rule::Exact {
            let at = frame.raw.len() - 3;
            frame.raw[at] ^= 1;
            note.store(index, Ordering::Relaxed);
        }
    }));
    let difference = loop {
        assert!(run.sent() < 20_000, "a changed reply was not noticed");
        if let Err(difference) = run.step() {
            break difference;
        }
    };
    assert_eq!(difference.index, changed.load(Ordering::Relaxed), "{difference}");
}

#[test]
fn a_state_that_differs_is_noticed() {
    let (Some(left), Some(right)) = (reference(), reference()) else { return };
    let (rng, _) = seed::generator("states");
    let mut run = Run::new(left.start(), right.start(), rng);
    let (mut left, mut right) = (run.left.client(), run.right.client());
    while run.sent() < 500 {
        run.step().expect("two equal servers agree");
    }
    // A database that the generator leaves alone.
    for client in [&mut left, &mut right] {
        client.call(&["SELECT", "9"]);
        client.call(&["SET", "k", "v"]);
    }
    run.compare_states().expect("two equal servers hold the same");
    let changes: [&[&str]; 4] = [
        &["SET", "extra", "v"],
        &["DEL", "extra", "k"],
        &["SET", "k", "w"],
        &["SET", "k", "v", "EXAT", "4000000000"],
    ];
    for change in changes {
        left.call(change);
        assert!(run.compare_states().is_err(), "not noticed: {change:?}");
    }
    right.call(&["SET", "k", "v", "EXAT", "4000001000"]);
    assert!(run.compare_states().is_err(), "an expiry that is 1000 s off was not noticed");
    right.call(&["SET", "k", "v", "EXAT", "4000000000"]);
    run.compare_states().expect("the servers hold the same again");
}

#[test]
fn the_exceptions_are_no_wider_than_they_say() {
    let frame = |raw: &str| Frame::read(&mut raw.as_bytes()).expect("a whole reply");
    let check = |name: &str, left: &str, right: &str, expected: bool| {
        let found = same(rule(name.as_bytes()), 2000, &frame(left), &frame(right));
        assert_eq!(found, expected, "{name}: {left:?} and {right:?}");
    };
    check("ttl", ":100\r\n", ":103\r\n", true);
    check("TTL", ":100\r\n", ":104\r\n", false);
    check("TTL", ":0\r\n", ":-1\r\n", false);
    check("TTL", ":-1\r\n", ":-2\r\n", false);
    check("PTTL", ":100\r\n", ":2101\r\n", true);
    check("PTTL", ":100\r\n", ":2102\r\n", false);
    check("PTTL", ":100\r\n", "-ERR\r\n", false);
    check("STRLEN", ":100\r\n", ":101\r\n", false);
    check("DUMP", "$1\r\na\r\n", "$1\r\nb\r\n", false);
    check("DUMP", "$1\r\na\r\n", "$-1\r\n", false);
    check("KEYS", "*2\r\n+a\r\n+b\r\n", "*2\r\n+b\r\n+a\r\n", true);
    check("KEYS", "*2\r\n+a\r\n+b\r\n", "*2\r\n+a\r\n+a\r\n", false);
    check("MGET", "*2\r\n+a\r\n+b\r\n", "*2\r\n+b\r\n+a\r\n", false);
    check("SCAN", "*2\r\n$1\r\n5\r\n*0\r\n", "*2\r\n$1\r\n0\r\n*0\r\n", true);
    check("SCAN", "*2\r\n$1\r\n5\r\n*0\r\n", "*2\r\n:5\r\n*0\r\n", false);
    check("SCAN", "-ERR a\r\n", "-ERR b\r\n", false);
}

#[test]
fn keys_vanish_when_their_time_has_come() {
    let Some((left, right)) = pair() else { return };
    let setups: [&[&str]; 9] = [
        &["SET", "set-px", "v", "PX", "60"],
        &["SET", "set-ex", "v", "EX", "1"],
        &["SETEX", "setex", "1", "v"],
        &["PSETEX", "psetex", "70", "v"],
        &["SET", "expire", "v"],
        &["EXPIRE", "expire", "1"],
        &["SET", "getex", "v"],
        &["GETEX", "getex", "PX", "80"],
        &["SET", "stays", "v", "EX", "100000"],
    ];
    let names = ["set-px", "set-ex", "setex", "psetex", "expire", "getex"];
    let outcome = [left, right].map(|server| {
        let mut client = server.client();
        let mut replies: Vec<Value> = setups.iter().map(|args| client.call(args)).collect();
        for name in names {
            eventually(&format!("{name} expires"), || {
                (client.call(&["GET", name]) == Value::Nil).then_some(())
            });
            replies
                .extend(["TTL", "EXISTS", "TYPE", "PERSIST"].map(|question| client.call(&[question, name])));
        }
        replies.extend([client.call(&["DBSIZE"]), client.call(&["KEYS", "*"])]);
        replies
    });
    assert_eq!(outcome[0], outcome[1]);
}

#[test]
fn strings_end_at_512_mb() {
    let Some((left, right)) = pair() else { return };
    let commands: [&[&str]; 9] = [
        &["SETRANGE", "k", "536870911", "x"],
        &["STRLEN", "k"],
        &["GETRANGE", "k", "-3", "-1"],
        &["APPEND", "k", "y"],
        &["SETRANGE", "k", "536870911", "yz"],
        &["SETRANGE", "k", "0", "begin"],
        &["GETRANGE", "k", "0", "6"],
        &["STRLEN", "k"],
        &["DEL", "k"],
    ];
    let [mut left, mut right] = [left.client(), right.client()];
    for args in commands {
        assert_eq!(left.call(args), right.call(args), "{args:?}");
    }
}

#[test]
fn protocol_errors_are_those_of_redis() {
    let Some((left, right)) = pair() else { return };
    let long_line = "a".repeat(70_000);
    let streams: [&[u8]; 22] = [
        b"*1\r\n+PING\r\n",
        b"*1\r\nPING\r\n",
        b"*x\r\n",
        b"*1x\r\n",
        b"* 1\r\n",
        b"*\r\n",
        b"*2147483648\r\n",
        b"*99999999999999999999\r\n",
        b"*1\r\n$x\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$\r\n",
        b"*1\r\n$536870913\r\n",
        b"*1\r\n$9223372036854775808\r\n",
        b"PING\r\n*1\r\n$-5\r\n",
        b"SET k \"unbalanced\r\n",
        b"SET k 'unbalanced\r\n",
        b"SET k \"a\"b\r\n",
        long_line.as_bytes(),
        &[b"*", long_line.as_bytes()].concat(),
        &[b"*1\r\n$", long_line.as_bytes()].concat(),
        b"*1\r\n$4\r\nPING\r\n*1\r\n!\r\n",
        b"*0\r\n*-1\r\n\r\n\n  \r\nPING\n*1\r\n$4\r\nPINGxx*q\r\n",
    ];
    for stream in streams {
        let [left, right] = [&left, &right].map(|server| {
            let mut client = server.client();
            client.write(stream).expect("the server reads it");
            String::from_utf8_lossy(&client.until_closed()).into_owned()
        });
        assert_eq!(left, right, "{}", kival_test_support::printable(stream));
        assert!(right.ends_with("\r\n"), "redis said nothing: {}", kival_test_support::printable(stream));
    }
}

#[test]
fn split_frames_are_put_together() {
    let Some((left, right)) = pair() else { return };
    let mut bytes = encode(&["SET", "k", "a\r\nb"]);
    bytes.extend(encode(&["GET", "k"]));
    bytes.extend(b"GET k\r\n");
    let [left, right] = [left, right].map(|server| {
        let mut client = server.client();
        for byte in &bytes {
            client.write(&[*byte]).expect("the server reads it");
        }
        [client.read(), client.read(), client.read()]
    });
    assert_eq!(left, right);
}
