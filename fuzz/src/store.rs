//! The files of a whole store, damaged, given to `Engine::open`: it refuses them, or opens to something that
//! the store once was. The stores are the engine's version fixtures.
//!
//! An input chooses a store, then damages it: a byte for the store, a byte of flags, then edits of eight
//! bytes each (file, operation, offset in two, argument in four). With [`RESEAL`] all checksums are put
//! right afterwards: what no accident writes, but a broken program might.

use crate::files::{self, Contents, Files, Known};
use crate::format::seal;
use kival_engine::format::group::{self, GroupHeader, Position};
use kival_engine::format::segment::{SegmentHeader, id_of};
use kival_engine::format::{hint, record};
use std::path::Path;
use std::sync::OnceLock;

/// The flag that puts all checksums right.
const RESEAL: u8 = 1;
/// More edits than this are the same damage again.
const MOST_EDITS: usize = 16;

/// A sound store, and what it may open to when something is damaged.
struct Base {
    files: Files,
    /// What it held at the end of each group that no watermark speaks for, and at last.
    states: Vec<Contents>,
}

fn bases() -> &'static [Base] {
    static BASES: OnceLock<Vec<Base>> = OnceLock::new();
    BASES.get_or_init(|| ["closed", "merged", "killed", "killed-unsynced", "torn"].map(base).into())
}

fn base(name: &str) -> Base {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kival-engine/tests/fixtures/v1");
    let entries = std::fs::read_dir(fixtures.join(name)).expect("the fixture is there");
    let files: Files = entries
        .map(|entry| {
            let entry = entry.expect("the fixture can be listed");
            let name = entry.file_name().into_string().expect("a plain name");
            (name, std::fs::read(entry.path()).expect("the fixture can be read"))
        })
        .collect();
    let states = states(&files);
    assert!(!states.is_empty(), "{name} opens");
    Base { files, states }
}

/// What the store opens to, cut at the end of each of its groups.
fn states(files: &Files) -> Vec<Contents> {
    let mut states = vec![];
    for (name, bytes) in files.iter().filter(|(name, _)| name.ends_with(".seg")) {
        for end in group_ends(name, bytes) {
            let mut cut = files.clone();
            cut.insert(name.clone(), bytes[..end].to_vec());
            if let Ok((mut engine, _)) = files::open(&files::file_system(&cut)) {
                states.push(files::contents(&mut engine));
            }
        }
    }
    states
}

/// The header's end, and that of each group.
fn group_ends(name: &str, bytes: &[u8]) -> Vec<usize> {
    let head = SegmentHeader::decode(bytes).expect("a sound fixture");
    let mut ends = vec![head.size() as usize];
    loop {
        let start = *ends.last().expect("the header's");
        let at = Position { segment: id_of(name).expect("a segment"), offset: start as u64 };
        let Some(bytes) = bytes.get(start..start + group::HEADER) else { return ends };
        let Ok(header) = GroupHeader::decode(bytes.try_into().expect("a whole header"), head.store, at)
        else {
            return ends;
        };
        ends.push(start + header.group_size().expect("a sound size") as usize);
    }
}

/// One piece of damage.
fn edit(files: &mut Files, edit: &[u8; 8]) {
    let [file, operation, low, high, argument @ ..] = *edit;
    let names: Vec<String> = files.keys().cloned().collect();
    let Some(name) = names.get(usize::from(file) % names.len().max(1)) else { return };
    let offset = usize::from(u16::from_le_bytes([low, high]));
    let (number, other) = (u32::from_le_bytes(argument), &names[usize::from(argument[0]) % names.len()]);
    let (source, from) = (files[other].clone(), usize::from(argument[1]) * 16);
    let bytes = files.get_mut(name).expect("it was listed");
    let at = offset.min(bytes.len());
    match operation % 8 {
        0 => xor(&mut bytes[at..], &argument),
        1 => bytes.truncate(at),
        // A block that never reached the disk.
        2 => bytes.iter_mut().skip(at / 512 * 512).take(512).for_each(|byte| *byte = 0),
        3 => drop(files.remove(name)),
        // A block, or a file, that was written in the wrong place.
        4 => {
            let block = source[from.min(source.len())..].iter().take(usize::from(argument[2]));
            bytes.iter_mut().skip(at).zip(block).for_each(|(byte, other)| *byte = *other);
        }
        5 => *bytes = source,
        6 => bytes.extend(std::iter::repeat_n(argument[0], offset % 4096)),
        _ => {
            let field = u64::from(number).wrapping_sub(1 << 31).to_le_bytes();
            bytes.iter_mut().skip(at).zip(field).for_each(|(byte, other)| *byte = other);
        }
    }
}

fn xor(bytes: &mut [u8], with: &[u8]) {
    bytes.iter_mut().zip(with).for_each(|(byte, with)| *byte ^= with);
}

/// Puts the checksums of a file right, as far as its structure can be followed.
fn reseal(name: &str, bytes: &mut [u8]) {
    if name == "MANIFEST" {
        seal(bytes, 12);
    } else if name.ends_with(".hint") && bytes.len() >= hint::HEADER {
        let (head, rest) = bytes.split_at_mut(hint::HEADER);
        seal(head, 12);
        let filter = u64::from_le_bytes(head[64..72].try_into().expect("eight bytes")) as usize;
        let blocks = filter.saturating_sub(hint::HEADER).min(rest.len());
        let (mut blocks, filter) = rest.split_at_mut(blocks);
        seal(filter, 4);
        while let Some(head) = blocks.first_chunk() {
            let size = hint::block_size(head) as usize;
            let Some((block, rest)) = blocks.split_at_mut_checked(size) else { return };
            seal(block, 4);
            blocks = rest;
        }
    } else if name.ends_with(".seg") && bytes.len() >= 48 {
        let inputs = u32::from_le_bytes(bytes[44..48].try_into().expect("four bytes")) as usize;
        let Some((head, mut groups)) = bytes.split_at_mut_checked(48 + 8 * inputs) else { return };
        seal(head, 12);
        while let Some((head, rest)) = groups.split_at_mut_checked(group::HEADER) {
            let size = u64::from_le_bytes(head[32..40].try_into().expect("eight bytes")) as usize;
            let Some((body, rest)) = rest.split_at_mut_checked(size) else { return };
            head[84..88].copy_from_slice(&reseal_records(body).to_le_bytes());
            seal(head, 4);
            groups = rest;
        }
    }
}

/// Puts the checksums of records right; gives the checksum of those.
fn reseal_records(mut body: &mut [u8]) -> u32 {
    let mut crcs = crc32fast::Hasher::new();
    while body.len() >= record::HEADER {
        let size = |at: usize| u32::from_le_bytes(body[at..at + 4].try_into().expect("four bytes")) as usize;
        let Some((record, rest)) = body.split_at_mut_checked(record::HEADER + size(4) + size(8)) else {
            break;
        };
        seal(record, record::CRC_END);
        crcs.update(&record[..record::CRC_END]);
        body = rest;
    }
    crcs.finalize()
}

/// Whether this is a state of the store, but for values that cannot be read.
fn is_of(found: &Contents, state: &Contents) -> bool {
    let same = |((db, key, value), other): (&Known, &Known)| {
        (*db, key) == (other.0, &other.1) && (value.is_err() || *value == other.2)
    };
    found.len() == state.len() && found.iter().zip(state).all(same)
}

/// A damaged store.
pub fn store(data: &[u8]) {
    let Some((&[choice, flags], edits)) = data.split_first_chunk() else { return };
    let base = &bases()[usize::from(choice) % bases().len()];
    let mut files = base.files.clone();
    let edits = edits.as_chunks().0;
    edits.iter().take(MOST_EDITS).for_each(|one| edit(&mut files, one));
    let resealed = flags & RESEAL != 0;
    if resealed {
        files.iter_mut().for_each(|(name, bytes)| reseal(name, bytes));
    }
    let fs = files::file_system(&files);
    let Ok((mut engine, _)) = files::open(&fs) else { return };
    let found = files::contents(&mut engine);
    // More damage, or damage with right checksums, may look like another history.
    if edits.len() <= 1 && !resealed {
        assert!(base.states.iter().any(|state| is_of(&found, state)), "it was never so: {found:?}");
    }
    let closed = engine.close();
    if !resealed {
        closed.expect("memory takes everything");
        let (mut engine, report) = files::open(&fs).expect("what was closed opens");
        assert!(report.clean && report.torn.is_empty());
        assert_eq!(files::contents(&mut engine), found, "opened again");
    }
}
