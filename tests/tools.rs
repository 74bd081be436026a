//! The offline tools, as an operator meets them: what they print, and how they exit.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use kival_test_support::{Server, Value};

use crate::target;

fn tool(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kival-server"));
    command.args(args).output().expect("the program runs")
}

/// Runs a tool, and gives what it printed, standard error behind standard output.
#[track_caller]
fn exits(code: i32, args: &[&str]) -> String {
    let Output { status, stdout, stderr } = tool(args);
    let text = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    assert_eq!(status.code(), Some(code), "{args:?}\n{text}");
    assert!(!text.contains("panicked"), "{text}");
    text
}

/// A store of three keys in one sealed segment.
fn stopped() -> Server {
    let mut server = target::start(&[]);
    let mut client = server.client();
    for key in ["first", "second", "third"] {
        client.call(&["SET", key, "value"]);
    }
    assert!(server.terminate().success());
    server
}

fn segment(dir: &Path) -> PathBuf {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|end| end == "seg")).min().expect("a segment")
}

/// Changes the first byte of the value of `key`, and gives the file.
fn damage(dir: &Path, key: &str) -> PathBuf {
    let path = segment(dir);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(key.len()).position(|window| window == key.as_bytes()).expect("the key is there");
    bytes[at + key.len()] ^= 1;
    fs::write(&path, bytes).unwrap();
    path
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of the test")
}

#[test]
fn check_tells_sound_from_damaged_from_not_checked_by_its_exit_code() {
    if !target::is_kival() {
        return;
    }
    let mut server = stopped();
    let dir = server.dir();
    assert!(exits(0, &["check", "--dir", text(&dir)]).contains("sound: 3 records, 3 live keys, 1 segments"));
    let file = damage(&dir, "second");
    let said = exits(1, &["check", "--dir", text(&dir)]);
    assert!(said.contains(&format!("damaged: {}: offset ", file.display())), "{said}");
    assert!(said.contains("checksum mismatch; keys: second"), "{said}");
    assert!(said.contains("DAMAGED in 1 places; sound are 2 records"), "{said}");
    assert!(exits(2, &["check", "--dir", "/nowhere/at/all"]).contains("cannot list /nowhere/at/all"));
    exits(2, &["check"]);
    damage(&dir, "second");
    server.restart();
    let said = exits(2, &["check", "--dir", text(&dir)]);
    assert!(said.contains("is in use by a server") && said.contains("KIVAL SCRUB"), "{said}");
}

#[test]
fn a_server_that_refuses_damage_names_the_commands_that_help_and_repair_does() {
    if !target::is_kival() {
        return;
    }
    let server = stopped();
    let dir = server.dir();
    damage(&dir, "second");
    fs::remove_file(segment(&dir).with_extension("hint")).unwrap();
    let refused = server.launch().start_on(&dir, &server.beside("refused.log")).expect_err("it is damaged");
    let advice =
        format!("kival-server check --dir {0}`, then `kival-server repair --dir {0}`", dir.display());
    assert!(refused.output.contains(&advice), "{}", refused.output);
    let said = exits(1, &["repair", "--dir", text(&dir)]);
    assert!(said.contains("ANY KEY MAY HAVE AN OLDER VALUE"), "{said}");
    let made = dir.with_extension("repaired");
    assert_eq!(
        fs::read_to_string(made.join("damaged/REPORT")).unwrap(),
        said[..said.find("\nThis report").unwrap()]
    );
    let repaired = server.launch().start_on(&made, &server.beside("repaired.log")).expect("it starts");
    let mut client = repaired.client();
    for key in ["first", "third"] {
        assert_eq!(client.call(&["GET", key]), Value::bulk("value"));
    }
    assert!(exits(2, &["repair", "--dir", text(&dir)]).contains("exists already"));
}

#[test]
fn repair_of_a_sound_store_makes_nothing() {
    if !target::is_kival() {
        return;
    }
    let server = stopped();
    let dir = server.dir();
    assert!(exits(0, &["repair", "--dir", text(&dir)]).contains("nothing to repair"));
    assert!(!dir.with_extension("repaired").exists());
}

#[test]
fn a_directory_is_repaired_beside_itself_whatever_it_is_called() {
    if !target::is_kival() {
        return;
    }
    let server = stopped();
    let dir = server.dir();
    damage(&dir, "second");
    let mut command = Command::new(env!("CARGO_BIN_EXE_kival-server"));
    let output = command.args(["repair", "--dir", "."]).current_dir(&dir).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(dir.with_extension("repaired").join("MANIFEST").exists());
}

#[test]
fn a_wrong_command_line_is_told_what_would_be_right() {
    if !target::is_kival() {
        return;
    }
    let said = exits(1, &["--dir", "x", "check"]);
    assert!(said.contains("its name comes first: kival-server check"), "{said}");
    let said = exits(2, &["inspect"]);
    assert!(said.contains("<--dir <DIR>|FILE>"), "{said}");
    let said = exits(2, &["restore", "--dir", "a", "--to", "b", "--to-time", "yesterday"]);
    assert!(said.contains("give Unix seconds or milliseconds, or one like 2026-"), "{said}");
}

#[test]
fn inspect_shows_records_as_text_and_as_json() {
    if !target::is_kival() {
        return;
    }
    let server = stopped();
    let dir = server.dir();
    damage(&dir, "third");
    let said = exits(0, &["inspect", "--dir", text(&dir)]);
    for expected in ["manifest of store", "value #1 0:first, 5 bytes", "DAMAGED to", "hint: value #3 0:third"]
    {
        assert!(said.contains(expected), "{expected} is not in\n{said}");
    }
    let lines = exits(0, &["inspect", "--format", "json", text(&segment(&dir))]);
    let lines: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str| lines.iter().filter(|line| line["type"] == kind).cloned().collect::<Vec<_>>();
    let keys: Vec<_> = of("record").iter().map(|line| line["key"].as_str().unwrap().to_owned()).collect();
    assert_eq!(keys, ["first", "second"]);
    assert_eq!((of("segment").len(), of("damage").len()), (1, 1));
}

#[test]
fn restore_brings_back_what_was_there_before() {
    if !target::is_kival() {
        return;
    }
    let server = stopped();
    let (dir, new) = (server.dir(), server.beside("restored"));
    let args = ["restore", "--dir", text(&dir), "--to", text(&new)];
    exits(2, &args);
    let said = exits(0, &[&args[..], &["--to-sequence", "2"]].concat());
    assert!(said.contains("after sequence 2 of 3: 2 records"), "{said}");
    let restored = server.launch().start_on(&new, &server.beside("restored.log")).expect("it starts");
    let mut client = restored.client();
    assert_eq!(client.call(&["EXISTS", "first", "second"]), Value::Int(2));
    assert_eq!(client.call(&["EXISTS", "third"]), Value::Int(0));
    assert!(exits(2, &[&args[..], &["--to-sequence", "2"]].concat()).contains("exists already"));
    let other = server.beside("before");
    let args = ["restore", "--dir", text(&dir), "--to", text(&other)];
    assert!(exits(2, &[&args[..], &["--to-sequence", "4"]].concat()).contains("ends at sequence 3"));
    let said = exits(2, &[&args[..], &["--to-time", "2020-01-01T00:00:00Z"]].concat());
    assert!(said.contains("sequence 1"), "{said}");
    let said = exits(0, &[&args[..], &["--to-sequence", "0"]].concat());
    assert!(said.contains("after sequence 0 of 3: 0 records"), "{said}");
}

#[test]
fn help_of_the_server_mentions_the_tools_and_each_has_its_own() {
    if !target::is_kival() {
        return;
    }
    assert!(exits(0, &["--help"]).contains("kival-server check, repair, inspect, restore"));
    for name in ["check", "repair", "inspect", "restore"] {
        assert!(exits(0, &[name, "--help"]).contains("--dir"), "{name}");
    }
}
