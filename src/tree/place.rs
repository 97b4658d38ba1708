//! Where a row lies in its leaf, in a few bits, for whoever comes back to it past the descent.
//!
//! ```text
//! bits  0..9   index of the row
//! bits  9..16  line of the node in which its slot is
//! bits 16..23  line in which its record begins
//! bits 23..25  lines of the record, less one: as many as fit into the number, if there are more
//! ```
//!
//! The lines are there to be asked for together. They are no more than advice: what counts is the index, and the key that is
//! found there.

use std::ops::Range;

use super::leaf::Leaf;
use super::node::{HEAD_BYTES, HEADER_BYTES, SLOT_BYTES};

const LINE_BYTES: usize = 64;

const INDEX_BITS: u32 = 9;
const SLOT_LINE_BITS: u32 = 7;
const RECORD_LINE_BITS: u32 = 7;
const RECORD_LINES_BITS: u32 = 2;
const SLOT_LINE_SHIFT: u32 = INDEX_BITS;
const RECORD_LINE_SHIFT: u32 = SLOT_LINE_SHIFT + SLOT_LINE_BITS;
const RECORD_LINES_SHIFT: u32 = RECORD_LINE_SHIFT + RECORD_LINE_BITS;
const _: () = assert!(1 << (RECORD_LINES_SHIFT + RECORD_LINES_BITS) == ringdb_frames::PLACE_END);

/// The place of a row in its leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowPlace(u32);

impl RowPlace {
    /// The place of the row at `index`; nothing if that is above 511, or if its slot or its record is not in the first page of a
    /// large leaf.
    pub(crate) fn of(leaf: &Leaf<'_>, index: usize) -> Option<RowPlace> {
        let slot_at = HEADER_BYTES + leaf.len() * HEAD_BYTES + index * SLOT_BYTES;
        let record = leaf.rows_range(&(index..index + 1));
        let record_line = record.start / LINE_BYTES;
        let more_lines = (record.end - 1) / LINE_BYTES - record_line;
        let fits = |value: usize, bits: u32| value < 1 << bits;
        let all_fit = fits(index, INDEX_BITS)
            && fits(slot_at / LINE_BYTES, SLOT_LINE_BITS)
            && fits(record_line, RECORD_LINE_BITS);
        let place = index
            | (slot_at / LINE_BYTES) << SLOT_LINE_SHIFT
            | record_line << RECORD_LINE_SHIFT
            | more_lines.min((1 << RECORD_LINES_BITS) - 1) << RECORD_LINES_SHIFT;
        all_fit.then(|| RowPlace(u32::try_from(place).expect("the parts have 25 bits together")))
    }

    /// A place that was kept as a number; of any other number, some place.
    #[inline]
    pub(crate) fn from_bits(bits: u32) -> RowPlace {
        RowPlace(bits)
    }

    /// The place as a number.
    pub(crate) fn to_bits(self) -> u32 {
        self.0
    }

    /// The row's index.
    #[inline]
    pub(crate) fn index(self) -> usize {
        self.field(0, INDEX_BITS)
    }

    /// Bytes of the node that reading the row looks at, in whole lines: header, head, slot, record.
    #[inline]
    pub(crate) fn lines(self) -> [Range<usize>; 4] {
        let lines = |first: usize, count: usize| first * LINE_BYTES..(first + count) * LINE_BYTES;
        let record_line = self.field(RECORD_LINE_SHIFT, RECORD_LINE_BITS);
        [
            lines(0, 1),
            lines((HEADER_BYTES + self.index() * HEAD_BYTES) / LINE_BYTES, 1),
            lines(self.field(SLOT_LINE_SHIFT, SLOT_LINE_BITS), 1),
            lines(record_line, 1 + self.field(RECORD_LINES_SHIFT, RECORD_LINES_BITS)),
        ]
    }

    #[inline]
    fn field(self, shift: u32, bits: u32) -> usize {
        (self.0 >> shift) as usize & ((1 << bits) - 1)
    }
}
