//! A record: one change of one key.

use super::{Fields, MAX_BLOB, MAX_SEQUENCE};
use crate::error::Damage;
use std::sync::LazyLock;

/// Bytes of a record before its key.
pub const HEADER: usize = 36;
/// What the record's CRC covers begins here.
pub const CRC_END: usize = 4;
/// Bytes of the header that a hint repeats: all but the CRC.
pub const HINTED: usize = HEADER - CRC_END;

/// Bytes of a page, the part of a large value that changes alone.
pub const PAGE: usize = 4096;
/// In the value of a page record the sequence of the record that the page lies over stands before the page's bytes.
pub const PAGE_HEAD: usize = 8;

/// What a record says of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// The key has this value and this expiry.
    Value = 1,
    /// The key is gone.
    Tombstone = 2,
    /// The key's expiry is now this one, or none.
    Expiry = 3,
    /// The key names an object.
    Root = 4,
    /// A part of an object.
    Element = 5,
    /// That part of the object is gone.
    ElementTombstone = 6,
    /// The map from database numbers to namespaces.
    Namespaces = 7,
    /// The key's value has these bytes in one of its pages, and zeros behind them up to the page's end.
    Page = 9,
}

impl Kind {
    /// Whether this version of the program knows what to do with it. The others have their place in the
    /// format, and refuse the store.
    pub fn is_supported(self) -> bool {
        !matches!(self, Kind::Root | Kind::Element | Kind::ElementTombstone)
    }

    fn from_byte(byte: u8) -> Result<Kind, Damage> {
        Ok(match byte {
            1 => Kind::Value,
            2 => Kind::Tombstone,
            3 => Kind::Expiry,
            4 => Kind::Root,
            5 => Kind::Element,
            6 => Kind::ElementTombstone,
            7 => Kind::Namespaces,
            9 => Kind::Page,
            _ => return Err(Damage::Unsupported),
        })
    }
}

/// A record's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the key.
    pub key_size: u32,
    /// Bytes of the value.
    pub value_size: u32,
    /// The namespace of the key.
    pub namespace: u32,
    /// The record's number.
    pub sequence: u64,
    /// Unix time in milliseconds, 0 for none; of a page record where in the value the page begins, in bytes.
    pub expiry: u64,
    /// What the record says.
    pub kind: Kind,
    /// Data type of a value or root; 0 is a string, the only one there is.
    pub data_type: u8,
}

impl Header {
    /// The number of the page that a page record holds; 0 for others.
    pub fn page(&self) -> u32 {
        if self.kind == Kind::Page { (self.expiry / PAGE as u64) as u32 } else { 0 }
    }

    /// Bytes of the whole record.
    pub fn record_size(&self) -> u64 {
        record_size(self.key_size as usize, self.value_size as usize)
    }

    /// The header's bytes after its CRC.
    pub fn encode(&self) -> [u8; HINTED] {
        let mut out = [0; HINTED];
        out[0..4].copy_from_slice(&self.key_size.to_le_bytes());
        out[4..8].copy_from_slice(&self.value_size.to_le_bytes());
        out[8..12].copy_from_slice(&self.namespace.to_le_bytes());
        out[12..20].copy_from_slice(&self.sequence.to_le_bytes());
        out[20..28].copy_from_slice(&self.expiry.to_le_bytes());
        out[28] = self.kind as u8;
        out[29] = self.data_type;
        out
    }

    /// Reads the header's bytes after its CRC, and checks that the fields can be.
    pub fn decode(bytes: &[u8; HINTED]) -> Result<Header, Damage> {
        let mut fields = Fields(bytes);
        let header = Header {
            key_size: fields.u32()?,
            value_size: fields.u32()?,
            namespace: fields.u32()?,
            sequence: fields.u64()?,
            expiry: fields.u64()?,
            kind: Kind::from_byte(fields.u8()?)?,
            data_type: fields.u8()?,
        };
        if header.data_type != 0 || fields.u16()? != 0 {
            return Err(Damage::Unsupported);
        }
        let sizes = u64::from(header.key_size).max(u64::from(header.value_size));
        let empty = matches!(header.kind, Kind::Tombstone | Kind::Expiry | Kind::ElementTombstone);
        let page_fits = header.kind != Kind::Page
            || ((PAGE_HEAD + 1..=PAGE_HEAD + PAGE).contains(&(header.value_size as usize))
                && header.expiry.is_multiple_of(PAGE as u64)
                && header.expiry < MAX_BLOB);
        if sizes > MAX_BLOB
            || (empty && header.value_size != 0)
            || !page_fits
            || header.sequence > MAX_SEQUENCE
        {
            return Err(Damage::Field);
        }
        Ok(header)
    }
}

/// Bytes of a record with a key and a value of these sizes.
pub const fn record_size(key_size: usize, value_size: usize) -> u64 {
    (HEADER + key_size + value_size) as u64
}

/// Appends a record to `out`.
pub fn encode(out: &mut Vec<u8>, header: &Header, key: &[u8], value: &[u8]) {
    debug_assert_eq!((header.key_size as usize, header.value_size as usize), (key.len(), value.len()));
    let begin = out.len();
    out.reserve(HEADER + key.len() + value.len());
    out.extend_from_slice(&[0; CRC_END]);
    out.extend_from_slice(&header.encode());
    out.extend_from_slice(key);
    out.extend_from_slice(value);
    // Over all of it at once: piece by piece the checksum goes the slow way of short inputs.
    let crc = crc32(&out[begin + CRC_END..]);
    out[begin..begin + CRC_END].copy_from_slice(&crc.to_le_bytes());
}

/// Appends to `out` what stands before the value of a record whose value's checksum is known; gives the CRC
/// field.
pub fn encode_around(
    out: &mut Vec<u8>,
    header: &Header,
    key: &[u8],
    value_crc: &crc32fast::Hasher,
) -> [u8; CRC_END] {
    debug_assert_eq!(header.key_size as usize, key.len());
    let fields = header.encode();
    let mut crc = crc32fast::Hasher::new();
    crc.update(&fields);
    crc.update(key);
    crc.combine(value_crc);
    let crc = crc.finalize().to_le_bytes();
    out.extend_from_slice(&crc);
    out.extend_from_slice(&fields);
    out.extend_from_slice(key);
    crc
}

/// As [`crc32fast::hash`], which looks anew each time what the processor can do: a third of what a short record takes.
#[inline]
fn crc32(bytes: &[u8]) -> u32 {
    static BEGIN: LazyLock<crc32fast::Hasher> = LazyLock::new(crc32fast::Hasher::new);
    let mut crc = BEGIN.clone();
    crc.update(bytes);
    crc.finalize()
}

/// The CRC field of a record that stands at the front of `bytes`; `None` if there are too few bytes.
pub fn crc_of(bytes: &[u8]) -> Option<&[u8; CRC_END]> {
    bytes.first_chunk()
}

/// A record in a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its header.
    pub header: Header,
    /// Its key.
    pub key: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
}

/// Reads the record at the front of `bytes`, checksum and all.
pub fn decode(bytes: &[u8]) -> Result<Record<'_>, Damage> {
    decode_if(bytes, |covered, crc| crc32(covered) == crc)
}

/// Reads the record at the front of `bytes`, whose checksum is known to be right.
pub fn decode_checked(bytes: &[u8]) -> Result<Record<'_>, Damage> {
    decode_if(bytes, |_, _| true)
}

/// Bytes of the record whose header, or more, is `bytes`, as that says; `None` if they are too few to tell.
pub fn size_of(bytes: &[u8]) -> Option<u64> {
    let (key_size, value_size) = sizes(bytes)?;
    Some(record_size(key_size, value_size))
}

/// Bytes of the same record without its value; too few bytes count as a whole header.
pub fn head_size(bytes: &[u8]) -> u64 {
    record_size(sizes(bytes).map_or(0, |(key_size, _)| key_size), 0)
}

fn sizes(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut fields = Fields(bytes.get(CRC_END..)?);
    Some((fields.u32().ok()? as usize, fields.u32().ok()? as usize))
}

/// Reads the header, the key and the CRC field of a record of which `bytes` is the beginning; `sum` is the checksum
/// that was computed over all of it.
pub fn decode_head(bytes: &[u8], sum: u32) -> Result<(Header, &[u8], [u8; CRC_END]), Damage> {
    let (crc, rest) = bytes.split_first_chunk::<CRC_END>().ok_or(Damage::Truncated)?;
    if sum.to_le_bytes() != *crc {
        return Err(Damage::Checksum);
    }
    let (header, rest) = rest.split_first_chunk::<HINTED>().ok_or(Damage::Truncated)?;
    let header = Header::decode(header)?;
    let key = rest.get(..header.key_size as usize).ok_or(Damage::Truncated)?;
    Ok((header, key, *crc))
}

fn decode_if(bytes: &[u8], is_sound: impl FnOnce(&[u8], u32) -> bool) -> Result<Record<'_>, Damage> {
    let mut fields = Fields(bytes);
    let crc = fields.u32()?;
    // The sizes are believed only as far as the bytes reach, and the other fields after the checksum:
    // an unknown kind under a sound one comes from a newer program.
    let (key_size, value_size) = (fields.u32()?, fields.u32()?);
    let end = record_size(key_size as usize, value_size as usize);
    let covered = bytes.get(CRC_END..end as usize).ok_or(Damage::Truncated)?;
    if !is_sound(covered, crc) {
        return Err(Damage::Checksum);
    }
    let (header, body) = covered.split_first_chunk::<HINTED>().ok_or(Damage::Truncated)?;
    let header = Header::decode(header)?;
    let (key, value) = body.split_at(key_size as usize);
    Ok(Record { header, key, value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kinds() -> impl Strategy<Value = Kind> {
        prop_oneof![
            Just(Kind::Value),
            Just(Kind::Root),
            Just(Kind::Element),
            Just(Kind::Namespaces),
            Just(Kind::Page)
        ]
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            key in proptest::collection::vec(any::<u8>(), 0..80),
            value in proptest::collection::vec(any::<u8>(), 0..300),
            (namespace, sequence, expiry, kind) in
                (any::<u32>(), 0..=MAX_SEQUENCE, any::<u64>(), kinds()),
            flip in any::<usize>(),
        ) {
            // A page has something in it, and begins where one can.
            let (value, expiry) = match kind {
                Kind::Page => ([&value[..], &[0; 9]].concat(), expiry % (1 << 17) * PAGE as u64),
                _ => (value, expiry),
            };
            let header = Header {
                key_size: key.len() as u32, value_size: value.len() as u32,
                namespace, sequence, expiry, kind, data_type: 0,
            };
            let mut bytes = Vec::new();
            encode(&mut bytes, &header, &key, &value);
            prop_assert_eq!(bytes.len() as u64, header.record_size());
            prop_assert_eq!(decode(&bytes), Ok(Record { header, key: &key, value: &value }));
            let bit = flip % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode(&bytes).is_err());
        }

        #[test]
        fn a_sound_record_with_a_field_of_the_future_is_unsupported(
            (at, value) in prop_oneof![(Just(32), prop_oneof![Just(8_u8), 10_u8..]), (33_usize..36, 1_u8..)],
        ) {
            let header = Header {
                key_size: 1, value_size: 1, namespace: 0, sequence: 1, expiry: 0, kind: Kind::Value, data_type: 0,
            };
            let mut bytes = Vec::new();
            encode(&mut bytes, &header, b"k", b"v");
            bytes[at] = value;
            crate::format::seal_crc(&mut bytes, CRC_END);
            prop_assert_eq!(decode(&bytes), Err(Damage::Unsupported));
        }

        #[test]
        fn a_page_that_cannot_be_is_refused(offset in 0..MAX_BLOB * 2, value_size in 0_u32..5000) {
            let header = Header {
                key_size: 0, value_size, namespace: 0, sequence: 1, expiry: offset, kind: Kind::Page, data_type: 0,
            };
            let fits = offset < MAX_BLOB && offset % 4096 == 0 && (9..=4104).contains(&value_size);
            prop_assert_eq!(Header::decode(&header.encode()).is_ok(), fits);
            let begins = Header { expiry: offset / 4096 * 4096, value_size: 9, ..header };
            prop_assert_eq!(Header::decode(&begins.encode()).is_ok(), offset < MAX_BLOB);
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}
