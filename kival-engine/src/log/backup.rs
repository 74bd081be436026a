//! A backup's files: hard links to the sealed segments and their hints, and a manifest of their own.
//!
//! Nothing is copied and nobody waits: what is sealed is never written again, so a second name is as good
//! as a copy for as long as the disk lives. A generation is made beside its place and renamed, so that one
//! that has its name is whole.

use super::Home;
use crate::engine::databases::random_u64;
use crate::format::group::Position;
use crate::format::manifest::Manifest;
use crate::format::segment::{MANIFEST, file_name, hint_name};
use crate::fs::replace;
use crate::log::manifest_file;
use std::io;
use std::path::{Path, PathBuf};

/// A generation's name, as a time is written.
const NAME: &str = "%Y-%m-%dT%H-%M-%SZ";
/// Most generations of one second.
const MOST_A_SECOND: u32 = 1000;

/// A finished backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// Its directory, which opens as a store.
    pub dir: PathBuf,
    /// It holds everything up to this sequence and nothing above.
    pub sequence: u64,
    /// Segments in it.
    pub segments: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// When it was made, Unix milliseconds.
    pub time_ms: u64,
}

/// Makes a generation in `into` of all that is sealed, and removes those beyond the newest `keep`.
///
/// `floor` was the restore floor when no merge could exchange segments any more.
pub(super) fn make(home: &Home, into: &Path, keep: usize, floor: u64) -> io::Result<Backup> {
    let fs = &*home.fs;
    fs.create_dir(into)?;
    if let Some(parent) = into.parent() {
        fs.sync_dir(parent)?;
    }
    for name in fs.list(into)? {
        // What an interrupted backup of this store left; another's may be at work.
        if name.strip_suffix(&unfinished(home)).is_some_and(is_generation) {
            remove(home, &into.join(name))?;
        }
    }
    let time_ms = home.clock.now_ms();
    let name = free_name(home, into, time_ms)?;
    let (dir, beside) = (into.join(&name), into.join(name.clone() + &unfinished(home)));
    let made = fill(home, &beside, floor).and_then(|manifest| {
        fs.sync_dir(&beside)?;
        fs.rename(&beside, &dir)?;
        fs.sync_dir(into)?;
        Ok(manifest)
    });
    let manifest = made.map_err(|error| {
        // What cannot be removed now is removed by the next backup.
        let _ = remove(home, &beside);
        explain(error, into)
    })?;
    if let Err(error) = prune(home, into, &name, keep) {
        tracing::warn!(%error, dir = %into.display(), "older backups could not be removed");
    }
    Ok(Backup {
        dir,
        sequence: manifest.chain,
        segments: manifest.segments.len() as u64,
        bytes: manifest.segments.iter().filter_map(|entry| entry.sealed).map(|sealed| sealed.length).sum(),
        time_ms,
    })
}

/// What the name of a generation of this store ends with while it is made, or removed.
fn unfinished(home: &Home) -> String {
    format!(".{:016x}.tmp", home.store)
}

fn explain(error: io::Error, into: &Path) -> io::Error {
    if error.kind() != io::ErrorKind::CrossesDevices {
        return error;
    }
    let text = format!(
        "{} is on another file system than the store, where its segments cannot be linked; choose a backup-dir \
         on the same one, and copy a generation elsewhere from there",
        into.display()
    );
    io::Error::new(io::ErrorKind::CrossesDevices, text)
}

/// A name for a generation of this time, above all others of it.
fn free_name(home: &Home, into: &Path, time_ms: u64) -> io::Result<String> {
    let taken = home.fs.list(into)?;
    let time = i64::try_from(time_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let time = time.ok_or_else(|| io::Error::other("the clock shows no time that can be written"))?;
    let time = time.strftime(NAME).to_string();
    let numbered = (2..MOST_A_SECOND).map(|number| format!("{time}-{number:03}"));
    let names: Vec<String> = std::iter::once(time.clone()).chain(numbered).collect();
    // Above all that are there: a lower name may be free because the oldest was removed.
    let next = names.iter().rposition(|name| taken.contains(name)).map_or(0, |last| last + 1);
    let free = names.into_iter().nth(next);
    free.ok_or_else(|| io::Error::other("there are too many backups of this second"))
}

/// Whether a file of this name was made by [`make`].
fn is_generation(name: &str) -> bool {
    let (time, number) = name.split_at_checked("0000-00-00T00-00-00Z".len()).unwrap_or((name, "-"));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let number = number.is_empty() || number.strip_prefix('-').is_some_and(|n| !n.is_empty() && digits(n));
    number && jiff::civil::DateTime::strptime(NAME, time).is_ok()
}

/// Links all that is sealed into the new directory `dir`.
fn fill(home: &Home, dir: &Path, floor: u64) -> io::Result<Manifest> {
    let fs = &*home.fs;
    let mut manifest = home.manifest.get();
    // The engine lets no merge exchange or remove segments until this job is done.
    manifest.segments.retain(|entry| entry.sealed.is_some());
    if manifest.restore_floor > manifest.chain.max(floor) {
        return Err(io::Error::other("something that superseded a record is not sealed yet"));
    }
    manifest.incarnation = random_u64();
    manifest.watermark = Position::default();
    fs.create_dir(dir)?;
    for entry in &manifest.segments {
        let segment = file_name(entry.id);
        fs.link(&home.dir.join(&segment), &dir.join(&segment))?;
        let hint = hint_name(entry.id);
        match fs.link(&home.dir.join(&hint), &dir.join(&hint)) {
            // A hint is never needed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            linked => linked?,
        }
    }
    replace(fs, dir, MANIFEST, &manifest.encode())?;
    Ok(manifest)
}

/// Removes the oldest generations of this store, all but `keep`, and not the `newest`, whatever its name: the
/// clock may have been set back.
fn prune(home: &Home, into: &Path, newest: &str, keep: usize) -> io::Result<()> {
    let others = home.fs.list(into)?.into_iter().filter(|name| is_generation(name) && name != newest);
    let mut names: Vec<String> = others.collect();
    names.sort_unstable();
    let ours = |name: &&String| {
        let manifest = manifest_file::read(&*home.fs, &into.join(name));
        manifest.is_ok_and(|manifest| manifest.is_some_and(|manifest| manifest.store == home.store))
    };
    let names: Vec<&String> = names.iter().filter(ours).collect();
    for name in &names[..names.len().saturating_sub(keep - 1)] {
        let unfinished = into.join(format!("{name}{}", unfinished(home)));
        // It loses its name first: half of a backup must not be taken for one.
        home.fs.rename(&into.join(name), &unfinished)?;
        home.fs.sync_dir(into)?;
        remove(home, &unfinished)?;
    }
    Ok(())
}

fn remove(home: &Home, dir: &Path) -> io::Result<()> {
    for name in home.fs.list(dir)? {
        home.fs.remove(&dir.join(name))?;
    }
    home.fs.remove_dir(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_a_backup_gives_are_touched() {
        for name in ["2026-11-23T01-02-03Z", "2026-11-23T01-02-03Z-002"] {
            assert!(is_generation(name), "{name}");
        }
        let others =
            ["", "2026", "2026-13-23T01-02-03Z", "2026-11-23T01-02-03Z-", "2026-11-23T01-02-03Zx", "notes"];
        for name in others {
            assert!(!is_generation(name), "{name}");
        }
    }
}
