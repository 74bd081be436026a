//! What connections say, taken in their order: they come, send batches, send no more, break the protocol, go.
//!
//! A batch runs at once, or waits in its client's backlog behind a command that is parked.

use super::park::Parked;
use super::session::{Manner, Replies, Session};
use super::transaction::Mixed;
use super::{ClientKey, EngineTask, TurnReply};
use crate::net::outbox::Outbox;
use crate::resp::{Batch, ErrorReply, Output, Protocol, Reply, array, encode};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

impl EngineTask {
    pub(super) fn connect(
        &mut self,
        fd: i32,
        addr: SocketAddr,
        laddr: SocketAddr,
        outbox: Outbox,
    ) -> ClientKey {
        let id = self.next_id;
        self.next_id += 1;
        let now = Instant::now();
        let session = Session {
            id,
            fd,
            addr,
            laddr,
            db: 0,
            protocol: Protocol::Resp2,
            authenticated: self.server.config.requirepass.is_empty(),
            durability: None,
            name: Vec::new(),
            lib_name: Vec::new(),
            lib_ver: Vec::new(),
            since: now,
            active: now,
            last_command: None,
            query_bytes: 0,
            bytes_in: 0,
            bytes_out: 0,
            closing: false,
            manner: Manner::default(),
            outbox,
            parked: None,
            read: Vec::new(),
            backlog: VecDeque::new(),
            last_word: None,
            input_ended: false,
            transaction: None,
            watched: Vec::new(),
            held: VecDeque::new(),
            held_bytes: 0,
            subscriptions: None,
            monitors: false,
            pushed: None,
            over_soft_limit: None,
        };
        let slot = self.clients.insert(Box::new(session));
        let counters = &mut self.server.counters;
        counters.connections += 1;
        counters.most_clients = counters.most_clients.max(self.clients.connected);
        ClientKey { slot, id }
    }

    pub(super) fn is_here(&self, client: ClientKey) -> bool {
        self.clients.get(client.slot).is_some_and(|session| session.id == client.id)
    }

    pub(super) fn forget(&mut self, client: ClientKey) {
        if self.is_here(client)
            && let Some(mut gone) = self.clients.remove(client.slot)
        {
            self.unwatch(&mut gone);
            self.forget_large(client);
            if let Some(own) = &gone.subscriptions {
                self.store.channels.forget(client, own);
            }
            self.store.stop_tracking(client);
            if gone.monitors {
                self.server.monitors.remove(client);
            }
            self.server.durability_changed |= gone.durability.is_some();
        }
    }

    /// Runs a batch, or puts it behind what its connection waits for.
    pub(super) fn take_batch(&mut self, client: ClientKey, batch: Batch) {
        if !self.is_here(client) {
            return;
        }
        let Some(mut session) = self.clients.take(client.slot) else { return };
        let bytes = batch.buffer_len();
        session.bytes_in += bytes as u64;
        self.server.counters.bytes_in += bytes as u64;
        if session.parked.is_some() || !session.backlog.is_empty() {
            session.query_bytes += bytes;
            session.backlog.push_back((batch, 0));
        } else {
            self.run_batch(&mut session, client, batch, 0);
        }
        self.clients.put_back(client.slot, session);
    }

    /// Goes on with the backlog of a client that is not parked any more.
    pub(super) fn resume(&mut self, client: ClientKey) {
        if !self.is_here(client) {
            return;
        }
        if self.holds_large(client) {
            // Its value is to be the first of its group.
            self.end_turn();
        }
        let Some(mut session) = self.clients.take(client.slot) else { return };
        // One batch at a time: the others of this turn want to run too.
        if session.parked.is_none()
            && let Some((batch, from)) = session.backlog.pop_front()
        {
            session.query_bytes = session.query_bytes.saturating_sub(batch.buffer_len());
            self.run_batch(&mut session, client, batch, from);
            let blocked = session.parked.is_some();
            if !session.backlog.is_empty() && !blocked && !self.ready.contains(&client) {
                self.ready.push_back(client);
            }
        }
        let last_word = if session.is_idle() { session.last_word.take() } else { None };
        self.clients.put_back(client.slot, session);
        if let Some(error) = last_word {
            self.break_off(client, error);
        }
    }

    /// A client sends no more. One that waits for time or replicas alone would wait unheard, so it goes.
    pub(super) fn input_ended(&mut self, client: ClientKey) {
        let Some(session) = self.clients.get_mut(client.slot).filter(|session| session.id == client.id)
        else {
            return;
        };
        session.input_ended = true;
        if session.parked.as_ref().is_some_and(Parked::is_blocked) {
            session.closing = true;
            session.outbox.close();
        }
    }

    /// Sends the protocol's error behind the replies so far, and closes.
    pub(super) fn break_off(&mut self, client: ClientKey, error: Option<ErrorReply>) {
        if !self.is_here(client) {
            return;
        }
        let Some(mut session) = self.clients.take(client.slot) else { return };
        if !session.is_idle() {
            session.last_word = Some(error);
            self.clients.put_back(client.slot, session);
            return;
        }
        session.closing = true;
        let mut output = Output::new();
        if let Some(error) = error {
            self.count_error(&error);
            session.answer(&Reply::Error(error), &mut output);
        }
        let before = session.standing();
        self.turn.push(TurnReply::free(client.slot, output, 0, 0, before));
        self.clients.put_back(client.slot, session);
    }
}

impl Session {
    /// Whether nothing of it waits to be run.
    pub(super) fn is_idle(&self) -> bool {
        self.parked.is_none() && self.backlog.is_empty()
    }

    /// Writes the reply of the command that has just run, unless the client wants none; gives the number of
    /// replies written.
    pub(super) fn answer(&mut self, reply: &Reply, output: &mut Output) -> usize {
        if self.manner.replies == Replies::default() {
            encode(reply, self.protocol, output);
            return 1;
        }
        let sent = self.manner.replies.are_sent();
        tell(reply, self.protocol, sent, output);
        self.manner.replies = self.manner.replies.behind();
        usize::from(sent)
    }

    /// The same for EXEC, whose commands have changed how their client is answered.
    pub(super) fn answer_mixed(&mut self, mixed: &Mixed, output: &mut Output) -> usize {
        if mixed.begun {
            array(mixed.replies.len(), output);
        }
        for (reply, (protocol, sent)) in mixed.replies.iter().zip(&mixed.manners) {
            tell(reply, *protocol, *sent, output);
        }
        self.manner.replies = self.manner.replies.behind();
        usize::from(mixed.begun)
    }
}

/// Writes a reply; of one that is not wanted only what is pushed: messages, and what SUBSCRIBE and the like say.
fn tell(reply: &Reply, protocol: Protocol, sent: bool, output: &mut Output) {
    match reply {
        _ if sent => encode(reply, protocol, output),
        Reply::Push(_) => encode(reply, protocol, output),
        Reply::Array(parts) | Reply::Sequence(parts) => {
            parts.iter().for_each(|part| tell(part, protocol, false, output));
        }
        _ => {}
    }
}
