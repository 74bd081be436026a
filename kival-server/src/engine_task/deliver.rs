//! Replies on their way out.
//!
//! For a client under `always` replies leave when the sequence they depend on is on disk; those of the same
//! connection behind them wait too, those of others do not. Under `everysec` they wait while the disk is
//! more than a second behind. A reply goes by the policy under which its command ran, whatever becomes of
//! that meanwhile. What a client does not take is limited.

use super::gather::Gathering;
use super::run::{misconf, write_refusal};
use super::session::{Held, Session};
use super::{ClientKey, EngineTask, TurnReply};
use crate::config::{AppendFsync, OutputLimit};
use crate::resp::{Output, Reply, encode};
use kival_engine::WriteError;
use std::cmp::{Ordering, Reverse};
use std::collections::HashSet;
use std::time::Instant;

/// Outputs that are kept to be filled again, and the most memory of one, in bytes.
const SPARE_OUTPUTS: usize = 64;
const SPARE_BYTES: usize = 16 << 10;

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
    /// The policy of a client: its own, or the server's.
    pub(super) fn policy_of(&self, session: &Session) -> AppendFsync {
        session.durability.unwrap_or(self.server.config.appendfsync)
    }

    /// Appends what the turn has staged, and sends its replies or holds them.
    pub(super) fn end_turn(&mut self) {
        self.broadcast_invalidations();
        let began = self.monitored_now();
        let committed = self.store.engine().commit();
        self.note_since(began, "aof-write");
        let mut turn = std::mem::take(&mut self.turn);
        self.turns += 1;
        if let Err(error) = &committed {
            self.take_back(&mut turn, error);
            self.distrust_trackers();
            turn.append(&mut self.turn);
        }
        let mut durable = self.store.engine().durable_sequence();
        let behind = self.disk_is_behind;
        let waits = |reply: &TurnReply, durable: u64| {
            let strict = match reply.policy {
                AppendFsync::Always => true,
                AppendFsync::EverySec => behind,
                AppendFsync::No => false,
            };
            if strict && reply.depends > durable { reply.depends } else { 0 }
        };
        let waiting = turn.iter().map(|reply| waits(reply, durable)).filter(|depends| *depends > 0);
        // What was read may have been written under another policy.
        if let Some(latest) = waiting.clone().max() {
            // Where all clients wait there is nothing else to do, and a hand-over costs more than the sync.
            if waiting.count() + self.waiting.len() >= self.clients.connected {
                self.gathering = Gathering::default();
                self.store.engine().sync_now_of(latest);
                durable = self.store.engine().durable_sequence();
            } else {
                self.gathering.join(latest);
            }
        }
        for reply in turn.drain(..) {
            let depends = waits(&reply, durable);
            let TurnReply { slot, output, replies, batches, .. } = reply;
            let Some(session) = self.clients.get_mut(slot) else { continue };
            session.bytes_out += output.len() as u64;
            self.server.counters.bytes_out += output.len() as u64;
            if session.held.is_empty() && depends == 0 {
                self.send(slot, output, batches);
                continue;
            }
            if session.held.is_empty() {
                let client = ClientKey { slot, id: session.id };
                self.waiting.push(Waiting { depends, client });
            }
            session.held_bytes += output.len();
            session.held.push_back(Held { depends, output, replies, batches });
            if session.listens() {
                self.limit_output(slot);
            }
        }
        self.turn = turn;
        // Not before: the turn's replies go by slot, which a new connection might have by now.
        for client in std::mem::take(&mut self.clients.killed) {
            self.forget(client);
        }
    }

    /// Turns replies that tell of a turn which could not be appended into errors, and takes back what their
    /// clients became in it.
    fn take_back(&mut self, turn: &mut [TurnReply], error: &WriteError) {
        let last = self.store.engine().last_sequence();
        let mut concerned: HashSet<usize> = HashSet::new();
        // Of a client everything from its first such reply on: that may rest on what is taken back.
        let replaced = turn.iter_mut().filter(|reply| {
            concerned.contains(&reply.slot) || (reply.depends > last && concerned.insert(reply.slot))
        });
        let replaced: Vec<&mut TurnReply> = replaced.collect();
        tracing::error!(%error, replies = replaced.len(), "a turn was taken back");
        self.migrations.take_back(&concerned);
        let refusal = Reply::Error(write_refusal(error));
        // Last first: a client that had several replies gets back what it was before the first.
        for reply in replaced.into_iter().rev() {
            self.replace_by_errors(reply, &refusal);
        }
    }

    fn replace_by_errors(&mut self, reply: &mut TurnReply, refusal: &Reply) {
        let Some(session) = self.clients.get_mut(reply.slot) else { return };
        self.server.durability_changed |= session.stand(reply.before);
        reply.output = Output::new();
        reply.depends = 0;
        for _ in 0..reply.replies {
            encode(refusal, session.protocol, &mut reply.output);
        }
    }

    /// Sends what has become durable.
    pub(super) fn release_held(&mut self) {
        let durable = self.store.engine().durable_sequence();
        let failed = self.store.engine().sync_failure();
        while let Some(&Waiting { depends, client }) = self.waiting.peek() {
            if depends > durable {
                let Some(cause) = &failed else { return };
                self.waiting.pop();
                self.fail_held(client, cause);
                continue;
            }
            self.waiting.pop();
            let session = self.clients.get_mut(client.slot).filter(|session| session.id == client.id);
            let Some(session) = session else { continue };
            let mut released = Vec::new();
            while let Some(held) = session.held.pop_front_if(|held| held.depends <= durable) {
                session.held_bytes -= held.output.len();
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
        let refusal = Reply::error(misconf(&format!("this could not be made durable: {cause}")));
        let mut held = std::mem::take(&mut session.held);
        session.held_bytes = 0;
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
    fn send(&mut self, slot: usize, mut output: Output, batches: u32) {
        let Some(session) = self.clients.get_mut(slot) else { return };
        let authenticated = session.authenticated;
        let unsent = session.outbox.send(&mut output, batches, authenticated);
        if session.closing && session.held.is_empty() {
            session.outbox.close();
        }
        if unsent > 0 || session.over_soft_limit.is_some() {
            self.limit_output(slot);
        }
        let is_spare = output.is_empty() && (1..=SPARE_BYTES).contains(&output.footprint());
        if is_spare && self.spare_outputs.len() < SPARE_OUTPUTS {
            self.spare_outputs.push(output);
        }
    }

    /// Cuts a client if too much waits for it.
    fn limit_output(&mut self, slot: usize) {
        let limits = self.server.config.client_output_buffer_limit;
        let Some(session) = self.clients.get_mut(slot) else { return };
        let limit = if session.listens() { limits.pubsub } else { limits.normal };
        let unsent = session.outbox.unsent() + session.held_bytes;
        if session.is_over(limit, unsent) {
            tracing::warn!(client = session.id, addr = %session.addr, unsent,
                "closing a client that does not read its replies (client-output-buffer-limit)");
            session.outbox.kill();
            session.closing = true;
            self.server.counters.output_limit_cuts += 1;
        }
    }

    /// Looks whether the disk keeps up.
    pub(super) fn watch_disk(&mut self) {
        let behind = self.store.engine().sync_is_late();
        if behind && !self.disk_is_behind {
            tracing::warn!(
                "a sync of the log has been running for more than a second: writes wait for the disk"
            );
            self.server.counters.delayed_syncs += 1;
        }
        self.disk_is_behind = behind;
    }

    /// Looks at clients whose output is over the soft limit.
    pub(super) fn check_output_limits(&mut self) {
        let limits = self.server.config.client_output_buffer_limit;
        if limits.normal.soft == 0 && limits.pubsub.soft == 0 {
            return;
        }
        for slot in self.clients.slots_where(|session| session.over_soft_limit.is_some()) {
            self.limit_output(slot);
        }
    }
}

impl Session {
    /// Whether it is sent what it has not asked for one by one.
    fn listens(&self) -> bool {
        self.subscriptions.is_some() || self.monitors
    }

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
