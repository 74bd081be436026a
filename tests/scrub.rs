//! KIVAL SCRUB names the places of a live server's files that no longer hold what was written.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use kival_test_support::wait::eventually;
use kival_test_support::{Client, Value};

/// Where a value stands: the file, and the offset of the value's first byte.
fn find(server: &kival_test_support::Server, value: &[u8]) -> (PathBuf, u64) {
    let files = std::fs::read_dir(server.dir()).unwrap().map(|entry| entry.unwrap().path());
    let segments = files.filter(|path| path.extension().is_some_and(|end| end == "seg"));
    let mut hits = segments.filter_map(|path| {
        let bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(value.len()).position(|window| window == value)?;
        Some((path, at as u64))
    });
    hits.next().expect("the value is in the log")
}

fn scrub(client: &mut Client) {
    assert_eq!(client.call(&["KIVAL", "SCRUB"]), Value::Simple(b"Scrub started".to_vec()));
    eventually("the scrub has ended", || {
        (client.info("persistence", "kival_scrub_in_progress").as_deref() == Some("0")).then_some(())
    });
}

/// File, offset and key of each place that STATUS names.
fn told(client: &mut Client) -> Vec<(PathBuf, u64, String)> {
    let status = client.call(&["KIVAL", "SCRUB", "STATUS"]);
    let places = status.items().unwrap().last().unwrap();
    let place = |place: &Value| {
        let facts = place.items().unwrap();
        (facts[1].text().into(), facts[3].int().unwrap() as u64, facts[9].text())
    };
    places.items().unwrap().iter().map(place).collect()
}

fn info(client: &mut Client, field: &str) -> String {
    client.info("persistence", field).unwrap()
}

#[test]
fn flipped_bits_in_the_files_of_a_live_server_are_found_where_they_are() {
    if !crate::target::is_kival() {
        return;
    }
    let server = crate::target::start(&["--segment-size", "64kb", "--scrub-rate", "0"]);
    let mut client = server.client();
    for number in 0..400 {
        let value = format!("value-{number:04}-{}", "x".repeat(500));
        assert_eq!(client.call(&["SET", &format!("key:{number:04}"), &value]), Value::ok());
    }
    scrub(&mut client);
    assert_eq!(info(&mut client, "kival_scrub_damaged_places"), "0");
    assert_ne!(info(&mut client, "kival_scrub_last_finished"), "0");
    assert_eq!(info(&mut client, "kival_scrub_bytes_read"), info(&mut client, "kival_scrub_bytes_total"));

    let mut expected = Vec::new();
    for number in [7, 150, 399] {
        let (path, at) = find(&server, format!("value-{number:04}").as_bytes());
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at + 20).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at + 20).unwrap();
        file.sync_all().unwrap();
        // Before the value stand the key and a header of 36 bytes.
        expected.push((path, at - 36 - "key:0000".len() as u64));
    }
    scrub(&mut client);
    assert_eq!(info(&mut client, "kival_scrub_damaged_places"), "3");
    let log = server.log();
    let told = told(&mut client);
    assert_eq!(told.len(), expected.len());
    for (path, offset) in &expected {
        assert!(told.iter().any(|(file, at, _)| (file, at) == (path, offset)), "{offset} of {told:?}");
        let name = path.file_name().unwrap().to_str().unwrap();
        let logged =
            log.lines().any(|line| line.contains(name) && line.contains(&format!("offset={offset}")));
        assert!(logged, "{name} at {offset}: {log}");
    }
    // The hint of a sealed segment knows the key.
    assert!(told.iter().any(|(_, _, key)| key == "key:0007"), "{told:?}");
    // All else goes on as before.
    assert_eq!(client.call(&["SET", "key:0007", "new"]), Value::ok());
    assert_eq!(client.call(&["GET", "key:0007"]), Value::bulk("new"));
}

#[test]
fn one_scrub_runs_at_a_time_and_it_can_be_stopped_or_hurried() {
    if !crate::target::is_kival() {
        return;
    }
    let server = crate::target::start(&["--scrub-rate", "1"]);
    let mut client = server.client();
    let value = "x".repeat(1 << 20);
    for number in 0..64 {
        assert_eq!(client.call(&["SET", &format!("key:{number}"), &value]), Value::ok());
    }
    let started = Value::Simple(b"Scrub started".to_vec());
    let error = |client: &mut Client, args: &[&str]| client.call(args).text();
    assert!(error(&mut client, &["KIVAL", "SCRUB", "STOP"]).contains("No scrub is in progress"));
    assert_eq!(client.call(&["KIVAL", "SCRUB"]), started);
    assert!(error(&mut client, &["KIVAL", "SCRUB"]).contains("A scrub is already in progress"));
    assert_eq!(info(&mut client, "kival_scrub_in_progress"), "1");
    assert_eq!(client.call(&["KIVAL", "SCRUB", "STOP"]), Value::ok());
    eventually("the scrub has stopped", || {
        (info(&mut client, "kival_scrub_in_progress") == "0").then_some(())
    });
    assert_eq!(info(&mut client, "kival_scrub_last_finished"), "0");

    assert_eq!(client.call(&["KIVAL", "SCRUB"]), started);
    assert_eq!(client.call(&["CONFIG", "SET", "scrub-rate", "0"]), Value::ok());
    eventually("the scrub has ended", || {
        (info(&mut client, "kival_scrub_last_finished") != "0").then_some(())
    });
    assert_eq!(info(&mut client, "kival_scrub_damaged_places"), "0");
    assert!(error(&mut client, &["KIVAL", "SCRUB", "NOW"]).contains("syntax error"));
}
