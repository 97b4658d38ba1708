//! The heads of a leaf's keys, in order.
//!
//! They are rarely in the processor's cache, so what counts is how many misses wait for one another. A binary search waits for
//! five. Here the last head of each block of sixteen lies beside the leaf's lock, which a search has just waited for; the block is
//! then the only thing that it waits for.

use std::ops::Deref;

use super::leaf::LEAF_KEYS_MAX;

/// Heads of a block: two lines.
const BLOCK: usize = 16;
/// Blocks of a full leaf.
const BLOCKS: usize = LEAF_KEYS_MAX / BLOCK;

/// Ascending heads; equal ones are neighbours.
pub(super) struct Heads {
    all: Vec<u64>,
    /// The last head of each block; the greatest number for a block without any.
    ends: [u64; BLOCKS],
}

impl Heads {
    /// In memory that is empty.
    pub(super) fn new(all: Vec<u64>) -> Heads {
        assert!(all.is_empty());
        Heads { all, ends: [u64::MAX; BLOCKS] }
    }

    /// The place of the first head that is not below this one.
    pub(super) fn lower_bound(&self, head: u64) -> usize {
        let below = |heads: &[u64]| heads.iter().filter(|&&other| other < head).count();
        let start = BLOCK * below(&self.ends);
        match self.all.get(start..) {
            Some(rest) => start + below(&rest[..rest.len().min(BLOCK)]),
            None => self.all.len(),
        }
    }

    /// Puts a head there, in order.
    pub(super) fn insert(&mut self, place: usize, head: u64) {
        self.all.insert(place, head);
        self.take_ends(place);
    }

    /// Adds the greatest.
    pub(super) fn push(&mut self, head: u64) {
        self.insert(self.all.len(), head);
    }

    /// Takes these instead.
    pub(super) fn replace(&mut self, heads: impl Iterator<Item = u64>) {
        self.all.clear();
        self.all.extend(heads);
        self.ends = [u64::MAX; BLOCKS];
        self.take_ends(0);
    }

    /// Looks where blocks end, from a place on.
    fn take_ends(&mut self, from: usize) {
        let first = from / BLOCK;
        let blocks = self.all[first * BLOCK..].chunks(BLOCK);
        for (end, block) in self.ends[first..].iter_mut().zip(blocks) {
            *end = block[block.len() - 1];
        }
    }

    /// Bytes of memory on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.all.capacity() * size_of::<u64>()
    }

    /// Gives the memory away.
    pub(super) fn into_memory(mut self) -> Vec<u64> {
        self.all.clear();
        self.all
    }
}

impl Deref for Heads {
    type Target = [u64];

    fn deref(&self) -> &[u64] {
        &self.all
    }
}
