//! Replies on their way out.
//!
//! Under `appendfsync always` replies leave when the sequence they depend on is on disk; those of the same
//! connection behind them wait too, those of others do not. What a client does not take is limited.

use super::mailbox::Outgoing;
use super::run::write_refusal;
use super::session::{Held, Session};
use super::{ClientKey, EngineTask, TurnReply};
use crate::config::{AppendFsync, OutputLimit};
use crate::resp::{Output, Reply, encode};
use std::cmp::{Ordering, Reverse};
use std::time::Instant;

/// A client whose oldest held replies depend on a sequence; the lowest sequence is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiting {
    depends: u64,
    client: ClientKey,
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        let order = |waiting: &Waiting| Reverse((waiting.depends, waiting.client.id));
        order(self).cmp(&order(other))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl EngineTask {
    /// Appends what the turn has staged, and sends its replies or holds them.
    pub(super) fn end_turn(&mut self) {
        let committed = self.store.engine().commit();
        let mut turn = std::mem::take(&mut self.turn);
        if let Err(error) = &committed {
            tracing::error!(%error, clients = turn.len(), "a turn was taken back");
            let refusal = Reply::Error(write_refusal(error));
            // Last first: a client that had several replies gets back what it was before the first.
            for reply in turn.iter_mut().rev() {
                self.replace_by_errors(reply, &refusal);
            }
        }
        let durable = self.store.engine().durable_sequence();
        let always = self.server.config.appendfsync == AppendFsync::Always;
        if always && turn.iter().any(|reply| reply.depends > durable) {
            // What was read may have been written under another policy.
            self.store.engine().request_sync();
        }
        for TurnReply { slot, output, depends, replies, batches, .. } in turn.drain(..) {
            let Some(session) = self.clients.get_mut(slot) else { continue };
            session.bytes_out += output.len() as u64;
            self.server.counters.bytes_out += output.len() as u64;
            if session.held.is_empty() && (!always || depends <= durable) {
                self.send(slot, output, batches);
                continue;
            }
            if session.held.is_empty() {
                let client = ClientKey { slot, id: session.id };
                self.waiting.push(Waiting { depends, client });
            }
            session.held.push_back(Held { depends, output, replies, batches });
        }
        self.turn = turn;
    }

    fn replace_by_errors(&mut self, reply: &mut TurnReply, refusal: &Reply) {
        let Some(session) = self.clients.get_mut(reply.slot) else { return };
        session.stand(reply.before);
        reply.output = Output::new();
        reply.depends = 0;
        for _ in 0..reply.replies {
            encode(refusal, session.protocol, &mut reply.output);
        }
    }

    /// Sends what has become durable.
    pub(super) fn release_held(&mut self) {
        let always = self.server.config.appendfsync == AppendFsync::Always;
        let durable = self.store.engine().durable_sequence();
        let poisoned = self.store.engine().poisoned().map(str::to_owned);
        while let Some(&Waiting { depends, client }) = self.waiting.peek() {
            if let (Some(cause), true) = (&poisoned, depends > durable) {
                self.waiting.pop();
                self.fail_held(client, cause);
                continue;
            }
            if always && depends > durable {
                return;
            }
            self.waiting.pop();
            let session = self.clients.get_mut(client.slot).filter(|session| session.id == client.id);
            let Some(session) = session else { continue };
            let mut released = Vec::new();
            while let Some(held) = session.held.pop_front_if(|held| !always || held.depends <= durable) {
                released.push(held);
            }
            if let Some(next) = session.held.front() {
                self.waiting.push(Waiting { depends: next.depends, client });
            }
            for held in released {
                self.send(client.slot, held.output, held.batches);
            }
        }
    }

    /// The log cannot be synced any more: replies that wait for it become errors, the others leave.
    fn fail_held(&mut self, client: ClientKey, cause: &str) {
        let durable = self.store.engine().durable_sequence();
        let session = self.clients.get_mut(client.slot).filter(|session| session.id == client.id);
        let Some(session) = session else { return };
        let refusal = Reply::error(format!("MISCONF this could not be made durable: {cause}"));
        let mut held = std::mem::take(&mut session.held);
        for Held { depends, output, replies, .. } in &mut held {
            if *depends > durable {
                *output = Output::new();
                (0..*replies).for_each(|_| encode(&refusal, session.protocol, output));
            }
        }
        for Held { output, batches, .. } in held {
            self.send(client.slot, output, batches);
        }
    }

    /// Hands replies to the connection, and cuts a client that lets them pile up.
    fn send(&mut self, slot: usize, output: Output, batches: u32) {
        let Some(session) = self.clients.get_mut(slot) else { return };
        let authenticated = session.authenticated;
        let unsent = if output.is_empty() && batches == 0 {
            session.mailbox.unsent()
        } else {
            session.mailbox.send(Outgoing::Replies { output, batches, authenticated })
        };
        if session.closing && session.held.is_empty() {
            session.mailbox.send(Outgoing::Close);
        }
        let limit = self.server.config.client_output_buffer_limit.normal;
        if session.is_over(limit, unsent) {
            tracing::warn!(client = session.id, addr = %session.addr, unsent,
                "closing a client that does not read its replies (client-output-buffer-limit)");
            session.mailbox.send(Outgoing::Kill);
            session.closing = true;
            self.server.counters.output_limit_cuts += 1;
        }
    }

    /// Looks at clients whose output is over the soft limit.
    pub(super) fn check_output_limits(&mut self) {
        let limit = self.server.config.client_output_buffer_limit.normal;
        if limit.soft == 0 {
            return;
        }
        let over: Vec<usize> = self.clients.slots_where(|session| session.over_soft_limit.is_some());
        for slot in over {
            self.send(slot, Output::new(), 0);
        }
    }
}

impl Session {
    /// Whether `unsent` bytes are over the hard limit, or over the soft one for too long.
    fn is_over(&mut self, limit: OutputLimit, unsent: usize) -> bool {
        let unsent = unsent as u64;
        if limit.soft > 0 && unsent > limit.soft {
            self.over_soft_limit.get_or_insert_with(Instant::now);
        } else {
            self.over_soft_limit = None;
        }
        let too_long = self.over_soft_limit.is_some_and(|since| since.elapsed() > limit.soft_for);
        !self.closing && ((limit.hard > 0 && unsent > limit.hard) || too_long)
    }
}
