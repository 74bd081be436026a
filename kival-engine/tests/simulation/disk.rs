//! A simulated disk: it knows what was synced, and after a power cut any of the rest may be gone.
//!
//! What is lost, kept, or torn at 512 bytes is drawn from a seed, write by write, in whatever order; so are
//! directory entries that were not synced. The cut comes at a call of a chosen number: that call may still
//! have reached the disk, and no later one does.

use fastrand::Rng;
use kival_engine::fs::{File, FileSystem, LockGuard};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// What a disk writes whole or not at all.
const SECTOR: u64 = 512;

/// What the disk does wrong on purpose, so that a harness that does not see it is known to be blind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sabotage {
    #[default]
    None,
    /// Syncs of segments say that they are done, and do nothing.
    LyingSyncs,
    /// Syncs of directories do nothing.
    LyingDirectorySyncs,
    /// The compaction's thread does not sync the log before its manifest switch (rule 15).
    NoBarrierBeforeSwitch,
}

/// The disk; clones share it.
#[derive(Debug, Clone)]
pub struct SimFs(Arc<Mutex<Disk>>);

#[derive(Debug)]
struct Disk {
    files: Vec<Inode>,
    dirs: BTreeMap<PathBuf, Dir>,
    locks: BTreeSet<PathBuf>,
    rng: Rng,
    sabotage: Sabotage,
    /// Whether space can be reserved on it.
    reserves: bool,
    /// Calls so far that changed something or made it durable.
    calls: u64,
    /// The call at which the power goes.
    cut_at: u64,
    /// Set once it has gone.
    survivors: Option<Box<Disk>>,
}

#[derive(Debug, Clone, Default)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

/// A directory of files: names to indices of inodes.
#[derive(Debug, Clone, Default)]
struct Dir {
    now: BTreeMap<PathBuf, usize>,
    durable: BTreeMap<PathBuf, usize>,
    pending: Vec<Entry>,
}

#[derive(Debug, Clone)]
enum Entry {
    Set(PathBuf, usize),
    Rename(PathBuf, PathBuf, usize),
    Unset(PathBuf),
}

impl Entry {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Entry::Set(name, inode) => drop(names.insert(name.clone(), *inode)),
            Entry::Rename(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
            Entry::Unset(name) => drop(names.remove(name)),
        }
    }
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write(offset, written) => {
            let end = *offset as usize + written.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*offset as usize..end].copy_from_slice(written);
        }
        Change::Truncate(len) => bytes.resize(*len as usize, 0),
    }
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

fn no_power() -> io::Error {
    io::Error::other("the power is off")
}

impl SimFs {
    /// An empty disk whose losses are drawn from `seed`.
    pub fn new(seed: u64, sabotage: Sabotage) -> SimFs {
        SimFs::of(Disk {
            files: Vec::new(),
            dirs: BTreeMap::new(),
            locks: BTreeSet::new(),
            rng: Rng::with_seed(seed),
            sabotage,
            reserves: seed.is_multiple_of(2),
            calls: 0,
            cut_at: u64::MAX,
            survivors: None,
        })
    }

    fn of(disk: Disk) -> SimFs {
        SimFs(Arc::new(Mutex::new(disk)))
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap()
    }

    /// Lets the power go at the `calls`th call from now on.
    pub fn cut_after(&self, calls: u64) {
        let mut disk = self.disk();
        disk.cut_at = disk.calls + calls;
    }

    /// Whether the power has gone.
    pub fn is_cut(&self) -> bool {
        self.disk().survivors.is_some()
    }

    /// Calls so far that changed something or made it durable.
    pub fn calls(&self) -> u64 {
        self.disk().calls
    }

    /// The disk after the power cut; cuts the power now if it has not gone.
    pub fn after_cut(&self) -> SimFs {
        let mut disk = self.disk();
        if disk.survivors.is_none() {
            disk.cut();
        }
        SimFs::of(*disk.survivors.take().expect("the power has gone"))
    }
}

impl Disk {
    /// Makes a call, or fails it for lack of power. The call at which the power goes is made before what
    /// survives is drawn: like any other, it may or may not have reached the disk.
    fn call<T>(&mut self, make: impl FnOnce(&mut Disk) -> io::Result<T>) -> io::Result<T> {
        if self.survivors.is_some() {
            return Err(no_power());
        }
        self.calls += 1;
        if self.calls < self.cut_at {
            return make(self);
        }
        if self.rng.bool() {
            // How it ended nobody learns.
            drop(make(self));
        }
        self.cut();
        Err(no_power())
    }

    /// Draws what survives.
    fn cut(&mut self) {
        // Now and then all or nothing of what is pending; a disk is rarely fair.
        let keep = [0.0, 0.1, 0.5, 0.9, 1.0][self.rng.usize(..5)];
        let in_order = self.rng.bool();
        let mut rng = self.rng.fork();
        let files = self.files.iter().map(|inode| inode.survive(keep, &mut rng)).collect();
        let dirs = self.dirs.iter().map(|(path, dir)| (path.clone(), dir.survive(keep, in_order, &mut rng)));
        self.survivors = Some(Box::new(Disk {
            files,
            dirs: dirs.collect(),
            locks: BTreeSet::new(),
            rng,
            sabotage: self.sabotage,
            reserves: self.reserves,
            calls: 0,
            cut_at: u64::MAX,
            survivors: None,
        }));
    }

    fn dir(&mut self, path: &Path) -> io::Result<&mut Dir> {
        self.dirs.get_mut(path.parent().ok_or_else(missing)?).ok_or_else(missing)
    }

    fn inode(&mut self, path: &Path) -> io::Result<usize> {
        self.dir(path)?.now.get(path).copied().ok_or_else(missing)
    }

    fn enter(&mut self, path: &Path, entry: Entry) -> io::Result<()> {
        let dir = self.dir(path)?;
        entry.apply(&mut dir.now);
        dir.pending.push(entry);
        Ok(())
    }

    fn change(&mut self, inode: usize, change: Change) {
        let inode = &mut self.files[inode];
        apply(&mut inode.now, &change);
        inode.pending.push(change);
    }

    /// Whether a sync of this file is left out.
    fn leaves_out(&self, path: &Path) -> bool {
        let merging = std::thread::current().name() == Some("kival-compact");
        let is_segment = path.extension().is_some_and(|end| end == "seg");
        let is_log = self.dirs.values().flat_map(|dir| &dir.now).any(|(name, inode)| {
            // A merge output's kind stands at byte 40 of its header.
            name == path && self.files[*inode].now.get(40) == Some(&0)
        });
        match self.sabotage {
            Sabotage::LyingSyncs => is_segment,
            Sabotage::NoBarrierBeforeSwitch => merging && is_log && is_segment,
            Sabotage::None | Sabotage::LyingDirectorySyncs => false,
        }
    }
}

impl Inode {
    fn survive(&self, keep: f64, rng: &mut Rng) -> Inode {
        let mut bytes = self.durable.clone();
        for change in &self.pending {
            match change {
                Change::Write(offset, written) => {
                    let mut at = 0;
                    while at < written.len() {
                        let sector_end = (offset + at as u64) / SECTOR * SECTOR + SECTOR;
                        let end = ((sector_end - offset) as usize).min(written.len());
                        if rng.f64() < keep {
                            apply(&mut bytes, &Change::Write(offset + at as u64, written[at..end].to_vec()));
                        }
                        at = end;
                    }
                }
                truncate @ Change::Truncate(_) => {
                    if rng.f64() < keep {
                        apply(&mut bytes, truncate);
                    }
                }
            }
        }
        // A length may have reached the disk before its bytes.
        if bytes.len() < self.now.len() && rng.u8(..4) == 0 {
            bytes.resize(self.now.len(), 0);
        }
        Inode { now: bytes.clone(), durable: bytes, pending: Vec::new() }
    }
}

impl Dir {
    fn survive(&self, keep: f64, in_order: bool, rng: &mut Rng) -> Dir {
        let mut names = self.durable.clone();
        for entry in &self.pending {
            if rng.f64() < keep {
                entry.apply(&mut names);
            } else if in_order {
                break;
            }
        }
        Dir { now: names.clone(), durable: names, pending: Vec::new() }
    }
}

impl FileSystem for SimFs {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        if disk.dirs.contains_key(dir) {
            return Ok(());
        }
        // Directories are durable at once: the store makes its own once, before it promises anything.
        disk.call(|disk| {
            for path in dir.ancestors() {
                disk.dirs.entry(path.to_owned()).or_default();
            }
            Ok(())
        })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let disk = self.disk();
        if disk.survivors.is_some() {
            return Err(no_power());
        }
        let files = disk.dirs.get(dir).ok_or_else(missing)?.now.keys();
        let inside = files.chain(disk.dirs.keys().filter(|path| path.parent() == Some(dir)));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let inode = self.disk().call(|disk| match disk.inode(path) {
            Ok(inode) => {
                disk.change(inode, Change::Truncate(0));
                Ok(inode)
            }
            Err(_) => {
                disk.files.push(Inode::default());
                let inode = disk.files.len() - 1;
                disk.enter(path, Entry::Set(path.to_owned(), inode))?;
                Ok(inode)
            }
        })?;
        Ok(Arc::new(SimFile { fs: self.clone(), inode, path: path.to_owned() }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut disk = self.disk();
        if disk.survivors.is_some() {
            return Err(no_power());
        }
        let inode = disk.inode(path)?;
        Ok(Arc::new(SimFile { fs: self.clone(), inode, path: path.to_owned() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk().call(|disk| {
            if let Some(dir) = disk.dirs.remove(from) {
                // A directory: its files come along, with what is pending of their names.
                let moved =
                    |path: &Path| path.strip_prefix(from).map_or(path.to_owned(), |rest| to.join(rest));
                let names = |names: BTreeMap<PathBuf, usize>| {
                    names.into_iter().map(|(path, inode)| (moved(&path), inode)).collect()
                };
                let pending = dir.pending.into_iter().map(|entry| match entry {
                    Entry::Set(path, inode) => Entry::Set(moved(&path), inode),
                    Entry::Rename(a, b, inode) => Entry::Rename(moved(&a), moved(&b), inode),
                    Entry::Unset(path) => Entry::Unset(moved(&path)),
                });
                let dir =
                    Dir { now: names(dir.now), durable: names(dir.durable), pending: pending.collect() };
                disk.dirs.insert(to.to_owned(), dir);
                return Ok(());
            }
            let inode = disk.inode(from)?;
            disk.enter(to, Entry::Rename(from.to_owned(), to.to_owned(), inode))
        })
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk().call(|disk| {
            let inode = disk.inode(from)?;
            if disk.inode(to).is_ok() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            disk.enter(to, Entry::Set(to.to_owned(), inode))
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk().call(|disk| {
            disk.inode(path)?;
            disk.enter(path, Entry::Unset(path.to_owned()))
        })
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk().call(|disk| {
            if !disk.dirs.get(dir).ok_or_else(missing)?.now.is_empty() {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            disk.dirs.remove(dir);
            Ok(())
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk().call(|disk| {
            let lies = disk.sabotage == Sabotage::LyingDirectorySyncs;
            let dir = disk.dirs.get_mut(dir).ok_or_else(missing)?;
            if !lies {
                dir.durable = dir.now.clone();
                dir.pending.clear();
            }
            Ok(())
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        let mut disk = self.disk();
        if !disk.locks.insert(path.to_owned()) {
            return Ok(None);
        }
        // Without contents it does not matter whether it survives.
        if disk.survivors.is_none() && disk.inode(path).is_err() {
            disk.files.push(Inode::default());
            let inode = disk.files.len() - 1;
            disk.enter(path, Entry::Set(path.to_owned(), inode))?;
        }
        Ok(Some(Box::new(SimLock { fs: self.clone(), path: path.to_owned() })))
    }
}

#[derive(Debug)]
struct SimLock {
    fs: SimFs,
    path: PathBuf,
}

impl LockGuard for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.fs.disk().locks.remove(&self.path);
    }
}

#[derive(Debug)]
struct SimFile {
    fs: SimFs,
    inode: usize,
    path: PathBuf,
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let disk = self.fs.disk();
        if disk.survivors.is_some() {
            return Err(no_power());
        }
        let bytes = disk.files[self.inode].now.get(offset as usize..).unwrap_or_default();
        let read = bytes.len().min(buf.len());
        buf[..read].copy_from_slice(&bytes[..read]);
        Ok(read)
    }

    fn read_at_cached(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.read_at(buf, offset).map(Some)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.fs.disk().call(|disk| {
            disk.change(self.inode, Change::Write(offset, buf.to_vec()));
            Ok(buf.len())
        })
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.fs.disk().files[self.inode].now.len() as u64)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.fs.disk().call(|disk| {
            disk.change(self.inode, Change::Truncate(len));
            Ok(())
        })
    }

    fn reserve(&self, _offset: u64, _len: u64) -> io::Result<()> {
        if self.fs.disk().reserves { Ok(()) } else { Err(io::ErrorKind::Unsupported.into()) }
    }

    fn sync(&self) -> io::Result<()> {
        self.fs.disk().call(|disk| {
            if !disk.leaves_out(&self.path) {
                let inode = &mut disk.files[self.inode];
                inode.durable = inode.now.clone();
                inode.pending.clear();
            }
            Ok(())
        })
    }
}
