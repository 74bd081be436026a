//! A file of Redis's (`dump.rdb`), read key by key in one pass, its checksum with it.
//!
//! `REDIS` and four digits of a version; then entries, each behind a byte that says what it is: remarks, the
//! database of what follows, the expiry of the next key, or a type, a key and a value; an end, and a checksum.

use super::string::Reader;
use super::{CRC, STRING, type_name};
use bytes::Bytes;
use crc::{Digest, Table};
use std::io::{self, ErrorKind, Read};

/// The highest version that is read: that of redis-server 7.4.
pub const NEWEST: u32 = 12;

const MAGIC: &[u8; 5] = b"REDIS";
/// The first version that ends with a checksum.
const WITH_CHECKSUM: u32 = 5;

/// Bytes that stand where types do.
mod code {
    pub(super) const SLOT: u8 = 0xf4;
    pub(super) const FUNCTION: u8 = 0xf5;
    pub(super) const MODULE_REMARK: u8 = 0xf7;
    pub(super) const IDLE: u8 = 0xf8;
    pub(super) const FREQUENCY: u8 = 0xf9;
    pub(super) const REMARK: u8 = 0xfa;
    pub(super) const SIZES: u8 = 0xfb;
    pub(super) const EXPIRY_MS: u8 = 0xfc;
    pub(super) const EXPIRY_SECONDS: u8 = 0xfd;
    pub(super) const DATABASE: u8 = 0xfe;
    pub(super) const END: u8 = 0xff;
}

/// Why a file cannot be read, or not further.
#[derive(Debug, thiserror::Error)]
pub enum RdbError {
    /// It is something else.
    #[error("this is no RDB file: it does not begin with REDIS and a version")]
    Magic,
    /// It is too new.
    #[error("version {0} of RDB is not known; up to {NEWEST}, of redis-server 7.4, is")]
    Version(u32),
    /// It is not whole.
    #[error("the file ends at offset {0}, in the middle of what it holds")]
    Cut(u64),
    /// It is damaged.
    #[error("what stands before offset {0} is no RDB: the file is damaged")]
    Damaged(u64),
    /// A form of value that is not known: nobody can tell where it ends.
    #[error("at offset {1} is a value of type {0}, which is not known")]
    Type(u8, u64),
    /// All was read, and is not what was written.
    #[error("the checksum at the end of the file is wrong: something that was read is damaged")]
    Checksum,
    /// The disk refuses.
    #[error("{1}, at offset {0}")]
    Io(u64, io::Error),
}

/// A key of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its database.
    pub db: u32,
    /// The key.
    pub key: Bytes,
    /// Its expiry in Unix milliseconds; 0 for none.
    pub expiry: u64,
    /// Its value; of one that is no string the type.
    pub value: Result<Bytes, &'static str>,
}

/// A source that counts and sums what is read of it.
struct Counted<R> {
    from: R,
    at: u64,
    sum: Digest<'static, u64, Table<16>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(into)?;
        self.at += count as u64;
        self.sum.update(&into[..count]);
        Ok(count)
    }
}

/// A file that is being read.
pub struct RdbFile<R> {
    reader: Reader<Counted<R>>,
    version: u32,
    db: u32,
    most: u64,
}

impl<R: Read> RdbFile<R> {
    /// Begins to read. Keys and strings may have at most `most` bytes. The source should be buffered.
    ///
    /// # Errors
    /// [`RdbError`].
    pub fn new(from: R, most: u64) -> Result<RdbFile<R>, RdbError> {
        let reader = Reader(Counted { from, at: 0, sum: CRC.digest() });
        let mut file = RdbFile { reader, version: 0, db: 0, most };
        let head: [u8; 9] = file.reader.array().map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => RdbError::Magic,
            _ => file.error(error),
        })?;
        let digits = head.strip_prefix(MAGIC).and_then(|digits| str::from_utf8(digits).ok());
        file.version = digits.and_then(|digits| digits.parse().ok()).ok_or(RdbError::Magic)?;
        if (1..=NEWEST).contains(&file.version) { Ok(file) } else { Err(RdbError::Version(file.version)) }
    }

    /// Bytes read so far.
    pub fn offset(&self) -> u64 {
        self.reader.0.at
    }

    /// The next key; `None` at the end of a file whose checksum is right. Nothing is to be read behind an error.
    ///
    /// # Errors
    /// [`RdbError`].
    pub fn next_item(&mut self) -> Result<Option<Item>, RdbError> {
        let mut expiry = 0;
        loop {
            let [kind] = self.reader.array().map_err(|error| self.error(error))?;
            if kind == code::END {
                return self.end().map(|()| None);
            }
            let at = self.offset() - 1;
            let item = self.entry(kind, &mut expiry).map_err(|error| match error.kind() {
                ErrorKind::Unsupported => RdbError::Type(kind, at),
                _ => self.error(error),
            })?;
            if item.is_some() {
                return Ok(item);
            }
        }
    }

    /// What stands behind the byte that says what it is; `None` if that is no key.
    fn entry(&mut self, kind: u8, expiry: &mut u64) -> io::Result<Option<Item>> {
        let (reader, most) = (&mut self.reader, self.most);
        match kind {
            code::DATABASE => {
                self.db = u32::try_from(reader.number()?).map_err(|_| ErrorKind::InvalidData)?;
            }
            code::EXPIRY_MS => *expiry = u64::from_le_bytes(reader.array()?),
            code::EXPIRY_SECONDS => *expiry = u64::from(u32::from_le_bytes(reader.array()?)) * 1000,
            code::SIZES => drop((reader.number()?, reader.number()?)),
            code::SLOT => drop((reader.number()?, reader.number()?, reader.number()?)),
            code::IDLE => drop(reader.number()?),
            code::FREQUENCY => drop(reader.array::<1>()?),
            code::REMARK => {
                reader.skip_string()?;
                reader.skip_string()?;
            }
            code::FUNCTION => reader.skip_string()?,
            code::MODULE_REMARK => {
                reader.number()?;
                reader.skip_parts()?;
            }
            _ => {
                let name = type_name(kind).ok_or(ErrorKind::Unsupported)?;
                let key = reader.string(most)?;
                let value = if kind == STRING {
                    Ok(reader.string(most)?)
                } else {
                    reader.skip_value(kind)?;
                    Err(name)
                };
                return Ok(Some(Item { db: self.db, key, expiry: *expiry, value }));
            }
        }
        Ok(None)
    }

    fn end(&mut self) -> Result<(), RdbError> {
        if self.version < WITH_CHECKSUM {
            return Ok(());
        }
        let sum = std::mem::replace(&mut self.reader.0.sum, CRC.digest()).finalize();
        let written = self.reader.array().map(u64::from_le_bytes).map_err(|error| self.error(error))?;
        // 0: `rdbchecksum no`.
        if written == 0 || written == sum { Ok(()) } else { Err(RdbError::Checksum) }
    }

    fn error(&self, error: io::Error) -> RdbError {
        match error.kind() {
            ErrorKind::UnexpectedEof => RdbError::Cut(self.offset()),
            ErrorKind::InvalidData => RdbError::Damaged(self.offset()),
            _ => RdbError::Io(self.offset(), error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rdb::string;
    use proptest::collection::vec;
    use proptest::prelude::*;

    const MOST: u64 = 1 << 20;

    fn all(bytes: &[u8]) -> Result<Vec<Item>, RdbError> {
        let mut file = RdbFile::new(bytes, MOST)?;
        std::iter::from_fn(|| file.next_item().transpose()).collect()
    }

    /// A file of these strings, in the forms that Redis writes, with things between them that are no keys.
    fn written(items: &[Item]) -> Vec<u8> {
        let mut out = b"REDIS0010".to_vec();
        let text = |out: &mut Vec<u8>, text: &[u8]| string::write(out, text);
        out.push(code::REMARK);
        text(&mut out, b"redis-ver");
        text(&mut out, b"7.0.15");
        for Item { db, key, expiry, value } in items {
            out.extend([code::DATABASE, 0x80]);
            out.extend(db.to_be_bytes());
            out.extend([code::SIZES, 5, 0x41, 0]);
            if *expiry > 0 {
                out.push(code::EXPIRY_MS);
                out.extend(expiry.to_le_bytes());
            }
            out.extend([code::IDLE, 9, STRING]);
            text(&mut out, key);
            text(&mut out, value.as_ref().expect("a string"));
        }
        out.push(code::END);
        let sum = CRC.checksum(&out);
        out.extend(sum.to_le_bytes());
        out
    }

    fn items() -> impl Strategy<Value = Vec<Item>> {
        let text = || {
            prop_oneof![
                vec(any::<u8>(), 0..100),
                any::<i32>().prop_map(|number| number.to_string().into_bytes())
            ]
            .prop_map(Bytes::from)
        };
        let item = (any::<u32>(), text(), prop_oneof![Just(0), 1..u64::MAX], text());
        vec(item.prop_map(|(db, key, expiry, value)| Item { db, key, expiry, value: Ok(value) }), 0..6)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(items in items()) {
            prop_assert_eq!(all(&written(&items)).unwrap(), items);
        }

        #[test]
        fn no_flipped_bit_and_no_cut_goes_unnoticed(items in items(), place in any::<prop::sample::Index>(), bit in 0..8) {
            let sound = written(&items);
            let at = place.index(sound.len());
            prop_assert!(all(&sound[..at]).is_err());
            let mut flipped = sound;
            flipped[at] ^= 1_u8 << bit;
            prop_assert!(all(&flipped).is_err());
        }

        #[test]
        fn any_bytes_end(bytes in vec(any::<u8>(), 0..300)) {
            let _ = all(&[b"REDIS0012", &bytes[..]].concat());
        }
    }

    #[test]
    fn old_files_have_expiries_in_seconds_and_no_checksum() {
        let file = b"REDIS0003\xfe\x02\xfd\x01\0\0\0\x00\x01k\x01v\xff";
        let item = Item { db: 2, key: "k".into(), expiry: 1000, value: Ok("v".into()) };
        assert_eq!(all(file).unwrap(), [item]);
    }

    #[test]
    fn values_of_other_types_are_passed_over() {
        let bodies: [(u8, &[u8], &str); 12] = [
            (1, b"\x02\x01a\xc0\x01", "list"),
            (2, b"\x01\x01a", "set"),
            (3, b"\x03\x01a\x031.5\x01b\xfe\x01c\xff", "zset"),
            (4, b"\x01\x01a\x01b", "hash"),
            (5, b"\x01\x01a12345678", "zset"),
            (7, b"\x09\x01\x05\x02\x40\x50\x031234\x0412345678\x05\x01a\x00", "module"),
            (11, b"\x03abc", "set"),
            (18, b"\x02\x01\x01a\x02\x02bc", "list"),
            (20, b"\x03abc", "set"),
            (
                21,
                b"\x01\x10aaaaaaaaaaaaaaaa\x02bc\x01\x02\x03\x04\x05\x06\x07\x08\
                  \x01\x01g\x01\x02\x03\x01aaaaaaaaaaaaaaaatttttttt\x01\
                  \x01\x01cssssssssaaaaaaaa\x01aaaaaaaaaaaaaaaa",
                "stream",
            ),
            (24, b"tttttttt\x01\x05\x01a\x01b", "hash"),
            (25, b"tttttttt\x03abc", "hash"),
        ];
        for (kind, body, name) in bodies {
            let file =
                [&b"REDIS0003"[..], &[kind, 1, b'k'], body, &[STRING, 1, b'l', 1, b'v', code::END]].concat();
            let found = all(&file).unwrap_or_else(|error| panic!("{kind}: {error}"));
            assert_eq!(found[0].value, Err(name), "{kind}");
            assert_eq!(found[1].value, Ok("v".into()), "{kind}");
        }
        assert!(matches!(all(b"REDIS0003\x06\x01k"), Err(RdbError::Type(6, 9))));
        assert!(matches!(all(b"REDIS0003\xc8\x01k"), Err(RdbError::Type(0xc8, 9))));
    }
}
