//! What was acknowledged under `always` is there after any end of the real server, under load, with compaction (and
//! backups) running: kill -9, death at an exact call, power cuts. And the controls: a server that does not sync
//! is seen to lose writes.
//!
//! `KIVAL_CRASH_CYCLES` (100), `KIVAL_CUT_CYCLES` (30) and `KIVAL_POWER_CYCLES` (0: real power cuts are for the soak)
//! set the sizes.

mod harness;
mod own;
mod power;
mod shared;

use kival_test_support::disk::LossyDisk;
use kival_test_support::{have, seed};

use self::harness::{End, Harness, Power, ProcessOnly};
use crate::target;

/// Small segments and much compaction.
const BUSY: [&str; 6] =
    ["--segment-size", "64kb", "--auto-aof-rewrite-percentage", "30", "--auto-aof-rewrite-min-size", "128kb"];
const ALWAYS: [&str; 2] = ["--appendfsync", "always"];
/// Cycles in which a control has to see a loss.
const CONTROL_CYCLES: u64 = 10;

/// So many cycles. Says how many replies came, since a run without load would prove nothing.
fn run(mut harness: Harness<'_>, cycles: u64, mut end: impl FnMut() -> End) {
    for _ in 0..cycles {
        harness.cycle(end()).unwrap_or_else(|violation| panic!("{violation}"));
    }
    println!("{cycles} ends, {} replies", harness.replies);
    assert!(harness.replies > cycles * 20, "only {} replies came", harness.replies);
}

#[test]
fn nothing_acknowledged_is_lost_when_the_server_is_killed() {
    if !target::is_kival() || !have("cc") {
        return;
    }
    let (mut rng, _) = seed::generator("nothing_acknowledged_is_lost_when_the_server_is_killed");
    let server = target::launch(&[&BUSY[..], &ALWAYS].concat()).stopped();
    let disk = LossyDisk::new(&server);
    let launch = disk.below(server.launch());
    let mut power = ProcessOnly;
    let harness = Harness::new(server, launch, &mut power, rng.fork());
    run(harness, seed::number("KIVAL_CRASH_CYCLES", 100), || End::random(&mut rng));
}

#[test]
fn nothing_acknowledged_is_lost_when_what_was_not_synced_is() {
    if !target::is_kival() || !have("cc") {
        return;
    }
    let (mut rng, _) = seed::generator("nothing_acknowledged_is_lost_when_what_was_not_synced_is");
    let server = target::launch(&[&BUSY[..], &ALWAYS].concat()).stopped();
    let disk = LossyDisk::new(&server);
    let launch = disk.below(server.launch());
    let mut power = &disk;
    let harness = Harness::new(server, launch, &mut power, rng.fork());
    run(harness, seed::number("KIVAL_CUT_CYCLES", 30), || End::random(&mut rng));
}

/// Whether a server with these settings and this environment is seen to lose something that it acknowledged.
fn is_seen_to_lose(test: &str, settings: &[&str], env: Option<(&str, &str)>) -> bool {
    let (mut rng, _) = seed::generator(test);
    let server = target::launch(settings).stopped();
    let disk = LossyDisk::new(&server);
    let mut launch = disk.below(server.launch());
    if let Some((name, value)) = env {
        launch = launch.env(name, value);
    }
    let mut power: &LossyDisk = &disk;
    let mut harness = Harness::new(server, launch, &mut power as &mut dyn Power, rng.fork());
    (0..CONTROL_CYCLES).any(|_| {
        let seen = harness.cycle(End::AtReply(rng.u64(500..1500)));
        seen.inspect_err(|violation| println!("as it should be: {violation}")).is_err()
    })
}

#[test]
fn control_a_disk_that_lies_about_its_syncs_is_seen_to_lose_writes() {
    if target::is_kival() && have("cc") {
        // It is honest until the store is made.
        let lies = Some(("KIVAL_SHIM_LIE_AFTER", "20"));
        assert!(is_seen_to_lose("control_lies", &ALWAYS, lies));
    }
}

#[test]
fn control_a_server_that_leaves_syncs_to_the_system_is_seen_to_lose_writes() {
    if target::is_kival() && have("cc") {
        assert!(is_seen_to_lose("control_no", &["--appendfsync", "no"], None));
    }
}
