//! The leaves, numbered: an append-only vector whose elements never move.
//!
//! Leaves are created by splits and live as long as the memtable, so the index can name them by
//! number, and copying it is copying plain numbers. (With an `Arc` per leaf, each new index would
//! touch the count of every leaf.) Chunks double in length, so a family with one leaf pays for one.

use std::sync::OnceLock;

use super::leaf::Leaf;

/// Chunks, and so up to 2^26 - 1 leaves.
const CHUNKS: usize = 26;

/// Number of a leaf within its memtable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LeafId(u32);

pub(super) struct Leaves {
    chunks: [OnceLock<Box<[OnceLock<Leaf>]>>; CHUNKS],
}

impl LeafId {
    /// The leaf that comes into being after `count` others.
    pub(super) fn after(count: usize) -> LeafId {
        LeafId(u32::try_from(count).expect("memory is full long before 2^26 leaves"))
    }

    /// Chunk and place in it; chunk n holds 2^n leaves.
    fn place(self) -> (usize, usize) {
        let number = self.0 as usize + 1;
        let chunk = number.ilog2() as usize;
        (chunk, number - (1 << chunk))
    }
}

impl Leaves {
    pub(super) fn new() -> Leaves {
        Leaves { chunks: [const { OnceLock::new() }; CHUNKS] }
    }

    #[inline]
    pub(super) fn leaf(&self, id: LeafId) -> &Leaf {
        let (chunk, place) = id.place();
        let leaves = self.chunks[chunk].get().expect("the index names only leaves that were put");
        // A leaf is some lines: its lock, where its arrays are, and the ends of its blocks of heads.
        ringdb_frames::bring_near(&leaves[place]);
        leaves[place].get().expect("the index names only leaves that were put")
    }

    /// Puts a leaf; the caller chooses each number once, in order. Gives the heap bytes that this
    /// took.
    pub(super) fn put(&self, id: LeafId, leaf: Leaf) -> usize {
        let (chunk, place) = id.place();
        let mut heap_bytes = 0;
        let leaves = self.chunks[chunk].get_or_init(|| {
            heap_bytes = size_of::<OnceLock<Leaf>>() << chunk;
            (0..1 << chunk).map(|_| OnceLock::new()).collect()
        });
        assert!(leaves[place].set(leaf).is_ok(), "each number is given once");
        heap_bytes
    }
}
