//! A leaf: the rows of a range of keys.

use std::ops::Range;

use super::node::{HEADER_OF_COPY_BYTES, Key, Keys, VALUE_BYTES_MAX};
use crate::format::value::ExtentValue;

/// What a row holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowValue<'a> {
    /// The value.
    Inline(&'a [u8]),
    /// An encoded [`ExtentValue`], which was checked.
    Extent(&'a [u8]),
    /// The key was deleted: older trees are not to be asked.
    Tombstone,
}

impl<'a> RowValue<'a> {
    /// Reads what a record holds behind the key.
    #[inline]
    fn new(kind: u32, bytes: &'a [u8]) -> RowValue<'a> {
        match kind {
            Kind::INLINE => RowValue::Inline(bytes),
            Kind::EXTENT => RowValue::Extent(bytes),
            _ => RowValue::Tombstone,
        }
    }

    /// A value of this kind.
    #[inline]
    pub(super) fn of(kind: Kind, bytes: &'a [u8]) -> RowValue<'a> {
        match kind {
            Kind::Inline => RowValue::Inline(bytes),
            Kind::Extent => RowValue::Extent(bytes),
            Kind::Tombstone => RowValue::Tombstone,
        }
    }

    /// The value as it stands in the row.
    #[inline]
    pub(crate) fn bytes(self) -> &'a [u8] {
        match self {
            RowValue::Inline(bytes) | RowValue::Extent(bytes) => bytes,
            RowValue::Tombstone => &[],
        }
    }

    /// How the slot says it.
    pub(super) fn kind(self) -> Kind {
        match self {
            RowValue::Inline(_) => Kind::Inline,
            RowValue::Extent(_) => Kind::Extent,
            RowValue::Tombstone => Kind::Tombstone,
        }
    }

    /// The reference, if the value has an extent of its own.
    pub(crate) fn extent_value(self) -> Option<ExtentValue> {
        match self {
            RowValue::Extent(bytes) => {
                Some(ExtentValue::decode(bytes).expect("the node was checked"))
            }
            RowValue::Inline(_) | RowValue::Tombstone => None,
        }
    }
}

/// Kind of a row's value, as the top bits of its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Inline = 0,
    Extent = 1,
    Tombstone = 2,
}

impl Kind {
    const INLINE: u32 = Kind::Inline as u32;
    const EXTENT: u32 = Kind::Extent as u32;
    const TOMBSTONE: u32 = Kind::Tombstone as u32;

    /// Whether a slot of these top bits and these bytes is possible.
    pub(super) fn is_sound(kind: u32, bytes: &[u8]) -> bool {
        match kind {
            Kind::INLINE => bytes.len() <= VALUE_BYTES_MAX,
            Kind::EXTENT => bytes.len() <= VALUE_BYTES_MAX && ExtentValue::decode(bytes).is_ok(),
            Kind::TOMBSTONE => bytes.is_empty(),
            _ => false,
        }
    }
}

/// A view of a checked leaf.
#[derive(Clone, Copy)]
pub(crate) struct Leaf<'a> {
    keys: Keys<'a>,
}

impl<'a> Leaf<'a> {
    /// A view of a leaf that passed the check; other bytes may panic.
    #[inline]
    pub(crate) fn new(node: &'a [u8]) -> Leaf<'a> {
        Leaf { keys: Keys::new(node, 0) }
    }

    /// Rows, at least one.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The row of `key`, or where it would be.
    #[inline]
    pub(crate) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        self.keys.search(key)
    }

    /// Where the row of `key` lies in the node, if there is one and no other key begins alike.
    #[inline]
    pub(super) fn likely_row(&self, key: &[u8]) -> Range<usize> {
        self.keys.likely_record(key)
    }

    /// Where these rows lie in the node: records lie side by side in the order of their keys.
    #[inline]
    pub(crate) fn rows_range(&self, rows: &Range<usize>) -> Range<usize> {
        self.keys.records_range(rows)
    }

    /// Bytes of the keys and values of these rows, or a little more.
    #[inline]
    pub(crate) fn bytes_of(&self, rows: &Range<usize>) -> usize {
        self.rows_range(rows).len() + rows.len() * self.keys.front_bytes()
    }

    /// What is stored under `key`.
    #[inline]
    pub(crate) fn find(&self, key: &[u8]) -> Option<RowValue<'a>> {
        self.search(key).ok().map(|index| self.value(index))
    }

    /// The first row that is not below `key`.
    pub(crate) fn lower_bound(&self, key: &[u8]) -> usize {
        self.search(key).unwrap_or_else(|place| place)
    }

    /// The first row that is above `key`.
    pub(crate) fn upper_bound(&self, key: &[u8]) -> usize {
        self.search(key).map_or_else(|place| place, |index| index + 1)
    }

    /// The row at `index`.
    #[inline]
    pub(crate) fn row(&self, index: usize) -> (Key<'a>, RowValue<'a>) {
        let (key, value) = self.keys.record(index);
        (key, RowValue::new(self.keys.kind(index), value))
    }

    /// Appends rows, but those whose keys were deleted: behind each header its key, and its value or the reference of that. The
    /// header is made of the lengths of both and of whether it is a reference.
    #[inline]
    pub(crate) fn copy_rows(
        &self,
        rows: impl Iterator<Item = usize>,
        out: &mut Vec<u8>,
        header: impl Fn(usize, usize, bool) -> [u8; HEADER_OF_COPY_BYTES],
    ) {
        let mut front = self.keys.front();
        for index in rows {
            let is_extent = match self.keys.kind(index) {
                Kind::INLINE => false,
                Kind::EXTENT => true,
                _ => continue,
            };
            self.keys.copy_row(index, &mut front, out, |key, value| header(key, value, is_extent));
        }
    }

    /// The key at `index`.
    #[inline]
    pub(crate) fn key(&self, index: usize) -> Key<'a> {
        self.keys.record(index).0
    }

    /// What the row at `index` holds.
    #[inline]
    pub(crate) fn value(&self, index: usize) -> RowValue<'a> {
        self.row(index).1
    }
}
