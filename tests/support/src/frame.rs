//! Reads one reply of RESP2 or RESP3: its value, and its bytes as they came.

use std::io::{self, BufRead, Read};

use crate::value::{Value, printable};

/// One reply.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// Its bytes on the wire.
    pub raw: Vec<u8>,
    /// What they mean.
    pub value: Value,
}

impl Frame {
    /// Reads one reply.
    ///
    /// # Errors
    /// Those of the reader, `UnexpectedEof` where it ends too early, `InvalidData` for what is not RESP.
    pub fn read(from: &mut impl BufRead) -> io::Result<Frame> {
        let mut raw = Vec::new();
        let value = value(from, &mut raw)?;
        Ok(Frame { raw, value })
    }
}

fn value(from: &mut impl BufRead, raw: &mut Vec<u8>) -> io::Result<Value> {
    let line = line(from, raw)?;
    let (kind, rest) = line.split_first().ok_or_else(|| invalid(&line))?;
    let rest = rest.to_vec();
    Ok(match kind {
        b'+' => Value::Simple(rest),
        b'-' => Value::Error(rest),
        b':' => Value::Int(integer(&rest)?),
        b',' => Value::Double(rest),
        b'(' => Value::BigNumber(rest),
        b'_' => Value::Nil,
        b'#' => Value::Bool(rest == b"t"),
        b'$' | b'=' | b'!' => match usize::try_from(integer(&rest)?) {
            Err(_) => Value::Nil,
            Ok(length) => {
                let body = body(from, raw, length)?;
                match kind {
                    b'$' => Value::Bulk(body),
                    b'=' => Value::Verbatim(body),
                    _ => Value::Error(body),
                }
            }
        },
        b'*' | b'~' | b'>' => match usize::try_from(integer(&rest)?) {
            Err(_) => Value::Nil,
            Ok(count) => {
                let items = (0..count).map(|_| value(from, raw)).collect::<io::Result<_>>()?;
                match kind {
                    b'*' => Value::Array(items),
                    b'~' => Value::Set(items),
                    _ => Value::Push(items),
                }
            }
        },
        b'%' => {
            let pairs = (0..integer(&rest)?).map(|_| Ok((value(from, raw)?, value(from, raw)?)));
            Value::Map(pairs.collect::<io::Result<_>>()?)
        }
        _ => return Err(invalid(&line)),
    })
}

/// A line without its CR LF; `raw` gets it whole.
fn line(from: &mut impl BufRead, raw: &mut Vec<u8>) -> io::Result<Vec<u8>> {
    let start = raw.len();
    from.read_until(b'\n', raw)?;
    let line = &raw[start..];
    if !line.ends_with(b"\n") {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    line.strip_suffix(b"\r\n").map(<[u8]>::to_vec).ok_or_else(|| invalid(line))
}

/// `length` bytes and the CR LF after them; `raw` gets all, the caller what was in between.
fn body(from: &mut impl Read, raw: &mut Vec<u8>, length: usize) -> io::Result<Vec<u8>> {
    let start = raw.len();
    raw.resize(start + length + 2, 0);
    from.read_exact(&mut raw[start..])?;
    raw[start..].strip_suffix(b"\r\n").map(<[u8]>::to_vec).ok_or_else(|| invalid(&raw[start..]))
}

fn integer(digits: &[u8]) -> io::Result<i64> {
    std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).ok_or_else(|| invalid(digits))
}

fn invalid(bytes: &[u8]) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not RESP: {}", printable(bytes)))
}
