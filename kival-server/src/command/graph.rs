//! LATENCY GRAPH: the times that an event took, drawn in letters as Redis draws them.

use crate::engine_task::slow::Series;

/// Samples side by side; what is left goes below.
const COLUMNS: usize = 80;
/// Lines of a drawing.
const ROWS: usize = 4;
/// What stands for a third of a line, two thirds, and a whole one; what is full below another one is a bar.
const LEVELS: [char; 3] = ['_', 'o', '#'];

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// The samples of an event; `now` is in Unix seconds.
pub(super) fn graph(event: &str, series: &Series, now: u64) -> String {
    let millis = || series.samples.iter().map(|sample| sample.millis);
    let (high, low) = (millis().max().unwrap_or(0), millis().min().unwrap_or(0));
    let steps = (LEVELS.len() * ROWS) as u64;
    let height = |millis: u64| ((millis - low) * steps / (high - low).max(1)).min(steps - 1) as usize;
    let bars =
        series.samples.iter().map(|sample| (height(sample.millis), ago(now.saturating_sub(sample.at))));
    let bars: Vec<(usize, String)> = bars.collect();
    let parts: Vec<String> = bars.chunks(COLUMNS).map(draw).collect();
    let head = format!("{event} - high {high} ms, low {low} ms (all time high {} ms)", series.longest);
    format!("{head}\n{}\n{}", "-".repeat(COLUMNS), parts.join("\n"))
}

/// How long ago that is, in the largest unit.
fn ago(seconds: u64) -> String {
    match seconds {
        0..MINUTE => format!("{seconds}s"),
        MINUTE..HOUR => format!("{}m", seconds / MINUTE),
        HOUR..DAY => format!("{}h", seconds / HOUR),
        _ => format!("{}d", seconds / DAY),
    }
}

/// Bars, and below each how long ago it was, from top to bottom.
fn draw(bars: &[(usize, String)]) -> String {
    let mut lines = Vec::new();
    for row in 0..ROWS {
        let floor = (ROWS - row - 1) * LEVELS.len();
        let level = |height: usize| match height.checked_sub(floor) {
            None => ' ',
            Some(above) => LEVELS.get(above).copied().unwrap_or('|'),
        };
        lines.push(bars.iter().map(|(height, _)| level(*height)).collect::<String>());
    }
    lines.push(" ".repeat(bars.len()));
    let longest = bars.iter().map(|(_, label)| label.len()).max().unwrap_or(0);
    for index in 0..longest {
        lines.push(bars.iter().map(|(_, label)| label.chars().nth(index).unwrap_or(' ')).collect());
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine_task::slow::Sample;

    fn series(samples: &[(u64, u64)], longest: u64) -> Series {
        Series { samples: samples.iter().map(|&(at, millis)| Sample { at, millis }).collect(), longest }
    }

    /// What redis-server 7.0.15 answered to LATENCY GRAPH with these samples in LATENCY HISTORY.
    #[test]
    fn a_drawing_is_that_of_redis() {
        let millis = [2, 42, 5, 100, 50, 34, 15, 214, 2, 28, 5, 100];
        let at = [592, 593, 594, 596, 597, 598, 599, 600, 601, 602, 603, 604];
        let samples: Vec<(u64, u64)> = at.into_iter().zip(millis).collect();
        let expected = [
            "command - high 214 ms, low 2 ms (all time high 214 ms)",
            "--------------------------------------------------------------------------------",
            "       #    ",
            "       |    ",
            "   #   |   #",
            "_#_|#o_|_o_|",
            "            ",
            "111198765432",
            "4320ssssssss",
            "ssss        ",
            "",
        ];
        assert_eq!(graph("command", &series(&samples, 214), 606), expected.join("\n"));
    }

    #[test]
    fn what_does_not_fit_goes_below() {
        let samples: Vec<(u64, u64)> = (0..100).map(|at| (at, 7)).collect();
        let drawn = graph("command", &series(&samples, 9), 500_000);
        let lines: Vec<&str> = drawn.lines().collect();
        assert_eq!(lines[0], "command - high 7 ms, low 7 ms (all time high 9 ms)");
        assert_eq!((lines[5], lines[7], lines[8]), (&*"_".repeat(80), &*"5".repeat(80), &*"d".repeat(80)));
        assert_eq!((lines[9], lines[13].len()), ("", 20));
    }

    #[test]
    fn the_past_is_told_in_its_largest_unit() {
        for (seconds, told) in
            [(0, "0s"), (59, "59s"), (60, "1m"), (3599, "59m"), (3600, "1h"), (86_400, "1d")]
        {
            assert_eq!(ago(seconds), told);
        }
    }
}
