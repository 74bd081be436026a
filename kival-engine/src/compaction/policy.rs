//! Which segments to merge, and when.

use super::output::GROUP_BYTES;
use super::progress::Reason;
use crate::engine::Engine;
use crate::format::{group, segment};

/// Compaction begins when dead bytes reach this share, in percent, of what the setting allows: the rest
/// is room for what is written while it runs, and for its outputs.
const BEGIN_AT: u64 = 50;
/// A segment with less dead bytes than this, in percent, is not worth copying.
const LEAST_DEAD: u64 = 20;

/// A segment to choose from.
#[derive(Debug, Clone, Copy)]
struct Choice {
    slot: u32,
    id: u64,
    bytes: u64,
    live: u64,
    /// Bytes that are not live and that a merge would not free.
    kept: u64,
    /// Bytes that are not live and that a merge may have to write all the same.
    maybe_kept: u64,
}

impl Choice {
    /// Bytes that a merge can hope to free.
    fn dead(&self) -> u64 {
        self.bytes.saturating_sub(self.live + self.kept)
    }

    /// Bytes that a merge writes at most.
    fn written(&self) -> u64 {
        self.bytes.min(self.live + self.kept.max(self.maybe_kept))
    }

    fn planned(&self) -> PlannedSegment {
        PlannedSegment {
            id: self.id,
            bytes: self.bytes,
            live: self.live,
            dead: self.bytes - self.live.min(self.bytes),
        }
    }
}

/// What a merge would do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Why it would begin; nothing would if there is no reason.
    pub reason: Option<Reason>,
    /// The segments that would go, rising by id.
    pub segments: Vec<PlannedSegment>,
    /// Bytes to be read; segments in which nothing is live need not be, unless a tombstone
    /// must stay.
    pub read: u64,
    /// Bytes to be written, at most.
    pub written: u64,
    /// Bytes that would be freed, at least.
    pub freed: u64,
}

/// A segment of a [`Plan`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedSegment {
    /// Its id.
    pub id: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Bytes of records that count.
    pub live: u64,
    /// The other bytes.
    pub dead: u64,
}

/// What compaction would do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plans {
    /// By itself, now.
    pub now: Plan,
    /// By hand: the sealed segments. The active one would be sealed and come to them.
    pub full: Plan,
}

impl Plan {
    fn of(reason: Option<Reason>, choices: &[Choice], target: u64) -> Plan {
        let sum = |of: fn(&Choice) -> u64| -> u64 { choices.iter().map(of).sum() };
        let (bytes, copied) = (sum(|choice| choice.bytes), sum(Choice::written));
        // An output names its inputs, and begins groups where no input did.
        let framing = (copied / target + 1) * (segment::HEADER + 8 * choices.len() + group::HEADER) as u64
            + copied / GROUP_BYTES as u64 * group::HEADER as u64;
        let written = if copied == 0 { 0 } else { copied + framing };
        Plan {
            reason,
            segments: choices.iter().map(Choice::planned).collect(),
            read: sum(|choice| if choice.live == 0 { 0 } else { choice.bytes }),
            written,
            freed: bytes.saturating_sub(written),
        }
    }
}

impl Engine {
    /// What compaction would do now, by itself and by hand.
    pub fn compaction_plans(&self) -> Plans {
        let full = sealed(self);
        let chosen = choose(self);
        let mut now: Vec<Choice> = Vec::new();
        if let Some((_, slots)) = &chosen {
            now.extend(full.iter().filter(|choice| slots.contains(&choice.slot)));
        }
        let by_hand = (!full.is_empty()).then_some(Reason::ByHand);
        let target = self.options.segment_size;
        Plans {
            now: Plan::of(chosen.map(|(reason, _)| reason), &now, target),
            full: Plan::of(by_hand, &full, target),
        }
    }
}

/// The sealed segments, rising by id.
fn sealed(engine: &Engine) -> Vec<Choice> {
    let cut = engine.history_cut();
    let sealed = engine.segments.iter().filter(|(_, segment)| segment.may_be_merged());
    let mut choices: Vec<Choice> = sealed
        .map(|(slot, segment)| {
            let (bytes, live) = (segment.bytes, engine.databases.live_in(slot));
            let never_live = segment.framing() + segment.tally.tombstone_bytes;
            let (kept, maybe_kept) = if cut == u64::MAX {
                (segment.kept(), never_live)
            } else if segment.merged && segment.held.until <= cut {
                (segment.kept(), bytes)
            } else if segment.merged {
                (segment.kept() + segment.held.bytes, bytes)
            } else if segment.summary.highest <= cut {
                (0, bytes)
            } else {
                // What superseded a record of it is younger than the record.
                (bytes, bytes)
            };
            Choice { slot, id: segment.id, bytes, live, kept, maybe_kept }
        })
        .collect();
    choices.sort_by_key(|choice| choice.id);
    choices
}

/// All sealed segments.
pub(crate) fn all(engine: &Engine) -> Vec<u32> {
    sealed(engine).iter().map(|choice| choice.slot).collect()
}

/// The segments that the policy wants merged now, and why; none most of the time.
pub(crate) fn choose(engine: &Engine) -> Option<(Reason, Vec<u32>)> {
    let policy = engine.options.compaction;
    if policy.percentage == 0 || !policy.window.is_open(engine.now_ms()) {
        return None;
    }
    // Expiry records whose values are lost are kept, and count for nothing: merged once, they rest.
    let rests = |merged: bool| merged && !engine.quarantine.is_empty();
    // Asked after every sync: what says "nothing to do" must be cheap.
    let (mut total, mut small, mut wholly_dead, mut many_dead) = (0, 0, false, false);
    let small_size = policy.small_file.min(engine.options.segment_size / 4);
    for (slot, segment) in engine.segments.iter() {
        total += segment.bytes;
        if segment.may_be_merged() {
            small += usize::from(segment.bytes < small_size);
            let dead = segment.bytes.saturating_sub(engine.databases.live_in(slot) + segment.kept());
            wholly_dead |= dead > 0 && dead + segment.kept() == segment.bytes && !rests(segment.merged);
            many_dead |= policy.dead_bytes > 0 && dead >= policy.dead_bytes;
        }
    }
    let slots = |reason, of: &dyn Fn(&Choice) -> bool| {
        let slots: Vec<u32> = sealed(engine).iter().filter(|choice| of(choice)).map(|c| c.slot).collect();
        Some((reason, slots)).filter(|(_, slots)| !slots.is_empty())
    };
    if many_dead && let Some(chosen) = slots(Reason::DeadBytes, &|c| c.dead() >= policy.dead_bytes) {
        return Some(chosen);
    }
    // One alone would be put together again and again.
    if small > policy.small_files.max(1) {
        return slots(Reason::SmallFiles, &|choice| choice.bytes < small_size);
    }
    if total < policy.min_size {
        return None;
    }
    let is_wholly_dead =
        |c: &Choice| c.live == 0 && c.dead() > 0 && !rests(engine.segments.get(c.slot).merged);
    if wholly_dead && let Some(chosen) = slots(Reason::WhollyDead, &is_wholly_dead) {
        return Some(chosen);
    }
    let live = engine.databases.live_bytes();
    let dead = total - live.min(total);
    let allowed = u128::from(live) * u128::from(policy.percentage) / 100;
    if u128::from(dead) * 100 < allowed * u128::from(BEGIN_AT) {
        return None;
    }
    let slots = pick(sealed(engine), live, engine.options.segment_size);
    Some((Reason::Percentage, slots)).filter(|(_, slots)| !slots.is_empty())
}

/// The deadest segments whose copies fit in `room` bytes: for a full disk.
pub(crate) fn fitting(engine: &Engine, room: u64) -> Vec<u32> {
    let mut choices = sealed(engine);
    choices.retain(|choice| choice.dead() * 100 >= choice.bytes * LEAST_DEAD);
    choices.sort_by_key(|choice| std::cmp::Reverse(choice.dead() * 1000 / choice.bytes.max(1)));
    let mut copied = 0;
    choices.retain(|choice| {
        let copy = choice.live + choice.kept;
        let fits = copied + copy <= room;
        copied += if fits { copy } else { 0 };
        fits
    });
    choices.iter().map(|choice| choice.slot).collect()
}

/// The deadest segments, as long as their live bytes stay a small part of the whole: that is the room
/// that the merge needs beside its inputs.
fn pick(mut choices: Vec<Choice>, live: u64, segment_size: u64) -> Vec<u32> {
    let room = (live / 4).max(segment_size / 2);
    choices.sort_by_key(|choice| std::cmp::Reverse(choice.dead() * 1000 / choice.bytes.max(1)));
    let mut copied = 0;
    let worth = choices.iter().take_while(|choice| {
        copied += choice.live + choice.kept;
        choice.dead() * 100 >= choice.bytes * LEAST_DEAD
            && (copied <= room || copied == choice.live + choice.kept)
    });
    let mut picked: Vec<&Choice> = worth.collect();
    picked.sort_by_key(|choice| choice.id);
    picked.iter().map(|choice| choice.slot).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(slot: u32, bytes: u64, live: u64) -> Choice {
        Choice { slot, id: u64::from(slot), bytes, live, kept: 0, maybe_kept: 0 }
    }

    #[track_caller]
    fn check(choices: &[(u64, u64)], expected: &[u32]) {
        let all: Vec<Choice> =
            choices.iter().zip(0..).map(|(&(bytes, live), slot)| choice(slot, bytes, live)).collect();
        let live = all.iter().map(|choice| choice.live).sum();
        assert_eq!(pick(all, live, 100), expected);
    }

    #[test]
    fn the_deadest_go_first_and_sound_ones_stay() {
        check(&[(100, 100), (100, 10), (100, 90)], &[1]);
        check(&[(100, 20), (100, 0), (100, 95)], &[0, 1]);
        check(&[], &[]);
        check(&[(100, 81)], &[]);
    }

    #[test]
    fn one_segment_is_always_small_enough() {
        check(&[(1000, 700), (1000, 1000)], &[0]);
    }

    #[test]
    fn the_copies_stay_a_part_of_the_whole() {
        check(&[(100, 60), (100, 61), (100, 62), (100, 63)], &[0]);
    }
}
