//! From elements to registers, and from registers to an estimate.

use super::{HllError, HyperLogLog, INDEX_BITS, REGISTERS};

const SEED: u64 = 0xadc8_3b19;
/// Bits of a hash that are left when the register is chosen.
const RANK_BITS: usize = 64 - INDEX_BITS as usize;
/// 1 / (2 ln 2), as Redis has it.
const ALPHA: f64 = 0.721_347_520_444_481_7;

/// The register of an element, and the value that it asks for: one more than the zeros at the end of the rest
/// of its hash.
pub(super) fn register_of(element: &[u8]) -> (usize, u8) {
    let hash = murmur64a(element, SEED);
    let rest = hash >> INDEX_BITS | 1 << RANK_BITS;
    (hash as usize % REGISTERS, rest.trailing_zeros() as u8 + 1)
}

/// MurmurHash64A.
fn murmur64a(bytes: &[u8], seed: u64) -> u64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    const R: u32 = 47;
    let mut hash = seed ^ (bytes.len() as u64).wrapping_mul(M);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let mut word = u64::from_le_bytes(*word).wrapping_mul(M);
        word ^= word >> R;
        hash = (hash ^ word.wrapping_mul(M)).wrapping_mul(M);
    }
    if !rest.is_empty() {
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(M);
    }
    hash ^= hash >> R;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> R
}

/// The highest values of each register over several HyperLogLogs.
#[derive(Debug, Clone)]
pub struct Registers(Vec<u8>);

impl Default for Registers {
    fn default() -> Self {
        Registers::new()
    }
}

impl Registers {
    /// Those of none.
    pub fn new() -> Registers {
        Registers(vec![0; REGISTERS])
    }

    /// Adds one.
    ///
    /// # Errors
    /// [`HllError::Corrupt`].
    pub fn merge(&mut self, counter: &HyperLogLog) -> Result<(), HllError> {
        let Registers(registers) = self;
        counter.each(|index, rank| registers[index] = registers[index].max(rank))
    }

    /// Those that are not 0.
    pub(super) fn set(&self) -> impl Iterator<Item = (usize, u8)> {
        self.0.iter().copied().enumerate().filter(|(_, rank)| *rank > 0)
    }

    /// The estimate of Ertl, "New cardinality estimation algorithms for HyperLogLog sketches"
    /// (arXiv:1702.01284), in the order in which Redis computes it, so that it is equal to the last bit.
    pub fn count(&self) -> u64 {
        let mut histogram = [0u32; 64];
        for rank in &self.0 {
            histogram[usize::from(*rank)] += 1;
        }
        let all = REGISTERS as f64;
        let mut sum = all * tau((all - f64::from(histogram[RANK_BITS + 1])) / all);
        for count in histogram[1..=RANK_BITS].iter().rev() {
            sum += f64::from(*count);
            sum *= 0.5;
        }
        sum += all * sigma(f64::from(histogram[0]) / all);
        (ALPHA * all * all / sum).round() as u64
    }
}

fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut sum) = (1.0, x);
    loop {
        x *= x;
        let before = sum;
        sum += x * y;
        y += y;
        if sum == before {
            return sum;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut sum) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = sum;
        y *= 0.5;
        sum -= (1.0 - x).powi(2) * y;
        if sum == before {
            return sum / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_is_near_the_truth() {
        let mut counter = HyperLogLog::new();
        for number in 0..200_000u32 {
            counter.add(&number.to_le_bytes(), 3000).unwrap();
            if [1, 10, 100, 1000, 10_000, 199_999].contains(&number) {
                let mut registers = Registers::new();
                registers.merge(&counter).unwrap();
                let (count, truth) = (registers.count() as f64, f64::from(number + 1));
                assert!((count - truth).abs() <= truth * 0.03, "{count} of {truth}");
            }
        }
    }

    #[test]
    fn of_nothing_the_estimate_is_nothing() {
        assert_eq!(Registers::new().count(), 0);
    }

    #[test]
    fn the_hash_is_the_known_one() {
        assert_eq!(murmur64a(b"", 0), 0);
        assert_ne!(murmur64a(b"12345678", SEED), murmur64a(b"123456789", SEED));
    }
}
