//! Linearizability: whether a concurrent history of one object can be told as a sequence in which each operation
//! takes effect at one instant between its call and its return. The search of Wing and Gong with Lowe's
//! memory of the states that led nowhere, for one object (the property is local: a history of many objects is
//! linearizable if that of each object is).
//!
//! What an operation does is the caller's business: it gives a step function.

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;
use std::time::Instant;

/// One operation of a history.
#[derive(Clone, Debug)]
pub struct Operation<C, R> {
    /// What was asked.
    pub call: C,
    /// When it was sent.
    pub called: Instant,
    /// When it was answered. Where it was not: when it had taken effect if it ever did, that is after the crash.
    pub returned: Instant,
    /// The answer; `None` where none came, so that the operation may have happened or not.
    pub reply: Option<R>,
}

/// Those that were done: all below `below`, and these.
type Done = (usize, Vec<usize>);

/// Looks for a sequence that explains `history` from the state `start`. `step` gives an operation's reply and the
/// state after it.
///
/// # Errors
/// Where there is none, the operations that stood at the end of the longest explanation.
pub fn check<C, R, S>(
    start: S,
    history: &[Operation<C, R>],
    step: impl Fn(&S, &C) -> (R, S),
) -> Result<(), String>
where
    C: Debug,
    R: Debug + PartialEq,
    S: Clone + Debug + Eq + Hash,
{
    let mut history: Vec<&Operation<C, R>> = history.iter().collect();
    history.sort_by_key(|op| op.called);
    let mut seen: HashSet<(Done, S)> = HashSet::new();
    let mut open: Vec<(Done, S)> = vec![((0, Vec::new()), start)];
    let mut farthest: Option<(usize, String)> = None;
    while let Some((done, state)) = open.pop() {
        if done.0 == history.len() {
            return Ok(());
        }
        if !seen.insert((done.clone(), state.clone())) {
            continue;
        }
        let next = candidates(&history, &done);
        let reached = done.0 + done.1.len();
        if farthest.as_ref().is_none_or(|(most, _)| reached > *most) {
            let stood: Vec<_> = next.iter().map(|i| (&history[*i].call, &history[*i].reply)).collect();
            farthest = Some((
                reached,
                format!("after {reached} operations, in state {state:?}, none fits of {stood:?}"),
            ));
        }
        for i in next {
            let op = history[i];
            let (reply, after) = step(&state, &op.call);
            match &op.reply {
                Some(seen) if *seen == reply => open.push((with(&done, i), after)),
                Some(_) => {}
                None => {
                    open.push((with(&done, i), state.clone()));
                    open.push((with(&done, i), after));
                }
            }
        }
    }
    Err(farthest.map_or_else(String::new, |(_, message)| message))
}

/// The operations that may come next: those that were called before any other that is left returned.
fn candidates<C, R>(history: &[&Operation<C, R>], done: &Done) -> Vec<usize> {
    let mut found = Vec::new();
    let mut first_return: Option<Instant> = None;
    for (i, op) in history.iter().enumerate().skip(done.0) {
        if done.1.contains(&i) {
            continue;
        }
        if first_return.is_some_and(|returned| op.called > returned) {
            break;
        }
        first_return = Some(first_return.map_or(op.returned, |returned| returned.min(op.returned)));
        found.push(i);
    }
    found.retain(|i| first_return.is_none_or(|returned| history[*i].called <= returned));
    found
}

fn with(done: &Done, i: usize) -> Done {
    let (mut below, mut above) = done.clone();
    let place = above.binary_search(&i).expect_err("an operation is done once");
    above.insert(place, i);
    let whole = above
        .iter()
        .take_while(|i| {
            let next = **i == below;
            below += usize::from(next);
            next
        })
        .count();
    above.drain(..whole);
    (below, above)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// A register: a write gives its new value back, a read what is there.
    fn register(state: &u32, call: &Option<u32>) -> (u32, u32) {
        let after = call.unwrap_or(*state);
        (after, after)
    }

    /// Operations as (written value or none for a read, called, returned, reply or none).
    type Script = [(Option<u32>, u64, u64, Option<u32>)];

    fn explained(script: &Script) -> bool {
        let zero = Instant::now();
        let at = |n| zero + Duration::from_secs(n);
        let history: Vec<_> = script
            .iter()
            .map(|&(call, called, returned, reply)| Operation {
                call,
                called: at(called),
                returned: at(returned),
                reply,
            })
            .collect();
        check(0, &history, register).is_ok()
    }

    #[test]
    fn an_empty_history_and_a_sequence_are_linearizable() {
        assert!(explained(&[]));
        assert!(explained(&[(Some(1), 1, 2, Some(1)), (None, 3, 4, Some(1))]));
    }

    #[test]
    fn a_lost_write_is_not() {
        assert!(!explained(&[(Some(1), 1, 2, Some(1)), (None, 3, 4, Some(0))]));
    }

    #[test]
    fn reads_beside_a_write_see_either_value() {
        let write = (Some(1), 1, 9, Some(1));
        assert!(explained(&[write, (None, 2, 3, Some(0)), (None, 4, 5, Some(1))]));
        assert!(explained(&[write, (None, 2, 5, Some(1)), (None, 4, 6, Some(0))]));
    }

    #[test]
    fn a_value_that_was_seen_does_not_go_back() {
        assert!(!explained(&[(Some(1), 1, 9, Some(1)), (None, 2, 3, Some(1)), (None, 4, 5, Some(0))]));
    }

    #[test]
    fn a_write_without_an_answer_may_have_happened_or_not_but_not_after_the_crash() {
        let lost = (Some(1), 1, 4, None);
        assert!(explained(&[lost, (None, 5, 6, Some(0))]));
        assert!(explained(&[lost, (None, 5, 6, Some(1))]));
        assert!(explained(&[lost, (None, 2, 3, Some(0)), (None, 5, 6, Some(1))]));
        assert!(!explained(&[lost, (None, 5, 6, Some(0)), (None, 7, 8, Some(1))]));
        assert!(!explained(&[lost, (None, 2, 3, Some(1)), (None, 5, 6, Some(0))]));
    }

    #[test]
    fn two_readers_do_not_see_two_writes_in_two_orders() {
        let writes = [(Some(1), 1, 20, Some(1)), (Some(2), 1, 20, Some(2))];
        let one = [(None, 2, 3, Some(1)), (None, 4, 5, Some(2))];
        let other = [(None, 2, 3, Some(2)), (None, 4, 5, Some(1))];
        assert!(explained(&[writes, one].concat()));
        assert!(!explained(&[writes, one, other].concat()));
    }
}
