//! LZF, read: literal runs and copies of what was unpacked before.
//!
//! `000lllll` is followed by l + 1 bytes that stand for themselves. `llldddddd dddddddd` copies l + 2 bytes that
//! begin d + 1 bytes back; with l = 7 the length goes on in a byte between the two.

const LONG: usize = 7;

/// Unpacks what has to become `len` bytes; `None` if it does not.
pub(super) fn unpack(packed: &[u8], len: usize) -> Option<Vec<u8>> {
    // A short text may claim to be long: room is made as it comes.
    let mut out = Vec::with_capacity(len.min(packed.len().saturating_mul(4)));
    let mut rest = packed.iter();
    while let Some(&control) = rest.next() {
        let (high, low) = (usize::from(control >> 5), usize::from(control & 0x1f));
        if high == 0 {
            let (literal, behind) = rest.as_slice().split_at_checked(low + 1)?;
            out.extend_from_slice(literal);
            rest = behind.iter();
        } else {
            let more = if high == LONG { usize::from(*rest.next()?) } else { 0 };
            let back = (low << 8) + usize::from(*rest.next()?) + 1;
            let start = out.len().checked_sub(back)?;
            // It may run into what it makes: a byte repeated.
            for at in start..start + high + more + 2 {
                out.push(out[at]);
            }
        }
        if out.len() > len {
            return None;
        }
    }
    (out.len() == len).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(packed: &[u8], expected: &str) {
        assert_eq!(unpack(packed, expected.len()).as_deref(), Some(expected.as_bytes()));
        assert_eq!(unpack(packed, expected.len() + 1), None);
        assert_eq!(unpack(packed, expected.len() - 1), None);
    }

    #[test]
    fn literals_and_copies_are_unpacked() {
        check(b"\x02abc", "abc");
        check(b"\x02abc\x20\x02", "abcabc");
        check(b"\x00a\xe0\x05\x00", "aaaaaaaaaaaaaaa");
        check(b"\x01ab\x40\x01\x00c", "abababc");
    }

    #[test]
    fn what_points_nowhere_or_ends_early_is_refused() {
        for packed in
            [&b"\x02ab"[..], b"\x20\x00", b"\x00a\x20\x01", b"\x00a\xe0", b"\x00a\xe0\x00", b"\x00a\x20"]
        {
            assert!((0..20).all(|len| unpack(packed, len).is_none()), "{packed:?}");
        }
    }
}
