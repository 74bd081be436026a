//! Who listens to which messages, and the messages of a turn that are still to be delivered.
//!
//! Nothing is kept for who does not listen. A message is made once, and encoded once for each version of the
//! protocol; when and to whom its bytes go is in `messages.rs`.

use super::ClientKey;
use crate::glob::{Case, matches};
use crate::resp::Reply;
use bytes::Bytes;
use std::collections::{BTreeSet, HashMap, HashSet};

/// What a client listens to.
#[derive(Debug, Default)]
pub struct Subscriptions {
    /// SUBSCRIBE.
    pub channels: BTreeSet<Bytes>,
    /// PSUBSCRIBE, in the order of the subscriptions.
    pub patterns: Vec<Bytes>,
    /// SSUBSCRIBE.
    pub shards: BTreeSet<Bytes>,
}

impl Subscriptions {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty() && self.patterns.is_empty() && self.shards.is_empty()
    }

    /// Those of channels and patterns, as replies count them.
    pub fn count(&self) -> usize {
        self.channels.len() + self.patterns.len()
    }
}

/// A message with those who are to get it.
#[derive(Debug)]
pub struct Outgoing {
    /// The message.
    pub push: Reply,
    /// Its receivers.
    pub to: Vec<ClientKey>,
    /// It is sent even if its command ends with an error: it tells of no change.
    pub stands: bool,
}

/// Listeners by channel.
type Listeners = HashMap<Bytes, HashSet<ClientKey>>;

/// The channels of the server.
#[derive(Debug, Default)]
pub struct Channels {
    channels: Listeners,
    patterns: Listeners,
    shards: Listeners,
    /// Messages of the commands that ran last.
    pub outgoing: Vec<Outgoing>,
}

fn leave(listeners: &mut Listeners, name: &[u8], client: ClientKey) {
    if let Some(clients) = listeners.get_mut(name) {
        clients.remove(&client);
        if clients.is_empty() {
            listeners.remove(name);
        }
    }
}

fn named<'a>(
    listeners: &'a Listeners,
    pattern: Option<&'a [u8]>,
) -> impl Iterator<Item = &'a Bytes> + use<'a> {
    listeners.keys().filter(move |name| pattern.is_none_or(|pattern| matches(pattern, name, Case::Sensitive)))
}

impl Channels {
    /// Has a client listen to a channel; `false` if it does.
    pub fn subscribe(&mut self, client: ClientKey, own: &mut Subscriptions, channel: Bytes) -> bool {
        let new = own.channels.insert(channel.clone());
        self.channels.entry(channel).or_default().insert(client);
        new
    }

    /// As [`Self::subscribe`], to all channels that a pattern matches.
    pub fn subscribe_pattern(&mut self, client: ClientKey, own: &mut Subscriptions, pattern: Bytes) -> bool {
        let new = self.patterns.entry(pattern.clone()).or_default().insert(client);
        if new {
            own.patterns.push(pattern);
        }
        new
    }

    /// As [`Self::subscribe`], to a channel of a shard.
    pub fn subscribe_shard(&mut self, client: ClientKey, own: &mut Subscriptions, channel: Bytes) -> bool {
        let new = own.shards.insert(channel.clone());
        self.shards.entry(channel).or_default().insert(client);
        new
    }

    /// Has a client listen to a channel no more.
    pub fn unsubscribe(&mut self, client: ClientKey, own: &mut Subscriptions, channel: &[u8]) {
        own.channels.remove(channel);
        leave(&mut self.channels, channel, client);
    }

    /// As [`Self::unsubscribe`], of a pattern.
    pub fn unsubscribe_pattern(&mut self, client: ClientKey, own: &mut Subscriptions, pattern: &[u8]) {
        own.patterns.retain(|other| other != pattern);
        leave(&mut self.patterns, pattern, client);
    }

    /// As [`Self::unsubscribe`], of a channel of a shard.
    pub fn unsubscribe_shard(&mut self, client: ClientKey, own: &mut Subscriptions, channel: &[u8]) {
        own.shards.remove(channel);
        leave(&mut self.shards, channel, client);
    }

    /// Forgets a client that has gone, or is reset.
    pub fn forget(&mut self, client: ClientKey, own: &Subscriptions) {
        own.channels.iter().for_each(|channel| leave(&mut self.channels, channel, client));
        own.patterns.iter().for_each(|pattern| leave(&mut self.patterns, pattern, client));
        own.shards.iter().for_each(|channel| leave(&mut self.shards, channel, client));
    }

    /// Sends a message to all who listen to a channel, and says how many receivers it has.
    pub fn publish(&mut self, channel: &Bytes, message: &Bytes) -> usize {
        let mut receivers = 0;
        let mut send = |clients: &HashSet<ClientKey>, push: Vec<Reply>| {
            receivers += clients.len();
            let to = clients.iter().copied().collect();
            self.outgoing.push(Outgoing { push: Reply::Push(push), to, stands: false });
        };
        let (name, text) = (|| Reply::Bulk(channel.clone()), || Reply::Bulk(message.clone()));
        if let Some(clients) = self.channels.get(channel) {
            send(clients, vec!["message".into(), name(), text()]);
        }
        for (pattern, clients) in
            self.patterns.iter().filter(|(pattern, _)| matches(pattern, channel, Case::Sensitive))
        {
            send(clients, vec!["pmessage".into(), Reply::Bulk(pattern.clone()), name(), text()]);
        }
        receivers
    }

    /// As [`Self::publish`], on a channel of a shard.
    pub fn publish_to_shard(&mut self, channel: &Bytes, message: &Bytes) -> usize {
        let Some(clients) = self.shards.get(channel) else { return 0 };
        let push = vec!["smessage".into(), Reply::Bulk(channel.clone()), Reply::Bulk(message.clone())];
        let to = clients.iter().copied().collect();
        self.outgoing.push(Outgoing { push: Reply::Push(push), to, stands: false });
        clients.len()
    }

    /// Channels that someone listens to, and that match the pattern if there is one.
    pub fn active<'a>(&'a self, pattern: Option<&'a [u8]>) -> impl Iterator<Item = &'a Bytes> + use<'a> {
        named(&self.channels, pattern)
    }

    /// As [`Self::active`], of shards.
    pub fn active_shards<'a>(
        &'a self,
        pattern: Option<&'a [u8]>,
    ) -> impl Iterator<Item = &'a Bytes> + use<'a> {
        named(&self.shards, pattern)
    }

    /// How many listen to a channel by its name.
    pub fn listeners(&self, channel: &[u8]) -> usize {
        self.channels.get(channel).map_or(0, HashSet::len)
    }

    /// As [`Self::listeners`], of a shard's.
    pub fn shard_listeners(&self, channel: &[u8]) -> usize {
        self.shards.get(channel).map_or(0, HashSet::len)
    }

    /// Drops the messages from the `from`th on, since their command was taken back; those that stand all the same
    /// stay if it ended with an error, and does not run again.
    pub fn take_back(&mut self, from: usize, is_over: bool) {
        let mut index = 0;
        self.outgoing.retain(|message| {
            index += 1;
            index <= from || (is_over && message.stands)
        });
    }

    /// Takes out the messages from the `from`th on that are for this client.
    pub fn take_own(&mut self, from: usize, client: ClientKey) -> Vec<Reply> {
        let mut own = Vec::new();
        for Outgoing { push, to, .. } in &mut self.outgoing[from..] {
            let before = to.len();
            to.retain(|receiver| *receiver != client);
            if to.len() < before {
                own.push(push.clone());
            }
        }
        own
    }

    /// How many channels, patterns and channels of shards someone listens to.
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.channels.len(), self.patterns.len(), self.shards.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(slot: usize) -> ClientKey {
        ClientKey { slot, id: slot as u64 }
    }

    #[test]
    fn a_message_goes_to_who_listens_once_for_each_subscription() {
        let (mut channels, mut one, mut other) =
            (Channels::default(), Subscriptions::default(), Subscriptions::default());
        assert!(channels.subscribe(client(1), &mut one, "news".into()));
        assert!(!channels.subscribe(client(1), &mut one, "news".into()));
        assert!(channels.subscribe_pattern(client(1), &mut one, "n*".into()));
        assert!(channels.subscribe(client(2), &mut other, "news".into()));
        assert!(channels.subscribe_shard(client(2), &mut other, "news".into()));
        assert_eq!(channels.publish(&"news".into(), &"text".into()), 3);
        assert_eq!(channels.publish(&"no".into(), &"text".into()), 1);
        assert_eq!(channels.publish(&"else".into(), &"text".into()), 0);
        assert_eq!(channels.publish_to_shard(&"news".into(), &"text".into()), 1);
        let receivers: usize = channels.outgoing.iter().map(|message| message.to.len()).sum();
        assert_eq!(receivers, 5);
        channels.unsubscribe(client(1), &mut one, b"news");
        channels.forget(client(2), &other);
        assert_eq!(channels.publish(&"news".into(), &"text".into()), 1);
        channels.unsubscribe_pattern(client(1), &mut one, b"n*");
        assert!(one.is_empty() && channels.counts() == (0, 0, 0), "nothing is kept");
    }
}
