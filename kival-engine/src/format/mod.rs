//! Bytes to values and back: the layouts of `record_format.md`, without any I/O.
//!
//! One file a structure. Every decoder takes untrusted bytes: it checks sizes before it uses them and
//! checksums before it believes anything, and answers [`Damage`] instead of panicking.

pub mod filter;
#[cfg(test)]
mod golden;
pub mod group;
pub mod hint;
pub mod manifest;
pub mod record;
pub mod segment;

use crate::error::Damage;

/// The format version that this program writes.
pub const VERSION: u32 = 1;

/// Largest key and largest value, in bytes.
pub const MAX_BLOB: u64 = 512 << 20;

/// Largest sequence number: keydir entries keep 56 bits.
pub const MAX_SEQUENCE: u64 = (1 << 56) - 1;

/// Takes little-endian fields off the front of a slice.
///
/// The callers check the length once, up front; a field that is not there reads as an error.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn bytes(&mut self, n: usize) -> Result<&'a [u8], Damage> {
        let (head, tail) = self.0.split_at_checked(n).ok_or(Damage::Truncated)?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        let (head, tail) = self.0.split_first_chunk().ok_or(Damage::Truncated)?;
        self.0 = tail;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Damage> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Damage> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Damage> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Damage> {
        Ok(u64::from_le_bytes(self.array()?))
    }
}

/// Writes the CRC of `bytes[from..]` into the four bytes before `from`.
pub(crate) fn seal_crc(bytes: &mut [u8], from: usize) {
    let crc = crc32fast::hash(&bytes[from..]);
    bytes[from - 4..from].copy_from_slice(&crc.to_le_bytes());
}

/// Segment, hint and manifest share their head: magic (8), CRC (4), version (4). What the CRC covers
/// begins here.
pub(crate) const FILE_CRC_END: usize = 12;

/// Begins a file: magic, room for the CRC, version.
pub(crate) fn file_head(magic: &[u8; 8]) -> Vec<u8> {
    let mut out = magic.to_vec();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out
}

/// Checks magic, version and the CRC of `bytes[12..]`; gives the fields after the head.
pub(crate) fn check_file_head<'a>(bytes: &'a [u8], magic: &[u8; 8]) -> Result<Fields<'a>, Damage> {
    let mut fields = Fields(bytes);
    if fields.bytes(8)? != magic {
        return Err(Damage::Magic);
    }
    let crc = fields.u32()?;
    if crc32fast::hash(fields.0) != crc {
        return Err(Damage::Checksum);
    }
    match fields.u32()? {
        VERSION => Ok(fields),
        newer if newer > VERSION => Err(Damage::Newer(newer)),
        _ => Err(Damage::Field),
    }
}
