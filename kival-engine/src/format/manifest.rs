//! The manifest: which segments count, and the counters that never go back.

use super::group::Position;
use super::{FILE_CRC_END, MAX_SEQUENCE, check_file_head, file_head, seal_crc};
use crate::error::Damage;

const MAGIC: &[u8; 8] = b"KIVALMAN";

/// A segment in the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentEntry {
    /// Segment id.
    pub id: u64,
    /// Whether it is a merge output.
    pub merged: bool,
    /// What is known of it since it was sealed; `None` while it is open.
    pub sealed: Option<Sealed>,
}

/// What the manifest says of a sealed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sealed {
    /// What counts of the file, in bytes.
    pub length: u64,
    /// Number of records.
    pub records: u64,
    /// Lowest sequence, 0 without records.
    pub lowest: u64,
    /// Highest sequence, 0 without records.
    pub highest: u64,
}

/// The set of live segments and the store's counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The store's id.
    pub store: u64,
    /// Chosen anew when the store is created or restored.
    pub incarnation: u64,
    /// Rises with each replacement of the manifest.
    pub generation: u64,
    /// No segment id at or above this one has been issued.
    pub next_segment: u64,
    /// No number above this one has been issued.
    pub sequence_limit: u64,
    /// The highest sequence that compaction dropped.
    pub feed_floor: u64,
    /// The highest sequence that superseded a dropped one.
    pub restore_floor: u64,
    /// Everything in the log below this was on disk.
    pub watermark: Position,
    /// The last log record before the first open segment.
    pub chain: u64,
    /// The live segments, rising by id.
    pub segments: Vec<SegmentEntry>,
}

impl Manifest {
    /// The manifest's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = file_head(MAGIC);
        let counters = [
            self.store,
            self.incarnation,
            self.generation,
            self.next_segment,
            self.sequence_limit,
            self.feed_floor,
            self.restore_floor,
            self.watermark.segment,
            self.watermark.offset,
            self.chain,
        ];
        for field in counters {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(&(self.segments.len() as u32).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        for segment in &self.segments {
            out.extend_from_slice(&segment.id.to_le_bytes());
            out.extend_from_slice(&[
                segment.sealed.is_some().into(),
                segment.merged.into(),
                0,
                0,
                0,
                0,
                0,
                0,
            ]);
            let sealed = segment.sealed.unwrap_or_default();
            for field in [sealed.length, sealed.records, sealed.lowest, sealed.highest] {
                out.extend_from_slice(&field.to_le_bytes());
            }
        }
        seal_crc(&mut out, FILE_CRC_END);
        out
    }

    /// Reads a manifest that takes up all of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Manifest, Damage> {
        let mut fields = check_file_head(bytes, MAGIC)?;
        let mut manifest = Manifest {
            store: fields.u64()?,
            incarnation: fields.u64()?,
            generation: fields.u64()?,
            next_segment: fields.u64()?,
            sequence_limit: fields.u64()?,
            feed_floor: fields.u64()?,
            restore_floor: fields.u64()?,
            watermark: Position { segment: fields.u64()?, offset: fields.u64()? },
            chain: fields.u64()?,
            segments: Vec::new(),
        };
        // What is counted up from here must have room to.
        let counters = [manifest.generation, manifest.next_segment, manifest.sequence_limit];
        if counters.iter().any(|&counter| counter > MAX_SEQUENCE) {
            return Err(Damage::Field);
        }
        let count = fields.u32()?;
        if fields.u32()? != 0 {
            return Err(Damage::Unsupported);
        }
        for _ in 0..count {
            let id = fields.u64()?;
            let (state, merged) = match fields.bytes(8)? {
                [state @ (0 | 1), merged @ (0 | 1), 0, 0, 0, 0, 0, 0] => (*state, *merged == 1),
                // The checksum was right: a newer program knows more states, kinds or fields.
                _ => return Err(Damage::Unsupported),
            };
            let sealed = Sealed {
                length: fields.u64()?,
                records: fields.u64()?,
                lowest: fields.u64()?,
                highest: fields.u64()?,
            };
            let risen = manifest.segments.last().is_none_or(|last: &SegmentEntry| last.id < id);
            if !risen || id >= manifest.next_segment || (state == 0 && sealed != Sealed::default()) {
                return Err(Damage::Field);
            }
            manifest.segments.push(SegmentEntry { id, merged, sealed: (state == 1).then_some(sealed) });
        }
        if fields.0.is_empty() { Ok(manifest) } else { Err(Damage::Field) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let sealed = Some(Sealed { length: 500, records: 4, lowest: 1, highest: 4 });
        let manifest = Manifest {
            store: 1,
            incarnation: 5,
            generation: 2,
            next_segment: 10,
            sequence_limit: 99,
            feed_floor: 3,
            restore_floor: 4,
            watermark: Position { segment: 9, offset: 70 },
            chain: 4,
            segments: vec![
                SegmentEntry { id: 4, merged: true, sealed },
                SegmentEntry { id: 9, merged: false, sealed: None },
            ],
        };
        let bytes = manifest.encode();
        assert_eq!(Manifest::decode(&bytes), Ok(manifest));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::decode(&damaged).is_err(), "bit {bit}");
        }
        for at in (100..104).chain(112..120) {
            let mut newer = bytes.clone();
            newer[at] ^= 2;
            seal_crc(&mut newer, FILE_CRC_END);
            assert_eq!(Manifest::decode(&newer), Err(Damage::Unsupported), "byte {at}");
        }
        for counter in [32, 40, 48] {
            let mut endless = bytes.clone();
            endless[counter + 7] = 1;
            seal_crc(&mut endless, FILE_CRC_END);
            assert_eq!(Manifest::decode(&endless), Err(Damage::Field), "the counter at {counter}");
        }
        for cut in 0..bytes.len() {
            assert!(Manifest::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }
}
