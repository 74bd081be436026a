//! CLIENT PAUSE: commands that are held back, and keys that do not expire meanwhile.
//!
//! A held command parks with its connection, before it is queued or run; what comes behind it waits in the
//! connection's bounded backlog and then in its socket.

use super::park::Parked;
use super::session::Session;
use super::{ClientKey, EngineTask};
use crate::command::{Flags, Row};

/// A pause of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// All commands are held back, not only those that may write.
    pub all: bool,
    /// When it ends, in Unix milliseconds.
    pub until_ms: u64,
}

impl Pause {
    /// Both pauses at once: a later one neither shortens nor loosens an earlier one.
    #[must_use]
    pub fn stricter(self, other: Pause) -> Pause {
        Pause { all: self.all || other.all, until_ms: self.until_ms.max(other.until_ms) }
    }
}

impl EngineTask {
    /// Whether a pause holds this command back.
    pub(super) fn is_held_back(&self, session: &Session, row: Row) -> bool {
        let Some(pause) = self.server.pause.filter(|pause| pause.until_ms > self.store.now()) else {
            return false;
        };
        if session.monitors {
            return false;
        }
        let may_write = |flags: Flags| flags.has(Flags::WRITE) || flags.has(Flags::MAY_REPLICATE);
        let flags = row.command.flags;
        let runs_writes = flags.has(Flags::ENDS_TRANSACTION)
            && session.transaction.as_ref().is_some_and(|transaction| transaction.any(may_write));
        pause.all || may_write(flags) || runs_writes
    }

    /// Ends a pause whose time is over: those it has held back go on.
    pub(super) fn end_pause(&mut self) {
        if self.server.pause.is_none_or(|pause| pause.until_ms > self.store.now()) {
            return;
        }
        self.server.pause = None;
        self.settle_held_migrations();
        for slot in self.clients.slots_where(|session| matches!(session.parked, Some(Parked::Paused))) {
            let Some(session) = self.clients.get_mut(slot) else { continue };
            session.parked = None;
            self.ready.push_back(ClientKey { slot, id: session.id });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_pause_neither_shortens_nor_loosens_the_first() {
        let long = Pause { all: false, until_ms: 10 };
        let short = Pause { all: true, until_ms: 5 };
        assert_eq!(long.stricter(short), Pause { all: true, until_ms: 10 });
        assert_eq!(short.stricter(long), Pause { all: true, until_ms: 10 });
    }
}
