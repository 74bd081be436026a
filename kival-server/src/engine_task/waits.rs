//! The end of a wait: values were read, or the log or the clock has come to where a command waits for it.

use super::park::{self, Parked, ReadResult};
use super::session::Session;
use super::{ClientKey, EngineTask, TurnReply, run};
use crate::resp::{Output, Reply};
use kival_engine::ReadError;

impl EngineTask {
    pub(super) fn values_read(&mut self, client: ClientKey, result: ReadResult) {
        if !self.is_here(client) {
            return;
        }
        let Some(session) = self.clients.get_mut(client.slot) else { return };
        session.parked = None;
        let values = match result {
            Ok(values) => values,
            Err(error) => return self.answer_unreadable(client, &error),
        };
        // A command that changes values in part meets what it needs one by one: each run has all that was read before,
        // until it is over.
        for value in values {
            session.read.retain(|earlier| !value.replaces(earlier));
            session.read.push(value);
        }
        self.resume_with_values(client);
    }

    /// Goes on with a client at once: with what was read for its command pinned, before anything can drive that out.
    pub(super) fn resume_with_values(&mut self, client: ClientKey) {
        let Some(session) = self.clients.get_mut(client.slot) else { return };
        session.read.iter().cloned().for_each(|value| self.store.engine().pin(value));
        self.resume(client);
        self.store.engine().unpin();
    }

    /// Answers a parked command whose value the disk does not give, and goes on behind it.
    pub(super) fn answer_unreadable(&mut self, client: ClientKey, error: &ReadError) {
        let Some(mut session) = self.clients.take(client.slot) else { return };
        if let Some((batch, next)) = session.backlog.front_mut() {
            *next += 1;
            let done = *next >= batch.len();
            let mut output = Output::new();
            let before = session.standing();
            // If it was EXEC, its transaction ends with the error.
            session.transaction = None;
            session.read.clear();
            self.unwatch(&mut session);
            let reply = Reply::Error(self.refuse_read(error));
            let replies = session.answer(&reply, &mut output);
            if done {
                session.finish_waiting_batch();
            }
            let batches = u32::from(done);
            self.turn.push(TurnReply::free(client.slot, output, replies, batches, before));
        }
        self.clients.put_back(client.slot, session);
        self.ready.push_back(client);
    }

    /// Whether a client waits for the log to be on disk.
    pub(super) fn waits_for_log(&self) -> bool {
        let waits = |client: &ClientKey| {
            let parked = self.clients.get(client.slot).and_then(|session| session.parked.as_ref());
            matches!(parked, Some(Parked::Waiting(wait)) if wait.until.is_for_log())
        };
        self.waits.iter().any(waits)
    }

    /// Ends waits whose time or sequence has come.
    pub(super) fn end_waits(&mut self) {
        if self.waits.is_empty() {
            return;
        }
        let now = self.store.now();
        let engine = self.store.engine();
        // Numbers above the last that counts were taken back: there is nothing to wait for.
        let whole = engine.durable_sequence() >= engine.last_sequence();
        let durable = if whole { u64::MAX } else { engine.durable_sequence() };
        let poisoned = engine.poisoned().map(|cause| Reply::error(run::misconf(&cause)));
        for client in std::mem::take(&mut self.waits) {
            let session = self.clients.get_mut(client.slot).filter(|session| session.id == client.id);
            let Some(session) = session else { continue };
            let Some(Parked::Waiting(wait)) = &session.parked else { continue };
            let over = park::wait_over(wait, durable, now, self.store.engine_ref().backups());
            let hopeless = if wait.until.is_for_log() { poisoned.clone() } else { None };
            match over.or(hopeless) {
                Some(reply) => self.answer_waiting(client, &reply),
                None => self.waits.push(client),
            }
        }
        self.end_turn();
    }

    /// Answers a command whose wait is over; what stands behind it goes on.
    pub(super) fn answer_waiting(&mut self, client: ClientKey, reply: &Reply) {
        let session = self.clients.get_mut(client.slot).filter(|session| session.id == client.id);
        let Some(session) = session else { return };
        session.parked = None;
        let mut output = Output::new();
        let replies = session.answer(reply, &mut output);
        let batches = u32::from(session.finish_waiting_batch());
        let before = session.standing();
        self.turn.push(TurnReply::free(client.slot, output, replies, batches, before));
        self.ready.push_back(client);
    }
}

impl Session {
    /// Takes the batch whose last command was the waiting one off the backlog; `true` if it was done.
    pub(super) fn finish_waiting_batch(&mut self) -> bool {
        let done = self.backlog.front().is_some_and(|(batch, next)| *next >= batch.len());
        if done && let Some((batch, _)) = self.backlog.pop_front() {
            self.query_bytes = self.query_bytes.saturating_sub(batch.buffer_len());
        }
        done
    }
}
