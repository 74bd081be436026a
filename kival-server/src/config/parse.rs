//! Single values as Redis reads them: yes or no, integers, sizes with units, one of several words.
//!
//! Ranges are not checked here; they belong to a setting's row.

use super::error::ValueFault;

/// Longest run of digits that Redis reads as a size.
const MAX_DIGITS: usize = 127;

/// Units of sizes in bytes. As in Redis, `k` counts in thousands and `kb` in 1024s.
const UNITS: &[(&str, u64)] = &[
    ("", 1),
    ("b", 1),
    ("k", 1000),
    ("kb", 1 << 10),
    ("m", 1_000_000),
    ("mb", 1 << 20),
    ("g", 1_000_000_000),
    ("gb", 1 << 30),
];

/// `yes` or `no`, in any case.
pub(super) fn boolean(text: &[u8]) -> Result<bool, ValueFault> {
    if text.eq_ignore_ascii_case(b"yes") {
        Ok(true)
    } else if text.eq_ignore_ascii_case(b"no") {
        Ok(false)
    } else {
        Err(ValueFault::NotBool)
    }
}

/// A decimal integer in the only form that prints as itself: no `+`, blanks or leading zeros.
pub(super) fn integer(text: &[u8]) -> Result<i64, ValueFault> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let plain = match digits {
        [b'0'] => digits.len() == text.len(),
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !plain {
        return Err(ValueFault::NotInteger);
    }
    let text = str::from_utf8(text).map_err(|_| ValueFault::NotInteger)?;
    text.parse().map_err(|_| ValueFault::NotInteger)
}

/// A number from 0 to 100.
pub(super) fn percentile(text: &[u8]) -> Result<f64, ValueFault> {
    let number = crate::number::parse_f64(text).ok_or(ValueFault::NotPercentiles)?;
    if (0.0..=100.0).contains(&number) { Ok(number) } else { Err(ValueFault::NoPercentile) }
}

/// A size in bytes: digits and a unit. As in Redis, no digits are 0, and what does not fit 64 bits is the
/// greatest size there is (so that the range check tells what is wrong).
pub(super) fn memory(text: &[u8]) -> Result<u64, ValueFault> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let (_, scale) = UNITS
        .iter()
        .find(|(name, _)| unit.eq_ignore_ascii_case(name.as_bytes()))
        .ok_or(ValueFault::NotMemory)?;
    if digits.len() > MAX_DIGITS {
        return Err(ValueFault::NotMemory);
    }
    let number = digits
        .iter()
        .fold(0u64, |number, digit| number.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
    Ok(number.saturating_mul(*scale))
}

/// The index of a word among those allowed, in any case.
pub(super) fn word(text: &[u8], words: &'static [&'static str]) -> Result<usize, ValueFault> {
    words
        .iter()
        .position(|word| text.eq_ignore_ascii_case(word.as_bytes()))
        .ok_or(ValueFault::NotAWord { words })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_memory(text: &str, expected: Option<u64>) {
        assert_eq!(memory(text.as_bytes()).ok(), expected, "{text:?}");
    }

    #[test]
    fn sizes_have_the_units_of_redis() {
        check_memory("1024", Some(1024));
        check_memory("7b", Some(7));
        check_memory("1k", Some(1000));
        check_memory("1kb", Some(1024));
        check_memory("64K", Some(64_000));
        check_memory("2m", Some(2_000_000));
        check_memory("10MB", Some(10_485_760));
        check_memory("1g", Some(1_000_000_000));
        check_memory("1Gb", Some(1_073_741_824));
        check_memory("", Some(0));
        check_memory("gb", Some(0));
        check_memory("99999999999999999999", Some(u64::MAX));
        check_memory("99999999999999999gb", Some(u64::MAX));
        for bad in ["-1", "1x", "1.5mb", " 10mb", "10 mb", "1tb", "2bb", "+1"] {
            check_memory(bad, None);
        }
        check_memory(&"0".repeat(127), Some(0));
        check_memory(&"0".repeat(128), None);
    }

    #[track_caller]
    fn check_integer(text: &str, expected: Option<i64>) {
        assert_eq!(integer(text.as_bytes()).ok(), expected, "{text:?}");
    }

    #[test]
    fn integers_are_written_as_they_print() {
        check_integer("0", Some(0));
        check_integer("-3", Some(-3));
        check_integer("9223372036854775807", Some(i64::MAX));
        check_integer("-9223372036854775808", Some(i64::MIN));
        for bad in ["", "-", "+1", "01", "-0", " 1", "1 ", "1x", "9223372036854775808", "0x10", "1.0"] {
            check_integer(bad, None);
        }
    }

    #[test]
    fn yes_and_no_are_read_in_any_case() {
        assert_eq!(boolean(b"YES"), Ok(true));
        assert_eq!(boolean(b"no"), Ok(false));
        for bad in ["", "1", "true", "yes ", "on"] {
            assert_eq!(boolean(bad.as_bytes()), Err(ValueFault::NotBool), "{bad:?}");
        }
    }
}
