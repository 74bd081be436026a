//! MEMORY DOCTOR and LATENCY DOCTOR: what is wrong, as far as the server can see, and what to do about it, in
//! sentences for people. Pure functions of what is told to them.

use super::info::human;
use crate::engine_task::slow::{Latencies, Series};

/// What a client may hold on average, in bytes, before it is worth a word; as in Redis.
const MUCH_OF_A_CLIENT: u64 = 200 << 10;
/// Memory that nothing accounts for is worth a word from here on, in bytes, if it is half of all.
const MUCH_UNEXPLAINED: u64 = 100 << 20;
/// So many reads tell how well the cache does.
const MANY_READS: u64 = 10_000;

/// Where memory goes; in bytes, but for the counts.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Memory {
    /// What the process has resident.
    pub(super) resident: u64,
    /// The most that it had.
    pub(super) peak: u64,
    /// What the machine, or the control group, has.
    pub(super) machine: Option<u64>,
    /// How many keys there are.
    pub(super) keys: u64,
    /// What the keys take.
    pub(super) keydir: u64,
    /// What the cached values take.
    pub(super) cache: u64,
    /// What they may take.
    pub(super) cache_size: u64,
    /// Reads that found their value cached.
    pub(super) hits: u64,
    /// Reads that did not.
    pub(super) misses: u64,
    /// Connections.
    pub(super) clients: u64,
    /// Their requests and replies that wait.
    pub(super) waiting: u64,
}

/// What is to be said of it.
pub(super) fn of_memory(memory: Memory) -> String {
    let Memory { resident, peak, keydir, cache, cache_size, clients, waiting, .. } = memory;
    let explained = keydir + cache + waiting;
    if memory.keys == 0 {
        return "The store is empty: there is nothing to find out about its memory.".into();
    }
    let mut findings = Vec::new();
    if let Some(machine) = memory.machine.filter(|machine| crate::limits::keys_outgrow(keydir, *machine)) {
        findings.push(format!(
            "Keys near the limit: they take {} of {}. All keys stay in memory, and when they outgrow it the kernel \
             ends this process. Delete keys, make them shorter, or move to a larger machine.",
            human(keydir),
            human(machine)
        ));
    }
    if peak > resident + resident / 2 {
        findings.push(format!(
            "Past peak: the process once had {} and has {} now. That does no harm, but the same load will want as \
             much again.",
            human(peak),
            human(resident)
        ));
    }
    let unexplained = resident.saturating_sub(explained);
    if unexplained > MUCH_UNEXPLAINED && unexplained > resident / 2 {
        findings.push(format!(
            "Memory that is neither keys nor cached values nor waiting requests: {} of {}. After many deletions \
             the allocator may hold it in pieces; it is used before more is asked of the system. A restart gives \
             it back, and takes about a second.",
            human(unexplained),
            human(resident)
        ));
    }
    if clients > 0 && waiting / clients > MUCH_OF_A_CLIENT {
        findings.push(format!(
            "Clients that are slow to read or send: {} wait for {clients} of them, see qbuf, omem and obl in CLIENT \
             LIST. client-output-buffer-limit cuts those that do not read.",
            human(waiting)
        ));
    }
    let reads = memory.hits + memory.misses;
    if reads > MANY_READS && memory.hits < reads / 2 && cache >= cache_size / 10 * 9 {
        findings.push(format!(
            "A small cache: it is full ({}), and {} of 100 reads went to the log. Where memory is free, raise \
             cache-size.",
            human(cache_size),
            memory.misses * 100 / reads
        ));
    }
    let whole = format!(
        "Keys take {}, cached values {}, waiting requests and replies {}, the whole process {}.\n",
        human(keydir),
        human(cache),
        human(waiting),
        human(resident)
    );
    match findings.len() {
        0 => format!("No problem found. {whole}"),
        _ => format!("{whole}\n * {}\n", findings.join("\n\n * ")),
    }
}

/// What LATENCY DOCTOR says of the events that took too long; the threshold is in milliseconds, `now` in Unix seconds.
pub(super) fn of_latency(events: &Latencies, threshold: u64, slow_from_micros: i64, now: u64) -> String {
    let events: Vec<_> = events.iter().filter(|(_, series)| !series.samples.is_empty()).collect();
    if events.is_empty() && threshold == 0 {
        return "Nothing is measured, since latency-monitor-threshold is 0. CONFIG SET latency-monitor-threshold \
                <milliseconds> begins it."
            .into();
    }
    if events.is_empty() {
        return format!(
            "Nothing has taken {threshold} milliseconds or longer since this was begun or reset."
        );
    }
    let numbered = events.iter().enumerate();
    let lines =
        numbered.map(|(index, (name, series))| format!("{}. {name}: {}\n", index + 1, tally(series, now)));
    let has = |names: &[&str]| events.iter().any(|(name, _)| names.contains(name));
    let mut advice = Vec::new();
    if has(&["command", "fast-command"]) {
        advice.push("Commands were slow: SLOWLOG GET tells which.");
        let unlogged =
            u64::try_from(slow_from_micros).is_ok_and(|from| from <= threshold.saturating_mul(1000));
        if !unlogged {
            advice.push(
                "The slow log notes less than this monitor: CONFIG SET slowlog-log-slower-than to its threshold, in \
                 microseconds.",
            );
        }
    }
    if has(&["aof-write", "aof-fsync", "aof-fsync-always"]) {
        advice.push(
            "The disk was slow: see what else writes to it (kival's own compactions and scrubs are slowed down by \
             compaction-rate and scrub-rate), or move the data directory to a disk of its own.",
        );
    }
    if has(&["aof-fsync-always"]) {
        advice.push(
            "Under appendfsync always every write waits for the disk. Where the last second may be lost, everysec \
             does not: for all by CONFIG SET, for a connection by KIVAL DURABILITY.",
        );
    }
    if has(&["expire-cycle"]) {
        advice.push(
            "Many keys expired at once: spread their times, or lower active-expire-effort, so that less of it is \
             done at a time.",
        );
    }
    let advice: String = advice.iter().map(|line| format!(" - {line}\n")).collect();
    format!("What took {threshold} milliseconds or longer:\n\n{}\n{advice}", lines.collect::<String>())
}

/// How often, how long and how evenly, as Redis counts it.
fn tally(series: &Series, now: u64) -> String {
    let count = series.samples.len() as u64;
    let millis = || series.samples.iter().map(|sample| sample.millis);
    let average = millis().sum::<u64>() / count.max(1);
    let deviation = millis().map(|one| one.abs_diff(average)).sum::<u64>() / count.max(1);
    let first = series.samples.front().map_or(now, |sample| sample.at);
    let period = now.saturating_sub(first) as f64 / count.max(1) as f64;
    let times = if count == 1 { "time" } else { "times" };
    format!(
        "{count} {times} (average {average} ms, mean deviation {deviation} ms, one in {period:.2} s), at most {} ms.",
        series.longest
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine_task::slow::Sample;

    const MIB: u64 = 1 << 20;

    /// A store that is well.
    const WELL: Memory = Memory {
        resident: 1000 * MIB,
        peak: 1100 * MIB,
        machine: Some(16_000 * MIB),
        keys: 1_000_000,
        keydir: 500 * MIB,
        cache: 400 * MIB,
        cache_size: 400 * MIB,
        hits: 90_000,
        misses: 10_000,
        clients: 10,
        waiting: 1000,
    };

    #[track_caller]
    fn check(memory: Memory, findings: &[&str]) {
        let report = of_memory(memory);
        let found: Vec<&str> = report.lines().filter_map(|line| line.strip_prefix(" * ")).collect();
        assert_eq!(found.len(), findings.len(), "{report}");
        for (found, beginning) in found.iter().zip(findings) {
            assert!(found.starts_with(beginning), "{report}");
        }
    }

    #[test]
    fn a_store_that_is_well_has_no_findings() {
        check(WELL, &[]);
        assert_eq!(
            of_memory(WELL),
            "No problem found. Keys take 500.00M, cached values 400.00M, waiting requests and replies 1000B, the \
             whole process 1000.00M.\n"
        );
        assert!(of_memory(Memory::default()).starts_with("The store is empty"));
    }

    #[test]
    fn what_is_wrong_is_told_each_by_itself() {
        check(
            Memory { keydir: 15_000 * MIB, resident: 16_000 * MIB, ..WELL },
            &["Keys near the limit: they take 14.65G"],
        );
        check(Memory { machine: None, keydir: 15_000 * MIB, ..WELL }, &[]);
        check(Memory { peak: 1501 * MIB, ..WELL }, &["Past peak: the process once had 1.47G"]);
        check(Memory { resident: 2000 * MIB, ..WELL }, &["Memory that is neither"]);
        check(Memory { waiting: 3 * MIB, ..WELL }, &["Clients that are slow"]);
        check(Memory { misses: 110_000, ..WELL }, &["A small cache: it is full (400.00M), and 55 of 100"]);
        check(Memory { misses: 110_000, cache: 100 * MIB, ..WELL }, &[]);
        check(Memory { peak: 2000 * MIB, waiting: 3 * MIB, ..WELL }, &["Past peak", "Clients"]);
    }

    fn series(samples: &[(u64, u64)]) -> Series {
        let samples = samples.iter().map(|&(at, millis)| Sample { at, millis });
        Series {
            longest: samples.clone().map(|sample| sample.millis).max().unwrap_or(0),
            samples: samples.collect(),
        }
    }

    #[test]
    fn what_took_too_long_is_told_with_what_helps() {
        assert!(of_latency(&Latencies::new(), 0, 10_000, 9).starts_with("Nothing is measured"));
        assert!(of_latency(&Latencies::new(), 5, 10_000, 9).starts_with("Nothing has taken 5 milliseconds"));
        let mut events = Latencies::new();
        events.insert("command", series(&[(100, 10), (104, 40), (108, 10)]));
        let report = of_latency(&events, 10, 10_000, 112);
        let line =
            "1. command: 3 times (average 20 ms, mean deviation 13 ms, one in 4.00 s), at most 40 ms.\n";
        assert!(report.contains(line), "{report}");
        let advice = |report: &str| report.lines().filter(|line| line.starts_with(" - ")).count();
        assert_eq!(advice(&report), 1, "{report}");
        assert_eq!(advice(&of_latency(&events, 5, 10_000, 112)), 2, "the slow log begins later");
        assert_eq!(advice(&of_latency(&events, 5, -1, 112)), 2, "the slow log is off");
        events.insert("aof-fsync-always", series(&[(108, 90)]));
        let report = of_latency(&events, 10, 10_000, 112);
        assert!(report.contains("1. aof-fsync-always: 1 time (average 90 ms"), "{report}");
        assert_eq!(advice(&report), 3, "{report}");
    }
}
