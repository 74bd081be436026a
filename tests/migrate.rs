//! MIGRATE: keys change their server, in both directions between kival and redis-server. A key that is not surely
//! there is not deleted here, and neither is one that has changed on its way; nobody else waits for the network.

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};

use kival_engine::fs::gate::Gate;
use kival_test_support::wait::PATIENCE;
use kival_test_support::{Client, Frame, Launch, Server, Value, encode, eventually};

use crate::inside::Inside;
use crate::target;

const NO_ANSWER: &str = "IOERR error or timeout reading to target instance";
const CHANGED: &str =
    "ERR 1 of 2 keys changed on their way: they are not deleted here, and the target has what they were";

fn bulk(text: &str) -> Value {
    Value::bulk(text)
}

fn status(text: &str) -> Value {
    Value::Simple(text.into())
}

fn error(text: &str) -> Value {
    Value::Error(text.into())
}

/// MIGRATE to a port of this machine.
fn request<'a>(port: &'a str, key: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    [&["MIGRATE", "127.0.0.1", port, key], rest].concat()
}

/// A target of the test's own, which answers when the test wants.
pub(crate) struct Late {
    listener: TcpListener,
    pub(crate) port: String,
}

/// A migration that waits for its answers.
pub(crate) struct Arriving {
    stream: BufReader<TcpStream>,
    keys: Vec<String>,
}

impl Late {
    pub(crate) fn new() -> Late {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        Late { listener, port }
    }

    /// Whether nobody has connected so far.
    pub(crate) fn is_alone(&self) -> bool {
        self.look().is_none()
    }

    fn look(&self) -> Option<TcpStream> {
        self.listener.set_nonblocking(true).unwrap();
        let (stream, _) = self.listener.accept().ok()?;
        stream.set_nonblocking(false).unwrap();
        Some(stream)
    }

    /// Takes a connection, and so many keys.
    pub(crate) fn take(&self, keys: usize) -> Arriving {
        let stream = eventually("a connection comes", || self.look());
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut stream = BufReader::new(stream);
        let word = |stream: &mut BufReader<TcpStream>, index: usize| {
            let request = Frame::read(stream).unwrap().value;
            request.items().unwrap()[index].text()
        };
        assert_eq!(word(&mut stream, 0), "SELECT");
        stream.get_mut().write_all(b"+OK\r\n").unwrap();
        let keys = (0..keys).map(|_| word(&mut stream, 1)).collect();
        Arriving { stream, keys }
    }
}

impl Arriving {
    /// Accepts all keys.
    pub(crate) fn accept(&mut self) {
        self.stream.get_mut().write_all("+OK\r\n".repeat(self.keys.len()).as_bytes()).unwrap();
    }
}

/// A kival that migrates the keys `a` and `b` to a late target, a client that waits for that, and another.
fn under_way(settings: &[&str], options: &[&str]) -> (Server, Arriving, Client, Client) {
    let server = target::start(settings);
    let (mut client, mut other) = (server.client(), server.client());
    assert_eq!(other.call(&["MSET", "a", "1", "b", "2"]), Value::ok());
    let late = Late::new();
    client.send(&request(&late.port, "", &[&["0", "600000"], options, &["KEYS", "a", "b"]].concat()));
    let arriving = late.take(2);
    assert_eq!(arriving.keys, ["a", "b"]);
    (server, arriving, client, other)
}

/// What there is of some keys: their values, and whether they expire.
type Found = Vec<(Value, bool)>;

fn found(client: &mut Client, keys: &[&str]) -> Found {
    let of = |key: &&str| (client.call(&["GET", key]), client.call(&["PTTL", key]).int() > Some(0));
    keys.iter().map(of).collect()
}

/// Sends keys from one server to the other, and looks what has become of them.
fn travel(from: &Server, to: &Server) {
    let (mut client, mut peer) = (from.client(), to.client());
    let port = to.port().to_string();
    let long = "x".repeat(3_000_000);
    assert_eq!(client.call(&["MSET", "a", "text", "b", "-17", "c", "", "long", &long]), Value::ok());
    assert_eq!(client.call(&["SET", "until", "v", "PX", "3600000"]), Value::ok());
    assert_eq!(peer.call(&["SET", "c", "in the way"]), Value::ok());

    assert_eq!(client.call(&request(&port, "a", &["0", "60000"])), Value::ok());
    assert_eq!(client.call(&request(&port, "until", &["3", "60000", "COPY"])), Value::ok());
    let several = ["0", "60000", "REPLACE", "KEYS", "until", "b", "absent", "c", "long"];
    assert_eq!(client.call(&request(&port, "", &several)), Value::ok());

    assert_eq!(client.call(&["DBSIZE"]), Value::Int(0));
    let arrived = found(&mut peer, &["a", "b", "c", "long", "until", "absent"]);
    let expected = [("text", false), ("-17", false), ("", false), (&long, false), ("v", true)]
        .map(|(v, e)| (bulk(v), e));
    assert_eq!(arrived[..5], expected);
    assert_eq!(arrived[5].0, Value::Nil);
    let left = peer.call(&["PTTL", "until"]).int().unwrap();
    assert!((3_000_000..=3_600_000).contains(&left), "{left}");
    assert_eq!(peer.call(&["SELECT", "3"]), Value::ok());
    assert_eq!(found(&mut peer, &["until"]), [(bulk("v"), true)]);
    assert_eq!(peer.call(&["FLUSHALL"]), Value::ok());
}

#[test]
fn keys_go_to_redis_and_come_back() {
    let Some(redis) = Launch::redis(&["--appendonly", "no"]) else { return };
    let (redis, ours) = (redis.start(), target::start(&[]));
    travel(&ours, &redis);
    travel(&redis, &ours);
    travel(&ours, &target::start(&[]));
}

#[test]
fn many_keys_go_in_one_request() {
    let (from, to) = (target::start(&["--appendfsync", "no"]), target::start(&["--appendfsync", "no"]));
    let (mut client, mut peer) = (from.client(), to.client());
    let keys: Vec<String> = (0..5000).map(|n| format!("key:{n}")).collect();
    let sets: Vec<Vec<&str>> = keys.iter().map(|key| vec!["SET", key, key]).collect();
    client.call_all(&sets);
    let port = to.port().to_string();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let all = request(&port, "", &[&["0", "60000", "KEYS"][..], &keys].concat());
    assert_eq!(client.call(&all), Value::ok());
    assert_eq!((client.call(&["DBSIZE"]), peer.call(&["DBSIZE"])), (Value::Int(0), Value::Int(5000)));
    assert_eq!(peer.call(&["GET", "key:4999"]), bulk("key:4999"));
}

/// Every request with its options, to a target that both servers send their keys to.
#[test]
fn replies_are_those_of_redis() {
    let Some(launch) = Launch::redis(&["--appendonly", "no"]) else { return };
    let (redis, ours, peer) = (launch.clone().start(), target::start(&[]), launch.start());
    let guarded =
        Launch::redis(&["--appendonly", "no", "--requirepass", "word"]).expect("it is there").start();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let (open, guarded) = (peer.port().to_string(), guarded.port().to_string());
    let (with_tail, with_space) = (format!("{open}x"), format!(" {open}"));
    let requests: &[(&str, &str, &[&str])] = &[
        (&open, "absent", &["0", "100"]),
        (&open, "absent", &["0", "-100"]),
        (&open, "absent", &["x", "100"]),
        (&open, "absent", &["0", "x"]),
        (&open, "absent", &["0", "99999999999999999999"]),
        (&open, "absent", &["x", "100", "FOO"]),
        (&open, "absent", &["0"]),
        (&open, "k", &["0", "1", "AUTH"]),
        (&open, "k", &["0", "1", "AUTH2", "user"]),
        (&open, "k", &["0", "1", "COPY", "copy", "FOO"]),
        (&open, "k", &["0", "1", "KEYS"]),
        (&open, "k", &["0", "1", "KEYS", "a", "FOO"]),
        (&open, "", &["0", "1", "KEYS"]),
        (&open, "", &["0", "1", "KEYS", "absent"]),
        (&open, "", &["0", "1"]),
        (&open, "k", &["0", "60000", "COPY"]),
        (&open, "k", &["0", "60000"]),
        (&open, "k", &["0", "60000", "COPY", "REPLACE"]),
        (&open, "", &["0", "60000", "COPY", "KEYS", "a", "k", "b"]),
        (&open, "", &["0", "60000", "KEYS", "c", "k", "d", "k"]),
        (&open, "a", &["99", "60000"]),
        (&open, "a", &["9223372036854775807", "60000"]),
        (&open, "a", &["1", "60000", "AUTH", "word"]),
        (&open, "a", &["1", "60000", "AUTH2", "user", "word"]),
        (&guarded, "a", &["1", "60000"]),
        (&guarded, "a", &["1", "60000", "AUTH", "wrong"]),
        (&guarded, "a", &["1", "60000", "AUTH", "wrong", "AUTH", "word", "COPY", "REPLACE"]),
        (&guarded, "a", &["1", "60000", "auth2", "default", "word", "replace", "keys"]),
        (&guarded, "", &["1", "60000", "auth2", "default", "word", "replace", "keys", "a", "b"]),
        (&closed, "k", &["0", "60000"]),
        ("x", "k", &["0", "60000"]),
        (&with_tail, "k", &["0", "60000", "REPLACE"]),
        (&with_space, "until", &["0", "60000", "COPY"]),
        (&open, "until", &["0", "60000"]),
    ];
    let check = |source: &Server| {
        let mut client = source.client();
        let sets = ["MSET", "k", "1", "a", "2", "b", "3", "c", "4", "d", "5"];
        assert_eq!(client.call(&sets), Value::ok());
        assert_eq!(client.call(&["SET", "until", "1", "PX", "3600000"]), Value::ok());
        assert_eq!(peer.client().call(&["FLUSHALL"]), Value::ok());
        let told: Vec<(Value, [Found; 2])> = requests
            .iter()
            .map(|(port, key, rest)| {
                let keys = ["k", "a", "b", "c", "d", "until"];
                let reply = client.call(&request(port, key, rest));
                (reply, [found(&mut client, &keys), found(&mut peer.client(), &keys)])
            })
            .collect();
        let nowhere = client.call(&["MIGRATE", "no such host.invalid", "1", "d", "0", "60000"]);
        (told, nowhere, client.call(&["MIGRATE", "", "1", "d", "0", "60000"]))
    };
    let (ours, theirs) = (check(&ours), check(&redis));
    for (index, request) in requests.iter().enumerate() {
        assert_eq!(ours.0[index], theirs.0[index], "{request:?}");
    }
    assert_eq!((ours.1, ours.2), (theirs.1, theirs.2), "a host that is not there");
}

#[test]
fn keys_of_a_request_are_found_where_redis_finds_them() {
    let Some(redis) = Launch::redis(&["--appendonly", "no"]) else { return };
    let (redis, ours) = (redis.start(), target::start(&[]));
    let (mut redis, mut ours) = (redis.client(), ours.client());
    let options = [
        "",
        "KEYS",
        "KEYS a b",
        "keys KEYS a",
        "COPY REPLACE KEYS a",
        "AUTH keys",
        "AUTH keys KEYS a",
        "AUTH KEYS a",
        "AUTH KEYS KEYS",
        "AUTH2 keys keys KEYS a KEYS b",
        "auth2 x keys y",
        "AUTH2 KEYS",
        "FOO bar keys x",
        "a KEYS",
    ];
    for key in ["", "k"] {
        for options in options {
            let head = ["COMMAND", "GETKEYS", "MIGRATE", "h", "p", key, "0", "1"];
            let request: Vec<&str> = head.into_iter().chain(options.split_whitespace()).collect();
            assert_eq!(ours.call(&request), redis.call(&request), "{request:?}");
        }
    }
    for place in 3..8 {
        let mut request = ["COMMAND", "GETKEYS", "MIGRATE", "h", "p", "k", "0", "1", "KEYS"];
        request[place] = "KEYS";
        assert_eq!(ours.call(&request), redis.call(&request), "{request:?}");
    }
}

#[test]
fn a_target_that_never_answers_is_given_up_and_nothing_is_deleted() {
    let server = target::start(&[]);
    let mut client = server.client();
    assert_eq!(client.call(&["SET", "k", "v"]), Value::ok());
    let silent = Late::new();
    assert_eq!(client.call(&request(&silent.port, "k", &["0", "20"])), error(NO_ANSWER));
    assert_eq!(client.call(&["GET", "k"]), bulk("v"));
}

#[test]
fn what_the_target_has_accepted_before_it_hung_up_is_gone() {
    let (_server, mut arriving, mut client, _) = under_way(&[], &[]);
    arriving.stream.get_mut().write_all(b"+OK\r\n").unwrap();
    drop(arriving);
    assert_eq!(client.read(), error(NO_ANSWER));
    assert_eq!(client.call(&["MGET", "a", "b"]), Value::Array(vec![Value::Nil, bulk("2")]));
}

#[test]
fn a_target_that_says_something_else_than_ok_has_accepted_nothing() {
    if !target::is_kival() {
        return;
    }
    let (_server, mut arriving, mut client, _) = under_way(&[], &[]);
    arriving.stream.get_mut().write_all(b"HTTP/1.1 400 Bad Request\r\n+OK\r\n").unwrap();
    assert_eq!(client.read(), error(NO_ANSWER));
    assert_eq!(client.call(&["EXISTS", "a", "b"]), Value::Int(2));
}

#[test]
fn others_are_served_while_keys_travel_and_a_key_that_they_change_stays() {
    if !target::is_kival() {
        return;
    }
    let changes: [&[&str]; 6] = [
        // By page: the record of its value stays the same.
        &["SETRANGE", "b", "100000", "new"],
        &["SET", "b", "new"],
        &["SET", "b", "2"],
        &["EXPIRE", "b", "1000"],
        &["DEL", "b"],
        &["RENAME", "b", "c"],
    ];
    for change in changes {
        let (_server, mut arriving, mut client, mut other) = under_way(&[], &[]);
        client.send(&["PING"]);
        assert!(!other.call(change).is_error());
        let changed = other.call(&["GET", "b"]);
        assert_eq!(other.call(&["GET", "a"]), bulk("1"), "it is here until it is there");
        arriving.accept();
        assert_eq!(client.read(), error(CHANGED), "{change:?}");
        assert_eq!(client.read(), status("PONG"));
        assert_eq!(other.call(&["MGET", "a", "b"]), Value::Array(vec![Value::Nil, changed]));
    }
}

/// Who writes to keys that are moved away again and again finds the last of its writes on one of the two servers: on
/// the first if it is there, since what is new comes into being there.
#[test]
fn no_write_is_lost_to_a_migration_that_runs_beside_it() {
    const WRITERS: usize = 4;
    const WRITES: usize = 400;
    let policy = ["--appendfsync", "no"];
    let (from, to) = (target::start(&policy), target::start(&policy));
    let keys: Vec<String> = (0..WRITERS).map(|writer| format!("key:{writer}")).collect();
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for key in &keys {
            let (mut client, done) = (from.client(), &done);
            scope.spawn(move || {
                for n in 0..WRITES {
                    assert_eq!(client.call(&["SET", key, &n.to_string()]), Value::ok());
                }
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
        let (mut mover, port) = (from.client(), to.port().to_string());
        let all: Vec<&str> =
            ["0", "60000", "REPLACE", "KEYS"].into_iter().chain(keys.iter().map(String::as_str)).collect();
        while done.load(Ordering::Relaxed) < WRITERS {
            let moved = mover.call(&request(&port, "", &all));
            assert!(!moved.is_error() || moved.text().contains("changed on their way"), "{moved:?}");
        }
    });
    let (mut from, mut to) = (from.client(), to.client());
    for key in &keys {
        let here = from.call(&["GET", key]);
        let last = if here == Value::Nil { to.call(&["GET", key]) } else { here };
        assert_eq!(last, bulk(&(WRITES - 1).to_string()), "{key}");
    }
}

#[test]
fn so_many_migrations_run_at_once_and_the_others_wait_for_their_turn() {
    const AT_ONCE: usize = 16;
    if !target::is_kival() {
        return;
    }
    let server = target::start(&["--appendfsync", "no"]);
    let mut other = server.client();
    assert_eq!(other.call(&["SET", "k", "v"]), Value::ok());
    let late = Late::new();
    let mut clients: Vec<Client> = (0..=AT_ONCE).map(|_| server.client()).collect();
    let mut arriving = Vec::new();
    for client in &mut clients[..AT_ONCE] {
        client.send(&request(&late.port, "k", &["0", "600000", "COPY"]));
        arriving.push(late.take(1));
    }
    clients[AT_ONCE].send(&request(&late.port, "k", &["0", "600000", "COPY"]));
    for _ in 0..100 {
        assert_eq!(other.call(&["GET", "k"]), bulk("v"));
    }
    assert!(late.is_alone(), "one more connection than {AT_ONCE}");
    arriving.iter_mut().for_each(Arriving::accept);
    late.take(1).accept();
    for client in &mut clients {
        assert_eq!(client.read(), Value::ok());
    }
}

#[test]
fn what_expires_on_its_way_or_is_only_read_has_not_changed() {
    if !target::is_kival() {
        return;
    }
    let server = target::start(&[]);
    let (mut client, mut other) = (server.client(), server.client());
    let late = Late::new();
    assert_eq!(other.call(&["SET", "a", "1", "PX", "200"]), Value::ok());
    assert_eq!(other.call(&["SET", "b", "2"]), Value::ok());
    client.send(&request(&late.port, "", &["0", "600000", "KEYS", "a", "b"]));
    let mut arriving = late.take(2);
    eventually("the key expires", || (other.call(&["EXISTS", "a"]) == Value::Int(0)).then_some(()));
    assert_eq!(other.call(&["GETEX", "b"]), bulk("2"));
    arriving.accept();
    assert_eq!(client.read(), Value::ok());
    assert_eq!(other.call(&["DBSIZE"]), Value::Int(0));
}

#[test]
fn a_copy_does_not_mind_changes() {
    if !target::is_kival() {
        return;
    }
    let (_server, mut arriving, mut client, mut other) = under_way(&[], &["COPY"]);
    assert_eq!(other.call(&["SET", "b", "new"]), Value::ok());
    arriving.accept();
    assert_eq!(client.read(), Value::ok());
    assert_eq!(client.call(&["MGET", "a", "b"]), Value::Array(vec![bulk("1"), bulk("new")]));
}

#[test]
fn a_key_that_has_arrived_is_deleted_though_its_client_has_gone() {
    if !target::is_kival() {
        return;
    }
    for killed in [false, true] {
        let (_server, mut arriving, client, mut other) = under_way(&[], &[]);
        if killed {
            assert_eq!(other.call(&["CLIENT", "KILL", "TYPE", "normal"]), Value::Int(1));
        } else {
            drop(client);
        }
        arriving.accept();
        eventually("the keys go", || (other.call(&["DBSIZE"]) == Value::Int(0)).then_some(()));
        eventually("the client goes, too", || {
            (other.info("clients", "connected_clients").as_deref() == Some("1")).then_some(())
        });
    }
}

#[test]
fn a_client_that_sends_no_more_is_still_answered() {
    let server = target::start(&[]);
    assert_eq!(server.client().call(&["SET", "k", "v"]), Value::ok());
    let late = Late::new();
    let mut client = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    client.write_all(&encode(&request(&late.port, "k", &["0", "600000"]))).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    late.take(1).accept();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "+OK\r\n");
}

#[test]
fn a_deletion_is_told_as_any_other() {
    if !target::is_kival() {
        return;
    }
    let (server, mut arriving, mut client, mut other) = under_way(&["--notify-keyspace-events", "Kg"], &[]);
    let (mut listener, mut tracker) = (server.client(), server.client3());
    assert_eq!(listener.call(&["SUBSCRIBE", "__keyspace@0__:a"]).items().map(<[Value]>::len), Some(3));
    assert_eq!(tracker.call(&["CLIENT", "TRACKING", "ON"]), Value::ok());
    assert_eq!(tracker.call(&["GET", "b"]), bulk("2"));
    for args in [&["WATCH", "b"][..], &["MULTI"]] {
        assert_eq!(other.call(args), Value::ok());
    }
    arriving.accept();
    assert_eq!(client.read(), Value::ok());
    assert_eq!(listener.read().items().unwrap()[2], bulk("del"));
    tracker.send(&["PING"]);
    let invalidated = Value::Push(vec![bulk("invalidate"), Value::Array(vec![bulk("b")])]);
    assert_eq!(tracker.read(), invalidated, "before anything that is asked later");
    assert_eq!(other.call(&["EXEC"]), Value::Nil);
}

#[test]
fn a_pause_holds_the_deletion_back() {
    if !target::is_kival() {
        return;
    }
    let (_server, mut arriving, mut client, mut other) = under_way(&[], &[]);
    assert_eq!(other.call(&["CLIENT", "PAUSE", "600000", "WRITE"]), Value::ok());
    arriving.accept();
    // It closes its connection when it has read the answers.
    assert!(Frame::read(&mut arriving.stream).is_err());
    for _ in 0..100 {
        assert_eq!(other.call(&["EXISTS", "a", "b"]), Value::Int(2));
    }
    assert_eq!(other.call(&["CLIENT", "UNPAUSE"]), Value::ok());
    assert_eq!(client.read(), Value::ok());
    assert_eq!(other.call(&["EXISTS", "a", "b"]), Value::Int(0));
}

#[test]
fn a_pause_does_not_keep_what_has_arrived_elsewhere_when_the_server_ends() {
    if !target::is_kival() {
        return;
    }
    let (mut server, mut arriving, mut client, mut other) = under_way(&[], &[]);
    assert_eq!(other.call(&["CLIENT", "PAUSE", "600000", "WRITE"]), Value::ok());
    arriving.accept();
    assert!(Frame::read(&mut arriving.stream).is_err());
    // Behind it everything that the thread has said is known.
    assert_eq!(other.call(&["EXISTS", "a", "b"]), Value::Int(2));
    assert!(server.terminate().success());
    assert_eq!(client.read(), Value::ok());
    server.restart();
    assert_eq!(server.client().call(&["EXISTS", "a", "b"]), Value::Int(0));
}

#[test]
fn a_server_that_ends_waits_for_what_is_under_way_but_not_for_ever() {
    if !target::is_kival() {
        return;
    }
    let (mut server, mut arriving, mut client, _) = under_way(&["--shutdown-timeout", "100"], &[]);
    std::thread::scope(|scope| {
        let port = server.port();
        let ended = scope.spawn(|| server.terminate());
        eventually("the server begins to end", || TcpStream::connect(("127.0.0.1", port)).err());
        arriving.accept();
        assert_eq!(client.read(), Value::ok());
        assert!(ended.join().unwrap().success());
    });
    server.restart();
    assert_eq!(server.client().call(&["EXISTS", "a", "b"]), Value::Int(0));

    let (mut server, arriving, mut client, _) = under_way(&["--shutdown-timeout", "0"], &[]);
    assert!(server.terminate().success());
    assert!(client.until_closed().is_empty(), "nobody may take this for a success");
    drop(arriving);
    server.restart();
    assert_eq!(server.client().call(&["EXISTS", "a", "b"]), Value::Int(2));
}

#[test]
fn a_key_can_go_to_another_database_of_its_own_server() {
    if !target::is_kival() {
        return;
    }
    let server = target::start(&[]);
    let (mut client, port) = (server.client(), server.port().to_string());
    assert_eq!(client.call(&["SET", "k", "v"]), Value::ok());
    assert_eq!(client.call(&request(&port, "k", &["1", "60000"])), Value::ok());
    assert_eq!(client.call(&["EXISTS", "k"]), Value::Int(0));
    assert_eq!(client.call(&["SELECT", "1"]), Value::ok());
    // Here it arrives as a change of itself: it must not be deleted.
    let onto_itself = client.call(&request(&port, "k", &["1", "60000", "REPLACE"]));
    assert!(onto_itself.text().contains("1 of 1 keys changed"), "{onto_itself:?}");
    assert_eq!(client.call(&["GET", "k"]), bulk("v"));
}

#[test]
fn a_transaction_cannot_wait_for_another_server() {
    if !target::is_kival() {
        return;
    }
    let server = target::start(&[]);
    let mut client = server.client();
    assert_eq!(client.call(&["MULTI"]), Value::ok());
    let refused = client.call(&request("1", "k", &["0", "10"]));
    assert_eq!(refused, error("ERR Command not allowed inside a transaction"));
    assert!(client.call(&["EXEC"]).text().starts_with("EXECABORT"));
}

#[test]
fn passwords_are_in_no_log() {
    let server = target::start(&["--slowlog-log-slower-than", "0"]);
    let mut client = server.client();
    client.call(&request("1", "k", &["0", "10", "AUTH", "secret", "COPY", "AUTH2", "secret", "secret"]));
    let log = format!("{:?}", client.call(&["SLOWLOG", "GET", "1"]));
    assert!(!log.contains("secret") && log.matches("(redacted)").count() == 3, "{log}");
}

#[test]
fn values_that_are_on_disk_are_read_together_before_they_go() {
    let server = Inside::start(Gate::default(), &["--cache-size", "0"]);
    let (mut client, mut other) = (server.client(), server.client());
    assert_eq!(other.call(&["MSET", "a", "1", "b", "2"]), Value::ok());
    server.disk.set_closed(true);
    let late = Late::new();
    client.send(&request(&late.port, "", &["0", "600000", "KEYS", "a", "absent", "b"]));
    server.disk.wait_for_readers(1);
    assert_eq!(other.call(&["PING"]), status("PONG"));
    server.disk.set_closed(false);
    let mut arriving = late.take(2);
    assert_eq!(arriving.keys, ["a", "b"]);
    assert_eq!(other.info("stats", "kival_cold_reads").as_deref(), Some("2"));
    arriving.accept();
    assert_eq!(client.read(), Value::ok());
}
