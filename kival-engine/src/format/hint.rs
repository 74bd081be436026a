//! A hint: the keys of a segment without their values.

use super::record::{self, Header};
use super::{FILE_CRC_END, Fields, check_file_head, file_head, seal_crc};
use crate::error::Damage;

const MAGIC: &[u8; 8] = b"KIVALHNT";
/// Bytes of a hint before its first block.
pub const HEADER: usize = 80;
/// Bytes of a block before its entries.
pub const BLOCK_HEADER: usize = 8;
/// Most bytes of entries in a block that has more than one.
pub const MAX_BLOCK: usize = 1 << 20;
const ENTRY_HEADER: usize = record::HINTED + 8;
const CRC_END: usize = 4;

/// What a hint begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HintHeader {
    /// The store that the hint belongs to.
    pub store: u64,
    /// The segment that it describes.
    pub segment: u64,
    /// It describes the segment's bytes below this.
    pub covered: u64,
    /// Number of entries.
    pub records: u64,
    /// Lowest sequence, 0 without records.
    pub lowest: u64,
    /// Highest sequence, 0 without records.
    pub highest: u64,
    /// Where the filter stands in the hint.
    pub filter_at: u64,
    /// Bytes of the whole hint.
    pub file_size: u64,
}

impl HintHeader {
    /// The header's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = file_head(MAGIC);
        let fields = [
            self.store,
            self.segment,
            self.covered,
            self.records,
            self.lowest,
            self.highest,
            self.filter_at,
            self.file_size,
        ];
        for field in fields {
            out.extend_from_slice(&field.to_le_bytes());
        }
        seal_crc(&mut out, FILE_CRC_END);
        out
    }

    /// Reads the header of a hint.
    pub fn decode(bytes: &[u8; HEADER]) -> Result<HintHeader, Damage> {
        let mut fields = check_file_head(bytes, MAGIC)?;
        let header = HintHeader {
            store: fields.u64()?,
            segment: fields.u64()?,
            covered: fields.u64()?,
            records: fields.u64()?,
            lowest: fields.u64()?,
            highest: fields.u64()?,
            filter_at: fields.u64()?,
            file_size: fields.u64()?,
        };
        if header.filter_at < HEADER as u64 || header.file_size < header.filter_at {
            return Err(Damage::Field);
        }
        Ok(header)
    }
}

/// A record as a hint names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HintEntry<'a> {
    /// The record's header.
    pub header: Header,
    /// Where the record starts in its segment.
    pub offset: u64,
    /// Its key.
    pub key: &'a [u8],
}

/// A block being filled.
#[derive(Debug)]
pub struct BlockBuilder {
    bytes: Vec<u8>,
}

impl Default for BlockBuilder {
    fn default() -> Self {
        BlockBuilder { bytes: vec![0; BLOCK_HEADER] }
    }
}

impl BlockBuilder {
    /// Whether an entry with a key of this size would make the block too large.
    pub fn is_full_for(&self, key_size: usize) -> bool {
        let filled = self.bytes.len() - BLOCK_HEADER;
        filled > 0 && filled + ENTRY_HEADER + key_size > MAX_BLOCK
    }

    /// Whether there is no entry in it.
    pub fn is_empty(&self) -> bool {
        self.bytes.len() == BLOCK_HEADER
    }

    /// Adds an entry.
    pub fn push(&mut self, entry: &HintEntry<'_>) {
        self.bytes.extend_from_slice(&entry.header.encode());
        self.bytes.extend_from_slice(&entry.offset.to_le_bytes());
        self.bytes.extend_from_slice(entry.key);
    }

    /// The block's bytes, with its head filled in.
    pub fn finish(&mut self) -> &[u8] {
        let size = (self.bytes.len() - BLOCK_HEADER) as u32;
        self.bytes[CRC_END..BLOCK_HEADER].copy_from_slice(&size.to_le_bytes());
        seal_crc(&mut self.bytes, CRC_END);
        &self.bytes
    }

    /// Empties it for the next block.
    pub fn clear(&mut self) {
        self.bytes.truncate(BLOCK_HEADER);
    }
}

/// The size of a block, its head included, as its first bytes announce it.
pub fn block_size(head: &[u8; BLOCK_HEADER]) -> u64 {
    let size: [u8; 4] = [head[4], head[5], head[6], head[7]];
    BLOCK_HEADER as u64 + u64::from(u32::from_le_bytes(size))
}

/// The entries of a block that takes up all of `bytes`, if its checksum is right.
pub fn entries(bytes: &[u8]) -> Result<Entries<'_>, Damage> {
    let mut fields = Fields(bytes);
    if fields.u32()? != crc32fast::hash(&bytes[CRC_END..]) {
        return Err(Damage::Checksum);
    }
    if fields.u32()? as usize != fields.0.len() {
        return Err(Damage::Truncated);
    }
    Ok(Entries(fields))
}

/// The entries of a block in which [`entries`] has found nothing wrong.
pub(crate) fn checked_entries(bytes: &[u8]) -> impl Iterator<Item = HintEntry<'_>> {
    Entries(Fields(&bytes[BLOCK_HEADER..])).map(|entry| entry.expect("the block has been checked"))
}

/// Goes through the entries of a block.
pub struct Entries<'a>(Fields<'a>);

impl<'a> Entries<'a> {
    fn entry(&mut self) -> Result<HintEntry<'a>, Damage> {
        let fields = &mut self.0;
        let header = fields.bytes(record::HINTED)?;
        let header = Header::decode(header.try_into().expect("HINTED bytes were taken"))?;
        let offset = fields.u64()?;
        Ok(HintEntry { header, offset, key: fields.bytes(header.key_size as usize)? })
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<HintEntry<'a>, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.0.is_empty() {
            return None;
        }
        let entry = self.entry();
        if entry.is_err() {
            self.0.0 = &[];
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Kind;
    use super::*;

    fn entry(key: &[u8], sequence: u64) -> HintEntry<'_> {
        let header = Header {
            key_size: key.len() as u32,
            value_size: 5,
            namespace: 0,
            sequence,
            expiry: 0,
            kind: Kind::Value,
            data_type: 0,
        };
        HintEntry { header, offset: 48 + sequence, key }
    }

    #[test]
    fn a_block_gives_back_its_entries_and_shows_damage() {
        let mut block = BlockBuilder::default();
        let wanted = [entry(b"a", 1), entry(b"", 2), entry(b"long key", 3)];
        wanted.iter().for_each(|entry| block.push(entry));
        let bytes = block.finish().to_vec();
        let read: Result<Vec<_>, _> = entries(&bytes).expect("sound").collect();
        assert_eq!(read.expect("sound"), wanted);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(entries(&damaged).is_err(), "bit {bit}");
        }
        assert!(entries(&bytes[..bytes.len() - 1]).is_err());
    }

    #[test]
    fn a_full_block_takes_no_more_but_one_large_key_fits_alone() {
        let mut block = BlockBuilder::default();
        assert!(!block.is_full_for(MAX_BLOCK * 2));
        block.push(&entry(b"k", 1));
        assert!(block.is_full_for(MAX_BLOCK));
        assert!(!block.is_full_for(10));
    }
}
