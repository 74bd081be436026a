//! Strings as arrays of bits: SETBIT, GETBIT, BITCOUNT, BITPOS and BITOP. What they do to slices is in
//! `bits`; integers of any width are in `bitfield`.

use super::bits::{self, Operation};
use super::options::{SYNTAX_ERROR, integer, is_word};
use super::{Abort, Categories, Command, Context, Flags, Group, KeySpec, Keys, Outcome};
use crate::config::NotifyEvents;
use crate::number::parse_i64;
use crate::resp::{Args, ErrorReply, Reply};
use bytes::Bytes;
use kival_engine::KeyEntry;

const NOT_AN_OFFSET: &str = "ERR bit offset is not an integer or out of range";
const NOT_A_BIT: &str = "ERR bit is not an integer or out of range";
const NEITHER_BIT: &str = "ERR The bit argument must be 1 or 0.";
const ONE_SOURCE: &str = "ERR BITOP NOT must be called with a single source key.";

/// What the rows of this file have in common.
pub(super) const BITMAP: Command = Command {
    keys: Keys::ONE,
    key_spec: KeySpec::all(&["RO", "access"]),
    categories: Categories::BITMAP,
    group: Group::Bitmap,
    since: "2.6.0",
    ..Command::BASE
};

/// Strings as arrays of bits.
pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "bitcount",
        handler: bitcount,
        arity: -2,
        arguments: "key index=[start end index_unit=[BYTE | BIT]]",
        flags: Flags::READONLY,
        complexity: "O(N) with N bytes of the range",
        summary: "Counts the bits that are set, in all of a value or in a range of bytes or bits.",
        ..BITMAP
    },
    Command {
        name: "bitop",
        handler: bitop,
        arity: -4,
        arguments: "operation destkey key ...",
        flags: Flags::WRITE.and(Flags::DENYOOM),
        keys: Keys { first: 2, last: -1, step: 1 },
        key_spec: KeySpec { first: &["OW", "update"], second: &["RO", "access"], notes: "" },
        complexity: "O(N) with N bytes of all values",
        summary: "Combines values bit by bit (AND, OR, XOR, NOT), and sets a key to the result.",
        ..BITMAP
    },
    Command {
        name: "bitpos",
        handler: bitpos,
        arity: -3,
        arguments: "key bit:integer index=[start end_index=[end index_unit=[BYTE | BIT]]]",
        flags: Flags::READONLY,
        since: "2.8.7",
        complexity: "O(N) with N bytes of the range",
        summary: "Finds the first bit that is set, or not, in a value or in a range of bytes or bits.",
        ..BITMAP
    },
    Command {
        name: "getbit",
        handler: getbit,
        arity: 3,
        arguments: "key offset",
        flags: Flags::READONLY.and(Flags::FAST),
        since: "2.2.0",
        summary: "Answers a bit of a value.",
        ..BITMAP
    },
    Command {
        name: "setbit",
        handler: setbit,
        arity: 4,
        arguments: "key offset value:integer",
        flags: Flags::WRITE.and(Flags::DENYOOM),
        key_spec: KeySpec::all(&["RW", "access", "update"]),
        since: "2.2.0",
        summary: "Sets or clears a bit of a value, lengthening it where need be, and answers what it was.",
        ..BITMAP
    },
];

/// An offset of a bit, below `most` bytes. With `width` it may also count fields of so many bits: `#2`.
pub(super) fn bit_offset(text: &[u8], width: Option<u32>, most: u64) -> Result<u64, ErrorReply> {
    let offset = match (text.strip_prefix(b"#"), width) {
        // Where that overflows, Redis goes on with what the processor makes of it.
        (Some(index), Some(width)) => parse_i64(index).map(|index| index.wrapping_mul(width.into())),
        _ => parse_i64(text),
    };
    let offset = offset.and_then(|offset| u64::try_from(offset).ok());
    offset.filter(|offset| offset / 8 < most).ok_or_else(|| NOT_AN_OFFSET.into())
}

fn setbit(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let key = &args[1];
    let offset = bit_offset(&args[2], None, ctx.server.config.proto_max_bulk_len)?;
    let on = match parse_i64(&args[3]) {
        Some(bit @ 0..=1) => bit == 1,
        _ => return Err(NOT_A_BIT.into()),
    };
    let (entry, at) = (ctx.peek(key)?, (offset / 8) as usize);
    let before = match &entry {
        Some(entry) => ctx.part_of(key, entry, at..at + 1)?,
        None => Bytes::new(),
    };
    let was = bits::get(&before, offset % 8);
    if was != on || before.is_empty() {
        let mut byte = [before.first().copied().unwrap_or(0)];
        bits::set(&mut byte, offset % 8, on);
        ctx.put_part(key, entry, at, &byte)?;
        ctx.notify(NotifyEvents::STRING, "setbit", key);
    }
    Ok(Reply::Integer(was.into()))
}

fn getbit(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let offset = bit_offset(&args[2], None, ctx.server.config.proto_max_bulk_len)?;
    let Some(entry) = ctx.lookup(&args[1])? else { return Ok(Reply::Integer(0)) };
    let at = (offset / 8) as usize;
    let byte = ctx.part_of(&args[1], &entry, at..at + 1)?;
    Ok(Reply::Integer(bits::get(&byte, offset % 8).into()))
}

/// Whether a range counts bits, and not bytes.
fn counts_bits(unit: &[u8]) -> Result<bool, ErrorReply> {
    if is_word(unit, "BIT") {
        Ok(true)
    } else if is_word(unit, "BYTE") {
        Ok(false)
    } else {
        Err(SYNTAX_ERROR.into())
    }
}

/// The first and last bit of a range of bytes or bits, both included and, if negative, counted from the end
/// of a value of `len` bytes; `None` if it is empty.
fn bit_range(start: i64, end: i64, in_bits: bool, len: usize) -> Option<(u64, u64)> {
    let unit = if in_bits { 1 } else { 8 };
    let total = len as i64 * 8 / unit;
    let from_front = |index: i64| if index < 0 { (index + total).max(0) } else { index };
    let (start, end) = (from_front(start), from_front(end).min(total - 1));
    (start <= end).then(|| ((start * unit) as u64, (end * unit + unit - 1) as u64))
}

/// The bytes in which a range of bits lies, and the range within them.
fn bytes_around(
    ctx: &mut Context<'_>,
    key: &[u8],
    entry: &KeyEntry,
    first: u64,
    last: u64,
) -> Result<(Bytes, u64, u64), Abort> {
    let begins = first / 8 * 8;
    let bytes = ctx.part_of(key, entry, (first / 8) as usize..(last / 8 + 1) as usize)?;
    Ok((bytes, first - begins, last - begins))
}

fn bitcount(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let Some(entry) = ctx.lookup(&args[1])? else { return Ok(Reply::Integer(0)) };
    let range = match args.len() {
        2 => bit_range(0, -1, false, entry.value_size as usize),
        4 | 5 => {
            let (start, end) = (integer(&args[2])?, integer(&args[3])?);
            if start < 0 && end < 0 && start > end {
                return Ok(Reply::Integer(0));
            }
            let in_bits = args.len() == 5 && counts_bits(&args[4])?;
            bit_range(start, end, in_bits, entry.value_size as usize)
        }
        _ => return Err(SYNTAX_ERROR.into()),
    };
    let Some((first, last)) = range else { return Ok(Reply::Integer(0)) };
    let (bytes, first, last) = bytes_around(ctx, &args[1], &entry, first, last)?;
    Ok(Reply::Integer(bits::count_between(&bytes, first, last) as i64))
}

fn bitpos(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let on = match integer(&args[2])? {
        bit @ 0..=1 => bit == 1,
        _ => return Err(NEITHER_BIT.into()),
    };
    let nowhere = Ok(Reply::Integer(-1));
    let Some(entry) = ctx.lookup(&args[1])? else { return if on { nowhere } else { Ok(Reply::Integer(0)) } };
    let len = entry.value_size as usize;
    let (mut start, mut end, mut in_bits) = (0, -1, false);
    match args.len() {
        3 => {}
        4..=6 => {
            start = integer(&args[3])?;
            in_bits = args.len() == 6 && counts_bits(&args[5])?;
            end = if args.len() > 4 { integer(&args[4])? } else { -1 };
        }
        _ => return Err(SYNTAX_ERROR.into()),
    }
    let Some((first, last)) = bit_range(start, end, in_bits, len) else { return nowhere };
    let (bytes, from, to) = bytes_around(ctx, &args[1], &entry, first, last)?;
    match bits::find(&bytes, on, from, to) {
        Some(found) => Ok(Reply::Integer((first - from + found) as i64)),
        // Without an end a value goes on with zeros.
        None if !on && args.len() < 5 => Ok(Reply::Integer(last as i64 + 1)),
        None => nowhere,
    }
}

fn bitop(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    const WORDS: [(&str, Operation); 4] =
        [("AND", Operation::And), ("OR", Operation::Or), ("XOR", Operation::Xor), ("NOT", Operation::Not)];
    let found = WORDS.into_iter().find(|(word, _)| is_word(&args[1], word));
    let (_, operation) = found.ok_or(SYNTAX_ERROR)?;
    if operation == Operation::Not && args.len() != 4 {
        return Err(ONE_SOURCE.into());
    }
    let mut values = Vec::with_capacity(args.len() - 3);
    for key in args.tail(3) {
        values.push(ctx.value(key)?.unwrap_or_default());
    }
    let slices: Vec<&[u8]> = values.iter().map(|value| &value[..]).collect();
    let result = bits::combine(operation, &slices);
    if result.is_empty() {
        if ctx.delete(&args[2])? {
            ctx.notify(NotifyEvents::GENERIC, "del", &args[2]);
        }
    } else {
        ctx.put(&args[2], &result, 0)?;
        ctx.notify(NotifyEvents::STRING, "set", &args[2]);
    }
    Ok(Reply::Integer(result.len() as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_counts_bits_or_fields() {
        let check = |text: &str, width, expected| {
            assert_eq!(bit_offset(text.as_bytes(), width, 512).ok(), expected, "{text}");
        };
        check("0", None, Some(0));
        check("4095", None, Some(4095));
        check("#3", Some(5), Some(15));
        check("3", Some(5), Some(3));
        for refused in ["-1", "4096", "", "x", "#", "9223372036854775808"] {
            check(refused, Some(8), None);
        }
        check("#3", None, None);
        check("#512", Some(8), None);
    }

    #[test]
    fn a_range_of_bytes_or_bits_is_cut_to_the_value() {
        assert_eq!(bit_range(0, -1, false, 3), Some((0, 23)));
        assert_eq!(bit_range(1, 1, false, 3), Some((8, 15)));
        assert_eq!(bit_range(-1, 100, false, 3), Some((16, 23)));
        assert_eq!(bit_range(5, -5, true, 3), Some((5, 19)));
        assert_eq!(bit_range(24, 30, true, 3), None);
        assert_eq!(bit_range(0, -1, true, 0), None);
        assert_eq!(bit_range(i64::MIN, i64::MAX, true, 1), Some((0, 7)));
    }
}
