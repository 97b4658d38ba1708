//! Rows that prove themselves: a row is a function of (writer, counter), and a key tells both.
//!
//! A key is 24 bytes that look random, so neighbours in time are not neighbours in the tree; its
//! first 8 are a bijection of (writer, counter), so that a scan after a crash can say of every row
//! who wrote it and when, and nothing but the highest acknowledged counter of each writer has to be
//! remembered to tell what must be there.

/// Bytes of a key.
pub const KEY_BYTES: usize = 24;
const COUNTER_BITS: u32 = 44;

/// A row's origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Who wrote it.
    pub writer: u32,
    /// How many rows that writer wrote before it.
    pub counter: u64,
}

impl Origin {
    fn number(self) -> u64 {
        debug_assert!(self.counter < 1 << COUNTER_BITS && self.writer < 1 << (64 - COUNTER_BITS));
        u64::from(self.writer) << COUNTER_BITS | self.counter
    }

    /// The key.
    pub fn key(self) -> [u8; KEY_BYTES] {
        let first = mix(self.number());
        let mut key = [0; KEY_BYTES];
        let words = [first, mix(first ^ KEY_SALTS[0]), mix(first ^ KEY_SALTS[1])];
        for (place, word) in key.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *place = word.to_be_bytes();
        }
        key
    }

    /// Replaces `out` by the value.
    pub fn value(self, value_bytes: usize, out: &mut Vec<u8>) {
        out.clear();
        let mut state = mix(self.number() ^ VALUE_SALT);
        while out.len() < value_bytes {
            state = state.wrapping_add(GOLDEN);
            let word = mix(state).to_le_bytes();
            let room = (value_bytes - out.len()).min(word.len());
            out.extend_from_slice(&word[..room]);
        }
    }

    /// Who wrote the row with this key; `None` if nobody did.
    pub fn of(key: &[u8]) -> Option<Origin> {
        let first = u64::from_be_bytes(*key.first_chunk()?);
        let number = unmix(first);
        let writer = u32::try_from(number >> COUNTER_BITS).ok()?;
        let origin = Origin { writer, counter: number & ((1 << COUNTER_BITS) - 1) };
        (origin.key() == key).then_some(origin)
    }
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
const KEY_SALTS: [u64; 2] = [0x2545_f491_4f6c_dd1d, 0xd1b5_4a32_d192_ed03];
const VALUE_SALT: u64 = 0x8cb9_2ba7_2f3d_8dd7;
const FACTORS: [u64; 2] = [0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb];

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection that leaves no pattern.
pub fn mix(mut word: u64) -> u64 {
    word = (word ^ word >> 30).wrapping_mul(FACTORS[0]);
    word = (word ^ word >> 27).wrapping_mul(FACTORS[1]);
    word ^ word >> 31
}

/// What `mix` was given.
fn unmix(mut word: u64) -> u64 {
    word = unshift(word, 31).wrapping_mul(inverse(FACTORS[1]));
    word = unshift(word, 27).wrapping_mul(inverse(FACTORS[0]));
    unshift(word, 30)
}

/// Solves `word = x ^ x >> shift`.
fn unshift(word: u64, shift: u32) -> u64 {
    word ^ word >> shift ^ word.checked_shr(2 * shift).unwrap_or(0)
}

/// The inverse of an odd number modulo 2^64, by Newton's method: each step doubles the good bits,
/// from three.
const fn inverse(odd: u64) -> u64 {
    let mut x = odd;
    let mut step = 0;
    while step < 5 {
        x = x.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(x)));
        step += 1;
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_tells_who_wrote_it_and_when() {
        for writer in [0, 1, 7, 1023, 65_535] {
            for counter in [0, 1, 2, 1000, 123_456_789, (1 << COUNTER_BITS) - 1] {
                let origin = Origin { writer, counter };
                assert_eq!(Origin::of(&origin.key()), Some(origin));
            }
        }
    }

    #[test]
    fn foreign_and_damaged_keys_have_no_origin() {
        let mut key = Origin { writer: 3, counter: 99 }.key();
        assert_eq!(Origin::of(&key[..20]), None);
        assert_eq!(Origin::of(b""), None);
        key[23] ^= 1;
        assert_eq!(Origin::of(&key), None);
        assert_eq!(Origin::of(&[0x20; KEY_BYTES]), None);
    }

    #[test]
    fn mixing_can_be_undone() {
        for word in [0, 1, GOLDEN, u64::MAX, 0x0123_4567_89ab_cdef] {
            assert_eq!(unmix(mix(word)), word);
        }
    }

    #[test]
    fn values_have_their_length_and_differ() {
        let (mut one, mut other) = (vec![1], Vec::new());
        for value_bytes in [8, 150, 151, 1000] {
            Origin { writer: 0, counter: 1 }.value(value_bytes, &mut one);
            Origin { writer: 1, counter: 1 }.value(value_bytes, &mut other);
            assert_eq!((one.len(), other.len()), (value_bytes, value_bytes));
            assert_ne!(one, other);
        }
    }
}
