//! Commands that cannot run now, and what wakes them.
//!
//! A command whose value is on disk starts again when the value has been read: its values are pinned for
//! that run. A command that waits for the log or for time answers when either has come. Meanwhile the
//! later commands of the same connection wait behind it, and every other connection goes on.

use crate::command::{Command, Wait, WaitFor};
use crate::resp::{Args, Reply};
use kival_engine::{BackupStatus, ColdRead, Fetched, ReadBack, ReadError};

use super::follow::Following;
use super::store::Store;
use std::collections::HashSet;

/// The answer to who was woken by CLIENT UNBLOCK with ERROR.
pub const UNBLOCKED: &str = "UNBLOCKED client unblocked via CLIENT UNBLOCK";

/// Why a connection's next command does not run.
#[derive(Debug)]
pub enum Parked {
    /// Values are being read.
    Reading,
    /// It waits; its reply is made when that ends.
    Waiting(Wait),
    /// A pause holds it back.
    Paused,
    /// It follows the change feed; its reply is made when something is found.
    Following(Box<Following>),
    /// Its keys are on their way to another server.
    Migrating,
}

impl Parked {
    /// Whether the command is over when what it waits for has come; others run again then.
    pub fn ends_command(&self) -> bool {
        matches!(self, Parked::Waiting(_) | Parked::Following(_) | Parked::Migrating)
    }

    /// Whether it is over at some time, whatever happens.
    pub fn has_deadline(&self) -> bool {
        match self {
            Parked::Waiting(wait) => wait.deadline.is_some(),
            Parked::Following(following) => following.has_deadline(),
            _ => false,
        }
    }

    /// Whether its client counts as blocked: not if values are being read, or sent.
    pub fn is_blocked(&self) -> bool {
        !matches!(self, Parked::Reading | Parked::Migrating)
    }
}

/// Values that were read for a parked command.
pub type ReadResult = Result<Vec<ReadBack>, ReadError>;

/// All cold reads that a command will want: the one that it met, and those of its other keys, so that it
/// need not park for each.
pub fn cold_reads(
    store: &mut Store,
    db: u32,
    command: &Command,
    args: Args<'_>,
    met: ColdRead,
) -> Vec<ColdRead> {
    let mut reads = vec![met];
    add_cold_reads(store, db, command, args, &mut reads);
    reads
}

/// Adds the cold reads of a command's keys to those of others.
pub fn add_cold_reads(
    store: &mut Store,
    db: u32,
    command: &Command,
    args: Args<'_>,
    reads: &mut Vec<ColdRead>,
) {
    let mut known: HashSet<u64> = reads.iter().map(ColdRead::sequence).collect();
    for index in command.key_indices(args) {
        let key = &args[index];
        let engine = store.engine();
        let Ok(Some(entry)) = engine.entry(db, key) else { continue };
        // A value that cannot be read is met again, and answered, when the command runs.
        if known.insert(entry.sequence)
            && let Ok(Fetched::Cold(read)) = engine.fetch(db, key, &entry)
        {
            reads.push(read);
        }
    }
    // Keys found expired on the way are gone, whatever becomes of the commands that come next.
    store.tell_expired();
}

/// Reads values; for a thread that may wait. The first is the one that the command has met; if another
/// cannot be read, that is for the command to meet.
pub fn read_all(reads: &[ColdRead]) -> ReadResult {
    let (met, others) = reads.split_first().expect("a command parks for a read");
    let mut values = vec![met.read()?];
    values.extend(others.iter().filter_map(|read| read.read().ok()));
    Ok(values)
}

/// The reply of a wait that has ended, `None` while it goes on.
pub fn wait_over(wait: &Wait, durable: u64, now: u64, backups: &BackupStatus) -> Option<Reply> {
    let late = wait.deadline.is_some_and(|deadline| deadline <= now);
    match wait.until {
        WaitFor::Nothing => Some(Reply::error(UNBLOCKED)),
        WaitFor::Reload => Some(Reply::Ok),
        WaitFor::Replicas if late => Some(Reply::Integer(0)),
        WaitFor::Durable(sequence) if durable >= sequence || late => {
            Some(local_and_replicas(durable >= sequence))
        }
        WaitFor::DurableAndReplicas(sequence) if late => Some(local_and_replicas(durable >= sequence)),
        WaitFor::Backup(ended) if backups.ended >= ended => Some(match &backups.failure {
            None => Reply::Ok,
            Some(cause) => Reply::error(format!("ERR the backup failed: {cause}")),
        }),
        _ => None,
    }
}

fn local_and_replicas(local: bool) -> Reply {
    Reply::Array(vec![Reply::Integer(local.into()), Reply::Integer(0)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(until: WaitFor, deadline: Option<u64>, durable: u64, now: u64, expected: Option<Reply>) {
        assert_eq!(wait_over(&Wait { until, deadline }, durable, now, &BackupStatus::default()), expected);
    }

    #[test]
    fn a_wait_ends_by_what_it_waits_for_or_by_time() {
        let pair = |local| Some(Reply::Array(vec![Reply::Integer(local), Reply::Integer(0)]));
        check(WaitFor::Replicas, None, 9, 1_000_000, None);
        check(WaitFor::Replicas, Some(10), 9, 10, Some(Reply::Integer(0)));
        check(WaitFor::Durable(5), None, 4, 0, None);
        check(WaitFor::Durable(5), None, 5, 0, pair(1));
        check(WaitFor::Durable(5), Some(3), 4, 3, pair(0));
        check(WaitFor::DurableAndReplicas(5), None, 5, 0, None);
        check(WaitFor::DurableAndReplicas(5), Some(3), 5, 3, pair(1));
    }
}
