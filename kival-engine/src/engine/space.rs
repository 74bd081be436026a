//! Disk space: set aside for the records to come, and what happens when there is none.
//!
//! Space is reserved when a record is staged, so that a lack of it is known before anything has been
//! promised. A put that finds none is refused. A *small* record (a tombstone, a change of expiry, a map of
//! databases) then gets a step of the [`ReserveFile`], and the store is *low*: no put is taken until the
//! reserve is whole again, which the keeper tries a few times a second. Half of the reserve is for small
//! records, half for a merge that makes room ([`crate::compaction`]).

use super::{Active, Engine, Prepare};
use crate::compaction::policy;
use crate::error::WriteError;
use crate::fs::File;
use crate::log::keeper::Job;
use crate::log::reserve::ReserveFile;
use crate::log::segments::Segments;
use std::io;

/// Disk space for records is reserved in steps of this size, or of a quarter of a segment.
const STEP: u64 = 16 << 20;
/// While the store is low, in steps of at most this size.
const LOW_STEP: u64 = 64 << 10;
/// The reserve is given back in this many steps.
const RESERVE_STEPS: u64 = 16;
/// Time between attempts to fill the reserve, in milliseconds.
const FILL_EVERY: u64 = 200;

/// The reserve, as the writer knows it.
pub(crate) struct DiskSpace {
    file: ReserveFile,
    /// Bytes that it is to hold; 0 for none.
    target: u64,
    /// Bytes that it holds.
    held: u64,
    /// Whether the keeper is filling it.
    asked: bool,
    /// When that was last asked for, on the steady clock.
    tried_ms: Option<u64>,
    /// Whether puts are refused until it is whole.
    low: bool,
    /// Bytes that small records have reserved since the store is low.
    used: u64,
    /// Whether a merge has its half.
    lent: bool,
    /// Whether that half has been given away since the reserve was last whole: what is left is for small
    /// records, and no merge gets more.
    spent: bool,
    /// Whether the last put was refused for want of space.
    refused: bool,
    /// Whether a lack of space for housekeeping has been told.
    told: bool,
}

/// Whether the disk, a quota or the largest size of a file leaves no room. Nothing is broken then.
pub(crate) fn is_no_space(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

impl DiskSpace {
    /// A reserve that is to hold `target` bytes and holds none yet.
    pub(super) fn new(target: u64) -> DiskSpace {
        DiskSpace {
            file: ReserveFile::default(),
            target,
            held: 0,
            asked: false,
            tried_ms: None,
            low: false,
            used: 0,
            lent: false,
            spent: false,
            refused: false,
            told: false,
        }
    }

    /// Whether puts are refused until the reserve is whole.
    pub(super) fn is_low(&self) -> bool {
        self.low
    }

    /// Whether the disk is full: puts are refused.
    pub(crate) fn is_full(&self) -> bool {
        self.low || self.refused
    }

    /// Gives the disk the half that is for merges, once; and lets the keeper take nothing back meanwhile.
    fn lend(&mut self) {
        if self.target == 0 {
            return;
        }
        self.lent = true;
        self.become_low();
        if !self.spent {
            self.spent = true;
            self.cut_to(self.held.saturating_sub(self.target / 2));
        }
    }

    /// Whether a merge asked for by hand has to make room first: also where only housekeeping met the lack.
    pub(crate) fn is_short(&self) -> bool {
        self.target > 0 && (self.is_full() || self.told)
    }

    /// Bytes that the reserve holds.
    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// Remembers that a turn could not be appended for want of space.
    pub(super) fn refuse(&mut self) -> WriteError {
        self.refused = true;
        WriteError::NoSpace
    }

    fn cut_to(&mut self, bytes: u64) -> bool {
        let cut = self.file.cut_to(bytes);
        if cut {
            self.held = self.held.min(bytes);
        }
        cut
    }

    fn become_low(&mut self) {
        if !self.low {
            tracing::warn!(
                reserved_space = self.target,
                "the disk is full: only what frees space is written, until there is room for the reserve again"
            );
        }
        self.low = true;
    }

    /// The reserve has been filled; of that some may have been given away again since.
    pub(super) fn filled(&mut self) {
        let bytes = self.file.held();
        (self.held, self.asked, self.lent) = (bytes, false, false);
        self.spent &= bytes < self.target;
        if self.low && bytes == self.target {
            tracing::warn!("there is room on the disk again: everything is written");
            (self.low, self.used, self.refused) = (false, 0, false);
        }
    }

    /// It could not be filled.
    pub(super) fn not_filled(&mut self, no_space: bool, cause: &str) {
        self.asked = false;
        if no_space {
            self.become_low();
        } else {
            tracing::warn!(cause, "no disk space can be held in reserve here (reserved-space)");
            (self.target, self.low) = (self.held, false);
        }
    }

    /// Tells of housekeeping that found no space, once until it finds some.
    pub(super) fn tell(&mut self, job: &Job) {
        if !self.told {
            tracing::warn!(?job, "housekeeping finds no space on the disk; it is tried again");
        }
        self.told = true;
    }

    /// Housekeeping has found space.
    pub(super) fn untell(&mut self) {
        self.told = false;
    }
}

impl Engine {
    /// Changes how much disk space is held in reserve, in bytes; 0 for none.
    pub fn set_reserved_space(&mut self, bytes: u64) {
        if self.options.reserved_space != bytes {
            self.options.reserved_space = bytes;
            (self.space.target, self.space.tried_ms) = (bytes, None);
        }
    }

    /// Reserves disk space up to `end` of the active segment for a record, which is `small` or a put.
    pub(super) fn make_room(&mut self, end: u64, small: bool) -> Result<(), WriteError> {
        if !small && self.space.low {
            return Err(self.space.refuse());
        }
        if end <= self.active.reserved || !self.active.can_reserve {
            return Ok(());
        }
        if !self.space.low {
            let step = STEP.min(self.options.segment_size / 4).max(1);
            let reserved = self.reserve_to(end, step);
            if !small {
                // A value that is larger than what is left says nothing of the others.
                self.space.refused = !reserved && end - self.active.end <= step;
            }
            if reserved {
                return Ok(());
            }
        }
        if small && self.make_room_from_reserve(end) { Ok(()) } else { Err(WriteError::NoSpace) }
    }

    /// As [`Active::reserve_to`].
    fn reserve_to(&mut self, end: u64, step: u64) -> bool {
        // A large value of this turn stands behind the log's end already.
        let may_cut = self.stage.large.is_none();
        self.active.reserve_to(&self.segments, end, step, may_cut)
    }

    /// Reserves space up to `end`, giving back steps of the reserve until there is some.
    fn make_room_from_reserve(&mut self, end: u64) -> bool {
        let half = self.space.target / 2;
        let step = (self.space.target / RESERVE_STEPS).max(1);
        let record_step = (step / 4).clamp(1, LOW_STEP);
        // What is for a merge is not taken for this.
        let floor = if self.space.spent { 0 } else { half };
        let before = self.active.reserved;
        if self.space.used + (end - before) > half {
            return false;
        }
        while !self.reserve_to(end, record_step) {
            let left = self.space.held.saturating_sub(step).max(floor);
            if left >= self.space.held || !self.space.cut_to(left) {
                return false;
            }
            self.space.become_low();
        }
        if self.space.low {
            self.space.used += self.active.reserved.saturating_sub(before);
        }
        true
    }

    /// Has the reserve filled if it is not whole.
    pub(super) fn tend_reserve(&mut self) {
        if self.space.asked {
            return;
        }
        if self.space.held == self.space.target {
            return self.space.filled();
        }
        if self.space.lent {
            // Until what it was lent for is done.
            let preparing =
                matches!(self.prepare, Prepare::Asked | Prepare::Lent) || !self.sealing.is_empty();
            if preparing || self.compactor.progress().running {
                return;
            }
            self.space.lent = false;
        }
        let now = self.options.clock.steady_ms();
        if self.space.tried_ms.is_none_or(|tried| now >= tried + FILL_EVERY) {
            (self.space.asked, self.space.tried_ms) = (true, Some(now));
            self.keeper.ask(Job::FillReserve { file: self.space.file.clone(), bytes: self.space.target });
        }
    }

    /// The segments whose merge makes room on a full disk; its copies fit into the half of the reserve that
    /// is lent to it. Where the dead bytes are in the active segment, that is closed.
    pub(crate) fn choose_on_full_disk(&mut self) -> Vec<u32> {
        // The keeper would take back what is lent.
        if self.space.asked {
            return Vec::new();
        }
        let room = self.space.target / 2;
        // Hints and the manifest need some room too.
        let mut slots = policy::fitting(self, room - room / 4);
        if self.compactor.has_failed() {
            slots.truncate(1);
        }
        if self.space.spent && !self.space.lent {
            // The merge before did not free enough to make the reserve whole. What has died since may, but has
            // to do with the room that the disk has: the segments that need none, else the one that needs least.
            let needless = policy::fitting(self, 0);
            slots.truncate(1);
            slots = if needless.is_empty() { slots } else { needless };
        }
        let live = self.databases.live_in(self.active.slot);
        if !slots.is_empty() {
            self.space.lend();
        } else if self.sealing.is_empty() && live < room && self.active.end > room + live {
            self.space.lend();
            self.ask_to_roll();
        }
        slots
    }

    /// Does what the close needs; where there is no space for it, once more with that of the reserve.
    pub(super) fn with_reserve<T>(
        &mut self,
        mut work: impl FnMut(&mut Engine) -> io::Result<T>,
    ) -> io::Result<T> {
        match work(self) {
            Err(error) if is_no_space(&error) && self.space.cut_to(0) => work(self),
            done => done,
        }
    }
}

impl Active {
    /// Reserves disk space up to `end`, if it can be, up to a multiple of `step`; `false` if there is none.
    /// `may_cut` tells that nothing stands behind the log's end.
    fn reserve_to(&mut self, segments: &Segments, end: u64, step: u64, may_cut: bool) -> bool {
        if end <= self.reserved || !self.can_reserve {
            return true;
        }
        let file = segments.get(self.slot).file.clone();
        // Near the end of the disk a whole step may not fit where the record itself does.
        for target in [end.next_multiple_of(step), end] {
            match file.reserve(self.end, target - self.end) {
                Ok(()) => {
                    self.reserved = target;
                    return true;
                }
                Err(error) if is_no_space(&error) => {
                    self.watch_largest(&error, end);
                    if may_cut {
                        self.give_back(&*file);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "the file system cannot reserve space; a full disk shows at the append");
                    self.can_reserve = false;
                    return true;
                }
            }
        }
        false
    }

    /// Gives back what a reservation that failed may have found before it found no more: some file systems keep that.
    fn give_back(&mut self, file: &dyn File) {
        if file.truncate(self.end).is_err() {
            return;
        }
        let before = std::mem::replace(&mut self.reserved, self.end);
        self.runway = self.end;
        // If somebody else has been quicker, the append of this turn fails, and the turn is taken back.
        if before > self.end && file.reserve(self.end, before - self.end).is_ok() {
            self.reserved = before;
        }
    }

    /// Where a file may not grow, the next one may: unless it is the record that is too large for any.
    pub(super) fn watch_largest(&mut self, error: &io::Error, end: u64) {
        self.capped |= error.kind() == io::ErrorKind::FileTooLarge && end - self.end < self.end;
    }
}
