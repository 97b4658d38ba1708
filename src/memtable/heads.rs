//! The heads of a leaf's keys, in order.
//!
//! They are rarely in the processor's cache, so what counts is how many misses wait for one another. A binary search waits for
//! five. Here the last head of each block of sixteen lies beside the leaf's lock, which a search has just waited for; the block is
//! then the only thing that it waits for.

use std::ops::Deref;

use super::leaf::LEAF_KEYS_MAX;

/// Heads of a block: two lines.
pub(super) const BLOCK: usize = 16;
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

    /// Where the block begins in which, or behind which, the first head lies that is not below this one.
    #[inline]
    pub(super) fn block_of(&self, head: u64) -> usize {
        BLOCK * count_below(&self.ends, head)
    }

    /// The place of the first head that is not below this one, whose block begins there.
    #[inline]
    pub(super) fn lower_bound(&self, block: usize, head: u64) -> usize {
        match self.all.get(block..) {
            Some(rest) => block + count_below(&rest[..rest.len().min(BLOCK)], head),
            None => self.all.len(),
        }
    }

    /// The same if it is not in front of this place: one that is no further than a block needs no search.
    #[inline]
    pub(super) fn lower_bound_near(&self, from: usize, head: u64) -> Option<usize> {
        let near = &self.all[from..self.all.len().min(from + BLOCK)];
        let is_near = near.len() < BLOCK || near[BLOCK - 1] >= head;
        is_near.then(|| from + count_below(near, head))
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

#[inline]
fn count_below(heads: &[u64], head: u64) -> usize {
    heads.iter().filter(|&&other| other < head).count()
}

impl Deref for Heads {
    type Target = [u64];

    fn deref(&self) -> &[u64] {
        &self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers with both ends of the range among them.
    fn head(number: u64) -> u64 {
        match number {
            0..3 => u64::MAX - number,
            3..6 => number - 3,
            _ => number << 20,
        }
    }

    #[test]
    fn a_place_is_where_all_heads_in_front_are_below() {
        let mut state = 5_u64;
        let mut below = |bound: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound
        };
        for round in 0..600 {
            // Few of them have ties across blocks.
            let kinds = 1 + below(300);
            let len = [below(257), 16 * below(17), 256][round % 3];
            let (mut heads, mut model) = (Heads::new(Vec::new()), Vec::new());
            for _ in 0..len {
                let head = head(below(kinds));
                let place = model.partition_point(|&other| other < head);
                model.insert(place, head);
                heads.insert(place, head);
            }
            if round % 4 == 0 {
                heads.replace(model.iter().copied());
            }
            assert_eq!(heads[..], model[..]);
            for head in (0..kinds + 2).map(head) {
                let place = model.partition_point(|&other| other < head);
                assert_eq!(heads.lower_bound(heads.block_of(head), head), place);
                for from in
                    [0, place / 2, place.saturating_sub(16), place.saturating_sub(15), place]
                {
                    match heads.lower_bound_near(from, head) {
                        Some(near) => assert_eq!(near, place),
                        None => assert!(place > from + 15, "{place} is near {from}"),
                    }
                }
            }
        }
    }
}
