//! Integers: the one spelling Redis accepts for each, and a formatter that allocates nothing.

use std::ops::Deref;

/// Parses the canonical decimal spelling of an `i64`, and no other.
///
/// Redis stores a text as an integer only when printing that integer gives the text back, so `+1`, `01`,
/// `-0`, an empty text and blanks are all refused.
#[inline]
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    match text.split_first()? {
        (b'-', digits) => match parse_u64(digits)? {
            0 => None,
            magnitude => 0i64.checked_sub_unsigned(magnitude),
        },
        _ => i64::try_from(parse_u64(text)?).ok(),
    }
}

/// Parses the canonical decimal spelling of a `u64`: digits only, no leading zero.
#[inline]
pub fn parse_u64(text: &[u8]) -> Option<u64> {
    let (&first, rest) = text.split_first()?;
    match first {
        b'0' if rest.is_empty() => return Some(0),
        b'1'..=b'9' => {}
        _ => return None,
    }
    rest.iter().try_fold(u64::from(first - b'0'), |value, &byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// The longest text of a 64-bit integer: `-9223372036854775808` and `18446744073709551615` tie.
const MAX_LEN: usize = 20;

/// The decimal text of an integer, held on the stack; it derefs to its bytes.
#[derive(Clone, Copy)]
pub struct Digits {
    /// Filled from its end, so that digits can be produced lowest first.
    text: [u8; MAX_LEN],
    /// Where the text starts in `text`.
    start: u8,
}

impl Deref for Digits {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.text[usize::from(self.start)..]
    }
}

impl AsRef<[u8]> for Digits {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl std::fmt::Debug for Digits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(self))
    }
}

/// The two digits of every number below one hundred: halves the divisions of a long number.
const PAIRS: &[u8; 200] = b"0001020304050607080910111213141516171819\
    2021222324252627282930313233343536373839\
    4041424344454647484950515253545556575859\
    6061626364656667686970717273747576777879\
    8081828384858687888990919293949596979899";

/// Writes the digits of `value` so that they end where `text` ends; gives where they start.
///
/// `text` has room for 20 digits.
#[inline]
pub(crate) fn write_at_end(text: &mut [u8], mut value: u64) -> usize {
    let mut start = text.len();
    while value >= 10 {
        let pair = (value % 100) as usize * 2;
        value /= 100;
        start -= 2;
        text[start..start + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
    }
    // The last pair came from 10..=99, so it has no leading zero; only an odd digit is left, if any.
    if value > 0 || start == text.len() {
        start -= 1;
        text[start] = b'0' + value as u8;
    }
    start
}

/// The decimal text of a `u64`.
#[inline]
pub fn format_u64(value: u64) -> Digits {
    let mut text = [0; MAX_LEN];
    let start = write_at_end(&mut text, value) as u8;
    Digits { text, start }
}

/// The decimal text of an `i64`.
#[inline]
pub fn format_i64(value: i64) -> Digits {
    let mut digits = format_u64(value.unsigned_abs());
    if value < 0 {
        // 19 digits at most for a magnitude of 2^63, so there is room for the sign.
        digits.start -= 1;
        digits.text[usize::from(digits.start)] = b'-';
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, expected: Option<i64>) {
        assert_eq!(parse_i64(text.as_bytes()), expected, "{text:?}");
    }

    #[test]
    fn only_the_canonical_spelling_is_an_integer() {
        check("0", Some(0));
        check("7", Some(7));
        check("-7", Some(-7));
        check("1234567890", Some(1_234_567_890));
        for text in
            ["", "-", "+1", "01", "-0", "-01", "00", " 1", "1 ", "1.0", "1e3", "0x1", "--1", "1\0", "a"]
        {
            check(text, None);
        }
    }

    #[test]
    fn the_ends_of_the_range_are_inside_and_their_neighbours_are_not() {
        check("9223372036854775807", Some(i64::MAX));
        check("-9223372036854775808", Some(i64::MIN));
        check("9223372036854775808", None);
        check("-9223372036854775809", None);
        check("18446744073709551616", None);
        check("99999999999999999999999", None);
        assert_eq!(parse_u64(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(parse_u64(b"18446744073709551616"), None);
        assert_eq!(parse_u64(b"-1"), None);
    }

    #[test]
    fn every_length_formats_like_the_standard_library() {
        let mut value = 1u64;
        for _ in 0..20 {
            for near in [value - 1, value, value + 1, value.wrapping_mul(7)] {
                assert_eq!(&*format_u64(near), near.to_string().as_bytes());
            }
            value = value.wrapping_mul(10);
        }
        assert_eq!(&*format_i64(i64::MIN), i64::MIN.to_string().as_bytes());
        assert_eq!(&*format_u64(u64::MAX), u64::MAX.to_string().as_bytes());
    }

    proptest! {
        #[test]
        fn formatting_and_parsing_are_inverse(value: i64, shift in 0u32..64) {
            let value = value >> shift;
            prop_assert_eq!(format_i64(value).to_vec(), value.to_string().into_bytes());
            prop_assert_eq!(parse_i64(&format_i64(value)), Some(value));
        }

        #[test]
        fn a_parsed_text_is_its_own_format(text in "[-+ 0-9]{0,21}") {
            if let Some(value) = parse_i64(text.as_bytes()) {
                prop_assert_eq!(value.to_string(), text);
            }
        }
    }
}
