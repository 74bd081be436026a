//! Values travel between kival and redis-server, by DUMP on one and RESTORE on the other.

use kival_test_support::{Client, Launch, Value};

use crate::target;

/// Values of all encodings, short and long, and a HyperLogLog.
fn values() -> Vec<Vec<u8>> {
    let texts =
        ["", "0", "-1", "127", "128", "-32769", "2147483648", "-9223372036854775808", "007", "1.5", "text"];
    let mut values: Vec<Vec<u8>> = texts.map(|text| text.as_bytes().to_vec()).to_vec();
    for len in [20, 21, 44, 45, 63, 64, 16_383, 16_384, 300_000] {
        values.push(vec![b'a'; len]);
        values.push((0..len).map(|i| (i * 31 % 251) as u8).collect());
        values.push(std::iter::repeat_with(|| fastrand::u8(..)).take(len).collect());
    }
    values
}

fn call(client: &mut Client, args: &[&[u8]]) -> Value {
    client.call(args)
}

/// Sends every value through DUMP and RESTORE.
fn travel(from: &mut Client, to: &mut Client) {
    for value in values() {
        call(from, &[b"SET", b"k", &value]);
        let payload = call(from, &[b"DUMP", b"k"]);
        let payload = payload.bytes().expect("a payload");
        let restored = call(to, &[b"RESTORE", b"k", b"0", payload, b"REPLACE"]);
        assert_eq!(restored, Value::Simple("OK".into()), "{}", value.escape_ascii());
        assert_eq!(call(to, &[b"GET", b"k"]), Value::Bulk(value));
    }
}

#[test]
fn values_travel_both_ways() {
    let Some(redis) = Launch::redis(&["--appendonly", "no"]) else { return };
    let (redis, ours) = (redis.start(), target::start(&["--appendfsync", "everysec"]));
    let (mut redis, mut ours) = (redis.client(), ours.client());
    travel(&mut redis, &mut ours);
    travel(&mut ours, &mut redis);
}

#[test]
fn what_is_no_string_is_refused_by_its_type() {
    let Some(redis) = Launch::redis(&["--appendonly", "no"]) else { return };
    if !target::is_kival() {
        return;
    }
    let (redis, ours) = (redis.start(), target::start(&[]));
    let (mut redis, mut ours) = (redis.client(), ours.client());
    let made: [(&[&str], &str); 5] = [
        (&["RPUSH", "k", "a"], "list"),
        (&["SADD", "k", "a", "1"], "set"),
        (&["ZADD", "k", "1", "a"], "zset"),
        (&["HSET", "k", "a", "1"], "hash"),
        (&["XADD", "k", "*", "a", "1"], "stream"),
    ];
    for (make, name) in made {
        redis.call(&["DEL", "k"]);
        redis.call(make);
        let payload = redis.call(&["DUMP", "k"]);
        let refused = call(&mut ours, &[b"RESTORE", b"k", b"0", payload.bytes().expect("a payload")]);
        let expected = format!("ERR kival stores strings only: this value is a {name}");
        assert_eq!(refused, Value::Error(expected.into_bytes()), "{name}");
    }
}

#[test]
fn object_tells_what_redis_tells() {
    let Some(redis) = Launch::redis(&["--appendonly", "no"]) else { return };
    let (redis, ours) = (redis.start(), target::start(&[]));
    let mut clients = [redis.client(), ours.client()];
    let mut ask = |args: &[&[u8]]| {
        let [redis, ours] = clients.each_mut().map(|client| call(client, args));
        assert_eq!(ours, redis, "{}", args[1].escape_ascii());
    };
    for value in values() {
        ask(&[b"SET", b"k", &value]);
        ask(&[b"OBJECT", b"encoding", b"k"]);
    }
    ask(&[b"OBJECT", b"REFCOUNT", b"k"]);
    for question in [&b"ENCODING"[..], b"FREQ", b"REFCOUNT", b"NOSUCH"] {
        ask(&[b"OBJECT", question, b"absent"]);
    }
    ask(&[b"OBJECT", b"FREQ", b"k"]);
    ask(&[b"OBJECT", b"ENCODING"]);
}
