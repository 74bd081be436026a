//! The namespaces map. Its decoder is the engine's own business, so it is reached as a newer or a broken
//! program would reach it: by a sound record in a sound store.

use crate::files::{self, Files};
use kival_engine::error::OpenError;
use kival_engine::format::group::{self, GroupHeader, Position};
use kival_engine::format::manifest::{Manifest, Sealed, SegmentEntry};
use kival_engine::format::record::{self, Header, Kind};
use kival_engine::format::segment::{MANIFEST, SegmentHeader, file_name};

const STORE: u64 = 7;
const SEGMENT: u64 = 1;
/// Keys of these namespaces are in the store; the value of each is its namespace.
const HELD: [u32; 5] = [0, 1, 2, 65_536, 65_537];

/// A cleanly closed store of one segment: a key in some namespaces, and the map.
fn files(map: &[u8]) -> Files {
    let mut body = Vec::new();
    let mut put = |kind, namespace, key: &[u8], value: &[u8], sequence: usize| {
        let (key_size, value_size) = (key.len() as u32, value.len() as u32);
        let sequence = sequence as u64;
        let header = Header { key_size, value_size, namespace, sequence, expiry: 0, kind, data_type: 0 };
        let start = body.len();
        record::encode(&mut body, &header, key, value);
        body[start..start + record::CRC_END].to_vec()
    };
    let mut crcs = Vec::new();
    for (i, namespace) in HELD.into_iter().enumerate() {
        crcs.extend(put(Kind::Value, namespace, b"key", &namespace.to_le_bytes(), i + 1));
    }
    let records = HELD.len() as u64 + 1;
    crcs.extend(put(Kind::Namespaces, u32::MAX, b"", map, HELD.len() + 1));
    let head = SegmentHeader { store: STORE, id: SEGMENT, created_ms: 0, inputs: vec![], merged: false };
    let mut segment = head.encode();
    let group = GroupHeader {
        merged: false,
        store: STORE,
        at: Position { segment: SEGMENT, offset: head.size() },
        body_size: body.len() as u64,
        first_sequence: 1,
        previous_sequence: 0,
        time_ms: 0,
        watermark: Position::default(),
        records: records as u32,
        body_crc: crc32fast::hash(&crcs),
    };
    segment.extend_from_slice(&group.encode());
    segment.extend_from_slice(&body);
    assert_eq!(segment.len(), head.size() as usize + group::HEADER + body.len());
    let sealed = Sealed { length: segment.len() as u64, records, lowest: 1, highest: records };
    let manifest = Manifest {
        store: STORE,
        incarnation: 1,
        generation: 1,
        next_segment: SEGMENT + 1,
        sequence_limit: records,
        feed_floor: 0,
        restore_floor: 0,
        watermark: Position::default(),
        chain: records,
        segments: vec![SegmentEntry { id: SEGMENT, merged: false, sealed: Some(sealed) }],
    };
    Files::from([(MANIFEST.into(), manifest.encode()), (file_name(SEGMENT), segment)])
}

/// The map as `record_format.md` has it, read in another way than the engine does: (next, moved).
fn by_the_page(map: &[u8]) -> Option<(u32, Vec<(u32, u32)>)> {
    if !map.len().is_multiple_of(4) {
        return None;
    }
    let words: Vec<u32> =
        map.chunks(4).map(|word| u32::from_le_bytes(word.try_into().expect("four bytes"))).collect();
    let (&[next, n], pairs) = words.split_first_chunk()?;
    let pairs: Vec<(u32, u32)> = pairs.chunks(2).map(|pair| (pair[0], *pair.get(1).unwrap_or(&0))).collect();
    let rising = pairs.is_sorted_by(|a, b| a.0 < b.0);
    let known = pairs.iter().all(|&(db, namespace)| db < 65_536 && namespace < next);
    // Two databases never share a namespace.
    let of = |db: u32| pairs.iter().find(|pair| pair.0 == db).map_or(db, |pair| pair.1);
    let shared = pairs.iter().any(|&(db, namespace)| {
        (namespace < 65_536 && of(namespace) == namespace && namespace != db)
            || pairs.iter().any(|&other| other.1 == namespace && other.0 != db)
    });
    let own = pairs.iter().any(|(db, namespace)| db == namespace);
    let whole = words.len() == 2 + 2 * n as usize;
    (whole && rising && known && !own && !shared && (65_536..u32::MAX).contains(&next))
        .then_some((next, pairs))
}

/// The value of a namespaces record.
pub fn namespaces(map: &[u8]) {
    let fs = files::file_system(&files(map));
    let expected = by_the_page(map);
    let mut engine = match (files::open(&fs), &expected) {
        (Ok((engine, _)), Some(_)) => engine,
        (Err(OpenError::Corrupt(_)), None) => return,
        (Ok(_), None) => panic!("a map that cannot be was believed"),
        (Err(error), _) => panic!("{expected:?} was refused: {error}"),
    };
    let (_, moved) = expected.expect("it was opened");
    for db in 0..engine.databases() {
        let namespace = moved.iter().find(|pair| pair.0 == db).map_or(db, |pair| pair.1);
        let value = engine.get(db, b"key").expect("the store is sound");
        let wanted = HELD.contains(&namespace).then(|| namespace.to_le_bytes());
        assert_eq!(value.as_deref(), wanted.as_ref().map(|bytes| &bytes[..]), "database {db}");
    }
    let before = files::contents(&mut engine);
    engine.close().expect("memory takes everything");
    let (mut engine, report) = files::open(&fs).expect("what was closed opens");
    assert!(report.clean);
    assert_eq!(files::contents(&mut engine), before);
}
