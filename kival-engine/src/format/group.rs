//! An append group's header: what one turn of the writer appended, all or nothing.

use super::Fields;
use crate::error::Damage;

/// Bytes of a group before its records.
pub const HEADER: usize = 88;
const CRC_END: usize = 4;
const MERGED: u32 = 1;

/// A place in the log: everything is ordered by segment, then by offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Position {
    /// Segment id.
    pub segment: u64,
    /// Bytes from the segment's start.
    pub offset: u64,
}

/// A group's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupHeader {
    /// Whether the group was written by a merge: its records keep the numbers they had.
    pub merged: bool,
    /// The store that the group belongs to.
    pub store: u64,
    /// Where the group stands.
    pub at: Position,
    /// Bytes of the records.
    pub body_size: u64,
    /// Number of the first record, or the lowest in a merge group.
    pub first_sequence: u64,
    /// Number of the last record in the log before this group; 0 in a merge group.
    pub previous_sequence: u64,
    /// When it was appended, Unix milliseconds.
    pub time_ms: u64,
    /// Everything below was known to be on disk.
    pub watermark: Position,
    /// Number of records.
    pub records: u32,
    /// CRC over the CRC fields of the records: it ties the header to these very records.
    pub body_crc: u32,
}

impl GroupHeader {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[4..8].copy_from_slice(&(if self.merged { MERGED } else { 0 }).to_le_bytes());
        let fields = [
            self.store,
            self.at.segment,
            self.at.offset,
            self.body_size,
            self.first_sequence,
            self.previous_sequence,
            self.time_ms,
            self.watermark.segment,
            self.watermark.offset,
        ];
        for (slot, field) in out[8..80].chunks_exact_mut(8).zip(fields) {
            slot.copy_from_slice(&field.to_le_bytes());
        }
        out[80..84].copy_from_slice(&self.records.to_le_bytes());
        out[84..88].copy_from_slice(&self.body_crc.to_le_bytes());
        super::seal_crc(&mut out, CRC_END);
        out
    }

    /// Reads the header that should stand at `at` in `store`.
    pub fn decode(bytes: &[u8; HEADER], store: u64, at: Position) -> Result<GroupHeader, Damage> {
        let mut fields = Fields(bytes);
        if fields.u32()? != crc32fast::hash(&bytes[CRC_END..]) {
            return Err(Damage::Checksum);
        }
        let flags = fields.u32()?;
        let header = GroupHeader {
            merged: flags & MERGED != 0,
            store: fields.u64()?,
            at: Position { segment: fields.u64()?, offset: fields.u64()? },
            body_size: fields.u64()?,
            first_sequence: fields.u64()?,
            previous_sequence: fields.u64()?,
            time_ms: fields.u64()?,
            watermark: Position { segment: fields.u64()?, offset: fields.u64()? },
            records: fields.u32()?,
            body_crc: fields.u32()?,
        };
        if header.store != store || header.at != at {
            return Err(Damage::Misplaced);
        }
        if flags & !MERGED != 0 {
            return Err(Damage::Unsupported);
        }
        if header.records == 0 {
            return Err(Damage::Field);
        }
        Ok(header)
    }

    /// Bytes of the whole group; `None` where a damaged size makes no sense.
    pub fn group_size(&self) -> Option<u64> {
        self.body_size.checked_add(HEADER as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_no_header() {
        assert!(GroupHeader::decode(&[0; HEADER], 0, Position::default()).is_err());
    }

    #[test]
    fn every_flipped_bit_and_every_other_place_is_seen() {
        let at = Position { segment: 5, offset: 48 };
        let header = GroupHeader {
            merged: false,
            store: 11,
            at,
            body_size: 100,
            first_sequence: 9,
            previous_sequence: 8,
            time_ms: 1,
            watermark: Position { segment: 4, offset: 70 },
            records: 2,
            body_crc: 77,
        };
        let bytes = header.encode();
        assert_eq!(GroupHeader::decode(&bytes, 11, at), Ok(header));
        assert_eq!(GroupHeader::decode(&bytes, 12, at), Err(Damage::Misplaced));
        let elsewhere = Position { segment: 5, offset: 49 };
        assert_eq!(GroupHeader::decode(&bytes, 11, elsewhere), Err(Damage::Misplaced));
        for bit in 0..HEADER * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(GroupHeader::decode(&damaged, 11, at).is_err(), "bit {bit}");
        }
    }
}
