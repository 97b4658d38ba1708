//! Walking the leaves in order while others insert.
//!
//! A walk loads the index once and locks one leaf at a time. A leaf that carries the split count of
//! that index covers exactly the interval that the index says, so nothing is met twice or missed; a
//! leaf that was split since sends the walk back to a new index, at the border where it stands.

use std::ops::{Bound, ControlFlow};

use super::entry::{Copied, Kind};
use super::leaf::{Body, Leaf};
use super::{Core, Memtable};
use crate::ids::Seq;

/// Bytes of rows that a scan copies at most, unless one row alone is longer.
const COPIED_BYTES_MAX: usize = 256 << 10;
/// Rows that are asked for together.
const NEAR_ROWS: usize = 8;

/// Which way a scan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Forward,
    Backward,
}

/// Why a scan stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scanned {
    /// It has as many rows, or bytes of them, as it may take at once; there may be more.
    More,
    /// There is nothing more within the bounds.
    End,
}

/// What a checkpoint takes out of a frozen memtable.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Drained<'a> {
    /// The newest version of a key: its value, or the encoded reference of its extent; empty for a delete.
    Newest { kind: Kind, key: &'a [u8], value: &'a [u8] },
    /// The encoded reference of a version with an extent of its own that nothing newer than the drain's seq can reach.
    Superseded(&'a [u8]),
}

impl Memtable {
    /// The newest version at or below `at` of up to `max` keys between two bounds, in the order of
    /// `direction`.
    ///
    /// `from` is the lower bound and `to` the upper one, whatever the direction. Deleted keys are
    /// there as deletes, those in a deleted range too, so that the caller can merge with older
    /// sources; keys that only older sources have must be checked against `range_deletes`. The rows
    /// are copied, and no lock is held when it returns.
    pub(crate) fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        at: Seq,
        direction: Direction,
        max: usize,
    ) -> (Copied, Scanned) {
        let ranges = self.ranges.view();
        let mut copied = Copied::default();
        let scanned = self.walk(from, to, direction, |place, body| {
            if copied.is_full(max) {
                return ControlFlow::Break(());
            }
            if let Some(version) = body.at(place).visible(at) {
                let key = version.key(body.rows());
                let hidden = ranges.newest(key, at).is_some_and(|seq| seq > version.seq);
                match hidden {
                    true => copied.push(Kind::Delete, key, version.key_len),
                    false => copied.push(version.kind, version.row(body.rows()), version.key_len),
                }
            }
            ControlFlow::Continue(())
        });
        (copied, scanned)
    }

    /// Gives what a forward scan of up to `max` keys would, and the versions whose extents can be freed once no snapshot
    /// needs them, under the lock of their leaf.
    pub(crate) fn drain(
        &self,
        from: Bound<&[u8]>,
        at: Seq,
        max: usize,
        mut each: impl FnMut(Drained<'_>),
    ) -> Scanned {
        let ranges = self.ranges.view();
        let (mut keys, mut bytes) = (0, 0);
        self.walk(from, Bound::Unbounded, Direction::Forward, |place, body| {
            if keys >= max || bytes >= COPIED_BYTES_MAX {
                return ControlFlow::Break(());
            }
            let (versions, rows) = (body.at(place), body.rows());
            let until = versions.until(at);
            let Some((newest, older)) = until.split_last() else {
                return ControlFlow::Continue(());
            };
            let key = newest.key(rows);
            let hidden = ranges.newest(key, at).is_some_and(|seq| seq > newest.seq);
            let dead = if hidden { until } else { older };
            let extents = dead.iter().filter(|version| version.kind == Kind::Extent);
            extents.for_each(|version| each(Drained::Superseded(version.value(rows))));
            each(match hidden {
                true => Drained::Newest { kind: Kind::Delete, key, value: &[] },
                false => Drained::Newest { kind: newest.kind, key, value: newest.value(rows) },
            });
            (keys, bytes) = (keys + 1, bytes + newest.row(rows).len());
            ControlFlow::Continue(())
        })
    }

    /// Runs of neighbouring keys, in key order and spread evenly: at most so many, of at most so many keys each.
    pub(crate) fn sample(&self, runs: usize, keys: usize, at: Seq) -> Vec<Copied> {
        let Some(core) = self.core.get() else { return Vec::new() };
        let index = core.index.load();
        let places = (0..index.len()).step_by(index.len().div_ceil(runs));
        let run = |place| {
            let low = Bound::Included(&core.leaves.leaf(index.at(place).id).low[..]);
            self.scan(low, Bound::Unbounded, at, Direction::Forward, keys).0
        };
        places.map(run).collect()
    }

    fn walk(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        direction: Direction,
        visit: impl FnMut(usize, &Body) -> ControlFlow<()>,
    ) -> Scanned {
        let Some(core) = self.core.get() else { return Scanned::End };
        core.walk(from, to, direction, visit)
    }
}

impl Copied {
    fn is_full(&self, rows_max: usize) -> bool {
        self.len() >= rows_max || self.bytes() >= COPIED_BYTES_MAX
    }
}

impl Core {
    fn walk(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        direction: Direction,
        mut visit: impl FnMut(usize, &Body) -> ControlFlow<()>,
    ) -> Scanned {
        let mut index = self.index.load();
        let mut place = match direction {
            Direction::Forward => bound_key(from).map_or(0, |key| index.find(&self.leaves, key)),
            Direction::Backward => {
                bound_key(to).map_or(index.len() - 1, |key| index.find(&self.leaves, key))
            }
        };
        loop {
            let named = index.at(place);
            let leaf = self.leaves.leaf(named.id);
            let body = leaf.body.read();
            if body.splits != named.splits {
                let right = (place + 1 < index.len()).then(|| index.at(place + 1).id);
                index = self.index.load();
                let find = |leaf: &Leaf| index.find(&self.leaves, &leaf.low);
                place = match direction {
                    Direction::Forward => find(leaf),
                    Direction::Backward => {
                        right.map_or(index.len(), |id| find(self.leaves.leaf(id))) - 1
                    }
                };
                continue;
            }
            let start = first_place(&body, from);
            let end = end_place(&body, to, start);
            let len = end.saturating_sub(start);
            let at = |step| match direction {
                Direction::Forward => start + step,
                Direction::Backward => end - 1 - step,
            };
            for step in 0..len {
                if step % NEAR_ROWS == 0 {
                    body.bring_near((step..len.min(step + NEAR_ROWS)).map(at));
                }
                if visit(at(step), &body).is_break() {
                    return Scanned::More;
                }
            }
            let (is_last, next) = match direction {
                Direction::Forward => (end < body.len() || place + 1 == index.len(), place + 1),
                Direction::Backward => (start > 0 || place == 0, place.saturating_sub(1)),
            };
            if is_last {
                return Scanned::End;
            }
            place = next;
        }
    }
}

fn bound_key(bound: Bound<&[u8]>) -> Option<&[u8]> {
    match bound {
        Bound::Included(key) | Bound::Excluded(key) => Some(key),
        Bound::Unbounded => None,
    }
}

/// The place of the first key that a lower bound admits.
fn first_place(body: &Body, from: Bound<&[u8]>) -> usize {
    match from {
        Bound::Unbounded => 0,
        Bound::Included(key) => body.search(key).unwrap_or_else(|place| place),
        Bound::Excluded(key) => body.search(key).map_or_else(|place| place, |place| place + 1),
    }
}

/// The place behind the last key that an upper bound admits, if it is not in front of `start`: most scans end close by.
fn end_place(body: &Body, to: Bound<&[u8]>, start: usize) -> usize {
    match to {
        Bound::Unbounded => body.len(),
        Bound::Included(key) => {
            body.search_from(start, key).map_or_else(|place| place, |place| place + 1)
        }
        Bound::Excluded(key) => body.search_from(start, key).unwrap_or_else(|place| place),
    }
}
