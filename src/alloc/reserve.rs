//! The kept reserve: free pages that growth may not have, so that a full disk can be left again.
//!
//! Deletes need log, and only a checkpoint turns them into free pages; a checkpoint needs pages
//! before it gives any back. If the last free page went into new rows there would be no way out.
//! So growth stops while some pages are still free, and only what brings relief may go below:
//!
//! - the *reserve*, for a log segment that deletes go to and for the pages that a checkpoint needs
//!   whatever it holds;
//! - the *promise*, for what the next checkpoint makes of the rows in the memtables. It follows
//!   from their bytes, and suffices for a tree of them alone, which is what they become where more would be written and is not to
//!   be had.
//!
//! Both are numbers and not sets of pages: set apart, they would have to be accounted for a second
//! time (I9), and would be the one place of the file that is never reused. The reserve counts no crumbs,
//! which nodes of large rows do not fit into.

use crate::ids::PAGE_BYTES;

/// The reserve of a small file: half a MiB.
const PAGES_MIN: u64 = (512 << 10) / PAGE_BYTES as u64;
/// The reserve of a large file: 64 MiB.
const PAGES_MAX: u64 = (64 << 20) / PAGE_BYTES as u64;
/// In between, this part of the file.
const FILE_SHARE: u64 = 64;

/// Pages that a checkpoint writes besides the rows: catalog, free map, the path to a leaf.
const FIXED_PAGES: u64 = 16;
/// Nodes that deletes may cost although the reserve is used up: they are what fills it again.
const RELIEF_NODES_MIN: u64 = 4;
/// Pages of the path to a node that are not those of the path to another.
const PATH_PAGES: u64 = 1;

const MIB: u64 = 1 << 20;
/// Pages for a MiB of memtable: half as much again, for what a new tree has besides keys and values.
const PROMISED_PER_MIB: u64 = (MIB + MIB / 2) / PAGE_BYTES as u64;

/// What pages are wanted for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Need {
    /// Deletes, and checkpoints: they may use the reserve up.
    #[default]
    Relief,
    /// New rows: they stop at the reserve.
    Growth,
}

/// How many free pages a file of so many keeps back from growth.
pub(crate) fn reserve_pages(file_pages: u64) -> u64 {
    (file_pages / FILE_SHARE).clamp(PAGES_MIN, PAGES_MAX)
}

/// Nodes that deletes may touch before a checkpoint, with so many free pages that nothing was
/// promised of, if a node takes so many.
pub(crate) fn relief_nodes(pages: u64, node_pages: u64) -> u64 {
    (pages.saturating_sub(FIXED_PAGES) / (node_pages + PATH_PAGES)).max(RELIEF_NODES_MIN)
}

/// Pages that are promised to a checkpoint of so many bytes of memtables.
pub(crate) const fn promised_pages(bytes: u64) -> u64 {
    bytes.saturating_mul(PROMISED_PER_MIB).div_ceil(MIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_has_bounds() {
        for (file_pages, kept) in [(0, 64), (4096, 64), (128_000, 2000), (10_000_000, 8192)] {
            assert_eq!(reserve_pages(file_pages), kept);
        }
    }

    #[test]
    fn deletes_may_touch_what_the_reserve_can_rewrite() {
        for (pages, node_pages, nodes) in
            [(0, 1, 4), (16, 1, 4), (24, 1, 4), (64, 1, 24), (1016, 1, 500), (1024, 8, 112)]
        {
            assert_eq!(relief_nodes(pages, node_pages), nodes);
        }
    }

    #[test]
    fn half_as_much_again_is_promised_as_memtables_have() {
        for (bytes, pages) in [(0, 0), (1, 1), (MIB, 192), (MIB + 1, 193), (10 * MIB, 1920)] {
            assert_eq!(promised_pages(bytes), pages);
        }
    }
}
