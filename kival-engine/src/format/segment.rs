//! The header of a segment, and the names of the files in a data directory.

use super::{FILE_CRC_END, Fields, check_file_head, file_head, seal_crc};
use crate::error::Damage;

const MAGIC: &[u8; 8] = b"KIVALSEG";
/// Bytes of a header without merge inputs.
pub const HEADER: usize = 48;
/// More inputs than this are damage: a merge never takes so many.
const MAX_INPUTS: usize = 1 << 16;

/// Name of the manifest.
pub const MANIFEST: &str = "MANIFEST";
/// Name of the lock file.
pub const LOCK: &str = "LOCK";
/// Name of the file that holds disk space in reserve.
pub const RESERVE: &str = "RESERVE";

/// The name of segment `id`.
pub fn file_name(id: u64) -> String {
    format!("{id:016x}.seg")
}

/// The name of the hint of segment `id`.
pub fn hint_name(id: u64) -> String {
    format!("{id:016x}.hint")
}

/// The segment id in a file name of the form that [`file_name`] or [`hint_name`] gives.
pub fn id_of(name: &str) -> Option<u64> {
    let stem = name.strip_suffix(".seg").or_else(|| name.strip_suffix(".hint"))?;
    let hex = stem.len() == 16 && stem.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if hex { u64::from_str_radix(stem, 16).ok() } else { None }
}

/// What a segment begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The store that the segment belongs to.
    pub store: u64,
    /// Its id.
    pub id: u64,
    /// When it was created, Unix milliseconds.
    pub created_ms: u64,
    /// The segments it replaces, if it is a merge output.
    pub inputs: Vec<u64>,
    /// Whether it is a merge output.
    pub merged: bool,
}

impl SegmentHeader {
    /// Bytes of this header.
    pub fn size(&self) -> u64 {
        (HEADER + 8 * self.inputs.len()) as u64
    }

    /// The header's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = file_head(MAGIC);
        for field in [self.store, self.id, self.created_ms] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(&u32::from(self.merged).to_le_bytes());
        out.extend_from_slice(&(self.inputs.len() as u32).to_le_bytes());
        for input in &self.inputs {
            out.extend_from_slice(&input.to_le_bytes());
        }
        seal_crc(&mut out, FILE_CRC_END);
        out
    }

    /// Reads a header from the front of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<SegmentHeader, Damage> {
        let count_at = HEADER - 4;
        let mut count = Fields(bytes.get(count_at..).ok_or(Damage::Truncated)?);
        let count = count.u32()? as usize;
        if &bytes[..MAGIC.len()] != MAGIC {
            return Err(Damage::Magic);
        }
        if count > MAX_INPUTS {
            return Err(Damage::Field);
        }
        let whole = bytes.get(..HEADER + 8 * count).ok_or(Damage::Truncated)?;
        let mut fields = check_file_head(whole, MAGIC)?;
        let (store, id, created_ms) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let merged = match fields.u32()? {
            0 => false,
            1 => true,
            _ => return Err(Damage::Unsupported),
        };
        fields.u32()?;
        let inputs = (0..count).map(|_| fields.u64()).collect::<Result<_, _>>()?;
        Ok(SegmentHeader { store, id, created_ms, inputs, merged })
    }

    /// The most bytes that a header can take.
    pub const fn max_size() -> usize {
        HEADER + 8 * MAX_INPUTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        assert_eq!(file_name(0x1f), "000000000000001f.seg");
        assert_eq!(id_of("000000000000001f.seg"), Some(0x1f));
        assert_eq!(id_of("000000000000001f.hint"), Some(0x1f));
        for other in ["1f.seg", "000000000000001F.seg", "000000000000001f.seg.tmp", "MANIFEST"] {
            assert_eq!(id_of(other), None, "{other}");
        }
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_seen() {
        let header = SegmentHeader { store: 7, id: 3, created_ms: 9, inputs: vec![1, 2], merged: true };
        let bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&damaged).is_err(), "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert!(SegmentHeader::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }
}
