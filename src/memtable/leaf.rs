//! A leaf: the keys of one interval, in order, behind one lock.
//!
//! Three arrays: the heads in key order, searched first; beside each head the number of its slot;
//! and the slots, in order of arrival, which never move while the leaf grows. An insert in the
//! middle so moves ten bytes per later key instead of forty-two. The slots say where in the leaf's
//! own chunks of bytes their rows lie.
//!
//! Invariants
//! - `heads.len() == order.len() == slots.len() <= LEAF_KEYS_MAX`, and `order` is a permutation.
//! - All keys begin with `prefix`; a head is taken behind it. The prefix shrinks when a key without
//!   it arrives, and may be taken longer at a split.
//! - `low` never changes and every key is at or above it. The upper border is the next leaf's `low`
//!   as the index has it; it changes only when the leaf splits, and `splits` counts that. Whoever
//!   locks a leaf and finds the count that its index names holds the interval that its index names.

use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use smallvec::SmallVec;

use super::fill::prefix_of;
use super::head::{Against, against, common_len, head8};
use super::pool::{Arrays, Pool};
use super::rows::{NEAR_BYTES_MAX, Rows};
use super::version::{NewRow, Version, Versions};

/// Keys in a leaf before it splits: few enough that a search reads two short runs of heads, many
/// enough that the index stays small.
pub(super) const LEAF_KEYS_MAX: usize = 256;
/// Keys short of full at which a leaf that fills in ascending order is left, so that stragglers of
/// parallel writers still fit.
const STRAGGLERS_MAX: usize = 8;
/// Keys of a leaf that is filled at once.
pub(super) const LEAF_KEYS_FILLED: usize = LEAF_KEYS_MAX - STRAGGLERS_MAX;
/// How far from the one before an insert may land to belong to the same run.
const RUN_GAP_MAX: usize = 8;
/// Inserts in a run before it says where to split.
const RUN_MIN: usize = 32;
/// Leading bytes that all heads of a leaf share before a split takes its heads anew behind a longer
/// prefix; that reads every key.
const SHARED_HEAD_BYTES_MAX: usize = 3;

/// An interval of keys, beginning at `low`.
pub(super) struct Leaf {
    pub(super) low: Bytes,
    pub(super) body: RwLock<Body>,
}

/// What all keys of a leaf begin with: short enough to lie in the leaf itself, as a rule.
type Prefix = SmallVec<[u8; 16]>;

/// What the lock of a leaf guards.
pub(super) struct Body {
    pub(super) splits: u32,
    run: Run,
    prefix: Prefix,
    heads: Vec<u64>,
    order: Vec<u16>,
    slots: Vec<Versions>,
    rows: Rows,
    /// The arrays are the pool's.
    is_lent: bool,
}

/// Inserts that landed close to each other, one after another: somebody writes in order.
#[derive(Clone, Copy, Default)]
struct Run {
    from: usize,
    last: usize,
    len: usize,
}

impl Run {
    fn note(&mut self, place: usize) {
        if place.abs_diff(self.last + 1) <= RUN_GAP_MAX {
            *self = Run { last: place, len: self.len + 1, from: self.from };
        } else {
            *self = Run { last: place, len: 1, from: place };
        }
    }
}

/// How many of the ascending heads are below `head`.
///
/// The heads are rarely in the processor's cache, so what counts is how many misses wait for one
/// another. A binary search waits for five; this probes the ends of sixteen blocks at once and then
/// reads one block: two. Random lookups in a million rows took about a fifth less time.
fn count_below(heads: &[u64], head: u64) -> usize {
    let block = heads.len().div_ceil(16).max(1);
    let ends = heads.chunks_exact(block).map(|heads| usize::from(heads[block - 1] < head));
    let start = ends.sum::<usize>() * block;
    let end = heads.len().min(start + block);
    start + heads[start..end].iter().map(|&other| usize::from(other < head)).sum::<usize>()
}

/// Where a full leaf is divided, and which part takes the new key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// In the middle; the key's place decides.
    Middle,
    /// Keys ascend: at the new key's place, and it opens the right part.
    Ascending,
    /// Keys descend: at the new key's place, and it closes the left part.
    Descending,
}

impl Drop for Body {
    fn drop(&mut self) {
        if self.is_lent {
            let (heads, order) = (mem::take(&mut self.heads), mem::take(&mut self.order));
            let slots = mem::take(&mut self.slots);
            self.rows.pool().take_arrays(Arrays { heads, order, slots });
        }
    }
}

impl Body {
    /// Without keys, and without room for any.
    pub(super) fn new(pool: &Arc<Pool>) -> Body {
        Body::with_room(Prefix::new(), 0, pool)
    }

    /// A body of rows that ascend, few enough for a leaf; gives the heap bytes of lists of further
    /// versions, too.
    pub(super) fn filled(rows: &[NewRow<'_>], pool: &Arc<Pool>) -> (Body, usize) {
        // A full leaf has room to be divided; thousands of families have a leaf of few rows.
        let room = if rows.len() < LEAF_KEYS_FILLED { rows.len() } else { LEAF_KEYS_MAX };
        let mut body = Body::with_room(Prefix::from_slice(prefix_of(rows)), room, pool);
        body.rows = Rows::with_room(rows.iter().map(|row| row.bytes.len()).sum(), pool);
        let mut lists = 0;
        for row in rows {
            let head = head8(&row.key()[body.prefix.len()..]);
            match body.len().checked_sub(1) {
                Some(last) if body.heads[last] == head && body.key(last) == row.key() => {
                    lists += body.add(last, row);
                }
                _ => {
                    let versions = Versions::One(Version::new(row, &mut body.rows));
                    body.append(head, versions);
                }
            }
        }
        (body, lists)
    }

    pub(super) fn len(&self) -> usize {
        self.heads.len()
    }

    /// The versions of the key at `place`.
    pub(super) fn at(&self, place: usize) -> &Versions {
        &self.slots[usize::from(self.order[place])]
    }

    /// The bytes of its versions.
    pub(super) fn rows(&self) -> &Rows {
        &self.rows
    }

    /// Adds a version to the key at `place`; gives the heap bytes that this took.
    pub(super) fn add(&mut self, place: usize, row: &NewRow<'_>) -> usize {
        let before = self.rows.heap_bytes();
        let version = Version::new(row, &mut self.rows);
        let list = self.slots[usize::from(self.order[place])].add(version);
        self.rows.heap_bytes() - before + list
    }

    /// Asks for the newest rows of these places: their misses overlap then, instead of waiting one by one.
    pub(super) fn bring_near(&self, places: impl Iterator<Item = usize> + Clone) {
        places.clone().for_each(|place| ringdb_frames::bring_near(self.at(place)));
        places.for_each(|place| {
            let row = self.at(place).newest_row(&self.rows);
            ringdb_frames::bring_near(&row[..row.len().min(NEAR_BYTES_MAX)]);
        });
    }

    /// Asks for what an insert of so many bytes writes besides the heads: order, slots and rows lie apart, so that a key at random
    /// would wait for one after the other.
    pub(super) fn bring_end_near(&mut self, row_bytes: usize) {
        ringdb_frames::bring_near(&self.order[self.len() / 2..]);
        self.slots.spare_capacity_mut().first().into_iter().for_each(ringdb_frames::bring_near);
        self.rows.bring_end_near(row_bytes);
    }

    /// The place of `key`, or the place where it would be.
    pub(super) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let rest = match against(key, &self.prefix) {
            Against::Below => return Err(0),
            Against::Above => return Err(self.len()),
            Against::Within(rest) => rest,
        };
        let head = head8(rest);
        if self.heads.last().is_some_and(|&last| last < head) {
            return Err(self.len()); // as it is where keys ascend
        }
        let start = count_below(&self.heads, head);
        if self.heads.get(start) != Some(&head) {
            return Err(start);
        }
        let ties = self.heads[start..].iter().take_while(|&&other| other == head).count();
        self.order[start..start + ties]
            .binary_search_by(|&slot| {
                self.slots[usize::from(slot)].key(&self.rows)[self.prefix.len()..].cmp(rest)
            })
            .map(|at| start + at)
            .map_err(|at| start + at)
    }

    /// How the leaf must be divided before a key can be put at `place`.
    pub(super) fn cut(&self, place: usize) -> Option<Cut> {
        let len = self.len();
        if len + STRAGGLERS_MAX < LEAF_KEYS_MAX {
            return None;
        }
        let mut run = self.run;
        run.note(place);
        let cut = if run.len < RUN_MIN {
            Cut::Middle
        } else if place == len || (place > 0 && place >= run.from + run.len / 2) {
            Cut::Ascending // and not all keys go right
        } else {
            Cut::Descending // and not all keys stay left
        };
        (len == LEAF_KEYS_MAX || cut == Cut::Ascending).then_some(cut)
    }

    /// Puts a new key at the place that `search` gave; gives the heap bytes that this took.
    pub(super) fn insert(&mut self, place: usize, row: &NewRow<'_>) -> usize {
        assert!(self.len() < LEAF_KEYS_MAX, "a full leaf is divided first");
        let before = self.heap_bytes();
        self.share_prefix(row.key());
        self.run.note(place);
        let slot = u16::try_from(self.slots.len()).expect("a leaf has at most LEAF_KEYS_MAX slots");
        self.heads.insert(place, head8(&row.key()[self.prefix.len()..]));
        self.order.insert(place, slot);
        self.slots.push(Versions::One(Version::new(row, &mut self.rows)));
        self.heap_bytes() - before
    }

    /// Makes the prefix one that the new key begins with too.
    fn share_prefix(&mut self, key: &[u8]) {
        if self.heads.is_empty() {
            self.prefix = Prefix::from_slice(key);
        } else if !key.starts_with(&self.prefix) {
            let shared = common_len(&self.prefix, key);
            self.prefix.truncate(shared);
            self.take_heads();
        }
    }

    fn take_heads(&mut self) {
        let skip = self.prefix.len();
        let (slots, rows) = (&self.slots, &self.rows);
        let keys = self.order.iter().map(|&slot| slots[usize::from(slot)].key(rows));
        self.heads.clear();
        self.heads.extend(keys.map(|key| head8(&key[skip..])));
    }

    /// Divides a leaf and puts the new key; gives the right part, whose first key becomes its low.
    pub(super) fn split(&mut self, place: usize, cut: Cut, row: &NewRow<'_>) -> Body {
        let (border, goes_right) = match cut {
            Cut::Middle => (self.len() / 2, place > self.len() / 2),
            Cut::Ascending => (place, true),
            Cut::Descending => (place, false),
        };
        let mut right = self.divide(border);
        if goes_right {
            right.insert(place - border, row);
        } else {
            self.insert(place, row);
        }
        right
    }

    /// Moves the keys from `border` on to a new body. Both have room for a full leaf, because both
    /// are about to fill.
    fn divide(&mut self, border: usize) -> Body {
        let pool = self.rows.pool().clone();
        let mut right = Body::with_room(self.prefix.clone(), LEAF_KEYS_MAX, &pool);
        if border < self.len() {
            let mut left = Body::with_room(self.prefix.clone(), LEAF_KEYS_MAX, &pool);
            let mut slots: Vec<_> = self.slots.drain(..).map(Some).collect();
            for (place, &slot) in self.order.iter().enumerate() {
                let versions = slots[usize::from(slot)].take().expect("order is a permutation");
                let part = if place < border { &mut left } else { &mut right };
                part.push(self.heads[place], versions, &self.rows);
            }
            left.splits = self.splits;
            *self = left;
        }
        self.splits += 1;
        self.run = Run::default();
        self.lengthen_prefix();
        right.lengthen_prefix();
        right
    }

    fn with_room(prefix: Prefix, keys: usize, pool: &Arc<Pool>) -> Body {
        let is_lent = keys == LEAF_KEYS_MAX;
        let (arrays, rows) = match is_lent {
            true => (pool.arrays(), Rows::of_many(pool)),
            false => (Arrays::with_room(keys), Rows::of_few(pool)),
        };
        let (Arrays { heads, order, slots }, splits, run) = (arrays, 0, Run::default());
        Body { splits, run, prefix, heads, order, slots, rows, is_lent }
    }

    fn push(&mut self, head: u64, versions: Versions, from: &Rows) {
        let versions = versions.moved(from, &mut self.rows);
        self.append(head, versions);
    }

    /// Adds the key behind all others.
    fn append(&mut self, head: u64, versions: Versions) {
        self.order.push(u16::try_from(self.slots.len()).expect("at most LEAF_KEYS_MAX slots"));
        self.heads.push(head);
        self.slots.push(versions);
    }

    fn lengthen_prefix(&mut self) {
        let (Some(first), Some(last)) = (self.heads.first(), self.heads.last()) else { return };
        let shared_bits = (first ^ last).leading_zeros() as usize;
        if shared_bits < SHARED_HEAD_BYTES_MAX * 8 {
            return;
        }
        let (first, last) = (self.key(0), self.key(self.len() - 1));
        let shared = common_len(first, last);
        if shared > self.prefix.len() {
            self.prefix = Prefix::from_slice(&first[..shared]);
            self.take_heads();
        }
    }

    fn key(&self, place: usize) -> &[u8] {
        self.at(place).key(&self.rows)
    }

    /// The first key, as the low of a leaf that holds this body.
    pub(super) fn first_key(&self) -> Bytes {
        Bytes::copy_from_slice(self.key(0))
    }

    /// Heap bytes of arrays and rows; lists of further versions are charged apart.
    pub(super) fn heap_bytes(&self) -> usize {
        self.rows.heap_bytes()
            + self.heads.capacity() * size_of::<u64>()
            + self.order.capacity() * size_of::<u16>()
            + self.slots.capacity() * size_of::<Versions>()
    }
}
