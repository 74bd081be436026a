//! What a repair says of its losses, in words.

use super::Repaired;
use std::fmt::Write;
use std::path::Path;

/// The report on the repair of `dir`.
pub(crate) fn text(dir: &Path, repaired: &Repaired) -> String {
    let mut out = String::new();
    write_all(&mut out, dir, repaired).expect("a string takes every line");
    out
}

fn write_all(out: &mut String, dir: &Path, repaired: &Repaired) -> std::fmt::Result {
    writeln!(out, "Repair of {}: {} records were kept.", dir.display(), repaired.records)?;
    writeln!(out, "The original is as it was; damaged bytes are in files beside this one.\n")?;
    writeln!(out, "Damaged places:")?;
    for place in &repaired.places {
        writeln!(out, "  {place}")?;
    }
    if repaired.rebuilt {
        writeln!(out, "\nThe MANIFEST was made up from the segments. A segment that had already been")?;
        writeln!(out, "compacted away but was still there may have brought deleted keys back.")?;
    }
    if !repaired.lost.is_empty() {
        writeln!(out, "\nLost keys. Their newest value is damaged; older ones were left out, so that the")?;
        writeln!(out, "keys are absent and not wrong (namespace, sequence, key):")?;
        for lost in &repaired.lost {
            writeln!(out, "  {} {} {}", lost.namespace, lost.sequence, lost.key.escape_ascii())?;
        }
    }
    if !repaired.gaps.is_empty() {
        writeln!(
            out,
            "\nLost records of unknown keys. ANY KEY MAY HAVE AN OLDER VALUE than it had, a deleted"
        )?;
        writeln!(out, "key may be back, and part of a batch may be missing:")?;
        for gap in &repaired.gaps {
            write!(out, "  {}: offset {} to {}", gap.file.display(), gap.offset, gap.end)?;
            match gap.sequences {
                Some((first, last)) => writeln!(out, ", sequences {first} to {last}")?,
                None => writeln!(out, ", sequences unknown")?,
            }
        }
    }
    if let Some(sequence) = repaired.lost_map {
        writeln!(
            out,
            "\nThe newest map from databases to namespaces (sequence {sequence}) is lost. FLUSHDB,"
        )?;
        writeln!(out, "FLUSHALL and SWAPDB since the one before it ARE UNDONE.")?;
    }
    if repaired.lost.is_empty()
        && repaired.gaps.is_empty()
        && repaired.lost_map.is_none()
        && !repaired.rebuilt
    {
        match repaired.lost_history {
            Some(_) => {
                writeln!(
                    out,
                    "\nNothing current is lost. Records that later ones had superseded are, so that"
                )?;
                writeln!(out, "`restore` cannot go back behind this repair.")?;
            }
            None => writeln!(out, "\nNothing is lost.")?,
        }
    }
    Ok(())
}
