//! Passing over values of other types, whose ends nothing but their own form tells.
//!
//! The forms are those of RDB up to version 12 (redis-server 7.4). Those packed into one string (ziplist,
//! listpack, intset, zipmap) are passed over as strings.

use super::string::Reader;
use std::io::{self, ErrorKind, Read};

/// A number of 64 bits, a time in milliseconds, the whole id of an entry of a stream.
const NUMBER: u64 = 8;
const TIME: u64 = 8;
const STREAM_ID: u64 = 16;

/// Type bytes of streams, with what each has more than the one before.
const STREAM: u8 = 15;
const STREAM_2: u8 = 19;
const STREAM_3: u8 = 21;

/// Types of values in the parts of a module.
mod part {
    pub(super) const END: u64 = 0;
    pub(super) const SIGNED: u64 = 1;
    pub(super) const UNSIGNED: u64 = 2;
    pub(super) const FLOAT: u64 = 3;
    pub(super) const DOUBLE: u64 = 4;
    pub(super) const STRING: u64 = 5;
}

impl<R: Read> Reader<R> {
    /// Passes over a value of this type byte.
    ///
    /// # Errors
    /// Those of the source; [`ErrorKind::Unsupported`] for a type byte whose form is not known.
    pub(super) fn skip_value(&mut self, kind: u8) -> io::Result<()> {
        match kind {
            0 | 9..=13 | 16 | 17 | 20 => self.skip_string(),
            1 | 2 | 14 => self.skip_each(Reader::skip_string),
            3 => self.skip_each(|reader| {
                reader.skip_string()?;
                reader.skip_score()
            }),
            4 => self.skip_each(Reader::skip_pair),
            5 => self.skip_each(|reader| {
                reader.skip_string()?;
                reader.skip(NUMBER)
            }),
            7 => {
                self.number()?;
                self.skip_parts()
            }
            18 => self.skip_each(|reader| {
                reader.number()?;
                reader.skip_string()
            }),
            STREAM | STREAM_2 | STREAM_3 => self.skip_stream(kind),
            24 => {
                self.skip(TIME)?;
                self.skip_each(|reader| {
                    reader.number()?;
                    reader.skip_pair()
                })
            }
            25 => {
                self.skip(TIME)?;
                self.skip_string()
            }
            _ => Err(ErrorKind::Unsupported.into()),
        }
    }

    /// Passes over a count, and so many of what `one` passes over.
    fn skip_each(&mut self, one: impl Fn(&mut Self) -> io::Result<()>) -> io::Result<()> {
        let count = self.number()?;
        (0..count).try_for_each(|_| one(self))
    }

    fn skip_pair(&mut self) -> io::Result<()> {
        self.skip_string()?;
        self.skip_string()
    }

    fn skip_numbers(&mut self, count: usize) -> io::Result<()> {
        (0..count).try_for_each(|_| self.number().map(drop))
    }

    /// A score as text behind its length; three lengths stand for what has no text.
    fn skip_score(&mut self) -> io::Result<()> {
        match self.array::<1>()? {
            [253..=255] => Ok(()),
            [len] => self.skip(len.into()),
        }
    }

    /// What a module has saved: parts that say their types, up to the end.
    pub(super) fn skip_parts(&mut self) -> io::Result<()> {
        loop {
            match self.number()? {
                part::END => return Ok(()),
                part::SIGNED | part::UNSIGNED => drop(self.number()?),
                part::FLOAT => self.skip(4)?,
                part::DOUBLE => self.skip(8)?,
                part::STRING => self.skip_string()?,
                _ => return Err(ErrorKind::InvalidData.into()),
            }
        }
    }

    fn skip_stream(&mut self, kind: u8) -> io::Result<()> {
        self.skip_each(Reader::skip_pair)?;
        // How many entries, and the last id.
        self.skip_numbers(3)?;
        if kind >= STREAM_2 {
            // The first id, the greatest deleted one, and how many were ever added.
            self.skip_numbers(5)?;
        }
        self.skip_each(|reader| reader.skip_group(kind))
    }

    fn skip_group(&mut self, kind: u8) -> io::Result<()> {
        self.skip_string()?;
        // The last id, and how many entries were read.
        self.skip_numbers(if kind >= STREAM_2 { 3 } else { 2 })?;
        // What is pending: the id, when it was delivered, how often.
        self.skip_each(|reader| {
            reader.skip(STREAM_ID + TIME)?;
            reader.skip_numbers(1)
        })?;
        self.skip_each(|reader| {
            // A consumer: its name, when it was seen, when active; what is pending for it.
            reader.skip_string()?;
            reader.skip(if kind >= STREAM_3 { 2 * TIME } else { TIME })?;
            reader.skip_each(|reader| reader.skip(STREAM_ID))
        })
    }
}
