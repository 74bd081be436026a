//! A disk below a real server that loses what was not synced, and a server that dies at an exact call: both by
//! `tests/shim/disk.c`, preloaded into the process. A killed process leaves the page cache whole, so a kill
//! alone cannot show that anything was ever synced.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use fastrand::Rng;

use crate::server::{Launch, Server};

/// A process dies in the middle of a call or two.
const MOST_UNNOTED: usize = 2;

/// Compiles a C program of `tests/shim` into `into`.
///
/// # Panics
/// If the compiler says no.
pub fn compile(source: &str, into: &Path, flags: &[&str]) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shim").join(source);
    let status = Command::new("cc").args(["-O2", "-Wall", "-o"]).arg(into).arg(source).args(flags).status();
    assert!(status.expect("cc can be run").success(), "cc failed");
}

/// The disk of one server.
#[derive(Debug)]
pub struct LossyDisk {
    data: PathBuf,
    /// Where the shim keeps its notes, and files that may have to come back.
    kept: PathBuf,
    library: PathBuf,
}

/// What is known to be durable of a file that was created.
#[derive(Default)]
struct Durable {
    /// Its size at the last sync.
    size: u64,
    /// When that sync began.
    synced: u64,
    /// Offset and size of what was written since. What stood there before was zeros, or nothing: the server
    /// writes into files that it made itself, and over no other bytes.
    pending: Vec<(u64, u64)>,
}

/// A change of a directory that no sync of the directory covers yet.
enum Change {
    Created(PathBuf),
    Renamed { kept: PathBuf, from: PathBuf, to: PathBuf },
    Removed { kept: PathBuf, path: PathBuf },
}

impl LossyDisk {
    /// For a server that does not run yet.
    ///
    /// # Panics
    /// If the shim cannot be made.
    pub fn new(server: &Server) -> LossyDisk {
        let library = server.beside("disk.so");
        compile("disk.c", &library, &["-shared", "-fPIC", "-ldl"]);
        let disk = LossyDisk { data: server.dir(), kept: server.beside("kept"), library };
        disk.forget();
        disk
    }

    /// `launch` on this disk.
    pub fn below(&self, launch: &Launch) -> Launch {
        let launch = launch.clone().env("LD_PRELOAD", &self.library);
        launch.env("KIVAL_SHIM_DIR", &self.kept).env("KIVAL_SHIM_DATA", &self.data)
    }

    /// The server is dead: takes back what no sync covers. Directory changes go in the reverse of their order, down
    /// to a random one; a file's bytes go down to the synced size, or for one file in three to a random size above.
    /// Below it what was written since the sync is zeros again, or for one file in three some of it.
    ///
    /// # Panics
    /// If the notes cannot be followed.
    pub fn cut(&self, rng: &mut Rng) {
        let notes = fs::read_to_string(self.kept.join("notes")).unwrap_or_default();
        let (durable, mut pending) = self.read(&notes);
        let stay = if rng.bool() { 0 } else { rng.usize(..=pending.len()) };
        pending.drain(..stay);
        // What was done when the process died may not have been noted: that stays, and what it rests on.
        let unnoted = pending.into_iter().rev().filter(|change| !change.undo()).count();
        assert!(unnoted <= MOST_UNNOTED, "changes can be taken back in the reverse of their order");
        for path in files(&self.data) {
            let meta = path.metadata().expect("a file that was listed");
            let Some(known) = durable.get(&meta.ino()) else { continue };
            let file = OpenOptions::new().write(true).open(&path).expect("the file can be written");
            if meta.len() > known.size {
                let above = if rng.u8(..3) == 0 { rng.u64(..=meta.len() - known.size) } else { 0 };
                file.set_len(known.size + above).expect("the file can be cut");
                tear(&file, known.size, known.size + above, 4, rng);
            }
            let lost = if rng.u8(..3) == 0 { 2 } else { 1 };
            for &(offset, size) in &known.pending {
                tear(&file, offset, (offset + size).min(known.size).min(meta.len()), lost, rng);
            }
        }
        // The power is back: what is on the disk now is on the disk.
        self.forget();
    }

    /// Forgets what the last process did: all of it counts as durable.
    ///
    /// # Panics
    /// If the notes cannot be removed.
    pub fn forget(&self) {
        if self.kept.exists() {
            fs::remove_dir_all(&self.kept).expect("the notes can be removed");
        }
        fs::create_dir(&self.kept).expect("a directory for the notes");
    }

    /// What is durable of each file that was created, by inode, and the changes that are not. Entries of directories
    /// below, where backups are, count as durable: the simulated disk of the engine's tests takes those back.
    fn read(&self, notes: &str) -> (HashMap<u64, Durable>, Vec<Change>) {
        let mut durable: HashMap<u64, Durable> = HashMap::new();
        let mut written: Vec<(u64, u64, u64, u64)> = Vec::new();
        let mut pending: Vec<Change> = Vec::new();
        let kept = |number: &str| self.kept.join(number);
        for line in notes.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["C", inode, path] => {
                    durable.insert(number(inode), Durable::default());
                    written.retain(|(_, other, ..)| *other != number(inode));
                    pending.push(Change::Created(path.into()));
                }
                // A file that is older than the notes is durable as it is.
                ["S", began, inode, size] => {
                    durable.entry(number(inode)).and_modify(|known| {
                        known.size = number(size).max(known.size);
                        known.synced = number(began).max(known.synced);
                    });
                }
                ["W", time, inode, offset, size] => {
                    written.push((number(time), number(inode), number(offset), number(size)));
                }
                ["R", keep, from, to] => {
                    pending.push(Change::Renamed { kept: kept(keep), from: from.into(), to: to.into() });
                }
                ["U", keep, path] => pending.push(Change::Removed { kept: kept(keep), path: path.into() }),
                ["L", path] => pending.push(Change::Created(path.into())),
                ["D", dir] => pending.retain(|change| change.path().parent() != Some(Path::new(dir))),
                _ => panic!("the shim noted {line}"),
            }
        }
        pending.retain(|change| change.path().parent() == Some(&*self.data));
        for (time, inode, offset, size) in written {
            if let Some(known) = durable.get_mut(&inode).filter(|known| time > known.synced) {
                known.pending.push((offset, size));
            }
        }
        (durable, pending)
    }
}

impl Change {
    fn path(&self) -> &Path {
        match self {
            Change::Created(path) | Change::Removed { path, .. } => path,
            Change::Renamed { to, .. } => to,
        }
    }

    /// Takes it back, and says whether what it made was still there.
    fn undo(&self) -> bool {
        let done = match self {
            Change::Created(path) => fs::remove_file(path),
            Change::Removed { kept, path } => fs::rename(kept, path),
            Change::Renamed { kept, from, to } => {
                fs::rename(to, from).and_then(|()| if kept.exists() { fs::rename(kept, to) } else { Ok(()) })
            }
        };
        match done {
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            done => {
                done.expect("a change can be taken back");
                true
            }
        }
    }
}

/// Of what stood between `at` and `end` one block in `lost` did not reach the disk.
fn tear(file: &File, mut at: u64, end: u64, lost: u8, rng: &mut Rng) {
    const BLOCK: u64 = 512;
    while at < end {
        let next = ((at / BLOCK + 1) * BLOCK).min(end);
        if rng.u8(..lost) == 0 {
            let zeros = vec![0; (next - at) as usize];
            file.write_all_at(&zeros, at).expect("the file can be written");
        }
        at = next;
    }
}

fn number(text: &str) -> u64 {
    text.parse().expect("the shim writes numbers")
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("the data directory can be listed").flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}
