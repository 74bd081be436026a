//! DEBUG: help for tests, of this server and of programs that use it.

use kival_test_support::{Client, Launch, Server, Value, eventually, tools};

use crate::target;

fn server() -> Server {
    target::start(&["--enable-debug-command", "yes", "--hz", "100"])
}

#[test]
fn a_reload_keeps_all_keys_and_clients() {
    let server = server();
    let (mut client, mut other, mut listener) = (server.client(), server.client(), server.client3());
    client.call(&["SELECT", "3"]);
    client.call(&["SET", "plain", "value"]);
    client.call(&["SET", "expiring", "value", "EX", "1000"]);
    client.call(&["SET", "gone", "value"]);
    client.call(&["DEL", "gone"]);
    listener.send(&["SUBSCRIBE", "news"]);
    listener.read();
    other.call(&["WATCH", "plain"]);
    other.call(&["MULTI"]);
    other.call(&["SET", "watched", "1"]);
    let before = client.call(&["PEXPIRETIME", "expiring"]);
    for how in ["RELOAD", "LOADAOF", "RELOAD NOSAVE", "RELOAD merge NoFlush nosave"] {
        client.send(&["DEBUG"].into_iter().chain(how.split(' ')).collect::<Vec<_>>());
        client.send(&["GET", "plain"]);
        assert_eq!((client.read(), client.read()), (Value::ok(), Value::bulk("value")), "{how}");
    }
    assert_eq!(client.call(&["PEXPIRETIME", "expiring"]), before);
    assert_eq!(client.call(&["DBSIZE"]), Value::Int(2));
    assert_eq!(client.call(&["SET", "later", "1"]), Value::ok());
    assert_eq!(other.call(&["EXEC"]), Value::Array(vec![Value::ok()]));
    assert_eq!(client.call(&["PUBLISH", "news", "x"]), Value::Int(1));
    assert!(matches!(listener.read(), Value::Push(_)));
}

#[test]
fn a_reload_reads_what_is_on_disk() {
    if !target::is_kival() {
        return tools::not_applicable("the log of redis-server has other files");
    }
    let server = server();
    let mut client = server.client();
    assert_eq!(client.call(&["SET", "k", "v"]), Value::ok());
    assert_eq!(client.call(&["BGSAVE"]).text(), "Background saving started");
    eventually("the backup is made", || {
        (client.info("persistence", "rdb_bgsave_in_progress").as_deref() == Some("0")).then_some(())
    });
    assert_eq!(client.call(&["DEBUG", "RELOAD"]), Value::ok());
    assert!(server.log().matches("store opened").count() == 2, "{}", server.log());
    assert_eq!(client.info("persistence", "rdb_changes_since_last_save").as_deref(), Some("0"));
    assert_eq!(client.call(&["SET", "k", "w"]), Value::ok());
    assert_eq!(client.info("persistence", "rdb_changes_since_last_save").as_deref(), Some("1"));
    client.call(&["MULTI"]);
    client.call(&["DEBUG", "RELOAD"]);
    let answer = client.call(&["EXEC"]);
    assert!(answer.items().expect("an answer for each")[0].text().contains("inside a transaction"));
    std::fs::rename(server.dir(), server.beside("elsewhere")).expect("the directory is ours");
    client.send(&["DEBUG", "RELOAD"]);
    assert_eq!(client.until_closed(), b"", "a reload that fails is not answered: it ends the server");
}

#[test]
fn expired_keys_can_be_left_alone() {
    let server = server();
    let mut client = server.client();
    assert_eq!(client.call(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"]), Value::ok());
    client.call(&["SET", "k", "v", "PX", "1"]);
    assert_eq!(client.call(&["DEBUG", "SLEEP", "0.1"]), Value::ok());
    // The clock has struck meanwhile, before the next command.
    assert_eq!(client.call(&["DBSIZE"]), Value::Int(1));
    assert_eq!(client.call(&["DEBUG", "SET-ACTIVE-EXPIRE", "1"]), Value::ok());
    eventually("it is removed", || (client.call(&["DBSIZE"]) == Value::Int(0)).then_some(()));
}

/// The fields of DEBUG OBJECT that do not depend on the machine.
fn object(client: &mut Client, key: &str) -> String {
    let text = client.call(&["DEBUG", "OBJECT", key]).text();
    let stable = |field: &&str| {
        !["at", "refcount", "lru", "lru_seconds_idle"].iter().any(|name| field.starts_with(name))
    };
    text.split_whitespace().filter(stable).collect::<Vec<_>>().join(" ")
}

#[test]
fn objects_are_told_as_redis_server_tells_them() {
    let redis = ["--enable-debug-command", "yes", "--rdbcompression", "no"];
    let Some(redis) = Launch::redis(&redis).map(Launch::start) else {
        return tools::skip("redis-server is not installed");
    };
    let server = server();
    let (mut ours, mut theirs) = (server.client(), redis.client());
    let long = "x".repeat(300);
    for value in ["", "a", "12", "-129", "70000", "3000000000", "1.5", &long[..44], &long[..45], &long] {
        for client in [&mut ours, &mut theirs] {
            client.call(&["SET", "k", value]);
        }
        let told = object(&mut ours, "k");
        assert_eq!(told, object(&mut theirs, "k"), "{value:?}");
        assert!(told.contains("serializedlength"), "{told}");
    }
    for args in [
        &["OBJECT", "nosuch"][..],
        &["OBJECT"],
        &["ERROR", "WORD is said"],
        &["ERROR", "two\r\nlines"],
        &["NOSUCH"],
        &["LOG", "a line"],
    ] {
        let request: Vec<&str> = ["DEBUG"].iter().chain(args).copied().collect();
        assert_eq!(ours.call(&request), theirs.call(&request), "{request:?}");
    }
}
