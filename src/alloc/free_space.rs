//! The free pages of the file as runs, none of which touch.
//!
//! Two indexes hold each run: by place, to find neighbours, and by size, to find room; both answer in logarithmic time, so a million
//! runs are no trouble.
//!
//! Where to allocate is a compromise. The smallest run that fits keeps large ones whole; the lowest run that fits lets the file shrink
//! at its end. So: among the runs of the few tightest sizes the lowest one, from its low end. Rejected: strict first fit, which needs a
//! tree of maxima for more than a million runs and leaves the front of the file in crumbs.
//!
//! Pages freed twice, or that were never given out, are our own mistake and assert; what recovery reads from disk goes through
//! [`FreeSpace::from_extents`] and [`FreeSpace::take`], which answer with a defect.

use std::collections::{BTreeMap, BTreeSet};

use crate::alloc::runs::{Run, Runs, defect};
use crate::format::{Defect, SUPERBLOCK_PAGES, lies_inside};
use crate::ids::{Extent, PageId};

/// How many sizes of runs are looked at for the lowest place.
const SIZES_TRIED_MAX: usize = 16;

/// How many of the lowest runs are looked at for a low place.
const LOW_RUNS_TRIED_MAX: usize = 256;

/// A shorter run is a crumb: nodes of large rows do not fit into it.
const CRUMB_PAGES: u64 = 8;

/// The free pages of a file.
#[derive(Clone, Debug)]
pub(crate) struct FreeSpace {
    /// First page to pages.
    by_place: BTreeMap<u64, u64>,
    /// Pages and first page of the same runs.
    by_size: BTreeSet<(u64, u64)>,
    pages: u64,
    /// Pages in runs that are no crumbs.
    whole_pages: u64,
    file_pages: u64,
}

impl FreeSpace {
    /// A file of so many pages, none of them free.
    pub(crate) fn new(file_pages: u64) -> FreeSpace {
        FreeSpace {
            by_place: BTreeMap::new(),
            by_size: BTreeSet::new(),
            pages: 0,
            whole_pages: 0,
            file_pages,
        }
    }

    /// A file of so many pages with these free ones, which ascend and do not overlap.
    ///
    /// # Errors
    ///
    /// A defect, with its offset in the file, if they do not, or lie outside the file or on a superblock.
    pub(crate) fn from_extents(
        file_pages: u64,
        extents: impl IntoIterator<Item = Extent>,
    ) -> Result<FreeSpace, Defect> {
        let (mut runs, mut end) = (Vec::new(), 0);
        for extent in extents {
            if extent.is_empty() || !lies_inside(extent, file_pages) {
                return Err(defect("free pages lie outside the file", extent.start.0));
            }
            if extent.start.0 < end {
                return Err(defect("free pages are out of order", extent.start.0));
            }
            end = extent.end().0;
            runs.push(Run::from(extent));
        }
        let runs: Runs = runs.into_iter().collect();
        let pages = runs.iter().map(|run| run.pages).sum();
        let by_place = runs.iter().map(|run| (run.start, run.pages)).collect();
        let by_size = runs.iter().map(|run| (run.pages, run.start)).collect();
        let whole_pages = runs.iter().map(whole_pages).sum();
        Ok(FreeSpace { by_place, by_size, pages, whole_pages, file_pages })
    }

    /// How many pages are free.
    pub(crate) fn pages(&self) -> u64 {
        self.pages
    }

    /// How many of them lie in runs that hold any ordinary node.
    pub(crate) fn whole_pages(&self) -> u64 {
        self.whole_pages
    }

    /// How many pages the file has.
    #[cfg(test)]
    pub(crate) fn file_pages(&self) -> u64 {
        self.file_pages
    }

    /// Pages of the longest run.
    pub(crate) fn largest_run(&self) -> u64 {
        self.by_size.last().map_or(0, |&(pages, _)| pages)
    }

    #[cfg(test)]
    /// How many runs there are.
    pub(crate) fn runs(&self) -> usize {
        self.by_place.len()
    }

    /// The free pages in ascending order; a run longer than an extent can name comes in pieces.
    pub(crate) fn extents(&self) -> impl Iterator<Item = Extent> {
        self.in_order().flat_map(Run::extents)
    }

    /// A copy of its runs, without the indexes.
    pub(crate) fn to_runs(&self) -> Runs {
        self.in_order().collect()
    }

    fn in_order(&self) -> impl Iterator<Item = Run> {
        self.by_place.iter().map(|(&start, &pages)| Run { start, pages })
    }

    /// Whether all of these pages are free.
    pub(crate) fn contains(&self, extent: Extent) -> bool {
        !extent.is_empty() && lies_inside(extent, self.file_pages) && self.around(extent).is_some()
    }

    /// So many pages in a row, or nothing.
    pub(crate) fn allocate(&mut self, pages: u32) -> Option<Extent> {
        assert!(pages > 0, "nothing is not allocated");
        let run = self.fit(u64::from(pages))?;
        Some(self.cut_front(run, u64::from(pages)))
    }

    /// So many pages in a row, or, if there is no such run, all of the longest one.
    pub(crate) fn allocate_up_to(&mut self, pages: u32) -> Option<Extent> {
        let longest = u32::try_from(self.largest_run()).unwrap_or(u32::MAX);
        if longest == 0 { None } else { self.allocate(pages.min(longest)) }
    }

    /// The lowest pages in a row in front of `limit`, as many as there are but no more than `most`;
    /// nothing if none of the lowest runs has `least`.
    pub(crate) fn allocate_below(
        &mut self,
        limit: PageId,
        least: u32,
        most: u32,
    ) -> Option<Extent> {
        let runs = self.by_place.range(..limit.0).take(LOW_RUNS_TRIED_MAX);
        let mut runs = runs.map(|(&start, &pages)| Run { start, pages });
        let pages = |run: Run| run.end().min(limit.0) - run.start;
        let run = runs.find(|run| pages(*run) >= u64::from(least))?;
        Some(self.cut_front(run, pages(run).min(u64::from(most))))
    }

    /// Gives pages back; neighbours become one run.
    pub(crate) fn free(&mut self, extent: Extent) {
        let inside = !extent.is_empty() && lies_inside(extent, self.file_pages);
        assert!(inside, "{extent:?} is freed outside the file");
        self.add(extent.into());
    }

    /// Marks these pages as used, in recovery.
    ///
    /// # Errors
    ///
    /// A defect, with its offset in the file, unless all of them are free.
    pub(crate) fn take(&mut self, extent: Extent) -> Result<(), Defect> {
        if !self.contains(extent) {
            return Err(defect("pages are used twice, or lie outside the file", extent.start.0));
        }
        let run = self.around(extent).expect("all of them are free");
        self.remove(run);
        let end = extent.end().0;
        self.insert(Run { start: run.start, pages: extent.start.0 - run.start });
        self.insert(Run { start: end, pages: run.end() - end });
        Ok(())
    }

    /// The file has grown from so many pages to so many: the new ones are free, except those of the superblock.
    pub(crate) fn grow(&mut self, from: u64, to: u64) {
        assert!(from == self.file_pages && from <= to, "the file grows from where it ended");
        self.file_pages = to;
        let kept = SUPERBLOCK_PAGES.map(|page| page.0).into_iter();
        let mut start = from;
        for page in kept.filter(|page| (from..to).contains(page)).chain([to]) {
            if start < page {
                self.add(Run { start, pages: page - start });
            }
            start = page + 1;
        }
    }

    /// Free pages at the end of the file, which could be cut off.
    pub(crate) fn tail_pages(&self) -> u64 {
        let last = self.by_place.last_key_value();
        let last = last.map(|(&start, &pages)| Run { start, pages });
        last.filter(|run| run.end() == self.file_pages).map_or(0, |run| run.pages)
    }

    #[cfg(test)]
    /// Takes the free pages off the end of the file, and says how many; the file is that much shorter.
    pub(crate) fn trim_tail(&mut self) -> Option<u64> {
        let pages = self.tail_pages();
        if pages == 0 {
            return None;
        }
        self.file_pages -= pages;
        self.remove(Run { start: self.file_pages, pages });
        Some(pages)
    }

    /// Takes free pages off the end of the file, down to so many pages at most; the file is that much shorter.
    pub(crate) fn shrink_towards(&mut self, file_pages: u64) -> u64 {
        let tail = self.tail_pages();
        let cut = tail.min(self.file_pages.saturating_sub(file_pages));
        if cut > 0 {
            self.remove(Run { start: self.file_pages - tail, pages: tail });
            self.insert(Run { start: self.file_pages - tail, pages: tail - cut });
            self.file_pages -= cut;
        }
        self.file_pages
    }

    /// The lowest of the runs of the tightest sizes.
    fn fit(&self, pages: u64) -> Option<Run> {
        let mut lowest: Option<Run> = None;
        let mut size = pages;
        for _ in 0..SIZES_TRIED_MAX {
            let Some(&(pages, start)) = self.by_size.range((size, 0)..).next() else {
                break;
            };
            if lowest.is_none_or(|run| start < run.start) {
                lowest = Some(Run { start, pages });
            }
            size = pages + 1;
        }
        lowest
    }

    fn cut_front(&mut self, run: Run, pages: u64) -> Extent {
        let extent = run.front(pages);
        self.remove(run);
        let end = extent.end().0;
        self.insert(Run { start: end, pages: run.end() - end });
        extent
    }

    /// The run that holds all of these pages.
    fn around(&self, extent: Extent) -> Option<Run> {
        self.at_or_before(extent.start.0).filter(|run| run.end() >= extent.end().0)
    }

    fn at_or_before(&self, page: u64) -> Option<Run> {
        let found = self.by_place.range(..=page).next_back();
        found.map(|(&start, &pages)| Run { start, pages })
    }

    fn add(&mut self, run: Run) {
        let mut whole = run;
        if let Some(before) = self.at_or_before(run.start) {
            assert!(before.end() <= run.start, "pages from {} on are freed twice", run.start);
            if before.end() == run.start {
                self.remove(before);
                whole = Run { start: before.start, pages: before.pages + run.pages };
            }
        }
        let after = self.by_place.range(run.start..).next();
        if let Some(after) = after.map(|(&start, &pages)| Run { start, pages }) {
            assert!(run.end() <= after.start, "pages from {} on are freed twice", after.start);
            if run.end() == after.start {
                self.remove(after);
                whole.pages += after.pages;
            }
        }
        self.insert(whole);
    }

    fn insert(&mut self, run: Run) {
        if run.pages > 0 {
            self.by_place.insert(run.start, run.pages);
            self.by_size.insert((run.pages, run.start));
            self.pages += run.pages;
            self.whole_pages += whole_pages(run);
        }
    }

    fn remove(&mut self, run: Run) {
        let by_place = self.by_place.remove(&run.start);
        let by_size = self.by_size.remove(&(run.pages, run.start));
        assert!(by_place == Some(run.pages) && by_size, "both indexes hold the same runs");
        self.pages -= run.pages;
        self.whole_pages -= whole_pages(run);
    }
}

/// Those of its pages that hold any ordinary node.
fn whole_pages(run: Run) -> u64 {
    if run.pages < CRUMB_PAGES { 0 } else { run.pages }
}

#[cfg(test)]
mod tests;
