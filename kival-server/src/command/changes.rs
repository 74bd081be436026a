//! KIVAL CHANGES: what is asked of the change feed, and the shape of the answer. The log is read by a thread
//! that may wait: see `engine_task/follow.rs`.

use super::options::{SYNTAX_ERROR, integer, is_word};
use super::{Abort, Context, Outcome};
use crate::engine_task::follow::Following;
use crate::glob::{self, Case};
use crate::resp::{Args, Reply};
use kival_engine::feed::{Change, Changes, FeedQuery, KeyFilter, What};
use std::sync::Arc;

/// Changes in a reply, about, unless COUNT says otherwise.
const COUNT: usize = 1000;

const BAD_SEQUENCE: &str = "ERR the sequence is not an integer or out of range";
const NEGATIVE_TIMEOUT: &str = "ERR timeout is negative";
const BAD_TIMEOUT: &str = "ERR timeout is not an integer or out of range";

/// `KIVAL CHANGES SINCE seq [COUNT n] [BLOCK ms] [MATCH pattern] [WITHVALUES]`
pub(super) fn changes(ctx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    if !is_word(&args[2], "since") {
        return Err(SYNTAX_ERROR.into());
    }
    let since = match &args[3] {
        b"$" => ctx.store.engine_ref().feed().end(),
        number => sequence(number)?,
    };
    let mut query = FeedQuery { since, count: COUNT, filter: None, values: false };
    let (mut blocks, mut deadline) = (false, None);
    let mut words = args.tail(4).iter();
    while let Some(word) = words.next() {
        if is_word(word, "withvalues") {
            query.values = true;
            continue;
        }
        let value = words.next().ok_or(SYNTAX_ERROR)?;
        if is_word(word, "count") {
            let count = usize::try_from(integer(value)?).ok().filter(|count| *count > 0);
            query.count = count.ok_or(SYNTAX_ERROR)?;
        } else if is_word(word, "block") {
            (blocks, deadline) = (true, timeout(value, ctx.now())?);
        } else if is_word(word, "match") {
            query.filter = filter(value);
        } else {
            return Err(SYNTAX_ERROR.into());
        }
    }
    Err(Abort::Follow(Box::new(Following::new(query, blocks, deadline))))
}

fn sequence(text: &[u8]) -> Result<u64, Abort> {
    let number = integer(text).ok().and_then(|number| u64::try_from(number).ok());
    number.ok_or_else(|| BAD_SEQUENCE.into())
}

/// When a wait of so many milliseconds is over; never for 0.
fn timeout(text: &[u8], now: u64) -> Result<Option<u64>, Abort> {
    let milliseconds = integer(text).map_err(|_| BAD_TIMEOUT)?;
    match u64::try_from(milliseconds) {
        Ok(0) => Ok(None),
        Ok(milliseconds) => Ok(Some(now.saturating_add(milliseconds))),
        Err(_) => Err(NEGATIVE_TIMEOUT.into()),
    }
}

fn filter(pattern: &[u8]) -> Option<KeyFilter> {
    if pattern == b"*" {
        return None;
    }
    let pattern = pattern.to_vec();
    Some(Arc::new(move |key: &[u8]| glob::matches(&pattern, key, Case::Sensitive)))
}

/// Where to go on, and the changes.
pub fn answer(found: Changes, values: bool) -> Reply {
    let changes = found.changes.into_iter().map(|change| describe(change, values)).collect();
    Reply::Array(vec![number(found.next), Reply::Array(changes)])
}

fn number(n: u64) -> Reply {
    Reply::Integer(n as i64)
}

fn describe(change: Change, values: bool) -> Reply {
    let Change { sequence, db, key, expiry, what } = change;
    let kind = match &what {
        What::Set(_) => "set",
        What::Part(..) => "part",
        What::Delete => "delete",
        What::Expire if expiry == 0 => "persist",
        What::Expire => "expire",
        What::Flush => "flush",
        What::Swap(_) => "swap",
    };
    let key = match what {
        What::Flush => Reply::Null,
        What::Swap(other) => number(other.into()),
        _ => Reply::Bulk(key),
    };
    let mut fields = vec![number(sequence), Reply::bulk(kind), number(db.into()), key];
    if values {
        let (value, last) = match what {
            What::Part(offset, bytes) => (bytes, number(offset.into())),
            What::Set(value) if expiry == 0 => (value, Reply::Integer(-1)),
            What::Set(value) => (value, number(expiry)),
            _ if expiry == 0 => (None, Reply::Integer(-1)),
            _ => (None, number(expiry)),
        };
        fields.extend([value.into(), last]);
    }
    Reply::Array(fields)
}
