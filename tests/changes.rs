//! KIVAL CHANGES: what a consumer builds from the feed is what the store holds, whatever stops meanwhile.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use kival_test_support::tools::can;
use kival_test_support::wait::eventually;
use kival_test_support::{Client, Launch, Server, Value, seed};

use crate::target;

/// A follower as a consumer would write it: it keeps its place and what it has built, nothing else.
#[derive(Default)]
struct Follower {
    since: i64,
    keys: BTreeMap<(i64, String), (Vec<u8>, i64)>,
    seen: usize,
}

fn changes(client: &mut Client, since: i64, options: &[&str]) -> Value {
    let since = since.to_string();
    client.call(&[&["KIVAL", "CHANGES", "SINCE", &since], options].concat())
}

/// Where to go on, and the changes.
fn parts(reply: &Value) -> (i64, Vec<Vec<Value>>) {
    let items = reply.items().unwrap_or_else(|| panic!("{reply:?}"));
    let changes = items[1].items().unwrap().iter().map(|change| change.items().unwrap().to_vec());
    (items[0].int().unwrap(), changes.collect())
}

/// Kind, database and key of each change, in words.
fn words(reply: &Value) -> Vec<String> {
    let word = |value: &Value| value.int().map_or_else(|| value.text(), |number| number.to_string());
    let line = |change: &Vec<Value>| change[1..4].iter().map(word).collect::<Vec<_>>().join(" ");
    parts(reply).1.iter().map(line).collect()
}

impl Follower {
    fn take(&mut self, reply: &Value) -> usize {
        let (next, changes) = parts(reply);
        for change in &changes {
            let [sequence, kind, db, key, value, expiry] = &change[..] else { panic!("{change:?}") };
            let (sequence, db) = (sequence.int().unwrap(), db.int().unwrap());
            assert!(sequence > self.since && sequence <= next, "{change:?} behind {}", self.since);
            let (place, expiry) = ((db, key.text()), expiry.int().unwrap());
            match &*kind.text() {
                "set" => _ = self.keys.insert(place, (value.bytes().unwrap().to_vec(), expiry)),
                "delete" => _ = self.keys.remove(&place),
                "expire" | "persist" => self.keys.get_mut(&place).expect("it is there").1 = expiry,
                "flush" => self.keys.retain(|(other, _), _| *other != db),
                "swap" => {
                    let other = key.int().unwrap();
                    let to = |of: i64| {
                        if of == db {
                            other
                        } else if of == other {
                            db
                        } else {
                            of
                        }
                    };
                    let swapped = std::mem::take(&mut self.keys).into_iter();
                    self.keys = swapped.map(|((of, key), value)| ((to(of), key), value)).collect();
                }
                other => panic!("{other}"),
            }
        }
        self.since = next;
        self.seen += changes.len();
        changes.len()
    }

    /// Reads to the end.
    fn catch_up(&mut self, client: &mut Client, count: &str) {
        loop {
            let reply = changes(client, self.since, &["WITHVALUES", "COUNT", count]);
            let before = self.since;
            if self.take(&reply) == 0 && self.since == before {
                return;
            }
        }
    }
}

/// What the store holds, in the same form.
fn contents(client: &mut Client, databases: u32) -> BTreeMap<(i64, String), (Vec<u8>, i64)> {
    let mut all = BTreeMap::new();
    for db in 0..databases {
        assert_eq!(client.call(&["SELECT", &db.to_string()]), Value::ok());
        for key in client.scan(&[]) {
            let expiry = client.call(&[&b"PEXPIRETIME"[..], &key]).int().unwrap();
            let value = client.call(&[&b"GET"[..], &key]).bytes().unwrap().to_vec();
            all.insert((db.into(), String::from_utf8(key).unwrap()), (value, expiry));
        }
    }
    all
}

const KEEPS_HISTORY: &[&str] =
    &["--appendfsync", "always", "--segment-size", "64kb", "--history-retention", "3600", "--databases", "3"];

#[test]
fn changes_come_in_order_with_kind_database_and_key() {
    if !target::is_kival() {
        return;
    }
    let server = target::start(&["--appendfsync", "always"]);
    let mut client = server.client();
    client.call(&["SET", "a", "1"]);
    client.call(&["SET", "b", "2", "PXAT", "33000000000000"]);
    client.call(&["PERSIST", "b"]);
    client.call(&["PEXPIREAT", "a", "33000000000001"]);
    client.call(&["DEL", "b"]);
    client.call(&["SWAPDB", "0", "2"]);
    client.call(&["SELECT", "2"]);
    client.call(&["INCR", "a"]);
    client.call(&["FLUSHALL"]);
    let reply = changes(&mut client, 0, &[]);
    let expected =
        ["set 0 a", "set 0 b", "persist 0 b", "expire 0 a", "delete 0 b", "swap 0 2", "set 2 a", "flush 2 "];
    assert_eq!(words(&reply), expected);
    let (next, all) = parts(&reply);
    assert_eq!(Some(next), all.last().unwrap()[0].int());
    let values = changes(&mut client, 0, &["withvalues", "match", "a"]);
    let values: Vec<_> = parts(&values).1.into_iter().map(|change| change[4..].to_vec()).collect();
    let pair = |value: Option<&str>, expiry| vec![value.map_or(Value::Nil, Value::bulk), Value::Int(expiry)];
    let late = 33_000_000_000_001;
    // The swap and the flush are told whatever the pattern.
    let expected =
        [pair(Some("1"), -1), pair(None, late), pair(None, -1), pair(Some("2"), late), pair(None, -1)];
    assert_eq!(values, expected);
    assert!(words(&changes(&mut client, next, &[])).is_empty());
    let end = client.call(&["KIVAL", "CHANGES", "SINCE", "$"]);
    assert_eq!(parts(&end), (next, vec![]));
}

#[test]
fn what_is_asked_wrongly_is_refused() {
    if !target::is_kival() {
        return;
    }
    let server = target::start(&[]);
    let mut client = server.client();
    let mut refused = |line: &str, error: &str| {
        let reply = client.call(&line.split(' ').collect::<Vec<_>>());
        assert!(reply.is_error() && reply.text().contains(error), "{line}: {reply:?}");
    };
    refused("KIVAL CHANGES SINCE", "wrong number of arguments");
    refused("KIVAL CHANGES AFTER 1", "syntax error");
    refused("KIVAL CHANGES SINCE x", "not an integer");
    refused("KIVAL CHANGES SINCE -1", "not an integer");
    refused("KIVAL CHANGES SINCE 0 COUNT 0", "syntax error");
    refused("KIVAL CHANGES SINCE 0 COUNT", "syntax error");
    refused("KIVAL CHANGES SINCE 0 BLOCK -1", "timeout is negative");
    refused("KIVAL CHANGES SINCE 0 BLOCK x", "timeout is not an integer");
    refused("KIVAL CHANGES SINCE 0 WITHKEYS x", "syntax error");
    refused("KIVAL CHANGES SINCE 7", "not yet come to that sequence");
    client.call(&["MULTI"]);
    let reply = client.call(&["KIVAL", "CHANGES", "SINCE", "0"]);
    assert!(reply.is_error(), "{reply:?}");
}

#[test]
fn a_place_below_the_floor_is_a_gap_and_the_floor_is_named() {
    if !target::is_kival() {
        return;
    }
    let server = target::start(&["--appendfsync", "always", "--segment-size", "64kb"]);
    let mut client = server.client();
    for n in 0..300 {
        client.call(&["SET", &format!("key{}", n % 3), &"x".repeat(1000)]);
    }
    assert_eq!(client.call(&["KIVAL", "COMPACT"]), Value::Simple(b"Compaction started".to_vec()));
    let told = eventually("the log was compacted", || {
        let reply = changes(&mut client, 0, &[]);
        reply.is_error().then(|| reply.text())
    });
    assert!(told.starts_with("GAP "), "{told}");
    let floor: i64 = told.split_whitespace().last().unwrap().parse().unwrap();
    let kept = changes(&mut client, floor, &[]);
    assert_eq!(parts(&kept).1.len(), 300 - usize::try_from(floor).unwrap());
}

#[test]
fn a_blocked_follower_is_woken_by_a_change_that_concerns_it_or_by_time() {
    if !target::is_kival() {
        return;
    }
    for policy in ["always", "everysec", "no"] {
        let server = target::start(&["--appendfsync", policy]);
        let (mut follower, mut writer) = (server.client(), server.client());
        let id = follower.call(&["CLIENT", "ID"]).int().unwrap().to_string();
        let blocked = |client: &mut Client| {
            eventually("it is blocked", || {
                (client.info("clients", "blocked_clients").as_deref() == Some("1")).then_some(())
            });
        };
        follower.send(&["KIVAL", "CHANGES", "SINCE", "0", "BLOCK", "0", "MATCH", "b*"]);
        blocked(&mut writer);
        writer.call(&["SET", "a", "1"]);
        writer.call(&["SET", "b", "2"]);
        assert_eq!(words(&follower.read()), ["set 0 b"], "{policy}");
        let timed_out = changes(&mut follower, 2, &["BLOCK", "30"]);
        assert_eq!(parts(&timed_out), (2, vec![]));
        for (how, error) in [("TIMEOUT", false), ("ERROR", true)] {
            follower.send(&["KIVAL", "CHANGES", "SINCE", "2", "BLOCK", "0"]);
            eventually("it is blocked, and woken", || {
                (writer.call(&["CLIENT", "UNBLOCK", &id, how]) == Value::Int(1)).then_some(())
            });
            assert_eq!(follower.read().is_error(), error, "{how}");
        }
        assert_eq!(follower.call(&["PING"]), Value::Simple(b"PONG".to_vec()));
    }
}

fn write_at_random(client: &mut Client, rng: &mut fastrand::Rng) {
    let key = format!("key{}", rng.u32(..30));
    let db = rng.u32(..3).to_string();
    client.call(&["SELECT", &db]);
    let far = (33_000_000_000_000u64 + rng.u64(..1000)).to_string();
    let value = "v".repeat(rng.usize(..2000));
    match rng.u32(..40) {
        0 => client.call(&["FLUSHDB"]),
        1 => client.call(&["SWAPDB", &db, &rng.u32(..3).to_string()]),
        2 => client.call(&["FLUSHALL"]),
        3..10 => client.call(&["DEL", &key]),
        10..14 => client.call(&["PEXPIREAT", &key, &far]),
        14..16 => client.call(&["PERSIST", &key]),
        16..20 => client.call(&["RENAME", &key, "key0"]),
        20..25 => client.call(&["MSET", &key, &value, "key1", &value]),
        _ => client.call(&["SET", &key, &value]),
    };
}

fn compact(client: &mut Client) {
    // Refused while one runs: then that one is as good.
    client.call(&["KIVAL", "COMPACT"]);
}

#[test]
fn a_consumer_builds_the_same_store_over_merges_kills_and_its_own_restarts() {
    if !target::is_kival() {
        return;
    }
    let (mut rng, seed) = seed::generator("changes");
    let mut server: Server = target::start(KEEPS_HISTORY);
    let mut follower = Follower::default();
    let mut written = server.client();
    for round in 0..6 {
        for _ in 0..300 {
            write_at_random(&mut written, &mut rng);
            if rng.u32(..60) == 0 {
                compact(&mut written);
            }
            if rng.u32(..40) == 0 {
                let reply = changes(&mut written, follower.since, &["WITHVALUES", "COUNT", "20"]);
                follower.take(&reply);
            }
        }
        if round % 2 == 0 {
            server.kill9();
            server.restart();
            written = server.client();
        }
        follower.catch_up(&mut written, "50");
        assert_eq!(follower.keys, contents(&mut written, 3), "seed {seed}, round {round}");
    }
    // A consumer that begins anew sees the same, as often and no more.
    let mut late = Follower::default();
    late.catch_up(&mut written, "7");
    assert_eq!((late.keys, late.seen), (follower.keys, follower.seen), "seed {seed}");
}

#[test]
fn the_script_keeps_a_copy_in_redis_over_a_gap_and_its_own_restarts() {
    if !target::is_kival() || !can("python3", "-c", "import redis") {
        return;
    }
    let Some(redis) = Launch::redis(&["--appendonly", "no", "--databases", "3"]) else { return };
    let redis = redis.start();
    let (mut rng, seed) = seed::generator("follow");
    let server = target::start(KEEPS_HISTORY);
    let (mut left, mut right) = (server.client(), redis.client());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/clients/follow_changes.py");
    let url = |server: &Server| format!("redis://127.0.0.1:{}", server.port());
    let mut follow_and_compare = |left: &mut Client| {
        let output =
            Command::new("python3").arg(&script).args([&url(&server), &url(&redis), "0.05"]).output();
        let output = output.expect("the script can be run");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut copied = values(&mut right);
        assert!(copied.remove(&(0, "kival:changes:place".into())).is_some());
        assert_eq!(copied, values(left), "seed {seed}");
    };
    for round in 0..4 {
        if round == 2 {
            // A gap: history is not held any more.
            assert_eq!(left.call(&["CONFIG", "SET", "history-retention", "0"]), Value::ok());
        }
        (0..200).for_each(|_| write_at_random(&mut left, &mut rng));
        if round == 2 {
            compact(&mut left);
            eventually("there is a gap", || changes(&mut left, 0, &[]).is_error().then_some(()));
        }
        if round == 3 {
            expire_but_for_a_word(&mut left);
        }
        follow_and_compare(&mut left);
    }
}

/// The keys with their values, without the times of their expiry.
fn values(client: &mut Client) -> BTreeMap<(i64, String), Vec<u8>> {
    contents(client, 3).into_iter().map(|(key, (value, _))| (key, value)).collect()
}

/// Sets a key that would have expired by now if it had not been given more time before that.
fn expire_but_for_a_word(client: &mut Client) {
    client.call(&["SELECT", "0"]);
    eventually("PERSIST comes in time", || {
        client.call(&["SET", "renewed", "v", "PX", "20"]);
        (client.call(&["PERSIST", "renewed"]) == Value::Int(1)).then_some(())
    });
    client.call(&["SET", "clock", "v", "PX", "20"]);
    eventually("its first time has come", || (client.call(&["GET", "clock"]) == Value::Nil).then_some(()));
    assert_eq!(client.call(&["EXISTS", "renewed"]), Value::Int(1));
}
