//! The real program on a disk that is full, and with system calls that fail.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use kival_test_support::tools::{find, have, skip};
use kival_test_support::{Client, Launch, Server, Value, eventually};

use crate::target;

/// Whether this command can be run here, so that the real one can.
fn can(program: &str, args: &[&str]) -> bool {
    if !have(program) {
        return false;
    }
    let tried = Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let can = tried.is_ok_and(|status| status.success());
    if !can {
        skip(&format!("{program} is not allowed here"));
    }
    can
}

/// A server whose data directory is a file system of 24 MiB, in a mount namespace of its own.
fn on_a_small_disk(settings: &[&str]) -> Option<Server> {
    let mount = "mount -t tmpfs -o size=24m tmpfs \"$4\" && exec \"$0\" \"$@\"";
    if !target::is_kival() || !can("unshare", &["-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]) {
        return None;
    }
    let launch: Launch = target::launch(&[&["--segment-size", "4mb"], settings].concat());
    Some(launch.through(&find("unshare")?, &["-m", "sh", "-c", mount]).start())
}

/// The data directory as the server sees it.
fn inside(server: &Server) -> PathBuf {
    PathBuf::from(format!("/proc/{}/root{}", server.pid(), server.dir().display()))
}

/// Takes space as another program would: so many bytes, or all that is left.
fn take(server: &Server, name: &str, bytes: usize) -> PathBuf {
    let path = inside(server).join(name);
    // It ends where the disk does.
    let _ = File::create(&path).unwrap().write_all(&vec![0; bytes]);
    path
}

fn is_no_space(reply: &Value) -> bool {
    reply.is_error() && reply.text().starts_with("MISCONF No space left")
}

fn persistence(client: &mut Client, name: &str) -> String {
    client.info("persistence", name).unwrap()
}

/// Waits until the reserve is whole.
fn reserve_is(client: &mut Client, bytes: &str) {
    eventually("the reserve is whole", || {
        (persistence(client, "kival_reserved_bytes") == bytes).then_some(())
    });
}

#[test]
fn a_full_disk_refuses_writes_takes_deletions_and_goes_on_by_itself() {
    let Some(mut server) = on_a_small_disk(&["--reserved-space", "4mb"]) else { return };
    let mut client = server.client();
    reserve_is(&mut client, "4194304");
    let value = "v".repeat(64 << 10);

    // A command that does not fit is taken back whole, in its middle.
    let names: Vec<String> = (0..400).map(|n| format!("many {n}")).collect();
    let mut mset = vec!["MSET"];
    names.iter().for_each(|name| mset.extend([name.as_str(), value.as_str()]));
    let refused = client.call(&mset);
    assert!(is_no_space(&refused), "{refused:?}");
    assert_eq!(client.call(&["DBSIZE"]), Value::Int(0));
    assert_eq!(client.call(&["SET", "after", "1"]), Value::ok());

    let others = take(&server, "another-programs-file", 4 << 20);
    let mut keys = 0;
    while client.call(&["SET", &format!("key {keys}"), &value]) == Value::ok() {
        keys += 1;
    }
    take(&server, "yet-another-file", 4 << 20);
    let pipeline: Vec<Vec<&str>> = vec![
        vec!["SET", "new", &value],
        vec!["DEL", "key 0"],
        vec!["SET", "key 1", &value],
        vec!["EXPIRE", "key 1", "1000"],
        vec!["APPEND", "key 2", &value],
        vec!["GET", "key 2"],
        vec!["PERSIST", "key 1"],
        vec!["PING"],
    ];
    let replies = client.call_all(&pipeline);
    for refused in [0, 2, 4] {
        assert!(is_no_space(&replies[refused]), "{:?}", replies[refused]);
    }
    for one in [1, 3, 6] {
        assert_eq!(replies[one], Value::Int(1), "{:?}", pipeline[one]);
    }
    assert_eq!(replies[5], Value::bulk(&value));
    assert_eq!(replies[7], Value::Simple(b"PONG".to_vec()));
    assert_eq!(persistence(&mut client, "kival_disk_full"), "1");
    assert_eq!(persistence(&mut client, "aof_last_write_status"), "err");
    assert_eq!(client.call(&["DBSIZE"]), Value::Int(keys));

    std::fs::remove_file(others).unwrap();
    eventually("writes are taken again", || {
        (client.call(&["SET", "new", &value]) == Value::ok()).then_some(())
    });
    assert_eq!(persistence(&mut client, "aof_last_write_status"), "ok");
    assert_eq!(client.call(&["DBSIZE"]), Value::Int(keys + 1));
    assert!(server.terminate().success(), "and it stops cleanly");
}

#[test]
fn a_disk_full_of_dead_values_comes_free_without_anybodys_help() {
    let Some(server) = on_a_small_disk(&["--reserved-space", "4mb"]) else { return };
    let mut client = server.client();
    reserve_is(&mut client, "4194304");
    assert_eq!(client.call(&["SET", "kept", "1"]), Value::ok());
    let value = "v".repeat(256 << 10);
    let mut refused = 0;
    // Four times the disk, though only one value counts.
    for round in 0..400 {
        eventually("the value is taken", || {
            let reply = client.call(&["SET", "changing", &format!("{round} {value}")]);
            refused += u32::from(is_no_space(&reply));
            assert!(reply == Value::ok() || is_no_space(&reply), "{reply:?}");
            (reply == Value::ok()).then_some(())
        });
    }
    assert!(refused > 0, "the disk was never full: this shows nothing");
    assert_eq!(client.call(&["GET", "changing"]), Value::bulk(format!("399 {value}")));
    assert_eq!(client.call(&["GET", "kept"]), Value::bulk("1"));
}

/// Sets keys until one is refused while the `call`s of the program fail as `how` says, then looks at what
/// the server promised: nothing is written any more, all is read, and a restart has all that was
/// acknowledged.
#[track_caller]
fn check_failing(call: &str, how: &str) {
    if !target::is_kival() || !can("strace", &["-D", "-f", "-e", "trace=none", "true"]) {
        return;
    }
    let inject = format!("inject={call}:{how}");
    let strace = ["-D", "-f", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject];
    let launch = target::launch(&["--appendfsync", "always"]);
    let mut server = launch.clone().through(&find("strace").unwrap(), &strace).start();
    let mut client = server.client();
    let mut acknowledged = 0;
    let refused = loop {
        let reply = client.call(&["SET", &format!("key {acknowledged}"), "value"]);
        if reply != Value::ok() {
            break reply;
        }
        acknowledged += 1;
        assert!(acknowledged < 1000, "nothing fails");
    };
    assert!(acknowledged > 0, "{refused:?}");
    for command in [&["SET", "key 0", "other"][..], &["DEL", "key 0"], &["INCR", "n"]] {
        let reply = client.call(command);
        assert!(reply.is_error() && reply.text().starts_with("MISCONF"), "{call}: {reply:?}");
        assert!(reply.text().contains("os error 5"), "{call}: {reply:?}");
    }
    for key in 0..acknowledged {
        assert_eq!(client.call(&["GET", &format!("key {key}")]), Value::bulk("value"), "{call}");
    }
    assert_eq!(persistence(&mut client, "aof_last_write_status"), "err");
    assert!(!server.terminate().success(), "a store that could not be closed says so");
    assert!(server.log().contains("not closed cleanly"));
    let mut server = server.restarted_as(launch);
    let mut client = server.client();
    for key in 0..acknowledged {
        assert_eq!(client.call(&["GET", &format!("key {key}")]), Value::bulk("value"), "{call}");
    }
    assert_eq!(client.call(&["SET", "key 0", "other"]), Value::ok());
    assert!(server.terminate().success());
}

#[test]
fn a_sync_that_fails_in_the_real_program_is_final() {
    check_failing("fdatasync", "error=EIO:when=20");
}

#[test]
fn an_append_that_fails_in_the_real_program_is_final() {
    check_failing("pwrite64", "error=EIO:when=40");
}
