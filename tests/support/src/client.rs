//! A blocking client that shows replies as they came over the wire, for RESP2 and RESP3 alike.
//!
//! It adds nothing of its own: no handshake, no reconnect, no command that the test did not send.

use std::collections::BTreeSet;
use std::io::{self, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::thread;

use crate::frame::Frame;
use crate::value::Value;
use crate::wait::PATIENCE;

/// What may lie in the socket's buffers without the other side reading: a batch below this size is
/// written before the first reply is read.
const SURELY_BUFFERED: usize = 16 * 1024;

/// A connection to a server on this machine.
#[derive(Debug)]
pub struct Client {
    reader: BufReader<TcpStream>,
}

/// The bytes of a command as an array of bulk strings.
pub fn encode<A: AsRef<[u8]>>(args: &[A]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args.iter().map(AsRef::as_ref) {
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
    out
}

impl Client {
    /// A connection to `port`.
    ///
    /// # Errors
    /// Those of `connect`.
    pub fn connect(port: u16) -> io::Result<Client> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        // A server that never answers fails the test instead of hanging it.
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client { reader: BufReader::with_capacity(64 * 1024, stream) })
    }

    /// Sends one command and reads its reply.
    ///
    /// # Panics
    /// If the connection fails.
    pub fn call<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Value {
        self.send(args);
        self.read()
    }

    /// Sends one command.
    ///
    /// # Panics
    /// If the connection fails.
    pub fn send<A: AsRef<[u8]>>(&mut self, args: &[A]) {
        self.write(&encode(args)).expect("the server takes the command");
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    /// Reads one reply.
    ///
    /// # Panics
    /// If the connection fails or what comes is not RESP.
    pub fn read(&mut self) -> Value {
        self.try_frame().expect("the server answers").value
    }

    /// Whether no reply has come that was not read. What is still on its way is not seen: a test asks only
    /// when it knows otherwise that the server has made up its mind.
    ///
    /// # Panics
    /// If the connection fails.
    pub fn is_silent(&mut self) -> bool {
        let stream = self.reader.get_ref();
        stream.set_nonblocking(true).expect("a socket can be told not to wait");
        let seen = stream.peek(&mut [0]);
        stream.set_nonblocking(false).expect("a socket can be told to wait");
        match seen {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.reader.buffer().is_empty(),
            Err(e) => panic!("the connection failed: {e}"),
            Ok(_) => false,
        }
    }

    /// Sends all of `bytes`, which hold `replies` commands, and adds that many replies to `frames`: the two
    /// at the same time, since a server may stop reading while its replies are not taken.
    ///
    /// # Errors
    /// Those of [`Client::try_frame`] and of the socket; `frames` then has what came before.
    pub fn pipeline(&mut self, bytes: &[u8], replies: usize, frames: &mut Vec<Frame>) -> io::Result<()> {
        if bytes.len() <= SURELY_BUFFERED {
            self.write(bytes)?;
            return self.frames(replies, frames);
        }
        let mut writer = self.reader.get_ref().try_clone()?;
        thread::scope(|scope| {
            let sent = scope.spawn(move || writer.write_all(bytes));
            let received = self.frames(replies, frames);
            received.and(sent.join().expect("the writing thread does not panic"))
        })
    }

    /// Sends all commands at once and reads their replies.
    ///
    /// # Panics
    /// If the connection fails.
    pub fn call_all<A: AsRef<[u8]>>(&mut self, commands: &[Vec<A>]) -> Vec<Value> {
        let bytes: Vec<u8> = commands.iter().flat_map(|args| encode(args)).collect();
        let mut frames = Vec::with_capacity(commands.len());
        self.pipeline(&bytes, commands.len(), &mut frames).expect("the server answers the pipeline");
        frames.into_iter().map(|frame| frame.value).collect()
    }

    /// Every key that a whole loop of `SCAN cursor options...` finds.
    ///
    /// # Panics
    /// If the connection fails, or a reply is no page of SCAN.
    pub fn scan(&mut self, options: &[&str]) -> BTreeSet<Vec<u8>> {
        let mut found = BTreeSet::new();
        let mut cursor = "0".to_owned();
        loop {
            let page = self.call(&[&["SCAN", &cursor], options].concat());
            let Some([next, Value::Array(keys)]) = page.items() else { panic!("SCAN answered {page:?}") };
            found.extend(keys.iter().filter_map(Value::bytes).map(<[u8]>::to_vec));
            cursor = next.text();
            if cursor == "0" {
                return found;
            }
        }
    }

    fn frames(&mut self, count: usize, frames: &mut Vec<Frame>) -> io::Result<()> {
        for _ in 0..count {
            frames.push(self.try_frame()?);
        }
        Ok(())
    }

    /// Reads one reply with its bytes.
    ///
    /// # Errors
    /// Those of the socket, `UnexpectedEof` where the server hung up, `InvalidData` for what is not RESP.
    pub fn try_frame(&mut self) -> io::Result<Frame> {
        Frame::read(&mut self.reader)
    }

    /// Everything until the server hangs up. A reset ends it as a clean end does: which of the two a
    /// client sees depends on what the server had not read.
    ///
    /// # Panics
    /// If the server does not hang up.
    pub fn until_closed(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.reader.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => {}
            Err(e) => panic!("the server was to close this connection: {e}"),
        }
        rest
    }

    /// The value of `field` in `INFO section`.
    ///
    /// # Panics
    /// If the connection fails.
    pub fn info(&mut self, section: &str, field: &str) -> Option<String> {
        let text = self.call(&["INFO", section]).text();
        // RESP3 sends INFO as a verbatim string: "txt:" stands before the first line only.
        text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':').map(str::to_owned))
    }
}
