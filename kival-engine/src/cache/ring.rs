//! The bytes of the cached values, one behind the other in the order of their coming.
//!
//! New values go to the head, old ones leave at the tail. Positions count bytes from the first ever, so none
//! ever means another value. The memory is chunks of one size, a power of two, used again in turn; no entry lies
//! in two.
//!
//! An entry is 16 bytes of header (sequence in 56 bits, flags in 8; length of the value in 32, four bytes
//! unused), then the value, padded to eight bytes.

use std::collections::VecDeque;

/// Bytes of a line of the processor's cache, nearly everywhere.
const LINE: usize = 64;

/// Bytes of an entry that are loaded ahead, at most: what lies behind, the processor fetches by itself.
const MOST_TOUCHED: usize = 4 * LINE;

/// Bytes of an entry's header.
pub(super) const HEADER: usize = 16;
const FLAGS_AT: usize = 7;
const SIZE_AT: usize = 8;

/// How often the value was read, as far as this counts.
const READS: u8 = 3;
/// The value is held elsewhere.
const ELSEWHERE: u8 = 4;
/// No value: the rest of the chunk is empty.
const FILLER: u8 = 8;

const SEQUENCE_MASK: u64 = (1 << 56) - 1;

/// An entry as it lies in the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot<'a> {
    pub(super) sequence: u64,
    /// The value, if the ring holds it.
    pub(super) value: Option<&'a [u8]>,
    /// How often it was read, up to three times.
    pub(super) reads: u8,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Ring {
    chunks: VecDeque<Box<[u8]>>,
    spare: Option<Box<[u8]>>,
    /// Bytes of a chunk: two to the power of this.
    chunk_bits: u32,
    /// Position of the first chunk.
    base: u64,
    tail: u64,
    head: u64,
    /// Entries between tail and head.
    len: usize,
}

fn sequence(header: &[u8; HEADER]) -> u64 {
    u64::from_le_bytes(*header.first_chunk().expect("a header is longer")) & SEQUENCE_MASK
}

fn value<'a>(header: &[u8; HEADER], rest: &'a [u8]) -> Option<&'a [u8]> {
    let size = u32::from_le_bytes(*header[SIZE_AT..].first_chunk().expect("a header is longer"));
    if header[FLAGS_AT] & ELSEWHERE == 0 { Some(&rest[..size as usize]) } else { None }
}

fn entry_size(value: usize) -> usize {
    (HEADER + value).next_multiple_of(8)
}

impl Ring {
    /// A ring in chunks of `chunk` bytes, a power of two from eight on; it allocates nothing yet.
    pub(super) fn new(chunk: usize) -> Ring {
        debug_assert!(chunk.is_power_of_two() && chunk >= 8);
        let chunk_bits = chunk.trailing_zeros();
        Ring { chunks: VecDeque::new(), spare: None, chunk_bits, base: 0, tail: 0, head: 0, len: 0 }
    }

    fn chunk(&self) -> usize {
        1 << self.chunk_bits
    }

    /// What lies below it is gone.
    pub(super) fn tail(&self) -> u64 {
        self.tail
    }

    /// Where the next entry comes, at the earliest.
    pub(super) fn head(&self) -> u64 {
        self.head
    }

    /// Bytes from the oldest entry to the newest.
    pub(super) fn span(&self) -> u64 {
        if self.len == 0 { 0 } else { self.head - self.tail }
    }

    /// The oldest entry, and its position.
    pub(super) fn oldest(&self) -> Option<(u64, Slot<'_>)> {
        if self.len == 0 { None } else { Some((self.tail, self.get(self.tail))) }
    }

    /// Entries held.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes held.
    pub(super) fn memory(&self) -> u64 {
        ((self.chunks.len() + usize::from(self.spare.is_some())) * self.chunk()) as u64
    }

    #[inline]
    fn at(&self, position: u64) -> (usize, usize) {
        let from_base = (position - self.base) as usize;
        (from_base >> self.chunk_bits, from_base & (self.chunk() - 1))
    }

    /// Loads an entry of a value of about this size, the first few lines of it; what it gives means nothing.
    #[inline]
    pub(super) fn touch(&self, position: u64, size: usize) -> u8 {
        let (chunk, at) = self.at(position);
        let bytes = &self.chunks[chunk][at..];
        let last = (HEADER + size).min(MOST_TOUCHED).min(bytes.len()) - 1;
        (0..last).step_by(LINE).fold(bytes[last], |loaded, at| loaded ^ bytes[at])
    }

    /// Header and what follows of the entry at a position between tail and head.
    #[inline]
    fn parts(&self, position: u64) -> (&[u8; HEADER], &[u8]) {
        let (chunk, at) = self.at(position);
        self.chunks[chunk][at..].split_first_chunk().expect("no entry begins so near the end of a chunk")
    }

    /// The entry at a position between tail and head.
    #[inline]
    pub(super) fn get(&self, position: u64) -> Slot<'_> {
        let (header, rest) = self.parts(position);
        Slot { sequence: sequence(header), value: value(header, rest), reads: header[FLAGS_AT] & READS }
    }

    /// The sequence of the entry at a position between tail and head.
    #[inline]
    pub(super) fn sequence(&self, position: u64) -> u64 {
        sequence(self.parts(position).0)
    }

    /// The value of the entry at a position, if the ring holds it; counts as a reading.
    #[inline]
    pub(super) fn read(&mut self, position: u64) -> Option<&[u8]> {
        let (chunk, at) = self.at(position);
        let (header, rest) = self.chunks[chunk][at..].split_first_chunk_mut().expect("as for `parts`");
        if header[FLAGS_AT] & READS < READS {
            header[FLAGS_AT] += 1;
        }
        value(header, rest)
    }

    /// Puts an entry at the head, with a value that fits a chunk or one that is elsewhere, and as often read as
    /// `reads` says; gives its position.
    pub(super) fn push(&mut self, sequence: u64, value: Option<&[u8]>, reads: u8) -> u64 {
        let size = entry_size(value.map_or(0, <[u8]>::len));
        debug_assert!(size <= self.chunk() && sequence <= SEQUENCE_MASK);
        let left = self.base + (self.chunks.len() * self.chunk()) as u64 - self.head;
        if (size as u64) > left {
            if left > 0 {
                self.write(self.head, 0, FILLER, &[]);
                self.head += left;
            }
            let fresh = self.spare.take().unwrap_or_else(|| vec![0; self.chunk()].into_boxed_slice());
            self.chunks.push_back(fresh);
        }
        let position = self.head;
        if self.len == 0 {
            self.tail = position;
            self.release();
        }
        let flags = reads.min(READS) | if value.is_none() { ELSEWHERE } else { 0 };
        self.write(position, sequence, flags, value.unwrap_or_default());
        self.head += size as u64;
        self.len += 1;
        position
    }

    /// Writes another value over that of an entry, if it takes up as much; tells whether it does.
    pub(super) fn overwrite(&mut self, position: u64, sequence: u64, value: &[u8]) -> bool {
        let slot = self.get(position);
        let Some(same) = slot.value.map(|old| entry_size(old.len()) == entry_size(value.len())) else {
            return false;
        };
        let reads = slot.reads;
        if same {
            self.write(position, sequence, reads, value);
        }
        same
    }

    fn write(&mut self, position: u64, sequence: u64, flags: u8, value: &[u8]) {
        let (chunk, at) = self.at(position);
        let bytes = &mut self.chunks[chunk][at..];
        let first = (sequence | u64::from(flags) << 56).to_le_bytes();
        match bytes.split_first_chunk_mut::<HEADER>() {
            Some((header, rest)) if flags & FILLER == 0 => {
                header[..SIZE_AT].copy_from_slice(&first);
                header[SIZE_AT..SIZE_AT + 4].copy_from_slice(&(value.len() as u32).to_le_bytes());
                rest[..value.len()].copy_from_slice(value);
            }
            // A filler may have room for its first eight bytes only.
            _ => bytes[..SIZE_AT].copy_from_slice(&first),
        }
    }

    /// Lets go of the oldest entry; there must be one.
    pub(super) fn pop(&mut self) {
        let size = entry_size(self.get(self.tail).value.map_or(0, <[u8]>::len));
        self.tail += size as u64;
        self.len -= 1;
        let (chunk, at) = self.at(self.tail);
        if at > 0 && self.tail < self.head && self.chunks[chunk][at + FLAGS_AT] & FILLER != 0 {
            self.tail += (self.chunk() - at) as u64;
        }
        self.release();
    }

    /// Takes the chunks behind the tail off; the one of the head is kept even when it is full.
    fn release(&mut self) {
        while self.tail - self.base >= self.chunk() as u64 && self.chunks.len() > 1 {
            self.spare = self.chunks.pop_front();
            self.base += self.chunk() as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_value_elsewhere_leaves_only_its_header() {
        let mut ring = Ring::new(64);
        let position = ring.push(7, None, 0);
        assert_eq!(ring.get(position), Slot { sequence: 7, value: None, reads: 0 });
        assert_eq!(ring.span(), HEADER as u64);
    }

    #[test]
    fn chunks_are_used_again() {
        let mut ring = Ring::new(128);
        for sequence in 0..1000 {
            ring.push(sequence, Some(&[1; 40]), 0);
            if sequence >= 4 {
                ring.pop();
            }
            assert!(ring.memory() <= 5 * 128, "{}", ring.memory());
        }
        assert_eq!(ring.len(), 4);
    }

    proptest! {
        #[test]
        fn entries_leave_in_the_order_they_came(
            steps in proptest::collection::vec((0usize..=112, 0usize..3), 1..200),
        ) {
            let mut ring = Ring::new(128);
            let mut model = VecDeque::new();
            for (sequence, (size, pops)) in steps.into_iter().enumerate() {
                let value = vec![sequence as u8; size];
                let position = ring.push(sequence as u64, Some(&value), 0);
                model.push_back((sequence as u64, value, position));
                for _ in 0..pops.min(model.len()) {
                    let (sequence, value, position) = model.pop_front().unwrap();
                    prop_assert_eq!(ring.oldest().map(|(oldest, _)| oldest), Some(position));
                    let slot = Slot { sequence, value: Some(&value), reads: 0 };
                    prop_assert_eq!(ring.get(position), slot);
                    ring.pop();
                }
                for (sequence, value, position) in &model {
                    let slot = Slot { sequence: *sequence, value: Some(value), reads: 0 };
                    prop_assert_eq!(ring.get(*position), slot);
                }
                prop_assert_eq!(ring.len(), model.len());
            }
        }
    }
}
