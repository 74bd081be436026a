//! How far the log reaches when there is damage below a watermark and `on-corruption quarantine`: it goes
//! on behind the damage where a group stands. What is lost is noted in the sealed segment's summary, so that
//! every later open finds the same zone: the segment counts past its damage, from the lowest to the
//! highest sequence that may have stood there.

use super::Found;
use super::salvage::{Piece, salvage};
use super::tail::Extent;
use crate::error::{Damage, OpenError};
use crate::format::group::Position;
use crate::format::manifest::Sealed;
use crate::log::Home;
use crate::log::scan::Scanner;
use std::cmp::Ordering;

/// A group that stands, or a place where none does.
enum Item {
    Group { start: u64, end: u64, previous: u64, first: u64, last: u64 },
    Gap { offset: u64 },
}

/// Records that are lost: the place where they stood, and which they can be.
struct Lost {
    segment: usize,
    offset: u64,
    lowest: u64,
    highest: u64,
}

/// The log as it was walked.
struct Walk<'a> {
    open: &'a [Found],
    watermark: Position,
    /// The sequence of the last record read so far.
    last: u64,
    /// Where no group stood, since the last one that did.
    pending: Option<(usize, u64)>,
    lost: Vec<Lost>,
    /// For each segment the groups that count: start, end, first and last sequence.
    groups: Vec<Vec<(u64, u64, u64, u64)>>,
}

/// Measures the log of the `open` segments around its damage.
pub(super) fn measure(home: &Home, open: &[Found]) -> Result<Extent, OpenError> {
    let manifest = home.manifest.get();
    let mut watermark = manifest.watermark;
    for found in open {
        let mut scanner = Scanner::new(found.file.clone(), home.store, found.first_group(), found.len, None);
        watermark = watermark.max(scanner.watermark_beyond().map_err(found.io("read"))?);
    }
    let mut walk = Walk {
        open,
        watermark,
        last: manifest.chain,
        pending: None,
        lost: Vec::new(),
        groups: open.iter().map(|_| Vec::new()).collect(),
    };
    walk.all(home, manifest.sequence_limit)?;
    walk.extent()
}

fn items(home: &Home, found: &Found) -> Result<Vec<Item>, OpenError> {
    let mut items = Vec::new();
    salvage(home, found, u64::MAX, |piece| {
        items.push(match piece {
            Piece::Group(group) => Item::Group {
                start: group.header.at.offset,
                end: group.header.at.offset + group.header.group_size().unwrap_or_default(),
                previous: group.header.previous_sequence,
                first: group.header.first_sequence,
                last: group.header.first_sequence + u64::from(group.header.records) - 1,
            },
            Piece::Gap(gap) => Item::Gap { offset: gap.offset },
        });
    })?;
    Ok(items)
}

impl Walk<'_> {
    fn all(&mut self, home: &Home, limit: u64) -> Result<(), OpenError> {
        'log: for (index, found) in self.open.iter().enumerate() {
            if found.missing {
                self.pending.get_or_insert((index, found.header_size));
            }
            for item in items(home, found)? {
                match item {
                    Item::Gap { offset } => {
                        self.pending.get_or_insert((index, offset));
                    }
                    Item::Group { start, end, previous, first, last } => {
                        match previous.cmp(&self.last) {
                            Ordering::Less => return Err(found.corruption(start, Damage::Order)),
                            // The chain goes on, so that what was passed over was never part of it.
                            Ordering::Equal => {}
                            Ordering::Greater if self.lose(index, previous) => {}
                            Ordering::Greater => break 'log,
                        }
                        self.pending = None;
                        self.groups[index].push((start, end, first, last));
                        self.last = last;
                    }
                }
            }
        }
        let end = self.end();
        if self.pending.is_some() || (self.is_open(self.watermark.segment) && end < self.watermark) {
            // If what comes last is torn, nothing is lost there.
            self.lose(self.open.len() - 1, limit);
        }
        Ok(())
    }

    fn is_open(&self, id: u64) -> bool {
        self.open.iter().any(|found| found.entry.id == id)
    }

    /// Where the log ends so far.
    fn end(&self) -> Position {
        let holding = (0..self.open.len()).rev().find(|&index| !self.groups[index].is_empty());
        let index = holding.unwrap_or(0);
        let offset = self.groups[index].last().map_or(self.open[index].header_size, |group| group.1);
        Position { segment: self.open[index].entry.id, offset }
    }

    /// Notes that the records after the last one, up to `highest`, are lost; `false` if what is missing
    /// was above the watermark, so that it is a torn tail.
    fn lose(&mut self, before: usize, highest: u64) -> bool {
        let end = self.end();
        let at_end = || {
            let index = self.open.iter().position(|found| found.entry.id == end.segment);
            (index.unwrap_or(before), end.offset)
        };
        let durable = |&(segment, offset): &(usize, u64)| {
            let found = &self.open[segment];
            found.missing || Position { segment: found.entry.id, offset } < self.watermark
        };
        let place = self.pending.filter(durable).or_else(|| Some(at_end()).filter(durable));
        let Some((segment, offset)) = place else { return false };
        self.lost.push(Lost { segment, offset, lowest: self.last + 1, highest });
        self.pending = None;
        true
    }

    fn extent(self) -> Result<Extent, OpenError> {
        let mut extent = Extent { watermark: self.watermark, last_sequence: self.last, ..Extent::default() };
        for (index, found) in self.open.iter().enumerate() {
            let groups = &self.groups[index];
            let end = groups.last().map_or(found.header_size, |group| group.1);
            let lost: Vec<&Lost> = self.lost.iter().filter(|lost| lost.segment == index).collect();
            let mut cut = super::tail::cut(found, end, self.watermark);
            if let Some(past) = lost.iter().map(|lost| lost.offset + 1).max() {
                let whole = match found.entry.id.cmp(&self.watermark.segment) {
                    Ordering::Less => found.end_of_bytes(end)?,
                    Ordering::Equal => self.watermark.offset,
                    Ordering::Greater => 0,
                };
                cut = cut.max(whole).max(past);
            }
            let moved: Vec<_> = groups.iter().filter(|group| group.0 >= cut).collect();
            let from = moved.first().map_or(cut, |group| group.0);
            extent.ends.push(if lost.is_empty() { end } else { end.max(cut) });
            extent.tails.push((from, moved.last().map_or(from, |group| group.1)));
            extent.damaged.push((!lost.is_empty()).then(|| summary(groups, &lost, cut)));
            extent.cuts.push(cut);
        }
        Ok(extent)
    }
}

/// What the manifest says of a segment that is sealed with damage in it. The records that are lost cannot
/// be counted: each place counts as one, so that their number is not that of the sound ones.
fn summary(groups: &[(u64, u64, u64, u64)], lost: &[&Lost], cut: u64) -> Sealed {
    let kept = || groups.iter().filter(|group| group.1 <= cut);
    let lowest = kept().map(|group| group.2).chain(lost.iter().map(|lost| lost.lowest)).min();
    let highest = kept().map(|group| group.3).chain(lost.iter().map(|lost| lost.highest)).max();
    Sealed {
        length: cut,
        records: kept().map(|group| group.3 - group.2 + 1).sum::<u64>() + lost.len() as u64,
        lowest: lowest.unwrap_or_default(),
        highest: highest.unwrap_or_default(),
    }
}
