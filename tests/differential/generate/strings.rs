//! Arguments of the commands on strings.

use super::{Args, Generator};
use crate::differential::edges::BIG;

impl Generator {
    pub(super) fn set(&mut self) -> Args {
        let mut args = vec![self.key(), self.value()];
        if self.rng.bool() {
            self.options(&mut args, &["NX", "XX", "GET", "KEEPTTL"], 4);
        }
        args
    }

    /// Options of `SET` and `GETEX`: some of `words`, and those with an expiry; they may conflict or repeat.
    pub(super) fn options(&mut self, args: &mut Args, words: &[&str], most: usize) {
        // As often one option as several, since most sets of several are syntax errors.
        let count = if self.rng.bool() { 1 } else { self.rng.usize(..=most) };
        for _ in 0..count {
            let (word, when) = match self.rng.usize(..words.len() + 4) {
                0 => ("EX", Some(self.seconds())),
                1 => ("PX", Some(self.millis())),
                2 => ("EXAT", Some(self.at_seconds())),
                3 => ("PXAT", Some(self.at_millis())),
                n => (words[n - 4], None),
            };
            args.push(self.cased(word));
            args.extend(when);
        }
    }

    /// Offsets are small, or refused: what `SETRANGE k 536870911 x` would take is tried once, elsewhere.
    pub(super) fn setrange(&mut self) -> Args {
        const REFUSED: [&str; 9] = [
            "-1",
            "536870912",
            "536870913",
            "4294967296",
            "9223372036854775807",
            "9223372036854775808",
            "-9223372036854775808",
            "abc",
            "1.5",
        ];
        let value = self.value();
        let offset = match self.rng.u32(..200) {
            0..=3 => self.rng.usize(..BIG).to_string().into_bytes(),
            4..=49 => self.pick(&REFUSED),
            _ => self.rng.u32(..60).to_string().into_bytes(),
        };
        vec![self.key(), offset, value]
    }

    pub(super) fn lcs(&mut self) -> Args {
        let mut args = vec![self.key(), self.key()];
        // One time in two without any, since most of several exclude each other.
        let count = if self.rng.bool() { 0 } else { self.rng.usize(1..4) };
        for _ in 0..count {
            let word =
                self.rng.choice(["LEN", "IDX", "IDX", "WITHMATCHLEN", "MINMATCHLEN"]).expect("not empty");
            args.push(self.cased(word));
            if word == "MINMATCHLEN" {
                args.push(if self.one_in(4) {
                    self.int()
                } else {
                    self.rng.u8(..5).to_string().into_bytes()
                });
            }
        }
        args
    }

    /// A payload of kival's, or one that redis-server has compressed, at times with a byte changed.
    pub(super) fn restore(&mut self) -> Args {
        const COMPRESSED: &[u8] = b"\0\xc3\x09(\x01aa\xe0\x1b\0\x01aa\x0a\0\xcf\x09/\xaa\xae%\x83\x1d";
        let value = self.value();
        let mut payload = if self.one_in(8) { COMPRESSED.to_vec() } else { kival_server::rdb::dump(&value) };
        if self.one_in(10) {
            let at = self.rng.usize(..payload.len());
            payload[at] ^= 1 << self.rng.u8(..8);
        }
        let lifetime = match self.rng.u8(..3) {
            0 => b"0".to_vec(),
            1 => self.millis(),
            _ => self.at_millis(),
        };
        let mut args = vec![self.key(), lifetime, payload];
        for _ in 0..self.rng.usize(..3) {
            let word =
                self.rng.choice(["REPLACE", "REPLACE", "ABSTTL", "IDLETIME", "FREQ"]).expect("not empty");
            args.push(self.cased(word));
            if word == "IDLETIME" || word == "FREQ" {
                args.push(if self.one_in(3) { self.int() } else { self.rng.u8(..).to_string().into_bytes() });
            }
        }
        args
    }
}
