//! BITFIELD and BITFIELD_RO: integers of any width at any bit of a value, with a choice of what happens when
//! one does not fit. Reading and writing the bits is done in `bits`.

use super::bitmap::{BITMAP, bit_offset};
use super::bits;
use super::options::{SYNTAX_ERROR, c_string, integer, is_word};
use super::parts::Parts;
use super::{Abort, Command, Context, Flags, KeySpec, Outcome};
use crate::config::NotifyEvents;
use crate::number::parse_i64;
use crate::resp::{Args, ErrorReply, Reply};
use bytes::Bytes;
use kival_engine::KeyEntry;
use std::ops::Range;

const NOT_A_TYPE: &str =
    "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.";
const NOT_AN_OVERFLOW: &str = "ERR Invalid OVERFLOW type specified";
const READS_ONLY: &str = "ERR BITFIELD_RO only supports the GET subcommand";

/// Integers within values.
pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "bitfield",
        handler: bitfield,
        arity: -2,
        arguments: "key [operation=(GET (encoding offset) | write=([OVERFLOW (WRAP | SAT | FAIL)] \
            write_operation=(SET (encoding offset value:integer) | \
            INCRBY (encoding offset increment)))) ...]",
        flags: Flags::WRITE.and(Flags::DENYOOM),
        key_spec: KeySpec {
            first: &["RW", "access", "update", "variable_flags"],
            second: &[],
            notes: "This command allows both access and modification of the key",
        },
        uses_keys,
        since: "3.2.0",
        complexity: "O(1) for each operation",
        summary: "Reads and writes integers of any width at any bit of a value.",
        ..BITMAP
    },
    Command {
        name: "bitfield_ro",
        handler: bitfield_ro,
        arity: -2,
        arguments: "key [(GET (encoding offset)) ...]",
        flags: Flags::READONLY.and(Flags::FAST),
        since: "6.0.0",
        complexity: "O(1) for each operation",
        summary: "Reads integers of any width at any bit of a value.",
        ..BITMAP
    },
];

/// What Redis takes a request for: it reads only if there is no SET or INCRBY in it, nor anything unknown.
fn uses_keys(args: Args<'_>) -> Option<&'static [&'static str]> {
    let mut at = 2;
    while let Some(word) = args.get(at) {
        let left = args.len() - at - 1;
        at += match () {
            () if is_word(word, "get") && left >= 2 => 3,
            () if is_word(word, "overflow") && left >= 1 => 2,
            () => return Some(&["RW", "access", "update"]),
        };
    }
    Some(&["RO", "access"])
}

/// The type of an integer: `i8`, `u63`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Type {
    signed: bool,
    width: u32,
}

/// What happens to an integer that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Overflow {
    /// Its lowest bits stay.
    Wrap,
    /// It becomes the least or greatest that fits.
    Saturate,
    /// Nothing is written, and the answer is null.
    Fail,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Get,
    Set(i64, Overflow),
    Add(i64, Overflow),
}

/// One of the operations of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Operation {
    field: Type,
    offset: u64,
    action: Action,
}

impl Type {
    fn parse(text: &[u8]) -> Result<Type, ErrorReply> {
        let (signed, most) = match text.first() {
            Some(b'i') => (true, 64),
            Some(b'u') => (false, 63),
            _ => return Err(NOT_A_TYPE.into()),
        };
        let width = parse_i64(c_string(&text[1..])).filter(|width| (1..=most).contains(width));
        Ok(Type { signed, width: width.ok_or(NOT_A_TYPE)? as u32 })
    }

    /// The integer at a bit of a value; an unsigned one has at most 63 bits.
    fn read(self, bytes: &[u8], offset: u64) -> i64 {
        let field = bits::get_field(bytes, offset, self.width);
        if self.signed { self.lowest(field as i64) } else { field as i64 }
    }

    /// What is left of a number in the bits of this type.
    fn lowest(self, number: i64) -> i64 {
        let unused = 64 - self.width;
        if self.signed { number << unused >> unused } else { ((number as u64) << unused >> unused) as i64 }
    }

    /// Adds, and says what to write and to answer: `None` if that fails.
    fn add(self, number: i64, increment: i64, overflow: Overflow) -> Option<i64> {
        let too_far = if self.signed {
            self.signed_overflow(number, increment)
        } else {
            self.unsigned_overflow(number as u64, increment)
        };
        let sum = number.wrapping_add(increment);
        match (too_far, overflow) {
            (None, _) => Some(sum),
            (_, Overflow::Fail) => None,
            (_, Overflow::Wrap) => Some(self.lowest(sum)),
            (Some(limit), Overflow::Saturate) => Some(limit),
        }
    }

    /// The limit that a sum passes. `number` is no field if it is to be set: then the increment is 0.
    fn signed_overflow(self, number: i64, increment: i64) -> Option<i64> {
        let greatest = i64::MAX >> (64 - self.width);
        let least = -greatest - 1;
        let narrow = self.width != 64;
        // Redis computes both without looking for overflows of its own. So what lies far below the least
        // ends at the greatest.
        let (most, fewest) = (greatest.wrapping_sub(number), least.wrapping_sub(number));
        let above = increment > most && (narrow || (number >= 0 && increment > 0));
        let below = increment < fewest && (narrow || (number < 0 && increment < 0));
        if number > greatest || above {
            Some(greatest)
        } else if number < least || below {
            Some(least)
        } else {
            None
        }
    }

    /// As above; a negative number to be set is a great one.
    fn unsigned_overflow(self, number: u64, increment: i64) -> Option<i64> {
        let greatest = u64::MAX >> (64 - self.width);
        let sum = i128::from(number) + i128::from(increment);
        if sum > greatest.into() {
            Some(greatest as i64)
        } else if sum < 0 {
            Some(0)
        } else {
            None
        }
    }
}

/// Reads what follows the key. Offsets lie below `most` bytes.
fn parse(mut words: Args<'_>, most: u64) -> Result<Vec<Operation>, ErrorReply> {
    let mut operations = Vec::new();
    let mut overflow = Overflow::Wrap;
    while !words.is_empty() {
        let (word, behind) = (&words[0], words.len() - 1);
        if is_word(word, "OVERFLOW") && behind >= 1 {
            overflow = parse_overflow(&words[1])?;
            words = words.tail(2);
            continue;
        }
        let get = is_word(word, "GET") && behind >= 2;
        let set = is_word(word, "SET") && behind >= 3;
        let add = is_word(word, "INCRBY") && behind >= 3;
        if !(get || set || add) {
            return Err(SYNTAX_ERROR.into());
        }
        let field = Type::parse(&words[1])?;
        let offset = bit_offset(&words[2], Some(field.width), most)?;
        let action = match get {
            true => Action::Get,
            false if set => Action::Set(integer(&words[3])?, overflow),
            false => Action::Add(integer(&words[3])?, overflow),
        };
        operations.push(Operation { field, offset, action });
        words = words.tail(if get { 3 } else { 4 });
    }
    Ok(operations)
}

fn parse_overflow(word: &[u8]) -> Result<Overflow, ErrorReply> {
    const WORDS: [(&str, Overflow); 3] =
        [("WRAP", Overflow::Wrap), ("SAT", Overflow::Saturate), ("FAIL", Overflow::Fail)];
    let found = WORDS.into_iter().find(|(name, _)| is_word(word, name));
    found.map(|(_, overflow)| overflow).ok_or_else(|| NOT_AN_OVERFLOW.into())
}

/// Runs an operation on a value that is long enough for it, and says whether that changed the value.
fn run(operation: &Operation, value: &mut [u8]) -> (Reply, Option<bool>) {
    let Operation { field, offset, action } = *operation;
    let before = field.read(value, offset);
    let (after, answers_after) = match action {
        Action::Get => return (Reply::Integer(before), None),
        Action::Set(number, overflow) => (field.add(number, 0, overflow), false),
        Action::Add(increment, overflow) => (field.add(before, increment, overflow), true),
    };
    let Some(after) = after else { return (Reply::Null, None) };
    bits::set_field(value, offset, field.width, after as u64);
    (Reply::Integer(if answers_after { after } else { before }), Some(before != after))
}

impl Operation {
    /// The bytes that it works on.
    fn window(&self) -> Range<usize> {
        (self.offset / 8) as usize..((self.offset + u64::from(self.field.width) - 1) / 8 + 1) as usize
    }

    /// The same operation on these bytes alone.
    fn within(&self) -> Operation {
        Operation { offset: self.offset % 8, ..*self }
    }
}

fn read(ctx: &mut Context<'_>, key: &[u8], operations: &[Operation]) -> Outcome {
    let entry = ctx.lookup(key)?;
    let parts = Parts::read(ctx, key, entry.as_ref(), operations.iter().map(Operation::window))?;
    let value = |operation: &Operation| {
        operation.field.read(&parts.get(operation.window()), operation.within().offset)
    };
    Ok(Reply::Array(operations.iter().map(|operation| Reply::Integer(value(operation))).collect()))
}

fn bitfield_ro(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let operations = parse(args.tail(2), ctx.server.config.proto_max_bulk_len)?;
    if operations.iter().any(|operation| operation.action != Action::Get) {
        return Err(READS_ONLY.into());
    }
    read(ctx, &args[1], &operations)
}

fn bitfield(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let key = &args[1];
    let operations = parse(args.tail(2), ctx.server.config.proto_max_bulk_len)?;
    let writes = operations.iter().filter(|operation| operation.action != Action::Get);
    let last_bit = writes.map(|operation| operation.offset + u64::from(operation.field.width) - 1).max();
    let Some(last_bit) = last_bit else { return read(ctx, key, &operations) };
    let (entry, len) = (ctx.peek(key)?, (last_bit / 8 + 1) as usize);
    // The value is lengthened even if every operation fails.
    let grown = entry.is_none_or(|entry| (entry.value_size as usize) < len);
    let (replies, changed) = if ctx.store.engine().is_by_page(ctx.session.db, entry.as_ref(), len - 1, 1) {
        run_by_page(ctx, key, &operations, grown.then_some((entry, len)))?
    } else {
        run_on_whole(ctx, key, entry, &operations, len)?
    };
    if changed {
        ctx.notify(NotifyEvents::STRING, "setbit", key);
    }
    Ok(Reply::Array(replies))
}

/// Runs operations on a value that is `len` bytes long at least; gives the answers, and whether one of them changed
/// something, all that were carried out counting if the value grows.
fn run_on_whole(
    ctx: &mut Context<'_>,
    key: &[u8],
    entry: Option<KeyEntry>,
    operations: &[Operation],
    len: usize,
) -> Result<(Vec<Reply>, bool), Abort> {
    let before = match &entry {
        Some(entry) => ctx.value_of(key, entry)?,
        None => Bytes::new(),
    };
    let mut value = before.to_vec();
    value.resize(len.max(before.len()), 0);
    let (grown, mut changed) = (value.len() > before.len(), false);
    let mut replies = Vec::with_capacity(operations.len());
    for operation in operations {
        let (reply, wrote) = run(operation, &mut value);
        replies.push(reply);
        changed |= wrote.is_some_and(|differs| differs || grown);
    }
    if changed || grown {
        ctx.put(key, &value, entry.map_or(0, |entry| entry.expiry))?;
    }
    Ok((replies, changed))
}

/// The same for a value that changes page by page. If it is to grow, `grows` has its entry and its new length.
fn run_by_page(
    ctx: &mut Context<'_>,
    key: &[u8],
    operations: &[Operation],
    grows: Option<(Option<KeyEntry>, usize)>,
) -> Result<(Vec<Reply>, bool), Abort> {
    let entry = ctx.peek(key)?;
    let mut parts = Parts::read(ctx, key, entry.as_ref(), operations.iter().map(Operation::window))?;
    let mut len = entry.map_or(0, |entry| entry.value_size as usize);
    if let Some((_, grown)) = grows {
        len = grown;
        parts.set(len - 1, &[0]);
    }
    let mut changed = false;
    let mut replies = Vec::with_capacity(operations.len());
    for operation in operations {
        let window = operation.window();
        let mut bytes = parts.get(window.clone());
        let (reply, wrote) = run(&operation.within(), &mut bytes);
        if wrote == Some(true) {
            parts.set(window.start, &bytes);
        }
        replies.push(reply);
        changed |= wrote.is_some_and(|differs| differs || grows.is_some());
    }
    parts.write(ctx, key, len)?;
    Ok((replies, changed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(field: &str, number: i64, increment: i64, wrapped: i64, saturated: i64) {
        let field = Type::parse(field.as_bytes()).unwrap();
        assert_eq!(field.add(number, increment, Overflow::Wrap), Some(wrapped));
        assert_eq!(field.add(number, increment, Overflow::Saturate), Some(saturated));
        let fits = wrapped == number.wrapping_add(increment) && wrapped == saturated;
        assert_eq!(field.add(number, increment, Overflow::Fail), fits.then_some(wrapped));
    }

    #[test]
    fn what_does_not_fit_wraps_saturates_or_fails() {
        check("u8", 255, 1, 0, 255);
        check("u8", 0, -1, 255, 0);
        check("u8", 100, 155, 255, 255);
        check("i8", 127, 1, -128, 127);
        check("i8", -128, -1, 127, -128);
        check("i8", -128, 255, 127, 127);
        check("u63", i64::MAX, 1, 0, i64::MAX);
        check("i64", i64::MAX, 1, i64::MIN, i64::MAX);
        check("i64", i64::MIN, -1, i64::MAX, i64::MIN);
        check("i64", i64::MIN, i64::MAX, -1, -1);
        check("i1", 0, 1, -1, 0);
        check("u1", 1, 1, 0, 1);
    }

    #[test]
    fn what_is_set_has_to_fit_too() {
        check("u8", -1, 0, 255, 255);
        check("u4", 17, 0, 1, 15);
        check("i4", 9, 0, -7, 7);
        check("i8", -129, 0, 127, -128);
        // So says Redis: see `signed_overflow`.
        check("i8", i64::MIN, 0, 0, 127);
    }

    #[test]
    fn a_type_is_a_sign_and_a_width() {
        let parse = |text: &str| Type::parse(text.as_bytes()).ok().map(|field| (field.signed, field.width));
        assert_eq!(
            (parse("i64"), parse("u63"), parse("u1")),
            (Some((true, 64)), Some((false, 63)), Some((false, 1)))
        );
        for refused in ["", "u64", "i65", "i0", "i-1", "I8", "8", "i", "u 8"] {
            assert_eq!(parse(refused), None, "{refused}");
        }
    }
}
