//! What the system says of this process.

use std::fs::read_to_string;

/// Resident memory, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resident {
    /// At present.
    pub now: u64,
    /// At most, since the process began.
    pub peak: u64,
}

/// The memory that this process has resident; `None` where `/proc` does not tell.
pub fn resident_memory() -> Option<Resident> {
    parse_resident(&read_to_string("/proc/self/status").ok()?)
}

fn parse_resident(status: &str) -> Option<Resident> {
    let now = status_bytes(status, "VmRSS")?;
    // The kernel updates the peak lazily.
    let peak = status_bytes(status, "VmHWM").unwrap_or(now).max(now);
    Some(Resident { now, peak })
}

/// A line of `/proc/self/status` such as `VmRSS:     5124 kB`, in bytes.
fn status_bytes(status: &str, name: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_the_system_is_understood() {
        assert_eq!(status_bytes("Name:\tx\nVmRSS:\t    5 kB\n", "VmRSS"), Some(5120));
        assert_eq!(status_bytes("VmRSSx:\t    5 kB\n", "VmRSS"), None);
        let resident = |now, peak| Some(Resident { now, peak });
        assert_eq!(parse_resident("VmHWM:\t 9 kB\nVmRSS:\t 5 kB\n"), resident(5120, 9216));
        assert_eq!(parse_resident("VmHWM:\t 4 kB\nVmRSS:\t 5 kB\n"), resident(5120, 5120));
        assert_eq!(parse_resident("Name:\tx\n"), None);
    }

    #[test]
    fn this_process_has_memory() {
        assert!(resident_memory().is_some_and(|resident| resident.now > 0));
    }
}
