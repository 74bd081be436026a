//! Single arguments: keys, values, numbers, times, patterns; and how one is chosen.

use super::{Args, Generator};
use crate::differential::edges::{BAD_DBS, BAD_EXPIRIES, BIG, DBS, FLOATS, INTS, JUNK};

impl Generator {
    pub(super) fn choose(&mut self, from: &[&[&str]]) -> Args {
        let args = self.rng.choice(from).expect("not empty");
        args.iter().map(|arg| arg.as_bytes().to_vec()).collect()
    }

    pub(super) fn one_in(&mut self, n: u32) -> bool {
        self.rng.u32(..n) == 0
    }

    pub(super) fn pick(&mut self, from: &[&str]) -> Vec<u8> {
        self.rng.choice(from).expect("not empty").as_bytes().to_vec()
    }

    pub(super) fn junk(&mut self) -> Vec<u8> {
        self.rng.choice(JUNK).expect("not empty").to_vec()
    }

    pub(super) fn up_to(&mut self, most: usize, mut make: impl FnMut(&mut Self) -> Vec<u8>) -> Args {
        (0..self.rng.usize(..=most)).map(|_| make(self)).collect()
    }

    /// A name as it is, in lower case, or in both.
    pub(super) fn cased(&mut self, name: &str) -> Vec<u8> {
        match self.rng.u8(..3) {
            0 => name.as_bytes().to_vec(),
            1 => name.to_ascii_lowercase().into_bytes(),
            _ => {
                let mixed = name.bytes().map(|b| if self.rng.bool() { b.to_ascii_lowercase() } else { b });
                mixed.collect()
            }
        }
    }

    pub(super) fn key(&mut self) -> Vec<u8> {
        self.rng.choice(self.keys.as_slice()).expect("not empty").clone()
    }

    pub(super) fn value(&mut self) -> Vec<u8> {
        match self.rng.u32(..1000) {
            0..=299 => self.int(),
            300..=399 => self.float(),
            400..=799 => (0..self.rng.usize(..12)).map(|_| self.rng.alphanumeric() as u8).collect(),
            800..=949 => (0..self.rng.usize(..40)).map(|_| self.rng.u8(..)).collect(),
            950..=996 => vec![self.rng.u8(..); self.rng.usize(..600)],
            _ => vec![self.rng.u8(..); self.rng.usize(..=BIG)],
        }
    }

    pub(super) fn int(&mut self) -> Vec<u8> {
        match self.rng.u8(..3) {
            0 => self.pick(&INTS),
            1 => self.rng.i64(-1000..1000).to_string().into_bytes(),
            _ => self.rng.i64(..).to_string().into_bytes(),
        }
    }

    pub(super) fn float(&mut self) -> Vec<u8> {
        match self.rng.u8(..4) {
            0 | 1 => self.pick(&FLOATS),
            2 => format!("{:.*}", self.rng.usize(..20), (self.rng.f64() - 0.5) * 1e4).into_bytes(),
            _ => format!("{}e{}", self.rng.i32(-99..99), self.rng.i32(-25..25)).into_bytes(),
        }
    }

    pub(super) fn index(&mut self) -> Vec<u8> {
        if self.one_in(4) { self.pick(&INTS) } else { self.rng.i32(-30..30).to_string().into_bytes() }
    }

    pub(super) fn db(&mut self) -> Vec<u8> {
        if self.one_in(8) { self.pick(&BAD_DBS) } else { self.pick(&DBS) }
    }

    pub(super) fn pattern(&mut self) -> Vec<u8> {
        const PATTERNS: [&str; 20] = [
            "*",
            "key:*",
            "key:?",
            "key:1[0-9]",
            "key:[^1]*",
            "[a-z]*",
            "[z-a]*",
            "?",
            "",
            "\\[a-c\\]\\*\\?",
            "[",
            "[a",
            "[]",
            "[^]",
            "\\",
            "\\\\",
            "**:***",
            "*y*:*1*",
            "?ey:[\\1]",
            "K",
        ];
        if self.one_in(6) { self.key() } else { self.pick(&PATTERNS) }
    }

    pub(super) fn pairs(&mut self) -> Args {
        (0..self.rng.usize(1..5)).flat_map(|_| [self.key(), self.value()]).collect()
    }

    pub(super) fn bit(&mut self) -> Vec<u8> {
        if self.one_in(15) { self.int() } else { self.pick(&["0", "1"]) }
    }

    pub(super) fn counter(&mut self) -> Vec<u8> {
        if self.one_in(12) { self.key() } else { self.rng.choice(&self.counters).expect("not empty").clone() }
    }

    pub(super) fn seconds(&mut self) -> Vec<u8> {
        self.when(10_000..3_000_000_000)
    }

    pub(super) fn millis(&mut self) -> Vec<u8> {
        self.when(10_000_000..3_000_000_000_000)
    }

    /// From 2096 on, or long ago.
    pub(super) fn at_seconds(&mut self) -> Vec<u8> {
        if self.one_in(5) { self.when(1..1_577_836_800) } else { self.when(4_000_000_000..4_000_000_100) }
    }

    pub(super) fn at_millis(&mut self) -> Vec<u8> {
        if self.one_in(5) {
            self.when(1..1_577_836_800_000)
        } else {
            self.when(4_000_000_000_000..4_000_000_000_100)
        }
    }

    pub(super) fn when(&mut self, good: std::ops::Range<i64>) -> Vec<u8> {
        if self.one_in(6) { self.pick(&BAD_EXPIRIES) } else { self.rng.i64(good).to_string().into_bytes() }
    }
}
