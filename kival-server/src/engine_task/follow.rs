//! Followers of the change feed: their reads, which go to a thread that may wait for the disk, and their waits
//! for what becomes durable.
//!
//! The feed shows durable changes only, so that its replies depend on nothing and need not be held.

use super::park::{Parked, UNBLOCKED};
use super::{ClientKey, EngineTask, Event};
use crate::command::changes_answer;
use crate::config::AppendFsync;
use crate::resp::Reply;
use kival_engine::feed::{Changes, FeedError, FeedQuery};

/// A client in KIVAL CHANGES.
#[derive(Debug)]
pub struct Following {
    query: FeedQuery,
    /// It waits if there is nothing.
    blocks: bool,
    /// Unix milliseconds at which it answers all the same.
    deadline: Option<u64>,
    /// CLIENT UNBLOCK has ended it, with an error or without.
    unblocked: Option<bool>,
}

impl Following {
    /// What is asked for, and whether and until when to wait for it.
    pub fn new(query: FeedQuery, blocks: bool, deadline: Option<u64>) -> Following {
        Following { query, blocks, deadline, unblocked: None }
    }

    /// Whether it waits for a time only.
    pub fn has_deadline(&self) -> bool {
        self.deadline.is_some()
    }

    /// Whether CLIENT UNBLOCK can wake it.
    pub fn blocks(&self) -> bool {
        self.blocks
    }

    /// Ends its wait.
    pub fn unblock(&mut self, with_error: bool) {
        self.unblocked = Some(with_error);
    }

    /// The reply of a wait that is over, with nothing found.
    fn over(&self, now: u64) -> Option<Reply> {
        if self.unblocked == Some(true) {
            return Some(Reply::error(UNBLOCKED));
        }
        let late = self.deadline.is_some_and(|deadline| deadline <= now);
        let nothing = Changes { changes: Vec::new(), next: self.query.since, at_end: true };
        (late || self.unblocked.is_some() || !self.blocks).then(|| changes_answer(nothing, false))
    }
}

/// What a read of the feed has brought.
pub type FeedResult = Result<Changes, FeedError>;

impl EngineTask {
    /// Has a thread read what a client asks of the feed.
    pub(super) fn read_changes(&mut self, client: ClientKey, following: &Following) {
        self.sync_for_followers();
        let (view, query) = (self.store.engine_ref().feed(), following.query.clone());
        let events = self.events.clone();
        tokio::task::spawn_blocking(move || {
            // When the server has ended nobody waits for it.
            let _ = events.send(Event::Changes(client, view.read(&query)));
        });
    }

    /// Takes what a read has brought: the client is answered, waits, or has more read.
    pub(super) fn changes_read(&mut self, client: ClientKey, result: FeedResult) {
        let now = self.store.now();
        let Some(following) = self.following(client) else { return };
        let reply = match result {
            Ok(found) if found.changes.is_empty() => {
                following.query.since = found.next;
                match following.over(now) {
                    Some(reply) => reply,
                    None => return self.go_on(client, found.at_end),
                }
            }
            Ok(found) => changes_answer(found, following.query.values),
            Err(FeedError::Read(error)) => Reply::Error(self.refuse_read(&error)),
            Err(FeedError::Gap { floor }) => Reply::error(format!("GAP {}", FeedError::Gap { floor })),
            Err(error @ FeedError::Ahead { .. }) => Reply::error(format!("ERR {error}")),
        };
        self.answer_waiting(client, &reply);
    }

    /// A client has been shown nothing yet: it waits, or reads on where its filter has left out all so far.
    fn go_on(&mut self, client: ClientKey, at_end: bool) {
        if at_end {
            self.followers.push(client);
            return;
        }
        let Some(mut session) = self.clients.take(client.slot) else { return };
        if let Some(Parked::Following(following)) = &mut session.parked {
            self.read_changes(client, following);
        }
        self.clients.put_back(client.slot, session);
    }

    fn following(&mut self, client: ClientKey) -> Option<&mut Following> {
        let session = self.clients.get_mut(client.slot).filter(|session| session.id == client.id)?;
        match &mut session.parked {
            Some(Parked::Following(following)) => Some(following),
            _ => None,
        }
    }

    /// Wakes followers for whom there is something, or whose time has come.
    pub(super) fn wake_followers(&mut self) {
        if self.followers.is_empty() {
            return;
        }
        let (now, durable) = (self.store.now(), self.store.engine_ref().durable_sequence());
        for client in std::mem::take(&mut self.followers) {
            let Some(following) = self.following(client) else { continue };
            let news = durable > following.query.since;
            match following.over(now) {
                Some(reply) => self.answer_waiting(client, &reply),
                None => self.go_on(client, !news),
            }
        }
        self.end_turn();
    }

    /// Under `appendfsync no` hardly anything would become durable for those who follow: the log is synced for
    /// them when they ask, and while they wait some times a second.
    pub(super) fn sync_for_followers(&mut self) {
        if self.server.config.appendfsync == AppendFsync::No {
            self.store.engine().request_sync();
        }
    }
}
