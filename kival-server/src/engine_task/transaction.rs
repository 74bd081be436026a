//! Transactions: commands that wait for EXEC, and their run.
//!
//! All of them run in one turn, hence in one append group: a crash leaves all or none. One that ends with an
//! error takes back its own changes only, as in Redis. If a value is on disk, everything is taken back, the
//! values of all commands are read, and EXEC runs again from its start.

use super::park::{self, Parked};
use super::run::Step;
use super::session::Session;
use super::{ClientKey, EngineTask, Event};
use crate::command::{self, Abort, Flags, Outcome, Row, Wait};
use crate::resp::{Args, Batch, ErrorReply, Protocol, Reply};
use kival_engine::ColdRead;
use std::time::Instant;

const NOT_ALLOWED: &str = "ERR Command not allowed inside a transaction";

/// A command that waits for EXEC.
#[derive(Debug)]
pub struct Queued {
    row: Row,
    request: Batch,
}

impl Queued {
    fn args(&self) -> Args<'_> {
        self.request.command(0)
    }
}

/// What stands between MULTI and EXEC.
#[derive(Debug, Default)]
pub struct Transaction {
    /// The commands, in order.
    pub queue: Vec<Queued>,
    /// Bytes of their arguments.
    pub bytes: usize,
    /// A command was refused: EXEC will refuse them all.
    pub spoilt: bool,
}

impl Transaction {
    /// Whether `is` is true of the flags of any command.
    pub fn any(&self, is: impl Fn(Flags) -> bool) -> bool {
        self.queue.iter().any(|queued| is(queued.row.command.flags))
    }
}

/// The replies of a transaction whose commands have changed how their client is answered, by CLIENT REPLY or HELLO.
/// As in Redis each goes by what held when its command had run, and the array promises them all.
#[derive(Debug)]
pub(super) struct Mixed {
    /// Whether the array is begun: EXEC itself is answered.
    pub begun: bool,
    /// One for each command.
    pub replies: Vec<Reply>,
    /// The protocol of each, and whether it is sent.
    pub manners: Vec<(Protocol, bool)>,
}

/// A key that a client watches.
#[derive(Debug)]
pub struct Watched {
    /// Its database.
    pub db: u32,
    /// The key.
    pub key: Box<[u8]>,
    /// Its changes at the WATCH.
    pub changes: u64,
    /// Whether there was such a key at the WATCH.
    pub existed: bool,
}

impl EngineTask {
    /// Queues a command behind its client's MULTI.
    pub(super) fn queue(&mut self, session: &mut Session, row: Row, args: Args<'_>) -> Step {
        let Some(transaction) = &mut session.transaction else { return Step::Silent };
        if row.command.flags.has_any(Flags::NO_MULTI.and(Flags::GOES_OUT)) {
            transaction.spoilt = true;
            self.server.counters.statistics.rejected(row);
            return self.refuse(NOT_ALLOWED.into());
        }
        transaction.bytes += args.size();
        transaction.queue.push(Queued { row, request: Batch::from_args(args) });
        if transaction.bytes as u64 > self.server.config.client_query_buffer_limit {
            tracing::warn!(client = session.id, addr = %session.addr,
                "closing a client whose transaction is too large (client-query-buffer-limit)");
            session.closing = true;
        }
        Step::Reply(Reply::status("QUEUED"))
    }

    /// A command was refused: that spoils its client's transaction, and ends it if the command was EXEC. Gives
    /// what the client is told.
    pub(super) fn spoil(&mut self, session: &mut Session, args: Args<'_>, error: ErrorReply) -> ErrorReply {
        if let Some(transaction) = &mut session.transaction {
            transaction.spoilt = true;
        }
        let ends = |row: Row| row.command.flags.has(Flags::ENDS_TRANSACTION);
        if !command::resolve(args).is_ok_and(ends) {
            return error;
        }
        session.transaction = None;
        self.unwatch(session);
        let cause = error.text();
        let cause = cause.strip_prefix(b"ERR ").unwrap_or(cause);
        [b"EXECABORT Transaction discarded because of: ", cause].concat().into()
    }

    /// Runs what was queued.
    pub(super) fn run_transaction(
        &mut self,
        session: &mut Session,
        client: ClientKey,
        transaction: Box<Transaction>,
    ) -> Step {
        let before = session.standing();
        let (savepoint, counted) = (self.store.engine().savepoint(), self.store.counted());
        let messages = self.store.channels.outgoing.len();
        let noted = self.store.tracking.noted();
        let mut databases = Vec::with_capacity(transaction.queue.len());
        let mut replies = Vec::with_capacity(transaction.queue.len());
        // Behind the reply of what has closed the connection there is none.
        let manner = |session: &Session, open| (session.protocol, open && session.manner.replies.are_sent());
        let (began, mut manners) = (manner(session, true), Vec::with_capacity(transaction.queue.len()));
        let mut read = Instant::now();
        let mut ran = Vec::with_capacity(transaction.queue.len());
        for queued in &transaction.queue {
            databases.push(session.db);
            let (sent, open) = (self.store.channels.outgoing.len(), !session.closing);
            let outcome = self.execute(session, client, queued.row.command, queued.args());
            let reply = match self.queued_reply(outcome) {
                Ok(reply) => reply,
                Err(met) => {
                    self.store.engine().roll_back(savepoint);
                    self.store.forget_taken_back();
                    self.store.channels.take_back(messages, false);
                    self.store.tracking.take_back(noted);
                    self.store.recount(counted);
                    self.server.durability_changed |= session.stand(before);
                    let reads = self.reads_of(session, &transaction, &databases, *met);
                    self.read_cold(client, reads);
                    // What it has changed of the watched keys was taken back.
                    for watched in &mut session.watched {
                        watched.changes = self.store.watches.changes(watched.db, &watched.key);
                    }
                    session.transaction = Some(transaction);
                    return Step::Park(Parked::Reading);
                }
            };
            manners.push(manner(session, open));
            self.store.tracking.ran(client, queued.row.command, queued.args());
            let now = Instant::now();
            ran.push((now.duration_since(std::mem::replace(&mut read, now)), reply.is_error()));
            // As in Redis 7.0, its own messages stand among its replies.
            let mut own = self.store.channels.take_own(sent, client);
            replies.push(if own.is_empty() {
                reply
            } else {
                own.push(reply);
                Reply::Sequence(own)
            });
        }
        // Not before all have run: those that run again because of a cold value are booked once.
        databases.push(session.db);
        self.server.counters.commands += ran.len() as u64;
        for ((queued, (took, failed)), db) in transaction.queue.iter().zip(ran).zip(&databases[1..]) {
            self.server.monitors.note(*db, session.addr, queued.row.command, queued.args());
            self.book(session, queued.row, 1, took, queued.args());
            if failed {
                self.server.counters.statistics.failed(queued.row);
            }
        }
        self.unwatch(session);
        if manners.iter().all(|manner| *manner == began) {
            return Step::Reply(Reply::Array(replies));
        }
        Step::Mixed(Box::new(Mixed { begun: began.1, replies, manners }))
    }

    /// What a command inside a transaction answers; or the read that it has to wait for.
    fn queued_reply(&mut self, outcome: Outcome) -> Result<Reply, Box<ColdRead>> {
        Ok(match outcome {
            Ok(Reply::Error(error)) | Err(Abort::Error(error)) => self.counted_error(error),
            Ok(reply) => reply,
            Err(Abort::Read(error)) => Reply::Error(self.refuse_read(&error)),
            Err(Abort::Write(error)) => {
                let refusal = self.refuse_write(&error);
                self.counted_error(refusal)
            }
            Err(Abort::Wait(wait)) => self.without_waiting(wait),
            Err(Abort::Silent) => Reply::Sequence(Vec::new()),
            // No queued command ends for a large value, to follow the feed, or to send keys away.
            Err(Abort::Run(_) | Abort::Large(_) | Abort::Follow(_) | Abort::Migrate(_)) => Reply::Null,
            Err(Abort::Cold(met)) => return Err(met),
        })
    }

    fn counted_error(&mut self, error: ErrorReply) -> Reply {
        self.count_error(&error);
        Reply::Error(error)
    }

    /// What a command that waits answers inside a transaction: how things stand now.
    fn without_waiting(&mut self, wait: Wait) -> Reply {
        let at_once = Wait { deadline: Some(0), ..wait };
        let now = self.store.now();
        let engine = self.store.engine_ref();
        let over = park::wait_over(&at_once, engine.durable_sequence(), now, engine.backups());
        over.unwrap_or(Reply::Null)
    }

    /// The cold reads of all commands, as far as it is known which database each means.
    fn reads_of(
        &mut self,
        session: &Session,
        transaction: &Transaction,
        databases: &[u32],
        met: ColdRead,
    ) -> Vec<ColdRead> {
        let mut reads = vec![met];
        for (index, queued) in transaction.queue.iter().enumerate() {
            let db = databases.get(index).or(databases.last()).copied().unwrap_or(session.db);
            park::add_cold_reads(&mut self.store, db, queued.row.command, queued.args(), &mut reads);
        }
        reads
    }

    /// Has values read by a thread that may wait.
    pub(super) fn read_cold(&mut self, client: ClientKey, reads: Vec<ColdRead>) {
        self.server.counters.cold_reads += reads.len() as u64;
        let events = self.events.clone();
        tokio::task::spawn_blocking(move || {
            // When the server has ended nobody waits for the values.
            let _ = events.send(Event::Read(client, park::read_all(&reads)));
        });
    }

    /// Forgets what a client watches.
    pub(super) fn unwatch(&mut self, session: &mut Session) {
        for watched in session.watched.drain(..) {
            self.store.watches.remove(watched.db, &watched.key);
        }
    }
}
