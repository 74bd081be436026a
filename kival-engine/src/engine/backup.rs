//! Backups as the writer sees them: it closes the active segment, waits until all is sealed, has the keeper
//! link the files, and holds merges back meanwhile.
//!
//! Why nothing is missing in a backup at sequence N: what a merge dropped was superseded by a record that had
//! been appended when the merge asked. Merges that exchange segments while a backup is under way would
//! drop by records above N, so their two last questions, before the exchange and before the removal,
//! are answered only when the backup is done.

use super::Engine;
use crate::error::WriteError;
use crate::log::backup::Backup;
use crate::log::keeper::Job;
use std::path::PathBuf;
use std::sync::Arc;

/// What there is to know about backups.
#[derive(Debug, Clone, Default)]
pub struct BackupStatus {
    /// Whether one is under way.
    pub running: bool,
    /// How many have ended, well or not, since the store was opened.
    pub ended: u64,
    /// How many of them are whole.
    pub made: u64,
    /// The newest one that is whole.
    pub newest: Option<Backup>,
    /// Why the last one failed, if it did.
    pub failure: Option<Arc<str>>,
    /// How long the last one took, in milliseconds.
    pub took_ms: u64,
}

/// A backup under way.
#[derive(Debug)]
pub(crate) struct Pending {
    into: PathBuf,
    keep: usize,
    /// Records up to this one must be sealed.
    upto: u64,
    asked: bool,
    began_ms: u64,
    /// The restore floor at the request.
    floor: u64,
}

/// The engine's side of backups.
#[derive(Debug, Default)]
pub(crate) struct Backups {
    pending: Option<Pending>,
    status: BackupStatus,
}

impl Engine {
    /// Asks for a backup of all that is committed, as a new directory in `into`, of which the newest `keep`
    /// stay; `false` if one is under way. It is made in [`Self::maintain`] and by the keeper.
    ///
    /// # Errors
    /// [`WriteError::Poisoned`]: a store that cannot be synced cannot be sealed. [`WriteError::Damaged`]: of one that
    /// is served with damage there are no new backups.
    pub fn back_up(&mut self, into: PathBuf, keep: usize) -> Result<bool, WriteError> {
        if let Some(cause) = self.poisoned() {
            return Err(WriteError::Poisoned { cause: cause.to_owned() });
        }
        if let Some(corruption) = self.quarantine.first() {
            return Err(WriteError::Damaged(corruption));
        }
        if self.backups.pending.is_some() {
            return Ok(false);
        }
        // What this turn has staged belongs to it: it is committed before the active segment is closed.
        let upto = self.last_sequence();
        let floor = self.home.manifest.get().restore_floor;
        let pending = Pending { into, keep: keep.max(1), upto, asked: false, began_ms: self.now_ms, floor };
        self.backups.pending = Some(pending);
        self.backups.status.running = true;
        (self.options.waker)();
        Ok(true)
    }

    /// What there is to know about backups.
    pub fn backups(&self) -> &BackupStatus {
        &self.backups.status
    }

    /// Whether merges have to wait.
    pub(crate) fn is_backing_up(&self) -> bool {
        self.backups.pending.is_some()
    }

    /// Brings a backup on its way.
    pub(super) fn advance_backup(&mut self) {
        let Some(pending) = &self.backups.pending else { return };
        if pending.asked {
            return;
        }
        if let Some(cause) = self.poison.clone() {
            return self.end_backup(Err(cause));
        }
        if self.active_holds(pending.upto) {
            return self.ask_to_roll();
        }
        if !self.sealing.is_empty() {
            return;
        }
        if let Some(pending) = &mut self.backups.pending {
            pending.asked = true;
            let (into, keep, floor) = (pending.into.clone(), pending.keep, pending.floor);
            self.keeper.ask(Job::Backup { into, keep, floor });
        }
    }

    /// A segment could not be prepared or sealed: a backup that waits for that ends, and merges go on. On a
    /// full disk one of them may be what makes room.
    pub(super) fn give_up_backup(&mut self, cause: &str) {
        if self.backups.pending.as_ref().is_some_and(|pending| !pending.asked) {
            self.end_backup(Err(format!("the log could not be closed up to here: {cause}")));
        }
    }

    /// Notes how a backup ended, and lets merges go on.
    pub(super) fn end_backup(&mut self, result: Result<Backup, String>) {
        let began = self.backups.pending.take().map_or(self.now_ms, |pending| pending.began_ms);
        let status = &mut self.backups.status;
        status.running = false;
        status.ended += 1;
        status.took_ms = self.now_ms.saturating_sub(began);
        match result {
            Ok(backup) => {
                let Backup { dir, sequence, segments, bytes, .. } = &backup;
                tracing::info!(dir = %dir.display(), sequence, segments, bytes, "a backup is made");
                status.made += 1;
                status.failure = None;
                status.newest = Some(backup);
            }
            Err(cause) => {
                tracing::error!(%cause, "a backup failed; the store itself is unharmed");
                status.failure = Some(cause.into());
            }
        }
        self.resume_merge();
    }
}
