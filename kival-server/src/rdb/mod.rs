//! Redis's serialisation (RDB) of a value, as DUMP makes it and RESTORE reads it: a type, the value, the
//! version of the format, and a checksum.
//!
//! `string` holds the lengths and the encodings of strings, `lzf` reads what Redis has compressed. What is
//! written here is never compressed. Of values that are no strings only the type is known. `file` reads
//! whole files (`dump.rdb`), `skip` passes over what they hold of other types.

pub mod file;
mod lzf;
mod skip;
mod string;

use bytes::Bytes;
use crc::{CRC_64_REDIS, Crc, Table};
use string::Reader;

/// The version of redis-server 7.0: what is written, and the highest that is read.
pub const VERSION: u16 = 10;

const STRING: u8 = 0;
const VERSION_SIZE: usize = 2;
const CRC_SIZE: usize = 8;

static CRC: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_REDIS);

/// Why a payload is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// It comes from a newer version, or is damaged.
    #[error("DUMP payload version or checksum are wrong")]
    VersionOrChecksum,
    /// Its checksum is right, but not what it holds.
    #[error("Bad data format")]
    Format,
    /// It holds what this server does not.
    #[error("kival stores strings only: this value is a {0}")]
    Type(&'static str),
}

/// The payload of a string.
pub fn dump(value: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(value.len() + 1 + string::LONGEST_HEAD + VERSION_SIZE + CRC_SIZE);
    payload.push(STRING);
    string::write(&mut payload, value);
    seal(payload)
}

/// Makes a payload of what has been serialised, its type in front.
pub fn seal(mut serialised: Vec<u8>) -> Vec<u8> {
    serialised.extend(VERSION.to_le_bytes());
    let crc = CRC.checksum(&serialised);
    serialised.extend(crc.to_le_bytes());
    serialised
}

/// The string of a payload. It may be longer than any payload, since Redis compresses: at most `most` bytes.
///
/// # Errors
/// What is wrong with it.
pub fn restore(payload: &[u8], most: u64) -> Result<Bytes, PayloadError> {
    let (signed, crc) = payload.split_last_chunk::<CRC_SIZE>().ok_or(PayloadError::VersionOrChecksum)?;
    let (value, version) =
        signed.split_last_chunk::<VERSION_SIZE>().ok_or(PayloadError::VersionOrChecksum)?;
    if u16::from_le_bytes(*version) > VERSION || CRC.checksum(signed) != u64::from_le_bytes(*crc) {
        return Err(PayloadError::VersionOrChecksum);
    }
    let (kind, value) = value.split_first().ok_or(PayloadError::Format)?;
    if *kind != STRING {
        return Err(type_name(*kind).map_or(PayloadError::Format, PayloadError::Type));
    }
    Reader(value).string(most).map_err(|_| PayloadError::Format)
}

/// What Redis calls the type of a value, of all forms that its version 7.4 reads.
fn type_name(kind: u8) -> Option<&'static str> {
    Some(match kind {
        0 => "string",
        1 | 10 | 14 | 18 => "list",
        2 | 11 | 20 => "set",
        3 | 5 | 12 | 17 => "zset",
        4 | 9 | 13 | 16 | 24 | 25 => "hash",
        6 | 7 => "module",
        15 | 19 | 21 => "stream",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u64 = 1 << 20;

    fn payload(body: &[u8], version: u16) -> Vec<u8> {
        let mut payload = [body, &version.to_le_bytes()].concat();
        let crc = CRC.checksum(&payload);
        payload.extend(crc.to_le_bytes());
        payload
    }

    #[test]
    fn what_redis_made_is_read_and_made_alike() {
        // DUMP of redis-server 7.0.15.
        assert_eq!(dump(b"hello"), b"\0\x05hello\x0a\0cr\xdfve4 \n");
        assert_eq!(dump(b"12345"), b"\0\xc190\x0a\0\x9d\x94\xea'\x93\xfc\x08\xb9");
        let packed = b"\0\xc3\x09(\x01aa\xe0\x1b\0\x01aa\x0a\0\xcf\x09/\xaa\xae%\x83\x1d";
        assert_eq!(restore(packed, MOST).unwrap(), "a".repeat(40));
    }

    #[test]
    fn strings_come_back_whatever_their_encoding() {
        for value in
            ["", "0", "-128", "127", "128", "-32769", "2147483647", "2147483648", "01", "+1", "12345678901"]
        {
            assert_eq!(restore(&dump(value.as_bytes()), MOST).unwrap(), value);
        }
        for len in [63, 64, 16_383, 16_384, 100_000] {
            let value = vec![b'x'; len];
            assert_eq!(restore(&dump(&value), MOST).unwrap(), value);
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let sound = dump(b"hello");
        for bit in 0..sound.len() * 8 {
            let mut damaged = sound.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(restore(&damaged, MOST), Err(PayloadError::VersionOrChecksum));
        }
    }

    #[test]
    fn what_is_no_string_is_named() {
        let found = |body: &[u8], version| restore(&payload(body, version), MOST);
        assert_eq!(found(&[0, 1, b'a'], 10), Ok("a".into()));
        assert_eq!(found(&[0, 1, b'a'], 6), Ok("a".into()));
        assert_eq!(found(&[0, 1, b'a'], 11), Err(PayloadError::VersionOrChecksum));
        assert_eq!(found(&[18, 0], 10), Err(PayloadError::Type("list")));
        assert_eq!(found(&[99, 0], 10), Err(PayloadError::Format));
        assert_eq!(found(&[0, 5, b'a'], 10), Err(PayloadError::Format));
        assert_eq!(found(&[], 10), Err(PayloadError::Format));
        assert_eq!(restore(b"short", MOST), Err(PayloadError::VersionOrChecksum));
    }
}
