//! One connection: bytes in, batches out; replies in, bytes out.

use super::outbox::{OutboxKeeper, Standing, outbox};
use super::shared::Shared;
use crate::engine_task::{ClientKey, Event, Request, Said};
use crate::resp::{Codec, ProtocolError};
use bytes::{BufMut, BytesMut};
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Sender, UnboundedSender};
use tokio::sync::oneshot;
use tokio_util::io::poll_read_buf;

/// Batches that a connection may have in flight; beyond that its socket is not read.
const MOST_IN_FLIGHT: u32 = 8;
/// A connection is not read while this much of its output waits, in bytes.
const MOST_UNSENT: usize = 1 << 20;

/// Least and most room for a read, in bytes. Where no part of a command has come yet, the least is that of a buffer
/// which all connections of a thread use in turn: it stays in the processor's caches, and what came is copied out in
/// just its size.
const LEAST_ROOM: usize = 16 << 10;
// A value of 64 KiB and what stands around it fit one read.
const MOST_ROOM: usize = 65 << 10;

/// Most bytes that one read brings, and that are taken of an unfinished command before the others of this thread
/// have their turn.
const MOST_READ: usize = 128 << 10;

/// The ways to the engine task.
#[derive(Clone)]
pub struct Lines {
    /// Requests, bounded: a full channel holds the connections back.
    pub requests: Sender<Request>,
    /// Everything else.
    pub events: UnboundedSender<Event>,
    /// Limits.
    pub shared: Arc<Shared>,
}

thread_local! {
    static SMALL_READS: RefCell<Box<[u8]>> = RefCell::new(vec![0; LEAST_ROOM].into());
}

struct Connection {
    client: ClientKey,
    lines: Lines,
    reader: OwnedReadHalf,
    outbox: OutboxKeeper,
    codec: Codec,
    input: BytesMut,
    /// Room for the next read, in bytes.
    room: usize,
    /// Bytes of an unfinished command that were read in one go.
    in_one_go: usize,
    /// Requests were left undecoded: too many are in flight.
    behind: bool,
    /// The client has sent its last.
    read_ended: bool,
    /// What it has sent is not looked at any more: it broke the protocol, or is to go.
    deaf: bool,
}

/// What a connection can do next.
enum Next {
    /// Take in so many bytes that came; none at the end of the stream.
    Read(usize, Standing),
    /// Decode what came before.
    Decode(Standing),
    /// End.
    End,
}

/// Serves a connection until it ends.
pub async fn serve(stream: TcpStream, lines: Lines) {
    if let Some(mut connection) = begin(stream, lines).await {
        // A broken socket is a client's good-bye.
        let _ = connection.run().await;
        connection.outbox.end();
        connection.say(Said::Gone).await;
    }
}

async fn begin(stream: TcpStream, lines: Lines) -> Option<Connection> {
    let (addr, laddr) = (stream.peer_addr().ok()?, stream.local_addr().ok()?);
    let fd = stream.as_raw_fd();
    let (reader, writer) = stream.into_split();
    let (sender, outbox) = outbox(Some(writer));
    let (name, named) = oneshot::channel();
    lines.events.send(Event::Connected { fd, addr, laddr, outbox: sender, name }).ok()?;
    let (client, authenticated) = named.await.ok()?;
    outbox.set_authenticated(authenticated);
    let codec = Codec::new(lines.shared.limits(authenticated));
    Some(Connection {
        client,
        lines,
        reader,
        outbox,
        codec,
        input: BytesMut::new(),
        room: LEAST_ROOM,
        in_one_go: 0,
        behind: false,
        read_ended: false,
        deaf: false,
    })
}

impl Connection {
    async fn run(&mut self) -> io::Result<()> {
        loop {
            match poll_fn(|cx| self.poll_next(cx)).await? {
                Next::Read(0, _) => {
                    self.read_ended = true;
                    // What it waits for, if only for time, it will never hear.
                    self.say(Said::Ended).await;
                }
                Next::Read(read, standing) => {
                    self.in_one_go += read;
                    self.decode(standing).await;
                    if self.in_one_go >= MOST_READ {
                        self.in_one_go = 0;
                        tokio::task::yield_now().await;
                    }
                }
                Next::Decode(standing) => self.decode(standing).await,
                Next::End => return Ok(()),
            }
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Next>> {
        self.outbox.register(cx);
        let standing = self.outbox.flush(cx, |standing| !self.may_read(standing))?;
        let all_sent = standing.unsent == 0;
        let all_said = standing.closing || (self.read_ended && standing.in_flight == 0);
        if standing.killed || (all_sent && all_said) {
            return Poll::Ready(Ok(Next::End));
        }
        if self.behind && !self.is_deaf(&standing) && standing.in_flight < most_in_flight(&standing) {
            return Poll::Ready(Ok(Next::Decode(standing)));
        }
        if !self.may_read(&standing) {
            return Poll::Pending;
        }
        let read = ready!(self.poll_read(cx))?;
        Poll::Ready(Ok(Next::Read(read, standing)))
    }

    fn may_read(&self, standing: &Standing) -> bool {
        !self.read_ended
            && !self.behind
            && !self.is_deaf(standing)
            && standing.in_flight < most_in_flight(standing)
            && standing.unsent < MOST_UNSENT
    }

    fn is_deaf(&self, standing: &Standing) -> bool {
        self.deaf || standing.closing
    }

    /// Reads once, and fits the room for the next read to what came.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let read = if self.input.is_empty() && self.room == LEAST_ROOM {
            ready!(self.poll_read_small(cx))?
        } else {
            self.input.reserve(self.room);
            let mut input = (&mut self.input).limit(MOST_READ);
            ready!(poll_read_buf(Pin::new(&mut self.reader), cx, &mut input))?
        };
        if read >= self.room {
            self.room = (self.room * 4).min(MOST_ROOM);
        } else if read < self.room / 8 {
            self.room = (self.room / 2).max(LEAST_ROOM);
        }
        Poll::Ready(Ok(read))
    }

    /// Reads into the buffer of all, and takes what came.
    fn poll_read_small(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        SMALL_READS.with_borrow_mut(|buffer| {
            let mut read = ReadBuf::new(buffer);
            ready!(Pin::new(&mut self.reader).poll_read(cx, &mut read))?;
            self.input = BytesMut::from(read.filled());
            Poll::Ready(Ok(self.input.len()))
        })
    }

    /// Decodes what was read, and hands the commands over. Until the client is authenticated its commands
    /// go one at a time, since each may change what the next is allowed.
    async fn decode(&mut self, mut standing: Standing) {
        *self.codec.limits_mut() = self.lines.shared.limits(standing.authenticated);
        self.behind = false;
        while !self.input.is_empty() {
            if standing.in_flight >= most_in_flight(&standing) {
                self.behind = true;
                return;
            }
            match self.codec.read(&mut self.input) {
                Ok(Some(batch)) => {
                    self.in_one_go = 0;
                    standing = self.outbox.sent_batch();
                    self.say(Said::Batch(batch)).await;
                }
                Ok(None) => {
                    self.make_room().await;
                    break;
                }
                Err(error) => return self.break_off(error).await,
            }
        }
        if self.input.is_empty() {
            // An idle connection holds no buffer.
            self.input = BytesMut::new();
        }
    }

    /// Makes the room that a large argument lacks. The system gives fresh memory page by page, where it is first
    /// written, and some take their time for it: a thread does that which may wait, and not a read of the socket.
    async fn make_room(&mut self) {
        let lacks = self.codec.take_lack();
        if lacks == 0 {
            return;
        }
        let input = std::mem::take(&mut self.input);
        match tokio::task::spawn_blocking(move || with_room(input, lacks)).await {
            Ok(input) => self.input = input,
            // Without memory, or at the server's end, there is nothing left to hear.
            Err(_) => self.deaf = true,
        }
    }

    /// Has the error sent behind the replies so far; the engine task then closes the connection.
    async fn break_off(&mut self, error: ProtocolError) {
        self.deaf = true;
        if matches!(error, ProtocolError::CrossProtocol) {
            tracing::warn!(
                client = self.client.id,
                "possible SECURITY ATTACK: somebody sends POST or Host: as a \
                command, likely a browser that a page makes do it (cross protocol scripting); closing the connection"
            );
        } else {
            tracing::info!(client = self.client.id, %error, "closing a client");
        }
        self.say(Said::Broke(error.reply())).await;
        // The end of its input does not end it before that answer.
        self.outbox.sent_batch();
    }

    async fn say(&mut self, said: Said) {
        let request = Request { client: self.client, said };
        let told = match self.lines.requests.try_send(request) {
            Err(TrySendError::Full(request)) => self.lines.requests.send(request).await.is_ok(),
            told => told.is_ok(),
        };
        // Else the engine task has ended, and closes its connections.
        self.deaf |= !told;
    }
}

/// The same bytes with so much room behind them, which was written to.
fn with_room(mut input: BytesMut, room: usize) -> BytesMut {
    let len = input.len();
    input.resize(len + room, 0);
    input.truncate(len);
    input
}

/// Batches that may be in flight. Before authentication it is one: each may change what the next is
/// allowed, and nobody unknown may have much waiting.
fn most_in_flight(standing: &Standing) -> u32 {
    if standing.authenticated { MOST_IN_FLIGHT } else { 1 }
}
