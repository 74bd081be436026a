//! LOLWUT: a picture, and the version. Redis shows computer art; here the log sits for its portrait.

use super::options::{integer, is_word};
use super::{Command, Context, Flags, Group, Outcome};
use crate::resp::{Args, Reply};
use kival_engine::SegmentStats;
use std::fmt::Write;

/// The longest bar, in letters.
const COLUMNS: u64 = 64;
/// The newest segments have their bars, so many at most.
const BARS: usize = 24;

/// The picture.
pub(super) const COMMANDS: &[Command] = &[Command {
    name: "lolwut",
    handler: lolwut,
    arity: -1,
    arguments: "[VERSION version:integer]",
    flags: Flags::READONLY.and(Flags::FAST),
    group: Group::Server,
    since: "5.0.0",
    complexity: "O(N) with N segments",
    summary: "Draws the log, and tells the version.",
    ..Command::BASE
}];

/// Redis has a picture for some of its versions; here there is one for all.
fn lolwut(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    if let (Some(word), Some(version)) = (args.get(1), args.get(2))
        && is_word(word, "version")
    {
        // How large the pictures of these versions are to be.
        let sizes = match integer(version)? {
            5 => 3,
            6 => 2,
            _ => 0,
        };
        args.tail(3).iter().take(sizes).try_for_each(|size| integer(size).map(drop))?;
    }
    let picture = draw(&ctx.store.engine_ref().segments());
    let text = format!("{picture}\nkival ver. {}\n", env!("CARGO_PKG_VERSION"));
    Ok(Reply::Verbatim { format: "txt", text: text.into() })
}

/// A bar a segment, as long as the segment beside the largest: what is live, and what is dead.
fn draw(segments: &[SegmentStats]) -> String {
    let mut picture = String::from("The log as it lies on disk, live (#) and dead (.):\n\n");
    let mut shown: Vec<&SegmentStats> = segments.iter().collect();
    shown.sort_unstable_by_key(|segment| segment.id);
    let older = shown.len().saturating_sub(BARS);
    if older > 0 {
        writeln!(picture, "  ... {older} older").expect("a String takes everything");
    }
    let largest = segments.iter().map(|segment| segment.bytes).max().unwrap_or(0).max(1);
    let letters = |bytes: u64| (bytes * COLUMNS).div_ceil(largest) as usize;
    for segment in &shown[older..] {
        let live = letters(segment.live_bytes.min(segment.bytes));
        let dead = letters(segment.bytes).saturating_sub(live);
        let (live, dead) = ("#".repeat(live), ".".repeat(dead));
        writeln!(picture, "{:5} {live}{dead}", segment.id).expect("a String takes everything");
    }
    picture
}

#[cfg(test)]
mod tests {
    use super::*;
    use kival_engine::SegmentState;

    fn segment(id: u64, bytes: u64, live_bytes: u64) -> SegmentStats {
        SegmentStats {
            id,
            state: SegmentState::Sealed,
            merged: false,
            bytes,
            live_bytes,
            records: 1,
            tombstones: 0,
            created_ms: 0,
            lowest: 1,
            highest: 1,
        }
    }

    #[test]
    fn each_segment_has_a_bar_of_its_size() {
        let picture = draw(&[segment(7, 320, 80), segment(2, 640, 640), segment(9, 5, 0)]);
        let expected = [
            String::new(),
            format!("    2 {}", "#".repeat(64)),
            format!("    7 {}{}", "#".repeat(8), ".".repeat(24)),
            "    9 .".into(),
        ];
        assert_eq!(picture.lines().skip(1).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn of_many_the_newest_are_shown() {
        let many: Vec<SegmentStats> = (1..=30).map(|id| segment(id, 10, 10)).collect();
        let picture = draw(&many);
        let lines: Vec<&str> = picture.lines().skip(2).collect();
        assert_eq!((lines.len(), lines[0]), (1 + BARS, "  ... 6 older"));
        assert!(lines[1].starts_with("    7 #") && lines[BARS].starts_with("   30 #"), "{picture}");
    }
}
