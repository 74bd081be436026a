//! A batch: every command that one read of the socket completed.
//!
//! One frozen buffer holds the bytes; commands and arguments are positions in it. A pipeline of any depth
//! thus costs three allocations, a command alone two, and an argument none: it is borrowed, or sliced out of the
//! buffer with one reference count when it has to outlive the batch.

use std::ops::Index;

use bytes::Bytes;

/// Where an argument lies in its batch's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Number of bytes.
    pub len: u32,
}

impl Span {
    /// A span within a buffer that the codec has already found to be shorter than 4 GiB.
    #[inline]
    pub(super) fn new(start: usize, len: usize) -> Span {
        debug_assert!(start + len <= u32::MAX as usize, "the codec refuses longer buffers");
        Span { start: start as u32, len: len as u32 }
    }

    #[inline]
    fn range(self) -> std::ops::Range<usize> {
        let start = self.start as usize;
        start..start + self.len as usize
    }
}

/// The commands of one read, in the order they arrived.
///
/// Invariants: every span lies in `buf`; `ends` ascends strictly, and its last element is less than `spans.len()`,
/// so no command is without a name.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The bytes as they came, apart from inline arguments, which were unescaped in place.
    buf: Bytes,
    /// The arguments of all commands, one after the other.
    spans: Vec<Span>,
    /// For each command but the last, where its arguments end in `spans`.
    ends: Vec<u32>,
}

impl Batch {
    /// Puts a batch together from what the parser found in `buf`.
    #[inline]
    pub(super) fn new(buf: Bytes, spans: Vec<Span>, ends: Vec<u32>) -> Batch {
        debug_assert!(ends.last().map_or(0, |&end| end as usize) < spans.len());
        Batch { buf, spans, ends }
    }

    /// A batch of one command made of the given arguments; an empty batch when there are none.
    ///
    /// For commands that no client sent: tests, and the server's own.
    ///
    /// # Panics
    /// When the arguments together reach 4 GiB.
    pub fn from_args<I>(args: I) -> Batch
    where
        I: IntoIterator<Item: AsRef<[u8]>>,
    {
        let mut buf = Vec::new();
        let mut spans = Vec::new();
        for arg in args {
            let arg = arg.as_ref();
            assert!(buf.len() + arg.len() < u32::MAX as usize, "a command is shorter than 4 GiB");
            spans.push(Span::new(buf.len(), arg.len()));
            buf.extend_from_slice(arg);
        }
        Batch { buf: buf.into(), spans, ends: Vec::new() }
    }

    /// The number of commands.
    #[inline]
    pub fn len(&self) -> usize {
        if self.spans.is_empty() { 0 } else { self.ends.len() + 1 }
    }

    /// Whether there is no command; the codec never returns such a batch.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The arguments of the `i`th command, its name first.
    ///
    /// # Panics
    /// When there are not that many commands.
    #[inline]
    pub fn command(&self, i: usize) -> Args<'_> {
        assert!(i < self.len(), "command {i} of {}", self.len());
        let start = if i == 0 { 0 } else { self.ends[i - 1] as usize };
        let end = self.ends.get(i).map_or(self.spans.len(), |&end| end as usize);
        Args { buf: &self.buf, spans: &self.spans[start..end] }
    }

    /// All commands in order.
    pub fn commands(&self) -> impl ExactSizeIterator<Item = Args<'_>> {
        (0..self.len()).map(|i| self.command(i))
    }

    /// The bytes of the buffer this batch keeps alive, framing included.
    #[inline]
    pub fn buffer_len(&self) -> usize {
        self.buf.len()
    }
}

/// The arguments of one command, or the last ones of them; a borrowed view as cheap as a slice.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    buf: &'a Bytes,
    spans: &'a [Span],
}

impl<'a> Args<'a> {
    /// The number of arguments, the name included.
    #[inline]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether nothing is left; true only of a [`tail`](Args::tail).
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The `i`th argument, if there is one.
    #[inline]
    pub fn get(&self, i: usize) -> Option<&'a [u8]> {
        self.spans.get(i).map(|span| &self.buf[span.range()])
    }

    /// The first argument: of a whole command, its name as the client wrote it.
    ///
    /// # Panics
    /// When nothing is left.
    #[inline]
    pub fn name(&self) -> &'a [u8] {
        &self.buf[self.spans[0].range()]
    }

    /// The arguments in order.
    #[inline]
    pub fn iter(&self) -> Iter<'a> {
        Iter { buf: self.buf, spans: self.spans.iter() }
    }

    /// The `i`th argument on its own, without a copy. It keeps the whole batch's buffer in memory: copy what
    /// is to live longer than the command.
    ///
    /// # Panics
    /// When there are not that many arguments.
    #[inline]
    pub fn bytes(&self, i: usize) -> Bytes {
        self.buf.slice(self.spans[i].range())
    }

    /// The bytes of all arguments together, framing excluded.
    pub fn size(&self) -> usize {
        self.spans.iter().map(|span| span.len as usize).sum()
    }

    /// The arguments from the `n`th on; empty when there are fewer.
    #[inline]
    pub fn tail(&self, n: usize) -> Args<'a> {
        Args { buf: self.buf, spans: self.spans.get(n..).unwrap_or_default() }
    }
}

impl Index<usize> for Args<'_> {
    type Output = [u8];

    #[inline]
    fn index(&self, i: usize) -> &[u8] {
        &self.buf[self.spans[i].range()]
    }
}

impl<'a> IntoIterator for Args<'a> {
    type Item = &'a [u8];
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl std::fmt::Debug for Args<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().map(|arg| arg.escape_ascii().to_string())).finish()
    }
}

/// Iterates over the arguments of one command.
#[derive(Clone)]
pub struct Iter<'a> {
    buf: &'a Bytes,
    spans: std::slice::Iter<'a, Span>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        self.spans.next().map(|span| &self.buf[span.range()])
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.spans.size_hint()
    }
}

impl ExactSizeIterator for Iter<'_> {}

impl DoubleEndedIterator for Iter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.spans.next_back().map(|span| &self.buf[span.range()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_reached_by_every_road() {
        let batch = Batch::from_args(["SET", "key", "", "value"]);
        let args = batch.command(0);
        assert_eq!((batch.len(), args.len(), args.size()), (1, 4, 11));
        assert_eq!(args.name(), b"SET");
        assert_eq!(&args[3], b"value");
        assert_eq!(args.get(2), Some(&b""[..]));
        assert_eq!(args.get(4), None);
        assert_eq!(args.bytes(1), "key");
        assert_eq!(args.iter().rev().collect::<Vec<_>>(), [&b"value"[..], b"", b"key", b"SET"]);
        assert_eq!(args.tail(3).iter().collect::<Vec<_>>(), [b"value"]);
        assert!(args.tail(4).is_empty() && args.tail(9).is_empty());
    }

    #[test]
    fn no_arguments_make_no_command() {
        assert!(Batch::from_args([""; 0]).is_empty());
    }

    #[test]
    fn a_slice_shares_the_buffer() {
        let batch = Batch::from_args(["SET", "key"]);
        let key = batch.command(0).bytes(1);
        assert_eq!(key.as_ptr(), batch.command(0)[1].as_ptr());
    }
}
