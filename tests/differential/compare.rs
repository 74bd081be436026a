//! When two replies count as the same: to the byte, but for the exceptions that are listed here, each with
//! its reason. Nothing else in the comparison is lenient.

use kival_test_support::{Frame, Value};

/// How replies to a command are compared. Errors are always compared to the byte.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rule {
    /// To the byte.
    Exact,
    /// Integers that may differ by the time between the two servers' clocks, in units of so many
    /// milliseconds; negative ones (no key, no expiry) are to be equal.
    Near { unit: i64 },
    /// Arrays in any order.
    Sorted,
    /// Payloads of the same value; to the byte, unless Redis has compressed it.
    Payload,
    /// A cursor and an array of keys, whatever is in them.
    Page,
}

/// The exceptions: command, rule, reason.
pub(crate) const EXCEPTIONS: [(&str, Rule, &str); 7] = [
    ("TTL", Rule::Near { unit: 1000 }, "the two servers get a command at slightly different times"),
    ("PTTL", Rule::Near { unit: 1 }, "as TTL"),
    ("EXPIRETIME", Rule::Near { unit: 1000 }, "as TTL: EXPIRE counts from when it arrives"),
    ("PEXPIRETIME", Rule::Near { unit: 1 }, "as EXPIRETIME"),
    ("DUMP", Rule::Payload, "kival reads what Redis compresses, and does not compress"),
    ("KEYS", Rule::Sorted, "in the order of the server's hash table"),
    ("SCAN", Rule::Page, "the same, and cursors are the server's own; full loops are compared as sets"),
];

// Not generated at all, and why:
// - RANDOMKEY: a random key; the runner checks that it exists, and is nil on both servers or on none.
// - TIME, INFO, CLIENT ID, CLIENT LIST, OBJECT, COMMAND COUNT, COMMAND DOCS, COMMAND INFO, CONFIG GET of
//   real settings: they speak of the server, not of the data.
// - MIGRATE: kival refuses it inside a transaction; tests/migrate.rs holds it against redis-server.
// - CLIENT SETINFO: kival follows Redis 7.2 there, the other server is 7.0.

/// The rule for a command.
pub(crate) fn rule(name: &[u8]) -> Rule {
    let exception = EXCEPTIONS.iter().find(|(exempt, ..)| name.eq_ignore_ascii_case(exempt.as_bytes()));
    exception.map_or(Rule::Exact, |(_, rule, _)| *rule)
}

/// Whether two replies are the same under a rule. `slack_ms` is how far the servers' clocks may have been
/// apart when they set or read an expiry.
pub(crate) fn same(rule: Rule, slack_ms: i64, left: &Frame, right: &Frame) -> bool {
    if left.raw == right.raw {
        return true;
    }
    // What the rules forgive is not the length, but for digits of numbers and cursors.
    let sized = rule != Rule::Sorted || left.raw.len() == right.raw.len();
    rule != Rule::Exact && sized && same_values(rule, slack_ms, &left.value, &right.value)
}

/// Whether two replies to EXEC are the same; `rules` are those of the queued commands.
pub(crate) fn same_all(rules: &[Rule], slack_ms: i64, left: &Frame, right: &Frame) -> bool {
    if left.raw == right.raw {
        return true;
    }
    match (&left.value, &right.value) {
        (Value::Array(left), Value::Array(right)) => {
            let count = left.len() == right.len() && left.len() == rules.len();
            let mut replies = rules.iter().zip(left.iter().zip(right));
            count && replies.all(|(rule, (left, right))| same_values(*rule, slack_ms, left, right))
        }
        _ => false,
    }
}

fn same_values(rule: Rule, slack_ms: i64, left: &Value, right: &Value) -> bool {
    if left == right {
        return true;
    }
    match (rule, left, right) {
        (Rule::Near { unit }, Value::Int(a), Value::Int(b)) => {
            *a >= 0 && *b >= 0 && a.abs_diff(*b) <= (slack_ms / unit + 1).unsigned_abs()
        }
        (Rule::Sorted, Value::Array(a), Value::Array(b)) => sorted(a) == sorted(b),
        (Rule::Payload, Value::Bulk(a), Value::Bulk(b)) => is_compressed(b) && value_of(a) == value_of(b),
        (Rule::Page, Value::Array(a), Value::Array(b)) => is_page(a) && is_page(b),
        _ => false,
    }
}

fn sorted(items: &[Value]) -> Vec<&[u8]> {
    let mut all: Vec<&[u8]> = items.iter().map(|item| item.bytes().unwrap_or_default()).collect();
    all.sort_unstable();
    all
}

fn is_compressed(payload: &[u8]) -> bool {
    payload.starts_with(b"\0\xc3")
}

fn value_of(payload: &[u8]) -> Vec<u8> {
    kival_server::rdb::restore(payload, u64::MAX).expect("a payload of a string").to_vec()
}

fn is_page(reply: &[Value]) -> bool {
    let [Value::Bulk(cursor), Value::Array(keys)] = reply else { return false };
    cursor.iter().all(u8::is_ascii_digit) && keys.iter().all(|key| matches!(key, Value::Bulk(_)))
}
