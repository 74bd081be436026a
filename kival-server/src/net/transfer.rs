//! Keys on their way to another server, redis-server or kival: RESTORE over a connection of their own. For a
//! thread that may wait; which keys go and what becomes of them here is decided in `engine_task/migrate.rs`.
//!
//! It talks through a plain socket and not through a client library: whatever the target says is handed on to
//! the byte, and what went wrong has to be told as Redis tells it.

use crate::rdb;
use crate::resp::ErrorReply;
use bytes::Bytes;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// Keys that are sent before their replies are read, and bytes from which on no more are: a target that waits
/// for its replies to be taken must not wait for ever.
const WINDOW_KEYS: usize = 1000;
const WINDOW_BYTES: usize = 1 << 20;
/// The longest line of a target's reply, in bytes.
const LONGEST_REPLY: u64 = 1024;

/// Another server, and how it is to be talked to.
#[derive(Debug)]
pub struct Target {
    /// Its name or address, as the client gave it.
    pub host: Bytes,
    /// Its port.
    pub port: u16,
    /// The database that takes the keys.
    pub db: i64,
    /// What AUTH is given: nothing, a password, or a user and a password.
    pub credentials: Vec<Bytes>,
    /// The longest silence.
    pub timeout: Duration,
    /// Keys that are there already are replaced.
    pub replace: bool,
}

/// A key that is to be sent.
#[derive(Debug)]
pub struct Parcel {
    /// The key.
    pub key: Bytes,
    /// Its value.
    pub value: Bytes,
    /// Milliseconds that it had left when it was read; 0 if it does not expire.
    pub lifetime: u64,
}

/// Why not all keys have arrived, in the words of Redis.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The target was not found, or did not answer.
    #[error("IOERR error or timeout connecting to the client")]
    Connect,
    /// It does not listen, or did not take everything.
    #[error("IOERR error or timeout writing to target instance")]
    Write,
    /// It hung up, was silent for too long, or does not speak the protocol: which keys it has is not known.
    #[error("IOERR error or timeout reading to target instance")]
    Read,
    /// It refused a command, with this error.
    #[error("ERR Target instance replied with error: {}", .0.escape_ascii())]
    Refused(Vec<u8>),
}

impl Failure {
    /// What the client is told; the target's words as they came.
    pub fn reply(&self) -> ErrorReply {
        match self {
            Failure::Refused(error) => {
                [b"ERR Target instance replied with error: ", &**error].concat().into()
            }
            other => other.to_string().into(),
        }
    }
}

/// What has come of sending keys.
#[derive(Debug, Default)]
pub struct Sent {
    /// Indices of those that the target has accepted.
    pub accepted: Vec<usize>,
    /// Why it has not accepted all. An error of the target's counts before one of the connection.
    pub failure: Option<Failure>,
}

/// Sends keys that were read at `read`.
pub fn send(target: &Target, parcels: &[Parcel], read: Instant) -> Sent {
    let mut sent = Sent::default();
    if let Err(failure) = send_all(target, parcels, read, &mut sent) {
        sent.failure.get_or_insert(failure);
    }
    sent
}

fn send_all(target: &Target, parcels: &[Parcel], read: Instant, sent: &mut Sent) -> Result<(), Failure> {
    let mut connection = BufReader::new(connect(target)?);
    // Nothing is sent behind a refusal: keys would go into a database that nobody meant.
    if !target.credentials.is_empty() {
        let words = std::iter::once(&b"AUTH"[..]).chain(target.credentials.iter().map(Bytes::as_ref));
        call(&mut connection, &words.collect::<Vec<_>>())?;
    }
    call(&mut connection, &[b"SELECT", target.db.to_string().as_bytes()])?;
    let mut next = 0;
    let mut requests = Vec::new();
    while next < parcels.len() {
        let first = next;
        requests.clear();
        while next < parcels.len() && next - first < WINDOW_KEYS && requests.len() < WINDOW_BYTES {
            put_restore(&mut requests, &parcels[next], target.replace, read.elapsed());
            next += 1;
        }
        write(&mut connection, &requests)?;
        for index in first..next {
            match accept(&mut connection) {
                Ok(()) => sent.accepted.push(index),
                Err(refused @ Failure::Refused(_)) => {
                    sent.failure.get_or_insert(refused);
                }
                Err(failure) => return Err(failure),
            }
        }
    }
    Ok(())
}

/// Connects to the first address that takes a connection.
fn connect(target: &Target) -> Result<TcpStream, Failure> {
    let host = str::from_utf8(&target.host).map_err(|_| Failure::Connect)?;
    let mut failure = Failure::Connect;
    for address in (host, target.port).to_socket_addrs().map_err(|_| Failure::Connect)? {
        match TcpStream::connect_timeout(&address, target.timeout).and_then(|stream| prepared(stream, target))
        {
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == ErrorKind::TimedOut => failure = Failure::Connect,
            // Redis finds out when it writes.
            Err(_) => failure = Failure::Write,
        }
    }
    Err(failure)
}

fn prepared(stream: TcpStream, target: &Target) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(target.timeout))?;
    stream.set_write_timeout(Some(target.timeout))?;
    Ok(stream)
}

fn call(connection: &mut BufReader<TcpStream>, words: &[&[u8]]) -> Result<(), Failure> {
    let mut request = Vec::new();
    put_request(&mut request, words);
    write(connection, &request)?;
    accept(connection)
}

fn write(connection: &mut BufReader<TcpStream>, requests: &[u8]) -> Result<(), Failure> {
    connection.get_mut().write_all(requests).map_err(|_| Failure::Write)
}

/// Reads a reply. Redis takes whatever is no error for consent; here it has to be one, since keys are deleted
/// on the strength of it.
fn accept(connection: &mut BufReader<TcpStream>) -> Result<(), Failure> {
    let mut line = Vec::new();
    connection.take(LONGEST_REPLY).read_until(b'\n', &mut line).map_err(|_| Failure::Read)?;
    match line.strip_suffix(b"\r\n") {
        Some(b"+OK") => Ok(()),
        Some([b'-', error @ ..]) => Err(Failure::Refused(error.to_vec())),
        _ => Err(Failure::Read),
    }
}

fn put_restore(requests: &mut Vec<u8>, parcel: &Parcel, replace: bool, since: Duration) {
    let late = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    // 0 would be for ever.
    let left = if parcel.lifetime == 0 { 0 } else { parcel.lifetime.saturating_sub(late).max(1) };
    let left = left.to_string();
    let payload = rdb::dump(&parcel.value);
    let words = [b"RESTORE", &*parcel.key, left.as_bytes(), &payload, b"REPLACE"];
    put_request(requests, if replace { &words } else { &words[..4] });
}

/// Appends a request to others.
fn put_request(requests: &mut Vec<u8>, words: &[&[u8]]) {
    requests.extend(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        requests.extend(format!("${}\r\n", word.len()).as_bytes());
        requests.extend(*word);
        requests.extend(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn parcel(key: &'static str, lifetime: u64) -> Parcel {
        Parcel { key: key.into(), value: "12".into(), lifetime }
    }

    fn target(port: u16, replace: bool, credentials: &[&'static str]) -> Target {
        let credentials = credentials.iter().map(|word| Bytes::from(*word)).collect();
        let timeout = Duration::from_secs(60);
        Target { host: "127.0.0.1".into(), port, db: 7, credentials, timeout, replace }
    }

    /// Sends the keys `a` and `b` to a target that answers so and hangs up; gives what came of it.
    #[track_caller]
    fn check(answers: &'static str, accepted: &[usize], failure: Option<Failure>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = target(listener.local_addr().unwrap().port(), false, &[]);
        let peer = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(answers.as_bytes()).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            // Hanging up before everything is read would reset the connection, and lose the answers.
            let mut asked = Vec::new();
            stream.read_to_end(&mut asked).unwrap();
        });
        let sent = send(&target, &[parcel("a", 0), parcel("b", 0)], Instant::now());
        peer.join().unwrap();
        assert_eq!((&sent.accepted[..], sent.failure), (accepted, failure), "{answers:?}");
    }

    fn refused(error: &str) -> Option<Failure> {
        Some(Failure::Refused(error.as_bytes().to_vec()))
    }

    #[test]
    fn a_key_has_arrived_when_the_target_says_ok() {
        check("+OK\r\n+OK\r\n+OK\r\n", &[0, 1], None);
        check("+OK\r\n-BUSYKEY there\r\n+OK\r\n", &[1], refused("BUSYKEY there"));
        check("+OK\r\n-FIRST\r\n-SECOND\r\n", &[], refused("FIRST"));
        check("+OK\r\n+OK\r\n", &[0], Some(Failure::Read));
        check("+OK\r\n-NO\r\n", &[], refused("NO"));
        check("-ERR DB index is out of range\r\n", &[], refused("ERR DB index is out of range"));
        for nonsense in ["", "+OK", "OK\r\n", ":1\r\n", "+QUEUED\r\n", "HTTP/1.1 400 Bad Request\r\n"] {
            check(nonsense, &[], Some(Failure::Read));
        }
    }

    #[test]
    fn the_words_of_a_target_are_handed_on_as_they_came() {
        let told = |failure: &Failure| failure.reply().text().to_vec();
        let refused = Failure::Refused(b"ERR \xff \"quoted\"".to_vec());
        assert_eq!(told(&refused), b"ERR Target instance replied with error: ERR \xff \"quoted\"");
        assert_eq!(told(&Failure::Read), b"IOERR error or timeout reading to target instance");
    }

    #[test]
    fn no_more_is_sent_than_its_replies_have_room_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = target(listener.local_addr().unwrap().port(), false, &["pw"]);
        let mut restore = Vec::new();
        put_restore(&mut restore, &parcel("a", 0), false, Duration::ZERO);
        let peer = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut take = |request: &[u8], times: usize| {
                let mut bytes = vec![0; request.len() * times];
                stream.read_exact(&mut bytes).unwrap();
                assert!(bytes == request.repeat(times), "{}", bytes.escape_ascii());
                stream.set_nonblocking(true).unwrap();
                assert!(stream.peek(&mut [0]).is_err(), "more than {times} requests came");
                stream.set_nonblocking(false).unwrap();
                stream.write_all("+OK\r\n".repeat(times).as_bytes()).unwrap();
            };
            take(b"*2\r\n$4\r\nAUTH\r\n$2\r\npw\r\n", 1);
            take(b"*2\r\n$6\r\nSELECT\r\n$1\r\n7\r\n", 1);
            take(&restore, WINDOW_KEYS);
            take(&restore, 1);
        });
        let parcels: Vec<Parcel> = (0..=WINDOW_KEYS).map(|_| parcel("a", 0)).collect();
        let sent = send(&target, &parcels, Instant::now());
        peer.join().unwrap();
        assert_eq!((sent.accepted.len(), sent.failure), (WINDOW_KEYS + 1, None));
    }

    #[test]
    fn a_request_says_how_long_a_key_has_left() {
        let restore = |lifetime, replace, since| {
            let mut request = Vec::new();
            put_restore(&mut request, &parcel("a", lifetime), replace, Duration::from_millis(since));
            request.escape_ascii().to_string().replace("\\r\\n", " ")
        };
        let head = |words, left: &str| format!("*{words} $7 RESTORE $1 a ${} {left} ", left.len());
        assert!(restore(0, false, 99).starts_with(&head(4, "0")));
        assert!(restore(1000, false, 300).starts_with(&head(4, "700")));
        assert!(restore(1000, false, 5000).starts_with(&head(4, "1")));
        assert!(restore(0, true, 0).ends_with(" $7 REPLACE "));
    }
}
