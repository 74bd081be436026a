//! The 80-bit `long double` of x86-64, which `INCRBYFLOAT` computes in and which Rust does not have.
//!
//! Redis reads both operands with `strtold`, adds them, and prints the sum with `%.17Lf`. Each of the three is
//! a correctly rounded function of exact values, so this file works on exact values (a big integer times a
//! power of two) and rounds once, half to even, where the processor would. It is not a general float: there
//! is no NaN, because no operation that keeps its result can make one.

use num_bigint::BigUint;

use super::float::{Literal, Magnitude, scan};

/// A binary floating point format: how many bits a mantissa has, and which powers of two its lowest bit
/// may stand for.
pub(super) struct Format {
    bits: u64,
    min_exponent: i64,
    max_exponent: i64,
}

/// The x87 format: an explicit 64-bit mantissa, subnormals down to 2^-16445.
const X87: Format = Format { bits: 64, min_exponent: -16445, max_exponent: 16320 };

/// The format of `f64`.
pub(super) const BINARY64: Format = Format { bits: 53, min_exponent: -1074, max_exponent: 971 };

/// `mantissa * 2^exponent`, with the mantissa as far to the left as its [`Format`] allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rounded {
    pub(super) mantissa: u64,
    pub(super) exponent: i32,
}

impl Format {
    /// Rounds `value * 2^exponent` half to even; `None` when it is too large for the format.
    ///
    /// `sticky` says that the exact value is a little above, by less than the lowest bit of `value`; the
    /// caller then passes more bits than the format keeps.
    fn round(&self, value: &BigUint, exponent: i64, sticky: bool) -> Option<Rounded> {
        let length = value.bits() as i64;
        let excess = (length - self.bits as i64).max(self.min_exponent - exponent);
        if length == 0 {
            return Some(Rounded { mantissa: 0, exponent: 0 });
        }
        let (mut mantissa, mut exponent) = if excess <= 0 {
            (low_u64(value) << -excess, exponent + excess)
        } else {
            let cut = excess as u64;
            let kept = low_u64(&(value >> cut));
            let half = value.bit(cut - 1);
            let above_half = sticky || value.trailing_zeros().is_some_and(|zeros| zeros < cut - 1);
            let up = half && (above_half || kept & 1 == 1);
            match kept.checked_add(u64::from(up)) {
                Some(mantissa) => (mantissa, exponent + excess),
                None => (1 << 63, exponent + excess + 1),
            }
        };
        if self.bits < 64 && mantissa >> self.bits != 0 {
            mantissa >>= 1; // Rounding carried into a bit that this format does not have.
            exponent += 1;
        }
        let exponent = i32::try_from(exponent).ok()?;
        (i64::from(exponent) <= self.max_exponent).then_some(Rounded { mantissa, exponent })
    }

    /// [`round`](Format::round), but a number that would round to nothing is out of range too, as for `strtod`.
    fn round_literal(&self, value: &BigUint, exponent: i64, sticky: bool) -> Option<Rounded> {
        self.round(value, exponent, sticky).filter(|rounded| rounded.mantissa != 0)
    }

    /// The value of hexadecimal digits times two to the `exponent`; `None` when out of range.
    pub(super) fn round_hex(&self, integer: &[u8], fraction: &[u8], exponent: i64) -> Option<Rounded> {
        let (digits, point) = significant(integer, fraction);
        if digits.is_empty() {
            return Some(Rounded { mantissa: 0, exponent: 0 });
        }
        let value = BigUint::parse_bytes(&digits, 16)?;
        let exponent = exponent.checked_add(point.checked_mul(4)?)?;
        // Saturated or absurd exponents end here, before anything is shifted by them.
        let top = exponent.checked_add(i64::try_from(value.bits()).ok()?)?;
        if top > self.max_exponent + 65 || top < self.min_exponent - 65 {
            return None;
        }
        self.round_literal(&value, exponent, false)
    }

    /// The value of decimal digits times ten to the `exponent`; `None` when out of range.
    fn round_decimal(&self, integer: &[u8], fraction: &[u8], exponent: i64) -> Option<Rounded> {
        /// No x87 value has more digits before the point, nor more zeros behind it.
        const DECADES: i64 = 5000;
        let (digits, point) = significant(integer, fraction);
        if digits.is_empty() {
            return Some(Rounded { mantissa: 0, exponent: 0 });
        }
        let exponent = exponent.checked_add(point)?;
        let top = exponent.checked_add(i64::try_from(digits.len()).ok()?)?;
        if top.abs() > DECADES {
            return None;
        }
        let value = BigUint::parse_bytes(&digits, 10)?;
        let scale = BigUint::from(10u8).pow(u32::try_from(exponent.unsigned_abs()).ok()?);
        if exponent >= 0 {
            return self.round_literal(&(value * scale), 0, false);
        }
        // Two bits more than the mantissa in the quotient: one decides the half, one stays for the rest.
        let shift = (self.bits + 2 + scale.bits()).saturating_sub(value.bits());
        let shifted = value << shift;
        let quotient = &shifted / &scale;
        let sticky = &quotient * &scale != shifted;
        self.round_literal(&quotient, -(shift as i64), sticky)
    }
}

/// The digits from the first to the last that is not zero, and the place value of the last one.
fn significant(integer: &[u8], fraction: &[u8]) -> (Vec<u8>, i64) {
    let mut digits: Vec<u8> =
        integer.iter().chain(fraction).copied().skip_while(|digit| *digit == b'0').collect();
    let written = digits.len();
    digits.truncate(digits.iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1));
    let trimmed = written - digits.len();
    (digits, trimmed as i64 - fraction.len() as i64)
}

/// The lowest 64 bits; where it is called, the value has no others.
fn low_u64(value: &BigUint) -> u64 {
    value.iter_u64_digits().next().unwrap_or(0)
}

/// A value of C's `long double` on x86-64, never NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongDouble {
    negative: bool,
    /// `None` is infinity.
    magnitude: Option<Rounded>,
}

impl LongDouble {
    /// The longest text Redis hands to `strtold`: its buffer, less the NUL.
    const MAX_TEXT: usize = 5 * 1024 - 1;

    /// Parses exactly the texts that Redis's `string2ld` accepts.
    pub fn parse(text: &[u8]) -> Option<LongDouble> {
        if text.len() > Self::MAX_TEXT {
            return None;
        }
        let Literal { negative, magnitude } = scan(text)?;
        let magnitude = match magnitude {
            Magnitude::Infinite => None,
            Magnitude::Decimal { integer, fraction, exponent } => {
                Some(X87.round_decimal(integer, fraction, exponent)?)
            }
            Magnitude::Hex { integer, fraction, exponent } => {
                Some(X87.round_hex(integer, fraction, exponent)?)
            }
        };
        Some(LongDouble { negative, magnitude })
    }

    /// The sum, rounded to the format; `None` when it is infinite or not a number.
    pub fn checked_add(self, other: LongDouble) -> Option<LongDouble> {
        let (left, right) = (self.magnitude?, other.magnitude?);
        let exponent = left.exponent.min(right.exponent);
        let widen = |part: Rounded| BigUint::from(part.mantissa) << (part.exponent - exponent).unsigned_abs();
        let (left, right) = (widen(left), widen(right));
        let (negative, sum) = if self.negative == other.negative {
            (self.negative, left + right)
        } else if left >= right {
            (self.negative, left - right)
        } else {
            (other.negative, right - left)
        };
        let magnitude = Some(X87.round(&sum, i64::from(exponent), false)?);
        Some(LongDouble { negative, magnitude })
    }

    /// The text Redis stores and replies: `%.17Lf` without the zeros at its end, and never `-0`.
    pub fn to_text(self) -> Vec<u8> {
        let sign = if self.negative { "-" } else { "" };
        let Some(Rounded { mantissa, exponent }) = self.magnitude else {
            return format!("{sign}inf").into_bytes();
        };
        if exponent >= 0 {
            let value = BigUint::from(mantissa) << exponent.unsigned_abs();
            return if mantissa == 0 { b"0".to_vec() } else { format!("{sign}{value}").into_bytes() };
        }
        let units = in_units(mantissa, exponent.unsigned_abs());
        if units == 0 {
            return b"0".to_vec();
        }
        let (integer, fraction) = (units / UNIT, units % UNIT);
        let text = format!("{sign}{integer}.{fraction:017}");
        text.trim_end_matches('0').trim_end_matches('.').as_bytes().to_vec()
    }
}

/// How many of the smallest printed unit make one: 17 decimals.
const UNIT: u128 = 10u128.pow(17);

/// `mantissa / 2^halvings` counted in units of 10^-17, half to even.
fn in_units(mantissa: u64, halvings: u32) -> u128 {
    // Below 2^121: a 64-bit mantissa times a 57-bit unit.
    let exact = u128::from(mantissa) * UNIT;
    if halvings > 122 {
        return 0; // Less than half a unit.
    }
    let (kept, rest) = (exact >> halvings, exact & ((1 << halvings) - 1));
    let half = 1 << (halvings - 1);
    kept + u128::from(rest > half || (rest == half && kept & 1 == 1))
}

/// Why an `INCRBYFLOAT` has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FloatError {
    /// One of the two operands is not a float.
    #[error("value is not a valid float")]
    NotAFloat,
    /// The sum leaves the format.
    #[error("increment would produce NaN or Infinity")]
    NotFinite,
}

/// What `INCRBYFLOAT` stores and replies: `old + increment`, to the byte.
pub fn incr_by_float(old: &[u8], increment: &[u8]) -> Result<Vec<u8>, FloatError> {
    let old = LongDouble::parse(old).ok_or(FloatError::NotAFloat)?;
    let increment = LongDouble::parse(increment).ok_or(FloatError::NotAFloat)?;
    old.checked_add(increment).map(LongDouble::to_text).ok_or(FloatError::NotFinite)
}

#[cfg(test)]
mod tests;
