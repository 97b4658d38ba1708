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

use crate::format::{Defect, SUPERBLOCK_PAGES, lies_inside};
use crate::ids::{Extent, PAGE_BYTES, PageId};

/// How many sizes of runs are looked at for the lowest place.
const SIZES_TRIED_MAX: usize = 16;

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

/// Free pages in a row; longer than an [`Extent`] can be, if need be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    start: u64,
    pages: u64,
}

impl Run {
    fn end(self) -> u64 {
        self.start + self.pages
    }

    fn whole_pages(self) -> u64 {
        if self.pages < CRUMB_PAGES { 0 } else { self.pages }
    }

    /// The first pages of the run, as many as wanted and one extent can name.
    fn front(self, pages: u64) -> Extent {
        let pages = u32::try_from(pages.min(self.pages)).unwrap_or(u32::MAX);
        Extent { start: PageId(self.start), pages }
    }
}

impl From<Extent> for Run {
    fn from(extent: Extent) -> Run {
        Run { start: extent.start.0, pages: extent.pages.into() }
    }
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
        let mut runs: Vec<Run> = Vec::new();
        for extent in extents {
            if extent.is_empty() || !lies_inside(extent, file_pages) {
                return Err(defect("free pages lie outside the file", extent));
            }
            let run = Run::from(extent);
            match runs.last_mut() {
                Some(last) if last.end() > run.start => {
                    return Err(defect("free pages are out of order", extent));
                }
                Some(last) if last.end() == run.start => last.pages += run.pages,
                _ => runs.push(run),
            }
        }
        let pages = runs.iter().map(|run| run.pages).sum();
        let by_place = runs.iter().map(|run| (run.start, run.pages)).collect();
        let by_size = runs.iter().map(|run| (run.pages, run.start)).collect();
        let whole_pages = runs.iter().map(|run| run.whole_pages()).sum();
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
        self.by_place.iter().flat_map(|(&start, &pages)| {
            let end = start + pages;
            let pieces = (start..end).step_by(u32::MAX as usize);
            pieces.map(move |start| Run { start, pages: end - start }.front(u64::MAX))
        })
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

    /// Gives pages back; neighbours become one run.
    pub(crate) fn free(&mut self, extent: Extent) {
        let inside = !extent.is_empty() && lies_inside(extent, self.file_pages);
        assert!(inside, "{extent:?} is freed outside the file");
        self.add(extent.into());
    }

    /// Gives back pages that the file said were in use.
    ///
    /// # Errors
    ///
    /// A defect, with its offset in the file, if some of them are free already or not in the file.
    pub(crate) fn give_back(&mut self, extent: Extent) -> Result<(), Defect> {
        let overlaps = || {
            let before = self.at_or_before(extent.end().0 - 1);
            before.is_some_and(|run| run.end() > extent.start.0)
        };
        if extent.is_empty() || !lies_inside(extent, self.file_pages) || overlaps() {
            return Err(defect("pages are free already, or lie outside the file", extent));
        }
        self.add(extent.into());
        Ok(())
    }

    /// Marks these pages as used, in recovery.
    ///
    /// # Errors
    ///
    /// A defect, with its offset in the file, unless all of them are free.
    pub(crate) fn take(&mut self, extent: Extent) -> Result<(), Defect> {
        if !self.contains(extent) {
            return Err(defect("pages are used twice, or lie outside the file", extent));
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
            self.whole_pages += run.whole_pages();
        }
    }

    fn remove(&mut self, run: Run) {
        let by_place = self.by_place.remove(&run.start);
        let by_size = self.by_size.remove(&(run.pages, run.start));
        assert!(by_place == Some(run.pages) && by_size, "both indexes hold the same runs");
        self.pages -= run.pages;
        self.whole_pages -= run.whole_pages();
    }
}

fn defect(what: &'static str, extent: Extent) -> Defect {
    Defect { what, at: extent.start.0.saturating_mul(PAGE_BYTES as u64) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::FILE_PAGES_MAX;
    use crate::format::mutate::Chance;

    fn extent(start: u64, pages: u32) -> Extent {
        Extent { start: PageId(start), pages }
    }

    fn with_runs(file_pages: u64, runs: &[(u64, u32)]) -> FreeSpace {
        let extents = runs.iter().map(|&(start, pages)| extent(start, pages));
        FreeSpace::from_extents(file_pages, extents).unwrap()
    }

    fn runs(free: &FreeSpace) -> Vec<(u64, u32)> {
        free.extents().map(|extent| (extent.start.0, extent.pages)).collect()
    }

    #[test]
    fn a_new_file_has_all_but_the_superblocks_free() {
        let mut free = FreeSpace::new(0);
        free.grow(0, 100);
        assert_eq!(runs(&free), [(1, 63), (65, 35)]);
        free.grow(100, 100);
        free.grow(100, 101);
        assert_eq!((runs(&free), free.pages()), (vec![(1, 63), (65, 36)], 99));
        for (pages, expected) in
            [(1, vec![]), (2, vec![(1, 1)]), (64, vec![(1, 63)]), (65, vec![(1, 63)])]
        {
            let mut free = FreeSpace::new(0);
            free.grow(0, pages);
            assert_eq!(runs(&free), expected, "{pages} pages");
        }
    }

    #[test]
    fn pages_that_a_file_names_twice_are_not_given_back_twice() {
        let mut free = with_runs(1000, &[(100, 50)]);
        for (start, pages) in [(100, 1), (90, 11), (149, 9), (90, 100), (120, 4)] {
            assert!(free.give_back(extent(start, pages)).is_err(), "{start}, {pages} pages");
        }
        for outside in [extent(999, 2), extent(64, 1), extent(u64::MAX, 2), Extent::default()] {
            assert!(free.give_back(outside).is_err(), "{outside:?}");
        }
        assert_eq!(free.give_back(extent(90, 10)), Ok(()));
        assert_eq!(free.give_back(extent(150, 1)), Ok(()));
        assert_eq!(runs(&free), [(90, 61)]);
    }

    #[test]
    fn the_lowest_of_the_tightest_runs_is_taken() {
        let mut free = with_runs(1000, &[(100, 50), (200, 3), (300, 2), (400, 2)]);
        assert_eq!(free.allocate(2), Some(extent(100, 2)));
        assert_eq!(free.allocate(60), None);
        assert_eq!(free.allocate_up_to(60), Some(extent(102, 48)));
        assert_eq!(free.allocate(2), Some(extent(200, 2)));
        assert_eq!(free.allocate_up_to(1), Some(extent(202, 1)));
        assert_eq!(free.allocate_up_to(9), Some(extent(300, 2)));
        assert_eq!(free.allocate_up_to(9), Some(extent(400, 2)));
        assert_eq!((free.allocate_up_to(9), free.pages(), free.runs()), (None, 0, 0));
    }

    #[test]
    fn neighbours_become_one_run() {
        let mut free = with_runs(100, &[(10, 5), (20, 5)]);
        free.free(extent(15, 5));
        assert_eq!(runs(&free), [(10, 15)]);
        free.free(extent(30, 1));
        assert_eq!((runs(&free), free.largest_run()), (vec![(10, 15), (30, 1)], 15));
        assert_eq!((free.pages(), free.whole_pages()), (16, 15));
    }

    #[test]
    fn freeing_twice_asserts() {
        for (start, pages) in [(10, 1), (9, 2), (14, 2), (5, 20), (12, 1), (0, 1), (99, 2), (50, 0)]
        {
            let mut free = with_runs(100, &[(10, 5)]);
            let freed = std::panic::AssertUnwindSafe(|| free.free(extent(start, pages)));
            assert!(std::panic::catch_unwind(freed).is_err(), "{start} {pages}");
        }
    }

    #[test]
    fn taking_what_is_not_free_is_a_defect() {
        let mut free = with_runs(100, &[(10, 5)]);
        for (start, pages) in [(9, 2), (14, 2), (50, 1), (u64::MAX, 2), (12, 0), (0, 1)] {
            assert!(free.take(extent(start, pages)).is_err(), "{start} {pages}");
        }
        assert_eq!(free.take(extent(12, 1)), Ok(()));
        assert_eq!(runs(&free), [(10, 2), (13, 2)]);
        assert_eq!(free.take(extent(12, 1)).unwrap_err().at, 12 * 8192);
    }

    #[test]
    fn bad_lists_of_free_pages_are_defects() {
        for (first, second) in
            [((10, 5), (14, 1)), ((10, 5), (9, 1)), ((10, 0), (20, 1)), ((10, 1), (99, 2))]
        {
            let extents = [first, second].map(|(start, pages)| extent(start, pages));
            assert!(FreeSpace::from_extents(100, extents).is_err());
        }
    }

    #[test]
    fn the_free_end_of_the_file_can_be_cut_off() {
        let mut free = with_runs(100, &[(10, 5), (90, 10)]);
        assert_eq!((free.tail_pages(), free.trim_tail()), (10, Some(10)));
        assert_eq!((free.file_pages(), free.trim_tail()), (90, None));
        free.grow(90, 95);
        assert_eq!(runs(&free), [(10, 5), (90, 5)]);
        assert_eq!((free.shrink_towards(92), runs(&free)), (92, vec![(10, 5), (90, 2)]));
        assert_eq!((free.shrink_towards(50), free.shrink_towards(99)), (90, 90));
        free.grow(90, 91);
        assert_eq!(runs(&free), [(10, 5), (90, 1)]);
    }

    #[test]
    fn runs_longer_than_an_extent_come_in_pieces() {
        let mut free = FreeSpace::new(0);
        free.grow(0, FILE_PAGES_MAX / 1024);
        let before = free.pages();
        assert_eq!(before, (1 << 40) - 2);
        assert_eq!(free.extents().map(|extent| u64::from(extent.pages)).sum::<u64>(), before);
        assert_eq!(free.allocate_up_to(u32::MAX), Some(extent(65, u32::MAX)));
        let again = FreeSpace::from_extents(free.file_pages(), free.extents()).unwrap();
        assert_eq!((again.pages(), again.runs()), (free.pages(), 2));
    }

    /// The same file as one flag per page.
    struct Model {
        free: Vec<bool>,
    }

    impl Model {
        fn mark(&mut self, extent: Extent, free: bool) {
            for page in extent.start.0..extent.end().0 {
                assert_ne!(self.free[page as usize], free, "page {page}");
                self.free[page as usize] = free;
            }
        }

        fn runs(&self) -> Vec<(u64, u32)> {
            let mut runs: Vec<(u64, u32)> = Vec::new();
            for (page, _) in self.free.iter().enumerate().filter(|(_, free)| **free) {
                match runs.last_mut() {
                    Some((start, pages)) if *start + u64::from(*pages) == page as u64 => {
                        *pages += 1
                    }
                    _ => runs.push((page as u64, 1)),
                }
            }
            runs
        }
    }

    fn step(free: &mut FreeSpace, model: &mut Model, used: &mut Vec<Extent>, chance: &mut Chance) {
        let longest = model.runs().iter().map(|run| run.1).max().unwrap_or(0);
        let magnitude = 1 + chance.below(7);
        let pages = 1 + chance.below(1 << magnitude) as u32;
        match chance.below(10) {
            0..3 => {
                let got = free.allocate(pages);
                assert_eq!(got.map(|extent| extent.pages), (pages <= longest).then_some(pages));
                used.extend(got.inspect(|&extent| model.mark(extent, false)));
            }
            3 => {
                let got = free.allocate_up_to(pages);
                let expected = (longest > 0).then_some(pages.min(longest));
                assert_eq!(got.map(|extent| extent.pages), expected);
                used.extend(got.inspect(|&extent| model.mark(extent, false)));
            }
            4 => {
                let wanted = extent(chance.below(model.free.len() as u64 + 5), pages);
                let range = wanted.start.0 as usize..wanted.end().0 as usize;
                let all_free = model.free.get(range).is_some_and(|flags| flags.iter().all(|f| *f));
                assert_eq!(
                    (free.contains(wanted), free.take(wanted).is_ok()),
                    (all_free, all_free)
                );
                used.extend(all_free.then_some(wanted).inspect(|&taken| model.mark(taken, false)));
            }
            5..9 if !used.is_empty() => {
                let whole = used.swap_remove(chance.below(used.len() as u64) as usize);
                let front = chance.below(u64::from(whole.pages)) as u32;
                let back = extent(whole.start.0 + u64::from(front), whole.pages - front);
                used.extend((front > 0).then_some(extent(whole.start.0, front)));
                free.free(back);
                model.mark(back, true);
            }
            5..9 => {
                let from = model.free.len() as u64;
                free.grow(from, from + u64::from(pages));
                let fresh = from..from + u64::from(pages);
                model.free.extend(fresh.map(|page| !SUPERBLOCK_PAGES.contains(&PageId(page))));
            }
            _ => {
                let tail = model.free.iter().rev().take_while(|free| **free).count();
                assert_eq!(free.trim_tail(), (tail > 0).then_some(tail as u64));
                model.free.truncate(model.free.len() - tail);
            }
        }
    }

    #[test]
    fn free_space_behaves_as_one_flag_per_page() {
        for seed in 0..60 {
            let (mut chance, mut used) = (Chance::new(seed), Vec::new());
            let (mut free, mut model) = (FreeSpace::new(0), Model { free: Vec::new() });
            for step_number in 0..400 {
                step(&mut free, &mut model, &mut used, &mut chance);
                let runs_expected = model.runs();
                assert_eq!(runs(&free), runs_expected, "seed {seed}, step {step_number}");
                let total: u64 = runs_expected.iter().map(|run| u64::from(run.1)).sum();
                let longest = runs_expected.iter().map(|run| u64::from(run.1)).max().unwrap_or(0);
                assert_eq!((free.pages(), free.largest_run()), (total, longest));
                assert_eq!(free.file_pages(), model.free.len() as u64);
                assert_eq!(
                    (free.runs(), free.by_size.len()),
                    (runs_expected.len(), runs_expected.len())
                );
            }
        }
    }
}
