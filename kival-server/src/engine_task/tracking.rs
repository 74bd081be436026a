//! Client-side caching (CLIENT TRACKING): who may have cached which keys, and what has to be told to whom.
//!
//! A command leaves notes of what it has read and changed, in order; they are gone through when its reply is
//! made, so that a client hears of its own changes behind the reply. Who tracks prefixes (BCAST) is told once a
//! turn. An invalidation goes the way of messages: under `always` it is sent when the change is on disk. Nothing
//! is noted as long as nobody tracks.

use super::messages::Encoded;
use super::session::Session;
use super::{ClientKey, EngineTask};
use crate::command::{Command, Flags, Row, resolve};
use crate::resp::{Args, Output, Protocol, Reply, Sink};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Where a client of RESP2 that others are redirected to hears of invalidations.
const CHANNEL: &str = "__redis__:invalidate";

/// Which reads of a client count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Choice {
    /// All.
    #[default]
    All,
    /// Those behind CLIENT CACHING YES.
    OptIn,
    /// Those that are not behind CLIENT CACHING NO.
    OptOut,
}

/// How a client tracks.
#[derive(Debug, Default)]
pub struct Tracker {
    /// Who is told in its place.
    pub redirect: Option<ClientKey>,
    /// That one has gone.
    pub broken: bool,
    /// BCAST: it is told of all keys with certain prefixes.
    pub broadcast: bool,
    /// These; the empty one is one of all keys.
    pub prefixes: BTreeSet<Bytes>,
    /// OPTIN and OPTOUT.
    pub choice: Choice,
    /// CLIENT CACHING was said for the next command.
    pub caching: bool,
    /// NOLOOP: it is not told of its own changes.
    pub no_loop: bool,
}

impl Tracker {
    fn counts_reads(&self) -> bool {
        let chosen = match self.choice {
            Choice::All => true,
            Choice::OptIn => self.caching,
            Choice::OptOut => !self.caching,
        };
        chosen && !self.broadcast
    }
}

/// Something that a command has done.
#[derive(Debug)]
enum Note {
    Read(Bytes),
    Changed(Bytes),
    Flushed,
}

/// All that is tracked.
#[derive(Debug, Default)]
pub struct Tracking {
    trackers: HashMap<ClientKey, Tracker>,
    /// Clients that may have cached a key, whichever database it was in; some may have gone.
    readers: HashMap<Bytes, HashSet<ClientKey>>,
    /// Their number over all keys.
    items: usize,
    notes: Vec<Note>,
    /// Keys changed in this turn, and by whom at last.
    changed: BTreeMap<Bytes, Option<ClientKey>>,
}

impl Tracking {
    /// Whether anybody tracks: else nothing need be noted.
    #[inline]
    pub fn is_on(&self) -> bool {
        !self.trackers.is_empty()
    }

    /// How a client tracks, if it does.
    pub fn tracker(&mut self, client: ClientKey) -> Option<&mut Tracker> {
        self.trackers.get_mut(&client)
    }

    /// As [`Self::tracker`], to look at.
    pub fn look(&self, client: ClientKey) -> Option<&Tracker> {
        self.trackers.get(&client)
    }

    /// All who track, by the ids of their clients.
    pub fn by_id(&self) -> HashMap<u64, &Tracker> {
        self.trackers.iter().map(|(client, own)| (client.id, own)).collect()
    }

    /// Has a client track.
    pub fn start(&mut self, client: ClientKey, tracker: Tracker) {
        self.trackers.insert(client, tracker);
    }

    /// Has it track no more; what it has read is forgotten when it changes.
    pub fn stop(&mut self, client: ClientKey) {
        self.trackers.remove(&client);
        if self.trackers.is_empty() {
            *self = Tracking::default();
        }
    }

    /// How many clients track, how many keys are tracked, by how many clients together, and how many prefixes.
    pub fn counts(&self) -> [usize; 4] {
        let prefixes: BTreeSet<&Bytes> = self.trackers.values().flat_map(|own| &own.prefixes).collect();
        [self.trackers.len(), self.readers.len(), self.items, prefixes.len()]
    }

    /// Notes a changed key.
    #[inline]
    pub fn changed(&mut self, key: &[u8]) {
        if self.is_on() {
            self.notes.push(Note::Changed(Bytes::copy_from_slice(key)));
        }
    }

    /// Notes that whole databases were emptied.
    pub fn flushed(&mut self) {
        if self.is_on() {
            self.notes.push(Note::Flushed);
        }
    }

    /// Number of notes, for [`Self::take_back`].
    pub fn noted(&self) -> usize {
        self.notes.len()
    }

    /// Forgets the notes from the `from`th on: what they tell of was taken back.
    pub fn take_back(&mut self, from: usize) {
        self.notes.truncate(from);
    }

    /// Notes what a command of a client has read, if the client wants to hear when that changes.
    pub fn ran(&mut self, client: ClientKey, command: &Command, args: Args<'_>) {
        let reads = command.flags.has(Flags::READONLY) && !command.flags.has(Flags::PUBSUB);
        if reads && self.trackers.get(&client).is_some_and(Tracker::counts_reads) {
            let keys = command.key_indices(args).map(|index| Bytes::copy_from_slice(&args[index]));
            self.notes.extend(keys.map(Note::Read));
        }
    }

    fn read(&mut self, key: Bytes, client: ClientKey) {
        if self.readers.entry(key).or_default().insert(client) {
            self.items += 1;
        }
    }

    /// Forgets who has read a key, and gives those who are to be told that it has changed.
    fn take_readers(&mut self, key: &[u8], by: Option<ClientKey>) -> Vec<ClientKey> {
        let Some(readers) = self.readers.remove(key) else { return Vec::new() };
        self.items -= readers.len();
        let is_told = |client: &ClientKey| {
            self.trackers
                .get(client)
                .is_some_and(|own| !(own.broadcast || own.no_loop && by == Some(*client)))
        };
        let mut told: Vec<ClientKey> = readers.into_iter().filter(is_told).collect();
        told.sort_unstable_by_key(|client| client.id);
        told
    }

    fn forget_all_readers(&mut self) {
        self.readers = HashMap::new();
        self.items = 0;
    }

    /// The keys changed in this turn that clients track by prefix: a list for each client and prefix.
    fn take_broadcast(&mut self) -> Vec<(ClientKey, Vec<Bytes>)> {
        let changed = std::mem::take(&mut self.changed);
        let mut lists: Vec<(&Bytes, ClientKey, Vec<Bytes>)> = Vec::new();
        for (client, own) in self.trackers.iter().filter(|(_, own)| own.broadcast) {
            for prefix in &own.prefixes {
                let known = |by: &Option<ClientKey>| own.no_loop && *by == Some(*client);
                let concerned =
                    changed.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(prefix));
                let keys: Vec<Bytes> =
                    concerned.filter(|(_, by)| !known(by)).map(|(key, _)| key.clone()).collect();
                if !keys.is_empty() {
                    lists.push((prefix, *client, keys));
                }
            }
        }
        lists.sort_unstable_by_key(|(prefix, client, _)| (*prefix, client.id));
        lists.into_iter().map(|(_, client, keys)| (client, keys)).collect()
    }

    /// A key too many, so that no more than `most` are tracked.
    fn one_over(&self, most: usize) -> Option<Bytes> {
        if self.readers.len() > most { self.readers.keys().next().cloned() } else { None }
    }
}

/// The client whose command has just run: it is not among the others.
struct Current<'a> {
    client: ClientKey,
    session: &'a Session,
    output: &'a mut Output,
}

fn list(keys: impl IntoIterator<Item = Bytes>) -> Reply {
    Reply::Array(keys.into_iter().map(Reply::Bulk).collect())
}

impl EngineTask {
    /// Tells of what the command that has just run has changed, and remembers what it has read.
    #[inline]
    pub(super) fn invalidate(&mut self, client: ClientKey, session: &Session, output: &mut Output) {
        if self.store.tracking.noted() > 0 {
            self.go_through_notes(Some(Current { client, session, output }));
        }
    }

    /// CLIENT CACHING is for one command, or one transaction; others of CLIENT may stand between.
    pub(super) fn end_caching(&mut self, client: ClientKey, session: &Session, args: Args<'_>) {
        let keeps = |row: Row| row.command.flags.has(Flags::KEEPS_CACHING);
        if session.transaction.is_none()
            && let Some(tracker) = self.store.tracking.tracker(client)
            && !resolve(args).is_ok_and(keeps)
        {
            tracker.caching = false;
        }
    }

    /// Tells of what no command has changed.
    pub(super) fn invalidate_for_others(&mut self) {
        self.go_through_notes(None);
    }

    fn go_through_notes(&mut self, mut current: Option<Current<'_>>) {
        let by = current.as_ref().map(|current| current.client);
        for note in std::mem::take(&mut self.store.tracking.notes) {
            let tracking = &mut self.store.tracking;
            match note {
                Note::Read(key) => by.into_iter().for_each(|client| tracking.read(key.clone(), client)),
                Note::Changed(key) => {
                    for target in tracking.take_readers(&key, by) {
                        self.send_invalidation(target, list([key.clone()]), &mut current);
                    }
                    self.store.tracking.changed.insert(key, by);
                }
                Note::Flushed => self.invalidate_all(&mut current),
            }
        }
    }

    /// Has all who track forget all they know.
    fn invalidate_all(&mut self, current: &mut Option<Current<'_>>) {
        self.store.tracking.forget_all_readers();
        let mut all: Vec<ClientKey> = self.store.tracking.trackers.keys().copied().collect();
        all.sort_unstable_by_key(|client| client.id);
        for target in all {
            self.send_invalidation(target, Reply::Null, current);
        }
    }

    /// What this turn has told nobody knows any more, since the turn was taken back: clients that track would
    /// not hear of the next change.
    pub(super) fn distrust_trackers(&mut self) {
        if self.store.tracking.is_on() {
            self.invalidate_all(&mut None);
        }
    }

    /// Tells of this turn's changes to who tracks prefixes.
    pub(super) fn broadcast_invalidations(&mut self) {
        if self.store.tracking.changed.is_empty() {
            return;
        }
        for (target, keys) in self.store.tracking.take_broadcast() {
            self.send_invalidation(target, list(keys), &mut None);
        }
    }

    /// Keeps `tracking-table-max-keys`.
    pub(super) fn limit_tracking(&mut self) {
        let most = match self.server.config.tracking_table_max_keys {
            0 => return,
            most => usize::try_from(most).unwrap_or(usize::MAX),
        };
        while let Some(key) = self.store.tracking.one_over(most) {
            for target in self.store.tracking.take_readers(&key, None) {
                self.send_invalidation(target, list([key.clone()]), &mut None);
            }
        }
    }

    /// Sends an invalidation to a client that tracks, or to whom it is redirected to.
    fn send_invalidation(&mut self, target: ClientKey, what: Reply, current: &mut Option<Current<'_>>) {
        let Some(tracker) = self.store.tracking.trackers.get_mut(&target) else { return };
        let redirect = tracker.redirect;
        let receiver = redirect.unwrap_or(target);
        let known = match current {
            Some(current) if current.client == receiver => Some(current.session),
            _ => self.clients.get(receiver.slot).filter(|session| session.id == receiver.id),
        };
        let Some(session) = known else {
            tracker.broken = true;
            let lost = vec!["tracking-redir-broken".into(), Reply::Integer(receiver.id.cast_signed())];
            return self.push(target, &Reply::Push(lost), Some(Protocol::Resp3), current);
        };
        let listens = session.subscriptions.is_some();
        match session.protocol {
            Protocol::Resp3 => {
                self.push(receiver, &Reply::Push(vec!["invalidate".into(), what]), None, current)
            }
            Protocol::Resp2 if redirect.is_some() && listens => {
                let message = vec!["message".into(), CHANNEL.into(), what];
                self.push(receiver, &Reply::Push(message), None, current);
            }
            // There is no form in which it could be told among its replies.
            Protocol::Resp2 => {}
        }
    }

    /// Sends something that is no reply to a client, if its protocol is the one.
    fn push(
        &mut self,
        receiver: ClientKey,
        push: &Reply,
        only: Option<Protocol>,
        current: &mut Option<Current<'_>>,
    ) {
        let mut encoded = Encoded::new(push);
        if let Some(current) = current
            && current.client == receiver
        {
            if only.is_none_or(|only| only == current.session.protocol) {
                current.output.put_shared(encoded.bytes(current.session.protocol));
            }
            return;
        }
        let session = self.clients.get(receiver.slot).filter(|session| session.id == receiver.id);
        if session.is_some_and(|session| only.is_none_or(|only| only == session.protocol)) {
            let depends = self.store.engine_ref().last_sequence();
            self.deliver_to(receiver, depends, &mut encoded);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(id: usize) -> ClientKey {
        ClientKey { slot: id, id: id as u64 }
    }

    #[test]
    fn readers_are_told_once_and_not_of_their_own_changes_if_they_do_not_want_it() {
        let mut tracking = Tracking::default();
        tracking.changed(b"k");
        assert_eq!(tracking.noted(), 0, "nobody tracks");
        tracking.start(client(1), Tracker::default());
        tracking.start(client(2), Tracker { no_loop: true, ..Tracker::default() });
        for reader in [2, 1, 1, 3] {
            tracking.read("k".into(), client(reader));
        }
        assert_eq!(tracking.counts(), [2, 1, 3, 0]);
        assert_eq!(tracking.take_readers(b"k", Some(client(2))), [client(1)], "the third has gone");
        assert_eq!(tracking.counts(), [2, 0, 0, 0]);
        tracking.read("k".into(), client(2));
        assert_eq!(tracking.take_readers(b"k", Some(client(1))), [client(2)]);
        tracking.read("k".into(), client(2));
        tracking.stop(client(1));
        tracking.stop(client(2));
        assert_eq!(tracking.counts(), [0; 4], "nothing is kept");
    }

    #[test]
    fn prefixes_are_told_once_a_turn_in_order() {
        let mut tracking = Tracking::default();
        let prefixes = |names: &[&'static str]| names.iter().map(|name| Bytes::from(*name)).collect();
        let broadcast = |names, no_loop| Tracker {
            broadcast: true,
            prefixes: prefixes(names),
            no_loop,
            ..Tracker::default()
        };
        tracking.start(client(1), broadcast(&["b", "a"], true));
        tracking.start(client(2), broadcast(&[""], false));
        for (key, by) in [("b2", 1), ("b1", 2), ("c", 2), ("a", 1)] {
            tracking.changed.insert(key.into(), Some(client(by)));
        }
        let told = tracking.take_broadcast();
        let expected: [(ClientKey, Vec<Bytes>); 2] =
            [(client(2), ["a", "b1", "b2", "c"].map(Bytes::from).to_vec()), (client(1), vec!["b1".into()])];
        assert_eq!(told, expected);
        assert!(tracking.take_broadcast().is_empty());
    }
}
