//! The engine's side of the conversation: what it answers a merge, a bounded number of questions a turn.

use super::output::Output;
use super::{Batch, Question, Verdict};
use crate::engine::Engine;
use crate::engine::databases::Space;
use crate::engine::options::Worker;
use crate::format::record::{Header, Kind, record_size};
use crate::format::segment::hint_name;
use crate::keydir::{ExpiryChange, Place, WARM};
use crate::log::segments::{Segment, SegmentState};
use std::hint::black_box;
use std::sync::mpsc::TryRecvError;
use std::time::Duration;

/// Questions answered in one call of [`Engine::maintain`].
const ANSWERS: usize = 4;
/// The same when the writer outruns the merge.
const ANSWERS_PRESSED: usize = 32;
/// How long such a call waits for each question.
const PATIENCE: Duration = Duration::from_millis(1);
/// The writer outruns the merge when the dead bytes, beside a segment of room, have this share, in
/// percent, of what the setting allows.
const PRESSED_AT: u64 = 70;

impl Engine {
    /// Answers what the running merge asks; a few questions at a time.
    pub(crate) fn answer_merge(&mut self) {
        if self.compactor.running.is_some() {
            self.compactor.tell();
        }
        if self.compactor.lockstep {
            return self.step_merge();
        }
        let pressed = self.outruns_merge();
        for _ in 0..if pressed { ANSWERS_PRESSED } else { ANSWERS } {
            let Some(running) = &self.compactor.running else { return };
            if running.deferred.is_some() {
                return;
            }
            let question = match running.questions.try_recv() {
                Err(TryRecvError::Empty) if pressed => running.questions.recv_timeout(PATIENCE).ok(),
                question => question.ok(),
            };
            match question {
                Some(question) => self.answer(question),
                None if pressed => break,
                None => return,
            }
        }
        // There may be more: come back after the clients' turn.
        (self.compactor.waker)();
    }

    /// In lockstep the merge runs, while the caller waits, until it has its next question.
    fn step_merge(&mut self) {
        let Some(running) = &self.compactor.running else { return };
        if running.deferred.is_some() {
            return;
        }
        if !self.options.background.turn_of(Worker::Merge) {
            return;
        }
        let next = running.go.as_ref().and_then(|go| go.send(()).ok());
        match next.and_then(|()| running.questions.recv().ok()) {
            Some(question) => self.answer(question),
            None => self.answer(Question::Ended(Err("the merge has gone".into()))),
        }
    }

    /// Answers the question that waited for a backup.
    pub(crate) fn resume_merge(&mut self) {
        let deferred = self.compactor.running.as_mut().and_then(|running| running.deferred.take());
        if let Some(question) = deferred {
            self.answer(question);
        }
    }

    /// Whether dead bytes have grown far beyond where compaction begins, though a merge runs: then the
    /// merge gets the greater part of each turn, and clients wait for it.
    fn outruns_merge(&self) -> bool {
        let total: u64 = self.segments.iter().map(|(_, segment)| segment.bytes).sum();
        let live = self.databases.live_bytes();
        let allowed = u128::from(live) * u128::from(self.options.compaction.percentage) / 100;
        let dead = total.saturating_sub(live + self.options.segment_size);
        let limited = self.options.compaction.rate > 0 || self.options.compaction.percentage == 0;
        !limited && u128::from(dead) * 100 > allowed * u128::from(PRESSED_AT)
    }

    fn answer(&mut self, question: Question) {
        // While a backup is under way no segment is exchanged or removed.
        let exchanges = matches!(question, Question::SyncLog(_) | Question::Release(..));
        if exchanges && self.is_backing_up() {
            if let Some(running) = &mut self.compactor.running {
                running.deferred = Some(question);
            }
            return;
        }
        // A merge that has ended meanwhile does not need its answer.
        match question {
            Question::Judge(batch, answer) => {
                let _ = answer.send(self.judge_all(&batch));
            }
            Question::SyncLog(answer) => {
                self.request_sync();
                let _ = answer.send((self.syncer.waiter(), self.sync_asked));
            }
            Question::Adopt(output) => self.adopt(&output),
            Question::Repoint(output, copies, offsets) => self.repoint(output, &copies, &offsets),
            Question::Release(inputs, answer) => {
                for id in inputs {
                    self.release(id);
                }
                let _ = answer.send(());
            }
            Question::Damaged(id) => {
                if let Some(slot) = self.segments.slot_of(id) {
                    self.segments.get_mut(slot).quarantined = true;
                }
            }
            Question::Ended(result) => {
                let by_hand = self.compactor.by_hand.take();
                if result.is_err() && self.space.is_full() {
                    // It found no room, most likely: it is done when there is some.
                    self.compactor.scheduled = self.compactor.scheduled.or(by_hand);
                }
                self.compactor.ended(result, self.now_ms());
                self.forget_exchanged();
            }
        }
    }

    fn judge_all(&mut self, batch: &Batch) -> Vec<Verdict> {
        let mut verdicts = Vec::with_capacity(batch.len());
        let mut ahead = batch.iter();
        for (index, (record, key)) in batch.iter().enumerate() {
            if index % WARM == 0 {
                self.warm_records(ahead.by_ref().take(WARM));
            }
            verdicts.push(self.judge(record, key));
        }
        verdicts
    }

    /// Loads what looking these records up will want, up to [`WARM`] of them.
    fn warm_records<'a>(&mut self, records: impl Iterator<Item = (&'a Header, &'a [u8])>) {
        let (mut namespace, mut keys) = (None, [&b""[..]; WARM]);
        for (place, (record, key)) in keys.iter_mut().zip(records) {
            namespace.get_or_insert(record.namespace);
            *place = key;
        }
        // Where others are among them, those wait for memory.
        if let Some(space) = namespace.and_then(|namespace| self.databases.of_namespace(namespace)) {
            black_box(space.keydir.warm(&keys));
        }
    }

    fn judge(&mut self, record: &Header, key: &[u8]) -> Verdict {
        let last = self.last_sequence();
        let databases = &mut self.databases;
        if record.kind == Kind::Namespaces {
            return match databases.record {
                Some((sequence, ..)) if sequence == record.sequence => Verdict::Live,
                newest => Verdict::Dead { superseded_by: newest.map_or(last, |(sequence, ..)| sequence) },
            };
        }
        let Some(space) = databases.of_namespace(record.namespace) else {
            return Verdict::Dead { superseded_by: databases.record.map_or(last, |(sequence, ..)| sequence) };
        };
        let entry = space.keydir.get(key);
        match (record.kind, entry) {
            (Kind::Tombstone, Some(entry)) if entry.sequence > record.sequence => {
                Verdict::Dead { superseded_by: entry.sequence }
            }
            (Kind::Tombstone, _) => Verdict::Tombstone,
            // The value that it belongs to may be among what is lost.
            (Kind::Expiry | Kind::Page, None)
                if self.quarantine.doubts(record.namespace, key, 0).is_some() =>
            {
                Verdict::Live
            }
            (_, None) => Verdict::Dead { superseded_by: last },
            (Kind::Expiry, Some(entry)) => match entry.change {
                Some(change) if change.sequence == record.sequence => Verdict::Live,
                change => Verdict::Dead {
                    superseded_by: change.map_or(0, |change| change.sequence).max(entry.sequence),
                },
            },
            (Kind::Page, Some(entry)) if entry.sequence < record.sequence => {
                let page = space.pages_of(&entry).and_then(|pages| pages.get(record.page()));
                match page.map(|page| page.sequence) {
                    Some(sequence) if sequence == record.sequence => Verdict::Live,
                    newer => Verdict::Dead { superseded_by: newer.unwrap_or(last) },
                }
            }
            (_, Some(entry)) if entry.sequence == record.sequence => Verdict::Live,
            (_, Some(entry)) => Verdict::Dead { superseded_by: entry.sequence },
        }
    }

    /// Takes an output into the table of segments.
    fn adopt(&mut self, output: &Output) {
        let length = output.summary.length;
        let mut segment =
            Segment::new(&self.home.dir, output.id, output.file.clone(), SegmentState::Sealed, length);
        segment.merged = true;
        segment.summary = output.summary;
        (segment.tally, segment.held) = (output.tally, output.held);
        segment.created_ms = output.created_ms;
        self.segments.insert(segment);
        self.segments.mark_exchanged(|id| self.home.manifest.names(id));
    }

    /// Removes inputs of merges that failed behind their exchange, once nothing stands in them any more.
    fn forget_exchanged(&mut self) {
        let empty = |&(slot, segment): &(u32, &Segment)| {
            segment.exchanged && self.databases.live_in(slot) == 0 && !self.is_backing_up()
        };
        let slots: Vec<u32> = self.segments.iter().filter(empty).map(|(slot, _)| slot).collect();
        for slot in slots {
            let segment = self.segments.remove(slot);
            for path in [&*segment.path, &self.home.dir.join(hint_name(segment.id))] {
                // The manifest does not name it: what stays is removed at the next open.
                let _ = self.home.fs.remove(path);
            }
        }
    }

    /// Lets entries stand on their copies, those that still stand on the original.
    fn repoint(&mut self, output: u64, copies: &Batch, offsets: &[u64]) {
        let Some(slot) = self.segments.slot_of(output) else { return };
        let mut ahead = copies.iter();
        for (index, ((record, key), offset)) in copies.iter().zip(offsets).enumerate() {
            if index % WARM == 0 {
                self.warm_records(ahead.by_ref().take(WARM));
            }
            let place = Place::new(slot, *offset);
            let databases = &mut self.databases;
            if record.kind == Kind::Namespaces {
                if let Some((sequence, at, _)) = &mut databases.record
                    && *sequence == record.sequence
                {
                    *at = place;
                }
                continue;
            }
            if let Some(space) = databases.of_namespace(record.namespace) {
                space.repoint(record, key, place);
            }
        }
    }

    /// Forgets an input; its file is removed by the merge.
    fn release(&mut self, id: u64) {
        let Some(slot) = self.segments.slot_of(id) else { return };
        let left = self.databases.live_in(slot);
        if left > 0 {
            // Every entry that stood here was copied: this cannot be. Reads go on from the open file.
            tracing::error!(segment = id, bytes = left, "a merged segment still holds live records");
            debug_assert_eq!(left, 0, "a merged segment still holds live records");
            return;
        }
        self.segments.remove(slot);
    }
}

impl Space {
    /// Lets what stands on the original of a copy stand on the copy.
    fn repoint(&mut self, copy: &Header, key: &[u8], place: Place) {
        let Some(entry) = self.keydir.get(key) else { return };
        let size = |value_size| record_size(key.len(), value_size);
        let moved = match copy.kind {
            Kind::Page => {
                let page = self.paged.get_mut(&entry.sequence).and_then(|pages| pages.get_mut(copy.page()));
                page.filter(|page| page.sequence == copy.sequence).map(|page| {
                    let bytes = page.record_size(key.len());
                    (std::mem::replace(&mut page.place, place), bytes)
                })
            }
            Kind::Expiry => entry.change.filter(|change| change.sequence == copy.sequence).map(|change| {
                let moved = Some(ExpiryChange { place, ..change });
                self.keydir.update(key, |entry| entry.change = moved);
                (change.place, size(0))
            }),
            _ => (entry.sequence == copy.sequence).then(|| {
                self.keydir.update(key, |entry| entry.place = place);
                (entry.place, size(self.base_size(&entry)))
            }),
        };
        if let Some((before, bytes)) = moved {
            self.retire(before, bytes);
            self.enlist(place, bytes);
        }
    }
}
