//! Leaves made of sorted rows, for a memtable that has none yet: a log that is replayed.
//!
//! Rows that ascend need no search, no division and no index for each leaf: leaves are cut off from
//! the front, by several threads if there are several parts, and get one index. Whoever read the rows
//! took what a leaf needs of their keys then: of rows that stay where they are, and lie all over, only
//! those at the ends of a leaf are looked at again, unless its keys share so much that it takes its
//! heads anew.

use bytes::Bytes;
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::filter::{Filter, KeyHash};
use super::index::{Index, Named};
use super::leaf::{Body, LEAF_KEYS_FILLED, Leaf};
use super::leaves::LeafId;
use super::pool::Pool;
use super::rows::{RowPlace, Segments};
use super::version::NewRow;
use super::{Core, Memtable};

/// A row, and what is known of it without another look.
#[derive(Clone, Copy)]
pub(crate) struct FillRow<'a> {
    pub(crate) row: NewRow<'a>,
    /// Where it lies if it stays in a segment of the log.
    pub(crate) place: RowPlace,
    /// The first eight bytes of its key behind what all rows that come together begin with, as a number.
    pub(crate) head: u64,
    pub(crate) hash: KeyHash,
}

/// Leaves of some of a memtable's rows.
pub(crate) struct Filled {
    leaves: Vec<Leaf>,
    heap_bytes: usize,
    entries: usize,
}

impl Memtable {
    /// Whether a row was ever added.
    pub(crate) fn has_rows(&self) -> bool {
        self.core.get().is_some()
    }

    /// So many rows come together: what is kept for each key has room for them.
    pub(crate) fn expect(&self, rows: usize) {
        self.core().filter.reserve(rows);
    }

    /// Leaves of rows that ascend, and of versions of a key in the order of their seqs; heads are taken behind so many bytes that
    /// all keys share. The rows are copied, unless they stay in segments.
    pub(crate) fn leaves_of<'a>(
        &self,
        rows: impl Iterator<Item = FillRow<'a>>,
        prefix_len: usize,
        segments: Option<&Segments>,
    ) -> Filled {
        let mut rows = rows.peekable();
        let mut filled = Filled { leaves: Vec::new(), heap_bytes: 0, entries: 0 };
        let mut next = Vec::with_capacity(LEAF_KEYS_FILLED);
        while let Some(row) = rows.next() {
            next.push(row);
            // Which reads two keys, so only where a leaf may end.
            let is_full = next.len() >= LEAF_KEYS_FILLED
                && rows.peek().is_some_and(|later| later.row.key() != row.row.key());
            if is_full || rows.peek().is_none() {
                filled.add(&next, prefix_len, segments, &self.core().filter, &self.pool);
                next.clear();
            }
        }
        filled
    }

    /// Takes all leaves that a memtable without rows begins with; the parts ascend.
    pub(crate) fn fill(&self, parts: impl IntoIterator<Item = Filled>) {
        let mut leaves = Vec::new();
        for mut part in parts {
            leaves.append(&mut part.leaves);
            self.bytes.fetch_add(part.heap_bytes, Ordering::Relaxed);
            self.entries.fetch_add(part.entries, Ordering::Relaxed);
        }
        let bytes = self.core().fill(leaves);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Filled {
    fn add(
        &mut self,
        rows: &[FillRow<'_>],
        prefix_len: usize,
        segments: Option<&Segments>,
        filter: &Filter,
        pool: &Arc<Pool>,
    ) {
        self.entries += rows.len();
        self.heap_bytes += filter.add_all(rows.iter().map(|row| row.hash));
        if segments.is_some() {
            self.heap_bytes += rows.iter().map(|row| row.row.bytes.len()).sum::<usize>();
        }
        let (body, lists) = Body::filled(rows, prefix_len, segments, pool);
        self.heap_bytes += body.heap_bytes() + lists;
        let low = Bytes::copy_from_slice(rows[0].row.key());
        self.leaves.push(Leaf { low, body: RwLock::new(body) });
    }
}

impl Core {
    /// Gives the heap bytes that this took beyond those of the leaves' bodies.
    fn fill(&self, leaves: Vec<Leaf>) -> usize {
        let mut leaves = leaves.into_iter();
        let Some(first) = leaves.next() else { return 0 };
        let mut locked = self.write(&[]);
        let is_new = locked.body.len() == 0 && locked.next.is_none();
        assert!(is_new, "only a memtable without rows is filled");
        let _growth = self.growth.lock();
        let index = self.index.load();
        let splits = index.at(0).splits + 1;
        *locked.body = first.body.into_inner();
        locked.body.splits = splits;
        let mut named = vec![Named { splits, ..index.at(0) }];
        let mut chunks = 0;
        for leaf in leaves {
            let id = LeafId::after(named.len());
            chunks += self.leaves.put(id, leaf);
            named.push(Named { id, splits: 0 });
        }
        let next = Index::of(named.into(), &self.leaves);
        let bytes = chunks + next.heap_bytes() - index.heap_bytes();
        self.index.store(next.into());
        bytes
    }
}
