//! Taking changes back that are staged: a command's by its savepoint, a turn's when its append failed.

use super::Engine;
use super::databases::{Databases, Space};
use crate::keydir::{Entry, Page, Pages, Place};

/// How a change is taken back.
pub(super) enum Undo {
    /// A key's entry was changed, and the pages of its value went; its key stands in the staged bytes.
    Key { db: u32, key_at: usize, key_size: usize, before: Option<Entry>, pages: Option<Box<Pages>> },
    /// A page of the value in the record `base` was set.
    Page {
        db: u32,
        key_at: usize,
        key_size: usize,
        base: u64,
        number: u32,
        before: Option<Page>,
        newest: u64,
    },
    /// The databases got other namespaces: those spaces that were exchanged for others, and the record
    /// that counted.
    Map { replaced: Vec<(u32, Space)>, next_namespace: u32, record: Option<(u64, Place, u64)> },
    /// Two databases were exchanged.
    Swap { first: u32, second: u32, record: Option<(u64, Place, u64)> },
}

impl Engine {
    /// Takes back all changes but the first `kept` ones, the last first.
    pub(super) fn undo_to(&mut self, kept: usize) {
        while self.stage.undo.len() > kept {
            match self.stage.undo.pop().expect("the length was just checked") {
                Undo::Key { db, key_at, key_size, before, pages } => {
                    let key = &self.stage.bytes[key_at..key_at + key_size];
                    let space = &mut self.databases.spaces[db as usize];
                    let now = match before {
                        Some(before) => space.keydir.insert(key, before),
                        None => space.keydir.remove(key),
                    };
                    if let Some(now) = now {
                        space.retire_entry(key, &now);
                        if before.is_none_or(|before| before.sequence != now.sequence) {
                            self.cache.remove(now.sequence);
                        }
                    }
                    if let Some(before) = &before {
                        if let Some(pages) = pages {
                            space.paged.insert(before.sequence, *pages);
                        }
                        space.enlist_entry(key, before);
                    }
                }
                Undo::Page { db, key_at, key_size, base, number, before, newest } => {
                    let key = &self.stage.bytes[key_at..key_at + key_size];
                    let space = &mut self.databases.spaces[db as usize];
                    if let Some(gone) = space.take_page_back(key, base, number, before, newest) {
                        self.cache.remove(gone.sequence);
                    }
                }
                other => self.databases.take_back(other),
            }
        }
    }

    /// Lets the keydirs of flushed databases go on a thread of their own.
    pub(super) fn drop_replaced(&mut self) {
        let spaces: Vec<Space> = self
            .stage
            .undo
            .drain(..)
            .filter_map(|undo| if let Undo::Map { replaced, .. } = undo { Some(replaced) } else { None })
            .flatten()
            .map(|(_, space)| space)
            .collect();
        if spaces.iter().any(|space| space.entries() > 10_000) {
            // Where no thread can be had they are dropped here, when the closure is.
            let _ = std::thread::Builder::new().name("kival-drop".into()).spawn(move || drop(spaces));
        }
    }
}

impl Databases {
    /// Exchanges two databases.
    pub(super) fn swap(&mut self, first: u32, second: u32) {
        self.spaces.swap(first as usize, second as usize);
        self.index();
    }

    /// Takes back a change of the map.
    pub(super) fn take_back(&mut self, undo: Undo) {
        match undo {
            Undo::Map { replaced, next_namespace, record } => {
                for (db, space) in replaced {
                    self.spaces[db as usize] = space;
                }
                self.next_namespace = next_namespace;
                self.record = record;
                self.index();
            }
            Undo::Swap { first, second, record } => {
                self.swap(first, second);
                self.record = record;
            }
            Undo::Key { .. } | Undo::Page { .. } => unreachable!("keys are taken back by the engine"),
        }
    }
}
