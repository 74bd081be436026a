//! When compaction begins by itself, and how fast it may be: settings, no decisions.

/// When compaction begins by itself, how fast it may be, and what it must leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactionPolicy {
    /// Dead bytes that the log may hold, in percent of the live ones; 0 turns off all that compaction
    /// does by itself. Default 100. Compaction begins at half of it, so that the log stays below it
    /// while it runs.
    pub percentage: u32,
    /// A log smaller than this, in bytes, is left alone. Default 64 MiB.
    pub min_size: u64,
    /// A segment with so many dead bytes is merged, whatever the rest of the log holds; 0 for never.
    /// Default 0.
    pub dead_bytes: u64,
    /// A segment below this size, in bytes, is small; never more than a quarter of the segment size
    /// counts. 0 for none. Default 64 MiB.
    pub small_file: u64,
    /// So many small segments may lie around; more are put together. Default 16.
    pub small_files: usize,
    /// The part of the day in which merges may begin. Default always.
    pub window: Window,
    /// Bytes a second that a merge may read and write together; 0 for no limit. Default 0.
    pub rate: u64,
    /// A record is dropped only if what superseded it is older than this, in milliseconds. Default 0.
    pub retention_ms: u64,
}

impl CompactionPolicy {
    /// The defaults.
    pub const DEFAULT: CompactionPolicy = CompactionPolicy {
        percentage: 100,
        min_size: 64 << 20,
        dead_bytes: 0,
        small_file: 64 << 20,
        small_files: 16,
        window: Window::Always,
        rate: 0,
        retention_ms: 0,
    };
}

impl Default for CompactionPolicy {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A part of the day, in UTC: without a table of time zones, and without a night that has an hour twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Window {
    /// The whole day.
    #[default]
    Always,
    /// No part: only by hand.
    Never,
    /// From the beginning of one hour to the beginning of another, which may be on the next day.
    Hours {
        /// The first hour, 0 to 23.
        from: u8,
        /// The hour at whose beginning it ends, 0 to 23, not `from`.
        to: u8,
    },
}

/// A text that is no [`Window`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a window is always, never or HH-HH with two different hours from 00 to 23")]
pub struct BadWindow;

const MS_AN_HOUR: u64 = 60 * 60 * 1000;

impl Window {
    /// Whether the time, in Unix milliseconds, lies in it.
    pub fn is_open(self, now_ms: u64) -> bool {
        let hour = (now_ms / MS_AN_HOUR % 24) as u8;
        match self {
            Window::Always => true,
            Window::Never => false,
            Window::Hours { from, to } if from < to => (from..to).contains(&hour),
            Window::Hours { from, to } => hour >= from || hour < to,
        }
    }
}

impl std::str::FromStr for Window {
    type Err = BadWindow;

    fn from_str(text: &str) -> Result<Window, BadWindow> {
        let hour = |text: &str| {
            let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|hour| digits && *hour < 24).ok_or(BadWindow)
        };
        if text.eq_ignore_ascii_case("always") {
            return Ok(Window::Always);
        }
        if text.eq_ignore_ascii_case("never") {
            return Ok(Window::Never);
        }
        let (from, to) = text.split_once('-').ok_or(BadWindow)?;
        let (from, to) = (hour(from)?, hour(to)?);
        if from == to { Err(BadWindow) } else { Ok(Window::Hours { from, to }) }
    }
}

impl std::fmt::Display for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Window::Always => f.write_str("always"),
            Window::Never => f.write_str("never"),
            Window::Hours { from, to } => write!(f, "{from:02}-{to:02}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, open: &[u64]) {
        let window: Window = text.parse().expect("a window");
        let hours: Vec<u64> = (0..24).filter(|hour| window.is_open((hour + 24 * 365) * MS_AN_HOUR)).collect();
        assert_eq!((hours.as_slice(), window.to_string().as_str()), (open, text));
    }

    #[test]
    fn a_window_may_pass_midnight() {
        check("01-03", &[1, 2]);
        check("22-02", &[0, 1, 22, 23]);
        check("23-00", &[23]);
        check("never", &[]);
        check("always", &(0..24).collect::<Vec<_>>());
        let last = Window::Hours { from: 1, to: 3 };
        assert!(last.is_open(3 * MS_AN_HOUR - 1) && !last.is_open(3 * MS_AN_HOUR));
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for text in ["", "1-3", "01-24", "01-01", "01-+3", "01", "01-02-03", "sometimes"] {
            assert_eq!(text.parse::<Window>(), Err(BadWindow), "{text:?}");
        }
    }
}
