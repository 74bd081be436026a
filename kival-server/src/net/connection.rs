//! One connection: bytes in, batches out; replies in, bytes out.

use super::shared::Shared;
use crate::engine_task::mailbox::{MailboxReader, Outgoing, mailbox};
use crate::engine_task::{ClientKey, Event, Request, Said};
use crate::resp::{Codec, Output, ProtocolError};
use bytes::{Buf, BytesMut};
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::mpsc::{Sender, UnboundedSender};
use tokio::sync::oneshot;

/// Batches that a connection may have in flight; beyond that its socket is not read.
const MOST_IN_FLIGHT: u32 = 8;
/// A connection is not read while this much of its output waits, in bytes.
const MOST_UNSENT: usize = 1 << 20;

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

struct Connection {
    client: ClientKey,
    lines: Lines,
    mailbox: MailboxReader,
    codec: Codec,
    input: BytesMut,
    /// Room for the next read, in bytes.
    room: usize,
    output: Output,
    in_flight: u32,
    authenticated: bool,
    /// The client has sent its last.
    read_ended: bool,
    /// What it has sent is not looked at any more: it broke the protocol, or is to go.
    deaf: bool,
    /// It ends when what it has to write is written.
    closing: bool,
    /// The engine task has said its last.
    mailbox_closed: bool,
}

/// Serves a connection until it ends.
pub async fn serve(stream: TcpStream, lines: Lines) {
    if let Some(mut connection) = begin(&stream, lines).await {
        // A broken socket is a client's good-bye.
        let _ = connection.run(stream).await;
        connection.say(Said::Gone).await;
    }
}

async fn begin(stream: &TcpStream, lines: Lines) -> Option<Connection> {
    let (addr, laddr) = (stream.peer_addr().ok()?, stream.local_addr().ok()?);
    let (sender, mailbox) = mailbox();
    let (name, named) = oneshot::channel();
    lines.events.send(Event::Connected { addr, laddr, mailbox: sender, name }).ok()?;
    let (client, authenticated) = named.await.ok()?;
    let codec = Codec::new(lines.shared.limits(authenticated));
    Some(Connection {
        client,
        lines,
        mailbox,
        codec,
        input: BytesMut::new(),
        room: LEAST_ROOM,
        output: Output::new(),
        in_flight: 0,
        authenticated,
        read_ended: false,
        deaf: false,
        closing: false,
        mailbox_closed: false,
    })
}

impl Connection {
    async fn run(&mut self, mut stream: TcpStream) -> io::Result<()> {
        let (mut reader, mut writer) = stream.split();
        loop {
            let nothing_to_write = self.output.is_empty();
            if nothing_to_write && (self.closing || (self.read_ended && self.in_flight == 0)) {
                return writer.shutdown().await;
            }
            let may_read = !self.read_ended
                && !self.deaf
                && self.in_flight < self.most_in_flight()
                && self.output.len() < MOST_UNSENT;
            tokio::select! {
                biased;
                message = self.mailbox.receiver.recv(), if !self.mailbox_closed => match message {
                    Some(message) => if !self.receive(message).await { return Ok(()) },
                    // The engine task has ended; what it had said is still to be written.
                    None => (self.mailbox_closed, self.closing, self.deaf) = (true, true, true),
                },
                written = write_some(&mut writer, &mut self.output), if !nothing_to_write => {
                    self.mailbox.written(written?);
                }
                read = read_some(&mut reader, &mut self.input, &mut self.room), if may_read => {
                    if read? == 0 {
                        self.read_ended = true;
                        // What it waits for, if only for time, it will never hear.
                        self.say(Said::Ended).await;
                    } else {
                        self.decode().await;
                    }
                }
            }
        }
    }

    /// Takes what the engine task says, all that is there; `false` if the connection is to end at once.
    async fn receive(&mut self, message: Outgoing) -> bool {
        let mut next = Some(message);
        let mut done = 0;
        while let Some(message) = next {
            match message {
                Outgoing::Replies { output, batches, authenticated } => {
                    self.output.append(output);
                    done += batches;
                    self.authenticated = authenticated;
                }
                Outgoing::Close => (self.closing, self.deaf) = (true, true),
                Outgoing::Kill => return false,
            }
            next = self.mailbox.receiver.try_recv().ok();
        }
        self.in_flight -= done.min(self.in_flight);
        // What came behind a full pipeline, or behind AUTH, can be decoded now.
        if done > 0 && !self.input.is_empty() && !self.deaf {
            self.decode().await;
        }
        true
    }

    /// Decodes what was read, and hands the commands over. Until the client is authenticated its commands
    /// go one at a time, since each may change what the next is allowed.
    async fn decode(&mut self) {
        *self.codec.limits_mut() = self.lines.shared.limits(self.authenticated);
        while !self.input.is_empty() && self.in_flight < self.most_in_flight() {
            match self.codec.read(&mut self.input) {
                Ok(Some(batch)) => {
                    self.in_flight += 1;
                    self.say(Said::Batch(batch)).await;
                }
                Ok(None) => break,
                Err(error) => return self.break_off(error).await,
            }
        }
        if self.input.is_empty() {
            // An idle connection holds no buffer.
            self.input = BytesMut::new();
        }
    }

    /// Batches that may be in flight. Before authentication it is one: each may change what the next is
    /// allowed, and nobody unknown may have much waiting.
    fn most_in_flight(&self) -> u32 {
        if self.authenticated { MOST_IN_FLIGHT } else { 1 }
    }

    /// Has the error sent behind the replies so far; the engine task then closes the connection.
    async fn break_off(&mut self, error: ProtocolError) {
        self.deaf = true;
        tracing::info!(client = self.client.id, %error, "closing a client");
        self.say(Said::Broke(error.reply())).await;
        // The end of its input does not end it before that answer.
        self.in_flight += 1;
    }

    async fn say(&mut self, said: Said) {
        let request = Request { client: self.client, said };
        if self.lines.requests.send(request).await.is_err() {
            // The engine task has ended.
            (self.closing, self.deaf) = (true, true);
        }
    }
}

/// Least and most room for a read, in bytes. Small requests in small buffers stay in the processor's
/// caches; a pipeline wants few reads.
const LEAST_ROOM: usize = 1 << 10;
const MOST_ROOM: usize = 64 << 10;

/// Reads once, and fits the room for the next read to what came.
async fn read_some(reader: &mut ReadHalf<'_>, input: &mut BytesMut, room: &mut usize) -> io::Result<usize> {
    input.reserve(*room);
    let read = reader.read_buf(input).await?;
    if read >= *room {
        *room = (*room * 4).min(MOST_ROOM);
    } else if read < *room / 8 {
        *room = (*room / 2).max(LEAST_ROOM);
    }
    Ok(read)
}

/// Writes once; what is in one piece with the plainer call.
async fn write_some(writer: &mut WriteHalf<'_>, output: &mut Output) -> io::Result<usize> {
    let before = output.remaining();
    if output.chunk().len() == before {
        let written = writer.write(output.chunk()).await?;
        output.advance(written);
    } else {
        writer.write_buf(output).await?;
    }
    Ok(before - output.remaining())
}
