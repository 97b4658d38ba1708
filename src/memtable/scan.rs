//! Walking the leaves in order while others insert.
//!
//! A walk loads the index once and locks one leaf at a time. A leaf that carries the split count of
//! that index covers exactly the interval that the index says, so nothing is met twice or missed; a
//! leaf that was split since sends the walk back to a new index, at the border where it stands.

use std::ops::{Bound, ControlFlow};

use super::entry::{Entry, Kind, Versions};
use super::leaf::Body;
use super::{Core, Memtable};
use crate::ids::Seq;

/// Which way a scan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Forward,
    Backward,
}

/// Why a scan stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scanned {
    /// It has as many rows as it was asked for; there may be more.
    More,
    /// There is nothing more within the bounds.
    End,
}

/// What a checkpoint takes out of a frozen memtable.
#[derive(Debug, Default)]
pub(crate) struct Drained {
    /// The newest version of each key, in key order.
    pub(crate) rows: Vec<Entry>,
    /// Versions with an extent of their own that nothing newer than the drain's seq can reach.
    pub(crate) superseded: Vec<Entry>,
}

impl Memtable {
    /// Appends the newest version at or below `at` of up to `max` keys between two bounds, in the
    /// order of `direction`.
    ///
    /// `from` is the lower bound and `to` the upper one, whatever the direction. Deleted keys are
    /// there as deletes, those in a deleted range too, so that the caller can merge with older
    /// sources; keys that only older sources have must be checked against `range_deletes`. Copies
    /// out handles, not bytes, and holds no lock when it returns.
    pub(crate) fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        at: Seq,
        direction: Direction,
        max: usize,
        out: &mut Vec<Entry>,
    ) -> Scanned {
        let ranges = self.ranges.view();
        let full = out.len().saturating_add(max);
        self.walk(from, to, direction, |versions| {
            if out.len() >= full {
                return ControlFlow::Break(());
            }
            if let Some(entry) = versions.visible(at) {
                let hidden = ranges.newest(entry.key(), at).filter(|&seq| seq > entry.seq);
                out.push(hidden.map_or_else(|| entry.clone(), |seq| entry.deleted(seq)));
            }
            ControlFlow::Continue(())
        })
    }

    /// As a forward scan of up to `max` keys, and also gives the versions whose extents can be
    /// freed once no snapshot needs them.
    pub(crate) fn drain(
        &self,
        from: Bound<&[u8]>,
        at: Seq,
        max: usize,
        out: &mut Drained,
    ) -> Scanned {
        let ranges = self.ranges.view();
        let full = out.rows.len().saturating_add(max);
        self.walk(from, Bound::Unbounded, Direction::Forward, |versions| {
            if out.rows.len() >= full {
                return ControlFlow::Break(());
            }
            let until = &versions.all()[..versions.count_until(at)];
            let Some((newest, older)) = until.split_last() else {
                return ControlFlow::Continue(());
            };
            let hidden = ranges.newest(newest.key(), at).filter(|&seq| seq > newest.seq);
            let dead = if hidden.is_some() { until } else { older };
            let extents = dead.iter().filter(|entry| entry.kind == Kind::Extent);
            out.superseded.extend(extents.cloned());
            out.rows.push(hidden.map_or_else(|| newest.clone(), |seq| newest.deleted(seq)));
            ControlFlow::Continue(())
        })
    }

    fn walk(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        direction: Direction,
        visit: impl FnMut(&Versions) -> ControlFlow<()>,
    ) -> Scanned {
        let Some(core) = self.core.get() else { return Scanned::End };
        match direction {
            Direction::Forward => core.walk_forward(from, to, visit),
            Direction::Backward => core.walk_backward(from, to, visit),
        }
    }
}

impl Core {
    fn walk_forward(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        mut visit: impl FnMut(&Versions) -> ControlFlow<()>,
    ) -> Scanned {
        let mut index = self.index.load();
        let mut place = bound_key(from).map_or(0, |key| index.find(&self.leaves, key));
        loop {
            let named = index.at(place);
            let leaf = self.leaves.leaf(named.id);
            let body = leaf.body.read();
            if body.splits != named.splits {
                index = self.index.load();
                place = index.find(&self.leaves, &leaf.low);
                continue;
            }
            let (start, end) = (first_place(&body, from), end_place(&body, to));
            for at in start..end {
                if visit(body.at(at)).is_break() {
                    return Scanned::More;
                }
            }
            place += 1;
            if end < body.len() || place == index.len() {
                return Scanned::End;
            }
        }
    }

    fn walk_backward(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        mut visit: impl FnMut(&Versions) -> ControlFlow<()>,
    ) -> Scanned {
        let mut index = self.index.load();
        let last = index.len() - 1;
        let mut place = bound_key(to).map_or(last, |key| index.find(&self.leaves, key));
        loop {
            let named = index.at(place);
            let body = self.leaves.leaf(named.id).body.read();
            if body.splits != named.splits {
                let right = (place + 1 < index.len()).then(|| index.at(place + 1).id);
                index = self.index.load();
                let right = right.map(|id| index.find(&self.leaves, &self.leaves.leaf(id).low));
                place = right.unwrap_or(index.len()) - 1;
                continue;
            }
            let (start, end) = (first_place(&body, from), end_place(&body, to));
            for at in (start..end).rev() {
                if visit(body.at(at)).is_break() {
                    return Scanned::More;
                }
            }
            if start > 0 || place == 0 {
                return Scanned::End;
            }
            place -= 1;
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

/// The place behind the last key that an upper bound admits.
fn end_place(body: &Body, to: Bound<&[u8]>) -> usize {
    match to {
        Bound::Unbounded => body.len(),
        Bound::Included(key) => body.search(key).map_or_else(|place| place, |place| place + 1),
        Bound::Excluded(key) => body.search(key).unwrap_or_else(|place| place),
    }
}
