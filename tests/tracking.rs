//! Client-side caching: a client hears of every change of what it may have cached, as redis-server tells it.

use fastrand::Rng;
use kival_test_support::{Client, Server, Value, encode, eventually, seed};

use crate::messages::Conversation;
use crate::target;

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

fn invalid(keys: &[&str]) -> Value {
    Value::Push(vec![Value::bulk("invalidate"), Value::Array(keys.iter().map(Value::bulk).collect())])
}

fn id(client: &mut Client) -> String {
    client.call(&["CLIENT", "ID"]).int().expect("its id").to_string()
}

fn call(client: &mut Client, line: &str) -> Value {
    client.call(&words(line))
}

#[test]
fn every_word_of_tracking_is_that_of_redis() {
    let Some(mut conversation) = Conversation::new() else { return };
    let script: &[(usize, &str)] = &[
        (2, "CLIENT CACHING YES"),
        (2, "CLIENT TRACKINGINFO"),
        (2, "CLIENT TRACKING ON"),
        (2, "CLIENT TRACKINGINFO"),
        (2, "CLIENT GETREDIR"),
        (2, "GET k"),
        (0, "SET k 1"),
        (0, "SET k 2"),
        (2, "GET k"),
        (2, "SET k 3"),
        (2, "MGET a b c a"),
        (0, "MSET a 1 b 2"),
        (2, "GET none"),
        (0, "SELECT 3"),
        (0, "SET none 1"),
        (0, "SELECT 0"),
        (2, "GET a"),
        (0, "EXPIRE a 1000"),
        (2, "GET a"),
        (0, "DEL a"),
        (2, "STRLEN k"),
        (0, "INCR k"),
        (2, "GET k"),
        (0, "GETEX k PERSIST"),
        (0, "SWAPDB 0 1"),
        (0, "FLUSHDB"),
        (2, "GET k"),
        (2, "FLUSHALL"),
        (2, "CLIENT TRACKING ON BCAST"),
        (2, "CLIENT TRACKING ON OPTIN OPTOUT"),
        (2, "CLIENT TRACKING ON OPTIN"),
        (2, "CLIENT TRACKINGINFO"),
        (2, "CLIENT TRACKING ON OPTOUT"),
        (2, "GET k"),
        (0, "SET k unheard"),
        (2, "CLIENT CACHING NO"),
        (2, "CLIENT CACHING MAYBE"),
        (2, "CLIENT CACHING YES"),
        (2, "CLIENT TRACKINGINFO"),
        (2, "GET k"),
        (2, "GET other"),
        (0, "MSET k heard other unheard"),
        (2, "CLIENT CACHING YES"),
        (2, "NOSUCH"),
        (2, "GET k"),
        (0, "SET k unheard"),
        (2, "CLIENT TRACKING OFF"),
        (2, "CLIENT TRACKINGINFO"),
        (2, "CLIENT TRACKING ON OPTOUT NOLOOP"),
        (2, "CLIENT TRACKINGINFO"),
        (2, "CLIENT CACHING NO"),
        (2, "GET k"),
        (2, "GET l"),
        (2, "MSET k 1 l 1"),
        (2, "GET l"),
        (0, "MSET k 1 l 1"),
        (2, "CLIENT TRACKING off"),
        (2, "CLIENT TRACKING ON PREFIX a"),
        (2, "CLIENT TRACKING ON BCAST OPTIN"),
        (2, "CLIENT TRACKING ON BCAST PREFIX a PREFIX ab"),
        (2, "CLIENT TRACKING ON BCAST PREFIX a PREFIX b"),
        (2, "CLIENT TRACKINGINFO"),
        (2, "CLIENT TRACKING ON BCAST PREFIX ab"),
        (2, "CLIENT TRACKING ON BCAST PREFIX c NOLOOP"),
        (2, "CLIENT TRACKING ON"),
        (0, "MSET a1 1 a2 1 b1 1 d1 1"),
        (2, "MSET a1 1 a2 1 b1 1 c1 1"),
        (0, "DEL a2 a1 nothing"),
        (0, "FLUSHALL"),
        (2, "CLIENT TRACKING OFF"),
        (2, "CLIENT TRACKING ON BCAST"),
        (2, "CLIENT TRACKING ON BCAST PREFIX x"),
        (0, "SET anything 1"),
        (2, "SET anything 2"),
        (2, "RESET"),
        (2, "HELLO 3"),
        (0, "SET anything 1"),
        (2, "CLIENT TRACKING MAYBE"),
        (2, "CLIENT TRACKING ON REDIRECT"),
        (2, "CLIENT TRACKING ON REDIRECT x"),
        (2, "CLIENT TRACKING ON REDIRECT 987654"),
        (2, "CLIENT TRACKING ON NOSUCH"),
        (2, "CLIENT TRACKING"),
        (1, "CLIENT TRACKING ON"),
        (1, "GET k"),
        (0, "SET k 1"),
    ];
    for (who, line) in script {
        conversation.agrees(*who, &words(line), false);
    }
}

#[test]
fn transactions_are_told_behind_their_replies() {
    let Some(mut conversation) = Conversation::new() else { return };
    let script: &[(usize, &str, bool)] = &[
        (2, "CLIENT TRACKING ON OPTIN", false),
        (2, "CLIENT CACHING YES", false),
        (2, "MULTI", true),
        (2, "GET a", true),
        (2, "GET b", true),
        (2, "SET b 1", true),
        (2, "GET c", true),
        (2, "EXEC", false),
        (2, "GET d", false),
        (0, "MSET a 1 b 1 c 1 d 1", false),
        (2, "CLIENT TRACKING OFF", false),
        (2, "CLIENT TRACKING ON BCAST", false),
        (0, "MULTI", true),
        (0, "SET z 1", true),
        (0, "SET y 1", true),
        (0, "SET z 2", true),
        (0, "EXEC", false),
    ];
    for (who, line, queued) in script {
        conversation.agrees(*who, &words(line), *queued);
    }
}

#[test]
fn any_mixture_of_reads_and_changes_is_told_as_redis_tells_it() {
    let Some(mut conversation) = Conversation::new() else { return };
    let (mut rng, seed) = seed::generator("tracking");
    println!("KIVAL_SEED={seed}");
    // When the last one ends, kival forgets who has read what; redis-server remembers it.
    conversation.agrees(1, &["CLIENT", "TRACKING", "ON"], false);
    for _ in 0..seed::number("KIVAL_TRACKING_COMMANDS", 2_000) {
        let line = line(&mut rng);
        // Mostly the client of RESP3 tracks; those of RESP2 may, and are told nothing.
        let tracks = line.starts_with("CLIENT") || line == "RESET";
        let who = if tracks { 2 } else { rng.usize(..3) };
        conversation.agrees(who, &words(&line), false);
        if line == "RESET" {
            conversation.agrees(who, &["HELLO", "3"], false);
        }
    }
}

fn line(rng: &mut Rng) -> String {
    const STARTS: [&str; 8] =
        ["", "", " OPTIN", " OPTOUT", " NOLOOP", " BCAST", " BCAST NOLOOP", " BCAST PREFIX a"];
    let key = |rng: &mut Rng| format!("{}{}", rng.choice(["a", "b", "c"]).expect("not empty"), rng.u8(..3));
    let (one, two) = (key(rng), key(rng));
    match rng.u8(..40) {
        0 | 1 => format!("CLIENT TRACKING ON{}", rng.choice(STARTS).expect("not empty")),
        2 => "CLIENT TRACKING OFF".into(),
        3 | 4 => "CLIENT CACHING YES".into(),
        5 => "CLIENT CACHING NO".into(),
        6 => "CLIENT TRACKINGINFO".into(),
        7 => "RESET".into(),
        8 => "FLUSHDB".into(),
        9..=11 => format!("DEL {one} {two}"),
        12..=17 => format!("SET {one} 1"),
        18 => format!("EXPIRE {one} 1000"),
        19 => format!("RENAME {one} {two}"),
        20 => format!("APPEND {one} x"),
        21 => format!("COPY {one} {two} REPLACE"),
        22 => format!("MSETNX {one} 1 {two} 1"),
        23 => format!("SETNX {one} 1"),
        24 => format!("SET {one} 1 PXAT 4000000000000"),
        25 => format!("PERSIST {one}"),
        26 => format!("SETRANGE {one} 0 y"),
        27 => format!("PFADD h{one} {two}"),
        28 => format!("PFCOUNT h{one}"),
        29 => format!("EXISTS {one} {two}"),
        30 => format!("TTL {one}"),
        31 => format!("GETDEL {one}"),
        _ => format!("MGET {one} {two}"),
    }
}

#[test]
fn others_can_be_told_in_place_of_a_client() {
    let server = target::start(&[]);
    let (mut client, mut ear, mut writer) = (server.client(), server.client(), server.client());
    let (ear_id, client_id) = (id(&mut ear), id(&mut client));
    assert_eq!(call(&mut client, &format!("CLIENT TRACKING ON REDIRECT {ear_id}")), Value::ok());
    assert_eq!(call(&mut client, "CLIENT GETREDIR").int().map(|id| id.to_string()), Some(ear_id.clone()));
    call(&mut client, "GET k");
    call(&mut writer, "SET k 1");
    assert!(ear.is_silent(), "it does not listen to messages");
    call(&mut ear, "SUBSCRIBE __redis__:invalidate");
    call(&mut client, "GET k");
    call(&mut writer, "SET k 1");
    let told = |what| Value::Array(vec![Value::bulk("message"), Value::bulk("__redis__:invalidate"), what]);
    assert_eq!(ear.read(), told(Value::Array(vec![Value::bulk("k")])));
    call(&mut writer, "FLUSHALL");
    assert_eq!(ear.read(), told(Value::Nil));
    let listed = call(&mut writer, &format!("CLIENT LIST ID {client_id}")).text();
    assert!(listed.contains(" flags=t ") && listed.contains(&format!(" redir={ear_id} ")), "{listed}");
    // Who is told may itself speak RESP3; and who lost his ear is told so if he does.
    assert!(!call(&mut client, "HELLO 3").is_error());
    drop(ear);
    eventually("the ear has gone", || {
        (call(&mut writer, &format!("CLIENT LIST ID {ear_id}")).text().is_empty()).then_some(())
    });
    call(&mut client, "GET k");
    call(&mut writer, "SET k 1");
    let lost = Value::Push(vec![Value::bulk("tracking-redir-broken"), Value::Int(ear_id.parse().unwrap())]);
    assert_eq!(client.read(), lost);
    let listed = call(&mut writer, &format!("CLIENT LIST ID {client_id}")).text();
    assert!(listed.contains(" flags=tR "), "{listed}");
    assert_eq!(writer.info("clients", "tracking_clients").as_deref(), Some("1"));
}

#[test]
fn what_expires_is_told_and_the_table_is_bounded() {
    let server: Server = target::start(&["--hz", "100", "--tracking-table-max-keys", "100"]);
    let (mut client, mut writer) = (server.client3(), server.client());
    assert_eq!(call(&mut client, "CLIENT TRACKING ON"), Value::ok());
    call(&mut writer, "SET soon 1 PX 30");
    call(&mut client, "GET soon");
    assert_eq!(client.read(), invalid(&["soon"]), "nobody has asked for it again");
    let reads: Vec<Vec<String>> = (0..300).map(|i| vec!["GET".into(), format!("k{i}")]).collect();
    client.write(&reads.iter().flat_map(|args| encode(args)).collect::<Vec<u8>>()).expect("it listens");
    let (mut answers, mut forgotten) = (0, 0);
    while answers < 300 || forgotten < 200 {
        match client.read() {
            Value::Push(_) => forgotten += 1,
            _ => answers += 1,
        }
    }
    assert_eq!(writer.info("stats", "tracking_total_keys").as_deref(), Some("100"));
    assert!(client.is_silent());
}
