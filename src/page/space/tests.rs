//! Growth, cuts, and what is kept back from both.

use super::*;

fn space(pages: u64) -> Space {
    let mut free = FreeSpace::new(0);
    free.grow(0, pages);
    Space::new(free.clone(), free, pages)
}

#[test]
fn the_free_end_is_out_of_use_before_the_file_is_cut_off() {
    let mut space = space(1000);
    let (low, high) =
        (space.allocate(300, Taker::Checkpoint), space.allocate(200, Taker::Checkpoint));
    assert_eq!((low.end().0, high.end().0), (365, 565));
    space.cut_towards(700, 0);
    assert_eq!((space.occupancy().file, space.grown_pages(), space.kept_pages()), (700, 700, 700));
    space.cut_towards(10, 0);
    // The reserve stays: a page more than the free ones in front of the first run.
    assert_eq!((space.occupancy().file, space.kept_pages()), (566, 566));
    space.release(high);
    space.cut_towards(10, 0);
    assert_eq!((space.occupancy().file, space.occupancy().free), (366, 64));
    let beyond = space.allocate(400, Taker::Checkpoint);
    assert!(beyond.start.0 >= 365 && space.wanted_pages().is_some());
}

#[test]
fn growth_that_is_under_way_is_not_cut_off() {
    let mut space = space(1000);
    space.ask(1200);
    space.ask(1100);
    space.cut_towards(500, 0);
    assert_eq!(space.kept_pages(), 1200);
    space.answered();
    space.grown_to(1200);
    assert_eq!((space.kept_pages(), space.occupancy().file), (1200, 1200));
    space.answered();
    space.cut_towards(500, 0);
    assert_eq!(space.kept_pages(), 500);
}

#[test]
fn a_refused_growth_leaves_the_plan_that_the_file_has() {
    let mut space = space(130);
    let (first, second) =
        (space.allocate(200, Taker::Checkpoint), space.allocate(300, Taker::Checkpoint));
    space.growth_refused();
    space.orphan(vec![first]);
    assert!(space.occupancy().file > 130);
    space.orphan(vec![second]);
    assert_eq!((space.occupancy().file, space.occupancy().free), (130, 128));
    let again = space.allocate(200, Taker::Checkpoint);
    assert_eq!(again.start, PageId(65));
    space.grown_to(400);
    assert_eq!(space.wanted_pages(), None);
    assert_eq!(space.occupancy().file, 400);
}
