//! Running commands: the gates, the handler, and what becomes of its outcome.

use super::meter::Meter;
use super::park::{self, Parked};
use super::session::Session;
use super::transaction::Mixed;
use super::{ClientKey, EngineTask, TURN_BYTES, TurnReply, warm};
use crate::command::{self, Abort, Command, Context, Flags, Outcome, Row};
use crate::config::{AppendFsync, DebugCommand};
use crate::resp::{Args, Batch, ErrorReply, Protocol, Reply};
use kival_engine::keydir::WARM;
use kival_engine::{ReadError, WriteError};

const NOAUTH: &str = "NOAUTH Authentication required.";
const DEBUG_REFUSED: &str = "ERR DEBUG command not allowed. If the enable-debug-command option is set to \
    \"local\", you can run it from a local connection, otherwise you need to set this option in the \
    configuration file, and then restart the server.";

const MONITORS: &str = "ERR Replica can't interact with the keyspace";

const WHILE_SUBSCRIBED: &str = ": only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this \
    context";

/// What commands of keys have.
const TOUCHES_KEYS: Flags = Flags::READONLY.and(Flags::WRITE).and(Flags::MAY_REPLICATE);

/// What a command leads to.
pub(super) enum Step {
    Reply(Reply),
    Mixed(Box<Mixed>),
    Silent,
    Park(Parked),
}

impl EngineTask {
    /// Runs the commands of a batch from index `from` on, until its end or until one has to wait.
    pub(super) fn run_batch(&mut self, session: &mut Session, client: ClientKey, batch: Batch, from: usize) {
        let mut output = self.spare_outputs.pop().unwrap_or_default();
        let (mut depends, mut policy, mut replies) = (0, AppendFsync::No, 0);
        let mut rest = None;
        let before = session.standing();
        session.active = self.clock;
        let mut meter = Meter::new(&batch, self.server.slow_from());
        for index in from..batch.len() {
            if session.closing {
                break;
            }
            // The first was warmed with those of other connections, if it stands alone.
            if (index - from).is_multiple_of(WARM) && batch.len() > 1 {
                warm::batch(self.store.engine_ref(), session.db, &batch, index);
            }
            let args = batch.command(index);
            let (step, ran) = self.run_command(session, client, args);
            if !matches!(step, Step::Park(Parked::Reading | Parked::Paused)) {
                self.command_over(client, session, args);
            }
            if !self.store.channels.outgoing.is_empty() {
                self.deliver(client, session, &mut output);
            }
            let dependency = self.store.take_dependency();
            if dependency > 0 {
                depends = depends.max(dependency);
                policy = policy.stricter(self.policy_of(session));
            }
            match step {
                Step::Reply(reply) => replies += session.answer(&reply, &mut output),
                Step::Mixed(mixed) => replies += session.answer_mixed(&mixed, &mut output),
                Step::Silent => session.manner.replies = session.manner.replies.behind(),
                Step::Park(parked) => {
                    self.invalidate(client, session, &mut output);
                    self.show_commands(client, session, &mut output);
                    meter.is_due(ran, &batch, index, output.len());
                    self.read_clock(session, &mut meter, args);
                    // One that reads or is paused runs again; one that waits is over when its wait is.
                    let next = if parked.ends_command() { index + 1 } else { index };
                    if matches!(parked, Parked::Waiting(_)) {
                        self.waits.push(client);
                    }
                    if parked.is_blocked() {
                        session.closing |= session.input_ended;
                    }
                    session.parked = Some(parked);
                    rest = Some(next);
                    break;
                }
            }
            self.invalidate(client, session, &mut output);
            self.show_commands(client, session, &mut output);
            if meter.is_due(ran, &batch, index, output.len()) {
                self.read_clock(session, &mut meter, args);
            }
            if self.store.engine_ref().staged_bytes() >= TURN_BYTES && index + 1 < batch.len() {
                self.ready.push_back(client);
                rest = Some(index + 1);
                break;
            }
        }
        // What it is sent from now on comes behind this.
        session.pushed = None;
        let batches = u32::from(rest.is_none());
        if let Some(next) = rest {
            session.query_bytes += batch.buffer_len();
            session.backlog.push_front((batch, next));
        }
        self.turn.push(TurnReply { slot: client.slot, output, depends, policy, replies, batches, before });
    }

    /// What a command leads to, and its row if it has run: not if it is refused, queued, or runs again later.
    fn run_command(
        &mut self,
        session: &mut Session,
        client: ClientKey,
        args: Args<'_>,
    ) -> (Step, Option<Row>) {
        let resolved = command::resolve(args);
        session.last_command = resolved.as_ref().ok().copied();
        let row = match resolved {
            Ok(row) => row,
            Err(error) => return (self.refuse_unrun(session, args, error), None),
        };
        if let Err(error) = self.gates(session, row, args) {
            self.server.counters.statistics.rejected(row);
            return (self.refuse_unrun(session, args, error), None);
        }
        if self.server.pause.is_some() && self.is_held_back(session, row) {
            return (Step::Park(Parked::Paused), None);
        }
        if session.transaction.is_some() && !row.command.flags.has(Flags::UNQUEUED) {
            return (self.queue(session, row, args), None);
        }
        let step = match self.execute_alone(session, client, row.command, args) {
            Ok(Reply::Error(error)) => self.refuse(error),
            Ok(reply) => Step::Reply(reply),
            Err(abort) => self.abort(session, client, row.command, args, abort),
        };
        if matches!(step, Step::Reply(Reply::Error(_))) {
            self.server.counters.statistics.failed(row);
        }
        if matches!(step, Step::Park(Parked::Reading)) {
            // It runs again, and counts then.
            return (step, None);
        }
        self.server.counters.commands += 1;
        if self.store.tracking.is_on() {
            self.store.tracking.ran(client, row.command, args);
        }
        self.server.monitors.note(session.db, session.addr, row.command, args);
        if session.monitors {
            // Behind its reply it is shown its command, and before that what others have done.
            self.store.depend_on_all();
        }
        (step, Some(row))
    }

    /// Lets go what was kept for a command that does not run again.
    fn command_over(&mut self, client: ClientKey, session: &mut Session, args: Args<'_>) {
        if !session.read.is_empty() {
            session.read.clear();
        }
        if self.holds_large(client) {
            self.release_large();
        }
        if self.store.tracking.is_on() {
            self.end_caching(client, session, args);
        }
    }

    /// The reply to a command that does not run.
    fn refuse_unrun(&mut self, session: &mut Session, args: Args<'_>, error: ErrorReply) -> Step {
        let error = self.spoil(session, args, error);
        self.refuse(error)
    }

    /// Runs a handler that is not one of a transaction: it may end for a large value to be written. If that
    /// cannot be done ahead, it runs once more and writes it in the turn.
    fn execute_alone(
        &mut self,
        session: &mut Session,
        client: ClientKey,
        command: &Command,
        args: Args<'_>,
    ) -> Outcome {
        self.store.began = Some(self.store.engine_ref().savepoint());
        let mut outcome = self.execute(session, client, command, args);
        self.store.began = None;
        if let Err(Abort::Large(value)) = &outcome
            && !self.want_large(client, args, *value)
        {
            outcome = self.execute(session, client, command, args);
        }
        outcome
    }

    /// Runs a handler, and takes back what it has changed if it has no reply.
    pub(super) fn execute(
        &mut self,
        session: &mut Session,
        client: ClientKey,
        command: &Command,
        args: Args<'_>,
    ) -> Outcome {
        let savepoint = self.store.began.unwrap_or_else(|| self.store.engine_ref().savepoint());
        let counted = self.store.counted();
        let messages = self.store.channels.outgoing.len();
        let noted = self.store.tracking.noted();
        self.store.no_touch = session.manner.no_touch;
        let (store, clients, server) = (&mut self.store, &mut self.clients, &mut self.server);
        let mut context = Context { store, session, client, clients, server };
        let outcome = (command.handler)(&mut context, args);
        if let Err(abort) = &outcome {
            self.store.engine().roll_back(savepoint);
            self.store.forget_taken_back();
            let is_over = matches!(abort, Abort::Error(_) | Abort::Migrate(_));
            self.store.channels.take_back(messages, is_over);
            self.store.tracking.take_back(noted);
            if matches!(abort, Abort::Cold(_) | Abort::Large(_)) {
                // It runs again, and counts then.
                self.store.recount(counted);
            }
        }
        outcome
    }

    /// What every command must pass: its arity is right, it is allowed, its client is known.
    fn gates(&self, session: &Session, row: Row, args: Args<'_>) -> Result<(), ErrorReply> {
        let command = row.command;
        if !command.takes(args.len()) {
            let name = row.name();
            return Err(format!("ERR wrong number of arguments for '{name}' command").into());
        }
        if command.flags.has(Flags::PROTECTED) && !self.debug_allowed(session) {
            return Err(DEBUG_REFUSED.into());
        }
        let open = session.authenticated || self.server.config.requirepass.is_empty();
        if !open && !command.flags.has(Flags::NO_AUTH) {
            return Err(NOAUTH.into());
        }
        if session.subscriptions.is_some()
            && session.protocol == Protocol::Resp2
            && !command.flags.has(Flags::WHILE_SUBSCRIBED)
        {
            let name = row.name();
            return Err(format!("ERR Can't execute '{name}'{WHILE_SUBSCRIBED}").into());
        }
        if session.monitors && command.flags.has_any(TOUCHES_KEYS) {
            return Err(MONITORS.into());
        }
        Ok(())
    }

    fn debug_allowed(&self, session: &Session) -> bool {
        match self.server.config.enable_debug_command {
            DebugCommand::No => false,
            DebugCommand::Yes => true,
            DebugCommand::Local => session.addr.ip().is_loopback(),
        }
    }

    pub(super) fn refuse(&mut self, error: ErrorReply) -> Step {
        self.count_error(&error);
        Step::Reply(Reply::Error(error))
    }

    pub(super) fn count_error(&mut self, error: &ErrorReply) {
        let counters = &mut self.server.counters;
        counters.error_replies += 1;
        let code = String::from_utf8_lossy(error.code());
        match counters.errors.get_mut(&*code) {
            Some(count) => *count += 1,
            None => {
                counters.errors.insert(code.into_owned(), 1);
            }
        }
    }

    /// The reply to a command whose value the disk does not give.
    pub(super) fn refuse_read(&mut self, error: &ReadError) -> ErrorReply {
        if !matches!(error, ReadError::Doubtful(_)) {
            // What is in doubt was told when the store was opened.
            tracing::error!(%error, "a value cannot be read");
        }
        self.server.counters.corrupt_reads += 1;
        let refusal = read_refusal(error);
        self.count_error(&refusal);
        refusal
    }

    /// The reply to a command that cannot write.
    pub(super) fn refuse_write(&mut self, error: &WriteError) -> ErrorReply {
        let doubtful = matches!(error, WriteError::Doubtful(_));
        self.server.counters.corrupt_reads += u64::from(doubtful);
        write_refusal(error)
    }

    fn abort(
        &mut self,
        session: &mut Session,
        client: ClientKey,
        command: &'static Command,
        args: Args<'_>,
        abort: Abort,
    ) -> Step {
        match abort {
            Abort::Error(error) => self.refuse(error),
            Abort::Silent => Step::Silent,
            Abort::Wait(wait) => Step::Park(Parked::Waiting(wait)),
            Abort::Follow(following) => {
                self.read_changes(client, &following);
                Step::Park(Parked::Following(following))
            }
            Abort::Migrate(migration) => {
                self.want_migration(client, self.policy_of(session), migration);
                Step::Park(Parked::Migrating)
            }
            Abort::Write(error) => {
                let refusal = self.refuse_write(&error);
                self.refuse(refusal)
            }
            // It has been queued, or it would have run.
            Abort::Large(_) => Step::Park(Parked::Reading),
            Abort::Run(transaction) => self.run_transaction(session, client, transaction),
            Abort::Read(error) => Step::Reply(Reply::Error(self.refuse_read(&error))),
            Abort::Cold(read) => {
                let reads = park::cold_reads(&mut self.store, session.db, command, args, *read);
                self.read_cold(client, reads);
                Step::Park(Parked::Reading)
            }
        }
    }
}

/// What a client is told when nothing can be written.
pub(super) fn write_refusal(error: &WriteError) -> ErrorReply {
    match error {
        WriteError::TooLarge => "ERR string exceeds maximum allowed size (512 MB)".into(),
        WriteError::Doubtful(_) | WriteError::Damaged(_) => format!("CORRUPT {error}").into(),
        WriteError::NoSpace => {
            "MISCONF No space left on device: reads go on, writes will when there is room".into()
        }
        other => misconf(other).into(),
    }
}

/// The error of a store that takes no writes any more; `cause` says why.
pub(super) fn misconf(cause: &dyn std::fmt::Display) -> String {
    format!("MISCONF {cause}. See to the disk, look at the data with 'kival-server check', then restart.")
}

fn read_refusal(error: &ReadError) -> ErrorReply {
    match error {
        ReadError::Corrupt(_) | ReadError::Doubtful(_) => format!("CORRUPT {error}").into(),
        ReadError::Io { .. } => format!("IOERR {error}").into(),
    }
}
