//! What the bytes of the file mean: one module per thing on disk, encode and decode side by side.
//!
//! Everything here is pure: bytes in, values out, no I/O, clock, thread or lock. The rules of every decoder:
//!
//! - it checks a crc32c first (I7), salted with the file's id, so that a block of another file is as wrong as a flipped bit;
//! - it never panics, and it allocates nothing by a length that it has not compared with the bytes at hand: a good checksum
//!   proves nothing about a hostile file;
//! - what is reserved is zero, and that is checked, so that a later version can give it a meaning;
//! - each value has one encoding, so that what was decoded encodes to the same bytes.
//!
//! Our own mistakes (a name that is too long, an extent outside the file) are assertions in the encoders: check in pairs.
//!
//! The file, in pages of 8 KiB:
//!
//! ```text
//! page 0         superblock copies A: generations even | odd, 4 KiB each
//! page 64        superblock copies B: the same
//! anywhere else  log segments; nodes of trees; values with extents of their own; catalog; free map
//! ```

pub(crate) mod backup;
pub(crate) mod blob;
pub(crate) mod catalog;
pub(crate) mod chapter;
pub(crate) mod checksum;
pub(crate) mod codec;
pub(crate) mod commits;
pub(crate) mod copies;
pub(crate) mod free_map;
pub(crate) mod group;
pub(crate) mod node_ref;
pub(crate) mod record;
pub(crate) mod replay;
pub(crate) mod segment;
pub(crate) mod superblock;
pub(crate) mod value;

#[cfg(test)]
pub(crate) mod mutate;

use std::fmt;

use crate::ids::{Extent, PAGE_BYTES, PageId};

/// The pages that hold the copies of the superblock; nothing else may ever lie there.
pub(crate) const SUPERBLOCK_PAGES: [PageId; 2] = [PageId(0), PageId(64)];

/// Pages of the largest file: byte offsets stay below 2^63, the limit of the system calls.
pub(crate) const FILE_PAGES_MAX: u64 = (1 << 63) / PAGE_BYTES as u64;

/// No counter of a file (seqs, generations, incarnations, ordinals) ever gets here: what adds to one
/// that was read cannot overflow.
pub(crate) const COUNTER_MAX: u64 = 1 << 62;

/// Bytes that are not what was written: what is wrong, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Defect {
    /// What is wrong, as half a sentence.
    pub what: &'static str,
    /// Byte offset from the start of what the decoder was given.
    pub at: u64,
}

impl Defect {
    /// The same defect, seen from `bytes` further to the front.
    pub(crate) fn shifted(self, bytes: u64) -> Defect {
        Defect { at: self.at.saturating_add(bytes), ..self }
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)
    }
}

impl std::error::Error for Defect {}

/// Whether a run of pages may be given to anything but a superblock, in a file of `file_pages`.
pub(crate) fn lies_inside(extent: Extent, file_pages: u64) -> bool {
    let end = extent.start.0.checked_add(u64::from(extent.pages));
    let inside = end.is_some_and(|end| end <= file_pages.min(FILE_PAGES_MAX));
    inside && SUPERBLOCK_PAGES.iter().all(|&page| page < extent.start || page >= extent.end())
}
