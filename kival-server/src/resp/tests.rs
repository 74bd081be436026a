//! The codec as a whole: tables of streams, and streams cut at random.

use bytes::BytesMut;
use proptest::prelude::*;

use super::{Codec, Limits, ProtocolError};

type Commands = Vec<Vec<Vec<u8>>>;

/// Feeds the pieces one after the other; collects the commands, and the error if there is one.
fn decode<'a>(
    codec: &mut Codec,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Commands, Option<ProtocolError>) {
    let mut buf = BytesMut::new();
    let mut commands = Vec::new();
    for piece in pieces {
        buf.extend_from_slice(piece);
        loop {
            match codec.read(&mut buf) {
                Ok(Some(batch)) => {
                    assert!(!batch.is_empty());
                    commands.extend(batch.commands().map(|args| args.iter().map(<[u8]>::to_vec).collect()));
                }
                Ok(None) => break,
                Err(error) => return (commands, Some(error)),
            }
        }
    }
    (commands, None)
}

/// Checks a stream whole and byte by byte, against commands written as words.
#[track_caller]
fn check_with(limits: Limits, stream: &[u8], expected: &[&str], error: Option<ProtocolError>) {
    let expected: Commands = expected
        .iter()
        .map(|command| command.split(' ').map(|word| word.as_bytes().to_vec()).collect())
        .collect();
    let whole = decode(&mut Codec::new(limits), [stream]);
    assert_eq!(whole, (expected.clone(), error), "{} whole", stream.escape_ascii());
    let bytewise = decode(&mut Codec::new(limits), stream.chunks(1));
    assert_eq!(bytewise, (expected, error), "{} byte by byte", stream.escape_ascii());
}

#[track_caller]
fn check(stream: &[u8], expected: &[&str], error: Option<ProtocolError>) {
    check_with(Limits::default(), stream, expected, error);
}

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// A stream with a command, what is given, and another command.
fn between_pings(stream: &[u8]) -> Vec<u8> {
    [PING, stream, PING].concat()
}

#[test]
fn commands_are_read_from_arrays_and_lines() {
    check(b"", &[], None);
    check(PING, &["PING"], None);
    check(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n", &["SET k "], None);
    check(b"*2\r\n$3\r\nGET\r\n$4\r\na\r\nb\r\n", &["GET a\r\nb"], None);
    check(&between_pings(b"SET k v\r\nGET k\n"), &["PING", "SET k v", "GET k", "PING"], None);
    check(b"*1\r\n$4\r\nPIN", &[], None);
}

#[test]
fn what_is_empty_is_skipped() {
    for empty in [&b"\r\n"[..], b"\n", b"  \r\n", b"*0\r\n", b"*-1\r\n", b"*-5\r\n", b"\r\n*0\r\n\n"] {
        check(&between_pings(empty), &["PING", "PING"], None);
    }
}

#[test]
fn line_ends_are_looked_at_as_little_as_in_redis() {
    check(b"*1\rx$4\rxPINGxx", &["PING"], None);
    check(b"PING\r\r\n", &["PING"], None);
    check(b"PING\0\r\nPING\r\n", &[], None);
    check(b"*1\0\r\n", &[], None);
    check(b"*1\r\n$4\0\r\n", &[], None);
}

#[test]
fn protocol_errors_come_after_the_commands_before_them() {
    use ProtocolError::*;
    for (stream, error) in [
        (&b"*x\r\n"[..], InvalidMultibulkLength),
        (b"*\r\n", InvalidMultibulkLength),
        (b"*+1\r\n", InvalidMultibulkLength),
        (b"*01\r\n", InvalidMultibulkLength),
        (b"*2147483648\r\n", InvalidMultibulkLength),
        (b"*99999999999999999999\r\n", InvalidMultibulkLength),
        (b"*1\r\nx4\r\n", ExpectedDollar(b'x')),
        (b"*1\r\n\r\n", ExpectedDollar(b'\r')),
        (b"*1\r\n\xff\r\n", ExpectedDollar(0xff)),
        (b"*1\r\n$\r\n", InvalidBulkLength),
        (b"*1\r\n$-1\r\n", InvalidBulkLength),
        (b"*1\r\n$04\r\n", InvalidBulkLength),
        (b"*1\r\n$00\r\n", InvalidBulkLength),
        (b"*1\r\n$4 \r\n", InvalidBulkLength),
        (b"*1\r\n$536870913\r\n", InvalidBulkLength),
        (b"GET \"\r\n", UnbalancedQuotes),
        (b"GET 'a'b\r\n", UnbalancedQuotes),
        (b"POST / HTTP/1.1\r\n", CrossProtocol),
        (b"*1\r\n$5\r\nhOsT:\r\n", CrossProtocol),
        (b"*1\r\n$6\r\npost\0x\r\n", CrossProtocol),
    ] {
        check(&between_pings(stream), &["PING"], Some(error));
        check(stream, &[], Some(error));
    }
    check(b"POSTS\r\nHost\r\n", &["POSTS", "Host"], None);
    check(b"*2147483647\r\n", &[], None);
    check(b"*1\r\n$536870912\r\n", &[], None);
}

#[test]
fn an_endless_line_is_too_big() {
    use ProtocolError::*;
    let line = |start: &[u8], length| [start, &vec![b'1'; length][..]].concat();
    check(&line(b"", 65536), &[], None);
    check(&line(b"", 65537), &[], Some(TooBigInline));
    check(&line(b"*", 65535), &[], None);
    check(&line(b"*", 65536), &[], Some(TooBigMultibulkCount));
    check(&line(b"*1\r\n$", 65535), &[], None);
    check(&line(b"*1\r\n$", 65536), &[], Some(TooBigBulkCount));
    check(&[b"a\0", &vec![b'\n'; 65535][..]].concat(), &[], Some(TooBigInline));
}

#[test]
fn until_it_authenticates_a_client_is_kept_short() {
    use ProtocolError::*;
    let limits = Limits { authenticated: false, ..Limits::default() };
    check_with(limits, &between_pings(b""), &["PING", "PING"], None);
    check_with(limits, b"*10\r\n", &[], None);
    check_with(limits, b"*11\r\n", &[], Some(UnauthenticatedMultibulkLength));
    check_with(limits, b"*1\r\n$16384\r\n", &[], None);
    check_with(limits, b"*1\r\n$16385\r\n", &[], Some(UnauthenticatedBulkLength));
}

#[test]
fn a_pipelined_authentication_counts_for_what_follows_it() {
    let mut codec = Codec::new(Limits { authenticated: false, ..Limits::default() });
    let mut buf = BytesMut::from("AUTH secret\r\n*2\r\n$4\r\nECHO\r\n$20000\r\n");
    buf.extend_from_slice(&[b'x'; 20002]);
    let batch = codec.read(&mut buf).unwrap().unwrap();
    assert_eq!((batch.len(), batch.command(0).name()), (1, &b"AUTH"[..]));
    codec.limits_mut().authenticated = true;
    let batch = codec.read(&mut buf).unwrap().unwrap();
    assert_eq!(batch.command(0)[1].len(), 20000);
}

#[test]
fn the_limits_of_the_configuration_hold() {
    let limits = Limits { max_bulk: 100, query_buffer: 1000, authenticated: true };
    check_with(limits, b"*1\r\n$100\r\n", &[], None);
    check_with(limits, b"*1\r\n$101\r\n", &[], Some(ProtocolError::InvalidBulkLength));
    let many = [b"*1000\r\n".to_vec(), b"$1\r\nx\r\n".repeat(141)].concat();
    assert_eq!(many.len(), 994);
    check_with(limits, &many, &[], None);
    check_with(limits, &[&many, &b"$1\r\nx\r\n"[..]].concat(), &[], Some(ProtocolError::QueryBufferLimit));
}

#[test]
fn an_error_stays() {
    let mut codec = Codec::default();
    let mut buf = BytesMut::from("PING\r\n*x\r\nPING\r\n");
    assert!(codec.read(&mut buf).unwrap().is_some());
    for _ in 0..2 {
        assert_eq!(codec.read(&mut buf).unwrap_err(), ProtocolError::InvalidMultibulkLength);
        buf.extend_from_slice(PING);
    }
}

#[test]
fn a_large_command_in_small_reads_is_read_once() {
    let mut stream = b"*200000\r\n".to_vec();
    stream.extend(b"$3\r\nabc\r\n".repeat(199_999));
    stream.extend(b"$1000000\r\n");
    stream.resize(stream.len() + 1_000_002, b'x');
    let started = std::time::Instant::now();
    let (commands, error) = decode(&mut Codec::default(), stream.chunks(64));
    assert_eq!((commands[0].len(), error), (200_000, None));
    // 44,000 reads; read from the start each time, they would take minutes.
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
}

/// Streams of what the grammar is made of, right and wrong.
fn streams() -> impl Strategy<Value = Vec<u8>> {
    let argument = proptest::collection::vec(any::<u8>(), 0..40);
    let command = proptest::collection::vec(argument, 0..6).prop_map(|args| {
        let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            bytes.extend(format!("${}\r\n", arg.len()).into_bytes());
            bytes.extend(arg);
            bytes.extend(b"\r\n");
        }
        bytes
    });
    let inline = r#"[a-c \t"'\\xn0-3]{0,12}\r?\n"#.prop_map(String::into_bytes);
    let noise = r"[*$0-9\-\r\n]{0,6}".prop_map(String::into_bytes);
    let part = prop_oneof![6 => command, 2 => inline, 1 => noise];
    proptest::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

fn cut<'a>(stream: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let mut rest = stream;
    let mut pieces = Vec::new();
    for &length in lengths.iter().cycle() {
        let (piece, tail) = rest.split_at(length.min(rest.len()));
        pieces.push(piece);
        rest = tail;
        if rest.is_empty() {
            return pieces;
        }
    }
    pieces
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_cuts_between_reads_do_not_matter(
        stream in streams(),
        lengths in proptest::collection::vec(1usize..30, 1..20),
        authenticated: bool,
    ) {
        let limits = Limits { authenticated, ..Limits::default() };
        let whole = decode(&mut Codec::new(limits), [&stream[..]]);
        let pieces = decode(&mut Codec::new(limits), cut(&stream, &lengths));
        prop_assert_eq!(whole, pieces);
    }

    #[test]
    fn commands_come_out_as_they_went_in(
        commands in proptest::collection::vec(
            proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 1..5), 0..8),
    ) {
        let mut stream = Vec::new();
        for command in &commands {
            stream.extend(format!("*{}\r\n", command.len()).bytes());
            for arg in command {
                stream.extend(format!("${}\r\n", arg.len()).bytes());
                stream.extend_from_slice(arg);
                stream.extend(b"\r\n");
            }
        }
        prop_assert_eq!(decode(&mut Codec::default(), [&stream[..]]), (commands, None));
    }

    #[test]
    fn any_bytes_cost_little_memory_and_no_panic(
        parts in proptest::collection::vec(
            prop_oneof![
                streams(),
                proptest::collection::vec(any::<u8>(), 0..60),
                "[*$][0-9]{1,20}\r\n".prop_map(String::into_bytes),
            ],
            0..6,
        ),
        lengths in proptest::collection::vec(1usize..200, 1..10),
    ) {
        let stream = parts.concat();
        let mut codec = Codec::default();
        let mut buf = BytesMut::new();
        let mut arrived = 0;
        for piece in cut(&stream, &lengths) {
            buf.extend_from_slice(piece);
            arrived += piece.len();
            while let Ok(Some(_)) = codec.read(&mut buf) {}
            let held = buf.capacity() + codec.footprint();
            prop_assert!(held <= 16 * arrived + 40_000, "{held} bytes for {arrived}");
        }
    }
}
