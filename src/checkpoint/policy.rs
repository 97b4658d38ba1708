//! What is written when: pure decisions of checkpoint and compaction.
//!
//! Trees are merged by size. A run of neighbours becomes one tree when none of them is larger than half of all the others
//! together, so that a row is written again only together with at least twice its tree's size; and all trees become one when
//! the younger ones have grown as large as the oldest, whose rows they may all replace. With flushes of one size into a tree of a
//! hundred of them a row is written some four times, and a family has some four trees.

use std::cmp::Reverse;
use std::ops::Range;

use super::estimate::Cost;
use crate::format::catalog::TREES_MAX;

/// Trees that are merged into one at least.
const WIDTH_MIN: usize = 5;
/// A tree larger than this part of the others together is left out.
const LARGEST_SHARE: u64 = 2;

/// Trees beyond which some are merged although their sizes differ.
const TREES_SOUGHT: usize = 10;
/// Trees of a family at which a flush waits for some to be merged.
pub(super) const TREES_BEHIND: usize = 12;
/// Trees of a family at which rows are merged into the newest whatever it costs: merging fails, or there is no room for it.
pub(super) const TREES_AT_MOST: usize = 32;
/// Trees with which flushes and loads leave a family at most. Each run that is merged may make one tree more before it takes one away,
/// and the catalog has to have room for those.
pub(super) const TREES_FILLED_MAX: usize = TREES_MAX - TREES_MAX.div_ceil(WIDTH_MIN + 1);
const _: () = assert!(TREES_FILLED_MAX + TREES_FILLED_MAX / WIDTH_MIN <= TREES_MAX);
const _: () = assert!(TREES_AT_MOST < TREES_FILLED_MAX);

/// Rows are merged into the newest tree if that writes this part of them at most, besides themselves: what is written more often is
/// merged cheaper together with the rows of other flushes, and not while commits wait for the memory.
const WORTH_SHARE: u64 = 2;
/// So much is always worth it: a tree for a few rows costs as much.
const WORTH_BYTES_MIN: u64 = 32 << 10;

/// Whether rows are merged into the newest tree, or become one of their own.
pub(super) fn is_worth_merging(cost: Cost) -> bool {
    let worth = cost.rows_bytes / WORTH_SHARE;
    cost.leaves_bytes.saturating_sub(cost.replaced_bytes) <= worth.max(WORTH_BYTES_MIN)
}

/// The trees to be merged next, of a family's from newest to oldest, by their sizes. Those without one are being merged already.
pub(super) fn choose(sizes: &[Option<u64>]) -> Option<Range<usize>> {
    // The oldest takes the rows of all of them: no tree is made besides.
    if sizes.len() > TREES_FILLED_MAX {
        return known(sizes).map(|all| 0..all.len());
    }
    if let Some(all) = outgrown(sizes) {
        return Some(all);
    }
    let runs = (0..sizes.len()).flat_map(|start| {
        let ends = start + WIDTH_MIN..=sizes.len();
        ends.map(move |end| start..end)
    });
    let similar = runs.filter(|run| known(&sizes[run.clone()]).is_some_and(|run| is_similar(&run)));
    similar.max_by_key(|run| (run.len(), Reverse(run.start))).or_else(|| crowded(sizes))
}

/// All of them, if the younger ones are together as large as the oldest.
fn outgrown(sizes: &[Option<u64>]) -> Option<Range<usize>> {
    let all = known(sizes)?;
    let (oldest, younger) = all.split_last()?;
    let outgrown = all.len() >= WIDTH_MIN && younger.iter().sum::<u64>() >= *oldest;
    outgrown.then_some(0..all.len())
}

fn is_similar(run: &[u64]) -> bool {
    let largest = run.iter().max().copied().unwrap_or(0);
    let others = run.iter().sum::<u64>() - largest;
    largest * LARGEST_SHARE <= others
}

/// The cheapest run of the least width, if there are too many trees.
fn crowded(sizes: &[Option<u64>]) -> Option<Range<usize>> {
    if sizes.iter().flatten().count() <= TREES_SOUGHT {
        return None;
    }
    let starts = 0..=sizes.len().checked_sub(WIDTH_MIN)?;
    let runs = starts.filter_map(|start| {
        let run = start..start + WIDTH_MIN;
        known(&sizes[run.clone()]).map(|known| (known.iter().sum::<u64>(), run))
    });
    runs.min_by_key(|(bytes, _)| *bytes).map(|(_, run)| run)
}

/// The sizes, if none of the trees is busy.
fn known(sizes: &[Option<u64>]) -> Option<Vec<u64>> {
    sizes.iter().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sizes: &[u64], expected: Option<Range<usize>>) {
        let sizes: Vec<_> = sizes.iter().map(|&size| (size > 0).then_some(size)).collect();
        assert_eq!(choose(&sizes), expected, "{sizes:?}");
    }

    #[test]
    fn trees_of_similar_size_become_one() {
        check(&[], None);
        check(&[9], None);
        check(&[1, 1, 1, 1], None);
        check(&[1, 1, 1, 1, 1], Some(0..5));
        check(&[1, 1, 1, 1, 100], None);
        check(&[1, 1, 1, 1, 1, 100], Some(0..5));
        check(&[1, 1, 1, 1, 1, 5, 100], Some(0..5));
        check(&[1, 1, 1, 5, 5, 5, 5, 1000], Some(0..7));
        check(&[9, 1, 9, 1, 9, 1000], Some(0..5));
        check(&[1, 9, 1, 1, 1, 1000], None);
    }

    #[test]
    fn too_many_for_the_catalog_become_one() {
        let full = vec![1; TREES_FILLED_MAX + 1];
        check(&full[1..], Some(0..TREES_FILLED_MAX));
        let mut of_all_sizes = full.clone();
        of_all_sizes[TREES_FILLED_MAX] = 1 << 40;
        check(&of_all_sizes, Some(0..full.len()));
        of_all_sizes[7] = 0; // It is being merged.
        check(&of_all_sizes, None);
    }

    #[test]
    fn all_become_one_when_the_oldest_is_outgrown() {
        check(&[1, 1, 1, 97, 100], Some(0..5));
        check(&[1, 1, 1, 96, 100], None);
        check(&[1, 100, 100], None);
    }

    #[test]
    fn trees_that_are_being_merged_are_left_alone() {
        check(&[1, 1, 0, 1, 1, 1], None);
        check(&[1, 1, 1, 1, 1, 0, 0], Some(0..5));
    }

    #[test]
    fn too_many_trees_are_merged_although_they_differ() {
        let doubling: Vec<u64> = (0..11).map(|n| 1 << n).collect();
        check(&doubling, Some(0..5));
        check(&doubling[1..], None);
    }

    /// Flushes of one size, into a tree of so many of them; how often a row is written, and how many trees there are at most.
    fn simulate(flushes: u64) -> (f64, usize) {
        let (mut trees, mut written, mut most): (Vec<u64>, u64, usize) = (Vec::new(), 0, 0);
        for _ in 0..flushes {
            trees.insert(0, 1);
            written += 1;
            while let Some(run) = choose(&trees.iter().copied().map(Some).collect::<Vec<_>>()) {
                let merged: u64 = trees[run.clone()].iter().sum();
                written += merged;
                trees.splice(run, [merged]);
            }
            most = most.max(trees.len());
        }
        (written as f64 / flushes as f64, most)
    }

    #[test]
    fn rows_are_written_a_few_times() {
        for (flushes, times, trees) in [(16, 3.0, 6), (64, 3.5, 8), (128, 4.0, 9), (640, 5.6, 12)] {
            let (written, most) = simulate(flushes);
            assert!(written <= times && most <= trees, "{flushes}: {written} times, {most} trees");
        }
    }

    #[test]
    fn rows_that_touch_few_leaves_are_merged_in_place() {
        let check = |rows_kib: u64, leaves_kib: u64, replaced_kib: u64, expected| {
            let [rows_bytes, leaves_bytes, replaced_bytes] =
                [rows_kib, leaves_kib, replaced_kib].map(|kib| kib << 10);
            let cost = Cost { rows_bytes, leaves_bytes, replaced_bytes };
            assert_eq!(is_worth_merging(cost), expected, "{cost:?}");
        };
        check(1000, 500, 0, true);
        check(1000, 550, 0, false);
        check(1000, 1500, 1000, true);
        check(1, 32, 0, true);
        check(1, 64, 0, false);
    }
}
