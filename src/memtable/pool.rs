//! Memory of memtables that are gone, for those that come.
//!
//! A memtable is filled by many threads and freed by another one. Left to the allocator, each thread's part of the heap grows to the
//! most that the thread ever had in memtables, and what is freed into one part is of no use to the others: a quarter of the memory of
//! a small database. So chunks of rows and arrays of leaves, which all have one size, come back here, and go to whoever needs some.
//! Lists of further versions do not, nor those of rows that stay in segments: they have any size.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::leaf::LEAF_KEYS_MAX;
use super::places::Place;
use super::rows::CHUNK_BYTES;

/// The arrays of a leaf.
pub(super) struct Arrays {
    pub(super) heads: Vec<u64>,
    pub(super) places: Vec<Place>,
}

impl Arrays {
    pub(super) fn with_room(keys: usize) -> Arrays {
        Arrays { heads: Vec::with_capacity(keys), places: Vec::with_capacity(keys) }
    }
}

const ARRAYS_BYTES: usize = LEAF_KEYS_MAX * (size_of::<u64>() + size_of::<Place>());

/// What one database keeps for its memtables: no more than is left of their share of memory.
pub(crate) struct Pool {
    kept: Mutex<Kept>,
    /// Bytes of chunks and arrays that are in memtables.
    lent: AtomicUsize,
    bytes_max: usize,
}

#[derive(Default)]
struct Kept {
    chunks: Vec<Vec<u8>>,
    arrays: Vec<Arrays>,
}

impl Kept {
    fn bytes(&self) -> usize {
        self.chunks.len() * CHUNK_BYTES + self.arrays.len() * ARRAYS_BYTES
    }
}

impl Pool {
    /// Keeps no more than so many bytes, those in memtables included.
    pub(crate) fn new(bytes_max: usize) -> Arc<Pool> {
        let (kept, lent) = (Mutex::default(), AtomicUsize::new(0));
        Arc::new(Pool { kept, lent, bytes_max })
    }

    /// An empty chunk with room for so many bytes, perhaps a used one.
    pub(super) fn chunk(&self, bytes: usize) -> Vec<u8> {
        let kept = if bytes == CHUNK_BYTES { self.kept.lock().chunks.pop() } else { None };
        let is_new = kept.is_none();
        let chunk = kept.unwrap_or_else(|| Vec::with_capacity(bytes));
        self.lent.fetch_add(chunk.capacity(), Ordering::Relaxed);
        if is_new {
            self.trim();
        }
        chunk
    }

    /// Empty arrays with room for a full leaf.
    pub(super) fn arrays(&self) -> Arrays {
        let kept = self.kept.lock().arrays.pop();
        self.lent.fetch_add(ARRAYS_BYTES, Ordering::Relaxed);
        kept.unwrap_or_else(|| {
            self.trim();
            Arrays::with_room(LEAF_KEYS_MAX)
        })
    }

    /// Takes chunks back, and keeps those that all others could use.
    pub(super) fn take_chunks(&self, chunks: &mut [Vec<u8>]) {
        let bytes = chunks.iter().map(Vec::capacity).sum();
        self.lent.fetch_sub(bytes, Ordering::Relaxed);
        // In a forked child nobody may ever unlock it, and whoever commits should not wait for who frees.
        let Some(mut kept) = self.kept.try_lock() else { return };
        for chunk in chunks.iter_mut().filter(|chunk| chunk.capacity() == CHUNK_BYTES) {
            if !self.has_room_for(CHUNK_BYTES, &kept) {
                return;
            }
            let mut chunk = mem::take(chunk);
            chunk.clear();
            kept.chunks.push(chunk);
        }
    }

    /// Takes arrays back that it lent, empty.
    pub(super) fn take_arrays(&self, arrays: Arrays) {
        self.lent.fetch_sub(ARRAYS_BYTES, Ordering::Relaxed);
        let Some(mut kept) = self.kept.try_lock() else { return };
        if self.has_room_for(ARRAYS_BYTES, &kept) {
            kept.arrays.push(arrays);
        }
    }

    fn has_room_for(&self, bytes: usize, kept: &Kept) -> bool {
        self.lent.load(Ordering::Relaxed) + kept.bytes() + bytes <= self.bytes_max
    }

    /// Frees what is kept beyond the bound, as new memory of another kind is lent.
    fn trim(&self) {
        let mut freed = Kept::default();
        let mut kept = self.kept.lock();
        while !self.has_room_for(0, &kept) && kept.bytes() > 0 {
            freed.chunks.extend(kept.chunks.pop());
            freed.arrays.extend(kept.arrays.pop());
        }
        drop(kept);
        drop(freed);
    }

    /// Bytes that are kept.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.kept.lock().bytes()
    }

    /// Bytes that are in memtables.
    #[cfg(test)]
    fn lent_bytes(&self) -> usize {
        self.lent.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, Memtable};
    use super::*;
    use crate::ids::Seq;

    fn put(memtable: &Memtable, seq: u64, key: &[u8], value: &[u8]) {
        memtable.insert(Seq(seq), Kind::Put, &[key, value].concat(), key.len());
    }

    #[test]
    fn memory_of_a_memtable_that_is_gone_serves_the_next() {
        let pool = Pool::new(1 << 30);
        let fill = |round: u64| {
            let memtable = Memtable::new(&pool);
            for key in 0..5_000u64 {
                // Some have several versions, and one in a while is long.
                let len = if key % 500 == 0 { 20_000 } else { 100 };
                put(
                    &memtable,
                    1,
                    format!("{:05}", key * 7 % 5_000).as_bytes(),
                    &vec![round as u8; len],
                );
                put(&memtable, 2, format!("{:05}", key % 50).as_bytes(), b"again");
            }
            memtable
        };
        let first = fill(1);
        assert!(pool.bytes() < first.bytes() / 4, "what was divided");
        drop(first);
        let (kept, other) = (pool.bytes(), fill(2));
        assert!(kept > other.bytes() / 2, "{kept} of {}", other.bytes());
        assert!(pool.bytes() < kept / 4, "{} of {kept}", pool.bytes());
        let value = |key: &[u8], at| other.get(key, Seq(at)).map(|found| found.value.to_vec());
        assert_eq!(value(b"00077", 9), Some(vec![2; 100]));
        assert_eq!(
            (value(b"00007", 1), value(b"00007", 2)),
            (Some(vec![2; 100]), Some(b"again".to_vec()))
        );
        assert_eq!(other.keys(), 5_000);
        drop(other);
        assert!(pool.bytes() <= kept + kept / 8, "{} of {kept}", pool.bytes());
    }

    #[test]
    fn a_pool_keeps_no_more_than_it_may() {
        let pool = Pool::new(100_000);
        let memtable = Memtable::new(&pool);
        (0..5_000u64).for_each(|key| put(&memtable, 1, &key.to_be_bytes(), &[0; 100]));
        assert!(pool.lent_bytes() > 500_000 && pool.bytes() == 0);
        drop(memtable);
        assert_eq!(pool.lent_bytes(), 0);
        assert!((80_000..=100_000).contains(&pool.bytes()), "{}", pool.bytes());
    }

    #[test]
    fn what_is_kept_makes_way_for_memory_of_another_kind() {
        let pool = Pool::new(1_000_000);
        let memtable = Memtable::new(&pool);
        (0..5_000u64).for_each(|key| put(&memtable, 1, &key.to_be_bytes(), &[0; 100]));
        drop(memtable);
        assert!(pool.bytes() > 500_000, "{}", pool.bytes());
        let memtable = Memtable::new(&pool);
        for key in 0..90u64 {
            put(&memtable, 1, &key.to_be_bytes(), &[0; 10_000]);
            let both = pool.bytes() + pool.lent_bytes();
            assert!(both <= 1_000_000 || pool.bytes() == 0, "{both} with {key} rows");
        }
        assert!(pool.lent_bytes() >= 900_000);
    }
}
