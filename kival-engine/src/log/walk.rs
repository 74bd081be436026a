//! Going through a segment past its damage.
//!
//! After a broken place the next thing looked for is a group header that names its own store, segment and
//! offset under a sound checksum. Nothing here decides what damage means.

use crate::error::Damage;
use crate::format::group::{GroupHeader, Position};
use crate::log::scan::{Group, Scanner, Step};
use std::io;

/// Bytes of a segment that are no whole group; none where a whole group does not chain to the one before.
#[derive(Debug, Clone)]
pub(crate) struct Break {
    pub(crate) at: Position,
    pub(crate) end: u64,
    pub(crate) damage: Damage,
    /// The last log sequence before, if it is known.
    pub(crate) before: Option<u64>,
    /// The last log sequence that was lost, if the next group tells.
    pub(crate) after: Option<u64>,
    /// The header that stands here, if that much of the group is sound.
    pub(crate) header: Option<GroupHeader>,
}

/// What a walk comes to.
pub(crate) enum Piece<'a> {
    Group(Group<'a>),
    Break(Break),
}

/// Goes through the groups from `scanner`'s place to its end, or until `on` fails.
pub(crate) fn walk<E: From<io::Error>>(
    scanner: &mut Scanner,
    on: &mut dyn FnMut(Piece<'_>) -> Result<(), E>,
) -> Result<(), E> {
    loop {
        let (at, before) = (scanner.position(), scanner.previous());
        let damage = match scanner.step()? {
            Step::Group(group) => {
                on(Piece::Group(group))?;
                continue;
            }
            Step::End => return Ok(()),
            Step::Broken(damage) => damage,
        };
        // A group that is whole but does not chain stays whole: what is before it is missing.
        if before.is_some() {
            scanner.unchain();
            if let Step::Group(group) = scanner.step()? {
                let (header, after) = (Some(group.header), Some(group.header.previous_sequence));
                on(Piece::Break(Break { at, end: at.offset, damage, before, after, header }))?;
                on(Piece::Group(group))?;
                continue;
            }
        }
        let header = scanner.header_here()?;
        let next = scanner.resume()?;
        let after = next.filter(|next| !next.merged).map(|next| next.previous_sequence);
        let end = scanner.position().offset;
        on(Piece::Break(Break { at, end, damage, before, after, header }))?;
    }
}
