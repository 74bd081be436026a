//! One cycle after the other: a server under load, its end at a random moment, a start, and a look at every key.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use fastrand::Rng;
use kival_test_support::disk::LossyDisk;
use kival_test_support::{Client, Launch, Server, Value, encode};

use super::own::Own;
use super::shared::{Journal, Shared};

/// Writers with a database of their own, and writers that share database 0.
const OWN: usize = 3;
const SHARED: usize = 2;
/// The most replies before an end, and the most calls of the file system.
const REPLIES: u64 = 1500;
const CALLS: u64 = 900;
/// Calls of a start, about.
const START_CALLS: u64 = 40;

/// How a server ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum End {
    /// Killed when so many replies have come.
    AtReply(u64),
    /// Dies at its n-th call of the file system, which may be one of recovery or compaction.
    AtCall(u64),
    /// Its disk is gone from its n-th call of the file system on; killed when every writer has been refused.
    DiskGone(u64),
    /// Asked to stop when so many replies have come.
    Asked(u64),
}

impl End {
    pub(super) fn random(rng: &mut Rng) -> End {
        match rng.u8(..20) {
            0..=9 => End::AtReply(rng.u64(1..REPLIES)),
            10..=13 => End::AtCall(rng.u64(1..START_CALLS)),
            14..=16 => End::AtCall(rng.u64(1..CALLS)),
            17 => End::DiskGone(rng.u64(1..CALLS)),
            _ => End::Asked(rng.u64(1..REPLIES)),
        }
    }

    fn replies(self) -> u64 {
        match self {
            End::AtReply(n) | End::Asked(n) => n,
            End::AtCall(_) | End::DiskGone(_) => u64::MAX,
        }
    }
}

/// What happens to the disk when the server ends.
pub(super) trait Power {
    /// Before a server is killed, or after one has stopped. Where the server goes on for a moment on a disk that
    /// is gone, `dark` is set first: what it answers then, nobody would have received.
    fn off(&mut self, _dark: &AtomicBool) {}
    /// When no server runs: takes from the disk what such an end takes.
    fn back(&mut self, _rng: &mut Rng) {}
}

/// The process alone dies.
pub(super) struct ProcessOnly;

impl Power for ProcessOnly {}

impl Power for &LossyDisk {
    fn back(&mut self, rng: &mut Rng) {
        // Now and then the process alone dies: what it had not synced is then the next one's business.
        if rng.u8(..4) > 0 {
            self.cut(rng);
        }
    }
}

/// A server with what is known of it.
pub(super) struct Harness<'a> {
    pub(super) server: Server,
    /// How it is started under load. For the look at the keys it is started as the server says.
    launch: Launch,
    power: &'a mut dyn Power,
    rng: Rng,
    own: Vec<Own>,
    shared: Shared,
    cycle: u64,
    /// Replies that came in all cycles.
    pub(super) replies: u64,
}

impl<'a> Harness<'a> {
    /// Around a server that does not run.
    pub(super) fn new(server: Server, launch: Launch, power: &'a mut dyn Power, rng: Rng) -> Harness<'a> {
        let own = (1..=OWN).map(Own::new).collect();
        Harness { server, launch, power, rng, own, shared: Shared::new(), cycle: 0, replies: 0 }
    }

    /// Runs the server under load until `end`.
    ///
    /// # Errors
    /// What the server did that it may not have done.
    pub(super) fn cycle(&mut self, end: End) -> Result<(), String> {
        self.cycle += 1;
        let cycle = self.cycle;
        let context = |error| format!("cycle {cycle}, {end:?}: {error}");
        let launch = match end {
            End::AtCall(n) => self.launch.clone().env("KIVAL_SHIM_KILL_AT", n.to_string()),
            End::DiskGone(n) => self.launch.clone().env("KIVAL_SHIM_FAIL_FROM", n.to_string()),
            _ => self.launch.clone(),
        };
        if let Err(failure) = self.server.try_restart(&launch) {
            let died = matches!(end, End::AtCall(_)) && failure.status.code().is_none();
            if !died && !matches!(end, End::DiskGone(_)) {
                return Err(context(format!("it does not start:\n{}", failure.output)));
            }
            // It died on its way up: nothing runs, and nothing has been asked of it.
            self.power.off(&AtomicBool::new(false));
            self.power.back(&mut self.rng);
            return self.look(&[]).map_err(context);
        }
        let journals = self.load(end).map_err(context)?;
        self.look(&journals).map_err(context)
    }

    /// Lets the writers work, ends the server, and gives the journals back.
    fn load(&mut self, end: End) -> Result<Vec<Journal>, String> {
        let port = self.server.port();
        let (reached, end_reached) = mpsc::channel::<()>();
        let answers = AtomicU64::new(0);
        let mut seeds = [(); OWN + SHARED].map(|()| Rng::with_seed(self.rng.u64(..))).into_iter();
        let backups = Client::connect(port).is_ok_and(has_backups);
        let cycle = self.cycle;
        let (server, power, rng, own) = (&mut self.server, &mut *self.power, &mut self.rng, &mut self.own);
        let dark = AtomicBool::new(false);
        let (answers, dark) = (&answers, &dark);
        let outcome = thread::scope(|scope| {
            let answered = |reached: mpsc::Sender<()>| {
                move || {
                    if answers.fetch_add(1, Ordering::Relaxed) + 1 == end.replies() {
                        // Nobody waits any more where the server died by itself.
                        let _ = reached.send(());
                    }
                    !dark.load(Ordering::SeqCst)
                }
            };
            let mut owners = Vec::new();
            for own in own.iter_mut() {
                let (mut rng, answered) = (seeds.next().expect("a seed each"), answered(reached.clone()));
                owners.push(scope.spawn(move || match Client::connect(port) {
                    Ok(mut client) => own.work(&mut client, &mut rng, &answered),
                    Err(_) => Ok(()),
                }));
            }
            let mut sharers = Vec::new();
            for writer in 0..SHARED {
                let (mut rng, answered) = (seeds.next().expect("a seed each"), answered(reached.clone()));
                sharers.push(scope.spawn(move || {
                    let mut journal = Journal::default();
                    let name = format!("{cycle}.{writer}");
                    let done = match Client::connect(port) {
                        Ok(mut client) => journal.work(&mut client, &mut rng, (&name, backups), &answered),
                        Err(_) => Ok(()),
                    };
                    done.map(|()| journal)
                }));
            }
            drop(reached);
            // Either the reply has come, or all writers have ended, since the server has.
            let _ = end_reached.recv();
            match end {
                End::Asked(_) => {
                    let status = server.terminate();
                    assert!(status.success(), "a stop by SIGTERM is clean: {status}");
                    power.off(dark);
                }
                _ => {
                    power.off(dark);
                    server.kill9();
                }
            }
            power.back(rng);
            owners.into_iter().try_for_each(|owner| owner.join().expect("a writer does not panic"))?;
            sharers.into_iter().map(|sharer| sharer.join().expect("a writer does not panic")).collect()
        });
        self.replies += answers.load(Ordering::Relaxed);
        outcome
    }

    /// Starts the server and reads everything.
    fn look(&mut self, journals: &[Journal]) -> Result<(), String> {
        let launch = self.launch.clone();
        self.server
            .try_restart(&launch)
            .map_err(|failure| format!("it does not start:\n{}", failure.output))?;
        let mut client = self.server.client();
        for own in &mut self.own {
            own.verify(&mut client)?;
        }
        super::own::select(&mut client, 0).expect("the server answers");
        self.shared.verify(&mut client, journals)?;
        // What was read here is of the disk too.
        self.power.off(&AtomicBool::new(false));
        self.server.kill9();
        self.power.back(&mut self.rng);
        Ok(())
    }
}

/// Whether it can make backups; one that dies at a chosen call may do so at this one.
fn has_backups(mut client: Client) -> bool {
    let sent = client.write(&encode(&["COMMAND", "INFO", "bgsave"]));
    let Ok(frame) = sent.and_then(|()| client.try_frame()) else { return false };
    matches!(frame.value.items(), Some([info]) if *info != Value::Nil)
}
