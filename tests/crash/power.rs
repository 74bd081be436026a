//! Real power cuts: the data directory is an ext4 of its own, in an image file, mounted in a mount namespace of the
//! test's own, and ext4's shutdown call stops it without writing anything more, its journal included.
//!
//! The same call on the machine's own file system would stop the machine. So the device numbers are compared
//! here, and again by `tests/shim/power_cut.c`, which makes the call.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use fastrand::Rng;
use kival_test_support::disk::compile;
use kival_test_support::tools::not_applicable;
use kival_test_support::{Server, eventually, have, seed};

use super::harness::{End, Harness, Power};
use super::{ALWAYS, BUSY, CONTROL_CYCLES, run};
use crate::target;

/// Set in the process that has a mount namespace of its own.
const INSIDE: &str = "KIVAL_POWER_INSIDE";
const CYCLES: &str = "KIVAL_POWER_CYCLES";

/// An ext4 in a file, mounted on the data directory.
struct Mount {
    image: PathBuf,
    dir: PathBuf,
    cutter: PathBuf,
}

impl Mount {
    /// For a server that does not run yet.
    fn new(server: &Server) -> Mount {
        let mount =
            Mount { image: server.beside("image"), dir: server.dir(), cutter: server.beside("power_cut") };
        compile("power_cut.c", &mount.cutter, &[]);
        let image = fs::File::create(&mount.image).expect("an image file");
        image.set_len(256 << 20).expect("a sparse image file");
        succeed(Command::new("mkfs.ext4").arg("-q").arg(&mount.image));
        mount.mount();
        fs::remove_dir(mount.dir.join("lost+found")).expect("it is empty");
        succeed(Command::new("sync").arg("-f").arg(&mount.dir));
        mount
    }

    fn mount(&self) {
        succeed(Command::new("mount").args(["-o", "loop"]).args([&self.image, &self.dir]));
    }
}

/// Whether what is mounted on `dir` from `image` is a device of its own.
fn is_apart(dir: &Path, image: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).expect("the path is there").dev();
    let parent = dir.parent().expect("the data directory is in another");
    [Path::new("/"), image, parent].iter().all(|path| device(path) != device(dir))
}

impl Power for Mount {
    fn off(&mut self, dark: &AtomicBool) {
        // Linux (seen with 6.18) lets a sync that is under way at this moment end well though its data is lost.
        dark.store(true, Ordering::SeqCst);
        assert!(is_apart(&self.dir, &self.image), "{} is not a mount of its own", self.dir.display());
        succeed(Command::new(&self.cutter).args([&self.dir, &self.image]));
    }

    fn back(&mut self, _rng: &mut Rng) {
        // For a moment the system itself may still hold it.
        eventually("the mount can be taken off", || {
            let output = Command::new("umount").arg(&self.dir).output().expect("umount can be run");
            output.status.success().then_some(())
        });
        self.mount();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // The server may still run where the test has failed; the mount ends with the namespace.
        let _ = Command::new("umount").arg("--lazy").arg(&self.dir).status();
    }
}

fn succeed(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?} cannot be run: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Runs the test `name` again in a mount namespace of its own. `true` in there; outside it says what became of it.
fn inside(name: &str) -> bool {
    if env::var_os(INSIDE).is_some() {
        return true;
    }
    if seed::number(CYCLES, 0) == 0 {
        not_applicable("real power cuts are for the soak");
        return false;
    }
    if !target::is_kival() || !["cc", "unshare", "mkfs.ext4", "mount"].into_iter().all(have) {
        return false;
    }
    // Nobody but us may see or keep the mount.
    let unshare = ["--mount", "--propagation", "private"];
    let possible = Command::new("unshare").args(unshare).args(["losetup", "--find"]).output();
    if !possible.is_ok_and(|output| output.status.success()) {
        not_applicable("the system gives no mount namespace or no loop device; the simulator is the proof");
        return false;
    }
    let program = env::current_exe().expect("the path of this program");
    let status = Command::new("unshare")
        .args(unshare)
        .arg(program)
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .status();
    assert!(status.expect("unshare can be run").success(), "{name} failed in its namespace");
    false
}

#[test]
fn nothing_acknowledged_is_lost_when_the_power_goes() {
    if !inside("crash::power::nothing_acknowledged_is_lost_when_the_power_goes") {
        return;
    }
    let (mut rng, _) = seed::generator("nothing_acknowledged_is_lost_when_the_power_goes");
    let server = target::launch(&[&BUSY[..], &ALWAYS].concat()).stopped();
    let mut mount = Mount::new(&server);
    let launch = server.launch().clone();
    let harness = Harness::new(server, launch, &mut mount, rng.fork());
    run(harness, seed::number(CYCLES, 0), || End::AtReply(rng.u64(1..3000)));
}

#[test]
fn control_a_server_that_leaves_syncs_to_the_system_loses_writes_when_the_power_goes() {
    if !inside(
        "crash::power::control_a_server_that_leaves_syncs_to_the_system_loses_writes_when_the_power_goes",
    ) {
        return;
    }
    let (mut rng, _) = seed::generator("control of power cuts");
    let server = target::launch(&["--appendfsync", "no"]).stopped();
    let mut mount = Mount::new(&server);
    let launch = server.launch().clone();
    let mut harness = Harness::new(server, launch, &mut mount, rng.fork());
    let lost = (0..CONTROL_CYCLES).any(|_| {
        let seen = harness.cycle(End::AtReply(rng.u64(500..1500)));
        seen.inspect_err(|violation| println!("as it should be: {violation}")).is_err()
    });
    assert!(lost, "no write was lost");
}

#[test]
fn the_power_of_what_is_no_mount_is_not_cut() {
    if !target::is_kival() || !have("cc") {
        return;
    }
    let server = target::launch(&ALWAYS).stopped();
    let (dir, image) = (server.dir(), server.beside("image"));
    fs::write(&image, "").expect("a file beside the data");
    let cutter = server.beside("power_cut");
    compile("power_cut.c", &cutter, &[]);
    let status = Command::new(&cutter).args([&dir, &image]).status().expect("it can be run");
    assert_eq!(status.code(), Some(3));
    assert!(!is_apart(&dir, &image));
}
