//! The catalog: every column family with its name, options and trees, as one blob.
//!
//! ```text
//! off len field
//!   0   4 magic     "rcat"
//!   4   4 families
//!   8     entries, ascending by id
//!
//! entry
//!   0   4 id
//!   4   1 options   bit 0: unlogged; the others are reserved
//!   5   1 name length, at least 1
//!   6   2 trees     newest first
//!   8     name      UTF-8
//!         trees     72 bytes each
//!
//! tree
//!   0  48 root      see `node_ref`
//!  48  24 filter    a blob, see `tree/filter`; none if the tree has no filter
//! ```
//!
//! The blob's checksum is in the reference that the superblock holds.

use super::Defect;
use super::blob::{BLOB_REF_BYTES, BlobRef};
use super::checksum::FileId;
use super::codec::{Reader, Writer};
use super::node_ref::{TREE_ROOT_BYTES, TreeRoot};
use crate::ids::FamilyId;

/// Column families of a file, at most.
pub(crate) const FAMILIES_MAX: usize = 100_000;
/// Bytes of the longest name.
pub(crate) const NAME_BYTES_MAX: usize = 255;
/// Trees of one column family, at most; a reader may have to look in each.
pub(crate) const TREES_MAX: usize = 64;

/// Bytes of an encoded [`TreeEntry`].
pub(crate) const TREE_ENTRY_BYTES: usize = TREE_ROOT_BYTES + BLOB_REF_BYTES;

const MAGIC: [u8; 4] = *b"rcat";
const ENTRY_BYTES_MIN: usize = 8;
const UNLOGGED: u8 = 1;

/// What was decided when a column family was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct FamilyOptions {
    /// Whether its commits are in the log.
    pub logging: Logging,
}

/// Whether the commits of a column family are in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Logging {
    /// They survive as every commit does.
    #[default]
    Logged,
    /// They survive once a checkpoint has them.
    Unlogged,
}

impl FamilyOptions {
    /// The byte that stands for them.
    pub(crate) fn encode(self) -> u8 {
        match self.logging {
            Logging::Logged => 0,
            Logging::Unlogged => UNLOGGED,
        }
    }

    /// What a byte stands for.
    pub(crate) fn decode(byte: u8) -> Result<FamilyOptions, &'static str> {
        match byte {
            0 => Ok(FamilyOptions { logging: Logging::Logged }),
            UNLOGGED => Ok(FamilyOptions { logging: Logging::Unlogged }),
            _ => Err("family options are unknown"),
        }
    }
}

/// One tree of a column family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TreeEntry {
    /// Where it is.
    pub root: TreeRoot,
    /// The filter over its keys, if it has one.
    pub filter: BlobRef,
}

impl TreeEntry {
    fn encode(&self) -> [u8; TREE_ENTRY_BYTES] {
        let mut bytes = [0; TREE_ENTRY_BYTES];
        let (root, filter) = bytes.split_at_mut(TREE_ROOT_BYTES);
        root.copy_from_slice(&self.root.encode());
        self.filter.encode(&mut Writer::new(filter));
        bytes
    }

    fn decode(reader: &mut Reader<'_>) -> Result<TreeEntry, Defect> {
        Ok(TreeEntry { root: TreeRoot::decode(reader)?, filter: BlobRef::decode(reader)? })
    }
}

/// One column family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CatalogEntry {
    /// Never reused.
    pub id: FamilyId,
    /// Unique among those that exist.
    pub name: String,
    /// What was decided when it was created.
    pub options: FamilyOptions,
    /// Newest first; none if nothing was ever checkpointed.
    pub trees: Vec<TreeEntry>,
}

/// Whether this may be the name of a column family, as far as length goes.
pub(crate) fn is_name(name: &[u8]) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
}

/// The blob that holds these entries, which ascend by id.
pub(crate) fn encode(entries: &[CatalogEntry]) -> Vec<u8> {
    assert!(entries.len() <= FAMILIES_MAX, "more column families than a catalog may hold");
    assert!(entries.is_sorted_by(|a, b| a.id < b.id), "catalog entries ascend by id");
    let mut out = Vec::with_capacity(8 + entries.iter().map(encoded_bytes).sum::<usize>());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    for entry in entries {
        assert!(is_name(entry.name.as_bytes()), "a name has 1 to 255 bytes");
        assert!(entry.trees.len() <= TREES_MAX, "more trees than a family may have");
        out.extend_from_slice(&entry.id.0.to_le_bytes());
        out.extend_from_slice(&[entry.options.encode(), entry.name.len() as u8]);
        out.extend_from_slice(&(entry.trees.len() as u16).to_le_bytes());
        out.extend_from_slice(entry.name.as_bytes());
        entry.trees.iter().for_each(|tree| out.extend_from_slice(&tree.encode()));
    }
    out
}

fn encoded_bytes(entry: &CatalogEntry) -> usize {
    ENTRY_BYTES_MIN + entry.name.len() + entry.trees.len() * TREE_ENTRY_BYTES
}

/// Reads the blob that `blob` refers to, out of the bytes of its pages.
pub(crate) fn decode(
    pages: &[u8],
    blob: &BlobRef,
    file_id: &FileId,
) -> Result<Vec<CatalogEntry>, Defect> {
    decode_entries(blob.open(pages, file_id)?)
}

fn decode_entries(bytes: &[u8]) -> Result<Vec<CatalogEntry>, Defect> {
    let mut reader = Reader::new(bytes, "catalog is cut short");
    if reader.array()? != MAGIC {
        return Err(Defect { what: "not a catalog", at: 0 });
    }
    let count = reader.u32()? as usize;
    if count > FAMILIES_MAX || count > reader.remaining() / ENTRY_BYTES_MIN {
        return Err(reader.defect("catalog has more families than it can"));
    }
    let mut entries: Vec<CatalogEntry> = Vec::with_capacity(count);
    for _ in 0..count {
        let before = reader.clone();
        let entry = decode_entry(&mut reader)?;
        if entries.last().is_some_and(|last| last.id >= entry.id) {
            return Err(before.defect("families do not ascend by id"));
        }
        entries.push(entry);
    }
    reader.finish()?;
    names_are_unique(&entries)?;
    Ok(entries)
}

fn decode_entry(reader: &mut Reader<'_>) -> Result<CatalogEntry, Defect> {
    let id = FamilyId(reader.u32()?);
    let options = reader.u8()?;
    let options = FamilyOptions::decode(options).map_err(|what| reader.defect(what))?;
    let name_len = usize::from(reader.u8()?);
    let tree_count = usize::from(reader.u16()?);
    if tree_count > TREES_MAX {
        return Err(reader.defect("family has too many trees"));
    }
    let before = reader.clone();
    let name = std::str::from_utf8(reader.take(name_len)?).ok().filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| before.defect("name is not 1 to 255 bytes of UTF-8"))?;
    let trees = (0..tree_count).map(|_| TreeEntry::decode(reader)).collect::<Result<_, _>>()?;
    Ok(CatalogEntry { id, name: name.to_owned(), options, trees })
}

fn names_are_unique(entries: &[CatalogEntry]) -> Result<(), Defect> {
    let mut names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    names.sort_unstable();
    let unique = names.is_sorted_by(|a, b| a < b);
    unique.then_some(()).ok_or(Defect { what: "two families have one name", at: 0 })
}

#[cfg(test)]
mod tests {
    use super::super::mutate::Chance;
    use super::super::node_ref::NodeRef;
    use super::*;
    use crate::ids::{Extent, PageId};

    fn entries() -> Vec<CatalogEntry> {
        let root = NodeRef { page: PageId(5), pages: 1, crc: 0xC0DE };
        let root = TreeRoot { root, height: 0, rows: 9, bytes: 80, pages: 1, extent_pages: 0 };
        let extent = Extent { start: PageId(6), pages: 1 };
        let filter = BlobRef { extent, len_bytes: 40, crc: 0xF117 };
        let tree = TreeEntry { root, filter };
        let options = FamilyOptions { logging: Logging::Unlogged };
        vec![
            CatalogEntry { id: FamilyId(1), name: "ü".into(), options, trees: vec![tree] },
            CatalogEntry {
                id: FamilyId(7),
                name: "b".into(),
                options: FamilyOptions::default(),
                trees: Vec::new(),
            },
        ]
    }

    #[test]
    #[rustfmt::skip]
    fn a_catalog_has_these_bytes() {
        let bytes = encode(&entries());
        assert_eq!(bytes, [
            b'r', b'c', b'a', b't', 2, 0, 0, 0,
            1, 0, 0, 0, 1, 2, 1, 0, 0xC3, 0xBC,
            5, 0, 0, 0, 0, 0, 0, 0, 0xDE, 0xC0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0,
            80, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            6, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0x17, 0xF1, 0, 0, 40, 0, 0, 0, 0, 0, 0, 0,
            7, 0, 0, 0, 0, 1, 0, 0, b'b',
        ]);
        assert_eq!(decode_entries(&bytes), Ok(entries()));
        assert_eq!(decode_entries(&encode(&[])), Ok(Vec::new()));
    }

    #[test]
    fn a_catalog_is_read_out_of_its_pages() {
        let bytes = encode(&entries());
        let blob = BlobRef::of(&bytes, Extent { start: PageId(9), pages: 1 }, &[1; 16]);
        let mut pages = bytes.clone();
        pages.resize(8192, 0);
        assert_eq!(decode(&pages, &blob, &[1; 16]), Ok(entries()));
        for at in 0..bytes.len() {
            pages[at] ^= 4;
            assert_eq!(
                decode(&pages, &blob, &[1; 16]).unwrap_err().what,
                "blob checksum does not match"
            );
            pages[at] ^= 4;
        }
    }

    #[test]
    fn a_hundred_thousand_families_with_the_longest_names_fit() {
        let entry = |id: u32| CatalogEntry {
            id: FamilyId(id),
            name: format!("{id:0>255}"),
            options: FamilyOptions::default(),
            trees: entries()[0].trees.clone(),
        };
        let all: Vec<_> = (0..FAMILIES_MAX as u32).map(entry).collect();
        assert_eq!(decode_entries(&encode(&all)), Ok(all));
    }

    #[test]
    fn impossible_catalogs_are_defects() {
        let bytes = encode(&entries());
        let what = |at: usize, byte: u8| {
            let mut bytes = bytes.clone();
            bytes[at] = byte;
            decode_entries(&bytes).unwrap_err().what
        };
        assert_eq!(what(0, 0), "not a catalog");
        assert_eq!(what(7, 0xFF), "catalog has more families than it can");
        assert_eq!(what(4, 1), "more bytes than expected");
        assert_eq!(what(12, 2), "family options are unknown");
        assert_eq!(what(15, 9), "family has too many trees");
        assert_eq!(what(16, 0xFF), "name is not 1 to 255 bytes of UTF-8");
        assert_eq!(what(90, 1), "families do not ascend by id");
        let mut twins = entries();
        twins[1].name = twins[0].name.clone();
        assert_eq!(decode_entries(&encode(&twins)).unwrap_err().what, "two families have one name");
    }

    #[test]
    fn damaged_catalogs_never_panic_and_what_decodes_encodes_the_same() {
        let mut chance = Chance::new(4);
        for _ in 0..20_000 {
            let mut bytes = encode(&entries());
            chance.damage(&mut bytes);
            if let Ok(decoded) = decode_entries(&bytes) {
                assert_eq!(encode(&decoded), bytes);
            }
        }
    }
}
