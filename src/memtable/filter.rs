//! Which keys a memtable surely does not have: a Bloom filter that grows with it.
//!
//! Nearly every key that is looked up in a half-full memtable is not there, and to find that out in
//! the leaves waits for memory three times. The filter waits once: a key has one word, and four bits
//! in it. It is made of parts, each four times as large as the one before, because a memtable does not
//! know how large it will be; a key is added to the last part, and looked for in all.
//!
//! A large part takes a while to be zeroed, and keys are added under the lock of a leaf: so whoever comes first when the last part is
//! nearly full makes the next one before it locks any, and the others go on meanwhile.
//!
//! Why a reader misses no key that it may see
//! - A key is added before it is inserted, and bits stay, so whoever learned of a commit that added it
//!   finds its bits.
//! - A later version of a key is not added again: its commit found the key in a locked leaf, so it saw the
//!   bits, and whoever learns of that commit sees the same words, or later ones.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use ringdb_frames::bring_near;

/// Keys that the first part is for.
const FIRST_KEYS: usize = 512;
/// Keys for each word: of the keys that are not there one in two hundred seems to be.
const WORD_KEYS: usize = 4;
/// Parts, and so more keys than memory holds.
const PARTS: usize = 12;

/// From this part on one is made in time: 256 KiB and more.
const PREPARED_MIN: usize = 4;
/// It is made when as many keys as this part of all that were added still go into the one before.
const PREPARED_SHARE: usize = 16;

/// Odd, with bits all over: pi, as others use it.
const FACTOR: u64 = 0x243F_6A88_85A3_08D3;

pub(super) struct Filter {
    /// The number of the next key that is added: how many were, and places that were passed over.
    keys: AtomicUsize,
    /// The last part that somebody makes, or has made, in time.
    prepared: AtomicUsize,
    parts: [OnceLock<Box<[AtomicU64]>>; PARTS],
}

/// What a filter knows of a key, for whoever has the key at hand long before it is added.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyHash(u64);

/// Where the bits of a key are.
struct Bits {
    /// Its high bits choose the word.
    hash: u64,
    mask: u64,
}

impl Filter {
    pub(super) fn new() -> Filter {
        let (keys, prepared) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Filter { keys, prepared, parts: [const { OnceLock::new() }; PARTS] }
    }

    /// Whether the key may have been added.
    #[inline]
    pub(super) fn may_have(&self, key: &[u8]) -> bool {
        self.has_all(&Bits::of(KeyHash::of(key)))
    }

    /// So many keys will be added, or versions of keys: they go into one part, with room for them.
    pub(super) fn reserve(&self, keys: usize) {
        let next = self.keys.load(Ordering::Relaxed);
        let has_room = |part: &usize| first_of(part + 1) >= next.max(first_of(*part)) + keys;
        let part = (part_of(next)..PARTS - 1).find(has_room).unwrap_or(PARTS - 1);
        self.keys.fetch_max(first_of(part), Ordering::Relaxed);
    }

    /// Makes the next part if the last one is nearly full and nobody else is at it; gives the heap bytes that this took. For whoever holds
    /// no lock.
    #[inline]
    pub(super) fn prepare(&self) -> usize {
        let keys = self.keys.load(Ordering::Relaxed);
        let next = part_of(keys + keys / PREPARED_SHARE);
        if next < PREPARED_MIN || self.parts[next].get().is_some() {
            return 0;
        }
        let is_mine = self.prepared.fetch_max(next, Ordering::Relaxed) < next;
        if is_mine { self.part(next).1 } else { 0 }
    }

    /// Adds a key that is about to be inserted and was not yet; gives the heap bytes that this took.
    ///
    /// Whether it was is not looked for: in each part that misses the processor's cache.
    pub(super) fn add(&self, key: &[u8]) -> usize {
        let bits = Bits::of(KeyHash::of(key));
        let (words, heap_bytes) = self.words_for(1);
        words[bits.place(words.len())].fetch_or(bits.mask, Ordering::Relaxed);
        heap_bytes
    }

    /// Adds neighbours, in order, with all versions of each: their words are asked for before the first is written, and they
    /// are counted at once, as other threads count too.
    pub(super) fn add_all(&self, keys: impl Iterator<Item = KeyHash>) -> usize {
        let mut added: Vec<_> = keys.map(Bits::of).collect();
        // Versions of a key.
        added.dedup_by_key(|bits| bits.hash);
        if added.is_empty() {
            return 0;
        }
        let (words, heap_bytes) = self.words_for(added.len());
        added.iter().for_each(|bits| bring_near(&words[bits.place(words.len())]));
        for bits in added {
            words[bits.place(words.len())].fetch_or(bits.mask, Ordering::Relaxed);
        }
        heap_bytes
    }

    /// Counts so many keys; gives the words of the part that they are added to, and the heap bytes that this took.
    fn words_for(&self, keys: usize) -> (&[AtomicU64], usize) {
        self.part(part_of(self.keys.fetch_add(keys, Ordering::Relaxed)))
    }

    /// The words of a part, and the heap bytes that this took.
    fn part(&self, part: usize) -> (&[AtomicU64], usize) {
        let mut heap_bytes = 0;
        let words = self.parts[part].get_or_init(|| {
            let words = words_of(part);
            heap_bytes = words * size_of::<AtomicU64>();
            (0..words).map(|_| AtomicU64::new(0)).collect()
        });
        (words, heap_bytes)
    }

    /// Asks for what [`Filter::add`] will write: whoever adds several keys lets their misses overlap.
    #[inline]
    pub(super) fn bring_near(&self, key: &[u8]) {
        let part = part_of(self.keys.load(Ordering::Relaxed));
        if let Some(words) = self.parts[part].get() {
            ringdb_frames::bring_near(&words[Bits::of(KeyHash::of(key)).place(words.len())]);
        }
    }

    #[cfg(test)]
    pub(super) fn key_count(&self) -> usize {
        self.keys.load(Ordering::Relaxed)
    }

    #[inline]
    fn has_all(&self, bits: &Bits) -> bool {
        let Some(last) = self.keys.load(Ordering::Relaxed).checked_sub(1) else { return false };
        let mut parts = self.parts[..=part_of(last)].iter().filter_map(OnceLock::get);
        parts.any(|words| {
            words[bits.place(words.len())].load(Ordering::Relaxed) & bits.mask == bits.mask
        })
    }
}

/// The part that the key with this number is added to.
#[inline]
fn part_of(number: usize) -> usize {
    let part = (number / FIRST_KEYS * 3 + 1).ilog2() as usize / 2;
    part.min(PARTS - 1)
}

/// The first number of a part.
fn first_of(part: usize) -> usize {
    FIRST_KEYS * ((1 << (2 * part)) - 1) / 3
}

/// Words of a part: a power of two.
const fn words_of(part: usize) -> usize {
    (FIRST_KEYS / WORD_KEYS) << (2 * part)
}

impl Bits {
    #[inline]
    fn of(KeyHash(hash): KeyHash) -> Bits {
        let bit = |shift: u32| 1 << (hash >> shift & 63);
        Bits { hash, mask: bit(0) | bit(6) | bit(12) | bit(18) }
    }

    #[inline]
    fn place(&self, words: usize) -> usize {
        (self.hash >> 32) as usize & (words - 1)
    }
}

impl KeyHash {
    /// A hash in memory only: keys that were chosen to collide cost their chooser a search in the leaves.
    #[inline]
    pub(crate) fn of(key: &[u8]) -> KeyHash {
        let (words, rest) = key.as_chunks::<8>();
        let mixed = words
            .iter()
            .fold(key.len() as u64, |state, word| mix(state ^ u64::from_le_bytes(*word)));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        KeyHash(mix(mixed ^ u64::from_le_bytes(last)))
    }
}

#[inline]
fn mix(word: u64) -> u64 {
    let product = u128::from(word ^ FACTOR) * u128::from(FACTOR.rotate_left(32));
    product as u64 ^ (product >> 64) as u64
}

const _: () = assert!(words_of(PARTS - 1) <= 1 << 32, "the hash has 32 bits for the place");
const _: () = assert!((FIRST_KEYS / WORD_KEYS).is_power_of_two());

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> Vec<u8> {
        format!("row-{number}").into_bytes()
    }

    #[test]
    fn what_was_added_may_be_there_and_little_else() {
        let filter = Filter::new();
        assert!(!filter.may_have(&key(0)));
        let bytes: usize = (0..40_000).map(|number| filter.add(&key(number))).sum();
        assert!((0..40_000).all(|number| filter.may_have(&key(number))));
        let seem = (40_000..140_000).filter(|number| filter.may_have(&key(*number))).count();
        assert!(seem < 3_000, "{seem} of 100,000 seem to be there");
        // Four parts, and 85 times the first.
        assert_eq!(bytes, 85 * FIRST_KEYS * 2);
    }

    #[test]
    fn keys_that_come_together_are_added_as_if_one_by_one() {
        let (filter, single) = (Filter::new(), Filter::new());
        let keys: Vec<_> = (0..9_000).map(key).collect();
        let (mut bytes, mut bytes_single) = (0, 0);
        for leaf in keys.chunks(100) {
            bytes += filter.add_all(leaf.iter().flat_map(|key| [KeyHash::of(key); 3])); // versions
            bytes_single += leaf.iter().map(|key| single.add(key)).sum::<usize>();
        }
        assert_eq!(bytes, bytes_single);
        assert!(keys.iter().all(|key| filter.may_have(key)));
        assert_eq!((filter.key_count(), single.key_count()), (9_000, 9_000));
        assert_eq!(filter.add_all([].into_iter()), 0);
    }

    #[test]
    fn keys_that_were_announced_are_in_one_part() {
        let filter = Filter::new();
        filter.add(&key(0));
        filter.reserve(500);
        assert_eq!(filter.add(&key(1)), 0, "there was room");
        filter.reserve(40_000);
        assert!(filter.may_have(&key(0)) && !filter.may_have(&key(2)));
        let bytes: usize = (2..40_002).map(|number| filter.add(&key(number))).sum();
        assert_eq!(bytes, 256 * FIRST_KEYS * 2);
        assert!((0..40_002).all(|number| filter.may_have(&key(number))));
        filter.reserve(usize::MAX / 2);
        assert!(filter.may_have(&key(0)));
    }

    #[test]
    fn a_large_part_is_made_before_a_leaf_is_locked() {
        let (filter, mut prepared, mut added) = (Filter::new(), 0, 0);
        for number in 0..200_000 {
            prepared += filter.prepare();
            added += filter.add(&key(number));
        }
        // Four small parts, and two large ones.
        assert_eq!(added, 85 * FIRST_KEYS * 2);
        assert_eq!(prepared, (256 + 1024) * FIRST_KEYS * 2);
        assert!((0..200_000).all(|number| filter.may_have(&key(number))));
    }

    #[test]
    fn parts_grow_by_four() {
        let parts = [0, 511, 512, 2559, 2560, 10_751, 10_752].map(part_of);
        assert_eq!(parts, [0, 0, 1, 1, 2, 2, 3]);
        assert!((0..PARTS).all(|part| part_of(first_of(part)) == part));
        assert_eq!(part_of(usize::MAX / 6), PARTS - 1);
    }
}
