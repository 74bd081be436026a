//! `kival-server check`.

use super::args::Check;
use super::progress::Bar;
use super::{DAMAGED, FINE, Failure, some_keys};
use kival_engine::fs::RealFs;
use kival_engine::offline::{Checked, check};
use std::io::Write;
use std::sync::Arc;

/// Names every damaged place, then what does no harm, then the sums.
pub(super) fn run(args: &Check, out: &mut dyn Write) -> Result<u8, Failure> {
    let found = {
        let mut bar = Bar::new();
        check(Arc::new(RealFs), &args.dir, &mut bar)?
    };
    for place in &found.places {
        write!(out, "damaged: {place}")?;
        if !place.keys.is_empty() {
            write!(out, "; keys: {}", some_keys(place.keys.iter().map(Vec::as_slice)))?;
        }
        writeln!(out)?;
    }
    for note in &found.notes {
        writeln!(out, "harmless: {note}")?;
    }
    let Checked { records, live_keys, segments, bytes, .. } = found;
    let sums = format!("{records} records, {live_keys} live keys, {segments} segments, {bytes} bytes");
    if found.places.is_empty() {
        writeln!(out, "sound: {sums}")?;
        return Ok(FINE);
    }
    writeln!(out, "DAMAGED in {} places; sound are {sums}", found.places.len())?;
    writeln!(out, "next: kival-server repair --dir {}", args.dir.display())?;
    Ok(DAMAGED)
}
