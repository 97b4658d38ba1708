//! Pages that are written and that nothing names yet.
//!
//! Whoever gives up on them need not say so: dropped, they become free after a sync, because a write to one may still be in
//! flight. (I1) A crash leaks none: what no superblock names is free.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringdb_uring::threads::Mutex;

use crate::ids::{Extent, PageId};
use crate::page::space::Space;

/// Pages on their way into a superblock.
pub(crate) struct Unpublished {
    space: Arc<Mutex<Space>>,
    /// First page to pages; neighbours that came in order are one.
    extents: BTreeMap<u64, u32>,
}

impl Unpublished {
    pub(crate) fn new(space: &Arc<Mutex<Space>>) -> Unpublished {
        Unpublished { space: space.clone(), extents: BTreeMap::new() }
    }

    /// Takes pages in that were allocated.
    pub(crate) fn add(&mut self, extent: Extent) {
        if let Some((&start, pages)) = self.extents.range_mut(..extent.start.0).next_back()
            && start + u64::from(*pages) == extent.start.0
            && let Some(both) = pages.checked_add(extent.pages)
        {
            *pages = both;
            return;
        }
        self.extents.insert(extent.start.0, extent.pages);
    }

    /// Takes in all that others are.
    pub(crate) fn absorb(&mut self, mut others: Unpublished) {
        others.take().into_iter().for_each(|extent| self.add(extent));
    }

    /// Frees some of the pages: every write to them was waited for.
    pub(crate) fn release_some(&mut self, extent: Extent) {
        let found = self.extents.range(..=extent.start.0).next_back();
        let (start, pages) = found.map(|(&start, &pages)| (start, pages)).expect("it was added");
        let (front, end) = (extent.start.0 - start, start + u64::from(pages));
        let back = end.checked_sub(extent.end().0).expect("it was added as one");
        self.extents.remove(&start);
        for (start, pages) in [(start, front), (extent.end().0, back)] {
            let pages = u32::try_from(pages).expect("a part is no longer than the whole");
            if pages > 0 {
                self.extents.insert(start, pages);
            }
        }
        self.space.lock().release(extent);
    }

    /// Frees all of them: every write to them was waited for.
    pub(crate) fn release(mut self) {
        let extents = self.take();
        let mut space = self.space.lock();
        extents.into_iter().for_each(|extent| space.release(extent));
    }

    /// The pages, for a superblock to name.
    pub(crate) fn extents(&self) -> impl Iterator<Item = Extent> {
        self.extents.iter().map(|(&start, &pages)| Extent { start: PageId(start), pages })
    }

    /// A superblock names them.
    pub(crate) fn keep(mut self) {
        self.extents.clear();
    }

    fn take(&mut self) -> Vec<Extent> {
        let extents = self.extents().collect();
        self.extents.clear();
        extents
    }
}

impl Drop for Unpublished {
    fn drop(&mut self) {
        let extents = self.take();
        if !extents.is_empty() {
            self.space.lock().orphan(extents);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alloc::free_space::FreeSpace;
    use crate::page::space::Taker;

    #[test]
    fn pages_that_nobody_publishes_come_back() {
        let mut free = FreeSpace::new(0);
        free.grow(0, 130);
        let space = Arc::new(Mutex::new(Space::new(free.clone(), free, 130)));
        let before = space.lock().occupancy().free;
        let mut pages = Unpublished::new(&space);
        let taken: Vec<_> = (0..3).map(|_| space.lock().allocate(4, Taker::Ingest)).collect();
        taken.iter().for_each(|extent| pages.add(*extent));
        assert_eq!(pages.extents().count(), 1, "neighbours are one");
        pages.release_some(taken[1]);
        assert_eq!((pages.extents().count(), space.lock().occupancy().free), (2, before - 8));
        drop(pages);
        let orphans = space.lock().take_orphans();
        assert_eq!(orphans, [taken[0], taken[2]], "not before a sync");
    }
}
