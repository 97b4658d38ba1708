//! The range deletes of a memtable: a short list beside the leaves, tested by one counter on `get`.
//!
//! A range delete hides older versions, never those of its own seq: a batch that puts a key and
//! then deletes a range over it says so with a delete of the key. The list is walked, so range deletes
//! wait for the next memtable where it is long; `RANGE_DELETES_MAX` is where.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::{RwLock, RwLockReadGuard};

use crate::format::record::KEY_BYTES_MAX;
use crate::ids::Seq;

/// Range deletes after which a memtable takes no commit with more: a lookup compares with each.
pub(crate) const RANGE_DELETES_MAX: usize = 64;

/// No key is as long, so every key is below it.
const BEYOND_EVERY_KEY: &[u8] = &[0xFF; KEY_BYTES_MAX + 1];

/// One deleted range, from `low` to below `high`, which is beyond every key if the range is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RangeDelete {
    pub(crate) low: Bytes,
    pub(crate) high: Bytes,
    pub(crate) seq: Seq,
}

impl RangeDelete {
    /// Whether no older row is left of it.
    pub(crate) fn is_of_all_keys(&self) -> bool {
        self.low.is_empty() && self.high == BEYOND_EVERY_KEY
    }
}

#[derive(Default)]
pub(super) struct RangeDeletes {
    count: AtomicUsize,
    list: RwLock<Vec<RangeDelete>>,
}

/// The list, held still.
pub(super) struct View<'a>(Option<RwLockReadGuard<'a, Vec<RangeDelete>>>);

impl RangeDeletes {
    pub(super) fn count(&self) -> usize {
        // Whoever may see a commit learned its seq after the commit was applied, so the count is
        // there; Acquire pairs with `add` all the same.
        self.count.load(Ordering::Acquire)
    }

    /// Adds one, open if `high` is empty; gives the heap bytes that this took.
    pub(super) fn add(&self, seq: Seq, low: &[u8], high: &[u8]) -> usize {
        let bounds: Bytes = [low, high].concat().into();
        let (low, high) = match high {
            [] => (bounds.clone(), Bytes::from_static(BEYOND_EVERY_KEY)),
            _ => (bounds.slice(..low.len()), bounds.slice(low.len()..)),
        };
        let mut list = self.list.write();
        let before = list.capacity();
        list.push(RangeDelete { low, high, seq });
        self.count.store(list.len(), Ordering::Release);
        bounds.len() + (list.capacity() - before) * size_of::<RangeDelete>()
    }

    pub(super) fn view(&self) -> View<'_> {
        View((self.count() > 0).then(|| self.list.read()))
    }

    pub(super) fn until(&self, at: Seq) -> Vec<RangeDelete> {
        self.view().list().iter().filter(|range| range.seq <= at).cloned().collect()
    }
}

impl View<'_> {
    fn list(&self) -> &[RangeDelete] {
        self.0.as_ref().map_or(&[], |list| list)
    }

    /// The newest delete of a range with `key` in it, at or below `at`.
    pub(super) fn newest(&self, key: &[u8], at: Seq) -> Option<Seq> {
        let covers = |range: &&RangeDelete| range.seq <= at && range.low <= key && key < range.high;
        self.list().iter().filter(covers).map(|range| range.seq).max()
    }
}
