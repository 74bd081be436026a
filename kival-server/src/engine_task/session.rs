//! The clients as the engine task knows them.

use crate::command::{Flags, Row};
use crate::config::AppendFsync;
use crate::engine_task::ClientKey;
use crate::engine_task::channels::Subscriptions;
use crate::engine_task::park::Parked;
use crate::engine_task::transaction::{Transaction, Watched};
use crate::net::outbox::Outbox;
use crate::resp::{Batch, ErrorReply, Output, Protocol};
use kival_engine::ReadBack;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

/// One client.
#[derive(Debug)]
pub struct Session {
    /// Its id: never used again.
    pub id: u64,
    /// The descriptor of its socket.
    pub fd: i32,
    /// Its address.
    pub addr: SocketAddr,
    /// The address that it connected to.
    pub laddr: SocketAddr,
    /// The database it has selected.
    pub db: u32,
    /// The protocol of its replies.
    pub protocol: Protocol,
    /// Whether it may run commands that need authentication.
    pub authenticated: bool,
    /// KIVAL DURABILITY: its own policy; that of the server if none.
    pub durability: Option<AppendFsync>,
    /// CLIENT SETNAME.
    pub name: Vec<u8>,
    /// CLIENT SETINFO LIB-NAME.
    pub lib_name: Vec<u8>,
    /// CLIENT SETINFO LIB-VER.
    pub lib_ver: Vec<u8>,
    /// When it came.
    pub since: Instant,
    /// When its last command ran.
    pub active: Instant,
    /// Its last command.
    pub last_command: Option<Row>,
    /// Bytes of requests that wait.
    pub query_bytes: usize,
    /// Bytes of requests it has sent.
    pub bytes_in: u64,
    /// Bytes of replies it was sent.
    pub bytes_out: u64,
    /// The connection ends when the replies so far have been sent.
    pub closing: bool,
    /// How it wants to be treated.
    pub manner: Manner,
    /// Where its replies go.
    pub outbox: Outbox,
    /// Why its next command does not run now.
    pub parked: Option<Parked>,
    /// What was read for its parked command so far.
    pub read: Vec<ReadBack>,
    /// Requests that wait behind a parked command, each with the index of its next command.
    pub backlog: VecDeque<(Batch, usize)>,
    /// It sends no more.
    pub input_ended: bool,
    /// The error that it is to be closed with when its backlog has run.
    pub last_word: Option<Option<ErrorReply>>,
    /// What stands between MULTI and EXEC.
    pub transaction: Option<Box<Transaction>>,
    /// WATCH.
    pub watched: Vec<Watched>,
    /// Replies that wait for the sequence they depend on, and those behind them.
    pub held: VecDeque<Held>,
    /// Bytes of these.
    pub held_bytes: usize,
    /// The messages it listens to, if it does.
    pub subscriptions: Option<Box<Subscriptions>>,
    /// MONITOR: it is shown what the others do.
    pub monitors: bool,
    /// The turn in which it was last sent a message, and where in the turn's replies that stands.
    pub pushed: Option<(u64, usize)>,
    /// Since when its output has been over the soft limit.
    pub over_soft_limit: Option<Instant>,
}

/// What a client has asked for with CLIENT REPLY and the like; RESET brings the default back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Manner {
    /// CLIENT REPLY.
    pub replies: Replies,
    /// CLIENT NO-EVICT; no client is closed to save memory.
    pub no_evict: bool,
    /// CLIENT NO-TOUCH.
    pub no_touch: bool,
}

/// Which commands of a client are answered; messages and the like it is sent all the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replies {
    /// None, until it is said otherwise.
    pub off: bool,
    /// Not the one that runs.
    pub skip: bool,
    /// Not the next.
    pub skip_next: bool,
}

impl Replies {
    /// Whether the command that has just run is answered.
    pub fn are_sent(self) -> bool {
        !self.off && !self.skip
    }

    /// For the command behind the one that has just run.
    #[must_use]
    pub fn behind(self) -> Replies {
        Replies { off: self.off, skip: self.skip_next, skip_next: false }
    }
}

/// Replies that may not be seen before a sequence is on disk.
#[derive(Debug)]
pub struct Held {
    /// The sequence; 0 for replies that only wait behind others.
    pub depends: u64,
    /// The replies.
    pub output: Output,
    /// Commands that they answer.
    pub replies: usize,
    /// Batches that they complete.
    pub batches: u32,
}

/// What commands change of a client and a failed append takes back.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    db: u32,
    protocol: Protocol,
    authenticated: bool,
    durability: Option<AppendFsync>,
    manner: Manner,
    in_transaction: bool,
}

impl Session {
    /// Name of its last command, `config|get` for a subcommand; `NULL` before the first.
    pub fn last_command_name(&self) -> String {
        self.last_command.map_or("NULL".into(), |row| row.name())
    }

    /// Whether the command that runs was queued behind MULTI: then EXEC is its last one.
    pub fn is_executing(&self) -> bool {
        self.last_command.is_some_and(|row| row.command.flags.has(Flags::ENDS_TRANSACTION))
    }

    /// Whether neither a command nor a reply of it waits.
    pub fn has_nothing_waiting(&self) -> bool {
        self.parked.is_none() && self.backlog.is_empty() && self.held.is_empty()
    }

    /// Bytes of replies that it has not taken yet.
    pub fn unsent(&self) -> usize {
        self.outbox.unsent() + self.held_bytes
    }

    /// Bytes that it takes, requests and replies that wait included.
    pub fn memory(&self) -> usize {
        let queued = self.transaction.as_deref().map_or(0, |transaction| transaction.bytes);
        size_of::<Session>() + self.query_bytes + queued + self.unsent()
    }

    /// What a failed append would have to take back.
    pub fn standing(&self) -> Standing {
        let Session { db, protocol, authenticated, durability, manner, .. } = *self;
        let in_transaction = self.transaction.is_some();
        Standing { db, protocol, authenticated, durability, manner, in_transaction }
    }

    /// Takes it back, and says whether its durability was another meanwhile.
    pub fn stand(&mut self, before: Standing) -> bool {
        let other_durability = self.durability != before.durability;
        self.db = before.db;
        self.protocol = before.protocol;
        self.authenticated = before.authenticated;
        self.durability = before.durability;
        self.manner = before.manner;
        if !before.in_transaction {
            self.transaction = None;
        }
        other_durability
    }

    /// Brings back the state of a new connection, as RESET does; `authenticated` says what a new one is.
    pub fn reset(&mut self, authenticated: bool) {
        self.db = 0;
        self.protocol = Protocol::Resp2;
        self.authenticated = authenticated;
        self.durability = None;
        self.name.clear();
        // RESET itself is not answered either if it was to be skipped.
        let replies = Replies { skip: self.manner.replies.skip, ..Replies::default() };
        self.manner = Manner { replies, ..Manner::default() };
    }
}

/// All clients but the one whose command runs.
///
/// A connection is named by its slot in here, and by its id, which tells it from an earlier one.
#[derive(Debug, Default)]
pub struct Clients {
    slots: Vec<Option<Box<Session>>>,
    free: Vec<usize>,
    /// Those that CLIENT KILL has closed in this turn: forgotten at its end.
    pub killed: Vec<ClientKey>,
    /// Clients connected, the one whose command runs included.
    pub connected: usize,
}

impl Clients {
    /// Takes a client in and gives its slot.
    pub fn insert(&mut self, session: Box<Session>) -> usize {
        self.connected += 1;
        match self.free.pop() {
            Some(slot) => {
                self.slots[slot] = Some(session);
                slot
            }
            None => {
                self.slots.push(Some(session));
                self.slots.len() - 1
            }
        }
    }

    /// Takes a client out for the time that its command runs.
    pub fn take(&mut self, slot: usize) -> Option<Box<Session>> {
        self.slots.get_mut(slot)?.take()
    }

    /// Puts it back.
    pub fn put_back(&mut self, slot: usize, session: Box<Session>) {
        self.slots[slot] = Some(session);
    }

    /// Forgets a client that has gone.
    pub fn remove(&mut self, slot: usize) -> Option<Box<Session>> {
        let session = self.slots.get_mut(slot)?.take()?;
        self.free.push(slot);
        self.connected -= 1;
        Some(session)
    }

    /// The client in a slot.
    pub fn get(&self, slot: usize) -> Option<&Session> {
        self.slots.get(slot)?.as_deref()
    }

    /// The client in a slot, to change it.
    pub fn get_mut(&mut self, slot: usize) -> Option<&mut Session> {
        self.slots.get_mut(slot)?.as_deref_mut()
    }

    /// All clients in here.
    pub fn iter(&self) -> impl Iterator<Item = &Session> {
        self.slots.iter().filter_map(Option::as_deref)
    }

    /// Slots of the clients that `which` is true of.
    pub fn slots_where(&self, which: impl Fn(&Session) -> bool) -> Vec<usize> {
        let found = self.slots.iter().enumerate();
        found.filter(|(_, session)| session.as_deref().is_some_and(&which)).map(|(slot, _)| slot).collect()
    }
}
