//! Range deletes: older than all changes of the same merge.

use std::ops::Range;

use bytes::Bytes;

use super::super::leaf::Leaf;

/// Deletes the rows of the tree in `[low, high)`; an empty `low` and no `high` reach to the ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RangeDelete {
    /// The first key that goes.
    pub low: Bytes,
    /// The first key that stays.
    pub high: Option<Bytes>,
}

impl RangeDelete {
    fn ends_by(&self, key: &[u8]) -> bool {
        self.high.as_ref().is_some_and(|high| &high[..] <= key)
    }
}

/// Range deletes in key order, disjoint.
pub(super) struct Ranges {
    ranges: Vec<RangeDelete>,
    /// Those in front of it are done with.
    at: usize,
}

impl Ranges {
    /// Sorts, and joins what overlaps or touches.
    pub(super) fn new(mut given: Vec<RangeDelete>) -> Ranges {
        given.retain(|range| !range.ends_by(&range.low));
        given.sort_by(|left, right| left.low.cmp(&right.low));
        let mut ranges: Vec<RangeDelete> = Vec::with_capacity(given.len());
        for range in given {
            match ranges.last_mut() {
                Some(last) if last.high.as_ref().is_none_or(|high| *high >= range.low) => {
                    let longer = range.high.is_none() || range.high > last.high;
                    if last.high.is_some() && longer {
                        last.high = range.high;
                    }
                }
                _ => ranges.push(range),
            }
        }
        Ranges { ranges, at: 0 }
    }

    /// Passes over the ranges that end in front of `low`; from now on only keys from there are asked for.
    pub(super) fn advance(&mut self, low: &[u8]) {
        let done = self.ranges[self.at..].partition_point(|range| range.ends_by(low));
        self.at += done;
    }

    /// Whether keys below `high` are deleted.
    pub(super) fn touch_below(&self, high: Option<&[u8]>) -> bool {
        let Some(next) = self.ranges.get(self.at) else { return false };
        high.is_none_or(|high| &next.low[..] < high)
    }

    /// Whether all keys of `[low, high)` are deleted.
    pub(super) fn cover(&self, low: &[u8], high: Option<&[u8]>) -> bool {
        let Some(next) = self.ranges.get(self.at) else { return false };
        let reaches = match (&next.high, high) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(end), Some(high)) => &end[..] >= high,
        };
        &next.low[..] <= low && reaches
    }

    /// The first run of deleted rows at or behind `from`.
    pub(super) fn rows(&self, leaf: &Leaf<'_>, from: usize) -> Option<Range<usize>> {
        for range in &self.ranges[self.at..] {
            let start = leaf.lower_bound(&range.low).max(from);
            if start == leaf.len() {
                return None;
            }
            let end = range.high.as_ref().map_or(leaf.len(), |high| leaf.lower_bound(high));
            if start < end {
                return Some(start..end);
            }
        }
        None
    }
}
