//! Data moves both ways: `kival-server import` from a server and from RDB files, and a script that copies keys by
//! DUMP and RESTORE.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use kival_test_support::seed::number;
use kival_test_support::{Client, Launch, Server, Value, can};

use crate::target;

/// What an import said on both streams; it has to end with this code.
#[track_caller]
fn import(code: i32, args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kival-server"));
    let Output { status, stdout, stderr } = command.arg("import").args(args).output().expect("it runs");
    let text = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    assert_eq!(status.code(), Some(code), "{args:?}\n{text}");
    assert!(!text.contains("panicked"), "{text}");
    text
}

fn url(server: &Server) -> String {
    format!("redis://127.0.0.1:{}", server.port())
}

fn redis(args: &[&str]) -> Option<Server> {
    Launch::redis(args).map(Launch::start)
}

fn call(client: &mut Client, args: &[&[u8]]) -> Value {
    client.call(args)
}

/// Strings of all encodings with and without expiries in three databases, and a value of each other type.
fn fill(client: &mut Client) {
    for db in ["0", "3", "15"] {
        call(client, &[b"SELECT", db.as_bytes()]);
        for (index, value) in ["", "0", "-129", "70000", "9999999999", "text"].iter().enumerate() {
            call(client, &[b"SET", format!("short:{db}:{index}").as_bytes(), value.as_bytes()]);
        }
        for len in [63_usize, 64, 16_384, 300_000] {
            let any: Vec<u8> = (0..len).map(|i| (i * 31 % 251) as u8).collect();
            call(client, &[b"SET", format!("any:{len}").as_bytes(), &any, b"PXAT", b"4000000000123"]);
            call(client, &[b"SET", format!("same:{len}").as_bytes(), &vec![b'a'; len], b"EX", b"5000"]);
        }
        call(client, &[b"SET", b"\xff\0 \r\n", b"a key of any bytes"]);
        call(client, &[b"PFADD", b"visitors", b"a", b"b", b"c"]);
    }
}

fn add_other_types(client: &mut Client) {
    call(client, &[b"SELECT", b"3"]);
    let long = "x".repeat(200);
    for (size, count) in [("small", 3), ("large", 1000)] {
        for index in 0..count {
            let (word, number) = (format!("{index}{long}"), index.to_string());
            let name = |kind: &str| format!("{kind}:{size}");
            client.call(&["RPUSH", &name("list"), &word]);
            client.call(&["SADD", &name("set"), &word]);
            client.call(&["SADD", &name("intset"), &number]);
            client.call(&["ZADD", &name("zset"), &number, &word]);
            client.call(&["HSET", &name("hash"), &word, &number]);
            client.call(&["XADD", &name("stream"), "*", &word, &number]);
        }
        client.call(&["XGROUP", "CREATE", &format!("stream:{size}"), "group", "0"]);
        client.call(&[
            "XREADGROUP",
            "GROUP",
            "group",
            "reader",
            "COUNT",
            "2",
            "STREAMS",
            &format!("stream:{size}"),
            ">",
        ]);
    }
    client.call(&["ZADD", "zset:large", "inf", "most", "-inf", "least"]);
}

type Content = BTreeMap<(u8, Vec<u8>), (Value, i64)>;

/// Every string with its value and the time of its expiry.
fn content(client: &mut Client) -> Content {
    let mut content = Content::new();
    for db in 0..16 {
        call(client, &[b"SELECT", db.to_string().as_bytes()]);
        let keys: Vec<Vec<u8>> = client.scan(&["COUNT", "1000"]).into_iter().collect();
        for some in keys.chunks(1000) {
            let asked = some.iter().flat_map(|key| {
                [&b"TYPE"[..], b"GET", b"PEXPIRETIME"].map(|name| vec![name.to_vec(), key.clone()])
            });
            let answers = client.call_all(&asked.collect::<Vec<_>>());
            for (key, answer) in some.iter().zip(answers.chunks(3)) {
                if answer[0].text() == "string" {
                    let expiry = answer[2].int().expect("a time");
                    content.insert((db, key.clone()), (answer[1].clone(), expiry));
                }
            }
        }
    }
    content
}

/// An RDB file that redis-server has written of `fill`.
fn dump(settings: &[&str], also: impl Fn(&mut Client)) -> Option<(Server, PathBuf, Content)> {
    let mut redis = redis(settings)?;
    let mut client = redis.client();
    client.call(&["CONFIG", "SET", "dir", redis.dir().to_str().expect("a path of the test")]);
    fill(&mut client);
    also(&mut client);
    assert_eq!(client.call(&["SAVE"]), Value::ok());
    let content = content(&mut client);
    redis.kill9();
    let file = redis.dir().join("dump.rdb");
    Some((redis, file, content))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of the test")
}

#[test]
fn a_running_redis_server_is_copied_into_a_running_kival_and_back() {
    let (Some(redis), Some(other)) = (redis(&["--appendonly", "no"]), redis(&["--appendonly", "no"])) else {
        return;
    };
    let ours = target::start(&["--appendfsync", "everysec"]);
    fill(&mut redis.client());
    let said = import(0, &["--from", &url(&redis), "--to", &url(&ours)]);
    let expected = content(&mut redis.client());
    assert!(said.contains(&format!("has taken {} keys", expected.len())), "{said}");
    assert_eq!(content(&mut ours.client()), expected);
    import(0, &["--from", &url(&ours), "--to", &url(&other)]);
    assert_eq!(content(&mut other.client()), expected);
    // One database only.
    ours.client().call(&["FLUSHALL"]);
    import(0, &["--from", &format!("{}/3", url(&redis)), "--to", &url(&ours)]);
    let only: Content = expected.into_iter().filter(|((db, _), _)| *db == 3).collect();
    assert_eq!(content(&mut ours.client()), only);
}

#[test]
fn other_types_are_left_out_by_name_and_not_without_a_word() {
    let Some(redis) = redis(&["--appendonly", "no"]) else { return };
    let ours = target::start(&["--appendfsync", "everysec"]);
    add_other_types(&mut redis.client());
    redis.client().call(&["SET", "k", "v"]);
    let said = import(1, &["--from", &url(&redis), "--to", &url(&ours)]);
    assert!(said.contains("has taken 1 keys"), "{said}");
    for kind in ["list", "zset", "hash", "stream"] {
        let named = format!("left out: 2 of type {kind}, which kival does not have: {kind}:");
        assert!(said.contains(&named), "{kind}: {said}");
    }
    assert!(said.contains("left out: 4 of type set,"), "{said}");
}

#[test]
fn files_of_redis_server_are_read_past_all_its_types() {
    let compressions: [&[&str]; 2] = [
        &["--rdbcompression", "yes"],
        &["--rdbcompression", "no", "--rdbchecksum", "no", "--list-max-listpack-size", "1"],
    ];
    for settings in compressions {
        let Some((_redis, file, expected)) = dump(settings, add_other_types) else { return };
        let ours = target::start(&["--appendfsync", "everysec"]);
        let said = import(1, &["--rdb", text(&file), "--to", &url(&ours)]);
        assert!(said.contains("left out: 4 of type set,") && said.contains("2 of type stream"), "{said}");
        assert_eq!(content(&mut ours.client()), expected, "{settings:?}");
    }
}

#[test]
fn a_file_goes_straight_into_a_directory() {
    let Some((redis, file, expected)) = dump(&[], |_| ()) else { return };
    if !target::is_kival() {
        return;
    }
    let dir = redis.beside("imported");
    let said = import(0, &["--rdb", text(&file), "--dir", text(&dir)]);
    assert!(said.contains(&format!("has taken {} keys", expected.len())), "{said}");
    let ours = Launch::kival(Path::new(env!("CARGO_BIN_EXE_kival-server")), &["--appendfsync", "always"]);
    let mut ours = ours.stopped();
    fs::rename(&dir, ours.dir()).expect("the directory is not there yet");
    ours.restart();
    assert!(ours.log().contains("a clean stop"), "{}", ours.log());
    assert_eq!(content(&mut ours.client()), expected);
    let said = import(2, &["--rdb", text(&file), "--dir", text(&ours.dir())]);
    assert!(said.contains("in use") && said.contains("has taken 0 keys"), "{said}");
    let few = redis.beside("few");
    let said = import(2, &["--rdb", text(&file), "--dir", text(&few), "--databases", "4"]);
    assert!(said.contains("database 15 is out of range") && said.contains("--databases"), "{said}");
}

#[test]
fn what_has_expired_meanwhile_is_counted_and_not_copied() {
    let Some((_redis, file, _)) = dump(&["--enable-debug-command", "yes"], |client| {
        client.call(&["FLUSHALL"]);
        client.call(&["SELECT", "0"]);
        client.call(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"]);
        client.call(&["SET", "soon", "v", "PX", "1"]);
        client.call(&["SET", "stays", "v"]);
        client.call(&["DEBUG", "SLEEP", "0.02"]);
    }) else {
        return;
    };
    let ours = target::start(&[]);
    let said = import(0, &["--rdb", text(&file), "--to", &url(&ours)]);
    assert!(said.contains("has taken 1 keys, 6 bytes; 1 had expired"), "{said}");
    assert_eq!(ours.client().call(&["KEYS", "*"]), Value::Array(vec![Value::bulk("stays")]));
}

#[test]
fn damaged_cut_and_foreign_files_are_refused_by_their_offset() {
    let Some((redis, file, _)) = dump(&[], |_| ()) else { return };
    let sound = fs::read(&file).expect("the file is there");
    let ours = target::start(&["--appendfsync", "everysec"]);
    let other = redis.beside("other.rdb");
    let refused = |bytes: &[u8], why: &str| {
        fs::write(&other, bytes).expect("the directory is ours");
        let said = import(2, &["--rdb", text(&other), "--to", &url(&ours)]);
        assert!(said.contains(why) && said.contains("has taken 0 keys"), "{why}: {said}");
    };
    refused(b"", "does not begin with REDIS");
    refused(b"\x1f\x8b compressed", "does not begin with REDIS");
    refused(b"REDIS9999", "version 9999 of RDB is not known");
    refused(&sound[..sound.len() - 9], &format!("the file ends at offset {}", sound.len() - 9));
    refused(&sound[..sound.len() / 2], &format!("the file ends at offset {}", sound.len() / 2));
    let mut flipped = sound.clone();
    // The last byte of the checksum; then one in the middle, which may make the rest unreadable.
    *flipped.last_mut().expect("it is not empty") ^= 1;
    refused(&flipped, "the checksum at the end of the file is wrong");
    let unknown = [&sound[..9], &[0xc8], &sound[9..]].concat();
    refused(&unknown, "at offset 9 is a value of type 200, which is not known");
    let said = import(2, &["--rdb", "/nowhere/dump.rdb", "--to", &url(&ours)]);
    assert!(said.contains("/nowhere/dump.rdb: No such file"), "{said}");
    let said = import(2, &["--rdb", text(&file), "--to", "redis://127.0.0.1:1"]);
    assert!(said.contains("does not take the keys"), "{said}");
    import(2, &["--to", &url(&ours)]);
    import(2, &["--from", &url(&ours), "--rdb", text(&file)]);
}

#[test]
fn a_password_is_asked_for_on_either_side() {
    let ours = target::start(&["--requirepass", "word"]);
    let open = target::start(&[]);
    open.client().call(&["SET", "k", "v"]);
    let locked = url(&ours);
    let said = import(2, &["--from", &url(&open), "--to", &locked]);
    assert!(said.to_uppercase().contains("NOAUTH") || said.contains("Authentication"), "{said}");
    import(2, &["--from", &locked, "--to", &url(&open)]);
    let keyed = locked.replace("redis://", "redis://:word@");
    import(0, &["--from", &url(&open), "--to", &keyed]);
    import(0, &["--from", &keyed, "--to", &url(&open)]);
}

/// `KIVAL_COPY_KEYS` for more than these.
const COPIED: u32 = 10_000;

#[test]
fn a_script_copies_keys_both_ways_by_dump_and_restore() {
    if !can("python3", "-c", "import redis") {
        return;
    }
    let Some(redis) = redis(&["--appendonly", "no"]) else { return };
    let ours = target::start(&["--appendfsync", "everysec"]);
    let keys: u32 = number("KIVAL_COPY_KEYS", COPIED);
    let mut client = redis.client();
    let commands: Vec<Vec<String>> = (0..keys)
        .map(|i| {
            let mut set = vec!["SET".into(), format!("key:{i}"), "v".repeat(i as usize % 300)];
            if i % 3 == 0 {
                set.extend(["PXAT".into(), (4_000_000_000_000_u64 + u64::from(i)).to_string()]);
            }
            set
        })
        .collect();
    for some in commands.chunks(10_000) {
        client.call_all(some);
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/clients/copy_keys.py");
    let copy = |from: &Server, to: &Server| {
        let output = Command::new("python3")
            .args([text(&script), &url(from), &url(to)])
            .output()
            .expect("the script can be run");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(said, format!("{keys} keys copied\n"));
    };
    copy(&redis, &ours);
    let expected = content(&mut client);
    assert_eq!(expected.len(), keys as usize);
    assert_eq!(content(&mut ours.client()), expected);
    client.call(&["FLUSHALL"]);
    copy(&ours, &redis);
    assert_eq!(content(&mut client), expected);
}
