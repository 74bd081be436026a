//! Syncs that wait for company.
//!
//! When a sync has ended its clients are answered, and write again one after the other. A sync that began with
//! the first of them would be for that one alone, and the others would wait for it and then for their own. So one is
//! begun when a look at all sockets brings no further write, and that look costs some microseconds.

use super::{EngineTask, Request, TURN_REQUESTS};
use tokio::sync::mpsc::Receiver;

/// Turns after which a sync begins, whoever comes.
const MOST_TURNS: u32 = 32;

/// A sync that is wanted and not yet asked for.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    /// What it has to cover; 0 if there is none.
    upto: u64,
    /// What it had to cover when the last turn began.
    seen: u64,
    turns: u32,
}

impl Gathering {
    pub(super) fn is_on(&self) -> bool {
        self.upto > 0
    }

    /// Replies wait for this sequence.
    pub(super) fn join(&mut self, sequence: u64) {
        self.upto = self.upto.max(sequence);
    }

    /// Whether to take another turn first: the last one brought a write, and there is more to do.
    fn goes_on(&mut self, more: bool) -> bool {
        self.turns += 1;
        more && self.turns < MOST_TURNS && self.upto > std::mem::replace(&mut self.seen, self.upto)
    }
}

impl EngineTask {
    /// Takes the requests that have come meanwhile, and asks for the sync if that is to begin now.
    pub(super) fn gather(&mut self, from: &mut Receiver<Request>, requests: &mut Vec<Request>) {
        while requests.len() < TURN_REQUESTS
            && let Ok(request) = from.try_recv()
        {
            requests.push(request);
        }
        if !self.gathering.goes_on(!requests.is_empty()) {
            let upto = std::mem::take(&mut self.gathering).upto;
            self.store.engine().request_sync_of(upto);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_waits_as_long_as_writes_come_and_not_for_ever() {
        let mut gathering = Gathering::default();
        gathering.join(5);
        assert!(gathering.goes_on(true), "another may join");
        assert!(!gathering.goes_on(true), "it has not");
        let mut gathering = Gathering::default();
        gathering.join(5);
        assert!(!gathering.goes_on(false), "nobody comes");
        let mut gathering = Gathering::default();
        let turns = (1..).take_while(|sequence| {
            gathering.join(*sequence);
            gathering.goes_on(true)
        });
        assert_eq!(turns.count() as u32, MOST_TURNS - 1);
    }
}
