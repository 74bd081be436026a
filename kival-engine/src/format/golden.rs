//! The examples of `record_format.md` against the code: encoders give exactly these bytes, decoders read
//! them back, and each field stands where the tables of that page say.

use super::filter::{self, Filter};
use super::group::{self, GroupHeader, Position};
use super::hint::{self, BlockBuilder, HintEntry, HintHeader};
use super::manifest::{Manifest, Sealed, SegmentEntry};
use super::record::{self, Header, Kind};
use super::segment::SegmentHeader;
use crate::engine::databases::NamespaceMap;

const PAGE: &str = include_str!("../../../record_format.md");

const STORE: u64 = 0x1122_3344_5566_7788;
const CREATED: u64 = 1_700_000_000_000;
const EXPIRY: u64 = 1_800_000_000_000;
/// The sealed length of segment 3 in the examples.
const LENGTH: u64 = 48 + 88 + 85;

/// A line of an example: where its bytes begin and what they mean.
struct Line {
    offset: usize,
    bytes: Vec<u8>,
    meaning: String,
}

/// The part of the page under a heading, up to the next one of any level.
fn section(heading: &str) -> &'static str {
    let at = PAGE.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no heading {heading}"));
    let body = &PAGE[at + heading.len() + 2..];
    &body[..body.find("\n#").unwrap_or(body.len())]
}

fn example(name: &str) -> Vec<Line> {
    let body = section(&format!("### Example: {name}"));
    let block = body.split("```text\n").nth(1).and_then(|rest| rest.split("```").next());
    let mut lines: Vec<Line> = Vec::new();
    for text in block.expect("an example is a block of text").lines() {
        let mut parts = text.trim_start().splitn(2, "  ");
        let offset = parts.next().expect("an offset").parse().expect("a decimal offset");
        let rest = parts.next().expect("bytes").trim_start();
        let (hex, meaning) = rest.split_once("  ").unwrap_or((rest, ""));
        let bytes = hex.split(' ').map(|byte| u8::from_str_radix(byte, 16).expect("a hexadecimal byte"));
        let before = lines.last().map_or(0, |line| line.offset + line.bytes.len());
        assert_eq!(offset, before, "{name}: {text}");
        match lines.last_mut() {
            // A field of more than eight bytes goes on in the next line.
            Some(line) if meaning.is_empty() => line.bytes.extend(bytes),
            _ => lines.push(Line { offset, bytes: bytes.collect(), meaning: meaning.trim().into() }),
        }
    }
    lines
}

fn bytes(name: &str) -> Vec<u8> {
    example(name).into_iter().flat_map(|line| line.bytes).collect()
}

/// The table that begins with this heading row: offset, size and field of its rows of fixed size.
fn table(heading: &str, row: &str) -> Vec<(usize, usize, &'static str)> {
    let body = section(heading);
    let rows = body[body.find(row).expect("the table is there")..].lines().skip(2);
    let cells = rows.map_while(|row| row.strip_prefix("| ")?.strip_suffix(" |"));
    let fields = cells.filter_map(|row| {
        let mut cells = row.splitn(3, " | ");
        let (offset, size) = (cells.next()?.parse().ok()?, cells.next()?.parse().ok()?);
        Some((offset, size, cells.next()?))
    });
    fields.collect()
}

/// Each field of the table stands in the example at its offset, counted from `base`, with its size.
#[track_caller]
fn check_table(name: &str, base: usize, (heading, row): (&str, &str)) {
    let lines = example(name);
    let fields = table(heading, row);
    assert!(fields.len() > 1, "{heading} has a table");
    for (offset, size, field) in fields {
        let line = lines.iter().find(|line| line.offset == base + offset);
        let line = line.unwrap_or_else(|| panic!("{name}: nothing at {base} + {offset}, {field}"));
        assert_eq!(line.bytes.len(), size, "{name}: {field}");
        let label = line.meaning.split(": ").next().expect("a label");
        assert!(field.starts_with(label), "{name}: {label} stands where the table has {field}");
    }
}

const FIELDS: &str = "| offset | size | field |";
const SEGMENT: (&str, &str) = ("### Segment header", FIELDS);
const GROUP: (&str, &str) = ("### Append group", FIELDS);
const RECORD: (&str, &str) = ("### Record", FIELDS);
const MAP: (&str, &str) = ("### Record", "| offset | size | field |\n| --- | --- | --- |\n| 0 | 4 | next");
const HINT: (&str, &str) = ("## Hint", FIELDS);
const MANIFEST: (&str, &str) = ("## Manifest", FIELDS);
const ENTRY: (&str, &str) = ("## Manifest", "| offset | size | segment field |");

/// Bytes put together by hand: little-endian fields, and CRCs over what follows them.
#[derive(Default)]
struct ByHand(Vec<u8>);

impl ByHand {
    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u32s(self, fields: &[u32]) -> Self {
        fields.iter().fold(self, |out, field| out.raw(&field.to_le_bytes()))
    }

    fn u64s(self, fields: &[u64]) -> Self {
        fields.iter().fold(self, |out, field| out.raw(&field.to_le_bytes()))
    }

    /// A CRC and what it covers.
    fn covered(self, inner: ByHand) -> Self {
        self.u32s(&[crc32fast::hash(&inner.0)]).raw(&inner.0)
    }

    fn record(self, sizes: [u32; 2], namespace: u32, numbers: [u64; 2], kind: u8, body: &[u8]) -> Self {
        let fields = ByHand::default().u32s(&sizes).u32s(&[namespace]).u64s(&numbers);
        self.covered(fields.raw(&[kind, 0, 0, 0]).raw(body))
    }
}

fn header(key: &[u8], value: &[u8], namespace: u32, sequence: u64, expiry: u64, kind: Kind) -> Header {
    let (key_size, value_size) = (key.len() as u32, value.len() as u32);
    Header { key_size, value_size, namespace, sequence, expiry, kind, data_type: 0 }
}

/// The record at the front is this one, and is encoded so.
#[track_caller]
fn check_record(bytes: &[u8], header: Header, key: &[u8], value: &[u8]) {
    let record = record::decode(bytes).expect("sound");
    assert_eq!((record.header, record.key, record.value), (header, key, value));
    let mut encoded = Vec::new();
    record::encode(&mut encoded, &header, key, value);
    assert_eq!(encoded, &bytes[..encoded.len()]);
}

#[test]
fn a_segment_header_is_as_the_page_shows() {
    let bytes = bytes("log segment header");
    let covered = ByHand::default().u32s(&[1]).u64s(&[STORE, 3, CREATED]).u32s(&[0, 0]);
    assert_eq!(bytes, ByHand::default().raw(b"KIVALSEG").covered(covered).0);
    let header = SegmentHeader { store: STORE, id: 3, created_ms: CREATED, inputs: vec![], merged: false };
    assert_eq!(header.encode(), bytes);
    assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
    check_table("log segment header", 0, SEGMENT);
}

#[test]
fn an_append_group_is_as_the_page_shows() {
    let bytes = bytes("append group");
    let first = ByHand::default().record([5, 4], 0, [41, EXPIRY], 1, b"colorblue").0;
    let second = ByHand::default().record([4, 0], 0, [42, 0], 2, b"size").0;
    let crcs = crc32fast::hash(&[&first[..4], &second[..4]].concat());
    let fields = [STORE, 3, 48, 85, 41, 40, CREATED + 5, 2, 4242];
    let covered = ByHand::default().u32s(&[0]).u64s(&fields).u32s(&[2, crcs]);
    assert_eq!(bytes, ByHand::default().covered(covered).raw(&first).raw(&second).0);

    let at = Position { segment: 3, offset: 48 };
    let group = GroupHeader {
        merged: false,
        store: STORE,
        at,
        body_size: 85,
        first_sequence: 41,
        previous_sequence: 40,
        time_ms: CREATED + 5,
        watermark: Position { segment: 2, offset: 4242 },
        records: 2,
        body_crc: crcs,
    };
    let head = bytes[..group::HEADER].try_into().expect("88 bytes");
    assert_eq!(&group.encode(), head);
    assert_eq!(GroupHeader::decode(head, STORE, at), Ok(group));
    check_record(&bytes[88..], header(b"color", b"blue", 0, 41, EXPIRY, Kind::Value), b"color", b"blue");
    check_record(&bytes[133..], header(b"size", b"", 0, 42, 0, Kind::Tombstone), b"size", b"");
    check_table("append group", 0, GROUP);
    check_table("append group", 88, RECORD);
    check_table("append group", 133, RECORD);
}

#[test]
fn an_expiry_record_is_as_the_page_shows() {
    let bytes = bytes("expiry record");
    assert_eq!(bytes, ByHand::default().record([5, 0], 0, [43, 0], 3, b"color").0);
    check_record(&bytes, header(b"color", b"", 0, 43, 0, Kind::Expiry), b"color", b"");
    check_table("expiry record", 0, RECORD);
}

#[test]
fn a_page_record_is_as_the_page_shows() {
    let bytes = bytes("page record");
    let value = ByHand::default().u64s(&[45]).raw(b"!").0;
    assert_eq!(bytes, ByHand::default().record([3, 9], 0, [46, 8192], 9, &[b"sky", &value[..]].concat()).0);
    check_record(&bytes, header(b"sky", &value, 0, 46, 8192, Kind::Page), b"sky", &value);
    assert_eq!(record::decode(&bytes).map(|record| record.header.page()), Ok(2));
    check_table("page record", 0, RECORD);
}

#[test]
fn a_namespaces_record_is_as_the_page_shows() {
    let bytes = bytes("namespaces record");
    let value = ByHand::default().u32s(&[65_537, 3, 0, 65_536, 1, 2, 2, 1]).0;
    assert_eq!(bytes, ByHand::default().record([0, 32], u32::MAX, [44, 0], 7, &value).0);
    check_record(&bytes, header(b"", &value, u32::MAX, 44, 0, Kind::Namespaces), b"", &value);
    let map = NamespaceMap { next: 65_537, moved: vec![(0, 65_536), (1, 2), (2, 1)] };
    assert_eq!(map.encode(), value);
    assert_eq!(NamespaceMap::decode(&value), Ok(map));
    check_table("namespaces record", 0, RECORD);
    check_table("namespaces record", 36, MAP);
}

#[test]
fn a_hint_is_as_the_page_shows() {
    let bytes = bytes("hint");
    let entry = |sizes: [u32; 2], numbers: [u64; 2], kind, offset, key| {
        let fields = ByHand::default().u32s(&sizes).u32s(&[0]).u64s(&numbers).raw(&[kind, 0, 0, 0]);
        fields.u64s(&[offset]).raw(key).0
    };
    let first = entry([5, 4], [41, EXPIRY], 1, 136, b"color");
    let second = entry([4, 0], [42, 0], 2, 181, b"size");
    let size = (first.len() + second.len()) as u32;
    let block = ByHand::default().covered(ByHand::default().u32s(&[size]).raw(&first).raw(&second)).0;
    let filter_at = 80 + block.len();
    let fields = [STORE, 3, LENGTH, 2, 41, 42, filter_at as u64, filter_at as u64 + 24];
    let head = ByHand::default().raw(b"KIVALHNT").covered(ByHand::default().u32s(&[1]).u64s(&fields)).0;
    let bits = (0..7u64).flat_map(|j| {
        let hashes = [&b"color"[..], b"size"].map(|key| filter::hash(0, key));
        hashes.map(|hash| 1u64 << (hash.wrapping_add(j.wrapping_mul(hash.rotate_left(32) | 1)) % 64))
    });
    let bits = bits.fold(0, |all, bit| all | bit);
    let tail = ByHand::default().covered(ByHand::default().u32s(&[7]).u64s(&[64, bits])).0;
    assert_eq!(bytes, [&head[..], &block, &tail].concat());

    let header_fields = HintHeader {
        store: STORE,
        segment: 3,
        covered: LENGTH,
        records: 2,
        lowest: 41,
        highest: 42,
        filter_at: filter_at as u64,
        file_size: bytes.len() as u64,
    };
    assert_eq!(header_fields.encode(), bytes[..80]);
    assert_eq!(HintHeader::decode(bytes[..80].try_into().expect("80 bytes")), Ok(header_fields));
    let value = header(b"color", b"blue", 0, 41, EXPIRY, Kind::Value);
    let gone = header(b"size", b"", 0, 42, 0, Kind::Tombstone);
    let entries = [
        HintEntry { header: value, offset: 136, key: b"color" },
        HintEntry { header: gone, offset: 181, key: b"size" },
    ];
    let mut builder = BlockBuilder::default();
    entries.iter().for_each(|entry| builder.push(entry));
    assert_eq!(builder.finish(), &bytes[80..filter_at]);
    let read: Result<Vec<_>, _> = hint::entries(&bytes[80..filter_at]).expect("sound").collect();
    assert_eq!(read.expect("sound"), entries);
    let mut filter = Filter::with_room_for(2);
    entries.iter().for_each(|entry| filter.insert(filter::hash(0, entry.key)));
    assert_eq!(filter.encode(), &bytes[filter_at..]);
    assert_eq!(Filter::decode(&bytes[filter_at..]), Ok(filter));
    check_table("hint", 0, HINT);
}

#[test]
fn a_manifest_is_as_the_page_shows() {
    let bytes = bytes("manifest");
    let counters = [STORE, 0x99aa_bbcc_ddee_ff00, 7, 70, 1 << 26, 12, 39, 3, LENGTH, 42];
    let covered = ByHand::default().u32s(&[1]).u64s(&counters).u32s(&[2, 0]);
    let covered = covered.u64s(&[3]).raw(&[1, 0, 0, 0, 0, 0, 0, 0]).u64s(&[LENGTH, 2, 41, 42]);
    let covered = covered.u64s(&[5, 0, 0, 0, 0, 0]);
    assert_eq!(bytes, ByHand::default().raw(b"KIVALMAN").covered(covered).0);
    let sealed = Sealed { length: LENGTH, records: 2, lowest: 41, highest: 42 };
    let manifest = Manifest {
        store: STORE,
        incarnation: 0x99aa_bbcc_ddee_ff00,
        generation: 7,
        next_segment: 70,
        sequence_limit: 1 << 26,
        feed_floor: 12,
        restore_floor: 39,
        watermark: Position { segment: 3, offset: LENGTH },
        chain: 42,
        segments: vec![
            SegmentEntry { id: 3, merged: false, sealed: Some(sealed) },
            SegmentEntry { id: 5, merged: false, sealed: None },
        ],
    };
    assert_eq!(manifest.encode(), bytes);
    assert_eq!(Manifest::decode(&bytes), Ok(manifest));
    check_table("manifest", 0, MANIFEST);
    check_table("manifest", 104, ENTRY);
    check_table("manifest", 152, ENTRY);
}
