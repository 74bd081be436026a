//! Messages: who listens gets all of them, in order and as redis-server sends them, and nobody else pays.

use fastrand::Rng;
use kival_test_support::{Client, Frame, Launch, Server, Value, encode, eventually, seed};

use crate::target;

/// Clients of a conversation: two of RESP2, one of RESP3.
const CLIENTS: usize = 3;

fn bulk(text: &str) -> Value {
    Value::bulk(text)
}

fn push(parts: &[&str]) -> Value {
    Value::Array(parts.iter().map(bulk_ref).collect())
}

fn bulk_ref(text: &&str) -> Value {
    bulk(text)
}

/// The confirmation of a subscription.
fn told(what: &str, channel: &str, count: i64) -> Value {
    Value::Array(vec![bulk(what), bulk(channel), Value::Int(count)])
}

#[test]
fn a_message_reaches_all_who_listen_and_its_sender_learns_how_many() {
    let server = target::start(&[]);
    let (mut sender, mut reader, mut other) = (server.client(), server.client(), server.client());
    assert_eq!(sender.call(&["PUBLISH", "news", "unheard"]), Value::Int(0));
    assert_eq!(reader.call(&["SUBSCRIBE", "news"]), told("subscribe", "news", 1));
    assert_eq!(reader.call(&["PSUBSCRIBE", "n?ws"]), told("psubscribe", "n?ws", 2));
    assert_eq!(other.call(&["SUBSCRIBE", "news"]), told("subscribe", "news", 1));
    assert_eq!(sender.call(&["PUBLISH", "news", "heard"]), Value::Int(3));
    assert_eq!(reader.read(), push(&["message", "news", "heard"]));
    assert_eq!(reader.read(), push(&["pmessage", "n?ws", "news", "heard"]));
    assert_eq!(other.read(), push(&["message", "news", "heard"]));
    assert!(reader.call(&["GET", "key"]).text().starts_with("ERR Can't execute 'get': only (P|S)SUBSCRIBE"));
    let counted = Value::Array(vec![bulk("news"), Value::Int(2), bulk("none"), Value::Int(0)]);
    assert_eq!(sender.call(&["PUBSUB", "NUMSUB", "news", "none"]), counted);
    drop(other);
    eventually("the client that has gone is forgotten", || {
        (sender.call(&["PUBLISH", "news", "once"]) == Value::Int(2)).then_some(())
    });
    assert_eq!(reader.call(&["RESET"]), push(&["message", "news", "once"]));
    while reader.read() != Value::Simple(b"RESET".to_vec()) {}
    assert_eq!(sender.call(&["PUBLISH", "news", "unheard"]), Value::Int(0));
    assert_eq!(sender.call(&["PUBSUB", "CHANNELS"]), Value::Array(vec![]));
}

#[test]
fn many_messages_arrive_in_their_order() {
    const MESSAGES: usize = 20_000;
    let server = target::start(&[]);
    let (mut sender, mut reader) = (server.client(), server.client3());
    reader.send(&["SUBSCRIBE", "numbers"]);
    assert!(matches!(reader.read(), Value::Push(_)));
    let commands: Vec<Vec<String>> =
        (0..MESSAGES).map(|n| ["PUBLISH", "numbers", &n.to_string()].map(str::to_owned).to_vec()).collect();
    let reading = std::thread::spawn(move || {
        (0..MESSAGES).for_each(|n| {
            let expected = [bulk("message"), bulk("numbers"), bulk(&n.to_string())];
            assert_eq!(reader.read(), Value::Push(expected.to_vec()));
        });
    });
    let replies = sender.call_all(&commands);
    assert!(replies.iter().all(|reply| *reply == Value::Int(1)));
    reading.join().expect("all came");
}

#[test]
fn events_of_keys_are_told_to_who_asks_for_them_and_expiry_by_itself() {
    let server = target::start(&[]);
    let (mut writer, mut reader) = (server.client(), server.client());
    assert_eq!(reader.call(&["PSUBSCRIBE", "__key*"]), told("psubscribe", "__key*", 1));
    assert_eq!(writer.call(&["SET", "quiet", "1"]), Value::ok());
    assert_eq!(writer.call(&["CONFIG", "SET", "notify-keyspace-events", "gKx$E"]), Value::ok());
    assert_eq!(writer.call(&["SET", "key", "1", "PX", "20"]), Value::ok());
    for event in ["set", "expire", "expired"] {
        let by_key = ["pmessage", "__key*", "__keyspace@0__:key", event];
        let by_event = ["pmessage", "__key*", &format!("__keyevent@0__:{event}"), "key"];
        assert_eq!(reader.read(), push(&by_key));
        assert_eq!(reader.read(), push(&by_event));
    }
    assert_eq!(writer.call(&["CONFIG", "SET", "notify-keyspace-events", ""]), Value::ok());
    assert_eq!(writer.call(&["SET", "quiet", "2"]), Value::ok());
    assert_eq!(reader.call(&["PING"]), push(&["pong", ""]));
    let refused = writer.call(&["CONFIG", "SET", "notify-keyspace-events", "KAq"]);
    assert!(refused.text().contains("Invalid event class character"), "{refused:?}");
}

#[test]
fn messages_of_a_transaction_come_with_it() {
    let server = target::start(&[]);
    let (mut sender, mut reader) = (server.client(), server.client());
    assert_eq!(reader.call(&["SUBSCRIBE", "done"]), told("subscribe", "done", 1));
    sender.call(&["MULTI"]);
    sender.call(&["SET", "key", "1"]);
    sender.call(&["PUBLISH", "done", "key"]);
    assert!(reader.is_silent());
    assert_eq!(sender.call(&["EXEC"]), Value::Array(vec![Value::ok(), Value::Int(1)]));
    assert_eq!(reader.read(), push(&["message", "done", "key"]));
}

#[test]
fn who_does_not_take_its_messages_is_cut_and_who_says_nothing_is_not() {
    let server = target::start(&["--timeout", "1", "--client-output-buffer-limit", "pubsub 1mb 0 0"]);
    let (mut sender, mut deaf) = (server.client(), server.client());
    assert_eq!(deaf.call(&["SUBSCRIBE", "loud"]), told("subscribe", "loud", 1));
    let message = "x".repeat(100_000);
    eventually("the client that does not read is cut", || {
        (sender.call(&["PUBLISH", "loud", &message]) == Value::Int(0)).then_some(())
    });
    let field = "client_output_buffer_limit_disconnections";
    if target::is_kival() {
        assert_eq!(sender.info("stats", field).as_deref(), Some("1"));
    }
    let taken = deaf.until_closed().len();
    assert!(taken > 0, "it got what the sockets held");
}

/// Both servers, and the same clients of each.
pub(crate) struct Conversation {
    _servers: [Server; 2],
    clients: [Vec<Client>; 2],
    /// Clients that only look whether a server has done what it was told.
    others: [Client; 2],
}

impl Conversation {
    pub(crate) fn new() -> Option<Conversation> {
        let servers =
            [target::start(&["--appendfsync", "everysec"]), Launch::redis(&["--appendonly", "no"])?.start()];
        let clients =
            servers.each_ref().map(|server| vec![server.client(), server.client(), server.client3()]);
        let others = servers.each_ref().map(Server::client);
        Some(Conversation { _servers: servers, clients, others })
    }

    /// Has a client say something to both servers; what all clients then hear from each.
    fn say(&mut self, who: usize, args: &[&str], in_transaction: bool) -> [Vec<Vec<Frame>>; 2] {
        let mut others = self.others.iter_mut();
        self.clients.each_mut().map(|clients| {
            clients[who].send(args);
            // What a server tells at the end of a turn is told when another client is answered.
            others.next().expect("one for each server").call(&["PING"]);
            // Whoever is in a transaction would only queue the PING: it hears the one reply.
            let mut heard = vec![Vec::new(); CLIENTS];
            if in_transaction {
                heard[who].push(clients[who].try_frame().expect("a reply"));
            }
            for (index, client) in clients.iter_mut().enumerate() {
                if in_transaction && index == who {
                    continue;
                }
                client.write(&encode(&["PING"])).expect("the server listens");
                loop {
                    let frame = client.try_frame().expect("a reply");
                    if is_pong(&frame.value) {
                        break;
                    }
                    heard[index].push(frame);
                }
            }
            heard
        })
    }

    #[track_caller]
    pub(crate) fn agrees(&mut self, who: usize, args: &[&str], in_transaction: bool) {
        let [mut left, mut right] = self.say(who, args, in_transaction);
        for heard in [&mut left, &mut right] {
            heard.iter_mut().for_each(|frames| settle(args, frames));
        }
        let raw = |heard: &Vec<Vec<Frame>>| -> Vec<Vec<String>> {
            let text = |frame: &Frame| kival_test_support::printable(&frame.raw);
            heard.iter().map(|frames| frames.iter().map(text).collect()).collect()
        };
        assert_eq!(raw(&left), raw(&right), "client {who} says {args:?}");
    }
}

fn is_pong(value: &Value) -> bool {
    *value == Value::Simple(b"PONG".to_vec()) || *value == Value::Array(vec![bulk("pong"), bulk("")])
}

/// The order in which a client hears by several patterns, leaves all of its channels, or is told which channels
/// there are is that of a hash table.
fn settle(args: &[&str], frames: &mut [Frame]) {
    let leaves_all = args.len() == 1 && args[0].ends_with("UNSUBSCRIBE");
    for frame in frames.iter_mut() {
        if args[0] == "HELLO" {
            // It names a version and an id.
            frame.raw = format!("HELLO is answered: {}", !frame.value.is_error()).into_bytes();
        }
        let parts = match &mut frame.value {
            Value::Push(parts) | Value::Array(parts) => parts,
            _ => continue,
        };
        if args.get(1).is_some_and(|word| word.ends_with("CHANNELS")) && args[0] == "PUBSUB" {
            parts.sort_by_key(Value::text);
            frame.raw = format!("{parts:?}").into_bytes();
        } else if leaves_all && parts.len() == 3 {
            frame.raw = format!("{} of {}", parts[0].text(), parts.len()).into_bytes();
        }
    }
    // kival sets the new name before it takes the old one, Redis the other way round: caches do not mind.
    let renamed = args[0] == "RENAME";
    if renamed || frames.iter().any(|frame| frame.raw.windows(8).any(|part| part == b"pmessage")) {
        frames.sort_by(|one, other| one.raw.cmp(&other.raw));
    }
}

#[test]
fn every_word_is_that_of_redis() {
    let Some(mut conversation) = Conversation::new() else { return };
    let script: &[(usize, &str, bool)] = &[
        (0, "SUBSCRIBE a b a", false),
        (0, "GET x", false),
        (0, "CONFIG GET port", false),
        (0, "NOSUCH", false),
        (0, "SUBSCRIBE", false),
        (0, "PING x", false),
        (1, "PUBLISH a text", false),
        (0, "UNSUBSCRIBE nothing", false),
        (0, "UNSUBSCRIBE b", false),
        (0, "UNSUBSCRIBE", false),
        (0, "UNSUBSCRIBE", false),
        (0, "PUNSUBSCRIBE", false),
        (0, "SUNSUBSCRIBE", false),
        (0, "GET x", false),
        (0, "MULTI", true),
        (0, "SUBSCRIBE a b", true),
        (0, "PING", true),
        (1, "PUBLISH a unheard", false),
        (2, "SUBSCRIBE a", false),
        (2, "PSUBSCRIBE a*", false),
        (2, "PUBLISH a own", false),
        (2, "MULTI", true),
        (2, "PUBLISH a own", true),
        (2, "SUBSCRIBE z z", true),
        (2, "PUBLISH z own", true),
        (2, "UNSUBSCRIBE z", true),
        (2, "GET x", true),
        (1, "PUBSUB NUMSUB a z", false),
        (1, "PUBSUB NUMSUB", false),
        (1, "PUBSUB NUMPAT", false),
        (1, "PUBSUB NUMPAT x", false),
        (1, "PUBSUB CHANNELS", false),
        (1, "PUBSUB CHANNELS ?", false),
        (1, "PUBSUB CHANNELS a b", false),
        (1, "PUBSUB SHARDCHANNELS a b", false),
        (1, "PUBSUB SHARDNUMSUB s", false),
        (1, "PUBSUB NOSUCH", false),
        (1, "PUBSUB", false),
        (1, "PUBLISH a", false),
        (1, "SSUBSCRIBE s", false),
        (1, "SPUBLISH s x", false),
        (2, "SPUBLISH s x", false),
        (2, "PUBLISH s x", false),
        (1, "SUBSCRIBE s", false),
        (2, "PUBSUB SHARDCHANNELS", false),
        (1, "HELLO 3", false),
        (1, "RESET", false),
        (2, "PUBSUB SHARDCHANNELS", false),
        (2, "UNSUBSCRIBE a", false),
        (2, "PUNSUBSCRIBE a*", false),
        (2, "PUBSUB NUMPAT", false),
    ];
    for (who, line, queued) in script {
        let args: Vec<&str> = line.split(' ').collect();
        if *line == "PUBLISH a unheard" || *line == "PUBSUB NUMSUB a z" {
            // Whoever stands in a transaction ends it first.
            let in_it = if *line == "PUBLISH a unheard" { 0 } else { 2 };
            conversation.agrees(in_it, &["EXEC"], true);
        }
        conversation.agrees(*who, &args, *queued);
    }
}

#[test]
fn any_conversation_is_heard_as_redis_lets_it_be_heard() {
    let Some(mut conversation) = Conversation::new() else { return };
    let (mut rng, seed) = seed::generator("messages");
    println!("KIVAL_SEED={seed}");
    for _ in 0..seed::number("KIVAL_MESSAGE_COMMANDS", 3_000) {
        let line = word_of(&mut rng);
        let args: Vec<&str> = line.iter().map(String::as_str).collect();
        let who = rng.usize(..CLIENTS);
        conversation.agrees(who, &args, false);
    }
}

fn word_of(rng: &mut Rng) -> Vec<String> {
    const CHANNELS: [&str; 5] = ["a", "b", "ab", "", "a\r\nb"];
    const PATTERNS: [&str; 6] = ["a*", "*b", "[ab]", "*", "\\a", ""];
    let mut several = |name: &str, from: &[&str], least: usize| {
        let count = rng.usize(least..4);
        let picked = (0..count).map(|_| rng.choice(from).expect("not empty").to_string());
        [vec![name.to_owned()], picked.collect()].concat()
    };
    match several("", &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"], 1)[1].as_str() {
        "0" => several("SUBSCRIBE", &CHANNELS, 1),
        "1" => several("PSUBSCRIBE", &PATTERNS, 1),
        "2" => several("SSUBSCRIBE", &CHANNELS, 1),
        "3" => several("UNSUBSCRIBE", &CHANNELS, 0),
        "4" => several("PUNSUBSCRIBE", &PATTERNS, 0),
        "5" => several("SUNSUBSCRIBE", &CHANNELS, 0),
        "6" => [vec!["PUBSUB".to_owned()], several("NUMSUB", &CHANNELS, 0)].concat(),
        "7" => [vec!["PUBSUB".to_owned()], several("CHANNELS", &PATTERNS, 0)].concat(),
        "8" => vec!["RESET".to_owned()],
        "9" => several("SPUBLISH", &CHANNELS, 0),
        _ => several("PUBLISH", &CHANNELS, 0),
    }
}
