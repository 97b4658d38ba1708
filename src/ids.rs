//! Newtypes for places, names and counts, so that they never mix.

/// Bytes of a page, the unit of the tree and of allocation.
pub const PAGE_BYTES: usize = 8192;
/// Bytes of a block, the unit of log padding and of superblocks.
pub const BLOCK_BYTES: usize = 4096;
const _: () = assert!(PAGE_BYTES.is_multiple_of(BLOCK_BYTES));

/// Place of a commit in the total order.
///
/// Dense within one opening of the database and never reused; an unclean shutdown skips ahead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// Place of a page in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PageId(pub u64);

impl PageId {
    /// Byte offset of the page's first byte.
    pub(crate) fn byte_offset(self) -> u64 {
        self.0 * PAGE_BYTES as u64
    }
}

/// A contiguous run of pages. No pages means nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Extent {
    pub start: PageId,
    pub pages: u32,
}

impl Extent {
    /// Bytes that the run holds.
    pub(crate) fn len_bytes(self) -> u64 {
        u64::from(self.pages) * PAGE_BYTES as u64
    }

    /// The first page behind the run.
    pub(crate) fn end(self) -> PageId {
        PageId(self.start.0 + u64::from(self.pages))
    }

    /// Whether there is nothing in it.
    pub(crate) fn is_empty(self) -> bool {
        self.pages == 0
    }
}

/// Identity of a column family; never reused within a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FamilyId(pub u32);

/// Which superblock: one more with each checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Generation(pub u64);

/// One opening of the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Incarnation(pub u64);
