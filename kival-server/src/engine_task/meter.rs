//! When the clock is read. A reading costs as much as a part of a GET, so it is read once for each command that may
//! be slow, and once for up to [`SHARED`] quick commands of one kind that a pipeline brings one after the other: each
//! of those is booked with the mean. What one batch leaves is where the next begins, so that a client
//! without a pipeline costs no reading beyond the one that notes when it was last heard.

use super::EngineTask;
use super::session::Session;
use crate::command::{Flags, Row};
use crate::resp::{Args, Batch};
use std::time::{Duration, Instant};

/// Quick commands that one reading may be for.
const SHARED: u32 = 16;
/// A reply of more bytes ends what shares a reading: it may have taken longer than the others.
const SHORT_REPLY: usize = 4 << 10;
/// A batch of more bytes shares none.
const SHORT_BATCH: usize = 64 << 10;
/// Who looks for commands that are slower than something below this gets the time of each.
const COARSE: Duration = Duration::from_millis(1);

/// Commands that have run since the clock was read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meter {
    /// Whether commands of this batch may share.
    shares: bool,
    /// The kind, and how many.
    pending: Option<(Row, u32)>,
    /// Bytes of replies when the last one ended.
    replied: usize,
}

impl Meter {
    /// For the commands of a batch.
    pub(super) fn new(batch: &Batch, slow: Duration) -> Meter {
        let shares = batch.len() > 1 && batch.buffer_len() <= SHORT_BATCH && slow >= COARSE;
        Meter { shares, pending: None, replied: 0 }
    }

    /// Takes in what ran at `index`, if anything did, and says whether the clock is to be read now.
    pub(super) fn is_due(&mut self, ran: Option<Row>, batch: &Batch, index: usize, replied: usize) -> bool {
        let reply = replied - std::mem::replace(&mut self.replied, replied);
        let Some(row) = ran else { return true };
        let calls = self.pending.map_or(1, |(_, calls)| calls + 1);
        self.pending = Some((row, calls));
        let goes_on = self.shares
            && calls < SHARED
            && reply <= SHORT_REPLY
            && row.command.flags.has(Flags::FAST)
            && index + 1 < batch.len()
            && batch.command(index + 1).name() == batch.command(index).name();
        !goes_on
    }
}

impl EngineTask {
    /// Reads the clock, and books what has run since the last time. `last` is the command that ran last: if
    /// that was too long, it is taken to be the one that was slow.
    pub(super) fn read_clock(&mut self, session: &Session, meter: &mut Meter, last: Args<'_>) {
        let now = Instant::now();
        let took = now.duration_since(std::mem::replace(&mut self.clock, now));
        if let Some((row, calls)) = meter.pending.take() {
            self.book(session, row, calls, took, last);
        }
    }

    /// Books the time of commands.
    pub(super) fn book(&mut self, session: &Session, row: Row, calls: u32, took: Duration, last: Args<'_>) {
        let tracked = self.server.config.latency_tracking;
        self.server.counters.statistics.ran(row, calls, took, tracked);
        if took >= self.server.slow_from() {
            self.server.note_slow(session, row, took, last);
        }
    }
}
