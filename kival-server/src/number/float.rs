//! The texts Redis takes for a floating point number, and the 64-bit ones among its numbers.
//!
//! [`scan`] is the grammar of C's `strtod` (decimal, hexadecimal, `inf`, `infinity`), less what Redis refuses
//! afterwards: blanks, `nan`, anything left over. It does not round: `f64` and [`LongDouble`] each do that
//! to their own width.
//!
//! [`LongDouble`]: super::LongDouble

use super::long_double::{BINARY64, Rounded};

/// A floating point text taken apart; the slices borrow from it.
#[derive(Debug, PartialEq)]
pub(super) struct Literal<'a> {
    pub(super) negative: bool,
    pub(super) magnitude: Magnitude<'a>,
}

/// The size of a number as it was written.
#[derive(Debug, PartialEq)]
pub(super) enum Magnitude<'a> {
    /// `inf` or `infinity`.
    Infinite,
    /// `integer.fraction` in base ten, times ten to the `exponent`.
    Decimal { integer: &'a [u8], fraction: &'a [u8], exponent: i64 },
    /// `integer.fraction` in base sixteen, times two to the `exponent`.
    Hex { integer: &'a [u8], fraction: &'a [u8], exponent: i64 },
}

/// Takes a text apart, or `None` where `strtod` would stop before its end or Redis refuses the answer.
pub(super) fn scan(text: &[u8]) -> Option<Literal<'_>> {
    let (negative, text) = match text.split_first()? {
        (b'-', rest) => (true, rest),
        (b'+', rest) => (false, rest),
        _ => (false, text),
    };
    let magnitude = if text.eq_ignore_ascii_case(b"inf") || text.eq_ignore_ascii_case(b"infinity") {
        Magnitude::Infinite
    } else if let [b'0', b'x' | b'X', hex @ ..] = text {
        let (integer, fraction, tail) = point(hex, u8::is_ascii_hexdigit)?;
        Magnitude::Hex { integer, fraction, exponent: exponent(tail, b'p')? }
    } else {
        let (integer, fraction, tail) = point(text, u8::is_ascii_digit)?;
        Magnitude::Decimal { integer, fraction, exponent: exponent(tail, b'e')? }
    };
    Some(Literal { negative, magnitude })
}

/// Splits `digits[.digits]tail`; at least one digit is needed, on either side.
fn point(text: &[u8], is_digit: impl Fn(&u8) -> bool) -> Option<(&[u8], &[u8], &[u8])> {
    let digits = |text: &[u8]| text.iter().take_while(|byte| is_digit(byte)).count();
    let (integer, tail) = text.split_at(digits(text));
    let (fraction, tail) = match tail {
        [b'.', rest @ ..] => rest.split_at(digits(rest)),
        _ => (&[][..], tail),
    };
    (!integer.is_empty() || !fraction.is_empty()).then_some((integer, fraction, tail))
}

/// Reads what follows the digits: nothing, or `marker` with a signed decimal number.
///
/// The number saturates far outside of any format, and far inside of what an `i64` can still add to.
fn exponent(tail: &[u8], marker: u8) -> Option<i64> {
    const SATURATED: i64 = 1 << 60;
    let Some((&first, rest)) = tail.split_first() else { return Some(0) };
    if first.to_ascii_lowercase() != marker {
        return None;
    }
    let (negative, digits) = match rest {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        _ => (false, rest),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0i64, |value, digit| {
        value.saturating_mul(10).saturating_add(i64::from(digit - b'0')).min(SATURATED)
    });
    Some(if negative { -value } else { value })
}

/// Parses an `f64` exactly as Redis's `getDoubleFromObject`: infinities pass, NaN and blanks do not, and
/// neither does a number too large for the format or so small that it would round to zero.
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    let Literal { negative, magnitude } = scan(text)?;
    let value = match magnitude {
        Magnitude::Infinite => f64::INFINITY,
        Magnitude::Decimal { integer, fraction, .. } => {
            let unsigned = text.strip_prefix(b"-").unwrap_or(text);
            let value: f64 = std::str::from_utf8(unsigned).ok()?.parse().ok()?;
            let zero = integer.iter().chain(fraction).all(|digit| *digit == b'0');
            if value.is_infinite() || (value == 0.0 && !zero) {
                return None;
            }
            value
        }
        Magnitude::Hex { integer, fraction, exponent } => {
            binary64(BINARY64.round_hex(integer, fraction, exponent)?)
        }
    };
    Some(if negative { -value } else { value })
}

/// Puts a value already rounded to 53 bits in the bits of an `f64`.
fn binary64(value: Rounded) -> f64 {
    const IMPLIED: u64 = 1 << 52;
    if value.mantissa < IMPLIED {
        return f64::from_bits(value.mantissa); // Subnormal, or zero.
    }
    let biased = u64::from((value.exponent + 1075).unsigned_abs());
    f64::from_bits(biased << 52 | (value.mantissa - IMPLIED))
}

/// The text of a double as Redis's replies give it: C's `%.17g`.
pub fn format_f64(value: f64) -> String {
    /// Significant digits.
    const PRECISION: i32 = 17;
    let sign = if value.is_sign_negative() { "-" } else { "" };
    if value.is_nan() {
        return format!("{sign}nan");
    }
    if value.is_infinite() {
        return format!("{sign}inf");
    }
    let scientific = format!("{:.16e}", value.abs());
    let (mantissa, exponent) = scientific.split_once('e').expect("{:e} always writes an exponent");
    let exponent: i32 = exponent.parse().expect("{:e} always writes a decimal exponent");
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let digits = digits.trim_end_matches('0');
    if digits.is_empty() {
        return format!("{sign}0");
    }
    let (integer, fraction) = if (-4..PRECISION).contains(&exponent) {
        let places = usize::try_from(exponent + 1).unwrap_or(0);
        let integer = format!("{:0<places$}", &digits[..digits.len().min(places)]);
        let zeros = usize::try_from(-exponent - 1).unwrap_or(0);
        let fraction = format!("{:0>zeros$}{}", "", digits.get(places..).unwrap_or(""));
        (if integer.is_empty() { "0".to_owned() } else { integer }, fraction)
    } else {
        (digits[..1].to_owned(), digits[1..].to_owned())
    };
    let point = if fraction.is_empty() { "" } else { "." };
    if (-4..PRECISION).contains(&exponent) {
        format!("{sign}{integer}{point}{fraction}")
    } else {
        let direction = if exponent < 0 { '-' } else { '+' };
        format!("{sign}{integer}{point}{fraction}e{direction}{:02}", exponent.unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<f64>) {
        let parsed = parse_f64(text.as_bytes());
        assert_eq!(parsed.map(f64::to_bits), expected.map(f64::to_bits), "{text:?}: {parsed:?}");
    }

    /// The answers are those of `ZADD` and `ZSCORE` of redis-server 7.0.15.
    #[test]
    fn a_float_is_what_strtod_reads_to_the_end() {
        check("+1", Some(1.0));
        check(".5", Some(0.5));
        check("5.", Some(5.0));
        check("3.0e3", Some(3000.0));
        check("-0", Some(-0.0));
        check("0e99999", Some(0.0));
        check("1e308", Some(1e308));
        check("4e-324", Some(5e-324));
        check("inf", Some(f64::INFINITY));
        check("-INFINITY", Some(f64::NEG_INFINITY));
        for text in ["", " 1", "1 ", "nan", "1e", "1e+", ".", "-", "+", "--1", "+-1", "1\0", "1_0", "infin"] {
            check(text, None);
        }
    }

    #[test]
    fn hexadecimal_is_read_and_rounded_to_even() {
        check("0x10", Some(16.0));
        check("0X1P3", Some(8.0));
        check("-0x.8", Some(-0.5));
        check("0x20000000000001", Some(9007199254740992.0));
        check("0x20000000000003", Some(9007199254740996.0));
        check("0x1p-1074", Some(5e-324));
        check("0x1p-1022", Some(f64::MIN_POSITIVE));
        check("0x1.fffffffffffffp1023", Some(f64::MAX));
        check("0x1p-1075", None);
        check("0x1p1024", None);
        check("0x0p99999999999999999999", Some(0.0));
        for text in ["0x", "0x.", "0x1p", "0xg", "0b1", "0o1"] {
            check(text, None);
        }
    }

    #[test]
    fn what_the_format_cannot_hold_is_refused() {
        check("1e309", None);
        check("-1e309", None);
        check("1e-400", None);
        check("1e99999999999999999999999", None);
    }

    #[test]
    fn doubles_print_as_percent_17_g() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (10.0, "10"),
            (3000.0, "3000"),
            (0.1, "0.10000000000000001"),
            (-1.5, "-1.5"),
            (0.0001, "0.0001"),
            (0.00001, "1.0000000000000001e-05"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (123456.789, "123456.789"),
            (1e308, "1e+308"),
            (5e-324, "4.9406564584124654e-324"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(format_f64(value), expected);
        }
    }
}
