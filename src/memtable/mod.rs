//! The memtable: the ordered map of one column family in memory, multi-version by seq.
//!
//! Many writers insert at once, readers never block each other, and a memtable never forgets: it is
//! frozen, merged into a tree, and dropped whole.
//!
//! Shape: leaves of a few hundred keys with a lock each, under an immutable index of their lower
//! borders that is swapped when a leaf splits. A filter tells lookups of most keys that are not there.
//!
//! Protocol
//! - Everybody loads the index, finds a leaf, locks it, and believes it only if its split count is
//!   the one that the index names; else the index is stale, a newer one is already published, and
//!   the search begins again.
//! - A split holds the leaf's lock, then `growth`, puts the new leaf, publishes the new index, and
//!   only then lets go of the leaf. Nobody waits for a leaf while holding `growth`, and nobody
//!   holds two leaves.
//!
//! Rejected: a lock-free skip list (a cache miss per level, a quarter of the speed); one tree
//! behind a lock (parallel writers are slower than one); fixed shards by the first byte of the key
//! (real keys share it).

mod ahead;
mod entry;
mod fill;
#[cfg(test)]
mod fill_tests;
mod filter;
mod head;
mod heads;
mod index;
mod leaf;
mod leaves;
mod places;
mod pool;
mod ranges;
mod rows;
mod scan;
#[cfg(test)]
mod tests;
mod version;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::ids::Seq;
use ahead::Ahead;
pub(crate) use entry::{Copied, Found, Kind};
pub(crate) use fill::FillRow;
use filter::Filter;
pub(crate) use filter::KeyHash;
pub(crate) use head::head8;
use index::Index;
use leaf::{Body, Cut, Leaf};
use leaves::{LeafId, Leaves};
pub(crate) use pool::Pool;
use ranges::RangeDeletes;
pub(crate) use ranges::{RANGE_DELETES_MAX, RangeDelete};
pub(crate) use rows::{RowPlace, Segments};
pub(crate) use scan::{Direction, Drained, Scanned};
pub(crate) use version::NewRow;

/// Divisions of leaves that tell whether keys come in sequence.
const DIVISIONS_MIN: usize = 16;

/// Bytes charged for a range delete beyond its bounds.
const RANGE_OVERHEAD_BYTES: usize = 32;

/// The ordered map of one column family in memory.
///
/// Dropping a full one frees every row and takes a while: not for the commit path.
pub(crate) struct Memtable {
    /// Comes with the first insert: thousands of families exist, and most are idle.
    core: OnceLock<Box<Core>>,
    ranges: RangeDeletes,
    bytes: AtomicUsize,
    entries: AtomicUsize,
    pool: Arc<Pool>,
}

struct Core {
    leaves: Leaves,
    index: ArcSwap<Index>,
    /// Has every key before it is in a leaf.
    filter: Filter,
    /// Held while a leaf is added and the index swapped.
    growth: Mutex<()>,
    divided: Divided,
}

/// How often a leaf was divided, and how often at the end of a run of neighbours.
#[derive(Default)]
struct Divided {
    all: AtomicUsize,
    in_run: AtomicUsize,
}

/// A leaf that is locked for writing.
struct Locked<'a> {
    leaf: &'a Leaf,
    body: RwLockWriteGuard<'a, Body>,
    /// The leaf of the keys behind its own.
    next: Option<LeafId>,
}

impl Memtable {
    /// An empty memtable, which allocates nothing yet.
    pub(crate) fn new(pool: &Arc<Pool>) -> Memtable {
        Memtable {
            core: OnceLock::new(),
            ranges: RangeDeletes::default(),
            bytes: AtomicUsize::new(0),
            entries: AtomicUsize::new(0),
            pool: pool.clone(),
        }
    }

    /// The next memtable of the same family, empty.
    pub(crate) fn successor(&self) -> Memtable {
        Memtable::new(&self.pool)
    }

    /// Adds a version of a key. `row` holds `key_len` bytes of key and then the value.
    ///
    /// Of two versions of a key with the same seq the later insert wins, as the later operation of
    /// a batch does.
    pub(crate) fn insert(&self, seq: Seq, kind: Kind, row: &[u8], key_len: usize) {
        assert!(key_len <= row.len(), "the key is a part of the row");
        let bytes = self.core().insert(&NewRow { seq, kind, bytes: row, key_len });
        if bytes > 0 {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        self.entries.fetch_add(1, Ordering::Relaxed);
    }

    /// The same for many versions, in ascending order of their keys: cheaper, as neighbours look for their leaf once.
    pub(crate) fn insert_sorted<'a>(&self, rows: impl Iterator<Item = NewRow<'a>>) {
        let mut entries = 0;
        let bytes = self.core().insert_sorted(rows.inspect(|_| entries += 1));
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.entries.fetch_add(entries, Ordering::Relaxed);
    }

    fn core(&self) -> &Core {
        self.core.get_or_init(|| {
            self.bytes.fetch_add(Core::EMPTY_BYTES, Ordering::Relaxed);
            Box::new(Core::new(&self.pool))
        })
    }

    /// Deletes all keys from `low` to below `high` that are older than `seq`; an empty `high` is open.
    ///
    /// Versions of the same seq stay: a batch that puts a key before it deletes a range with the
    /// key in it must insert a delete of the key too.
    pub(crate) fn delete_range(&self, seq: Seq, low: &[u8], high: &[u8]) {
        let bytes = self.ranges.add(seq, low, high);
        self.bytes.fetch_add(RANGE_OVERHEAD_BYTES + bytes, Ordering::Relaxed);
    }

    /// The newest version of `key` at or below `at`; a delete for a deleted key, nothing if this
    /// memtable knows nothing of it.
    pub(crate) fn get(&self, key: &[u8], at: Seq) -> Option<Found> {
        let hidden = self.hidden(key, at);
        match (self.visible(key, at, hidden.unwrap_or(Seq(0))), hidden) {
            (None, Some(seq)) => Some(Found { seq, kind: Kind::Delete, value: Bytes::new() }),
            (found, _) => found,
        }
    }

    /// The newest range delete that a lookup must consider.
    fn hidden(&self, key: &[u8], at: Seq) -> Option<Seq> {
        self.ranges.view().newest(key, at)
    }

    /// The newest version from `from` to `at`.
    fn visible(&self, key: &[u8], at: Seq, from: Seq) -> Option<Found> {
        let core = self.core.get()?;
        if !core.filter.may_have(key) {
            return None;
        }
        let body = core.read(key);
        let place = body.search(key).ok()?;
        let version = body.at(place).visible(at).filter(|version| version.seq >= from)?;
        let value = Bytes::copy_from_slice(version.value(body.rows()));
        Some(Found { seq: version.seq, kind: version.kind, value })
    }

    /// The memory that it takes: leaves with their rows, and the index. Never shrinks.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether nearly all keys came in sequence, ascending or descending, perhaps from several writers.
    pub(crate) fn is_sequence(&self) -> bool {
        let Some(divided) = self.core.get().map(|core| &core.divided) else { return false };
        let all = divided.all.load(Ordering::Relaxed);
        all >= DIVISIONS_MIN && divided.in_run.load(Ordering::Relaxed) > all - all / 8
    }

    /// How many versions of keys it holds.
    pub(crate) fn entries(&self) -> usize {
        self.entries.load(Ordering::Relaxed)
    }

    /// How many keys it holds, while nobody adds any.
    pub(crate) fn keys(&self) -> usize {
        let Some(core) = self.core.get() else { return 0 };
        let index = core.index.load();
        let leaves = (0..index.len()).map(|place| core.leaves.leaf(index.at(place).id));
        leaves.map(|leaf| leaf.body.read().len()).sum()
    }

    #[cfg(test)]
    /// Whether neither a key nor a range delete was ever added.
    pub(crate) fn is_empty(&self) -> bool {
        !self.has_rows() && self.range_delete_count() == 0
    }

    /// How many range deletes it holds; at `RANGE_DELETES_MAX` commits with more wait for its successor.
    pub(crate) fn range_delete_count(&self) -> usize {
        self.ranges.count()
    }

    /// The range deletes at or below `at`, in no order.
    pub(crate) fn range_deletes(&self, at: Seq) -> Vec<RangeDelete> {
        self.ranges.until(at)
    }
}

impl Core {
    const EMPTY_BYTES: usize = size_of::<Core>() + 2 * size_of::<Leaf>() + size_of::<Index>();

    fn new(pool: &Arc<Pool>) -> Core {
        let (leaves, first) = (Leaves::new(), LeafId::after(0));
        leaves.put(first, Leaf { low: Bytes::new(), body: RwLock::new(Body::new(pool)) });
        let index = ArcSwap::from_pointee(Index::of_one(first));
        let (growth, divided) = (Mutex::new(()), Divided::default());
        Core { leaves, index, filter: Filter::new(), growth, divided }
    }

    /// The leaf that covers `key`, locked for reading.
    fn read(&self, key: &[u8]) -> RwLockReadGuard<'_, Body> {
        loop {
            let index = self.index.load();
            let named = index.at(index.find(&self.leaves, key));
            let body = self.leaves.leaf(named.id).body.read();
            if body.splits == named.splits {
                return body;
            }
        }
    }

    /// The leaf that covers `key`, locked for writing, and the one behind it.
    fn write(&self, key: &[u8]) -> Locked<'_> {
        loop {
            let index = self.index.load();
            let place = index.find(&self.leaves, key);
            let named = index.at(place);
            let leaf = self.leaves.leaf(named.id);
            let body = leaf.body.write();
            if body.splits == named.splits {
                let next = (place + 1 < index.len()).then(|| index.at(place + 1).id);
                return Locked { leaf, body, next };
            }
        }
    }

    /// Adds a row; gives the heap bytes that this took.
    fn insert(&self, row: &NewRow<'_>) -> usize {
        self.filter.bring_near(row.key());
        let prepared = self.filter.prepare();
        let mut locked = self.write(row.key());
        locked.body.bring_end_near(row.bytes.len());
        prepared + self.put(&mut locked, row).0
    }

    /// Adds rows that ascend; gives the heap bytes that this took.
    fn insert_sorted<'a>(&self, rows: impl Iterator<Item = NewRow<'a>>) -> usize {
        let mut rows = Ahead::new(rows, |row| self.filter.bring_near(row.key())).peekable();
        let mut bytes = 0;
        while let Some(first) = rows.peek() {
            bytes += self.filter.prepare();
            let mut locked = self.write(first.key());
            let border = locked.next.map(|next| &self.leaves.leaf(next).low);
            let is_here = |row: &NewRow<'_>| border.is_none_or(|border| row.key() < &border[..]);
            while let Some(row) = rows.next_if(is_here) {
                let (taken, was_split) = self.put(&mut locked, &row);
                bytes += taken;
                if was_split {
                    break;
                }
            }
        }
        bytes
    }

    /// Adds a row to the leaf that covers its key; gives the heap bytes that this took, and whether the leaf was divided.
    fn put(&self, locked: &mut Locked<'_>, row: &NewRow<'_>) -> (usize, bool) {
        let Locked { leaf, body, .. } = locked;
        match body.search(row.key()) {
            Ok(place) => (body.add(place, row), false),
            Err(place) => {
                let bytes = self.filter.add(row.key());
                match body.cut(place) {
                    None => (bytes + body.insert(place, row), false),
                    Some(cut) => (bytes + self.split(leaf, body, place, cut, row), true),
                }
            }
        }
    }

    /// Divides a locked leaf and adds the row.
    fn split(
        &self,
        leaf: &Leaf,
        body: &mut Body,
        place: usize,
        cut: Cut,
        row: &NewRow<'_>,
    ) -> usize {
        let before = body.heap_bytes();
        self.divided.all.fetch_add(1, Ordering::Relaxed);
        self.divided.in_run.fetch_add(usize::from(cut != Cut::Middle), Ordering::Relaxed);
        let right = body.split(place, cut, row);
        let taken = (body.heap_bytes() + right.heap_bytes()).saturating_sub(before);
        let right = Leaf { low: right.first_key(), body: RwLock::new(right) };
        taken + self.grow(leaf, right)
    }

    /// Puts the leaf `right`, which was split off `left`, and publishes an index that names it.
    fn grow(&self, left: &Leaf, right: Leaf) -> usize {
        let _growth = self.growth.lock();
        let index = self.index.load();
        let id = LeafId::after(index.len());
        let chunk = self.leaves.put(id, right);
        let next = index.with_split(index.find(&self.leaves, &left.low), id, &self.leaves);
        let bytes = chunk + next.heap_bytes() - index.heap_bytes();
        self.index.store(next.into());
        bytes
    }
}
