//! A leaf: the keys of one interval, in order, behind one lock.
//!
//! Two arrays in key order: the heads, searched first, and the places, which say where in the leaf's
//! own chunks of bytes the rows lie. An insert in the middle moves twelve bytes per later key.
//!
//! Invariants
//! - There are as many heads as places, at most `LEAF_KEYS_MAX`.
//! - All keys begin with `prefix`; a head is taken behind it. The prefix shrinks when a key without
//!   it arrives, and may be taken longer at a split, or when the leaf is filled.
//! - `low` never changes and every key is at or above it. The upper border is the next leaf's `low`
//!   as the index has it; it changes only when the leaf splits, and `splits` counts that. Whoever
//!   locks a leaf and finds the count that its index names holds the interval that its index names.

#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::mem;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use smallvec::SmallVec;

use super::fill::FillRow;
use super::head::{Against, against, common_len, head8};
use super::heads::{BLOCK, Heads};
use super::places::{Places, Taken};
use super::pool::{Arrays, Pool};
use super::rows::{NEAR_BYTES_MAX, Rows, Segments};
use super::version::{HEADER_BYTES, NewRow, Version, Versions, VersionsAt};

/// Keys in a leaf before it splits: few enough that the ends of all blocks of heads lie in it, many
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
/// A part of a leaf keeps the chunks if rows that are not its own are at most this part of its bytes. To copy it costs so many
/// times what was moved since it was copied, at most, and of a leaf that is divided in the middle both parts are copied.
const DEAD_SHARE: usize = 4;
/// The header of a row, and a key as long as most are.
const FRONT_BYTES: usize = 64;
/// Leading bytes that all heads of a leaf share before it takes its heads anew behind a longer prefix,
/// when it was split or filled; that reads every key.
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
    heads: Heads,
    places: Places,
    rows: Rows,
    /// Bytes of rows that are in another leaf now, since this one was divided and kept its chunks, and of headers that are in lists.
    dead_bytes: usize,
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

/// Which part of a leaf that is divided keeps its chunks of rows: the rows of the others are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeper {
    Left,
    Right,
    Neither,
}

impl Drop for Body {
    fn drop(&mut self) {
        if self.is_lent {
            let heads = mem::replace(&mut self.heads, Heads::new(Vec::new())).into_memory();
            let places = mem::replace(&mut self.places, Places::new(Vec::new())).into_memory();
            self.rows.pool().take_arrays(Arrays { heads, places });
        }
    }
}

impl Body {
    /// Without keys, and without room for any.
    pub(super) fn new(pool: &Arc<Pool>) -> Body {
        Body::with_room(Prefix::new(), 0, pool)
    }

    /// A body of rows that ascend, few enough for a leaf, with heads behind so many bytes that all share. They are copied or stay in
    /// the segments; gives the heap bytes of lists of further versions, too.
    pub(super) fn filled(
        rows: &[FillRow<'_>],
        prefix_len: usize,
        segments: Option<&Segments>,
        pool: &Arc<Pool>,
    ) -> (Body, usize) {
        // A full leaf has room to be divided; thousands of families have a leaf of few rows.
        let bytes_of = |row: &FillRow<'_>| HEADER_BYTES + row.row.bytes.len();
        let room = if rows.len() < LEAF_KEYS_FILLED { rows.len() } else { LEAF_KEYS_MAX };
        let prefix = Prefix::from_slice(&rows[0].row.key()[..prefix_len]);
        let mut body = Body::with_room(prefix, room, pool);
        body.rows = match segments {
            Some(segments) => Rows::in_segments(segments, pool),
            None => Rows::with_room(rows.iter().map(bytes_of).sum(), pool),
        };
        if segments.is_some() {
            body.places.reserve_lists(rows.len());
        }
        let mut lists = 0;
        for FillRow { row, place, head, .. } in rows {
            let in_segment = || Version::at(*place, row);
            match body.len().checked_sub(1) {
                Some(last) if body.heads[last] == *head && body.key(last) == row.key() => {
                    let version = match segments {
                        Some(_) => in_segment(),
                        None => Version::new(row, &mut body.rows),
                    };
                    lists += body.places.add(last, version, &body.rows);
                }
                _ => {
                    let taken = match segments {
                        Some(_) => Taken::List(Versions::One(in_segment())),
                        None => Taken::Row(Version::write(row, &mut body.rows)),
                    };
                    body.append(*head, taken);
                }
            }
        }
        body.lengthen_prefix();
        (body, lists)
    }

    pub(super) fn len(&self) -> usize {
        self.heads.len()
    }

    /// The versions of the key at `place`.
    #[inline]
    pub(super) fn at(&self, place: usize) -> VersionsAt<'_> {
        self.places.at(place, &self.rows)
    }

    /// The bytes of its versions.
    pub(super) fn rows(&self) -> &Rows {
        &self.rows
    }

    /// Adds a version to the key at `place`; gives the heap bytes that this took.
    pub(super) fn add(&mut self, place: usize, row: &NewRow<'_>) -> usize {
        let (before, lists) = (self.heap_bytes(), self.places.lists());
        let version = Version::new(row, &mut self.rows);
        let list = self.places.add(place, version, &self.rows);
        // A first version that comes into a list leaves its header behind.
        self.dead_bytes += (self.places.lists() - lists) * HEADER_BYTES;
        self.heap_bytes() - before + list
    }

    /// Asks for the newest rows of these places: their misses overlap then, instead of waiting one by one.
    pub(super) fn bring_near(&self, places: impl Iterator<Item = usize> + Clone) {
        // Rows of one leaf have one length, as a rule; lists say nothing of theirs.
        let bytes = match self.places.lists() {
            0 => NEAR_BYTES_MAX.min(self.rows.heap_bytes() / self.len().max(1)),
            _ => NEAR_BYTES_MAX,
        };
        self.places.bring_rows_near(places, bytes, &self.rows);
    }

    /// Asks for the fronts of all rows: headers, and keys as long as most are.
    fn bring_fronts_near(&self) {
        self.places.bring_rows_near(0..self.len(), FRONT_BYTES, &self.rows);
    }

    /// Asks for what an insert of so many bytes writes besides the heads: places and rows lie apart, so that a key at random would
    /// wait for one after the other.
    pub(super) fn bring_end_near(&mut self, row_bytes: usize) {
        self.places.bring_near(self.len() / 2, LEAF_KEYS_MAX);
        self.rows.bring_end_near(HEADER_BYTES + row_bytes);
    }

    /// The place of `key`, or the place where it would be.
    pub(super) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let (head, rest) = self.head_of(key)?;
        let block = self.heads.block_of(head);
        self.places.bring_near(block, BLOCK);
        self.rows.bring_chunks_near();
        self.search_ties(self.heads.lower_bound(block, head), head, rest)
    }

    /// The same for a key that is not in front of this place, and perhaps close behind it.
    pub(super) fn search_from(&self, place: usize, key: &[u8]) -> Result<usize, usize> {
        let (head, rest) = self.head_of(key)?;
        match self.heads.lower_bound_near(place, head) {
            Some(start) => self.search_ties(start, head, rest),
            None => self.search(key),
        }
    }

    /// The head of a key and all that is behind the prefix, or its place if it begins otherwise.
    #[inline]
    fn head_of<'k>(&self, key: &'k [u8]) -> Result<(u64, &'k [u8]), usize> {
        match against(key, &self.prefix) {
            Against::Below => Err(0),
            Against::Above => Err(self.len()),
            Against::Within(rest) => Ok((head8(rest), rest)),
        }
    }

    /// Among the keys of this head, which begin at `start`.
    #[inline]
    fn search_ties(&self, start: usize, head: u64, rest: &[u8]) -> Result<usize, usize> {
        if self.heads.get(start) != Some(&head) {
            return Err(start);
        }
        let ties = self.heads[start..].iter().take_while(|&&other| other == head).count();
        let (mut from, mut to) = (start, start + ties);
        while from < to {
            let middle = (from + to) / 2;
            match self.key(middle)[self.prefix.len()..].cmp(rest) {
                Ordering::Less => from = middle + 1,
                Ordering::Equal => return Ok(middle),
                Ordering::Greater => to = middle,
            }
        }
        Err(from)
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
        self.heads.insert(place, head8(&row.key()[self.prefix.len()..]));
        let taken = Taken::Row(Version::write(row, &mut self.rows));
        self.places.insert(place, taken, &self.rows);
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
        let (skip, len) = (self.prefix.len(), self.heads.len());
        self.bring_fronts_near();
        let (places, rows) = (&self.places, &self.rows);
        self.heads.replace((0..len).map(|place| head8(&places.at(place, rows).key(rows)[skip..])));
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
            self.divide_rows(border, &mut right);
        }
        self.splits += 1;
        self.run = Run::default();
        self.lengthen_prefix();
        right.lengthen_prefix();
        right
    }

    /// Moves the keys from `border` on to `right`, which is empty, and makes this body anew.
    fn divide_rows(&mut self, border: usize, right: &mut Body) {
        let mut left = Body::with_room(self.prefix.clone(), LEAF_KEYS_MAX, self.rows.pool());
        left.rows.share_segments(&self.rows);
        right.rows.share_segments(&self.rows);
        self.bring_fronts_near();
        let (keeper, dead_bytes) = self.keeper(border);
        let lists = self.places.lists();
        left.places.reserve_lists(lists.min(border));
        right.places.reserve_lists(lists.min(self.len() - border));
        for (place, taken) in self.places.take_all().enumerate() {
            let (part, keeps) = match place < border {
                true => (&mut left, keeper == Keeper::Left),
                false => (&mut *right, keeper == Keeper::Right),
            };
            // Those of a part that keeps them still lie in these chunks here, and had short places in them.
            let taken = if keeps { taken } else { taken.moved(&self.rows, &mut part.rows) };
            part.append(self.heads[place], taken);
        }
        let keeps = match keeper {
            Keeper::Left => Some(&mut left),
            Keeper::Right => Some(right),
            Keeper::Neither => None,
        };
        if let Some(part) = keeps {
            mem::swap(&mut part.rows, &mut self.rows);
            part.dead_bytes = dead_bytes;
        }
        left.splits = self.splits;
        *self = left;
    }

    /// Which part keeps the chunks when the leaf is divided at `border`, and the bytes in them that are not its own then.
    ///
    /// A key of very many versions would else be copied with all of them whenever keys beside it divide its leaf.
    fn keeper(&self, border: usize) -> (Keeper, usize) {
        let bytes_of =
            |places: Range<usize>| places.map(|place| self.at(place).row_bytes()).sum::<usize>();
        let (left, right) = (bytes_of(0..border), bytes_of(border..self.len()));
        let (keeper, kept, moved) = match left > right {
            true => (Keeper::Left, left, right),
            false => (Keeper::Right, right, left),
        };
        let dead_bytes = self.dead_bytes + moved;
        match dead_bytes <= kept / DEAD_SHARE {
            true => (keeper, dead_bytes),
            false => (Keeper::Neither, 0),
        }
    }

    fn with_room(prefix: Prefix, keys: usize, pool: &Arc<Pool>) -> Body {
        let is_lent = keys == LEAF_KEYS_MAX;
        let (arrays, rows) = match is_lent {
            true => (pool.arrays(), Rows::of_many(pool)),
            false => (Arrays::with_room(keys), Rows::of_few(pool)),
        };
        let (heads, places) = (Heads::new(arrays.heads), Places::new(arrays.places));
        let (splits, run, dead_bytes) = (0, Run::default(), 0);
        Body { splits, run, prefix, heads, places, rows, dead_bytes, is_lent }
    }

    /// Adds the key behind all others.
    fn append(&mut self, head: u64, versions: Taken) {
        self.places.insert(self.heads.len(), versions, &self.rows);
        self.heads.push(head);
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
        self.rows.heap_bytes() + self.heads.heap_bytes() + self.places.heap_bytes()
    }
}
