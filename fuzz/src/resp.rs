//! Requests from bytes: what pieces a stream arrives in makes no difference, and limits hold.

use bytes::BytesMut;
use kival_server::resp::{Codec, Limits, ProtocolError};

type Commands = Vec<Vec<Vec<u8>>>;
type Decoded = (Commands, Option<ProtocolError>);

/// Feeds the pieces one after the other; collects the commands, and the error if there is one.
fn decode<'a>(limits: Limits, pieces: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
    let (mut codec, mut buf, mut fed) = (Codec::new(limits), BytesMut::new(), 0);
    let mut commands = Commands::new();
    for piece in pieces {
        buf.extend_from_slice(piece);
        fed += piece.len();
        loop {
            match codec.read(&mut buf) {
                Ok(Some(batch)) => {
                    assert!(!batch.is_empty(), "a batch has a command");
                    assert!(limits.authenticated || batch.len() == 1, "one at a time before AUTH");
                    commands.extend(batch.commands().map(|args| args.iter().map(<[u8]>::to_vec).collect()));
                }
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(codec.read(&mut buf).err(), Some(error), "an error stays");
                    return (commands, Some(error));
                }
            }
        }
        assert!(buf.len() as u64 <= limits.query_buffer, "what waits is bounded");
        // Memory follows what has arrived, never what was announced.
        assert!(codec.footprint() <= 64 * fed + 8192, "{} for {fed} bytes", codec.footprint());
        assert!(buf.capacity() <= 4 * fed + 64 * 1024, "{} for {fed} bytes", buf.capacity());
    }
    (commands, None)
}

/// The stream cut at places that `random` chooses.
fn pieces<'a>(mut stream: &'a [u8], random: &mut fastrand::Rng) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    while !stream.is_empty() {
        let (piece, rest) = stream.split_at(random.usize(1..=stream.len().min(40)));
        pieces.push(piece);
        stream = rest;
    }
    pieces
}

/// The commands as clients send them.
fn encode(commands: &Commands) -> Vec<u8> {
    let mut out = Vec::new();
    for command in commands {
        out.extend_from_slice(format!("*{}\r\n", command.len()).as_bytes());
        for arg in command {
            out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            out.extend_from_slice(arg);
            out.extend_from_slice(b"\r\n");
        }
    }
    out
}

fn limits_hold(commands: &Commands, limits: &Limits) {
    for command in commands {
        assert!(!command.is_empty(), "a command has a name");
        let inline_bound = 64 * 1024;
        let longest = limits.max_bulk.max(inline_bound);
        assert!(command.iter().all(|arg| arg.len() as u64 <= longest), "an argument over its limit");
    }
}

/// A stream of requests. Its first byte chooses limits and pieces.
pub fn resp(data: &[u8]) {
    let Some((&choice, stream)) = data.split_first() else { return };
    let mut limits = Limits { authenticated: choice & 1 == 0, ..Limits::default() };
    if choice & 2 != 0 {
        limits.max_bulk = 16;
    }
    let mut random = fastrand::Rng::with_seed(choice.into());
    let (commands, error) = decode(limits, [stream]);
    limits_hold(&commands, &limits);
    let whole = (commands, error);
    assert_eq!(decode(limits, stream.chunks(1)), whole, "byte by byte");
    assert_eq!(decode(limits, pieces(stream, &mut random)), whole, "in pieces");

    // What was read is what clients mean by its plain form.
    let generous = Limits::default();
    let (commands, _) = whole;
    assert_eq!(decode(generous, [&encode(&commands)[..]]), (commands, None));

    // A small buffer gives the same commands, or fewer and the reason.
    let tight = Limits { query_buffer: 32, ..limits };
    let (fewer, reason) = decode(tight, pieces(stream, &mut random));
    let (all, error) = decode(limits, [stream]);
    assert!(all.starts_with(&fewer), "a limit makes no commands");
    assert!(fewer.len() == all.len() || reason == Some(ProtocolError::QueryBufferLimit));
    assert!(reason == error || reason == Some(ProtocolError::QueryBufferLimit));
}
