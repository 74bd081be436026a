//! Large values change page by page: every command on a part does what it does with small values, costs what the
//! part does, and waits for its own pages only.

use std::collections::BTreeMap;

use kival_engine::fs::gate::Gate;
use kival_engine::fs::hook::{Call, Hook, Op, Verdict};
use kival_test_support::{Client, Value, seed};

use crate::inside::{Disk, Inside};
use crate::target;

const LARGE: usize = 1 << 20;
const PAGE: i64 = 4096;

fn value() -> String {
    (0..LARGE).map(|at| char::from(b'a' + (at / 11 % 26) as u8)).collect()
}

fn log_bytes(client: &mut Client) -> i64 {
    client.info("persistence", "aof_current_size").unwrap().parse().unwrap()
}

#[test]
fn a_part_of_a_large_value_costs_a_page_of_the_log() {
    if target::is_redis() {
        return;
    }
    let server = target::start(&["--appendfsync", "no"]);
    let mut client = server.client();
    client.call(&["SET", "k", &value()]);
    let commands: [&[&str]; 6] = [
        &["SETRANGE", "k", "500000", "hello"],
        &["SETBIT", "k", "4800000", "1"],
        &["APPEND", "k", "more"],
        &["BITFIELD", "k", "SET", "u16", "800000", "77", "INCRBY", "u16", "800000", "1"],
        &["SETRANGE", "k", "3000000", "far behind the end"],
        &["APPEND", "k", "and more"],
    ];
    for command in commands {
        let before = log_bytes(&mut client);
        let reply = client.call(command);
        assert!(!reply.is_error(), "{command:?}: {reply:?}");
        let cost = log_bytes(&mut client) - before;
        assert!((1..3 * PAGE).contains(&cost), "{command:?}: {cost} bytes");
    }
    let before = log_bytes(&mut client);
    assert_eq!(client.call(&["GETRANGE", "k", "499998", "500006"]).text().len(), 9);
    assert_eq!(client.call(&["GETBIT", "k", "4800000"]), Value::Int(1));
    assert_eq!(log_bytes(&mut client), before, "reads write nothing");
}

/// Changes of parts, one of each kind, and what they make of a value by hand.
fn change(client: &mut Client, expected: &mut Vec<u8>) {
    assert_eq!(client.call(&["SETRANGE", "k", "500000", "hello"]), Value::Int(LARGE as i64));
    expected[500_000..500_005].copy_from_slice(b"hello");
    client.call(&["SETBIT", "k", "800007", "1"]);
    expected[100_000] |= 1;
    assert_eq!(client.call(&["APPEND", "k", "more"]), Value::Int(LARGE as i64 + 4));
    expected.extend(b"more");
}

#[test]
fn a_value_that_was_changed_in_part_is_what_it_should_be_wherever_it_goes() {
    let mut server = target::start(&[]);
    let mut client = server.client();
    let mut expected = value().into_bytes();
    client.call(&["SET", "k", &value(), "EX", "1000"]);
    change(&mut client, &mut expected);
    let whole = Value::bulk(&expected);
    assert_eq!(client.call(&["GET", "k"]), whole);
    assert!(client.call(&["TTL", "k"]).int().unwrap() > 900, "its expiry stays");
    client.call(&["COPY", "k", "copy"]);
    client.call(&["RENAME", "k", "renamed"]);
    let payload = client.call(&["DUMP", "renamed"]);
    client.call(&[&b"RESTORE"[..], b"restored", b"0", payload.bytes().unwrap()]);
    for key in ["copy", "renamed", "restored"] {
        assert!(client.call(&["GET", key]) == whole, "{key}");
    }
    client.call(&["SET", "k", &value()]);
    let mut expected = value().into_bytes();
    change(&mut client, &mut expected);
    server.kill9();
    server.restart();
    assert!(server.client().call(&["GET", "k"]) == Value::bulk(&expected), "after kill -9");
}

#[test]
fn a_transaction_changes_several_parts_and_sees_each() {
    let server = target::start(&[]);
    let (mut client, mut other) = (server.client(), server.client());
    client.call(&["SET", "k", &value()]);
    client.call(&["WATCH", "k"]);
    let queued: [&[&str]; 5] = [
        &["SETRANGE", "k", "0", "A"],
        &["SETRANGE", "k", "900000", "B"],
        &["GETRANGE", "k", "0", "0"],
        &["GETRANGE", "k", "900000", "900000"],
        &["STRLEN", "k"],
    ];
    let run = |client: &mut Client| {
        client.call(&["MULTI"]);
        queued.iter().for_each(|command| assert_eq!(client.call(command), Value::Simple(b"QUEUED".to_vec())));
        client.call(&["EXEC"])
    };
    let length = Value::Int(LARGE as i64);
    let expected = [length.clone(), length.clone(), Value::bulk("A"), Value::bulk("B"), length];
    assert_eq!(run(&mut client), Value::Array(expected.to_vec()));
    client.call(&["WATCH", "k"]);
    other.call(&["SETBIT", "k", "1", "1"]);
    other.call(&["SETBIT", "k", "1", "0"]);
    assert_eq!(run(&mut client), Value::Nil, "a change of a bit is one");
}

/// A disk of which the system has nothing in memory: a command waits for whatever it reads.
#[derive(Debug, Clone)]
struct Uncached;

impl Hook for Uncached {
    fn before(&self, call: &Call<'_>) -> Verdict {
        if call.op == Op::ReadAtCached { Verdict::Skip } else { Verdict::Go }
    }
}

impl Disk for Uncached {
    fn let_go(&self) {}
}

/// BITFIELD with these words behind the key: its reply, how often it waited for the disk, and what it appended.
fn bitfield(client: &mut Client, words: &[String]) -> (Value, i64, i64) {
    let cold_reads =
        |client: &mut Client| -> i64 { client.info("stats", "kival_cold_reads").unwrap().parse().unwrap() };
    let (reads, bytes) = (cold_reads(client), log_bytes(client));
    let reply = client.call(&[&["BITFIELD".to_owned(), "k".to_owned()], words].concat());
    (reply, cold_reads(client) - reads, log_bytes(client) - bytes)
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(' ').map(str::to_owned)
}

#[test]
fn many_operations_on_cold_pages_wait_seldom_and_change_each_page_once() {
    let server = Inside::start(Uncached, &["--cache-size", "0", "--appendfsync", "no"]);
    let mut client = server.client();
    client.call(&["SET", "k", &value()]);
    let mut expected = value().into_bytes();
    let (mut operations, mut replies, mut pages) = (Vec::new(), Vec::new(), 0);
    for number in 0..90 {
        // In every other page, and now and then across its end.
        let crosses = number % 4 == 1;
        let at = number * 2 * PAGE as usize + if crosses { PAGE as usize - 1 } else { 100 };
        pages += 1 + i64::from(crosses);
        let (bit, field) = (at * 8, &mut expected[at..at + 2]);
        let before = u16::from_be_bytes([field[0], field[1]]);
        let after = number as u16 + 1000;
        field.copy_from_slice(&after.to_be_bytes());
        operations.extend(words(&format!("SET u16 {bit} {number} INCRBY u16 {bit} 1000 GET u8 {bit}")));
        replies.extend([before.into(), after.into(), (after >> 8).into()].map(Value::Int));
    }
    let end = LARGE + 5000;
    operations.extend(words(&format!("SET u8 #{end} 7 OVERFLOW FAIL INCRBY u16 800 65535 GET u16 800")));
    replies.extend([Value::Int(0), Value::Nil, Value::Int(1000)]);
    expected.resize(end, 0);
    expected.push(7);
    let (reply, waits, cost) = bitfield(&mut client, &operations);
    assert_eq!(reply, Value::Array(replies));
    assert!(client.call(&["GET", "k"]) == Value::bulk(&expected));
    assert!((1..=2).contains(&waits), "it waited {waits} times");
    assert!(cost < (pages + 1) * (PAGE + 100), "{cost} bytes for {pages} pages and the end");
}

#[test]
fn many_pages_far_from_each_other_are_read_some_mib_at_a_time() {
    let server = Inside::start(Uncached, &["--cache-size", "0"]);
    let mut client = server.client();
    let places = || (0..80).map(|number| (number, number * (128 << 10)));
    let all = |of: &dyn Fn(usize, usize) -> String| -> Vec<String> {
        places().flat_map(|(number, at)| words(&of(number, at)).collect::<Vec<_>>()).collect()
    };
    let numbers =
        |add: i64| Value::Array(places().map(|(number, _)| Value::Int(number as i64 + add)).collect());
    let zeros = Value::Array(vec![Value::Int(0); 80]);
    assert_eq!(bitfield(&mut client, &all(&|number, at| format!("SET u8 #{at} {number}"))).0, zeros);
    let (reply, waits, _) = bitfield(&mut client, &all(&|_, at| format!("GET u8 #{at}")));
    assert_eq!(reply, numbers(0));
    assert!((1..=3).contains(&waits), "it waited {waits} times to read");
    let (reply, waits, _) = bitfield(&mut client, &all(&|_, at| format!("INCRBY u8 #{at} 1")));
    assert_eq!(reply, numbers(1));
    assert!((1..=3).contains(&waits), "it waited {waits} times to write");
    assert_eq!(bitfield(&mut client, &all(&|_, at| format!("GET u8 #{at}"))).0, numbers(1));
}

/// One operation of BITFIELD, near a page's end or the value's more often than not.
fn operation(rng: &mut fastrand::Rng) -> String {
    let (width, page) = (rng.u64(1..=63), rng.u64(0..40) * 4096);
    let byte = if rng.bool() { page + rng.u64(0..4096) } else { (page + rng.u64(0..16)).saturating_sub(8) };
    let place = format!("{}{width} {}", ['i', 'u'][rng.usize(0..2)], byte * 8 + rng.u64(0..8));
    match rng.u8(0..4) {
        0 => format!("GET {place}"),
        1 => format!("SET {place} {}", rng.i64(..)),
        2 => format!("INCRBY {place} {}", rng.i64(-9..9)),
        _ => format!("OVERFLOW {} INCRBY {place} {}", ["WRAP", "SAT", "FAIL"][rng.usize(0..3)], rng.i64(..)),
    }
}

#[test]
fn operations_on_pages_are_those_on_the_whole_value() {
    let (mut rng, _) = seed::generator("operations_on_pages_are_those_on_the_whole_value");
    let start = |from: &str| {
        Inside::start(Uncached, &["--cache-size", "0", "--appendfsync", "no", "--paged-value-size", from])
    };
    let servers = [start("8kb"), start("512mb")];
    let mut clients = servers.each_ref().map(Inside::client);
    let mut both = |command: &[String]| {
        let [paged, whole] = clients.each_mut().map(|client| client.call(command));
        assert!(paged == whole, "{}: {paged:?} and {whole:?}", command.join(" "));
    };
    for _ in 0..60 {
        match rng.u8(0..12) {
            0 => both(&words("DEL k").collect::<Vec<_>>()),
            1 => both(&words(&format!("SETRANGE k {} part", rng.u32(0..200_000))).collect::<Vec<_>>()),
            2 => both(&words(&format!("SET k {}", "s".repeat(rng.usize(0..100_000)))).collect::<Vec<_>>()),
            _ => {
                let count = if rng.bool() { rng.usize(1..6) } else { rng.usize(60..200) };
                let operations = (0..count).map(|_| operation(&mut rng)).collect::<Vec<_>>().join(" ");
                both(&words(&format!("BITFIELD k {operations}")).collect::<Vec<_>>());
            }
        }
        both(&words("GET k").collect::<Vec<_>>());
    }
}

#[test]
fn a_part_on_the_disk_holds_up_its_own_client_only() {
    let server = Inside::start(Gate::default(), &["--cache-size", "0"]);
    let (mut slow, mut other) = (server.client(), server.client());
    other.call(&["SET", "k", &value()]);
    other.call(&["SET", "small", "1"]);
    server.disk.set_closed(true);
    slow.send(&["SETRANGE", "k", "500000", "hello"]);
    slow.send(&["MULTI"]);
    slow.send(&["GETRANGE", "k", "499999", "500005"]);
    slow.send(&["SETRANGE", "k", "500001", "E"]);
    slow.send(&["SETRANGE", "k", "900000", "far"]);
    slow.send(&["GETRANGE", "k", "499999", "500005"]);
    slow.send(&["EXEC"]);
    slow.send(&[
        "BITFIELD", "k", "GET", "u8", "#500000", "SET", "u8", "#600000", "66", "GET", "u8", "#900000",
    ]);
    slow.send(&["BITCOUNT", "k", "0", "300000"]);
    server.disk.wait_for_readers(1);
    assert_eq!(other.call(&["SET", "small", "2"]), Value::ok());
    assert_eq!(other.call(&["STRLEN", "k"]), Value::Int(LARGE as i64));
    server.disk.set_closed(false);

    let text = value();
    let around =
        |middle: &str| Value::bulk(format!("{}{middle}{}", &text[499_999..500_000], &text[500_005..500_006]));
    let (length, queued) = (Value::Int(LARGE as i64), Value::Simple(b"QUEUED".to_vec()));
    assert_eq!((slow.read(), slow.read()), (length.clone(), Value::ok()));
    (0..4).for_each(|_| assert_eq!(slow.read(), queued));
    let replies = [around("hello"), length.clone(), length, around("hEllo")];
    assert_eq!(slow.read(), Value::Array(replies.to_vec()));
    let fields = [i64::from(b'h'), i64::from(text.as_bytes()[600_000]), i64::from(b'f')];
    assert_eq!(slow.read(), Value::Array(fields.map(Value::Int).to_vec()));
    let mut bytes = text.into_bytes();
    for (at, part) in BTreeMap::from([(500_000, &b"hEllo"[..]), (600_000, b"B"), (900_000, b"far")]) {
        bytes[at..at + part.len()].copy_from_slice(part);
    }
    let ones: u32 = bytes[..=300_000].iter().map(|byte| byte.count_ones()).sum();
    assert_eq!(slow.read(), Value::Int(ones.into()));
    assert!(other.call(&["GET", "k"]) == Value::bulk(&bytes));
}

#[test]
fn a_field_behind_the_end_of_all_values_is_refused_and_harms_nobody() {
    if target::is_redis() {
        return;
    }
    let mut server = target::start(&[]);
    let mut client = server.client();
    client.call(&["SET", "other", "v"]);
    for operation in [&["SET", "u8", "4294967295", "1"][..], &["INCRBY", "i64", "4294967290", "1"]] {
        for key in ["k", "other"] {
            let reply = client.call(&[&["BITFIELD", key][..], operation].concat());
            assert!(reply.is_error() && reply.text().contains("exceeds maximum allowed size"), "{reply:?}");
        }
    }
    assert!(server.terminate().success());
    server.restart();
    let mut client = server.client();
    assert_eq!(client.call(&["GET", "other"]), Value::bulk("v"));
    assert_eq!(client.call(&["EXISTS", "k"]), Value::Int(0));
}

#[test]
fn a_value_that_others_change_all_the_time_can_be_read() {
    let server = target::start(&["--appendfsync", "no", "--cache-size", "0"]);
    let (mut reader, mut writer) = (server.client(), server.client());
    reader.call(&["SET", "k", &value()]);
    let read = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut at = 0;
            while !read.load(std::sync::atomic::Ordering::Relaxed) {
                writer.call(&["SETRANGE", "k", &(at % LARGE).to_string(), "!"]);
                at += 5000;
            }
        });
        for _ in 0..20 {
            assert_eq!(reader.call(&["GET", "k"]).bytes().map(<[u8]>::len), Some(LARGE));
            reader.call(&["MULTI"]);
            reader.call(&["SETRANGE", "k", "7", "?"]);
            reader.call(&["BITCOUNT", "k"]);
            assert_eq!(reader.call(&["EXEC"]).items().map(<[Value]>::len), Some(2));
        }
        read.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}
