//! The sparse form: runs of equal registers, each an opcode of one byte or two.
//!
//! | bits | run |
//! | --- | --- |
//! | `00llllll` | l + 1 registers that are 0 |
//! | `01llllll llllllll` | l + 1 registers that are 0 |
//! | `1vvvvvll` | l + 1 registers that are v + 1 |
//!
//! How runs are split and joined decides the bytes, so it is done as Redis does it, step by step.

use super::{HEADER, HllError, REGISTERS};

const SHORT_ZEROS_MOST: usize = 64;
const VALUES_MOST: usize = 4;
/// The highest value of a register that this form can hold.
const VALUE_MOST: u8 = 32;
/// So many runs, from the one before the change on, are joined where that can be.
const JOINED: usize = 5;

/// A run of equal registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    rank: u8,
    len: usize,
    /// Bytes of its opcode.
    size: usize,
}

/// The run whose opcode begins at `at`.
fn run_at(value: &[u8], at: usize) -> Result<Run, HllError> {
    let byte = *value.get(at).ok_or(HllError::Corrupt)?;
    Ok(match byte >> 6 {
        0b00 => Run { rank: 0, len: usize::from(byte & 0x3f) + 1, size: 1 },
        0b01 => {
            let low = *value.get(at + 1).ok_or(HllError::Corrupt)?;
            Run { rank: 0, len: usize::from(u16::from_be_bytes([byte & 0x3f, low])) + 1, size: 2 }
        }
        _ => Run { rank: (byte >> 2 & 0x1f) + 1, len: usize::from(byte & 3) + 1, size: 1 },
    })
}

/// Appends a run of zeros, none if `len` is 0.
pub(super) fn push_zeros(to: &mut Vec<u8>, len: usize) {
    match len {
        0 => {}
        1..=SHORT_ZEROS_MOST => to.push(len as u8 - 1),
        _ => to.extend(((len as u16 - 1) | 0x4000).to_be_bytes()),
    }
}

/// Appends a run of values, none if `len` is 0.
fn push_values(to: &mut Vec<u8>, rank: u8, len: usize) {
    if len > 0 {
        to.push(0x80 | (rank - 1) << 2 | (len as u8 - 1));
    }
}

/// Shows every register that is not 0, in order.
pub(super) fn each(registers: &[u8], mut see: impl FnMut(usize, u8)) -> Result<(), HllError> {
    let (mut at, mut index) = (0, 0);
    while at < registers.len() {
        let run = run_at(registers, at)?;
        if index + run.len > REGISTERS {
            return Err(HllError::Corrupt);
        }
        if run.rank > 0 {
            (index..index + run.len).for_each(|index| see(index, run.rank));
        }
        index += run.len;
        at += run.size;
    }
    if index == REGISTERS { Ok(()) } else { Err(HllError::Corrupt) }
}

/// Raises a register to at least `rank`, and says whether that changed it; `None` if it needs the dense form,
/// because of the rank or because the value would be longer than `most` bytes.
pub(super) fn raise(
    value: &mut Vec<u8>,
    index: usize,
    rank: u8,
    most: u64,
) -> Result<Option<bool>, HllError> {
    if rank > VALUE_MOST {
        return Ok(None);
    }
    // The run with the register, the first register of that run, and the run before.
    let (mut at, mut first, mut before) = (HEADER, 0, None);
    let mut run = run_at(value, at)?;
    while index >= first + run.len {
        before = Some(at);
        first += run.len;
        at += run.size;
        run = run_at(value, at)?;
    }
    if run.rank >= rank {
        return Ok(Some(false));
    }
    let (left, right) = (index - first, first + run.len - 1 - index);
    let mut split = Vec::with_capacity(5);
    if run.rank == 0 {
        push_zeros(&mut split, left);
        push_values(&mut split, rank, 1);
        push_zeros(&mut split, right);
    } else {
        push_values(&mut split, run.rank, left);
        push_values(&mut split, rank, 1);
        push_values(&mut split, run.rank, right);
    }
    let len = value.len() - run.size + split.len();
    if split.len() > run.size && len as u64 > most {
        return Ok(None);
    }
    value.splice(at..at + run.size, split);
    join(value, before.unwrap_or(HEADER));
    Ok(Some(true))
}

/// Joins neighbours with the same value, from `at` on. Damage behind the registers is not looked for here.
fn join(value: &mut Vec<u8>, mut at: usize) {
    for _ in 0..JOINED {
        let Ok(run) = run_at(value, at) else { break };
        if run.rank > 0
            && let Ok(next) = run_at(value, at + 1)
            && next.rank == run.rank
            && run.len + next.len <= VALUES_MOST
        {
            let mut joined = Vec::with_capacity(1);
            push_values(&mut joined, run.rank, run.len + next.len);
            value.splice(at..at + 2, joined);
        } else {
            at += run.size;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(runs: &[u8]) -> Vec<u8> {
        [&[0; HEADER], runs].concat()
    }

    #[track_caller]
    fn check(runs: &[u8], (index, rank): (usize, u8), expected: &[u8]) {
        let mut value = with(runs);
        let changed = raise(&mut value, index, rank, 3000).unwrap();
        assert_eq!((changed, &value[HEADER..]), (Some(runs != expected), expected));
    }

    /// As many zeros as there are registers beside these.
    fn zeros(others: usize) -> [u8; 2] {
        ((REGISTERS - others - 1) as u16 | 0x4000).to_be_bytes()
    }

    fn v(rank: u8, len: u8) -> u8 {
        0x80 | (rank - 1) << 2 | (len - 1)
    }

    #[test]
    fn a_run_is_split_around_the_register() {
        let [high, low] = zeros(0);
        let [rest_high, rest_low] = zeros(11);
        check(&[high, low], (10, 3), &[9, v(3, 1), rest_high, rest_low]);
        let [rest_high, rest_low] = zeros(1);
        check(&[high, low], (0, 3), &[v(3, 1), rest_high, rest_low]);
        check(&[high, low], (REGISTERS - 1, 3), &[rest_high, rest_low, v(3, 1)]);
        check(&[v(2, 4), high, low], (2, 5), &[v(2, 2), v(5, 1), v(2, 1), high, low]);
        check(&[v(2, 4), high, low], (2, 2), &[v(2, 4), high, low]);
    }

    #[test]
    fn equal_neighbours_are_joined_up_to_four() {
        check(&[v(3, 1), 0, v(3, 1)], (1, 3), &[v(3, 3)]);
        check(&[v(3, 2), 0, v(3, 2)], (2, 3), &[v(3, 3), v(3, 2)]);
        check(&[v(3, 2), v(2, 1), v(3, 1)], (2, 3), &[v(3, 4)]);
    }

    #[test]
    fn damage_behind_the_register_is_left_to_who_meets_it() {
        let [high, low] = zeros(0);
        let [rest_high, rest_low] = zeros(1);
        // The last byte would begin an opcode of two.
        check(&[high, low, 0x77], (REGISTERS - 1, 3), &[rest_high, rest_low, v(3, 1), 0x77]);
    }

    #[test]
    fn what_this_form_cannot_hold_needs_the_dense_one() {
        let mut value = with(&zeros(0));
        assert_eq!(raise(&mut value, 5, 33, 3000), Ok(None));
        assert_eq!(raise(&mut value, 5, 32, 19), Ok(None));
        assert_eq!(raise(&mut value, 5, 32, 20), Ok(Some(true)));
    }

    #[test]
    fn runs_that_do_not_make_up_all_registers_are_damage() {
        let seen = |runs: &[u8]| each(runs, |_, _| {});
        let [high, low] = zeros(0);
        assert_eq!(seen(&[high, low]), Ok(()));
        assert_eq!(seen(&[high, low, 0]), Err(HllError::Corrupt));
        assert_eq!(seen(&[high]), Err(HllError::Corrupt));
        assert_eq!(seen(&[]), Err(HllError::Corrupt));
        assert_eq!(raise(&mut with(&[0]), 5, 1, 3000), Err(HllError::Corrupt));
    }
}
