//! With `on-corruption quarantine` a server with a damaged log starts, serves what the damage cannot
//! concern, and answers an error for the rest.

use std::fs;
use std::path::PathBuf;

use kival_test_support::{Client, Server, Value};

use crate::target;

/// The one file of the store whose name ends so.
fn file(server: &Server, end: &str) -> PathBuf {
    let files = fs::read_dir(server.dir()).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = files.filter(|path| path.to_string_lossy().ends_with(end)).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

/// Overwrites a part of a file.
fn damage(path: &PathBuf, at: usize, bytes: &[u8]) {
    let mut contents = fs::read(path).unwrap();
    contents[at..at + bytes.len()].copy_from_slice(bytes);
    fs::write(path, contents).unwrap();
}

fn refusal(client: &mut Client, args: &[&str]) -> String {
    match client.call(args) {
        Value::Error(text) => String::from_utf8(text).unwrap(),
        other => panic!("{args:?} answered {other:?}"),
    }
}

#[test]
fn a_damaged_store_serves_what_the_damage_cannot_concern() {
    if !target::is_kival() {
        return;
    }
    let mut server = target::start(&["--on-corruption", "quarantine"]);
    let mut client = server.client();
    for key in ["a", "b", "lost", "c"] {
        assert_eq!(client.call(&["SET", key, "before"]), Value::ok());
    }
    assert!(server.terminate().success());
    let segment = file(&server, ".seg");
    let bytes = fs::read(&segment).unwrap();
    let at = bytes.windows(4).position(|part| part == b"lost").unwrap();
    damage(&segment, at, b"LOST");
    // The hint's first block: what is left of it is the filter.
    damage(&file(&server, ".hint"), 84, &[0xff; 4]);

    let failure = target::launch(&[]).start_on(&server.dir(), &server.beside("refused.log")).unwrap_err();
    assert!(failure.output.contains(".seg: offset"), "{}", failure.output);

    server.restart();
    assert!(server.log().contains("a part of the log is lost"), "{}", server.log());
    let mut client = server.client();
    for args in [
        &["GET", "lost"][..],
        &["EXISTS", "lost"],
        &["SET", "lost", "x", "NX"],
        &["DEL", "lost"],
        &["EXPIRE", "lost", "10"],
        &["RENAME", "lost", "elsewhere"],
        &["APPEND", "lost", "x"],
    ] {
        let text = refusal(&mut client, args);
        assert!(text.starts_with("CORRUPT ") && text.contains(".seg: offset"), "{text}");
    }
    assert_eq!(client.call(&["GET", "c"]), Value::bulk("before"), "newer than all that is lost");
    assert_eq!(client.call(&["GET", "never"]), Value::Nil, "the filter knows");
    assert_eq!(client.call(&["DBSIZE"]), Value::Int(1));
    assert_eq!(client.info("stats", "kival_quarantined_segments").as_deref(), Some("1"));
    assert_eq!(client.info("stats", "kival_corrupt_reads").as_deref(), Some("7"));

    for args in [&["SAVE"][..], &["BGSAVE"]] {
        let text = refusal(&mut client, args);
        assert!(text.starts_with("CORRUPT ") && text.contains("repair the store first"), "{text}");
    }
    assert!(!server.dir().join("backups").exists(), "no backup holds the damage");
    let Value::Array(segments) = client.call(&["KIVAL", "SEGMENTS"]) else { panic!("an array") };
    assert!(segments.len() >= 2, "the damaged segment and the one that is written: {segments:?}");

    assert_eq!(client.call(&["SET", "lost", "again"]), Value::ok(), "a blind write heals");
    assert_eq!(client.call(&["GET", "lost"]), Value::bulk("again"));
    assert_eq!(client.call(&["DEL", "lost"]), Value::Int(1));
    assert_eq!(client.call(&["GET", "lost"]), Value::Nil);
    assert!(refusal(&mut client, &["GET", "a"]).starts_with("CORRUPT "), "there may have been a newer one");
    server.kill9();
    server.restart();
    let mut client = server.client();
    assert_eq!(client.call(&["GET", "lost"]), Value::Nil);
    assert!(refusal(&mut client, &["GET", "a"]).starts_with("CORRUPT "));
}
