//! Every call of a workload fails: each in turn, in every way, once and then for good; and after it the power
//! may go as well. What was promised stays, what was refused never shows, and the store opens again.

use crate::disk::{Sabotage, SimFs};
use crate::power::{one_life, seeds};
use crate::workload::{Bench, End};
use kival_engine::fs::hook::{Call, Hook, HookFs, Op, Verdict};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// EIO.
    Broken,
    /// ENOSPC, where a call may need space.
    Full,
    /// Half of what was to be read or written.
    Short,
    /// EINTR.
    Interrupted,
}

const WAYS: [Way; 4] = [Way::Broken, Way::Full, Way::Short, Way::Interrupted];

impl Way {
    fn verdict(self, call: &Call<'_>) -> Verdict {
        let fails = |errno| Verdict::Fail(io::Error::from_raw_os_error(errno));
        match self {
            Way::Broken => fails(5),
            Way::Interrupted => fails(4),
            Way::Short if call.bytes > 1 => Verdict::Short(call.bytes / 2),
            Way::Short => Verdict::Go,
            Way::Full => match call.op {
                Op::WriteAt => Verdict::Torn(call.bytes / 2, io::Error::from_raw_os_error(28)),
                Op::Create | Op::CreateDir | Op::Link | Op::Rename | Op::Reserve | Op::Sync | Op::SyncDir => {
                    fails(28)
                }
                _ => Verdict::Go,
            },
        }
    }
}

/// Counts calls and fails some.
#[derive(Debug)]
struct Failing {
    calls: AtomicU64,
    from: u64,
    until: AtomicU64,
    way: Way,
}

impl Hook for Failing {
    fn before(&self, call: &Call<'_>) -> Verdict {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let fails = (self.from..self.until.load(Ordering::Relaxed)).contains(&number);
        if fails { self.way.verdict(call) } else { Verdict::Go }
    }
}

/// Works on a store whose calls `from .. until` fail; gives how many calls there were.
fn live(seed: u64, from: u64, until: u64, way: Way) -> Result<u64, String> {
    let disk = SimFs::new(seed, Sabotage::None);
    let hook = Failing { calls: AtomicU64::new(0), from, until: AtomicU64::new(until), way };
    let fs = HookFs::new(disk.clone(), hook);
    let mut bench = Bench::new(seed, Arc::new(fs.clone()));
    bench.faulty = true;
    for _ in 0..2 {
        match one_life(&mut bench) {
            Ok(()) => {}
            Err(End::Disk) => break,
            Err(End::Wrong(what)) => return Err(what),
        }
    }
    let calls = fs.hook().calls.load(Ordering::Relaxed);
    let after = if bench.rng.bool() { disk.after_cut() } else { disk };
    bench.move_to(Arc::new(after));
    bench.check_backups().map_err(|end| format!("{end:?}"))?;
    match bench.open().and_then(|engine| bench.close(engine)).and_then(|()| bench.open()) {
        Ok(_) => Ok(calls),
        Err(End::Disk) => Err("on a disk that is well again it does not open".into()),
        Err(End::Wrong(what)) => Err(format!("opened again: {what}")),
    }
}

#[test]
fn whichever_call_fails_nothing_that_was_promised_is_lost() {
    let count = seeds().end.div_ceil(500).max(2);
    for seed in 0..count {
        let calls = live(seed, 0, 0, Way::Broken).expect("nothing fails");
        let next = AtomicU64::new(0);
        let work = || {
            loop {
                let from = next.fetch_add(1, Ordering::Relaxed);
                if from >= calls {
                    return;
                }
                for way in WAYS {
                    for until in [from + 1, u64::MAX] {
                        let lived = live(seed, from, until, way);
                        lived.unwrap_or_else(|what| {
                            panic!("seed {seed}, call {from} of {calls}, until {until}, {way:?}: {what}")
                        });
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
                scope.spawn(work);
            }
        });
    }
}
