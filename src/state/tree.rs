//! A tree as readers know it: its root, and the filter in front of it.
//!
//! Every tree but the oldest of a family should have a filter, so that a lookup searches one tree and not all. But a filter is
//! only ever a help: one that memory has no room for, that has not been read yet, or that is damaged, is not there.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::format::blob::BlobRef;
use crate::format::catalog::TreeEntry;
use crate::format::node_ref::TreeRoot;
use crate::tree::{Filter, KeyHash};

/// One tree of a family.
#[derive(Clone)]
pub(crate) struct Tree {
    pub(crate) root: TreeRoot,
    /// What stays while the tree is cut short or merged into, and tells it from others.
    pub(crate) kept: Arc<Kept>,
}

/// The filter of a tree, on disk and in memory.
pub(crate) struct Kept {
    /// Where it is on disk, if anywhere.
    pub(crate) blob: BlobRef,
    filter: OnceLock<Charged>,
}

/// Memory that all filters of a database may take.
pub(crate) struct Filters {
    bytes: AtomicUsize,
    bytes_max: usize,
}

/// A filter in memory, and what it takes of the bound.
pub(crate) struct Charged {
    filter: Filter,
    filters: Arc<Filters>,
    /// While it is made, what it takes beyond those that it replaces.
    bytes: usize,
}

impl Tree {
    /// A tree without a filter.
    pub(crate) fn plain(root: TreeRoot) -> Tree {
        Tree::named(&TreeEntry { root, filter: BlobRef::default() })
    }

    /// A tree as the catalog names it; its filter has not been read.
    pub(crate) fn named(entry: &TreeEntry) -> Tree {
        let kept = Kept { blob: entry.filter, filter: OnceLock::new() };
        Tree { root: entry.root, kept: Arc::new(kept) }
    }

    /// A tree whose filter was written to `blob`.
    pub(crate) fn filtered(root: TreeRoot, blob: BlobRef, filter: Charged) -> Tree {
        let tree = Tree::named(&TreeEntry { root, filter: blob });
        tree.kept.put(filter);
        tree
    }

    /// The same tree with other nodes: some of its keys are gone, or changed.
    pub(crate) fn with_root(&self, root: TreeRoot) -> Tree {
        Tree { root, kept: self.kept.clone() }
    }

    /// Pages of its nodes, its large values and its filter.
    pub(crate) fn pages(&self) -> u64 {
        self.root.pages + self.root.extent_pages + u64::from(self.kept.blob.extent.pages)
    }

    /// How the catalog names it.
    pub(crate) fn entry(&self) -> TreeEntry {
        TreeEntry { root: self.root, filter: self.kept.blob }
    }

    /// Whether the two are one tree, at different times.
    pub(crate) fn is(&self, other: &Arc<Kept>) -> bool {
        Arc::ptr_eq(&self.kept, other)
    }

    /// Whether the key may be in it.
    #[inline]
    pub(crate) fn may_hold(&self, key: KeyHash) -> bool {
        self.kept.filter().is_none_or(|filter| filter.may_hold(key))
    }
}

impl Kept {
    /// The filter, if it is in memory.
    #[inline]
    pub(crate) fn filter(&self) -> Option<&Filter> {
        self.filter.get().map(|charged| &**charged)
    }

    /// Puts a filter in front of the tree. Whether there is room was asked before it was made.
    pub(crate) fn put(&self, mut filter: Charged) {
        filter.charge_all();
        // Whoever was first had the same bytes.
        drop(self.filter.set(filter));
    }
}

impl Filters {
    /// So many bytes of memory may be taken.
    pub(crate) fn new(bytes_max: usize) -> Arc<Filters> {
        Arc::new(Filters { bytes: AtomicUsize::new(0), bytes_max })
    }

    /// A filter for so many keys, if there is room for it when others of so many bytes are gone.
    pub(crate) fn begin(self: &Arc<Self>, keys: u64, replaced_bytes: usize) -> Option<Charged> {
        if !self.has_room(Filter::bytes_for(keys), replaced_bytes) {
            return None;
        }
        let mut filter = self.replacement(Filter::for_keys(keys));
        filter.bytes = filter.len_bytes().saturating_sub(replaced_bytes);
        self.bytes.fetch_add(filter.bytes, Ordering::Relaxed);
        Some(filter)
    }

    /// A filter that was made already, and is charged when it is put in front of a tree.
    pub(crate) fn replacement(self: &Arc<Self>, filter: Filter) -> Charged {
        Charged { filter, filters: self.clone(), bytes: 0 }
    }

    /// Whether a filter of so many bytes finds room when others of so many are gone.
    pub(crate) fn has_room(&self, len_bytes: u64, replaced_bytes: usize) -> bool {
        let others = self.bytes().saturating_sub(replaced_bytes) as u64;
        len_bytes.saturating_add(others) <= self.bytes_max as u64
    }

    /// Bytes of all filters in memory, and of those that are made as far as they do not take the place of others.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Charged {
    fn charge_all(&mut self) {
        let bytes = self.filter.len_bytes();
        self.filters.bytes.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        self.bytes = bytes;
    }
}

impl Deref for Charged {
    type Target = Filter;

    fn deref(&self) -> &Filter {
        &self.filter
    }
}

impl DerefMut for Charged {
    fn deref_mut(&mut self) -> &mut Filter {
        &mut self.filter
    }
}

impl Drop for Charged {
    fn drop(&mut self) {
        self.filters.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::node_ref::NodeRef;
    use crate::ids::PageId;

    fn root() -> TreeRoot {
        let root = NodeRef { page: PageId(5), pages: 1, crc: 0 };
        TreeRoot { root, height: 0, rows: 1, bytes: 1, pages: 1, extent_pages: 0 }
    }

    #[test]
    fn a_filter_takes_its_share_while_it_is_there() {
        let filters = Filters::new(100);
        assert!(filters.has_room(96, 0) && !filters.has_room(128, 0));
        let filter = filters.begin(60, 0).expect("there is room");
        let tree = Tree::filtered(root(), BlobRef::default(), filter);
        assert_eq!((tree.kept.filter().is_some(), filters.bytes()), (true, 96));
        assert!(filters.has_room(96, 96) && !filters.has_room(32, 0));
        let again = tree.with_root(root());
        drop(tree);
        assert_eq!(filters.bytes(), 96);
        drop(again);
        assert_eq!(filters.bytes(), 0);
    }

    #[test]
    fn a_filter_that_is_made_takes_what_it_needs_beyond_those_that_it_replaces() {
        let filters = Filters::new(200);
        let first = filters.begin(60, 0).expect("there is room");
        assert_eq!(filters.bytes(), 96);
        drop(filters.begin(60, 0).expect("there is room for two"));
        let first = Tree::filtered(root(), BlobRef::default(), first);
        let second = filters.begin(120, 96).expect("the first will be gone");
        assert_eq!((second.len_bytes(), filters.bytes()), (160, 160));
        assert!(filters.begin(60, 0).is_none());
        let second = Tree::filtered(root(), BlobRef::default(), second);
        assert_eq!(filters.bytes(), 256, "both are there until readers have left the first");
        drop(first);
        assert_eq!(filters.bytes(), 160);
        drop(second);
        assert_eq!(filters.bytes(), 0);
    }

    #[test]
    fn only_a_filter_says_no() {
        let (key, filters) = (KeyHash::of(b"ada"), Filters::new(1000));
        assert!(Tree::plain(root()).may_hold(key));
        let mut filter = Filter::for_keys(1);
        filter.insert(KeyHash::of(b"alan"));
        let tree = Tree::filtered(root(), BlobRef::default(), filters.replacement(filter));
        assert!(tree.may_hold(KeyHash::of(b"alan")) && !tree.may_hold(key));
    }
}
