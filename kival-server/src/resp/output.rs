//! Bytes waiting for the socket.
//!
//! Small pieces are copied into one vector. A large value stays in its own [`Bytes`] with a note of where it
//! belongs, so that it goes to the socket from where the engine read it, in one vectored write with its
//! surroundings.
//!
//! ```text
//!   small:  $20000\r\n | \r\n:1\r\n        large: (at 8, 20000 bytes)
//!                      ^ at 8
//! ```
//!
//! Positions are counted from the first byte ever put, so they survive what is sent in the meantime.
//!
//! Invariants: `base + cursor` bytes of small pieces have been sent; the positions in `large` ascend, from there
//! to `base + small.len()`; `len` is what `small` has behind `cursor` plus all of `large`.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

use super::Sink;

/// From this size on, a reference count is cheaper than a copy.
const LARGE: usize = 16 * 1024;

/// The vector is given back when everything is sent and it is larger than this.
const KEEP: usize = 64 * 1024;

/// The sent part of the vector is cut off from this size on, once it is half of it.
const COMPACT: usize = 64 * 1024;

/// A position in an [`Output`], to come back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Small bytes ever put before it.
    small: u64,
    /// Large values ever put before it.
    large: u64,
}

/// The encoded replies of a connection that the socket has not taken yet. Reads as a [`Buf`].
#[derive(Debug, Default)]
pub struct Output {
    /// The copied bytes, sent up to `cursor`.
    small: Vec<u8>,
    /// The first byte of `small` not yet sent.
    cursor: usize,
    /// Bytes of `small` cut off at its front, ever.
    base: u64,
    /// The values not copied, and how many small bytes go before each, ever.
    large: VecDeque<(u64, Bytes)>,
    /// Values sent off the front of `large`, ever.
    large_sent: u64,
    /// Bytes still to send.
    len: usize,
}

impl Output {
    /// Nothing to send.
    pub fn new() -> Output {
        Output::default()
    }

    /// The number of bytes still to send.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether everything has been sent.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Drops everything that has not been sent.
    pub fn clear(&mut self) {
        self.large_sent += self.large.len() as u64;
        self.large.clear();
        self.cursor = self.small.len();
        self.len = 0;
        self.compact();
    }

    /// The end as it is now.
    #[inline]
    pub fn mark(&self) -> Mark {
        Mark { small: self.small_end(), large: self.large_sent + self.large.len() as u64 }
    }

    /// Drops everything put since `mark`. What has been sent since stays sent: to keep frames whole, do not
    /// send between a mark and its use.
    pub fn truncate_to(&mut self, mark: Mark) {
        let small = usize::try_from(mark.small.saturating_sub(self.base)).unwrap_or(usize::MAX);
        self.small.truncate(small.max(self.cursor));
        let large = mark.large.saturating_sub(self.large_sent);
        self.large.truncate(usize::try_from(large).unwrap_or(usize::MAX));
        let large: usize = self.large.iter().map(|(_, value)| value.len()).sum();
        self.len = self.small.len() - self.cursor + large;
    }

    /// What is to be sent, if it is one piece.
    #[inline]
    pub fn in_one_piece(&self) -> Option<&[u8]> {
        self.large.is_empty().then(|| &self.small[self.cursor..])
    }

    /// What is to be sent, piece by piece.
    pub fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        let mut cursor = self.cursor;
        let mut large = self.large.iter();
        let mut next = large.next();
        std::iter::from_fn(move || {
            let end = next.map_or(self.small.len(), |(at, _)| self.index(*at));
            if cursor < end {
                return Some(&self.small[std::mem::replace(&mut cursor, end)..end]);
            }
            let (_, value) = next?;
            next = large.next();
            Some(&value[..])
        })
    }

    /// Puts another output behind this one.
    pub fn append(&mut self, other: Output) {
        if self.is_empty() {
            *self = other;
            return;
        }
        let mut cursor = other.cursor;
        let base = other.base;
        for (at, value) in other.large {
            let end = usize::try_from(at - base).expect("the invariants keep positions within `small`");
            self.small.extend_from_slice(&other.small[cursor..end]);
            self.large.push_back((self.base + self.small.len() as u64, value));
            cursor = end;
        }
        self.small.extend_from_slice(&other.small[cursor..]);
        self.len += other.len;
    }

    /// The memory held, large values not counted: those are shared.
    pub fn footprint(&self) -> usize {
        self.small.capacity() + self.large.capacity() * size_of::<(u64, Bytes)>()
    }

    fn small_end(&self) -> u64 {
        self.base + self.small.len() as u64
    }

    /// Where a position ever is in `small` today.
    fn index(&self, at: u64) -> usize {
        usize::try_from(at - self.base).expect("the invariants keep positions within `small`")
    }

    /// Gives back the memory of what has been sent.
    fn compact(&mut self) {
        if self.cursor == self.small.len() {
            self.base += self.cursor as u64;
            self.cursor = 0;
            self.small.clear();
            if self.small.capacity() > KEEP {
                self.small = Vec::new();
            }
        } else if self.cursor >= COMPACT && self.cursor > self.small.len() / 2 {
            self.base += self.cursor as u64;
            self.small.drain(..std::mem::take(&mut self.cursor));
        }
    }
}

impl Sink for Output {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.small.extend_from_slice(bytes);
        self.len += bytes.len();
    }

    #[inline]
    fn put_shared(&mut self, bytes: &Bytes) {
        if bytes.len() < LARGE {
            return self.put(bytes);
        }
        self.large.push_back((self.small_end(), bytes.clone()));
        self.len += bytes.len();
    }
}

impl Buf for Output {
    fn remaining(&self) -> usize {
        self.len
    }

    fn chunk(&self) -> &[u8] {
        self.chunks().next().unwrap_or_default()
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let pieces = slices.iter_mut().zip(self.chunks());
        pieces.map(|(slice, chunk)| *slice = IoSlice::new(chunk)).count()
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.len, "advanced by {count} of {} bytes", self.len);
        self.len -= count;
        while count > 0 {
            let end = self.large.front().map_or(self.small.len(), |(at, _)| self.index(*at));
            if self.cursor < end {
                let step = count.min(end - self.cursor);
                self.cursor += step;
                count -= step;
            } else if let Some((_, value)) = self.large.front_mut() {
                let step = count.min(value.len());
                value.advance(step);
                count -= step;
                if value.is_empty() {
                    self.large.pop_front();
                    self.large_sent += 1;
                }
            }
        }
        self.compact();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(output: &Output) -> Vec<u8> {
        output.chunks().collect::<Vec<_>>().concat()
    }

    #[test]
    fn a_large_value_is_not_copied() {
        let value = Bytes::from(vec![b'x'; LARGE]);
        let mut output = Output::new();
        output.put(b"a");
        output.put_shared(&value);
        output.put(b"b");
        let chunks: Vec<_> = output.chunks().collect();
        assert_eq!(chunks, [&b"a"[..], &value[..], b"b"]);
        assert_eq!(chunks[1].as_ptr(), value.as_ptr());
        let mut slices = [IoSlice::new(&[]); 2];
        assert_eq!(output.chunks_vectored(&mut slices), 2);
        assert_eq!(slices[1].len(), LARGE);
    }

    #[test]
    fn a_mark_takes_back_what_came_after_it() {
        let value = Bytes::from(vec![b'x'; LARGE]);
        let mut output = Output::new();
        output.put(b"kept");
        output.put_shared(&value);
        let mark = output.mark();
        output.put(b"dropped");
        output.put_shared(&value);
        output.put(b"dropped too");
        output.advance(2);
        output.truncate_to(mark);
        assert_eq!(all(&output), [b"pt", &value[..]].concat());
        assert_eq!(output.len(), 2 + LARGE);
    }

    #[test]
    fn a_mark_survives_the_sending_of_what_was_before_it() {
        let mut output = Output::new();
        output.put(b"sent");
        let mark = output.mark();
        output.advance(4);
        output.put(b"dropped");
        output.truncate_to(mark);
        output.put(b"next");
        assert_eq!(all(&output), b"next");
    }

    #[test]
    fn memory_is_given_back_once_everything_is_sent() {
        let mut output = Output::new();
        for _ in 0..1000 {
            output.put(&[0; 1000]);
        }
        output.advance(999_999);
        assert!(output.footprint() > KEEP);
        output.advance(1);
        assert_eq!(output.footprint(), 0);
    }

    proptest! {
        #[test]
        fn what_is_put_is_sent_in_order(
            steps in proptest::collection::vec((0usize..40_000, any::<bool>(), 0usize..50_000), 1..40),
        ) {
            let mut output = Output::new();
            let (mut put, mut sent) = (Vec::new(), Vec::new());
            for (i, (size, shared, send)) in steps.into_iter().enumerate() {
                let value = Bytes::from(vec![i as u8; size]);
                put.extend_from_slice(&value);
                if shared { output.put_shared(&value) } else { output.put(&value) }
                let send = send.min(output.len());
                sent.extend_from_slice(&all(&output)[..send]);
                output.advance(send);
                prop_assert_eq!(output.len(), all(&output).len());
            }
            sent.extend_from_slice(&all(&output));
            prop_assert!(sent == put);
        }
    }
}
