//! Each page of the file has one owner. (I9)

use std::collections::BTreeMap;

use super::{Check, Found};
use crate::format::SUPERBLOCK_PAGES;
use crate::ids::{Extent, PageId};

impl Check {
    /// Live and unnamed pages together are the file, and no page is twice.
    pub(super) fn account(&mut self, found: &Found) {
        let mut all: BTreeMap<PageId, (Extent, &'static str)> = BTreeMap::new();
        let superblocks =
            SUPERBLOCK_PAGES.map(|page| (Extent { start: page, pages: 1 }, "a superblock"));
        let free = found.unnamed.iter().map(|extent| (*extent, "free"));
        let live = std::mem::take(&mut self.live);
        for (extent, what) in superblocks.into_iter().chain(free).chain(live) {
            if let Some((_, other)) = all.insert(extent.start, (extent, what)) {
                self.unaccounted(extent.start, format!("a page is {what} and {other}"));
            }
        }
        let mut expected = PageId(0);
        for (start, (extent, what)) in &all {
            if *start < expected {
                self.unaccounted(*start, format!("a page overlaps {what}"));
            } else if *start > expected && self.complete {
                self.unaccounted(*start, format!("a page is lost before {what}"));
            }
            expected = expected.max(extent.end());
        }
        let pages = found.file_pages;
        if expected.0 > pages || (expected.0 < pages && self.complete) {
            self.unaccounted(expected, format!("{} pages of {pages} have an owner", expected.0));
        }
    }

    fn unaccounted(&mut self, page: PageId, what: String) {
        self.defect_at(None, page.byte_offset(), what);
    }
}
