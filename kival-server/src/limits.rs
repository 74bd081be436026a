//! What the machine lets this process have: open files and memory.
//!
//! Only read and raised here; whoever accepts clients and opens segments keeps to what was found.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors kept for listeners, the log, the lock and the runtime itself; Redis keeps as many.
pub const RESERVED_FILES: u64 = 32;

/// Descriptors kept for segments of the log that are open for reading.
pub const SEGMENT_FILES: u64 = 1024;

const KIB: u64 = 1024;

/// How the descriptors of this process are shared out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenFiles {
    /// Descriptors that the process may have.
    pub limit: u64,
    /// Clients that may be connected at once; what was asked for, if it fits.
    pub clients: u32,
    /// Segments that may be open at once.
    pub segments: u64,
    /// What to tell the operator if fewer clients fit than were asked for.
    pub warning: Option<String>,
}

/// There are not even descriptors for the server alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "Your current 'ulimit -n' of {limit} is not enough for the server to start. Please increase your open \
     file limit to at least {needed}. Exiting."
)]
pub struct TooFewFiles {
    /// Descriptors that the process may have.
    pub limit: u64,
    /// Descriptors that what was asked for would take.
    pub needed: u64,
}

/// Raises the limit of open files so that `maxclients` fit, as far as the system allows. Never lowers it.
///
/// # Errors
/// Not even one client fits.
pub fn raise_open_files(maxclients: u32) -> Result<OpenFiles, TooFewFiles> {
    let needed = needed(maxclients);
    let before = getrlimit(Resource::Nofile);
    let refused = if below(before.current, needed) { raise(before, needed).err() } else { None };
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    share_out(limit, maxclients, refused)
}

/// Descriptors for this many clients and everything else.
fn needed(maxclients: u32) -> u64 {
    u64::from(maxclients) + RESERVED_FILES + SEGMENT_FILES
}

/// Whether a limit (none is without end) is below a number.
fn below(limit: Option<u64>, number: u64) -> bool {
    limit.is_some_and(|limit| limit < number)
}

/// Raises the limit to `wanted`, or else as far as it goes, and says then why it went no further.
fn raise(now: Rlimit, wanted: u64) -> io::Result<()> {
    let maximum = now.maximum.map(|maximum| maximum.max(wanted));
    let refused = match setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }) {
        Ok(()) => return Ok(()),
        Err(refused) => refused,
    };
    // Only a privileged process may raise the hard limit; up to it the soft one is free.
    let as_far = Rlimit { current: now.maximum, maximum: now.maximum };
    setrlimit(Resource::Nofile, as_far)?;
    Err(refused.into())
}

/// Shares out `limit` descriptors. What is too few for all is parted between clients and segments, the
/// segments getting no more than half.
fn share_out(limit: u64, maxclients: u32, refused: Option<io::Error>) -> Result<OpenFiles, TooFewFiles> {
    let needed = needed(maxclients);
    if limit >= needed {
        return Ok(OpenFiles { limit, clients: maxclients, segments: SEGMENT_FILES, warning: None });
    }
    let free = limit.saturating_sub(RESERVED_FILES);
    let segments = SEGMENT_FILES.min(free / 2);
    let clients = maxclients.min(u32::try_from(free - segments).unwrap_or(u32::MAX));
    if clients == 0 || segments == 0 {
        return Err(TooFewFiles { limit, needed });
    }
    let warning = (clients < maxclients).then(|| reduced(limit, needed, maxclients, clients, refused));
    Ok(OpenFiles { limit, clients, segments, warning })
}

/// Redis's warnings, in one.
fn reduced(limit: u64, needed: u64, asked: u32, clients: u32, refused: Option<io::Error>) -> String {
    let because = refused.map_or(String::new(), |error| format!(" because of OS error: {error}"));
    format!(
        "You requested maxclients of {asked} requiring at least {needed} max file descriptors. Server can't \
         set maximum open files to {needed}{because}. Current maximum open files is {limit}. maxclients has \
         been reduced to {clients} to compensate for low ulimit. If you need higher maxclients increase \
         'ulimit -n'."
    )
}

/// Bytes of memory that this process can hope for: the machine's, or less if its control group (version 2,
/// or one above it) has a lower `memory.max`. None where `/proc` does not tell.
pub fn total_memory() -> Option<u64> {
    total_memory_under(Path::new("/"))
}

/// Keys that take this share of the machine's memory, in percent, are warned of.
const MEMORY_WARNING: u64 = 80;

/// Whether keys that take so much come near this memory, both in bytes.
pub fn keys_outgrow(keydir_bytes: u64, memory: u64) -> bool {
    keydir_bytes.saturating_mul(100) > memory.saturating_mul(MEMORY_WARNING)
}

/// Warns if the keys, which take `keydir_bytes`, come near the machine's memory.
pub fn warn_of_memory(keydir_bytes: u64) {
    if let Some(memory) = total_memory()
        && keys_outgrow(keydir_bytes, memory)
    {
        tracing::warn!(
            keydir_bytes,
            memory_bytes = memory,
            "the keys take most of this machine's memory: when they outgrow it the kernel ends this process; \
             move to a larger machine or delete keys"
        );
    }
}

fn total_memory_under(root: &Path) -> Option<u64> {
    let machine = meminfo_total(&fs::read_to_string(root.join("proc/meminfo")).ok()?)?;
    Some(group_limit(root).map_or(machine, |group| group.min(machine)))
}

/// The line `MemTotal: 16318412 kB`, in bytes.
fn meminfo_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kib.checked_mul(KIB)
}

/// The lowest `memory.max` of this process's control group and those above it; `max` is none.
fn group_limit(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mount = root.join("sys/fs/cgroup");
    let group: PathBuf = mount.join(path);
    group
        .ancestors()
        .take_while(|above| above.starts_with(&mount))
        .filter_map(|above| fs::read_to_string(above.join("memory.max")).ok()?.trim().parse().ok())
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(limit: u64, maxclients: u32, clients: u32, segments: u64, warned: bool) {
        let files = share_out(limit, maxclients, None).unwrap();
        assert_eq!((files.clients, files.segments, files.warning.is_some()), (clients, segments, warned));
        assert!(u64::from(clients) + segments + RESERVED_FILES <= limit);
    }

    #[test]
    fn descriptors_are_shared_out_to_fit_the_limit() {
        check(20_000, 10_000, 10_000, 1024, false);
        check(11_056, 10_000, 10_000, 1024, false);
        check(11_055, 10_000, 9_999, 1024, true);
        check(4096, 10_000, 3040, 1024, true);
        check(1024, 10_000, 496, 496, true);
        check(1024, 100, 100, 496, false);
        check(34, 10_000, 1, 1, true);
    }

    #[test]
    fn a_limit_too_low_for_one_client_is_an_error() {
        for limit in [0, 32, 33] {
            let error = share_out(limit, 10_000, None).unwrap_err();
            assert_eq!(error, TooFewFiles { limit, needed: 11_056 });
        }
    }

    #[test]
    fn the_warning_says_what_was_asked_and_what_fits() {
        let refused = io::Error::from_raw_os_error(1);
        let warning = share_out(4096, 10_000, Some(refused)).unwrap().warning.unwrap();
        for part in ["maxclients of 10000", "at least 11056", "OS error: ", "is 4096", "reduced to 3040"] {
            assert!(warning.contains(part), "{part:?} in {warning}");
        }
    }

    #[test]
    fn the_limit_of_this_process_is_never_lowered() {
        let before = getrlimit(Resource::Nofile).current;
        let files = raise_open_files(1).unwrap();
        assert!(before.is_none_or(|before| files.limit >= before));
    }

    #[test]
    fn memory_is_the_lowest_of_machine_and_control_groups() {
        let root = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let total = || total_memory_under(root.path());
        assert_eq!(total(), None);
        put("proc/meminfo", "MemFree: 1 kB\nMemTotal:       16000 kB\n");
        assert_eq!(total(), Some(16_384_000));
        put("proc/self/cgroup", "1:name=systemd:/x\n0::/a/b\n");
        assert_eq!(total(), Some(16_384_000));
        put("sys/fs/cgroup/a/b/memory.max", "max\n");
        assert_eq!(total(), Some(16_384_000));
        put("sys/fs/cgroup/a/memory.max", "4096000\n");
        assert_eq!(total(), Some(4_096_000));
        put("sys/fs/cgroup/a/b/memory.max", "2048000\n");
        assert_eq!(total(), Some(2_048_000));
        put("sys/fs/cgroup/a/b/memory.max", "999999999999\n");
        put("sys/fs/cgroup/a/memory.max", "max\n");
        assert_eq!(total(), Some(16_384_000));
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(total_memory().is_some_and(|bytes| bytes > 0));
    }
}
