//! The way out: replies from the engine task to a client's socket.
//!
//! What the socket takes goes out at once, from the engine task's own turn: without a pipeline that saves
//! waking the connection for every reply. The rest waits here for the connection, which is woken when there
//! is something for it to do.

use crate::resp::Output;
use atomic_waker::AtomicWaker;
use bytes::Buf;
use rustix::net::SendFlags;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::io::Interest;
use tokio::net::tcp::OwnedWriteHalf;

/// Replies up to this size, in bytes, are tried from the engine's turn; copying more into the socket would
/// hold up the turns of others.
const SENT_AT_ONCE: usize = 64 << 10;
/// Pieces of one vectored write.
const PIECES: usize = 64;

/// How a connection stands.
#[derive(Debug)]
struct State {
    /// The socket, until the connection ends.
    writer: Option<OwnedWriteHalf>,
    /// What the socket has not taken yet.
    output: Output,
    /// Batches that the engine task has not answered yet.
    in_flight: u32,
    authenticated: bool,
    /// Nothing more is to come.
    closing: bool,
    /// What waits is not to be sent.
    killed: bool,
    /// The connection waits for replies to leave, or for batches to be answered.
    stalled: bool,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    connection: AtomicWaker,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is valid at every instruction: a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The engine task's end.
#[derive(Debug)]
pub struct Outbox(Arc<Shared>);

/// The connection's end.
#[derive(Debug)]
pub struct OutboxKeeper(Arc<Shared>);

/// What the connection may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Batches that the engine task has not answered yet.
    pub in_flight: u32,
    /// Whether the client is authenticated.
    pub authenticated: bool,
    /// Bytes that the socket has not taken yet.
    pub unsent: usize,
    /// It is to end when everything is sent.
    pub closing: bool,
    /// It is to end at once.
    pub killed: bool,
}

/// Makes both ends; without a socket everything waits.
pub fn outbox(writer: Option<OwnedWriteHalf>) -> (Outbox, OutboxKeeper) {
    let state = State {
        writer,
        output: Output::new(),
        in_flight: 0,
        authenticated: false,
        closing: false,
        killed: false,
        stalled: false,
    };
    let shared = Arc::new(Shared { state: Mutex::new(state), connection: AtomicWaker::new() });
    (Outbox(shared.clone()), OutboxKeeper(shared))
}

impl Outbox {
    /// Sends replies, which complete `batches`, and gives the bytes that the client has not taken yet. What is
    /// sent or kept is taken out of `output`; a connection that has gone is told nothing.
    pub fn send(&self, output: &mut Output, batches: u32, authenticated: bool) -> usize {
        let mut state = self.0.lock();
        if state.killed {
            return 0;
        }
        state.authenticated = authenticated;
        state.in_flight -= batches.min(state.in_flight);
        let mut wake = std::mem::take(&mut state.stalled);
        if !output.is_empty() {
            if state.output.is_empty() && output.len() <= SENT_AT_ONCE {
                // A socket that is broken is found so by the connection, which reads it too.
                let _ = state.write(output);
            }
            if !output.is_empty() {
                wake |= state.output.is_empty();
                state.output.append(std::mem::take(output));
            }
        }
        let unsent = state.output.len();
        drop(state);
        if wake {
            self.0.connection.wake();
        }
        unsent
    }

    /// Ends the connection when everything is sent.
    pub fn close(&self) {
        self.0.lock().closing = true;
        self.0.connection.wake();
    }

    /// Ends the connection at once.
    pub fn kill(&self) {
        let mut state = self.0.lock();
        state.killed = true;
        state.output.clear();
        drop(state);
        self.0.connection.wake();
    }

    /// Bytes that the client has not taken yet.
    pub fn unsent(&self) -> usize {
        self.0.lock().output.len()
    }
}

impl Drop for Outbox {
    /// The engine task has said its last; it is still to be sent.
    fn drop(&mut self) {
        self.close();
    }
}

impl OutboxKeeper {
    /// Says who the client is taken for, before the first reply.
    pub fn set_authenticated(&self, authenticated: bool) {
        self.0.lock().authenticated = authenticated;
    }

    /// A batch has been handed over; gives how the connection stands then.
    pub fn sent_batch(&self) -> Standing {
        let mut state = self.0.lock();
        state.in_flight += 1;
        state.standing()
    }

    /// Has the task woken when it is to end, and when there is output that the socket has not taken.
    pub fn register(&self, cx: &Context<'_>) {
        self.0.connection.register(cx.waker());
    }

    /// Writes what waits, as far as the socket takes it now, and gives how the connection stands. If `stalls` is true
    /// of that, the task is woken when it has changed.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn flush(
        &self,
        cx: &mut Context<'_>,
        stalls: impl FnOnce(&Standing) -> bool,
    ) -> io::Result<Standing> {
        let mut state = self.0.lock();
        while !state.output.is_empty()
            && let Some(writer) = &state.writer
            && let Poll::Ready(ready) = writer.as_ref().poll_write_ready(cx)
        {
            ready?;
            let mut output = std::mem::take(&mut state.output);
            let written = state.write(&mut output);
            state.output = output;
            written?;
        }
        let standing = state.standing();
        state.stalled = stalls(&standing);
        Ok(standing)
    }

    /// Ends the sending.
    pub fn end(&self) {
        let mut state = self.0.lock();
        state.killed = true;
        state.output.clear();
        // Its drop shuts the socket down for writing.
        state.writer = None;
    }
}

impl State {
    fn standing(&self) -> Standing {
        Standing {
            in_flight: self.in_flight,
            authenticated: self.authenticated,
            unsent: self.output.len(),
            closing: self.closing,
            killed: self.killed,
        }
    }

    /// Writes once, as much as the socket takes; nothing where it takes nothing now.
    fn write(&self, output: &mut Output) -> io::Result<()> {
        let Some(writer) = &self.writer else { return Ok(()) };
        let written = if let Some(bytes) = output.in_one_piece() {
            // The system's call itself: that of the C library makes itself a point of cancellation first, which costs
            // as much as the rest of this.
            let send = || Ok(rustix::net::send(writer.as_ref(), bytes, SendFlags::NOSIGNAL)?);
            writer.as_ref().try_io(Interest::WRITABLE, send)
        } else {
            let mut pieces = [IoSlice::new(&[]); PIECES];
            let count = output.chunks_vectored(&mut pieces);
            writer.try_write_vectored(&pieces[..count])
        };
        match written {
            Ok(written) => output.advance(written),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
