//! Operations in flight, found again by the number the kernel gives back.
//!
//! The number carries a generation beside the slot's index, so that a late or stale completion
//! never completes the operation that has the slot now.

use slab::Slab;

/// Bits of a key that hold the slot's index.
const INDEX_BITS: u32 = 32;

/// Generations wrap within this many bits: keys leave the two highest bits to their users.
const GENERATION_MASK: u64 = (1 << 30) - 1;

/// A slot table whose keys are used once.
pub(crate) struct Slots<T> {
    slab: Slab<(u64, T)>,
    generation: u64,
}

impl<T> Slots<T> {
    /// A table with room for `capacity` before it allocates again.
    pub(crate) fn with_capacity(capacity: usize) -> Slots<T> {
        Slots { slab: Slab::with_capacity(capacity), generation: 0 }
    }

    /// Takes a slot; its key.
    pub(crate) fn insert(&mut self, value: T) -> u64 {
        self.generation = (self.generation + 1) & GENERATION_MASK;
        let index = self.slab.insert((self.generation, value));
        (self.generation << INDEX_BITS) | index as u64
    }

    /// What the key stands for, unless it is stale.
    pub(crate) fn get_mut(&mut self, key: u64) -> Option<&mut T> {
        let (generation, value) = self.slab.get_mut(index(key))?;
        (*generation == key >> INDEX_BITS).then_some(value)
    }

    /// Frees the slot, unless the key is stale.
    pub(crate) fn remove(&mut self, key: u64) -> Option<T> {
        self.get_mut(key)?;
        Some(self.slab.remove(index(key)).1)
    }

    /// Whether no slot is taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Slots taken.
    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Everything, the table being given up.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = T> {
        self.slab.drain().map(|(_, value)| value)
    }
}

fn index(key: u64) -> usize {
    (key & ((1 << INDEX_BITS) - 1)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_key_finds_nothing() {
        let mut slots = Slots::with_capacity(1);
        let first = slots.insert('a');
        assert_eq!(slots.remove(first), Some('a'));
        let second = slots.insert('b');
        assert_eq!(index(first), index(second));
        assert_eq!(slots.get_mut(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.remove(second), Some('b'));
        assert_eq!(slots.len(), 0);
    }

    #[test]
    fn keys_leave_the_two_highest_bits_free() {
        let mut slots = Slots::with_capacity(1);
        slots.generation = GENERATION_MASK - 1;
        for _ in 0..3 {
            let key = slots.insert(());
            assert_eq!(key >> 62, 0);
            assert_eq!(slots.remove(key), Some(()));
        }
    }
}
