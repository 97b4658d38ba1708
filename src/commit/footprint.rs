//! What a commit wrote and what a transaction read, in a form that is cheap to compare.
//!
//! A key becomes a hash, to be compared with other keys, and its first sixteen bytes, to be
//! compared with ranges; a range becomes the prefixes of its bounds, both included. That can invent
//! a conflict and never hides one: equal keys have equal hashes, and cutting keys off, padded with
//! zeros, keeps their order. Both sides are bounded: too many keys of a family become the range
//! around them, and too many ranges become everything.

use std::hash::BuildHasher;
use std::ops::Bound;

use foldhash::quality::FixedState;
use smallvec::SmallVec;

use crate::ids::FamilyId;

/// Keys that a commit's footprint tells apart.
pub(crate) const FOOTPRINT_KEYS_MAX: usize = 256;
/// Ranges that a commit's footprint tells apart.
pub(crate) const FOOTPRINT_RANGES_MAX: usize = 16;
/// Keys that a transaction's reads tell apart; 2 MiB.
pub(crate) const READ_KEYS_MAX: usize = 1 << 16;
/// Ranges that a transaction's reads tell apart; 384 KiB.
pub(crate) const READ_RANGES_MAX: usize = 1 << 13;
/// Any seed would do, as long as writers and readers of one opening agree.
const HASH_SEED: u64 = 0x7269_6E67_6462;

/// A key, as others are compared with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyPrint {
    pub(super) hash: u64,
    pub(super) family: FamilyId,
    pub(super) prefix: u128,
}

/// A range of keys, with both bounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct RangePrint {
    pub(super) family: FamilyId,
    pub(super) low: u128,
    pub(super) high: u128,
}

impl KeyPrint {
    fn new(family: FamilyId, key: &[u8]) -> KeyPrint {
        let hash = FixedState::with_seed(HASH_SEED).hash_one((family, key));
        KeyPrint { hash, family, prefix: prefix(key) }
    }
}

/// The first sixteen bytes, as a number that orders as the keys do.
fn prefix(key: &[u8]) -> u128 {
    let mut bytes = [0; 16];
    let len = key.len().min(bytes.len());
    bytes[..len].copy_from_slice(&key[..len]);
    u128::from_be_bytes(bytes)
}

/// How exactly a set of keys is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    /// Keys and ranges as they came.
    Keys,
    /// A family with keys has a range around all of them.
    Ranges,
    /// Anything may be meant.
    Everything,
}

/// A bounded set of keys and ranges.
#[derive(Clone, Debug)]
pub(super) struct Prints {
    /// Inline for the most frequent commit, which writes one.
    pub(super) keys: SmallVec<[KeyPrint; 1]>,
    pub(super) ranges: Vec<RangePrint>,
    pub(super) detail: Detail,
    keys_max: usize,
    ranges_max: usize,
}

impl Prints {
    fn bounded(keys_max: usize, ranges_max: usize) -> Prints {
        let (keys, ranges, detail) = (SmallVec::new(), Vec::new(), Detail::Keys);
        Prints { keys, ranges, detail, keys_max, ranges_max }
    }

    fn clear(&mut self) {
        self.keys.clear();
        self.ranges.clear();
        self.detail = Detail::Keys;
    }

    fn add_key(&mut self, family: FamilyId, key: &[u8]) {
        match self.detail {
            Detail::Keys if self.keys.len() < self.keys_max => {
                self.keys.push(KeyPrint::new(family, key));
            }
            Detail::Keys => {
                self.detail = Detail::Ranges;
                for key in std::mem::take(&mut self.keys) {
                    self.surround(key.family, key.prefix, key.prefix);
                }
                self.surround(family, prefix(key), prefix(key));
            }
            Detail::Ranges => self.surround(family, prefix(key), prefix(key)),
            Detail::Everything => {}
        }
    }

    fn add_range(&mut self, family: FamilyId, low: u128, high: u128) {
        if self.detail == Detail::Everything {
        } else if self.ranges.len() < self.ranges_max {
            self.ranges.push(RangePrint { family, low, high });
        } else {
            self.surround(family, low, high);
        }
    }

    /// Widens the first range of the family so that it holds another, or adds it.
    fn surround(&mut self, family: FamilyId, low: u128, high: u128) {
        if let Some(range) = self.ranges.iter_mut().find(|range| range.family == family) {
            range.low = range.low.min(low);
            range.high = range.high.max(high);
        } else if self.ranges.len() < self.ranges_max {
            self.ranges.push(RangePrint { family, low, high });
        } else {
            self.clear();
            self.detail = Detail::Everything;
        }
    }
}

/// What a commit writes. Built before the commit lock, and cleared to be used again.
#[derive(Clone, Debug)]
pub(crate) struct Footprint(pub(super) Prints);

impl Default for Footprint {
    fn default() -> Footprint {
        Footprint(Prints::bounded(FOOTPRINT_KEYS_MAX, FOOTPRINT_RANGES_MAX))
    }
}

impl Footprint {
    /// The commit puts or deletes a key.
    pub(crate) fn write(&mut self, family: FamilyId, key: &[u8]) {
        self.0.add_key(family, key);
    }

    /// The commit deletes the keys from `low` to below `high`; an empty `high` is open.
    pub(crate) fn delete_range(&mut self, family: FamilyId, low: &[u8], high: &[u8]) {
        let high = if high.is_empty() { u128::MAX } else { prefix(high) };
        self.0.add_range(family, prefix(low), high);
    }

    /// The commit changes a family as a whole: clears it, drops it.
    pub(crate) fn whole_family(&mut self, family: FamilyId) {
        self.0.add_range(family, 0, u128::MAX);
    }

    #[cfg(test)]
    /// Forgets everything and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

/// What a transaction has read so far.
#[derive(Clone, Debug)]
pub(crate) struct ReadSet(Prints);

impl Default for ReadSet {
    fn default() -> ReadSet {
        ReadSet(Prints::bounded(READ_KEYS_MAX, READ_RANGES_MAX))
    }
}

impl ReadSet {
    /// The transaction looked for a key, whether it was there or not.
    pub(crate) fn key(&mut self, family: FamilyId, key: &[u8]) {
        self.0.add_key(family, key);
    }

    /// The transaction read all keys within these bounds.
    pub(crate) fn range(&mut self, family: FamilyId, from: Bound<&[u8]>, to: Bound<&[u8]>) {
        let (Bound::Included(low) | Bound::Excluded(low)) = from else {
            return self.range(family, Bound::Included(&[]), to);
        };
        let high = match to {
            Bound::Included(high) | Bound::Excluded(high) => prefix(high),
            Bound::Unbounded => u128::MAX,
        };
        let low = prefix(low);
        if low <= high {
            self.0.add_range(family, low, high);
        }
    }

    /// Sorts it for validation; outside the commit lock.
    pub(crate) fn finish(self) -> Reads {
        Reads::new(self.0)
    }
}

/// What a transaction has read, ready to be compared with many commits.
#[derive(Clone, Debug)]
pub(crate) struct Reads {
    detail: Detail,
    /// A bit for each hash, at its low bits; a power of two of words, some eight bits per key.
    filter: Vec<u64>,
    /// Ascending.
    hashes: Vec<u64>,
    /// Family and prefix of each key, ascending.
    points: Vec<(FamilyId, u128)>,
    /// Ascending and apart from each other.
    ranges: Vec<RangePrint>,
}

impl Reads {
    fn new(prints: Prints) -> Reads {
        let mut hashes: Vec<_> = prints.keys.iter().map(|key| key.hash).collect();
        hashes.sort_unstable();
        hashes.dedup();
        let mut points: Vec<_> = prints.keys.iter().map(|key| (key.family, key.prefix)).collect();
        points.sort_unstable();
        points.dedup();
        let mut filter = vec![0; (hashes.len() / 8 + 1).next_power_of_two()];
        for &hash in &hashes {
            let (word, bit) = filter_place(hash, filter.len());
            filter[word] |= bit;
        }
        Reads { detail: prints.detail, filter, hashes, points, ranges: merged(prints.ranges) }
    }

    /// Whether nothing was read: there is nothing to validate.
    pub(crate) fn is_empty(&self) -> bool {
        self.hashes.is_empty() && self.ranges.is_empty() && self.detail != Detail::Everything
    }

    pub(super) fn is_everything(&self) -> bool {
        self.detail == Detail::Everything
    }

    /// Whether a written key is one of those read, or may be.
    pub(super) fn meets_key(&self, key: &KeyPrint) -> bool {
        let (word, bit) = filter_place(key.hash, self.filter.len());
        let known = self.filter[word] & bit != 0 && self.hashes.binary_search(&key.hash).is_ok();
        known || self.meets_ranges(key.family, key.prefix, key.prefix)
    }

    /// Whether a written range holds something that was read, or may.
    pub(super) fn meets_range(&self, range: &RangePrint) -> bool {
        let first = self.points.partition_point(|point| *point < (range.family, range.low));
        let point = self.points.get(first);
        let held = point.is_some_and(|point| *point <= (range.family, range.high));
        held || self.meets_ranges(range.family, range.low, range.high)
    }

    fn meets_ranges(&self, family: FamilyId, low: u128, high: u128) -> bool {
        let until =
            self.ranges.partition_point(|range| (range.family, range.low) <= (family, high));
        let last = self.ranges[..until].last();
        last.is_some_and(|range| range.family == family && range.high >= low)
    }
}

fn filter_place(hash: u64, words: usize) -> (usize, u64) {
    ((hash >> 6) as usize & (words - 1), 1 << (hash & 63))
}

/// The same ranges, ascending, with those that touch made one.
fn merged(mut ranges: Vec<RangePrint>) -> Vec<RangePrint> {
    ranges.sort_unstable_by_key(|range| (range.family, range.low));
    ranges.dedup_by(|next, range| {
        let joins = next.family == range.family && next.low <= range.high;
        if joins {
            range.high = range.high.max(next.high);
        }
        joins
    });
    ranges
}
