//! The decoders of `kival_engine::format`. They are given the bytes as they are, and with the checksum put
//! right, so that the fuzzer gets past it.
//!
//! The promise beyond "no panic": a structure has one form. What decodes encodes back to the same bytes, and
//! a flipped bit is seen.

use kival_engine::error::Damage;
use kival_engine::format::filter::{self as bloom, Filter};
use kival_engine::format::group::{self, GroupHeader, Position};
use kival_engine::format::hint::{self, BlockBuilder, HintHeader};
use kival_engine::format::manifest::Manifest;
use kival_engine::format::record;
use kival_engine::format::segment::SegmentHeader;

/// Puts the CRC right that stands before `from` and covers the rest.
pub(crate) fn seal(bytes: &mut [u8], from: usize) {
    if bytes.len() >= from {
        let crc = crc32fast::hash(&bytes[from..]);
        bytes[from - 4..from].copy_from_slice(&crc.to_le_bytes());
    }
}

/// Runs `check` on the bytes and on the bytes with a right checksum.
fn both(data: &[u8], crc_end: usize, check: impl Fn(&[u8])) {
    check(data);
    let mut sealed = data.to_vec();
    seal(&mut sealed, crc_end);
    check(&sealed);
}

/// Flips a bit that the bytes themselves choose, which must be seen.
fn flip_is_seen<T>(bytes: &[u8], decode: impl Fn(&[u8]) -> Result<T, Damage>) {
    let mut flipped = bytes.to_vec();
    let bit = crc32fast::hash(bytes) as usize % (bytes.len() * 8);
    flipped[bit / 8] ^= 1 << (bit % 8);
    assert!(decode(&flipped).is_err(), "bit {bit} was flipped unseen");
}

/// A record at the front of the bytes.
pub fn record(data: &[u8]) {
    both(data, record::CRC_END, |bytes| {
        let Ok(found) = record::decode(bytes) else { return };
        let mut encoded = Vec::new();
        record::encode(&mut encoded, &found.header, found.key, found.value);
        assert_eq!(encoded.len() as u64, found.header.record_size());
        assert_eq!(encoded, &bytes[..encoded.len()]);
        flip_is_seen(&encoded, |bytes| record::decode(bytes).map(|_| ()));
    });
}

/// The header of an append group, at the place that it names.
pub fn group(data: &[u8]) {
    both(&data[..data.len().min(group::HEADER)], 4, |bytes| {
        let Ok(head) = <&[u8; group::HEADER]>::try_from(bytes) else { return };
        let field = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
        let (store, at) = (field(8), Position { segment: field(16), offset: field(24) });
        let Ok(header) = GroupHeader::decode(head, store, at) else { return };
        assert_eq!(&header.encode(), head);
        assert!(header.records > 0);
        let other = Position { offset: at.offset.wrapping_add(1), ..at };
        assert_eq!(GroupHeader::decode(head, store, other), Err(Damage::Misplaced));
        assert_eq!(GroupHeader::decode(head, !store, at), Err(Damage::Misplaced));
        let decode = |bytes: &[u8]| {
            GroupHeader::decode(bytes.try_into().expect("a whole header"), store, at).map(|_| ())
        };
        flip_is_seen(bytes, decode);
    });
}

/// The header of a segment at the front of the bytes.
pub fn segment(data: &[u8]) {
    both(data, 12, |bytes| {
        let Ok(header) = SegmentHeader::decode(bytes) else { return };
        let encoded = header.encode();
        assert_eq!(encoded.len() as u64, header.size());
        assert_eq!(encoded, &bytes[..encoded.len()]);
        flip_is_seen(&encoded, SegmentHeader::decode);
    });
}

/// A hint: the header, then blocks up to the filter, as the loader reads them.
pub fn hint(data: &[u8]) {
    let Some((head, _)) = data.split_at_checked(hint::HEADER) else { return };
    let mut header = None;
    both(head, 12, |bytes| {
        let head = bytes.try_into().expect("a whole header");
        if let Ok(decoded) = HintHeader::decode(head) {
            assert_eq!(decoded.encode(), bytes);
            assert!(decoded.filter_at <= decoded.file_size);
            flip_is_seen(bytes, |bytes| HintHeader::decode(bytes.try_into().expect("a whole header")));
        }
    });
    let mut sealed = head.to_vec();
    seal(&mut sealed, 12);
    header = HintHeader::decode(sealed[..].try_into().expect("a whole header")).ok().or(header);
    let Some(header) = header else { return };
    let end = usize::try_from(header.filter_at).unwrap_or(usize::MAX).min(data.len());
    let mut blocks = &data[hint::HEADER..end.max(hint::HEADER)];
    while let Some(head) = blocks.first_chunk() {
        let size = hint::block_size(head);
        assert!(size >= hint::BLOCK_HEADER as u64, "a reader gets on");
        let Some((block, rest)) = usize::try_from(size).ok().and_then(|size| blocks.split_at_checked(size))
        else {
            break;
        };
        both(block, 4, hint_block);
        blocks = rest;
    }
    filter(&data[end..]);
}

/// A block of a hint.
fn hint_block(bytes: &[u8]) {
    let Ok(entries) = hint::entries(bytes) else { return };
    let Ok(entries) = entries.collect::<Result<Vec<_>, _>>() else { return };
    let mut builder = BlockBuilder::default();
    entries.iter().for_each(|entry| builder.push(entry));
    assert_eq!(builder.finish(), bytes);
}

/// The filter of a hint.
pub fn filter(data: &[u8]) {
    both(data, 4, |bytes| {
        let Ok(mut filter) = Filter::decode(bytes) else { return };
        assert_eq!(filter.encode(), bytes);
        let key = bloom::hash(7, bytes);
        filter.insert(key);
        assert!(filter.may_contain(key));
    });
}

/// A manifest.
pub fn manifest(data: &[u8]) {
    both(data, 12, |bytes| {
        let Ok(manifest) = Manifest::decode(bytes) else { return };
        assert_eq!(manifest.encode(), bytes);
        assert!(manifest.segments.is_sorted_by(|a, b| a.id < b.id));
        assert!(manifest.segments.iter().all(|segment| segment.id < manifest.next_segment));
        flip_is_seen(bytes, Manifest::decode);
    });
}
