//! Free space against one flag per page.

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
fn the_lowest_run_in_front_of_a_limit_is_taken() {
    let mut free = with_runs(1000, &[(100, 1), (200, 3), (300, 20), (400, 90)]);
    let mut below = |limit, least, most| free.allocate_below(PageId(limit), least, most);
    assert_eq!(below(1000, 2, 8), Some(extent(200, 3)));
    assert_eq!(below(310, 4, 99), Some(extent(300, 10)));
    assert_eq!(below(310, 1, 99), Some(extent(100, 1)));
    assert_eq!(below(310, 1, 99), None);
    assert_eq!(below(400, 11, 99), None);
    assert_eq!(below(1000, 11, 12), Some(extent(400, 12)));
    assert_eq!(runs(&free), [(310, 10), (412, 78)]);
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
    for (start, pages) in [(10, 1), (9, 2), (14, 2), (5, 20), (12, 1), (0, 1), (99, 2), (50, 0)] {
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
                Some((start, pages)) if *start + u64::from(*pages) == page as u64 => *pages += 1,
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
            assert_eq!((free.contains(wanted), free.take(wanted).is_ok()), (all_free, all_free));
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
