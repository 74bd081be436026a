//! Lengths, and the encodings of strings.
//!
//! | first byte | meaning |
//! | --- | --- |
//! | `00nnnnnn` | a length of 6 bits |
//! | `01nnnnnn` | a length of 14 bits, with the next byte |
//! | `10000000`, `10000001` | a length of 32 or 64 bits in the next bytes, the highest first |
//! | `110000ee` | no length but an encoding: 0, 1, 2 an integer of 1, 2, 4 bytes, the lowest first; 3 LZF |

use super::lzf;
use crate::number::{format_i64, parse_i64};
use bytes::Bytes;
use std::io::{self, ErrorKind, Read};

const LEN_32: u8 = 0x80;
const LEN_64: u8 = 0x81;
const ENCODED: u8 = 0xc0;
const INT_8: u64 = 0;
const INT_16: u64 = 1;
const INT_32: u64 = 2;
const LZF: u64 = 3;
/// Redis looks for integers in strings up to this long.
const LONGEST_INTEGER: usize = 11;

/// Room that is made at once for what claims to be longer.
const ROOM: u64 = 1 << 20;

/// Most bytes in front of a string.
pub(super) const LONGEST_HEAD: usize = 9;

/// Appends a string as Redis does that does not compress.
pub(super) fn write(to: &mut Vec<u8>, value: &[u8]) {
    let number = if value.len() <= LONGEST_INTEGER { parse_i64(value) } else { None };
    if let Some(number) = number.and_then(|number| i32::try_from(number).ok()) {
        if let Ok(number) = i8::try_from(number) {
            to.push(ENCODED | INT_8 as u8);
            to.extend(number.to_le_bytes());
        } else if let Ok(number) = i16::try_from(number) {
            to.push(ENCODED | INT_16 as u8);
            to.extend(number.to_le_bytes());
        } else {
            to.push(ENCODED | INT_32 as u8);
            to.extend(number.to_le_bytes());
        }
        return;
    }
    match value.len() {
        len @ 0..=0x3f => to.push(len as u8),
        len @ 0x40..=0x3fff => to.extend((len as u16 | 0x4000).to_be_bytes()),
        // A value has at most 512 MB.
        len => {
            to.push(LEN_32);
            to.extend((len as u32).to_be_bytes());
        }
    }
    to.extend_from_slice(value);
}

/// What a length field says.
enum Length {
    Of(u64),
    Encoded(u64),
}

/// Reads what RDB is made of. Errors are those of the source; what is no RDB is [`ErrorKind::InvalidData`].
pub(super) struct Reader<R>(pub(super) R);

impl<R: Read> Reader<R> {
    /// The next `len` bytes; room is made as they come, since `len` may be anything.
    fn take(&mut self, len: u64) -> io::Result<Vec<u8>> {
        let mut taken = Vec::with_capacity(len.min(ROOM) as usize);
        if self.0.by_ref().take(len).read_to_end(&mut taken)? as u64 == len {
            Ok(taken)
        } else {
            Err(ErrorKind::UnexpectedEof.into())
        }
    }

    /// Passes over `len` bytes.
    pub(super) fn skip(&mut self, len: u64) -> io::Result<()> {
        let passed = io::copy(&mut self.0.by_ref().take(len), &mut io::sink())?;
        if passed == len { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn length(&mut self) -> io::Result<Length> {
        let [first] = self.array()?;
        let low = first & 0x3f;
        Ok(match first >> 6 {
            0b00 => Length::Of(low.into()),
            0b01 => Length::Of(u16::from_be_bytes([low, self.array::<1>()?[0]]).into()),
            0b11 => Length::Encoded(low.into()),
            _ if first == LEN_32 => Length::Of(u32::from_be_bytes(self.array()?).into()),
            _ if first == LEN_64 => Length::Of(u64::from_be_bytes(self.array()?)),
            _ => return Err(ErrorKind::InvalidData.into()),
        })
    }

    /// A length, or a number that is written like one.
    pub(super) fn number(&mut self) -> io::Result<u64> {
        match self.length()? {
            Length::Of(len) => Ok(len),
            Length::Encoded(_) => Err(ErrorKind::InvalidData.into()),
        }
    }

    /// A string of at most `most` bytes.
    pub(super) fn string(&mut self, most: u64) -> io::Result<Bytes> {
        let number: i64 = match self.length()? {
            Length::Of(len) if len <= most => return self.take(len).map(Bytes::from),
            Length::Encoded(INT_8) => i8::from_le_bytes(self.array()?).into(),
            Length::Encoded(INT_16) => i16::from_le_bytes(self.array()?).into(),
            Length::Encoded(INT_32) => i32::from_le_bytes(self.array()?).into(),
            Length::Encoded(LZF) => {
                let (packed, len) = (self.number()?, self.number()?);
                let packed = self.take(packed)?;
                let unpacked = if len <= most { lzf::unpack(&packed, len as usize) } else { None };
                return unpacked.map(Bytes::from).ok_or_else(|| ErrorKind::InvalidData.into());
            }
            _ => return Err(ErrorKind::InvalidData.into()),
        };
        Ok(Bytes::copy_from_slice(&format_i64(number)))
    }

    /// Passes over a string of any length.
    pub(super) fn skip_string(&mut self) -> io::Result<()> {
        let bytes = match self.length()? {
            Length::Of(len) => len,
            Length::Encoded(INT_8) => 1,
            Length::Encoded(INT_16) => 2,
            Length::Encoded(INT_32) => 4,
            Length::Encoded(LZF) => {
                let (packed, _) = (self.number()?, self.number()?);
                packed
            }
            Length::Encoded(_) => return Err(ErrorKind::InvalidData.into()),
        };
        self.skip(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: Option<&str>) {
        let mut read = Reader(bytes);
        let found = read.string(1000).ok();
        assert_eq!(found.as_deref(), expected.map(str::as_bytes));
        let mut passed = Reader(bytes);
        if found.is_some() {
            assert!(passed.skip_string().is_ok());
            assert_eq!(passed.0, read.0, "it is passed over as far as it is read");
        }
    }

    #[test]
    fn every_form_of_a_length_is_read() {
        check(b"\x03abc", Some("abc"));
        check(b"\x40\x03abc", Some("abc"));
        check(b"\x80\0\0\0\x03abc", Some("abc"));
        check(b"\x81\0\0\0\0\0\0\0\x03abc", Some("abc"));
        check(b"\xc0\xff", Some("-1"));
        check(b"\xc1\0\x80", Some("-32768"));
        check(b"\xc2\0\0\0\x80", Some("-2147483648"));
    }

    #[test]
    fn what_ends_too_early_or_is_too_long_is_refused() {
        for bytes in [&b""[..], b"\x03ab", b"\x40", b"\x80\0\0", b"\x82", b"\xc0", b"\xc4", b"\xc3\xc0\0"] {
            check(bytes, None);
        }
        check(b"\x81\xff\xff\xff\xff\xff\xff\xff\xff", None);
        let long = [&b"\x44\x00"[..], &[b'x'; 1024]].concat();
        check(&long, None);
        check(b"\xc3\x02\x80\xff\xff\xff\xff\x00a", None);
    }

    #[test]
    fn a_compressed_string_is_unpacked() {
        check(b"\xc3\x04\x0a\x00a\xe0\x00\x00", None);
        check(b"\xc3\x05\x0a\x00a\xe0\x00\x00", Some("aaaaaaaaaa"));
    }
}
