//! From a page to its frame: an open-addressed table of atomic words that readers search without a lock.
//!
//! ```text
//! bits  0..32  frame, plus one; zero: no entry
//! bits 32..64  fingerprint: low half of the page's hash (its high bits are the place)
//! ```
//!
//! Entries carry no page: the tag of their frame does, and is asked when the fingerprint fits. So an entry is
//! one word, and a reader never sees half of one. Linear probing in a table at most half full.
//!
//! Writers are under a lock. Removal moves later entries back instead of leaving tombstones, which would need a
//! rebuild some day. A reader may overlook an entry that moves behind its back, so a search that found nothing counts
//! only if the version did not change meanwhile; one that found something is right anyhow, its tag says so.
//!
//! The hash is salted for each table: which pages a hostile file makes us read must not choose the clusters.

use crate::apart::Apart;
use crate::arena::{Pages, Zeroed};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering, fence};

const FRAME_MASK: u64 = u32::MAX as u64;
const FINGERPRINT_SHIFT: u32 = 32;
/// 2⁶⁴ divided by the golden ratio.
const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
/// How often a search begins anew because entries moved, before it asks for the lock.
const SEARCHES_MAX: usize = 8;

/// Result of a search without the lock.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Search<T> {
    Found(T),
    Absent,
    /// Entries kept moving; only a search under the lock can tell.
    Moving,
}

pub(crate) struct Table {
    entries: Zeroed<AtomicU64>,
    salt: u64,
    /// Odd while entries move.
    version: Apart<AtomicU64>,
}

impl Table {
    /// A table for at most `frames` entries.
    pub(crate) fn new(frames: usize) -> Table {
        let len = (frames.max(1) * 2).next_power_of_two();
        Table {
            entries: Zeroed::new(len, Pages::Small),
            salt: RandomState::new().hash_one(len),
            version: Apart(AtomicU64::new(0)),
        }
    }

    /// Gives the frames that may hold the page to `accept` until it says what it found there.
    #[inline]
    pub(crate) fn search<T>(&self, page: u64, accept: impl Fn(usize) -> Option<T>) -> Search<T> {
        for _ in 0..SEARCHES_MAX {
            let version = self.version.load(Ordering::Acquire);
            if let Some(found) = self.probe(page, &accept) {
                return Search::Found(found);
            }
            fence(Ordering::Acquire);
            if version & 1 == 0 && self.version.load(Ordering::Relaxed) == version {
                return Search::Absent;
            }
        }
        Search::Moving
    }

    /// One walk from the page's place to the first gap. Exact under the lock.
    #[inline]
    pub(crate) fn probe<T>(&self, page: u64, accept: impl Fn(usize) -> Option<T>) -> Option<T> {
        let hash = self.hash(page);
        let entries = &*self.entries;
        let mut place = self.place(hash);
        for _ in 0..entries.len() {
            let entry = entries[place].load(Ordering::Relaxed);
            if entry == 0 {
                return None;
            }
            if entry >> FINGERPRINT_SHIFT == hash & FRAME_MASK
                && let found @ Some(_) = accept((entry & FRAME_MASK) as usize - 1)
            {
                return found;
            }
            place = (place + 1) & (entries.len() - 1);
        }
        None
    }

    /// Adds a page that is not there. Under the lock, and after the frame's tag.
    pub(crate) fn insert(&self, page: u64, frame: usize) {
        let hash = self.hash(page);
        let mut place = self.place(hash);
        while self.entries[place].load(Ordering::Relaxed) != 0 {
            place = self.after(place);
        }
        let entry = hash << FINGERPRINT_SHIFT | (frame as u64 + 1);
        self.entries[place].store(entry, Ordering::Release);
    }

    /// Removes the entry of a page in that frame. Under the lock, and before the frame's tag is emptied. `page_of` tells
    /// the page of any frame that the table names.
    pub(crate) fn remove(&self, page: u64, frame: usize, page_of: impl Fn(usize) -> u64) {
        let mut place = self.place(self.hash(page));
        loop {
            let entry = self.entries[place].load(Ordering::Relaxed);
            debug_assert_ne!(entry, 0, "a page that is removed was inserted");
            if entry == 0 {
                return;
            }
            if entry & FRAME_MASK == frame as u64 + 1 {
                break;
            }
            place = self.after(place);
        }
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        self.close_gap(place, page_of);
        self.version.store(version + 2, Ordering::Release);
    }

    /// Moves back, over the gap, whatever could not be found beyond it.
    fn close_gap(&self, mut gap: usize, page_of: impl Fn(usize) -> u64) {
        let mask = self.entries.len() - 1;
        let mut place = self.after(gap);
        loop {
            let entry = self.entries[place].load(Ordering::Relaxed);
            if entry == 0 {
                break;
            }
            let home = self.place(self.hash(page_of((entry & FRAME_MASK) as usize - 1)));
            // Its walk from home to here crosses the gap.
            if place.wrapping_sub(home) & mask >= place.wrapping_sub(gap) & mask {
                self.entries[gap].store(entry, Ordering::Relaxed);
                gap = place;
            }
            place = self.after(place);
        }
        self.entries[gap].store(0, Ordering::Relaxed);
    }

    /// A folded multiplication: page numbers are dense, and both halves of the product count.
    #[inline]
    fn hash(&self, page: u64) -> u64 {
        let product = u128::from(page ^ self.salt) * u128::from(FACTOR);
        (product >> 64) as u64 ^ product as u64
    }

    #[inline]
    fn place(&self, hash: u64) -> usize {
        (hash >> FINGERPRINT_SHIFT) as usize & (self.entries.len() - 1)
    }

    fn after(&self, place: usize) -> usize {
        (place + 1) & (self.entries.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table beside the frames' pages, as the cache keeps them in the tags.
    struct Model {
        table: Table,
        pages: Vec<Option<u64>>,
    }

    impl Model {
        fn new(frames: usize) -> Model {
            Model { table: Table::new(frames), pages: vec![None; frames] }
        }

        fn find(&self, page: u64) -> Option<usize> {
            let accept = |frame: usize| (self.pages[frame] == Some(page)).then_some(frame);
            let probed = self.table.probe(page, accept);
            let searched = self.table.search(page, accept);
            assert_eq!(searched, probed.map_or(Search::Absent, Search::Found));
            probed
        }

        fn insert(&mut self, page: u64, frame: usize) {
            self.pages[frame] = Some(page);
            self.table.insert(page, frame);
        }

        fn remove(&mut self, page: u64, frame: usize) {
            let pages = &self.pages;
            self.table.remove(page, frame, |frame| pages[frame].expect("named by the table"));
            self.pages[frame] = None;
        }
    }

    #[test]
    fn whatever_is_removed_the_rest_is_found() {
        let mut model = Model::new(64);
        for round in 0..200_u64 {
            for frame in 0..64 {
                assert_eq!(model.find(round * 64 + frame), None);
                model.insert(round * 64 + frame, frame as usize);
            }
            for step in 0..64 {
                let frame = (step * 37 + round) % 64;
                model.remove(round * 64 + frame, frame as usize);
                for left in step + 1..64 {
                    let left = (left * 37 + round) % 64;
                    assert_eq!(model.find(round * 64 + left), Some(left as usize));
                }
            }
        }
        assert!(model.table.entries.iter().all(|entry| entry.load(Ordering::Relaxed) == 0));
    }

    #[test]
    fn a_search_while_entries_move_does_not_say_absent() {
        let model = Model::new(4);
        model.table.version.store(1, Ordering::Relaxed);
        assert_eq!(model.table.search(3, |_| None::<()>), Search::Moving);
    }

    #[test]
    fn a_table_for_no_frames_finds_nothing() {
        assert_eq!(Model::new(0).find(0), None);
    }

    #[test]
    fn dense_pages_lie_close_to_their_places() {
        let mut model = Model::new(4096);
        for page in 0..4096 {
            model.insert(page, page as usize);
        }
        let steps: usize = (0..4096_u64)
            .map(|page| {
                let home = model.table.place(model.table.hash(page));
                let mut place = home;
                while model.table.entries[place].load(Ordering::Relaxed) & FRAME_MASK != page + 1 {
                    place = model.table.after(place);
                }
                place.wrapping_sub(home) & (model.table.entries.len() - 1)
            })
            .sum();
        assert!(steps < 3 * 4096, "{steps} steps for 4096 pages, salt {}", model.table.salt);
    }
}
