//! An inner node: children, and the keys that separate them.
//!
//! ```text
//! child's entry
//! off len field
//!   0   8 page
//!   8   4 crc32c  of the child's bytes
//!  12   1 pages
//!  13   1 holds   1: values with extents of their own are below
//!  14   2 rows    of the child, if it is a leaf, else 0
//!  16   4 bytes   of the child's keys and values, if it is a leaf, else 0
//! ```
//!
//! Rows and bytes are there so that a range delete that drops whole leaves counts what it drops without reading it.

use super::node::{
    CHILD_BYTES, HEAD_BYTES, HEADER_BYTES, Key, Keys, SLOT_BYTES, bytes_at, index_at,
};
use super::refs::NodeRef;
use crate::ids::PageId;

/// Whether values with extents of their own are in a subtree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    /// All values lie in the rows: dropping the subtree does not need its leaves.
    Rows,
    /// Leaves have to be read to find the extents.
    Extents,
}

/// A child as its parent knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Child {
    /// Where it is.
    pub node: NodeRef,
    /// Whether values with extents of their own are below.
    pub holds: Holds,
    /// Rows, if it is a leaf, else 0.
    pub rows: u16,
    /// Bytes of keys and values, if it is a leaf, else 0.
    pub bytes: u32,
}

impl Child {
    /// The entry's bytes.
    pub(super) fn encode(&self) -> [u8; CHILD_BYTES] {
        let mut bytes = [0; CHILD_BYTES];
        bytes[..8].copy_from_slice(&self.node.page.0.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.node.crc.to_le_bytes());
        bytes[12] = u8::try_from(self.node.pages).expect("a node has at most 32 pages");
        bytes[13] = u8::from(self.holds == Holds::Extents);
        bytes[14..16].copy_from_slice(&self.rows.to_le_bytes());
        bytes[16..].copy_from_slice(&self.bytes.to_le_bytes());
        bytes
    }

    /// Reads an entry; any bytes make one, whether it is possible is for the check to say.
    #[inline]
    pub(super) fn decode(entry: &[u8; CHILD_BYTES]) -> Child {
        let page = PageId(u64::from_le_bytes(bytes_at(entry, 0)));
        let crc = u32::from_le_bytes(bytes_at(entry, 8));
        Child {
            node: NodeRef { page, pages: u16::from(entry[12]), crc },
            holds: if entry[13] == 0 { Holds::Rows } else { Holds::Extents },
            rows: u16::from_le_bytes(bytes_at(entry, 14)),
            bytes: u32::from_le_bytes(bytes_at(entry, 16)),
        }
    }
}

/// A view of a checked inner node.
#[derive(Clone, Copy)]
pub(crate) struct Inner<'a> {
    keys: Keys<'a>,
    children: &'a [[u8; CHILD_BYTES]],
}

impl<'a> Inner<'a> {
    /// A view of an inner node that passed the check; other bytes may panic.
    #[inline]
    pub(crate) fn new(node: &'a [u8]) -> Inner<'a> {
        let separators = index_at(node, 4);
        let children_at = HEADER_BYTES + separators * (HEAD_BYTES + SLOT_BYTES) + SLOT_BYTES;
        let children_bytes = (separators + 1) * CHILD_BYTES;
        let children = node[children_at..children_at + children_bytes].as_chunks().0;
        Inner { keys: Keys::new(node, children_bytes), children }
    }

    /// Children, at least one.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.children.len()
    }

    /// The child in whose range `key` is.
    #[inline]
    pub(crate) fn child_index(&self, key: &[u8]) -> usize {
        self.keys.search(key).map_or_else(|place| place, |index| index + 1)
    }

    /// The last child that may have keys below `key`.
    pub(crate) fn child_index_below(&self, key: &[u8]) -> usize {
        self.keys.search(key).unwrap_or_else(|place| place)
    }

    /// Where the child at `index` is.
    #[inline]
    pub(crate) fn child(&self, index: usize) -> NodeRef {
        self.entry(index).node
    }

    /// All that is known here of the child at `index`.
    #[inline]
    pub(crate) fn entry(&self, index: usize) -> Child {
        Child::decode(&self.children[index])
    }

    /// The key between the children at `index` and `index + 1`: above all of the one, not above any of the other.
    pub(crate) fn separator(&self, index: usize) -> Key<'a> {
        self.keys.record(index).0
    }

    /// Separators: one less than children.
    pub(crate) fn separators(&self) -> usize {
        self.keys.len()
    }

    /// The separator in front of the child, or what is in front of the node.
    pub(super) fn low(&self, index: usize, node_low: &[u8]) -> Vec<u8> {
        let before = index.checked_sub(1);
        before.map_or_else(|| node_low.to_vec(), |before| self.separator(before).to_vec())
    }

    /// The separator behind the child, or what is behind the node.
    pub(super) fn high(&self, index: usize, node_high: Option<&[u8]>) -> Option<Vec<u8>> {
        if index < self.separators() {
            Some(self.separator(index).to_vec())
        } else {
            node_high.map(<[u8]>::to_vec)
        }
    }
}
