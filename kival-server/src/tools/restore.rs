//! `kival-server restore`.

use super::args::Restore;
use super::progress::Bar;
use super::{FINE, Failure};
use kival_engine::fs::RealFs;
use kival_engine::offline::{Target, restore};
use std::io::Write;
use std::sync::Arc;

/// Builds the directory of an earlier state.
pub(super) fn run(args: &Restore, out: &mut dyn Write) -> Result<u8, Failure> {
    let target = match args.to_time {
        Some(ms) => Target::Time(ms),
        None => Target::Sequence(args.to_sequence.unwrap_or(0)),
    };
    let made = {
        let mut bar = Bar::new();
        restore(Arc::new(RealFs), &args.dir, &args.to, target, &mut bar)?
    };
    let to = args.to.display();
    writeln!(
        out,
        "{to} holds what the store held after sequence {} of {}: {} records",
        made.sequence, made.last, made.records
    )?;
    for note in &made.notes {
        writeln!(out, "harmless: {note}")?;
    }
    writeln!(out, "next: kival-server --dir {to}")?;
    Ok(FINE)
}
