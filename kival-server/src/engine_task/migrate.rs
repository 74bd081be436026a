//! Keys that go to another server (MIGRATE): they are sent by a thread that may wait, while their client is parked
//! and everybody else goes on. What has arrived is deleted here if it is still what was sent.
//!
//! Nothing is sent that could still be taken back: not before the turn that read it is appended, and under
//! `always` not before what it read is on disk. The deletions wait for no client: whether who asked for them is
//! still there or not, a key that has arrived goes. During a pause they wait, as all writes do.

use super::run::misconf;
use super::store::Store;
use super::{ClientKey, EngineTask, Event, TurnReply};
use crate::command::Abort;
use crate::config::{AppendFsync, NotifyEvents};
use crate::net::transfer::{self, Failure, Parcel, Sent, Target};
use crate::resp::{ErrorReply, Output, Reply};
use bytes::Bytes;
use kival_engine::KeyEntry;
use std::collections::HashSet;
use std::time::Instant;

/// Migrations under way at once: each has a thread.
const MOST_AT_ONCE: usize = 16;

const NOT_WRITTEN: &str = "MISCONF what was to travel could not be written: nothing was sent";

/// Keys on their way to another server, in the order of the request.
#[derive(Debug)]
pub struct Migration {
    target: Target,
    /// The database that they are of.
    db: u32,
    /// They stay here, too.
    copy: bool,
    parcels: Vec<Parcel>,
    /// What each was when it was read.
    seen: Vec<Seen>,
    /// When that was.
    read: Instant,
}

/// What a key was: no other value has the same sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    sequence: u64,
    expiry: u64,
}

impl Seen {
    fn of(store: &Store, db: u32, entry: &KeyEntry) -> Seen {
        Seen { sequence: store.engine_ref().newest_of(db, entry), expiry: entry.expiry }
    }

    fn has_expired(self, now: u64) -> bool {
        self.expiry != 0 && self.expiry <= now
    }
}

impl Migration {
    /// One of no keys yet.
    pub fn new(target: Target, db: u32, copy: bool) -> Migration {
        Migration { target, db, copy, parcels: Vec::new(), seen: Vec::new(), read: Instant::now() }
    }

    /// Adds a key, and what it is now.
    pub fn add(&mut self, store: &Store, key: &[u8], value: Bytes, entry: &KeyEntry) {
        let now = store.now();
        let lifetime = if entry.expiry == 0 { 0 } else { entry.expiry.saturating_sub(now).max(1) };
        self.parcels.push(Parcel { key: Bytes::copy_from_slice(key), value, lifetime });
        self.seen.push(Seen::of(store, self.db, entry));
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.parcels.is_empty()
    }
}

/// Migrations by how far they are.
#[derive(Debug, Default)]
pub(super) struct Migrations {
    /// Those that wait for the log, or for their turn.
    queue: Vec<Wanted>,
    under_way: usize,
    /// Those that are over but for the deletions, which a pause holds back.
    held: Vec<(ClientKey, Box<Migration>, Sent)>,
}

#[derive(Debug)]
struct Wanted {
    client: ClientKey,
    migration: Box<Migration>,
    /// What it has read is on disk with this sequence; 0 if that does not matter.
    depends: u64,
    /// What it has read was taken back.
    void: bool,
}

impl Migrations {
    /// Whether the server has to wait for none before it ends.
    pub(super) fn are_over(&self) -> bool {
        self.queue.is_empty() && self.under_way == 0
    }

    /// A turn could not be appended: what these clients have read in it may never have been.
    pub(super) fn take_back(&mut self, slots: &HashSet<usize>) {
        for wanted in self.queue.iter_mut().filter(|wanted| slots.contains(&wanted.client.slot)) {
            wanted.void = true;
        }
    }
}

impl EngineTask {
    /// Has keys sent when what the command has read can be relied on.
    pub(super) fn want_migration(
        &mut self,
        client: ClientKey,
        policy: AppendFsync,
        migration: Box<Migration>,
    ) {
        let depends = if policy == AppendFsync::Always { self.store.dependency() } else { 0 };
        self.migrations.queue.push(Wanted { client, migration, depends, void: false });
    }

    /// Begins what can begin. Stands between turns.
    pub(super) fn begin_migrations(&mut self) {
        if self.migrations.queue.is_empty() {
            return;
        }
        let durable = self.store.engine_ref().durable_sequence();
        let failed = self.store.engine_ref().sync_failure();
        for wanted in std::mem::take(&mut self.migrations.queue) {
            let Wanted { client, depends, void, .. } = wanted;
            let waits = depends > durable;
            if !self.is_here(client) {
                continue;
            } else if void {
                self.end_migration(client, Err(NOT_WRITTEN.into()));
            } else if let Some(cause) = failed.as_ref().filter(|_| waits) {
                self.end_migration(client, Err(misconf(cause).into()));
            } else if waits || self.migrations.under_way == MOST_AT_ONCE {
                self.migrations.queue.push(wanted);
            } else {
                self.begin_migration(client, wanted.migration);
            }
        }
    }

    fn begin_migration(&mut self, client: ClientKey, migration: Box<Migration>) {
        let events = self.events.clone();
        // No thread of the runtime: those are for reads of the disk, and the server's end waits for them.
        let thread = std::thread::Builder::new().name("migrate".into());
        let begun = thread.spawn(move || {
            let mut migration = migration;
            let sent = transfer::send(&migration.target, &migration.parcels, migration.read);
            // What frees a large value takes a while.
            migration.parcels.iter_mut().for_each(|parcel| parcel.value = Bytes::new());
            // When the server has ended nobody waits for it.
            let _ = events.send(Event::Migrated(client, migration, sent));
        });
        match begun {
            Ok(_) => self.migrations.under_way += 1,
            Err(error) => {
                tracing::warn!(%error, "no thread can be started for a migration");
                self.end_migration(client, Err(Failure::Connect.reply()));
            }
        }
    }

    /// Keys were sent: those that have arrived are deleted, unless a pause holds that back.
    pub(super) fn migrated(&mut self, client: ClientKey, migration: Box<Migration>, sent: Sent) {
        self.migrations.under_way -= 1;
        if self.server.pause.is_some() && self.draining.is_none() && !migration.copy {
            self.migrations.held.push((client, migration, sent));
        } else {
            self.settle(client, &migration, sent);
        }
    }

    /// The pause is over.
    pub(super) fn settle_held_migrations(&mut self) {
        for (client, migration, sent) in std::mem::take(&mut self.migrations.held) {
            self.settle(client, &migration, sent);
        }
    }

    fn settle(&mut self, client: ClientKey, migration: &Migration, sent: Sent) {
        let deleted = if migration.copy { Ok(0) } else { self.delete_arrived(migration, &sent.accepted) };
        let outcome = match (deleted, sent.failure) {
            (Err(refusal), _) => Err(refusal),
            (Ok(_), Some(failure)) => Err(failure.reply()),
            (Ok(0), None) => Ok(()),
            (Ok(changed), None) => Err(changed_meanwhile(changed, migration.parcels.len())),
        };
        self.end_migration(client, outcome);
    }

    /// Deletes those of the keys that are still what was sent; gives the number of the others.
    fn delete_arrived(&mut self, migration: &Migration, arrived: &[usize]) -> Result<usize, ErrorReply> {
        let (db, mut changed) = (migration.db, 0);
        let mut gone: HashSet<&Bytes> = HashSet::new();
        for &index in arrived {
            let (key, seen) = (&migration.parcels[index].key, migration.seen[index]);
            let found = self.store.peek(db, key).map_err(|abort| self.refusal(abort))?;
            if found.is_some_and(|entry| Seen::of(&self.store, db, &entry) == seen) {
                self.store.delete(db, key).map_err(|abort| self.refusal(abort))?;
                self.store.notify(db, NotifyEvents::GENERIC, "del", key);
                gone.insert(key);
            } else if found.is_some() || !(gone.contains(key) || seen.has_expired(self.store.now())) {
                changed += 1;
            }
        }
        Ok(changed)
    }

    /// The error of a key that cannot be deleted.
    fn refusal(&mut self, abort: Abort) -> ErrorReply {
        match abort {
            Abort::Error(error) => error,
            Abort::Read(error) => self.refuse_read(&error),
            Abort::Write(error) => self.refuse_write(&error),
            _ => unreachable!("a deletion neither reads values nor waits"),
        }
    }

    /// Tells who listens what was deleted, and its client, if it is still there, how it went.
    fn end_migration(&mut self, client: ClientKey, outcome: Result<(), ErrorReply>) {
        let here = if self.is_here(client) { self.clients.take(client.slot) } else { None };
        let Some(mut session) = here else {
            self.deliver_to_others();
            self.invalidate_for_others();
            self.store.take_dependency();
            return;
        };
        session.parked = None;
        let reply = match outcome {
            Ok(()) => Reply::Ok,
            Err(error) => {
                self.count_error(&error);
                session.last_command.into_iter().for_each(|row| self.server.counters.statistics.failed(row));
                Reply::Error(error)
            }
        };
        let mut output = Output::new();
        self.deliver(client, &session, &mut output);
        let replies = session.answer(&reply, &mut output);
        self.invalidate(client, &session, &mut output);
        session.pushed = None;
        let depends = self.store.take_dependency();
        let policy = self.policy_of(&session);
        let batches = u32::from(session.finish_waiting_batch());
        let (slot, before) = (client.slot, session.standing());
        self.turn.push(TurnReply { slot, output, depends, policy, replies, batches, before });
        self.clients.put_back(slot, session);
        self.ready.push_back(client);
    }
}

/// What a client is told when OK would not be true.
fn changed_meanwhile(changed: usize, of: usize) -> ErrorReply {
    format!(
        "ERR {changed} of {of} keys changed on their way: they are not deleted here, and the target has what they were"
    )
    .into()
}
