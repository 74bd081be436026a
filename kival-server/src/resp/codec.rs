//! The parser at the end of a socket: `tokio_util`'s traits, the limits, and who pays for memory.
//!
//! Memory follows what has arrived, never what was announced: a client that says `$500000000` and nothing
//! more costs as much as one that says nothing. A large argument gets all its room when a small part of it has come:
//! until they are written to, its pages take no memory, and nothing large is copied when the buffer grows.

use bytes::{Buf, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use super::encode::{Protocol, encode};
use super::parser::Parser;
use super::{Batch, DecodeError, ProtocolError, Reply};

/// How much room there is for the next read.
const READ_ROOM: usize = 16 * 1024;

/// Below this much room the buffer is grown to [`READ_ROOM`], or moved back to its start.
const MIN_ROOM: usize = READ_ROOM / 4;

/// When an argument has come by one part in so many, the rest is expected.
const EARNEST: usize = 64;

/// Room behind a large argument, so that a read that brings its end finds enough: or all would be copied for that.
const BEHIND: usize = 128 * 1024;

/// Room that is reserved at once; fresh memory beyond that takes the system its time.
const MOST_ROOM: usize = 1 << 20;

/// The longest input that 32-bit positions reach.
const MAX_INPUT: u64 = u32::MAX as u64;

/// What a client may send. Change it at any time; it governs what is parsed from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest argument: `proto-max-bulk-len`.
    pub max_bulk: u64,
    /// The longest unfinished command: `client-query-buffer-limit`. More than 4 GiB counts as 4 GiB.
    pub query_buffer: u64,
    /// Whether the client has authenticated, or need not. Until then its commands must be small, and each
    /// decode returns only one, so that a pipelined `AUTH` counts for what follows it.
    pub authenticated: bool,
}

impl Default for Limits {
    /// Redis's defaults, for a server without a password.
    fn default() -> Limits {
        Limits { max_bulk: 512 << 20, query_buffer: 1 << 30, authenticated: true }
    }
}

/// Decodes requests into [`Batch`]es and encodes [`Reply`]s.
///
/// One `decode` call consumes every command that is complete; a buffer of which nothing is left goes with them. Call
/// it until it returns `None`: that call also makes room for the rest of an unfinished command, and finds the old
/// room again if the batches before it are gone by then.
/// After an error every call returns that error, but the commands before the error come first.
#[derive(Debug, Default)]
pub struct Codec {
    parser: Parser,
    limits: Limits,
    protocol: Protocol,
    /// The error that ended the stream.
    failed: Option<ProtocolError>,
    /// Bytes of room for a large argument that the buffer lacks.
    lacks: usize,
}

impl Codec {
    /// A codec at the start of a connection, speaking RESP2.
    pub fn new(limits: Limits) -> Codec {
        Codec { limits, ..Codec::default() }
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The limits, to change them.
    pub fn limits_mut(&mut self) -> &mut Limits {
        &mut self.limits
    }

    /// The protocol version that replies are encoded in.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Switches the protocol version of the replies.
    pub fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
    }

    /// The memory held for an unfinished command, apart from the buffer it arrives in.
    pub fn footprint(&self) -> usize {
        self.parser.footprint()
    }

    /// Bytes to reserve in the buffer, which [`Codec::read`] has left to its caller since they are many: 0 if there
    /// are none.
    pub fn take_lack(&mut self) -> usize {
        std::mem::take(&mut self.lacks)
    }

    /// [`Decoder::decode`] with the error it can really have; the caller sees to [`Codec::take_lack`].
    pub fn read(&mut self, buf: &mut BytesMut) -> Result<Option<Batch>, ProtocolError> {
        if let Some(error) = self.failed {
            buf.clear();
            return Err(error);
        }
        if buf.len() as u64 > MAX_INPUT {
            return self.fail(ProtocolError::QueryBufferLimit, buf);
        }
        let outcome = self.parser.parse(buf, &self.limits);
        let taken = self.parser.take();
        if !taken.spans.is_empty() {
            self.failed = outcome.err();
            // A buffer of which nothing is left is not shared, which would cost an allocation.
            let all = taken.consumed == buf.len();
            let complete = if all { std::mem::take(buf) } else { buf.split_to(taken.consumed) };
            return Ok(Some(Batch::new(complete.freeze(), taken.spans, taken.ends)));
        }
        buf.advance(taken.consumed);
        if let Err(error) = outcome {
            return self.fail(error, buf);
        }
        if buf.len() as u64 > self.limits.query_buffer {
            return self.fail(ProtocolError::QueryBufferLimit, buf);
        }
        self.make_room(buf);
        Ok(None)
    }

    fn fail<T>(&mut self, error: ProtocolError, buf: &mut BytesMut) -> Result<T, ProtocolError> {
        self.failed = Some(error);
        buf.clear();
        Err(error)
    }

    /// Reserves for the next read: the rest of an argument of which a part has come, or else as much as has arrived.
    fn make_room(&mut self, buf: &mut BytesMut) {
        let arrived = buf.len();
        if arrived == 0 {
            // Nothing waits: who reads next knows better how much to expect.
            return;
        }
        let room = match self.parser.wanted(arrived) {
            Some(wanted) if wanted > READ_ROOM && wanted <= arrived.saturating_mul(EARNEST) => {
                wanted + BEHIND
            }
            Some(wanted) => wanted.min(arrived.max(READ_ROOM)),
            _ => READ_ROOM,
        };
        if buf.capacity() - arrived < room.min(MIN_ROOM) {
            if room > MOST_ROOM {
                self.lacks = room;
            } else {
                buf.reserve(room);
            }
        }
    }
}

impl Decoder for Codec {
    type Item = Batch;
    type Error = DecodeError;

    fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Batch>, DecodeError> {
        let batch = self.read(buf)?;
        buf.reserve(self.take_lack());
        Ok(batch)
    }

    /// At the end of the stream an unfinished command is forgotten: clients may leave at any time.
    fn decode_eof(&mut self, buf: &mut BytesMut) -> Result<Option<Batch>, DecodeError> {
        let batch = self.read(buf)?;
        if batch.is_none() {
            buf.clear();
        }
        Ok(batch)
    }
}

impl Encoder<&Reply> for Codec {
    type Error = DecodeError;

    fn encode(&mut self, reply: &Reply, buf: &mut BytesMut) -> Result<(), DecodeError> {
        encode(reply, self.protocol, buf);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(input: &[u8]) -> BytesMut {
        let mut codec = Codec::default();
        let mut buf = BytesMut::from(input);
        while codec.decode(&mut buf).unwrap().is_some() {}
        buf
    }

    #[test]
    fn an_announced_length_reserves_nothing_by_itself() {
        let buf = after(b"*2\r\n$3\r\nSET\r\n$500000000\r\n");
        assert!(buf.capacity() <= 2 * READ_ROOM, "{}", buf.capacity());
        let buf = after(b"*1000000000\r\n");
        assert!(buf.capacity() <= 2 * READ_ROOM, "{}", buf.capacity());
    }

    #[test]
    fn a_large_argument_doubles_the_buffer_until_a_part_of_it_has_come() {
        let room_after = |arrived: usize| {
            let mut input = b"*1\r\n$50000000\r\n".to_vec();
            input.resize(arrived, b'x');
            after(&input).capacity() - input.len()
        };
        let room = room_after(500_000);
        assert!((MIN_ROOM..=1_000_000).contains(&room), "{room}");
        let room = room_after(800_000);
        assert!((49_000_000..52_000_000).contains(&room), "{room}");
    }

    #[test]
    fn room_is_found_again_when_the_batches_are_gone() {
        let mut codec = Codec::default();
        let mut buf = BytesMut::with_capacity(READ_ROOM);
        let start = buf.as_ptr();
        buf.extend_from_slice(b"*1\r\n$4\r\nPI");
        for _ in 0..10_000 {
            // A part of the next command is always left.
            buf.extend_from_slice(b"NG\r\n*1\r\n$4\r\nPI");
            while codec.read(&mut buf).unwrap().is_some() {}
        }
        buf.reserve(READ_ROOM - 100);
        assert_eq!(buf.as_ptr(), start);
    }

    #[test]
    fn the_end_of_the_stream_forgets_an_unfinished_command() {
        let mut codec = Codec::default();
        let mut buf = BytesMut::from("PING\r\n*1\r\n$4\r\nPI");
        assert_eq!(codec.decode_eof(&mut buf).unwrap().map(|batch| batch.len()), Some(1));
        assert!(codec.decode_eof(&mut buf).unwrap().is_none());
        assert!(buf.is_empty());
    }
}
