//! Messages on their way to who listens.
//!
//! They go the way of replies: behind the replies that their receivers were given before, and when what they
//! depend on is on disk, if the receiver's policy is `always`. Whoever gets one may conclude that all that was
//! written before it is there, so a message depends on the last sequence; one of a turn that could not be
//! appended is not delivered.

use super::channels::Outgoing;
use super::session::Session;
use super::{ClientKey, EngineTask, TurnReply};
use crate::resp::{Output, Protocol, Reply, Sink, encode};
use bytes::{Bytes, BytesMut};

/// A message's bytes, made when they are first wanted.
pub(super) struct Encoded<'a> {
    push: &'a Reply,
    resp2: Option<Bytes>,
    resp3: Option<Bytes>,
}

impl<'a> Encoded<'a> {
    pub(super) fn new(push: &'a Reply) -> Encoded<'a> {
        Encoded { push, resp2: None, resp3: None }
    }

    pub(super) fn bytes(&mut self, protocol: Protocol) -> &Bytes {
        let bytes = match protocol {
            Protocol::Resp2 => &mut self.resp2,
            Protocol::Resp3 => &mut self.resp3,
        };
        bytes.get_or_insert_with(|| {
            let mut bytes = BytesMut::new();
            encode(self.push, protocol, &mut bytes);
            bytes.freeze()
        })
    }
}

impl EngineTask {
    /// Sends the messages of the command that has just run. Those for its own client come before its reply.
    pub(super) fn deliver(&mut self, client: ClientKey, session: &Session, output: &mut Output) {
        let depends = self.store.engine_ref().last_sequence();
        for Outgoing { push, to, .. } in std::mem::take(&mut self.store.channels.outgoing) {
            let mut encoded = Encoded::new(&push);
            for receiver in to {
                if receiver == client {
                    self.store.depend_on_all();
                    output.put_shared(encoded.bytes(session.protocol));
                } else {
                    self.deliver_to(receiver, depends, &mut encoded);
                }
            }
        }
    }

    /// Sends messages that no command has caused.
    pub(super) fn deliver_to_others(&mut self) {
        let depends = self.store.engine_ref().last_sequence();
        for Outgoing { push, to, .. } in std::mem::take(&mut self.store.channels.outgoing) {
            let mut encoded = Encoded::new(&push);
            to.into_iter().for_each(|receiver| self.deliver_to(receiver, depends, &mut encoded));
        }
    }

    pub(super) fn deliver_to(&mut self, receiver: ClientKey, depends: u64, message: &mut Encoded<'_>) {
        let server_policy = self.server.config.appendfsync;
        let session = self.clients.get_mut(receiver.slot).filter(|session| session.id == receiver.id);
        let Some(session) = session.filter(|session| !session.closing) else { return };
        let bytes = message.bytes(session.protocol);
        // Messages in a row leave together.
        if let Some((turn, index)) = session.pushed
            && turn == self.turns
            && let Some(reply) = self.turn.get_mut(index)
        {
            reply.output.put_shared(bytes);
            reply.depends = reply.depends.max(depends);
            return;
        }
        let mut output = Output::new();
        output.put_shared(bytes);
        let policy = session.durability.unwrap_or(server_policy);
        let before = session.standing();
        session.pushed = Some((self.turns, self.turn.len()));
        let slot = receiver.slot;
        self.turn.push(TurnReply { slot, output, depends, policy, replies: 0, batches: 0, before });
    }
}
