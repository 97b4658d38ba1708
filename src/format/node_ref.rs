//! How a parent, or the catalog, names a node of a tree.
//!
//! ```text
//! node reference                          root of a tree
//! off len field                           off len field
//!   0   8 page    first page of the node    0  14 root
//!   8   4 crc32c  of the node's bytes      14   1 height        0: the root is a leaf
//!  12   2 pages   1 to 32                  15   1 reserved
//!                                          16   8 rows
//!                                          24   8 bytes         keys and values
//!                                          32   8 pages         of all nodes
//!                                          40   8 extent pages  of values with extents of their own
//! ```
//!
//! The parent holds the checksum, so a lost or misdirected write of the child is seen although the child's bytes agree with
//! each other (I7).

use super::catalog::TREES_MAX;
use super::checksum::{FileId, of_pages};
use super::codec::{Reader, Writer};
use super::{COUNTER_MAX, Defect, FILE_PAGES_MAX, lies_inside};
use crate::ids::{Extent, PAGE_BYTES, PageId};

/// Bytes of an encoded [`NodeRef`].
pub(crate) const NODE_REF_BYTES: usize = 14;
/// Bytes of an encoded [`TreeRoot`].
pub(crate) const TREE_ROOT_BYTES: usize = 48;
const _: () = assert!(TREE_ROOT_BYTES == NODE_REF_BYTES + 2 + 4 * 8);

/// Pages of the largest node.
pub(crate) const NODE_PAGES_MAX: usize = 32;

/// No tree is higher: with two children a node it would have more leaves than a file has pages.
pub(crate) const HEIGHT_MAX: u8 = 50;
const _: () = assert!(1 << HEIGHT_MAX >= FILE_PAGES_MAX);

/// No tree has as many rows, or bytes of keys and values.
const COUNT_MAX: u64 = COUNTER_MAX / TREES_MAX as u64;

/// Names a node: where it is and what its bytes sum up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NodeRef {
    /// First page of the node.
    pub page: PageId,
    /// Pages of the node, at least one.
    pub pages: u16,
    /// crc32c of the node's bytes, salted with file id and page id.
    pub crc: u32,
}

impl NodeRef {
    #[cfg(test)]
    /// Refers to a node with these bytes, about to be written at `page`.
    pub(crate) fn of(bytes: &[u8], page: PageId, file_id: &FileId) -> NodeRef {
        assert!(bytes.len().is_multiple_of(PAGE_BYTES), "a node is whole pages");
        let pages = u16::try_from(bytes.len() / PAGE_BYTES).expect("nodes are far below 512 MiB");
        NodeRef { page, pages, crc: of_pages(file_id, page, bytes) }
    }

    /// Whether these are the bytes that the reference means (I7).
    pub(crate) fn verify(&self, bytes: &[u8], file_id: &FileId) -> Result<(), Defect> {
        if bytes.len() != self.len_bytes() {
            return Err(Defect { what: "node is cut short", at: bytes.len() as u64 });
        }
        if of_pages(file_id, self.page, bytes) != self.crc {
            return Err(Defect { what: "node checksum does not match", at: 0 });
        }
        Ok(())
    }

    /// Bytes of the node.
    pub(crate) fn len_bytes(&self) -> usize {
        usize::from(self.pages) * PAGE_BYTES
    }

    /// The pages of the node.
    pub(crate) fn extent(&self) -> Extent {
        Extent { start: self.page, pages: u32::from(self.pages) }
    }

    /// The reference's bytes.
    pub(crate) fn encode(&self) -> [u8; NODE_REF_BYTES] {
        assert!(self.is_sound(), "{self:?} cannot be written");
        let mut bytes = [0; NODE_REF_BYTES];
        Writer::new(&mut bytes).u64(self.page.0).u32(self.crc).u16(self.pages);
        bytes
    }

    /// Reads a reference.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<NodeRef, Defect> {
        let before = reader.clone();
        let (page, crc) = (PageId(reader.u64()?), reader.u32()?);
        let node = NodeRef { page, crc, pages: reader.u16()? };
        if node.is_sound() { Ok(node) } else { Err(before.defect("node reference is impossible")) }
    }

    fn is_sound(&self) -> bool {
        (1..=NODE_PAGES_MAX).contains(&usize::from(self.pages))
            && lies_inside(self.extent(), FILE_PAGES_MAX)
    }
}

/// Names a tree of a column family, and counts what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TreeRoot {
    /// The topmost node.
    pub root: NodeRef,
    /// Levels below the root; zero means that it is a leaf.
    pub height: u8,
    /// Rows, deletions included.
    pub rows: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
    /// Pages of all nodes.
    pub pages: u64,
    /// Pages of values that have extents of their own.
    pub extent_pages: u64,
}

impl TreeRoot {
    /// The root's bytes.
    pub(crate) fn encode(&self) -> [u8; TREE_ROOT_BYTES] {
        assert!(self.is_sound(), "{self:?} cannot be written");
        let mut bytes = [0; TREE_ROOT_BYTES];
        let mut out = Writer::new(&mut bytes);
        out.put(&self.root.encode()).u8(self.height).u8(0);
        out.u64(self.rows).u64(self.bytes).u64(self.pages).u64(self.extent_pages);
        bytes
    }

    /// Reads a root.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<TreeRoot, Defect> {
        let before = reader.clone();
        let (root, height) = (NodeRef::decode(reader)?, reader.u8()?);
        reader.zeros(1)?;
        let (rows, bytes) = (reader.u64()?, reader.u64()?);
        let (pages, extent_pages) = (reader.u64()?, reader.u64()?);
        let tree = TreeRoot { root, height, rows, bytes, pages, extent_pages };
        let possible = tree.is_sound() && tree.is_countable();
        if possible { Ok(tree) } else { Err(before.defect("tree root is impossible")) }
    }

    /// Whether sums over a family's trees, and what a merge adds, cannot overflow.
    fn is_countable(&self) -> bool {
        let pages = self.pages + self.extent_pages;
        self.rows <= COUNT_MAX && self.bytes <= COUNT_MAX && pages <= FILE_PAGES_MAX / 2
    }

    fn is_sound(&self) -> bool {
        let pages = self.pages.checked_add(self.extent_pages);
        let root_counted = self.pages >= u64::from(self.root.pages);
        self.height <= HEIGHT_MAX && root_counted && pages.is_some_and(|all| all <= FILE_PAGES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::super::mutate::Chance;
    use super::*;

    fn tree() -> TreeRoot {
        let root = NodeRef { page: PageId(0x0102), pages: 3, crc: 0xDEAD_BEEF };
        TreeRoot { root, height: 2, rows: 1000, bytes: 65536, pages: 17, extent_pages: 5 }
    }

    #[test]
    #[rustfmt::skip]
    fn a_tree_root_has_these_bytes() {
        assert_eq!(tree().encode(), [
            2, 1, 0, 0, 0, 0, 0, 0, 0xEF, 0xBE, 0xAD, 0xDE, 3, 0, 2, 0,
            0xE8, 3, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0,
            17, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0,
        ]);
        let bytes = tree().encode();
        assert_eq!(TreeRoot::decode(&mut Reader::new(&bytes, "short")), Ok(tree()));
    }

    #[test]
    fn a_node_is_known_by_its_bytes_and_place() {
        let bytes = vec![7; 2 * PAGE_BYTES];
        let node = NodeRef::of(&bytes, PageId(90), &[1; 16]);
        assert_eq!((node.pages, node.verify(&bytes, &[1; 16])), (2, Ok(())));
        assert!(node.verify(&bytes[..PAGE_BYTES], &[1; 16]).is_err());
        assert!(node.verify(&bytes, &[2; 16]).is_err());
        assert!(NodeRef { page: PageId(91), ..node }.verify(&bytes, &[1; 16]).is_err());
    }

    #[test]
    fn roots_that_count_more_than_there_can_be_are_refused() {
        let decoded = |tree: TreeRoot| TreeRoot::decode(&mut Reader::new(&tree.encode(), "short"));
        assert!(decoded(TreeRoot { rows: COUNT_MAX, bytes: COUNT_MAX, ..tree() }).is_ok());
        assert!(decoded(TreeRoot { rows: COUNT_MAX + 1, ..tree() }).is_err());
        assert!(decoded(TreeRoot { bytes: u64::MAX, ..tree() }).is_err());
        assert!(decoded(TreeRoot { extent_pages: FILE_PAGES_MAX / 2, ..tree() }).is_err());
    }

    #[test]
    fn no_node_has_more_pages_than_the_largest() {
        let of = |pages: u8| {
            let mut bytes = tree().root.encode();
            bytes[12] = pages;
            NodeRef::decode(&mut Reader::new(&bytes, "short"))
        };
        assert!(of(1).is_ok() && of(32).is_ok());
        assert!(of(0).is_err() && of(33).is_err());
    }

    #[test]
    fn damaged_roots_never_panic_and_what_decodes_encodes_the_same() {
        let mut chance = Chance::new(11);
        for _ in 0..20_000 {
            let mut bytes = tree().encode();
            chance.damage(&mut bytes);
            if let Ok(decoded) = TreeRoot::decode(&mut Reader::new(&bytes, "short")) {
                assert_eq!(decoded.encode(), bytes);
            }
        }
    }
}
