//! Arguments of the commands on keys of any type.

use super::{Args, Generator};

impl Generator {
    pub(super) fn expire(&mut self, when: Vec<u8>) -> Args {
        let mut args = vec![self.key(), when];
        let words: usize = if self.rng.bool() { 0 } else { self.rng.usize(1..3) };
        for _ in 0..words {
            let word = self.rng.choice(["NX", "XX", "GT", "LT", "XY"]).expect("not empty");
            args.push(self.cased(word));
        }
        args
    }

    pub(super) fn copy(&mut self) -> Args {
        let mut args = vec![self.key(), self.key()];
        for _ in 0..self.rng.usize(..3) {
            if self.rng.bool() {
                args.push(self.cased("REPLACE"));
            } else {
                args.extend([self.cased("DB"), self.db()]);
            }
        }
        args
    }

    pub(super) fn scan(&mut self) -> Args {
        const CURSORS: [&str; 10] = ["0", "0", "0", "0", "00", "abc", "", "18446744073709551616", "1x", "0 "];
        let mut args = vec![self.pick(&CURSORS)];
        for _ in 0..self.rng.usize(..4) {
            match self.rng.u8(..3) {
                0 => args.extend([self.cased("MATCH"), self.pattern()]),
                1 => {
                    let count = self.pick(&["1", "10", "1000", "0", "-1", "abc", "9223372036854775808"]);
                    args.extend([self.cased("COUNT"), count]);
                }
                _ => {
                    let kind = self.pick(&["string", "list", "STRING", "nosuch"]);
                    args.extend([self.cased("TYPE"), kind]);
                }
            }
        }
        args
    }

    pub(super) fn flush(&mut self) -> Args {
        let how = self.pick(&["SYNC", "async", "ASYNC", "nosuch"]);
        if self.rng.bool() { vec![] } else { vec![how] }
    }
}
