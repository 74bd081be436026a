//! What a reply promises, connection by connection: the server runs inside the test, on a disk whose syncs
//! wait at a gate or fail.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use kival_engine::fs::hook::{Call, Hook, Op, Verdict};
use kival_test_support::{Client, Value, eventually};

use crate::inside::{Disk, Inside};
use crate::migrate::Late;

/// A disk whose syncs of the log wait while the gate is closed, and whose calls fail on demand. Clones
/// share it.
#[derive(Debug, Clone, Default)]
struct SyncGate(Arc<(Mutex<State>, Condvar)>);

#[derive(Debug, Default)]
struct State {
    closed: bool,
    waiting: usize,
    /// The next sync or write of the log fails so.
    fault: Option<(Op, i32)>,
}

impl SyncGate {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap()
    }

    fn close(&self) {
        self.lock().closed = true;
    }

    fn open(&self) {
        self.lock().closed = false;
        self.0.1.notify_all();
    }

    fn wait_for_a_sync(&self) {
        drop(self.0.1.wait_while(self.lock(), |state| state.waiting == 0).unwrap());
    }

    fn fail(&self, op: Op, errno: i32) {
        self.lock().fault = Some((op, errno));
    }
}

impl Hook for SyncGate {
    fn before(&self, call: &Call<'_>) -> Verdict {
        if !call.is_on(".seg") {
            return Verdict::Go;
        }
        let mut state = self.lock();
        if call.op == Op::Sync {
            state.waiting += 1;
            self.0.1.notify_all();
            state = self.0.1.wait_while(state, |state| state.closed).unwrap();
            state.waiting -= 1;
        }
        match state.fault.take_if(|(op, _)| *op == call.op) {
            Some((_, errno)) => Verdict::Fail(io::Error::from_raw_os_error(errno)),
            None => Verdict::Go,
        }
    }
}

impl Disk for SyncGate {
    fn let_go(&self) {
        self.open();
    }
}

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

fn start(policy: &str) -> Inside<SyncGate> {
    Inside::start(SyncGate::default(), &["--appendfsync", policy])
}

fn bulk(text: &str) -> Value {
    Value::bulk(text)
}

/// The field `name` of the client's own CLIENT INFO or of another's line of CLIENT LIST.
fn field(line: &str, name: &str) -> Option<String> {
    line.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
}

/// A client with its id, so that others can look at it.
struct Watched {
    client: Client,
    id: String,
}

impl Watched {
    fn new(server: &Inside<SyncGate>) -> Watched {
        let mut client = server.client();
        let Value::Int(id) = client.call(&["CLIENT", "ID"]) else { panic!("an id is a number") };
        Watched { client, id: id.to_string() }
    }

    /// Sends a command and waits until `other` sees that its reply is held back.
    #[track_caller]
    fn is_held(&mut self, other: &mut Client, command: &[&str]) {
        self.client.send(command);
        self.has_held(other, 1);
        assert!(self.client.is_silent(), "{command:?} was answered before the disk had it");
    }

    fn has_held(&self, other: &mut Client, replies: usize) {
        let replies = replies.to_string();
        eventually("the reply is held", || {
            let line = other.call(&["CLIENT", "LIST", "ID", &self.id]).text();
            field(&line, "oll").filter(|held| *held == replies)
        });
    }
}

#[track_caller]
fn is_misconf(reply: &Value) {
    assert!(reply.is_error() && reply.text().starts_with("MISCONF"), "{reply:?}");
}

#[test]
fn under_always_a_write_waits_for_its_sync_and_reads_of_durable_data_for_none() {
    let server = start("always");
    let (mut writer, mut other) = (Watched::new(&server), server.client());
    assert_eq!(other.call(&["SET", "old", "1"]), Value::ok());
    server.disk.close();
    writer.is_held(&mut other, &["SET", "new", "2"]);
    server.disk.wait_for_a_sync();
    assert_eq!(other.call(&["GET", "old"]), bulk("1"));
    assert_eq!(other.call(&["GET", "never there"]), Value::Nil);
    server.disk.open();
    assert_eq!(writer.client.read(), Value::ok());
}

#[test]
fn a_reader_under_always_sees_nothing_that_a_power_cut_could_take_back() {
    let server = start("always");
    let mut lax = server.client();
    for setup in [&["MSET", "kept", "1", "gone", "1"][..], &["KIVAL", "DURABILITY", "no"]] {
        assert_eq!(lax.call(setup), Value::ok());
    }
    let reads: [(&[&str], Value); 6] = [
        (&["GET", "new"], bulk("2")),
        (&["GET", "gone"], Value::Nil),
        (&["EXISTS", "gone"], Value::Int(0)),
        (&["DBSIZE"], Value::Int(2)),
        (&["MGET", "kept", "new"], Value::Array(vec![bulk("1"), bulk("2")])),
        (&["SETNX", "new", "3"], Value::Int(0)),
    ];
    server.disk.close();
    // The writer wants to wait for nothing, and does not.
    assert_eq!(lax.call(&["SET", "new", "2"]), Value::ok());
    assert_eq!(lax.call(&["DEL", "gone"]), Value::Int(1));
    let mut readers: Vec<Watched> = reads.iter().map(|_| Watched::new(&server)).collect();
    for (reader, (command, _)) in readers.iter_mut().zip(&reads) {
        reader.is_held(&mut lax, command);
    }
    assert_eq!(server.client().call(&["GET", "kept"]), bulk("1"), "this one is on disk");
    server.disk.open();
    for (reader, (command, expected)) in readers.iter_mut().zip(reads) {
        assert_eq!(reader.client.read(), expected, "{command:?}");
    }
}

#[test]
fn a_reader_under_always_waits_for_the_page_that_was_changed_last() {
    let server = start("always");
    let mut lax = server.client();
    assert_eq!(lax.call(&["SETRANGE", "k", "100000", "end"]), Value::Int(100_003));
    assert_eq!(lax.call(&["KIVAL", "DURABILITY", "no"]), Value::ok());
    server.disk.close();
    assert_eq!(lax.call(&["SETRANGE", "k", "5", "!"]), Value::Int(100_003));
    let mut reader = Watched::new(&server);
    reader.is_held(&mut lax, &["GETRANGE", "k", "5", "5"]);
    server.disk.open();
    assert_eq!(reader.client.read(), bulk("!"));
}

#[test]
fn what_a_swapped_database_shows_waits_for_the_swap() {
    let server = start("always");
    let (mut lax, mut reader) = (server.client(), Watched::new(&server));
    assert_eq!(lax.call(&["SET", "k", "of 0"]), Value::ok());
    assert_eq!(lax.call(&["KIVAL", "DURABILITY", "no"]), Value::ok());
    assert_eq!(reader.client.call(&["SELECT", "1"]), Value::ok());
    server.disk.close();
    assert_eq!(lax.call(&["SWAPDB", "0", "1"]), Value::ok());
    // The key is on disk; that it is in this database is not.
    reader.is_held(&mut lax, &["GET", "k"]);
    let mut absent = Watched::new(&server);
    absent.is_held(&mut lax, &["GET", "k"]);
    server.disk.open();
    assert_eq!(reader.client.read(), bulk("of 0"));
    assert_eq!(absent.client.read(), Value::Nil);
}

#[test]
fn a_connection_chooses_its_policy_and_goes_back_to_the_servers() {
    let server = start("everysec");
    let mut client = server.client();
    let policy = |client: &mut Client| client.call(&["KIVAL", "DURABILITY"]).text();
    assert_eq!(policy(&mut client), "everysec");
    for word in ["always", "no", "everysec", "ALWAYS"] {
        assert_eq!(client.call(&["KIVAL", "DURABILITY", word]), Value::ok());
        assert_eq!(policy(&mut client), word.to_lowercase());
    }
    let wrong = client.call(&["KIVAL", "DURABILITY", "sometimes"]);
    assert!(wrong.text().contains("always, everysec, no, default"), "{wrong:?}");
    assert_eq!(policy(&mut client), "always");
    assert_eq!(client.call(&["KIVAL", "DURABILITY", "default"]), Value::ok());
    assert_eq!(policy(&mut client), "everysec");
    client.call(&["KIVAL", "DURABILITY", "no"]);
    assert_eq!(client.call(&["RESET"]), Value::Simple(b"RESET".to_vec()));
    assert_eq!(policy(&mut client), "everysec");
    assert_eq!(server.client().call(&["CONFIG", "SET", "appendfsync", "no"]), Value::ok());
    assert_eq!(policy(&mut client), "no", "it has none of its own");
}

#[test]
fn config_set_changes_those_who_have_no_policy_of_their_own() {
    let server = start("no");
    let (mut none, mut own, mut other) = (Watched::new(&server), server.client(), server.client());
    assert_eq!(own.call(&["KIVAL", "DURABILITY", "no"]), Value::ok());
    server.disk.close();
    assert_eq!(none.client.call(&["SET", "a", "1"]), Value::ok());
    assert_eq!(other.call(&["CONFIG", "SET", "appendfsync", "always"]), Value::ok());
    none.is_held(&mut other, &["SET", "b", "2"]);
    assert_eq!(own.call(&["SET", "c", "3"]), Value::ok());
    // What was promised under the old policy is kept under the new one.
    assert_eq!(other.call(&["CONFIG", "SET", "appendfsync", "no"]), Value::ok());
    assert!(none.client.is_silent());
    none.client.send(&["PING"]);
    none.has_held(&mut other, 2);
    server.disk.open();
    assert_eq!(none.client.read(), Value::ok());
    assert_eq!(none.client.read(), Value::Simple(b"PONG".to_vec()));
}

#[test]
fn a_pipeline_that_changes_its_policy_waits_for_the_strictest() {
    let server = start("always");
    let (mut client, mut other) = (Watched::new(&server), server.client());
    server.disk.close();
    let pipeline = "SET a 1\r\nKIVAL DURABILITY no\r\nSET b 2\r\n";
    client.client.write(pipeline.as_bytes()).unwrap();
    client.has_held(&mut other, 1);
    assert!(client.client.is_silent());
    server.disk.open();
    for _ in 0..3 {
        assert_eq!(client.client.read(), Value::ok());
    }
    server.disk.close();
    assert_eq!(client.client.call(&["SET", "c", "3"]), Value::ok());
}

/// Waits until everything in the log is on disk, which no client has asked for.
fn everything_is_durable(client: &mut Client) {
    eventually("the log is synced", || {
        let [last, durable] = ["kival_last_sequence", "kival_durable_sequence"]
            .map(|name| client.info("persistence", name).unwrap().parse::<u64>().unwrap());
        (durable >= last).then_some(())
    });
}

#[test]
fn one_client_under_everysec_has_the_log_synced_once_a_second() {
    let server = start("no");
    let mut client = server.client();
    assert_eq!(client.call(&["KIVAL", "DURABILITY", "everysec"]), Value::ok());
    server.disk.close();
    assert_eq!(client.call(&["SET", "k", "v"]), Value::ok());
    server.disk.wait_for_a_sync();
    server.disk.open();
    everything_is_durable(&mut client);
}

#[test]
fn a_write_under_everysec_is_synced_though_its_client_leaves_that_policy_at_once() {
    let server = start("no");
    let mut client = server.client();
    client.write(b"KIVAL DURABILITY everysec\r\nSET k v\r\nKIVAL DURABILITY no\r\n").unwrap();
    for _ in 0..3 {
        assert_eq!(client.read(), Value::ok());
    }
    everything_is_durable(&mut client);
}

#[test]
fn keys_that_expire_under_always_are_synced_within_a_second_too() {
    let server = start("always");
    let mut client = server.client();
    assert_eq!(client.call(&["SET", "k", "v", "PX", "1"]), Value::ok());
    eventually("the key is removed", || {
        (client.info("stats", "expired_keys").as_deref() == Some("1")).then_some(())
    });
    everything_is_durable(&mut client);
}

#[test]
fn under_everysec_writes_wait_when_the_disk_is_a_second_behind() {
    let server = start("everysec");
    let (mut writer, mut other) = (Watched::new(&server), server.client());
    assert_eq!(other.call(&["SET", "old", "1"]), Value::ok());
    everything_is_durable(&mut other);
    server.disk.close();
    assert_eq!(writer.client.call(&["SET", "a", "1"]), Value::ok());
    server.disk.wait_for_a_sync();
    eventually("the sync has taken a second", || {
        (other.info("persistence", "aof_delayed_fsync").as_deref() == Some("1")).then_some(())
    });
    writer.is_held(&mut other, &["SET", "b", "2"]);
    assert_eq!(other.call(&["GET", "old"]), bulk("1"));
    let mut lax = server.client();
    assert_eq!(lax.call(&["KIVAL", "DURABILITY", "no"]), Value::ok());
    assert_eq!(lax.call(&["SET", "c", "3"]), Value::ok());
    server.disk.open();
    assert_eq!(writer.client.read(), Value::ok());
    assert_eq!(other.call(&["CONFIG", "RESETSTAT"]), Value::ok());
    assert_eq!(other.info("persistence", "aof_delayed_fsync").as_deref(), Some("0"));
}

#[test]
fn a_failed_sync_is_told_to_all_who_wait_and_nothing_is_written_after_it() {
    let server = start("always");
    let mut other = server.client();
    assert_eq!(other.call(&["SET", "old", "1"]), Value::ok());
    server.disk.close();
    server.disk.fail(Op::Sync, EIO);
    let (mut writer, mut reader) = (Watched::new(&server), Watched::new(&server));
    writer.is_held(&mut other, &["SET", "new", "2"]);
    reader.is_held(&mut other, &["GET", "new"]);
    server.disk.open();
    is_misconf(&writer.client.read());
    is_misconf(&reader.client.read());
    for refused in [&["SET", "k", "v"][..], &["DEL", "old"], &["EXPIRE", "old", "9"], &["FLUSHALL"]] {
        let reply = other.call(refused);
        is_misconf(&reply);
        assert!(reply.text().contains("os error 5") && reply.text().contains("restart"), "{reply:?}");
    }
    is_misconf(&reader.client.call(&["GET", "new"]));
    is_misconf(&reader.client.call(&["WAITAOF", "1", "0", "0"]));
    assert_eq!(other.call(&["GET", "old"]), bulk("1"));
    assert_eq!(other.call(&["PING"]), Value::Simple(b"PONG".to_vec()));
    assert_eq!(other.info("persistence", "aof_last_write_status").as_deref(), Some("err"));
}

#[test]
fn an_append_that_fails_is_the_last_unless_the_disk_was_only_full() {
    let server = start("always");
    let mut client = server.client();
    assert_eq!(client.call(&["SET", "old", "1"]), Value::ok());
    server.disk.fail(Op::WriteAt, ENOSPC);
    let full = client.call(&["SET", "old", "2"]);
    assert!(full.is_error() && full.text().starts_with("MISCONF No space left"), "{full:?}");
    assert_eq!(client.call(&["GET", "old"]), bulk("1"));
    assert_eq!(client.call(&["SET", "old", "3"]), Value::ok(), "there is room again");
    server.disk.fail(Op::WriteAt, EIO);
    is_misconf(&client.call(&["SET", "old", "4"]));
    is_misconf(&client.call(&["SET", "old", "5"]));
    assert_eq!(client.call(&["GET", "old"]), bulk("3"));
}

#[test]
fn a_turn_that_is_taken_back_takes_back_what_its_clients_became() {
    let server = start("always");
    let mut client = server.client();
    assert_eq!(client.call(&["SET", "k", "of 0"]), Value::ok());
    let pipeline = "HELLO 3\r\nSELECT 1\r\nKIVAL DURABILITY no\r\nSET k of-1\r\nGET k\r\n";
    server.disk.fail(Op::WriteAt, ENOSPC);
    client.write(pipeline.as_bytes()).unwrap();
    for _ in 0..5 {
        is_misconf(&client.read());
    }
    let info = client.call(&["CLIENT", "INFO"]).text();
    let shown = ["db", "resp"].map(|name| field(info.trim_end(), name).unwrap());
    assert_eq!(shown, ["0", "2"]);
    assert_eq!(client.call(&["KIVAL", "DURABILITY"]), bulk("always"));
    assert_eq!(client.call(&["GET", "k"]), bulk("of 0"));
    client.write(pipeline.as_bytes()).unwrap();
    assert!(!client.read().is_error());
    for _ in 0..3 {
        assert_eq!(client.read(), Value::ok());
    }
    assert_eq!(client.read(), bulk("of-1"));
}

#[test]
fn a_message_is_shown_when_what_was_written_before_it_is_on_disk() {
    let server = start("always");
    let (mut writer, mut publisher, mut listener) = (server.client(), server.client(), server.client());
    let mut other = server.client();
    assert!(matches!(listener.call(&["SUBSCRIBE", "news"]), Value::Array(_)));
    assert_eq!(other.call(&["KIVAL", "DURABILITY", "everysec"]), Value::ok());
    assert!(matches!(other.call(&["SUBSCRIBE", "news"]), Value::Array(_)));
    server.disk.close();
    writer.send(&["SET", "key", "1"]);
    server.disk.wait_for_a_sync();
    publisher.send(&["PUBLISH", "news", "there is a key"]);
    let message = Value::Array(["message", "news", "there is a key"].map(bulk).to_vec());
    assert_eq!(other.read(), message, "whoever takes the risk hears it at once");
    assert!(listener.is_silent() && publisher.is_silent());
    server.disk.open();
    assert_eq!(listener.read(), message);
    assert_eq!(publisher.read(), Value::Int(2));
    assert_eq!(writer.read(), Value::ok());
}

#[test]
fn a_message_of_a_turn_that_could_not_be_appended_is_not_delivered() {
    let server = start("always");
    let (mut publisher, mut listener) = (server.client(), server.client());
    assert!(matches!(listener.call(&["SUBSCRIBE", "news"]), Value::Array(_)));
    server.disk.fail(Op::WriteAt, EIO);
    publisher.call(&["MULTI"]);
    publisher.call(&["SET", "key", "1"]);
    publisher.call(&["PUBLISH", "news", "there is a key"]);
    is_misconf(&publisher.call(&["EXEC"]));
    listener.send(&["PING"]);
    assert_eq!(listener.read(), Value::Array(vec![bulk("pong"), bulk("")]), "nothing came before");
}

#[test]
fn what_clients_have_cached_is_invalid_when_the_change_is_on_disk() {
    let server = start("always");
    let (mut writer, mut cache) = (server.client(), server.client());
    assert!(!cache.call(&["HELLO", "3"]).is_error());
    assert_eq!(writer.call(&["SET", "k", "old"]), Value::ok());
    assert_eq!(cache.call(&["CLIENT", "TRACKING", "ON"]), Value::ok());
    assert_eq!(cache.call(&["GET", "k"]), bulk("old"));
    server.disk.close();
    writer.send(&["SET", "k", "new"]);
    server.disk.wait_for_a_sync();
    assert!(cache.is_silent(), "a power cut could still bring the old value back");
    server.disk.open();
    let invalid = |what| Value::Push(vec![bulk("invalidate"), what]);
    assert_eq!(cache.read(), invalid(Value::Array(vec![bulk("k")])));
    assert_eq!(writer.read(), Value::ok());
    // After a change that was taken back nobody knows any more who is to be told of the next one.
    assert_eq!(cache.call(&["GET", "k"]), bulk("new"));
    server.disk.fail(Op::WriteAt, ENOSPC);
    is_misconf(&writer.call(&["SET", "k", "lost"]));
    assert_eq!(cache.read(), invalid(Value::Nil));
    assert_eq!(cache.call(&["GET", "k"]), bulk("new"));
}

#[test]
fn only_what_is_on_disk_travels_to_another_server() {
    let server = start("always");
    let (mut lax, mut mover, late) = (server.client(), Watched::new(&server), Late::new());
    assert_eq!(lax.call(&["KIVAL", "DURABILITY", "no"]), Value::ok());
    server.disk.close();
    assert_eq!(lax.call(&["SET", "k", "v"]), Value::ok());
    mover.client.send(&["MIGRATE", "127.0.0.1", &late.port, "k", "0", "600000"]);
    server.disk.wait_for_a_sync();
    for _ in 0..300 {
        assert_eq!(lax.call(&["GET", "k"]), bulk("v"));
        assert!(late.is_alone(), "a power cut would leave the target with a value that never was");
    }
    server.disk.open();
    let mut arriving = late.take(1);
    // The deletion is a write as any other.
    server.disk.close();
    arriving.accept();
    mover.has_held(&mut lax, 1);
    assert!(mover.client.is_silent(), "a power cut could still bring the key back");
    server.disk.open();
    assert_eq!(mover.client.read(), Value::ok());
}

#[test]
fn keys_neither_travel_nor_go_by_a_turn_that_could_not_be_appended() {
    let server = start("no");
    let (mut mover, late) = (server.client(), Late::new());
    server.disk.fail(Op::WriteAt, ENOSPC);
    let migrate = format!("MIGRATE 127.0.0.1 {} k 0 600000\r\n", late.port);
    mover.write(format!("SET k v\r\n{migrate}").as_bytes()).unwrap();
    is_misconf(&mover.read());
    is_misconf(&mover.read());
    assert!(late.is_alone(), "there never was such a key");

    assert_eq!(mover.call(&["SET", "k", "v"]), Value::ok());
    mover.write(migrate.as_bytes()).unwrap();
    let mut arriving = late.take(1);
    server.disk.fail(Op::WriteAt, ENOSPC);
    arriving.accept();
    is_misconf(&mover.read());
    assert_eq!(mover.call(&["GET", "k"]), bulk("v"), "it is on both servers");
}

#[test]
fn the_latency_monitor_names_what_a_slow_disk_has_held_up() {
    let server = start("always");
    let mut client = server.client();
    assert_eq!(client.call(&["CONFIG", "SET", "latency-monitor-threshold", "1"]), Value::ok());
    server.disk.close();
    client.send(&["SET", "k", "v"]);
    server.disk.wait_for_a_sync();
    let held = Instant::now();
    while held.elapsed() < Duration::from_millis(20) {
        std::thread::yield_now();
    }
    server.disk.open();
    assert_eq!(client.read(), Value::ok());
    let latest = client.call(&["LATENCY", "LATEST"]);
    let names: Vec<String> =
        latest.items().unwrap().iter().map(|event| event.items().unwrap()[0].text()).collect();
    assert!(names.contains(&"aof-fsync-always".to_owned()), "{latest:?}");
}
