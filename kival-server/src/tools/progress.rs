//! A bar on a terminal; nothing where standard error goes elsewhere.

use indicatif::{ProgressBar, ProgressStyle};
use kival_engine::offline::Progress;

/// Shows how many bytes have been read, or keys copied.
pub(super) struct Bar(ProgressBar);

impl Bar {
    /// Nothing is shown before the work begins.
    pub(super) fn new() -> Bar {
        Bar(ProgressBar::hidden())
    }
}

impl Bar {
    /// Work on so many keys begins.
    pub(super) fn begin_keys(&mut self, what: &'static str, keys: u64) {
        self.start(what, keys, "{msg} [{bar:40}] {human_pos} of {human_len} keys, {per_sec}, {eta} left");
    }

    fn start(&mut self, what: &'static str, length: u64, style: &str) {
        self.0.finish_and_clear();
        let style = ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
        // It draws on standard error, and only if that is a terminal.
        self.0 = ProgressBar::new(length).with_style(style).with_message(what);
    }
}

impl Progress for Bar {
    fn begin(&mut self, what: &'static str, bytes: u64) {
        self.start(what, bytes, "{msg} [{bar:40}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left");
    }

    fn advance(&mut self, bytes: u64) {
        self.0.inc(bytes);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
