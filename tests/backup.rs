//! SAVE and BGSAVE: a backup is a store of its own, made while clients write.

use std::path::{Path, PathBuf};

use kival_test_support::{Client, Server, Value, eventually};

use crate::target;

/// Small segments, so that there are many, and merges all the time.
const BUSY: [&str; 6] =
    ["--segment-size", "64kb", "--auto-aof-rewrite-min-size", "0", "--appendfsync", "everysec"];

fn newest(client: &mut Client) -> PathBuf {
    client.info("persistence", "kival_last_backup").expect("a backup was made").into()
}

/// A server on a backup.
fn server_on(server: &Server, dir: &Path) -> kival_test_support::Process {
    server.launch().start_on(dir, &server.beside("backup.log")).expect("a backup is a store")
}

#[test]
fn save_answers_when_the_backup_stands() {
    if !target::is_kival() {
        return;
    }
    let server = target::start(&[]);
    let mut client = server.client();
    let started = client.call(&["LASTSAVE"]);
    client.call(&["MSET", "a", "1", "b", "2"]);
    client.call(&["PEXPIREAT", "b", "4000000000123"]);
    assert_eq!(client.info("persistence", "rdb_changes_since_last_save").as_deref(), Some("3"));
    assert_eq!(client.call(&["SAVE"]), Value::ok());
    assert_eq!(client.info("persistence", "rdb_changes_since_last_save").as_deref(), Some("0"));
    assert_eq!(client.info("persistence", "rdb_saves").as_deref(), Some("1"));
    assert!(client.call(&["LASTSAVE"]).int() >= started.int());
    client.call(&["SET", "a", "later"]);
    let dir = newest(&mut client);
    assert!(dir.starts_with(server.dir().join("backups")));
    let backup = server_on(&server, &dir);
    let mut other = backup.client();
    assert_eq!(other.call(&["MGET", "a", "b"]), Value::Array(vec![Value::bulk("1"), Value::bulk("2")]));
    assert_eq!(other.call(&["PEXPIRETIME", "b"]), Value::Int(4_000_000_000_123));
    assert_eq!(other.call(&["SET", "a", "there"]), Value::ok());
    assert_eq!(client.call(&["GET", "a"]), Value::bulk("later"));
}

#[test]
fn a_backup_under_load_holds_a_moment_of_every_client() {
    if !target::is_kival() {
        return;
    }
    let server = target::start(&BUSY);
    // Each writer counts up in pairs of keys: at any moment both of a pair are equal.
    let mut writers: Vec<Client> = (0..3).map(|_| server.client()).collect();
    let mut client = server.client();
    let padding = "x".repeat(200);
    let mut counted = 0;
    let mut count = |writers: &mut Vec<Client>| {
        counted += 1;
        let value = format!("{counted}:{padding}");
        for (n, writer) in writers.iter_mut().enumerate() {
            for pair in 0..20 {
                let (left, right) = (format!("l{n}:{pair}"), format!("r{n}:{pair}"));
                writer.send(&["MSET", &left, &value, &right, &value]);
            }
        }
        for writer in writers {
            (0..20).for_each(|_| assert_eq!(writer.read(), Value::ok()));
        }
        counted
    };
    for _ in 0..20 {
        count(&mut writers);
    }
    for generation in 1..=4 {
        let before = count(&mut writers);
        assert_eq!(client.call(&["BGSAVE"]), Value::Simple(b"Background saving started".to_vec()));
        let after = eventually("the backup is made", || {
            let counted = count(&mut writers);
            let made =
                client.info("persistence", "rdb_saves").is_some_and(|made| made == generation.to_string());
            made.then_some(counted)
        });
        let backup = server_on(&server, &newest(&mut client));
        let mut other = backup.client();
        for n in 0..3 {
            for pair in 0..20 {
                let pair = other.call(&["MGET", &format!("l{n}:{pair}"), &format!("r{n}:{pair}")]);
                let Value::Array(values) = &pair else { panic!("{pair:?}") };
                assert_eq!(values[0], values[1], "MSET is in it whole or not at all");
                let text = values[0].text();
                let at: i32 = text.split(':').next().and_then(|text| text.parse().ok()).unwrap();
                assert!((before..=after).contains(&at), "{before} <= {at} <= {after}");
            }
        }
    }
    assert_eq!(std::fs::read_dir(server.dir().join("backups")).unwrap().count(), 3, "backup-keep");
    assert_eq!(client.info("persistence", "aof_last_bgrewrite_status").as_deref(), Some("ok"));
}

#[test]
fn a_backup_that_cannot_be_made_says_why() {
    if !target::is_kival() {
        return;
    }
    let server = target::start(&["--in-memory", "yes"]);
    assert!(server.client().call(&["SAVE"]).text().contains("in-memory"));
    let server = target::start(&[]);
    let mut client = server.client();
    assert_eq!(client.call(&["BGSAVE", "now"]), Value::Error(b"ERR syntax error".to_vec()));
    let file = server.beside("file");
    std::fs::write(&file, "").unwrap();
    client.call(&["CONFIG", "SET", "backup-dir", &file.join("x").to_string_lossy()]);
    assert!(client.call(&["SAVE"]).text().contains("the backup failed"));
    assert_eq!(client.info("persistence", "rdb_last_bgsave_status").as_deref(), Some("err"));
    client.call(&["SET", "a", "1"]);
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    let device = |path: &Path| std::os::unix::fs::MetadataExt::dev(&std::fs::metadata(path).unwrap());
    if device(elsewhere.path()) != device(&server.dir()) {
        client.call(&["CONFIG", "SET", "backup-dir", &elsewhere.path().to_string_lossy()]);
        let reply = client.call(&["SAVE"]);
        assert!(reply.text().contains("another file system"), "{reply:?}");
    }
    client.call(&["CONFIG", "SET", "backup-dir", ""]);
    assert_eq!(client.call(&["SAVE"]), Value::ok());
    assert_eq!(client.info("persistence", "rdb_last_bgsave_status").as_deref(), Some("ok"));
}
