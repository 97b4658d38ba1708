//! The kept reserve: free pages that growth may not have, so that a full disk can be left again.
//!
//! Deletes need log, and only a checkpoint turns them into free pages; a checkpoint needs pages before it gives any back. If the last
//! free page went into new rows there would be no way out. So ordinary growth stops while some pages are still free, and only what
//! brings relief may go below.
//!
//! The reserve is a number and not a set of pages: set apart, they would have to be accounted for a second time (I9), and would be
//! the one place of the file that is never reused. Checkpoints take what runs there are, so that the pages do not have to be contiguous.

use super::free_space::FreeSpace;
use crate::ids::{Extent, PAGE_BYTES};

/// The reserve of a small file: half a MiB.
const PAGES_MIN: u64 = (512 << 10) / PAGE_BYTES as u64;
/// The reserve of a large file: 64 MiB.
const PAGES_MAX: u64 = (64 << 20) / PAGE_BYTES as u64;
/// In between, this part of the file.
const FILE_SHARE: u64 = 64;

/// What pages are wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// New rows: they stop at the reserve.
    Growth,
    /// Deletes, and checkpoints: they may use it up.
    Relief,
}

/// How many free pages are kept back from growth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reserve {
    pages: u64,
}

impl Reserve {
    /// The reserve that a file of so many pages keeps.
    pub(crate) fn of_file(file_pages: u64) -> Reserve {
        Reserve { pages: (file_pages / FILE_SHARE).clamp(PAGES_MIN, PAGES_MAX) }
    }

    /// How many pages are kept when there are enough.
    pub(crate) fn pages(&self) -> u64 {
        self.pages
    }

    /// How many of the free pages may be had for this.
    pub(crate) fn available(&self, free: &FreeSpace, need: Need) -> u64 {
        match need {
            Need::Growth => free.pages().saturating_sub(self.pages),
            Need::Relief => free.pages(),
        }
    }

    /// How many pages the file lacks for so many to be had for growth, the reserve kept.
    pub(crate) fn shortfall(&self, free: &FreeSpace, wanted: u64) -> u64 {
        wanted.saturating_add(self.pages).saturating_sub(free.pages())
    }

    /// So many pages in a row, or nothing.
    pub(crate) fn allocate(&self, free: &mut FreeSpace, pages: u32, need: Need) -> Option<Extent> {
        let allowed = u64::from(pages) <= self.available(free, need);
        if allowed { free.allocate(pages) } else { None }
    }

    /// As many pages in a row as there are and may be had, up to so many.
    pub(crate) fn allocate_up_to(
        &self,
        free: &mut FreeSpace,
        pages: u32,
        need: Need,
    ) -> Option<Extent> {
        let available = u32::try_from(self.available(free, need)).unwrap_or(u32::MAX);
        if available == 0 { None } else { free.allocate_up_to(pages.min(available)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Need::{Growth, Relief};

    fn file(pages: u64) -> (FreeSpace, Reserve) {
        let mut free = FreeSpace::new(0);
        free.grow(0, pages);
        (free, Reserve::of_file(pages))
    }

    #[test]
    fn the_reserve_has_bounds() {
        for (file_pages, kept) in [(0, 64), (4096, 64), (128_000, 2000), (10_000_000, 8192)] {
            assert_eq!(Reserve::of_file(file_pages).pages(), kept);
        }
    }

    #[test]
    fn growth_stops_at_the_reserve_and_relief_does_not() {
        let (mut free, reserve) = file(200);
        assert_eq!(free.pages(), 198);
        assert_eq!(reserve.allocate(&mut free, 135, Growth), None);
        assert_eq!(reserve.allocate(&mut free, 134, Growth).unwrap().pages, 134);
        assert_eq!(reserve.allocate_up_to(&mut free, 9, Growth), None);
        assert_eq!(reserve.allocate(&mut free, 60, Relief).unwrap().pages, 60);
        assert_eq!(reserve.allocate_up_to(&mut free, 9, Relief).unwrap().pages, 3);
        assert_eq!(reserve.available(&free, Relief), 1);
    }

    #[test]
    fn the_shortfall_restores_the_reserve() {
        let (mut free, reserve) = file(200);
        assert_eq!((reserve.shortfall(&free, 10), reserve.shortfall(&free, 140)), (0, 6));
        free.allocate(130).unwrap();
        assert_eq!(reserve.shortfall(&free, 10), 6);
        free.grow(200, 206);
        assert_eq!(reserve.available(&free, Growth), 10);
    }

    #[test]
    fn growth_never_takes_more_than_is_available() {
        let (mut free, reserve) = file(200);
        let mut taken = 0;
        while let Some(extent) = reserve.allocate_up_to(&mut free, 25, Growth) {
            taken += extent.pages;
        }
        assert_eq!((taken, free.pages()), (134, 64));
    }
}
