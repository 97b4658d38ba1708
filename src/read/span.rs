//! The part of the key space that a scan has yet to cover.

use std::cmp::Ordering;
use std::ops::Bound;

use crate::tree::Direction;
use crate::value::Value;

/// A range of keys, and which way it is read.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) low: Bound<Value>,
    pub(crate) high: Bound<Value>,
    pub(crate) direction: Direction,
}

impl Span {
    /// The bound at which the scan stands.
    #[inline]
    pub(crate) fn near(&self) -> Bound<&[u8]> {
        match self.direction {
            Direction::Forward => as_slice(&self.low),
            Direction::Backward => as_slice(&self.high),
        }
    }

    /// The bound that it goes to.
    #[inline]
    pub(crate) fn far(&self) -> Bound<&[u8]> {
        match self.direction {
            Direction::Forward => as_slice(&self.high),
            Direction::Backward => as_slice(&self.low),
        }
    }

    /// Everything up to `far` was covered: what it excludes comes next.
    pub(crate) fn go_on_behind(&mut self, far: Bound<Value>) {
        let near = match far {
            Bound::Included(key) => Bound::Excluded(key),
            Bound::Excluded(key) => Bound::Included(key),
            Bound::Unbounded => Bound::Unbounded,
        };
        match self.direction {
            Direction::Forward => self.low = near,
            Direction::Backward => self.high = near,
        }
    }
}

/// Whether a scan reaches a bound before `far`, if the bound's key orders so against another key.
pub(crate) fn is_nearer(
    direction: Direction,
    order: impl Fn(&[u8]) -> Ordering,
    includes: bool,
    far: Bound<&[u8]>,
) -> bool {
    let (key, far_includes) = match far {
        Bound::Unbounded => return true,
        Bound::Included(key) => (key, true),
        Bound::Excluded(key) => (key, false),
    };
    match along(direction, order(key)) {
        Ordering::Less => true,
        Ordering::Equal => far_includes && !includes,
        Ordering::Greater => false,
    }
}

/// Whether a key that orders so against a bound's key is on this side of the bound.
pub(crate) fn is_within(
    direction: Direction,
    order: impl Fn(&[u8]) -> Ordering,
    far: Bound<&[u8]>,
) -> bool {
    match far {
        Bound::Unbounded => true,
        Bound::Included(key) => along(direction, order(key)) != Ordering::Greater,
        Bound::Excluded(key) => along(direction, order(key)) == Ordering::Less,
    }
}

/// How two keys follow each other on the way of a scan.
#[inline]
pub(crate) fn along(direction: Direction, order: Ordering) -> Ordering {
    match direction {
        Direction::Forward => order,
        Direction::Backward => order.reverse(),
    }
}

#[inline]
pub(crate) fn as_slice(bound: &Bound<Value>) -> Bound<&[u8]> {
    bound.as_ref().map(|key| &key[..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_that_excludes_is_nearer_than_one_that_includes() {
        let check = |direction, (key, includes): (&[u8], bool), far, expected| {
            assert_eq!(is_nearer(direction, |other| key.cmp(other), includes, far), expected);
        };
        for direction in [Direction::Forward, Direction::Backward] {
            check(direction, (b"b", false), Bound::Included(b"b"), true);
            check(direction, (b"b", true), Bound::Excluded(b"b"), false);
            check(direction, (b"b", true), Bound::Included(b"b"), false);
            check(direction, (b"b", true), Bound::Unbounded, true);
        }
        check(Direction::Forward, (b"a", true), Bound::Excluded(b"b"), true);
        check(Direction::Backward, (b"a", true), Bound::Excluded(b"b"), false);
    }

    #[test]
    fn a_scan_goes_on_with_what_the_covered_part_excludes() {
        let unbounded = Bound::Unbounded;
        let span = |direction| Span { low: unbounded.clone(), high: unbounded.clone(), direction };
        let mut forward = span(Direction::Forward);
        forward.go_on_behind(Bound::Included(Value::copied(b"k")));
        assert_eq!((forward.near(), forward.far()), (Bound::Excluded(&b"k"[..]), Bound::Unbounded));
        let mut backward = span(Direction::Backward);
        backward.go_on_behind(Bound::Excluded(Value::copied(b"k")));
        assert_eq!(as_slice(&backward.high), Bound::Included(&b"k"[..]));
    }
}
