//! Bits of a slice, the highest bit of a byte being its first: counting, searching, combining, and integers
//! of any width at any bit. Pure functions of slices, which know nothing of keys or replies.

/// A bit field of an integer: at most 64 bits, which a window of nine bytes holds wherever it begins.
const WINDOW: usize = 9;

/// Bit `offset`; what lies behind the end is 0.
pub(super) fn get(bytes: &[u8], offset: u64) -> bool {
    let byte = usize::try_from(offset / 8).ok().and_then(|index| bytes.get(index));
    byte.is_some_and(|byte| byte & mask(offset) != 0)
}

/// Sets bit `offset`, which lies within the slice.
pub(super) fn set(bytes: &mut [u8], offset: u64, on: bool) {
    let byte = &mut bytes[(offset / 8) as usize];
    *byte = if on { *byte | mask(offset) } else { *byte & !mask(offset) };
}

fn mask(offset: u64) -> u8 {
    0x80 >> (offset % 8)
}

/// How many bits are set.
pub(super) fn count(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let in_words: u64 = words.iter().map(|word| u64::from(u64::from_le_bytes(*word).count_ones())).sum();
    in_words + rest.iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>()
}

/// How many bits from `first` to `last`, both included and within the slice, are set.
pub(super) fn count_between(bytes: &[u8], first: u64, last: u64) -> u64 {
    let part = &bytes[(first / 8) as usize..=(last / 8) as usize];
    let before = part[0] & !(0xff >> (first % 8));
    let behind = part[part.len() - 1] & (0x7f >> (last % 8));
    count(part) - u64::from(before.count_ones()) - u64::from(behind.count_ones())
}

/// The first bit from `first` to `last`, both included and within the slice, that is `on`.
pub(super) fn find(bytes: &[u8], on: bool, first: u64, last: u64) -> Option<u64> {
    let part = &bytes[(first / 8) as usize..=(last / 8) as usize];
    // A byte in which the bits that are looked for are ones.
    let wanted = |byte: u8| if on { byte } else { !byte };
    let in_first = wanted(part[0]) & (0xff >> (first % 8));
    let found = if in_first != 0 {
        u64::from(in_first.leading_zeros())
    } else {
        let (words, _) = part[1..].as_chunks::<8>();
        let dull = [if on { 0 } else { 0xff }; 8];
        let start = 1 + 8 * words.iter().position(|word| *word != dull).unwrap_or(words.len());
        let behind = part[start..].iter().position(|byte| wanted(*byte) != 0)?;
        ((start + behind) * 8) as u64 + u64::from(wanted(part[start + behind]).leading_zeros())
    };
    Some(first / 8 * 8 + found).filter(|found| *found <= last)
}

/// How BITOP combines bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    And,
    Or,
    Xor,
    Not,
}

/// Combines slices bit by bit; the result is as long as the longest, the others are as if filled with zeros.
/// `Not` takes one slice.
pub(super) fn combine(operation: Operation, slices: &[&[u8]]) -> Vec<u8> {
    let longest = slices.iter().map(|slice| slice.len()).max().unwrap_or(0);
    let mut result = slices.first().map_or_else(Vec::new, |first| first.to_vec());
    result.resize(longest, 0);
    if operation == Operation::Not {
        result.iter_mut().for_each(|byte| *byte = !*byte);
    }
    for slice in &slices[1..] {
        let (both, rest) = result.split_at_mut(slice.len());
        let pairs = both.iter_mut().zip(*slice);
        match operation {
            Operation::And => {
                pairs.for_each(|(byte, other)| *byte &= other);
                rest.fill(0);
            }
            Operation::Or => pairs.for_each(|(byte, other)| *byte |= other),
            Operation::Xor => pairs.for_each(|(byte, other)| *byte ^= other),
            Operation::Not => {}
        }
    }
    result
}

/// The unsigned integer of `width` bits, 1 to 64, that begins at bit `offset`; what lies behind the end is 0.
pub(super) fn get_field(bytes: &[u8], offset: u64, width: u32) -> u64 {
    let start = usize::try_from(offset / 8).unwrap_or(usize::MAX).min(bytes.len());
    let part = &bytes[start..bytes.len().min(start.saturating_add(WINDOW))];
    let mut window = [0; 16];
    window[..part.len()].copy_from_slice(part);
    let shifted = u128::from_be_bytes(window) << (offset % 8);
    (shifted >> (128 - width)) as u64
}

/// Writes the lowest `width` bits, 1 to 64, of `value` at bit `offset`; they lie within the slice.
pub(super) fn set_field(bytes: &mut [u8], offset: u64, width: u32, value: u64) {
    let start = (offset / 8) as usize;
    let end = bytes.len().min(start + WINDOW);
    let part = &mut bytes[start..end];
    let mut window = [0; 16];
    window[..part.len()].copy_from_slice(part);
    let shift = 128 - width - (offset % 8) as u32;
    let ones = u128::from(u64::MAX >> (64 - width)) << shift;
    let changed = u128::from_be_bytes(window) & !ones | (u128::from(value) << shift) & ones;
    part.copy_from_slice(&changed.to_be_bytes()[..part.len()]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bits(bytes: &[u8]) -> Vec<bool> {
        (0..bytes.len() as u64 * 8).map(|offset| get(bytes, offset)).collect()
    }

    #[test]
    fn the_highest_bit_is_the_first() {
        let mut bytes = [0; 2];
        set(&mut bytes, 0, true);
        set(&mut bytes, 9, true);
        assert_eq!(bytes, [0x80, 0x40]);
        set(&mut bytes, 0, false);
        assert_eq!(
            (bytes, get(&bytes, 9), get(&bytes, 16), get(&bytes, u64::MAX)),
            ([0, 0x40], true, false, false)
        );
    }

    #[test]
    fn shorter_ones_are_filled_with_zeros() {
        let (long, short): (&[u8], &[u8]) = (&[0b1100, 0xff], &[0b1010]);
        assert_eq!(combine(Operation::And, &[long, short]), [0b1000, 0]);
        assert_eq!(combine(Operation::And, &[short, long]), [0b1000, 0]);
        assert_eq!(combine(Operation::Or, &[short, long]), [0b1110, 0xff]);
        assert_eq!(combine(Operation::Xor, &[long, short, short]), [0b1100, 0xff]);
        assert_eq!(combine(Operation::Not, &[long]), [0xf3, 0]);
        assert_eq!(combine(Operation::Or, &[&[], &[]]), [0; 0]);
    }

    proptest! {
        #[test]
        fn counts_and_searches_agree_with_looking_at_every_bit(
            bytes in prop::collection::vec(prop_oneof![Just(0), Just(0xff), any::<u8>()], 1..60),
            ends: (prop::sample::Index, prop::sample::Index),
            on: bool,
        ) {
            let all = bits(&bytes);
            let (one, other) = (ends.0.index(all.len()), ends.1.index(all.len()));
            let (first, last) = (one.min(other), one.max(other));
            let part = &all[first..=last];
            prop_assert_eq!(count(&bytes), all.iter().filter(|bit| **bit).count() as u64);
            let (first, last) = (first as u64, last as u64);
            prop_assert_eq!(count_between(&bytes, first, last), part.iter().filter(|bit| **bit).count() as u64);
            let found = part.iter().position(|bit| *bit == on).map(|index| first + index as u64);
            prop_assert_eq!(find(&bytes, on, first, last), found);
        }

        #[test]
        fn a_field_is_what_was_written_and_nothing_beside_it_changes(
            bytes in prop::collection::vec(any::<u8>(), 9..30), offset in 0u64..72, width in 1u32..=64, value: u64,
        ) {
            let width = width.min((bytes.len() as u64 * 8 - offset).min(64) as u32);
            let mut changed = bytes.clone();
            set_field(&mut changed, offset, width, value);
            prop_assert_eq!(get_field(&changed, offset, width), value & (u64::MAX >> (64 - width)));
            let (before, after) = (bits(&bytes), bits(&changed));
            let outside = |index: &usize| (*index as u64) < offset || *index as u64 >= offset + u64::from(width);
            for index in (0..before.len()).filter(outside) {
                prop_assert_eq!(before[index], after[index]);
            }
            let by_bits = after[offset as usize..][..width as usize].iter().fold(0, |sum, bit| sum << 1 | u64::from(*bit));
            prop_assert_eq!(get_field(&changed, offset, width), by_bits);
        }
    }
}
