//! How an entry lies in the arena: encoding, decoding and the key behind the header.
//!
//! All numbers are little endian. `word(n)` is the n-th group of eight bytes.
//!
//! ```text
//! word 0   place
//! word 1   sequence (56 bits) | flags (8 bits)
//! word 2   value size (32) | access (24) | key length (8; unused for a long key)
//! word 3   expiry                                    only with HAS_EXPIRY
//! 2 words  sequence of the expiry record, its place  only with HAS_CHANGE
//! 4 bytes  key length                                only with LONG_KEY
//! then     the key
//! ```
//!
//! This layout lives in memory only and may change at will.

use super::{Entry, ExpiryChange, Place};
use std::hint::black_box;

/// The fixed part of a stored entry.
pub(super) const HEADER_LEN: usize = 24;

const EXPIRY_LEN: usize = 8;
const CHANGE_LEN: usize = 16;
const LONG_KEY_LEN: usize = 4;

const DATA_TYPE_MASK: u8 = 0x0f;
const HAS_EXPIRY: u8 = 0x10;
const HAS_CHANGE: u8 = 0x20;
const LONG_KEY: u8 = 0x40;
/// Set in slots of the arena that hold no entry, so that a sweep over a page can tell.
const VACANT: u8 = 0x80;

const FLAGS_AT: usize = 15;
const ACCESS_AT: usize = 20;
const KEY_LEN_AT: usize = 23;

const SEQUENCE_MASK: u64 = (1 << 56) - 1;
const ACCESS_MASK: u32 = (1 << 24) - 1;

fn flags_of(key_len: usize, entry: &Entry) -> u8 {
    let mut flags = entry.data_type & DATA_TYPE_MASK;
    if entry.expiry != 0 {
        flags |= HAS_EXPIRY;
    }
    if entry.change.is_some() {
        flags |= HAS_CHANGE;
    }
    if key_len > usize::from(u8::MAX) {
        flags |= LONG_KEY;
    }
    flags
}

/// Where the key begins for an entry with these flags.
fn key_at(flags: u8) -> usize {
    let mut at = HEADER_LEN;
    if flags & (HAS_EXPIRY | HAS_CHANGE | LONG_KEY) != 0 {
        at += usize::from(flags & HAS_EXPIRY != 0) * EXPIRY_LEN
            + usize::from(flags & HAS_CHANGE != 0) * CHANGE_LEN
            + usize::from(flags & LONG_KEY != 0) * LONG_KEY_LEN;
    }
    at
}

/// How many bytes the entry takes when stored.
pub(super) fn stored_len(key_len: usize, entry: &Entry) -> usize {
    key_at(flags_of(key_len, entry)) + key_len
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("a slice of eight bytes"))
}

fn put_word(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// Writes the entry and its key to the front of `bytes`.
pub(super) fn encode(entry: &Entry, key: &[u8], bytes: &mut [u8]) {
    debug_assert!(entry.data_type <= DATA_TYPE_MASK);
    let flags = flags_of(key.len(), entry);
    let at = key_at(flags);
    let bytes = &mut bytes[..at + key.len()];
    encode_header(entry, key.len(), flags, bytes);
    if flags & LONG_KEY != 0 {
        let len = u32::try_from(key.len()).expect("a key is at most 512 MB");
        bytes[at - LONG_KEY_LEN..at].copy_from_slice(&len.to_le_bytes());
    }
    bytes[at..].copy_from_slice(key);
}

/// Writes everything of the entry but its key over one of the same shape; false, with nothing
/// written, if the shape (and so the place of the key) differs.
pub(super) fn overwrite(entry: &Entry, bytes: &mut [u8]) -> bool {
    let was = bytes[FLAGS_AT];
    let key_len = usize::from(bytes[KEY_LEN_AT]);
    let flags = flags_of(key_len, entry) | (was & LONG_KEY);
    if (flags ^ was) & !DATA_TYPE_MASK != 0 {
        return false;
    }
    encode_header(entry, key_len, flags, bytes);
    true
}

fn encode_header(entry: &Entry, key_len: usize, flags: u8, bytes: &mut [u8]) {
    debug_assert!(entry.sequence <= SEQUENCE_MASK && entry.access <= ACCESS_MASK);
    // A long key has its length elsewhere; the byte is then zero.
    let short_len = u8::try_from(key_len).unwrap_or(0);
    put_word(bytes, 0, entry.place.0);
    put_word(bytes, 8, (entry.sequence & SEQUENCE_MASK) | u64::from(flags) << 56);
    let access = u64::from(entry.access & ACCESS_MASK);
    put_word(bytes, 16, u64::from(entry.value_size) | access << 32 | u64::from(short_len) << 56);
    let mut at = HEADER_LEN;
    if flags & HAS_EXPIRY != 0 {
        put_word(bytes, at, entry.expiry);
        at += EXPIRY_LEN;
    }
    if let Some(change) = entry.change {
        debug_assert!(change.sequence <= SEQUENCE_MASK);
        put_word(bytes, at, change.sequence & SEQUENCE_MASK);
        put_word(bytes, at + 8, change.place.0);
    }
}

/// Loads the entry at the front of `bytes`, which may be of a key of this length, to where that ends, and gives
/// what seem to be sequence and value size.
#[inline]
pub(super) fn touch(bytes: &[u8], key_len: usize) -> (u64, u32) {
    black_box(bytes.get(HEADER_LEN + key_len).copied());
    (word(bytes, 8) & SEQUENCE_MASK, word(bytes, 16) as u32)
}

/// Reads the entry at the front of `bytes`.
#[inline]
pub(super) fn decode(bytes: &[u8]) -> Entry {
    let second = word(bytes, 8);
    let third = word(bytes, 16);
    let flags = second.to_le_bytes()[7];
    let mut entry = Entry {
        place: Place(word(bytes, 0)),
        sequence: second & SEQUENCE_MASK,
        value_size: third as u32,
        data_type: flags & DATA_TYPE_MASK,
        access: (third >> 32) as u32 & ACCESS_MASK,
        expiry: 0,
        change: None,
    };
    let mut at = HEADER_LEN;
    if flags & HAS_EXPIRY != 0 {
        entry.expiry = word(bytes, at);
        at += EXPIRY_LEN;
    }
    if flags & HAS_CHANGE != 0 {
        let place = Place(word(bytes, at + 8));
        entry.change = Some(ExpiryChange { sequence: word(bytes, at), place });
    }
    entry
}

/// The key of the entry at the front of `bytes`.
#[inline]
pub(super) fn key(bytes: &[u8]) -> &[u8] {
    let flags = bytes[FLAGS_AT];
    let at = key_at(flags);
    let len = if flags & LONG_KEY == 0 {
        usize::from(bytes[KEY_LEN_AT])
    } else {
        let len = bytes[at - LONG_KEY_LEN..at].try_into().expect("a slice of four bytes");
        u32::from_le_bytes(len) as usize
    };
    &bytes[at..at + len]
}

/// Whether the entry at the front of `bytes` is of this key.
#[inline]
pub(super) fn is_of(bytes: &[u8], key: &[u8]) -> bool {
    if bytes[FLAGS_AT] & (HAS_EXPIRY | HAS_CHANGE | LONG_KEY) != 0 {
        return self::key(bytes) == key;
    }
    usize::from(bytes[KEY_LEN_AT]) == key.len() && are_equal(&bytes[HEADER_LEN..HEADER_LEN + key.len()], key)
}

/// Compares slices of one length here, word by word: for a short key the call of a function would take longer.
#[inline]
fn are_equal(one: &[u8], other: &[u8]) -> bool {
    let (Some(one_end), Some(other_end)) = (one.last_chunk::<8>(), other.last_chunk::<8>()) else {
        return one.iter().eq(other);
    };
    one_end == other_end && one.as_chunks::<8>().0.iter().eq(other.as_chunks::<8>().0)
}

/// Sets the access clock of the entry at the front of `bytes`.
pub(super) fn set_access(bytes: &mut [u8], access: u32) {
    bytes[ACCESS_AT..KEY_LEN_AT].copy_from_slice(&access.to_le_bytes()[..3]);
}

/// Marks a slot of the arena as holding no entry. Encoding an entry into it takes the mark away.
pub(super) fn mark_vacant(bytes: &mut [u8]) {
    bytes[FLAGS_AT] = VACANT;
}

/// Whether the slot was marked by [`mark_vacant`].
pub(super) fn is_vacant(bytes: &[u8]) -> bool {
    bytes[FLAGS_AT] & VACANT != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(expiry: u64, change: bool) -> Entry {
        Entry {
            place: Place::new(0x00ab_cdef, 0x12_3456_789a),
            sequence: SEQUENCE_MASK - 1,
            value_size: u32::MAX,
            data_type: 15,
            access: ACCESS_MASK,
            expiry,
            change: change
                .then(|| ExpiryChange { sequence: SEQUENCE_MASK, place: Place::new(7, (1 << 40) - 1) }),
        }
    }

    #[test]
    fn every_shape_comes_back_as_it_was_stored() {
        for key_len in [0, 1, 7, 8, 13, 16, 24, 255, 256, 70_000] {
            for (expiry, change) in [(0, false), (u64::MAX, false), (0, true), (1, true)] {
                let (entry, key_bytes) = (entry(expiry, change), vec![0xa5; key_len]);
                let len = stored_len(key_len, &entry);
                let mut bytes = vec![0; len + 8];
                encode(&entry, &key_bytes, &mut bytes);
                assert_eq!(decode(&bytes), entry);
                assert_eq!(key(&bytes), key_bytes);
                assert!(is_of(&bytes, &key_bytes));
                for changed in 0..key_len.min(40) {
                    let mut other = key_bytes.clone();
                    other[changed] ^= 1;
                    assert!(!is_of(&bytes, &other), "byte {changed} of {key_len}");
                }
                assert!(!is_of(&bytes, &[&key_bytes[..], b"x"].concat()));
                assert_eq!(bytes[len..], [0; 8], "nothing is written past the stored length");
            }
        }
    }

    #[test]
    fn a_key_of_sixteen_bytes_without_expiry_takes_forty() {
        assert_eq!(stored_len(16, &entry(0, false)), 40);
        assert_eq!(stored_len(16, &entry(1, false)), 48);
        assert_eq!(stored_len(16, &entry(1, true)), 64);
    }

    #[test]
    fn overwriting_keeps_the_key_and_refuses_another_shape() {
        for key_len in [3, 300] {
            let key_bytes = vec![9; key_len];
            let mut bytes = vec![0; 400];
            encode(&entry(5, false), &key_bytes, &mut bytes);
            let newer = Entry { expiry: 6, sequence: 1, ..entry(6, false) };
            assert!(overwrite(&newer, &mut bytes));
            assert!(!overwrite(&entry(0, false), &mut bytes));
            assert!(!overwrite(&entry(6, true), &mut bytes));
            assert_eq!((decode(&bytes), key(&bytes)), (newer, &key_bytes[..]));
        }
    }

    #[test]
    fn the_access_clock_is_set_without_touching_its_neighbours() {
        let mut bytes = vec![0; 64];
        encode(&entry(0, false), b"key", &mut bytes);
        set_access(&mut bytes, 0x0001_0203);
        assert_eq!(decode(&bytes), Entry { access: 0x0001_0203, ..entry(0, false) });
        assert_eq!(key(&bytes), b"key");
    }
}
