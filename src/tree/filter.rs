//! A filter over the keys of a tree: "no" is certain, "perhaps" means that the tree has to be searched.
//!
//! ```text
//! off len field
//!   0   4 magic   "rflt"
//!   4   4 blocks  at least 1
//!   8     blocks  32 bytes each: eight words of four bytes
//! ```
//!
//! A Bloom filter in blocks (Putze, Sanders and Singler, "Cache-, Hash- and Space-Efficient Bloom Filters", 2007), split as that
//! of Apache Parquet: the upper half of a key's hash chooses the block, the lower half one bit in each of its eight words. A
//! lookup so touches one cache line. At ten bits a key about one key in a hundred that is not there is searched for in vain.
//!
//! Keys are hashed with XXH3 (64 bits, no seed), whose values are fixed. Whoever chooses keys so that they collide makes the
//! filter say "perhaps", which costs time and nothing else.
//!
//! Deletions are keys of a tree like all others. The checksum is in the reference that the catalog holds.

use xxhash_rust::xxh3::xxh3_64;

use crate::format::Defect;
use crate::format::codec::Reader;
use crate::ids::FamilyId;

const MAGIC: [u8; 4] = *b"rflt";
const HEADER_BYTES: usize = 8;
const WORDS: usize = 8;
const BLOCK_BYTES: usize = WORDS * 4;
const BLOCK_BITS: u64 = BLOCK_BYTES as u64 * 8;

/// Bits for each key that a filter is made for.
const BITS_PER_KEY: u64 = 10;
/// A filter takes more keys as long as this share of its bits is not set, in percent. One that was made for all its keys has
/// 56 of them set, and at this one says "perhaps" to two keys of a hundred.
const FULL_PERCENT: u64 = 62;

/// Odd numbers that make eight hashes of one, as Parquet has them.
const SALTS: [u32; WORDS] = [
    0x47b6_137b,
    0x4497_4d91,
    0x8824_ad5b,
    0xa2b7_289d,
    0x7054_95c7,
    0x2df1_424b,
    0x9efc_4947,
    0x5c6b_fb31,
];

/// 2⁶⁴ divided by the golden ratio, made odd.
const FAMILY_FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;

/// What a filter knows of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyHash(u64);

impl KeyHash {
    #[inline]
    pub(crate) fn of(key: &[u8]) -> KeyHash {
        KeyHash(xxh3_64(key))
    }

    /// A hash of the key and of the family that it is a key of.
    #[inline]
    pub(crate) fn in_family(self, family: FamilyId) -> u64 {
        self.0 ^ u64::from(family.0).wrapping_mul(FAMILY_FACTOR)
    }
}

/// Aligned, so that a block is in one cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(align(32))]
struct Block([u32; WORDS]);

/// The keys of a tree, as far as a few bits tell them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    blocks: Box<[Block]>,
}

impl Filter {
    /// A filter for so many keys, without any.
    pub(crate) fn for_keys(keys: u64) -> Filter {
        let blocks = usize::try_from(blocks_for(keys)).expect("a filter fits into memory");
        Filter { blocks: vec![Block::default(); blocks].into() }
    }

    /// Bytes of a filter for so many keys.
    pub(crate) fn bytes_for(keys: u64) -> u64 {
        blocks_for(keys) * BLOCK_BYTES as u64
    }

    /// Bytes of memory that it takes.
    pub(crate) fn len_bytes(&self) -> usize {
        self.blocks.len() * BLOCK_BYTES
    }

    /// Takes a key in.
    pub(crate) fn insert(&mut self, key: KeyHash) {
        let (place, mask) = (self.place(key), mask(key));
        let Block(words) = &mut self.blocks[place];
        words.iter_mut().zip(mask).for_each(|(word, bit)| *word |= bit);
    }

    /// Whether the key may be one of those that were taken in.
    #[inline]
    pub(crate) fn may_hold(&self, key: KeyHash) -> bool {
        let Block(words) = &self.blocks[self.place(key)];
        words.iter().zip(mask(key)).fold(0, |missing, (word, bit)| missing | (bit & !word)) == 0
    }

    /// Whether it still tells keys apart when so many more are taken in.
    pub(crate) fn has_room_for(&self, keys: u64) -> bool {
        let bits = self.blocks.len() as u64 * BLOCK_BITS;
        let words = self.blocks.iter().flat_map(|Block(words)| words);
        let set = words.map(|word| u64::from(word.count_ones())).sum::<u64>();
        // Of the bits of new keys, as many as that are set already.
        let more = u128::from(keys) * WORDS as u128 * u128::from(bits - set) / u128::from(bits);
        u128::from(set) + more <= u128::from(bits * FULL_PERCENT / 100)
    }

    #[inline]
    fn place(&self, key: KeyHash) -> usize {
        ((u128::from(key.0 >> 32) * self.blocks.len() as u128) >> 32) as usize
    }

    /// The filter's bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES + self.len_bytes());
        out.extend_from_slice(&MAGIC);
        let count = u32::try_from(self.blocks.len()).expect("a filter is below 128 GiB");
        out.extend_from_slice(&count.to_le_bytes());
        let words = self.blocks.iter().flat_map(|Block(words)| words);
        words.for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
        out
    }

    /// Reads a filter that is all of `bytes`.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Filter, Defect> {
        let mut reader = Reader::new(bytes, "filter is cut short");
        if reader.array()? != MAGIC {
            return Err(Defect { what: "not a filter", at: 0 });
        }
        let count = reader.u32()? as usize;
        if count == 0 || count > reader.remaining() / BLOCK_BYTES {
            return Err(reader.defect("filter has an impossible size"));
        }
        let mut blocks = vec![Block::default(); count];
        for Block(words) in &mut blocks {
            for word in words {
                *word = reader.u32()?;
            }
        }
        reader.finish()?;
        Ok(Filter { blocks: blocks.into() })
    }
}

fn blocks_for(keys: u64) -> u64 {
    (keys.saturating_mul(BITS_PER_KEY)).div_ceil(BLOCK_BITS).clamp(1, u64::from(u32::MAX))
}

/// One bit for each word.
#[inline]
fn mask(key: KeyHash) -> [u32; WORDS] {
    SALTS.map(|salt| 1 << ((key.0 as u32).wrapping_mul(salt) >> 27))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::mutate::Chance;

    fn hash(number: u64) -> KeyHash {
        KeyHash::of(&number.to_be_bytes())
    }

    fn filter(keys: u64) -> Filter {
        let mut filter = Filter::for_keys(keys);
        (0..keys).for_each(|number| filter.insert(hash(number)));
        filter
    }

    #[test]
    fn hashes_and_bits_are_these_for_ever() {
        assert_eq!(KeyHash::of(b""), KeyHash(0x2d06_8005_38d3_94c2));
        assert_eq!(KeyHash::of(b"ada"), KeyHash(0x691d_4463_952c_802f));
        let mut filter = Filter::for_keys(1);
        filter.insert(KeyHash::of(b"ada"));
        let mut expected = b"rflt\x01\0\0\0".to_vec();
        let words: [u32; WORDS] =
            [1 << 4, 1 << 31, 1 << 3, 1 << 25, 1 << 15, 1 << 3, 1 << 8, 1 << 20];
        words.iter().for_each(|word| expected.extend_from_slice(&word.to_le_bytes()));
        assert_eq!(filter.encode(), expected);
    }

    #[test]
    fn every_key_is_held_and_few_others_are() {
        let filter = filter(100_000);
        assert!((0..100_000).all(|number| filter.may_hold(hash(number))));
        let wrong = (100_000..200_000).filter(|&number| filter.may_hold(hash(number))).count();
        assert!((100..1600).contains(&wrong), "{wrong} of 100,000");
    }

    #[test]
    fn a_filter_has_room_for_somewhat_more_than_it_was_made_for() {
        let mut filter = filter(10_000);
        assert!(filter.has_room_for(0) && filter.has_room_for(1500));
        assert!(!filter.has_room_for(3000) && !filter.has_room_for(u64::MAX));
        (10_000..12_500).for_each(|number| filter.insert(hash(number)));
        assert!(!filter.has_room_for(0));
    }

    #[test]
    fn a_filter_comes_back_as_it_was() {
        let filter = filter(1000);
        assert_eq!(filter.len_bytes() as u64, Filter::bytes_for(1000));
        assert_eq!(Filter::decode(&filter.encode()), Ok(filter));
    }

    #[test]
    fn impossible_filters_are_defects() {
        let bytes = filter(100).encode();
        let what = |bytes: &[u8]| Filter::decode(bytes).unwrap_err().what;
        assert_eq!(what(&bytes[..6]), "filter is cut short");
        assert_eq!(what(&bytes[..bytes.len() - 1]), "filter has an impossible size");
        assert_eq!(what(&[&bytes[..], &[0]].concat()), "more bytes than expected");
        assert_eq!(what(&[&MAGIC[..], &[0; 4]].concat()), "filter has an impossible size");
        assert_eq!(what(&[b"rcat", &bytes[4..]].concat()), "not a filter");
        assert_eq!(what(&[&MAGIC[..], &[0xFF; 4]].concat()), "filter has an impossible size");
    }

    #[test]
    fn damaged_filters_never_panic_and_what_decodes_encodes_the_same() {
        let mut chance = Chance::new(21);
        for _ in 0..2000 {
            let mut bytes = filter(60).encode();
            chance.damage(&mut bytes);
            if let Ok(decoded) = Filter::decode(&bytes) {
                assert_eq!(decoded.encode(), bytes);
                assert!([0, 1, 2].map(|number| decoded.may_hold(hash(number))).len() == 3);
            }
        }
    }
}
