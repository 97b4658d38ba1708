//! Descents: steps that never wait. What is in the cache is walked through at once; the first node that is not is named.
//!
//! A descent that missed is taken again from the root when the node is there: that needs no pin on the nodes above meanwhile. Only a
//! lookup that missed a leaf goes on in it (`read/lookup.rs`).

use std::ops::{Deref, Range};

use super::inner::Inner;
use super::leaf::{Leaf, RowValue};
use super::node::is_leaf_of;
use super::refs::{NodeRef, TreeRoot, Wanted};
use crate::ids::FamilyId;

/// What a cache offers to a step that never waits. Every node in it has passed the check.
pub(crate) trait Pages {
    /// A node's bytes, borrowed from the cache.
    type Page<'a>: Copy + Deref<Target = [u8]>
    where
        Self: 'a;

    /// The root of a tree, if it is here.
    fn root(&self, node: NodeRef) -> Option<Self::Page<'_>>;

    /// The child at `index` of `parent`, if it is here. `front` is how many of its bytes are read first: whoever can may
    /// bring them near.
    fn child<'a>(
        &'a self,
        parent: Self::Page<'a>,
        index: usize,
        node: NodeRef,
        front: usize,
    ) -> Option<Self::Page<'a>>;

    /// These bytes of a node are read next, as far as it has them: whoever can may bring them near.
    #[inline]
    fn bring_near(&self, _page: Self::Page<'_>, _bytes: Range<usize>) {}
}

/// Front of a leaf that a search in it reads: the header, the heads and the slots of some forty rows. More rows have more
/// heads, of which the search then finds the middle ones here.
const LEAF_FRONT_BYTES: usize = 640;
/// Front of an inner node: its header, which says where the rest is. A search reads few of its many heads.
const INNER_FRONT_BYTES: usize = 64;

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step<T> {
    /// The answer.
    Ready(T),
    /// Fetch this node, then go on.
    Missing(Wanted),
}

/// A row of a leaf that is held.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowAt<Page> {
    page: Page,
    index: usize,
}

impl<Page: Deref<Target = [u8]>> RowAt<Page> {
    /// The leaf.
    pub(crate) fn page(&self) -> &Page {
        &self.page
    }

    /// The row's index in it.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// What the row holds.
    #[inline]
    pub(crate) fn value(&self) -> RowValue<'_> {
        Leaf::new(&self.page).value(self.index)
    }
}

/// A cache finds a node by its page, and a hostile file may name one page as two things: what is here counts only for
/// whom it was checked. Who asks for it otherwise reads it again, and is told.
#[inline]
pub(super) fn root_of<'a, P: Pages>(pages: &'a P, root: &TreeRoot) -> Option<P::Page<'a>> {
    pages.root(root.root).filter(|page| root.wanted().may_be(page))
}

/// As for the root. What its search reads first is on its way when this looks at its head.
#[inline]
pub(super) fn child_of<'a, P: Pages>(
    pages: &'a P,
    parent: P::Page<'a>,
    index: usize,
    wanted: Wanted,
) -> Option<P::Page<'a>> {
    let child = pages.child(parent, index, wanted.node, front(wanted.level))?;
    wanted.may_be(&child).then_some(child)
}

fn front(level: u8) -> usize {
    if level == 0 { LEAF_FRONT_BYTES } else { INNER_FRONT_BYTES }
}

/// Finds the row of `key`.
#[inline]
pub(crate) fn find<'a, P: Pages>(
    pages: &'a P,
    root: &TreeRoot,
    key: &[u8],
) -> Step<Option<RowAt<P::Page<'a>>>> {
    let Some(mut page) = root_of(pages, root) else { return Step::Missing(root.wanted()) };
    for level in (0..root.height).rev() {
        let inner = Inner::new(&page);
        let index = inner.child_index(key);
        let wanted = Wanted { node: inner.child(index), level };
        let Some(child) = child_of(pages, page, index, wanted) else {
            return Step::Missing(wanted);
        };
        page = child;
    }
    Step::Ready(find_in_leaf(page, key))
}

/// Finds the rows of several keys, a level at a time: while the search for one waits for memory, what the next ones need is on
/// its way.
pub(crate) fn find_many<'a, P: Pages>(
    pages: &'a P,
    root: &TreeRoot,
    keys: &[&[u8]],
) -> Vec<Step<Option<RowAt<P::Page<'a>>>>> {
    let wanted = root.wanted();
    let mut places = vec![(wanted, pages.root(root.root)); keys.len()];
    for level in (0..root.height).rev() {
        for (place, key) in places.iter_mut().zip(keys) {
            let Some(page) = trusted(place) else { continue };
            let inner = Inner::new(&page);
            let index = inner.child_index(key);
            let wanted = Wanted { node: inner.child(index), level };
            let child = pages.child(page, index, wanted.node, front(level));
            *place = (wanted, child);
        }
    }
    for (place, key) in places.iter_mut().zip(keys) {
        if let Some(page) = trusted(place) {
            pages.bring_near(page, Leaf::new(&page).likely_row(key));
        }
    }
    let found = |((wanted, page), key): (&(Wanted, Option<P::Page<'a>>), &&[u8])| match *page {
        Some(page) => Step::Ready(find_in_leaf(page, key)),
        None => Step::Missing(*wanted),
    };
    places.iter().zip(keys).map(found).collect()
}

/// The page of a place if it is what was wanted; else it counts as missing. Its head is looked at only now, when it is near.
#[inline]
fn trusted<Page: Copy + Deref<Target = [u8]>>(place: &mut (Wanted, Option<Page>)) -> Option<Page> {
    place.1 = place.1.filter(|page| place.0.may_be(page));
    place.1
}

/// The row of `key`, if the node is a leaf of the family and has it at that index.
#[inline]
pub(crate) fn row_at<Page: Copy + Deref<Target = [u8]>>(
    page: Page,
    family: FamilyId,
    index: usize,
    key: &[u8],
) -> Option<RowAt<Page>> {
    if !is_leaf_of(&page, family) {
        return None;
    }
    let leaf = Leaf::new(&page);
    (index < leaf.len() && leaf.key(index).is(key)).then_some(RowAt { page, index })
}

/// The row of the key in a leaf, which was checked.
#[inline]
pub(crate) fn find_in_leaf<Page: Copy + Deref<Target = [u8]>>(
    page: Page,
    key: &[u8],
) -> Option<RowAt<Page>> {
    Leaf::new(&page).search(key).ok().map(|index| RowAt { page, index })
}
