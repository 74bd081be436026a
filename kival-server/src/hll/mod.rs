//! HyperLogLogs in Redis's bytes: 16,384 registers of six bits behind a header, either packed (*dense*) or as
//! runs of equal registers (*sparse*). A value made by Redis goes on being one here, and the other way round.
//!
//! Here are the header and the dense form. `sparse` holds the other form, `count` hashing and estimation.
//! Nothing here knows of keys or replies.

mod count;
mod sparse;

pub use count::Registers;

use bytes::Bytes;

/// Bits of a hash that choose the register.
const INDEX_BITS: u32 = 14;
/// Number of registers.
const REGISTERS: usize = 1 << INDEX_BITS;
/// Bits of a register in the dense form.
const REGISTER_BITS: usize = 6;

const MAGIC: &[u8] = b"HYLL";
const ENCODING_AT: usize = 4;
const COUNT_AT: usize = 8;
/// Magic, encoding, three bytes of no meaning, and the count that was last computed.
const HEADER: usize = 16;
const DENSE: u8 = 0;
const SPARSE: u8 = 1;
const DENSE_SIZE: usize = HEADER + REGISTERS * REGISTER_BITS / 8;
/// In the last byte of the count: it is out of date.
const OUT_OF_DATE: u8 = 0x80;

/// What is wrong with a value that should be a HyperLogLog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HllError {
    /// It has not the form of one.
    #[error("not a HyperLogLog")]
    NotOne,
    /// It has, but its runs do not make up all registers.
    #[error("a damaged HyperLogLog")]
    Corrupt,
}

/// A HyperLogLog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HyperLogLog {
    /// At least a header, with a known encoding; if dense, of the dense size.
    value: Vec<u8>,
}

impl Default for HyperLogLog {
    fn default() -> Self {
        HyperLogLog::new()
    }
}

impl HyperLogLog {
    /// One to which nothing has been added.
    pub fn new() -> HyperLogLog {
        let mut value = vec![0; HEADER];
        value[..MAGIC.len()].copy_from_slice(MAGIC);
        value[ENCODING_AT] = SPARSE;
        sparse::push_zeros(&mut value, REGISTERS);
        HyperLogLog { value }
    }

    /// Takes a value as one.
    ///
    /// # Errors
    /// [`HllError::NotOne`]; damage behind the header is found when it is met.
    pub fn from_bytes(value: Bytes) -> Result<HyperLogLog, HllError> {
        let fits = value.len() >= HEADER
            && value.starts_with(MAGIC)
            && match value[ENCODING_AT] {
                DENSE => value.len() == DENSE_SIZE,
                SPARSE => true,
                _ => false,
            };
        if fits { Ok(HyperLogLog { value: value.into() }) } else { Err(HllError::NotOne) }
    }

    /// The value.
    pub fn bytes(&self) -> &[u8] {
        &self.value
    }

    /// Whether its registers are packed.
    pub fn is_dense(&self) -> bool {
        self.value[ENCODING_AT] == DENSE
    }

    /// The count that was last computed, if nothing has been added since.
    pub fn remembered_count(&self) -> Option<u64> {
        let count: [u8; 8] = self.value[COUNT_AT..HEADER].try_into().expect("a slice of eight bytes");
        (count[7] & OUT_OF_DATE == 0).then(|| u64::from_le_bytes(count))
    }

    /// Keeps a count that was computed.
    pub fn remember_count(&mut self, count: u64) {
        self.value[COUNT_AT..HEADER].copy_from_slice(&count.to_le_bytes());
    }

    /// Marks the remembered count as out of date.
    pub fn forget_count(&mut self) {
        self.value[HEADER - 1] |= OUT_OF_DATE;
    }

    /// Adds an element, and says whether that changed a register. The dense form is chosen when the sparse
    /// one would take more than `sparse_most` bytes.
    ///
    /// # Errors
    /// [`HllError::Corrupt`].
    pub fn add(&mut self, element: &[u8], sparse_most: u64) -> Result<bool, HllError> {
        let (index, rank) = count::register_of(element);
        self.raise_one(index, rank, sparse_most)
    }

    /// Raises every register to at least what it is in `registers`.
    ///
    /// # Errors
    /// [`HllError::Corrupt`].
    pub fn raise(&mut self, registers: &Registers, sparse_most: u64) -> Result<(), HllError> {
        for (index, rank) in registers.set() {
            self.raise_one(index, rank, sparse_most)?;
        }
        Ok(())
    }

    fn raise_one(&mut self, index: usize, rank: u8, sparse_most: u64) -> Result<bool, HllError> {
        if !self.is_dense() {
            if let Some(changed) = sparse::raise(&mut self.value, index, rank, sparse_most)? {
                return Ok(changed);
            }
            self.make_dense()?;
        }
        let registers = &mut self.value[HEADER..];
        let higher = rank > get(registers, index);
        if higher {
            set(registers, index, rank);
        }
        Ok(higher)
    }

    /// Packs the registers.
    ///
    /// # Errors
    /// [`HllError::Corrupt`].
    pub fn make_dense(&mut self) -> Result<(), HllError> {
        if self.is_dense() {
            return Ok(());
        }
        let mut dense = vec![0; DENSE_SIZE];
        dense[..HEADER].copy_from_slice(&self.value[..HEADER]);
        dense[ENCODING_AT] = DENSE;
        self.each(|index, rank| set(&mut dense[HEADER..], index, rank))?;
        self.value = dense;
        Ok(())
    }

    /// Shows every register that is not 0, in order.
    fn each(&self, mut see: impl FnMut(usize, u8)) -> Result<(), HllError> {
        let registers = &self.value[HEADER..];
        if !self.is_dense() {
            return sparse::each(registers, see);
        }
        for index in 0..REGISTERS {
            match get(registers, index) {
                0 => {}
                rank => see(index, rank),
            }
        }
        Ok(())
    }
}

/// A register of the dense form: its lowest bit is the lowest that is free.
fn get(registers: &[u8], index: usize) -> u8 {
    let (byte, shift) = place(index);
    let next = registers.get(byte + 1).copied().unwrap_or(0);
    (u16::from_le_bytes([registers[byte], next]) >> shift) as u8 & 0x3f
}

fn set(registers: &mut [u8], index: usize, rank: u8) {
    let (byte, shift) = place(index);
    let [low, high] = (u16::from(rank & 0x3f) << shift).to_le_bytes();
    let [low_mask, high_mask] = (0x3f_u16 << shift).to_le_bytes();
    registers[byte] = registers[byte] & !low_mask | low;
    if let Some(next) = registers.get_mut(byte + 1) {
        *next = *next & !high_mask | high;
    }
}

/// The byte in which a register begins, and the bit.
fn place(index: usize) -> (usize, usize) {
    (index * REGISTER_BITS / 8, index * REGISTER_BITS % 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_of_six_bits_keep_apart() {
        let mut registers = vec![0; DENSE_SIZE - HEADER];
        for index in 0..REGISTERS {
            set(&mut registers, index, (index % 64) as u8);
        }
        for index in (0..REGISTERS).step_by(3) {
            set(&mut registers, index, 0);
        }
        for index in 0..REGISTERS {
            let expected = if index % 3 == 0 { 0 } else { index % 64 };
            assert_eq!(usize::from(get(&registers, index)), expected);
        }
    }

    #[test]
    fn sparse_and_dense_hold_the_same_whatever_was_added() {
        let (mut sparse, mut dense) = (HyperLogLog::new(), HyperLogLog::new());
        dense.make_dense().unwrap();
        for number in 0..3000u32 {
            let element = number.to_le_bytes();
            let changed = sparse.add(&element, u64::MAX).unwrap();
            assert_eq!(dense.add(&element, 0).unwrap(), changed, "{number}");
        }
        assert!(!sparse.is_dense());
        sparse.make_dense().unwrap();
        assert_eq!(sparse, dense);
    }

    #[test]
    fn the_sparse_form_ends_at_its_bound() {
        let mut counter = HyperLogLog::new();
        let mut number = 0u32;
        while !counter.is_dense() {
            assert!(counter.bytes().len() <= 3000);
            counter.add(&number.to_le_bytes(), 3000).unwrap();
            number += 1;
        }
        assert!(number > 1000, "{number}");
        assert_eq!(counter.bytes().len(), DENSE_SIZE);
    }

    #[test]
    fn a_count_is_remembered_until_it_is_forgotten() {
        let mut counter = HyperLogLog::new();
        assert_eq!(counter.remembered_count(), Some(0));
        counter.remember_count(77);
        assert_eq!(counter.remembered_count(), Some(77));
        counter.forget_count();
        assert_eq!(counter.remembered_count(), None);
    }

    #[test]
    fn what_has_not_the_form_of_one_is_refused() {
        let sound = HyperLogLog::new().bytes().to_vec();
        let refused = |change: fn(&mut Vec<u8>)| {
            let mut value = sound.clone();
            change(&mut value);
            HyperLogLog::from_bytes(value.into()) == Err(HllError::NotOne)
        };
        assert!(!refused(|_| {}));
        assert!(refused(|value| value.truncate(HEADER - 1)));
        assert!(refused(|value| value[0] = b'h'));
        assert!(refused(|value| value[ENCODING_AT] = 2));
        assert!(refused(|value| value[ENCODING_AT] = DENSE));
    }
}
