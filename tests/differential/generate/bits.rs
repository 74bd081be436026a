//! Arguments of the commands on bits and of those on HyperLogLogs.

use super::{Args, Generator};
use crate::differential::edges::BIG;

impl Generator {
    /// As in `setrange`; with `#` some overflow, to what is refused or to 0.
    pub(super) fn bit_offset(&mut self) -> Vec<u8> {
        const REFUSED: [&str; 10] = [
            "-1",
            "4294967296",
            "4294967297",
            "9223372036854775807",
            "-9223372036854775808",
            "18446744073709551616",
            "abc",
            "",
            "#",
            "1.5",
        ];
        match self.rng.u32(..200) {
            0..=2 => self.rng.usize(..BIG * 8).to_string().into_bytes(),
            3..=10 => self.pick(&REFUSED),
            11..=15 => {
                self.pick(&["#1000000000000", "#4611686018427387904", "#9223372036854775807", "#-1", "#x"])
            }
            16..=60 => format!("#{}", self.rng.u32(..20)).into_bytes(),
            _ => self.rng.u32(..400).to_string().into_bytes(),
        }
    }

    /// None to three of start, end and unit; those behind the first `certain` ones come together.
    pub(super) fn bit_range(&mut self, args: &mut Args, certain: usize) {
        let given = if self.rng.bool() { self.rng.usize(certain..4) } else { 0 };
        let unit = self.rng.choice(["BIT", "BYTE", "BIT", "BITE"]).expect("not empty");
        let all = [self.index(), self.index(), self.cased(unit)];
        args.extend(all.into_iter().take(given));
    }

    pub(super) fn bitop(&mut self) -> Args {
        let word = self.rng.choice(["AND", "OR", "XOR", "NOT", "NAND"]).expect("not empty");
        let mut args = vec![self.cased(word), self.key(), self.key()];
        if word != "NOT" || self.one_in(4) {
            args.extend(self.up_to(3, Generator::key));
        }
        args
    }

    pub(super) fn bit_fields(&mut self, args: &mut Args, kinds: usize) {
        for _ in 0..self.rng.usize(..5) {
            let kind = if self.one_in(20) { 3 } else { self.rng.usize(..kinds) };
            let word = ["GET", "SET", "INCRBY", "OVERFLOW"][kind];
            args.push(self.cased(word));
            if kind == 3 {
                let how = self.rng.choice(["WRAP", "SAT", "FAIL", "SAT", "FAIL", "TRAP"]).expect("not empty");
                args.push(self.cased(how));
                continue;
            }
            args.push(self.bit_type());
            args.push(self.bit_offset());
            if kind > 0 {
                args.push(self.int());
            }
        }
    }

    pub(super) fn bit_type(&mut self) -> Vec<u8> {
        if self.one_in(40) {
            return self.pick(&["u64", "i65", "i0", "u", "", "8", "I8", "u8\0", "i-1", "u08"]);
        }
        let sign = if self.rng.bool() { 'i' } else { 'u' };
        let width = *self.rng.choice(&[1, 2, 4, 5, 7, 8, 9, 16, 31, 32, 33, 62, 63]).expect("not empty");
        let width = if sign == 'i' && self.one_in(6) { 64 } else { width };
        format!("{sign}{width}").into_bytes()
    }

    pub(super) fn several_counters(&mut self) -> Args {
        (0..self.rng.usize(1..4)).map(|_| self.counter()).collect()
    }

    /// Enough elements to pack a HyperLogLog, at times.
    pub(super) fn pfadd(&mut self) -> Args {
        let mut args = vec![self.counter()];
        let count = if self.one_in(8) { self.rng.usize(..2000) } else { self.rng.usize(..6) };
        for _ in 0..count {
            args.push(if self.one_in(3) { self.value() } else { self.rng.u32(..).to_string().into_bytes() });
        }
        args
    }

    /// Changes the magic or the remembered count. What is behind the header stays sound: where Redis finds
    /// damage there it keeps what it has added before, and kival does not.
    pub(super) fn damage_counter(&mut self) -> Args {
        let offset = if self.rng.bool() { self.rng.u8(..4) } else { self.rng.u8(8..16) };
        vec![self.counter(), offset.to_string().into_bytes(), vec![self.rng.u8(..)]]
    }
}
