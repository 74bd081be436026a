//! A file system in memory: the volatile store of `--in-memory`, and most tests.

use super::{File, FileSystem, LockGuard};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Files in memory; clones share the tree. An open file outlives its removal, as on Unix.
#[derive(Debug, Default, Clone)]
pub struct MemoryFs {
    tree: Arc<Mutex<Tree>>,
}

#[derive(Debug, Default)]
struct Tree {
    files: BTreeMap<PathBuf, Arc<MemoryFile>>,
    dirs: BTreeSet<PathBuf>,
    locks: BTreeSet<PathBuf>,
}

/// A panic elsewhere leaves these maps whole: every change is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl FileSystem for MemoryFs {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut tree = lock(&self.tree);
        tree.dirs.extend(dir.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let tree = lock(&self.tree);
        let inside = tree.files.keys().chain(&tree.dirs).filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = Arc::new(MemoryFile::default());
        lock(&self.tree).files.insert(path.to_owned(), file.clone());
        Ok(file)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        match lock(&self.tree).files.get(path) {
            Some(file) => Ok(file.clone()),
            None => Err(missing()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut tree = lock(&self.tree);
        if tree.dirs.remove(from) {
            let moved = |path: &PathBuf| path.strip_prefix(from).map_or(path.clone(), |rest| to.join(rest));
            tree.dirs = tree.dirs.iter().map(moved).chain([to.to_owned()]).collect();
            tree.files = std::mem::take(&mut tree.files).into_iter().map(|(p, f)| (moved(&p), f)).collect();
            return Ok(());
        }
        let file = tree.files.remove(from).ok_or_else(missing)?;
        tree.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut tree = lock(&self.tree);
        let file = tree.files.get(from).cloned().ok_or_else(missing)?;
        if tree.files.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        tree.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        lock(&self.tree).files.remove(path).map(|_| ()).ok_or_else(missing)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        let mut tree = lock(&self.tree);
        if tree.files.keys().chain(&tree.dirs).any(|path| path.parent() == Some(dir)) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        if tree.dirs.remove(dir) { Ok(()) } else { Err(missing()) }
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        let mut tree = lock(&self.tree);
        tree.files.entry(path.to_owned()).or_default();
        if !tree.locks.insert(path.to_owned()) {
            return Ok(None);
        }
        drop(tree);
        Ok(Some(Box::new(MemoryLock { tree: self.tree.clone(), path: path.to_owned() })))
    }
}

#[derive(Debug)]
struct MemoryLock {
    tree: Arc<Mutex<Tree>>,
    path: PathBuf,
}

impl LockGuard for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        lock(&self.tree).locks.remove(&self.path);
    }
}

/// Contents in blocks, so that growth never copies what is there.
const BLOCK: usize = 64 * 1024;

#[derive(Debug, Default)]
struct MemoryFile {
    contents: Mutex<Contents>,
}

#[derive(Debug, Default)]
struct Contents {
    blocks: Vec<Box<[u8]>>,
    len: u64,
}

impl File for MemoryFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let contents = lock(&self.contents);
        let wanted = (contents.len.saturating_sub(offset) as usize).min(buf.len());
        let mut done = 0;
        while done < wanted {
            let at = offset as usize + done;
            let block = &contents.blocks[at / BLOCK][at % BLOCK..];
            let n = block.len().min(wanted - done);
            buf[done..done + n].copy_from_slice(&block[..n]);
            done += n;
        }
        Ok(done)
    }

    fn read_at_cached(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.read_at(buf, offset).map(Some)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let mut contents = lock(&self.contents);
        let end = offset + buf.len() as u64;
        while (contents.blocks.len() * BLOCK) < end as usize {
            contents.blocks.push(vec![0; BLOCK].into_boxed_slice());
        }
        let mut done = 0;
        while done < buf.len() {
            let at = offset as usize + done;
            let block = &mut contents.blocks[at / BLOCK][at % BLOCK..];
            let n = block.len().min(buf.len() - done);
            block[..n].copy_from_slice(&buf[done..done + n]);
            done += n;
        }
        contents.len = contents.len.max(end);
        Ok(done)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.contents).len)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut contents = lock(&self.contents);
        if len < contents.len {
            contents.len = len;
            contents.blocks.truncate((len as usize).div_ceil(BLOCK));
            // Growing the file again must show zeros.
            let within = len as usize % BLOCK;
            if let (Some(last), true) = (contents.blocks.last_mut(), within > 0) {
                last[within..].fill(0);
            }
        }
        Ok(())
    }

    fn reserve(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{read_whole, write_all_at};
    use super::*;

    #[test]
    fn contents_cross_blocks_and_survive_removal_while_open() {
        let fs = MemoryFs::default();
        let file = fs.create(Path::new("/d/a")).expect("created");
        let bytes: Vec<u8> = (0..3 * BLOCK).map(|i| (i % 251) as u8).collect();
        write_all_at(&*file, &bytes, 0).expect("written");
        fs.remove(Path::new("/d/a")).expect("removed");
        assert_eq!(read_whole(&*file).expect("read"), bytes);
        assert!(fs.open(Path::new("/d/a")).is_err());
    }

    #[test]
    fn a_cut_file_grows_again_with_zeros() {
        let fs = MemoryFs::default();
        let file = fs.create(Path::new("/d/a")).expect("created");
        write_all_at(&*file, b"abcdef", 0).expect("written");
        file.truncate(2).expect("cut");
        write_all_at(&*file, b"x", 4).expect("written");
        assert_eq!(read_whole(&*file).expect("read"), b"ab\0\0x");
    }
    #[test]
    fn links_and_directories_are_as_on_a_disk() {
        let fs = MemoryFs::default();
        fs.create_dir(Path::new("/d/sub")).expect("created");
        let file = fs.create(Path::new("/d/a")).expect("created");
        fs.link(Path::new("/d/a"), Path::new("/d/sub/b")).expect("linked");
        assert!(fs.link(Path::new("/d/a"), Path::new("/d/sub/b")).is_err());
        write_all_at(&*file, b"both", 0).expect("written");
        fs.remove(Path::new("/d/a")).expect("removed");
        assert!(fs.remove_dir(Path::new("/d/sub")).is_err(), "it is not empty");
        fs.rename(Path::new("/d/sub"), Path::new("/d/new")).expect("renamed");
        assert_eq!(fs.list(Path::new("/d")).expect("listed"), ["new"]);
        assert_eq!(read_whole(&*fs.open(Path::new("/d/new/b")).expect("there")).expect("read"), b"both");
        fs.remove(Path::new("/d/new/b")).expect("removed");
        fs.remove_dir(Path::new("/d/new")).expect("empty now");
        assert!(fs.list(Path::new("/d")).expect("listed").is_empty());
    }
}
