//! The Bloom filter of a hint: which keys a segment may have records of.

use super::{Fields, seal_crc};
use crate::error::Damage;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Bits a key: with seven probes about one key in a hundred is taken for present by mistake.
const BITS_PER_KEY: u64 = 10;
const PROBES: u32 = 7;
const HEADER: usize = 16;
const CRC_END: usize = 4;
/// Bytes of a namespace and a key that are short.
const SHORT: usize = 64;

/// The hash that filters stand on: XXH3-64 over namespace and key.
pub fn hash(namespace: u32, key: &[u8]) -> u64 {
    // In one piece a short key takes a fraction of what it does in two.
    let mut whole = [0; SHORT];
    if let Some((into, rest)) = whole.split_first_chunk_mut()
        && let Some(into_key) = rest.get_mut(..key.len())
    {
        *into = namespace.to_le_bytes();
        into_key.copy_from_slice(key);
        return xxh3_64(&whole[..4 + key.len()]);
    }
    let mut state = Xxh3::new();
    state.update(&namespace.to_le_bytes());
    state.update(key);
    state.digest()
}

/// A set of keys that may say yes by mistake, never no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    probes: u32,
    bits: Vec<u8>,
}

impl Filter {
    /// An empty filter with room for `keys` keys.
    pub fn with_room_for(keys: u64) -> Filter {
        let bytes = (keys * BITS_PER_KEY).div_ceil(64).max(1) * 8;
        Filter { probes: PROBES, bits: vec![0; bytes as usize] }
    }

    fn probe(&self, hash: u64) -> impl Iterator<Item = (usize, u8)> + use<> {
        let size = self.bits.len() as u64 * 8;
        let step = hash.rotate_left(32) | 1;
        (0..u64::from(self.probes)).map(move |j| {
            let bit = hash.wrapping_add(j.wrapping_mul(step)) % size;
            ((bit / 8) as usize, 1 << (bit % 8))
        })
    }

    /// Puts a key's hash in.
    pub fn insert(&mut self, hash: u64) {
        for (byte, bit) in self.probe(hash) {
            self.bits[byte] |= bit;
        }
    }

    /// Whether a key with this hash may have been put in.
    pub fn may_contain(&self, hash: u64) -> bool {
        self.probe(hash).all(|(byte, bit)| self.bits[byte] & bit != 0)
    }

    /// The filter's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; CRC_END];
        out.extend_from_slice(&self.probes.to_le_bytes());
        out.extend_from_slice(&(self.bits.len() as u64 * 8).to_le_bytes());
        out.extend_from_slice(&self.bits);
        seal_crc(&mut out, CRC_END);
        out
    }

    /// Reads a filter that takes up all of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Filter, Damage> {
        let mut fields = Fields(bytes);
        if fields.u32()? != crc32fast::hash(&bytes[CRC_END..]) {
            return Err(Damage::Checksum);
        }
        let probes = fields.u32()?;
        let bits = fields.u64()?;
        let fits = bits == (bytes.len() - HEADER) as u64 * 8 && bits > 0 && bits % 64 == 0;
        if !fits || probes == 0 || probes > 32 {
            return Err(Damage::Field);
        }
        Ok(Filter { probes, bits: fields.0.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_is_found_and_little_else() {
        let mut filter = Filter::with_room_for(10_000);
        let key = |i: u32| hash(0, &i.to_le_bytes());
        (0..10_000).for_each(|i| filter.insert(key(i)));
        assert!((0..10_000).all(|i| filter.may_contain(key(i))));
        let wrong = (10_000..30_000).filter(|&i| filter.may_contain(key(i))).count();
        assert!(wrong < 400, "{wrong} of 20,000 absent keys taken for present");
        assert_eq!(Filter::decode(&filter.encode()), Ok(filter));
    }

    #[test]
    fn a_hash_is_that_of_namespace_and_key_one_behind_the_other() {
        let key = [7; 100];
        for len in 0..key.len() {
            let whole = [&9_u32.to_le_bytes()[..], &key[..len]].concat();
            assert_eq!(hash(9, &key[..len]), xxh3_64(&whole), "{len}");
        }
    }

    #[test]
    fn damage_is_seen() {
        let mut filter = Filter::with_room_for(1);
        filter.insert(1);
        let bytes = filter.encode();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Filter::decode(&damaged).is_err(), "bit {bit}");
        }
        assert!(Filter::decode(&bytes[..10]).is_err());
    }
}
