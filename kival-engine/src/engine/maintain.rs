//! What has to be done between turns: taking in the news of the background threads, removing expired
//! keys, syncing by the clock.

use super::options::{SyncPolicy, Worker};
use super::{Engine, Prepare};
use crate::log::keeper::Job;

/// A sync that takes longer is late, in milliseconds.
const SYNC_LATE: u64 = 1000;
/// Time after which [`SyncPolicy::EverySecond`] syncs again, in milliseconds: maintenance comes every tenth of a
/// second, now and then a little late, and what is not being synced must not grow older than a second.
const SYNC_AFTER: u64 = 800;
/// Keys in doubt that a look for an expired one passes over. Behind more of them a key is still found when
/// a client asks for it.
const MOST_DOUBTED: usize = 1000;

impl Engine {
    /// Takes in the news of background threads, and gives them their next work: a bounded amount, so that
    /// a caller can put it between any two turns. To be called when the waker was called, and about ten
    /// times a second. Nothing may be staged.
    pub fn maintain(&mut self) {
        debug_assert_eq!(self.staged_bytes(), 0, "maintenance stands between turns");
        if self.options.background.turn_of(Worker::Sync) {
            self.syncer.step();
        }
        if self.options.background.turn_of(Worker::Keeper) {
            self.keeper.step();
        }
        while let Some(news) = self.keeper.news() {
            self.take_in(news);
        }
        self.notice_failed_sync();
        self.deletes.settle(self.syncer.durable_sequence());
        self.sync_by_the_clock();
        if self.active.end > self.active.header_size {
            self.roll_if_full();
        }
        self.discard_again();
        self.seal_next();
        self.advance_backup();
        self.answer_merge();
        self.consider_compaction();
        // Last: while it is filled no merge begins on a full disk.
        self.tend_reserve();
    }

    /// Under [`SyncPolicy::EverySecond`] asks for a sync before the second since the last one was asked for is over.
    fn sync_by_the_clock(&mut self) {
        let now = self.options.clock.steady_ms();
        if let Some((sequence, since)) = &mut self.sync_under_way
            && *sequence <= self.syncer.durable_sequence()
        {
            // What was asked for meanwhile began when that one had ended.
            (*sequence, *since) = (self.sync_asked, now);
            if self.sync_asked <= self.syncer.durable_sequence() {
                self.sync_under_way = None;
            }
        }
        // The steady clock: the wall clock may be set back, and the second must not grow by that.
        if self.options.sync == SyncPolicy::EverySecond && now >= self.last_sync_ms + SYNC_AFTER {
            self.request_sync();
        }
    }

    /// Whether a sync has been under way for more than a second: the disk does not keep up, and what is
    /// not yet on disk is older than [`SyncPolicy::EverySecond`] means. As of the last [`Self::maintain`].
    pub fn sync_is_late(&self) -> bool {
        let now = self.options.clock.steady_ms();
        let late = self.sync_under_way.is_some_and(|(_, since)| now > since + SYNC_LATE);
        late && !self.syncer.has_failed()
    }

    /// What the slowest sync of the log took since the last call; zero if none has ended.
    pub fn take_slowest_sync(&self) -> std::time::Duration {
        self.syncer.take_slowest()
    }

    /// Refuses writes from now on if the log could not be synced.
    pub(super) fn notice_failed_sync(&mut self) {
        if self.poison.is_none()
            && let Some(cause) = self.syncer.failure()
        {
            tracing::error!(%cause, "nothing is written any more until the store is opened again");
            self.poison = Some(cause);
        }
    }

    /// Removes up to `most` keys whose time has come; gives how many there were. The tombstones are staged:
    /// commit them.
    pub fn expire(&mut self, most: usize) -> usize {
        let mut removed = 0;
        for db in 0..self.databases.spaces.len() as u32 {
            while removed < most {
                let Some(key) = self.first_expired(db) else { break };
                if self.bury(db, &key).is_err() {
                    return removed;
                }
                removed += 1;
                self.note_one_expired(db, &key);
            }
        }
        removed
    }

    /// A key whose time has come, if there is one. One that is in doubt is passed over: it may have been
    /// given more time by what is lost.
    fn first_expired(&self, db: u32) -> Option<Vec<u8>> {
        let keydir = &self.databases.spaces[db as usize].keydir;
        if self.quarantine.is_empty() {
            let (_, key) = keydir.first_expiring().filter(|(expiry, _)| *expiry <= self.now_ms)?;
            return Some(key.to_vec());
        }
        let due = keydir.expiring().take_while(|(expiry, _)| *expiry <= self.now_ms).take(MOST_DOUBTED);
        let mut keys = due.map(|(_, key)| key);
        let certain = |key: &&[u8]| keydir.get(key).is_some_and(|entry| self.is_certain(db, key, &entry));
        keys.find(certain).map(<[u8]>::to_vec)
    }

    /// Asks for the active segment to be closed, so that it can be merged.
    pub(crate) fn ask_to_roll(&mut self) {
        if self.active.end == self.active.header_size {
            return;
        }
        match self.prepare {
            Prepare::Idle => self.ask_to_prepare(),
            Prepare::Asked | Prepare::Lent => {}
            Prepare::Ready(_) => {
                self.roll();
            }
        }
    }

    /// Asks for the next segment.
    pub(super) fn ask_to_prepare(&mut self) {
        if self.may_retry() {
            self.prepare = Prepare::Asked;
            self.keeper.ask(Job::Prepare);
        }
    }

    /// Whether the active segment holds records up to `sequence`.
    pub(crate) fn active_holds(&self, sequence: u64) -> bool {
        self.active.end > self.active.header_size && self.active.first_sequence <= sequence
    }
}
