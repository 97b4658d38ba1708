//! Shortcuts: from the hash of a key to the place of its row in a frame, past the descent of a tree.
//!
//! A descent waits for memory at each of its levels; a shortcut waits for its bucket, and then for the row. InnoDB has such
//! a thing under the name of an adaptive hash index. Ours is a table of fixed size in which entries overwrite one another:
//!
//! ```text
//! bits  0..26  frame, plus one; zero: no entry
//! bits 26..51  place: what the user of the cache wants to know of the row
//! bits 51..64  fingerprint: low bits of the hash (its high bits choose the bucket)
//! ```
//!
//! Eight entries are a bucket and one cache line. An entry promises nothing: the row may be another one's, the frame may hold
//! another node, and the node may be one that no tree names any more. The user compares the key; that the node is *current* is
//! for the tag to say, and when that counts is for the crate's documentation.

use crate::arena::{Pages, Zeroed};
use crate::near;
use std::sync::atomic::{AtomicU64, Ordering};

/// Entries of a bucket.
const WAYS: usize = 8;
const BUCKET_BYTES: usize = WAYS * size_of::<u64>();

const FRAME_BITS: u32 = 26;
const PLACE_BITS: u32 = 25;
const PLACE_SHIFT: u32 = FRAME_BITS;
const FINGERPRINT_SHIFT: u32 = FRAME_BITS + PLACE_BITS;

/// First place that does not fit into a shortcut.
pub const PLACE_END: u32 = 1 << PLACE_BITS;

/// Where a row was seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shortcut(u64);

impl Shortcut {
    fn new(hash: u64, frame: usize, place: u32) -> Option<Shortcut> {
        let frame = frame as u64 + 1;
        let fits = frame < 1 << FRAME_BITS && place < PLACE_END;
        let entry = hash << FINGERPRINT_SHIFT | u64::from(place) << PLACE_SHIFT | frame;
        fits.then_some(Shortcut(entry))
    }

    /// What was noted of its place in the node.
    #[inline]
    pub fn place(self) -> u32 {
        (self.0 >> PLACE_SHIFT) as u32 & (PLACE_END - 1)
    }

    #[inline]
    pub(crate) fn frame(self) -> usize {
        (self.0 & ((1 << FRAME_BITS) - 1)) as usize - 1
    }

    #[inline]
    fn is_of(self, hash: u64) -> bool {
        (self.0 ^ hash << FINGERPRINT_SHIFT) >> FINGERPRINT_SHIFT == 0
    }
}

pub(crate) struct Shortcuts {
    entries: Zeroed<AtomicU64>,
    buckets: usize,
}

impl Shortcuts {
    /// As many as so many bytes hold; perhaps none.
    pub(crate) fn new(len_bytes: usize) -> Shortcuts {
        let buckets = len_bytes / BUCKET_BYTES;
        Shortcuts { entries: Zeroed::new(buckets * WAYS, Pages::Huge), buckets }
    }

    #[inline]
    fn bucket(&self, hash: u64) -> &[AtomicU64] {
        let bucket = ((u128::from(hash) * self.buckets as u128) >> u64::BITS) as usize;
        self.entries.get(bucket * WAYS..(bucket + 1) * WAYS).unwrap_or_default()
    }

    /// Asks the processor for the bucket.
    #[inline]
    pub(crate) fn bring_near(&self, hash: u64) {
        if let Some(first) = self.bucket(hash).first() {
            near::bring_near(first);
        }
    }

    /// An entry with the fingerprint, if there is one.
    #[inline]
    pub(crate) fn find(&self, hash: u64) -> Option<Shortcut> {
        let entries = self.bucket(hash).iter();
        let mut entries = entries.map(|entry| Shortcut(entry.load(Ordering::Relaxed)));
        entries.find(|entry| entry.0 != 0 && entry.is_of(hash))
    }

    /// Puts an entry in place of one with its fingerprint, of none, or of any.
    pub(crate) fn put(&self, hash: u64, frame: usize, place: u32) {
        let Some(shortcut) = Shortcut::new(hash, frame, place) else { return };
        let bucket = self.bucket(hash);
        let mut free = None;
        for (way, entry) in bucket.iter().enumerate() {
            let old = Shortcut(entry.load(Ordering::Relaxed));
            if old.0 != 0 && old.is_of(hash) {
                free = Some(way);
                break;
            }
            if old.0 == 0 && free.is_none() {
                free = Some(way);
            }
        }
        // Another one for each row, and each time that it moves.
        let any = (hash >> 32) as usize ^ frame ^ place as usize;
        if let Some(entry) = bucket.get(free.unwrap_or(any % WAYS))
            && entry.load(Ordering::Relaxed) != shortcut.0
        {
            entry.store(shortcut.0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_keeps_frame_and_place_apart() {
        let (frame_max, place_max) = ((1 << FRAME_BITS) - 2, PLACE_END - 1);
        for (frame, place) in [(0, 0), (0, place_max), (frame_max, 0), (frame_max, place_max)] {
            for hash in [0, 1, u64::MAX] {
                let shortcut = Shortcut::new(hash, frame, place).expect("both fit");
                assert_eq!((shortcut.frame(), shortcut.place()), (frame, place));
                assert!(shortcut.is_of(hash) && !shortcut.is_of(hash ^ 1));
            }
        }
        assert_eq!(Shortcut::new(0, frame_max + 1, 0), None);
        assert_eq!(Shortcut::new(0, 0, place_max + 1), None);
    }

    #[test]
    fn the_newest_entry_of_a_hash_is_found_and_a_full_bucket_forgets_others() {
        let shortcuts = Shortcuts::new(BUCKET_BYTES);
        for hash in 0..100 {
            shortcuts.put(hash, 1, 7);
            shortcuts.put(hash, 2, 8);
            let found = shortcuts.find(hash).expect("it was put last");
            assert_eq!((found.frame(), found.place()), (2, 8));
        }
        let kept = (0..100).filter(|hash| shortcuts.find(*hash).is_some()).count();
        assert_eq!(kept, WAYS);
    }

    #[test]
    fn without_room_there_are_none() {
        let shortcuts = Shortcuts::new(BUCKET_BYTES - 1);
        shortcuts.bring_near(u64::MAX);
        shortcuts.put(u64::MAX, 1, 1);
        assert_eq!(shortcuts.find(u64::MAX), None);
    }
}
