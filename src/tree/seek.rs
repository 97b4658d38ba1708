//! Descents of scans: the leaf in which a scan starts or goes on, and those that come after it.

use std::ops::{Bound, Deref};

use super::inner::Inner;
use super::leaf::Leaf;
use super::node::Key;
use super::refs::{NodeRef, TreeRoot, Wanted};
use super::search::{Pages, Step, child_of, root_of};

/// Which way a scan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Keys ascend; the bound is where the range starts.
    Forward,
    /// Keys descend; the bound is where the range ends.
    Backward,
}

impl Direction {
    /// The child of `inner` in which a scan from `bound` begins.
    fn child_index(self, inner: &Inner<'_>, bound: Bound<&[u8]>) -> usize {
        match (self, bound) {
            (_, Bound::Included(key)) | (Direction::Forward, Bound::Excluded(key)) => {
                inner.child_index(key)
            }
            (Direction::Backward, Bound::Excluded(key)) => inner.child_index_below(key),
            (Direction::Forward, Bound::Unbounded) => 0,
            (Direction::Backward, Bound::Unbounded) => inner.len() - 1,
        }
    }

    /// The first row of the range, or for `Backward` the row behind its last one.
    fn row(self, leaf: &Leaf<'_>, bound: Bound<&[u8]>) -> usize {
        match (self, bound) {
            (Direction::Forward, Bound::Included(key))
            | (Direction::Backward, Bound::Excluded(key)) => leaf.lower_bound(key),
            (Direction::Forward, Bound::Excluded(key))
            | (Direction::Backward, Bound::Included(key)) => leaf.upper_bound(key),
            (Direction::Forward, Bound::Unbounded) => 0,
            (Direction::Backward, Bound::Unbounded) => leaf.len(),
        }
    }

    /// The separator between the child at `index` and the next one in this direction.
    fn separator_index(self, inner: &Inner<'_>, index: usize) -> Option<usize> {
        match self {
            Direction::Forward => (index < inner.separators()).then_some(index),
            Direction::Backward => index.checked_sub(1),
        }
    }
}

/// The leaf in which a scan starts or goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeafAt<Page> {
    /// The leaf's bytes.
    pub page: Page,
    /// Forward: the first row to read, or the number of rows if the leaf has none of the range. Backward: the row behind the
    /// first one to read, 0 if the leaf has none.
    pub row: usize,
    /// The inner node that has the fence, and which of its separators that is.
    fence: Option<(Page, usize)>,
}

impl<Page: Deref<Target = [u8]>> LeafAt<Page> {
    /// Where the next leaf is sought, `None` at the end of the tree. Forward: from `Included(fence)`. Backward: from
    /// `Excluded(fence)`.
    #[inline]
    pub(crate) fn fence(&self) -> Option<Key<'_>> {
        self.fence.as_ref().map(|(page, index)| Inner::new(page).separator(*index))
    }
}

/// Finds the leaf that holds the bound of a scan.
#[inline]
pub(crate) fn seek_leaf<'a, P: Pages>(
    pages: &'a P,
    root: &TreeRoot,
    bound: Bound<&[u8]>,
    direction: Direction,
) -> Step<LeafAt<P::Page<'a>>> {
    let Some(mut page) = root_of(pages, root) else { return Step::Missing(root.wanted()) };
    let mut fence = None;
    for level in (0..root.height).rev() {
        let inner = Inner::new(&page);
        let index = direction.child_index(&inner, bound);
        if let Some(separator) = direction.separator_index(&inner, index) {
            fence = Some((page, separator));
        }
        let wanted = Wanted { node: inner.child(index), level };
        let Some(child) = child_of(pages, page, index, wanted) else {
            return Step::Missing(wanted);
        };
        page = child;
    }
    let row = direction.row(&Leaf::new(&page), bound);
    Step::Ready(LeafAt { page, row, fence })
}

/// What a scan will want: siblings, nearest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Upcoming {
    /// The nodes, all of one level.
    pub nodes: Vec<NodeRef>,
    /// That level: 0 if the parent of the leaves is here.
    pub level: u8,
}

/// The node in which a scan from `bound` begins and its next siblings, `max` at most, as far as their parent is here.
pub(crate) fn upcoming_leaves<P: Pages>(
    pages: &P,
    root: &TreeRoot,
    bound: Bound<&[u8]>,
    direction: Direction,
    max: usize,
) -> Upcoming {
    let mut upcoming = Upcoming { nodes: vec![root.root], level: root.height };
    let Some(mut page) = root_of(pages, root) else { return upcoming };
    for level in (0..root.height).rev() {
        let inner = Inner::new(&page);
        let index = direction.child_index(&inner, bound);
        let nodes = |indexes: &mut dyn Iterator<Item = usize>| {
            indexes.take(max).map(|index| inner.child(index)).collect()
        };
        let nodes = match direction {
            Direction::Forward => nodes(&mut (index..inner.len())),
            Direction::Backward => nodes(&mut (0..=index).rev()),
        };
        upcoming = Upcoming { nodes, level };
        let wanted = Wanted { node: inner.child(index), level };
        let Some(child) = child_of(pages, page, index, wanted) else { return upcoming };
        page = child;
    }
    upcoming
}
