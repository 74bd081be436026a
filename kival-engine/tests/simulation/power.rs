//! Power cuts: several in the life of a store, some of them during recovery.

use crate::disk::{Sabotage, SimFs};
use crate::workload::{Bench, End};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Power cuts in one store's life.
const LIVES: u32 = 4;
/// Steps between two cuts at most.
const STEPS: u32 = 150;

/// One store's life, drawn from `seed`.
fn live(seed: u64, sabotage: Sabotage) -> Result<(), String> {
    let mut disk = SimFs::new(seed, sabotage);
    let mut bench = Bench::new(seed, Arc::new(disk.clone()));
    bench.doubt_merges = sabotage == Sabotage::NoBarrierBeforeSwitch;
    for life in 0..LIVES {
        let in_recovery = life > 0 && bench.rng.u8(..10) == 0;
        disk.cut_after(if in_recovery { bench.rng.u64(1..30) } else { bench.rng.u64(10..400) });
        match one_life(&mut bench) {
            Ok(()) => {}
            Err(End::Disk) if disk.is_cut() => {}
            Err(End::Disk) => return Err(format!("life {life}: the disk works, and something failed")),
            Err(End::Wrong(what)) => return Err(format!("life {life}: {what}")),
        }
        disk = disk.after_cut();
        bench.move_to(Arc::new(disk.clone()));
    }
    if sabotage == Sabotage::None {
        bench.check_backups().map_err(|end| format!("{end:?}"))?;
    }
    // At last the store is opened on a disk that stays well.
    match bench.open().and_then(|engine| bench.close(engine)).and_then(|()| bench.open()) {
        Ok(_) => Ok(()),
        Err(End::Disk) => Err("at the end: something failed on a disk that works".into()),
        Err(End::Wrong(what)) => Err(format!("at the end: {what}")),
    }
}

/// Opens the store, works on it, and closes it or not.
pub fn one_life(bench: &mut Bench) -> Result<(), End> {
    let mut engine = bench.open()?;
    for _ in 0..bench.rng.u32(1..STEPS) {
        bench.step(&mut engine)?;
    }
    if bench.rng.u8(..5) == 0 { bench.close(engine) } else { Ok(()) }
}

/// The seeds to run.
pub fn seeds() -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("KIVAL_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("KIVAL_SIM_SEEDS").unwrap_or(1000),
    }
}

/// Runs all seeds on all cores; the failures.
fn run(seeds: std::ops::Range<u64>, sabotage: Sabotage) -> Vec<String> {
    let next = AtomicU64::new(seeds.start);
    let work = || {
        let mut failures = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return failures;
            }
            if let Err(what) = live(seed, sabotage) {
                failures.push(format!("KIVAL_SEED={seed}: {what}"));
            }
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn a_power_cut_takes_nothing_that_was_promised() {
    let failures = run(seeds(), Sabotage::None);
    assert!(failures.is_empty(), "{} failures, among them:\n{}", failures.len(), failures[0]);
}

#[track_caller]
fn is_seen(sabotage: Sabotage) {
    let failures = run(0..400, sabotage);
    assert!(!failures.is_empty(), "{sabotage:?} goes unseen: the simulation is blind");
}

#[test]
fn a_disk_that_lies_about_syncs_is_seen() {
    is_seen(Sabotage::LyingSyncs);
}

#[test]
fn a_disk_that_lies_about_directories_is_seen() {
    is_seen(Sabotage::LyingDirectorySyncs);
}

#[test]
fn a_merge_that_does_not_wait_for_the_log_is_seen() {
    is_seen(Sabotage::NoBarrierBeforeSwitch);
}

/// Lives of a hundred, without power cuts, in which something has happened.
fn lives_with(happened: fn(&Bench) -> u64) -> usize {
    let has = |seed: &u64| {
        let mut bench = Bench::new(*seed, Arc::new(SimFs::new(*seed, Sabotage::None)));
        let ended = one_life(&mut bench);
        assert!(ended.is_ok(), "nothing is cut");
        happened(&bench) > 0
    };
    (0..100).filter(has).count()
}

#[test]
fn many_lives_have_a_runway_large_values_and_values_changed_in_part() {
    assert!(lives_with(|bench| bench.runways) > 30);
    assert!(lives_with(|bench| bench.larges) > 30);
    assert!(lives_with(|bench| bench.parts) > 60);
}

#[test]
fn the_same_seed_makes_the_same_calls() {
    let calls = |seed| {
        let disk = SimFs::new(seed, Sabotage::None);
        let mut bench = Bench::new(seed, Arc::new(disk.clone()));
        let ended = one_life(&mut bench);
        assert!(ended.is_ok(), "nothing is cut");
        disk.calls()
    };
    for seed in 0..50 {
        assert_eq!(calls(seed), calls(seed), "seed {seed}");
    }
}
