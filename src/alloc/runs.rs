//! Runs of pages in ascending order, changed in one pass over them.
//!
//! For a checkpoint, which changes a thousand of them at a time and wants the outcome alone: no index has to hold it.

use crate::format::{Defect, lies_inside};
use crate::ids::{Extent, PAGE_BYTES, PageId};

/// Pages in a row; longer than an [`Extent`] can be, if need be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) start: u64,
    pub(super) pages: u64,
}

impl Run {
    pub(super) fn end(self) -> u64 {
        self.start + self.pages
    }

    /// The first pages of the run, as many as wanted and one extent can name.
    pub(super) fn front(self, pages: u64) -> Extent {
        let pages = u32::try_from(pages.min(self.pages)).unwrap_or(u32::MAX);
        Extent { start: PageId(self.start), pages }
    }

    /// All of it; one that is longer than an extent can name comes in pieces.
    pub(super) fn extents(self) -> impl Iterator<Item = Extent> {
        let pieces = (self.start..self.end()).step_by(u32::MAX as usize);
        pieces.map(move |start| Run { start, pages: self.end() - start }.front(u64::MAX))
    }
}

impl From<Extent> for Run {
    fn from(extent: Extent) -> Run {
        Run { start: extent.start.0, pages: extent.pages.into() }
    }
}

/// Runs that ascend, none of which touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Runs(Vec<Run>);

impl FromIterator<Run> for Runs {
    /// Of runs that ascend and do not overlap; those that touch become one.
    fn from_iter<I: IntoIterator<Item = Run>>(ascending: I) -> Runs {
        let mut runs: Vec<Run> = Vec::new();
        for run in ascending.into_iter().filter(|run| run.pages > 0) {
            match runs.last_mut() {
                Some(last) if last.end() == run.start => last.pages += run.pages,
                _ => runs.push(run),
            }
        }
        Runs(runs)
    }
}

impl Runs {
    /// Extents in any order, as runs.
    ///
    /// # Errors
    ///
    /// A defect, with its offset in the file, if one is empty, lies outside a file of so many pages or on a superblock, or if two overlap.
    pub(crate) fn of(mut extents: Vec<Extent>, file_pages: u64) -> Result<Runs, Defect> {
        extents.sort_unstable();
        let mut end = 0;
        for extent in &extents {
            if extent.is_empty() || !lies_inside(*extent, file_pages) {
                return Err(defect("pages lie outside the file", extent.start.0));
            }
            if extent.start.0 < end {
                return Err(defect("pages are named twice", extent.start.0));
            }
            end = extent.end().0;
        }
        Ok(extents.into_iter().map(Run::from).collect())
    }

    /// All of them, in ascending order.
    pub(crate) fn extents(&self) -> impl Iterator<Item = Extent> {
        self.0.iter().flat_map(|run| run.extents())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Run> {
        self.0.iter().copied()
    }

    /// What is left when these are taken out.
    ///
    /// # Errors
    ///
    /// A defect, with its offset in the file, unless all of them are in here.
    pub(crate) fn without(&self, taken: &Runs) -> Result<Runs, Defect> {
        let mut left = Vec::with_capacity(self.0.len() + taken.0.len());
        let mut taken = taken.0.iter().peekable();
        for run in &self.0 {
            let mut start = run.start;
            while let Some(out) = taken.next_if(|out| out.start < run.end()) {
                if out.start < start || out.end() > run.end() {
                    return Err(defect("pages are taken twice", out.start));
                }
                left.push(Run { start, pages: out.start - start });
                start = out.end();
            }
            left.push(Run { start, pages: run.end() - start });
        }
        match taken.next() {
            Some(out) => Err(defect("pages are taken twice", out.start)),
            None => Ok(left.into_iter().collect()),
        }
    }

    /// These and others.
    ///
    /// # Errors
    ///
    /// A defect, with its offset in the file, if some of the others are in here.
    pub(crate) fn with(&self, others: &Runs) -> Result<Runs, Defect> {
        let mut all: Vec<Run> = self.0.iter().chain(&others.0).copied().collect();
        // Two sorted halves are merged in one pass.
        all.sort_by_key(|run| run.start);
        match all.windows(2).find(|pair| pair[0].end() > pair[1].start) {
            Some(pair) => Err(defect("pages are free already", pair[1].start)),
            None => Ok(all.into_iter().collect()),
        }
    }

    /// Those in front of a page.
    pub(crate) fn up_to(mut self, page: u64) -> Runs {
        self.0.retain(|run| run.start < page);
        if let Some(last) = self.0.last_mut() {
            last.pages = last.pages.min(page - last.start);
        }
        self
    }
}

pub(super) fn defect(what: &'static str, page: u64) -> Defect {
    Defect { what, at: page.saturating_mul(PAGE_BYTES as u64) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::mutate::Chance;

    fn extents(list: &[(u64, u32)]) -> Vec<Extent> {
        list.iter().map(|&(start, pages)| Extent { start: PageId(start), pages }).collect()
    }

    fn runs(list: &[(u64, u32)]) -> Runs {
        Runs::of(extents(list), 1000).expect("they do not overlap")
    }

    #[test]
    fn extents_in_any_order_become_runs() {
        assert_eq!(runs(&[(9, 1), (5, 2), (7, 2), (20, 3)]), runs(&[(5, 5), (20, 3)]));
        assert_eq!(
            runs(&[(9, 1), (5, 2), (7, 2)]).extents().collect::<Vec<_>>(),
            extents(&[(5, 5)])
        );
        for bad in [
            &[(5, 2), (6, 1)][..],
            &[(5, 2), (5, 2)],
            &[(999, 2)],
            &[(64, 1)],
            &[(7, 0)],
            &[(0, 1)],
        ] {
            assert!(Runs::of(extents(bad), 1000).is_err(), "{bad:?}");
        }
        assert!(Runs::of(extents(&[(u64::MAX, 2)]), u64::MAX).is_err());
    }

    #[test]
    fn a_run_that_no_extent_can_name_comes_in_pieces() {
        let long = Run { start: 100, pages: 3 * u64::from(u32::MAX) / 2 };
        let pieces: Vec<_> = long.extents().collect();
        assert_eq!(pieces.len(), 2);
        assert_eq!(pieces.into_iter().map(Run::from).collect::<Runs>(), Runs(vec![long]));
    }

    #[test]
    fn what_is_taken_and_given_is_checked() {
        let free = runs(&[(10, 10), (30, 5)]);
        for taken in [&[(9, 2)][..], &[(19, 2)], &[(20, 1)], &[(34, 2)], &[(40, 1)], &[(5, 60)]] {
            let taken: Runs = extents(taken).into_iter().map(Run::from).collect();
            assert!(free.without(&taken).is_err(), "{taken:?}");
        }
        for given in [&[(9, 2)][..], &[(15, 1)], &[(19, 12)], &[(5, 50)], &[(34, 1)]] {
            assert!(free.with(&runs(given)).is_err(), "{given:?}");
        }
        assert_eq!(free.clone().up_to(1000), free);
        assert_eq!(free.clone().up_to(32), runs(&[(10, 10), (30, 2)]));
        assert_eq!(free.clone().up_to(30), runs(&[(10, 10)]));
        assert_eq!(free.up_to(10), Runs::default());
    }

    #[test]
    fn they_are_as_one_flag_for_each_page_says() {
        const PAGES: u64 = 63;
        let mut chance = Chance::new(17);
        let of_flags = |flags: &[bool]| -> Runs {
            let pages = (0..).zip(flags).filter(|(_, flag)| **flag);
            pages.map(|(page, _)| Run { start: page + 1, pages: 1 }).collect()
        };
        for _ in 0..2_000 {
            let mut flags: Vec<bool> = (0..PAGES).map(|_| chance.below(3) > 0).collect();
            let before = of_flags(&flags);
            let taken: Vec<bool> = flags.iter().map(|&free| free && chance.below(4) == 0).collect();
            flags.iter_mut().zip(&taken).for_each(|(free, taken)| *free &= !taken);
            let left = before.without(&of_flags(&taken)).expect("they are in there");
            assert_eq!(left, of_flags(&flags));
            let given: Vec<bool> =
                flags.iter().map(|&free| !free && chance.below(3) == 0).collect();
            flags.iter_mut().zip(&given).for_each(|(free, given)| *free |= given);
            let all = left.with(&of_flags(&given)).expect("they are not in there");
            assert_eq!(all, of_flags(&flags));
            let end = chance.below(PAGES + 2);
            let flags = &flags[..end.saturating_sub(1) as usize];
            assert_eq!(all.up_to(end), of_flags(flags));
        }
    }
}
