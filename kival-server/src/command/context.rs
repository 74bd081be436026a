//! What a handler works on: the keys, the client, the server; and how it ends.

use crate::config::NotifyEvents;
use crate::engine_task::ClientKey;
use crate::engine_task::follow::Following;
use crate::engine_task::migrate::Migration;
use crate::engine_task::server_state::ServerState;
use crate::engine_task::session::{Clients, Session};
use crate::engine_task::store::Store;
use crate::engine_task::transaction::Transaction;
use crate::resp::{ErrorReply, Reply};
use bytes::Bytes;
use kival_engine::{ColdRead, KeyEntry, ReadError, WriteError};
use std::ops::Range;

/// How a handler ends.
pub type Outcome = Result<Reply, Abort>;

/// Why a handler has no reply yet, or only an error. Whatever it has changed is taken back.
#[derive(Debug)]
pub enum Abort {
    /// The client's error.
    Error(ErrorReply),
    /// A value is on disk: the command runs again when it has been read.
    Cold(Box<ColdRead>),
    /// The disk gave back what was not written, or nothing.
    Read(ReadError),
    /// Nothing can be written.
    Write(WriteError),
    /// The value is too large for a turn: the command runs again when it has been written.
    Large(LargeArg),
    /// The reply comes when something has happened.
    Wait(Wait),
    /// The change feed is read, by a thread that may wait; then the reply comes.
    Follow(Box<Following>),
    /// Keys go to another server, by a thread that may wait; then the reply comes.
    Migrate(Box<Migration>),
    /// There is no reply.
    Silent,
    /// What was queued behind MULTI is to run; its replies are the reply.
    Run(Box<Transaction>),
}

/// A value that a key is to be set to, by its place in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LargeArg {
    /// Bytes of the key.
    pub key_size: usize,
    address: usize,
    len: usize,
}

impl LargeArg {
    /// These bytes, for a key of `key_size` bytes.
    pub fn new(key_size: usize, value: &[u8]) -> LargeArg {
        LargeArg { key_size, address: value.as_ptr().addr(), len: value.len() }
    }
}

/// What a command waits for, and what it answers then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// What has to happen.
    pub until: WaitFor,
    /// Unix milliseconds at which it answers all the same; `None` waits for ever.
    pub deadline: Option<u64>,
}

/// What a command may wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitFor {
    /// Replicas, of which there are none: only the deadline ends it. Answers `:0`.
    Replicas,
    /// The log on disk up to this sequence, and no replica. Answers how many of the two have it.
    Durable(u64),
    /// The log on disk up to this sequence, and a replica, of which there are none: the deadline ends it.
    DurableAndReplicas(u64),
    /// Nothing any more: CLIENT UNBLOCK has ended it with an error.
    Nothing,
    /// So many backups that have ended: the last of them is this command's. Answers how that one did.
    Backup(u64),
    /// The store opened again, which is done behind the turn. Answers OK.
    Reload,
}

impl WaitFor {
    /// Whether it waits for what others do, as clients that CLIENT UNBLOCK can wake.
    pub fn is_for_others(self) -> bool {
        matches!(self, WaitFor::Replicas) || self.is_for_log()
    }

    /// Whether a sync of the log brings its end nearer.
    pub fn is_for_log(self) -> bool {
        matches!(self, WaitFor::Durable(_) | WaitFor::DurableAndReplicas(_))
    }
}

impl From<ErrorReply> for Abort {
    fn from(error: ErrorReply) -> Self {
        Abort::Error(error)
    }
}

impl From<&'static str> for Abort {
    fn from(error: &'static str) -> Self {
        Abort::Error(error.into())
    }
}

impl From<String> for Abort {
    fn from(error: String) -> Self {
        Abort::Error(error.into())
    }
}

impl From<ReadError> for Abort {
    fn from(error: ReadError) -> Self {
        Abort::Read(error)
    }
}

impl From<WriteError> for Abort {
    fn from(error: WriteError) -> Self {
        Abort::Write(error)
    }
}

/// What a handler works on.
///
/// The methods here mean the client's database. [`Store`] has the same for a given one.
pub struct Context<'a> {
    /// The keys.
    pub store: &'a mut Store,
    /// The client whose command runs.
    pub session: &'a mut Session,
    /// The other clients.
    pub clients: &'a mut Clients,
    /// The server.
    pub server: &'a mut ServerState,
    /// The client's name.
    pub client: ClientKey,
}

impl Context<'_> {
    /// Unix milliseconds; the same throughout a turn of the engine task.
    pub fn now(&self) -> u64 {
        self.store.now()
    }

    /// What is known of a key without reading its value; counts as a hit or a miss, and as an access.
    ///
    /// # Errors
    /// [`Abort::Read`] if damage may have taken what is newest.
    pub fn lookup(&mut self, key: &[u8]) -> Result<Option<KeyEntry>, Abort> {
        self.store.lookup(self.session.db, key)
    }

    /// As [`Self::lookup`], but is neither counted nor an access: for commands that write.
    ///
    /// # Errors
    /// As [`Self::lookup`].
    pub fn peek(&mut self, key: &[u8]) -> Result<Option<KeyEntry>, Abort> {
        self.store.peek(self.session.db, key)
    }

    /// The value of a key; counts as a hit or a miss, and as an access.
    ///
    /// # Errors
    /// [`Abort::Cold`] or [`Abort::Read`], to be handed on with `?` before anything is changed.
    pub fn value(&mut self, key: &[u8]) -> Result<Option<Bytes>, Abort> {
        self.store.value(self.session.db, key)
    }

    /// The value of an entry that was just looked up.
    ///
    /// # Errors
    /// As [`Self::value`].
    pub fn value_of(&mut self, key: &[u8], entry: &KeyEntry) -> Result<Bytes, Abort> {
        self.store.value_of(self.session.db, key, entry)
    }

    /// A part of the value of an entry that was just looked up; as much of it as the value reaches.
    ///
    /// # Errors
    /// As [`Self::value`].
    pub fn part_of(&mut self, key: &[u8], entry: &KeyEntry, part: Range<usize>) -> Result<Bytes, Abort> {
        self.store.part_of(self.session.db, key, entry, part)
    }

    /// Sets a part of the value of a key, which is absent or has this entry, with zeros ahead of it if the value is
    /// too short. The expiry stays. Gives the length of the value in bytes.
    ///
    /// # Errors
    /// As [`Self::value`] and [`Self::put`].
    pub fn put_part(
        &mut self,
        key: &[u8],
        entry: Option<KeyEntry>,
        offset: usize,
        bytes: &[u8],
    ) -> Result<usize, Abort> {
        self.store.put_part(self.session.db, key, entry, offset, bytes)
    }

    /// Sets a key; `expiry` in Unix milliseconds, 0 for none.
    ///
    /// # Errors
    /// [`Abort::Write`]; the key is as it was.
    pub fn put(&mut self, key: &[u8], value: &[u8], expiry: u64) -> Result<(), Abort> {
        self.store.put(self.session.db, key, value, expiry)
    }

    /// Tells an event of a key, if its class is told.
    #[inline]
    pub fn notify(&mut self, class: NotifyEvents, event: &'static str, key: &[u8]) {
        self.store.notify(self.session.db, class, event, key);
    }

    /// Removes a key, and says whether there was one.
    ///
    /// # Errors
    /// [`Abort::Write`]; the key is as it was.
    pub fn delete(&mut self, key: &[u8]) -> Result<bool, Abort> {
        self.store.delete(self.session.db, key)
    }

    /// Changes a key's expiry, 0 for none, and says whether there is such a key.
    ///
    /// # Errors
    /// [`Abort::Write`]; the key is as it was.
    pub fn set_expiry(&mut self, key: &[u8], expiry: u64) -> Result<bool, Abort> {
        self.store.set_expiry(self.session.db, key, expiry)
    }
}
