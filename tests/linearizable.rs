//! Concurrent clients on few keys see each key as if one command came after the other, kills and power cuts
//! included: no acknowledged write is lost, and nothing that was shown is taken back.
//!
//! `KIVAL_LINEAR_CYCLES` (12) sets the number of ends.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use fastrand::Rng;
use kival_test_support::disk::LossyDisk;
use kival_test_support::linear::{self, Operation};
use kival_test_support::{Client, Value, encode, have, seed};

use crate::target;

const CLIENTS: usize = 5;
const KEYS: usize = 3;
const SETTINGS: [&str; 4] = ["--appendfsync", "always", "--segment-size", "64kb"];

type Args = Vec<String>;
type Op = Operation<Args, Value>;
/// What a key holds.
type Register = Option<Vec<u8>>;

/// What Redis answers to a command on a string, and the string after it.
fn step(state: &Register, args: &Args) -> (Value, Register) {
    let bulk = |state: &Register| state.clone().map_or(Value::Nil, Value::Bulk);
    let given = || Some(args[2].clone().into_bytes());
    match &*args[0] {
        "GET" => (bulk(state), state.clone()),
        "SET" => (Value::ok(), given()),
        "GETSET" => (bulk(state), given()),
        "DEL" => (Value::Int(state.is_some().into()), None),
        "SETNX" if state.is_some() => (Value::Int(0), state.clone()),
        "SETNX" => (Value::Int(1), given()),
        "APPEND" => {
            let all = [state.clone().unwrap_or_default(), args[2].clone().into_bytes()].concat();
            (Value::Int(all.len() as i64), Some(all))
        }
        "INCR" => {
            let text = state.as_ref().map_or("0".into(), |bytes| String::from_utf8_lossy(bytes));
            match text.parse::<i64>().ok().and_then(|n| n.checked_add(1)) {
                Some(sum) => (Value::Int(sum), Some(sum.to_string().into_bytes())),
                None => (Value::Error(Vec::new()), state.clone()),
            }
        }
        other => unreachable!("{other} is not sent"),
    }
}

fn plan(rng: &mut Rng, key: usize) -> Args {
    let value = rng.u32(..1_000_000).to_string();
    let key = format!("key{key}");
    let (command, value) = match rng.u8(..20) {
        0..=6 => ("GET", None),
        7..=9 => ("SET", Some(value)),
        10 | 11 => ("GETSET", Some(value)),
        12 | 13 => ("SETNX", Some(value)),
        14..=16 => ("INCR", None),
        17 => ("APPEND", Some(value[..1].to_owned())),
        _ => ("DEL", None),
    };
    [Some(command.to_owned()), Some(key), value].into_iter().flatten().collect()
}

/// Sends commands until the server is gone, and notes each with its key.
fn work(port: u16, mut rng: Rng, answered: impl Fn()) -> Vec<(usize, Op)> {
    let mut history = Vec::new();
    let Ok(mut client) = Client::connect(port) else { return history };
    loop {
        let key = rng.usize(..KEYS);
        let call = plan(&mut rng, key);
        let called = Instant::now();
        let sent = client.write(&encode(&call));
        // What is wrong with a command is not compared, only that something is.
        let reply = sent.and_then(|()| client.try_frame()).ok().map(|frame| match frame.value {
            Value::Error(_) => Value::Error(Vec::new()),
            value => value,
        });
        let gone = reply.is_none();
        history.push((key, Op { call, called, returned: Instant::now(), reply }));
        if gone {
            return history;
        }
        answered();
    }
}

/// One run of the clients up to the `last` reply, when `end` is to end the server.
fn epoch(port: u16, rng: &mut Rng, last: u64, end: impl FnOnce()) -> Vec<(usize, Op)> {
    let (reached, end_reached) = mpsc::channel::<()>();
    let answers = AtomicU64::new(0);
    let answers = &answers;
    let mut history = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (rng, reached) = (rng.fork(), reached.clone());
                scope.spawn(move || {
                    work(port, rng, || {
                        if answers.fetch_add(1, Ordering::Relaxed) + 1 == last {
                            reached.send(()).expect("the test waits for this");
                        }
                    })
                })
            })
            .collect();
        drop(reached);
        end_reached.recv().expect("the server lives until it is ended");
        end();
        clients
            .into_iter()
            .flat_map(|client| client.join().expect("a client does not panic"))
            .collect::<Vec<_>>()
    });
    // What has no answer took effect while that server lived, or never.
    let dead = Instant::now();
    for (_, op) in history.iter_mut().filter(|(_, op)| op.reply.is_none()) {
        op.returned = dead;
    }
    history
}

fn history_of(key: usize, all: &[(usize, Op)]) -> Vec<Op> {
    all.iter().filter(|(of, _)| *of == key).map(|(_, op)| op.clone()).collect()
}

#[test]
fn every_key_is_linearizable_over_kills_and_power_cuts() {
    if !target::is_kival() || !have("cc") {
        return;
    }
    let (mut rng, _) = seed::generator("every_key_is_linearizable_over_kills_and_power_cuts");
    let mut server = target::launch(&SETTINGS).stopped();
    let disk = LossyDisk::new(&server);
    let launch = disk.below(server.launch());
    let mut starts: [Register; KEYS] = [const { None }; KEYS];
    let mut checked = 0;
    for cycle in 0..seed::number("KIVAL_LINEAR_CYCLES", 12) {
        server.try_restart(&launch).unwrap_or_else(|failure| panic!("cycle {cycle}: {}", failure.output));
        let last = rng.u64(1..3000);
        let mut history = epoch(server.port(), &mut rng, last, || server.kill9());
        if rng.bool() {
            disk.cut(&mut rng);
        }
        server.try_restart(&launch).unwrap_or_else(|failure| panic!("cycle {cycle}: {}", failure.output));
        let mut client = server.client();
        for (key, start) in starts.iter_mut().enumerate() {
            let call = vec!["GET".to_owned(), format!("key{key}")];
            let called = Instant::now();
            let reply = client.call(&call);
            let found = reply.bytes().map(<[u8]>::to_vec);
            history.push((key, Op { call, called, returned: Instant::now(), reply: Some(reply) }));
            let history = history_of(key, &history);
            linear::check(start.clone(), &history, step)
                .unwrap_or_else(|why| panic!("cycle {cycle}, key{key}: {why}"));
            checked += history.len();
            *start = found;
        }
        server.kill9();
    }
    println!("{checked} operations are linearizable");
}

#[test]
fn control_a_history_with_a_lost_acknowledged_write_is_refused() {
    let (mut rng, _) = seed::generator("control_a_history_with_a_lost_acknowledged_write_is_refused");
    let server = target::start(&["--appendfsync", "no"]);
    let mut client = server.client();
    let mut history: Vec<Op> = (0..200)
        .map(|_| {
            let call = plan(&mut rng, 0);
            let called = Instant::now();
            let reply = match client.call(&call) {
                Value::Error(_) => Value::Error(Vec::new()),
                reply => reply,
            };
            Op { call, called, returned: Instant::now(), reply: Some(reply) }
        })
        .collect();
    for words in [vec!["SET", "key0", "kept"], vec!["GET", "key0"]] {
        let call: Args = words.into_iter().map(str::to_owned).collect();
        let called = Instant::now();
        let reply = client.call(&call);
        history.push(Op { call, called, returned: Instant::now(), reply: Some(reply) });
    }
    assert_eq!(linear::check(None, &history, step), Ok(()));
    // As if the crash had taken the write that was answered.
    history.last_mut().expect("two were pushed").reply = Some(Value::Nil);
    assert!(linear::check(None, &history, step).is_err());
}
