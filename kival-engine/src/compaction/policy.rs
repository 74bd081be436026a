//! Which segments to merge, and when.

use crate::engine::Engine;

/// Compaction begins when dead bytes reach this share, in percent, of what the setting allows: the rest
/// is room for what is written while it runs, and for its outputs.
const BEGIN_AT: u64 = 50;
/// A segment with less dead bytes than this, in percent, is not worth copying.
const LEAST_DEAD: u64 = 20;
/// More small segments than this are put together, whatever they hold.
const MOST_SMALL: usize = 16;

/// A segment to choose from.
#[derive(Debug, Clone, Copy)]
struct Choice {
    slot: u32,
    id: u64,
    bytes: u64,
    live: u64,
    kept: u64,
}

impl Choice {
    /// Bytes that a merge can hope to free.
    fn dead(&self) -> u64 {
        self.bytes.saturating_sub(self.live + self.kept)
    }
}

fn sealed(engine: &Engine) -> Vec<Choice> {
    let sealed = engine.segments.iter().filter(|(_, segment)| segment.may_be_merged());
    let mut choices: Vec<Choice> = sealed
        .map(|(slot, segment)| Choice {
            slot,
            id: segment.id,
            bytes: segment.bytes,
            live: engine.databases.live_in(slot),
            kept: segment.kept,
        })
        .collect();
    choices.sort_by_key(|choice| choice.id);
    choices
}

/// All sealed segments.
pub(crate) fn all(engine: &Engine) -> Vec<u32> {
    sealed(engine).iter().map(|choice| choice.slot).collect()
}

/// The segments that the policy wants merged now; none most of the time.
pub(crate) fn choose(engine: &Engine) -> Vec<u32> {
    let policy = engine.options.compaction;
    if policy.percentage == 0 {
        return Vec::new();
    }
    // Asked after every sync: what says "nothing to do" must be cheap.
    let small_size = engine.options.segment_size / 4;
    let sealed_segments = || engine.segments.iter().filter(|(_, segment)| segment.may_be_merged());
    if sealed_segments().filter(|(_, segment)| segment.bytes < small_size).count() > MOST_SMALL {
        return sealed(engine).iter().filter(|c| c.bytes < small_size).map(|choice| choice.slot).collect();
    }
    let total: u64 = engine.segments.iter().map(|(_, segment)| segment.bytes).sum();
    let live = engine.databases.live_bytes();
    let dead = total - live.min(total);
    let allowed = u128::from(live) * u128::from(policy.percentage) / 100;
    if total < policy.min_size || u128::from(dead) * 100 < allowed * u128::from(BEGIN_AT) {
        return Vec::new();
    }
    let choices = sealed(engine);
    pick(choices, live, engine.options.segment_size)
}

/// The deadest segments whose copies fit in `room` bytes: for a full disk.
pub(crate) fn fitting(engine: &Engine, room: u64) -> Vec<u32> {
    if engine.options.compaction.percentage == 0 {
        return Vec::new();
    }
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
        Choice { slot, id: u64::from(slot), bytes, live, kept: 0 }
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
