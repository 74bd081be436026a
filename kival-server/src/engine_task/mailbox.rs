//! From the engine task to a connection.

use crate::resp::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What a connection is told.
#[derive(Debug)]
pub enum Outgoing {
    /// Replies to be sent.
    Replies {
        /// Their bytes.
        output: Output,
        /// Batches that they complete: so many fewer are in flight.
        batches: u32,
        /// Whether the client is authenticated now.
        authenticated: bool,
    },
    /// Send what you have, then close.
    Close,
    /// Close at once.
    Kill,
}

/// The engine task's end.
#[derive(Debug)]
pub struct Mailbox {
    sender: UnboundedSender<Outgoing>,
    unsent: Arc<AtomicUsize>,
}

/// The connection's end.
#[derive(Debug)]
pub struct MailboxReader {
    /// What has come.
    pub receiver: UnboundedReceiver<Outgoing>,
    unsent: Arc<AtomicUsize>,
}

/// Makes both ends. The channel needs no bound of its own: what goes in is bounded by the requests in
/// flight, and watched by `client-output-buffer-limit`.
pub fn mailbox() -> (Mailbox, MailboxReader) {
    let (sender, receiver) = unbounded_channel();
    let unsent = Arc::new(AtomicUsize::new(0));
    (Mailbox { sender, unsent: unsent.clone() }, MailboxReader { receiver, unsent })
}

impl Mailbox {
    /// Sends, and gives the bytes that the client has not taken yet. A connection that has gone is told
    /// nothing.
    pub fn send(&self, message: Outgoing) -> usize {
        let bytes = if let Outgoing::Replies { output, .. } = &message { output.len() } else { 0 };
        let unsent = self.unsent.fetch_add(bytes, Ordering::Relaxed) + bytes;
        // The connection's end is dropped just before it says good-bye.
        let _ = self.sender.send(message);
        unsent
    }

    /// Bytes that the client has not taken yet.
    pub fn unsent(&self) -> usize {
        self.unsent.load(Ordering::Relaxed)
    }
}

impl MailboxReader {
    /// Counts bytes that the socket took.
    pub fn written(&self, bytes: usize) {
        self.unsent.fetch_sub(bytes, Ordering::Relaxed);
    }
}
