//! `kival-server repair`.

use super::args::Repair;
use super::progress::Bar;
use super::{DAMAGED, FINE, Failure};
use kival_engine::fs::RealFs;
use kival_engine::offline::repair;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

/// Builds the repaired directory and prints its report.
pub(super) fn run(args: &Repair, out: &mut dyn Write) -> Result<u8, Failure> {
    let to = args.to.clone().unwrap_or_else(|| beside(args));
    let made = {
        let mut bar = Bar::new();
        repair(Arc::new(RealFs), &args.dir, &to, &mut bar)?
    };
    let Some(repaired) = made else {
        writeln!(out, "sound: there is nothing to repair")?;
        return Ok(FINE);
    };
    write!(out, "{}", repaired.report)?;
    writeln!(out, "\nThis report is also {}.", to.join("damaged").join("REPORT").display())?;
    writeln!(out, "next: kival-server --dir {}", to.display())?;
    let lost = !repaired.lost.is_empty() || !repaired.gaps.is_empty() || repaired.lost_map.is_some();
    Ok(if lost || repaired.rebuilt { DAMAGED } else { FINE })
}

fn beside(args: &Repair) -> PathBuf {
    // By its own name, also where it is given as `.` or `..`.
    let dir = args.dir.canonicalize().unwrap_or_else(|_| args.dir.clone());
    let mut name = dir.into_os_string();
    name.push(".repaired");
    name.into()
}
